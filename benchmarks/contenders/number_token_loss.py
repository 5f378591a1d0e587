"""Digits, learned by a loss that knows how far apart two digits are."""

import copy
from collections.abc import Sequence

from torch import Tensor, nn

from benchmarks.contenders.digits import Digits


class NumberTokenLoss(Digits):
    """Cross-entropy and the number token loss in its Wasserstein form, NTL-WAS.

    Where the label is the digit d it is `sum_k p_k |k - d|`, with p the softmax over the ten digit
    tokens alone: the Wasserstein-1 distance of p to d. From "Regress, Don't Guess", ICML 2025
    (arXiv 2411.02083), by its authors' package. The paper's form is taken; the package's own
    default also multiplies by the probability of the digits (`reweigh`).

    Args:
        folder: The backbone.
        weight: Weight of the number token loss; 0.3 is what its authors recommend.

    Raises:
        ModuleNotFoundError: If `ntloss` is not installed.
    """

    def __init__(self, folder: str, weight: float = 0.3) -> None:
        try:
            from ntloss.core import NTLoss
        except ModuleNotFoundError as error:
            if error.name != "ntloss":
                raise
            raise ModuleNotFoundError(
                "the number token loss needs the package ntloss: pip install -e '.[arena]'"
            ) from None
        super().__init__(folder)
        self.weight = weight
        self.distance = NTLoss(
            copy.deepcopy(self.base),  # to which it adds the digits, that it may have them already
            vocab_size=self.backbone.get_input_embeddings().weight.shape[0],
            reweigh=False,
        )

    def loss(self, batch: Sequence[tuple[list[int], int]]) -> Tensor:
        """Mean cross-entropy over tokens and weighted mean distance over digits."""
        logits, labels = self.logits(batch)
        token = nn.functional.cross_entropy(logits, labels)
        distance: Tensor = self.distance(logits[None], labels[None])
        return token + self.weight * distance
