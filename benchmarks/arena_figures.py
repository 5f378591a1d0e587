"""Figures of what a contender of the arena answers: right, how far off, how sure."""

import math
import warnings
from decimal import Decimal
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.arena_tasks import SIGNIFICANT
from benchmarks.contenders.base import LEVELS, Answers
from numlm.floors import point_figures

_STEP = LEVELS[1] - LEVELS[0]
_INTERVAL = tuple(map(LEVELS.index, (0.1, 0.9)))


def is_right(value: float, truth: float) -> bool:
    """Whether a value is the truth, rounded to as many digits as are written, at least six.

    >>> is_right(1 / 3, 0.333333), is_right(0.33333, 0.333333), is_right(123456789.4, 123456789)
    (True, False, True)
    """
    written = Decimal(repr(truth).removesuffix(".0"))
    digits = max(SIGNIFICANT, len(written.as_tuple().digits))
    return f"{value + 0.0:.{digits - 1}e}" == f"{truth:.{digits - 1}e}"  # + 0.0: no -0.0


def quantile_crps(quantiles: Tensor, truths: Tensor) -> Tensor:
    """Continuous ranked probability scores (N,) of quantiles (N, `LEVELS`).

    Twice the integral of the quantile loss over all levels, by the trapezoidal rule; at the levels
    0 and 1 the loss is none.
    """
    levels = torch.tensor(LEVELS, dtype=torch.float64)
    error = truths[:, None] - quantiles
    return 2 * _STEP * torch.maximum(levels * error, (levels - 1) * error).sum(-1)


def sample_crps(samples: Tensor, truths: Tensor) -> Tensor:
    """Continuous ranked probability scores (N,) of the distribution that samples (N, S) are from.

    E|X - t| - E|X - X'| / 2 without bias, however few the samples are (the fair score of Ferro,
    2014). Samples that are NaN do not count; without any the score is NaN.
    """
    known = ~samples.isnan()
    count = known.sum(-1)
    filled = samples.masked_fill(~known, 0.0)
    error = ((filled - truths[:, None]).abs() * known).sum(-1) / count
    pairs = known[:, :, None] & known[:, None, :]
    apart = ((filled[:, :, None] - filled[:, None, :]).abs() * pairs).sum((-2, -1))
    return error - apart / (2 * count * (count - 1)).clamp(min=1)


def sample_quantiles(samples: Tensor) -> Tensor:
    """Quantiles (N, `LEVELS`) of the distribution that samples (N, S) are from.

    The k-th of m is taken as the quantile of level k / (m + 1), so that an interval holds what it
    says. Samples that are NaN do not count; without any the quantiles are NaN.
    """
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # of rows without any
        found = np.nanquantile(samples.numpy(), LEVELS, axis=-1, method="weibull")
    return torch.from_numpy(found).T


def figures(answers: Answers, truths: Tensor) -> dict[str, Any]:
    """Figures of answers to questions.

    Returns:
        Those of `point_figures` and `right`, the share that is the truth to every digit that the
        truth is written with (`is_right`); `crps`, that of a contender without a distribution
        being its mean absolute error, and `coverage_80` where there is a distribution. Errors and
        scores are of what is answered, `right` and coverage of all.
    """
    values: list[float | None] = [
        value if math.isfinite(value) else None for value in answers.values.tolist()
    ]
    right = [
        value is not None and is_right(value, truth)
        for value, truth in zip(values, truths.tolist(), strict=True)
    ]
    found = {**point_figures(values, truths.tolist()), "right": sum(right) / len(right)}
    quantiles = answers.quantiles
    if answers.samples is not None:
        quantiles, scores = sample_quantiles(answers.samples), sample_crps(answers.samples, truths)
    elif quantiles is not None:
        scores = quantile_crps(quantiles, truths)
    if quantiles is None:
        return {**found, "crps": found["mae"]}
    low, high = (quantiles[:, level] for level in _INTERVAL)
    inside = (low <= truths) & (truths <= high)  # not where there is no number
    known = scores[scores.isfinite()]
    return {
        **found,
        "crps": known.mean().item() if len(known) else None,
        "coverage_80": inside.double().mean().item(),
    }
