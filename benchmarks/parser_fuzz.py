"""The parser under any text: 100,000 of them, and how time grows with length.

    python benchmarks/parser_fuzz.py

Hypothesis makes texts of what numbers are written with, of other scripts, of what cannot be seen
and of what is no character, and every one is checked as in `tests/hostile_texts.py`. Then the
parser reads long texts that a scan could lose its way in, each kind at several lengths: where time
is linear, the time a character stays the same.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from hypothesis import HealthCheck, given, settings
from matplotlib import pyplot as plt
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from datamodules import basic, ordinary_text  # noqa: E402
from numlm.checkpoint import load_tokenizer  # noqa: E402
from numlm.parsing import split_numbers  # noqa: E402
from numlm.tokenization import NumberTokenizer  # noqa: E402
from tests.hostile_texts import (  # noqa: E402
    FAMILIES,
    TEXTS,
    VALUES,
    check_text,
    check_tokens,
    check_value,
)

LENGTHS = (100_000, 1_000_000, 10_000_000)


def embedded_tokenizer() -> NumberTokenizer:
    """That of the checkpoint that comes with the project."""
    return NumberTokenizer(load_tokenizer(str(ROOT / "assets" / "tiny-qwen2")))


def fuzz(texts: int) -> dict[str, Any]:
    """Check so many texts and values; what failed is raised with the shortest text that fails."""
    options = settings(
        max_examples=texts, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    tokenizer = embedded_tokenizer()
    counted = {"texts": 0, "characters": 0}
    with tqdm(total=texts, desc="Texts", unit=" texts") as bar:

        @options
        @given(TEXTS)
        def any_text(text: str) -> None:
            check_text(text)
            check_tokens(tokenizer, text)
            counted["texts"] += 1
            counted["characters"] += len(text)
            bar.update()

        begin = time.perf_counter()
        any_text()
    settings(options, max_examples=texts // 10)(given(VALUES)(check_value))()
    return {**counted, "failures": 0, "seconds": round(time.perf_counter() - begin, 1)}


def seconds(text: str, rounds: int) -> float:
    """Least time that the parser takes for a text."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        split_numbers(text)
        times.append(time.perf_counter() - begin)
    return min(times)


def growth() -> list[dict[str, Any]]:
    """Time of every kind of long text, by length."""
    rows = []
    for name, make in tqdm(FAMILIES.items(), desc="Long texts", unit=" kinds"):
        lengths = [len(make(length)) for length in LENGTHS]
        times = [seconds(make(length), 3 if length < LENGTHS[-1] else 1) for length in LENGTHS]
        each = [t / n * 1e9 for t, n in zip(times, lengths, strict=True)]
        rows.append(
            {
                "kind": name,
                "characters": lengths,
                "seconds": [float(f"{t:.3g}") for t in times],
                "nanoseconds_a_character": [round(t, 1) for t in each],
                "growth": round(each[-1] / each[0], 2),
            }
        )
    return rows


def rates() -> dict[str, float]:
    """Megabytes of UTF-8 a second, of ordinary texts and the slowest kind."""
    sentences = [example.text for example in basic.generate(2000, 0)]
    english = [text for text in sentences if text.isascii()]
    chinese = [text for text in sentences if not text.isascii()]
    plain = [example.text for example in ordinary_text.generate(2000, 0)]
    slowest = max(FAMILIES.values(), key=lambda make: seconds(make(100_000), 2))
    texts = {
        "english": " ".join(english) * 10,
        "chinese": "".join(chinese) * 10,
        "without_numbers": " ".join(plain) * 10,
        "slowest_kind": slowest(1_000_000),
    }
    found = {}
    for name, text in texts.items():
        size = len(text.encode("utf-8", "surrogatepass"))
        found[name] = round(size / statistics.median(seconds(text, 1) for _ in range(7)) / 1e6, 2)
    return found


def token_rates() -> list[dict[str, Any]]:
    """Megabytes of UTF-8 a second to tokens and back, at a million and ten million bytes."""
    tokenizer = embedded_tokenizer()
    sentences = {
        "english": "The red lamp shows 42.5 volts in the hall, and 1,200 people saw it. ",
        "chinese": "红色灯泡的电压是42.5伏，大厅里有1,200人看到了它。",
    }
    rows = []
    for name, sentence in tqdm(sentences.items(), desc="Tokens", unit=" texts"):
        for size in (1_000_000, 10_000_000):
            text = sentence * (size // len(sentence.encode()))
            begin = time.perf_counter()
            encoding = tokenizer.encode(text)
            middle = time.perf_counter()
            assert tokenizer.decode(encoding.input_ids, encoding.numbers) == text
            times = {"encode": middle - begin, "decode": time.perf_counter() - middle}
            rates = {f"{what}_mb_a_second": round(size / t / 1e6, 2) for what, t in times.items()}
            rows.append({"text": name, "bytes": size, **rates})
    return rows


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """Time against length, a line for every kind, beside what linear time looks like."""
    figure, axes = plt.subplots(figsize=(8, 5.2), layout="constrained")
    ordered = sorted(rows, key=lambda row: -row["seconds"][-1])
    for row in ordered:
        told = row in (ordered[0], ordered[-1])
        axes.plot(
            row["characters"],
            row["seconds"],
            color="#0072b2" if told else "#b9c2cc",
            zorder=3 if told else 2,
            marker="o",
            markersize=3,
        )
        if told:
            end = row["characters"][-1], row["seconds"][-1]
            above = 6 if row is ordered[0] else -22
            axes.annotate(row["kind"], end, (0, above), textcoords="offset points", ha="right")
    longest = max(LENGTHS)
    axes.plot(
        (LENGTHS[0], longest),
        (LENGTHS[0] * 1e-7, longest * 1e-7),
        "--",
        color="#444444",
        label="linear: 0.1 µs a character",
    )
    axes.set(xscale="log", yscale="log", xlabel="characters", ylabel="seconds")
    axes.margins(y=0.08)
    axes.set_title(f"Reading hostile texts: {len(rows)} kinds, from the quickest to the slowest")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", frameon=False)
    figure.savefig(file, dpi=120)


def main() -> None:
    """Fuzz, measure, print, draw, and keep the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--texts", type=int, default=100_000, help="how many texts are checked")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--chart", type=Path, help="where to draw time against length")
    options = parser.parse_args()
    fuzzed = fuzz(options.texts)
    print(f"{fuzzed['texts']} texts, {fuzzed['failures']} failures, {fuzzed['seconds']} s")
    rows = growth()
    print(
        f"{'kind':<34}" + "".join(f"{n:>12,}" for n in LENGTHS) + f"{'growth':>8}   ns/character"
    )
    for row in rows:
        each = "".join(f"{t:>12}" for t in row["nanoseconds_a_character"])
        print(f"{row['kind']:<34}{each}{row['growth']:>8}")
    rate = rates()
    print("MB/s: " + ", ".join(f"{name} {value}" for name, value in rate.items()))
    tokens = token_rates()
    for row in tokens:
        print(row)
    if options.chart:
        draw(rows, options.chart)
    if options.json:
        about = {"date": str(date.today()), "machine": f"{platform.machine()}, one thread"}
        figures = {**about, "fuzz": fuzzed, "megabytes_a_second": rate, "tokenizer": tokens}
        figures["long_texts"] = rows
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
