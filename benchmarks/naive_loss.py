"""The vocabulary losses as one would write them: all scores at once, gradients by autograd.

What `numlm.vocabulary_loss` is compared with, in tests and in time.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional


def naive_softmax(loc: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Sum of cross-entropies of `softmax(loc . W^T)`, a scalar in nats.

    Args:
        loc: (N, H) states.
        weight: (V, H) output weights.
        labels: (N,) int64.
    """
    scores = _scores(loc, weight)
    return functional.cross_entropy(scores, labels, reduction="sum")


def naive_one_vs_rest(
    loc: Tensor, scale: Tensor, weight: Tensor, threshold: Tensor, labels: Tensor
) -> Tensor:
    """Sum of V binary cross-entropies at every position, a scalar in nats.

    Args:
        loc: (N, H) locations.
        scale: (N, 1) scales.
        weight: (V, H) output weights.
        threshold: (V,) thresholds.
        labels: (N,) int64.
    """
    return decisions((_scores(loc, weight) - threshold) / scale, labels)


def decisions(x: Tensor, labels: Tensor) -> Tensor:
    """Sum of V binary cross-entropies at every position, of standardized scores (N, V)."""
    log_not = (torch.atan2(torch.ones_like(x), x) / math.pi).log()
    chosen = labels[:, None]
    yes = x.gather(-1, chosen)
    log_yes = (torch.atan2(torch.ones_like(yes), -yes) / math.pi).log()
    return (log_not.gather(-1, chosen) - log_yes).sum() - log_not.sum()


def _scores(loc: Tensor, weight: Tensor) -> Tensor:
    scores = functional.linear(loc.to(weight.dtype), weight)
    return scores.to(torch.promote_types(loc.dtype, torch.float32))
