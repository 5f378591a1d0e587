"""The report of a run in English and Chinese, as Markdown and as one page of HTML.

The prose is in `templates/`; its tables are made in `tables.py` and `answer_tables.py`, what the
figures amount to in `findings.py`, the page in `page.py`.
"""

import getpass
import subprocess
import time
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from callbacks import findings
from callbacks.answer_tables import EXTREME, AnswerTables
from callbacks.charts import chart_file
from callbacks.markdown import cell, markdown_template, metric_text, percent
from callbacks.run_files import RunFiles, read_run
from callbacks.run_folder import run_folder
from callbacks.tables import FigureTables
from callbacks.targets import SETS, TARGETS
from callbacks.words import LANGUAGES, Language, label, set_label, words


class WriteReport(Callback):
    """Writes the report at the end of training; comes after the evaluation and the charts.

    Args:
        author: Name under the title; the git or system user where None.
    """

    def __init__(self, author: str | None = None) -> None:
        self.author = author

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write from the files of the run."""
        folder = run_folder(trainer)
        if trainer.is_global_zero:
            write_report(folder, self.author)
            rank_zero_info(f"Report written to {folder / 'report.html'}")


def write_report(folder: Path, author: str | None = None) -> None:
    """Write `report.md`, `report.zh.md` and `report.html` from the files in a run folder.

    Args:
        folder: The run, with its charts drawn.
        author: Name under the title; the git or system user where None.
    """
    from callbacks.page import page  # here: the options need no Markdown reader

    run = read_run(folder)
    texts = {language: report(run, language, author or user_name()) for language in LANGUAGES}
    for language, text in texts.items():
        name = "report.md" if language == "en" else f"report.{language}.md"
        (folder / name).write_text(text, encoding="utf-8")
    cards = {language: findings.cards(run, language, percent) for language in LANGUAGES}
    (folder / "report.html").write_text(page(texts, cards, folder), encoding="utf-8")


def report(run: RunFiles, language: Language, author: str) -> str:
    """The report as Markdown."""
    template = markdown_template(f"report.{language}.md.j2")
    return template.render(_facts(run, language), author=author, date=time.strftime("%Y-%m-%d"))


def _facts(run: RunFiles, language: Language) -> dict[str, Any]:
    """What the templates speak of."""
    record = run.run

    def chart(name: str) -> str:
        file = chart_file(name, language)
        return f"![{cell(words(language)(name))}]({file})" if (run.folder / file).exists() else "-"

    entries = run.finetuned.values()
    return {
        "run": record,
        "model": cell(Path(record["hyperparameters"]["qwen_model_path"]).name),
        "token_head": f"`{record['token_head']}`",
        "seconds": _pairs(
            {label("time", name, language): value for name, value in record["seconds"].items()}
        ),
        "versions": _pairs(record["versions"]),
        "hyperparameters": _pairs(record["hyperparameters"]),
        "tables": FigureTables(run, language),
        "answers": AnswerTables(run, language),
        "chart": chart,
        "own_data": FigureTables(run, language).own_data(),
        "bad_rows": [message for source in record["data"] for message in source["bad_rows"]],
        "run_was_scored": bool(run.scorings),
        "any_groups": any(entry["groups"] for entry in entries),
        "any_wrong": any(row["answer"] != row["truth"] for e in entries for row in e["worst"]),
        "any_mistake": any(entry["mistakes"] for entry in entries),
        "any_perplexity": any(entry["perplexity"] is not None for entry in entries),
        **_aims(run, language),
        **_conclusions(run, language),
    }


def _pairs(entries: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in entries.items())


def _aims(run: RunFiles, language: Language) -> dict[str, Any]:
    """Targets and whether they were met."""
    word = words(language)
    aimed = [name for name in SETS if name in run.finetuned]

    def bound(metric: str, symbol: str, value: float) -> str:
        return f"{symbol} {metric_text(metric, value)}"

    return {
        "published": bool(aimed),
        "target_sets": [set_label(name, language) for name in aimed],
        "targets": [
            (
                word(f"metric.{target.metric}"),
                [
                    bound(target.metric, target.symbol, value)
                    for name, value in zip(SETS, target.bounds, strict=True)
                    if name in aimed
                ],
            )
            for target in TARGETS
        ]
        if aimed
        else [],
        "missed": [
            {
                "metric": word(f"metric.{miss.metric}"),
                "set": set_label(miss.name, language),
                "figure": metric_text(miss.metric, miss.figure),
                "bound": bound(miss.metric, miss.symbol, miss.bound),
            }
            for miss in findings.misses(run.finetuned)
        ],
    }


def _conclusions(run: RunFiles, language: Language) -> dict[str, Any]:
    """What the figures amount to."""
    word, comma = words(language), "、" if language == "zh" else ", "
    labels = {name: cell(set_label(name, language)) for name in run.finetuned}
    uncertain = {name: run.finetuned[name] for name in findings.uncertain_sets(run)}
    extreme = [EXTREME] if EXTREME in run.finetuned else run.sets_with_slots
    ratios = {name: findings.rmse_over_best(run, name) for name in run.finetuned}
    return {
        "unbeaten": [
            {"set": labels[name], "floors": comma.join(word(f"floor.{floor}") for floor in floors)}
            for name, floors in findings.unbeaten_floors(run).items()
        ],
        "ratios": [(labels[name], ratio) for name, ratio in ratios.items() if ratio is not None],
        "magnitude_sets": comma.join(labels[name] for name in extreme),
        "summary": [
            {"set": labels[name], "before": run.baseline[name], "after": run.finetuned[name]}
            for name in run.sets_with_slots
        ],
        "uncertain": comma.join(labels[name] for name in uncertain),
        "coverage": findings.pooled_share(uncertain, findings.coverage_key(run, 95)),
        "perplexity_ratio": findings.perplexity_ratio(run),
    }


def user_name() -> str:
    """The name in git's configuration, or the system's user."""
    command = ["git", "config", "user.name"]
    try:
        name = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        name = ""
    return name or getpass.getuser()
