"""Losses of the number head, elementwise, and the sums and counts they are averaged by.

    value loss    CRPS of V in units of 10^M, or its Cauchy NLL, + 1/2 * sum of the hands' wrapped
                  Cauchy NLL (v != 0)
    made loss     the NLL of the sum, the mean and the product of the text's numbers, where there
                  are two and none of them is the target
    near loss     -log of the density of what lies near the text's numbers, where none of them is
                  the target
    pointer loss  -log of the probability of the right copies; where there are none, of the density
                  of the mixture of new and made values and of what lies near the text's numbers

Everything is float32 but what is read, which is float64. Terms keep sums and counts and divide
once, so that they are right for uneven batches.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from numlm.distributions import cauchy_crps
from numlm.estimate import as_float
from numlm.number_head import NumberAnswer

HAND_WEIGHT = 0.5
MADE_WEIGHT = 0.3
NEAR_WEIGHT = 0.3
_FARTHEST = 100.0  # units of a new value
_FEWEST = 2  # numbers that something is made from
_LEAST_LOG_SCALE = -3.0  # of a rough size from which it is learned what to take

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
    return answer.new.nll(targets) + HAND_WEIGHT * answer.new.hands_nll(targets)


def value_crps(answer: NumberAnswer, targets: Tensor) -> Tensor:
    """Continuous ranked probability score of a new value in units of its 10^M, and its hands' NLL.

    The likelihood of a Cauchy seeks the mode: where noise is skewed its centre is far from the
    mean, and under a Gaussian's noise it needs more data than least squares. The score's centre
    lies between median and mean, and it loses less than 1 % to least squares on linear data.
    Targets are taken to lie within `_FARTHEST` units, for the score grows with the error and a
    value of another magnitude would be all that a mean shows; its gradient hardly sees how far.

    Args:
        answer: The head's outputs at (B, A) positions.
        targets: (B, A) float64, the true values.

    Returns:
        (B, A); lower is better.
    """
    new = answer.new
    unit = torch.pow(10.0, new.magnitude)
    reach = _FARTHEST * unit.detach()
    near = torch.maximum(torch.minimum(as_float(targets), reach), -reach)
    score = cauchy_crps(near, unit * new.signed, unit * new.log_scale.exp())
    return score / unit.detach() + HAND_WEIGHT * new.hands_nll(targets)


def made_loss(answer: NumberAnswer, targets: Tensor) -> Tensor:
    """Loss of the values that are made from the text's numbers, each as if it were the answer.

    What is taken is learned from all hands alike, as if each had a scale of one radian, and from
    the rough size at a scale of e^-3 or more, which draws it to what it nearly explains. With
    scales as small as they are learned, an operation that is found first has a gradient a thousand
    times that of the others and keeps them from being found. They are learned beside it.

    Where nothing is to be made, trying to is noise, of as many hands as there are, and restating
    suffers. So nothing is learned from copies or where there are not two numbers, and the rest has
    a small weight, which what is shared feels: the choices' own steps do not hang on it.

    Args:
        answer: The head's outputs at (B, A) positions.
        targets: (B, A) float64, the true values.

    Returns:
        (B, A) nats (the hands' without their constants), weighted.
    """
    loss = torch.zeros_like(answer.near_log_scale)
    for made in answer.made:
        alike = replace(
            made,
            log_scale=made.log_scale.detach().clamp(min=_LEAST_LOG_SCALE),
            hand_scales=torch.ones_like(made.hand_scales),
        )
        fixed = replace(
            made,
            magnitude=made.magnitude.detach(),
            signed=made.signed.detach(),
            hands=made.hands.detach(),
        )
        for part in (alike, fixed):
            loss = loss + part.nll(targets) + HAND_WEIGHT * part.hands_nll(targets)
    several = answer.visible.sum(-1) >= _FEWEST
    return MADE_WEIGHT * loss * (several & ~answer.equals(targets).any(-1))


def near_loss(answer: NumberAnswer, targets: Tensor) -> Tensor:
    """Loss of what lies near the text's numbers, as if the answer were one of these.

    The mixture alone would train the scale in proportion to its share: where a new value is found
    first the share falls to nothing while the scale is still wrong, and stays there. Near which
    number is taken as it is.

    Args:
        answer: The head's outputs at (B, A) positions.
        targets: (B, A) float64, the true values.

    Returns:
        (B, A) nats, weighted; 0 where no number is in sight or one of them is the target.
    """
    _, _, near = answer.split_pointer()
    apart = torch.isfinite(near).any(-1) & ~answer.equals(targets).any(-1)
    shares = near.detach().masked_fill(~apart[..., None], 0.0).log_softmax(-1)
    nll = -(shares - answer.near_nll(targets)).logsumexp(-1)
    return NEAR_WEIGHT * torch.where(apart, nll, 0.0)


def _own_nll(answer: NumberAnswer, targets: Tensor) -> Tensor:
    """Negative log-densities (B, A, 1 + M) of the estimates, without gradients.

    Where there are several, as they are read: what tells them apart is how exact they are.
    """
    if not answer.made:
        return answer.new.nll(targets).detach()[..., None]
    return torch.stack([estimate.read_nll(targets) for estimate in answer.estimates], dim=-1)


def pointer_nll(answer: NumberAnswer, targets: Tensor) -> Tensor:
    """-log probability of the earlier numbers equal to the target; without any, -log density.

    The densities of the new value and of those that are made are taken as they are: only
    their shares in the mixture are trained here. Where there is a copy, their shares among
    themselves are trained beside it, if some are made.

    Args:
        answer: The head's outputs at (B, A) positions.
        targets: (B, A) float64, the true values.

    Returns:
        (B, A) nats; lower is better.
    """
    estimates, copied, near = answer.split_pointer()
    equal = answer.equals(targets)
    is_copy = (equal & torch.isfinite(copied)).any(-1)
    copy_nll = -copied.masked_fill(~equal, float("-inf")).logsumexp(-1)
    own_density = -_own_nll(answer, targets)
    density = torch.cat([estimates + own_density, near - answer.near_nll(targets)], dim=-1)
    if answer.made:  # which of the estimates is right is learned where a copy is righter still
        copy_nll = copy_nll - (estimates.log_softmax(-1) + own_density).logsumexp(-1)
    return torch.where(is_copy, copy_nll, -density.logsumexp(-1))
