r"""Tables of what the arena has found.

    python benchmarks/arena_tables.py results/arena/arithmetic/25600_800     # tables, printed
    python benchmarks/arena_tables.py FOLDER --json FILE       # and all runs in one file

Figures are means over seeds; where there are several, +- is half of the range.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.compact_json import as_json  # noqa: E402
from benchmarks.contenders.registry import CONTENDERS, DESCRIPTIONS  # noqa: E402

Run = dict[str, Any]
FIGURES = {
    "right": "right to a millionth, %",
    "median_relative_error": "median relative error",
    "rmse_all": "root mean square error",
    "crps": "CRPS",
    "coverage_80": "coverage of the 80 % interval, %",
}
_SHARES = ("right", "coverage_80")
COSTS = ("tokens_per_number", "added_parameters", "ms_a_step", "ms_an_answer")


def load(folder: Path) -> dict[str, list[Run]]:
    """The runs of every contender, in the order of the registry.

    Raises:
        FileNotFoundError: If there are none.
    """
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))]
    if not runs:
        raise FileNotFoundError(f"no runs in {folder}: benchmarks/arena.py writes them")
    return {
        name: mine for name in CONTENDERS if (mine := [r for r in runs if r["contender"] == name])
    }


def table(runs: dict[str, list[Run]], figure: str) -> str:
    """One figure of every contender on every set, in Markdown."""
    sets = list(next(iter(runs.values()))[0]["sets"])
    scale = 100 if figure in _SHARES else 1
    lines = [f"| {FIGURES[figure]} | {' | '.join(sets)} |", "|---|" + "--:|" * len(sets)]
    for name, mine in runs.items():
        cells = [
            _cell([run["sets"][one].get(figure) for run in mine], lambda value: value * scale)
            for one in sets
        ]
        if any(cell != "-" for cell in cells):
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def costs(runs: dict[str, list[Run]]) -> str:
    """What every contender is and costs, in Markdown."""
    lines = [
        "| | | tokens a number | parameters added | ms a step | ms an answer |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for name, mine in runs.items():
        cells = [_cell([run[cost] for run in mine], float) for cost in COSTS]
        lines.append(f"| {name} | {DESCRIPTIONS[name]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(values: Sequence[float | None], of: Callable[[float], float]) -> str:
    """Mean and half the range.

    >>> _cell([0.25, 0.75], lambda share: 100 * share), _cell([None], float)
    ('50 ± 25', '-')
    """
    known = [of(value) for value in values if value is not None]
    if not known:
        return "-"
    spread = (max(known) - min(known)) / 2
    mean = _number(statistics.fmean(known))
    return f"{mean} ± {_number(spread)}" if spread else mean


def _number(value: float) -> str:
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.1e}"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables of a folder of runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path, help="write all runs to one file")
    options = parser.parse_args(arguments)
    runs = load(options.folder)
    print("\n\n".join([*(table(runs, figure) for figure in FIGURES), costs(runs)]))
    if options.json:
        every = [run for mine in runs.values() for run in mine]
        options.json.write_text(as_json(every) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
