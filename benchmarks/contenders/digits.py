"""Numbers as the digits that they are written with, learned by cross-entropy."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmarks.contenders.base import Answers, Contender, Text, last_states, load
from numlm.batch import IGNORE
from numlm.digits import DigitWriter
from numlm.parsing import find_numbers


class Digits(Contender):
    """The backbone as it is, tuned on the texts as they are; answers are generated greedily.

    Args:
        folder: The backbone.
    """

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.backbone = load(folder)

    def encode(self, texts: Sequence[Text]) -> list[tuple[list[int], int]]:
        """Token ids, and the first of them that is learned.

        Of an answer also the space before it, from where it is asked for (`DigitWriter`).
        """
        encoded = self.base(
            [text.text for text in texts], add_special_tokens=False, return_offsets_mapping=True
        )
        starts = [len(text.text[: text.start].rstrip(" ")) for text in texts]
        end = self.base.eos_token_id
        return [
            (
                [*ids, end],
                next((i for i, (_, stop) in enumerate(places) if stop > start), len(ids)),
            )
            for start, ids, places in zip(
                starts, encoded["input_ids"], encoded["offset_mapping"], strict=True
            )
        ]

    def loss(self, batch: Sequence[tuple[list[int], int]]) -> Tensor:
        """Mean cross-entropy of the next token."""
        return nn.functional.cross_entropy(*self.logits(batch))

    def logits(self, batch: Sequence[tuple[list[int], int]]) -> tuple[Tensor, Tensor]:
        """Scores (N, V) at the N tokens that are learned, and these tokens (N,)."""
        longest = max(len(ids) for ids, _ in batch)
        input_ids = torch.zeros(len(batch), longest, dtype=torch.long)
        mask = torch.zeros_like(input_ids)
        labels = torch.full_like(input_ids, IGNORE)
        for row, (ids, start) in enumerate(batch):
            input_ids[row, : len(ids)] = torch.tensor(ids)
            mask[row, : len(ids)] = 1
            labels[row, start : len(ids)] = input_ids[row, start : len(ids)]
        states = last_states(self.backbone, self.backbone.get_input_embeddings()(input_ids), mask)
        labels = labels[:, 1:]
        labelled = labels != IGNORE
        return self.backbone.get_output_embeddings()(states[:, :-1][labelled]), labels[labelled]

    def answer(self, prompts: Sequence[str]) -> Answers:
        """What is written greedily after each prompt, parsed."""
        written = DigitWriter(self.backbone, self.base)(prompts)
        values = [float("nan") if value is None else value for value in written]
        return Answers(torch.tensor(values, dtype=torch.float64))

    def added(self) -> list[nn.Parameter]:
        """None."""
        return []

    def number_tokens(self, texts: Sequence[Text]) -> float:
        """The digits, points, signs and exponents of the answers."""
        surfaces = [
            text.text[start:end]
            for text in texts
            for index, (start, end, _) in enumerate(find_numbers(text.text))
            if index in text.answers
        ]
        ids = self.base(surfaces, add_special_tokens=False)["input_ids"]
        return sum(map(len, ids)) / len(ids)
