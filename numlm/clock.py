"""The clock: a value as phases of its logarithm, and back (float64 throughout).

With L = log10|v| the features of a value are

    [L / 6, sign, is-zero, is-nonzero, cos and sin of 2*pi*(L / P mod 1) for P in `PERIODS`]

A scalar that leaves a network keeps about three digits. A clock keeps far more digits than any of
its hands is accurate, because a hand only has to resolve the one before it: `Dial.read` goes from
the longest period to the shortest as one reads a vernier. Phases of
the logarithm have no jump at 9.99 -> 10.0, and 1e-5 and 1e5 are equally precise.

Hands that turn on by another number's angle add up what they stand for: on a dial of the logarithm
that multiplies numbers, on a dial of the value itself it adds them.

All of this is in float64; what leaves `encode` is float32 of size about 1.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

PERIODS = (100.0, 10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
HANDS = len(PERIODS)
MAGNITUDE, SIGN, IS_ZERO, IS_NONZERO, FIRST_HAND = 0, 1, 2, 3, 4
FEATURES = FIRST_HAND + 2 * HANDS
MAGNITUDE_UNIT = 6.0
_RESOLVED = 0.3  # a hand is read when what is known is within this share of its period
LARGEST = 1e24  # beyond it a float64 has no digits that any hand could show
_FARTHEST = 50.0  # |L| beyond which the longest hand has gone round


@dataclass(frozen=True)
class Dial:
    """Hands of several periods, on an axis of the value or of its logarithm to base 10.

    Attributes:
        periods: Their periods on the axis, from the longest on.
        logarithmic: Whether the axis is log10|v|; zero has no hands there.
    """

    periods: tuple[float, ...]
    logarithmic: bool

    def hands(self, values: Tensor) -> Tensor:
        """Unit vectors (..., J, 2) in float32 of values (...), float64 and finite."""
        values = values.double()
        exists = values != 0 if self.logarithmic else torch.ones_like(values, dtype=torch.bool)
        if self.logarithmic:
            place = values.abs().where(exists, 1.0).log10()
        else:
            place = values.clamp(-LARGEST, LARGEST)
        periods = torch.tensor(self.periods, dtype=torch.float64, device=values.device)
        angles = 2 * math.pi * torch.remainder(place[..., None] / periods, 1.0)
        hands = torch.stack([angles.cos(), angles.sin()], dim=-1) * exists[..., None, None]
        return hands.float()

    def read(
        self, loc: Tensor, scale: Tensor, hands: Tensor, hand_scales: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sharpen a value by its hands, from the longest period to the shortest.

        Starts from the value's place v on the axis with its uncertainty w there: scale, or
        scale / (|loc| ln 10) on a logarithmic one. For every hand the
        candidate is the place nearest to v that agrees with the hand; it replaces (v, w) when w is
        under 0.3 of the period and the hand is finer than w. Where a logarithmic axis is to be
        read and not even the value's magnitude is certain, the value stays as it was.

        Args:
            loc: (...) float64, the value as the linear output gives it.
            scale: (...) float64 > 0, its Cauchy scale.
            hands: (..., J, 2), direction of the first J of the hands; any length.
            hand_scales: (..., J) > 0, Cauchy scale of each hand's angle in radians.

        Returns:
            The value and its scale, both (...) float64.
        """
        loc, scale, hands, hand_scales = (t.double() for t in (loc, scale, hands, hand_scales))
        certain = torch.ones_like(loc, dtype=torch.bool)
        v, w = loc, scale
        if self.logarithmic:
            certain = scale < loc.abs()  # otherwise not even the sign is known
            size = loc.abs().clamp(min=torch.finfo(torch.float64).tiny)
            v, w = size.log10(), scale / (size * math.log(10))
        phases = torch.atan2(hands[..., 1], hands[..., 0]) / (2 * math.pi)
        read = torch.zeros_like(certain)
        for j, period in enumerate(self.periods[: hands.shape[-2]]):
            candidate = v + period * _centred(phases[..., j] - v / period)
            width = hand_scales[..., j] / (2 * math.pi) * period
            take = certain & (w < _RESOLVED * period) & (width < w)
            v, w = torch.where(take, candidate, v), torch.where(take, width, w)
            read |= take
        if self.logarithmic:
            v = loc.sign() * 10.0**v
            w = w * v.abs() * math.log(10)
        return torch.where(read, v, loc), torch.where(read, w, scale)


LOG_DIAL = Dial(PERIODS, logarithmic=True)
FINE_LOG_DIAL = Dial((*PERIODS, 1e-7, 1e-8), logarithmic=True)
LINEAR_DIAL = Dial(tuple(10.0**power for power in range(12, -10, -1)), logarithmic=False)


def encode(values: Tensor) -> Tensor:
    """Clock features of values.

    Args:
        values: (...) float64, finite.

    Returns:
        (..., FEATURES) float32.

    >>> encode(torch.tensor([0.0, 1.0], dtype=torch.float64))[:, :4].tolist()
    [[0.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]]
    """
    values = values.double()
    nonzero = values != 0
    magnitude = torch.log10(values.abs().where(nonzero, 1.0))
    head = torch.stack(
        [
            magnitude.clamp(-_FARTHEST, _FARTHEST) / MAGNITUDE_UNIT,
            values.sign(),
            (~nonzero).double(),
            nonzero.double(),
        ],
        dim=-1,
    )
    hands = LOG_DIAL.hands(values)
    return torch.cat([head.float(), hands.flatten(-2)], dim=-1)


def encode_at(is_number: Tensor, values: Tensor) -> Tensor:
    """Clock features (..., FEATURES) of values (...) where a number stands, 0 elsewhere."""
    features = torch.zeros(*values.shape, FEATURES, device=values.device)
    features[is_number] = encode(values[is_number])
    return features


def coarse_features(hands: int) -> Tensor:
    """Which features (FEATURES,) tell a value up to its first hands, from the longest on.

    Raises:
        ValueError: If there are not so many hands.

    >>> int(coarse_features(1).sum()) - FIRST_HAND
    2
    """
    if not 0 <= hands <= HANDS:
        raise ValueError(f"the clock has hands 0 to {HANDS}, not {hands}")
    return torch.arange(FEATURES) < FIRST_HAND + 2 * hands


def _centred(turns: Tensor) -> Tensor:
    """Turns brought into [-1/2, 1/2)."""
    return torch.remainder(turns + 0.5, 1.0) - 0.5


def shortest_decimal(value: float, half_width: float) -> float:
    """The decimal with the fewest digits within `half_width` of the value, the nearest of them.

    >>> shortest_decimal(42.4999997, 1e-5), shortest_decimal(17.3412, 0.06)
    (42.5, 17.3)
    >>> shortest_decimal(1e-9, 0.01)
    0.0
    """
    if not math.isfinite(value) or abs(value) <= half_width:
        return 0.0 if math.isfinite(value) else value
    for digits in range(1, 17):
        candidate = float(f"{value:.{digits - 1}e}")
        if abs(candidate - value) <= half_width:
            return candidate
    return value
