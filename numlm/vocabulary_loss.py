"""Losses over the whole vocabulary, in tiles, with their gradients taken in the forward pass.

    N positions   V tokens   H hidden size   s = loc . W^T   x = (s - C) / scale

A table of all scores (N, V) is never there: of each tile scores, loss and gradient are computed
one after another while they are in the cache, and what is kept for the backward pass has the size
of the states and of the weights. Softmax needs all scores of a position and takes tiles of
positions; one-vs-rest has no sum over the vocabulary under a logarithm and takes tiles of tokens,
whose weight gradients are each written once.

    one-vs-rest    k != y: -log(theta / pi), theta = atan2(1, x), d/dx = 1 / ((1 + x^2) theta)
                   k  = y: -log(phi / pi),   phi = atan2(1, -x),  d/dx = -1 / ((1 + x^2) phi)

Products are taken in the type of autocast, everything else in float32 (or float64). The label's
own score is taken apart, in float32.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

# Scores of a tile on a CPU, what its cache holds; elsewhere of all its tables together, 1 GiB.
_CPU_TILE = 1 << 20
_TABLES = 1 << 28
_LEAST = 256  # positions or tokens of a tile, for products that are worth their reads
_FAR = -1e18  # a score at which a token is surely not said, and whose gradient is zero

# Scores (N, t), thresholds (t,) and scales (N, 1) -> losses of saying no (N,), their derivatives
# (N, t) by scores and (N,) by the logarithm of the scale.
Terms = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


class Shift(NamedTuple):
    """What is added to the location of one token's score.

    Attributes:
        token_id: The token.
        amount: (N,) float32.
    """

    token_id: int
    amount: Tensor


def tile_size(count: int, device: torch.device, tables: int = 2) -> int:
    """How many of the other dimension make a tile with `count` of the one that is taken whole.

    Args:
        count: Size of that one.
        device: Where the tile is.
        tables: How many tables of scores, probabilities, ... of a tile are there at once.
    """
    scores = _CPU_TILE if device.type == "cpu" else _TABLES // tables
    return max(_LEAST, scores // max(count, 1) // 64 * 64)


def tiles(total: int, size: int) -> list[slice]:
    """Slices of at most a size that cover a dimension."""
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]


def softmax_loss(
    loc: Tensor, weight: Tensor, labels: Tensor, shift: Shift | None = None
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of `softmax(loc . W^T)`.

    Args:
        loc: (N, H) states.
        weight: (V, H) output weights.
        labels: (N,) int64.
        shift: What is added to the score of one token.

    Returns:
        The sum over positions in nats, and the labels' probabilities (N,) without a gradient.
    """
    token_id, amount = shift or (0, None)
    return _apply(_Softmax, loc, weight, amount, labels, token_id, torch.is_grad_enabled())


def one_vs_rest_terms(
    scores: Tensor, threshold: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss of saying no to every token, and its derivatives; see `Terms`.

    Of the scores nothing is left: with theta and the derivatives they are three tables at most.
    """
    x = scores.sub_(threshold).div_(scale)
    theta = torch.atan2(x.new_ones(()), x)
    slopes = (x * x).add_(1).mul_(theta).reciprocal_()
    loss = theta.div_(math.pi).log_().sum(-1).neg_()
    by_scale = x.mul_(slopes).sum(-1).neg_()
    return loss, slopes.div_(scale), by_scale


def one_vs_rest_loss(
    loc: Tensor,
    scale: Tensor,
    weight: Tensor,
    threshold: Tensor,
    labels: Tensor,
    shift: Shift | None = None,
    terms: Terms = one_vs_rest_terms,
) -> tuple[Tensor, Tensor]:
    """Sum of V binary cross-entropies of `P_k = P(Cauchy(loc . W_k, scale) > C_k)`.

    Args:
        loc: (N, H) locations of the latent cause.
        scale: (N, 1) its scales.
        weight: (V, H) output weights.
        threshold: (V,) thresholds C.
        labels: (N,) int64.
        shift: What is added to the location of one token's score.
        terms: `one_vs_rest_terms`, or the same compiled.

    Returns:
        The sum over positions in nats, and the labels' probabilities (N,) without a gradient.
    """
    token_id, amount = shift or (0, None)
    return _apply(
        _OneVsRest, loc, weight, amount, scale, threshold, labels, token_id, terms,
        torch.is_grad_enabled(),
    )  # fmt: skip


def _apply(function: type[Function], *inputs: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    loss, probs = function.apply(*inputs)
    return loss, probs


class _Products(NamedTuple):
    """The operands of the products over the vocabulary, in the type that they are taken in."""

    loc: Tensor
    weight: Tensor

    @classmethod
    def of(cls, loc: Tensor, weight: Tensor) -> "_Products":
        """In the type of autocast, or of the weights."""
        device = loc.device.type
        mixed = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if mixed else weight.dtype
        return cls(loc.to(dtype), weight.to(dtype))

    def scores(self, rows: slice, tokens: slice, exact: torch.dtype) -> Tensor:
        """Scores (n, t) of a tile."""
        return (self.loc[rows] @ self.weight[tokens].T).to(exact)


class _Softmax(Function):
    """Tiles of positions, each with all tokens."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        loc: Tensor,
        weight: Tensor,
        amount: Tensor | None,
        labels: Tensor,
        token_id: int,
        training: bool,
    ) -> tuple[Tensor, Tensor]:
        wanted = [training and needed for needed in ctx.needs_input_grad[:3]]
        products = _Products.of(loc, weight)
        with torch.autocast(loc.device.type, enabled=False):
            exact = torch.promote_types(loc.dtype, torch.float32)
            d_loc = torch.empty_like(loc) if wanted[0] else None
            d_weight = torch.zeros_like(weight) if wanted[1] else None
            d_amount = None if amount is None or not wanted[2] else torch.empty_like(amount)
            log_prob = loc.new_empty(len(loc), dtype=exact)
            everything = slice(None)
            for rows in tiles(len(loc), tile_size(len(weight), loc.device)):
                scores = products.scores(rows, everything, exact)
                if amount is not None:
                    scores[:, token_id] += amount[rows]
                log_probs, right = scores.log_softmax(-1), labels[rows, None]
                del scores  # as below: no more than two tables of a tile are there at once
                log_prob[rows] = log_probs.gather(-1, right)[:, 0]
                if any(wanted):
                    slopes = log_probs.exp_()
                    slopes.scatter_add_(-1, right, slopes.new_full(right.shape, -1.0))
                    if d_amount is not None:
                        d_amount[rows] = slopes[:, token_id]
                    _add_products(products, rows, everything, slopes, d_loc, d_weight)
                    del slopes
                del log_probs
        probs = log_prob.exp()
        ctx.mark_non_differentiable(probs)
        ctx.gradients = d_loc, d_weight, d_amount, None, None, None
        return -log_prob.sum(), probs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        return _scaled(ctx, upstream)


class _OneVsRest(Function):
    """Tiles of tokens, each with all positions."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        loc: Tensor,
        weight: Tensor,
        amount: Tensor | None,
        scale: Tensor,
        threshold: Tensor,
        labels: Tensor,
        token_id: int,
        terms: Terms,
        training: bool,
    ) -> tuple[Tensor, Tensor]:
        wanted = [training and needed for needed in ctx.needs_input_grad[:5]]
        products = _Products.of(loc, weight)
        with torch.autocast(loc.device.type, enabled=False):
            exact = torch.promote_types(loc.dtype, torch.float32)
            d_loc = torch.zeros_like(loc) if wanted[0] else None
            d_weight = torch.empty_like(weight) if wanted[1] else None
            d_amount = None if amount is None or not wanted[2] else torch.zeros_like(amount)
            d_threshold = torch.empty_like(threshold) if wanted[4] else None
            loss, d_log_scale = (loc.new_zeros(len(loc), dtype=exact) for _ in range(2))
            everything = slice(None)
            for tile in tiles(len(weight), tile_size(len(loc), loc.device, tables=3)):
                scores = products.scores(everything, tile, exact)
                if amount is not None and tile.start <= token_id < tile.stop:
                    scores[:, token_id - tile.start] += amount
                _silence(scores, labels - tile.start)
                saying_no, slopes, by_scale = terms(scores, threshold[tile], scale)
                del scores  # as below: the next tile's take its place
                loss += saying_no
                d_log_scale += by_scale
                if d_threshold is not None:
                    d_threshold[tile] = -slopes.sum(0)
                if d_amount is not None and tile.start <= token_id < tile.stop:
                    d_amount += slopes[:, token_id - tile.start]
                _add_products(products, everything, tile, slopes, d_loc, d_weight)
                del slopes

            rows = weight[labels].to(exact)
            score = (loc * rows).sum(-1)
            if amount is not None:
                score = torch.where(labels == token_id, score + amount, score)
            x = (score - threshold[labels]) / scale[:, 0]
            phi = torch.atan2(torch.ones_like(x), -x)
            probs = phi / math.pi
            loss -= probs.log()
            slope = -torch.addcmul(phi, phi, x * x).reciprocal()
            d_log_scale -= slope * x
            slope /= scale[:, 0]
            if d_loc is not None:
                d_loc += slope[:, None] * rows
            if d_weight is not None:
                d_weight.index_add_(0, labels, (slope[:, None] * loc).to(d_weight.dtype))
            if d_threshold is not None:
                d_threshold.index_add_(0, labels, -slope)
            if d_amount is not None:
                d_amount += torch.where(labels == token_id, slope, 0)
        ctx.mark_non_differentiable(probs)
        d_scale = d_log_scale[:, None] / scale if wanted[3] else None
        ctx.gradients = d_loc, d_weight, d_amount, d_scale, d_threshold, *[None] * 4
        return loss.sum(), probs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        return _scaled(ctx, upstream)


def _silence(scores: Tensor, columns: Tensor) -> None:
    """Put one column (N,) of each row far below every threshold, if the tile has it.

    Without a boolean index, which a GPU would wait for.
    """
    inside = ((columns >= 0) & (columns < scores.shape[-1]))[:, None]
    at = columns.clamp(0, scores.shape[-1] - 1)[:, None]
    scores.scatter_(-1, at, scores.gather(-1, at).masked_fill(inside, _FAR))


def _add_products(
    products: _Products,
    rows: slice,
    tile: slice,
    slopes: Tensor,
    d_loc: Tensor | None,
    d_weight: Tensor | None,
) -> None:
    """Add what a tile's derivatives by scores (n, t) give the states and the weights."""
    slopes = slopes.to(products.weight.dtype)  # products over the vocabulary in 32 bits are slow
    for total, at, left, right in (
        (d_loc, rows, slopes, products.weight[tile]),
        (d_weight, tile, slopes.T, products.loc[rows]),
    ):
        if total is None:
            continue
        shared = at.start is None  # all tiles add to it; else it is this one's alone
        if total.dtype != left.dtype:
            (total.add_ if shared else total[at].copy_)(left @ right)
        elif shared:
            total.addmm_(left, right)
        else:
            torch.mm(left, right, out=total[at])


def _scaled(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
    """The gradients times that of the loss, in place: they are wanted once."""
    if ctx.gradients is None:
        raise RuntimeError("the gradients of a vocabulary loss are taken once: no retain_graph")
    gradients: tuple[Tensor | None, ...] = ctx.gradients
    ctx.gradients = None
    for gradient in gradients:
        if gradient is not None:
            gradient.mul_(upstream)
    return gradients
