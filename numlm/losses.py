"""Losses of the number head, elementwise, and the sums and counts they are averaged by.

    value loss    Cauchy NLL of V + 1/2 * sum of the hands' wrapped Cauchy NLL (v != 0)
    pointer loss  -log of the probability of the right copies, or of "new"

Everything is float32. Terms keep sums and counts and divide once, so that they are right for
uneven batches.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from numlm import clock
from numlm.distributions import cauchy_nll, wrapped_cauchy_nll
from numlm.number_head import NumberAnswer

HAND_WEIGHT = 0.5


@dataclass(frozen=True, slots=True)
class Term:
    """A loss as a sum over elements and their number; the mean is 0 where there are none."""

    sum: Tensor
    count: Tensor

    @property
    def mean(self) -> Tensor:
        """Sum over count, 0 where the count is 0 (and still connected to the graph)."""
        return self.sum / self.count.clamp(min=1)


def value_nll(answer: NumberAnswer, targets: Tensor) -> Tensor:
    """Negative log-likelihood of a new value: its floating-point Cauchy and its hands.

    Args:
        answer: The head's outputs at (B, A) positions.
        targets: (B, A) float64, the true values.

    Returns:
        (B, A) nats (the hands' without their constants); lower is better.
    """
    scaled = targets.clamp(-1e24, 1e24).float() * torch.pow(10.0, -answer.magnitude)
    linear = cauchy_nll(scaled, answer.signed, answer.log_scale.exp())
    linear = linear + answer.magnitude * math.log(10)
    true_hands = clock.encode(targets)[..., clock.FIRST_HAND :].unflatten(-1, (clock.HANDS, 2))
    hands = wrapped_cauchy_nll(answer.hands, true_hands, answer.hand_scales).sum(-1)
    return linear + HAND_WEIGHT * hands * (targets != 0)


def pointer_nll(answer: NumberAnswer, targets: Tensor) -> Tensor:
    """-log probability of the earlier numbers equal to the target; of "new" without any.

    Args:
        answer: The head's outputs at (B, A) positions.
        targets: (B, A) float64, the true values.

    Returns:
        (B, A) nats; lower is better.
    """
    visible = torch.isfinite(answer.pointer[..., 1:])
    equal = (answer.values[:, None, :] == targets[..., None]) & visible
    right = torch.cat([~equal.any(-1, keepdim=True), equal], dim=-1)
    return -answer.pointer.masked_fill(~right, float("-inf")).logsumexp(-1)
