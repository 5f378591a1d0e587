"""Scoring in the middle of `fit`: loaders run through the live strategy, rows gathered."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch.utils.data import DataLoader
from tqdm import tqdm

from numlm.metrics import Scorecard
from numlm.scoring import Scores


def score_loaders(
    trainer: Trainer,
    pl_module: LightningModule,
    loaders: Sequence[DataLoader[Any]],
    title: str | None,
) -> list[Scorecard]:
    """Run every loader through `test_step`; all processes must call.

    Random state and each module's training mode are left as they were found.

    Args:
        trainer: The trainer, in `fit`.
        pl_module: Its module, whose test step returns rows.
        loaders: What to score.
        title: Shown beside the progress bar; None for no bar, in the middle of the trainer's own.

    Returns:
        One scorecard for each loader, with this process's rows.
    """
    scorecards = [Scorecard().to(pl_module.device) for _ in loaders]
    progress = progress_bar(trainer, sum(len(loader) for loader in loaders), title, " batches")
    with progress, evaluating(pl_module):
        for index, (loader, scorecard) in enumerate(zip(loaders, scorecards, strict=True)):
            for batch_idx, batch in enumerate(loader):
                batch = trainer.precision_plugin.convert_input(batch)
                batch = trainer.strategy.batch_to_device(batch)
                rows: Any = trainer.strategy.test_step(batch, batch_idx, index)
                scorecard.update(Scores(**rows))
                progress.update()
    return scorecards


def progress_bar(trainer: Trainer, total: int, title: str | None, unit: str) -> "tqdm[Any]":
    """A bar on the first process, unless it has no title or the trainer shows none."""
    shown = title and trainer.is_global_zero and trainer.progress_bar_callback is not None
    return tqdm(total=total, desc=title, unit=unit, disable=not shown)


@contextmanager
def evaluating(pl_module: LightningModule) -> Iterator[None]:
    """Evaluation mode without gradients; random state and training modes are put back."""
    modes = {module: module.training for module in pl_module.modules()}
    devices = [pl_module.device] if pl_module.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        pl_module.eval()
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
