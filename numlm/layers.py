"""The decoder layers of a backbone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import transformers  # whose names are imported when they are asked for
from torch import Tensor, nn


def decoder_layers(backbone: nn.Module) -> list[nn.Module]:
    """The layers that Transformers knows as such, in order; none of some architectures."""
    layer_type = transformers.modeling_layers.GradientCheckpointingLayer
    return [module for module in backbone.modules() if isinstance(module, layer_type)]


@contextmanager
def input_of(layer: nn.Module) -> Iterator[list[Tensor]]:
    """The hidden states that a layer reads while this lasts, one for every call.

    Transformers' `output_hidden_states` has them too, but its hooks on all layers and attentions
    cut a compiled layer into pieces.
    """
    read: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        read.append(inputs[0] if inputs else named["hidden_states"])

    hook = layer.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield read
    finally:
        hook.remove()
