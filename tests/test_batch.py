"""Collating: shapes, padding, labels, and values that survive every precision."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from numlm import clock
from numlm.batch import IGNORE, Batch, Record, collate, positions_of, take_positions

NUM, PAD = 9, 5


def _record(ids: list[int], values: list[float], answers: tuple[int, ...], i: int) -> Record:
    return Record(ids, values, answers, i)


@pytest.fixture
def batch() -> Batch:
    """Three texts of 5, 2 and 3 tokens; the second without a number, the third begins with one."""
    return collate(
        [
            _record([1, NUM, 2, NUM, 3], [42.5, -1e-5], (1,), 7),
            _record([4, PAD], [], (), 8),
            _record([NUM, NUM, NUM], [0.0, 12345.678, 1e300], (0, 2), 3),
        ],
        NUM,
        PAD,
    )


def test_ids_mask_and_labels(batch: Batch) -> None:
    assert batch.input_ids.tolist() == [[1, 9, 2, 9, 3], [4, 5, 5, 5, 5], [9, 9, 9, 5, 5]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]]
    no = IGNORE
    assert batch.labels.tolist() == [[1, 9, 2, 9, 3], [4, 5, no, no, no], [9, 9, 9, no, no]]
    assert batch.record_ids.tolist() == [7, 8, 3]
    dtypes = {batch.input_ids.dtype, batch.labels.dtype, batch.record_ids.dtype}
    assert dtypes == {torch.int64}
    assert torch.nn.CrossEntropyLoss().ignore_index == IGNORE


def test_values_stand_at_num(batch: Batch) -> None:
    assert batch.number_values.dtype == torch.float64
    assert batch.number_values.tolist() == [
        [0, 42.5, 0, -1e-5, 0],
        [0, 0, 0, 0, 0],
        [0, 12345.678, 1e300, 0, 0],
    ]


def test_asked_are_the_answers(batch: Batch) -> None:
    assert batch.asked.int().tolist() == [[0, 0, 0, 1, 0], [0, 0, 0, 0, 0], [1, 0, 1, 0, 0]]


def test_features_stand_at_num_and_only_there(batch: Batch) -> None:
    assert batch.number_features.dtype == torch.float32
    expected = torch.zeros(3, 5, clock.FEATURES)
    for row, column, value in [
        (0, 1, 42.5), (0, 3, -1e-5), (2, 0, 0.0), (2, 1, 12345.678), (2, 2, 1e300),
    ]:  # fmt: skip
        expected[row, column] = clock.encode(torch.tensor(value, dtype=torch.float64))
    assert torch.equal(batch.number_features, expected)
    assert batch.number_features[2, 0, clock.IS_ZERO] == 1, "a zero is a number too"


def test_values_survive_a_cast_of_all_floats(batch: Batch) -> None:
    """What the trainer's `bf16-true` does to a batch."""
    assert torch.tensor(12345.678, dtype=torch.float64).bfloat16() == 12352
    cast = Batch(*(t.bfloat16() if t.is_floating_point() else t for t in batch))
    assert cast.number_features.dtype == torch.bfloat16
    assert torch.equal(cast.number_values, batch.number_values)
    assert cast.number_values[2, 1].item() == 12345.678


def test_padding_that_is_num_is_no_number() -> None:
    records = [_record([NUM, 1, 1], [3.0], (), 0), _record([1], [], (), 1)]
    batch = collate(records, NUM, pad_token_id=NUM)
    assert batch.number_values.tolist() == [[3, 0, 0], [0, 0, 0]]
    assert batch.number_features.abs().sum(-1).bool().tolist() == [[1, 0, 0], [0, 0, 0]]
    assert batch.labels[1].tolist() == [1, IGNORE, IGNORE]


def test_an_empty_text_is_a_row_of_padding() -> None:
    batch = collate([_record([1, 2], [], (), 0), _record([], [], (), 1)], NUM, PAD)
    assert batch.input_ids.tolist() == [[1, 2], [PAD, PAD]]
    assert batch.attention_mask.tolist() == [[1, 1], [0, 0]]
    assert batch.labels.tolist() == [[1, 2], [IGNORE, IGNORE]]


def test_nothing_cannot_be_collated() -> None:
    with pytest.raises(ValueError, match="at least one text"):
        collate([], NUM, PAD)


@given(st.integers(1, 8).flatmap(lambda n: st.lists(
    st.lists(st.booleans(), min_size=n, max_size=n), min_size=1, max_size=4,
)))  # fmt: skip
@settings(max_examples=80, deadline=None, derandomize=True, database=None)
def test_positions_are_where_the_mask_is_true(rows: list[list[bool]]) -> None:
    positions, valid = positions_of(torch.tensor(rows))
    expected = [[t for t, true in enumerate(row) if true] for row in rows]
    width = max(1, *(len(row) for row in expected), 1)
    assert positions.shape == valid.shape == (len(rows), width)
    assert positions.tolist() == [row + [0] * (width - len(row)) for row in expected]
    assert valid.tolist() == [[k < len(row) for k in range(width)] for row in expected]


def test_take_positions() -> None:
    table = torch.arange(2 * 4 * 3).view(2, 4, 3)
    positions = torch.tensor([[3, 0], [1, 1]])
    taken = take_positions(table, positions)
    assert taken.tolist() == [
        [[9, 10, 11], [0, 1, 2]],
        [[15, 16, 17], [15, 16, 17]],
    ]
    assert take_positions(table[..., 0], positions).tolist() == [[9, 0], [15, 15]]


def test_taking_passes_gradients_back() -> None:
    table = torch.zeros(1, 3, requires_grad=True)
    take_positions(table, torch.tensor([[2, 2, 0]])).sum().backward()
    assert table.grad is not None
    assert table.grad.tolist() == [[1, 0, 2]]
