"""A row of somebody's own data: what it must be, and one sentence about what is wrong with it.

A row has a `text`, or a `prompt` and an `answer`; the columns may have other names.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from numlm.parsing import find_surfaces, parse_value

_SHOWN = 40  # characters of a bad value that a message shows
# Hardly a tokenizer has longer tokens; only a number of hundreds of digits would need more.
_CHARACTERS_A_TOKEN = 128
# After these, and before these, words are written without a space.
_UNSPACED = r"\u0e00-\u0e7f\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef"
_NO_SPACE_AFTER = re.compile(rf"[\s{_UNSPACED}(\[{{$€£¥#@/\\\"'=<>~]$")
_NO_SPACE_BEFORE = re.compile(rf"^[\s{_UNSPACED}]")


class BadRow(ValueError):
    """A row that cannot be used.

    Args:
        where: `file:line`.
        what: What is wrong.
        expected: What was expected.
    """

    def __init__(self, where: str, what: str, expected: str) -> None:
        super().__init__(_in_one_line(f"{where}: {what}, expected {expected}"))


def _in_one_line(message: str) -> str:
    """A message whose invisible characters are written out.

    What is quoted from a file may hold line breaks, a terminal's escapes, marks that turn
    the direction of writing, or half a character, which no file in UTF-8 can hold.
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)


class NumberText(str):
    """A number of JSON or of a table, as it is written; an answer may be one."""

    __slots__ = ()


class RawRow(NamedTuple):
    """A row as it was read.

    Attributes:
        where: `file:line`.
        line: The line, or the row of a table without lines, from 1.
        fields: Its columns.
    """

    where: str
    line: int
    fields: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns.

    Attributes:
        text: Of whole texts.
        prompt: Of what stands before an answer.
        answer: Of answers.
    """

    text: str = "text"
    prompt: str = "prompt"
    answer: str = "answer"


class Row(NamedTuple):
    """A row that can be used.

    Attributes:
        where: `file:line`.
        line: Its line.
        prompt: What no loss is taken on; empty for a whole text.
        text: The prompt and what follows it.
    """

    where: str
    line: int
    prompt: str
    text: str


def join(prompt: str, answer: str) -> str:
    """A prompt and its answer, with a space between where people write one.

    >>> join("It is", "42.5 volts"), join("It is ", "42.5"), join("电压是", "42.5"), join("$", "5")
    ('It is 42.5 volts', 'It is 42.5', '电压是42.5', '$5')
    """
    touching = _NO_SPACE_AFTER.search(prompt) or _NO_SPACE_BEFORE.search(answer)
    return prompt + ("" if touching else " ") + answer


def read_row(raw: RawRow, columns: Columns, context_length: int) -> Row:
    """Check a row of training or evaluation data.

    Args:
        raw: The row.
        columns: Names of the columns.
        context_length: Tokens that the model takes; far longer texts are refused unread.

    Raises:
        BadRow: If it cannot be used.
    """
    if columns.prompt in raw.fields and columns.answer in raw.fields:
        prompt = _string(raw, columns.prompt)
        answer = _string(raw, columns.answer, may_be_number=True)
        row = Row(raw.where, raw.line, prompt, join(prompt, answer))
        _check_length(raw, row.text, context_length)
        if not any(start >= len(prompt) for start, _, _ in _numbers(raw, row.text)):
            raise BadRow(
                raw.where, f"no number in the answer {_shown(answer)}", "one such as '42.5'"
            )
        return row
    if columns.text in raw.fields:
        text = _string(raw, columns.text)
        _check_length(raw, text, context_length)
        _numbers(raw, text)
        return Row(raw.where, raw.line, "", text)
    raise _missing(raw, f"'{columns.text}', or '{columns.prompt}' and '{columns.answer}'")


def read_prompt(raw: RawRow, columns: Columns, context_length: int) -> Row:
    """Check a row that a number is to be predicted for; its text is the prompt, an answer ignored.

    Args:
        raw: The row.
        columns: Names of the columns.
        context_length: Tokens that the model takes; far longer texts are refused unread.

    Raises:
        BadRow: If it cannot be used.
    """
    for column in (columns.prompt, columns.text):
        if column in raw.fields:
            text = _string(raw, column)
            _check_length(raw, text, context_length)
            _numbers(raw, text)
            return Row(raw.where, raw.line, text, text)
    raise _missing(raw, f"'{columns.prompt}' or '{columns.text}'")


def _missing(raw: RawRow, wanted: str) -> BadRow:
    found = ", ".join(f"'{name}'" for name in raw.fields) or "none"
    return BadRow(
        raw.where,
        f"the columns are {found[:200]}",
        f"{wanted} (other names: --data.text_column, --data.prompt_column, --data.answer_column)",
    )


def _string(raw: RawRow, column: str, may_be_number: bool = False) -> str:
    """The text of a column."""
    value = raw.fields[column]
    expected = "a text" + (" or a number" if may_be_number else "")
    if not isinstance(value, str) or (isinstance(value, NumberText) and not may_be_number):
        raise BadRow(raw.where, f"column '{column}' holds {describe(value)}", expected)
    if not value.strip():
        raise BadRow(raw.where, f"column '{column}' is empty", expected)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        code = ord(value[error.start])
        raise BadRow(
            raw.where,
            f"column '{column}' has half a character (lone surrogate U+{code:04X})",
            "Unicode text",
        ) from None
    return value


def _check_length(raw: RawRow, text: str, context_length: int) -> None:
    """Refuse a text that cannot fit, before its numbers and tokens are looked for."""
    most = context_length * _CHARACTERS_A_TOKEN
    if len(text) > most:
        raise BadRow(
            raw.where,
            f"{len(text):,} characters",
            f"at most {most:,}, far above the model's context of {context_length:,} tokens",
        )


def _numbers(raw: RawRow, text: str) -> list[tuple[int, int, str]]:
    """What is written as a number in a text; all of it must have a value."""
    found = list(find_surfaces(text))
    for _, _, surface in found:
        if parse_value(surface) is None:
            raise BadRow(
                raw.where,
                f"the number {_shown(surface)} is beyond float64",
                "0 or a size from 5e-324 to 1.8e308",
            )
    return found


def describe(value: object) -> str:
    """What a value of JSON is, in words.

    >>> describe([1]), describe(NumberText("2")), describe(None)
    ('a list', 'the number 2', 'nothing')
    """
    if value is None:
        return "nothing"
    if isinstance(value, NumberText):
        return f"the number {value[:_SHOWN]}"
    if isinstance(value, bool):
        return str(value).lower()
    kind = type(value).__name__
    return {"list": "a list", "dict": "an object", "str": "a text"}.get(kind, f"a {kind}")


def _shown(value: str) -> str:
    return f"'{value[:_SHOWN]}…'" if len(value) > _SHOWN else f"'{value}'"
