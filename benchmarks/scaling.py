"""Time and memory against size: of a training step, and of writing and tokenizing its text.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --json FILE --chart docs/scaling_time.png

    texts        a training step of so many texts of 48 tokens, embedded model
    length       of 8 texts of so many tokens, embedded model
    vocabulary   of 8 texts of 64 tokens with so many tokens to choose from, by either head: a
                 random model of one layer and 64 dimensions, small beside its vocabulary
    generating   so many training texts
    tokenizing   the same texts to records

A step is forward pass, backward pass, clipping and AdamW, all tokens labelled, every tenth one a
number. Its memory is the greatest beyond what is held before: weights and the optimizer's state
are not part of it, gradients are.

A slope is that of the least-squares line through the logarithms of the medians of the larger half
of the sizes, where what a call costs at any size counts least: 1 is linear, 2 quadratic, less than
1 is still paying off fixed costs.
"""

import argparse
import itertools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import linear_regression
from typing import Any

import matplotlib as mpl
import torch

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import StrMethodFormatter
from transformers import Qwen2Config, Qwen2ForCausalLM

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.compact_json import as_json  # noqa: E402
from benchmarks.memory_probe import Setting, make_batch  # noqa: E402
from benchmarks.turns import Arms, cell, circumstances, in_turn, rows  # noqa: E402
from datamodules import training_mix  # noqa: E402
from lightning_modules.optimization import OptimizerOptions, make_optimizer  # noqa: E402
from numlm.batch import Record  # noqa: E402
from numlm.heads import TOKEN_HEADS, TokenHead  # noqa: E402
from numlm.model import NumberLM  # noqa: E402
from numlm.number_head import NumberHead  # noqa: E402
from numlm.tokenization import NumberTokenizer  # noqa: E402

EMBEDDED = str(ROOT / "assets" / "tiny-qwen2")
SIZES = {  # each doubles
    "texts": [4, 8, 16, 32, 64, 128],
    "length": [32, 64, 128, 256, 512, 1024],
    "vocabulary": [4096, 8192, 16384, 32768, 65536, 131072],
    "data": [250, 500, 1000, 2000, 4000, 8000],
}
MEASURES = {"ms": "milliseconds", "mib": "MiB beyond what is held"}
# Python keeps pages that it freed, so that only a process of its own tells what a call takes:
# `benchmarks/tokenization.py`.
_TIME_ONLY = ("generating", "tokenizing")
_HIDDEN = 64
_COLORS = "#0072b2 #d55e00 #009e73 #cc79a7 #e69f00 #56b4e9".split()


class Step:
    """Training steps of a model; a learning rate of zero costs the same and changes nothing.

    Args:
        model: The model.
        device: Where.
    """

    def __init__(self, model: NumberLM, device: torch.device) -> None:
        self.model = model.to(device)
        self.optimizer = make_optimizer(self.model, OptimizerOptions(0.0, 0.0, 0.0))
        self.device = str(device)
        self.of(1, 16)()  # the optimizer's state is there from the first step on

    def of(self, texts: int, length: int) -> Callable[[], float]:
        """A step of so many texts, which returns its loss."""
        setting = Setting("", texts, length, padded=False, device=self.device)
        batch = make_batch(setting, self.model.tokenizer.num_token_id)

        def step() -> float:
            loss = self.model.losses(batch).total(0.3)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
            return loss.item()

        return step


def small_model(tokenizer: NumberTokenizer, head: type[TokenHead], vocabulary: int) -> NumberLM:
    """A random model of one layer."""
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=_HIDDEN,
        intermediate_size=2 * _HIDDEN,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    )
    return NumberLM(Qwen2ForCausalLM(config), tokenizer, head(vocabulary), NumberHead(_HIDDEN))


def curves(count: int, device: torch.device) -> dict[str, Arms]:
    """The calls of every curve by size, `count` sizes of each from the smallest on."""
    model = NumberLM.from_pretrained(EMBEDDED)
    tokenizer = model.tokenizer
    embedded = Step(model, device)
    sizes = {name: each[:count] for name, each in SIZES.items()}
    texts = [e.text for e in itertools.islice(training_mix.generate(0), sizes["data"][-1])]

    def generating(size: int) -> Callable[[], float]:
        return lambda: float(len(list(itertools.islice(training_mix.generate(0), size))))

    def tokenizing(size: int) -> Callable[[], float]:
        return lambda: float(len([Record.of(e) for e in tokenizer.encode_batch(texts[:size])]))

    found: dict[str, Arms] = {
        "texts": {str(size): embedded.of(size, 48) for size in sizes["texts"]},
        "length": {str(size): embedded.of(8, size) for size in sizes["length"]},
    }
    for name, head in TOKEN_HEADS.items():
        found[f"vocabulary, {name.replace('_', '-')}"] = {
            str(size): Step(small_model(tokenizer, head, size), device).of(8, 64)
            for size in sizes["vocabulary"]
        }
    for name, made in (("generating", generating), ("tokenizing", tokenizing)):
        found[name] = {str(size): made(size) for size in sizes["data"]}
    return found


def fit(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Slope and intercept of a line through logarithms of the larger half of the sizes.

    >>> [round(part, 6) for part in fit([(1, 9.0), (2, 9.0), (4, 8.0), (8, 16.0)])]
    [1.0, 0.693147]
    """
    larger = _larger(points)
    logs = [(math.log(size), math.log(value)) for size, value in larger]
    return linear_regression(*zip(*logs, strict=True))


def _larger(sizes: Sequence[Any]) -> list[Any]:
    """The larger half, of at least two."""
    return sorted(sizes)[min(len(sizes) // 2, len(sizes) - 2) :]


def slopes(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of every curve in time and memory: points and fitted line; memory where it is told."""
    curve_names = dict.fromkeys(row["part"] for row in found)
    lines = []
    for part, measure in itertools.product(curve_names, MEASURES):
        mine = [row for row in found if row["part"] == part and row[measure]]
        points = [(int(row["arm"]), row[measure][0]) for row in mine]
        told = measure == "ms" or part not in _TIME_ONLY
        # A call of few texts may take no new page of memory.
        if told and len(points) > 1 and min(value for _, value in points) > 0:
            slope, intercept = fit(points)
            lines.append(
                {
                    "curve": part,
                    "measure": measure,
                    "slope": round(slope, 3),
                    "intercept": round(intercept, 4),
                    "points": points,
                }
            )
    return lines


def table(found: Sequence[dict[str, Any]], lines: Sequence[dict[str, Any]]) -> str:
    """Every size with median and quartiles, and every slope."""
    text = [f"{'':<26}{'size':>9}{'ms':>28}{'MiB':>28}"]
    for row in found:
        cells = cell(row["ms"]).rjust(28) + cell(row["mib"]).rjust(28)
        text.append(f"{row['part']:<26}{int(row['arm']):>9,}{cells}")
    text += ["", "slopes of the larger half, 1 is linear"]
    text += [f"{n['curve']:<26}{n['measure']:>9}{n['slope']:>10.2f}" for n in lines]
    return "\n".join(text)


def draw(lines: Sequence[dict[str, Any]], file: Path) -> None:
    """Time and memory against size, in multiples of each curve's smallest one.

    Args:
        lines: As of `slopes`.
        file: Where to draw.
    """
    figure, panels = plt.subplots(1, 2, figsize=(13, 6), layout="constrained")
    names = list(dict.fromkeys(line["curve"] for line in lines))
    for axes, (measure, label) in zip(panels, MEASURES.items(), strict=True):
        mine = [line for line in lines if line["measure"] == measure]
        for line in mine:
            _draw_curve(axes, line, _COLORS[names.index(line["curve"])])
        axes.set(xscale="log", yscale="log", ylabel=label)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.set(xlabel="size, in multiples of the smallest")
        _draw_guides(axes)
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left", frameon=False, fontsize=9)
    figure.suptitle("Time and memory against size; dashed: fitted line; grey: linear")
    figure.savefig(file, dpi=120)
    plt.close(figure)


def _draw_curve(axes: Any, line: dict[str, Any], color: str) -> None:  # noqa: ANN401
    sizes, values = zip(*line["points"], strict=True)
    label = f"{line['curve']}, {sizes[0]:,} to {sizes[-1]:,}: slope {line['slope']:.2f}"
    axes.plot([s / sizes[0] for s in sizes], values, "o-", color=color, label=label, markersize=4)
    fitted = _larger(sizes)
    heights = [math.exp(line["intercept"]) * size ** line["slope"] for size in fitted]
    axes.plot([s / sizes[0] for s in fitted], heights, "--", color="#222222", linewidth=1)


def _draw_guides(axes: Any) -> None:  # noqa: ANN401
    """Grey lines of slope 1, a decade apart."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    first, last = math.floor(math.log10(low / right)), math.ceil(math.log10(high / left))
    for power in range(first, last + 1):
        height = 10.0**power
        axes.plot(
            [left, right], [height * left, height * right], color="#bbbbbb", lw=0.6, zorder=0
        )
    axes.set(xlim=(left, right), ylim=(low, high * 12))  # room for the legend


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, draw and keep every call."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, default=6, help="how many of each curve, at most 6")
    parser.add_argument("--rounds", type=int, default=3, help="how often each size is measured")
    parser.add_argument("--device", type=torch.device, default="cpu", help="cpu or cuda")
    parser.add_argument("--json", type=Path, help="where to write figures and calls")
    parser.add_argument("--chart", type=Path, help="where to draw time and memory against size")
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    parts = curves(options.sizes, options.device)
    smallest = {part: dict(itertools.islice(arms.items(), 1)) for part, arms in parts.items()}
    in_turn(smallest, 1, options.device, "Warming up")
    samples = in_turn(parts, options.rounds, options.device, "Sizes")
    found = rows(samples)
    lines = slopes(found)
    print(table(found, lines))
    if options.json:
        figures = {
            **circumstances(options.device),
            "slopes": lines,
            "rows": found,
            "calls": [asdict(sample) for sample in samples],
        }
        options.json.write_text(as_json(figures) + "\n", encoding="utf-8")
    if options.chart:
        draw(lines, options.chart)


if __name__ == "__main__":
    main()
