"""Attention over the numbers of the text: heads that read them, a pointer that copies one.

A backbone passes a number on through narrow attention heads that were made for words. Here the
asking position looks at the earlier `<NUM>` positions itself. Queries and keys come from hidden
states; what is read are the numbers' clock features, untouched. The cost is the few numbers of a
text.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn


class TextNumbers(NamedTuple):
    """The numbers of each text, and which of them every asking position may look at.

    Attributes:
        states: (B, K, H) latent location at each number.
        features: (B, K, F) clock features.
        values: (B, K) float64.
        visible: (B, A, K) bool, true for a number that stands before the asking position's next
            token.
    """

    states: Tensor
    features: Tensor
    values: Tensor
    visible: Tensor


class _Attention(nn.Module):
    """Scores of every visible number and of one alternative, with queries from where is asked.

    Args:
        hidden_size: Size H of the hidden states.
        heads: Number R of heads.
        size: Size of a query.
    """

    def __init__(self, hidden_size: int, heads: int, size: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(hidden_size, heads * size)
        self.key = nn.Linear(hidden_size, heads * size, bias=False)
        self.alternative = nn.Linear(hidden_size, heads)

    def forward(self, asking: Tensor, numbers: TextNumbers) -> Tensor:
        """(B, A, H) -> log-probabilities (B, A, R, 1 + K); column 0 is the alternative."""
        query = self.query(asking).unflatten(-1, (self.heads, -1))  # (B, A, R, D)
        key = self.key(numbers.states).unflatten(-1, (self.heads, -1))  # (B, K, R, D)
        scores = torch.einsum("bard,bkrd->bark", query, key) / math.sqrt(query.shape[-1])
        scores = scores.masked_fill(~numbers.visible[:, :, None, :], float("-inf"))
        return torch.cat([self.alternative(asking)[..., None], scores], dim=-1).log_softmax(-1)


class ReadingHeads(_Attention):
    """Heads that read the clock features of earlier numbers, or nothing."""

    def forward(self, asking: Tensor, numbers: TextNumbers) -> Tensor:
        """Asking states (B, A, H) -> what each head reads, (B, A, R, F)."""
        weights = super().forward(asking, numbers).exp()[..., 1:]
        return torch.einsum("bark,bkf->barf", weights, numbers.features)


class Pointer(_Attention):
    """One head whose alternative is "new": is the number a copy, and of which one?"""

    def __init__(self, hidden_size: int, size: int) -> None:
        super().__init__(hidden_size, heads=1, size=size)

    def forward(self, asking: Tensor, numbers: TextNumbers) -> Tensor:
        """(B, A, H) -> log-probabilities (B, A, 1 + K) of "new" and of each number."""
        return super().forward(asking, numbers)[:, :, 0]
