"""Load a model in a process of its own, take two optimizer steps of 512 tokens, print its memory.

    python -m tests.full_size_steps make FOLDER      # random weights for the shape in a folder
    python -m tests.full_size_steps measure FOLDER   # one line of JSON, memory in GiB

Used by `test_full_shape.py`.
"""

import json
import resource
import sys
import time
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from numlm.batch import Batch, Record, collate
from numlm.model import NumberLM

GIB = 2**30
TEXT = "The red lamp in the hall of the old house by the garden shows 42.5 volts and 7 degrees. "


def make(folder: Path) -> None:
    """Save bfloat16 weights, as the real files have them."""
    config = AutoConfig.from_pretrained(folder)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)


def measure(folder: Path) -> dict[str, float]:
    """Peaks of main memory in GiB, times in seconds, losses in nats."""
    before = _peak()
    start = time.monotonic()
    model = NumberLM.from_pretrained(folder)
    found = {
        "seconds_to_load": time.monotonic() - start,
        "weights": sum(p.numel() * p.element_size() for p in model.parameters()) / GIB,
        "to_load": _peak() - before,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    batch = _batch(model, texts=8, length=64)
    found["tokens"] = batch.input_ids.numel()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    for step in range(2):
        start = time.monotonic()
        losses = model.losses(batch)
        losses.total(0.3).backward()
        optimizer.step()
        optimizer.zero_grad()
        found[f"seconds_of_step_{step}"] = time.monotonic() - start
        found[f"loss_{step}"] = float(losses.total(0.3))
    found["peak"] = _peak()
    return found


def _batch(model: NumberLM, texts: int, length: int) -> Batch:
    encoding = model.tokenizer.encode(TEXT * 8)
    ids = encoding.input_ids[:length]
    values = [number.value for number in encoding.numbers]
    values = values[: ids.count(model.tokenizer.num_token_id)]
    records = [Record(ids, values, record_id=i) for i in range(texts)]
    return collate(records, model.tokenizer.num_token_id, model.tokenizer.pad_token_id)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10 / GIB


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]))
    else:
        print(json.dumps(measure(Path(sys.argv[2]))))
