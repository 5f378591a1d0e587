"""The base model's own way of saying a number: digit by digit, generated greedily and parsed."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from numlm.parsing import Number, split_numbers


@torch.no_grad()
def written_numbers(
    backbone: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    max_new_tokens: int = 20,
    batch_size: int = 100,
) -> list[float | None]:
    """What a plain causal language model writes after each prompt, if it is a number.

    Args:
        backbone: The model; left in evaluation mode.
        tokenizer: Its tokenizer; needs a padding token.
        prompts: Texts that a number should follow.
        max_new_tokens: Greatest number of tokens written.
        batch_size: Prompts at once, padded on the left.

    Returns:
        The value for each prompt, None where what was written does not begin with a number.
    """
    backbone.eval()
    values: list[float | None] = []
    for start in range(0, len(prompts), batch_size):
        chunk = list(prompts[start : start + batch_size])
        encoded = tokenizer(chunk, return_tensors="pt", padding=True, padding_side="left")
        encoded = encoded.to(backbone.device)
        written = backbone.generate(
            input_ids=encoded["input_ids"],
            attention_mask=encoded["attention_mask"],
            max_new_tokens=max_new_tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )
        new = written[:, encoded["input_ids"].shape[1] :]
        values += [leading_number(text) for text in tokenizer.batch_decode(new)]
    return values


def leading_number(text: str) -> float | None:
    """The number that a text begins with, after white space.

    >>> leading_number(" 42.5 volts"), leading_number("about 42")
    (42.5, None)
    """
    pieces = split_numbers(text.lstrip())
    return pieces[0].value if pieces and isinstance(pieces[0], Number) else None
