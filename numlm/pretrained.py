"""The life of a model outside of a forward pass: loading, saving, copying, adapters.

`<NUM>` takes the first row of the embedding table that the tokenizer does not use (151665 of
Qwen2.5's 151936: no resize); where there is no spare row one is added, and the table is never
shrunk.

With `lora` the backbone is frozen and adapters learn in its place; `merge` folds them in.
"""

import copy
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from safetensors.torch import save_file
from torch import nn

from numlm import clock
from numlm.calibration import Calibration
from numlm.checkpoint import (
    ADAPTER_WEIGHTS,
    NUMBER_CONFIG,
    NUMBER_WEIGHTS,
    backbone_path,
    load_backbone,
    load_tokenizer,
    model_file,
    needed_file,
    read_json,
    read_weights,
)
from numlm.embedding import NumberEmbedding
from numlm.heads import TOKEN_HEADS, Abduction, SoftmaxHead, TokenHead
from numlm.hub import upload_model
from numlm.identity import Identity, ModelMismatchError
from numlm.lora import (
    Lora,
    NumRow,
    add_adapters,
    fold_adapters,
    load_adapters,
    save_adapters,
)
from numlm.number_head import NumberHead
from numlm.tokenization import NumberTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Pretrained(nn.Module):
    """What a model of numbers is made of, where it comes from and where it goes."""

    tokenizer: NumberTokenizer
    backbone: "PreTrainedModel"
    number_embedding: NumberEmbedding
    abduction: Abduction
    token_head: TokenHead
    number_head: NumberHead
    calibration: Calibration
    identity: Identity
    lora: Lora | None
    num_row: NumRow | None

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        token_head: Callable[[int], TokenHead] = SoftmaxHead,
        number_head: Callable[[int], NumberHead] = NumberHead,
        embedding_hands: int = clock.HANDS,
        dtype: torch.dtype = torch.float32,
        attn_implementation: str = "sdpa",
        lora: Lora | None = None,
        activation_checkpointing: bool = False,
        trust_remote_code: bool = False,
        empty: bool = False,
    ) -> Self:
        """Load a plain backbone, with new heads, or an exported model with its own.

        The model is returned in training mode, which Transformers does not do.

        Args:
            path: Folder or hub name.
            token_head: Makes the token head from the number of rows; not used for an exported
                model.
            number_head: Makes the number head from the hidden size; not used for an exported
                model.
            embedding_hands: How many hands of the clock the backbone sees of a number; not used
                for an exported model.
            dtype: Type of the backbone's weights, whatever the files have. The heads are float32.
            attn_implementation: Attention of the backbone, "sdpa" or "eager".
            lora: Freeze the backbone and learn adapters; an exported model that has adapters keeps
                them without it.
            activation_checkpointing: In training, keep only what goes into every layer, and
                compute the rest again in the backward pass: less memory, a third more time.
            trust_remote_code: Whether code that comes with the model may run: it can do anything.
            empty: Make the model without values, on the meta device, for a process that gets its
                part of the weights from another.

        Raises:
            ModelNotFoundError: If there is no whole model at the path, in one sentence.
            ModelMismatchError: If the files there do not belong together.
            PeftMissingError: If there are to be adapters, and peft is not installed.
            ValueError: If the model has adapters other than those asked for, or its layers cannot
                be computed again.
        """
        path = str(path)
        base_path = backbone_path(path)
        base = load_tokenizer(path, trust_remote_code)
        saved_file = model_file(path, NUMBER_CONFIG)
        saved = None if saved_file is None else read_json(saved_file)
        if saved is not None:
            with _described_in(path):
                token_head = TOKEN_HEADS[saved["token_head"]]
                number_head = partial(NumberHead, **saved["number_head"])
                embedding_hands = saved["embedding_hands"]
        # A trainer makes its own device the default one, which is for parts, not for the whole.
        with torch.device("meta" if empty else "cpu"):
            backbone = load_backbone(
                path,
                weights=not empty,
                dtype=dtype,
                attn_implementation=attn_implementation,
                trust_remote_code=trust_remote_code,
            )
            tokenizer = NumberTokenizer(base)
            rows = _make_room(backbone, tokenizer.num_token_id)
            hidden_size = backbone.config.get_text_config().hidden_size
            with nullcontext() if saved is None else _described_in(path):
                heads = token_head(rows), number_head(hidden_size)
                model = cls(backbone, tokenizer, *heads, embedding_hands)
            if model_file(base_path, NUMBER_CONFIG) is None:
                model._start_num_row()
            if saved is not None:
                model._read_saved(path, saved, base_path, values=not empty)
            model._add_adapters(lora, base_path)
        if activation_checkpointing:
            _checkpoint_activations(backbone)
        return model.train()

    def _read_saved(self, path: str, saved: dict[str, Any], base_path: str, values: bool) -> None:
        """Take over the number modules of an earlier run, with its adapters if it has any.

        Raises:
            ModelMismatchError: If they belong to another model than is found beside them.
        """
        owner = f"{NUMBER_CONFIG} in '{path}'"
        identity = Identity.read(saved, owner)
        identity.check(self.identity, owner, "the folder")
        self.identity = identity  # with the name that the backbone had, not the folder's
        with _described_in(path):
            lora = saved["lora"] and Lora(**saved["lora"])
        self._add_adapters(lora, base_path)
        if not values:
            return
        file = needed_file(path, NUMBER_WEIGHTS)
        try:
            self._number_modules().load_state_dict(read_weights(file))
        except RuntimeError as error:  # a head line, and a line for each weight
            raise ModelMismatchError(
                f"the weights in '{file}' are not those of {NUMBER_CONFIG} beside it "
                f"({str(error).splitlines()[1].strip()}): copy both from one exported folder"
            ) from None
        if self.lora is not None:
            load_adapters(self.backbone, needed_file(path, ADAPTER_WEIGHTS))

    def _add_adapters(self, lora: Lora | None, base_path: str) -> None:
        """Freeze the backbone and let adapters and a row for `<NUM>` learn in its place."""
        if lora is None or lora == self.lora:
            return
        if self.lora is not None:
            raise ValueError(
                f"the model has adapters of its own, {self.lora}, and cannot get {lora}: leave "
                "`lora` out to train them further, or merge them first"
            )
        folder = Path(base_path)
        # `results/latest` and relative paths mean something else tomorrow.
        add_adapters(self.backbone, lora, str(folder.resolve() if folder.is_dir() else base_path))
        self.lora = lora
        self.num_row = NumRow(self.number_embedding.bias.shape[0]).to(self.backbone.device)

    @torch.no_grad()
    def merge(self) -> Self:
        """Fold adapters and the row of `<NUM>` into the backbone, in place: a model without them.

        Where the tables are tied the row is an input row as well; a number is read as row + bias,
        and the bias takes back what the row was given.
        """
        if self.num_row is None:
            return self
        fold_adapters(self.backbone)
        table = self.backbone.get_output_embeddings().weight
        row = table[self.tokenizer.num_token_id]
        before = row.clone()
        row.add_(self.num_row.delta)
        if table is self.backbone.get_input_embeddings().weight:
            self.number_embedding.bias.sub_(row.float() - before.float())
        self.lora = self.num_row = None
        return self.requires_grad_(True)

    def twin(self) -> Self:
        """The same model without values, on the meta device."""
        config = self.backbone.config
        with torch.device("meta"):
            # Of its own class, which may be one that came with the model.
            backbone = type(self.backbone)._from_config(
                config, attn_implementation=config._attn_implementation
            )
            backbone.generation_config = copy.deepcopy(self.backbone.generation_config)
            twin = type(self)(
                backbone,
                self.tokenizer,
                type(self.token_head)(self.token_head.rows),
                NumberHead(config.get_text_config().hidden_size, **self.number_head.settings),
                self.number_embedding.hands,
            )
            if self.lora is not None:
                base = self.backbone.peft_config["default"].base_model_name_or_path
                twin._add_adapters(self.lora, base)
        twin.identity = self.identity
        return twin.train(self.training)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write backbone, tokenizer and number modules as safetensors and JSON.

        The backbone in the folder loads with `AutoModelForCausalLM`, the whole with
        `NumberLM.from_pretrained`. Of a backbone with adapters the adapters alone are written, as
        peft writes them; the backbone is loaded from where it came from.
        """
        folder = Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        if self.lora is None:
            self.backbone.save_pretrained(folder)
        else:
            save_adapters(self.backbone, folder)
        self.tokenizer.base.save_pretrained(folder)
        weights = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in self._number_modules().state_dict().items()
        }
        save_file(weights, folder / NUMBER_WEIGHTS, metadata={"format": "pt"})
        token_head = next(
            name for name, head in TOKEN_HEADS.items() if type(self.token_head) is head
        )
        config = {
            "token_head": token_head,
            "number_head": self.number_head.settings,
            "embedding_hands": self.number_embedding.hands,
            "num_token_id": self.tokenizer.num_token_id,
            "lora": self.lora and asdict(self.lora),
            **asdict(self.identity),
        }
        (folder / NUMBER_CONFIG).write_text(json.dumps(config, indent=2) + "\n")

    def push_to_hub(self, repo_id: str, private: bool = True, **options: Any) -> str:  # noqa: ANN401
        """Upload what `save_pretrained` writes to the Hugging Face hub.

        Adapters name the folder or hub name of their backbone: of a folder, `merge` them first.

        Args:
            repo_id: `owner/name`; made if it is not there.
            private: Whether only its owner sees a repository that is made.
            **options: Given to `HfApi.upload_folder`: `commit_message`, `revision`, ...

        Returns:
            Address of the commit.

        Raises:
            HubError: If the hub does not take it, in one sentence.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return upload_model(folder, repo_id, private, **options)

    def _number_modules(self) -> nn.ModuleDict:
        """What this project adds to the backbone."""
        modules: dict[str, nn.Module] = {
            "number_embedding": self.number_embedding,
            "abduction": self.abduction,
            "token_head": self.token_head,
            "number_head": self.number_head,
            "calibration": self.calibration,
        }
        if self.num_row is not None:
            modules["num_row"] = self.num_row
        return nn.ModuleDict(modules)

    @torch.no_grad()
    def _start_num_row(self) -> None:
        """Give `<NUM>` the mean row, whatever its spare row held, and read it as a digit at first.

        The mean row is a token that nothing is known about; as an output it ranks in the middle of
        the vocabulary.
        """
        digits = [
            self.tokenizer.base(digit, add_special_tokens=False)["input_ids"][-1]
            for digit in "0123456789"
        ]
        num_id = self.tokenizer.num_token_id
        for embeddings in {
            self.backbone.get_input_embeddings(),
            self.backbone.get_output_embeddings(),
        }:
            table = embeddings.weight
            table[num_id] = table[:num_id].float().mean(0).to(table.dtype)
        rows = self.backbone.get_input_embeddings().weight
        self.number_embedding.start_from(rows[num_id], rows[digits])


@contextmanager
def _described_in(path: str) -> Iterator[None]:
    """Say of `number_lm.json` that it describes nothing that could be built.

    Raises:
        ModelMismatchError: If it does not.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        missing = isinstance(error, KeyError)
        what = f"lacks or does not know {error}" if missing else str(error).splitlines()[0]
        raise ModelMismatchError(
            f"{NUMBER_CONFIG} in '{path}' does not describe number modules of this version "
            f"({what}): copy the exported folder again, or export the model again"
        ) from None


def _checkpoint_activations(backbone: "PreTrainedModel") -> None:
    """Let the layers keep nothing for the backward pass but what goes into them."""
    # The name until Transformers 5.22, and the one since.
    enable = getattr(
        backbone, "activation_checkpointing_enable", backbone.gradient_checkpointing_enable
    )
    enable({"use_reentrant": False})


def _make_room(backbone: "PreTrainedModel", num_token_id: int) -> int:
    """Add a row for `<NUM>` where the embedding table has no spare one; the number of rows."""
    rows: int = backbone.get_input_embeddings().weight.shape[0]
    if num_token_id >= rows:
        rows = num_token_id + 1
        backbone.resize_token_embeddings(rows, mean_resizing=False)
    return rows
