"""The report's tables of answers: by magnitude, intervals, the worst ones, the decisions."""

import math
from typing import Any

from callbacks.findings import uncertain_sets
from callbacks.markdown import SetTables, cell, figure_text, metric_text, percent, table
from callbacks.run_files import RunFiles

_LEVELS = (50, 80, 95)
_FREQUENT = 10  # mistakes shown
EXTREME = "extreme_values"


class AnswerTables(SetTables):
    """Tables of answers and decisions."""

    def magnitudes(self) -> str:
        """Errors by order of magnitude of the truth."""
        metrics = ("exact_match", "median_relative_error", "rmse_all")
        return table(
            [self.word("magnitude"), self.word("slots"), *self.metric_names(metrics)],
            (
                [
                    decade(row["from"], row["to"]),
                    str(row["slots"]),
                    *(metric_text(metric, row[metric]) for metric in metrics),
                ]
                for row in magnitudes(self.run)
            ),
        )

    def coverage(self) -> str:
        """Actual coverage of the intervals on the sets that are not answered by exact copies."""
        rows = []
        for name in uncertain_sets(self.run):
            entry = self.run.finetuned[name]
            for level in _LEVELS:
                nominal = level / 100
                chance = 1.96 * math.sqrt(nominal * (1 - nominal) / entry["slots"])
                band = (max(0.0, nominal - chance), min(1.0, nominal + chance))
                rows.append(
                    [
                        self.label(name),
                        percent(nominal),
                        self.with_interval(entry, f"coverage_{level}"),
                        self.with_interval(entry, f"calibrated_coverage_{level}")
                        if self.run.run["calibration"]
                        else "-",
                        " – ".join(f"{100 * end:.0f} %" for end in band),
                    ]
                )
        keys = ("nominal", "own_interval", "calibrated", "expected_band")
        return self.by_set(map(self.word, keys), rows)

    def crps(self) -> str:
        """Continuous ranked probability score before and after."""
        return self.by_set(
            [self.word("before"), self.word("after")],
            (
                [
                    self.label(name),
                    figure_text(self.run.baseline[name]["crps"]),
                    self.with_interval(self.run.finetuned[name], "crps"),
                ]
                for name in self.run.sets_with_slots
            ),
        )

    def worst(self) -> str:
        """The answers farthest off, of every set that has wrong ones."""
        found = [
            (name, row)
            for name, entry in self.run.finetuned.items()
            for row in entry["worst"]
            if row["answer"] != row["truth"]
        ]
        return self.by_set(
            map(self.word, ("text", "truth", "answer", "interval")),
            (
                [
                    self.label(name),
                    cell(row["text"]),
                    f"{row['truth']:.10g}",
                    f"{row['answer']:.8g}",
                    f"{figure_text(row['low'])} … {figure_text(row['high'])}",
                ]
                for name, row in found
            ),
        )

    def decisions(self) -> str:
        """Precision, recall and F1 of `<NUM>`, with and without distractors."""
        metrics = ("precision", "recall", "f1", "false_positive_rate")
        rows = []
        for name, entry in self.run.finetuned.items():
            cells = [self.with_interval(entry, metric) for metric in metrics[:3]]
            for group in ("with_distractors", "without_distractors"):
                figures = entry["groups"].get(group, {})
                cells.append(
                    " / ".join(metric_text(metric, figures.get(metric)) for metric in metrics[:3])
                )
            rows.append([self.label(name), *cells, percent(entry["false_positive_rate"])])
        names = self.metric_names(metrics)
        triple = " / ".join(names[:3])
        return self.by_set(
            [
                *names[:3],
                f"{triple}, {self.word('group.with_distractors')}",
                f"{triple}, {self.word('group.without_distractors')}",
                names[3],
            ],
            rows,
        )

    def mistakes(self) -> str:
        """The most frequent wrong decisions of all sets."""
        found = [(name, row) for name, e in self.run.finetuned.items() for row in e["mistakes"]]
        found.sort(key=lambda item: -item[1]["count"])
        return self.by_set(
            map(self.word, ("context", "said", "right", "count")),
            (
                [
                    self.label(name),
                    *(_quoted(row[key]) for key in ("context", "said", "right")),
                    str(row["count"]),
                ]
                for name, row in found[:_FREQUENT]
            ),
        )

    def ordinary_text(self) -> str:
        """Perplexity of texts without numbers before and after, and agreement."""
        rows = []
        for name, entry in self.run.finetuned.items():
            before, after = self.run.baseline[name]["perplexity"], entry["perplexity"]
            if after is not None:
                rows.append(
                    [
                        self.label(name),
                        figure_text(before),
                        self.with_interval(entry, "perplexity"),
                        f"{after / before:.4f}" if before else "-",
                        percent(entry.get("agreement")),
                    ]
                )
        keys = ("before", "after", "ratio", "metric.agreement")
        return self.by_set(map(self.word, keys), rows)


def magnitudes(run: RunFiles) -> list[dict[str, Any]]:
    """Errors by decade of `extreme_values`, or of all sets together where it is absent."""
    if EXTREME in run.finetuned:
        return list(run.finetuned[EXTREME]["by_magnitude"])
    by_decade: dict[tuple[Any, Any], list[dict[str, Any]]] = {}
    for entry in run.finetuned.values():
        for row in entry["by_magnitude"]:
            by_decade.setdefault((row["from"], row["to"]), []).append(row)
    order = sorted(by_decade, key=lambda ends: (ends != (0, 0), ends[0] or 0.0))
    return [_pooled(ends, by_decade[ends]) for ends in order]


def _pooled(ends: tuple[Any, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """One decade of several sets; a median of all cannot be had from medians."""
    slots = sum(row["slots"] for row in rows)
    exact = sum(row["exact_match"] * row["slots"] for row in rows) / slots
    squares = [(row["rmse_all"], row["slots"]) for row in rows if row["rmse_all"] is not None]
    return {
        "from": ends[0],
        "to": ends[1],
        "slots": slots,
        "exact_match": exact,
        "median_relative_error": rows[0]["median_relative_error"] if len(rows) == 1 else None,
        "rmse_all": math.sqrt(sum(e * e * n for e, n in squares) / slots) if squares else None,
    }


def decade(low: float | None, high: float | None) -> str:
    """A range of sizes.

    >>> decade(0.0, 0.0), decade(None, 1e-6), decade(1.0, 10.0), decade(1e6, None)
    ('0', '< 1e-06', '1 – 10', '≥ 1e+06')
    """
    if low is None:
        return f"< {high:g}"
    if high is None:
        return f"≥ {low:g}"
    return "0" if low == high == 0 else f"{low:g} – {high:g}"


def _quoted(text: str) -> str:
    """A token or the end of a text, with its spaces visible."""
    return cell(text.replace("\n", "⏎").replace(" ", "␣") if text.strip() == "" else text)
