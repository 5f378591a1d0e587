r"""The arena: ways of teaching numbers on the same backbone, data, optimizer, steps and seeds.

    python benchmarks/arena.py scorecard                       # every contender, three seeds
    python benchmarks/arena.py mixed --ablations
    python benchmarks/arena.py arithmetic --contenders numlm fone --seeds 1 --texts 6400

A run that has ended is a line of the task's file in `--out` and is not run again, so that a
comparison can be stopped and gone on with, by several processes too. Contenders are in
`benchmarks/contenders/`, texts and questions in `benchmarks/arena_tasks.py`; tables are made by
`benchmarks/arena_tables.py`, charts by `benchmarks/arena_charts.py`.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
import transformers
from torch import Tensor
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.arena_figures import figures  # noqa: E402
from benchmarks.arena_tasks import BUDGETS, TASKS, Task  # noqa: E402
from benchmarks.contenders.ablations import ABLATIONS  # noqa: E402
from benchmarks.contenders.base import Answers, Contender  # noqa: E402
from benchmarks.contenders.registry import CONTENDERS, EVERY  # noqa: E402
from benchmarks.turns import circumstances  # noqa: E402
from lightning_modules.optimization import make_schedule  # noqa: E402
from numlm.floors import Question  # noqa: E402

EMBEDDED = ROOT / "assets" / "tiny-qwen2"
_CLIP, _WARMUP_RATIO = 1.0, 0.05
_BATCH_ASKED = 100


def train(model: Contender, texts: Sequence[Any], options: argparse.Namespace, seed: int) -> None:
    """Tune on batches of texts, the same in the same order for every contender."""
    added = {id(parameter) for parameter in model.added()}
    groups = [
        {
            "params": [p for p in model.parameters() if (id(p) in added) is mine],
            "lr": options.head_lr if mine else options.lr,
        }
        for mine in (False, True)
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = make_schedule(optimizer, options.steps, _WARMUP_RATIO)
    random = Random(seed)
    order: list[int] = []
    model.train()
    for _ in tqdm(range(options.steps), desc="Training", unit=" steps", leave=False):
        if len(order) < options.batch:
            order += random.sample(range(len(texts)), len(texts))
        batch, order = [texts[i] for i in order[: options.batch]], order[options.batch :]
        model.loss(batch).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


@torch.no_grad()
def ask(model: Contender, questions: Sequence[Question]) -> Answers:
    """Answers to questions."""
    model.eval()
    order = sorted(range(len(questions)), key=lambda i: len(questions[i].prompt))
    parts = [
        model.answer([questions[i].prompt for i in order[first : first + _BATCH_ASKED]])
        for first in range(0, len(order), _BATCH_ASKED)
    ]
    back = torch.tensor(order).argsort()

    def together(of: Sequence[Tensor]) -> Tensor | None:
        return None if of[0] is None else torch.cat(tuple(of))[back]

    values, *distribution = zip(*parts, strict=True)
    return Answers(torch.cat(values)[back], *map(together, distribution))


def run(
    name: str, task: Task, folder: str, seed: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Train one contender and ask it."""
    torch.manual_seed(seed)
    model = EVERY[name](folder)
    model.prepare(task.training)
    train(model, model.encode(task.training), options, seed)
    sets = {}
    for set_name, questions in task.sets.items():
        answers = ask(model, questions)
        truths = torch.tensor([question.truth for question in questions], dtype=torch.float64)
        sets[set_name] = figures(answers, truths)
    return {**circumstances(torch.device("cpu")), "sets": sets}


def backbone(task: Task, seed: int, folder: str) -> str:
    """The embedded checkpoint, or a model of its shape with random weights."""
    if not task.random_weights:
        return str(EMBEDDED)
    torch.manual_seed(seed)
    config = transformers.AutoConfig.from_pretrained(EMBEDDED)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(EMBEDDED).save_pretrained(folder)
    return folder


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked for and not there yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=list(TASKS))
    parser.add_argument(
        "--contenders",
        nargs="+",
        choices=list(EVERY),
        default=list(CONTENDERS),
        help="all ways of teaching numbers, unless given",
    )
    parser.add_argument(
        "--ablations",
        action="store_const",
        dest="contenders",
        const=["numlm", *ABLATIONS],
        help="ours, and ours with one thing taken away or exchanged, as the contenders",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--texts", type=int, help="training texts, each seen once")
    parser.add_argument("--batch", type=int, help="texts a step")
    parser.add_argument("--evaluated", type=int, help="texts of each set")
    parser.add_argument("--lr", type=float, help="greatest learning rate of the backbone")
    parser.add_argument("--head-lr", type=float, help="greatest learning rate of what is added")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "arena")
    options = parser.parse_args(arguments)
    budget = {}
    for name, value in BUDGETS[options.task]._asdict().items():
        if getattr(options, name) is None:
            setattr(options, name, value)
        budget[name] = getattr(options, name)
    options.steps = options.texts // options.batch
    file = options.out / f"{options.task}.jsonl"
    for seed in options.seeds:
        task = None
        for name in options.contenders:
            which = {"contender": name, "seed": seed, **budget}
            if any(which.items() <= found.items() for found in ended(file)):
                continue
            task = task or TASKS[options.task](seed, options.texts, options.evaluated)
            start = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                found = run(name, task, backbone(task, seed, folder), seed, options)
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps({**which, **found}, allow_nan=False) + "\n")
            right = {name: round(figures["right"], 3) for name, figures in found["sets"].items()}
            seconds = time.perf_counter() - start
            print(f"{name}, seed {seed}, {seconds:.0f} s: right {right}", flush=True)


def ended(file: Path) -> list[dict[str, Any]]:
    """The runs of a task that have ended, none if there is no file."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
