"""The embedded checkpoint is the baseline it says it is: it writes the right digits."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from datamodules.number_data_module import COPYING_SETS
from numlm.digits import written_numbers
from numlm.parsing import find_numbers

EMBEDDED = Path(__file__).resolve().parents[1] / "assets" / "tiny-qwen2"


@pytest.mark.parametrize(
    ("name", "stated", "measured"),
    [
        ("basic", 0.99, 0.95),
        ("question_answering", 0.95, 0.9),
        ("extreme_values", 0.99, 0.95),
        ("boundary_values", 0.99, 0.95),
    ],
)
def test_it_writes_the_digits_that_its_quality_file_states(
    name: str, stated: float, measured: float
) -> None:
    """The file's figures are from 1,000 examples; 60 others must come near them."""
    quality = json.loads((EMBEDDED / "quality.json").read_text(encoding="utf-8"))
    assert quality[name]["all"] >= stated
    model = AutoModelForCausalLM.from_pretrained(EMBEDDED, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED)
    prompts, truths = [], []
    for example in COPYING_SETS[name](60, 2):
        *_, (start, _, number) = find_numbers(example.text)
        prompts.append(example.text[:start].rstrip(" "))
        truths.append(number.value)
    written = written_numbers(model, tokenizer, prompts)
    right = sum(value == truth for value, truth in zip(written, truths, strict=True))
    assert right / len(truths) >= measured
