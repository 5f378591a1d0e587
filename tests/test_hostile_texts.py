"""Any text at all: nothing is lost, nothing crashes, and long texts take long, not for ever."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from numlm.checkpoint import load_tokenizer
from numlm.parsing import find_numbers, join_pieces, split_numbers
from numlm.tokenization import NumberTokenizer
from tests.conftest import EMBEDDED
from tests.hostile_texts import (
    FAMILIES,
    TEXTS,
    VALUES,
    check_text,
    check_tokens,
    check_value,
)

FUZZ = settings(max_examples=1000, derandomize=True, deadline=None, database=None,
                suppress_health_check=list(HealthCheck))  # fmt: skip
LONG = 2_000_000


@pytest.fixture(scope="module")
def tokenizer() -> NumberTokenizer:
    return NumberTokenizer(load_tokenizer(str(EMBEDDED)))


@FUZZ
@given(TEXTS)
def test_any_text_is_split_and_joined(text: str) -> None:
    check_text(text)


@FUZZ
@given(VALUES)
def test_any_value_is_written_and_read(value: float) -> None:
    check_value(value)


@settings(FUZZ, max_examples=300)
@given(TEXTS)
def test_any_text_is_tokenized_and_comes_back(tokenizer: NumberTokenizer, text: str) -> None:
    check_tokens(tokenizer, text)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.timeout(60)
def test_a_long_text_does_not_stall_the_parser(name: str) -> None:
    """A scan that went back over two million characters again and again would take days."""
    text = FAMILIES[name](LONG // 10 if name != "one number of digits" else LONG)
    assert join_pieces(split_numbers(text)) == text


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["one number of digits", "letters", "spaces", "right to left between digits",
                                  "halves of pairs", "groups, then four digits"])  # fmt: skip
def test_a_long_text_does_not_stall_the_tokenizer(tokenizer: NumberTokenizer, name: str) -> None:
    text = FAMILIES[name](LONG)
    encoding = tokenizer.encode(text)
    assert len(encoding.input_ids) >= len(encoding.numbers)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ten_megabytes_of_text(tokenizer: NumberTokenizer) -> None:
    sentence = "The red lamp shows 42.5 volts in the hall. 总之，电压是7。"
    text = sentence * (10_000_000 // len(sentence.encode()))
    encoding = tokenizer.encode(text)
    assert len(encoding.numbers) == 2 * text.count("lamp")
    assert {number.value for number in encoding.numbers} == {42.5, 7.0}


def test_the_base_tokenizer_is_not_asked_again_for_every_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A call costs as much as a sentence: a text of many numbers would take minutes."""
    tokenizer = NumberTokenizer(load_tokenizer(str(EMBEDDED)))
    calls = {"encode": 0, "decode": 0}
    base = type(tokenizer.base)
    encode, decode = base.__call__, base.decode

    def counted_encode(self: Any, *args: Any, **options: Any) -> Any:
        calls["encode"] += 1
        return encode(self, *args, **options)

    def counted_decode(self: Any, *args: Any, **options: Any) -> Any:
        calls["decode"] += 1
        return decode(self, *args, **options)

    monkeypatch.setattr(base, "__call__", counted_encode)
    monkeypatch.setattr(base, "decode", counted_decode)
    text = "1 " * 1000 + "2-3"
    encoding = tokenizer.encode(text)
    assert tokenizer.decode(encoding.input_ids, encoding.numbers) == text
    assert calls["encode"] <= 3
    assert calls["decode"] <= 1001 + 3  # a text after every number


def test_a_million_digits_are_no_number() -> None:
    """float64 does not hold it: it stays text, to the last digit."""
    text = f"It is {'9' * 1_000_000}."
    assert split_numbers(text) == [text]
    small = f"It is 0.{'0' * 1_000_000}1."
    assert split_numbers(small) == [small]
    (found,) = (number for _, _, number in find_numbers(f"It is 1.{'0' * 1_000_000}."))
    assert found.value == 1.0
