"""Training speed of all arms in one process, a step each in turn, on the same texts.

    python benchmarks/train_speed.py                       # the embedded model, on a CPU
    python benchmarks/train_speed.py --json FILE --chart FILE

and on a GPU, 32k tokens a step, of short texts and of long ones:

    python benchmarks/train_speed.py --size 0.5B --precision bf16-mixed --batch 800
    python benchmarks/train_speed.py --size 0.5B --precision bf16-mixed --length 512 --batch 64

    A  Hugging Face's Trainer, plain cross-entropy, padded to the longest text of a batch
    B  A with texts of like length together, and compiled
    C  ours with softmax                       F  D with all scores at once, by autograd
    D  ours with one-vs-rest                   G  ours without heads and losses
    E  D with the loss on 15 % of the tokens   H  C with --model.compile_layers true

Arms C to F and H train the number head as well. Every arm has the same texts, weights, steps of so
many texts, learning rate, clipping and fused AdamW. A table shows medians: real tokens a second,
the speed against A with the quartiles of the rounds, operations of the products a second and as a
share of what one square product reaches between the steps, and how much memory a step takes beside
what is held between steps. "first" is everything up to the end of the first step.
"""

import argparse
import os
import statistics
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import transformers
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.compact_json import as_json  # noqa: E402
from benchmarks.memory import shape_of  # noqa: E402
from benchmarks.memory_formulas import QWEN25, Shape  # noqa: E402
from benchmarks.train_arms import Job, arms, joined, with_answers  # noqa: E402
from benchmarks.trainer_turns import DEVICE, Turn, Turns, product  # noqa: E402
from benchmarks.turns import circumstances, spread  # noqa: E402
from datamodules import training_mix  # noqa: E402
from numlm.batch import Record  # noqa: E402
from numlm.checkpoint import load_tokenizer  # noqa: E402
from numlm.tokenization import NumberTokenizer  # noqa: E402

EMBEDDED = ROOT / "assets" / "tiny-qwen2"
PRODUCT = "matrix product"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or ""), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--size", choices=["embedded", *QWEN25], default="embedded",
        help="the checkpoint in assets/, or random weights in the shape of a Qwen2.5",
    )  # fmt: skip
    parser.add_argument("--arms", default="ABCDEFGH", help="letters of the arms to run")
    parser.add_argument("--batch", type=int, default=32, help="texts a step")
    parser.add_argument(
        "--length", type=int, help="join texts to so many tokens; else as they are"
    )
    parser.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="32-true")
    parser.add_argument("--warm-up", type=int, default=10, help="steps that are not timed")
    parser.add_argument("--rounds", type=int, default=30, help="steps that are")
    parser.add_argument("--json", type=Path, help="where to write figures and every sample")
    parser.add_argument("--chart", type=Path, help="where to draw the table")
    return parser.parse_args(arguments)


def write_random_model(shape: Shape, folder: Path) -> Path:
    """A model of a shape with random weights and the embedded model's tokenizer."""
    config = transformers.Qwen2Config(
        hidden_size=shape.hidden, num_hidden_layers=shape.layers,
        intermediate_size=shape.intermediate, num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads, vocab_size=shape.rows,
        tie_word_embeddings=shape.tied, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    load_tokenizer(str(EMBEDDED)).save_pretrained(folder)
    return folder


def texts(count: int, length: int | None) -> list[Record]:
    """Generated training texts, at least so many, encoded."""
    tokenizer = NumberTokenizer(load_tokenizer(str(EMBEDDED)))
    stream = training_mix.generate(0, training_mix.reserved_sentences(iter(())))
    records: list[Record] = []
    while len(records) < count:
        examples = list(islice(stream, 2000))
        found = tokenizer.encode_batch([example.text for example in examples])
        new = [Record.of(encoding) for encoding in found]
        records += new if length is None else joined(new, length, tokenizer.num_token_id)
    return [record._replace(record_id=i) for i, record in enumerate(records[:count])]


def figures(turns: dict[str, Turn]) -> list[dict[str, Any]]:
    """A row of medians for every arm."""
    peak = statistics.median(s.flop / s.seconds for s in turns[PRODUCT].samples)
    rates = {
        name: [s.tokens / s.seconds for s in turn.samples]
        for name, turn in turns.items()
        if name != PRODUCT
    }
    first = next(iter(rates.values()))
    rows = []
    for name, rate in rates.items():
        turn = turns[name]
        ratios = [mine / theirs for mine, theirs in zip(rate, first, strict=True)]
        middle, low, high = spread(ratios)
        flops = statistics.median(s.flop / s.seconds for s in turn.samples)
        rows.append(
            {
                "arm": name,
                "tokens_per_second": round(statistics.median(rate)),
                "ratio": middle,
                "ratio_quartiles": [low, high],
                "tflops": round(flops / 1e12, 4),
                "share_of_product": round(flops / peak, 3),
                "step_memory_mib": round(turn.memory / 2**20),
                "first_step_seconds": round(turn.first, 1),
            }
        )
    rows.append({"arm": PRODUCT, "tflops": round(peak / 1e12, 4)})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The figures in columns."""
    lines = [
        f"{'':<28}{'tokens/s':>10}{'ratio':>7} {'quartiles':<12}{'TFLOP/s':>8}{'share':>7}"
        f"{'step MiB':>10}{'first s':>9}"
    ]
    for row in rows:
        if row["arm"] == PRODUCT:
            lines.append(f"{PRODUCT:<28}{'':>30}{row['tflops']:>8.3f}")
            continue
        low, high = row["ratio_quartiles"]
        lines.append(
            f"{row['arm']:<28}{row['tokens_per_second']:>10,}{row['ratio']:>7.2f} "
            f"{f'{low:.2f}-{high:.2f}':<12}{row['tflops']:>8.3f}{row['share_of_product']:>7.0%}"
            f"{row['step_memory_mib']:>10,}{row['first_step_seconds']:>9.1f}"
        )
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], about: str, path: Path) -> None:
    """Bars of the speed against the first arm, with the quartiles of the rounds."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    rows = [row for row in rows if row["arm"] != PRODUCT][::-1]
    ratios = [row["ratio"] for row in rows]
    errors = [
        [row["ratio"] - row["ratio_quartiles"][0] for row in rows],
        [row["ratio_quartiles"][1] - row["ratio"] for row in rows],
    ]
    figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    colors = ["tab:gray" if row["arm"][0] in "AB" else "tab:blue" for row in rows]
    bars = axes.barh([row["arm"] for row in rows], ratios, xerr=errors, color=colors, capsize=3)
    labels = [f"{row['tokens_per_second']:,} tokens/s" for row in rows]
    axes.bar_label(bars, labels, padding=10)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlim(right=1.4 * max(row["ratio_quartiles"][1] for row in rows))
    axes.set_xlabel("real tokens a second against Hugging Face's Trainer (median, quartiles)")
    axes.set_title(about, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Run the arms, print the table, write what was asked for.

    Returns:
        The figures.
    """
    options = parse(arguments)
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    steps = options.warm_up + options.rounds + 1
    with tempfile.TemporaryDirectory() as folder:
        model = EMBEDDED
        if options.size != "embedded":
            model = write_random_model(QWEN25[options.size], Path(folder) / "model")
        records = texts(steps * options.batch, options.length)
        job = Job(
            str(model), shape_of(model), records, with_answers(records), options.batch,
            steps, options.precision, Path(folder),
        )  # fmt: skip
        chosen = {name: arm for name, arm in arms(job).items() if name[0] in options.arms}
        dtype = torch.bfloat16 if options.precision == "bf16-mixed" else torch.float32
        size = 8192 if torch.cuda.is_available() else 2048
        chosen[PRODUCT] = product(size, dtype, steps)
        with tqdm(total=steps * len(chosen), desc="Steps of all arms", leave=False) as bar:
            turns = Turns(options.warm_up, options.rounds, bar.update).run(chosen)
    rows = figures(turns)
    print(table(rows))
    gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if gpu else f"{os.cpu_count()} CPU cores"
    if options.chart:
        about = f"{options.size}, {options.batch} texts a step, {options.precision}, {device}"
        draw(rows, about, options.chart)
    if options.json:
        found = {
            **circumstances(DEVICE),
            "options": {k: v for k, v in vars(options).items() if k not in ("json", "chart")},
            "figures": rows,
            "samples": {
                name: [list(asdict(s).values()) for s in turn.samples]
                for name, turn in turns.items()
            },
        }
        options.json.write_text(as_json(found) + "\n", encoding="utf-8")
    return rows


if __name__ == "__main__":
    main()
