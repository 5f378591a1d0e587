"""The files of a finished run, read into one object that the charts and the report draw from."""

import csv
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from callbacks.floors import FLOORS_FILE, Floors
from callbacks.learning_curve import CURVE_FILE, Curves
from callbacks.results import Results, load_results
from callbacks.run_folder import RUN_FILE, read_json

ANSWERS_FILE = "finetuned_answers.csv"

Curve = list[tuple[int, float]]


class Answer(NamedTuple):
    """One slot of an evaluation set and what the model answered; None where a field is empty."""

    name: str
    truth: float
    answer: float | None
    low: float | None
    high: float | None
    copied: bool
    level: float | None
    calibrated_level: float | None


@dataclass(frozen=True, slots=True)
class RunFiles:
    """What a run folder holds.

    Attributes:
        folder: The folder.
        run: Content of `run.json`.
        baseline: Results before fine-tuning.
        finetuned: Results after.
        floors: Figures of the answers without understanding, by set and floor.
        answers: The fine-tuned model's answers.
        curves: Scalars of TensorBoard by tag, as pairs of step and value.
        scorings: Figures of every set in the middle of training; empty where nothing was scored.
    """

    folder: Path
    run: dict[str, Any]
    baseline: Results
    finetuned: Results
    floors: Floors
    answers: list[Answer]
    curves: dict[str, Curve]
    scorings: Curves

    @property
    def sets_with_slots(self) -> list[str]:
        """Names of the sets whose texts have numbers to say."""
        return [name for name, entry in self.finetuned.items() if entry["slots"]]


def read_run(folder: Path) -> RunFiles:
    """Read a run folder.

    Raises:
        FileNotFoundError: If the run was not evaluated before and after.
    """
    baseline, finetuned = load_results(folder)
    return RunFiles(
        folder=folder,
        run=read_json(folder / RUN_FILE),
        baseline=baseline,
        finetuned=finetuned,
        floors=read_json(folder / FLOORS_FILE),
        answers=read_answers(folder / ANSWERS_FILE),
        curves=read_curves(folder),
        scorings=read_json(folder / CURVE_FILE) if (folder / CURVE_FILE).exists() else {},
    )


def read_answers(file: Path) -> list[Answer]:
    """The rows of a file of answers."""
    with file.open(encoding="utf-8", newline="") as lines:
        return [
            Answer(
                name=row["set"],
                truth=float(row["truth"]),
                answer=_number(row["answer"]),
                low=_number(row["low"]),
                high=_number(row["high"]),
                copied=_number(row["source"]) not in (None, -1.0),
                level=_number(row["level"]),
                calibrated_level=_number(row["calibrated_level"]),
            )
            for row in csv.DictReader(lines)
        ]


def _number(cell: str) -> float | None:
    return float(cell) if cell else None


def read_curves(folder: Path) -> dict[str, Curve]:
    """All `train/` and `val/` scalars in a folder's TensorBoard event files.

    What a run that was resumed had logged beyond the checkpoint is not among them.
    """
    # Here: the options need no reader.
    from tensorboard.backend.event_processing import event_accumulator

    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells how much that was
    events = event_accumulator.EventAccumulator(
        str(folder), size_guidance={event_accumulator.SCALARS: 0}
    ).Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()[event_accumulator.SCALARS]
        if tag.startswith(("train/", "val/"))
    }
