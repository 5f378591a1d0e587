"""A regression head on the last token, as Hugging Face has it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from benchmarks.contenders.base import Answers, Contender, Text
from numlm.parsing import find_numbers


class RegressionHead(Contender):
    """Sequence classification with one label: a linear output of the last token is the value.

    Its own loss is used, the squared error of the value as it is. Every answer of a text is an
    example: the text before it, in digits, and its value. It writes no text.

    Args:
        folder: The backbone.
    """

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.model = AutoModelForSequenceClassification.from_pretrained(
            folder, num_labels=1, dtype=torch.float32
        ).train()
        if self.model.config.pad_token_id is None:  # by which it finds the last token
            self.model.config.pad_token_id = self.base.eos_token_id

    def encode(self, texts: Sequence[Text]) -> list[list[tuple[list[int], float]]]:
        """The examples of every text: token ids before an answer, and its value."""
        return [
            [
                (self._ids(text.text[:start]), number.value)
                for index, (start, _, number) in enumerate(find_numbers(text.text))
                if index in text.answers
            ]
            for text in texts
        ]

    def _ids(self, prompt: str) -> list[int]:
        ids: list[int] = self.base(prompt, add_special_tokens=False)["input_ids"]
        return ids

    def _inputs(self, rows: Sequence[list[int]]) -> dict[str, Tensor]:
        parts = [torch.tensor(ids) for ids in rows]
        pad = self.model.config.pad_token_id
        return {
            "input_ids": nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=pad),
            "attention_mask": nn.utils.rnn.pad_sequence(
                [torch.ones_like(part) for part in parts], batch_first=True
            ),
        }

    def loss(self, batch: Sequence[list[tuple[list[int], float]]]) -> Tensor:
        """Mean squared error over the examples."""
        examples = [example for text in batch for example in text]
        values = torch.tensor([value for _, value in examples])
        loss: Tensor = self.model(
            **self._inputs([ids for ids, _ in examples]), labels=values, use_cache=False
        ).loss
        return loss

    def answer(self, prompts: Sequence[str]) -> Answers:
        """The head's output after each prompt."""
        inputs = self._inputs([self._ids(prompt) for prompt in prompts])
        return Answers(self.model(**inputs, use_cache=False).logits[:, 0].double())

    def added(self) -> list[nn.Parameter]:
        """The head."""
        return list(self.model.score.parameters())

    def number_tokens(self, texts: Sequence[Text]) -> float:
        """None is written."""
        return 0.0
