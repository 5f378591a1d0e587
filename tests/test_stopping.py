"""SIGTERM, SIGINT and SLURM's signal: the work is saved, the exit code says what ended the run."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from callbacks.stopping import StopSignals
from numlm.checkpoint_files import checkpoint_files, newest_whole
from tests.test_resume import OPTIONS, ROOT, content
from tests.test_strategies import DDP, FSDP

LONG = ["--trainer.max_epochs", "30", "--trainer.callbacks.every_n_steps", "1000"]
pytestmark = pytest.mark.slow


def start(folder: Path, *options: str, **environment: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(ROOT / "train.py"), "fit", *OPTIONS, *options]
    command += ["--trainer.logger.save_dir", str(folder)]
    with (folder / "output.txt").open("ab") as output:
        return subprocess.Popen(
            command, stdout=output, stderr=output,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )  # fmt: skip


def output(folder: Path) -> str:
    return (folder / "output.txt").read_text(errors="replace")


def wait(
    process: subprocess.Popen[bytes], condition: Callable[[], bool], seconds: int = 90
) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "it ended before"
        assert time.monotonic() < end, "it does not come to that"
        time.sleep(0.01)


def stop_after(process: subprocess.Popen[bytes], step: int, folder: Path, number: int) -> int:
    """Send a signal once so many steps are done; the exit code."""
    try:
        wait(process, lambda: bool(list(checkpoint_steps(folder, step))))
        process.send_signal(number)
        return process.wait(timeout=60)
    finally:
        process.kill()


def checkpoint_steps(folder: Path, least: int) -> list[Path]:
    found = checkpoint_files(folder / "latest" / "checkpoints")
    return [path for path in found if int(path.stem.split("_")[1]) >= least]


@pytest.mark.parametrize(
    ("number", "code", "options"),
    [
        (signal.SIGTERM, 143, []),
        (signal.SIGINT, 130, []),
        (signal.SIGTERM, 143, ["--trainer.accumulate_grad_batches", "2"]),
        (signal.SIGTERM, 143, DDP),
        (signal.SIGINT, 130, DDP),
        (signal.SIGTERM, 143, FSDP),
    ],
    ids=["term", "int", "term_accumulated", "term_two", "int_two", "term_sharded"],
)
def test_a_signal_saves_and_the_run_goes_on_from_there(
    tmp_path: Path, number: int, code: int, options: list[str]
) -> None:
    """Of several processes the first one gets the signal."""
    steps = ["--trainer.max_epochs", "5", "--trainer.callbacks.every_n_steps", "1000"]
    process = start(tmp_path, *options, *steps)
    assert stop_after(process, 4, tmp_path, number) == code, output(tmp_path)
    run = (tmp_path / "latest").resolve()
    newest = newest_whole(run / "checkpoints")
    assert newest is not None
    stopped_at = content(run, int(newest.stem.split("_")[1]))["global_step"]
    assert 4 < stopped_at < 20
    assert f"The run has stopped at step {stopped_at}: go on from {newest}" in output(tmp_path)
    if number == signal.SIGINT:  # what it has saved is like that of SIGTERM
        return
    assert start(tmp_path, "--ckpt_path", "last", *options, *steps).wait(timeout=120) == 0
    other = tmp_path / "undisturbed"
    other.mkdir()
    assert start(other, *options, *steps).wait(timeout=120) == 0
    mine, theirs = content(run, 20), content((other / "latest").resolve(), 20)
    assert all(mine["state_dict"][k].equal(theirs["state_dict"][k]) for k in theirs["state_dict"])


def test_before_training_a_signal_ends_the_process_at_once(tmp_path: Path) -> None:
    process = start(tmp_path, "--trainer.callbacks+=callbacks.evaluation.BeforeAfterEvaluation",
                    "--data.eval_samples", "3000")  # fmt: skip
    try:
        wait(process, lambda: "Evaluation (baseline)" in output(tmp_path) or
             (tmp_path / "latest" / "run.json").exists())  # fmt: skip
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        begin = time.monotonic()
        assert process.wait(timeout=60) == 143, output(tmp_path)
        assert time.monotonic() - begin < 20
    finally:
        process.kill()
    assert "nothing was saved yet" in output(tmp_path)


def fake_slurm(folder: Path) -> dict[str, str]:
    """SLURM's variables of a single task, and a `scontrol` that writes down its arguments."""
    tools = folder / "tools"
    tools.mkdir()
    scontrol = tools / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {folder}/scontrol.txt\n')
    scontrol.chmod(0o755)
    return {
        "PATH": f"{tools}:{os.environ['PATH']}", "SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "numlm",
        "SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "1",
        "SLURM_NODEID": "0", "SLURM_PROCID": "0", "SLURM_LOCALID": "0",
        "SLURM_NODELIST": "localhost",
    }  # fmt: skip


def test_slurm_requeues_what_it_stops(tmp_path: Path) -> None:
    """The job's script is run again as it was, and goes on."""
    job = ["--ckpt_path", "auto", "--trainer.logger.run", "job_77"]
    steps = ["--trainer.max_epochs", "3"]
    environment = fake_slurm(tmp_path)
    process = start(tmp_path, *LONG[2:], "--trainer.max_epochs", "30", *job, **environment)
    code = stop_after(process, 4, tmp_path, signal.SIGUSR1)
    assert code == 128 + signal.SIGUSR1, output(tmp_path)
    assert (tmp_path / "scontrol.txt").read_text() == "requeue 77\n"
    stopped = max(checkpoint_steps(tmp_path, 0))
    assert start(tmp_path, *steps, *job, **environment).wait(timeout=120) == 0
    record = json.loads((tmp_path / "job_77" / "run.json").read_text())
    assert record["resumed"][0]["from"] == str(stopped.resolve())
    assert not list(Path.cwd().glob("hpc_ckpt*")), "Lightning's own, which every job would find"


def test_an_array_task_requeues_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    from callbacks import stopping

    called: list[Any] = []

    def run(command: list[str], check: bool) -> SimpleNamespace:
        called.append(command)
        return SimpleNamespace(returncode=1)

    monkeypatch.setattr(stopping.subprocess, "run", run)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "5")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    with pytest.warns(UserWarning, match="SLURM did not requeue job 5_3: submit it again"):
        stopping.requeue()
    assert called == [["scontrol", "requeue", "5_3"]]


class Launcher:
    def __init__(self) -> None:
        self.killed: list[int] = []

    def kill(self, number: int) -> None:
        self.killed.append(number)


@pytest.fixture
def signals() -> Any:
    trainer = SimpleNamespace(
        _accelerator_connector=SimpleNamespace(cluster_environment=None),
        strategy=SimpleNamespace(launcher=Launcher()), is_global_zero=True, world_size=1,
    )  # fmt: skip
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    found = StopSignals(trainer)  # type: ignore[arg-type]
    yield found
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_second_signal_ends_at_once(
    signals: StopSignals, capfd: pytest.CaptureFixture[str]
) -> None:
    signals.listen()
    signals.holding = True
    signal.raise_signal(signal.SIGINT)
    assert capfd.readouterr().err == "SIGINT: the run is saved after this step (again ends it)\n"
    assert signals.agreed() == signal.SIGINT
    with pytest.raises(SystemExit) as stop:
        signal.raise_signal(signal.SIGTERM)
    assert stop.value.code == 143
    assert signals.trainer.strategy.launcher.killed == [signal.SIGINT, signal.SIGKILL]


def test_before_training_slurm_s_signal_requeues_as_well(
    signals: StopSignals, monkeypatch: pytest.MonkeyPatch
) -> None:
    from callbacks import stopping

    called: list[str] = []
    monkeypatch.setattr(stopping, "requeue", lambda: called.append("requeued"))
    signals._requeues = signal.SIGUSR1
    before = signal.getsignal(signal.SIGUSR1)
    signals.listen()
    try:
        with pytest.raises(SystemExit) as stop:
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert stop.value.code == 128 + signal.SIGUSR1
    assert called == ["requeued"]


def test_after_the_run_signals_go_where_they_went(signals: StopSignals) -> None:
    got: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    signals.listen()
    ours = signal.getsignal(signal.SIGTERM)
    signals.stop_listening()
    signal.raise_signal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, ours)  # as a trainer does that had found it
    signal.raise_signal(signal.SIGTERM)
    assert got == [signal.SIGTERM] * 2


def test_what_a_shell_made_deaf_stays_deaf(signals: StopSignals) -> None:
    """`python train.py fit &` in a script does not end with Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signals.listen()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
