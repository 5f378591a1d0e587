"""Losses of the number head, elementwise, and the sums and counts they are averaged by.

    value loss    Cauchy NLL of V + 1/2 * sum of the hands' wrapped Cauchy NLL (v != 0); or V's
                  CRPS in units of 10^M in place of its NLL
    pointer loss  -log of the probability of the right copies; where there are none, of the density
                  of the mixture of the new value and of what lies near the text's numbers

Everything is float32. Terms keep sums and counts and divide once, so that they are right for
uneven batches.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from numlm import clock
from numlm.distributions import cauchy_crps, cauchy_nll, wrapped_cauchy_nll
from numlm.number_head import NumberAnswer

HAND_WEIGHT = 0.5

# Loss (B, A) of new values, from the head's outputs and the true values (B, A).
ValueLoss = Callable[[NumberAnswer, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Term:
    """A loss as a sum over elements and their number; the mean is 0 where there are none."""

    sum: Tensor
    count: Tensor

    @property
    def mean(self) -> Tensor:
        """Sum over count, 0 where the count is 0 (and still connected to the graph)."""
        return self.sum / torch.where(self.count > 0, self.count, 1)


def value_nll(answer: NumberAnswer, targets: Tensor) -> Tensor:
    """Negative log-likelihood of a new value: its floating-point Cauchy and its hands.

    Args:
        answer: The head's outputs at (B, A) positions.
        targets: (B, A) float64, the true values.

    Returns:
        (B, A) nats (the hands' without their constants); lower is better.
    """
    return _new_nll(answer, targets) + _hands_nll(answer, targets)


def value_crps(answer: NumberAnswer, targets: Tensor) -> Tensor:
    """Continuous ranked probability score of a new value in units of its 10^M, and its hands' NLL.

    The likelihood of a Cauchy seeks the mode: where noise is skewed its centre is far from the
    mean, and under a Gaussian's noise it needs more data than least squares. The score's centre
    lies between median and mean, and it loses less than 1 % to least squares on linear data.

    Args:
        answer: The head's outputs at (B, A) positions.
        targets: (B, A) float64, the true values.

    Returns:
        (B, A); lower is better.
    """
    unit = torch.pow(10.0, answer.magnitude)
    score = cauchy_crps(_as_float(targets), unit * answer.signed, unit * answer.log_scale.exp())
    return score / unit.detach() + _hands_nll(answer, targets)


def _hands_nll(answer: NumberAnswer, targets: Tensor) -> Tensor:
    """Weighted negative log-likelihood (B, A) of the hands that an answer has."""
    true_hands = clock.encode(targets)[..., clock.FIRST_HAND :].unflatten(-1, (clock.HANDS, 2))
    true_hands = true_hands[..., : answer.hands.shape[-2], :]
    hands = wrapped_cauchy_nll(answer.hands, true_hands, answer.hand_scales).sum(-1)
    return HAND_WEIGHT * hands * (targets != 0)


def pointer_nll(answer: NumberAnswer, targets: Tensor) -> Tensor:
    """-log probability of the earlier numbers equal to the target; without any, -log density.

    The density of the new value is taken as it is: only its share in the mixture is trained here.

    Args:
        answer: The head's outputs at (B, A) positions.
        targets: (B, A) float64, the true values.

    Returns:
        (B, A) nats; lower is better.
    """
    count = answer.values.shape[-1]
    new, copied, near = answer.pointer.split([1, count, count], dim=-1)
    offset = targets[..., None] - answer.values[:, None, :]  # (B, A, K)
    equal = (offset == 0) & torch.isfinite(copied)
    copy_nll = -copied.masked_fill(~equal, float("-inf")).logsumexp(-1)
    log_scale = answer.near_log_scale[..., None]
    near_density = -cauchy_nll(_as_float(offset), torch.zeros_like(log_scale), log_scale.exp())
    new_density = -_new_nll(answer, targets).detach()
    density = torch.cat([new + new_density[..., None], near + near_density], dim=-1)
    return torch.where(equal.any(-1), copy_nll, -density.logsumexp(-1))


def _new_nll(answer: NumberAnswer, targets: Tensor) -> Tensor:
    """Negative log-density (B, A) of the new value's floating-point Cauchy."""
    scaled = _as_float(targets) * torch.pow(10.0, -answer.magnitude)
    linear = cauchy_nll(scaled, answer.signed, answer.log_scale.exp())
    return linear + answer.magnitude * math.log(10)


def _as_float(values: Tensor) -> Tensor:
    """Float64 values in float32, without infinities."""
    return values.clamp(-1e24, 1e24).float()
