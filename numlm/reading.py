"""Attention over the numbers of the text: heads that read them, a pointer that chooses one.

A backbone passes a number on through narrow attention heads that were made for words. Here the
asking position looks at the earlier `<NUM>` positions itself. Queries and keys come from hidden
states; what is read are the numbers' clock features, untouched. The cost is the few numbers of a
text.

What a number belongs to may be named after it (`we read 86 degrees for the green room`), which its
own hidden state has not seen. So a key also comes from the tokens between a number and the next
one. Since a number is only ever asked for right before the next number or at the end of the text,
these tokens are never later than the asking position.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

WINDOW = 8  # tokens after a number


class TextNumbers(NamedTuple):
    """The numbers of each text, and which of them every asking position may look at.

    Attributes:
        states: (B, K, H) hidden state at each number, as the last layer reads it.
        following: (B, K, W, H) hidden state at the tokens after each number.
        follows: (B, K, W) bool, which of them stand before the next number.
        features: (B, K, F) clock features.
        values: (B, K) float64.
        visible: (B, A, K) bool, true for a number that stands before the asking position's next
            token.
    """

    states: Tensor
    following: Tensor
    follows: Tensor
    features: Tensor
    values: Tensor
    visible: Tensor


class NumberKeys(nn.Module):
    """What each number belongs to: its own hidden state beside a summary of what follows it.

    Args:
        hidden_size: Size H of the hidden states.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.score = nn.Linear(hidden_size, 1)

    def forward(self, numbers: TextNumbers) -> Tensor:
        """(B, K, 2 H): state, and average of what follows, weighted by what tells most."""
        scores = self.score(numbers.following)[..., 0].masked_fill(~numbers.follows, float("-inf"))
        nothing = scores.new_zeros(1).expand(*scores.shape[:-1], 1)
        weights = torch.cat([nothing, scores], dim=-1).softmax(-1)[..., 1:]
        summary = torch.einsum("bkw,bkwh->bkh", weights, numbers.following)
        return torch.cat([numbers.states, summary], dim=-1)


class _Attention(nn.Module):
    """Scores of every visible number and of alternatives, with queries from where is asked.

    Args:
        hidden_size: Size H of the hidden states.
        heads: Number R of heads.
        size: Size of a query.
        alternatives: How many scores there are of choosing no number.
    """

    def __init__(self, hidden_size: int, heads: int, size: int, alternatives: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(hidden_size, heads * size)
        self.key = nn.Linear(2 * hidden_size, heads * size, bias=False)
        self.alternative = nn.Linear(hidden_size, alternatives)

    def scores(self, asking: Tensor, keys: Tensor, visible: Tensor) -> Tensor:
        """Scores (B, A, R, K), minus infinity where a number is not visible.

        Args:
            asking: (B, A, H) state where is asked.
            keys: (B, K, 2 H) of the numbers.
            visible: (B, A, K) bool.
        """
        query = self.query(asking).unflatten(-1, (self.heads, -1))  # (B, A, R, D)
        key = self.key(keys).unflatten(-1, (self.heads, -1))  # (B, K, R, D)
        scores = torch.einsum("bard,bkrd->bark", query, key) / math.sqrt(query.shape[-1])
        return scores.masked_fill(~visible[:, :, None, :], float("-inf"))


class ReadingHeads(_Attention):
    """Heads that read the clock features of earlier numbers, or nothing."""

    def __init__(self, hidden_size: int, heads: int, size: int) -> None:
        super().__init__(hidden_size, heads, size, alternatives=heads)

    def forward(self, asking: Tensor, keys: Tensor, numbers: TextNumbers) -> Tensor:
        """Asking states (B, A, H) and keys (B, K, 2 H) -> what each head reads, (B, A, R, F)."""
        scores = self.scores(asking, keys, numbers.visible)
        nothing = self.alternative(asking)[..., None]
        weights = torch.cat([nothing, scores], dim=-1).softmax(-1)[..., 1:]
        return torch.einsum("bark,bkf->barf", weights, numbers.features)


class Pointer(_Attention):
    """What the number is: a new one, a made one, a copy of an earlier one, or one near it.

    Args:
        hidden_size: Size H of the hidden states.
        size: Size of a query.
        made: How many values are made from the text's numbers.
        dropout: Share of what it looks with that is left out in training.
    """

    def __init__(self, hidden_size: int, size: int, made: int = 0, dropout: float = 0.0) -> None:
        super().__init__(hidden_size, heads=2, size=size, alternatives=1 + made)
        self.dropout = nn.Dropout(dropout)

    def forward(self, asking: Tensor, keys: Tensor, numbers: TextNumbers) -> Tensor:
        """Log-probabilities (B, A, 1 + M + 2 K) of new, made, of each copy, of near each."""
        asking, keys = self.dropout(asking), self.dropout(keys)
        scores = self.scores(asking, keys, numbers.visible).flatten(-2)
        return torch.cat([self.alternative(asking), scores], dim=-1).log_softmax(-1)
