"""A regression head on the last token, as Hugging Face has it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

import numlm.attention  # noqa: F401 - makes `PER_TEXT` known
from benchmarks.contenders.base import Answers, Contender, Text, last_states
from numlm.packing import PER_TEXT
from numlm.parsing import find_numbers


class Examples(NamedTuple):
    """Prompts of which each continues the one before it, read as one text.

    Attributes:
        ids: Token ids of the longest.
        lengths: Tokens of each.
        values: The values that come after them.
    """

    ids: list[int]
    lengths: list[int]
    values: list[float]


class RegressionHead(Contender):
    """Sequence classification with one label: a linear output of the last token is the value.

    The loss is its own, the squared error of the value as it is. Every answer of a text is an
    example: the text before it, in digits, and its value. It writes no text.

    Args:
        folder: The backbone.

    Raises:
        ValueError: If it is asked for a number that nothing stands before.
    """

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.model = AutoModelForSequenceClassification.from_pretrained(
            folder, num_labels=1, dtype=torch.float32
        ).train()
        self.model.set_attn_implementation(PER_TEXT)

    def encode(self, texts: Sequence[Text]) -> list[list[Examples]]:
        """The examples of every text."""
        encoded = []
        for text in texts:
            mine: list[Examples] = []
            for index, (start, _, number) in enumerate(find_numbers(text.text)):
                if index in text.answers:
                    ids = self._ids(text.text[:start])
                    # A sign after a space makes one token of both, which the prompt does not have.
                    if not mine or ids[: len(mine[-1].ids)] != mine[-1].ids:
                        mine.append(Examples([], [], []))
                    before = mine.pop()
                    mine.append(
                        Examples(ids, [*before.lengths, len(ids)], [*before.values, number.value])
                    )
            encoded.append(mine)
        return encoded

    def _ids(self, prompt: str) -> list[int]:
        ids: list[int] = self.base(prompt, add_special_tokens=False)["input_ids"]
        if not ids:
            raise ValueError("the last token is what answers: a number needs text before it")
        return ids

    def _outputs(self, rows: Sequence[list[int]]) -> Tensor:
        """The head's output (B, T) at every token of texts."""
        parts = [torch.tensor(ids) for ids in rows]
        input_ids = nn.utils.rnn.pad_sequence(parts, batch_first=True)
        mask = nn.utils.rnn.pad_sequence(
            [torch.ones_like(part) for part in parts], batch_first=True
        )
        embeddings = self.model.get_input_embeddings()(input_ids)
        found: Tensor = self.model.score(last_states(self.model, embeddings, mask))[..., 0]
        return found

    def loss(self, batch: Sequence[list[Examples]]) -> Tensor:
        """Mean squared error over the examples."""
        examples = [example for text in batch for example in text]
        outputs = self._outputs([example.ids for example in examples])
        lengths = [
            (row, length) for row, example in enumerate(examples) for length in example.lengths
        ]
        rows, ends = torch.tensor(lengths).T
        values = torch.tensor([value for example in examples for value in example.values])
        return nn.functional.mse_loss(outputs[rows, ends - 1], values)

    def answer(self, prompts: Sequence[str]) -> Answers:
        """The head's output after each prompt."""
        rows = [self._ids(prompt) for prompt in prompts]
        ends = torch.tensor([len(ids) - 1 for ids in rows])
        return Answers(self._outputs(rows)[torch.arange(len(rows)), ends].double())

    def added(self) -> list[nn.Parameter]:
        """The head."""
        return list(self.model.score.parameters())

    def number_tokens(self, texts: Sequence[Text]) -> float:
        """None is written."""
        return 0.0
