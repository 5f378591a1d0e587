"""Texts that nobody means well with, and what must hold of the parser for every one of them."""

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from unicodedata import normalize

from hypothesis import strategies

from numlm.parsing import (
    Number,
    find_numbers,
    find_surfaces,
    join_pieces,
    parse_value,
    render,
    split_numbers,
)
from numlm.tokenization import NumberTokenizer

_PIECES = [
    *"0123456789０１９.．,+-−＋－eE:/%°()[]{}_ \t\n",
    *("\u200b", "\u200d", "\u2060", "\ufeff"),  # zero width
    *("\u202e", "\u202d", "\u2066", "\u200f", "א", "ع", "٣", "۷"),  # right to left, other digits
    *("\ud800", "\udfff", "\0", "\x1b", "\x7f", "\ufffd"),  # halves of pairs, control characters
    *("电", "压", "是", "가", "ก", "あ", "é", "e\u0301", "\u0323", "ß", "Ⅷ", "½", "²", "𝟗", "🙂"),
    *("<NUM>", "GPT2", "v1.2.3", "192.168.0.1:80", "2025-06-08", "3/4/2021", "12:30:59.5"),
    *("1,234,567", "1,23", "1e5", "1E-400", "-0.0", "1e999", "0x1F", "2nd", "1st", "0" * 30),
    *("9" * 400, "1." + "3" * 40, "．５", "١٢", "volts", "nan", "inf", "Infinity", "1_000", "--"),
]
TEXTS = strategies.one_of(
    strategies.lists(strategies.sampled_from(_PIECES), max_size=40).map("".join),
    strategies.text(max_size=60),
    strategies.text("0123456789.,-+eE ０９", max_size=40),
)
VALUES = strategies.floats(allow_nan=False, allow_infinity=False)
_DIGITS = frozenset("0123456789０１２３４５６７８９")
_ASCII = str.maketrans("０１２３４５６７８９．＋－−", "0123456789.+--")


def check_text(text: str) -> None:
    """What must hold of the numbers of any text.

    Raises:
        AssertionError: If it does not.
    """
    pieces = split_numbers(text)
    assert join_pieces(pieces) == text
    assert not any(
        isinstance(one, str) and isinstance(two, str) for one, two in itertools.pairwise(pieces)
    )
    found = list(find_numbers(text))
    assert [number for _, _, number in found] == [p for p in pieces if isinstance(p, Number)]
    position = 0
    for start, end, number in found:
        assert position <= start < end <= len(text)
        assert text[start:end] == number.surface
        assert math.isfinite(number.value)
        assert number.value == exact_value(number.surface)
        assert start == 0 or text[start - 1] not in _DIGITS
        assert end == len(text) or text[end] not in _DIGITS
        position = end
    for start, end, surface in find_surfaces(text):
        assert text[start:end] == surface
        if parse_value(surface) is None:  # beyond float64: left as text
            size = abs(exact_value_or_size(surface))
            assert size >= 308 or size <= -300, surface


def check_tokens(tokenizer: NumberTokenizer, text: str) -> None:
    """What must hold of the tokens of any text.

    Half of a surrogate pair comes back as U+FFFD, and characters as the base tokenizer normalizes
    them: accents joined to their letters (NFC).

    Raises:
        AssertionError: If it does not.
    """
    encoding = tokenizer.encode(text)
    assert encoding.numbers == [number for _, _, number in find_numbers(text)]
    assert encoding.input_ids.count(tokenizer.num_token_id) == len(encoding.numbers)
    whole = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
    decoded = tokenizer.decode(encoding.input_ids, encoding.numbers)
    assert normalize("NFC", decoded) == normalize("NFC", whole)


def check_value(value: float) -> None:
    """A value that is written is read again, alone and in a text.

    Raises:
        AssertionError: If it is not.
    """
    written = render(value)
    assert parse_value(written) == value
    (start, end, number) = next(find_numbers(f"It is {written} now."))
    assert (start, end) == (6, 6 + len(written))
    assert number.value == value


def exact_value(surface: str) -> float:
    """The nearest float64 of a surface, by exact fractions: an independent reading."""
    mantissa, _, exponent = surface.translate(_ASCII).replace(",", "").lower().partition("e")
    sign = -1.0 if mantissa.startswith("-") else 1.0
    whole, _, decimals = mantissa.lstrip("+-").partition(".")
    digits = int((whole + decimals) or "0")
    power = int(exponent or "0") - len(decimals)
    if not digits or power < -2000:
        return sign * 0.0
    value = Fraction(digits) * (Fraction(10) ** power)
    return sign * float(value)


def exact_value_or_size(surface: str) -> int:
    """About the power of ten of what float64 does not hold."""
    mantissa, _, exponent = surface.translate(_ASCII).replace(",", "").lower().partition("e")
    whole, _, decimals = mantissa.lstrip("+-").partition(".")
    leading = len(whole.lstrip("0")) or -(len(decimals) - len(decimals.lstrip("0")))
    return int(exponent or "0") + leading


# Kinds of text, by how many characters, that a scan could lose its way in.
FAMILIES: dict[str, Callable[[int], str]] = {
    "one number of digits": lambda n: "7" * n,
    "zeros after the point": lambda n: "0." + "0" * n + "1",
    "digits of an exponent": lambda n: "1e" + "1" * n,
    "groups of three": lambda n: "1" + ",111" * (n // 4),
    "groups, then four digits": lambda n: "1" + ",111" * (n // 4) + "1",
    "points between digits": lambda n: "1." * (n // 2),
    "dashes between digits": lambda n: "1-" * (n // 2),
    "slashes between digits": lambda n: "1/" * (n // 2),
    "commas between digits": lambda n: "1," * (n // 2),
    "times": lambda n: "1:11" * (n // 4),
    "colons": lambda n: ":" * n + "1",
    "exponents in a row": lambda n: "1e1" * (n // 3),
    "exponents without digits": lambda n: "1e-" * (n // 3),
    "minus signs": lambda n: "-" * n,
    "signs and points": lambda n: "+." * (n // 2),
    "letters": lambda n: "a" * n,
    "a digit, then letters": lambda n: "1" + "a" * n,
    "letters and digits": lambda n: "1a" * (n // 2),
    "names with dashes": lambda n: "a1-" * (n // 3),
    "codes with dashes": lambda n: "1a1" + "-a" * (n // 2) + "-",
    "ordinals": lambda n: "1st" * (n // 3),
    "full-width digits": lambda n: "１1" * (n // 2),
    "Chinese and digits": lambda n: "一1" * (n // 2),
    "zero width between digits": lambda n: "1\u200d" * (n // 2),
    "right to left between digits": lambda n: "1\u202e" * (n // 2),
    "halves of pairs": lambda n: "1\ud800" * (n // 2),
    "NUL between digits": lambda n: "1\0" * (n // 2),
    "combining marks": lambda n: "1\u0301" * (n // 2),
    "spaces": lambda n: " " * n,
    "numbers": lambda n: "1 " * (n // 2),
}
