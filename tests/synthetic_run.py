"""A run folder made of invented figures, which the tests of charts and report read."""

import csv
import json
import random
from pathlib import Path
from statistics import NormalDist
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from callbacks.learning_curve import FIGURES

SETS = (
    "basic",
    "question_answering",
    "extreme_values",
    "boundary_values",
    "noisy_readings",
    "ordinary_text",
)
AWKWARD_TEXT = "A <script>alert('x')</script> | `tick` *star* [link](http://example.com) shows 7"
SHARES = ("accuracy", "exact_match", "exact_match_without_pointer", "precision", "recall", "f1")
ERRORS = ("rmse", "rmse_all", "mae", "median_relative_error", "crps")
COVERAGES = tuple(
    f"{kind}coverage_{level}" for kind in ("", "calibrated_") for level in (50, 80, 95)
)
ANSWER_COLUMNS = (
    "set record language wording distractors prompt truth answer printed low high source rank prob "
    "level calibrated_level crps"
).split()


def figures(share: float | None, error: float | None, slots: int = 60) -> dict[str, Any]:
    return {
        **dict.fromkeys(SHARES, share),
        **dict.fromkeys(ERRORS, error),
        **dict.fromkeys(COVERAGES, None if share is None else 0.9),
        "mean_rank": None if share is None else 1 + 500 * (1 - share),
        "mean_prob": share,
        "false_positive_rate": 0.0125,
        "perplexity": None,
        "slots": slots,
        "texts": 60,
        "positions": 900,
    }


def entry(values: dict[str, Any], **more: Any) -> dict[str, Any]:
    numbers = {k: v for k, v in values.items() if k not in ("slots", "texts", "positions")}
    return {
        **values,
        "intervals": {k: None if v is None else [0.9 * v, v] for k, v in numbers.items()},
        "groups": {
            group: values
            for group in ("seen", "unseen", "en", "zh", "with_distractors", "without_distractors")
        },
        "by_magnitude": [],
        "mistakes": [],
        "worst": [],
        **more,
    }


def results(names: tuple[str, ...], tuned: bool) -> dict[str, dict[str, Any]]:
    found = {}
    for name in names:
        if name == "ordinary_text":
            plain = figures(None, None, slots=0) | {"perplexity": 3.15 if tuned else 3.125}
            found[name] = entry(plain) | ({"agreement": 0.9375} if tuned else {})
        elif name == "noisy_readings":
            found[name] = entry(figures(0.99 if tuned else 0.0, 1.65 if tuned else 9.0))
            found[name]["exact_match"] = 0.05
            found[name] |= {"calibrated_coverage_95": 0.95, "coverage_95": 0.8125}
        else:
            found[name] = entry(figures(1.0 if tuned else 0.0, 0.0 if tuned else 246.75))
    if tuned and "basic" in found:
        found["basic"]["by_magnitude"] = [
            decade(0.0, 0.0, 4),
            decade(None, 1e-6, 2),
            decade(1.0, 10.0, 30),
            decade(1e6, None, 1),
        ]
        found["basic"]["mistakes"] = [
            {"context": "at | the `gate`", "said": "<NUM>", "right": " red", "count": 3}
        ]
        found["basic"]["worst"] = [
            {"text": AWKWARD_TEXT, "truth": 7, "answer": 8.5, "low": None, "high": 9, "record": 3}
        ]
    return found


def decade(low: float | None, high: float | None, slots: int) -> dict[str, Any]:
    return {
        "from": low,
        "to": high,
        "slots": slots,
        "exact_match": 0.75,
        "median_relative_error": None,
        "rmse_all": 0.5,
    }


def floors(names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    def floor(error: float, beaten: bool | None, answered: float = 1.0) -> dict[str, Any]:
        return {
            "rmse_all": error,
            "mae": error / 2,
            "median_relative_error": 0.5,
            "exact_match": 0.125,
            "answered": answered,
            "slots": 60,
            "answer": None,
            "beaten": beaten,
        }

    found = {}
    for name in names:
        if name == "ordinary_text":
            continue
        found[name] = {
            "training_median": floor(42.0, True),
            "training_mean": floor(41.0, True),
            "best_constant": floor(40.0, True),
            "last_number": floor(0.0 if name == "boundary_values" else 12.0, True),
            "digits": floor(3.0, True, answered=0.9),
        }
    if "noisy_readings" in found:
        found["noisy_readings"]["last_number"] = floor(1.6, False)
        found["noisy_readings"]["best_possible"] = {**floor(1.5, None), "rmse_over_best": 1.1}
    return found


def answers(names: tuple[str, ...]) -> list[dict[str, Any]]:
    draw = random.Random(0)
    rows = []
    for name in names:
        for record in range(0 if name == "ordinary_text" else 60):
            truth = draw.uniform(0, 100)
            if name == "extreme_values":
                truth = draw.choice((-1, 1)) * 10 ** draw.uniform(-5, 6)
            if name == "boundary_values":
                truth = draw.choice((0.0, 1.0, round(draw.random(), 3)))
            noise = draw.gauss(0, 4) if name == "noisy_readings" else 0.0
            level = 2 * NormalDist().cdf(abs(noise) / 4) - 1
            rows.append(
                dict.fromkeys(ANSWER_COLUMNS, "")
                | {
                    "set": name,
                    "record": record,
                    "truth": truth,
                    "answer": truth + noise,
                    "low": truth + noise - 7.8 if noise else truth,
                    "high": truth + noise + 7.8 if noise else truth,
                    "source": -1 if noise else 0,
                    "level": level**0.8,
                    "calibrated_level": level,
                }
            )
    return rows


def scorings(names: list[str]) -> dict[str, list[dict[str, Any]]]:
    """A learning curve, in which the rank falls and every share rises."""
    return {
        name: [
            {
                "step": step,
                **dict.fromkeys(FIGURES, step / 400),
                "mean_rank": 1000 ** (1 - step / 400),
            }
            for step in (0, 100, 200, 400)
        ]
        for name in names
    }


def write_run(folder: Path, names: tuple[str, ...] = SETS, calibrated: bool = True) -> Path:
    """Write every file of a run, TensorBoard's events among them."""
    folder.mkdir(parents=True, exist_ok=True)
    run = {
        "command": "python train.py fit --seed_everything 42",
        "started": "2026-11-24 00:01:13",
        "versions": {"python": "3.11.7", "torch": "2.13.0+cpu"},
        "device": "cpu, 2 cores (x86_64)",
        "processes": 1,
        "threads": 2,
        "precision": "32-true",
        "parameters": 1829872,
        "steps": 1200,
        "seed": "42",
        "token_head": "SoftmaxHead",
        "hyperparameters": {"qwen_model_path": "assets/tiny-qwen2", "lr": 0.001},
        "data": [],
        "seconds": {"baseline_evaluation": 2.1, "training": 247.2, "floors": 9.0},
        "tokens": 1450212,
        "tokens_per_second": 5867,
        "peak_memory_gib": 1.02,
        "calibration": {"answers": 321, "50": 0.4, "80": 0.76, "95": 0.97} if calibrated else None,
    }
    contents = {
        "run.json": run,
        "baseline_results.json": results(names, tuned=False),
        "finetuned_results.json": results(names, tuned=True),
        "floors.json": floors(names),
        "learning_curve.json": scorings([name for name in names if name != "ordinary_text"]),
    }
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    for name in ("baseline_answers.csv", "finetuned_answers.csv"):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, ANSWER_COLUMNS)
            table.writeheader()
            table.writerows(answers(names))
    with SummaryWriter(str(folder)) as writer:
        for step in range(0, 400, 10):
            for loss in ("token", "value", "pointer", "loss"):
                writer.add_scalar(f"train/{loss}", 3 / (1 + step / 40), step)
        for loss in ("token", "value", "pointer", "loss"):
            writer.add_scalar(f"val/{loss}", 0.4, 399)
    return folder
