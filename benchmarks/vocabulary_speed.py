"""The whole vocabulary, in tiles and at once: time and memory of the losses, and of a rank.

    python benchmarks/vocabulary_speed.py
    python benchmarks/vocabulary_speed.py --device cuda --dtype bfloat16 --positions 8192
    python benchmarks/vocabulary_speed.py --json FILE

    one-vs-rest, softmax   forward and backward: all scores at once with gradients by autograd,
                           against `numlm.vocabulary_loss`, for one-vs-rest also with its
                           elementwise part compiled
    rank                   of `<NUM>` at every position: the vocabulary sorted by its scores, and
                           the place of `<NUM>` found, against the greater scores counted as
                           `numlm.choice` does; scores are already there
    rank, end to end       the same with the product that makes the scores, counted in tiles

States and weights are random, scores of standard deviation 3 as a base model's, in the shape of
Qwen2.5-0.5B. Memory is the greatest during a call beyond what is held before it: the gradients
that it returns are part of it (of the weights 519 MiB in float32). Scores that are ranked are
float32, whatever the type of the losses' products, as in the product.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.compact_json import as_json  # noqa: E402
from benchmarks.naive_loss import naive_one_vs_rest, naive_softmax  # noqa: E402
from benchmarks.turns import Arms, cell, circumstances, in_turn, rows, table  # noqa: E402
from numlm.choice import count_greater  # noqa: E402
from numlm.heads import THRESHOLD, starting_scale  # noqa: E402
from numlm.vocabulary_loss import (  # noqa: E402
    one_vs_rest_loss,
    one_vs_rest_terms,
    softmax_loss,
    tile_size,
    tiles,
)

_SCORE = 3.0  # standard deviation
_WARM_ROWS = 1200, 5000  # less than a tile of the default size, and more
_GOALS = {  # part, arm: the greatest share of the first arm's time and memory
    ("one-vs-rest", "tiled"): (1.2, 0.2),
    ("one-vs-rest", "tiled, compiled terms"): (1.2, 0.2),
    ("softmax", "tiled"): (1.2, 0.2),
    ("rank", "counted"): (0.1, None),
    ("rank, end to end", "counted"): (0.1, None),
}


class Problem(NamedTuple):
    """What a loss is taken of.

    Attributes:
        loc: (N, H) locations.
        scale: (N, 1) scales.
        weight: (V, H) output weights.
        threshold: (V,) thresholds.
        labels: (N,) int64.
    """

    loc: Tensor
    scale: Tensor
    weight: Tensor
    threshold: Tensor
    labels: Tensor

    @classmethod
    def random(
        cls, positions: int, vocabulary: int, hidden: int, device: torch.device
    ) -> "Problem":
        """States and weights as of a model at its start."""
        generator = torch.Generator(device).manual_seed(0)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, device=device)

        made = cls(
            normal(positions, hidden),
            starting_scale(vocabulary) * normal(positions, 1).exp(),
            normal(vocabulary, hidden) * (_SCORE / hidden**0.5),
            torch.full((vocabulary,), THRESHOLD, device=device),
            torch.randint(vocabulary, (positions,), generator=generator, device=device),
        )
        for tensor in made[:-1]:
            tensor.requires_grad_()
        return made

    def first(self, count: int) -> "Problem":
        """The same over the first tokens."""
        weight, threshold = (
            tensor.detach()[:count].requires_grad_() for tensor in (self.weight, self.threshold)
        )
        return Problem(self.loc, self.scale, weight, threshold, self.labels.clamp(max=count - 1))


def with_gradients(
    loss: Callable[[], Tensor],
    wanted: Sequence[Tensor],
    positions: int,
    dtype: torch.dtype = torch.float32,
) -> Callable[[], float]:
    """An arm that takes a loss, forward and backward; it returns the mean over positions.

    Args:
        loss: Returns the sum over positions.
        wanted: What gradients are taken of.
        positions: How many there are.
        dtype: Of the products, by autocast.
    """

    def call() -> float:
        device = wanted[0].device.type
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            total = loss()
        torch.autograd.grad(total, wanted)
        return total.item() / positions

    return call


def losses(problem: Problem, dtype: torch.dtype, compiled: Any) -> dict[str, Arms]:  # noqa: ANN401
    """Both losses, each way: what a call returns is the mean loss.

    Args:
        problem: What they are taken of.
        dtype: Of the products, by autocast.
        compiled: `one_vs_rest_terms`, compiled.
    """
    loc, scale, weight, threshold, labels = problem
    all_four, two = [loc, scale, weight, threshold], [loc, weight]

    def arm(loss: Callable[[], Tensor], wanted: list[Tensor]) -> Callable[[], float]:
        return with_gradients(loss, wanted, len(labels), dtype)

    return {
        "one-vs-rest": {
            "at once": arm(lambda: naive_one_vs_rest(*problem), all_four),
            "tiled": arm(lambda: one_vs_rest_loss(*problem)[0], all_four),
            "tiled, compiled terms": arm(
                lambda: one_vs_rest_loss(*problem, terms=compiled)[0], all_four
            ),
        },
        "softmax": {
            "at once": arm(lambda: naive_softmax(loc, weight, labels), two),
            "tiled": arm(lambda: softmax_loss(loc, weight, labels)[0], two),
        },
    }


def ranks(loc: Tensor, weight: Tensor) -> dict[str, Arms]:
    """The rank of one token, each way: what a call returns is the mean rank."""
    token_id = len(weight) - 1
    scores = loc @ weight.T

    def place(scores: Tensor) -> float:
        order = scores.argsort(-1, descending=True)
        return float(1 + (order == token_id).int().argmax(-1).float().mean())

    def count(scores: Tensor) -> float:
        return float(1 + count_greater(scores, scores[:, token_id:]).float().mean())

    def count_in_tiles() -> float:
        own = loc @ weight[token_id:].T
        greater = torch.zeros(len(loc), dtype=torch.int64, device=loc.device)
        for tile in tiles(token_id, tile_size(len(loc), loc.device)):  # all tokens but itself
            greater += count_greater(loc @ weight[tile].T, own)
        return float(1 + greater.float().mean())

    return {
        "rank": {"sorted": lambda: place(scores), "counted": lambda: count(scores)},
        "rank, end to end": {"sorted": lambda: place(loc @ weight.T), "counted": count_in_tiles},
    }


def verdicts(found: Sequence[dict[str, Any]]) -> list[str]:
    """The goals, and what was reached."""
    lines = []
    for row in found:
        time, memory = _GOALS.get((row["part"], row["arm"]), (None, None))
        if time is not None:
            lines.append(
                f"{row['part']}, {row['arm']}: {cell(row['time_ratio'])} of the time (goal {time})"
                + (f", {cell(row['memory_ratio'])} of the memory (goal {memory})" * bool(memory))
            )
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table and keep every call."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--positions", type=int, default=512, help="that a loss is taken at")
    parser.add_argument("--ranked", type=int, default=128, help="positions that are ranked at")
    parser.add_argument("--vocabulary", type=int, default=151_936, help="tokens")
    parser.add_argument("--hidden", type=int, default=896, help="size of a state")
    parser.add_argument("--rounds", type=int, default=3, help="how often each arm is measured")
    parser.add_argument("--device", type=torch.device, default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16"], default="float32", help="of the products"
    )
    parser.add_argument("--json", type=Path, help="where to write figures and calls")
    options = parser.parse_args(arguments)
    dtype = getattr(torch, options.dtype)
    problem = Problem.random(options.positions, options.vocabulary, options.hidden, options.device)
    compiled = torch.compile(one_vs_rest_terms, dynamic=True)
    for count in _WARM_ROWS:
        warm = losses(problem.first(min(count, options.vocabulary)), dtype, compiled)
        in_turn(warm, 1, options.device, "Warming up")
    parts = losses(problem, dtype, compiled)
    samples = in_turn(parts, options.rounds, options.device, "Losses")
    loc, weight = problem.loc.detach()[: options.ranked], problem.weight.detach()
    samples += in_turn(ranks(loc, weight), options.rounds, options.device, "Ranks")
    found = rows(samples)
    print(table(found), "", *verdicts(found), sep="\n")
    if options.json:
        figures = {
            **circumstances(options.device),
            **{name: getattr(options, name) for name in ("positions", "ranked", "dtype")},
            **{name: getattr(options, name) for name in ("vocabulary", "hidden")},
            "rows": found,
            "calls": [asdict(sample) for sample in samples],
        }
        options.json.write_text(as_json(figures) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
