"""One-vs-rest with a scale for every dimension of the latent cause: what the product has not.

    L = A_k . loc - C_k     S = |A_k| . scale     P_k = P(Cauchy(L, S) > 0)

    k != y: -log(theta / pi), theta = atan2(S, L),  dL: S / (r2 theta),   dS: -L / (r2 theta)
    k  = y: -log(phi / pi),   phi = atan2(S, -L),   dL: -S / (r2 phi),    dS: L / (r2 phi)
    r2 = S^2 + L^2

Two products over the vocabulary forward and four backward, of which the isotropic head of
`numlm.heads` has one and two.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from benchmarks.naive_loss import decisions
from numlm.heads import ALL, Latent, OneVsRestHead, starting_scale
from numlm.vocabulary_loss import Shift, tile_size, tiles


class PerDimensionHead(OneVsRestHead):
    """A decision for every token of its own, whose scale is `|A_k| . scale`.

    The scales are inferred from the location, as the isotropic one is from the state that the
    location starts as. Adapters, which shift one row, are not for this head.

    Args:
        rows: Number V of tokens.
    """

    log_scale: nn.Linear

    def start_from(self, weight: Tensor) -> None:
        """Give the token of mean weight (V, H) the scale that the isotropic head starts with."""
        norm = weight.detach().abs().sum(-1).mean().item()
        self.log_scale = nn.Linear(weight.shape[-1], weight.shape[-1])
        nn.init.zeros_(self.log_scale.weight)
        nn.init.constant_(self.log_scale.bias, math.log(starting_scale(self.rows) / norm))

    def scales(self, loc: Tensor) -> Tensor:
        """Scales (..., H) > 0 of the coordinates."""
        scales: Tensor = self.log_scale(loc).clamp(-20.0, 12.0).exp()
        return scales

    def scores(self, latent: Latent, weight: Tensor, tile: slice = ALL) -> Tensor:
        """Standardized distances to the thresholds."""
        distance = latent.loc @ weight[tile].T - self.threshold[tile]
        return distance / (self.scales(latent.loc) @ weight[tile].abs().T)

    def loss(
        self, latent: Latent, weight: Tensor, labels: Tensor, shift: Shift | None = None
    ) -> tuple[Tensor, Tensor]:
        """Sum of V binary cross-entropies, and the labels' probabilities."""
        assert shift is None
        scales = self.scales(latent.loc)
        loss = naive_per_dimension(latent.loc, scales, weight, self.threshold, labels)
        with torch.no_grad():
            rows = weight[labels]
            distance = (latent.loc * rows).sum(-1) - self.threshold[labels]
            return loss, self.prob_of(distance / (scales * rows.abs()).sum(-1))


def naive_per_dimension(
    loc: Tensor, scale: Tensor, weight: Tensor, threshold: Tensor, labels: Tensor
) -> Tensor:
    """Sum of V binary cross-entropies at every position, all scores at once, in nats.

    Args:
        loc: (N, H) locations.
        scale: (N, H) scales.
        weight: (V, H) output weights.
        threshold: (V,) thresholds.
        labels: (N,) int64.
    """
    return decisions((loc @ weight.T - threshold) / (scale @ weight.abs().T), labels)


def per_dimension_loss(
    loc: Tensor, scale: Tensor, weight: Tensor, threshold: Tensor, labels: Tensor
) -> Tensor:
    """The same in tiles of tokens, gradients taken in the forward pass; once, as the product's."""
    loss: Tensor = _PerDimension.apply(loc, scale, weight, threshold, labels)
    return loss


class _PerDimension(Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        loc: Tensor,
        scale: Tensor,
        weight: Tensor,
        threshold: Tensor,
        labels: Tensor,
    ) -> Tensor:
        d_loc, d_scale = torch.zeros_like(loc), torch.zeros_like(scale)
        d_weight, d_threshold = torch.empty_like(weight), torch.empty_like(threshold)
        loss = loc.new_zeros(())
        for tile in tiles(len(weight), tile_size(len(loc), loc.device)):
            rows = weight[tile]
            sizes = rows.abs()
            distance, spread = loc @ rows.T - threshold[tile], scale @ sizes.T
            # Of its label a position says yes, whose angle is that of no with the sign turned.
            inside = ((labels >= tile.start) & (labels < tile.stop)).nonzero()[:, 0]
            at = inside, labels[inside] - tile.start
            distance[at] *= -1
            angle = torch.atan2(spread, distance)
            loss -= (angle / math.pi).log().sum()
            slope = torch.addcmul(spread * spread, distance, distance).mul_(angle).reciprocal_()
            by_scale = -distance * slope
            by_distance = spread.mul_(slope)
            by_distance[at] *= -1
            d_threshold[tile] = -by_distance.sum(0)
            d_loc.addmm_(by_distance, rows)
            d_scale.addmm_(by_scale, sizes)
            d_weight[tile] = torch.addcmul(by_distance.T @ loc, rows.sign(), by_scale.T @ scale)
        ctx.gradients = d_loc, d_scale, d_weight, d_threshold
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        return *(gradient.mul_(upstream) for gradient in ctx.gradients), None
