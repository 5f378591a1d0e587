"""The scorecard: rows made by hand with known figures, each record counted once; the bootstrap."""

import json
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from numlm.distributions import ValueMixture
from numlm.metrics import (
    Scorecard,
    agreement,
    bootstrap_intervals,
    column,
    error_estimates,
    figures,
    figures_by_magnitude,
    percentile_interval,
    take_records,
)
from numlm.scoring import COLUMNS, Scores

Row = dict[str, float]

SLOT: Row = {
    "position": 4, "rank": 1, "prob": 0.5, "truth": 1.0, "median": 1.0, "printed": 1.0,
    "printed_without_pointer": 1.0, "source": -1, "low": 0.0, "high": 2.0, "level": 0.1,
    "calibrated_level": 0.2, "crps": 0.0,
}  # fmt: skip
RECORD: Row = {
    "true_positives": 0, "false_positives": 0, "false_negatives": 0, "positions": 10,
    "plain_nll": 0.0, "plain_tokens": 0,
}  # fmt: skip


def _table(rows: Sequence[Row], columns: tuple[str, ...]) -> Tensor:
    assert all(set(row) == set(columns) for row in rows)
    table = [[row[name] for name in columns] for row in rows]
    return torch.tensor(table, dtype=torch.float64).view(-1, len(columns))


def _scores(
    slots: Sequence[Row] = (),
    records: Sequence[Row] = (),
    plain: Sequence[Row] = (),
    mistakes: Sequence[Row] = (),
) -> Scores:
    """Rows; what is not given of a slot or a record is as in SLOT and RECORD."""
    return Scores(
        slots=_table([SLOT | row for row in slots], COLUMNS.slots),
        records=_table([RECORD | row for row in records], COLUMNS.records),
        mistakes=_table(mistakes, COLUMNS.mistakes),
        plain=_table(plain, COLUMNS.plain),
    )


# fmt: off
SLOTS: list[Row] = [
    {"record": 0, "position": 4, "rank": 1, "prob": 0.9, "truth": 10.0, "median": 10.0,
     "printed": 10.0, "printed_without_pointer": 11.0, "source": 0, "level": 0.0,
     "calibrated_level": 0.0, "crps": 0.25},
    {"record": 0, "position": 9, "rank": 3, "prob": 0.1, "truth": 20.0, "median": 24.0,
     "printed": 24.0, "printed_without_pointer": 20.0, "level": 0.7, "calibrated_level": 0.49,
     "crps": 3.0},
    {"record": 1, "position": 4, "rank": 1, "prob": 0.5, "truth": -5.0, "median": -8.0,
     "printed": -8.0, "printed_without_pointer": -5.0, "level": 0.9, "calibrated_level": 0.85,
     "crps": 2.0},
    {"record": 2, "position": 7, "rank": 8, "prob": 0.3, "truth": 0.5, "median": 0.5001,
     "printed": 0.5, "printed_without_pointer": 0.5, "level": 0.97, "calibrated_level": 0.99,
     "crps": 0.75},
]
RECORDS: list[Row] = [
    {"record": 0, "true_positives": 2, "false_positives": 1, "false_negatives": 1, "positions": 20},
    {"record": 1, "true_positives": 1, "positions": 10},
    {"record": 2, "false_positives": 1, "false_negatives": 3, "positions": 30},
    {"record": 3, "positions": 5, "plain_nll": 6.0, "plain_tokens": 5},
    {"record": 5, "false_positives": 2, "positions": 15, "plain_nll": 19.0, "plain_tokens": 15},
]
PLAIN: list[Row] = [
    *({"record": 3, "position": i, "said": 50 + i} for i in range(5)),
    *({"record": 5, "position": i, "said": 80} for i in range(15)),
]
MISTAKES: list[Row] = [
    {"record": 0, "position": 2, "said": 99, "right": 7},
    {"record": 0, "position": 9, "said": 7, "right": 99},
]
# fmt: on
OF_SLOTS = {
    "accuracy",
    "mean_rank",
    "mean_prob",
    "rmse",
    "rmse_all",
    "mae",
    "median_relative_error",
    "exact_match",
    "exact_match_without_pointer",
    "coverage_50",
    "coverage_80",
    "coverage_95",
    "calibrated_coverage_50",
    "calibrated_coverage_80",
    "calibrated_coverage_95",
    "crps",
}  # fmt: skip
OF_RECORDS = {"precision", "recall", "f1", "false_positive_rate", "perplexity"}
COUNTS = {"slots", "texts", "positions"}


def _all() -> Scores:
    return _scores(SLOTS, RECORDS, PLAIN, MISTAKES)


def _same(one: Scores, other: Scores) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_every_figure_of_rows_made_by_hand() -> None:
    result = figures(_all())
    expected = {
        "accuracy": 2 / 4,
        "mean_rank": 13 / 4,
        "mean_prob": 1.8 / 4,
        "rmse": math.sqrt((0 + 9) / 2),  # of the two slots of rank 1
        "rmse_all": math.sqrt((0 + 16 + 9 + 1e-8) / 4),
        "mae": 7.0001 / 4,
        "median_relative_error": 0.0002,  # of 0, 0.0002, 0.2 and 0.6: the lower of the middle two
        "exact_match": 2 / 4,
        "exact_match_without_pointer": 3 / 4,
        "coverage_50": 1 / 4,
        "coverage_80": 2 / 4,
        "coverage_95": 3 / 4,
        "calibrated_coverage_50": 2 / 4,
        "calibrated_coverage_80": 2 / 4,
        "calibrated_coverage_95": 3 / 4,
        "crps": 6 / 4,
        "precision": 3 / 7,
        "recall": 3 / 7,
        "f1": 3 / 7,
        "false_positive_rate": 4 / (80 - 7),
        "perplexity": math.exp(25 / 20),
        "slots": 4,
        "texts": 5,
        "positions": 80,
    }
    assert result == pytest.approx(expected, rel=1e-9)
    assert set(expected) == OF_SLOTS | OF_RECORDS | COUNTS


def test_f1_is_the_harmonic_mean() -> None:
    records = [{"record": 0, "true_positives": 6, "false_positives": 2, "false_negatives": 4}]
    result = figures(_scores([], records))
    assert (result["precision"], result["recall"]) == (6 / 8, 6 / 10)
    assert result["f1"] == pytest.approx(2 * 0.75 * 0.6 / 1.35)


def test_columns_are_taken_by_name() -> None:
    scores = _all()
    assert column(scores, "slots", "truth").tolist() == [10.0, 20.0, -5.0, 0.5]
    assert column(scores, "records", "positions").tolist() == [20, 10, 30, 5, 15]
    assert column(scores, "mistakes", "right").tolist() == [7, 99]
    assert column(scores, "plain", "said")[:6].tolist() == [50, 51, 52, 53, 54, 80]


def test_rmse_is_a_root_mean_square_and_not_a_mean_of_absolutes() -> None:
    slots = [
        {"record": 0, "position": 1, "truth": 0.0, "median": 1.0},
        {"record": 0, "position": 2, "truth": 0.0, "median": 7.0},
    ]
    result = figures(_scores(slots, RECORDS[:1]))
    assert result["rmse"] == pytest.approx(5.0)
    assert result["mae"] == pytest.approx(4.0)


def test_rmse_alone_is_of_the_slots_where_num_was_said() -> None:
    slots = [
        {"record": 0, "position": 1, "rank": 2, "truth": 0.0, "median": 7.0},
        {"record": 0, "position": 2, "rank": 1, "truth": 0.0, "median": 1.0},
    ]
    result = figures(_scores(slots, RECORDS[:1]))
    assert (result["rmse"], result["rmse_all"]) == (1.0, 5.0)


def test_a_large_and_a_tiny_value_keep_their_digits() -> None:
    slots = [
        {"record": 0, "position": i, "truth": truth, "median": median, "printed": median,
         "printed_without_pointer": truth}
        for i, (truth, median) in enumerate([(1e12, 1e12 + 1), (1e-12, 2e-12)])
    ]  # fmt: skip
    result = figures(_scores(slots, RECORDS[:1]))
    assert result["mae"] == pytest.approx(0.5, rel=1e-9)
    assert result["exact_match"] == 0
    assert result["exact_match_without_pointer"] == 1
    tiny = figures(_scores(slots[1:], RECORDS[:1]))
    assert [tiny["mae"], tiny["rmse"]] == pytest.approx([1e-12, 1e-12], rel=1e-9)
    assert tiny["median_relative_error"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("errors", "mae", "rmse"),
    [
        ([1e200, 0.0], 5e199, 1e200 / math.sqrt(2)),
        ([1e308, 1e308], 1e308, 1e308),
        ([1e308, -1e308, 1e308, 1e308], 1e308, 1e308),
        ([1e-200, 0.0], 5e-201, 1e-200 / math.sqrt(2)),
        ([0.0, 0.0], 0.0, 0.0),
    ],
)
def test_squares_do_not_leave_float64(errors: list[float], mae: float, rmse: float) -> None:
    error = torch.tensor(errors, dtype=torch.float64)
    ones = torch.ones(1, len(errors), dtype=torch.float64)
    result = error_estimates(error, torch.ones_like(error), ones)
    assert result["mae"].item() == pytest.approx(mae, rel=1e-12, abs=0)
    assert result["rmse_all"].item() == pytest.approx(rmse, rel=1e-12, abs=0)


@pytest.mark.parametrize("size", [1e200, 1.7e308])
def test_monstrous_answers_leave_json_without_nan(size: float) -> None:
    """An error of 3.4e308 is beyond float64: then there is no figure, and no exception."""
    slots = [
        {"record": 0, "position": 1, "truth": -size, "median": size, "crps": math.inf},
        {"record": 0, "position": 2, "truth": 1e-300, "median": size, "crps": size},
        {"record": 1, "position": 2, "truth": 0.0, "median": 0.0},
    ]
    scores = _scores(slots, RECORDS[:2])
    whole, intervals = figures(scores), bootstrap_intervals(scores, resamples=50)
    json.loads(json.dumps([whole, intervals], allow_nan=False))
    assert whole["crps"] is None
    if size == 1e200:
        assert whole["mae"] == pytest.approx(1e200)
        assert whole["rmse"] == pytest.approx(1e200 * math.sqrt(5 / 3))
        assert whole["median_relative_error"] == pytest.approx(2.0)
    else:
        assert (whole["mae"], whole["rmse"]) == (None, None)
    assert whole["accuracy"] == 1


@pytest.mark.parametrize(
    ("pairs", "median"),
    [
        ([(0.0, 0.0)], 0.0),
        ([(0.0, 1.0)], None),  # infinite
        ([(0.0, 0.0), (2.0, 3.0)], 0.0),
        ([(0.0, 5.0), (2.0, 3.0), (4.0, 4.0)], 0.5),
        ([(-2.0, 2.0), (1.0, 2.0), (8.0, 6.0)], 1.0),
    ],
)
def test_the_median_relative_error(pairs: list[tuple[float, float]], median: float | None) -> None:
    slots = [
        {"record": 0, "position": i, "truth": truth, "median": answer}
        for i, (truth, answer) in enumerate(pairs)
    ]
    result = figures(_scores(slots, RECORDS[:1]))["median_relative_error"]
    assert result is None if median is None else result == pytest.approx(median)


@pytest.mark.parametrize(
    ("record_ids", "texts", "slots", "mae", "recall"),
    [
        ([0], 1, 2, 2.0, 2 / 3),
        ({1, 2}, 2, 2, 3.0001 / 2, 1 / 4),
        ((2, 0), 2, 3, 4.0001 / 3, 2 / 6),
        ([1, 99], 1, 1, 3.0, 1.0),
        ([0, 1, 2, 3, 5], 5, 4, 7.0001 / 4, 3 / 7),
    ],
)
def test_a_subset_by_ids(
    record_ids: list[int], texts: int, slots: int, mae: float, recall: float
) -> None:
    result = figures(take_records(_all(), record_ids))
    assert (result["texts"], result["slots"]) == (texts, slots)
    assert result["mae"] == pytest.approx(mae)
    assert result["recall"] == pytest.approx(recall)


def test_a_subset_takes_the_rows_of_every_table() -> None:
    taken = take_records(_all(), {0, 3})
    assert [len(rows) for rows in taken] == [2, 2, 2, 5]
    assert all(set(rows[:, 0].tolist()) <= {0.0, 3.0} for rows in taken)
    assert _same(take_records(_all(), range(6)), _all())


@pytest.mark.parametrize(
    "scores", [_scores(), take_records(_all(), []), take_records(_all(), [7])]
)
def test_nothing_to_average_is_none(scores: Scores) -> None:
    result = figures(scores)
    assert {name: result[name] for name in result if name not in COUNTS} == dict.fromkeys(
        OF_SLOTS | OF_RECORDS
    )
    assert [result[name] for name in ("slots", "texts", "positions")] == [0, 0, 0]
    intervals = bootstrap_intervals(scores, resamples=10)
    assert intervals == dict.fromkeys(OF_SLOTS | OF_RECORDS)


def test_a_slot_where_num_was_never_predicted_has_no_rmse() -> None:
    slots = [{"record": 0, "rank": 2, "truth": 5.0, "median": 8.0}]
    result = figures(_scores(slots, [{"record": 0, "false_negatives": 1}]))
    assert result["rmse"] is None
    assert result["rmse_all"] == pytest.approx(3.0)
    assert result["accuracy"] == 0
    assert result["precision"] is None
    assert result["recall"] == 0
    assert result["f1"] == 0
    assert result["perplexity"] is None


def test_texts_without_a_number_have_a_rate_of_false_positives_and_no_recall() -> None:
    result = figures(take_records(_all(), [3, 5]))
    assert result["precision"] == 0
    assert result["recall"] is None
    assert result["f1"] == 0
    assert result["false_positive_rate"] == 2 / 20
    assert result["mae"] is None
    assert (result["slots"], result["texts"]) == (0, 2)


def test_numbers_only_have_a_recall_and_no_rate_of_false_positives() -> None:
    records = [{"record": 0, "true_positives": 3, "false_negatives": 1, "positions": 4}]
    result = figures(_scores([], records))
    assert (result["precision"], result["recall"]) == (1, 0.75)
    assert result["f1"] == pytest.approx(6 / 7)
    assert result["false_positive_rate"] is None


def test_perplexity_is_of_tokens_and_not_a_mean_over_texts() -> None:
    assert figures(take_records(_all(), [3]))["perplexity"] == pytest.approx(math.exp(6 / 5))
    uniform = [
        {"record": i, "plain_nll": tokens * math.log(300), "plain_tokens": tokens}
        for i, tokens in enumerate((3, 90))
    ]
    assert figures(_scores([], uniform))["perplexity"] == pytest.approx(300)


def test_errors_by_magnitude() -> None:
    truths = [0.0, 0.0, 5e-7, -1e-6, 0.99, 1.0, -9.99, 10.0, 1e6, 1e300]
    slots = [
        {"record": 0, "position": i, "truth": truth, "median": truth + 0.25, "printed": truth}
        for i, truth in enumerate(truths)
    ]
    slots[5] |= {"median": 4.0, "printed": 4.0}
    table = figures_by_magnitude(_scores(slots, RECORDS[:1]))
    ranges = [(row["from"], row["to"], row["slots"]) for row in table]
    assert ranges == [
        (0.0, 0.0, 2), (None, 1e-6, 1), (1e-6, 1e-5, 1), (0.1, 1.0, 1), (1.0, 10.0, 2),
        (10.0, 100.0, 1), (1e6, None, 2),
    ]  # fmt: skip
    assert [row["exact_match"] for row in table] == [1, 1, 1, 1, 0.5, 1, 1]
    assert table[4]["rmse_all"] == pytest.approx(math.sqrt((9 + 0.0625) / 2))
    assert table[4]["median_relative_error"] == pytest.approx(0.25 / 9.99)
    assert table[0]["median_relative_error"] is None
    assert figures_by_magnitude(_scores([], RECORDS)) == []


def test_agreement_is_the_share_of_equal_tokens() -> None:
    before = _scores([], RECORDS, PLAIN)
    after = [row | {"said": 1} if row["record"] == 3 else row for row in PLAIN]
    assert agreement(before, before) == 1
    assert agreement(before, _scores([], RECORDS, after)) == 15 / 20
    assert agreement(_scores(SLOTS, RECORDS), _scores(SLOTS, RECORDS)) is None


@pytest.mark.parametrize(
    "other", [PLAIN[1:], [], [PLAIN[0] | {"position": 9}, *PLAIN[1:]], PLAIN[5:] + PLAIN[:5]]
)
def test_agreement_of_other_texts_is_refused(other: list[Row]) -> None:
    with pytest.raises(ValueError, match="needs the same texts before and after"):
        agreement(_scores([], RECORDS, PLAIN), _scores([], RECORDS, other))


def _texts(errors: Tensor, slots_per_text: int = 1) -> Scores:
    """Texts with some slots each, whose answers are off by the errors (texts,)."""
    slots = [
        {
            "record": i,
            "position": j,
            "rank": 1 if error > 0 else 2,
            "truth": 0.0,
            "median": error,
            "prob": error,
        }
        for i, error in enumerate(errors.tolist())
        for j in range(slots_per_text)
    ]
    return _scores(slots, [{"record": i} for i in range(len(errors))])


def _normal(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_bootstrap_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    values = 3 + 2 * _normal(400)
    interval = bootstrap_intervals(_texts(values), resamples=4000)["mean_prob"]
    assert interval is not None
    half = 1.96 * values.std(correction=0).item() / math.sqrt(400)
    expected = [values.mean().item() - half, values.mean().item() + half]
    assert interval == pytest.approx(expected, abs=0.08 * half)
    narrow = bootstrap_intervals(_texts(values), resamples=4000, level=0.5)["mean_prob"]
    assert narrow is not None
    assert (narrow[1] - narrow[0]) / (interval[1] - interval[0]) == pytest.approx(
        0.6745 / 1.96, rel=0.1
    )


def test_the_bootstrap_interval_of_a_proportion() -> None:
    said = torch.tensor([1.0] * 60 + [-1.0] * 240)
    interval = bootstrap_intervals(_texts(said), resamples=4000)["accuracy"]
    assert interval is not None
    half = 1.96 * math.sqrt(0.2 * 0.8 / 300)
    assert interval == pytest.approx([0.2 - half, 0.2 + half], abs=0.005)


def test_what_is_drawn_again_is_texts() -> None:
    """Several slots of one text move together, so that more of them tell no more."""
    values = _normal(100)
    once = bootstrap_intervals(_texts(values), resamples=300)
    nine = bootstrap_intervals(_texts(values, slots_per_text=9), resamples=300)
    for name in ("mean_prob", "rmse_all", "mae", "accuracy"):
        assert nine[name] == pytest.approx(once[name], rel=1e-9)


def test_the_bootstrap_is_the_same_for_the_same_seed() -> None:
    scores = _texts(_normal(50))
    assert bootstrap_intervals(scores, 100, seed=3) == bootstrap_intervals(scores, 100, seed=3)
    one, other = (bootstrap_intervals(scores, 100, seed=seed)["mae"] for seed in (3, 4))
    assert one != other


def test_what_never_changes_has_an_interval_of_no_width() -> None:
    intervals = bootstrap_intervals(_texts(torch.full((30,), 2.5)), resamples=50)
    assert intervals["mean_prob"] == pytest.approx([2.5, 2.5])
    assert intervals["rmse"] == pytest.approx([2.5, 2.5])
    assert intervals["accuracy"] == [1, 1]


def _drawn_again(scores: Scores, draw: list[int]) -> Scores:
    """The rows of the drawn texts, each draw as a text of its own."""
    slots, records = [], []
    for new, old in enumerate(draw):
        rows = scores.slots[scores.slots[:, 0] == scores.records[old, 0]].clone()
        rows[:, 0] = new
        record = scores.records[old].clone()
        record[0] = new
        slots.append(rows)
        records.append(record)
    return scores._replace(slots=torch.cat(slots), records=torch.stack(records))


def test_the_bootstrap_is_that_of_a_loop_over_the_same_draws() -> None:
    """Every figure, over texts with different numbers of slots, some of them never said."""
    generator = torch.Generator().manual_seed(5)
    count, resamples = 12, 60

    def rand() -> float:
        return torch.rand((), generator=generator, dtype=torch.float64).item()

    def level() -> float:
        return (0.3, 0.6, 0.9, 0.97)[int(4 * rand())]

    slots = [
        {"record": 3 * i, "position": j, "rank": 1 + int(2 * rand()), "prob": rand(),
         "truth": 10 * rand() + 1, "median": 10 * rand(), "printed": 1.0 + int(2 * rand()),
         "printed_without_pointer": 1.0, "level": level(),
         "calibrated_level": level(), "crps": rand()}
        for i in range(count) for j in range(i % 4)
    ]  # fmt: skip
    for row in slots:
        row["truth"] = 1.0 if rand() < 0.5 else row["truth"]
    records = [
        {"record": 3 * i, "true_positives": i % 3, "false_positives": (i + 1) % 2,
         "false_negatives": i % 2, "positions": 10 + i, "plain_nll": 5 * rand() * (i % 4 == 0),
         "plain_tokens": 3 * (i % 4 == 0)}
        for i in range(count)
    ]  # fmt: skip
    scores = _scores(slots, records)
    draws = torch.randint(
        count, (resamples, count), generator=torch.Generator().manual_seed(11)
    ).tolist()
    direct = [figures(_drawn_again(scores, draw)) for draw in draws]
    intervals = bootstrap_intervals(scores, resamples, seed=11, level=0.8)
    assert set(intervals) == OF_SLOTS | OF_RECORDS
    for name, interval in intervals.items():
        known = [result[name] for result in direct if result[name] is not None]
        ends = torch.tensor([0.1, 0.9], dtype=torch.float64)
        expected = torch.tensor(known, dtype=torch.float64).quantile(ends).tolist()
        assert interval == pytest.approx(expected, rel=1e-9), name
        assert expected[0] < expected[1], name


def test_an_interval_leaves_out_resamples_without_a_figure() -> None:
    estimates = torch.tensor([math.nan, 1.0, 2.0, 3.0, math.inf])
    assert percentile_interval(estimates, 0.5) == pytest.approx([1.5, 2.5])
    assert percentile_interval(torch.tensor([math.nan, math.inf]), 0.5) is None
    assert percentile_interval(torch.zeros(0), 0.5) is None


def test_a_scorecard_gathers_batches() -> None:
    scorecard = Scorecard()
    scorecard.update(_scores(SLOTS[:2], RECORDS[:1], [], MISTAKES))
    scorecard.update(_scores(SLOTS[2:], RECORDS[1:], PLAIN))
    assert scorecard.compute() == figures(_all())
    assert _same(scorecard.rows(), _all())
    scorecard.reset()
    scorecard.update(_scores(SLOTS[:2], RECORDS[:1]))
    assert scorecard.compute()["texts"] == 1


def test_a_record_seen_twice_counts_once() -> None:
    """A sampler over several processes repeats records to fill up; the first is kept."""
    scorecard = Scorecard()
    again = [SLOTS[0] | {"rank": 5, "median": 99.0}, SLOTS[1] | {"rank": 1, "median": 99.0}]
    scorecard.update(_scores(SLOTS[2:], RECORDS[1:], PLAIN))
    scorecard.update(_scores(SLOTS[:2], RECORDS[:1], [], MISTAKES))
    scorecard.update(_scores(again, [RECORDS[0] | {"true_positives": 9}], [], MISTAKES))
    scorecard.update(_scores(SLOTS[2:], RECORDS[1:], PLAIN))
    assert _same(scorecard.rows(), _all())
    assert scorecard.compute() == figures(_all())


def test_rows_are_in_order_whatever_order_they_came_in() -> None:
    scorecard = Scorecard()
    for i in (3, 1, 0, 2):
        scorecard.update(_scores(SLOTS[i : i + 1], []))
    for i in (2, 4, 0, 1, 3):
        scorecard.update(_scores([], RECORDS[i : i + 1]))
    scorecard.update(_scores([], [], PLAIN[::-1], MISTAKES[::-1]))
    assert _same(scorecard.rows(), _all())
    assert _same(scorecard.gathered_rows(), _all())


def test_two_slots_of_one_record_are_two() -> None:
    scorecard = Scorecard()
    scorecard.update(_scores(SLOTS[:2], RECORDS[:1]))
    scorecard.update(_scores(SLOTS[1:2], RECORDS[:1]))
    assert len(scorecard.rows().slots) == 2
    assert len(scorecard.rows().records) == 1


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_an_empty_scorecard_has_no_figures() -> None:
    result = Scorecard().compute()
    assert {name for name in result if result[name] is None} == OF_SLOTS | OF_RECORDS
    assert result["texts"] == 0


def test_a_copy_is_printed_as_it_is_and_a_new_value_as_its_digits() -> None:
    copied = 12.3456789012345678
    mixture = ValueMixture(
        atoms=torch.tensor([[copied], [1.0], [1.0]], dtype=torch.float64),
        weights=torch.tensor([[0.9], [0.1], [0.1]], dtype=torch.float64),
        loc=torch.tensor([5.0, 42.5000003, 17.34], dtype=torch.float64),
        scale=torch.tensor([1.0, 1e-5, 0.5], dtype=torch.float64),
    )
    value = mixture.printed().tolist()
    assert value[0] == copied
    # the medians lie a little below the locations, for a tenth of the mass is copied from below
    assert value[1:] == [42.5, 17.0]
