"""What a model is held against: questions of a text, figures of plain answers, who beats whom."""

import math

import pytest

from numlm.floors import Question, beats, point_figures, questions

TEXT = "On 2025-06-08 Anna had 3 points, Ben 4.5. In short, Anna has 3"


def test_questions_of_a_text() -> None:
    assert questions(TEXT, (2,), record=4) == [
        Question(4, "On 2025-06-08 Anna had 3 points, Ben 4.5. In short, Anna has ", 3.0, 4.5)
    ]


def test_the_first_number_has_none_before_it_and_answers_come_in_order() -> None:
    first, last = questions(TEXT, (2, 0), record=0)
    assert (first.truth, first.last_number) == (3.0, None)
    assert first.prompt == "On 2025-06-08 Anna had "
    assert (last.truth, last.last_number) == (3.0, 4.5)
    assert questions("no number", (), record=0) == []


def test_point_figures_by_hand() -> None:
    found = point_figures([1.0, 5.0, None, 4.0], [1.0, 2.0, 7.0, 8.0])
    assert found == {
        "rmse_all": pytest.approx(5 / math.sqrt(3)),  # errors 0, 3, -4
        "mae": pytest.approx(7 / 3),
        "median_relative_error": pytest.approx(0.5),  # of 0, 1.5, 0.5
        "exact_match": 0.25,
        "answered": 0.75,
        "slots": 4,
    }


@pytest.mark.parametrize("answers", [[], [None, None]])
def test_nothing_to_average_is_none(answers: list[float | None]) -> None:
    found = point_figures(answers, [1.0] * len(answers))
    assert found["rmse_all"] is found["mae"] is found["median_relative_error"] is None
    assert found["answered"] == (0 if answers else None)


def test_errors_beyond_float64_are_none_and_large_ones_are_not() -> None:
    assert point_figures([1e200, 0.0], [-1e200, 0.0])["rmse_all"] == pytest.approx(
        2e200 / math.sqrt(2)
    )
    assert point_figures([1.7e308], [-1.7e308])["rmse_all"] is None
    assert point_figures([1.0], [0.0])["median_relative_error"] is None


@pytest.mark.parametrize(
    ("tuned", "floor", "expected"),
    [(1.0, 2.0, True), (2.0, 1.0, False), (1.0, 1.0, False), (0.0, 0.0, True), (0.1, 0.0, False),
     (None, 1.0, None), (1.0, None, None)],
)  # fmt: skip
def test_beats(tuned: float | None, floor: float | None, expected: bool | None) -> None:
    assert beats(tuned, floor) is expected
