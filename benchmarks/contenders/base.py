"""What every contender of the arena is: a model that learns from texts and says numbers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from numlm.batch import IGNORE, Batch, Record, collate
from numlm.checkpoint import load_backbone, load_tokenizer
from numlm.packing import Packing
from numlm.parsing import find_numbers
from numlm.tokenization import NumberTokenizer

LEVELS = tuple(
    round(0.05 * step, 2) for step in range(1, 20)
)  # of the quantiles that answers have


class Text(NamedTuple):
    """A text with numbers.

    Attributes:
        text: All of it.
        answers: Which of its numbers are asked for, from left to right.
        whole: Whether all of it is learned, or only what begins with the first answer.
    """

    text: str
    answers: tuple[int, ...]
    whole: bool = True

    @property
    def start(self) -> int:
        """The character from which it is learned."""
        if self.whole:
            return 0
        return next(s for i, (s, _, _) in enumerate(find_numbers(self.text)) if i in self.answers)


class Answers(NamedTuple):
    """What a contender says after N prompts.

    Of a distribution there are quantiles or samples; a contender without one has neither.

    Attributes:
        values: (N,) float64, NaN where it says no number.
        quantiles: (N, `LEVELS`) float64.
        samples: (N, S) float64, NaN where one is no number.
    """

    values: Tensor
    quantiles: Tensor | None = None
    samples: Tensor | None = None


class Contender(nn.Module, ABC):
    """A backbone with a way to read and to write numbers.

    Args:
        folder: The backbone.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.base = load_tokenizer(folder)

    def prepare(self, texts: Sequence[Text]) -> None:
        """Take from the training texts what must be known before training, such as a scale."""

    @abstractmethod
    def encode(self, texts: Sequence[Text]) -> list[Any]:
        """What `loss` takes, one for every text."""

    @abstractmethod
    def loss(self, batch: Sequence[Any]) -> Tensor:
        """The loss of a step."""

    @abstractmethod
    def answer(self, prompts: Sequence[str]) -> Answers:
        """The number after each prompt; called in evaluation mode without gradients."""

    @abstractmethod
    def added(self) -> list[nn.Parameter]:
        """Parameters beside the backbone's own."""

    @abstractmethod
    def number_tokens(self, texts: Sequence[Text]) -> float:
        """How many tokens a number takes, on the average over the answers."""


def load(folder: str) -> PreTrainedModel:
    """The backbone in float32, in training mode."""
    return load_backbone(folder, dtype=torch.float32, attn_implementation="sdpa").train()


def last_states(backbone: PreTrainedModel, embeddings: Tensor, attention_mask: Tensor) -> Tensor:
    """Last hidden states (B, T, H) of embeddings (B, T, H) that are padded to the right.

    Texts are read in one row without padding, as this project's own model reads them.
    """
    packing = Packing.of(attention_mask)
    states: Tensor = backbone.base_model(
        inputs_embeds=packing.pack(embeddings),
        attention_mask=packing.table,
        position_ids=packing.position_ids,
        use_cache=False,
    ).last_hidden_state
    return packing.unpack(states)


def number_records(tokenizer: NumberTokenizer, texts: Sequence[Text]) -> list[Record]:
    """Texts with `<NUM>` and values; prompts, which ask for nothing they hold, have no end."""
    records = []
    end = tokenizer.base.eos_token_id
    encodings = tokenizer.encode_batch([text.text for text in texts])
    for text, encoding in zip(texts, encodings, strict=True):
        record = Record.of(
            encoding,
            text.answers,
            end_token_id=end if text.whole or text.answers else None,
        )
        if not text.whole and text.answers:
            ids = encoding.input_ids
            places = [i for i, one in enumerate(ids) if one == tokenizer.num_token_id]
            record = record._replace(answer_start=places[min(text.answers)])
        records.append(record)
    return records


class ValueTokens(Contender):
    """A number is one token that carries its value, as the model's own `<NUM>` does.

    A head reads the value's embedding in, another says which value comes next; when a number comes
    is learned as the token it is. The loss is the mean over tokens and `value_weight` times the
    mean over numbers.

    Args:
        folder: The backbone.
        value_weight: Weight of the value loss.
    """

    def __init__(self, folder: str, value_weight: float = 1.0) -> None:
        super().__init__(folder)
        self.backbone = load(folder)
        self.value_weight = value_weight
        self.tokenizer = NumberTokenizer(self.base)
        self.hidden_size: int = self.backbone.config.hidden_size
        missing = self.tokenizer.num_token_id + 1 - self.backbone.config.vocab_size
        if missing > 0:
            self.backbone.resize_token_embeddings(self.tokenizer.num_token_id + 1)
        digits = self.base.convert_tokens_to_ids(list("0123456789"))
        rows = self.backbone.get_input_embeddings().weight
        with torch.no_grad():  # as this project's own model starts: `<NUM>` is read as a number
            rows[self.tokenizer.num_token_id] = rows[digits].mean(0)

    @abstractmethod
    def embed(self, values: Tensor, row: Tensor) -> Tensor:
        """Embeddings (N, H) of values (N,) float64, given that of `<NUM>` (H,)."""

    @abstractmethod
    def value_loss(self, hidden: Tensor, values: Tensor) -> Tensor:
        """Losses (N,) of values (N,) float64 after hidden states (N, H)."""

    @abstractmethod
    def say(self, hidden: Tensor) -> Answers:
        """The values after hidden states (N, H)."""

    def added(self) -> list[nn.Parameter]:
        """Parameters beside the backbone's own."""
        own = {id(parameter) for parameter in self.backbone.parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in own]

    def encode(self, texts: Sequence[Text]) -> list[Record]:
        """Token ids and values."""
        return number_records(self.tokenizer, texts)

    def collate(self, records: Sequence[Record]) -> Batch:
        """Records as tensors."""
        return collate(records, self.tokenizer.num_token_id, self.tokenizer.pad_token_id)

    def hidden_states(self, batch: Batch) -> Tensor:
        """Last hidden states (B, T, H)."""
        table = self.backbone.get_input_embeddings()
        embeddings = table(batch.input_ids)
        number = (batch.input_ids == self.tokenizer.num_token_id) & (batch.attention_mask == 1)
        row = table.weight[self.tokenizer.num_token_id]
        embeddings = embeddings.masked_scatter(
            number[..., None], self.embed(batch.number_values[number], row)
        )
        return last_states(self.backbone, embeddings, batch.attention_mask)

    def loss(self, batch: Sequence[Record]) -> Tensor:
        """Token loss and weighted value loss."""
        table = self.collate(batch)
        states = self.hidden_states(table)[:, :-1]
        labels = table.labels[:, 1:]
        labelled = labels != IGNORE
        logits = self.backbone.get_output_embeddings()(states[labelled])
        token = nn.functional.cross_entropy(logits, labels[labelled])
        number = labels == self.tokenizer.num_token_id
        value = self.value_loss(states[number], table.number_values[:, 1:][number])
        return token + self.value_weight * value.sum() / max(len(value), 1)

    def answer(self, prompts: Sequence[str]) -> Answers:
        """The number after each prompt, whose last token asks."""
        records = self.encode([Text(prompt, (), whole=False) for prompt in prompts])
        batch = self.collate(records)
        last = batch.attention_mask.sum(-1) - 1
        return self.say(self.hidden_states(batch)[torch.arange(len(last)), last])

    def number_tokens(self, texts: Sequence[Text]) -> float:
        """One."""
        return 1.0
