"""The number head of the project that this one grew from: a Cauchy value of a Cauchy cause."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.contenders.base import LEVELS, Answers, ValueTokens
from numlm.distributions import cauchy_nll


class SeedHead(ValueTokens):
    """A latent cause with a Cauchy distribution, and a value that is linear in it.

        reading     `phi(v) = sign(v) ln(1 + |v|)` along one learned direction, added to the row
        abduction   U ~ Cauchy(loc(z), scale(z)), of the hidden state's size; loc is linear and
                    starts as the identity, scale is a softplus and starts as a constant
        action      V = a . U + b ~ Cauchy(a . loc + b, |a| . scale)

    The loss is V's negative log-likelihood of the value as it is, the answer V's median. From
    github.com/1587causalai/CausalQwen, branch causal-mvp-v2. Tokens are chosen here by the
    backbone's own softmax, not by its one-vs-rest; the loss is not gated, and no noise is added.

    Args:
        folder: The backbone.
        value_weight: Weight of the value loss.
    """

    def __init__(self, folder: str, value_weight: float = 1.0) -> None:
        super().__init__(folder, value_weight)
        size = self.hidden_size
        self.direction = nn.Parameter(torch.randn(size) / math.sqrt(size))
        self.loc, self.scale = nn.Linear(size, size), nn.Linear(size, size)
        nn.init.eye_(self.loc.weight)
        nn.init.zeros_(self.loc.bias)
        nn.init.zeros_(self.scale.weight)
        nn.init.ones_(self.scale.bias)
        self.action = nn.Linear(size, 1)

    def embed(self, values: Tensor, row: Tensor) -> Tensor:
        """Embeddings (N, H): the row and so much of the direction."""
        length = (values.sign() * values.abs().log1p()).float()
        return row + length[:, None] * self.direction

    def distribution(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Location and scale (N,) of the value after hidden states (N, H)."""
        loc = self.action(self.loc(hidden))
        scale = functional.softplus(self.scale(hidden)) @ self.action.weight.abs().T
        return loc[:, 0], scale[:, 0]

    def value_loss(self, hidden: Tensor, values: Tensor) -> Tensor:
        """Negative log-likelihoods (N,) in nats."""
        return cauchy_nll(values.float(), *self.distribution(hidden))

    def say(self, hidden: Tensor) -> Answers:
        """Median and quantiles."""
        loc, scale = (part.double() for part in self.distribution(hidden))
        turns = torch.tensor(LEVELS, dtype=torch.float64) - 0.5
        return Answers(loc, loc[:, None] + scale[:, None] * (math.pi * turns).tan())
