r"""What the ways of teaching numbers cost: a training step and an answer, in turn.

    python benchmarks/arena_costs.py --json FILE

Every contender of the arena takes forward and backward pass of the same texts and answers the same
questions, each once a round; times are held against those of plain digits in the same round. They
are tuned for a while before, for who has learned nothing does not know where a number ends. What a
contender adds in parameters, and how many tokens a number takes, is told beside it.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.arena import EMBEDDED, train  # noqa: E402
from benchmarks.arena_tasks import BUDGETS, TASKS  # noqa: E402
from benchmarks.compact_json import as_json  # noqa: E402
from benchmarks.contenders.base import Contender, load  # noqa: E402
from benchmarks.contenders.registry import CONTENDERS  # noqa: E402
from benchmarks.turns import circumstances, in_turn, rows, table  # noqa: E402

TASK = "arithmetic"
REFERENCE = "digits"
STEP, ANSWER = "a training step", "an answer"


def count(model: nn.Module) -> int:
    """Parameters of a model."""
    return sum(parameter.numel() for parameter in model.parameters())


def step(contender: Contender, batch: Sequence[Any]) -> float:
    """Forward and backward pass; the loss."""
    contender.train().zero_grad()
    loss = contender.loss(batch)
    loss.backward()
    return loss.item()


@torch.no_grad()
def answer(contender: Contender, prompts: Sequence[str]) -> float:
    """Answers to all prompts, how many of them are numbers."""
    return contender.eval().answer(prompts).values.isfinite().sum().item()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table and keep it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [REFERENCE, *(name for name in CONTENDERS if name != REFERENCE)]
    parser.add_argument("--contenders", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--texts", type=int, default=32, help="of a step")
    parser.add_argument("--steps", type=int, default=100, help="that they are tuned for before")
    parser.add_argument("--questions", type=int, default=32, help="answered at once")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    budget = BUDGETS[TASK]
    options.batch, options.lr, options.head_lr = options.texts, budget.lr, budget.head_lr
    task = TASKS[TASK](0, options.texts * (options.steps + 1), options.questions)
    own = count(load(str(EMBEDDED)))
    questions = [question for asked in task.sets.values() for question in asked]
    prompts = [question.prompt for question in questions[:: len(task.sets)]][: options.questions]
    arms: dict[str, dict[str, Callable[[], float]]] = {STEP: {}, ANSWER: {}}
    facts = {}
    for name in options.contenders:
        contender = CONTENDERS[name](str(EMBEDDED))
        contender.prepare(task.training)
        texts = contender.encode(task.training)
        train(contender, texts[options.texts :], options, seed=0)
        arms[STEP][name] = partial(step, contender, texts[: options.texts])
        arms[ANSWER][name] = partial(answer, contender, prompts)
        facts[name] = {
            "added_parameters": count(contender) - own,
            "tokens_per_number": round(contender.number_tokens(task.training), 2),
        }
    device = torch.device("cpu")
    in_turn(arms, 1, device, "Warming up")
    found = rows(in_turn(arms, options.rounds, device, "Contenders"))
    print(table(found))
    if options.json:
        figures = {
            **circumstances(device),
            "task": TASK,
            "texts": options.texts,
            "tuned_for_steps": options.steps,
            "questions": len(prompts),
            "contenders": facts,
            "rows": found,
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(as_json(figures) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
