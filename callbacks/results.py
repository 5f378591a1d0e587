"""The results of an evaluation as files: figures of every set as JSON, every answer as CSV."""

import csv
import io
from collections import Counter
from pathlib import Path
from typing import Any

from callbacks.evaluation_data import EvaluationData
from callbacks.run_folder import read_json
from numlm.checkpoint_files import write_whole_text
from numlm.metrics import (
    Figures,
    bootstrap_intervals,
    column,
    figures,
    figures_by_magnitude,
    take_records,
)
from numlm.scoring import SLOT_COLUMNS, Scores

BASELINE_FILE, FINETUNED_FILE, TEST_FILE = (
    "baseline_results.json",
    "finetuned_results.json",
    "test_results.json",
)
Results = dict[str, dict[str, Any]]
_WORST = 5
_MISTAKES = 10
_CONTEXT = 6  # tokens shown before a mistake
_ANSWER_COLUMNS = (
    *("truth", "median", "printed", "low", "high", "source", "rank", "prob"),
    *("level", "calibrated_level", "crps"),
)


def set_results(data: EvaluationData, name: str, rows: Scores) -> dict[str, Any]:
    """All that is said of one evaluation set.

    Returns:
        The figures of `numlm.metrics.figures`; `intervals`, their 95 % bootstrap intervals;
        `groups`, the figures of groups of texts; `by_magnitude`; `mistakes`, the most frequent
        wrong decisions for and against a number; `worst`, the answers farthest off.
    """
    groups: dict[str, Figures] = {
        group: figures(take_records(rows, ids))
        for group, ids in data.evaluation_groups(name).items()
        if ids
    }
    return {
        **figures(rows),
        "intervals": bootstrap_intervals(rows),
        "groups": groups,
        "by_magnitude": figures_by_magnitude(rows),
        "mistakes": frequent_mistakes(data, name, rows),
        "worst": worst_answers(data, name, rows),
    }


def frequent_mistakes(data: EvaluationData, name: str, rows: Scores) -> list[dict[str, Any]]:
    """The most frequent wrong decisions, counted by context, what was said and what is right."""
    records, tokenizer = data.evaluation_records(name), data.tokenizer
    counts: Counter[tuple[str, str, str]] = Counter()
    for record, position, said, right in rows.mistakes.long().tolist():
        ids = records[record].input_ids
        context = tokenizer.decode(ids[max(0, position + 1 - _CONTEXT) : position + 1])
        counts[context, tokenizer.token_text(said), tokenizer.token_text(right)] += 1
    # By count, then by text, so that the order does not hang on how the rows came in.
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_MISTAKES]
    return [
        {"context": context, "said": said, "right": right, "count": count}
        for (context, said, right), count in ordered
    ]


def worst_answers(data: EvaluationData, name: str, rows: Scores) -> list[dict[str, Any]]:
    """The answers with the greatest absolute error; of equal ones those with the greatest CRPS."""
    asked = data.evaluation_questions(name)
    error = (column(rows, "slots", "median") - column(rows, "slots", "truth")).abs().tolist()
    crps = column(rows, "slots", "crps").tolist()
    order = sorted(range(len(error)), key=lambda i: (-error[i], -crps[i]))[:_WORST]
    slots = rows.slots.tolist()
    worst = []
    for index in order:
        slot = dict(zip(SLOT_COLUMNS, slots[index], strict=True))
        worst.append(
            {
                "text": asked[index].prompt,
                **{key: slot[key] for key in ("truth", "low", "high")},
                "answer": slot["median"],
                "record": int(slot["record"]),
            }
        )
    return worst


def write_answers(path: Path, data: EvaluationData, rows: dict[str, Scores]) -> None:
    """Write every answer as a row of CSV: what was asked, the truth, what the model said."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    known = list(next(iter(data.evaluation_facts(name)[0] for name in rows)))
    writer.writerow(
        ["set", "record", *known, "prompt"]
        + ["answer" if name == "median" else name for name in _ANSWER_COLUMNS]
    )
    for name, scores in rows.items():
        facts = data.evaluation_facts(name)
        asked = data.evaluation_questions(name)
        for question, slot in zip(asked, scores.slots.tolist(), strict=True):
            values = dict(zip(SLOT_COLUMNS, slot, strict=True))
            for whole in ("source", "rank"):
                values[whole] = int(values[whole])
            writer.writerow(
                [name, question.record, *(facts[question.record][fact] for fact in known)]
                + [question.prompt]
                + [values[key] for key in _ANSWER_COLUMNS]
            )
    write_whole_text(path, text.getvalue())


def format_figure(figure: float | None) -> str:
    """A figure for people: four significant digits, "-" where there is nothing to average."""
    if figure is None:
        return "-"
    return f"{figure:.4g}" if figure == 0 or 1e-4 <= abs(figure) < 1e5 else f"{figure:.2e}"


def load_results(folder: Path) -> tuple[Results, Results]:
    """Baseline and fine-tuned results of a run."""
    return read_json(folder / BASELINE_FILE), read_json(folder / FINETUNED_FILE)
