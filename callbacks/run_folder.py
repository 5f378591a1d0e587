"""The folder of a run.

`results/<experiment>_<YYYYmmdd_HHMMSS>/`, with `run.json` in it, and `results/latest` -> it.
"""

import json
import os
import platform
import resource
import shlex
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from torch.utils.tensorboard import SummaryWriter

from callbacks.evaluation_data import evaluation_data

RUN_FILE = "run.json"
_PACKAGES = (
    "torch",
    "lightning",
    "transformers",
    "torchmetrics",
    "safetensors",
    "tokenizers",
    "numpy",
)


class RunFolderError(OSError):
    """A results folder that cannot be written; the message is one sentence for users."""


class ResultsLogger(TensorBoardLogger):
    """TensorBoard logger whose folder is the run's folder.

    Args:
        experiment: First part of the folder's name.
        save_dir: Where the folders of all runs are.
        run: The folder's whole name; `<experiment>_<date>_<time>` where None.
    """

    def __init__(
        self, experiment: str = "numlm", save_dir: str = "results", run: str | None = None
    ) -> None:
        super().__init__(
            save_dir=save_dir,
            name="",
            version=run or timestamped(experiment),
            default_hp_metric=False,
        )

    @property
    def experiment(self) -> SummaryWriter:
        """TensorBoard's writer, which Lightning asks for before anything is trained.

        Raises:
            RunFolderError: If nothing can be written to the folder.
        """
        if self._experiment is None:
            self._check_writable(self.root_dir)
        writer: SummaryWriter = super().experiment
        return writer

    @staticmethod
    @rank_zero_only
    def _check_writable(folder: str) -> None:
        try:
            os.makedirs(folder, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise RunFolderError(
                f"cannot write results to '{folder}' ({error.strerror}): "
                "choose another folder with --trainer.logger.save_dir"
            ) from None


def timestamped(name: str) -> str:
    """A folder's name with date and time."""
    return f"{name}_{time.strftime('%Y%m%d_%H%M%S')}"


class RunRecord(Callback):
    """Writes `run.json` (how to run it again, versions, seed, device, sizes, times, memory).

    Makes `results/latest` the run.
    """

    def __init__(self) -> None:
        self._first_step = 0.0
        self._tokens = torch.tensor(0)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what is known before training."""
        folder = run_folder(trainer)
        if not trainer.is_global_zero:
            return
        model: Any = pl_module.model
        parameters = sum(parameter.numel() for parameter in pl_module.parameters())
        update_run_record(
            folder,
            {
                "started": time.strftime("%Y-%m-%d %H:%M:%S"),
                "command": shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]),
                "calibration": None,
                "data": evaluation_data(trainer).data_summary(),
                "versions": {
                    "python": platform.python_version(),
                    **{name: version(name) for name in _PACKAGES},
                },
                "device": _device_name(pl_module.device),
                "processes": trainer.world_size,
                "threads": torch.get_num_threads(),
                "precision": str(trainer.precision),
                "parameters": parameters,
                "steps": int(trainer.estimated_stepping_batches),
                "seed": os.environ.get("PL_GLOBAL_SEED"),
                "token_head": type(model.token_head).__name__,
                "hyperparameters": {
                    key: value for key, value in pl_module.hparams.items() if key[0] != "_"
                },
            },
        )
        latest = folder.parent / "latest"
        temporary = folder.parent / f".latest-{os.getpid()}"
        temporary.symlink_to(folder.name)
        temporary.replace(latest)

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Start the clock at the first step: what is before it has clocks of its own."""
        self._first_step = self._first_step or time.monotonic()
        # Added on the device: asking for the number would make the step wait.
        self._tokens = self._tokens.to(pl_module.device) + batch.batch.attention_mask.sum()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write how long training took; comes before what else happens at the end."""
        folder = run_folder(trainer)
        _tell_skipped(trainer)
        trained = time.monotonic() - (self._first_step or time.monotonic())
        tokens = int(trainer.strategy.reduce(self._tokens, reduce_op="sum"))
        memory = torch.tensor(_peak_memory(pl_module.device), device=pl_module.device)
        peak = float(trainer.strategy.reduce(memory, reduce_op="max"))
        if trainer.is_global_zero:
            record = {
                "seconds": {"training": round(trained, 1)},
                "tokens": tokens,
                "tokens_per_second": round(tokens / trained) if trained else None,
                "peak_memory_gib": round(peak, 2),
            }
            update_run_record(folder, record)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say which rows took no part."""
        _tell_skipped(trainer)


def _tell_skipped(trainer: Trainer) -> None:
    """Warn of the rows of own data that were skipped."""
    for source in evaluation_data(trainer).data_summary():
        if source["skipped"]:
            rank_zero_warn(
                f"{source['skipped']} bad rows of {source['source']} were skipped; the first: "
                f"{source['bad_rows'][0]}"
            )


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
    """Write JSON for people to read; NaN and infinity are refused."""
    path.write_text(
        json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )


def _peak_memory(device: torch.device) -> float:
    """GiB that this process has needed at most, of its GPU or else of main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {os.cpu_count()} cores ({platform.machine()})"
