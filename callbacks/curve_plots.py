"""Charts of a learning curve as pure functions: figures over the steps of training."""

from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    MaxNLocator,
    NullFormatter,
    PercentFormatter,
    StrMethodFormatter,
)

from callbacks.answer_plots import shared_legend
from callbacks.learning_curve import Curves
from callbacks.plots import BLUE, GREEN, ORANGE, PURPLE, SKY, plain
from callbacks.run_files import RunFiles
from callbacks.words import Language, set_label, words

_PANELS = ("accuracy", "mean_rank", "exact_match", "exact_match_without_pointer")
_LOOKS = ((ORANGE, "o"), (BLUE, "s"), (GREEN, "^"), (PURPLE, "D"), (SKY, "v"))


def learning_curve(run: RunFiles, title: str, language: Language) -> Figure | None:
    """When (above) and what (below) over the optimizer steps, one line a set.

    Where a text has one number it is copied exactly from the start: hence a panel without copies.

    Args:
        run: The run; there is nothing to draw of one that was not scored in training.
        title: Key of the chart's words.
        language: Of the words.
    """
    curves = run.scorings
    if not curves:
        return None
    word = words(language)
    figure = Figure(figsize=(10.0, 7.4), layout="constrained")
    figure.suptitle(word(title))
    panels = figure.subplots(2, 2, sharex=True).ravel().tolist()
    for metric, axes in zip(_PANELS, panels, strict=True):
        _draw_curves(axes, curves, metric, language)
        axes.set_title(word(f"panel.{metric}"))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.grid(axis="y")
        if metric == "mean_rank":
            axes.set_ylabel(word("mean_rank_comparison.axis"))
            _rank_scale(axes)
        else:
            axes.set_ylabel(word("exact_match_comparison.axis"))
            _share_scale(axes)
    for axes in panels[2:]:
        axes.set_xlabel(word(f"{title}.x"))
    shared_legend(figure, panels, columns=len(_LOOKS))
    return figure


def _draw_curves(axes: Axes, curves: Curves, metric: str, language: Language) -> None:
    """One line a set, the first ones wider: they are seen where others cover them."""
    for place, ((name, points), (colour, marker)) in enumerate(
        zip(curves.items(), cycle(_LOOKS), strict=False)
    ):
        known = [(point["step"], point[metric]) for point in points if point[metric] is not None]
        steps, values = zip(*known, strict=True) if known else ((), ())
        behind = max(0, min(len(curves), len(_LOOKS)) - 1 - place)
        axes.plot(
            steps,
            values,
            color=colour,
            marker=marker,
            label=plain(set_label(name, language)),
            lw=1.4 + 0.5 * behind,
            ms=4 + behind,
            zorder=3 + place,
            clip_on=False,
        )


def _share_scale(axes: Axes) -> None:
    axes.set_ylim(0, 1.03)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))


def _rank_scale(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.set_ylim(0.9, max(10.0, axes.get_ylim()[1]))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
