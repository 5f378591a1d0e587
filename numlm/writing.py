"""The numbers of a batch of texts while it is being written.

What `<NUM>` stands for passes beside the token ids from step to step, in tensors with room for all
that may be written: a step fills its column and copies nothing. The step after a `<NUM>` needs the
number's value; its interval and source are worked out at the end, for all numbers at once.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from numlm import clock
from numlm.batch import IGNORE, Batch
from numlm.distributions import ValueMixture
from numlm.heads import States
from numlm.prediction import NumberSaid, describe

if TYPE_CHECKING:
    from numlm.model import NumberLM


class _Said(NamedTuple):
    """The numbers that stand at one position of some of the texts.

    Attributes:
        rows: The N texts.
        position: Where in them.
        values: (N,) float64.
        mixture: The distributions whose points they are.
        p_number: (N,) probability of `<NUM>` there.
    """

    rows: Sequence[int]
    position: int
    values: Tensor
    mixture: ValueMixture
    p_number: Tensor


class WrittenNumbers:
    """The numbers of the texts of a batch while it is being written, padded on the left.

    Args:
        model: The model.
        values: (B, T) float64 of the prompts' numbers, 0 elsewhere.
        attention_mask: (B, T) of the prompts.
        room: How many tokens may follow.

    Attributes:
        length: How many tokens of every text were read.
    """

    def __init__(
        self, model: "NumberLM", values: Tensor, attention_mask: Tensor, room: int
    ) -> None:
        self.model = model
        self.length = 0
        self._values = functional.pad(values, (0, room))
        self._attention_mask = functional.pad(attention_mask, (0, room), value=1)
        self._said: list[_Said] = []

    def read(self, input_ids: Tensor) -> Tensor | None:
        """Take in the tokens of a step; a `<NUM>` that was chosen gets its value.

        Args:
            input_ids: (B, t) the prompts, then one token a step, or all where there is no cache.

        Returns:
            (B, t, F) clock features of those tokens; None where one token each is no number.
        """
        step = input_ids.shape[1]
        if not self.length:
            self._begin(input_ids)
        else:
            position = self.length if step == 1 else step - 1
            last = input_ids[:, -1]
            rows = (last == self.model.tokenizer.num_token_id).nonzero()[:, 0].tolist()
            if rows:
                values = self.say(rows)
                self._values[rows, position] = values
                self._texts.number_features[rows, position] = clock.encode(values)
            self._texts.input_ids[:, position] = last
            self.length = position + 1
            if step == 1 and not rows:
                return None
        return self._texts.number_features[:, self.length - step : self.length]

    def _begin(self, input_ids: Tensor) -> None:
        """Make room for the texts, of which there may be several for every prompt."""
        times = len(input_ids) // len(self._values)
        self._values, mask = (
            part.repeat_interleave(times, dim=0) for part in (self._values, self._attention_mask)
        )
        self.length = input_ids.shape[1]
        room = mask.shape[1] - self.length
        ids = functional.pad(input_ids, (0, room), value=self.model.tokenizer.pad_token_id)
        self._texts = Batch(
            input_ids=ids,
            attention_mask=mask,
            labels=torch.full_like(ids, IGNORE),
            number_features=clock.encode_at(
                ids == self.model.tokenizer.num_token_id, self._values
            ),
            number_bits=self._values.view(torch.int64),  # the same memory
            asked=torch.zeros_like(ids, dtype=torch.bool),
            record_ids=torch.arange(len(ids), device=ids.device),
        )
        hidden_size = self.model.number_embedding.bias.shape[0]
        sizes = (hidden_size, 1, hidden_size)
        self._states = States(
            *(torch.zeros(*ids.shape, size, device=ids.device) for size in sizes)
        )

    def remember(self, states: States, scores: Tensor) -> None:
        """Keep what the tokens of a step were read as.

        Args:
            states: (B, t, H) what is known at those tokens.
            scores: (B, V) of what follows the last one.
        """
        start = self.length - states.loc.shape[1]
        for kept, part in zip(self._states, states, strict=True):
            kept[:, start : self.length] = part
        self._scores = scores

    def say(self, rows: Sequence[int]) -> Tensor:
        """The values (N,) float64 of the numbers that come next.

        Args:
            rows: The texts in which one does; a second call before the next step has the same.
        """
        if not self._said or self._said[-1].position < self.length:
            self._said.append(self._next(rows))
        return self._said[-1].values

    def _next(self, rows: Sequence[int]) -> _Said:
        chosen = slice(None) if len(rows) == len(self._values) else rows  # all: without a copy
        states = self._states.map(lambda part: part[chosen, : self.length])
        texts = (part[chosen] for part in self._texts)
        batch = Batch(*(part[:, : self.length] if part.dim() > 1 else part for part in texts))
        last = torch.full((len(rows), 1), self.length - 1, device=batch.input_ids.device)
        mixture = self.model.number_answer(states, batch, last).mixture()
        p_number = self.model.token_head.prob(
            self._scores[chosen], self.model.tokenizer.num_token_id
        )
        return _Said(rows, self.length, mixture.printed(), mixture, p_number)

    def numbers(self) -> list[dict[int, NumberSaid]]:
        """What was said in every text, by position."""
        found: list[dict[int, NumberSaid]] = [{} for _ in self._values]
        if self._said:
            numbers = describe(
                self.model,
                ValueMixture.joined([said.mixture for said in self._said]),
                torch.cat([said.values for said in self._said]),
                torch.cat([said.p_number for said in self._said]),
            )
            places = [(row, said.position) for said in self._said for row in said.rows]
            for (row, position), number in zip(places, numbers, strict=True):
                found[row][position] = number
        return found
