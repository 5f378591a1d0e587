"""Stopping a run when the system or its user asks, between two steps."""

import os
import signal
import subprocess
from types import FrameType
from typing import Any

import torch
from lightning import Trainer
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.utilities import rank_zero_warn

_HELD = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Holds signals that ask a run to stop back until a step is done.

    Outside of training (`holding` is false) and the second time a signal ends the process at once,
    with the exit code that shells give to it: 130 after SIGINT, 143 after SIGTERM. Under SLURM the
    signal that comes before the time limit also puts the job back into the queue.

    Args:
        trainer: The trainer of the run.

    Attributes:
        holding: Whether training steps are being made.
        received: The signal that has come to this process, 0 before.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.holding = False
        self.received = 0
        self._before: dict[int, Any] = {}
        self._listening = False
        # The strategy of a single device does not say where it runs.
        environment = trainer._accelerator_connector.cluster_environment
        self._requeues: int | None = None
        if isinstance(environment, SLURMEnvironment) and environment.auto_requeue:
            self._requeues = environment.requeue_signal

    def listen(self) -> None:
        """Receive the signals from now on, whoever received them before."""
        self._listening = True
        wanted = [*_HELD, *([self._requeues] if self._requeues else [])]
        for number in wanted:
            handler = signal.getsignal(number)
            # Shells start what they run in the background deaf to Ctrl-C, and mean it.
            if handler is not signal.SIG_IGN:
                self._before.setdefault(number, handler)
                signal.signal(number, self._receive)

    def stop_listening(self) -> None:
        """Leave the signals to whom they were left before."""
        self._listening = False
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def agreed(self) -> int:
        """The signal that any process has received, 0 if none; all processes must call."""
        if self.trainer.world_size == 1:
            return self.received
        received = torch.tensor(self.received, device=self.trainer.strategy.root_device)
        return int(self.trainer.strategy.reduce(received, reduce_op="max"))

    def stop(self, number: int) -> None:
        """End this process; all processes come here.

        Raises:
            SystemExit: Always.
        """
        if number == self._requeues and self.trainer.is_global_zero:
            requeue()
        raise SystemExit(128 + number)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if not self._listening:  # the trainer puts back what it found, which may be this
            signal.signal(number, self._before[number])
            signal.raise_signal(number)
            return
        again = self.received and self.trainer.is_global_zero
        self._tell_children(signal.SIGKILL if again else number)
        if again or not self.holding:
            self.stop(number)
        if not self.received and self.trainer.is_global_zero:
            name = signal.Signals(number).name
            # A handler may come in the middle of a print, which a second one must not enter.
            os.write(2, f"{name}: the run is saved after this step (again ends it)\n".encode())
        self.received = number

    def _tell_children(self, number: int) -> None:
        """Pass a signal on to the processes that this one has started."""
        launcher = self.trainer.strategy.launcher
        if launcher is not None and hasattr(launcher, "kill"):
            launcher.kill(number)


def requeue() -> None:
    """Put this SLURM job, or task of a job array, back into the queue."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]
    done = subprocess.run(["scontrol", "requeue", job], check=False)
    if done.returncode:
        rank_zero_warn(f"SLURM did not requeue job {job}: submit it again")
