"""The base model's own way of saying a number: digit by digit, generated greedily and parsed."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)

from numlm.parsing import Number, split_numbers

_WRITTEN_WITH = frozenset("0123456789０１２３４５６７８９.．,+-−＋－eE:/ \n")


def written_numbers(
    backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]
) -> list[float | None]:
    """What a plain causal language model writes after each prompt, if it is a number.

    Args:
        backbone: The model; left in evaluation mode.
        tokenizer: Its tokenizer.
        prompts: Texts that a number should follow.

    Returns:
        The value for each prompt, None where what was written does not begin with a number.
    """
    values: list[float | None] = [None] * len(prompts)
    writer = DigitWriter(backbone, tokenizer)
    for batch in writer.batches(prompts):
        for index, value in zip(batch, writer([prompts[i] for i in batch]), strict=True):
            values[index] = value
    return values


class DigitWriter:
    """Greedy generation of numbers as digits, in batches padded on the left.

    A space at the end of a prompt is left to the model, for its tokenizer may join it to what
    follows. A text is finished when it has a character that no number, date or time is written
    with.

    Args:
        backbone: The model; left in evaluation mode.
        tokenizer: Its tokenizer.
        max_new_tokens: Greatest number of tokens written.
        generate: What to call instead of the backbone's own `generate`.
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        max_new_tokens: int = 20,
        generate: Callable[..., Tensor] | None = None,
    ) -> None:
        self.backbone = backbone.eval()
        self.generate = generate or backbone.generate
        self.tokenizer = tokenizer
        self.max_new_tokens = max_new_tokens
        known = tokenizer.batch_decode([[token_id] for token_id in range(len(tokenizer))])
        rows = backbone.get_input_embeddings().weight.shape[0]
        self._ends = torch.ones(rows, dtype=torch.bool, device=backbone.device)
        self._ends[: len(known)] = torch.tensor(
            [not _WRITTEN_WITH.issuperset(text) for text in known], device=backbone.device
        )

    @staticmethod
    def batches(prompts: Sequence[str], size: int = 200) -> list[list[int]]:
        """Indices of prompts, those of about the same length together."""
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        return [order[start : start + size] for start in range(0, len(order), size)]

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> list[float | None]:
        """The value written after each prompt of one batch, None where there is none."""
        device = self.backbone.device
        encoded = self.tokenizer(
            [prompt.rstrip(" ") for prompt in prompts], add_special_tokens=False
        )["input_ids"]
        # An empty prompt needs a token to go on from.
        rows = [ids or [self.tokenizer.eos_token_id or 0] for ids in encoded]
        longest = max(map(len, rows))
        input_ids = torch.tensor([[0] * (longest - len(ids)) + ids for ids in rows])
        lengths = torch.tensor([len(ids) for ids in rows])
        mask = torch.arange(longest) >= longest - lengths[:, None]
        written = self.generate(
            input_ids=input_ids.to(device),
            attention_mask=mask.long().to(device),
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            use_cache=True,  # which a model that was trained without it says no to
            repetition_penalty=1.0,  # which the files of chat models set, and digits are repeated
            pad_token_id=self.tokenizer.eos_token_id or 0,
            stopping_criteria=StoppingCriteriaList([_Finished(self._ends)]),
        )
        texts = self.tokenizer.batch_decode(written[:, longest:], skip_special_tokens=True)
        return [leading_number(text) for text in texts]


class _Finished(StoppingCriteria):
    """Whether the token that was written ends a number; generation keeps what has ended."""

    def __init__(self, ends: Tensor) -> None:
        self.ends = ends

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: object) -> Tensor:
        return self.ends[input_ids[:, -1]]


def leading_number(text: str) -> float | None:
    """The number that a text begins with, after white space.

    >>> leading_number(" 42.5 volts"), leading_number("about 42")
    (42.5, None)
    """
    pieces = split_numbers(text.lstrip())
    return pieces[0].value if pieces and isinstance(pieces[0], Number) else None
