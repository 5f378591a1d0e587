"""Writing text with numbers, through Hugging Face's own `generate`.

When the token that is chosen is `<NUM>`, the number head says which number, and its value is fed
back through the number embedding like any other number of the text: what was written reads the
same when it is encoded again. `NumberWriter` is the model as Transformers' generation sees it;
`WrittenNumbers` is what passes beside the token ids from step to step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin, PreTrainedModel
from transformers.generation.streamers import BaseStreamer, TextStreamer

from numlm import clock
from numlm.batch import IGNORE, Batch
from numlm.heads import Latent
from numlm.parsing import find_numbers
from numlm.prediction import NumberSaid, check_prompt, check_texts, inference, say

if TYPE_CHECKING:
    from numlm.model import NumberLM


@dataclass(frozen=True, slots=True)
class TextNumber:
    """A number of a text.

    Attributes:
        start: Its first character.
        end: The character after its last.
        value: Its value.
        said: What the model said of it; None for a number of the prompt.
    """

    start: int
    end: int
    value: float
    said: NumberSaid | None


@dataclass(frozen=True, slots=True)
class Continuation:
    """A prompt and what the model wrote after it.

    Attributes:
        prompt: The prompt.
        text: The prompt and what follows it, numbers written as shortest decimals.
        numbers: All numbers of the text in order; the `source` of one that was said is an index
            into them.
    """

    prompt: str
    text: str
    numbers: list[TextNumber]


class WrittenNumbers:
    """The numbers of the texts of a batch while it is being written, padded on the left.

    Args:
        model: The model.
        values: (B, T) float64 of the prompts' numbers, 0 elsewhere.
        attention_mask: (B, T) of the prompts.
    """

    def __init__(self, model: "NumberLM", values: Tensor, attention_mask: Tensor) -> None:
        self.model = model
        self.values = values
        self.attention_mask = attention_mask
        self.input_ids = attention_mask[:, :0]
        self.latent: Latent | None = None
        self.p_number = values[:, 0].float()
        self.said: list[dict[int, NumberSaid]] = [{} for _ in values]

    def read(self, input_ids: Tensor) -> Tensor:
        """Take in the tokens of a step; a `<NUM>` that was chosen gets its value.

        Args:
            input_ids: (B, t) the prompts, then one token a step, or all where there is no cache.

        Returns:
            (B, t, F) clock features of those tokens.
        """
        if len(input_ids) != len(self.values):  # several sequences for every prompt
            times = len(input_ids) // len(self.values)
            self.values, self.attention_mask, self.input_ids = (
                part.repeat_interleave(times, dim=0)
                for part in (self.values, self.attention_mask, self.input_ids)
            )
            self.said = [{} for _ in self.values]
        seen, step = self.input_ids.shape[1], input_ids.shape[1]
        length = seen + 1 if seen and step == 1 else step
        is_number = input_ids == self.model.tokenizer.num_token_id
        if length > self.values.shape[1]:
            column = self.values.new_zeros(len(self.values), 1)
            rows = is_number[:, -1].nonzero()[:, 0].tolist()
            if rows:
                said = [number.value for number in self.say(rows)]
                column[rows, 0] = torch.tensor(said, dtype=torch.float64, device=column.device)
            self.values = torch.cat([self.values, column], dim=-1)
            self.attention_mask = torch.cat(
                [self.attention_mask, torch.ones_like(self.attention_mask[:, :1])], dim=-1
            )
        start = length - step
        self.input_ids = torch.cat([self.input_ids[:, :start], input_ids], dim=-1)
        return clock.encode_at(is_number, self.values[:, start:])

    def remember(self, latent: Latent, p_number: Tensor) -> None:
        """Keep what the tokens of a step were read as.

        Args:
            latent: (B, t, H) latent causes of those tokens.
            p_number: (B,) probability of `<NUM>` after the last one.
        """
        start = self.input_ids.shape[1] - latent.loc.shape[1]
        before = (part[:, :start] for part in self.latent or ())
        self.latent = (
            Latent(*(torch.cat(pair, dim=1) for pair in zip(before, latent, strict=True)))
            if start
            else latent
        )
        self.p_number = p_number

    def say(self, rows: Sequence[int]) -> list[NumberSaid]:
        """The number that comes next in some of the texts, if one does."""
        assert self.latent is not None
        length = self.input_ids.shape[1]
        new = [row for row in rows if length not in self.said[row]]
        if new:
            ids, values = self.input_ids[new], self.values[new, :length]
            is_number = ids == self.model.tokenizer.num_token_id
            batch = Batch(
                input_ids=ids,
                attention_mask=self.attention_mask[new, :length],
                labels=torch.full_like(ids, IGNORE),
                number_features=clock.encode_at(is_number, values),
                number_bits=values.contiguous().view(torch.int64),
                asked=torch.zeros_like(ids, dtype=torch.bool),
                record_ids=torch.tensor(new),
            )
            last = torch.full((len(new), 1), length - 1, device=ids.device)
            latent = Latent(*(part[new] for part in self.latent))
            numbers = say(self.model, latent, batch, last, self.p_number[new].tolist())
            for row, number in zip(new, numbers, strict=True):
                self.said[row][length] = number
        return [self.said[row][length] for row in rows]


class NumberWriter(PreTrainedModel, GenerationMixin):
    """The model as Transformers' generation sees it.

    Args:
        model: The model.
    """

    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True

    def __init__(self, model: "NumberLM") -> None:
        super().__init__(model.backbone.config)
        self.generation_config = GenerationConfig(
            eos_token_id=sorted(model.end_token_ids) or None,
            pad_token_id=model.tokenizer.pad_token_id,
        )
        self.model = model
        self.eval()

    def forward(self, input_ids: Tensor, numbers: WrittenNumbers, **options: Any) -> Any:  # noqa: ANN401
        """One step of generation: logits (B, 1, V) of the next token, the log-probabilities.

        Args:
            input_ids: (B, t) last tokens.
            numbers: The numbers so far; taken further.
            **options: Given to the backbone: attention mask, position ids, cache.
        """
        model = self.model
        features = numbers.read(input_ids)
        outputs = model.backbone.base_model(
            inputs_embeds=model.embed(input_ids, features), **options
        )
        latent = model.abduction(outputs.last_hidden_state)
        scores = model.token_scores(Latent(latent.loc[:, -1:], latent.scale[:, -1:]))
        num_id = model.tokenizer.num_token_id
        numbers.remember(latent, model.token_head.prob(scores[:, -1], num_id))
        logits = model.token_head.log_probs(scores)
        logits[..., num_id + 1 :] = float("-inf")  # rows of the table that are no token
        outputs["logits"] = logits
        return outputs


class _NumberStreamer(BaseStreamer):
    """Turns the tokens of one text into pieces of text for one of Transformers' text streamers."""

    def __init__(self, to: TextStreamer, numbers: WrittenNumbers, prompt: str) -> None:
        self.to = to
        self.numbers = numbers
        self.prompt = prompt
        self.ids: list[int] | None = None  # None until the prompt has come
        self.values: list[float] = []
        self.written = 0

    def put(self, value: Tensor) -> None:
        """Take the prompt's tokens, then one token at a time."""
        if self.ids is None:
            self.ids = []
            if not self.to.skip_prompt:
                self.to.on_finalized_text(self.prompt)
            return
        model = self.numbers.model
        tokenizer, token_id = model.tokenizer, int(value.item())
        if token_id in model.end_token_ids:
            return
        if token_id == tokenizer.num_token_id:
            self.values.append(self.numbers.say([0])[0].value)
        self.ids.append(token_id)
        text = "".join(tokenizer.decode_pieces(self.ids, self.values, after_text=True))
        if not text.endswith("\ufffd"):  # the rest of a character is still to come
            self.to.on_finalized_text(text[self.written :])
            self.written = len(text)

    def end(self) -> None:
        """Say that nothing follows."""
        self.to.on_finalized_text("", stream_end=True)


def write(
    model: "NumberLM",
    prompts: Sequence[str],
    max_new_tokens: int = 40,
    streamer: TextStreamer | None = None,
    **options: Any,  # noqa: ANN401
) -> list[Continuation]:
    """Continue prompts.

    Args:
        model: The model.
        prompts: Texts to continue, in one batch.
        max_new_tokens: Greatest number of tokens written; a number is one.
        streamer: One of Transformers' text streamers, for a single prompt.
        **options: Given to `GenerationMixin.generate`: `do_sample`, `temperature`, `top_p`,
            `num_return_sequences`, `use_cache`, `stopping_criteria`, ...; greedy without any.

    Returns:
        One for every prompt, or `num_return_sequences` for each of them in turn.

    Raises:
        ValueError: If a prompt is no text, empty or too long, if beams are asked for, or if there
            is a streamer for several prompts.
    """
    check_texts(prompts)
    if options.get("num_beams", 1) != 1:
        raise ValueError("beam search would have to carry values along: use greedy or sampling")
    if streamer is not None and len(prompts) != 1:
        raise ValueError(f"a streamer takes one prompt at a time, not {len(prompts)}")
    if not prompts:
        return []
    tokenizer = model.tokenizer
    encodings = tokenizer.encode_batch(prompts)
    for i, encoding in enumerate(encodings):
        check_prompt(model, len(encoding.input_ids), f"prompt {i}", max_new_tokens)
    longest = max(len(encoding.input_ids) for encoding in encodings)
    ids = torch.full((len(prompts), longest), tokenizer.pad_token_id)
    mask = torch.zeros_like(ids)
    values = torch.zeros(ids.shape, dtype=torch.float64)
    for row, encoding in enumerate(encodings):
        own = torch.tensor(encoding.input_ids)
        ids[row, -len(own) :] = own
        mask[row, -len(own) :] = 1
        places = longest - len(own) + (own == tokenizer.num_token_id).nonzero()[:, 0]
        own_values = [number.value for number in encoding.numbers]
        values[row, places] = torch.tensor(own_values, dtype=torch.float64)
    mask, values = mask.to(model.device), values.to(model.device)
    numbers = WrittenNumbers(model, values, mask)
    if streamer is not None:
        options["streamer"] = _NumberStreamer(streamer, numbers, prompts[0])
    with inference(model):
        sequences = NumberWriter(model).generate(
            input_ids=ids.to(model.device),
            attention_mask=mask,
            numbers=numbers,
            max_new_tokens=max_new_tokens,
            **options,
        )
        written = sequences[:, longest:].tolist()
        # A number that was chosen last was never read, and has no value yet.
        unread = (sequences[:, -1] == tokenizer.num_token_id).nonzero()[:, 0].tolist()
        if numbers.input_ids.shape[1] < sequences.shape[1]:
            numbers.say(unread)
    times = len(written) // len(prompts)
    return [
        _continuation(model, prompts[row // times], new, longest, numbers.said[row])
        for row, new in enumerate(written)
    ]


def _continuation(
    model: "NumberLM", prompt: str, new: list[int], start: int, said: dict[int, NumberSaid]
) -> Continuation:
    """The text of new tokens after a prompt of `start` tokens, up to where it ends."""
    ids: list[int] = []
    numbers: list[NumberSaid] = []
    for place, token_id in enumerate(new, start):
        if token_id in model.end_token_ids or token_id == model.tokenizer.pad_token_id:
            break
        ids.append(token_id)
        if token_id == model.tokenizer.num_token_id:
            numbers.append(said[place])
    pieces = model.tokenizer.decode_pieces(ids, [n.value for n in numbers], after_text=True)
    found = [TextNumber(first, end, n.value, None) for first, end, n in find_numbers(prompt)]
    text = prompt
    for index, piece in enumerate(pieces):
        if index % 2:
            number = numbers[index // 2]
            found.append(TextNumber(len(text), len(text) + len(piece), number.value, number))
        text += piece
    return Continuation(prompt, text, found)
