"""The scorecard of an evaluation set, as a torchmetrics metric, and its figures.

The metric keeps rows and computes once at the end, so that every record is counted once under any
number of processes: rows are gathered, and those of a record that a sampler repeated are dropped.

Every figure is a function of the rows and of a weight for every text. Weights of one give the
figure; weights drawn as a resampling of the texts draws them give its bootstrap distribution.
"""

import itertools
from collections.abc import Collection

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from numlm.losses import Term
from numlm.model import Losses
from numlm.scoring import COLUMNS, Scores

Figures = dict[str, float | int | None]
Intervals = dict[str, list[float] | None]
LEVELS = (50, 80, 95)  # of the intervals whose coverage is measured, in percent
RESAMPLES = 1000
_KEYS = (2, 1, 2, 2)  # columns that tell the rows of each table apart


class Scorecard(Metric):
    """Rows of one evaluation set; `compute` gives `figures` of them."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        for name in Scores._fields:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, scores: Scores) -> None:
        """Add the rows of a batch."""
        for name, rows in scores._asdict().items():
            getattr(self, name).append(rows.to(self.device))

    def rows(self) -> Scores:
        """All rows in the order of records and positions, each once."""
        tables = []
        for name, columns, keys in zip(Scores._fields, COLUMNS, _KEYS, strict=True):
            state = getattr(self, name)
            rows = dim_zero_cat(state).cpu() if len(state) else torch.zeros(0, len(columns))
            tables.append(_unique_rows(rows.double(), keys))
        return Scores(*tables)

    def gathered_rows(self) -> Scores:
        """The rows of all processes; every process must call."""
        with self.sync_context():
            return self.rows()

    def compute(self) -> Figures:
        """Figures over all records."""
        return figures(self.rows())


class LossTable(Metric):
    """Loss sums of batches, each counted once and in the same order on any number of processes."""

    full_state_update = False
    rows: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, first_record: Tensor, losses: Losses) -> None:
        """Add a batch, known by the id of its first record."""
        sums = [number for term in losses for number in (term.sum, term.count)]
        self.rows.append(torch.stack([number.double() for number in (first_record, *sums)])[None])

    def compute(self) -> Tensor:
        """(4, 2) sums and counts in float64, in the order of `Losses`."""
        return _unique_rows(dim_zero_cat(self.rows), 1)[:, 1:].sum(0).view(-1, 2)

    def losses(self) -> Losses:
        """The losses of all batches; every process must call."""
        return Losses(*(Term(total.float(), count) for total, count in self.compute()))


def column(scores: Scores, table: str, name: str) -> Tensor:
    """One column of a table of rows, by name."""
    columns: tuple[str, ...] = getattr(COLUMNS, table)
    rows: Tensor = getattr(scores, table)
    return rows[:, columns.index(name)]


def take_records(scores: Scores, record_ids: Collection[int]) -> Scores:
    """The rows of some records."""
    wanted = torch.tensor(sorted(record_ids), dtype=torch.float64)
    return Scores(*(rows[torch.isin(rows[:, 0], wanted)] for rows in scores))


def figures(scores: Scores) -> Figures:
    """Figures of rows, each record once; `None` where there is nothing to average.

    When (a number should be said), over the slots, the numbers that are asked for:

    - accuracy: share where `<NUM>` is the most probable token; higher is better
    - mean_rank, mean_prob: of `<NUM>`; rank 1 is best
    - precision, recall, f1: of `<NUM>` over every position of the texts; higher is better
    - false_positive_rate: share of the positions without a number where `<NUM>` is said

    What (number), over every slot unless stated:

    - rmse: root mean square error over the slots where `<NUM>` was said; lower is better
    - rmse_all, mae: root mean square and mean absolute error
    - median_relative_error: median of |error| / |truth|; for a truth of 0 it is 0 or infinite
    - exact_match: share of printed numbers that are the true ones; higher is better
    - exact_match_without_pointer: the same when the head may not copy

    How sure:

    - coverage_50, _80, _95: share of truths inside the model's own central intervals
    - calibrated_coverage_50, ...: the same after split-conformal calibration
    - crps: mean continuous ranked probability score; lower is better, a certain answer's is its
      absolute error

    And perplexity of the texts without numbers, `slots`, `texts` and `positions`.
    """
    whole = {name: finite(value.item()) for name, value in _estimates(scores, None).items()}
    return {
        **whole,
        "slots": len(scores.slots),
        "texts": len(scores.records),
        "positions": int(column(scores, "records", "positions").sum()),
    }


def figures_by_magnitude(scores: Scores) -> list[dict[str, float | int | None]]:
    """Errors by order of magnitude of the truth: zero, then decades from below 1e-6 to above 1e6.

    Returns:
        For every range with slots in it: its ends `from` (inclusive) and `to`, None where it is
        open, slots, exact_match, median_relative_error and rmse_all.
    """
    size = column(scores, "slots", "truth").abs()
    ends = [None, *(10.0**power for power in range(-6, 7)), None]
    ranges = [(size == 0, 0.0, 0.0)] + [
        ((size > 0) & (size >= (low or 0)) & (size < (high or torch.inf)), low, high)
        for low, high in itertools.pairwise(ends)
    ]
    table: list[dict[str, float | int | None]] = []
    for inside, low, high in ranges:
        if inside.any():
            found = figures(scores._replace(slots=scores.slots[inside]))
            names = ("slots", "exact_match", "median_relative_error", "rmse_all")
            table.append({"from": low, "to": high, **{name: found[name] for name in names}})
    return table


def bootstrap_intervals(
    scores: Scores, resamples: int = RESAMPLES, seed: int = 0, level: float = 0.95
) -> Intervals:
    """Percentile bootstrap intervals of the figures, with texts as what is drawn again.

    Args:
        scores: Rows, each record once.
        resamples: How many times the texts are drawn with replacement.
        seed: Seed of the draws.
        level: Level of the intervals.

    Returns:
        `[low, high]` for every figure, `None` where a figure is.
    """
    count = len(scores.records)
    generator = torch.Generator().manual_seed(seed)
    weights = torch.zeros(resamples, count, dtype=torch.float64)
    if count:
        drawn = torch.randint(count, (resamples, count), generator=generator)
        weights.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))
    return {
        name: percentile_interval(estimates, level)
        for name, estimates in _estimates(scores, weights).items()
    }


def percentile_interval(estimates: Tensor, level: float) -> list[float] | None:
    """`[low, high]` around the middle share of the finite ones of estimates (R,).

    >>> [round(end, 6) for end in percentile_interval(torch.arange(101.0), 0.9)]
    [5.0, 95.0]
    """
    known = estimates[torch.isfinite(estimates)].double()
    if not len(known):
        return None
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    return [float(end) for end in known.quantile(ends)]


def agreement(before: Scores, after: Scores) -> float | None:
    """Share of the positions of texts without numbers where both say the same token.

    Raises:
        ValueError: If the two have different positions.
    """
    if not torch.equal(before.plain[:, :2], after.plain[:, :2]):
        raise ValueError("agreement needs the same texts before and after")
    same = column(before, "plain", "said") == column(after, "plain", "said")
    return same.double().mean().item() if len(same) else None


def error_estimates(error: Tensor, truth: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Root mean square, mean absolute and median relative error.

    Args:
        error: (N,) answer minus truth.
        truth: (N,).
        weights: (R, N).

    Returns:
        Each (R,), NaN where the weights are all zero, infinite beyond float64.
    """
    size = error.abs()
    unit = size.amax().clamp(min=torch.finfo(torch.float64).tiny) if len(size) else size.sum()
    relative = torch.where(truth == 0, size * torch.inf, size / truth.abs()).nan_to_num(
        nan=0.0, posinf=torch.inf
    )
    return {
        "rmse_all": unit * _mean((size / unit).square(), weights).sqrt(),
        "mae": unit * _mean(size / unit, weights),
        "median_relative_error": _median(relative, weights),
    }


def _estimates(scores: Scores, weights: Tensor | None) -> dict[str, Tensor]:
    """Every figure (R,) under weights (R, records), or under ones; NaN where there is none."""
    records = {name: column(scores, "records", name) for name in COLUMNS.records}
    slots = {name: column(scores, "slots", name) for name in COLUMNS.slots}
    if weights is None:
        weights = torch.ones(1, len(scores.records), dtype=torch.float64)
    owner = torch.searchsorted(records["record"].contiguous(), slots["record"].contiguous())
    by_slot = weights[:, owner]
    said = by_slot * (slots["rank"] == 1)
    error = slots["median"] - slots["truth"]
    hits, false, missed, positions, nll, tokens = (
        weights @ records[name] for name in COLUMNS.records[1:]
    )
    return {
        "accuracy": _mean(slots["rank"] == 1, by_slot),
        "mean_rank": _mean(slots["rank"], by_slot),
        "mean_prob": _mean(slots["prob"], by_slot),
        "rmse": error_estimates(error, slots["truth"], said)["rmse_all"],
        **error_estimates(error, slots["truth"], by_slot),
        "exact_match": _mean(slots["printed"] == slots["truth"], by_slot),
        "exact_match_without_pointer": _mean(
            slots["printed_without_pointer"] == slots["truth"], by_slot
        ),
        **{f"coverage_{b}": _mean(slots["level"] < b / 100, by_slot) for b in LEVELS},
        **{
            f"calibrated_coverage_{b}": _mean(slots["calibrated_level"] < b / 100, by_slot)
            for b in LEVELS
        },
        "crps": _mean(slots["crps"], by_slot),
        "precision": hits / (hits + false),
        "recall": hits / (hits + missed),
        "f1": 2 * hits / (2 * hits + false + missed),
        "false_positive_rate": false / (positions - hits - missed),
        "perplexity": (nll / tokens).exp(),
    }


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted means (R,) of values (N,) under weights (R, N)."""
    return weights @ values.double() / weights.sum(-1)


def _median(values: Tensor, weights: Tensor) -> Tensor:
    """Least value with half of the weight at or below it, (R,)."""
    if not len(values):
        return torch.full((len(weights),), torch.nan, dtype=torch.float64)
    ordered, order = values.sort()
    through = weights[:, order].cumsum(-1)
    total = through[:, -1:]
    first = torch.searchsorted(through, total / 2).clamp(max=len(values) - 1)
    return torch.where(total > 0, ordered[first], torch.nan)[:, 0]


def finite(figure: float) -> float | None:
    """None for what is no number, and for what no float64 can hold."""
    return figure if abs(figure) < float("inf") else None


def _unique_rows(rows: Tensor, keys: int) -> Tensor:
    """Rows sorted by their first columns, the first of those that agree in them."""
    for key in reversed(range(keys)):
        rows = rows[torch.argsort(rows[:, key], stable=True)]
    if len(rows) < 2:
        return rows
    new = (rows[1:, :keys] != rows[:-1, :keys]).any(-1)
    return rows[torch.cat([torch.ones(1, dtype=torch.bool, device=new.device), new])]
