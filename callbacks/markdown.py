"""Markdown for people: tables, figures as text, and text of others that must stay text."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from callbacks.run_files import RunFiles
from callbacks.words import Language, Words, set_label, words

_TEMPLATES = Path(__file__).parent / "templates"
_SHARES = {"accuracy", "precision", "recall", "f1", "false_positive_rate", "agreement"}
_MARKUP = re.compile(r"([\\`*_\[\]<>|&~$#])")


def table(headings: Iterable[str], rows: Iterable[list[str]]) -> str:
    """A table; cells are Markdown already.

    >>> print(table(["a", "b"], [["1", "2"]]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    headings = list(headings)
    lines = [f"| {' | '.join(headings)} |", "|" + "---|" * len(headings)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def cell(text: str) -> str:
    r"""Text of others for a cell: on one line, and nothing in it is Markdown or HTML.

    >>> print(cell("a|b <i> `c`"))
    a\|b \<i\> \`c\`
    """
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def figure_text(figure: float | None) -> str:
    """A figure: four significant digits, "-" where there is none.

    >>> [figure_text(figure) for figure in (None, 0.0, 0.12345, 82046.3, 1.2345e-7, 5e9)]
    ['-', '0', '0.1235', '82,046', '1.23e-07', '5.00e+09']
    """
    if figure is None:
        return "-"
    if figure and not 1e-4 <= abs(figure) < 1e7:
        return f"{figure:.2e}"
    return f"{figure:,.0f}" if abs(figure) >= 1000 else f"{figure:.4g}"


def percent(share: float | None) -> str:
    """A share in percent.

    >>> percent(1.0), percent(0.98765), percent(None)
    ('100 %', '98.77 %', '-')
    """
    return "-" if share is None else f"{round(100 * share, 2):g} %"


def metric_text(metric: str, figure: float | None) -> str:
    """A figure as its metric is written: shares in percent."""
    is_share = metric in _SHARES or "exact_match" in metric or "coverage" in metric
    return percent(figure) if is_share else figure_text(figure)


class SetTables:
    """What tables of a run have in common: names, words and figures with intervals.

    Args:
        run: The run.
        language: Of the words.
    """

    def __init__(self, run: RunFiles, language: Language) -> None:
        self.run = run
        self.language = language
        self.word: Words = words(language)

    def label(self, name: str) -> str:
        """A set's name as a cell."""
        return cell(set_label(name, self.language))

    def by_set(self, headings: Iterable[str], rows: Iterable[list[str]]) -> str:
        """A table whose first column is the set."""
        return table([self.word("set"), *headings], rows)

    def metric_names(self, metrics: Iterable[str]) -> list[str]:
        """The words of metrics."""
        return [self.word(f"metric.{metric}") for metric in metrics]

    def with_interval(self, entry: dict[str, Any], metric: str, mark: str = "") -> str:
        """A figure and its 95 % interval; `mark` is put around the figure."""
        text = f"{mark}{metric_text(metric, entry[metric])}{mark}"
        interval = entry["intervals"].get(metric)
        if not interval or entry[metric] is None:
            return text
        return f"{text} \\[{', '.join(metric_text(metric, end) for end in interval)}\\]"


def markdown_template(name: str) -> Template:
    """A template that writes Markdown; its filters `cell`, `figure` and `percent` write data."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown: `cell` escapes what comes from data
    )
    environment.filters |= {"cell": cell, "figure": figure_text, "percent": percent}
    return environment.get_template(name)
