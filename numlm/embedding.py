"""Number-aware embedding: what a number's value adds to the embedding of `<NUM>`."""

import torch
from torch import Tensor, nn

from numlm import clock


class NumberEmbedding(nn.Module):
    """Linear map of the clock features, added to the embedding row of `<NUM>`.

    Text without numbers is not touched: the addition is exactly zero wherever no number stands.

    Args:
        hidden_size: Size H of the backbone's embeddings.
        std: Standard deviation of the initial weights; about that of the embedding table.
    """

    def __init__(self, hidden_size: int, std: float = 0.02) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(hidden_size, clock.FEATURES) * std)
        self.bias = nn.Parameter(torch.zeros(hidden_size))

    @torch.no_grad()
    def start_from(self, num_row: Tensor, digit_rows: Tensor) -> None:
        """Start with `<NUM>` read as digits are on the average: the backbone sees a number.

        Args:
            num_row: (H,) embedding of `<NUM>`.
            digit_rows: (D, H) embeddings of the digit tokens.
        """
        self.bias.copy_(digit_rows.float().mean(0) - num_row.float())

    def forward(self, features: Tensor) -> Tensor:
        """Clock features (..., F), zero where no number stands -> (..., H) float32."""
        is_number = features[..., clock.IS_ZERO] + features[..., clock.IS_NONZERO]
        with torch.autocast(features.device.type, enabled=False):
            return (
                nn.functional.linear(features.float(), self.weight, self.bias)
                * is_number[..., None]
            )
