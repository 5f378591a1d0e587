"""The experiment's frame: the same model, evaluated before and after by the same code.

`fit` evaluates at its start and at its end through the live strategy; `test` evaluates through
Lightning's own test loop, with the same scorecards.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader
from tqdm import tqdm

from callbacks.run_folder import read_json, run_folder, update_run_record, write_json
from numlm.metrics import Figures, Scorecard, figures
from numlm.scoring import Scores

BASELINE_FILE, FINETUNED_FILE, TEST_FILE = (
    "baseline_results.json",
    "finetuned_results.json",
    "test_results.json",
)
Results = dict[str, dict[str, Any]]
_SHOWN = (
    "accuracy",
    "mean_rank",
    "mean_prob",
    "rmse",
    "exact_match",
    "exact_match_without_pointer",
    "f1",
)


class EvaluationData(Protocol):
    """What the evaluation needs of a data module."""

    evaluation_names: list[str]

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """One loader for each evaluation set, which deals every record to one process."""

    def evaluation_groups(self, name: str) -> dict[str, list[int]]:
        """Record ids of a set by group, for figures of their own."""


def evaluation_data(trainer: Trainer) -> EvaluationData:
    """The trainer's data module.

    Raises:
        ValueError: If it has no evaluation sets.
    """
    data = getattr(trainer, "datamodule", None)
    if not hasattr(data, "evaluation_names"):
        raise ValueError("the evaluation needs a data module with evaluation sets")
    return cast(EvaluationData, data)


class BeforeAfterEvaluation(Callback):
    """Evaluates on every evaluation set before and after training, and in `test`.

    Writes `baseline_results.json` and `finetuned_results.json` (or `test_results.json`), prints a
    table, and logs `stage/set/metric` and the hyperparameters with the final figures to
    TensorBoard. The baseline of a resumed run is kept. Random state and each module's training
    mode are left as they were found.
    """

    def __init__(self) -> None:
        self._scorecards: list[Scorecard] = []
        self._trained_since = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the model as it came."""
        folder = run_folder(trainer)
        kept = trainer.strategy.broadcast((folder / BASELINE_FILE).exists())
        if not kept:
            self._evaluate(trainer, pl_module, "baseline", folder / BASELINE_FILE)
        self._trained_since = time.monotonic()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the model as it was trained."""
        folder = run_folder(trainer)
        trained = time.monotonic() - self._trained_since
        results = self._evaluate(trainer, pl_module, "finetuned", folder / FINETUNED_FILE)
        if trainer.is_global_zero:
            update_run_record(folder, {"seconds": {"training": round(trained, 1)}})
            if isinstance(trainer.logger, TensorBoardLogger):
                final = {
                    f"final/{name}": value
                    for name, value in _flat(results)
                    if name.count("/") == 1
                }
                trainer.logger.log_hyperparams(dict(pl_module.hparams), final)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make a scorecard for every set."""
        self._scorecards = [
            Scorecard().to(pl_module.device) for _ in evaluation_data(trainer).evaluation_names
        ]

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a batch."""
        self._scorecards[dataloader_idx].update(Scores(**outputs))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute and write."""
        folder = run_folder(trainer)
        self._finish(trainer, "test", folder / TEST_FILE)

    def _evaluate(
        self, trainer: Trainer, pl_module: LightningModule, stage: str, file: Path
    ) -> Results:
        """Run the evaluation sets through the live strategy."""
        start = time.monotonic()
        self.on_test_start(trainer, pl_module)
        loaders = evaluation_data(trainer).test_dataloader()
        progress = tqdm(
            total=sum(len(loader) for loader in loaders),
            desc=f"Evaluation ({stage})",
            unit=" batches",
            disable=not trainer.is_global_zero or trainer.progress_bar_callback is None,
        )
        with progress, _evaluating(pl_module):
            for index, loader in enumerate(loaders):
                for batch_idx, batch in enumerate(loader):
                    batch = trainer.precision_plugin.convert_input(batch)
                    batch = trainer.strategy.batch_to_device(batch)
                    outputs = trainer.strategy.test_step(batch, batch_idx, index)
                    self.on_test_batch_end(trainer, pl_module, outputs, batch, batch_idx, index)
                    progress.update()
        results = self._finish(trainer, stage, file)
        if trainer.is_global_zero:
            update_run_record(
                file.parent,
                {"seconds": {f"{stage}_evaluation": round(time.monotonic() - start, 1)}},
            )
        return results

    def _finish(self, trainer: Trainer, stage: str, file: Path) -> Results:
        """Figures of every set, whole and by group; all processes gather, the first one writes."""
        results: Results = {}
        data = evaluation_data(trainer)
        for name, scorecard in zip(data.evaluation_names, self._scorecards, strict=True):
            rows = scorecard.gathered_rows()
            groups = data.evaluation_groups(name)
            results[name] = {
                **figures(rows),
                **{group: figures(rows, ids) for group, ids in groups.items()},
            }
        if trainer.is_global_zero:
            write_json(file, results)
            rank_zero_info(f"\n{results_table(stage, results)}")
            if isinstance(trainer.logger, TensorBoardLogger):
                for name, value in _flat(results):
                    trainer.logger.experiment.add_scalar(
                        f"{stage}/{name}", value, trainer.global_step
                    )
        trainer.strategy.barrier()
        return results


def results_table(stage: str, results: Results) -> str:
    """The main figures as text columns."""
    width = max(map(len, _SHOWN)) + 1
    lines = [f"{stage:<{width}}" + "".join(f"{name:>20}" for name in results)]
    for metric in _SHOWN:
        cells = [format_figure(results[name][metric]) for name in results]
        lines.append(f"{metric:<{width}}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)


def format_figure(figure: float | None) -> str:
    """A figure for people: four significant digits, "-" where there is nothing to average."""
    if figure is None:
        return "-"
    return f"{figure:.4g}" if figure == 0 or 1e-4 <= abs(figure) < 1e5 else f"{figure:.2e}"


def load_results(folder: Path) -> tuple[Results, Results]:
    """Baseline and fine-tuned results of a run."""
    return read_json(folder / BASELINE_FILE), read_json(folder / FINETUNED_FILE)


def _flat(results: Results) -> Iterator[tuple[str, float]]:
    """Pairs of `set/metric` or `set/group/metric` and the figure, without what is None."""
    for name, entries in results.items():
        nested: dict[str, Figures] = {name: {}}
        for key, value in entries.items():
            if isinstance(value, dict):
                nested[f"{name}/{key}"] = value
            else:
                nested[name][key] = value
        for prefix, group in nested.items():
            yield from (
                (f"{prefix}/{metric}", value)
                for metric, value in group.items()
                if value is not None
            )


@contextmanager
def _evaluating(pl_module: LightningModule) -> Iterator[None]:
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
