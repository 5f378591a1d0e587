"""The report of a run as Markdown: goal, method, metrics, results, charts, conclusion."""

import getpass
import subprocess
import time
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.fabric.utilities.rank_zero import rank_zero_info

from callbacks.charts import CHARTS
from callbacks.evaluation import Results, format_figure, load_results
from callbacks.run_folder import RUN_FILE, read_json, run_folder
from callbacks.targets import SETS, TARGETS, missed

_METRICS = {
    "accuracy": "share of number slots where `<NUM>` is the most probable next token (higher is better)",
    "mean_rank": "mean rank of `<NUM>` among all tokens at the slots (1 is best)",
    "mean_prob": "mean probability of `<NUM>` at the slots (higher is better)",
    "rmse": "root mean square error over the slots where `<NUM>` was predicted; - where it never was (lower is better)",
    "rmse_all": "root mean square error over every slot (lower is better)",
    "mae": "mean absolute error over every slot (lower is better)",
    "exact_match": "share of slots whose printed number is exactly the true one (higher is better)",
    "exact_match_without_pointer": "the same when the head may not copy and answers with a new value",
    "precision": "of `<NUM>` over every position of the text, numbers or not (higher is better)",
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
            text = report(baseline, finetuned, read_json(folder / RUN_FILE), self.author or user_name())
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
    model = Path(run["hyperparameters"]["qwen_model_path"]).name
    seconds = ", ".join(f"{name.replace('_', ' ')} {value:.0f} s" for name, value in run["seconds"].items())
    versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
    parts = [
        f"# NumLM: {model} before and after fine-tuning",
        f"Author: {author}  \nDate: {time.strftime('%Y-%m-%d')}",
        "## Goal",
        "A causal language model learns **when** to say a number and **what** number. The same model is evaluated before and "
        "after fine-tuning on the same four sets; nothing but the training lies between the two columns.",
        "## Method",
        "A number in text is one token, `<NUM>`, whose value is read through a clock of phases of its logarithm. At every "
        "position a token head decides whether a number comes next; a number head answers with a distribution over values, as a "
        "mixture of copies of the text's earlier numbers and a new value.",
        f"Model: `{model}`, {run['parameters']:,} parameters. Training: {run['steps']} steps, seed {run['seed']}, "
        f"precision {run['precision']}. Device: {run['device']}. Time: {seconds}. Versions: {versions}.",
        "## Metrics",
        "\n".join(f"- `{name}`: {meaning}" for name, meaning in _METRICS.items()),
        f"Every set has {next(iter(finetuned.values()))['texts']} texts. A third of them is worded in sentences that training "
        "never shows (`unseen`).",
        "## Results",
        _before_after(baseline, finetuned),
        "By wording, after fine-tuning:",
        _by_wording(finetuned),
        "## Charts",
        "\n\n".join(f"![{title}]({name}.png)" for name, _, title, *_ in CHARTS),
        "## Conclusion",
        _conclusion(baseline, finetuned),
    ]
    return "\n\n".join(parts) + "\n"


def _before_after(baseline: Results, finetuned: Results) -> str:
    bounds = {(t.metric, name): (t, bound) for t in TARGETS for name, bound in zip(SETS, t.bounds, strict=True)}
    rows = ["| metric | " + " | ".join(finetuned) + " |", "|---|" + "---|" * len(finetuned)]
    for metric in _METRICS:
        cells = []
        for name in finetuned:
            after = finetuned[name][metric]
            cell = f"{format_figure(baseline[name][metric])} → **{format_figure(after)}**"
            if (metric, name) in bounds:
                target, bound = bounds[metric, name]
                cell += "" if target.met(after, bound) else f" (missed: {'≥' if target.at_least else '≤'} {bound:g})"
            cells.append(cell)
        rows.append(f"| {metric} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _by_wording(results: Results) -> str:
    groups = ("seen", "unseen")
    rows = ["| metric | " + " | ".join(f"{name}, {group}" for name in results for group in groups) + " |"]
    rows.append("|---|" + "---|" * (len(results) * len(groups)))
    for metric in _METRICS:
        cells = [format_figure(results[name][group][metric]) for name in results for group in groups]
        rows.append(f"| {metric} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _conclusion(baseline: Results, finetuned: Results) -> str:
    sentences = []
    for name, after in finetuned.items():
        before = baseline[name]
        sentences.append(
            f"- **{name}**: `<NUM>` is said at {_percent(after['accuracy'])} of the numbers (before: "
            f"{_percent(before['accuracy'])}), its mean rank goes from {format_figure(before['mean_rank'])} to "
            f"{format_figure(after['mean_rank'])}, and {_percent(after['exact_match'])} of the values are exactly right (before: "
            f"{_percent(before['exact_match'])}); root mean square error over all slots {format_figure(before['rmse_all'])} → "
            f"{format_figure(after['rmse_all'])}."
        )
    phrases = missed(finetuned)
    if phrases:
        sentences.append("\n**Targets missed:**\n\n" + "\n".join(f"- {phrase}" for phrase in phrases))
    else:
        sentences.append("\n**Every target was met.**")
    return "\n".join(sentences)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def user_name() -> str:
    """The name in git's configuration, or the system's user."""
    try:
        name = subprocess.run(["git", "config", "user.name"], capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        name = ""
    return name or getpass.getuser()
