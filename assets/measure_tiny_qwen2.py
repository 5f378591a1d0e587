"""Measure how well the embedded checkpoint writes digits; writes `quality.json` beside it.

    python assets/measure_tiny_qwen2.py

The figures are shares of answers whose greedily generated digits, parsed, are exactly the true
value, on fresh examples of the evaluation sets (another seed than the experiment's).
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datamodules.examples import Example
from datamodules.number_data_module import COPYING_SETS
from numlm.digits import written_numbers
from numlm.parsing import find_numbers


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path(__file__).parent / "tiny-qwen2")
    parser.add_argument("--count", type=int, default=1000, help="examples of each set")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    quality: dict[str, object] = {
        "measure": "share of greedily written numbers that are exactly right",
        "examples_per_set": options.count,
        "seed": options.seed,
    }
    for name, generate in COPYING_SETS.items():
        examples = generate(options.count, options.seed)
        prompts, truths = zip(*map(_prompt_and_truth, examples), strict=True)
        written = written_numbers(model, tokenizer, prompts)
        right = [value == truth for value, truth in zip(written, truths, strict=True)]
        groups = {
            "all": right,
            **{
                wording: [r for r, e in zip(right, examples, strict=True) if e.wording == wording]
                for wording in ("seen", "unseen")
            },
        }
        quality[name] = {
            **{group: round(sum(hits) / len(hits), 4) for group, hits in groups.items()},
            "unparsable": written.count(None),
        }
        print(name, quality[name], flush=True)
    file = options.model / "quality.json"
    file.write_text(json.dumps(quality, indent=2) + "\n", encoding="utf-8")
    print(f"written to {file}")


def _prompt_and_truth(example: Example) -> tuple[str, float]:
    """The text up to its last number, without the space that some tokens join, and that number."""
    *_, (start, _, number) = find_numbers(example.text)
    return example.text[:start].rstrip(" "), number.value


if __name__ == "__main__":
    main()
