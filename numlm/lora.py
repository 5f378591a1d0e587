"""Low-rank adapters: the backbone stays frozen, and what is learnt beside it is small.

`W x` becomes `W x + alpha / rank * B A x`, A (rank, in) and B (out, rank) being learnt and B zero
at the start (Hu et al. 2021, "LoRA", section 4.1). peft puts them into the backbone in place and
reads and writes them in its own format; what is here is which of its settings are open, and the
row of `<NUM>`, which a frozen table could not learn.
"""

import copy
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from numlm.checkpoint import ADAPTER_WEIGHTS, read_weights
from numlm.identity import ModelMismatchError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_PREFIX = "base_model.model."  # of every name in a file of peft


class PeftMissingError(ImportError):
    """peft is not installed; the message is one sentence for users."""


@dataclass(frozen=True, slots=True)
class Lora:
    r"""Adapters instead of changes to all weights of the backbone.

    Args:
        rank: Rank of the adapters; their size and memory grow with it.
        alpha: What an adapter adds is multiplied by alpha / rank, so that the learning rate can
            stay when the rank changes.
        dropout: Share of an adapter's inputs that are left out in training, in [0, 1).
        target_modules: Which linear layers get one: "all-linear" for all but the output table, or
            a regular expression that whole names of modules match, such as
            `.*\.(q_proj|v_proj)`.

    Raises:
        ValueError: If a field is out of its range.
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05
    target_modules: str = "all-linear"

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"lora.rank is {self.rank}, but must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"lora.dropout is {self.dropout}, but must be in [0, 1)")


class NumRow(nn.Module):
    """What is added to the output row of `<NUM>` where the output table is frozen.

    Args:
        hidden_size: Size H of the row; it is zero at the start.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.delta = nn.Parameter(torch.zeros(hidden_size))

    def forward(self, loc: Tensor) -> Tensor:
        """(..., H) -> (...) float32, what it adds to the score's location."""
        with torch.autocast(loc.device.type, enabled=False):
            return loc.float() @ self.delta


def add_adapters(backbone: "PreTrainedModel", lora: Lora, base: str) -> None:
    """Put adapters into a backbone in place, and freeze everything else of it.

    Args:
        backbone: The backbone; its class stays what it is.
        lora: The settings.
        base: Folder or hub name of the backbone, for whoever loads the adapters.

    Raises:
        PeftMissingError: If peft is not installed.
        ValueError: If `target_modules` matches no layer, or one of the tables.
    """
    peft = _peft()
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        fan_in_fan_out=backbone.config.model_type == "gpt2",  # its weights are (in, out)
        base_model_name_or_path=base,
        task_type="CAUSAL_LM",
    )
    tables = backbone.get_input_embeddings(), backbone.get_output_embeddings()
    peft.inject_adapter_in_model(config, backbone)
    if tables != (backbone.get_input_embeddings(), backbone.get_output_embeddings()):
        raise ValueError(
            f"lora.target_modules '{lora.target_modules}' matches the table of token embeddings, "
            "which must stay as it is: 'all-linear' leaves it out"
        )
    for parameter in backbone.parameters():
        if parameter.requires_grad:  # 16 bits would lose the small steps of an optimizer
            parameter.data = parameter.data.float()


def save_adapters(backbone: "PreTrainedModel", folder: Path) -> None:
    """Write the adapters of a backbone as peft does."""
    weights = {
        f"{_PREFIX}{name}": tensor.detach().cpu().contiguous()
        for name, tensor in _adapter_weights(backbone).items()
    }
    save_file(weights, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    config = copy.copy(backbone.peft_config["default"])
    config.inference_mode = True
    config.save_pretrained(str(folder))


def load_adapters(backbone: "PreTrainedModel", file: Path) -> None:
    """Read what `save_adapters` wrote into a backbone that has adapters.

    Raises:
        ModelNotFoundError: If the file is damaged.
        ModelMismatchError: If they are the adapters of other layers.
    """
    weights = {name.removeprefix(_PREFIX): part for name, part in read_weights(file).items()}
    own = _adapter_weights(backbone)
    for name in sorted(weights.keys() & own.keys()):
        if weights[name].shape != own[name].shape:
            raise ModelMismatchError(
                f"the adapter '{name}' in '{file}' is of shape {tuple(weights[name].shape)} where "
                f"the model has {tuple(own[name].shape)}: copy the exported folder again"
            )
    if different := weights.keys() ^ own.keys():
        raise ModelMismatchError(
            f"the adapters in '{file}' are for other layers than those of the backbone "
            f"'{backbone.name_or_path}' ('{min(different)}' is in one of them only): load them "
            "with the backbone that they were trained on"
        )
    _peft().set_peft_model_state_dict(backbone, weights)


def fold_adapters(backbone: "PreTrainedModel") -> None:
    """Add the adapters to the weights that they stand beside, and take them out, in place."""
    layer_type = import_module("peft.tuners.tuners_utils").BaseTunerLayer
    for name, layer in list(backbone.named_modules()):
        if isinstance(layer, layer_type):
            layer.merge()
            backbone.set_submodule(name, layer.get_base_layer())
    del backbone.peft_config


def _adapter_weights(backbone: "PreTrainedModel") -> dict[str, Tensor]:
    # Without `save_embedding_layers=False` peft adds both tables where a row was added for <NUM>.
    weights: dict[str, Tensor] = _peft().get_peft_model_state_dict(
        backbone, save_embedding_layers=False
    )
    return weights


def _peft() -> Any:  # noqa: ANN401
    try:
        return import_module("peft")
    except ModuleNotFoundError:
        raise PeftMissingError(
            "adapters need peft, which is not installed: pip install 'numlm[lora]'"
        ) from None
