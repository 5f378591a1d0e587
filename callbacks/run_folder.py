"""The folder of a run.

`results/<experiment>_<YYYYmmdd_HHMMSS>/`, with `run.json` in it, and `results/latest` -> it. One
process at a time writes to it.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lightning import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from numlm.checkpoint_files import write_whole_text

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

RUN_FILE = "run.json"
_LOCK_FILE = ".lock"
_LOCK_SECONDS = 20.0  # how long worker processes may outlive one that was killed


class RunFolderError(OSError):
    """A results folder that cannot be written; the message is one sentence for users."""


class ResultsLogger(TensorBoardLogger):
    """TensorBoard logger whose folder is the run's folder.

    Args:
        experiment: First part of the folder's name.
        save_dir: Where the folders of all runs are.
        run: The folder's whole name; `<experiment>_<date>_<time>` where None.
        resume: Go on in a folder that is there; set by `--ckpt_path last` and `auto`.
    """

    def __init__(
        self,
        experiment: str = "numlm",
        save_dir: str = "results",
        run: str | None = None,
        resume: bool = False,
    ) -> None:
        super().__init__(
            save_dir=save_dir,
            name="",
            version=run or timestamped(experiment),
            default_hp_metric=False,
        )
        self.named = run is not None
        self.resume = resume
        self._lock: IO[str] | None = None

    @property
    def experiment(self) -> "SummaryWriter":
        """TensorBoard's writer, which Lightning asks for before anything is trained.

        Raises:
            RunFolderError: If nothing can be written to the folder, or another run is in it.
        """
        if self._experiment is None:
            self._take_folder()
        writer: SummaryWriter = super().experiment
        return writer

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the files, and let other processes go on with the run."""
        super().finalize(status)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @rank_zero_only
    def _take_folder(self) -> None:
        """Make the run's folder, or go on in it, and keep other processes out."""
        if self._lock is not None:
            return
        try:
            folder = self._own_folder()
            with tempfile.TemporaryFile(dir=folder):
                pass
            self._lock = (folder / _LOCK_FILE).open("w")
        except OSError as error:
            if isinstance(error, RunFolderError):
                raise
            raise RunFolderError(
                f"cannot write results to '{self.root_dir}' ({error.strerror}): "
                "choose another folder with --trainer.logger.save_dir"
            ) from None
        _lock(self._lock, folder)

    def _own_folder(self) -> Path:
        """The folder; a new run never goes into that of another."""
        start = self.version
        for number in range(2, 1000):
            folder = Path(self.log_dir)
            if self.resume and folder.is_dir():
                return folder
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                if not folder.is_dir():
                    raise
                if self.named:
                    raise RunFolderError(
                        f"the run '{folder}' is there already: go on with it by --ckpt_path last, "
                        "or give another name as --trainer.logger.run"
                    ) from None
                self._version = f"{start}_{number}"  # another began in the same second
            else:
                return folder
        raise RunFolderError(f"there are too many runs like '{start}' in '{self.root_dir}'")


def _lock(file: IO[str], folder: Path) -> None:
    """Hold a file as long as this process lives.

    Raises:
        RunFolderError: If another one goes on holding it.
    """
    if sys.platform == "win32":
        return
    import fcntl

    end = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise RunFolderError(
                    f"the run in '{folder}' has not ended: wait for its process, or stop it"
                ) from None
            time.sleep(0.5)
        else:
            return


def timestamped(name: str) -> str:
    """A folder's name with date and time."""
    return f"{name}_{time.strftime('%Y%m%d_%H%M%S')}"


def run_folder(trainer: Trainer) -> Path:
    """Folder of the run, the same on every process (all of them must call)."""
    folder = Path(trainer.log_dir or trainer.default_root_dir)
    if trainer.is_global_zero:
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def update_run_record(folder: Path, entries: dict[str, Any]) -> None:
    """Add entries to `run.json`; dictionaries in it are merged."""
    record = read_json(folder / RUN_FILE) if (folder / RUN_FILE).exists() else {}
    for key, value in entries.items():
        record[key] = {**(record.get(key) or {}), **value} if isinstance(value, dict) else value
    write_json(folder / RUN_FILE, record)


def read_json(path: Path) -> Any:  # noqa: ANN401
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, content: object) -> None:
    """Write JSON for people to read, whole or not at all; NaN and infinity are refused."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole_text(path, text)
