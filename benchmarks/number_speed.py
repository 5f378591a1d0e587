"""What a number costs to write: one `<NUM>` step against its digits, same backbone and machine.

    python benchmarks/number_speed.py --model results/latest/model
    python benchmarks/number_speed.py --model results/latest/model --json FILE --chart FILE

Two times of the same prompts, which end where the number is due, both through Transformers'
`generate` with cache:

    alone        what a number adds to a running text: from the choice of `<NUM>` to the scores of
                 the token after it, number head included, against reading each of its digits
    end to end   a call that returns the number: prompt, the space before it where there is one,
                 number and interval, against prompt and digits until a character that belongs to
                 no number

The digits are written by the base model that the exported one was tuned from. Arms take turns,
each round with prompts of its own; figures are medians over rounds with their quartiles. Alone,
each number of a batch has the digits of its own row: a row with fewer goes on with its text.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteriaList

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.compact_json import as_json  # noqa: E402
from benchmarks.number_speed_figures import (  # noqa: E402
    Round,
    by_set,
    by_tokens,
    draw,
    table,
)
from benchmarks.turns import circumstances  # noqa: E402
from datamodules.basic import generate as basic  # noqa: E402
from datamodules.extreme_values import generate as extreme  # noqa: E402
from numlm.checkpoint import load_backbone, load_tokenizer  # noqa: E402
from numlm.digits import DigitWriter  # noqa: E402
from numlm.floors import Question, questions  # noqa: E402
from numlm.model import NumberLM  # noqa: E402
from numlm.parsing import render  # noqa: E402

SETS = {"basic": basic, "extreme_values": extreme}


class _Pace(LogitsProcessor):
    """Notes when the scores of every step are there, and may choose the first token."""

    def __init__(self, first: int | None = None) -> None:
        self.first = first
        self.times: list[float] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if scores.is_cuda:
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())
        if self.first is None or len(self.times) > 1:
            return scores
        chosen = torch.full_like(scores, float("-inf"))
        chosen[:, self.first] = 0.0
        return chosen

    @property
    def added(self) -> list[float]:
        """Seconds after the first scores, of the scores after each further token."""
        return [round(moment - self.times[0], 7) for moment in self.times[1:]]


class Arms:
    """Both ways to write the numbers of a batch.

    Args:
        model: The exported model.
        base: Folder of its base model.
    """

    def __init__(self, model: NumberLM, base: str) -> None:
        self.model = model
        self.tokenizer = load_tokenizer(base)
        self.backbone = load_backbone(base, dtype=torch.float32)
        self.digits = DigitWriter(self.backbone, self.tokenizer)

    def tokens(self, question: Question) -> int:
        """How many tokens the true number is written with."""
        with_it, without = (
            len(self.tokenizer(text, add_special_tokens=False)["input_ids"])
            for text in (question.prompt + render(question.truth), question.prompt)
        )
        return max(with_it - without, 1)

    def number_alone(self, prompts: Sequence[str]) -> float:
        """Seconds that a number adds to the texts."""
        pace = _Pace(self.model.tokenizer.num_token_id)
        self.model.generate(
            prompts, max_new_tokens=2, logits_processor=LogitsProcessorList([pace])
        )
        return pace.added[0]

    def digits_alone(self, prompts: Sequence[str], most: int) -> list[float]:
        """Seconds that one to `most` digits add to the texts."""
        pace = _Pace()

        def generate(**options: Any) -> Tensor:  # noqa: ANN401
            steps = {"min_new_tokens": most + 1, "max_new_tokens": most + 1}
            options |= {**steps, "stopping_criteria": None}
            return self.backbone.generate(**options, logits_processor=LogitsProcessorList([pace]))

        writer = self.digits
        writer.generate, kept = generate, writer.generate
        writer(prompts)
        writer.generate = kept
        return pace.added

    def number_call(self, prompts: Sequence[str]) -> list[float | None]:
        """The numbers, as a user calls for them."""
        # As the digits: a space at the end of a prompt is the model's to write.
        written = self.model.generate(
            [prompt.rstrip(" ") for prompt in prompts],
            max_new_tokens=2,
            stopping_criteria=StoppingCriteriaList([self._is_written]),
        )
        last = [one.numbers[-1] if one.numbers else None for one in written]
        return [number.value if number and number.said else None for number in last]

    def _is_written(self, input_ids: Tensor, scores: Tensor, **_: object) -> Tensor:
        return input_ids[:, -1] == self.model.tokenizer.num_token_id

    def turn(self, name: str, asked: Sequence[Question]) -> Round:
        """Every arm once."""
        prompts, truths = [q.prompt for q in asked], [q.truth for q in asked]
        tokens = [self.tokens(question) for question in asked]

        def right(answers: Sequence[float | None]) -> int:
            return sum(a == t for a, t in zip(answers, truths, strict=True))

        number_alone = self.number_alone(prompts)
        digits_alone = self.digits_alone(prompts, max(tokens))
        numbers, number_call = _timed(lambda: self.number_call(prompts))
        digits, digits_call = _timed(lambda: self.digits(prompts))
        return Round(
            *(name, len(asked), tokens, number_alone, digits_alone, number_call, digits_call),
            *(right(numbers), right(digits)),
        )


def _timed(call: Callable[[], list[float | None]]) -> tuple[list[float | None], float]:
    start = time.perf_counter()
    answers = call()
    return answers, round(time.perf_counter() - start, 7)


def measure(arms: Arms, batches: Sequence[int], rounds: int) -> Iterator[Round]:
    """Rounds of every set and batch; one text at a time, four times as many."""
    for name, generate in SETS.items():
        for batch in batches:
            count = rounds * 4 if batch == 1 else rounds
            examples = generate(batch * count, 0)
            asked = [q for i, e in enumerate(examples) for q in questions(e.text, e.answers, i)]
            arms.turn(name, asked[:batch])  # warms up
            for start in range(0, batch * count, batch):
                yield arms.turn(name, asked[start : start + batch])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, draw and keep every round."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="an exported model")
    parser.add_argument(
        "--base", default=str(ROOT / "assets" / "tiny-qwen2"), help="its base model"
    )
    parser.add_argument(
        "--batches", type=int, nargs="+", default=[1, 32], help="prompts at a time"
    )
    parser.add_argument("--rounds", type=int, default=10, help="how often each arm is measured")
    parser.add_argument("--json", type=Path, help="where to write figures and rounds")
    parser.add_argument("--chart", type=Path, help="where to draw speed against digits")
    options = parser.parse_args(arguments)
    arms = Arms(NumberLM.from_pretrained(options.model).eval(), options.base)
    turns = measure(arms, options.batches, options.rounds)
    rounds = list(tqdm(turns, desc="Numbers", unit=" rounds", leave=False))
    print(table(rounds))
    if options.json:
        figures = {
            **circumstances(arms.model.device),
            "by_set": by_set(rounds),
            "by_tokens": by_tokens(rounds),
            "rounds": [asdict(r) for r in rounds],
        }
        options.json.write_text(as_json(figures) + "\n", encoding="utf-8")
    if options.chart:
        draw(by_tokens(rounds), options.chart)


if __name__ == "__main__":
    main()
