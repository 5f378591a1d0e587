"""Abduction and action: hidden state -> latent cause -> token scores.

    abduction   U | x ~ Cauchy(loc(z), scale(z)),  z the last hidden state
    action      S_k = A_k . U: linear, so Cauchy in closed form; A is the backbone's output weights

`loc` starts as the identity, so that at step 0 the ranking of tokens is exactly the base model's.
For this to hold under one-vs-rest as well, the uncertainty of U lives in one coordinate of its own
that every token reads with weight 1: S_k ~ Cauchy(A_k . loc, scale). A scale spread over the
coordinates of z would reach token k as `scale * |A_k|_1`, and the probabilities, far from their
thresholds, would rank tokens by the norm of their weights as much as by their scores. It also
makes one-vs-rest as cheap as softmax: one matrix product. `benchmarks/per_dimension.py` sets both
side by side.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from numlm.vocabulary_loss import (
    Shift,
    Terms,
    one_vs_rest_loss,
    one_vs_rest_terms,
    softmax_loss,
)

ALL = slice(None)
THRESHOLD = 10.0  # where one-vs-rest starts to say yes; about the greatest score of a base model


def starting_scale(rows: int) -> float:
    """The scale at which a score of zero has P = 1/V under a threshold of `THRESHOLD`."""
    return THRESHOLD * math.pi / rows


class Latent(NamedTuple):
    """The latent cause U.

    Attributes:
        loc: (..., H) location.
        scale: (..., 1) scale > 0 of its coordinate of uncertainty, float32.
    """

    loc: Tensor
    scale: Tensor


class States(NamedTuple):
    """What is known at every position.

    The last layer is there for the next token: what it writes about that, it writes over what a
    number belongs to. So which number is meant is found out from what that layer read.

    Attributes:
        loc: (..., H) location of the latent cause.
        scale: (..., 1) its scale.
        before: (..., H) float32, the hidden state that the last layer read.
    """

    loc: Tensor
    scale: Tensor
    before: Tensor

    @property
    def latent(self) -> Latent:
        """The latent cause."""
        return Latent(self.loc, self.scale)

    def map(self, change: Callable[[Tensor], Tensor]) -> "States":
        """The same change of all of them."""
        return States(*map(change, self))


class Abduction(nn.Module):
    """Infers the latent cause: `loc = z + W z`, `scale = exp(w . z + b)`, W = w = 0 at the start.

    Args:
        hidden_size: Size H of the hidden state.
        scale: Scale at the start, in units of the token scores.
    """

    def __init__(self, hidden_size: int, scale: float) -> None:
        super().__init__()
        self.loc = nn.Linear(hidden_size, hidden_size, bias=False)
        self.log_scale = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.loc.weight)
        nn.init.zeros_(self.log_scale.weight)
        nn.init.constant_(self.log_scale.bias, math.log(scale))

    def forward(self, hidden_states: Tensor) -> Latent:
        """(..., H) -> latent, in float32."""
        with torch.autocast(hidden_states.device.type, enabled=False):
            z = hidden_states.float()
            return Latent(z + self.loc(z), self.log_scale(z).clamp(-12.0, 12.0).exp())


class TokenHead(nn.Module, ABC):
    """Decides which token comes next.

    Args:
        rows: Number V of tokens.
    """

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows

    @abstractmethod
    def scores(self, latent: Latent, weight: Tensor, tile: slice = ALL) -> Tensor:
        """Scores (..., V) float32, greater for a more probable token.

        Args:
            latent: The latent cause at the asking positions.
            weight: (V, H) output weights.
            tile: Which tokens to score, if not all.
        """

    def score_shift(self, latent: Latent, shift: Tensor) -> Tensor:
        """What a shift (...) of its location adds to a score."""
        return shift

    @abstractmethod
    def loss(
        self, latent: Latent, weight: Tensor, labels: Tensor, shift: Shift | None = None
    ) -> tuple[Tensor, Tensor]:
        """Sum of the losses, a scalar in nats, and the probabilities (N,) of the labels.

        It is taken in tiles, gradients with it, and never holds all scores. The probabilities have
        no gradient.

        Args:
            latent: The latent cause at N positions.
            weight: (V, H) output weights.
            labels: (N,) the tokens that are right.
            shift: What is added to the location of one token's score.
        """

    @abstractmethod
    def log_weights(self, scores: Tensor) -> Tensor:
        """Logarithms (..., V) of what probabilities are proportional to, elementwise."""

    @abstractmethod
    def prob_from(self, log_weight: Tensor, total: Tensor) -> Tensor:
        """Probability (...) of a token of this log weight, `total` being that of all together."""

    def prob(self, scores: Tensor, token_id: int) -> Tensor:
        """Probability (...) of one token from scores (..., V)."""
        weights = self.log_weights(scores)
        return self.prob_from(weights[..., token_id], weights.logsumexp(-1))

    def log_probs(self, scores: Tensor) -> Tensor:
        """Log-probabilities (..., V) of the next token, which sum to one, in nats."""
        return self.log_weights(scores).log_softmax(-1)


class SoftmaxHead(TokenHead):
    """Softmax on the location of the scores: one distribution over all tokens."""

    def scores(self, latent: Latent, weight: Tensor, tile: slice = ALL) -> Tensor:
        """Logits."""
        return functional.linear(latent.loc.to(weight.dtype), weight[tile]).float()

    def loss(
        self, latent: Latent, weight: Tensor, labels: Tensor, shift: Shift | None = None
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy."""
        return softmax_loss(latent.loc, weight, labels, shift)

    def log_weights(self, scores: Tensor) -> Tensor:
        """The logits."""
        return scores

    def prob_from(self, log_weight: Tensor, total: Tensor) -> Tensor:
        """Softmax probability."""
        return (log_weight - total).exp()


class OneVsRestHead(TokenHead):
    """A decision for every token of its own: `P_k = P(S_k > C_k)`, S_k ~ Cauchy.

    A score is the standardized distance x = (loc_k - C_k) / scale; P = 1/2 + atan(x) / pi,
    computed as atan2(1, -x) / pi, which keeps its digits in both tails. At the start the threshold
    is the same for every token, where P is about 1/V for a score of zero: at P = 1/2 the loss of a
    vocabulary of 151,936 would be 105,314 nats.

    Args:
        rows: Number V of tokens.
    """

    def __init__(self, rows: int) -> None:
        super().__init__(rows)
        self.threshold = nn.Parameter(torch.full((rows,), THRESHOLD))
        self.terms: Terms = one_vs_rest_terms  # `numlm.compilation` puts a compiled one here

    def scores(self, latent: Latent, weight: Tensor, tile: slice = ALL) -> Tensor:
        """Standardized distances to the thresholds."""
        loc = functional.linear(latent.loc.to(weight.dtype), weight[tile]).float()
        return (loc - self.threshold[tile]) / latent.scale

    def score_shift(self, latent: Latent, shift: Tensor) -> Tensor:
        """The shift in units of the scale."""
        return shift / latent.scale[..., 0]

    def loss(
        self, latent: Latent, weight: Tensor, labels: Tensor, shift: Shift | None = None
    ) -> tuple[Tensor, Tensor]:
        """Sum of V binary cross-entropies: `-log P_y - sum of log(1 - P_k) over k != y`."""
        return one_vs_rest_loss(
            latent.loc, latent.scale, weight, self.threshold, labels, shift, self.terms
        )

    def log_weights(self, scores: Tensor) -> Tensor:
        """Logarithms of the decisions' probabilities."""
        return self.prob_of(scores).log()

    def prob_from(self, log_weight: Tensor, total: Tensor) -> Tensor:
        """P(S_k > C_k), whatever the others' are."""
        return log_weight.exp()

    def prob(self, scores: Tensor, token_id: int) -> Tensor:
        """P(S_k > C_k), of its score alone."""
        return self.prob_of(scores[..., token_id])

    @staticmethod
    def prob_of(scores: Tensor) -> Tensor:
        """Probability of each score."""
        return torch.atan2(torch.ones_like(scores), -scores) / math.pi


TOKEN_HEADS: dict[str, type[TokenHead]] = {"softmax": SoftmaxHead, "one_vs_rest": OneVsRestHead}
