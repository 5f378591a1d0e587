"""Numbers written a second: one `<NUM>` step against the digits, same backbone and machine.

    python benchmarks/number_speed.py --model results/latest/model

Both arms continue the same prompts by Transformers' `generate` with cache, in the same batches, in
turn; the digits are written by the base model that the exported one was tuned from, until a
character that belongs to no number. A prompt ends where the number is due.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from datamodules.basic import generate as basic  # noqa: E402
from datamodules.extreme_values import generate as extreme  # noqa: E402
from numlm.checkpoint import load_backbone, load_tokenizer  # noqa: E402
from numlm.digits import DigitWriter  # noqa: E402
from numlm.floors import questions  # noqa: E402
from numlm.model import NumberLM  # noqa: E402


def main() -> None:
    """Measure both arms in turn and print their medians and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="an exported model")
    parser.add_argument(
        "--base", default=str(ROOT / "assets" / "tiny-qwen2"), help="its base model"
    )
    parser.add_argument("--batch", type=int, default=32, help="prompts at a time")
    parser.add_argument("--rounds", type=int, default=9, help="how often each arm is measured")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    model = NumberLM.from_pretrained(options.model).eval()
    digits = DigitWriter(
        load_backbone(options.base, dtype=torch.float32), load_tokenizer(options.base)
    )
    found = []
    for name, generate in (("basic", basic), ("extreme_values", extreme)):
        asked = [
            question
            for i, example in enumerate(generate(options.batch, 0))
            for question in questions(example.text, example.answers, i)
        ]
        prompts = [question.prompt for question in asked]
        truth = [question.truth for question in asked]

        def number_step(prompts: list[str] = prompts) -> list[float | None]:
            written = model.generate(prompts, max_new_tokens=1)
            return [one.numbers[-1].value if one.numbers[-1].said else None for one in written]

        arms = {"number_step": number_step, "digits": lambda prompts=prompts: digits(prompts)}
        seconds: dict[str, list[float]] = {arm: [] for arm in arms}
        right = {}
        for turn in range(options.rounds + 1):
            for arm, write in arms.items():
                start = time.perf_counter()
                answers = write()
                if turn:  # the first one warms up
                    seconds[arm].append(time.perf_counter() - start)
                right[arm] = sum(a == t for a, t in zip(answers, truth, strict=True)) / len(truth)
        median = {arm: statistics.median(times) for arm, times in seconds.items()}
        ratios = [d / n for d, n in zip(seconds["digits"], seconds["number_step"], strict=True)]
        found.append(
            {
                "set": name,
                "batch": options.batch,
                **{f"{arm}_per_second": round(options.batch / t, 1) for arm, t in median.items()},
                **{f"{arm}_right": share for arm, share in right.items()},
                "ratio": round(statistics.median(ratios), 2),
                "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
            }
        )
        print(found[-1], flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
