"""What comes next as a number: its value, how sure that is, and where it comes from."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from numlm.batch import Record, collate, take_positions
from numlm.calibration import INTERVAL
from numlm.compilation import compiled_if
from numlm.distributions import ValueMixture
from numlm.parsing import render

if TYPE_CHECKING:
    from numlm.model import NumberLM


@dataclass(frozen=True, slots=True)
class NumberSaid:
    """A number that the model says.

    Attributes:
        value: The number, as the shortest decimal its certainty supports.
        low: Lower end of the 80 % interval, calibrated where the model is.
        high: Upper end of that interval.
        p_number: Probability that a number comes here, in [0, 1].
        source: Index of the number of the text that was copied, or None for a new one.
    """

    value: float
    low: float
    high: float
    p_number: float
    source: int | None


@dataclass(frozen=True, slots=True)
class Prediction(NumberSaid):
    """What the model says comes after a prompt.

    Attributes:
        text: The prompt, continued with the number.
    """

    text: str


@contextmanager
def inference(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the training mode is put back."""
    was_training = model.training
    if any(module.training for module in model.modules()):  # setting it takes longer than asking
        model.eval()
    try:
        with torch.no_grad(), compiled_if(False):
            yield
    finally:
        if was_training:
            model.train()


def describe(
    model: "NumberLM", mixture: ValueMixture, values: Tensor, p_number: Tensor
) -> list[NumberSaid]:
    """Numbers with how sure they are and where they come from.

    Args:
        model: The model.
        mixture: Their distributions.
        values: (N,) the points of these, as they are printed.
        p_number: (N,) probability that a number comes there.
    """
    _, source = mixture.point()
    low, high = mixture.interval(model.interval_level(source, INTERVAL))
    columns = [column.tolist() for column in (values, low, high, p_number, source)]
    return [
        NumberSaid(value, lower, upper, probability, which if which >= 0 else None)
        for value, lower, upper, probability, which in zip(*columns, strict=True)
    ]


def predict_batch(model: "NumberLM", prompts: Sequence[str]) -> list[Prediction]:
    """The number that comes after each prompt, all of them in one batch.

    Where a prompt does not end in white space the number may follow at once (Chinese) or after a
    space (English): both are tried, and the more probable way is taken.

    Raises:
        ValueError: If a prompt is no text, empty or longer than the model's context.
    """
    check_texts(prompts)
    leads = [("",) if prompt[-1:].isspace() else ("", " ") for prompt in prompts]
    ways = [(i, lead) for i, prompt_leads in enumerate(leads) for lead in prompt_leads]
    encodings = model.tokenizer.encode_batch([prompts[i] + lead for i, lead in ways])
    for encoding, (i, _) in zip(encodings, ways, strict=True):
        check_prompt(model, len(encoding.input_ids), f"prompt {i}")
    batch = collate(
        [Record.of(encoding) for encoding in encodings],
        model.tokenizer.num_token_id,
        model.tokenizer.pad_token_id,
    ).to(model.device)
    states = model(batch)
    last = batch.attention_mask.sum(-1, keepdim=True) - 1  # (N, 1)
    at = torch.cat([last, (last - 1).clamp(min=0)], dim=-1)
    scores = model.token_scores(states.map(lambda part: take_positions(part, at)).latent)
    p_number = model.token_head.prob(scores[:, 0], model.tokenizer.num_token_id)
    spaces = batch.input_ids.gather(-1, last)
    p_space = model.token_head.log_probs(scores[:, 1]).gather(-1, spaces)[:, 0].exp()
    after_space = torch.tensor([bool(lead) for _, lead in ways], device=p_space.device)
    probability = torch.where(after_space, p_number * p_space, p_number)
    mixture = model.number_answer(states, batch, last).mixture()
    said = describe(model, mixture, mixture.printed(), probability)
    best: dict[int, tuple[NumberSaid, str]] = {}
    total = [0.0] * len(prompts)
    for (i, lead), number in zip(ways, said, strict=True):
        total[i] += number.p_number
        if i not in best or number.p_number > best[i][0].p_number:
            best[i] = (number, lead)
    return [
        Prediction(
            value=number.value,
            low=number.low,
            high=number.high,
            p_number=min(total[i], 1.0),
            source=number.source,
            text=prompts[i] + lead + render(number.value),
        )
        for i, (number, lead) in sorted(best.items())
    ]


def check_texts(prompts: Sequence[str]) -> None:
    """Refuse what is no list of texts; one text alone would be read as one prompt a character.

    Raises:
        ValueError: If it is none.
    """
    if isinstance(prompts, str | bytes):
        raise ValueError("the prompts are one text: give a list of texts, such as ['It is']")
    for i, prompt in enumerate(prompts):
        if not isinstance(prompt, str):
            raise ValueError(f"prompt {i} is no text (str) but a {type(prompt).__name__}")


def check_prompt(model: "NumberLM", tokens: int, name: str, room: int = 1) -> None:
    """Refuse a prompt that the model cannot go on from.

    Args:
        model: The model.
        tokens: Length of the prompt.
        name: What to call it.
        room: How many tokens are to follow.

    Raises:
        ValueError: If it is empty, or leaves no room in the context.
    """
    if not tokens:
        raise ValueError(f"{name} is empty: there is nothing a number could follow")
    if tokens + room > model.context_length:
        raise ValueError(
            f"{name} is {tokens} tokens long and {room} are to follow, but the model's context is "
            f"{model.context_length}: shorten it"
        )
