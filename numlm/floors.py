"""What a model is held against: answers that need no training, as figures of their own.

An error means nothing alone. Beside it stand the best constant, the last number of the text
copied, and what the plain language model writes in digits; where noise hides the truth, the best
possible answer too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from numlm.metrics import error_estimates, finite
from numlm.parsing import find_numbers


@dataclass(frozen=True, slots=True)
class Question:
    """A number that is asked for.

    Attributes:
        record: Which text it stands in.
        prompt: The text before it.
        truth: Its value.
        last_number: The value of the number before it, None where there is none.
    """

    record: int
    prompt: str
    truth: float
    last_number: float | None


def questions(text: str, answers: Sequence[int], record: int) -> list[Question]:
    """The numbers of a text that are asked for, in order.

    >>> questions("From 3 to 5", answers=(1,), record=7)
    [Question(record=7, prompt='From 3 to ', truth=5.0, last_number=3.0)]
    """
    found = list(find_numbers(text))
    return [
        Question(
            record,
            text[: found[index][0]],
            found[index][2].value,
            found[index - 1][2].value if index else None,
        )
        for index in sorted(answers)
    ]


def point_figures(answers: Sequence[float | None], truths: Sequence[float]) -> dict[str, Any]:
    """Figures of answers that are single numbers.

    Args:
        answers: One for every truth; None where there is none, which no error counts, but
            `answered` and `exact_match` do.
        truths: The true values.

    Returns:
        rmse_all, mae, median_relative_error, exact_match, answered (shares in [0, 1]), slots;
        None where there is nothing to average.

    >>> point_figures([4.0, None], [1.0, 2.0])["mae"]
    3.0
    """
    given = [(a, t) for a, t in zip(answers, truths, strict=True) if a is not None]
    answer, truth = torch.tensor(given, dtype=torch.float64).view(-1, 2).unbind(-1)
    errors = error_estimates(answer - truth, truth, torch.ones(1, len(given), dtype=torch.float64))
    count = len(truths)
    return {
        **{name: finite(value.item()) for name, value in errors.items()},
        "exact_match": sum(a == t for a, t in given) / count if count else None,
        "answered": len(given) / count if count else None,
        "slots": count,
    }


def beats(tuned: float | None, floor: float | None) -> bool | None:
    """Whether a root mean square error is below a floor's; zero against zero cannot be below.

    Returns:
        None where one of them has no error.
    """
    if tuned is None or floor is None:
        return None
    return tuned < floor or tuned == floor == 0
