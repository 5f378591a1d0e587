"""Models larger than a device: weights spread over all processes (FSDP2), and put together again.

Every process keeps a part of every weight, of its gradient and of the optimizer's state. A decoder
layer is gathered when it is used and let go after it; what is outside the layers (token tables,
number modules) is gathered by the model's forward pass and stays until the backward pass is
through, so that heads may use it after the forward pass.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor

from numlm.layers import decoder_layers
from numlm.pretrained import Pretrained

Model = TypeVar("Model", bound=Pretrained)


def load_sharded(
    load: Callable[..., Model], mesh: DeviceMesh, gathered_dtype: torch.dtype | None = None
) -> Model:
    """Load a model on the first process and spread it over all of them.

    The others make its modules without values, so that a machine with eight devices does not hold
    eight copies of the weights. Every process must call.

    Args:
        load: `NumberLM.from_pretrained` with its arguments; takes `empty` besides.
        mesh: The devices, in one dimension.
        gathered_dtype: Type in which the weights of the layers' products are gathered: under
            autocast its type. The products would cast them to it anyway, and keep the copies, a
            whole model of them, until the backward pass. None leaves them.

    Raises:
        ValueError: If the backbone has no layers that Transformers knows as such.
    """
    model = load() if dist.get_rank() == 0 else load(empty=True)
    device = torch.device(mesh.device_type)
    layers = decoder_layers(model.backbone)
    if not layers:
        raise ValueError(f"{type(model.backbone).__name__} has no layers that could be sharded")
    policy = MixedPrecisionPolicy(
        param_dtype=gathered_dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    received: set[nn.Module] = set()
    for layer in layers:
        received |= _receive(layer.modules(), device)
        if gathered_dtype is not None:
            for norm in _norms(layer):  # which autocast leaves as they are
                fully_shard(norm, mesh=mesh)
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    _receive((module for module in model.modules() if module not in received), device)
    fully_shard(model, mesh=mesh)
    register_fsdp_forward_method(model, "write_tokens")
    return model


def _norms(layer: nn.Module) -> list[nn.Module]:
    """Modules of a layer that have scales, but no matrix."""
    found = []
    for module in layer.modules():
        own = list(module.parameters(recurse=False))
        if own and all(parameter.ndim < 2 for parameter in own):
            found.append(module)
    return found


@torch.no_grad()
def _receive(modules: Iterable[nn.Module], device: torch.device) -> set[nn.Module]:
    """Bring weights to the device and give every process the values of the first."""
    here: dict[Tensor, Tensor] = {}  # so that tied weights stay one
    seen = set()
    for module in modules:
        seen.add(module)
        for tensors in _tensors(module):
            for name, tensor in tensors.items():
                if tensor is None:  # a bias that there could be
                    continue
                if tensor not in here:
                    value = (
                        torch.empty_like(tensor, device=device)
                        if tensor.is_meta
                        else tensor.to(device)
                    )
                    dist.broadcast(value, src=0)
                    here[tensor] = _like(tensor, value)
                tensors[name] = here[tensor]
    return seen


def is_sharded(model: nn.Module) -> bool:
    """Whether a model's weights are spread over processes: they must all run it alike."""
    return isinstance(model, FSDPModule)


@torch.no_grad()
def whole_copy(model: Model) -> Model | None:
    """A whole copy on the CPU of the first process, whose weights are not spread.

    Every process must call; the others get None.
    """
    first = not dist.is_initialized() or dist.get_rank() == 0
    if not first and not is_sharded(model):
        return None
    twin = model.twin()
    here: dict[Tensor, Tensor] = {}
    for (_, target), (_, source) in zip(twin.named_modules(), model.named_modules(), strict=True):
        for mine, theirs in zip(_tensors(target), _tensors(source), strict=True):
            for name, tensor in theirs.items():
                if tensor is None:
                    continue
                if tensor not in here:
                    value = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
                    here[tensor] = _like(tensor, value.to("cpu", copy=True)) if first else tensor
                mine[name] = here[tensor]
    return twin if first else None


def _tensors(module: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """A module's own parameters and buffers, to be exchanged."""
    return module._parameters, module._buffers


def _like(tensor: Tensor, value: Tensor) -> Tensor:
    """A value as a parameter if a tensor is one."""
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(value, requires_grad=tensor.requires_grad)
    return value
