"""How fast a model learns when to say a number and which: evaluation in the middle of training."""

import time
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from callbacks.evaluation_data import evaluation_data
from callbacks.live_scoring import score_loaders
from callbacks.results import format_figure
from callbacks.run_folder import run_folder, update_run_record, write_json
from numlm.errors import OptionsError
from numlm.metrics import Figures, figures

CURVE_FILE = "learning_curve.json"
# Of every evaluation set, the figures of every scoring with their `step`, in its order.
Curves = dict[str, list[Figures]]
FIGURES = (
    "accuracy",
    "mean_rank",
    "mean_prob",
    "exact_match",
    "exact_match_without_pointer",
    "rmse_all",
    "median_relative_error",
)


class LearningCurve(Callback):
    """Scores evaluation sets before training, every few optimizer steps, and after every epoch.

    Writes `learning_curve.json` (for every set a list of `step` and `FIGURES`) after each scoring,
    so that a run that is stopped leaves its curve; `ComparisonCharts` draws it. Prints a line and
    logs `curve/set/figure` to TensorBoard each time. What is learned is the same with and without
    it. A checkpoint holds the curve, and a run resumed from it goes on with that.

    Scorings between two steps are a part of the time that `run.json` calls `training`;
    `learning_curve` beside it says how great a part.

    Args:
        every_n_steps: How many optimizer steps are between two scorings, whatever the number of
            batches that are accumulated for one.
        sets: Names of evaluation sets; those that ask for numbers where None.
    """

    def __init__(self, every_n_steps: int = 200, sets: list[str] | None = None) -> None:
        self.every_n_steps = every_n_steps
        self.sets = sets
        self._curves: Curves = {}
        self._seconds = 0.0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the sets, before a model is loaded.

        Raises:
            OptionsError: If a name is not that of a set that asks for numbers, or there is less
                than one step between scorings.
        """
        if stage != "fit":
            return
        if self.every_n_steps < 1:
            raise OptionsError(
                f"every_n_steps of LearningCurve is {self.every_n_steps}: give 1 or more"
            )
        data = evaluation_data(trainer)
        asking = [name for name in data.evaluation_names if data.evaluation_questions(name)]
        wanted = asking if self.sets is None else self.sets
        if not wanted or not set(wanted) <= set(asking):
            raise OptionsError(
                f"sets of LearningCurve is {wanted}, but those that ask for numbers are "
                f"{', '.join(asking) or 'none'}: give names of these, or null for all of them"
            )
        self._curves = {name: [] for name in asking if name in wanted}
        self._seconds = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the model as it came."""
        self._score(trainer, pl_module)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Score where a step is due; batches that are accumulated for it come before it."""
        if trainer.global_step % self.every_n_steps == 0:
            self._score(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score what an epoch has come to, which may be the last one."""
        self._score(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write how long it took."""
        folder = run_folder(trainer)
        if trainer.is_global_zero:
            seconds = {"learning_curve": round(self._seconds, 1)}
            update_run_record(folder, {"seconds": seconds})

    def state_dict(self) -> dict[str, Any]:
        """The curve so far, for a checkpoint."""
        return {"curves": self._curves}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the curve of a checkpoint, of the sets that are still asked for."""
        self._curves = {name: state_dict["curves"].get(name, []) for name in self._curves}

    def _score(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add a point to every curve that has none of this step; all processes come here alike."""
        step = trainer.global_step
        due = [name for name, points in self._curves.items() if _last_step(points) != step]
        if not due:
            return
        start = time.monotonic()
        data = evaluation_data(trainer)
        loaders = dict(zip(data.evaluation_names, data.test_dataloader(), strict=True))
        scorecards = score_loaders(trainer, pl_module, [loaders[name] for name in due], None)
        for name, scorecard in zip(due, scorecards, strict=True):
            found = figures(scorecard.gathered_rows())
            self._curves[name].append({"step": step, **{key: found[key] for key in FIGURES}})
        newest = {name: self._curves[name][-1] for name in due}
        folder = run_folder(trainer)
        if trainer.is_global_zero:
            write_json(folder / CURVE_FILE, self._curves)
            _log(trainer, newest)
        trainer.print(curve_line(newest))  # a log would be written into the trainer's bar
        if step:  # before the first one is before training
            self._seconds += time.monotonic() - start


def curve_line(points: dict[str, Figures]) -> str:
    """The points of one step, for people.

    >>> curve_line({"basic": {"step": 200, "accuracy": 0.98765, "exact_match": 0.25}})
    'step 200, accuracy / exact match: basic 0.9877 / 0.25'
    """
    step = next(iter(points.values()))["step"]
    sets = (
        f"{name} {format_figure(point['accuracy'])} / {format_figure(point['exact_match'])}"
        for name, point in points.items()
    )
    return f"step {step}, accuracy / exact match: {', '.join(sets)}"


def _log(trainer: Trainer, points: dict[str, Figures]) -> None:
    """Log the points of one step to TensorBoard."""
    if isinstance(trainer.logger, TensorBoardLogger):
        writer = trainer.logger.experiment
        for name, point in points.items():
            for key in FIGURES:
                if point[key] is not None:
                    writer.add_scalar(f"curve/{name}/{key}", point[key], point["step"])


def _last_step(points: list[Figures]) -> float | int | None:
    return points[-1]["step"] if points else None
