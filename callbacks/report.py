"""The report of a run as Markdown: goal, method, metrics, results, charts, conclusion.

The prose is in `templates/report.md`; what is computed from the figures, the conclusion among it,
is here.
"""

import getpass
import subprocess
import time
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from callbacks.charts import CHARTS
from callbacks.results import Results, format_figure, load_results
from callbacks.run_folder import RUN_FILE, read_json, run_folder
from callbacks.targets import SETS, TARGETS, missed

_TEMPLATE = Path(__file__).parent / "templates" / "report.md"
_METRICS = {
    "accuracy": "share of slots where `<NUM>` is the most probable token (higher is better)",
    "mean_rank": "mean rank of `<NUM>` among all tokens at the slots (1 is best)",
    "mean_prob": "mean probability of `<NUM>` at the slots (higher is better)",
    "rmse": "root mean square error over the slots where `<NUM>` was predicted, - where it never "
    "was (lower is better)",
    "rmse_all": "root mean square error over every slot (lower is better)",
    "mae": "mean absolute error over every slot (lower is better)",
    "exact_match": "share of slots whose printed number is the true one (higher is better)",
    "exact_match_without_pointer": "the same when the head may not copy (higher is better)",
    "precision": "of `<NUM>` over every position of the text (higher is better)",
    "recall": "of `<NUM>` over every position of the text (higher is better)",
    "f1": "harmonic mean of precision and recall (higher is better)",
}


class WriteReport(Callback):
    """Writes `report.md` at the end of training; comes after the evaluation and the charts.

    Args:
        author: Name under the title; the git or system user where None.
    """

    def __init__(self, author: str | None = None) -> None:
        self.author = author

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write from the files of the run."""
        folder = run_folder(trainer)
        if trainer.is_global_zero:
            baseline, finetuned = load_results(folder)
            record = read_json(folder / RUN_FILE)
            text = report(baseline, finetuned, record, self.author or user_name())
            (folder / "report.md").write_text(text, encoding="utf-8")
            rank_zero_info(f"Report written to {folder / 'report.md'}")


def report(baseline: Results, finetuned: Results, run: dict[str, Any], author: str) -> str:
    """The report's text.

    Args:
        baseline: Results before fine-tuning.
        finetuned: Results after.
        run: Content of `run.json`.
        author: Who ran it.
    """
    seconds = (f"{name.replace('_', ' ')} {value:.0f} s" for name, value in run["seconds"].items())
    facts = {
        **run,
        "model": Path(run["hyperparameters"]["qwen_model_path"]).name,
        "author": author,
        "date": time.strftime("%Y-%m-%d"),
        "seconds": ", ".join(seconds),
        "versions": ", ".join(f"{name} {number}" for name, number in run["versions"].items()),
        "texts": next(iter(finetuned.values()))["texts"],
        "metrics": "\n".join(f"- `{name}`: {meaning}" for name, meaning in _METRICS.items()),
        "before_after": _before_after(baseline, finetuned),
        "by_wording": _by_wording(finetuned),
        "charts": "\n\n".join(f"![{chart.title}]({chart.name}.png)" for chart in CHARTS),
        "conclusion": _conclusion(baseline, finetuned),
    }
    return _TEMPLATE.read_text(encoding="utf-8").format(**facts)


def _table(columns: list[str], rows: dict[str, list[str]]) -> str:
    lines = ["| metric | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    lines += [f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items()]
    return "\n".join(lines)


def _before_after(baseline: Results, finetuned: Results) -> str:
    def cell(name: str, metric: str) -> str:
        before, after = baseline[name][metric], finetuned[name][metric]
        text = f"{format_figure(before)} → **{format_figure(after)}**"
        for target in TARGETS:
            if target.metric == metric and name in SETS:
                bound = target.bounds[SETS.index(name)]
                if not target.met(after, bound):
                    text += f" (missed: {target.symbol} {bound:g})"
        return text

    return _table(
        list(finetuned),
        {metric: [cell(name, metric) for name in finetuned] for metric in _METRICS},
    )


def _by_wording(results: Results) -> str:
    columns = [(name, group) for name in results for group in ("seen", "unseen")]
    return _table(
        [f"{name}, {group}" for name, group in columns],
        {
            metric: [format_figure(results[name][group][metric]) for name, group in columns]
            for metric in _METRICS
        },
    )


def _conclusion(baseline: Results, finetuned: Results) -> str:
    lines = []
    for name, after in finetuned.items():
        before = baseline[name]
        lines.append(
            f"- **{name}**: `<NUM>` is said at {_percent(after['accuracy'])} of the numbers "
            f"(before: {_percent(before['accuracy'])}), its mean rank goes from "
            f"{format_figure(before['mean_rank'])} to {format_figure(after['mean_rank'])}, and "
            f"{_percent(after['exact_match'])} of the values are exactly right; root mean square "
            f"error over all slots {format_figure(before['rmse_all'])} → "
            f"{format_figure(after['rmse_all'])}."
        )
    phrases = missed(finetuned)
    if phrases:
        lines += ["", "**Targets missed:**", "", *(f"- {phrase}" for phrase in phrases)]
    else:
        lines += ["", "**Every target was met.**"]
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def user_name() -> str:
    """The name in git's configuration, or the system's user."""
    command = ["git", "config", "user.name"]
    try:
        name = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        name = ""
    return name or getpass.getuser()
