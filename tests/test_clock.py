"""The clock: features against plain arithmetic, and values that come back to the last digit."""

import math
from decimal import Decimal
from fractions import Fraction

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from numlm import clock
from numlm.clock import FINE_LOG_DIAL, LINEAR_DIAL, LOG_DIAL, Dial

PROPERTY = settings(max_examples=150, deadline=None, derandomize=True, database=None)
HAND_SCALE = 0.01  # radians


def _double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _hands(values: Tensor) -> Tensor:
    return clock.encode(values)[..., clock.FIRST_HAND :].unflatten(-1, (clock.HANDS, 2))


def _read(
    values: Tensor, loc: Tensor, scale: Tensor, hand_scale: float = HAND_SCALE
) -> tuple[Tensor, Tensor]:
    scales = torch.full((*values.shape, clock.HANDS), hand_scale)
    return clock.LOG_DIAL.read(loc, scale, _hands(values), scales)


def test_periods_are_those_of_the_design() -> None:
    assert clock.PERIODS == (100.0, 10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    assert clock.FEATURES == 4 + 2 * 9


def test_dials_are_those_of_the_design() -> None:
    assert LOG_DIAL.periods == clock.PERIODS
    assert FINE_LOG_DIAL.periods == (*clock.PERIODS, 1e-7, 1e-8)
    assert LINEAR_DIAL.periods == tuple(float(f"1e{power}") for power in range(12, -10, -1))
    assert [dial.logarithmic for dial in (LOG_DIAL, FINE_LOG_DIAL, LINEAR_DIAL)] == [1, 1, 0]


def test_features_of_ten() -> None:
    """L = 1: the longest hands stand at 3.6 and 36 degrees, all others at 0."""
    features = clock.encode(_double(10.0))[0]
    slow, fast = math.radians(3.6), math.radians(36)
    expected = [1 / 6, 1, 0, 1, math.cos(slow), math.sin(slow), math.cos(fast), math.sin(fast)]
    expected += [1, 0] * 7
    assert features.tolist() == pytest.approx(expected, abs=1e-6)
    assert features.dtype == torch.float32


@pytest.mark.parametrize("value", [42.5, -42.5, 0.001, -9.99e-5, 123456.789, 6.02e23])
def test_features_against_plain_arithmetic(value: float) -> None:
    features = clock.encode(_double(value))[0].tolist()
    magnitude = math.log10(abs(value))
    expected = [magnitude / 6, math.copysign(1, value), 0.0, 1.0]
    for period in (100.0, 10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6):
        angle = 2 * math.pi * (magnitude / period)
        expected += [math.cos(angle), math.sin(angle)]
    assert features == pytest.approx(expected, abs=3e-7)


def test_zero_has_no_hands() -> None:
    zero = [0.0, 0.0, 1.0, 0.0] + [0.0] * 18
    assert clock.encode(_double(0.0, -0.0)).tolist() == [zero, zero]


@pytest.mark.parametrize("dial", [LOG_DIAL, FINE_LOG_DIAL, LINEAR_DIAL])
@pytest.mark.parametrize("value", [42.5, -42.5, 0.001, -9.99e-5, 1234.56, 1.0, 7e5])
def test_hands_point_to_the_place_on_the_axis(dial: Dial, value: float) -> None:
    """In whole periods that are left over, from exact fractions."""
    hands = dial.hands(_double(value))
    assert hands.shape == (1, len(dial.periods), 2)
    assert hands.dtype == torch.float32
    place = Fraction(math.log10(abs(value)) if dial.logarithmic else value)
    for hand, period in zip(hands[0].tolist(), dial.periods, strict=True):
        angle = 2 * math.pi * float(place / Fraction(period) % 1)
        # float64 itself leaves the place uncertain by some units in its last digit
        unsure = 2 * math.pi * 4 * math.ulp(float(place)) / period
        assert hand == pytest.approx([math.cos(angle), math.sin(angle)], abs=3e-7 + unsure)


def test_zero_has_hands_on_the_axis_of_the_value_only() -> None:
    zeros = _double(0.0, -0.0)
    assert LINEAR_DIAL.hands(zeros).tolist() == [[[1.0, 0.0]] * 22] * 2
    for dial in (LOG_DIAL, FINE_LOG_DIAL):
        assert not dial.hands(zeros).any()


@pytest.mark.parametrize("dial", [LOG_DIAL, FINE_LOG_DIAL, LINEAR_DIAL])
@pytest.mark.parametrize("value", [5e-324, 1e-300, 1e30, 1e300, -1.7e308])
def test_hands_are_unit_vectors_at_the_ends_of_float64(dial: Dial, value: float) -> None:
    lengths = dial.hands(_double(*[value] * 16)).norm(dim=-1)  # enough for vector instructions
    torch.testing.assert_close(lengths, torch.ones_like(lengths))


def test_shape_is_kept() -> None:
    values = torch.rand(2, 3, 4, dtype=torch.float64) + 1
    features = clock.encode(values)
    assert features.shape == (2, 3, 4, clock.FEATURES)
    assert torch.equal(features[1, 2, 3], clock.encode(values[1, 2, 3]))


def test_no_jump_at_a_power_of_ten() -> None:
    below, at = clock.encode(_double(10 - 1e-12, 10.0))
    assert (below - at).abs().max() < 1e-6
    digits_apart = clock.encode(_double(9.99, 10.0))
    assert (digits_apart[0] - digits_apart[1])[: clock.FIRST_HAND + 6].abs().max() < 5e-3


@pytest.mark.parametrize("value", [5e-324, -5e-324, 1e-300, 1.7e308, -1.7e308])
def test_features_stay_of_size_one_at_the_ends_of_float64(value: float) -> None:
    features = clock.encode(_double(value))[0]
    assert features.isfinite().all()
    assert features.abs().max() <= 50 / 6
    assert features[clock.MAGNITUDE].item() == pytest.approx(
        math.copysign(50 / 6, math.log(abs(value)))
    )


_LOG_UNIFORM = st.tuples(st.floats(-12, 12), st.sampled_from([-1.0, 1.0])).map(
    lambda pair: float(f"{pair[1] * 10 ** pair[0]:.8e}")
)


@PROPERTY
@given(_LOG_UNIFORM, st.floats(-0.15, 0.15))
@example(1e-12, 0.15)
@example(-1e12, -0.15)
@example(9.99999999, 0.1)
def test_decoding_gives_the_encoded_value(value: float, error: float) -> None:
    """From a location 15 % off to all nine digits."""
    loc = _double(value * (1 + error))
    read, scale = _read(_double(value), loc, 0.2 * loc.abs(), hand_scale=1e-4)
    assert read.item() == pytest.approx(value, rel=2e-13)
    assert clock.shortest_decimal(read.item(), scale.item()) == value


def test_decoding_a_thousand_values_at_once() -> None:
    generator = torch.Generator().manual_seed(0)
    values = 10 ** (24 * torch.rand(1000, generator=generator, dtype=torch.float64) - 12)
    values *= 2 * torch.randint(0, 2, (1000,), generator=generator) - 1
    noise = 0.1 * torch.randn(1000, generator=generator, dtype=torch.float64).clamp(-1.5, 1.5)
    read, scale = _read(values, values * (1 + noise), 0.25 * values.abs())
    assert ((read - values) / values).abs().max() < 2e-13
    # the last hand's scale, in units of the value
    expected = HAND_SCALE / (2 * math.pi) * 1e-6 * math.log(10) * values.abs()
    torch.testing.assert_close(scale, expected, rtol=1e-6, atol=0.0)


def test_hands_that_are_off_by_their_scale_leave_an_error_of_that_scale() -> None:
    generator = torch.Generator().manual_seed(1)
    values = 10 ** (10 * torch.rand(500, generator=generator, dtype=torch.float64) - 5)
    hands = _hands(values).double()
    off = 0.05 * (2 * torch.rand(500, clock.HANDS, generator=generator, dtype=torch.float64) - 1)
    cos, sin = off.cos(), off.sin()
    turned = torch.stack(
        [hands[..., 0] * cos - hands[..., 1] * sin, hands[..., 0] * sin + hands[..., 1] * cos], -1
    )
    scales = torch.full((500, clock.HANDS), 0.05)
    read, scale = clock.LOG_DIAL.read(values * 1.1, values * 0.2, turned, scales)
    error = (read - values).abs()
    assert (error <= scale * (1 + 1e-6)).all()
    assert (error / values).max() > 1e-9, "the last hand's error must be seen"


def test_reading_stops_at_the_last_hand_that_can_be_resolved() -> None:
    """Hands of period 1 and 0.1 are sharp, the finer ones know nothing."""
    values = _double(42.5)
    scales = torch.full((1, clock.HANDS), 0.02)
    scales[:, 4:] = 7.0
    read, scale = clock.LOG_DIAL.read(_double(45.0), _double(5.0), _hands(values), scales)
    assert read.item() == pytest.approx(42.5, rel=1e-6)
    assert scale.item() == pytest.approx(
        0.02 / (2 * math.pi) * 0.1 * 42.5 * math.log(10), rel=1e-5
    )


def test_a_coarser_hand_replaces_nothing() -> None:
    """The location is sharper than every hand but the last three."""
    values, loc = _double(42.5), _double(42.5 * (1 + 1e-5))
    hands = _hands(values)
    hands[:, :6] = torch.tensor([0.0, 1.0])  # wrong, and to be left alone
    scales = torch.full((1, clock.HANDS), 0.3)
    read, _ = clock.LOG_DIAL.read(loc, loc * 2e-5, hands, scales)
    assert read.item() == pytest.approx(42.5, rel=1e-12)


@pytest.mark.parametrize("loc", [1.0, -0.01, 0.0, 199.0])
def test_where_the_magnitude_is_uncertain_the_location_stays(loc: float) -> None:
    read, scale = _read(_double(500.0), _double(loc), _double(200.0))
    assert read.item() == loc
    assert scale.item() == 200.0


def test_length_of_a_hand_does_not_matter() -> None:
    values = _double(17.25, -3e-7)
    scales = torch.full((2, clock.HANDS), HAND_SCALE)
    read, _ = clock.LOG_DIAL.read(values * 0.9, values.abs() * 0.2, 7 * _hands(values), scales)
    torch.testing.assert_close(read, values, rtol=2e-13, atol=0.0)


@PROPERTY
@given(st.integers(-(10**11), 10**11), st.integers(-9, 0), st.floats(-0.04, 0.04))
@example(10**11, -2, 0.04)
@example(-1, -9, -0.04)
@example(0, -9, 0.0)
def test_a_value_is_read_from_the_linear_dial_to_its_last_decimal(
    digits: int, power: int, error: float
) -> None:
    """From a location 4 % off, with hands that are off by their scale; through zero and below it."""
    value = float(Decimal(digits).scaleb(power))
    cos, sin = math.cos(0.05), math.sin(0.05)
    turn = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)
    hands = LINEAR_DIAL.hands(_double(value)).double() @ turn
    periods = _double(*LINEAR_DIAL.periods)
    # float64 leaves a hand unsure that goes round within a last digit
    scales = (0.06 + 2 * math.pi * 2.0**-44 * abs(value) / periods)[None]
    loc, scale = _double(value * (1 + error)), _double(max(0.05 * abs(value), 1e-9))
    read, width = LINEAR_DIAL.read(loc, scale, hands, scales)
    assert clock.shortest_decimal(read.item(), width.item()) == value


@pytest.mark.parametrize(("width", "expected"), [(0.09, 0.25), (0.11, 0.3)])
def test_a_hand_must_be_finer_than_what_is_known(width: float, expected: float) -> None:
    """A hand of period 1 points at 0.25; a location of 0.3 is known to 0.1."""
    scales = torch.where(_double(*LINEAR_DIAL.periods) == 1, 2 * math.pi * width, 7.0)[None]
    hands = LINEAR_DIAL.hands(_double(0.25))
    read, scale = LINEAR_DIAL.read(_double(0.3), _double(0.1), hands, scales)
    assert read.item() == pytest.approx(expected, abs=1e-7)
    assert scale.item() == pytest.approx(min(width, 0.1), abs=1e-7)


def test_reading_the_linear_dial_stops_at_the_last_hand_that_can_be_resolved() -> None:
    """Hands of 10 and 1 are sharp, the finer ones know nothing; the sign is not sure before."""
    scales = torch.full((1, 22), 0.02)
    scales[:, 13:] = 7.0
    read, scale = LINEAR_DIAL.read(
        _double(-1.2), _double(2.5), LINEAR_DIAL.hands(_double(0.25)), scales
    )
    assert LINEAR_DIAL.periods[11:13] == (10.0, 1.0)
    assert read.item() == pytest.approx(0.25, abs=1e-7)
    assert scale.item() == pytest.approx(0.02 / (2 * math.pi), rel=1e-6)


@pytest.mark.parametrize(
    ("value", "half_width", "expected"),
    [
        (42.500003, 1e-5, 42.5),
        (42.500003, 1e-7, 42.500003),
        (17.3412, 0.06, 17.3),
        (17.3412, 0.4, 17.0),
        (17.3412, 3.0, 20.0),
        (-17.3412, 0.06, -17.3),
        (9.97, 0.04, 10.0),
        (0.1 + 0.2, 1e-12, 0.3),
        (123456789.0, 1000.0, 123456000.0 + 1000.0),
        (6.0221e23, 1e21, 6.02e23),
        (0.004, 0.01, 0.0),
        (-0.004, 0.01, 0.0),
        (0.0, 1e-9, 0.0),
        (math.pi, 0.0, math.pi),
    ],
)
def test_shortest_decimal(value: float, half_width: float, expected: float) -> None:
    assert clock.shortest_decimal(value, half_width) == expected


@PROPERTY
@given(_LOG_UNIFORM, st.floats(-13, -0.5))
def test_no_shorter_decimal_is_within_the_interval(value: float, relative: float) -> None:
    half_width = abs(value) * 10**relative
    result = clock.shortest_decimal(value, half_width)
    assert abs(result - value) <= half_width
    digits = len(Decimal(repr(result)).normalize().as_tuple().digits)
    exact = Decimal(value)
    for fewer in range(1, digits):
        nearest = round(exact, fewer - 1 - exact.adjusted())
        assert abs(nearest - exact) > Decimal(half_width) * Decimal("0.999999")
