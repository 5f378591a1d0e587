"""How one checkpoint file is written and read."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch.distributed.checkpoint.api import CheckpointException

from numlm.checkpoint_files import check, instead, remove, sweep, write_whole
from numlm.errors import CheckpointError
from numlm.model_files import why_not_plain


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all, and reads nothing that could execute code.

    Lightning 2.6 writes into the system's temporary folder and moves the file: where that is
    another file system a run that is killed meanwhile leaves an empty checkpoint in place of the
    one before. Here it is written beside its place, flushed to the disk, and renamed.

    Addresses such as `s3://...` are left to Lightning: such stores know whole objects only.
    """

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any | None = None,  # noqa: ANN401
    ) -> None:
        """Write a checkpoint; what a process that was killed left beside it goes.

        Raises:
            CheckpointError: If it cannot be written; what was there before is still there.
        """
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            sweep(target.parent)
            write_whole(target, lambda file: torch.save(checkpoint, file))
        except (OSError, RuntimeError) as error:  # torch wraps what the disk says
            raise CheckpointError(
                f"cannot write the checkpoint '{path}': {reason(error)}"
            ) from error

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = lambda storage, location: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a checkpoint of tensors and plain values, whatever `weights_only` says.

        Raises:
            CheckpointError: If it is not whole, or holds anything else.
        """
        if "://" not in str(path):
            return read_checkpoint(Path(path), map_location=map_location)
        loaded: dict[str, Any] = super().load_checkpoint(path, map_location, weights_only=True)
        return loaded

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint, file or folder."""
        if "://" in str(path):
            super().remove_checkpoint(path)
        else:
            remove(Path(path))


def read_checkpoint(path: Path, **options: Any) -> dict[str, Any]:  # noqa: ANN401
    """Read one checkpoint file.

    Args:
        path: The file.
        **options: Given to `torch.load`: `map_location`, `mmap`.

    Raises:
        CheckpointError: If it is not whole, or holds more than tensors and plain values.
    """
    check(path)
    try:
        loaded: dict[str, Any] = torch.load(path, weights_only=True, **options)
    except pickle.UnpicklingError as error:
        raise not_plain(path, error) from None
    except (RuntimeError, EOFError, LookupError, TypeError) as error:
        raise CheckpointError(
            f"cannot read the checkpoint '{path}': {reason(error)}; {instead(path)}"
        ) from None
    if not isinstance(loaded, dict) or "state_dict" not in loaded:
        raise CheckpointError(
            f"'{path}' is no checkpoint of a training run, for it has no state_dict: "
            f"{instead(path)}"
        )
    return loaded


def not_plain(path: Path, error: pickle.UnpicklingError) -> CheckpointError:
    """What to say of a file that could execute code if it were read as Python reads it."""
    why = why_not_plain(error)
    return CheckpointError(f"the checkpoint '{path}' {why}: it was not read; {instead(path)}")


def reason(error: BaseException) -> str:
    """What the disk or a library says, in one line."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, CheckpointException):
            cause = error = next(iter(cause.failures.values()))[0]  # any process's
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    if "inline_container" in str(error):  # all that torch's writer sends from another process
        return "the disk did not take all of it"
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__
