"""Charts of figures as pure functions: figures in, a Matplotlib figure out.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; hatches and markers say the
same a second time. Chinese words are drawn with the font in `assets/fonts/`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from callbacks.run_files import RunFiles
from callbacks.words import Language, set_label, words

FONT_FILE = Path(__file__).parents[1] / "assets" / "fonts" / "NotoSansCJKsc-subset.otf"
ORANGE, BLUE, GREEN, PURPLE, SKY = "#E69F00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9"
_GREATEST = 1.12  # upper end of an axis of shares: room for the labels of bars of 1


class Bars(NamedTuple):
    """One series of a bar chart.

    Attributes:
        key: Key of its words in the legend.
        values: One for each set, None where there is none.
        colour: Colour of its bars.
        hatch: Hatch of its bars.
    """

    key: str
    values: list[float | None]
    colour: str
    hatch: str = ""


@contextmanager
def chart_style() -> Iterator[None]:
    """The look of all charts; a figure must be made, drawn and saved inside."""
    style = {
        "font.family": ["DejaVu Sans", _chinese_font()],
        "font.size": 10.0,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#667085",
        "axes.titlesize": 11.0,
        "figure.titlesize": 13.0,
        "figure.titleweight": "bold",
        "grid.color": "#E4E7EC",
        "hatch.linewidth": 0.7,
        "savefig.dpi": 150.0,
    }
    with matplotlib.rc_context(style):
        yield


@cache
def _chinese_font() -> str:
    """Makes the font known to Matplotlib, once, and gives its name."""
    font_manager.fontManager.addfont(FONT_FILE)
    return str(font_manager.FontProperties(fname=FONT_FILE).get_name())


def metric_bars(run: RunFiles, metric: str) -> tuple[list[str], list[Bars]]:
    """A metric before and after on the sets that have numbers."""
    names = run.sets_with_slots
    return names, [
        Bars("legend.before", [run.baseline[name][metric] for name in names], ORANGE, "//"),
        Bars("legend.after", [run.finetuned[name][metric] for name in names], BLUE),
    ]


def share_comparison(run: RunFiles, metric: str, title: str, language: Language) -> Figure:
    """A share between 0 and 1 on every set, before and after.

    Args:
        run: The run.
        metric: Which figure.
        title: Key of the chart's words.
        language: Of the words.
    """
    figure, axes = _bar_chart(title, language)
    names, series = metric_bars(run, metric)
    _draw_bars(axes, names, series, language, 0.0, label=_share_label)
    axes.set_ylim(0, _GREATEST)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    _legend(figure, axes, columns=2)
    return figure


def log_comparison(run: RunFiles, metric: str, title: str, language: Language) -> Figure:
    """A figure of many magnitudes on every set, before and after; arguments as above."""
    figure, axes = _bar_chart(title, language)
    names, series = metric_bars(run, metric)
    _log_bars(axes, names, series, language)
    _legend(figure, axes, columns=2)
    return figure


def error_comparison(run: RunFiles, title: str, language: Language) -> Figure:
    """Error on every set, before, after, and of answers without understanding."""
    figure, axes = _bar_chart(title, language, width=10.5)
    names, series = metric_bars(run, "rmse_all")
    for floor, colour, hatch in (
        ("best_constant", "#98A2B3", "xx"),
        ("last_number", GREEN, ".."),
        ("digits", PURPLE, "\\\\"),
    ):
        values = [_floor_error(run, name, floor) for name in names]
        series.append(Bars(f"legend.{floor}", values, colour, hatch))
    _log_bars(axes, names, series, language)
    label = words(language)("legend.best_possible")
    for place, name in enumerate(names):
        if best := _floor_error(run, name, "best_possible"):
            axes.hlines(best, place - 0.46, place + 0.46, "black", "dashed", label=label)
            label = "_"  # one entry in the legend
    _legend(figure, axes, columns=3)
    return figure


def _floor_error(run: RunFiles, name: str, floor: str) -> float | None:
    error: float | None = run.floors.get(name, {}).get(floor, {}).get("rmse_all")
    return error


def _bar_chart(title: str, language: Language, width: float = 9.0) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, 5.0), layout="constrained")
    word = words(language)
    figure.suptitle(word(title))
    axes = figure.subplots()
    axes.set_ylabel(word(f"{title}.axis"))
    axes.set_axisbelow(True)
    axes.grid(axis="y")
    return figure, axes


def _log_bars(axes: Axes, names: list[str], series: list[Bars], language: Language) -> None:
    """Bars on a logarithmic axis; a zero is a stub at its lower end, labelled 0."""
    sizes = [value for bars in series for value in bars.values if value]
    low = min(sizes, default=0.1)
    bottom = low / 3 if low < 1 else low / 2
    axes.set_yscale("log")
    axes.set_ylim(bottom, max(sizes, default=1.0) * 6)
    _draw_bars(axes, names, series, language, bottom, label=_size_label)


def _draw_bars(
    axes: Axes,
    names: list[str],
    series: list[Bars],
    language: Language,
    bottom: float,
    label: Callable[[float | None], str],
) -> None:
    width = 0.84 / len(series)
    for index, bars in enumerate(series):
        offset = (index - (len(series) - 1) / 2) * width
        drawn = axes.bar(
            [place + offset for place in range(len(names))],
            [_bar_height(value, bottom) for value in bars.values],
            width * 0.92,
            bottom=bottom,
            label=words(language)(bars.key),
            color=bars.colour,
            hatch=bars.hatch,
            edgecolor="white",
        )
        labels = [label(value) for value in bars.values]
        axes.bar_label(drawn, labels, padding=2, fontsize=9 if len(series) < 3 else 8)
    axes.set_xticks(range(len(names)), [plain(set_label(name, language)) for name in names])
    axes.tick_params(axis="x", length=0)


def _bar_height(value: float | None, bottom: float) -> float:
    if value is None:
        return 0.0
    return max(value - bottom, 0.15 * bottom)  # a stub for zero on a logarithmic axis


def _legend(figure: Figure, axes: Axes, columns: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)


def plain(text: str) -> str:
    """Text that Matplotlib draws as it is: a dollar sign would start a formula."""
    return text.replace("$", r"\$")


def _share_label(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.3g} %"


def _size_label(value: float | None) -> str:
    if value is None:
        return "-"
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.0e}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
