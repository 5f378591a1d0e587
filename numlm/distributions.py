"""Cauchy, wrapped Cauchy, and the mixture that answers "which number?".

Log-likelihoods are float32 and stable in the tails; quantiles are float64, because a copied value
is exact.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from numlm.clock import shortest_decimal


def cauchy_nll(x: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Negative log-likelihood `log(pi s) + log(1 + ((x - loc) / s)^2)` in nats, elementwise.

    >>> round(cauchy_nll(torch.tensor(1.0), torch.tensor(0.0), torch.tensor(1.0)).item(), 4)
    1.8379
    """
    return math.log(math.pi) - scale.log() + 2 * torch.hypot(x - loc, scale).log()


def cauchy_cdf(x: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """P(X <= x), without the cancellation of `1/2 + atan(.)/pi` in the lower tail."""
    standardized = (x - loc) / scale
    return torch.atan2(torch.ones_like(standardized), -standardized) / math.pi


def cauchy_crps(x: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Continuous ranked probability score `integral of (F(t) - [t >= x])^2 dt`, in units of x.

    With z = (x - loc) / scale the integral is `2 s / pi * (z atan z - log(1 + z^2) / 2 + log 2)`:
    finite although a Cauchy variable has no mean, because the tails enter squared.

    >>> round(cauchy_crps(torch.tensor(0.0), torch.tensor(0.0), torch.tensor(1.0)).item(), 4)
    0.4413
    """
    return cauchy_distance(x - loc, scale) + 2 / math.pi * math.log(2) * scale


def cauchy_distance(offset: Tensor, scale: Tensor) -> Tensor:
    """`E|S - offset| - E|S|` of S ~ Cauchy(0, scale), the limit of truncated expectations.

    `2 / pi * (d atan(d / s) - s log(1 + d^2 / s^2) / 2)`, whose derivative in d is 2 F(d) - 1.
    """
    reach = torch.hypot(offset, scale).log() - scale.log()  # offset / scale may overflow
    return 2 / math.pi * (offset * torch.atan2(offset, scale) - scale * reach)


def wrapped_cauchy_nll(direction: Tensor, target: Tensor, scale: Tensor) -> Tensor:
    """Negative log-likelihood of an angle under a wrapped Cauchy, without its log(2 pi).

    `-log sinh g + log(2 sinh(g/2)^2 + 1 - cos d)`, with `1 - cos d` as half the squared distance
    of two unit vectors; the textbook form `log(cosh g - cos d)` loses every digit in float32 where
    d is small.

    Args:
        direction: (..., 2) unit vector of the predicted angle.
        target: (..., 2) unit vector of the true angle.
        scale: (...) g > 0, the Cauchy scale that was wrapped, in radians.

    Returns:
        (...) nats; lower is better.
    """
    distance = (direction - target).square().sum(-1) / 2
    return -_log_sinh(scale) + torch.log(2 * torch.sinh(scale / 2).square() + distance)


def _log_sinh(x: Tensor) -> Tensor:
    """log(sinh(x)) for x > 0, without overflow."""
    return x + torch.log(-torch.expm1(-2 * x)) - math.log(2)


@dataclass(frozen=True, slots=True)
class ValueMixture:
    """Point masses at the text's numbers and one Cauchy for a new one.

    Attributes:
        atoms: (N, K) float64, the values that could be copied.
        weights: (N, K) float64, their probabilities; 0 where there is no number.
        loc: (N,) float64, location of the new number.
        scale: (N,) float64 > 0, its scale.
    """

    atoms: Tensor
    weights: Tensor
    loc: Tensor
    scale: Tensor

    @classmethod
    def joined(cls, mixtures: "Sequence[ValueMixture]") -> "ValueMixture":
        """The rows of several in one, those with fewer atoms filled up with atoms of weight 0."""
        most = max(mixture.atoms.shape[-1] for mixture in mixtures)
        atoms, weights = (
            torch.cat([functional.pad(part, (0, most - part.shape[-1])) for part in parts])
            for parts in ([m.atoms for m in mixtures], [m.weights for m in mixtures])
        )
        return cls(
            atoms,
            weights,
            torch.cat([m.loc for m in mixtures]),
            torch.cat([m.scale for m in mixtures]),
        )

    @property
    def new(self) -> Tensor:
        """(N,) probability of a new number."""
        return (1 - self.weights.sum(-1)).clamp(0, 1)

    def cdf(self, x: Tensor) -> Tensor:
        """P(value <= x) for x (N,)."""
        copied = (self.weights * (self.atoms <= x[:, None])).sum(-1)
        return copied + self.new * cauchy_cdf(x, self.loc, self.scale)

    def crps(self, x: Tensor) -> Tensor:
        """Continuous ranked probability score at x (N,), in units of x; lower is better.

        For X and X' drawn independently it is `E|X - x| - E|X - X'| / 2`; the infinite parts that
        the Cauchy brings into both cancel, which leaves `cauchy_distance` in their place. A point
        mass scores its absolute error.
        """
        new, loc, scale = self.new, self.loc[:, None], self.scale[:, None]
        to_truth = (self.weights * (self.atoms - x[:, None]).abs()).sum(-1)
        between = (self.atoms[:, :, None] - self.atoms[:, None, :]).abs()
        spread = torch.einsum("nk,nl,nkl->n", self.weights, self.weights, between) / 2
        to_atoms = (self.weights * cauchy_distance(self.atoms - loc, scale)).sum(-1)
        smooth = cauchy_distance(x - self.loc, self.scale) - to_atoms
        own = new.square() * self.scale * (2 / math.pi * math.log(2))
        return (to_truth - spread + new * smooth + own).clamp(min=0)

    def central_level(self, x: Tensor) -> Tensor:
        """The greatest lower bound (N,) of the levels whose central interval holds x (N,).

        The interval of level b lies between the quantiles of (1 - b) / 2 and (1 + b) / 2; it holds
        x where `central_level(x) < b`. An atom beside the median is in every interval. For draws
        from the mixture's own continuous part the levels are uniform on [0, 1].
        """
        at = (self.weights * (self.atoms == x[:, None])).sum(-1)
        up_to = self.cdf(x)
        return torch.maximum(1 - 2 * up_to, 2 * (up_to - at) - 1).clamp(0, 1)

    def point(self) -> tuple[Tensor, Tensor]:
        """The point prediction (N,), and the column (N,) of the number it is a copy of.

        It is the median; where the answer is one of the text's numbers or near it with more than
        half of the probability, that number itself, which the rest would move the median from by
        less than the scale. The column is -1 where a new value is more probable than a copy.
        """
        new = self.new
        at_loc = self.atoms == self.loc[:, None]
        anchored = at_loc.any(-1) & ((self.weights * at_loc).sum(-1) + new > 0.5)
        point, source = self.loc, at_loc.long().argmax(-1)
        if not anchored.all():  # which they are as a rule, and a median is what takes long
            median, column = self.quantile(0.5)
            point = torch.where(anchored, point, median)
            source = torch.where(anchored, source, column)
        return point, source.masked_fill(new > 0.5, -1)

    def printed(self) -> Tensor:
        """The point prediction as it is written (N,), float64.

        A number of the text is written as it stands there, another as the shortest decimal within
        the scale.
        """
        value, _ = self.point()
        stands = ((self.atoms == value[:, None]) & (self.weights > 0)).any(-1)
        written = [
            answer if in_text else shortest_decimal(answer, scale)
            for answer, in_text, scale in zip(
                value.tolist(), stands.tolist(), self.scale.tolist(), strict=True
            )
        ]
        return torch.tensor(written, dtype=torch.float64, device=value.device)

    def interval(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Ends (N,) of the central intervals of levels (N,), finite for a level of 1 too."""
        level = level.clamp(max=1 - 2.0**-50)
        low, high = self.quantile(torch.stack([1 - level, 1 + level]) / 2)[0]
        return low, high

    def quantile(self, level: Tensor | float) -> tuple[Tensor, Tensor]:
        """The least x with `cdf(x) >= level`.

        Args:
            level: In (0, 1), one for all, (N,), or several for each, (L, N).

        Returns:
            x: (N,) or (L, N) float64. An atom is returned exactly as it is.
            source: The same shape, int64, the column of that atom, or -1 for a new number.
        """
        level = torch.as_tensor(level, dtype=self.loc.dtype, device=self.loc.device)
        if level.dim() == 0:
            level = level.expand_as(self.loc)
        order = torch.argsort(self.atoms, dim=-1, stable=True)
        atoms, weights = self.atoms.gather(-1, order), self.weights.gather(-1, order)
        mass = self.new
        through = weights.cumsum(-1)  # copied mass at and below each atom
        up_to = through + mass[:, None] * cauchy_cdf(atoms, self.loc[:, None], self.scale[:, None])
        # The answer is the first atom whose cdf reaches the level, unless the Cauchy reaches it
        # earlier.
        reached = (up_to >= level[..., None]) & (weights > 0)
        exists = reached.any(-1)
        first = reached.long().argmax(-1)  # (N,) or (L, N)
        row = torch.arange(len(atoms), device=atoms.device)
        below = torch.where(exists, through[row, first], through[:, -1])
        below = below - torch.where(exists, weights[row, first], 0.0)
        remaining = (level - below) / mass.clamp(min=torch.finfo(torch.float64).tiny)
        inside = (remaining > 0) & (remaining < 1)
        smooth = self.loc - self.scale / torch.tan(math.pi * torch.where(inside, remaining, 0.5))
        atom = atoms[row, first]
        is_atom = exists & ~(inside & (smooth < atom))
        return torch.where(is_atom, atom, smooth), torch.where(is_atom, order[row, first], -1)
