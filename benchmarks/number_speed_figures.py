"""Figures of `number_speed.py`: medians and quartiles of its rounds, in tables and in a chart."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from benchmarks.turns import spread

_LINES = {  # what, batch: colour and style; others are left out
    ("alone", 1): ("#0072b2", "-", "a number in a running text, one text"),
    ("alone", 32): ("#d55e00", "-", "the same, 32 texts at a time"),
    ("end to end", 1): ("#0072b2", ":", "a call with its prompt, one text"),
}


@dataclass(frozen=True, slots=True)
class Round:
    """One turn of every arm with the same prompts, in seconds a call.

    Attributes:
        set: Where the prompts are from.
        batch: How many there are.
        tokens: How many tokens each of the numbers is written with in digits.
        number_alone: What the step of all the numbers adds.
        digits_alone: What the first token adds, the first two, ...
        number_call: The call that returns the numbers.
        digits_call: The call that returns the digits.
        number_right: How many of the numbers were right.
        digits_right: How many of the digits were.
    """

    set: str
    batch: int
    tokens: list[int]
    number_alone: float
    digits_alone: list[float]
    number_call: float
    digits_call: float
    number_right: int
    digits_right: int

    @property
    def digits_mean(self) -> float:
        """What its digits add for a number of this batch, seconds a call, mean over its rows."""
        return statistics.fmean(self.digits_alone[count - 1] for count in self.tokens)


def by_set(rounds: Sequence[Round]) -> list[dict[str, Any]]:
    """For every set and batch: milliseconds a number of both arms, and how often as fast."""
    rows = []
    for name, batch in sorted({(r.set, r.batch) for r in rounds}):
        mine = [r for r in rounds if (r.set, r.batch) == (name, batch)]
        pairs = {
            "alone": [(r.number_alone, r.digits_mean) for r in mine],
            "end to end": [(r.number_call, r.digits_call) for r in mine],
        }
        for what, seconds in pairs.items():
            rows.append(
                {
                    "set": name,
                    "batch": batch,
                    "what": what,
                    "tokens": round(statistics.fmean(n for r in mine for n in r.tokens), 2),
                    "number_ms": spread([n / batch * 1e3 for n, _ in seconds]),
                    "digits_ms": spread([d / batch * 1e3 for _, d in seconds]),
                    "ratio": spread([d / n for n, d in seconds]),
                    "number_right": sum(r.number_right for r in mine) / (len(mine) * batch),
                    "digits_right": sum(r.digits_right for r in mine) / (len(mine) * batch),
                }
            )
    return rows


def by_tokens(rounds: Sequence[Round]) -> list[dict[str, Any]]:
    """How often as fast, by the number of tokens that a number's digits take.

    Alone, every round tells it of all counts up to that of its longest number. A call of several
    texts has numbers of several lengths, so that end to end is of one text.
    """
    ratios: dict[tuple[str, int, int], list[float]] = {}
    for r in rounds:
        for count, seconds in enumerate(r.digits_alone, 1):
            ratios.setdefault(("alone", r.batch, count), []).append(seconds / r.number_alone)
        if r.batch == 1:
            call = r.digits_call / r.number_call
            ratios.setdefault(("end to end", 1, r.tokens[0]), []).append(call)
    return [
        {"what": what, "batch": batch, "tokens": count, "rounds": len(v), "ratio": spread(v)}
        for (what, batch, count), v in sorted(ratios.items())
    ]


def table(rounds: Sequence[Round]) -> str:
    """Both tables, for people."""

    def cell(values: Sequence[float]) -> str:
        middle, low, high = values
        return f"{middle:.2f} ({low:.2f}-{high:.2f})".rjust(28)

    head = f"{'set':<16}{'batch':>6}  {'what':<12}{'tokens':>7}"
    names = ("number, ms", "digits, ms", "times as fast")
    lines = [head + "".join(name.rjust(28) for name in names)]
    for row in by_set(rounds):
        cells = "".join(cell(row[name]) for name in ("number_ms", "digits_ms", "ratio"))
        start = f"{row['set']:<16}{row['batch']:>6}  {row['what']:<12}{row['tokens']:>7.1f}"
        lines.append(start + cells)
    lines += ["", f"{'what':<12}{'batch':>6}{'tokens':>8}{'times as fast':>28}{'rounds':>8}"]
    for row in by_tokens(rounds):
        start = f"{row['what']:<12}{row['batch']:>6}{row['tokens']:>8}"
        lines.append(start + cell(row["ratio"]) + f"{row['rounds']:>8}")
    return "\n".join(lines)


def draw(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """A line for each way to write, with quartiles, beside what a free number head would reach.

    Args:
        rows: As of `number_speed.by_tokens`.
        file: Where to draw.
    """
    figure, axes = plt.subplots(figsize=(8, 5.2), layout="constrained")
    for (what, batch), (color, style, label) in _LINES.items():
        mine = [row for row in rows if (row["what"], row["batch"]) == (what, batch)]
        if not mine:
            continue
        counts = [row["tokens"] for row in mine]
        middle, low, high = zip(*(row["ratio"] for row in mine), strict=True)
        axes.plot(counts, middle, style, color=color, label=label, marker="o", markersize=4)
        axes.fill_between(counts, low, high, color=color, alpha=0.15, linewidth=0)
    longest = max(row["tokens"] for row in rows)
    axes.plot((1, longest), (1, longest), "--", color="#777777", label="one step for each digit")
    axes.axhline(1, color="#444444", linewidth=0.8)
    axes.set(xlabel="tokens that its digits take, with sign, point and exponent")
    axes.set(ylabel="times as fast as its digits", ylim=(0, None))
    axes.set_title("A number in one step: how often as fast as its digits")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", frameon=False)
    figure.savefig(file, dpi=120)
    plt.close(figure)
