"""Ours against the best of the others: first, level or lost."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.arena_runs import FIGURES, OURS, Runs, sets_of, spread, values
from benchmarks.contenders.registry import CONTENDERS


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

    Seeds have the same training texts, on the diabetes table the same fold, and are compared one
    by one: level is what differs on the average by no more than half of the differences' range.

    Args:
        runs: The runs of a task.
        figures: Which figures.

    Raises:
        ValueError: If ours and the best have other seeds.
    """
    found = []
    for figure in figures:
        better = FIGURES[figure].better
        for name in sets_of(runs, figure) if better else ():
            known = {
                contender: of
                for contender, mine in runs.items()
                if contender in CONTENDERS
                if (of := values(mine, name, figure))
            }
            ours = known.pop(OURS)
            winner = max(known, key=lambda one: better * statistics.fmean(known[one]))
            seeds, theirs = ([run["seed"] for run in runs[one]] for one in (OURS, winner))
            if seeds != theirs:
                raise ValueError(f"{OURS} and {winner} have other seeds")
            ahead = [
                0.0 if mine == best else better * (mine - best)  # also where both are infinite
                for mine, best in zip(ours, known[winner], strict=True)
            ]
            mean = sum(ahead) / len(ahead)
            half = spread(ahead) if math.isfinite(mean) else 0.0
            place = "first" if mean > half else "lost" if mean < -half else "level"
            found.append(Standing(f"{name}: {FIGURES[figure].title}", place, winner))
    return found
