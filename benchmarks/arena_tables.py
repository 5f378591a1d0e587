r"""Tables of what the arena has found.

    python benchmarks/arena_tables.py results/arena/arithmetic.jsonl     # of one's own runs
    python benchmarks/arena_tables.py --page docs/arena.md      # what the page says, from its runs

Figures are means over seeds; where these differ, +- is half of their range. The page's tables
stand after comments that name them, and are of the runs with the task's own budget.
"""

import argparse
import json
import re
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.arena import ended  # noqa: E402
from benchmarks.arena_costs import ANSWER, STEP  # noqa: E402
from benchmarks.arena_tasks import BUDGETS  # noqa: E402
from benchmarks.contenders.registry import DESCRIPTIONS, EVERY  # noqa: E402

Run = dict[str, Any]
Runs = dict[str, list[Run]]  # by contender
RESULTS = ROOT / "benchmarks" / "results" / "arena"
OURS = "numlm"


class Figure(NamedTuple):
    """A figure of a set.

    Attributes:
        title: What the table says that it is.
        unit: What it is multiplied by.
        better: 1 if greater is better, -1 if less is; 0 where neither is.
    """

    title: str
    unit: float = 1
    better: int = -1


FIGURES = {
    "right": Figure("right to every digit, %", 100, 1),
    "median_relative_error": Figure("median relative error"),
    "rmse_all": Figure("root mean square error"),
    "crps": Figure("CRPS"),
    "coverage_80": Figure("coverage of the 80 % interval, %", 100, 0),
}
# What the page shows of each task.
SHOWN = {
    "scorecard": ("right", "rmse_all", "crps", "coverage_80"),
    "addition": ("right", "median_relative_error"),
    "multiplication": ("right", "median_relative_error"),
    "lengths": ("right",),
    "arithmetic": ("right", "median_relative_error", "crps", "coverage_80"),
    "diabetes": ("rmse_all", "median_relative_error", "crps", "coverage_80"),
}
NOISY = "noisy_readings"  # nobody can be right to every digit there
# What is shown of ablations: figures of the mixed task's sets, averaged over each column's.
_COMPUTED = ("addition", "subtraction", "multiplication", "division", "mean")
ABLATION_COLUMNS = {
    "restating, % right": ("right", ("basic", "extreme_values", "boundary_values")),
    "questions, % right": ("right", ("question_answering",)),
    "noisy readings, CRPS": ("crps", (NOISY,)),
    "80 % intervals hold, %": ("coverage_80", (NOISY,)),
    "arithmetic near, % right": ("right", tuple(f"{name}, near" for name in _COMPUTED)),
    "far, % right": ("right", tuple(f"{name}, far" for name in _COMPUTED)),
    "deviation, relative error": ("median_relative_error", ("deviation, near",)),
}


def load(file: Path, **budget: int) -> Runs:
    """The runs of every contender with such a budget, in the order of the registry.

    Raises:
        FileNotFoundError: If there are none.
    """
    runs = [run for run in ended(file) if budget.items() <= run.items()]
    if not runs:
        raise FileNotFoundError(f"no such runs in {file}: benchmarks/arena.py makes them")
    return {name: mine for name in EVERY if (mine := [r for r in runs if r["contender"] == name])}


def sets_of(runs: Runs, figure: str) -> list[str]:
    """The sets that a figure is shown of."""
    every = next(iter(runs.values()))[0]["sets"]
    return [name for name in every if (name, figure) != (NOISY, "right")]


def values(runs: Sequence[Run], name: str, figure: str) -> list[float]:
    """A figure of a set, of every seed that has it, as it is shown."""
    found = (run["sets"][name].get(figure) for run in runs)
    return [value * FIGURES[figure].unit for value in found if value is not None]


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


def ablation_table(runs: Runs) -> str:
    """Ours with one thing taken away or exchanged, in Markdown."""
    columns = list(ABLATION_COLUMNS)
    lines = [f"| | | {' | '.join(columns)} |", "|---|---|" + "--:|" * len(columns)]
    for name, mine in runs.items():
        cells = []
        for figure, sets in ABLATION_COLUMNS.values():
            by_seed = zip(*(values(mine, one, figure) for one in sets), strict=True)
            cells.append(cell([statistics.fmean(found) for found in by_seed]))
        lines.append(f"| {name} | {DESCRIPTIONS[name]} | {' | '.join(cells)} |")
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


class Standing(NamedTuple):
    """How ours does on a row.

    Attributes:
        row: Set and figure.
        place: first, level or lost.
        winner: The best of the others.
    """

    row: str
    place: str
    winner: str


def standings(runs: Runs, figures: Sequence[str]) -> list[Standing]:
    """Ours against the best of the others, on every set and figure that can be better or worse.

    Level is what is as good, or worse by no more than both spreads together.
    """
    found = []
    for figure in figures:
        better = FIGURES[figure].better
        for name in sets_of(runs, figure) if better else ():
            known = {
                contender: of
                for contender, mine in runs.items()
                if (of := values(mine, name, figure))
            }
            ours = known.pop(OURS)
            winner = max(known, key=lambda one: better * statistics.fmean(known[one]))
            behind = better * (statistics.fmean(known[winner]) - statistics.fmean(ours))
            apart = spread(known[winner]) + spread(ours)
            place = "first" if behind < 0 else "level" if behind <= apart else "lost"
            found.append(Standing(f"{name}: {FIGURES[figure].title}", place, winner))
    return found


def standing_table(every: dict[str, list[Standing]]) -> str:
    """How many rows of each task are first, level and lost, and to whom, in Markdown."""
    lines = ["| | rows | first | level | lost |", "|---|--:|--:|--:|---|"]
    for task, found in every.items():
        lost = [f"{one.row}, to {one.winner}" for one in found if one.place == "lost"]
        counts = [sum(one.place == place for one in found) for place in ("first", "level")]
        cells = [task, len(found), *counts, "; ".join(lost) or "none"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def spread(found: Sequence[float]) -> float:
    """Half of the range."""
    return (max(found) - min(found)) / 2


def cell(found: Sequence[float]) -> str:
    """Mean and half of the range.

    >>> cell([25.0, 75.0]), cell([3.0, 3.0]), cell([])
    ('50 ± 25', '3', '-')
    """
    if not found:
        return "-"
    mean, half = _number(statistics.fmean(found)), spread(found)
    return f"{mean} ± {_number(half)}" if half else mean


def _number(value: float) -> str:
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.1e}"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def tables(folder: Path = RESULTS) -> dict[str, str]:
    """All tables of the page by name."""
    found: dict[str, str] = {}
    places = {}
    for task, figures in SHOWN.items():
        runs = load(folder / f"{task}.jsonl", **BUDGETS[task]._asdict())
        found |= {f"{task}: {figure}": table(runs, figure) for figure in figures}
        places[task] = standings(runs, figures)
    measured = json.loads((folder / "costs.json").read_text(encoding="utf-8"))
    ablated = load(folder / "mixed.jsonl", **BUDGETS["mixed"]._asdict())
    return {
        "standings": standing_table(places),
        **found,
        "costs": costs(measured),
        "ablations": ablation_table(ablated),
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
    parser.add_argument("--page", type=Path, help="a page to fill from benchmarks/results/arena")
    options = parser.parse_args(arguments)
    if bool(options.file) == bool(options.page):
        parser.error("give either a file of runs or a page")
    if options.page:
        page = options.page.read_text(encoding="utf-8")
        options.page.write_text(fill(page, tables()), encoding="utf-8")
    else:
        runs = load(options.file)
        print("\n\n".join(table(runs, figure) for figure in FIGURES))


if __name__ == "__main__":
    main()
