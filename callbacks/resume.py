"""Going on with a run: which one, from which checkpoint, with which options."""

from pathlib import Path
from typing import Any, NamedTuple

import yaml
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from callbacks.checkpoints import CHECKPOINT_FOLDER
from numlm.checkpoint_files import checkpoint_files, flaw
from numlm.errors import CheckpointError

CONFIG_FILE = "config.yaml"
KEYWORDS = ("last", "auto")
# What evaluates a run's checkpoint as the run itself does; its trainer is that of `fit`.
_NOT_ONLY_FOR_FIT = ("seed_everything", "model", "data")


class Resume(NamedTuple):
    """A run to go on with.

    Attributes:
        folder: Its folder.
        checkpoint: Its newest good checkpoint; None where it had written none.
        options: The options that it was started with, as `config.yaml` has them.
    """

    folder: Path
    checkpoint: Path | None
    options: dict[str, Any]


def find_run(keyword: str, save_dir: str, run: str | None, subcommand: str) -> Resume | None:
    """The run that `--ckpt_path last` or `auto` means.

    Args:
        keyword: "last", or "auto": the same, but where there is nothing to go on from the run
            begins, and says so.
        save_dir: Where the folders of all runs are.
        run: Name of the run's folder; the latest run where None.
        subcommand: What is to be done: only `fit` takes all options over.

    Returns:
        The run; None where "auto" is to begin a new one.

    Raises:
        CheckpointError: If "last" has no checkpoint, or the run's options cannot be read.
    """
    folder = (Path(save_dir) / (run or "latest")).resolve()
    checkpoint = _newest(folder / CHECKPOINT_FOLDER)
    if checkpoint is None and (keyword == "last" or subcommand != "fit"):
        what = (
            f"the run in '{folder}' has no checkpoint yet"
            if folder.exists()
            else (f"there is no run in '{Path(save_dir) / (run or 'latest')}'")
        )
        raise CheckpointError(
            f"nothing to go on from: {what}. --ckpt_path auto begins where there is nothing"
        )
    if not (folder / CONFIG_FILE).exists():
        rank_zero_info(f"--ckpt_path auto: no run in '{folder}' yet, a new one begins")
        return None
    if checkpoint is None:
        rank_zero_info(f"--ckpt_path auto: '{folder}' has no checkpoint yet, the run begins again")
    else:
        rank_zero_info(f"Going on from {checkpoint}")
    options = _read_options(folder / CONFIG_FILE)
    options.pop("ckpt_path", None)
    if subcommand != "fit":
        options = {name: options[name] for name in _NOT_ONLY_FOR_FIT if name in options}
    return Resume(folder, checkpoint, options)


def _read_options(file: Path) -> dict[str, Any]:
    try:
        options = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CheckpointError(f"cannot read '{file}': {str(error).splitlines()[0]}") from None
    if not isinstance(options, dict):
        raise CheckpointError(f"cannot read '{file}': it has no options of a run")
    return options


def _newest(folder: Path) -> Path | None:
    """The newest good checkpoint of a folder; those that are newer and not good are named."""
    for path in reversed(checkpoint_files(folder)):
        found = flaw(path)
        if found is None:
            return path
        rank_zero_warn(f"the checkpoint '{path}' is left out: {found}")
    return None


def replace_repeated(callbacks: list[Any], own: int) -> list[Any]:
    """The callbacks of a run that goes on, each class once.

    Args:
        callbacks: Those that the run was started with, and after them those that were given now:
            `--trainer.callbacks+=X` is a part of the same command as before, as a rule.
        own: How many the run was started with.

    Returns:
        Those given now in place of those of the same class.
    """
    given = {callback.class_path for callback in callbacks[own:]}
    return [c for i, c in enumerate(callbacks) if i >= own or c.class_path not in given]
