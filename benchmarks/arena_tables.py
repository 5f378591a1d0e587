r"""Tables of what the arena has found.

    python benchmarks/arena_tables.py results/arena/arithmetic.jsonl     # of one's own runs
    python benchmarks/arena_tables.py --pages docs/arena.md README.md README.zh.md

Figures are means over seeds; where these differ, +- is half of their range. Tables of pages stand
after comments that name them, and are of the project's own runs: with the task's own budget, or of
all budgets where it says so.
"""

import argparse
import json
import math
import re
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.arena_costs import ANSWER, STEP  # noqa: E402
from benchmarks.arena_runs import (  # noqa: E402
    FIGURES,
    NOISY,
    RESULTS,
    Run,
    Runs,
    against_texts,
    load,
    sets_of,
    spread,
    values,
)
from benchmarks.arena_standings import Standing, standings  # noqa: E402
from benchmarks.arena_tasks import BUDGETS  # noqa: E402
from benchmarks.contenders.registry import CONTENDERS, DESCRIPTIONS, EVERY  # noqa: E402

# What is ranked of each task, and has a table.
SHOWN = {
    "scorecard": ("right", "rmse_all", "crps", "coverage_80", "answered"),
    "addition": ("right", "median_relative_error"),
    "multiplication": ("right", "median_relative_error"),
    "lengths": ("right",),
    "arithmetic": ("right", "median_relative_error", "crps", "coverage_80"),
    "diabetes": ("rmse_all", "median_relative_error", "crps", "coverage_80"),
}


class Column(NamedTuple):
    """A figure that is averaged over sets of a task.

    Attributes:
        task: The task.
        figure: The figure.
        sets: The sets.
    """

    task: str
    figure: str
    sets: tuple[str, ...]


_RESTATED = ("basic", "extreme_values", "boundary_values")
_ASKED = ("question_answering",)
_COMPUTED = ("addition", "subtraction", "multiplication", "division", "mean")
_NEAR, _FAR = (tuple(f"{name}, {place}" for name in _COMPUTED) for place in ("near", "far"))
ABLATION_COLUMNS = {
    "restating, % right": Column("mixed", "right", _RESTATED),
    "questions, % right": Column("mixed", "right", _ASKED),
    "noisy readings, CRPS": Column("mixed", "crps", (NOISY,)),
    "80 % intervals hold, %": Column("mixed", "coverage_80", (NOISY,)),
    "arithmetic near, % right": Column("mixed", "right", _NEAR),
    "far, % right": Column("mixed", "right", _FAR),
    "deviation, relative error": Column("mixed", "median_relative_error", ("deviation, near",)),
}
# What the README shows of the contenders: title, title in Chinese, figures.
HEADLINE = (
    ("restating, % right", "复述，正确率 %", Column("scorecard", "right", _RESTATED)),
    ("questions, % right", "问答，正确率 %", Column("scorecard", "right", _ASKED)),
    ("noisy readings, RMSE", "带噪读数，RMSE", Column("scorecard", "rmse_all", (NOISY,))),
    ("4-digit sums, % right", "四位数加法，正确率 %", Column("addition", "right", ("test",))),
    (
        "3-digit products, % right",
        "三位数乘法，正确率 %",
        Column("multiplication", "right", ("test",)),
    ),
    ("five operations, % right", "五种运算，正确率 %", Column("arithmetic", "right", _NEAR)),
    ("larger numbers, % right", "更大的数，正确率 %", Column("arithmetic", "right", _FAR)),
    ("diabetes, RMSE", "糖尿病，RMSE", Column("diabetes", "rmse_all", ("test",))),
)


def table(runs: Runs, figure: str) -> str:
    """One figure of every contender on every set, in Markdown.

    Where all sets are of two kinds, as `addition, near` and `addition, far` are, both are in one
    column.
    """
    sets = sets_of(runs, figure)
    groups: dict[str, list[str]] = {}
    for name in sets:
        groups.setdefault(name.split(", ")[0], []).append(name)
    kinds = " / ".join(name.split(", ")[-1] for name in next(iter(groups.values())))
    title = FIGURES[figure].title + (f": {kinds}" if len(groups) < len(sets) else "")
    lines = [f"| {title} | {' | '.join(groups)} |", "|---|" + "--:|" * len(groups)]
    for contender, mine in runs.items():
        cells = [
            " / ".join(cell(values(mine, name, figure)) for name in names)
            for names in groups.values()
        ]
        if any(set(each) - set("- /") for each in cells):
            lines.append(f"| {contender} | {' | '.join(cells)} |")
    return "\n".join(lines)


def texts_table(runs: Runs, figure: str) -> str:
    """One figure of every contender by how many texts it learned from, in Markdown."""
    found = against_texts(runs, figure)
    sizes = sorted({texts for lines in found.values() for texts in lines})
    lines = [
        f"| {FIGURES[figure].title}, of training texts | {' | '.join(f'{n:,}' for n in sizes)} |",
        "|---|" + "--:|" * len(sizes),
    ]
    for name, points in found.items():
        lines.append(f"| {name} | {' | '.join(cell(points.get(n, [])) for n in sizes)} |")
    return "\n".join(lines)


def average(runs: Sequence[Run], column: Column) -> list[float]:
    """A column's figure, averaged over its sets, of every seed that has it."""
    by_seed = zip(*(values(runs, name, column.figure) for name in column.sets), strict=True)
    return [statistics.fmean(found) for found in by_seed]


def ablation_table(runs: Runs) -> str:
    """Ours with one thing taken away or exchanged, in Markdown."""
    lines = [
        f"| | | {' | '.join(ABLATION_COLUMNS)} |",
        "|---|---|" + "--:|" * len(ABLATION_COLUMNS),
    ]
    for name, mine in runs.items():
        cells = [cell(average(mine, column)) for column in ABLATION_COLUMNS.values()]
        lines.append(f"| {name} | {DESCRIPTIONS[name]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def headline(tasks: dict[str, Runs], titles: Sequence[str]) -> str:
    """A few figures of every contender on all tasks, in Markdown.

    Args:
        tasks: The runs of every task.
        titles: Those of `HEADLINE`, in the language of the page.
    """
    lines = [f"| | {' | '.join(titles)} |", "|---|" + "--:|" * len(titles)]
    for name in CONTENDERS:
        cells = [
            cell(average(tasks[column.task].get(name, []), column)) for _, _, column in HEADLINE
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def costs(measured: dict[str, Any]) -> str:
    """What every contender is and costs, in Markdown.

    Args:
        measured: What `benchmarks/arena_costs.py` found.
    """
    rows = {(row["part"], row["arm"]): row for row in measured["rows"]}
    reference = measured["rows"][0]["arm"]
    lines = [
        f"| | | tokens a number | parameters added | a step, times {reference}' "
        f"| an answer, times {reference}' |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for name in EVERY:
        if name not in measured["contenders"]:
            continue
        facts = measured["contenders"][name]
        times = [f"{rows[part, name]['time_ratio'][0]:.2f}" for part in (STEP, ANSWER)]
        added = f"{facts['added_parameters']:,}"
        cells = [_number(facts["tokens_per_number"]), added, *times]
        lines.append(f"| {name} | {DESCRIPTIONS[name]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def standing_table(every: dict[str, list[Standing]]) -> str:
    """How many rows of each task are first, level and lost, and to whom, in Markdown."""
    lines = ["| | rows | first | level | lost |", "|---|--:|--:|--:|---|"]
    for task, found in every.items():
        lost = [f"{one.row}, to {one.winner}" for one in found if one.place == "lost"]
        counts = [sum(one.place == place for one in found) for place in ("first", "level")]
        cells = [task, len(found), *counts, "; ".join(lost) or "none"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def cell(found: Sequence[float]) -> str:
    """Mean and half of the range.

    >>> cell([25.0, 75.0]), cell([3.0, 3.0]), cell([])
    ('50 ± 25', '3', '-')
    """
    if not found:
        return "-"
    mean, half = _number(statistics.fmean(found)), spread(found)
    return f"{mean} ± {_number(half)}" if 0 < half < math.inf else mean


def _number(value: float) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.1e}"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def tables(folder: Path = RESULTS) -> dict[str, str]:
    """All tables of the page by name."""
    tasks = {
        task: load(folder / f"{task}.jsonl", **budget._asdict())
        for task, budget in BUDGETS.items()
    }
    measured = json.loads((folder / "costs.json").read_text(encoding="utf-8"))
    return {
        "headline": headline(tasks, [title for title, _, _ in HEADLINE]),
        "headline in Chinese": headline(tasks, [title for _, title, _ in HEADLINE]),
        "standings": standing_table(
            {task: standings(runs, SHOWN[task]) for task, runs in tasks.items() if task in SHOWN}
        ),
        **{
            f"{task}: {figure}": table(tasks[task], figure)
            for task, figures in SHOWN.items()
            for figure in figures
        },
        "addition: right, of training texts": texts_table(
            load(folder / "addition.jsonl", batch=BUDGETS["addition"].batch), "right"
        ),
        "costs": costs(measured),
        "ablations": ablation_table(tasks["mixed"]),
    }


def fill(page: str, contents: dict[str, str]) -> str:
    r"""A page with what stands after comments that name a table replaced by the table.

    >>> print(fill("<!-- a -->\n| old |\n\nText.", {"a": "| new |"}))
    <!-- a -->
    | new |
    <BLANKLINE>
    Text.
    """
    for name, content in contents.items():
        mark = f"<!-- {name} -->\n"
        before, found, after = page.partition(mark)
        if found:
            rest = re.sub(r"^(\|.*\n)*", "", after)
            page = f"{before}{mark}{content}\n{rest}"
    return page


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables of a file of runs, or fill a page with those of the project's own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, nargs="?", help="runs of one task")
    parser.add_argument(
        "--pages", type=Path, nargs="+", help="pages to fill from benchmarks/results/arena"
    )
    options = parser.parse_args(arguments)
    if bool(options.file) == bool(options.pages):
        parser.error("give either a file of runs or pages")
    if options.pages:
        contents = tables()
        for page in options.pages:
            text = page.read_text(encoding="utf-8")
            page.write_text(fill(text, contents), encoding="utf-8")
    else:
        runs = load(options.file)
        print("\n\n".join(table(runs, figure) for figure in FIGURES))


if __name__ == "__main__":
    main()
