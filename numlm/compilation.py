"""Layers compiled by `torch.compile`, in training.

All layers of a backbone share one graph, with dynamic shapes, so that neither another batch nor
the next layer compiles anew. Evaluation and generation stay as they are: each would compile graphs
of its own and use them for seconds.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from numlm.errors import OptionsError
from numlm.heads import OneVsRestHead, TokenHead
from numlm.layers import decoder_layers


def check_compiler(device: torch.device) -> None:
    """See to it that something can be compiled for a device.

    Raises:
        OptionsError: If there is no compiler, or none that works.
    """
    try:
        torch.compile(_tiny)(torch.ones(64, device=device))
    except Exception as error:
        cause = getattr(error, "inner_exception", error)
        reason = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
        raise OptionsError(
            f"model.compile_layers found no compiler that works on {device.type} ({reason}): "
            "install a C++ compiler and the headers of Python (Debian: g++ python3-dev), or leave "
            "it false"
        ) from error


def _tiny(x: torch.Tensor) -> torch.Tensor:
    return x.sin() + 1


def compile_layers(
    backbone: nn.Module, token_head: TokenHead, backend: str | Callable[..., Any] = "inductor"
) -> None:
    """Compile the layers of a backbone, and what one-vs-rest computes elementwise, in place.

    Nothing is compiled before it is first used.

    Args:
        backbone: The language model.
        token_head: The head beside it.
        backend: What compiles, as for `torch.compile`.

    Raises:
        OptionsError: If the backbone has no layers that Transformers knows as such.
    """
    layers = decoder_layers(backbone)
    if not layers:
        raise OptionsError(
            f"model.compile_layers found no layers in {type(backbone).__name__}: leave it false"
        )
    for layer in layers:
        layer.compile(dynamic=True, backend=backend)
    if isinstance(token_head, OneVsRestHead):
        token_head.terms = torch.compile(token_head.terms, dynamic=True, backend=backend)


def compiled_if(training: bool) -> AbstractContextManager[Any]:
    """Run what is compiled as such in training; else as it is written."""
    return nullcontext() if training else torch.compiler.set_stance("force_eager")
