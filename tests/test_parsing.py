"""The parser and the renderer: tables of text and numbers, and what holds for every text."""

import itertools
import math
import re
import time
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from numlm.parsing import Number, find_numbers, join_pieces, parse_value, render, split_numbers

PROPERTY = settings(max_examples=150, deadline=None, derandomize=True, database=None)

# text, and the (surface, value) pairs of its numbers; first the rows of the design's table
NUMBERS: list[tuple[str, list[tuple[str, float]]]] = [
    ("42", [("42", 42.0)]),
    ("-3.5", [("-3.5", -3.5)]),
    ("−3.5", [("−3.5", -3.5)]),
    ("+7", [("+7", 7.0)]),
    (".5", [(".5", 0.5)]),
    ("1,234,567.89", [("1,234,567.89", 1234567.89)]),
    ("6.02e23", [("6.02e23", 6.02e23)]),
    ("1e-5", [("1e-5", 1e-5)]),
    ("5%", [("5", 5.0)]),
    ("$1,200", [("1,200", 1200.0)]),
    ("价格是99.9元", [("99.9", 99.9)]),
    ("１２３", [("１２３", 123.0)]),
    ("10-20", [("10", 10.0), ("20", 20.0)]),
    ("5-3", [("5", 5.0), ("3", 3.0)]),
    ("(-5)", [("-5", -5.0)]),
    (" -5", [("-5", -5.0)]),
    # the same in sentences
    ("The first lamp is 42.5 volts.", [("42.5", 42.5)]),
    ("It fell to -3.5 °C, then to −12.", [("-3.5", -3.5), ("−12", -12.0)]),
    ("a gain of +7 points, .5 of them late", [("+7", 7.0), (".5", 0.5)]),
    ("We sold 1,234,567.89 shares.", [("1,234,567.89", 1234567.89)]),
    (
        "6.02e23, 1E5, 1.5e+3 and 2e−3",
        [
            ("6.02e23", 6.02e23),
            ("1E5", 1e5),
            ("1.5e+3", 1500.0),
            ("2e−3", 0.002),
        ],
    ),
    ("It rose 5%, to $1,200.50.", [("5", 5.0), ("1,200.50", 1200.5)]),
    ("10-20 people, 100-200元", [("10", 10), ("20", 20), ("100", 100), ("200", 200)]),
    ("气温是-5度", [("-5", -5.0)]),
    ("第１２章，共３．５万字", [("１２", 12.0), ("３．５", 3.5)]),
    ("－３和＋４", [("－３", -3.0), ("＋４", 4.0)]),
    ("价格从100涨到250元", [("100", 100.0), ("250", 250.0)]),
    ("（-5）", [("-5", -5.0)]),
    ("增长了5%。", [("5", 5.0)]),
    # signs and points at the edges of a number
    ("x=-5", [("-5", -5.0)]),
    ("5%-10% at 20°-30°", [("5", 5.0), ("10", 10.0), ("20", 20.0), ("30", 30.0)]),
    ("f(2)-3, a[2]-4", [("2", 2.0), ("3", 3.0), ("2", 2.0), ("4", 4.0)]),
    ("5 - 3", [("5", 5.0), ("3", 3.0)]),
    ("5 -3", [("5", 5.0), ("-3", -3.0)]),
    ("2+2=4", [("2", 2.0), ("2", 2.0), ("4", 4.0)]),
    ("--5", [("5", 5.0)]),
    ("-.5", [("-.5", -0.5)]),
    ("-1-2", [("-1", -1.0), ("2", 2.0)]),
    ("1e5-3", [("1e5", 1e5), ("3", 3.0)]),
    ("It is 5.", [("5", 5.0)]),
    ("5, 6", [("5", 5.0), ("6", 6.0)]),
    ("...5", [("5", 5.0)]),
    # separators that are not thousands
    ("1,23", [("1", 1.0), ("23", 23.0)]),
    ("1234,567", [("1234", 1234.0), ("567", 567.0)]),
    ("1,234,56", [("1", 1.0), ("234", 234.0), ("56", 56.0)]),
    ("12,345", [("12,345", 12345.0)]),
    ("0,123", [("0", 0.0), ("123", 123.0)]),
    # units stay text
    ("42kg", [("42", 42.0)]),
    ("3.5V", [("3.5", 3.5)]),
    ("2e", [("2", 2.0)]),
    ("3/4", [("3", 3.0), ("4", 4.0)]),
    ("16:9", [("16", 16.0), ("9", 9.0)]),
    ("007", [("007", 7.0)]),
    ("0 0.0 0e999", [("0", 0.0), ("0.0", 0.0), ("0e999", 0.0)]),
    # the ends of float64
    ("1.7976931348623157e308", [("1.7976931348623157e308", 1.7976931348623157e308)]),
    ("5e-324", [("5e-324", 5e-324)]),
]

NO_NUMBERS = [
    "GPT2", "x1", "v1.2.3", "192.168.0.1", "2025-06-08", "12:30", "12:30:05",
    "GPT-4", "GPT-3.5", "COVID-19", "x_1", "H2O", "Python3.12", "ＧＰＴ２", "é5",
    "192.168.0.1:80", "10.0.0.0/8", "1.2.3-beta", "2025/06/08", "08/06/2025",
    "7:05am", "12:30:05.123", "2025-06-08T12:30:05Z", "8:00-17:00",
    "1st", "2nd", "3rd", "4th", "21st", "0x1F", "12ab34", "1_000", "2x2", "555-123-4567",
    "1e400", "-1e309", "9" * 400, "1e-400", "-2e-324", "0." + "0" * 330 + "1", "1e99999999999",
    "", "abc", "没有数字。", "-", "+.", "½", "٣", "<NUM>",
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), NUMBERS)
def test_finds_the_numbers(text: str, expected: list[tuple[str, float]]) -> None:
    pieces = split_numbers(text)
    assert [(p.surface, p.value) for p in pieces if isinstance(p, Number)] == expected
    assert join_pieces(pieces) == text


@pytest.mark.parametrize("text", NO_NUMBERS)
@pytest.mark.parametrize("frame", ["{}", "see {} there", "参见{}。", "({})"])
def test_leaves_everything_else_as_text(text: str, frame: str) -> None:
    text = frame.format(text)
    assert split_numbers(text) == ([text] if text else [])


@pytest.mark.parametrize("text", ["v1.2.3 is 7", "at 12:30, 7", "2025-06-08: 7", "GPT2 has 7"])
def test_a_number_is_found_after_what_is_none(text: str) -> None:
    assert split_numbers(text) == [text[:-1], Number(7.0, "7")]


def test_pieces_are_in_order_with_the_text_between() -> None:
    assert split_numbers("从3涨到+4.50%了") == [
        "从", Number(3.0, "3"), "涨到", Number(4.5, "+4.50"), "%了",
    ]  # fmt: skip


def test_find_numbers_gives_places() -> None:
    text = "a -5, b １２"
    found = [(start, end, number.value) for start, end, number in find_numbers(text)]
    assert found == [(2, 4, -5.0), (8, 10, 12.0)]


@pytest.mark.parametrize(
    ("surface", "value"),
    [
        ("1,234.5", 1234.5),
        ("−６．５", -6.5),
        ("+.25", 0.25),
        ("1e−3", 0.001),
        ("0.000e5", 0.0),
        ("1e308", 1e308),
        ("1e309", None),
        ("-1e309", None),
        ("1e-324", None),
        ("5e-324", 5e-324),
    ],
)
def test_parse_value(surface: str, value: float | None) -> None:
    assert parse_value(surface) == value


@pytest.mark.parametrize(
    "text",
    ["", "nan", "inf", "-Infinity", "1_000", " 5", "5\n", "٣", "1e", "\ud800", "5\0", "a" * 10**7],
    ids=lambda text: ascii(text[:10]),
)
def test_what_is_no_surface_has_no_value(text: str) -> None:
    with pytest.raises(ValueError, match="is not written as a number") as error:
        parse_value(text)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 200


_ASCII = str.maketrans("０１２３４５６７８９．−－＋", "0123456789.--+", ",")
_TRICKY = st.text(alphabet="0123456789１２.．,-−－+＋eE:/% $()_axst价元\n", max_size=40)


@PROPERTY
@given(st.one_of(_TRICKY, st.text(max_size=30)))
@example("1,234.5.6-7e5x")
def test_every_text_comes_back(text: str) -> None:
    pieces = split_numbers(text)
    assert "".join(p if isinstance(p, str) else p.surface for p in pieces) == text
    assert join_pieces(pieces) == text
    assert all(p if isinstance(p, str) else p.surface for p in pieces), "an empty piece"
    kinds = [isinstance(p, str) for p in pieces]
    assert (True, True) not in list(itertools.pairwise(kinds)), "text in two pieces"
    for piece in pieces:
        if isinstance(piece, Number):
            assert piece.value == float(piece.surface.translate(_ASCII))
            assert math.isfinite(piece.value)


_SURFACES = st.one_of(
    st.integers(-(10**9), 10**9).map(str),
    st.integers(1000, 10**12).map(lambda n: f"{n:,}"),
    st.decimals(-1000, 1000, places=3).map(str),
    st.floats(1e-300, 1e300).map(lambda v: f"{v:.4e}"),
    st.floats(0, 1e6).map(lambda v: f"−{v:.2f}"),
)
_BEFORE = st.sampled_from([" ", "价格是", "(", " = ", " $", "，", "\n", '"'])
_AFTER = st.sampled_from(["", "元", ") ", "%", " volts ", "，", "。", "…"])


@PROPERTY
@given(st.lists(st.tuples(_BEFORE, _SURFACES, _AFTER), min_size=1, max_size=5))
def test_written_numbers_are_found_among_text(parts: list[tuple[str, str, str]]) -> None:
    text = "".join(before + surface + after for before, surface, after in parts)
    expected = [
        Number(float(surface.replace(",", "").replace("−", "-")), surface)
        for _, surface, _ in parts
    ]
    assert [piece for piece in split_numbers(text) if isinstance(piece, Number)] == expected


@pytest.mark.parametrize(
    "unit",
    ["1", ",111", "a", "1.", "1-", "-", "1a", "12:", "1e", "1/", "价9", "a-1-", "1 a", "1e1."],
)
def test_time_grows_with_the_length_of_the_text(unit: str) -> None:
    """Eight times the text is allowed 24 times the processor time; a quadratic scan takes 64."""

    def seconds(length: int, repeats: int) -> float:
        text = "1" + unit * (length // len(unit)) + "1"
        times = []
        for _ in range(repeats):
            start = time.process_time()
            pieces = split_numbers(text)
            times.append(time.process_time() - start)
        assert join_pieces(pieces) == text
        return min(times)

    assert seconds(32_000, repeats=3) < 24 * seconds(4_000, repeats=7)


@pytest.mark.parametrize(
    ("value", "like", "text"),
    [
        # decimals
        (42.5, "7.1", "42.5"),
        (42.0, "1.00", "42.00"),
        (42.4, "7", "42"),
        (-3.25, "1.00", "-3.25"),
        (1.5, ".5", "1.5"),
        (7.0, "007", "7"),
        # thousands
        (1234567.891, "9,999.00", "1,234,567.89"),
        (1234.5, "999.0", "1234.5"),
        (-12345.0, "1,000", "-12,345"),
        (12.0, "1,000", "12"),
        # signs
        (5.0, "+3", "+5"),
        (-5.0, "+3", "-5"),
        (0.0, "+3", "0"),
        (-5.0, "−3", "−5"),
        (5.0, "−3", "5"),
        (0.0, "-1", "0"),
        # full width
        (12.25, "１．５０", "１２．２５"),
        (-8.0, "－３", "－８"),
        (8.0, "＋３", "＋８"),
        (1234567.0, "１,０００", "１,２３４,５６７"),
    ],
)
def test_render_takes_the_style(value: float, like: str, text: str) -> None:
    assert render(value, like) == text


@pytest.mark.parametrize(
    ("value", "like", "pattern"),
    [
        (6.02e23, "1.00e5", r"6\.02e\+?23"),
        (1e-5, "3e-7", r"1e-0?5"),
        (1.25e-5, "1.0E5", r"1\.[23]E-0?5"),
        (-3e-5, "−1.0e−5", r"−3\.0e−0?5"),
        (12345.0, "+1.000e2", r"\+1\.23[45]e\+?0?4"),
        (300.0, "１e５", r"３e＋?０?２"),
    ],
)
def test_render_takes_the_exponent(value: float, like: str, pattern: str) -> None:
    assert re.fullmatch(pattern, render(value, like))


def test_render_writes_no_negative_zero() -> None:
    assert render(-0.0) == "0"
    assert render(-0.001, like="1.00") == "0.00"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (42.0, "42"),
        (-42.5, "-42.5"),
        (0.1, "0.1"),
        (1e-6, "0.000001"),
        (1.5e-7, "1.5e-07"),
        (9999999999999998.0, "9999999999999998"),
        (1e16, "1e+16"),
        (6.02e23, "6.02e+23"),
        (5e-324, "5e-324"),
        (123456789.123, "123456789.123"),
    ],
)
def test_render_without_a_style_is_the_shortest(value: float, text: str) -> None:
    assert render(value) == text


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("like", ["", "1.0"])
def test_render_refuses_what_has_no_digits(value: float, like: str) -> None:
    with pytest.raises(ValueError, match="finite"):
        render(value, like)


@PROPERTY
@given(st.floats(allow_nan=False, allow_infinity=False))
@example(-0.1)
@example(1.7976931348623157e308)
def test_a_rendered_value_is_read_back(value: float) -> None:
    text = render(value)
    assert Decimal(text) == Decimal(repr(value)), "not the shortest digits"
    assert split_numbers(text) == [Number(value, text)]
    if 1e-6 <= abs(value) < 1e16:
        assert "e" not in text


@PROPERTY
@given(st.decimals(-(10**8), 10**8, places=4), st.integers(0, 4), st.sampled_from(["", ","]))
def test_a_surface_is_written_in_its_own_style(
    value: Decimal, decimals: int, separator: str
) -> None:
    surface = f"{round(value, decimals):{separator}.{decimals}f}"
    parsed = parse_value(surface)
    assert parsed is not None
    assert parsed == 0 or render(parsed, like=surface) == surface
