"""The scorecard: rows made by hand with known figures, each record counted once."""

import math

import pytest
import torch
from torch import Tensor

from numlm.distributions import ValueMixture
from numlm.metrics import Scorecard, figures
from numlm.scoring import RECORD_COLUMNS, SLOT_COLUMNS, Scores, printed_values

Slot = tuple[float, ...]

# record, position, rank, prob, truth, value, value_without_pointer
SLOTS: list[Slot] = [
    (0, 4, 1, 0.9, 10.0, 10.0, 11.0),
    (0, 9, 3, 0.1, 20.0, 24.0, 20.0),
    (1, 4, 1, 0.5, -5.0, -8.0, -5.0),
    (2, 7, 8, 0.3, 0.5, 0.5, 0.5),
]
# record, true positives, false positives, false negatives, positions
RECORDS: list[Slot] = [(0, 2, 1, 1, 20), (1, 1, 0, 0, 10), (2, 0, 1, 3, 30)]
EMPTY = {
    "accuracy", "mean_rank", "mean_prob", "rmse", "rmse_all", "mae", "exact_match",
    "exact_match_without_pointer", "precision", "recall", "f1",
}  # fmt: skip


def _scores(slots: list[Slot], records: list[Slot]) -> Scores:
    def table(rows: list[Slot], columns: tuple[str, ...]) -> Tensor:
        return torch.tensor(rows, dtype=torch.float64).view(-1, len(columns))

    return Scores(table(slots, SLOT_COLUMNS), table(records, RECORD_COLUMNS))


def test_columns_are_those_of_the_rows_here() -> None:
    assert SLOT_COLUMNS == (
        "record", "position", "rank", "prob", "truth", "value", "value_without_pointer",
    )  # fmt: skip
    assert RECORD_COLUMNS[:4] == (
        "record", "true_positives", "false_positives", "false_negatives",
    )  # fmt: skip


def test_figures_of_rows_made_by_hand() -> None:
    result = figures(_scores(SLOTS, RECORDS))
    expected = {
        "accuracy": 2 / 4,
        "mean_rank": 13 / 4,
        "mean_prob": 1.8 / 4,
        "rmse": math.sqrt((0 + 9) / 2),  # of the two slots of rank 1
        "rmse_all": math.sqrt((0 + 16 + 9 + 0) / 4),
        "mae": 7 / 4,
        "exact_match": 2 / 4,
        "exact_match_without_pointer": 3 / 4,
        "precision": 3 / 5,
        "recall": 3 / 7,
        "f1": 2 * (3 / 5) * (3 / 7) / (3 / 5 + 3 / 7),
        "slots": 4,
        "texts": 3,
    }
    assert {name: result[name] for name in expected} == pytest.approx(expected, rel=1e-12)


def test_rmse_is_a_root_mean_square_and_not_a_mean_of_absolutes() -> None:
    slots = [(0, 1, 1, 1.0, 0.0, 1.0, 0.0), (0, 2, 1, 1.0, 0.0, 7.0, 0.0)]
    result = figures(_scores(slots, RECORDS[:1]))
    assert result["rmse"] == pytest.approx(5.0)
    assert result["mae"] == pytest.approx(4.0)


def test_a_large_and_a_tiny_value_keep_their_digits() -> None:
    slots = [(0, 1, 1, 1.0, 1e12, 1e12 + 1, 1e12), (0, 2, 1, 1.0, 1e-12, 2e-12, 1e-12)]
    result = figures(_scores(slots, RECORDS[:1]))
    assert result["mae"] == pytest.approx(0.5, rel=1e-9)
    assert result["exact_match"] == 0
    assert result["exact_match_without_pointer"] == 1


@pytest.mark.parametrize(
    ("record_ids", "texts", "slots", "mae", "recall"),
    [
        ([0], 1, 2, 2.0, 2 / 3),
        ({1, 2}, 2, 2, 1.5, 1 / 4),
        ((2, 0), 2, 3, 4 / 3, 2 / 6),
        ([1, 99], 1, 1, 3.0, 1.0),
        ([0, 1, 2], 3, 4, 7 / 4, 3 / 7),
    ],
)
def test_a_subset_by_ids(
    record_ids: list[int], texts: int, slots: int, mae: float, recall: float
) -> None:
    result = figures(_scores(SLOTS, RECORDS), record_ids)
    assert (result["texts"], result["slots"]) == (texts, slots)
    assert result["mae"] == pytest.approx(mae)
    assert result["recall"] == pytest.approx(recall)


@pytest.mark.parametrize("record_ids", [None, [], [5]])
@pytest.mark.parametrize("filled", [False, True])
def test_nothing_to_average_is_none(record_ids: list[int] | None, filled: bool) -> None:
    if filled and record_ids is None:
        record_ids = [7]
    result = figures(_scores(SLOTS, RECORDS) if filled else _scores([], []), record_ids)
    assert {name: result[name] for name in EMPTY} == dict.fromkeys(EMPTY)
    assert (result["slots"], result["texts"]) == (0, 0)


def test_a_slot_where_num_was_never_predicted_has_no_rmse() -> None:
    slots = [(0, 1, 2, 0.2, 5.0, 8.0, 5.0)]
    result = figures(_scores(slots, [(0, 0, 0, 1, 9)]))
    assert result["rmse"] is None
    assert result["rmse_all"] == pytest.approx(3.0)
    assert result["accuracy"] == 0
    assert result["precision"] is None
    assert result["recall"] == 0
    assert result["f1"] == 0


def test_a_text_without_slots_counts_for_precision() -> None:
    result = figures(_scores([], [(0, 0, 2, 0, 9)]))
    assert result["precision"] == 0
    assert result["recall"] is None
    assert result["mae"] is None
    assert (result["slots"], result["texts"]) == (0, 1)


def test_a_scorecard_gathers_batches() -> None:
    scorecard = Scorecard()
    scorecard.update(_scores(SLOTS[:2], RECORDS[:1]))
    scorecard.update(_scores(SLOTS[2:], RECORDS[1:]))
    assert scorecard.compute() == figures(_scores(SLOTS, RECORDS))
    scorecard.reset()
    scorecard.update(_scores(SLOTS[:2], RECORDS[:1]))
    assert scorecard.compute()["texts"] == 1


def test_a_record_seen_twice_counts_once() -> None:
    """A sampler over several processes repeats records to fill up; the first is kept."""
    scorecard = Scorecard()
    again = [(0, 4, 5, 0.2, 10.0, 99.0, 99.0), (0, 9, 1, 0.2, 20.0, 99.0, 99.0)]
    scorecard.update(_scores(SLOTS[2:], RECORDS[1:]))
    scorecard.update(_scores(SLOTS[:2], RECORDS[:1]))
    scorecard.update(_scores(again, [(0, 9, 9, 9, 20)]))
    scorecard.update(_scores(SLOTS[2:], RECORDS[1:]))
    assert scorecard.compute() == figures(_scores(SLOTS, RECORDS))


def test_rows_are_in_order_whatever_order_they_came_in() -> None:
    scorecard = Scorecard()
    for i in (3, 1, 0, 2):
        scorecard.update(_scores(SLOTS[i : i + 1], []))
    for i in (2, 0, 1):
        scorecard.update(_scores([], RECORDS[i : i + 1]))
    rows = scorecard.rows()
    assert rows.slots.tolist() == [list(map(float, row)) for row in SLOTS]
    assert rows.records.tolist() == [list(map(float, row)) for row in RECORDS]
    gathered = scorecard.gathered_rows()
    assert torch.equal(gathered.slots, rows.slots)
    assert torch.equal(gathered.records, rows.records)


def test_two_slots_of_one_record_are_two() -> None:
    scorecard = Scorecard()
    scorecard.update(_scores(SLOTS[:2], RECORDS[:1]))
    scorecard.update(_scores(SLOTS[1:2], RECORDS[:1]))
    assert len(scorecard.rows().slots) == 2
    assert len(scorecard.rows().records) == 1


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_an_empty_scorecard_has_no_figures() -> None:
    result = Scorecard().compute()
    assert {name: result[name] for name in EMPTY} == dict.fromkeys(EMPTY)
    assert result["texts"] == 0


def test_a_copy_is_printed_as_it_is_and_a_new_value_as_its_digits() -> None:
    copied = 12.3456789012345678
    mixture = ValueMixture(
        atoms=torch.tensor([[copied], [1.0], [1.0]], dtype=torch.float64),
        weights=torch.tensor([[0.9], [0.1], [0.1]], dtype=torch.float64),
        loc=torch.tensor([5.0, 42.5000003, 17.34], dtype=torch.float64),
        scale=torch.tensor([1.0, 1e-5, 0.5], dtype=torch.float64),
    )
    value = printed_values(mixture).tolist()
    assert value[0] == copied
    # the medians lie a little below the locations, for a tenth of the mass is copied from below
    assert value[1:] == [42.5, 17.0]
