"""One, two and sharded processes: the same evaluation, the same losses, one kind of checkpoint."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks.floors import FLOORS_FILE
from callbacks.results import BASELINE_FILE, TEST_FILE

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
# 7 and 9 records of each set do not divide by 2, and neither do their batches.
SMOKE = ["--config", str(CONFIGS / "smoke.yaml")]
SMALL = [
    *("--data.eval_samples", "7", "--data.noisy_samples", "9", "--data.eval_batch_size", "4"),
    *("--data.val_samples", "60"),
]
# What is left out hangs on which process reads a text.
NO_DROPOUT = [
    *("--model.number_head", "numlm.number_head.NumberHead"),
    *("--model.number_head.pointer_dropout", "0"),
]
# Slow enough that rounding, which grows from step to step, stays far below what is compared.
TRAINING = [
    *NO_DROPOUT,
    *("--model.lr", "3e-4", "--model.head_lr", "6e-4"),
    *("--data.batch_size", "32", "--data.num_samples", str(7 * 32)),
    *("--trainer.max_steps", "-1", "--trainer.max_epochs", "3"),
    *("--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.save_top_k", "-1"),
]
DDP = ["--config", str(CONFIGS / "ddp.yaml"), "--trainer.devices", "2"]
FSDP = ["--config", str(CONFIGS / "fsdp.yaml"), "--trainer.devices", "2"]
STRATEGIES = {"one": [], "ddp": DDP, "fsdp": FSDP}

pytestmark = pytest.mark.slow


def command(subcommand: str, folder: Path, *options: str) -> list[str]:
    return [
        str(ROOT / "train.py"),
        subcommand,
        *SMOKE,
        *SMALL,
        *options,
        "--trainer.logger.save_dir",
        str(folder),
    ]


def run(arguments: list[str], **environment: str) -> str:
    """Run a command; a process that hangs is killed, and fails."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def curve(folder: Path, tag: str = "train/loss") -> dict[int, float]:
    events = EventAccumulator(str(folder / "latest"))
    events.Reload()
    return {event.step: event.value for event in events.Scalars(tag)}


def checkpoint(folder: Path, epoch: int) -> str:
    (found,) = (folder / "latest" / "checkpoints").glob(f"epoch={epoch}-*.ckpt")
    return str(found)


def measured_floors(folder: Path) -> Any:
    """Without what is known after training only."""
    floors = read(folder / "latest" / FLOORS_FILE)
    for entries in floors.values():
        for entry in entries.values():
            entry.pop("beaten"), entry.pop("rmse_over_best", None)
    return floors


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same 21 steps on one process, on two, and on two that share the weights."""
    folders = {name: tmp_path_factory.mktemp(name) for name in STRATEGIES}
    for name, options in STRATEGIES.items():
        run(command("fit", folders[name], *TRAINING, *options))
    return folders


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_the_same_evaluation_and_the_same_losses(runs: dict[str, Path], name: str) -> None:
    alone, shared = runs["one"], runs[name]
    assert read(shared / "latest" / "run.json")["processes"] == 2
    baseline = read(alone / "latest" / BASELINE_FILE)
    assert baseline["basic"]["texts"] == 7
    assert baseline["noisy_readings"]["texts"] == 9
    assert read(shared / "latest" / BASELINE_FILE) == baseline
    assert measured_floors(shared) == measured_floors(alone)
    mine, theirs = curve(alone), curve(shared)
    assert list(mine) == list(theirs) == list(range(21))
    assert max(mine.values()) - min(mine.values()) > 1, "something must have been learned"
    assert max(abs(mine[step] - theirs[step]) for step in mine) < 1e-4
    ends = curve(alone, "val/loss"), curve(shared, "val/loss")
    assert ends[0] == pytest.approx(ends[1], abs=1e-4)
    tokens = [read(folder / "latest" / "run.json")["tokens"] for folder in (alone, shared)]
    assert tokens[0] == tokens[1] > 0


def test_accumulated_pieces_are_the_same_step(runs: dict[str, Path], tmp_path: Path) -> None:
    """Three pieces of 32 texts on each of two processes: sizes that differ."""
    run(command("fit", tmp_path, *TRAINING, *DDP, "--trainer.accumulate_grad_batches", "3"))
    mine, theirs = curve(runs["one"]), curve(tmp_path)
    assert max(abs(mine[step] - theirs[step]) for step in mine) < 1e-4


def test_an_export_is_evaluated_alike_everywhere(runs: dict[str, Path], tmp_path: Path) -> None:
    """The model that sharded processes wrote, on one process, on two, and on two sharded ones."""
    model = ["--model.qwen_model_path", str(runs["fsdp"] / "latest" / "model")]
    results = []
    for name, options in STRATEGIES.items():
        run(command("test", tmp_path / name, *model, *options))
        (file,) = (tmp_path / name).glob(f"*/{TEST_FILE}")
        results.append(read(file))
    assert results[0] == results[1] == results[2]


def test_a_checkpoint_crosses_strategies(runs: dict[str, Path], tmp_path: Path) -> None:
    """An epoch on two processes, one on two sharded ones, the last on one: the same losses."""
    crossed = tmp_path / "fsdp"
    run(command("fit", crossed, *TRAINING, *FSDP, "--ckpt_path", checkpoint(runs["ddp"], 0)))
    run(command("fit", tmp_path / "one", *TRAINING, "--ckpt_path", checkpoint(crossed, 1)))
    expected = curve(runs["one"])
    for folder, steps in ((crossed, range(7, 21)), (tmp_path / "one", range(14, 21))):
        found = curve(folder)
        assert list(found) == list(steps)
        assert max(abs(found[step] - expected[step]) for step in steps) < 1e-4
    # What is read is the same to the last digit.
    results = []
    for name in ("one", "fsdp"):
        folder = tmp_path / f"test_{name}"
        run(command("test", folder, *STRATEGIES[name], "--ckpt_path", checkpoint(crossed, 1)))
        (file,) = folder.glob(f"*/{TEST_FILE}")
        results.append(read(file))
    assert results[0] == results[1]
    assert results[0] != read(crossed / "latest" / BASELINE_FILE)
