"""The scorecard of an evaluation set, as a torchmetrics metric.

It keeps rows and computes once at the end, so that every record is counted once under any number
of processes: rows are gathered, and those of a record that a sampler repeated are dropped.
"""

from collections.abc import Collection

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from numlm.scoring import RECORD_COLUMNS, SLOT_COLUMNS, Scores

Figures = dict[str, float | int | None]


class Scorecard(Metric):
    """Figures of one evaluation set, `None` where there is nothing to average.

    accuracy                     share of slots where `<NUM>` is the most probable token; higher is
    better mean_rank                    mean rank of `<NUM>` at the slots, 1 is best mean_prob
    mean probability of `<NUM>` at the slots; higher is better rmse                         root
    mean square error over the slots where `<NUM>` was predicted; lower is better rmse_all, mae
    root mean square and mean absolute error over every slot; lower is better exact_match
    share of slots whose printed value is the true one; higher is better
    exact_match_without_pointer  the same with the pointer switched off precision, recall, f1
    of `<NUM>` over every position of the texts; higher is better slots, texts                 how
    many there were
    """

    full_state_update = False
    slots: list[Tensor]
    records: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("slots", default=[], dist_reduce_fx="cat")
        self.add_state("records", default=[], dist_reduce_fx="cat")

    def update(self, scores: Scores) -> None:
        """Add the rows of a batch."""
        self.slots.append(scores.slots.to(self.device))
        self.records.append(scores.records.to(self.device))

    def rows(self) -> Scores:
        """All rows in the order of records and positions, each once."""
        slots = dim_zero_cat(self.slots) if len(self.slots) else torch.zeros(0, len(SLOT_COLUMNS))
        records = (
            dim_zero_cat(self.records)
            if len(self.records)
            else torch.zeros(0, len(RECORD_COLUMNS))
        )
        return Scores(_unique_rows(slots.cpu(), keys=2), _unique_rows(records.cpu(), keys=1))

    def gathered_rows(self) -> Scores:
        """The rows of all processes; every process must call."""
        with self.sync_context():
            return self.rows()

    def compute(self) -> Figures:
        """Figures over all records."""
        return figures(self.rows())


def figures(scores: Scores, record_ids: Collection[int] | None = None) -> Figures:
    """Figures of rows.

    Args:
        scores: Rows, each record once.
        record_ids: Which records to take; all where None.
    """
    slots, records = scores
    if record_ids is not None:
        wanted = torch.tensor(sorted(record_ids), dtype=torch.float64)
        slots, records = (rows[torch.isin(rows[:, 0], wanted)] for rows in (slots, records))
    column = dict(zip(SLOT_COLUMNS, slots.unbind(-1), strict=True))
    total = dict(zip(RECORD_COLUMNS, records.sum(0).tolist(), strict=True))
    predicted = column["rank"] == 1
    error = column["value"] - column["truth"]
    hits, false, missed = (
        total[f"{name}"] for name in ("true_positives", "false_positives", "false_negatives")
    )
    return {
        "accuracy": _mean(predicted),
        "mean_rank": _mean(column["rank"]),
        "mean_prob": _mean(column["prob"]),
        "rmse": _root_mean_square(error[predicted]),
        "rmse_all": _root_mean_square(error),
        "mae": _mean(error.abs()),
        "exact_match": _mean(error == 0),
        "exact_match_without_pointer": _mean(column["value_without_pointer"] == column["truth"]),
        "precision": _ratio(hits, hits + false),
        "recall": _ratio(hits, hits + missed),
        "f1": _ratio(2 * hits, 2 * hits + false + missed),
        "slots": len(slots),
        "texts": len(records),
    }


def _unique_rows(rows: Tensor, keys: int) -> Tensor:
    """Rows sorted by their first columns, the first of those that agree in them."""
    for key in reversed(range(keys)):
        rows = rows[torch.argsort(rows[:, key], stable=True)]
    if len(rows) < 2:
        return rows
    new = (rows[1:, :keys] != rows[:-1, :keys]).any(-1)
    return rows[torch.cat([torch.ones(1, dtype=torch.bool, device=new.device), new])]


def _mean(values: Tensor) -> float | None:
    return values.double().mean().item() if len(values) else None


def _root_mean_square(values: Tensor) -> float | None:
    return values.double().square().mean().sqrt().item() if len(values) else None


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
