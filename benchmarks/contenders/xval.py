"""Numbers as one direction that is as long as the number is great (xVal)."""

from collections.abc import Sequence

from torch import Tensor, nn

from benchmarks.contenders.base import Answers, Text, ValueTokens
from numlm.parsing import find_numbers

_REACH = 5.0


class XVal(ValueTokens):
    """A number's embedding is that of `<NUM>` times its scaled value; an MLP says the next one.

    xVal (arXiv 2310.02989): values are scaled so that those of training lie in [-5, 5], and the
    head learns the scaled value by its squared error. The authors' head has one hidden layer, four
    times as wide as the model, and GELU. Zero erases the embedding. Their model adds positions to
    the embeddings, by which a length survives the first normalization; a model with rotary
    positions sees of it, in its first layer, only the sign.

    Args:
        folder: The backbone.
        value_weight: Weight of the value loss.
    """

    def __init__(self, folder: str, value_weight: float = 1.0) -> None:
        super().__init__(folder, value_weight)
        self.unit = 1.0  # of the values as the model sees them; `prepare` finds it
        size = self.hidden_size
        self.head = nn.Sequential(nn.Linear(size, 4 * size), nn.GELU(), nn.Linear(4 * size, 1))

    def prepare(self, texts: Sequence[Text]) -> None:
        """Find the unit in which all numbers of the texts lie in [-5, 5].

        Raises:
            ValueError: If none is different from zero.
        """
        found = (number for text in texts for _, _, number in find_numbers(text.text))
        largest = max((abs(number.value) for number in found), default=0.0)
        if not largest:
            raise ValueError("no training text has a number but zero, to scale the values by")
        self.unit = largest / _REACH

    def embed(self, values: Tensor, row: Tensor) -> Tensor:
        """Embeddings (N, H): the row, as often as the scaled value says."""
        return self._scaled(values)[:, None] * row

    def value_loss(self, hidden: Tensor, values: Tensor) -> Tensor:
        """Squared errors (N,) of the scaled values."""
        return (self.head(hidden)[:, 0] - self._scaled(values)).square()

    def say(self, hidden: Tensor) -> Answers:
        """The head's output, scaled back."""
        return Answers(self.head(hidden)[:, 0].double() * self.unit)

    def _scaled(self, values: Tensor) -> Tensor:
        return (values / self.unit).float()
