"""Number-aware embedding: what a number's value adds to the embedding of `<NUM>`."""

import torch
from torch import Tensor, nn

from numlm import clock


class NumberEmbedding(nn.Module):
    """Linear map of the clock features, added to the embedding row of `<NUM>`.

    Text without numbers is not touched: the addition is exactly zero wherever no number stands.

    Args:
        hidden_size: Size H of the backbone's embeddings.
        hands: How many hands of the clock the backbone sees, from the longest on. All of them tell
            42.57 from 42.58; three tell sizes apart, where digits would only be learned by heart.
        std: Standard deviation of the initial weights; about that of the embedding table.
    """

    seen: Tensor

    def __init__(self, hidden_size: int, hands: int = clock.HANDS, std: float = 0.02) -> None:
        super().__init__()
        self.hands = hands
        self.weight = nn.Parameter(torch.randn(hidden_size, clock.FEATURES) * std)
        self.bias = nn.Parameter(torch.zeros(hidden_size))
        self.register_buffer("seen", clock.coarse_features(hands).float(), persistent=False)

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
                nn.functional.linear(features.float() * self.seen, self.weight, self.bias)
                * is_number[..., None]
            )
