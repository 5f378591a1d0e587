"""Checkpoints of a training run as files: whole or absent, and which of them are good.

A checkpoint is one file, or a folder with a part from every process. Either is written beside its
place and renamed into it, so that what has a checkpoint's name was whole once. A disk can still
lose what it was given, and a copy can be cut short: `flaw` finds that.
"""

import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from numlm.errors import CheckpointError

COMPLETE_FILE = "complete.json"  # of a folder of parts: the size of every file, written last
_NAME = re.compile(r"step_(\d+)\.ckpt")
_UNFINISHED = ".unfinished-"


def checkpoint_name(step: int) -> str:
    """The name of a checkpoint after so many optimizer steps.

    >>> checkpoint_name(250)
    'step_0000250.ckpt'
    """
    return f"step_{step:07}.ckpt"


def checkpoint_step(path: Path) -> int | None:
    """How many steps a checkpoint has seen, by its name; None for other names."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else None


def checkpoint_files(folder: Path) -> list[Path]:
    """The checkpoints in a folder by their names, the oldest first."""
    steps = {path: checkpoint_step(path) for path in folder.glob("*.ckpt")}
    return sorted((path for path in steps if steps[path] is not None), key=lambda p: steps[p] or 0)


def newest_whole(folder: Path) -> Path | None:
    """The newest checkpoint in a folder that has no flaw; None where there is none."""
    return next((p for p in reversed(checkpoint_files(folder)) if flaw(p) is None), None)


def unfinished_path(target: Path) -> Path:
    """Where to write what gets the name `target` when it is whole."""
    return target.with_name(f"{_UNFINISHED}{target.name}")


def sweep(folder: Path) -> None:
    """Remove what a process that was killed left unfinished in a folder."""
    for left in folder.glob(f"{_UNFINISHED}*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def write_whole(target: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file so that its name never stands for less than all of it, even if power fails.

    Args:
        target: The file.
        write: Writes the content into a binary file.

    Raises:
        OSError: If it cannot be written; what was there before is still there.
    """
    unfinished = unfinished_path(target)
    try:
        with unfinished.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def write_whole_text(target: Path, text: str) -> None:
    """`write_whole` of text, as UTF-8, with the line ends that it has."""
    write_whole(target, lambda file: file.write(text.encode()))


def finish_parts(unfinished: Path, target: Path) -> None:
    """Give a folder into which every process has written its part the mark and its name.

    Raises:
        OSError: If that cannot be done.
    """
    sizes = {file.name: file.stat().st_size for file in unfinished.iterdir()}
    for name in sizes:
        _sync(unfinished / name)
    write_whole_text(unfinished / COMPLETE_FILE, json.dumps(sizes, indent=2))
    remove(target)
    unfinished.replace(target)
    _sync_folder(target.parent)


def remove(path: Path) -> None:
    """Remove a checkpoint; a folder first loses its mark, so that a part of it is not taken."""
    if path.is_dir():
        (path / COMPLETE_FILE).unlink(missing_ok=True)
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def flaw(path: Path) -> str | None:
    """What is wrong with a checkpoint, read from its first to its last byte; None if nothing is.

    It says nothing of what a checkpoint holds, and executes nothing of it.
    """
    try:
        return _flaw_of_folder(path) if path.is_dir() else _flaw_of_file(path)
    except OSError as error:
        return error.strerror or str(error)


def _flaw_of_file(path: Path) -> str | None:
    if not path.exists():
        return "there is no such file"
    if not path.stat().st_size:
        return "it is empty"
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError):
        return "it is cut short, or no checkpoint"
    return damaged and f"its part {damaged} is damaged"


def _flaw_of_folder(path: Path) -> str | None:
    mark = path / COMPLETE_FILE
    if not mark.exists():
        return f"it has no {COMPLETE_FILE}: not every process had written its part"
    try:
        sizes = json.loads(mark.read_text(encoding="utf-8"))
        wrong = [name for name, size in sizes.items() if _size(path / name) != size]
    except (ValueError, AttributeError):
        return f"its {COMPLETE_FILE} is damaged"
    return f"its part {wrong[0]} is cut short" if wrong else None


def _size(file: Path) -> int | None:
    return file.stat().st_size if file.exists() else None


def check(path: Path) -> None:
    """Refuse a checkpoint with a flaw and name the one to take instead.

    Raises:
        CheckpointError: If it is not whole.
    """
    if (found := flaw(path)) is not None:
        raise CheckpointError(f"cannot read the checkpoint '{path}': {found}; {instead(path)}")


def instead(path: Path) -> str:
    """Which checkpoint to take where one is of no use, in words."""
    beside = [p for p in checkpoint_files(path.parent) if p.name != path.name]
    good = next((p for p in reversed(beside) if flaw(p) is None), None)
    if good is None:
        return "there is no good one beside it"
    return f"the newest good one beside it: --ckpt_path {good}"


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Make a rename last; not every system lets a folder be opened."""
    if os.name == "posix":
        _sync(folder)
