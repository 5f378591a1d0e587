"""Text <-> numbers: find the numbers of a text, and write a value the way people do.

The parser is a single left-to-right scan with one regular expression. What looks like a number but
is a name (`GPT2`), a version or address (`v1.2.3`, `192.168.0.1`), a date or a time is consumed
first and left as text, so that a number can never start in the middle of one. Every other
character is left alone: joining the pieces gives the text back, byte for byte. The expression has
no nested ambiguity, so the scan is linear in the length of the text.

Standard library only.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

# Scripts written without spaces: a digit that touches one of their letters is still a number.
_UNSPACED = r"\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_DIGIT = r"[0-9０-９]"
_LETTER = rf"(?:(?![{_UNSPACED}０-９])[^\W\d])"  # letters of spaced scripts, and the underscore
_POINT = r"[.．]"
_SIGN = r"[+\-−＋－]"

_D = _DIGIT + "++"  # a run of digits, taken whole
_EXPONENT = rf"[eE][+\-−]?{_D}"

_PATTERN = re.compile(
    rf"""
    (?P<name>   {_LETTER} (?: {_LETTER} | -?{_D} (?: [.:\-]{_D} )*+ )*+ )  # GPT2, v1.2.3
  | (?P<chain>  {_D} (?: (?:\.{_D}){{2,}}+ (?:[:/]{_D})?                    # 192.168.0.1:80
                       | (?:-{_D}){{2,}}+ | (?:/{_D}){{2,}}+ ) )            # 2025-06-08
  | (?P<time>   {_DIGIT}{{1,2}} (?: :{_DIGIT}{{2}} ){{1,2}}+ (?:\.{_D})? (?!{_DIGIT}) )
  | (?P<code>   {_D} (?: (?:st|nd|rd|th)\b                                 # 2nd
                       | (?!{_EXPONENT}(?!{_LETTER}))                      # 0x1F, but not 1e5
                         {_LETTER}++ {_DIGIT} \w*+ (?:-\w++)*+ ) )
  | (?P<number>
      # A sign belongs to the number unless something stands before it that it could join or
      # subtract from.
      (?: (?: (?<=[{_UNSPACED}]) | (?<![\w)\]}}%°+\-−.]) ) {_SIGN} )?+
      (?: (?: (?<!{_DIGIT},) [1-9]{_DIGIT}{{0,2}} (?:,{_DIGIT}{{3}})++ (?!,?{_DIGIT}) | {_D} )
          (?: {_POINT}{_D} )?+
        | (?<![\w.)\]}}]) {_POINT}{_D} )
      (?: {_EXPONENT} )?+
    )
    """,
    re.VERBOSE,
)

_WRITTEN = re.compile(r"[+\-]?(?:[0-9]++(?:\.[0-9]++)?|\.[0-9]++)(?:[eE][+\-]?[0-9]++)?")
_TO_ASCII = str.maketrans("０１２３４５６７８９．＋－−", "0123456789.+--")
_TO_FULL_WIDTH = str.maketrans("0123456789.+-", "０１２３４５６７８９．＋－")


@dataclass(frozen=True, slots=True)
class Number:
    """A number of a text.

    Attributes:
        value: The value, a finite float64.
        surface: The characters that stood in the text, sign included.
    """

    value: float
    surface: str


def parse_value(surface: str) -> float | None:
    """The float64 value of a surface form, or None where float64 cannot hold it.

    Overflow has no value, and neither has a nonzero number that would underflow to zero.

    Raises:
        ValueError: If it is no surface form, whatever Python may read as a number: `nan`, `1_000`.

    >>> parse_value("-1,234.5"), parse_value("６.02e2"), parse_value("1e999")
    (-1234.5, 602.0, None)
    """
    text = surface.translate(_TO_ASCII).replace(",", "")
    if not _WRITTEN.fullmatch(text):
        raise ValueError(f"{surface[:40]!r} is not written as a number, such as '-1,234.5' is")
    value = float(text)
    if value == 0.0:
        mantissa = re.split("[eE]", text)[0]
        return None if any(digit in mantissa for digit in "123456789") else value
    return None if math.isinf(value) else value


def find_surfaces(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield (start, end, surface) for all that is written as a number, beyond float64 or not."""
    for match in _PATTERN.finditer(text):
        if match.lastgroup == "number":
            yield match.start(), match.end(), match.group()


def find_numbers(text: str) -> Iterator[tuple[int, int, Number]]:
    """Yield (start, end, number) for every number of the text, from left to right."""
    for start, end, surface in find_surfaces(text):
        value = parse_value(surface)
        if value is not None:
            yield start, end, Number(value, surface)


def split_numbers(text: str) -> list[str | Number]:
    """Split a text into strings and numbers; joining strings and surfaces gives the text back.

    >>> split_numbers("-3.5 V since 2025-06-08")
    [Number(value=-3.5, surface='-3.5'), ' V since 2025-06-08']
    """
    pieces: list[str | Number] = []
    position = 0
    for start, end, number in find_numbers(text):
        if start > position:
            pieces.append(text[position:start])
        pieces.append(number)
        position = end
    if position < len(text):
        pieces.append(text[position:])
    return pieces


def join_pieces(pieces: list[str | Number]) -> str:
    """The inverse of `split_numbers`."""
    return "".join(p if isinstance(p, str) else p.surface for p in pieces)


def render(value: float, like: str = "") -> str:
    """Write a value as people do.

    Args:
        value: A finite number.
        like: A surface form whose style is taken: number of decimals, thousands separators,
            exponent, plus sign, the minus sign's character, full-width digits. Empty: the shortest
            decimal that reads back as the value, in scientific writing below 1e-6 and from 1e16.

    Raises:
        ValueError: If the value is not finite.

    >>> render(1234.5, like="9,999.00"), render(0.00012, like="1.0e5"), render(42.5)
    ('1,234.50', '1.2e-4', '42.5')
    """
    if not math.isfinite(value):
        raise ValueError(f"cannot write {value} as a number: only finite values have digits")
    if not like:
        return _shortest(value)
    style = like.translate(_TO_ASCII)
    mantissa, *exponent = re.split("[eE]", style)
    decimals = len(mantissa.partition(".")[2])
    if exponent:
        text = _scientific(value, decimals, "E" if "E" in style else "e", exponent[0])
    else:
        text = f"{value:z{',' if ',' in mantissa else ''}.{decimals}f}"
    if value > 0 and mantissa.startswith("+"):
        text = "+" + text
    if any(character in like for character in "０１２３４５６７８９"):
        return text.translate(_TO_FULL_WIDTH)
    return text.replace("-", "−") if "−" in like else text


def _scientific(value: float, decimals: int, letter: str, like: str) -> str:
    """Scientific writing with an exponent like another: its plus sign, its leading zeros."""
    mantissa, exponent = f"{value:z.{decimals}e}".split("e")
    sign = "-" if int(exponent) < 0 else "+" if like.startswith("+") else ""
    return f"{mantissa}{letter}{sign}{abs(int(exponent)):0{len(like.lstrip('+-'))}d}"


def _shortest(value: float) -> str:
    if value == 0.0:
        return "0"
    if not 1e-6 <= abs(value) < 1e16:
        return repr(value).replace(".0e", "e")
    return f"{Decimal(repr(value)):f}".removesuffix(".0")
