"""What the page asks of the model, within bounds; what cannot be answered is said in words."""

import math
from dataclasses import dataclass

from demo.highlight import highlight, notice
from demo.words import WORDS, Language
from numlm import NumberLM
from numlm.generation import Continuation, TextNumber
from numlm.parsing import find_numbers, render
from numlm.tokenization import whole_characters

MAX_CHARACTERS = 4000
MAX_NEW_TOKENS = 200
MAX_TEMPERATURE = 2.0
MAX_SECONDS = 20.0
_MIN_TEMPERATURE = 0.01  # log-probabilities divided by less may overflow float32


@dataclass(frozen=True, slots=True)
class Notice:
    """Why there is no answer.

    Attributes:
        name: Name of the message in `Words`.
        values: What is filled in.
    """

    name: str
    values: dict[str, int]


Answer = Continuation | Notice


def show(answer: Answer, language: Language) -> str:
    """An answer as HTML."""
    if isinstance(answer, Continuation):
        return highlight(answer, language)
    return notice(getattr(WORDS[language], answer.name).format(**answer.values), language)


def continue_text(model: NumberLM, text: str, temperature: float, max_new_tokens: int) -> Answer:
    """The text, continued until the model ends it or a bound is met.

    Args:
        model: The model.
        text: What was typed.
        temperature: Below 0.01 is greedy; from there words are sampled.
        max_new_tokens: Greatest number of tokens written, in [1, `MAX_NEW_TOKENS`].
    """
    text = _text(text)
    room = int(_within(max_new_tokens, 1, MAX_NEW_TOKENS))
    heat = _within(temperature, 0, MAX_TEMPERATURE)
    options = {"do_sample": True, "temperature": heat} if heat >= _MIN_TEMPERATURE else {}
    return (
        refusal(model, text, room)
        or model.generate([text], max_new_tokens=room, max_time=MAX_SECONDS, **options)[0]
    )


def number_here(model: NumberLM, text: str) -> Answer:
    """The text, continued with the number that comes next if one does."""
    text = _text(text)
    refused = refusal(model, text, room=2)  # a space and a number
    if refused:
        return refused
    said = model.predict([text])[0]
    start = len(said.text) - len(render(said.value))
    numbers = [TextNumber(first, end, n.value, None) for first, end, n in find_numbers(text)]
    numbers.append(TextNumber(start, len(said.text), said.value, said))
    return Continuation(text, said.text, numbers)


def _text(typed: object) -> str:
    """What was typed, if it is text, in characters that can be sent back."""
    return whole_characters(typed) if isinstance(typed, str) else ""


def _within(value: object, least: float, most: float) -> float:
    """A setting within its bounds; the page sends no other, but not only the page can send."""
    if not isinstance(value, int | float) or math.isnan(value):
        return least
    return float(min(max(value, least), most))


def refusal(model: NumberLM, text: str, room: int) -> Notice | None:
    """Why a text cannot be continued, or None.

    Args:
        model: The model.
        text: What was typed.
        room: How many tokens may follow.
    """
    if not text.strip():
        return Notice("empty", {})
    if len(text) > MAX_CHARACTERS:
        return Notice("characters", {"count": len(text), "most": MAX_CHARACTERS})
    tokens = len(model.tokenizer.encode(text).input_ids)
    if tokens + room > model.context_length:
        return Notice("tokens", {"count": tokens, "room": room, "context": model.context_length})
    return None
