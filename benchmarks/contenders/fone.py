"""Numbers as phases, one for every digit (FoNE)."""

import math
from collections.abc import Sequence
from decimal import Decimal

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.contenders.base import Answers, Text, ValueTokens
from numlm.parsing import find_numbers

_EXACT = 15  # digits of a float64


def circle(turns: Tensor) -> Tensor:
    """Points (..., 2) of the unit circle, cosine and sine, for (...) turns."""
    angles = 2 * math.pi * turns
    return torch.stack([angles.cos(), angles.sin()], dim=-1)


class FoNE(ValueTokens):
    """A number is a point on a circle for each of its digits, added to the embedding of `<NUM>`.

    FoNE (arXiv 2502.09741, definitions 3.2, 3.6 and 3.7): the digit of 10^i is read on the circle
    of period 10^(i+1), `cos` and `sin` of `2 pi v / 10^(i+1)`; circles go from the last decimal
    to the first digit, and what the hidden size has beyond is zero. The answer's digits come from
    the last hidden state as they went in: each pair of coordinates is compared with the directions
    of the ten digits. The loss is the cross-entropy, averaged over all digits.

    It knows no sign. As a courtesy it gets one here: circles are those of |v|, the coordinate
    after them says -1 or 1, and one logit of the hidden state answers it, averaged with the
    digits. A number beyond the digits is rounded to the last of them, and of what exceeds the
    first only the rest is left (v mod 10^whole), as the circles have it.

    The authors' code puts a linear map after the circles and a normalization before the digits,
    which the definitions do not have, and its circles have periods of 2 and 5 units of the digit.

    Args:
        folder: The backbone.
        whole: Number of digits before the point.
        decimals: Greatest number of digits after it; there are as many as the training texts have.
        value_weight: Weight of the value loss.

    Raises:
        ValueError: If the digits are more than a float64 or the hidden state can hold.
    """

    directions: Tensor

    def __init__(
        self, folder: str, whole: int = 8, decimals: int = 7, value_weight: float = 1.0
    ) -> None:
        super().__init__(folder, value_weight)
        self.whole, self.decimals = whole, decimals
        most = min(_EXACT, (self.hidden_size - 1) // 2)
        if not 1 <= self.count <= most:
            raise ValueError(f"{whole} and {decimals} digits are not 1 to {most} together")
        self.sign = nn.Linear(self.hidden_size, 1)
        self.register_buffer("directions", circle(torch.arange(10) / 10), persistent=False)

    def prepare(self, texts: Sequence[Text]) -> None:
        """As many decimals as the numbers of the texts have."""
        written = (number.value for text in texts for _, _, number in find_numbers(text.text))
        exponents = (Decimal(repr(value)).normalize().as_tuple().exponent for value in written)
        longest = max((-int(exponent) for exponent in exponents), default=0)
        self.decimals = min(max(longest, 0), self.decimals)

    @property
    def count(self) -> int:
        """Number D of digits."""
        return self.whole + self.decimals

    def digits(self, values: Tensor) -> Tensor:
        """Digits (N, D) int64 of |v| for (N,) float64, the last decimal first."""
        units = (values.abs() % 10**self.whole * 10**self.decimals).round().long()
        return units[:, None] // self._powers() % 10

    def value(self, digits: Tensor) -> Tensor:
        """Values (N,) float64 >= 0 of digits (N, D)."""
        return (digits * self._powers()).sum(-1).double() / 10**self.decimals

    def circles(self, values: Tensor) -> Tensor:
        """Points (N, D, 2) float32 of |v| on the circle of every digit."""
        periods = self._powers().double() * 10 / 10**self.decimals
        return circle(values.abs()[:, None] % periods / periods).float()

    def _powers(self) -> Tensor:
        return 10 ** torch.arange(self.count, device=self.directions.device)

    def embed(self, values: Tensor, row: Tensor) -> Tensor:
        """Embeddings (N, H): the row, and the circles and the sign in its first coordinates."""
        sign = torch.where(values < 0, -1.0, 1.0)[:, None]
        own = torch.cat([self.circles(values).flatten(1), sign], dim=-1)
        return row + functional.pad(own, (0, self.hidden_size - own.shape[-1]))

    def scores(self, hidden: Tensor) -> Tensor:
        """Scores (N, D, 10) of the digits after hidden states (N, H)."""
        pairs = hidden[:, : 2 * self.count].unflatten(-1, (self.count, 2))
        return pairs @ self.directions.T

    def value_loss(self, hidden: Tensor, values: Tensor) -> Tensor:
        """Mean cross-entropies (N,) of the digits and the sign."""
        digits = functional.cross_entropy(
            self.scores(hidden).transpose(1, 2), self.digits(values), reduction="none"
        )
        sign = functional.binary_cross_entropy_with_logits(
            self.sign(hidden), (values < 0).float()[:, None], reduction="none"
        )
        return torch.cat([digits, sign], dim=-1).mean(-1)

    def say(self, hidden: Tensor) -> Answers:
        """The most probable digits and sign."""
        size = self.value(self.scores(hidden).argmax(-1))
        return Answers(torch.where(self.sign(hidden)[:, 0] > 0, -size, size))
