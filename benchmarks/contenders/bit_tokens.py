"""Numbers as the bits of their float64 (BitTokens)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.contenders.base import Answers, ValueTokens

_BITS = 64


def to_bits(values: Tensor) -> Tensor:
    """The bits (N, 64) int64 of values (N,) float64: sign, exponent, fraction.

    >>> to_bits(torch.tensor([-2.0], dtype=torch.float64))[0, :4].tolist()
    [1, 1, 0, 0]
    """
    return values.contiguous().view(torch.int64)[:, None] >> _places(values) & 1


def from_bits(bits: Tensor) -> Tensor:
    """The inverse of `to_bits`; not all bits are a number, some are infinite or not one."""
    return (bits << _places(bits)).sum(-1).view(torch.float64)


def _places(like: Tensor) -> Tensor:
    return torch.arange(_BITS - 1, -1, -1, device=like.device)


class BitTokens(ValueTokens):
    """A linear map of the 64 bits, as -1 and 1, is added to the embedding of `<NUM>`.

    BitTokens (ICML 2026, arXiv 2510.06824, section 5): the next number is 64 logits, linear in the
    hidden state, learned by the mean binary cross-entropy and read by their sign. The paper writes
    the bits, and those of the reciprocal after them, into the embedding's own coordinates and pads
    with zeros; a learned map is its code's `weighted_sum`, and no reciprocal its
    `add_reciprocal=False`.

    Args:
        folder: The backbone.
        value_weight: Weight of the value loss; 10 in the published configuration.
    """

    def __init__(self, folder: str, value_weight: float = 10.0) -> None:
        super().__init__(folder, value_weight)
        self.reader = nn.Linear(_BITS, self.hidden_size, bias=False)
        self.writer = nn.Linear(self.hidden_size, _BITS)

    def embed(self, values: Tensor, row: Tensor) -> Tensor:
        """Embeddings (N, H): the row and the mapped bits."""
        mapped: Tensor = self.reader(2.0 * to_bits(values) - 1)
        return row + mapped

    def value_loss(self, hidden: Tensor, values: Tensor) -> Tensor:
        """Mean binary cross-entropies (N,) of the bits."""
        return functional.binary_cross_entropy_with_logits(
            self.writer(hidden), to_bits(values).float(), reduction="none"
        ).mean(-1)

    def say(self, hidden: Tensor) -> Answers:
        """The number that the bits are, NaN where they are none."""
        values = from_bits((self.writer(hidden) > 0).long())
        return Answers(values.where(values.isfinite(), torch.nan))
