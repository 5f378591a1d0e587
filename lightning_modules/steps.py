"""What makes a training step the same after a resume, and what stops a bad one."""

import hashlib
from typing import Any, Literal

import torch
import torch.distributed as dist
from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer

from lightning_modules.optimization import gradient_norm, whole
from numlm.errors import BadNumbersError

OnBadStep = Literal["raise", "skip"]
_SHOWN_RECORDS = 64


def step_seed(seed: int, step: int, piece: int, rank: int) -> int:
    """Seed of the random numbers of a piece of a training step on a process, 64 bits."""
    digest = hashlib.sha256(f"{seed}/{step}/{piece}/{rank}".encode()).digest()
    return int.from_bytes(digest[:8], "little", signed=True)


def rescale_progress(loops: dict[str, Any], before: int, now: int) -> None:
    """Count in a checkpoint's loops in pieces of this run.

    Checkpoints are of whole steps, and a step can be made of another number of pieces: on fewer
    devices, for example.

    Args:
        loops: The state of the loops, changed in place.
        before: Pieces of a step that a process made one after another.
        now: Pieces that it makes now.
    """
    progress = loops["fit_loop"]["epoch_loop.batch_progress"]
    for counts in (progress["total"], progress["current"]):
        steps = counts["ready"] // before
        behind = {name: counts["ready"] - count for name, count in counts.items()}
        counts.update({name: steps * now - difference for name, difference in behind.items()})


def scales_gradients(trainer: Trainer) -> bool:
    """Whether a scaler of 16-bit gradients is between loss and optimizer."""
    return getattr(trainer.precision_plugin, "scaler", None) is not None


class StepGuard:
    """Finds losses and gradients that are not finite before they reach a weight.

    Asking costs a wait for the device in every step.

    Args:
        on_bad_step: "raise", or "skip" and count.

    Attributes:
        skipped: How many steps were skipped.
        loss: Loss of the step of all processes, a scalar; the step's last piece sets it.
        records: Record ids of this process's pieces of the step; every piece adds its own.
    """

    def __init__(self, on_bad_step: OnBadStep) -> None:
        self.on_bad_step = on_bad_step
        self.skipped = 0
        self.loss: Tensor | None = None
        self.records: list[Tensor] = []

    def check(self, optimizer: Optimizer, trainer: Trainer) -> Tensor | None:
        """Look at a step's losses and gradient; a bad step that is skipped loses its gradient.

        Every process must call, and all decide alike.

        Returns:
            Norm of the gradient, a scalar; None where there is nothing to clip by it: a step that
            is skipped, or a scaler that looks at the gradient itself.

        Raises:
            BadNumbersError: If the step is bad and is not to be skipped.
        """
        assert self.loss is not None
        loss, records = self.loss, torch.cat(self.records)
        self.records.clear()
        # A scaler of 16-bit gradients looks for infinite ones itself, and expects some.
        norm = None if scales_gradients(trainer) else gradient_norm(optimizer)
        found = torch.stack([loss] if norm is None else [loss, whole(norm)])
        if bool(torch.isfinite(found).all()):
            return norm
        names = ("the loss", "the norm of its gradient")
        what = ", ".join(f"{name} is {x:g}" for name, x in zip(names, found, strict=False))
        told = f"step {trainer.global_step}: {what}; records {_all_records(records)}"
        if self.on_bad_step == "raise":
            raise BadNumbersError(
                f"{told}. Nothing was updated: look at these records, lower the learning rates, "
                "or leave such steps out with --model.on_bad_step skip"
            )
        self.skipped += 1
        rank_zero_warn(f"{told}. The step is skipped ({self.skipped} so far)")
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
        return None


def _all_records(records: Tensor) -> str:
    """Record ids of all processes, in words."""
    found: list[Any] = [records.tolist()]
    if dist.is_available() and dist.is_initialized():
        found = [None] * dist.get_world_size()
        dist.all_gather_object(found, records.tolist())
    ids = [str(i) for part in found for i in part]
    more = f" and {len(ids) - _SHOWN_RECORDS} more" if len(ids) > _SHOWN_RECORDS else ""
    return ", ".join(ids[:_SHOWN_RECORDS]) + more
