"""The runs that the arena keeps, and their figures by set, seed and training texts."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.arena import ROOT, ended
from benchmarks.arena_tasks import Budget
from benchmarks.contenders.registry import EVERY

Run = dict[str, Any]
Runs = dict[str, list[Run]]  # by contender
Lines = dict[str, dict[int, list[float]]]  # by contender, by training texts or digits
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
    "answered": Figure("answered with a number, %", 100, 0),
}
NOISY = "noisy_readings"  # nobody can be right to every digit there


def load(file: Path, **budget: float) -> Runs:
    """The runs of every contender with such a budget, in the order of registry and seeds.

    Raises:
        FileNotFoundError: If there are none.
        ValueError: If one was run twice.
    """
    runs = [run for run in ended(file) if budget.items() <= run.items()]
    if not runs:
        raise FileNotFoundError(f"no such runs in {file}: benchmarks/arena.py makes them")
    which = Counter(
        tuple(run[name] for name in ("contender", "seed", *Budget._fields)) for run in runs
    )
    twice = [run for run, count in which.items() if count > 1]
    if twice:
        raise ValueError(f"in {file} there are runs with the same settings: {twice}")
    runs.sort(key=lambda run: run["seed"])
    return {name: mine for name in EVERY if (mine := [r for r in runs if r["contender"] == name])}


def sets_of(runs: Runs, figure: str) -> list[str]:
    """The sets that a figure is shown of."""
    every = next(iter(runs.values()))[0]["sets"]
    return [name for name in every if (name, figure) != (NOISY, "right")]


def values(runs: Sequence[Run], name: str, figure: str) -> list[float]:
    """A figure of a set, of every seed, as it is shown; none if the contender does not have it.

    Where it could not be calculated, for errors were infinite or nothing was answered, it is the
    worst that there is.
    """
    unit, better = FIGURES[figure].unit, FIGURES[figure].better
    found = [run["sets"][name][figure] for run in runs if figure in run["sets"][name]]
    return [-better * math.inf if value is None else value * unit for value in found]


def against_texts(runs: Runs, figure: str, name: str = "test") -> Lines:
    """A figure of a set by contender, and by how many texts were learned from, of every seed."""
    return {
        contender: {
            texts: values([run for run in mine if run["texts"] == texts], name, figure)
            for texts in sorted({run["texts"] for run in mine})
        }
        for contender, mine in runs.items()
    }


def spread(found: Sequence[float]) -> float:
    """Half of the range."""
    return 0.0 if max(found) == min(found) else (max(found) - min(found)) / 2
