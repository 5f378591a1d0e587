"""NumberLM: number embedding -> backbone -> abduction -> token head and number head.

    model = NumberLM.from_pretrained("results/latest/model")     # or a plain backbone
    model.predict(["The first lamp is at 42.5 volts. In short, it is"])

Any Hugging Face causal language model is the backbone. `<NUM>` takes the first row of the
embedding table that the tokenizer does not use (151665 of Qwen2.5's 151936: no resize); where
there is no spare row one is added, and the table is never shrunk.

With `lora` the backbone is frozen and adapters learn in its place; `merge` folds them in.
"""

import copy
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from numlm import clock
from numlm.batch import IGNORE, Batch, positions_of, take_positions
from numlm.calibration import Calibration
from numlm.checkpoint import (
    ADAPTER_WEIGHTS,
    NUMBER_CONFIG,
    NUMBER_WEIGHTS,
    backbone_path,
    context_length,
    load_backbone,
    load_tokenizer,
    model_file,
    needed_file,
)
from numlm.embedding import NumberEmbedding
from numlm.generation import Continuation, write
from numlm.heads import (
    TOKEN_HEADS,
    Abduction,
    Latent,
    SoftmaxHead,
    TokenHead,
    starting_scale,
)
from numlm.hub import upload_model
from numlm.identity import Identity
from numlm.lora import (
    Lora,
    NumRow,
    add_adapters,
    fold_adapters,
    load_adapters,
    save_adapters,
)
from numlm.losses import Term, ValueLoss, pointer_nll, value_nll
from numlm.number_head import NumberAnswer, NumberHead
from numlm.prediction import Prediction, inference, predict_batch
from numlm.reading import WINDOW, TextNumbers
from numlm.tokenization import NumberTokenizer


class Losses(NamedTuple):
    """The losses of a batch, as sums and counts.

    Attributes:
        token: Token loss, over labelled positions.
        value: Loss of new values, over number labels.
        pointer: Negative log-likelihood of copy-or-new, over number labels.
        gated: `gate * (value + pointer)`, over number labels.
    """

    token: Term
    value: Term
    pointer: Term
    gated: Term

    def total(self, value_weight: float) -> Tensor:
        """Token loss + weight * gated number loss."""
        return self.token.mean + value_weight * self.gated.mean


class NumberLM(nn.Module):
    """A causal language model that reads and writes numbers as values.

    Args:
        backbone: The language model.
        tokenizer: Its tokenizer, with the id of `<NUM>`.
        token_head: Decides which token comes next.
        number_head: Decides which number.
        embedding_hands: How many hands of the clock the backbone sees of a number.

    Attributes:
        identity: Which backbone and tokenizer its weights belong to.
        lora: The settings of its adapters; None where the backbone has none.
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        tokenizer: NumberTokenizer,
        token_head: TokenHead,
        number_head: NumberHead,
        embedding_hands: int = clock.HANDS,
    ) -> None:
        super().__init__()
        hidden_size = backbone.config.get_text_config().hidden_size
        self.tokenizer = tokenizer
        self.backbone = backbone
        self.number_embedding = NumberEmbedding(hidden_size, embedding_hands)
        self.abduction = Abduction(hidden_size, starting_scale(token_head.rows))
        self.token_head = token_head
        self.number_head = number_head
        self.calibration = Calibration()
        self.identity = Identity.of(backbone, tokenizer.base)
        self.lora: Lora | None = None
        self.num_row: NumRow | None = None

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        token_head: Callable[[int], TokenHead] = SoftmaxHead,
        number_head: Callable[[int], NumberHead] = NumberHead,
        embedding_hands: int = clock.HANDS,
        dtype: torch.dtype = torch.float32,
        attn_implementation: str = "sdpa",
        random_weights: bool = False,
        lora: Lora | None = None,
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
            random_weights: Take the architecture only, for tests of loading and speed.
            lora: Freeze the backbone and learn adapters; an exported model that has adapters keeps
                them without it.

        Raises:
            ModelNotFoundError: If there is no whole model at the path, in one sentence.
            ModelMismatchError: If the files there do not belong together.
            PeftMissingError: If there are to be adapters, and peft is not installed.
            ValueError: If the model has adapters other than those asked for.
        """
        path = str(path)
        base_path = backbone_path(path)
        base = load_tokenizer(path)
        backbone = load_backbone(
            path, weights=not random_weights, dtype=dtype, attn_implementation=attn_implementation
        )
        tokenizer = NumberTokenizer(base, num_token_id=len(base))
        rows = _make_room(backbone, tokenizer.num_token_id)
        hidden_size = backbone.config.get_text_config().hidden_size
        saved_file = model_file(path, NUMBER_CONFIG)
        saved = saved_file and json.loads(saved_file.read_text(encoding="utf-8"))
        if saved:
            token_head = TOKEN_HEADS[saved["token_head"]]
            number_head = partial(NumberHead, **saved["number_head"])
            embedding_hands = saved["embedding_hands"]
        model = cls(
            backbone, tokenizer, token_head(rows), number_head(hidden_size), embedding_hands
        )
        if model_file(base_path, NUMBER_CONFIG) is None:
            model._start_num_row()
        if saved:
            model._load_saved(path, saved, base_path)
        model._add_adapters(lora, base_path)
        return model.train()

    def _load_saved(self, path: str, saved: dict[str, Any], base_path: str) -> None:
        """Load the number modules of an earlier run, with its adapters if it has any.

        Raises:
            ModelMismatchError: If they belong to another model than is found beside them.
        """
        owner = f"{NUMBER_CONFIG} in '{path}'"
        identity = Identity.read(saved, owner)
        identity.check(self.identity, owner, "the folder")
        self.identity = identity  # with the name that the backbone had, not the folder's
        self._add_adapters(saved["lora"] and Lora(**saved["lora"]), base_path)
        self._number_modules().load_state_dict(load_file(needed_file(path, NUMBER_WEIGHTS)))
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
        self.num_row = NumRow(self.number_embedding.bias.shape[0]).to(self.device)

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

    def cpu_copy(self) -> Self:
        """A copy on the CPU that takes no memory of the device; tied weights stay tied."""
        copies: dict[int, Any] = {
            id(parameter): nn.Parameter(
                parameter.detach().to("cpu", copy=True), parameter.requires_grad
            )
            for parameter in self.parameters()
        }
        copies |= {id(buffer): buffer.detach().to("cpu", copy=True) for buffer in self.buffers()}
        return copy.deepcopy(self, copies)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write backbone, tokenizer and number modules as safetensors and JSON.

        The backbone in the folder loads with `AutoModelForCausalLM`, the whole with
        `NumberLM.from_pretrained`. Of a backbone with adapters the adapters alone are written, as
        peft writes them; the backbone is loaded from where it came from.
        """
        folder = Path(folder)
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

    def head_parameters(self) -> list[nn.Parameter]:
        """Parameters that this project adds to the backbone."""
        return list(self._number_modules().parameters())

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.backbone.device

    @property
    def context_length(self) -> int:
        """Greatest number of tokens that the backbone was made for."""
        return context_length(self.backbone.config)

    @property
    def end_token_ids(self) -> frozenset[int]:
        """The tokens that end a text."""
        known = self.backbone.generation_config.eos_token_id
        if known is None:
            known = self.tokenizer.base.eos_token_id
        return frozenset([known] if isinstance(known, int) else known or ())

    def embed(self, input_ids: Tensor, number_features: Tensor) -> Tensor:
        """Embeddings (B, T, H) of tokens (B, T) and of the numbers (B, T, F) among them."""
        embeddings = self.backbone.get_input_embeddings()(input_ids)
        return embeddings + self.number_embedding(number_features).to(embeddings.dtype)

    def forward(self, batch: Batch) -> Latent:
        """Latent cause at every position, loc (B, T, H) and scale (B, T, 1)."""
        outputs = self.backbone.base_model(
            inputs_embeds=self.embed(batch.input_ids, batch.number_features),
            attention_mask=batch.attention_mask,
            use_cache=False,
        )
        return self.abduction(outputs.last_hidden_state)

    def token_scores(self, latent: Latent) -> Tensor:
        """Scores (..., V) of the next token; greater is more probable."""
        scores = self.token_head.scores(latent, self.backbone.get_output_embeddings().weight)
        if self.num_row is None:
            return scores
        shift = self.token_head.score_shift(latent, self.num_row(latent.loc))
        num_id = torch.full((1,), self.tokenizer.num_token_id, device=scores.device)
        # In place, and not by a slice, whose gradient would be a second table of scores.
        return scores.index_add_(-1, num_id, shift[..., None])

    def slots(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Positions (B, A) whose next label is `<NUM>`, and which are real (B, A)."""
        return positions_of(batch.labels[:, 1:] == self.tokenizer.num_token_id)

    def number_answer(self, latent: Latent, batch: Batch, positions: Tensor) -> NumberAnswer:
        """Which number comes after each of the positions (B, A)."""
        is_number = (batch.input_ids == self.tokenizer.num_token_id) & (batch.attention_mask == 1)
        places, exists = positions_of(is_number)
        after = places[..., None] + torch.arange(1, WINDOW + 1, device=places.device)  # (B, K, W)
        inside = after.clamp(max=latent.loc.shape[1] - 1)
        text = (batch.attention_mask == 1) & ~is_number
        between = take_positions(text, inside.flatten(1)).view_as(after) & (after == inside)
        numbers = TextNumbers(
            states=take_positions(latent.loc, places),
            following=take_positions(latent.loc, inside.flatten(1)).unflatten(1, after.shape[1:]),
            follows=between.cumprod(-1).bool(),
            features=take_positions(batch.number_features, places),
            values=take_positions(batch.number_values, places),
            visible=exists[:, None, :] & (places[:, None, :] <= positions[:, :, None]),
        )
        at = Latent(take_positions(latent.loc, positions), take_positions(latent.scale, positions))
        return self.number_head(at, numbers)

    def interval_level(self, source: Tensor, nominal: float) -> Tensor:
        """The level (N,) at which to take intervals that hold the truth as often as they say.

        Args:
            source: (N,) where the answer comes from; -1 for a new value, which is calibrated.
            nominal: The level as it is stated.
        """
        level = torch.full(source.shape, nominal, dtype=torch.float64, device=source.device)
        return level.masked_fill(source < 0, self.calibration.model_level(nominal))

    def losses(
        self, batch: Batch, gate_alpha: float = 1.0, value_loss: ValueLoss = value_nll
    ) -> Losses:
        """Losses of a batch in float32; labels of -100 take no part.

        Args:
            batch: The batch.
            gate_alpha: A number's loss is weighted by `alpha + (1 - alpha) * P(<NUM>)`; 1 is no
                gate.
            value_loss: Loss of new values.
        """
        latent = self(batch)
        labels = batch.labels[:, 1:]
        labelled = labels != IGNORE
        scores = self.token_scores(
            Latent(latent.loc[:, :-1][labelled], latent.scale[:, :-1][labelled])
        )
        labels = labels[labelled]
        token = Term(self.token_head.loss(scores, labels).sum(), labelled.sum())

        positions, real = self.slots(batch)
        answer = self.number_answer(latent, batch, positions)
        targets = take_positions(batch.number_values[:, 1:], positions)
        gate = torch.ones_like(answer.magnitude)
        p_number = self.token_head.prob(scores, self.tokenizer.num_token_id)[
            labels == self.tokenizer.num_token_id
        ]
        gate[real] = gate_alpha + (1 - gate_alpha) * p_number.detach()
        # Rows without a number leave a zero that still reaches every head, as several processes
        # need.
        value, pointer = value_loss(answer, targets) * real, pointer_nll(answer, targets) * real
        count = real.sum()
        return Losses(
            token,
            Term(value.sum(), count),
            Term(pointer.sum(), count),
            Term((gate * (value + pointer)).sum(), count),
        )

    def predict(self, prompts: Sequence[str], batch_size: int = 32) -> list[Prediction]:
        """The number that comes after each prompt; see `numlm.prediction.predict_batch`.

        Args:
            prompts: Texts that a number may follow.
            batch_size: How many are read at once.

        Raises:
            ValueError: If a prompt is empty or longer than the model's context.
        """
        with inference(self):
            return [
                prediction
                for start in range(0, len(prompts), batch_size)
                for prediction in predict_batch(self, prompts[start : start + batch_size])
            ]

    def generate(self, prompts: Sequence[str], **options: Any) -> list[Continuation]:  # noqa: ANN401
        """Continue prompts; see `numlm.generation.write` for the options."""
        return write(self, prompts, **options)

    def generate_text(self, prompts: Sequence[str], **options: Any) -> list[str]:  # noqa: ANN401
        """The prompts with what follows them, numbers rendered; options as of `generate`."""
        return [continuation.text for continuation in self.generate(prompts, **options)]


def _make_room(backbone: PreTrainedModel, num_token_id: int) -> int:
    """Add a row for `<NUM>` where the embedding table has no spare one; the number of rows."""
    rows: int = backbone.get_input_embeddings().weight.shape[0]
    if num_token_id >= rows:
        rows = num_token_id + 1
        backbone.resize_token_embeddings(rows, mean_resizing=False)
    return rows
