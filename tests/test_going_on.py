"""`--ckpt_path last`, `auto` and FILE: which run goes on, from where, with which options."""

import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from callbacks import run_folder
from callbacks.results import BASELINE_FILE, FINETUNED_FILE, TEST_FILE
from callbacks.resume import replace_repeated
from callbacks.run_folder import ResultsLogger, RunFolderError
from lightning_modules.steps import rescale_progress
from numlm.checkpoint_files import checkpoint_files
from tests.test_resume import (
    OPTIONS,
    STEPS,
    assert_same_end,
    checkpoint,
    content,
    curves,
    fit,
    same,
)
from tests.test_strategies import NO_DROPOUT
from train import main

EVALUATED = ["--trainer.callbacks+=callbacks.evaluation.BeforeAfterEvaluation"]


def command(subcommand: str, folder: Path, *options: str) -> Any:
    return main([subcommand, *options, "--trainer.logger.save_dir", str(folder)])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run that was evaluated before and after."""
    return fit(tmp_path_factory.mktemp("finished"), *EVALUATED)


@pytest.fixture
def stopped(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, as if it had been killed after nine of twelve steps."""
    run = tmp_path / finished.name
    shutil.copytree(finished, run)
    for path in checkpoint_files(run / "checkpoints")[9:]:
        path.unlink()
    (run / FINETUNED_FILE).unlink()
    (tmp_path / "latest").symlink_to(run.name)
    return run


def test_last_goes_on_in_its_folder_with_its_options(finished: Path, stopped: Path) -> None:
    """Nothing but the folder of results is given again."""
    command("fit", stopped.parent, "--ckpt_path", "last")
    assert_same_end(stopped, finished)
    assert (stopped / FINETUNED_FILE).read_bytes() == (finished / FINETUNED_FILE).read_bytes()
    record = json.loads((stopped / "run.json").read_text())
    first = json.loads((finished / "run.json").read_text())
    assert record["started"] == first["started"]
    assert [entry["step"] for entry in record["resumed"]] == [9]
    assert record["tokens"] == first["tokens"]
    assert [path.name for path in stopped.parent.iterdir() if not path.is_symlink()] == [
        stopped.name
    ]
    assert curves(stopped) == curves(finished), "what it had logged beyond step 9 is there once"


def test_given_options_win_over_the_checkpoint_s(stopped: Path) -> None:
    with pytest.warns(
        UserWarning, match=r"other options than the checkpoint's: lr 0\.001 -> 0\.5"
    ):
        cli = command("fit", stopped.parent, "--ckpt_path", "last", "--model.lr", "0.5")
    groups = {
        group["name"]: group for group in content(stopped)["optimizer_states"][0]["param_groups"]
    }
    assert groups["backbone"]["initial_lr"] == 0.5
    assert groups["head"]["initial_lr"] == 0.002
    assert cli.model.hparams["lr"] == 0.5
    before = content(stopped, 9)
    assert before["optimizer_states"][0]["param_groups"][0]["initial_lr"] == 0.001
    assert not same(before["state_dict"], content(stopped)["state_dict"])


def test_other_training_data_is_said(stopped: Path) -> None:
    with pytest.warns(UserWarning, match="other training data than before: seed 42 -> 7"):
        command("fit", stopped.parent, "--ckpt_path", "last", "--seed_everything", "7")


def test_a_command_that_is_repeated_has_its_callbacks_once(stopped: Path) -> None:
    cli = main(["fit", *OPTIONS, *EVALUATED, "--trainer.logger.save_dir", str(stopped.parent),
                "--ckpt_path", "last"])  # fmt: skip
    names = [type(callback).__name__ for callback in cli.trainer.callbacks]
    assert names.count("BeforeAfterEvaluation") == names.count("SaveCheckpoints") == 1
    assert (stopped / FINETUNED_FILE).exists()


def test_callbacks_given_again_replace_their_own() -> None:
    class Entry:
        def __init__(self, class_path: str, number: int) -> None:
            self.class_path, self.number = class_path, number

    entries = [Entry("a.A", 1), Entry("b.B", 2), Entry("a.A", 3), Entry("c.C", 4)]
    kept = [entry.number for entry in replace_repeated(entries, 2)]
    assert kept == [2, 3, 4]


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: None, "nothing to go on from: there is no run in '.*latest'"),
        (lambda folder: (folder / "latest").mkdir(), "has no checkpoint yet. --ckpt_path auto"),
    ],
)
def test_last_never_starts_from_scratch(prepare: Any, message: str, tmp_path: Path) -> None:
    prepare(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SystemExit, match=message):
        command("fit", tmp_path, "--ckpt_path", "last")
    assert sorted(tmp_path.iterdir()) == before


def test_other_loggers_cannot_be_asked_for_a_run(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="needs the ResultsLogger of the default configuration"):
        main(["fit", *OPTIONS, "--ckpt_path", "last", "--trainer.logger", "false"])


def test_auto_begins_where_there_is_nothing_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, finished: Path
) -> None:
    options = ["--ckpt_path", "auto", "--trainer.logger.run", "job_7"]
    fit(tmp_path, *options, "--trainer.max_epochs", "1")
    assert "no run in" in caplog.text
    assert "a new one begins" in caplog.text
    run = tmp_path / "job_7"
    assert len(checkpoint_files(run / "checkpoints")) == 4
    fit(tmp_path, *options)  # the same command, and the epochs that are wanted now
    assert "Going on from" in caplog.text
    assert content(run)["global_step"] == STEPS
    shutil.rmtree(run / "checkpoints")
    fit(tmp_path, *options)
    assert "the run begins again" in caplog.text
    assert_same_end(run, finished)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(
    finished: Path, stopped: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.truncate(checkpoint(stopped, 9), 5000)
    with pytest.warns(UserWarning, match=r"step_0000009\.ckpt' is left out: it is cut short"):
        command("fit", stopped.parent, "--ckpt_path", "last")
    assert "step_0000008.ckpt" in caplog.text
    assert_same_end(stopped, finished)


def test_a_damaged_file_is_refused_and_the_newest_good_one_named(
    stopped: Path, tmp_path: Path
) -> None:
    os.truncate(checkpoint(stopped, 9), 5000)
    with pytest.raises(SystemExit) as stop:
        fit(tmp_path / "new", "--ckpt_path", str(checkpoint(stopped, 9)))
    message = str(stop.value.code)
    assert "it is cut short" in message
    assert f"--ckpt_path {checkpoint(stopped, 8)}" in message


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="there is no such file"):
        fit(tmp_path, "--ckpt_path", str(tmp_path / "step_0000001.ckpt"))


def test_a_file_makes_a_new_run_with_the_same_baseline(finished: Path, tmp_path: Path) -> None:
    """What the base model said is in the checkpoint: weights that were tuned cannot say it."""
    alone = tmp_path / "moved.ckpt"
    shutil.copy(checkpoint(finished, 5), alone)
    before = sorted(path.name for path in finished.rglob("*"))
    run = fit(tmp_path / "new", *EVALUATED, "--ckpt_path", str(alone))
    assert (run / BASELINE_FILE).read_bytes() == (finished / BASELINE_FILE).read_bytes()
    assert (run / FINETUNED_FILE).read_bytes() == (finished / FINETUNED_FILE).read_bytes()
    answers = "baseline_answers.csv"
    assert (run / answers).read_bytes() == (finished / answers).read_bytes()
    assert_same_end(run, finished)
    assert sorted(path.name for path in finished.rglob("*")) == before


@pytest.mark.parametrize(
    "name", ["../escaped.json", "/tmp/escaped.json", "train.py", "run/a.json"]
)
def test_files_in_a_checkpoint_cannot_go_elsewhere(
    finished: Path, tmp_path: Path, name: str
) -> None:
    state = content(finished, 5)
    state["run_files"][name] = "written"
    hostile = tmp_path / "hostile.ckpt"
    torch.save(state, hostile)
    with pytest.raises(SystemExit, match=r"has a file .*, which no run writes"):
        fit(tmp_path / "new", "--ckpt_path", str(hostile))
    assert not [path for path in tmp_path.rglob("*") if path.name in ("escaped.json", "train.py")]


def test_the_end_of_a_run_is_evaluated_alike_by_test(finished: Path) -> None:
    """`test --ckpt_path last` takes model and data options of the run."""
    light = [
        "--config",
        str(Path(__file__).with_name("light.yaml")),
        "--trainer.accelerator",
        "cpu",
    ]
    command("test", finished.parent, *light, "--ckpt_path", "last")
    (written,) = finished.parent.glob(f"*/{TEST_FILE}")
    tested, tuned = (json.loads(p.read_text()) for p in (written, finished / FINETUNED_FILE))
    for results in (tested, tuned):
        results["ordinary_text"].pop("agreement")
    assert tested == tuned
    shutil.rmtree(written.parent)


def test_a_complete_run_stays_as_it_is(finished: Path) -> None:
    model = (finished / FINETUNED_FILE).stat().st_mtime_ns
    with pytest.warns(
        UserWarning, match="nothing is left to train after step 12: the run is complete"
    ):
        command("fit", finished.parent, "--ckpt_path", "last")
    assert (finished / FINETUNED_FILE).stat().st_mtime_ns == model


def test_a_complete_run_is_trained_further(finished: Path, stopped: Path) -> None:
    shutil.copy(checkpoint(finished, 12), checkpoint(stopped, 12))
    command("fit", stopped.parent, "--ckpt_path", "last", "--trainer.max_epochs", "4")
    assert content(stopped, 16)["epoch"] == 4


def test_pieces_of_another_number_are_the_same_steps(tmp_path: Path) -> None:
    """As on half as many devices; what is dropped is drawn for each piece, so nothing is."""
    run = fit(tmp_path, *NO_DROPOUT)
    expected = curves(run)["train/loss"]
    for path in checkpoint_files(run / "checkpoints")[9:]:
        path.unlink()
    command("fit", tmp_path, "--ckpt_path", "last", "--trainer.accumulate_grad_batches", "2")
    found = curves(run)["train/loss"]
    assert list(found) == list(range(STEPS))
    assert list(found.values()) == pytest.approx(list(expected.values()), abs=1e-4)


def test_progress_is_counted_in_other_pieces() -> None:
    counts = {"ready": 12, "started": 12, "processed": 12, "completed": 11}
    loops = {"fit_loop": {"epoch_loop.batch_progress": {"total": dict(counts), "current": counts}}}
    rescale_progress(loops, 3, 2)
    progress = loops["fit_loop"]["epoch_loop.batch_progress"]
    assert progress["total"] == {"ready": 8, "started": 8, "processed": 8, "completed": 7}
    assert progress["current"] == progress["total"]


def test_the_last_three_are_kept(tmp_path: Path) -> None:
    run = fit(tmp_path, "--trainer.callbacks.keep", "3")
    kept = [path.name for path in checkpoint_files(run / "checkpoints")]
    assert kept == [f"step_{step:07}.ckpt" for step in (10, 11, 12)]


@pytest.mark.parametrize("option", ["every_n_steps", "keep"])
def test_less_than_one_is_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(SystemExit, match=r"of SaveCheckpoints are .*: give 1 or more"):
        fit(tmp_path, f"--trainer.callbacks.{option}", "0")


def test_a_second_run_does_not_go_into_the_first(tmp_path: Path, monkeypatch: Any) -> None:
    """Neither one that begins in the same second nor one of the same name."""
    monkeypatch.setattr(run_folder, "timestamped", lambda name: f"{name}_now")
    folders = []
    for _ in range(3):
        logger = ResultsLogger("meters", str(tmp_path))
        logger.experiment.flush()
        folders.append(Path(logger.log_dir).name)
    assert folders == ["meters_now", "meters_now_2", "meters_now_3"]
    ResultsLogger("meters", str(tmp_path), run="mine").experiment.flush()
    with pytest.raises(
        RunFolderError, match="is there already: go on with it by --ckpt_path last"
    ):
        _ = ResultsLogger("meters", str(tmp_path), run="mine").experiment


def test_a_run_that_has_not_ended_is_left_alone(stopped: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(run_folder, "_LOCK_SECONDS", 0.0)
    before = (stopped / "run.json").read_bytes()
    with (stopped / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SystemExit, match="has not ended: wait for its process, or stop it"):
            command("fit", stopped.parent, "--ckpt_path", "last")
    assert (stopped / "run.json").read_bytes() == before
