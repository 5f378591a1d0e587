"""Sums, means and products of the text's numbers, by turning hands.

Each number is taken with plus, with minus or not at all, as the asking position's state chooses.
A hand that turns on by the angles of those taken (or back, with minus) stands where the hand of
their sum stands, for angles of v add up as v does; on a dial of log10|v| it is the hand of their
product and quotient. A choice that is nearly certain leaves an angle nearly right, which is all
that reading a vernier needs: the digits come out exactly, at any size and for numbers never seen.

Known relatives: signed choices and sums of logarithms are those of neural arithmetic logic units
(Trask et al. 2018), whose results are as inexact as their weights; phases of v at powers of ten
are those of FoNE (Zhou et al. 2025), whose network has to learn to add them.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from numlm.clock import FINE_LOG_DIAL, LARGEST, LINEAR_DIAL, Dial
from numlm.estimate import MAGNITUDE_LIMIT, Estimate
from numlm.reading import TextNumbers


class Operation(NamedTuple):
    """What is made of the numbers taken.

    Attributes:
        dial: The dial on which their hands turn.
        shared: Whether each is divided by how many are taken.
    """

    dial: Dial
    shared: bool = False


SUM, MEAN = Operation(LINEAR_DIAL), Operation(LINEAR_DIAL, shared=True)
PRODUCT = Operation(FINE_LOG_DIAL)
OPERATIONS = (SUM, MEAN, PRODUCT)
# A score of 1 is a choice with odds of exp(3) to 1 while it is learned, and of exp(8) where it is
# used. With exp(8) in learning too, an operation that is seldom asked for is not found once others
# are: the way from plus to minus has a gradient of exp(-16). With exp(3) in use, what is not taken
# leaks in with 5 %.
_SOFT, _SHARP = 3.0, 8.0
# Biases as long as what random weights make of a state of size one: scores start at about a half.
# A sum of all is soon told apart from another sum, where one of none had to be found first.
_START = 3**-0.5
_LEAST = 1e-12  # size of a sum of nothing
_SHORTEST = 1e-6  # hand that still points somewhere
_LOG_SCALES = (-9.0, 4.0)
_LOG_ERRORS = (-30.0, 2.0)
_GREATEST_HAND_SCALE = 10.0  # radians: it may stand anywhere
_LEAST_HAND_SCALE = 0.03  # radians: what a choice that is nearly certain turns a hand by


class SignedChoice(nn.Module):
    """Which numbers are taken, with plus or with minus; at the start all of them with plus.

    Scores are cosines of queries and keys: however large weights become, odds stay bounded.

    Args:
        hidden_size: Size H of the hidden states.
        size: Size of a query.
    """

    def __init__(self, hidden_size: int, size: int) -> None:
        super().__init__()
        self.query = nn.Linear(hidden_size, 2 * size)
        self.key = nn.Linear(2 * hidden_size, 2 * size)
        for_plus, for_minus = self.key.bias.detach().split(size)
        for bias, start in ((self.query.bias, 1), (for_plus, 1), (for_minus, -1)):
            nn.init.constant_(bias, start * _START)

    def forward(self, asking: Tensor, keys: Tensor, visible: Tensor) -> Tensor:
        """Scores (B, A, 2, K) in [-1, 1] of plus and of minus, -inf where a number is invisible.

        Args:
            asking: (B, A, H) state where is asked.
            keys: (B, K, 2 H) of the numbers.
            visible: (B, A, K) bool.
        """
        query = functional.normalize(self.query(asking).unflatten(-1, (2, -1)), dim=-1)
        key = functional.normalize(self.key(keys).unflatten(-1, (2, -1)), dim=-1)
        scores = torch.einsum("bawd,bkwd->bawk", query, key)
        return scores.masked_fill(~visible[:, :, None, :], float("-inf"))


def _taken(scores: Tensor, sharpness: float) -> tuple[Tensor, Tensor]:
    """How far each number is taken (B, A, K) in [0, 1], and which way in [-1, 1]."""
    none = torch.zeros_like(scores[:, :, :1])
    _, plus, minus = torch.cat([none, sharpness * scores], dim=2).softmax(2).unbind(2)
    return plus + minus, plus - minus


class Arithmetic(nn.Module):
    """A sum, a mean and a product of the text's numbers, each of numbers chosen for it.

    Args:
        hidden_size: Size H of the hidden states.
        size: Size of a choice's query.
    """

    def __init__(self, hidden_size: int, size: int) -> None:
        super().__init__()
        self.choices = nn.ModuleList(SignedChoice(hidden_size, size) for _ in OPERATIONS)
        self.certainty = nn.Linear(hidden_size, 2 * len(OPERATIONS))

    def forward(self, asking: Tensor, keys: Tensor, numbers: TextNumbers) -> tuple[Estimate, ...]:
        """What each of `OPERATIONS` makes.

        Args:
            asking: (B, A, H) state where is asked.
            keys: (B, K, 2 H) of the numbers.
            numbers: The numbers of the texts.
        """
        made = []
        for operation, choice, certainty in zip(
            OPERATIONS, self.choices, self.certainty(asking).split(2, dim=-1), strict=True
        ):
            scores = choice(asking, keys, numbers.visible)
            sharpness = _SOFT if self.training else _SHARP
            made.append(_make(operation, scores, sharpness, numbers.values, certainty))
        return tuple(made)


def _make(
    operation: Operation, scores: Tensor, sharpness: float, values: Tensor, certainty: Tensor
) -> Estimate:
    """Apply an operation to values (B, K) as scores (B, A, 2, K) take them."""
    values = values[:, None]
    learned, used = _taken(scores, sharpness), _taken(scores.detach(), _SHARP)
    if operation.shared:
        values = values / (used[0] > 0.5).sum(-1, keepdim=True).clamp(min=1)
    rough = _product if operation.dial.logarithmic else _sum
    # As it is used, with the gradient of a softer choice.
    magnitude, signed = (
        soft + (sharp - soft).detach()
        for sharp, soft in zip(rough(*used, values), rough(*learned, values), strict=True)
    )
    magnitude = magnitude.clamp(-MAGNITUDE_LIMIT, MAGNITUDE_LIMIT)
    return Estimate(
        magnitude=magnitude,
        signed=signed,
        log_scale=_between(*_LOG_SCALES, certainty[..., 0]),
        hands=_turned(*learned, operation.dial.hands(values)),
        hand_scales=_hand_scales(
            _between(*_LOG_ERRORS, certainty[..., 1]), magnitude, operation.dial
        ),
        dial=operation.dial,
    )


def _hand_scales(log_error: Tensor, magnitude: Tensor, dial: Dial) -> Tensor:
    """Scales (B, A, J) of hands in radians, of a result with a relative error: all from one.

    An error e on the axis turns the hand of period P by 2 pi e / P.
    """
    error = log_error.exp() / math.log(10)
    if not dial.logarithmic:
        error = log_error.exp() * torch.pow(10.0, magnitude.detach())
    periods = torch.tensor(dial.periods, device=error.device)
    scales = _LEAST_HAND_SCALE + 2 * math.pi * error[..., None] / periods
    return scales.clamp(max=_GREATEST_HAND_SCALE)


def _turned(taken: Tensor, way: Tensor, hands: Tensor) -> Tensor:
    """One set of hands (B, A, J, 2) turned by those of numbers (B, A or 1, K, J, 2) taken."""
    taken, way = taken[..., None], way[..., None]
    turns = torch.complex(1 - taken + taken * hands[..., 0], way * hands[..., 1])  # (B, A, K, J)
    while (count := turns.shape[2]) > 1:  # in pairs, so that the gradient needs no division
        half = count // 2
        pairs = turns[:, :, :half] * turns[:, :, half : 2 * half]
        # Of hundreds the product would vanish; a length means nothing and needs no gradient.
        pairs = pairs / pairs.detach().abs().clamp(min=_SHORTEST)
        turns = torch.cat([pairs, turns[:, :, 2 * half :]], dim=2)
    return functional.normalize(torch.view_as_real(turns[:, :, 0]), dim=-1, eps=_SHORTEST)


def _sum(taken: Tensor, way: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """M and a (B, A) of the sum, in units of the sizes of what is taken."""
    values = values.clamp(-LARGEST, LARGEST)  # which a sum cannot exceed float64 with
    size = (taken * values.abs()).sum(-1).clamp(min=_LEAST)
    return size.log10().float(), ((way * values).sum(-1) / size).float()


def _product(taken: Tensor, way: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """M and a (B, A) of the product and quotient; a zero takes no part in the magnitude."""
    magnitude = values.abs().where(values != 0, 1.0).log10().float()
    return (way * magnitude).sum(-1), (1 - taken + taken * values.sign().float()).prod(-1)


def _between(low: float, high: float, outputs: Tensor) -> Tensor:
    """Outputs brought between two bounds smoothly: at neither does a gradient end."""
    return low + (high - low) * outputs.sigmoid()
