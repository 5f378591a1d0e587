"""The batch that every part of the project meets on, and the legend of its shapes.

    B  texts          T  tokens of the longest text     F  clock features (`clock.FEATURES`)
    H  hidden size    V  rows of the embedding table    K  numbers of the text with most numbers
    A  number slots of the text with most of them (positions whose next token is a number)
    R  reading heads  J  hands of the clock that an answer has (`clock.HANDS` or fewer)
    W  tokens after a number that tell what it belongs to (`reading.WINDOW`)

Labels follow the Hugging Face convention: `labels[:, t]` is predicted from position t - 1; the
model shifts.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from numlm import clock
from numlm.tokenization import Encoding

IGNORE = -100


class Batch(NamedTuple):
    """Texts as tensors, padded on the right.

    Attributes:
        input_ids: (B, T) int64.
        attention_mask: (B, T) int64, 1 on text and 0 on padding.
        labels: (B, T) int64, -100 where no loss is taken.
        number_features: (B, T, F) float32, clock features at `<NUM>`, 0 elsewhere.
        number_bits: (B, T) int64, the bits of the float64 values at `<NUM>`. As integers they
            survive every precision plugin: `bf16-true` casts floats, float64 too (12345.678 would
            arrive as 12352).
        asked: (B, T) bool, the `<NUM>` labels that follow from the text before them; evaluation
            asks for these.
        record_ids: (B,) int64, which record a row is, so that evaluation counts each once.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    number_features: Tensor
    number_bits: Tensor
    asked: Tensor
    record_ids: Tensor

    @property
    def number_values(self) -> Tensor:
        """(B, T) float64, the values at `<NUM>`, 0 elsewhere."""
        return self.number_bits.view(torch.float64)

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        return Batch(*(tensor.to(device) for tensor in self))


class Piece(NamedTuple):
    """What one process reads at once of a training step.

    Attributes:
        batch: Its texts.
        tokens: Labelled tokens of the whole step, over the number of pieces, a float32 scalar.
        numbers: Number labels of the whole step, over the number of pieces.

    The losses of a piece are sums over its own labels divided by these, so that their mean over
    the pieces, which is what processes and accumulation take, is the loss of the whole step.
    """

    batch: Batch
    tokens: Tensor
    numbers: Tensor


class Record(NamedTuple):
    """One encoded text.

    Attributes:
        input_ids: Its token ids, `<NUM>` where a number stands.
        values: The values of its numbers in order, float64.
        answers: Which of its numbers are asked for.
        record_id: Which record it is.
        answer_start: The first token that a loss is taken on; what is before it is the prompt.
    """

    input_ids: Sequence[int]
    values: Sequence[float]
    answers: Sequence[int] = ()
    record_id: int = 0
    answer_start: int = 0

    @classmethod
    def of(
        cls,
        encoding: Encoding,
        answers: Sequence[int] = (),
        record_id: int = 0,
        end_token_id: int | None = None,
    ) -> "Record":
        """The record of an encoded text, with the loss on the whole of it.

        Args:
            encoding: The text.
            answers: Which of its numbers are asked for.
            record_id: Which record it is.
            end_token_id: A token to put at the end, so that the model learns where to stop.
        """
        ids = encoding.input_ids + ([] if end_token_id is None else [end_token_id])
        return cls(ids, [number.value for number in encoding.numbers], answers, record_id)


def count_labels(records: Sequence[Record], num_token_id: int) -> Tensor:
    """(N, 2) int64: tokens that a loss is taken on, and the numbers among them, of every record.

    The first token of a text has nothing before it that it could be predicted from.
    """
    labelled = [record.input_ids[max(record.answer_start, 1) :] for record in records]
    return torch.tensor([[len(ids), list(ids).count(num_token_id)] for ids in labelled])


def collate(records: Sequence[Record], num_token_id: int, pad_token_id: int) -> Batch:
    """Pad encoded texts to a batch whose labels are the texts, each from its `answer_start`.

    Raises:
        ValueError: If there is nothing to collate.
    """
    if not records:
        raise ValueError("a batch needs at least one text")
    longest = max(len(record.input_ids) for record in records)
    input_ids = torch.full((len(records), longest), pad_token_id)
    attention_mask = torch.zeros_like(input_ids)
    labelled = torch.zeros_like(input_ids, dtype=torch.bool)
    values = torch.zeros(input_ids.shape, dtype=torch.float64)
    asked = torch.zeros_like(input_ids, dtype=torch.bool)
    for row, record in enumerate(records):
        ids = torch.tensor(record.input_ids)
        input_ids[row, : len(ids)] = ids
        attention_mask[row, : len(ids)] = 1
        labelled[row, record.answer_start : len(ids)] = True
        places = (ids == num_token_id).nonzero()[:, 0]
        values[row, places] = torch.tensor(record.values, dtype=torch.float64)
        asked[row, places[list(record.answers)]] = True
    is_number = (input_ids == num_token_id) & (attention_mask == 1)
    return Batch(
        input_ids=input_ids,
        attention_mask=attention_mask,
        labels=input_ids.masked_fill(~labelled, IGNORE),
        number_features=clock.encode_at(is_number, values),
        number_bits=values.view(torch.int64),
        asked=asked,
        record_ids=torch.tensor([record.record_id for record in records]),
    )


_Batch = TypeVar("_Batch")


def deal(batches: Sequence[_Batch], rank: int, world_size: int) -> list[_Batch]:
    """A process's share of batches, as many for every process: the last one fills up."""
    last = len(batches) - 1
    rounds = -(-len(batches) // world_size)
    return [batches[min(i * world_size + rank, last)] for i in range(rounds)]


def positions_of(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Where a mask is true, row by row, padded to the fullest row.

    Args:
        mask: (B, T) bool.

    Returns:
        positions: (B, K) int64, in order; 0 where there is none.
        valid: (B, K) bool. K is at least 1.
    """
    count = max(int(mask.sum(-1).max()), 1)
    order = torch.argsort((~mask).byte(), dim=-1, stable=True)[:, :count]
    valid = mask.gather(-1, order)
    return order.masked_fill(~valid, 0), valid


def take_positions(tensor: Tensor, positions: Tensor) -> Tensor:
    """Rows of (B, T, ...) at positions (B, K), as (B, K, ...)."""
    return tensor[torch.arange(len(positions), device=positions.device)[:, None], positions]
