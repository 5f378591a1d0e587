"""One example: a text, and which of its numbers follow from the text before them."""

import re
from dataclasses import dataclass

from datamodules.templates import Wording
from datamodules.vocabulary import Language


@dataclass(frozen=True, slots=True)
class Example:
    """A text whose numbers are written as people write them.

    Attributes:
        text: The whole text.
        answers: Which of the text's numbers are asked for, as indices into its numbers from left
            to right.
        language: Language of the text.
        wording: Whether all of its sentences were made from templates that the training text uses.
        distractors: Whether something stands in it that looks like a number that is asked for
            (a date, time, version, address, model name, year).
        best: The best possible answer to the last number, where noise hides the true one.
        noise: Standard deviation of that noise.
    """

    text: str
    answers: tuple[int, ...]
    language: Language
    wording: Wording = Wording.SEEN
    distractors: bool = False
    best: float | None = None
    noise: float | None = None


_SENTENCE_END = re.compile(r"(?<=[.?])\s+|(?<=[。？])")


def sentences(text: str) -> list[str]:
    """The sentences of a text, without the space around them.

    >>> sentences("It is 4.5 V. So it is 4.5")
    ['It is 4.5 V.', 'So it is 4.5']
    """
    return [part for part in _SENTENCE_END.split(text) if part]
