"""Writing text with numbers, through Hugging Face's own `generate`.

When the token that is chosen is `<NUM>`, the number head says which number, and its value is fed
back through the number embedding like any other number of the text: what was written reads the
same when it is encoded again. `NumberWriter` is the model as Transformers' generation sees it;
`numlm.writing` is what passes beside the token ids from step to step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin, PreTrainedModel
from transformers.generation.streamers import TextStreamer

from numlm.parsing import find_numbers
from numlm.prediction import NumberSaid, check_prompt, check_texts, inference
from numlm.streaming import NumberStreamer
from numlm.writing import WrittenNumbers

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


class NumberWriter(PreTrainedModel, GenerationMixin):
    """The model as Transformers' generation sees it.

    Args:
        model: The model.
    """

    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True

    def __init__(self, model: "NumberLM") -> None:
        super().__init__(model.backbone.config)
        self.generation_config = GenerationConfig(pad_token_id=model.tokenizer.pad_token_id)
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
        states, outputs = model.read(model.embed(input_ids, features), **options)
        scores = model.token_scores(states.map(lambda part: part[:, -1:]).latent)
        numbers.remember(states, scores[:, -1])
        logits = model.token_head.log_probs(scores)
        # rows of the table that are no token
        logits[..., model.tokenizer.num_token_id + 1 :] = float("-inf")
        outputs["logits"] = logits
        return outputs


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
    numbers = WrittenNumbers(model, values, mask, max_new_tokens)
    if streamer is not None:
        options["streamer"] = NumberStreamer(streamer, numbers, prompts[0])
    with inference(model):
        writer = model.writer
        writer.generation_config.eos_token_id = sorted(model.end_token_ids) or None
        sequences = writer.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask,
            numbers=numbers,
            max_new_tokens=max_new_tokens,
            **options,
        )
        written = sequences[:, longest:].tolist()
        # A number that was chosen last was never read, and has no value yet.
        unread = (sequences[:, -1] == tokenizer.num_token_id).nonzero()[:, 0].tolist()
        if unread and numbers.length < sequences.shape[1]:
            numbers.say(unread)
        said = numbers.numbers()
    times = len(written) // len(prompts)
    return [
        _continuation(model, prompts[row // times], new, longest, said[row])
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
