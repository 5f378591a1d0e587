"""The chart of `number_speed.py`: how often as fast a number is, by how many digits it has."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

_LINES = {  # what, batch: colour and style; others are left out
    ("alone", 1): ("#0072b2", "-", "a number in a running text, one text"),
    ("alone", 32): ("#d55e00", "-", "the same, 32 texts at a time"),
    ("end to end", 1): ("#0072b2", ":", "a call with its prompt, one text"),
}


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
