"""Checkpoints of a run: when they are written, which are kept, and what a stopped run leaves."""

from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from callbacks.run_folder import RUN_FILE, run_folder
from callbacks.stopping import StopSignals
from numlm.checkpoint_files import (
    checkpoint_files,
    checkpoint_name,
    checkpoint_step,
    newest_whole,
    write_whole_text,
)
from numlm.errors import CheckpointError, OptionsError

CHECKPOINT_FOLDER = "checkpoints"
_FILES = ("*.json", "*.csv")
_LEAST_STEPS = 100
_MANY_STEPS = 10_000  # where nobody says when it ends


class SaveCheckpoints(Checkpoint):
    """Writes `checkpoints/step_<steps>.ckpt`: every few steps, after every epoch, at the end.

    A run that is resumed from any of them ends as if it had not been stopped. SIGTERM and SIGINT
    (Ctrl-C) write one after the step and end the process with exit code 143 and 130; under SLURM
    the signal before the time limit also requeues the job.

    A checkpoint holds what the run wrote before its first step (baseline, floors) as well, so that
    a run that goes on from it elsewhere compares with the same base model. That of the last step
    is written when everything else of the run is: where it is, the run is complete.

    Args:
        every_n_steps: How many optimizer steps are between two checkpoints; where None a tenth of
            the run, but at least 100.
        keep: How many are kept, the newest.
    """

    def __init__(self, every_n_steps: int | None = None, keep: int = 3) -> None:
        self.every_n_steps = every_n_steps
        self.keep = keep
        self._signals: StopSignals | None = None
        self._files: dict[str, str] = {}
        self._resumed = self._started = False
        self._folder: Path | None = None
        self._step = self._between = 0
        self._due = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Listen to signals.

        Raises:
            OptionsError: If there is less than one step between checkpoints, or none is kept.
        """
        if self.keep < 1 or (self.every_n_steps is not None and self.every_n_steps < 1):
            raise OptionsError(
                f"every_n_steps and keep of SaveCheckpoints are {self.every_n_steps} and "
                f"{self.keep}: give 1 or more"
            )
        if stage == "fit":
            self._folder = run_folder(trainer) / CHECKPOINT_FOLDER
            self._signals = StopSignals(trainer)
            self._signals.listen()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stop listening."""
        if self._signals is not None:
            self._signals.stop_listening()
            self._signals = self._folder = None

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add what was written before the first step."""
        checkpoint["run_files"] = self._files

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write it into the folder of a run that goes on elsewhere.

        Raises:
            CheckpointError: If a name in it is that of a file elsewhere.
        """
        if not trainer.training:
            return
        self._resumed = True
        self._files = checkpoint.get("run_files", {})
        folder = run_folder(trainer)
        for name, content in self._files.items():
            if Path(name).name != name or not any(Path(name).match(kind) for kind in _FILES):
                raise CheckpointError(f"the checkpoint has a file '{name}', which no run writes")
            if trainer.is_global_zero and not (folder / name).exists():
                write_whole_text(folder / name, content)
        trainer.strategy.barrier()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the files of what came before training; comes after the other callbacks."""
        self._started = True
        folder = run_folder(trainer)
        if not self._resumed and trainer.is_global_zero:
            found = sorted(file for kind in _FILES for file in folder.glob(kind))
            self._files = {
                file.name: file.read_bytes().decode() for file in found if file.name != RUN_FILE
            }
        self._step = trainer.global_step
        steps = trainer.estimated_stepping_batches
        tenth = max(_LEAST_STEPS, int(min(steps, _MANY_STEPS) / 10))
        self._between = tenth if self.every_n_steps is None else self.every_n_steps
        signals = self._listening()
        signals.listen()  # the trainer has handlers of its own by now
        signals.holding = True

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Save where a step is done and a checkpoint is due, or a signal has come."""
        if trainer.global_step == self._step:  # pieces of the step are still to come
            return
        self._step = trainer.global_step
        signals = self._listening()
        if self._step >= trainer.estimated_stepping_batches:
            signals.holding = False
            return
        epoch = trainer.fit_loop.epoch_loop
        stop = signals.agreed()
        self._due = bool(
            stop or self._step % self._between == 0 or epoch.batch_progress.is_last_batch
        )
        batches = trainer.fit_loop._data_fetcher
        assert batches is not None
        if not epoch._should_check_val_fx(batches):  # else it is saved after the validation
            self._save_due(trainer, stop)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after a validation that follows a step, so that a resumed run has its figures."""
        if self._due:
            self._save_due(trainer, self._listening().agreed())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the trained model."""
        self._save(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say where there was nothing to train."""
        if self._resumed and not self._started:
            rank_zero_warn(
                f"nothing is left to train after step {trainer.global_step}: the run is complete; "
                "raise --trainer.max_epochs or --trainer.max_steps to train further"
            )

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Say where to go on."""
        if trainer.is_global_zero and self._folder is not None:
            found = newest_whole(self._folder)  # other processes may not come here: ask none
            hint = (
                f"go on from {found} with --ckpt_path last" if found else "nothing was saved yet"
            )
            rank_zero_info(f"The run has stopped at step {trainer.global_step}: {hint}")

    def _listening(self) -> StopSignals:
        assert self._signals is not None
        return self._signals

    def _save_due(self, trainer: Trainer, stop: int) -> None:
        if self._due:
            self._save(trainer)
            self._due = False
        if stop:
            self._listening().stop(stop)

    def _save(self, trainer: Trainer) -> None:
        """Write a checkpoint, then remove those that are too many; all processes must call.

        Raises:
            CheckpointError: If it cannot be written, on every process.
        """
        assert self._folder is not None
        target = self._folder / checkpoint_name(trainer.global_step)
        failure = None
        try:
            trainer.save_checkpoint(target)
        except CheckpointError as error:
            failure = str(error)
            trainer.strategy.barrier()  # where the other processes wait
        if failure := trainer.strategy.broadcast(failure):
            raise CheckpointError(
                f"{failure}. The checkpoints before it are whole: make room, "
                "then go on with --ckpt_path last"
            )
        if trainer.is_global_zero:
            self._remove_old(trainer, self._folder)

    def _remove_old(self, trainer: Trainer, folder: Path) -> None:
        """Keep the newest; what is ahead of this run is damaged, or it would go on from there."""
        found = checkpoint_files(folder)
        ahead = [path for path in found if (checkpoint_step(path) or 0) > trainer.global_step]
        behind = [path for path in found if path not in ahead]
        for path in ahead + behind[: -self.keep]:
            trainer.strategy.remove_checkpoint(path)
