"""The same experiment with several seeds: median and range of every figure.

A figure of one run may be luck. `python train.py fit --seeds 5` runs five, each as a process of
its own, and writes `spread.json` and `spread.md` beside their folders.
"""

import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from callbacks.floors import FLOORS_FILE, IDEAL, Floors
from callbacks.results import FINETUNED_FILE, Results, format_figure
from callbacks.run_folder import read_json, write_json

Spread = dict[str, dict[str, dict[str, Any]]]
_SHOWN = (
    "accuracy",
    "mean_rank",
    "mean_prob",
    "f1",
    "rmse_all",
    "rmse_over_best",
    "median_relative_error",
    "exact_match",
    "exact_match_unseen",
    "exact_match_without_pointer",
    "crps",
    "calibrated_coverage_50",
    "calibrated_coverage_80",
    "calibrated_coverage_95",
    "floors_not_beaten",
    "perplexity",
    "agreement",
)


def run_seeds(command: Sequence[str], seeds: Sequence[int], folder: Path) -> None:
    """Run one experiment after the other and write their spread.

    Args:
        command: How to run one, without seed and folder.
        seeds: Their seeds.
        folder: Where the folders `seed_<seed>` and the spread are written.

    Raises:
        subprocess.CalledProcessError: If a run fails; those before it stay as they are.
    """
    for place, seed in enumerate(seeds, start=1):
        print(f"\nSeed {seed} ({place} of {len(seeds)})", flush=True)
        options = ["--seeds", "1", "--seed_everything", str(seed)]
        options += ["--trainer.logger.save_dir", str(folder)]
        options += ["--trainer.logger.run", f"seed_{seed}"]
        subprocess.run([*command, *options], check=True)
    runs = [folder / f"seed_{seed}" for seed in seeds]
    found = spread(
        [read_json(run / FINETUNED_FILE) for run in runs],
        [read_json(run / FLOORS_FILE) for run in runs],
    )
    write_json(folder / "spread.json", {"seeds": list(seeds), "sets": found})
    table = spread_table(found, seeds)
    (folder / "spread.md").write_text(table, encoding="utf-8")
    print(f"\n{table}\nWritten to {folder / 'spread.md'}", file=sys.stdout)


def spread(results: Sequence[Results], floors: Sequence[Floors]) -> Spread:
    """Median and range over runs of the same sets.

    Args:
        results: Results after fine-tuning, one for each run.
        floors: Floors of the same runs.

    Returns:
        By set and figure: `median`, `low`, `high` and the `values` in the order of the runs; all
        but these are None where a run has none.
    """
    table: Spread = {}
    for name in results[0]:
        rows = [
            _figures(result[name], floor.get(name, {}))
            for result, floor in zip(results, floors, strict=True)
        ]
        table[name] = {figure: _summary([row[figure] for row in rows]) for figure in rows[0]}
    return table


def _figures(entry: dict[str, Any], floors: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """One run's figures of a set, with those that need the floors or a group."""
    best = floors.get(IDEAL, {})
    beaten = [floor["beaten"] for floor in floors.values() if floor["beaten"] is not None]
    return {
        **{key: value for key, value in entry.items() if not isinstance(value, dict | list)},
        "exact_match_unseen": entry["groups"].get("unseen", {}).get("exact_match"),
        "rmse_over_best": best.get("rmse_over_best"),
        "floors_not_beaten": beaten.count(False) if beaten else None,
    }


def _summary(values: list[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    whole = len(known) == len(values)
    return {
        "median": statistics.median(known) if whole else None,
        "low": min(known) if whole else None,
        "high": max(known) if whole else None,
        "values": values,
    }


def spread_table(found: Spread, seeds: Sequence[int]) -> str:
    """The main figures as a Markdown table, median and range."""
    lines = [
        f"# {len(seeds)} seeds: {', '.join(map(str, seeds))}",
        "",
        "After fine-tuning: median (least to greatest).",
        "",
        "| | " + " | ".join(found) + " |",
        "|---|" + "---|" * len(found),
    ]
    for figure in _SHOWN:
        cells = [_cell(entries[figure]) for entries in found.values()]
        lines.append(f"| {figure} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(summary: dict[str, Any]) -> str:
    median, low, high = (format_figure(summary[key]) for key in ("median", "low", "high"))
    return median if low == high else f"{median} ({low} to {high})"
