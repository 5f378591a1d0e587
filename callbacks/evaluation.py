"""The experiment's frame: the same model, evaluated before and after by the same code.

`fit` evaluates at its start and at its end through the live strategy; `test` evaluates through
Lightning's own test loop, with the same scorecards.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info

from callbacks.evaluation_data import evaluation_data
from callbacks.live_scoring import score_loaders
from callbacks.results import (
    BASELINE_FILE,
    FINETUNED_FILE,
    TEST_FILE,
    Results,
    format_figure,
    set_results,
    write_answers,
)
from callbacks.run_folder import read_json, run_folder, update_run_record, write_json
from numlm.checkpoint_files import write_whole_text
from numlm.metrics import Scorecard, agreement
from numlm.scoring import PLAIN_COLUMNS, Scores

BASELINE_TOKENS_FILE = "baseline_tokens.json"
_SHOWN = (
    "accuracy",
    "mean_rank",
    "mean_prob",
    "f1",
    "rmse",
    "rmse_all",
    "median_relative_error",
    "exact_match",
    "coverage_80",
    "calibrated_coverage_80",
    "crps",
    "perplexity",
)


class BeforeAfterEvaluation(Callback):
    """Evaluates on every evaluation set before and after training, and in `test`.

    Writes `baseline_results.json` and `finetuned_results.json` (or `test_results.json`) and every
    answer as CSV beside them, prints a table, and logs `stage/set/figure` and the hyperparameters
    with the final figures to TensorBoard. The baseline of a resumed run is kept; what it said on
    texts without numbers is in `baseline_tokens.json`, for `agreement`.
    """

    def __init__(self) -> None:
        self._scorecards: list[Scorecard] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the model as it came."""
        folder = run_folder(trainer)
        if not trainer.strategy.broadcast((folder / BASELINE_FILE).exists()):
            self._evaluate(trainer, pl_module, "baseline", folder / BASELINE_FILE)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the model as it was trained."""
        folder = run_folder(trainer)
        results = self._evaluate(trainer, pl_module, "finetuned", folder / FINETUNED_FILE)
        if trainer.is_global_zero and isinstance(trainer.logger, TensorBoardLogger):
            final = {f"final/{name}": value for name, value in _scalars(results)}
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
        _finish(trainer, self._scorecards, "test", run_folder(trainer) / TEST_FILE)

    def _evaluate(
        self, trainer: Trainer, pl_module: LightningModule, stage: str, file: Path
    ) -> Results:
        """Score every set through the live strategy, compute and write."""
        start = time.monotonic()
        loaders = evaluation_data(trainer).test_dataloader()
        scorecards = score_loaders(trainer, pl_module, loaders, f"Evaluation ({stage})")
        results = _finish(trainer, scorecards, stage, file)
        if trainer.is_global_zero:
            seconds = {f"{stage}_evaluation": round(time.monotonic() - start, 1)}
            update_run_record(file.parent, {"seconds": seconds})
        return results


def _finish(trainer: Trainer, scorecards: list[Scorecard], stage: str, file: Path) -> Results:
    """Results of every set; all processes gather, the first one computes and writes."""
    data = evaluation_data(trainer)
    rows = {
        name: scorecard.gathered_rows()
        for name, scorecard in zip(data.evaluation_names, scorecards, strict=True)
    }
    results: Results = {}
    if trainer.is_global_zero:
        results = {name: set_results(data, name, scores) for name, scores in rows.items()}
        _add_agreement(results, rows, stage, file.parent / BASELINE_TOKENS_FILE)
        write_answers(file.with_name(f"{stage}_answers.csv"), data, rows)
        write_json(file, results)
        rank_zero_info(f"\n{results_table(stage, results)}")
        if isinstance(trainer.logger, TensorBoardLogger):
            for name, value in _scalars(results):
                trainer.logger.experiment.add_scalar(f"{stage}/{name}", value, trainer.global_step)
    trainer.strategy.barrier()
    return results


def _add_agreement(results: Results, rows: dict[str, Scores], stage: str, file: Path) -> None:
    """Keep what the base model says on texts without numbers, or compare with it."""
    if stage == "baseline":
        said = {name: scores.plain.long().tolist() for name, scores in rows.items()}
        # One line a set: a list that long is not for reading.
        lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(s)}" for name, s in said.items())
        write_whole_text(file, f"{{\n{lines}\n}}\n")
    kept = read_json(file) if stage == "finetuned" else {}
    for name, scores in rows.items():
        before = torch.tensor(kept.get(name, []), dtype=torch.float64).view(-1, len(PLAIN_COLUMNS))
        results[name]["agreement"] = (
            agreement(scores._replace(plain=before), scores) if name in kept else None
        )


def results_table(stage: str, results: Results) -> str:
    """The main figures as text columns."""
    width = max(map(len, _SHOWN)) + 1
    lines = [f"{stage:<{width}}" + "".join(f"{name:>20}" for name in results)]
    for metric in _SHOWN:
        cells = [format_figure(results[name][metric]) for name in results]
        lines.append(f"{metric:<{width}}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)


def _scalars(results: Results) -> Iterator[tuple[str, float]]:
    """Pairs of `set/figure` and the figure, without what is None."""
    for name, entries in results.items():
        for key, value in entries.items():
            if isinstance(value, int | float):
                yield f"{name}/{key}", value
