"""What a run was: how to run it again, what it took, where it was resumed."""

import os
import platform
import resource
import shlex
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn

from callbacks.evaluation_data import evaluation_data
from callbacks.run_folder import RUN_FILE, read_json, run_folder, update_run_record

_PACKAGES = (
    "torch",
    "lightning",
    "transformers",
    "torchmetrics",
    "safetensors",
    "tokenizers",
    "numpy",
)


class RunRecord(Callback):
    """Writes `run.json` (how to run it again, versions, seed, device, sizes, times, memory).

    Makes `results/latest` the run.
    """

    def __init__(self) -> None:
        self._first_step = 0.0
        self._tokens = torch.tensor(0)
        self._spent: dict[str, Any] = {"seconds": 0.0, "tokens": 0}  # before this process

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add what was spent so far."""
        checkpoint["spent"] = {
            "seconds": self._spent["seconds"] + self._trained(),
            "tokens": self._all_tokens(trainer),
        }

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on counting."""
        self._spent = checkpoint.get("spent", self._spent)

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
                **_started(folder),
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

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say where a run goes on; what it had logged beyond that did not happen."""
        folder = run_folder(trainer)
        step = trainer.global_step
        if not step or not trainer.is_global_zero:
            return
        record = read_json(folder / RUN_FILE)
        entry = {"step": step, "from": str(trainer.ckpt_path), **_invocation()}
        update_run_record(folder, {"resumed": [*record.get("resumed", []), entry]})
        if isinstance(trainer.logger, TensorBoardLogger):
            # Here: rarely needed, and not by the options.
            from tensorboard.compat.proto.event_pb2 import Event, SessionLog

            start = SessionLog(status=SessionLog.START)
            again = Event(wall_time=time.time(), step=step, session_log=start)
            trainer.logger.experiment.file_writer.event_writer.add_event(again)

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
        trained = self._spent["seconds"] + self._trained()
        tokens = self._all_tokens(trainer)
        memory = torch.tensor(_peak_memory(pl_module.device), device=pl_module.device)
        peak = float(trainer.strategy.reduce(memory, reduce_op="max"))
        module: Any = pl_module
        if trainer.is_global_zero:
            record = {
                "seconds": {"training": round(trained, 1)},
                "tokens": tokens,
                "skipped_steps": module.guard.skipped,
                "tokens_per_second": round(tokens / trained) if trained else None,
                "peak_memory_gib": round(peak, 2),
            }
            update_run_record(folder, record)

    def _trained(self) -> float:
        """Seconds since this process's first step."""
        return time.monotonic() - (self._first_step or time.monotonic())

    def _all_tokens(self, trainer: Trainer) -> int:
        """Tokens that all processes have read, in every session of the run."""
        tokens: int = self._spent["tokens"]
        return tokens + int(trainer.strategy.reduce(self._tokens.clone(), reduce_op="sum"))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say which rows took no part."""
        _tell_skipped(trainer)


def _invocation() -> dict[str, str]:
    """When and how this process was started."""
    return {
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def _started(folder: Path) -> dict[str, str]:
    """When and how the run was first started."""
    now = _invocation()
    known = read_json(folder / RUN_FILE) if (folder / RUN_FILE).exists() else now
    return {key: known.get(key, now[key]) for key in now}


def _tell_skipped(trainer: Trainer) -> None:
    """Warn of the rows of own data that were skipped."""
    for source in evaluation_data(trainer).data_summary():
        if source["skipped"]:
            rank_zero_warn(
                f"{source['skipped']} bad rows of {source['source']} were skipped; the first: "
                f"{source['bad_rows'][0]}"
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
