r"""Charts of what the arena has found: accuracy and error against training texts and digits.

    python benchmarks/arena_charts.py --out docs

Every contender is a line over the means of its seeds, with their range as a shade.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.arena_runs import (  # noqa: E402
    FIGURES,
    OURS,
    RESULTS,
    Lines,
    Runs,
    against_texts,
    load,
    values,
)
from benchmarks.arena_tasks import BUDGETS, LEARNED_LENGTH  # noqa: E402
from benchmarks.contenders.registry import CONTENDERS  # noqa: E402

_OURS = "#c0392b"
_TAB20 = plt.get_cmap("tab20").colors
_COLORS = dict(zip(CONTENDERS, _TAB20[:6] + _TAB20[8:], strict=False))  # without red
PANELS = ("right", "median_relative_error")


def against_digits(runs: Runs, figure: str) -> Lines:
    """A figure of every contender by how many digits the numbers have."""
    return {
        name: {int(one.split()[0]): values(mine, one, figure) for one in mine[0]["sets"]}
        for name, mine in runs.items()
    }


def draw(axes: Any, lines: Lines) -> None:  # noqa: ANN401
    """A line with a shade for each contender, ours above the others and wider."""
    for name in (one for one in CONTENDERS if one in lines):
        points = lines[name]
        at = [x for x, found in points.items() if found]
        means = [statistics.fmean(points[x]) for x in at]
        ours = name == OURS
        color = _OURS if ours else _COLORS[name]
        axes.plot(
            at, means, "o-", color=color, label=name, markersize=5 if ours else 3,
            linewidth=2.6 if ours else 1.3, zorder=3 if ours else 2,
        )  # fmt: skip
        low, high = ([side(points[x]) for x in at] for side in (min, max))
        axes.fill_between(at, low, high, color=color, alpha=0.15, linewidth=0)
    axes.grid(alpha=0.3)


def chart(
    lines: Mapping[str, Lines], title: str, file: Path, decorate: Callable[[Any], None]
) -> None:
    """Right answers and errors side by side.

    Args:
        lines: Of each of `PANELS`.
        title: What the chart says that it is of.
        file: Where to draw.
        decorate: Gives a panel its horizontal axis.
    """
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    for axes, name in zip(panels, PANELS, strict=True):
        draw(axes, lines[name])
        decorate(axes)
        axes.set(ylabel=FIGURES[name].title)
    panels[0].set(ylim=(-3, 103))
    panels[1].set_yscale("symlog", linthresh=1e-6)
    panels[1].set(ylim=(0, None))
    panels[0].legend(loc="best", frameon=False, fontsize=8)
    figure.suptitle(title)
    figure.savefig(file, dpi=120)
    plt.close(figure)


def texts_chart(runs: Runs, title: str, file: Path) -> None:
    """Right answers and errors against training texts."""
    sizes = sorted({run["texts"] for mine in runs.values() for run in mine})

    def decorate(axes: Any) -> None:  # noqa: ANN401
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(sizes))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.set(xlabel="training texts, each seen once")

    chart({name: against_texts(runs, name) for name in PANELS}, title, file, decorate)


def digits_chart(runs: Runs, learned: int, title: str, file: Path) -> None:
    """Right answers and errors against digits; to the right of the line none were learned."""

    def decorate(axes: Any) -> None:  # noqa: ANN401
        axes.axvline(learned + 0.5, color="#444444", linewidth=0.8, linestyle="--")
        axes.set(xlabel="digits of each number")

    chart({name: against_digits(runs, name) for name in PANELS}, title, file, decorate)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw both charts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of runs")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder of the charts")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    texts_chart(
        load(options.results / "addition.jsonl", batch=BUDGETS["addition"].batch),
        "Adding two numbers of four digits, from random weights",
        options.out / "arena_texts.png",
    )
    digits_chart(
        load(options.results / "lengths.jsonl", **BUDGETS["lengths"]._asdict()),
        LEARNED_LENGTH,
        "Adding two numbers; up to four digits are learned",
        options.out / "arena_digits.png",
    )


if __name__ == "__main__":
    main()
