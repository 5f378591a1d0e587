"""What the figures of a run amount to: aims missed, floors not beaten, the headline of a page."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from callbacks.floors import IDEAL
from callbacks.results import Results
from callbacks.run_files import RunFiles
from callbacks.targets import SETS, TARGETS
from callbacks.words import Language, set_label, words

# Of the report that this project answers, whose evaluation sets have the same names: accuracy goes
# from 0 to 1 and mean rank from these to 1 on all of them. Its errors are printed as RMSE but are
# mean absolute errors, those of a model that answers about 7 everywhere.
PUBLISHED_RANKS = dict(zip(SETS, (82046.0, 91343.0, 81144.0, 81314.0), strict=True))
PUBLISHED_ERRORS = dict(zip(SETS, (42.10, 48.10, 50724.62, 6.53), strict=True))
_FAIR_COVERAGE = 0.03  # how far a 95 % interval's coverage may lie from 0.95, chance aside
_KEPT_PERPLEXITY = 1.02  # greatest ratio at which ordinary text counts as kept


class Miss(NamedTuple):
    """A target that a run misses: figure `metric` of set `name` against `symbol` `bound`."""

    metric: str
    name: str
    figure: float | None
    symbol: str
    bound: float


class Card(NamedTuple):
    """A headline: its figure as text, what it says, and whether that is good (None: unknown)."""

    figure: str
    label: str
    good: bool | None
    verdict: str


def misses(results: Results) -> list[Miss]:
    """The targets that results miss."""
    return [
        Miss(target.metric, name, results[name][target.metric], target.symbol, bound)
        for target in TARGETS
        for name, bound in zip(SETS, target.bounds, strict=True)
        if name in results and not target.met(results[name][target.metric], bound)
    ]


def targeted(results: Results) -> bool:
    """Whether any set has targets; a user's own have none."""
    return any(name in results for name in SETS)


def unbeaten_floors(run: RunFiles) -> dict[str, list[str]]:
    """Floors whose root mean square error the model does not undercut, by set."""
    found = {
        name: [floor for floor, entry in floors.items() if entry["beaten"] is False]
        for name, floors in run.floors.items()
    }
    return {name: floors for name, floors in found.items() if floors}


def strongest_floor(run: RunFiles, name: str) -> tuple[str, float] | None:
    """The floor with the lowest root mean square error on a set, and that error."""
    errors = [
        (entry["rmse_all"], floor)
        for floor, entry in run.floors.get(name, {}).items()
        if floor != IDEAL and entry["rmse_all"] is not None
    ]
    if not errors:
        return None
    error, floor = min(errors)
    return floor, error


def rmse_over_best(run: RunFiles, name: str) -> float | None:
    """Root mean square error over the best possible one of a set; 1 is what can be reached."""
    ratio: float | None = run.floors.get(name, {}).get(IDEAL, {}).get("rmse_over_best")
    return ratio


def perplexity_ratio(run: RunFiles) -> float | None:
    """Perplexity of texts without numbers, after over before, of the first set that has one."""
    for name, after in run.finetuned.items():
        before = run.baseline[name]["perplexity"]
        if before and after["perplexity"] is not None:
            ratio: float = after["perplexity"] / before
            return ratio
    return None


def pooled_share(results: Results, metric: str) -> float | None:
    """A share over the numbers of all sets together.

    >>> pooled_share({"a": {"f": 0.5, "slots": 3}, "b": {"f": 1.0, "slots": 1}}, "f")
    0.625
    """
    known = [(e[metric], e["slots"]) for e in results.values() if e.get(metric) is not None]
    total = sum(slots for _, slots in known)
    return sum(share * slots for share, slots in known) / total if total else None


def uncertain_sets(run: RunFiles) -> list[str]:
    """Sets in which under half of the answers are exact; all with numbers where there is none.

    The others are answered by exact copies, which every interval covers.
    """
    names = run.sets_with_slots
    return [name for name in names if run.finetuned[name]["exact_match"] < 0.5] or names


def coverage_key(run: RunFiles, level: int) -> str:
    """Which figure tells the coverage of the intervals that the model gives."""
    return f"calibrated_coverage_{level}" if run.run["calibration"] else f"coverage_{level}"


def cards(run: RunFiles, language: Language, percent: Callable[[Any], str]) -> list[Card]:
    """The headline figures.

    Args:
        run: The run.
        language: Of the words.
        percent: Writes a share.
    """
    word = words(language)
    aimed = {miss.metric for miss in misses(run.finetuned)} if targeted(run.finetuned) else None
    accuracy = pooled_share(run.finetuned, "accuracy")
    # A number that nobody can know is not expected to be exact, so noisy sets are left out here.
    exact = [name for name in SETS if name in run.finetuned] or run.sets_with_slots
    exact_match = pooled_share({name: run.finetuned[name] for name in exact}, "exact_match")
    beaten = len(run.floors) - len(unbeaten_floors(run))
    uncertain = {name: run.finetuned[name] for name in uncertain_sets(run)}
    coverage = pooled_share(uncertain, coverage_key(run, 95))
    slots = sum(entry["slots"] for entry in uncertain.values())
    chance = 1.96 * math.sqrt(0.95 * 0.05 / max(1, slots))
    ratio = perplexity_ratio(run)
    where = ", ".join(set_label(name, language) for name in uncertain)
    found: list[tuple[str, str, bool | None]] = [
        ("accuracy", percent(accuracy), None if aimed is None else "accuracy" not in aimed),
        (
            "exact_match",
            percent(exact_match),
            None if aimed is None else "exact_match" not in aimed,
        ),
        ("floors", f"{beaten} / {len(run.floors)}", beaten == len(run.floors)),
        (
            "coverage",
            percent(coverage),
            None if coverage is None else abs(coverage - 0.95) <= max(_FAIR_COVERAGE, chance),
        ),
        (
            "perplexity",
            "-" if ratio is None else f"× {ratio:.3f}",
            None if ratio is None else ratio <= _KEPT_PERPLEXITY,
        ),
    ]
    verdicts = {True: word("good"), False: word("bad"), None: word("no_figure")}
    return [
        Card(
            figure,
            word(f"card.{key}") + (f" ({where})" if key == "coverage" and where else ""),
            good,
            "" if good is None and figure != "-" else verdicts[good],
        )
        for key, figure, good in found
    ]
