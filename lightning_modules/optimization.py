"""The optimizer of fine-tuning: what learns how fast, and when."""

from typing import Any, NamedTuple

import torch
import transformers  # whose names are imported when they are asked for
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from numlm.model import NumberLM

_BETAS = (0.9, 0.98)
_NO_DECAY_DIMENSIONS = 1


class OptimizerOptions(NamedTuple):
    """How fast weights learn.

    Attributes:
        lr: Greatest learning rate of the backbone.
        head_lr: Greatest learning rate of what this project adds to it.
        weight_decay: Weight decay of the matrices.
    """

    lr: float
    head_lr: float
    weight_decay: float

    def of_group(self, is_head: bool, decays: bool) -> dict[str, float]:
        """The options of one group of weights, as the optimizer calls them."""
        return {
            "lr": self.head_lr if is_head else self.lr,
            "weight_decay": self.weight_decay if decays else 0.0,
        }


def make_optimizer(model: NumberLM, options: OptimizerOptions, fused: bool = True) -> AdamW:
    """AdamW over what is trained, in groups of equal options.

    Args:
        model: The model.
        options: How fast weights learn.
        fused: One pass over the weights in place of a dozen; not with gradients that a scaler
            scales, which a fused optimizer would take back itself, after they were clipped.
    """
    heads = {id(parameter) for parameter in model.head_parameters()}
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            key = (id(parameter) in heads, parameter.ndim > _NO_DECAY_DIMENSIONS)
            groups.setdefault(key, []).append(parameter)
    return AdamW(
        [
            {
                "params": parameters,
                **options.of_group(is_head, decays),
                "is_head": is_head,
                "decays": decays,
                "name": f"{'head' if is_head else 'backbone'}{'' if decays else '_no_decay'}",
            }
            for (is_head, decays), parameters in groups.items()
        ],
        betas=_BETAS,
        fused=fused,
    )


def make_schedule(optimizer: AdamW, steps: int, warmup_ratio: float) -> LambdaLR:
    """Linear warm-up and cosine decay to zero over so many steps."""
    schedule: LambdaLR = transformers.get_cosine_schedule_with_warmup(
        optimizer, max(1, int(warmup_ratio * steps)), steps
    )
    return schedule


def apply_options(optimizer: Any, schedule: Any, options: OptimizerOptions) -> None:  # noqa: ANN401
    """Put options in place of those that a checkpoint had; equal ones change no bit.

    Args:
        optimizer: Made by `make_optimizer`, in any state.
        schedule: Made by `make_schedule`.
        options: How fast weights learn from here on.
    """
    for i, group in enumerate(optimizer.param_groups):
        wanted = options.of_group(group["is_head"], group["decays"])
        group["initial_lr"] = schedule.base_lrs[i] = wanted["lr"]
        group["lr"] = wanted["lr"] * schedule.lr_lambdas[i](schedule.last_epoch)
        group["weight_decay"] = wanted["weight_decay"]


def gradients(optimizer: Optimizer) -> list[Tensor]:
    """The gradients that an optimizer is about to use."""
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def gradient_norm(optimizer: Optimizer) -> Tensor:
    """Norm of the whole gradient, a scalar; a part of every process where weights are sharded."""
    return torch.nn.utils.get_total_norm(gradients(optimizer))


def whole(scalar: Tensor) -> Tensor:
    """A scalar that may be spread over processes, put together."""
    return scalar.full_tensor() if isinstance(scalar, DTensor) else scalar


def clip_to_norm(optimizer: Optimizer, greatest: float, norm: Tensor) -> None:
    """Scale a gradient so that its norm, which is known, is at most `greatest`."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    torch.nn.utils.clip_grads_with_norm_(parameters, greatest, norm)
