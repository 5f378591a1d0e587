"""Texts in one row without padding, and back."""

from typing import NamedTuple, Self

import torch
from torch import Tensor

# The attention that takes packed texts, by the name that Transformers knows it by.
PER_TEXT = "sdpa_per_text"


class Packing(NamedTuple):
    """Where the tokens of padded texts (B, T) stand in one row (1, N), text after text.

    Attributes:
        places: (N,) int64, of every token its place in the flat (B * T).
        table: (1, 1, B, T) int64, of every place its token, N where there is none.
    """

    places: Tensor
    table: Tensor

    @classmethod
    def of(cls, attention_mask: Tensor) -> Self:
        """The packing of texts (B, T) that are padded to the right, 1 on text."""
        is_text = attention_mask == 1
        places = is_text.flatten().nonzero()[:, 0]
        after = is_text.flatten().cumsum(0).view_as(is_text) - 1
        table = torch.where(is_text, after, len(places))
        return cls(places, table[None, None])

    @property
    def position_ids(self) -> Tensor:
        """(1, N) int64, of every token its position in its text."""
        return (self.places % self.table.shape[-1])[None]

    def pack(self, padded: Tensor) -> Tensor:
        """(B, T, ...) -> (1, N, ...)."""
        return padded.flatten(0, 1)[self.places][None]

    def unpack(self, packed: Tensor, padding: float = 0.0) -> Tensor:
        """(1, N, ...) -> (B, T, ...), with a value in place of padding.

        The result is no view, of whose module FSDP2 warns, and nothing is kept for its gradient
        but where the tokens stand.
        """
        texts, length = self.table.shape[2:]
        padded = packed.new_full((texts, length, *packed.shape[2:]), padding)
        return padded.index_put((self.places // length, self.places % length), packed[0])
