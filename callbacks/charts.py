"""Comparison charts of the results before and after, as PNG files and in TensorBoard."""

from typing import NamedTuple

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from callbacks import plots
from callbacks.evaluation import load_results
from callbacks.run_folder import run_folder


class Chart(NamedTuple):
    """One chart: its file's name, the figure it shows, its title and axis."""

    name: str
    metric: str
    title: str
    axis: str
    log: bool = False
    top: float | None = None


CHARTS = (
    Chart(
        "accuracy_comparison",
        "accuracy",
        "When: <NUM> is the most probable token at a number",
        "share of number slots",
        top=1.12,
    ),
    Chart(
        "mean_rank_comparison",
        "mean_rank",
        "When: mean rank of <NUM> at a number",
        "rank (1 is best)",
        log=True,
    ),
    Chart(
        "exact_match_comparison",
        "exact_match",
        "What: exactly the right number",
        "share of number slots",
        top=1.12,
    ),
    Chart(
        "rmse_comparison",
        "rmse_all",
        "What: error over all numbers (0 drawn at the lower end)",
        "root mean square error",
        log=True,
    ),
)


class ComparisonCharts(Callback):
    """Draws the charts of `CHARTS` at the end of training; comes after the evaluation."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, save and log."""
        folder = run_folder(trainer)
        if not trainer.is_global_zero:
            return
        baseline, finetuned = load_results(folder)
        for name, metric, title, axis, log, top in CHARTS:
            figure = plots.comparison(baseline, finetuned, metric, title, axis, log, top)
            figure.savefig(folder / f"{name}.png")
            if isinstance(trainer.logger, TensorBoardLogger):
                trainer.logger.experiment.add_figure(f"charts/{name}", figure, trainer.global_step)
