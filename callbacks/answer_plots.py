"""Charts of single answers and of training: small panels, as pure functions."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from callbacks.findings import uncertain_sets
from callbacks.plots import BLUE, ORANGE, plain
from callbacks.run_files import Answer, Curve, RunFiles
from callbacks.words import Language, set_label, words

_SPAN = 1000.0  # from this ratio of sizes on, an axis is logarithmic
_INTERVALS = 40  # how many intervals a panel shows at most
_LOSSES = ("token", "value", "pointer")
_SMOOTHING = 0.6  # weight of the past in the moving average of a training loss


def predicted_vs_true(run: RunFiles, title: str, language: Language) -> Figure:
    """Answers against true numbers, one panel a set.

    Args:
        run: The run.
        title: Key of the chart's words.
        language: Of the words.
    """
    word = words(language)
    names = run.sets_with_slots
    figure, panels = _panels(len(names), word(title), size=3.6)
    for name, axes in zip(names, panels, strict=True):
        answers = [row for row in run.answers if row.name == name and row.answer is not None]
        axes.set_title(plain(set_label(name, language)))
        axes.set_xlabel(word(f"{title}.x"))
        axes.set_ylabel(word(f"{title}.y"))
        axes.axline((0, 0), (1, 1), color="#667085", lw=1, label=word("legend.identity"))
        _draw_intervals(axes, answers, word("legend.interval"))
        for copied, key, colour, marker in (
            (True, "legend.copied", BLUE, "o"),
            (False, "legend.new", ORANGE, "^"),
        ):
            points = [(row.truth, row.answer) for row in answers if row.copied == copied]
            x, y = zip(*points, strict=True) if points else ((), ())
            axes.scatter(
                x, y, 26, color=colour, marker=marker, alpha=0.7, lw=0, label=word(key), zorder=3
            )
        _scale(axes, [value for row in answers for value in (row.truth, row.answer or 0.0)])
    shared_legend(figure, panels)
    return figure


def _draw_intervals(axes: Axes, answers: list[Answer], label: str) -> None:
    """Intervals of an even choice of the answers that have a wide one."""
    wide = [
        (row.truth, row.low, row.high)
        for row in answers
        if row.low is not None and row.high is not None and row.low < row.high
    ]
    shown = np.array(wide[:: 1 + len(wide) // _INTERVALS], dtype=float).reshape(-1, 3)
    axes.vlines(shown[:, 0], shown[:, 1], shown[:, 2], "#98A2B3", alpha=0.6, lw=1.2, label=label)


def _scale(axes: Axes, values: list[float]) -> None:
    """The same scale on both axes: linear, or logarithmic around zero for many magnitudes."""
    sizes = sorted(abs(value) for value in values if value)
    if not sizes or sizes[-1] / sizes[len(sizes) // 20] < _SPAN:
        ends = (min(values, default=0.0), max(values, default=1.0))
        margin = 0.05 * (ends[1] - ends[0]) or 1.0
        axes.set_xlim(ends[0] - margin, ends[1] + margin)
        axes.set_ylim(ends[0] - margin, ends[1] + margin)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        return
    smallest = math.floor(math.log10(sizes[len(sizes) // 20]))
    greatest = math.ceil(math.log10(sizes[-1]))
    powers = range(greatest, smallest, -max(1, math.ceil((greatest - smallest) / 3)))
    positive = [10.0**power for power in powers]
    ticks = [0.0, *positive]
    if min(values) < 0:
        ticks = [-tick for tick in positive] + ticks
    for axis in "xy":
        getattr(axes, f"set_{axis}scale")("symlog", linthresh=10.0**smallest)
        low = -(10.0**greatest) * 3 if min(values) < 0 else -(10.0**smallest)
        getattr(axes, f"set_{axis}lim")(low, 10.0**greatest * 3)
        getattr(axes, f"set_{axis}ticks")(ticks, [f"{tick:g}" for tick in ticks])
    axes.tick_params(axis="x", labelrotation=45)
    axes.minorticks_off()


def reliability(run: RunFiles, title: str, language: Language) -> Figure:
    """Actual against nominal coverage, with and without calibration, one panel a set.

    Sets that are answered by exact copies are trivially covered, so only those in which under half
    of the answers are exact are shown, or all where there is none.
    """
    word = words(language)
    names = uncertain_sets(run)
    figure, panels = _panels(len(names), word(title), size=5.0 if len(names) == 1 else 3.6)
    nominal = np.linspace(0.01, 0.99, 99)
    for name, axes in zip(names, panels, strict=True):
        answers = [row for row in run.answers if row.name == name]
        chance = 1.96 * np.sqrt(nominal * (1 - nominal) / max(1, len(answers)))
        axes.fill_between(nominal, nominal - chance, nominal + chance, color="#E4E7EC", lw=0)
        axes.plot([0, 1], [0, 1], color="#667085", lw=1, ls="--", label=word("legend.perfect"))
        for levels, key, colour, marker in (
            ([row.level for row in answers], "legend.own", ORANGE, "^"),
            (
                [row.calibrated_level for row in answers if run.run["calibration"]],
                "legend.calibrated",
                BLUE,
                "o",
            ),
        ):
            known = np.array([level for level in levels if level is not None])
            if len(known):
                actual = [(known < level).mean() for level in nominal]
                axes.plot(
                    nominal,
                    actual,
                    color=colour,
                    marker=marker,
                    markevery=(9, 10),
                    label=word(key),
                )
        axes.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
        axes.set_title(plain(set_label(name, language)))
        axes.set_xlabel(word(f"{title}.x"))
        axes.set_ylabel(word(f"{title}.y"))
        axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    shared_legend(figure, panels)
    return figure


def training_curves(run: RunFiles, title: str, language: Language) -> Figure | None:
    """Smoothed training losses and validation losses, one panel a loss; None without any."""
    word = words(language)
    losses = [name for name in _LOSSES if run.curves.get(f"train/{name}")]
    if not losses:
        return None
    figure, panels = _panels(len(losses), word(title), size=3.6, columns=len(losses))
    for name, axes in zip(losses, panels, strict=True):
        curve = run.curves[f"train/{name}"]
        steps = [step for step, _ in curve]
        axes.plot(steps, [value for _, value in curve], color=BLUE, alpha=0.2, lw=0.8)
        axes.plot(steps, list(_smooth(curve)), color=BLUE, lw=1.6, label=word("legend.train"))
        if validation := run.curves.get(f"val/{name}"):
            x, y = zip(*validation, strict=True)
            axes.plot(x, y, "D", color=ORANGE, label=word("legend.validation"))
        axes.set_title(word(f"panel.{name}"))
        axes.set_xlabel(word(f"{title}.x"))
        axes.set_ylabel(word(f"{title}.y"))
        axes.grid(axis="y")
    shared_legend(figure, panels)
    return figure


def _smooth(curve: Curve) -> Iterator[float]:
    """Exponential moving average, started at the first value."""
    average = curve[0][1]
    for _, value in curve:
        average = _SMOOTHING * average + (1 - _SMOOTHING) * value
        yield average


def _panels(count: int, title: str, size: float, columns: int = 3) -> tuple[Figure, list[Axes]]:
    columns = min(columns, max(count, 1))
    rows = math.ceil(max(count, 1) / columns)
    figure = Figure(figsize=(size * columns + 0.4, size * rows + 0.9), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for empty in axes[count:]:
        empty.remove()
    return figure, axes[:count]


def shared_legend(figure: Figure, panels: Sequence[Axes], columns: int | None = None) -> None:
    """One legend for all panels, every entry once, in columns as the width allows if None."""
    entries: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        entries.update(zip(labels, handles, strict=True))
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower center",
        ncols=min(len(entries), columns or (4 if figure.get_figwidth() > 8 else 2)) or 1,
        frameon=False,
    )
