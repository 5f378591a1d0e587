"""Checkpoints as files: whole or absent, which are good, and what is said of the others."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
import torch

from lightning_modules.checkpoint_io import WholeCheckpointIO
from numlm import checkpoint_files as files
from numlm.errors import CheckpointError

STATE = {"state_dict": {"weights": torch.arange(200_000)}, "step": 7}


def save(folder: Path, step: int) -> Path:
    path = folder / files.checkpoint_name(step)
    WholeCheckpointIO().save_checkpoint(STATE, path)
    return path


def damaged(path: Path) -> Path:
    """Turn a byte of the weights over."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "new" / "folder", 7)
    found = WholeCheckpointIO().load_checkpoint(path)
    assert torch.equal(found["state_dict"]["weights"], torch.arange(200_000))
    assert found["step"] == 7
    assert files.flaw(path) is None
    assert [file.name for file in path.parent.iterdir()] == ["step_0000007.ckpt"]


def test_checkpoints_are_in_the_order_of_their_steps(tmp_path: Path) -> None:
    for step in (10_000_000, 90, 100):
        save(tmp_path, step)
    (tmp_path / "epoch=0-step=5.ckpt").write_bytes(b"of another")
    steps = [files.checkpoint_step(path) for path in files.checkpoint_files(tmp_path)]
    assert steps == [90, 100, 10_000_000]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: os.truncate(path, 0), "it is empty"),
        (lambda path: os.truncate(path, 1000), "cut short"),
        (lambda path: os.truncate(path, path.stat().st_size - 1), "cut short"),
        (damaged, "is damaged"),
        (lambda path: path.write_text("hello"), "cut short, or no checkpoint"),
        (lambda path: path.unlink(), "there is no such file"),
    ],
    ids=["empty", "a_part", "one_byte", "a_bit", "text", "gone"],
)
def test_a_flaw_is_named_with_the_newest_good_one(spoil, said: str, tmp_path: Path) -> None:  # noqa: ANN001
    save(tmp_path, 1)
    good, newest = save(tmp_path, 2), save(tmp_path, 3)
    broken = save(tmp_path, 4)
    spoil(broken)
    damaged(newest)
    with pytest.raises(CheckpointError) as error:
        WholeCheckpointIO().load_checkpoint(broken)
    assert str(error.value) == (
        f"cannot read the checkpoint '{broken}': {files.flaw(broken)}; the newest good one beside "
        f"it: --ckpt_path {good}"
    )
    assert said in str(error.value)
    assert files.newest_whole(tmp_path) == good


def test_where_none_is_good_it_is_said(tmp_path: Path) -> None:
    only = save(tmp_path, 1)
    os.truncate(only, 100)
    with pytest.raises(CheckpointError, match="there is no good one beside it"):
        WholeCheckpointIO().load_checkpoint(only)
    assert files.newest_whole(tmp_path) is None


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    before = path.read_bytes()

    def fail(file: IO[bytes]) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        files.write_whole(path, fail)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_left_unfinished_is_swept_by_the_next_write(tmp_path: Path) -> None:
    files.unfinished_path(tmp_path / "step_0000001.ckpt").write_bytes(b"half")
    parts = files.unfinished_path(tmp_path / "step_0000002.ckpt")
    parts.mkdir()
    (parts / "part").write_bytes(b"half")
    path = save(tmp_path, 3)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_size_limit_is_an_error_and_the_checkpoint_before_it_is_readable(
    tmp_path: Path,
) -> None:
    """As a full disk: the system refuses what is beyond."""
    good = save(tmp_path, 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(
            CheckpointError, match=r"cannot write the checkpoint '.*': File too large"
        ):
            save(tmp_path, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == [good]
    assert files.flaw(good) is None


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="cannot write the checkpoint"):
        save(tmp_path / "file" / "checkpoints", 1)


KILLED_WHILE_WRITING = """
import sys, torch
from pathlib import Path
from lightning_modules.checkpoint_io import WholeCheckpointIO
state = {"weights": torch.zeros(3_000_000)}
while True:
    WholeCheckpointIO().save_checkpoint(state, Path(sys.argv[1]))
    print("written", flush=True)
"""


@pytest.mark.slow
def test_killed_while_writing_the_file_is_whole(tmp_path: Path) -> None:
    """Again and again over the same file, with the temporary folder on another filesystem."""
    target = tmp_path / "step_0000001.ckpt"
    root = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "TMPDIR": "/dev/shm"}
    for kill in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED_WHILE_WRITING, str(target)],
            env=environment, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        while not any(tmp_path.glob(".unfinished-*")):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert files.flaw(target) is None, kill
    save(tmp_path, 2)
    assert not list(tmp_path.glob(".unfinished-*"))


def parts(folder: Path, step: int) -> Path:
    """A folder of parts as two processes leave it."""
    target = folder / files.checkpoint_name(step)
    unfinished = files.unfinished_path(target)
    unfinished.mkdir(parents=True)
    for name in (".metadata", "__0_0.distcp", "__1_0.distcp", "meta.pt"):
        (unfinished / name).write_bytes(name.encode() * 100)
    files.finish_parts(unfinished, target)
    return target


def test_a_folder_of_parts_has_a_mark_of_completion(tmp_path: Path) -> None:
    target = parts(tmp_path, 3)
    assert json.loads((target / files.COMPLETE_FILE).read_text())["__0_0.distcp"] == 1200
    assert list(tmp_path.iterdir()) == [target]
    assert files.flaw(target) is None
    assert parts(tmp_path, 3) == target, "an earlier one of the same step is replaced"
    assert files.flaw(target) is None


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / files.COMPLETE_FILE).unlink(), "it has no complete.json"),
        (lambda f: (f / "__1_0.distcp").unlink(), "its part __1_0.distcp is cut short"),
        (lambda f: os.truncate(f / "__0_0.distcp", 7), "its part __0_0.distcp is cut short"),
        (lambda f: (f / files.COMPLETE_FILE).write_text("{"), "its complete.json is damaged"),
        (lambda f: (f / files.COMPLETE_FILE).write_text("[]"), "its complete.json is damaged"),
    ],
    ids=["no_mark", "no_part", "part_cut_short", "mark_cut_short", "mark_of_another_kind"],
)
def test_a_folder_without_all_parts_is_refused(spoil, said: str, tmp_path: Path) -> None:  # noqa: ANN001
    good, broken = parts(tmp_path, 3), parts(tmp_path, 4)
    spoil(broken)
    with pytest.raises(CheckpointError, match=said) as error:
        files.check(broken)
    assert f"--ckpt_path {good}" in str(error.value)


def test_a_folder_loses_its_mark_before_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = parts(tmp_path, 3)

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        files.remove(target)
    assert files.flaw(target) is not None
