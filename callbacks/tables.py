"""The report's tables of figures: before and after, floors, groups of texts."""

from collections.abc import Callable, Sequence

from callbacks.findings import (
    PUBLISHED_ERRORS,
    PUBLISHED_RANKS,
    misses,
    strongest_floor,
    unbeaten_floors,
)
from callbacks.markdown import SetTables, cell, figure_text, metric_text, percent, table
from callbacks.words import knows_set

METRICS = (
    *("accuracy", "mean_rank", "mean_prob", "precision", "recall", "f1", "false_positive_rate"),
    *("rmse_all", "rmse", "mae", "median_relative_error"),
    *("exact_match", "exact_match_without_pointer"),
    *("coverage_50", "coverage_80", "coverage_95"),
    *("calibrated_coverage_50", "calibrated_coverage_80", "calibrated_coverage_95"),
    *("crps", "perplexity"),
)


class FigureTables(SetTables):
    """Tables of the figures of every set."""

    def sets(self) -> str:
        """What the sets are."""
        return self.by_set(
            [self.word("texts"), self.word("slots"), self.word("content")],
            (
                [
                    self.label(name),
                    str(entry["texts"]),
                    str(entry["slots"]),
                    self.word(f"about.{name if knows_set(name) else 'own'}"),
                ]
                for name, entry in self.run.finetuned.items()
            ),
        )

    def own_data(self) -> str:
        """Where own rows come from, and how many took no part; empty for generated text."""
        sources = self.run.run["data"]
        headings = ("role", "source", "rows", "skipped")
        return (
            ""
            if not sources
            else table(
                [self.word(f"data.{heading}") for heading in headings],
                (
                    [
                        self.word(f"data.{source['role']}"),
                        cell(source["source"]),
                        str(source["rows"]),
                        str(source["skipped"]),
                    ]
                    for source in sources
                ),
            )
        )

    def headline(self) -> str:
        """Main figures before and after, beside floors and published figures."""
        word = self.word
        # A user's own sets have no published figures, so no column for them.
        published = any(name in PUBLISHED_ERRORS for name in self.run.finetuned)
        return self.by_set(
            [
                f"`<NUM>` {word('metric.accuracy')}",
                *self.metric_names(("mean_rank", "exact_match", "rmse_all")),
                word("strongest_floor"),
                *([word("published")] if published else []),
            ],
            (
                [
                    self.label(name),
                    *(
                        self._before_after(name, metric)
                        for metric in ("accuracy", "mean_rank", "exact_match", "rmse_all")
                    ),
                    self._strongest_floor(name),
                    *([_published(name)] if published else []),
                ]
                for name in self.run.finetuned
            ),
        )

    def _strongest_floor(self, name: str) -> str:
        found = strongest_floor(self.run, name)
        if found is None:
            return "-"
        text = f"{figure_text(found[1])} ({self.word(f'floor.{found[0]}')})"
        marked = name in unbeaten_floors(self.run)
        return f"{text} {self.word('not_beaten')}" if marked else text

    def _before_after(self, name: str, metric: str) -> str:
        before, entry = self.run.baseline[name][metric], self.run.finetuned[name]
        after = entry[metric]
        if before is None and after is None:
            return "-"
        return f"{metric_text(metric, before)} → {self.with_interval(entry, metric, mark='**')}"

    def every_metric(self) -> str:
        """All figures before and after; a missed target is printed beside its figure."""
        missed = {(miss.metric, miss.name): miss for miss in misses(self.run.finetuned)}

        def content(name: str, metric: str) -> str:
            text = self._before_after(name, metric)
            if miss := missed.get((metric, name)):
                text += (
                    f" (⚠ {self.word('missed')}: {miss.symbol} {metric_text(metric, miss.bound)})"
                )
            return text

        return self._by_metric(self._metrics(), content)

    def _by_metric(self, metrics: Sequence[str], content: Callable[[str, str], str]) -> str:
        names = list(self.run.finetuned)
        return table(
            [self.word("metric"), *map(self.label, names)],
            (
                [heading, *(content(name, metric) for name in names)]
                for metric, heading in zip(metrics, self.metric_names(metrics), strict=True)
            ),
        )

    def _metrics(self) -> list[str]:
        """The figures of this run: those after calibration only where there was one."""
        calibrated = bool(self.run.run["calibration"])
        return [name for name in METRICS if calibrated or not name.startswith("calibrated_")]

    def groups(self, first: str, second: str) -> str:
        """All figures of two groups of texts, `first / second`."""

        def content(name: str, metric: str) -> str:
            groups = self.run.finetuned[name]["groups"]
            figures = [groups.get(group, {}).get(metric) for group in (first, second)]
            if figures == [None, None]:
                return "-"
            return " / ".join(metric_text(metric, figure) for figure in figures)

        return self._by_metric(self._metrics(), content)

    def floors(self) -> str:
        """Every floor on every set, and the model below them."""
        metrics = ("rmse_all", "mae", "median_relative_error", "exact_match")
        beaten = {True: self.word("yes"), False: self.word("not_beaten"), None: "-"}
        level = self.word("level")  # nothing is below an error of zero
        rows = []
        for name, floors in self.run.floors.items():
            for index, (floor, entry) in enumerate(floors.items()):
                rows.append(
                    [
                        self.label(name) if index == 0 else "",
                        self._floor_name(floor, entry["answer"]),
                        *(metric_text(metric, entry[metric]) for metric in metrics),
                        percent(1 - entry["answered"]) if entry["slots"] else "-",
                        level
                        if entry["beaten"] and not entry["rmse_all"]
                        else beaten[entry["beaten"]],
                    ]
                )
            tuned = self.run.finetuned[name]
            figures = (f"**{metric_text(metric, tuned[metric])}**" for metric in metrics)
            rows.append(["", f"**{self.word('floor.model')}**", *figures, "-", "-"])
        return self.by_set(
            [
                self.word("answers_by"),
                *self.metric_names(metrics),
                self.word("unparsable"),
                self.word("beaten"),
            ],
            rows,
        )

    def _floor_name(self, floor: str, constant: float | None) -> str:
        name = self.word(f"floor.{floor}")
        return name if constant is None else f"{name}: {figure_text(constant)}"


def _published(name: str) -> str:
    """Accuracy, mean rank and error of the report that this project answers."""
    if name not in PUBLISHED_ERRORS:
        return "-"
    rank, error = figure_text(PUBLISHED_RANKS[name]), f"{PUBLISHED_ERRORS[name]:,.2f}"
    return f"{percent(0.0)} → {percent(1.0)}; {rank} → 1; {error}"
