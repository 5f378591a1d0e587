r"""A table as sentences: how far will diabetes have progressed after a year?

    python examples/diabetes.py                # five folds, from data to report
    python examples/diabetes.py --folds 1      # a first look

scikit-learn's diabetes table (442 people, ten measurements, progression after a year; Efron et al.
2004, "Least angle regression") is written as one sentence a person. On every fold `train.py fit`
tunes the embedded checkpoint on the sentences, evaluates it before and after, and measures its
floors, the base model's own digits among them; ridge regression and gradient boosting get the
same people as a table. `report.md`, `results.json` and a chart are written beside the folds' own
reports.

Measurements have an error, so the training file holds every person several times with measurements
a little different (training with noise is Tikhonov regularization, Bishop 1995), and a score
depends on their sizes, so the model reads three hands of the clock instead of nine and answers
with none (last digits would be learned by heart). 40 of the training people are kept out of the
training to calibrate the intervals on; the methods for tables learn from them too.
"""

import argparse
import csv
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

mpl.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
CONFIG = Path(__file__).with_suffix(".yaml")
# name in the sentence and decimals of each of the table's columns; the eighth is a ratio, the
# ninth a logarithm
COLUMNS = (
    ("age", 0), ("sex", None), ("weight", 1), ("pressure", 0), ("total", 0), ("LDL", 1),
    ("HDL", 0), ("ratio", 2), ("fat", 0), ("sugar", 0),
)  # fmt: skip
METHODS = {
    "numlm": "NumLM, from sentences",
    "ridge": "ridge regression, on the table",
    "gradient_boosting": "gradient boosting, on the table",
    "training_median": "median of the training people",
    "digits": "the base model's own digits",
}
LEVEL = 80


def measurements(table: np.ndarray) -> np.ndarray:
    """The ten columns as people write them: the ninth as triglycerides, not as their logarithm."""
    written = table.copy()
    written[:, 8] = np.exp(written[:, 8])
    return written


def sentence(person: Sequence[float]) -> str:
    """What is known of a person, up to where the progression is due.

    >>> sentence([59, 2, 32.1, 101, 157, 93.2, 38, 4, 129.7, 87])[:44]
    'age 59, sex 2, weight 32.1, pressure 101, to'
    """
    parts = (
        f"{name} {value:.{decimals or 0}f}"
        for (name, decimals), value in zip(COLUMNS, person, strict=True)
    )
    return ", ".join(parts) + ". The score is"


def remeasured(people: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """Measurements with an error of a share of each column's standard deviation; the sex stays."""
    measured = np.array([decimals is not None for _, decimals in COLUMNS])
    error = share * people.std(0) * random.standard_normal(people.shape) * measured
    return np.maximum(people + error, 1.0)


def write_rows(path: Path, people: np.ndarray, scores: np.ndarray) -> None:
    """Write people as rows of own data."""
    with path.open("w", encoding="utf-8") as file:
        for person, score in zip(people, scores, strict=True):
            row = {"prompt": sentence(person.tolist()), "answer": f"{score:.0f}"}
            file.write(json.dumps(row) + "\n")


def run_fold(
    folder: Path, people: np.ndarray, scores: np.ndarray, parts: dict[str, np.ndarray],
    options: argparse.Namespace,
) -> dict[str, Any]:  # fmt: skip
    """Tune on one fold and compare.

    Returns:
        `rmse` by method, `coverage` of the calibrated 80 % interval, `seconds` of the whole fit.
    """
    folder.mkdir(parents=True)
    random = np.random.default_rng(options.seed)
    train, known = parts["train"], np.concatenate([parts["train"], parts["validation"]])
    copies = [remeasured(people[train], options.noise, random) for _ in range(options.copies)]
    write_rows(folder / "train.jsonl", np.concatenate(copies), np.tile(scores[train], len(copies)))
    for role in ("validation", "test"):
        write_rows(folder / f"{role}.jsonl", people[parts[role]], scores[parts[role]])
    start = time.monotonic()
    subprocess.run(
        [
            sys.executable, str(ROOT / "train.py"), "fit", "--config", str(CONFIG),
            "--data.train_file", str(folder / "train.jsonl"),
            "--data.val_file", str(folder / "validation.jsonl"),
            "--data.test_file", str(folder / "test.jsonl"),
            "--data.cache_dir", str(folder / "cache"),
            "--trainer.logger.save_dir", str(folder), "--trainer.logger.run", "run",
            "--seed_everything", str(options.seed), *options.train_options,
        ],
        check=True,
    )  # fmt: skip
    seconds = time.monotonic() - start
    tuned = json.loads((folder / "run" / "finetuned_results.json").read_text())["test"]
    floors = json.loads((folder / "run" / "floors.json").read_text())["test"]
    test, truth = parts["test"], scores[parts["test"]]
    columns = people.copy()
    columns[:, 8] = np.log(columns[:, 8])  # as the table has it
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 40)))
    boosting = GradientBoostingRegressor(random_state=0)
    return {
        "rmse": {
            "numlm": tuned["rmse_all"],
            **{
                name: rmse(model.fit(columns[known], scores[known]).predict(columns[test]), truth)
                for name, model in (("ridge", ridge), ("gradient_boosting", boosting))
            },
            "training_median": rmse(np.full(len(truth), np.median(scores[known])), truth),
            "digits": floors["digits"]["rmse_all"],
        },
        "coverage": tuned[f"calibrated_coverage_{LEVEL}"],
        "accuracy": tuned["accuracy"],
        "people": len(truth),
        "seconds": round(seconds, 1),
    }  # fmt: skip


def rmse(answers: np.ndarray, truth: np.ndarray) -> float:
    """Root mean square error.

    >>> rmse(np.array([1.0, 5.0]), np.array([1.0, 1.0])) == 8**0.5
    True
    """
    return math.sqrt(float(np.mean((answers - truth) ** 2)))


def summary(folds: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over folds, and the figures that the example is judged by."""

    def median(name: str) -> float | None:
        errors = [fold["rmse"][name] for fold in folds]
        return None if None in errors else statistics.median(errors)

    errors = {name: median(name) for name in METHODS}
    people = sum(fold["people"] for fold in folds)
    return {
        "rmse": errors,
        "over_ridge": statistics.median(f["rmse"]["numlm"] / f["rmse"]["ridge"] for f in folds),
        "below_median_floor": statistics.median(
            1 - f["rmse"]["numlm"] / f["rmse"]["training_median"] for f in folds
        ),
        "coverage": statistics.median(fold["coverage"] for fold in folds),
        "coverage_of_all": sum(f["coverage"] * f["people"] for f in folds) / people,
        "seconds": round(sum(fold["seconds"] for fold in folds), 1),
    }


def draw(folder: Path, folds: list[dict[str, Any]]) -> None:
    """Errors by method and fold, and every test person's score beside its interval."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for place, name in enumerate(reversed(METHODS)):
        errors = [fold["rmse"][name] for fold in folds if fold["rmse"][name] is not None]
        color = "#0072b2" if name == "numlm" else "#999999"
        if errors:
            left.barh(place, statistics.median(errors), color=color, alpha=0.75)
            left.plot(errors, [place] * len(errors), "o", color="black", markersize=3)
        else:
            left.text(1, place, "writes no number", va="center", color="#555555")
    left.set_yticks(range(len(METHODS)), list(reversed(METHODS.values())))
    left.set_xlabel("RMSE of the score (median over folds; dots: folds; lower is better)")
    rows = [row for index in range(len(folds)) for row in answers(folder / f"fold_{index}")]
    rows.sort(key=lambda row: row["answer"])
    places = range(len(rows))
    inside = [row["low"] <= row["truth"] <= row["high"] for row in rows]
    right.fill_between(
        places, [row["low"] for row in rows], [row["high"] for row in rows],
        color="#0072b2", alpha=0.2, linewidth=0, label=f"{LEVEL} % interval",
    )  # fmt: skip
    right.plot(places, [row["answer"] for row in rows], color="#0072b2", label="answer")
    for held, color, label in (
        (True, "black", "true, inside"),
        (False, "#d55e00", "true, outside"),
    ):
        chosen = [i for i in places if inside[i] == held]
        right.plot(
            chosen, [rows[i]["truth"] for i in chosen], ".", color=color, markersize=4, label=label
        )
    right.set_ylim(0, 380)
    right.set_xlabel("test people of all folds, by answer")
    right.set_ylabel("progression after a year")
    right.legend(frameon=False, loc="upper left")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(folder / "diabetes.png", dpi=130)
    plt.close(figure)


def answers(fold: Path) -> list[dict[str, float]]:
    """What the tuned model answered on a fold."""
    with (fold / "run" / "finetuned_answers.csv").open(encoding="utf-8", newline="") as file:
        return [
            {name: float(row[name]) for name in ("truth", "answer", "low", "high")}
            for row in csv.DictReader(file)
        ]


def report(folds: list[dict[str, Any]], found: dict[str, Any], command: str) -> str:
    """The comparison as Markdown."""

    def text(error: float | None) -> str:
        return "-" if error is None else f"{error:.2f}"

    heads = [f"fold {index}" for index in range(len(folds))]
    lines = [
        "# Diabetes progression, from sentences", "",
        f"> {sentence([59, 2, 32.1, 101, 157, 93.2, 38, 4, 129.7, 87])} **151**", "",
        f"| RMSE | median | {' | '.join(heads)} |", "|---|" + "---|" * (len(folds) + 1),
    ]  # fmt: skip
    silent = found["rmse"]["digits"] is None
    for name, title in METHODS.items():
        title += " (none written)" if name == "digits" and silent else ""
        errors = " | ".join(text(fold["rmse"][name]) for fold in folds)
        lines.append(f"| {title} | **{text(found['rmse'][name])}** | {errors} |")
    coverage = " | ".join(f"{fold['coverage']:.1%}" for fold in folds)
    lines += [
        f"| coverage of the {LEVEL} % interval | **{found['coverage']:.1%}** | {coverage} |", "",
        f"NumLM's error is {found['over_ridge']:.3f} times that of ridge regression and "
        f"{found['below_median_floor']:.1%} below that of the median (medians over folds); of all "
        f"test people {found['coverage_of_all']:.1%} are inside their {LEVEL} % interval.", "",
        "![Errors by method, and every test person beside its interval](diabetes.png)", "",
        f"`{command}`: {found['seconds'] / 60:.1f} minutes. Each fold's own report is "
        "`fold_K/run/report.html`.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> Path:
    """Run the folds and write the comparison; returns its folder."""
    parser = argparse.ArgumentParser(
        description="Tune on the diabetes table as sentences; compare with methods for tables.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--folds", type=int, default=5, help="how many of the five folds are run")
    parser.add_argument("--people", type=int, default=442, help="how many people are taken")
    parser.add_argument("--copies", type=int, default=30, help="texts of every training person")
    parser.add_argument(
        "--noise", type=float, default=0.25, help="their error, in standard deviations"
    )
    parser.add_argument(
        "--calibration", type=int, default=40, help="people kept for the intervals"
    )
    parser.add_argument(
        "--seed", type=int, default=7, help="of the folds, the errors, the training"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "results", help="folder of results")
    options, options.train_options = parser.parse_known_args(arguments)
    folder = options.out / f"diabetes_{time.strftime('%Y%m%d_%H%M%S')}"
    data = load_diabetes(scaled=False)
    people, scores = measurements(data.data)[: options.people], data.target[: options.people]
    folds = []
    splits = KFold(5, shuffle=True, random_state=options.seed).split(people)
    for index, (known, test) in enumerate(list(splits)[: options.folds]):
        known = np.random.default_rng(options.seed + index).permutation(known)
        parts = {
            "validation": known[: options.calibration],
            "train": known[options.calibration :],
            "test": test,
        }
        folds.append(run_fold(folder / f"fold_{index}", people, scores, parts, options))
        print(f"fold {index}: {json.dumps(folds[-1])}", flush=True)
    found = summary(folds)
    results = {
        "options": {**vars(options), "out": options.out.name},
        "summary": found,
        "folds": folds,
    }
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    draw(folder, folds)
    text = report(folds, found, "python examples/diabetes.py")
    (folder / "report.md").write_text(text, encoding="utf-8")
    print(f"\n{text}\nReport written to {folder / 'report.md'}")
    return folder


if __name__ == "__main__":
    main()
