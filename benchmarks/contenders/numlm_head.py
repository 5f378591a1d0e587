"""This project's own model."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.contenders.base import LEVELS, Answers, Contender, Text, number_records
from numlm import clock
from numlm.batch import Record, collate
from numlm.heads import SoftmaxHead, TokenHead
from numlm.losses import ValueLoss, value_crps
from numlm.model import NumberLM
from numlm.number_head import NumberHead


class NumLM(Contender):
    """Embedding, number head and losses of this project.

    Args:
        folder: The backbone.
        token_head: The token head.
        number_head: The number head.
        embedding_hands: Hands of the clock that the backbone sees.
        value_weight: Weight of the number loss.
        gate_alpha: Share of the number loss that is not gated; 1 is no gate.
        value_loss: Loss of new values.
        **head: Options of the number head.
    """

    def __init__(
        self,
        folder: str,
        token_head: type[TokenHead] = SoftmaxHead,
        number_head: type[NumberHead] = NumberHead,
        embedding_hands: int = clock.HANDS,
        value_weight: float = 0.3,
        gate_alpha: float = 1.0,
        value_loss: ValueLoss = value_crps,
        **head: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(folder)
        self.model = NumberLM.from_pretrained(
            folder,
            token_head=token_head,
            number_head=partial(number_head, **head),
            embedding_hands=embedding_hands,
        )
        self.value_weight, self.gate_alpha = value_weight, gate_alpha
        self.value_loss = value_loss

    def encode(self, texts: Sequence[Text]) -> list[Record]:
        """Token ids and values."""
        return number_records(self.model.tokenizer, texts)

    def loss(self, batch: Sequence[Record]) -> Tensor:
        """Token loss and weighted number loss."""
        tokenizer = self.model.tokenizer
        table = collate(batch, tokenizer.num_token_id, tokenizer.pad_token_id)
        losses = self.model.losses(table, self.gate_alpha, self.value_loss)
        return losses.total(self.value_weight)

    def answer(self, prompts: Sequence[str]) -> Answers:
        """The median after each prompt."""
        tokenizer = self.model.tokenizer
        records = self.encode([Text(prompt, (), whole=False) for prompt in prompts])
        batch = collate(records, tokenizer.num_token_id, tokenizer.pad_token_id)
        states = self.model(batch)
        last = batch.attention_mask.sum(-1, keepdim=True) - 1
        mixture = self.model.number_answer(states, batch, last).mixture()
        levels = torch.tensor(LEVELS, dtype=torch.float64)[:, None].expand(-1, len(prompts))
        return Answers(mixture.point()[0], mixture.quantile(levels)[0].T)

    def added(self) -> list[nn.Parameter]:
        """Parameters of number embedding, abduction and heads."""
        return self.model.head_parameters()

    def number_tokens(self, texts: Sequence[Text]) -> float:
        """One."""
        return 1.0
