"""The base model's own digits: batched generation gives what one prompt at a time gives."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from numlm.digits import DigitWriter, leading_number, written_numbers

EMBEDDED = Path(__file__).resolve().parents[1] / "assets" / "tiny-qwen2"
PROMPTS = [
    "The red lamp shows 42.5 volts. In short, it is ",
    "今天甲号书的价格达到3块。总之，它是",
    "The balance of Anna is -3.21e5 coins. In the morning the price was good. So Anna has",
    "Nobody",
    "It is 1,234.5 kg. Again, it was ",
]


@pytest.fixture(scope="module")
def backbone() -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(EMBEDDED, dtype=torch.float32)


def test_a_batch_writes_what_one_prompt_writes(backbone: PreTrainedModel) -> None:
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED)
    together = written_numbers(backbone, tokenizer, PROMPTS)
    assert together == [written_numbers(backbone, tokenizer, [p])[0] for p in PROMPTS]
    assert together[:3] == [42.5, 3.0, -321000.0]
    assert together[3] is None


def test_a_number_ends_the_writing(backbone: PreTrainedModel) -> None:
    """Stopping early changes nothing: the parsed value is that of the whole 20 tokens."""
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED)
    for prompt in PROMPTS:
        ids = tokenizer(prompt.rstrip(" "), return_tensors="pt")["input_ids"]
        mask = torch.ones_like(ids)
        whole = backbone.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=20, do_sample=False, pad_token_id=0
        )
        text = tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True)
        assert written_numbers(backbone, tokenizer, [prompt]) == [leading_number(text)]


def test_batches_hold_every_prompt_once_and_like_lengths_together() -> None:
    prompts = ["a" * length for length in (5, 1, 9, 3, 7)]
    batches = DigitWriter.batches(prompts, size=2)
    assert batches == [[1, 3], [0, 4], [2]]


@pytest.mark.parametrize(
    ("text", "value"),
    [(" 42.5 volts", 42.5), ("-3e-5", -3e-5), ("about 42", None), ("", None), ("v1.2.3", None),
     ("2025-06-08", None), ("12:30", None), ("1e999", None)],
)  # fmt: skip
def test_leading_number(text: str, value: float | None) -> None:
    assert leading_number(text) == value
