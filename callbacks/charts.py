"""Charts of a run, before and after, as PNG files in two languages and in TensorBoard."""

from collections.abc import Callable
from pathlib import Path

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure

from callbacks.answer_plots import predicted_vs_true, reliability, training_curves
from callbacks.curve_plots import learning_curve
from callbacks.plots import chart_style, error_comparison, log_comparison, share_comparison
from callbacks.run_files import RunFiles, read_run
from callbacks.run_folder import run_folder
from callbacks.words import LANGUAGES, Language

# What draws each chart; its name is that of its file and the key of its words.
CHARTS: dict[str, Callable[[RunFiles, str, Language], Figure | None]] = {
    "accuracy_comparison": lambda run, *words: share_comparison(run, "accuracy", *words),
    "mean_rank_comparison": lambda run, *words: log_comparison(run, "mean_rank", *words),
    "exact_match_comparison": lambda run, *words: share_comparison(run, "exact_match", *words),
    "rmse_comparison": error_comparison,
    "predicted_vs_true": predicted_vs_true,
    "reliability": reliability,
    "training_curves": training_curves,
    "learning_curve": learning_curve,
}


def chart_file(name: str, language: Language) -> str:
    """A chart's file name.

    >>> chart_file("reliability", "en"), chart_file("reliability", "zh")
    ('reliability.png', 'reliability.zh.png')
    """
    return f"{name}.png" if language == "en" else f"{name}.{language}.png"


def write_charts(folder: Path) -> dict[str, Figure]:
    """Draw all charts of a run folder into it.

    Returns:
        The English figures by name; one that has nothing to show is neither here nor written.
    """
    run = read_run(folder)
    figures: dict[str, Figure] = {}
    with chart_style():
        for name, draw in CHARTS.items():
            for language in LANGUAGES:
                figure = draw(run, name, language)
                if figure is not None:
                    figure.savefig(folder / chart_file(name, language))
                    if language == "en":
                        figures[name] = figure
    return figures


class ComparisonCharts(Callback):
    """Draws `CHARTS` at the end of training; comes after the evaluation."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, save and log."""
        folder = run_folder(trainer)
        if not trainer.is_global_zero:
            return
        writer = None
        if isinstance(trainer.logger, TensorBoardLogger):
            writer = trainer.logger.experiment
            writer.flush()  # the training curves are read from its file
        figures = write_charts(folder)
        if writer is not None:
            with chart_style():
                for name, figure in figures.items():
                    writer.add_figure(f"charts/{name}", figure, trainer.global_step)
