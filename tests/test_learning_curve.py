"""The learning curve: which steps are scored, the figures, files and charts; training goes on as it was."""

import io
import json
import os
import struct
import subprocess
import sys
import warnings
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from synthetic_run import scorings, write_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks.charts import write_charts
from callbacks.curve_plots import learning_curve
from callbacks.learning_curve import CURVE_FILE, FIGURES
from callbacks.plots import chart_style
from callbacks.report import report
from callbacks.results import BASELINE_FILE, FINETUNED_FILE
from callbacks.run_files import read_run
from callbacks.words import LANGUAGES, words
from train import main

ROOT = Path(__file__).resolve().parents[1]
ASKING = ["basic", "question_answering", "extreme_values", "boundary_values", "noisy_readings"]
TINY = ["--config", str(ROOT / "configs" / "smoke.yaml"), "--data.val_samples", "8"]


class Stop(Callback):
    """Ends a run as a fault would, before its fourth step."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == 3:
            raise RuntimeError("stopped")


def curve_callback(**options: Any) -> dict[str, Any]:
    return {"class_path": "callbacks.learning_curve.LearningCurve", "init_args": options}


def arguments(folder: Path, *callbacks: Any, steps: int = 3) -> list[str]:
    """Of a run with some callbacks alone."""
    first = ["callbacks.run_record.RunRecord", "callbacks.evaluation.BeforeAfterEvaluation"]
    named = [*({"class_path": path} for path in first), *callbacks]
    config = {"trainer": {"max_steps": steps, "callbacks": named}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "callbacks.yaml").write_text(json.dumps(config))  # JSON is YAML
    save = ["--trainer.logger.save_dir", str(folder)]
    return ["fit", *TINY, "--config", str(folder / "callbacks.yaml"), *save]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def steps_of(folder: Path) -> dict[str, list[int]]:
    curves = read(folder / "latest" / CURVE_FILE)
    return {name: [point["step"] for point in points] for name, points in curves.items()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of one run, in which a step has two batches, and what it printed."""
    folder, printed = tmp_path_factory.mktemp("results"), io.StringIO()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as each of two processes has: products of several round otherwise
    with redirect_stdout(printed):
        accumulate = ["--trainer.accumulate_grad_batches", "2"]
        main([*arguments(folder, curve_callback(every_n_steps=2)), *accumulate])
    torch.set_num_threads(threads)
    return folder, printed.getvalue()


def test_optimizer_steps_are_scored_once_with_the_first_and_the_last(
    run: tuple[Path, str],
) -> None:
    folder, printed = run
    assert steps_of(folder) == {name: [0, 2, 3] for name in ASKING}
    lines = [line for line in printed.splitlines() if "accuracy / exact match" in line]
    assert [line.split(",")[0] for line in lines] == ["step 0", "step 2", "step 3"]
    assert all(f" {name} " in line for name in ASKING for line in lines)


def test_the_ends_of_the_curve_are_the_evaluation_before_and_after(run: tuple[Path, str]) -> None:
    folder = run[0] / "latest"
    curves = read(folder / CURVE_FILE)
    for place, file in ((0, BASELINE_FILE), (-1, FINETUNED_FILE)):
        results = read(folder / file)
        for name, points in curves.items():
            wanted = {figure: results[name][figure] for figure in FIGURES}
            step = points[place]["step"]
            assert points[place] == {"step": step, **wanted}
    ranks = [point["mean_rank"] for point in curves["basic"]]
    assert len(set(ranks)) == 3


def test_tensorboard_and_seconds(run: tuple[Path, str]) -> None:
    folder = run[0] / "latest"
    curves = read(folder / CURVE_FILE)
    events = EventAccumulator(str(folder)).Reload()
    for name in ASKING:
        for figure in FIGURES:
            logged = events.Scalars(f"curve/{name}/{figure}")
            assert [event.step for event in logged] == [0, 2, 3]
            assert [event.value for event in logged] == pytest.approx(
                [point[figure] for point in curves[name]], rel=1e-6
            )
    seconds = read(folder / "run.json")["seconds"]
    assert 0 < seconds["learning_curve"] < seconds["training"]
    assert not list(folder.glob("*.tmp"))


@pytest.mark.slow
def test_chosen_sets_alone_are_scored(tmp_path: Path) -> None:
    chosen = curve_callback(every_n_steps=3, sets=["noisy_readings", "basic"])
    main(arguments(tmp_path, chosen))
    assert steps_of(tmp_path) == {"basic": [0, 3], "noisy_readings": [0, 3]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sets": ["basics"]}, r"\['basics'\], but those that ask for numbers are basic, quest"),
        ({"sets": ["basic", "ordinary_text"]}, "ordinary_text'], but those that ask for numbers"),
        ({"sets": []}, r"sets of LearningCurve is \[\], but"),
        ({"every_n_steps": 0}, "every_n_steps of LearningCurve is 0: give 1 or more"),
    ],
)
def test_what_cannot_be_scored_is_one_sentence_and_nothing_is_trained(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=message) as stop:
        main(arguments(tmp_path, curve_callback(**options)))
    assert str(stop.value.code).startswith("error: ")
    assert "\n" not in str(stop.value.code)
    assert not (tmp_path / "latest").exists()


@pytest.mark.slow
def test_training_is_the_same_with_and_without(tmp_path: Path) -> None:
    left: list[list[torch.Tensor]] = []
    for name, callbacks in (("with", [curve_callback(every_n_steps=1)]), ("without", [])):
        cli = main(arguments(tmp_path / name, *callbacks))
        (optimizer,) = cli.trainer.optimizers
        moments = [state["exp_avg"] for state in optimizer.state.values()]
        left.append([torch.get_rng_state(), *cli.model.parameters(), *moments])
        assert all(module.training for module in cli.model.modules())
    assert len(left[0]) == len(left[1])
    for one, other in zip(*left, strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_a_run_that_is_stopped_leaves_its_curve(tmp_path: Path) -> None:
    stop = {"class_path": f"{__name__}.Stop"}
    with pytest.raises(RuntimeError, match="stopped"):
        main(arguments(tmp_path, curve_callback(every_n_steps=2), stop, steps=5))
    assert steps_of(tmp_path) == {name: [0, 2] for name in ASKING}


def test_a_resumed_run_goes_on_with_the_curve(tmp_path: Path) -> None:
    curve = curve_callback(every_n_steps=1, sets=["basic"])
    main(arguments(tmp_path / "first", curve, steps=2))
    (checkpoint,) = (tmp_path / "first" / "latest" / "checkpoints").glob("*.ckpt")
    resume = ["--ckpt_path", str(checkpoint)]
    main([*arguments(tmp_path / "second", curve, steps=3), *resume, "--trainer.max_epochs", "2"])
    before = read(tmp_path / "first" / "latest" / CURVE_FILE)["basic"]
    after = read(tmp_path / "second" / "latest" / CURVE_FILE)["basic"]
    assert [point["step"] for point in after] == [0, 1, 2, 3]
    assert after[:3] == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "parallel",
    [["--trainer.strategy", "ddp"], ["--config", str(ROOT / "configs" / "fsdp.yaml")]],
    ids=["ddp", "fsdp"],
)
def test_two_processes_score_as_one(
    run: tuple[Path, str], parallel: list[str], tmp_path: Path
) -> None:
    """Of the same model every figure has the same digits; both processes go on together."""
    command = arguments(tmp_path, curve_callback(every_n_steps=2))
    subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *command, *parallel, "--trainer.devices", "2"],
        cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, timeout=300,
    )  # fmt: skip
    assert steps_of(tmp_path) == {name: [0, 2, 3] for name in ASKING}
    one, two = (read(folder / "latest" / CURVE_FILE) for folder in (run[0], tmp_path))
    for name in ASKING:
        assert two[name][0] == one[name][0]


def test_a_chart_is_drawn_in_both_languages_without_a_missing_glyph(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # "Glyph ... missing from font(s)"
        folder = write_run(tmp_path)
        assert "learning_curve" in write_charts(folder)
    for language, file in (("en", "learning_curve.png"), ("zh", "learning_curve.zh.png")):
        assert f"({file})" in report(read_run(folder), language, "somebody")
    images = [path.read_bytes() for path in sorted(folder.glob("learning_curve*.png"))]
    assert len(images) == len(LANGUAGES)
    assert images[0] != images[1]
    for image in images:
        assert struct.unpack(">II", image[16:24]) == (1500, 1110)
    (folder / CURVE_FILE).unlink()
    assert "learning_curve" not in write_charts(folder)
    assert "learning_curve" not in report(read_run(folder), "en", "somebody")


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_lines_are_the_figures_over_the_steps(language: Any, tmp_path: Path) -> None:
    given = scorings(["basic", "my_$meters$"])
    given["basic"][1]["accuracy"] = None
    run = replace(read_run(write_run(tmp_path)), scorings=given)
    with chart_style():
        figure = learning_curve(run, "learning_curve", language)
        figure.draw_without_rendering()
    when, rank, what, new = figure.axes
    assert figure.get_suptitle() == words(language)("learning_curve")
    assert all(axes.get_title() and axes.get_ylabel() for axes in figure.axes)
    assert what.get_xlabel() == new.get_xlabel() == words(language)("learning_curve.x")
    assert rank.get_yscale() == "log"
    assert list(when.lines[0].get_xdata()) == [0, 200, 400]
    assert list(when.lines[1].get_xdata()) == [0, 100, 200, 400]
    assert list(rank.lines[0].get_ydata()) == [
        1000 ** (1 - step / 400) for step in (0, 100, 200, 400)
    ]
    assert list(what.lines[1].get_ydata()) == [0, 0.25, 0.5, 1]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [words(language)("set.basic"), r"my \$meters\$"]  # no formula
