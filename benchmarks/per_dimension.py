"""An isotropic scale against a scale per dimension: speed of the loss, and what is learned.

    python benchmarks/per_dimension.py
    python benchmarks/per_dimension.py --json FILE

    isotropic       S_k ~ Cauchy(A_k . loc, scale): `numlm.heads.OneVsRestHead`, one product over
                    the vocabulary
    per dimension   S_k ~ Cauchy(A_k . loc, |A_k| . scale), every coordinate of the latent cause
                    with a scale of its own: two products (`benchmarks.per_dimension_head`)

Speed is of one-vs-rest, forward and backward, in the shape of Qwen2.5-0.5B, by the naive forms as
well as in tiles. Quality is of the embedded model, trained with either from the same seed, on the
same texts, step by step in turn. The ranking is that of the start, before anything is learned: far
below the threshold C a token has P of about S / (pi (C - L)), L its score. With one S for all the
order is that of the scores, the base model's; with S_k = |A_k| . scale the norms of the weights
count like the distances C - L.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.compact_json import as_json  # noqa: E402
from benchmarks.naive_loss import naive_one_vs_rest  # noqa: E402
from benchmarks.per_dimension_head import (  # noqa: E402
    PerDimensionHead,
    naive_per_dimension,
    per_dimension_loss,
)
from benchmarks.turns import Arms, circumstances, in_turn, rows, spread, table  # noqa: E402
from benchmarks.vocabulary_speed import Problem, with_gradients  # noqa: E402
from datamodules.number_data_module import NumberDataModule  # noqa: E402
from lightning_modules.optimization import (  # noqa: E402
    OptimizerOptions,
    make_optimizer,
    make_schedule,
)
from numlm.batch import IGNORE, Batch  # noqa: E402
from numlm.heads import Latent, OneVsRestHead, TokenHead  # noqa: E402
from numlm.metrics import Scorecard  # noqa: E402
from numlm.model import NumberLM  # noqa: E402
from numlm.scoring import score_batch  # noqa: E402
from numlm.vocabulary_loss import one_vs_rest_loss  # noqa: E402

EMBEDDED = str(ROOT / "assets" / "tiny-qwen2")
HEADS: dict[str, Callable[[int], TokenHead]] = {
    "isotropic": OneVsRestHead,
    "per dimension": PerDimensionHead,
}
_OPTIONS = OptimizerOptions(lr=1e-3, head_lr=2e-3, weight_decay=0.01)  # the defaults of a run
_WARMUP_RATIO, _VALUE_WEIGHT, _CLIP = 0.05, 0.3, 1.0


def losses(problem: Problem) -> dict[str, Arms]:
    """Forward and backward of either, at once and in tiles; a call returns the mean loss.

    Both have the same scale for the typical token.
    """
    loc, scale, weight, threshold, labels = problem
    norm = weight.detach().abs().sum(-1).mean()
    scales = (scale.detach() / norm).expand_as(loc).clone().requires_grad_()

    def arm(loss: Callable[[], Tensor], wanted: Sequence[Tensor]) -> Callable[[], float]:
        return with_gradients(loss, wanted, len(labels))

    one, several = (loc, scale, weight, threshold), (loc, scales, weight, threshold)
    return {
        "in tiles": {
            "isotropic": arm(lambda: one_vs_rest_loss(*one, labels)[0], one),
            "per dimension": arm(lambda: per_dimension_loss(*several, labels), several),
        },
        "at once": {
            "isotropic": arm(lambda: naive_one_vs_rest(*one, labels), one),
            "per dimension": arm(lambda: naive_per_dimension(*several, labels), several),
        },
    }


def make_models(seed: int) -> dict[str, NumberLM]:
    """The embedded model with either head, all else of the same random numbers."""
    models = {}
    for name, head in HEADS.items():
        torch.manual_seed(seed)
        models[name] = model = NumberLM.from_pretrained(EMBEDDED, token_head=head)
        if isinstance(model.token_head, PerDimensionHead):
            model.token_head.start_from(model._output_weight())
    return models


def train(models: Mapping[str, NumberLM], data: NumberDataModule) -> dict[str, list[float]]:
    """Train every model on the same texts, a step of each in turn; seconds of all steps."""
    pieces = data.train_dataloader()
    learning = []
    for name, model in models.items():
        optimizer = make_optimizer(model.train(), _OPTIONS)
        schedule = make_schedule(optimizer, len(pieces), _WARMUP_RATIO)
        learning.append((name, model, optimizer, schedule))
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for piece in tqdm(pieces, desc="Training", unit=" steps", leave=False):
        for name, model, optimizer, schedule in learning:
            start = time.perf_counter()
            found = model.losses(piece.batch).over(piece.tokens, piece.numbers)
            found.total(_VALUE_WEIGHT).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            seconds[name].append(round(time.perf_counter() - start, 5))
    return seconds


@torch.no_grad()
def quality(model: NumberLM, data: NumberDataModule) -> dict[str, float | None]:
    """Validation token loss in nats a token, and figures of two evaluation sets.

    The token loss of both heads is the negative log-likelihood of the same V decisions.
    """
    model.eval()
    terms = [model.losses(batch).token for batch in data.val_dataloader()]
    sets = {}
    for name, loader in zip(data.evaluation_names, data.test_dataloader(), strict=True):
        if name in ("basic", "ordinary_text"):
            card = Scorecard()
            for batch in loader:
                card.update(score_batch(model, batch))
            sets[name] = card.compute()
    return {
        "validation token loss": float(sum(t.sum for t in terms) / sum(t.count for t in terms)),
        "perplexity of ordinary text": sets["ordinary_text"]["perplexity"],
        "accuracy on basic": sets["basic"]["accuracy"],
        "mean rank of <NUM> on basic": sets["basic"]["mean_rank"],
    }


@torch.no_grad()
def ranking(model: NumberLM, batches: Sequence[Batch]) -> dict[str, float]:
    """How a model ranks the tokens of positions, beside the logits and the norms of the weights.

    Returns:
        Spearman's correlation, mean over positions, of the ranking with that by the base model's
        logits and with that by the weights' 1-norms, the share of positions where the first token
        is that of the logits, and the mean rank of the token that comes.
    """
    model.eval()
    weight = model._output_weight()
    norms = ranks(weight.abs().sum(-1)[None])
    rows = []
    for batch in batches:
        latent, labels = model(batch), batch.labels[:, 1:]
        at = labels != IGNORE
        loc, scale, right = latent.loc[:, :-1][at], latent.scale[:, :-1][at], labels[at]
        logits, scores = loc @ weight.T, model.token_scores(Latent(loc, scale))
        mine = ranks(scores)
        rows.append(
            torch.stack(
                [
                    correlation(mine, ranks(logits)),
                    correlation(mine, norms),
                    (scores.argmax(-1) == logits.argmax(-1)).float(),
                    (scores > scores.gather(-1, right[:, None])).sum(-1) + 1.0,
                ]
            )
        )
    names = ("correlation with logits", "correlation with norms", "same first token", "mean rank")
    return dict(zip(names, torch.cat(rows, -1).mean(-1).tolist(), strict=True))


def ranks(values: Tensor) -> Tensor:
    """Ranks along the last dimension, float32, 0 for the smallest.

    >>> ranks(torch.tensor([[0.5, -1.0, 3.0]])).tolist()
    [[1.0, 0.0, 2.0]]
    """
    return values.argsort(-1).argsort(-1).float()


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation along the last dimension.

    >>> correlation(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([2.0, 1.0, 0.0])).item()
    -1.0
    """
    a, b = a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True)
    return (a * b).sum(-1) / (a.square().sum(-1) * b.square().sum(-1)).sqrt()


def figures_table(title: str, found: Mapping[str, Mapping[str, float | None]]) -> str:
    """A line for every figure, a column for every arm."""
    names = list(next(iter(found.values())))
    lines = [f"{title:<36}" + "".join(arm.rjust(20) for arm in found)]
    for name in names:
        values = (arm[name] for arm in found.values())
        lines.append(
            f"{name:<36}" + "".join(("-" if v is None else f"{v:.4g}").rjust(20) for v in values)
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, train, print the tables and keep every call and step."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--positions", type=int, default=128, help="that the loss is timed at")
    parser.add_argument("--vocabulary", type=int, default=151_936, help="tokens that it is over")
    parser.add_argument("--hidden", type=int, default=896, help="size of a state")
    parser.add_argument("--rounds", type=int, default=3, help="how often each loss is timed")
    parser.add_argument("--steps", type=int, default=200, help="training steps")
    parser.add_argument("--batch", type=int, default=16, help="texts of a step")
    parser.add_argument("--evaluated", type=int, default=200, help="texts of a set")
    parser.add_argument("--seed", type=int, default=0, help="of heads and texts")
    parser.add_argument("--json", type=Path, help="where to write figures, calls and steps")
    options = parser.parse_args(arguments)
    cpu = torch.device("cpu")
    warm = Problem.random(16, 1000, 16, cpu)
    in_turn(losses(warm), 1, cpu, "Warming up")
    problem = Problem.random(options.positions, options.vocabulary, options.hidden, cpu)
    samples = in_turn(losses(problem), options.rounds, cpu, "Losses")
    print(table(rows(samples)), flush=True)

    data = NumberDataModule(
        EMBEDDED,
        num_samples=options.steps * options.batch,
        val_samples=options.evaluated,
        eval_samples=options.evaluated,
        noisy_samples=1,
        batch_size=options.batch,
        seed=options.seed,
    )
    data.setup("fit")
    models = make_models(options.seed)
    batches = list(data.val_dataloader())
    start = {name: ranking(model, batches) for name, model in models.items()}
    print("", figures_table("ranking at the start", start), sep="\n", flush=True)
    seconds = train(models, data)
    after = {name: quality(model, data) for name, model in models.items()}
    for name, found in after.items():
        found["ms a step"] = spread([s * 1e3 for s in seconds[name]])[0]
    print("", figures_table(f"after {options.steps} steps", after), sep="\n")
    if options.json:
        figures = {
            **circumstances(cpu),
            **{k: v for k, v in vars(options).items() if k != "json"},
            "ranking_at_the_start": start,
            "quality": after,
            "rows": rows(samples),
            "calls": [asdict(sample) for sample in samples],
            "seconds_of_steps": seconds,
        }
        options.json.write_text(as_json(figures) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
