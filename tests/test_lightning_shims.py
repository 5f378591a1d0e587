"""What Lightning does that this project works around: a test fails when it no longer does.

Each says which of our parts can go then.
"""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from fsspec.implementations.local import LocalFileOpener, LocalFileSystem
from lightning import LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.cli import LightningCLI
from torch import Tensor
from torch.utils.data import DataLoader

QUIET: dict[str, Any] = {
    "accelerator": "cpu", "devices": 1, "logger": False, "enable_progress_bar": False,
    "enable_model_summary": False,
}  # fmt: skip
NUMBERS = [torch.tensor([float(i)]) for i in range(8)]


class Toy(LightningModule):
    """One weight, and a list of the samples that it has seen."""

    def __init__(self, lr: float = 0.001, spoiled: bool = False) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.lr, self.spoiled = lr, spoiled
        self.seen: list[float] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.seen.append(float(batch[0]))
        return (self.weight * (float("nan") if self.spoiled else 1.0)).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), self.lr)

    def train_dataloader(self) -> Any:
        return DataLoader(NUMBERS, batch_size=1)  # type: ignore[arg-type]


def trainer(folder: Path, **options: Any) -> Trainer:
    return Trainer(**{**QUIET, "default_root_dir": folder, "max_epochs": 1, **options})


def test_it_swallows_a_folder_that_refuses_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then: `WholeCheckpointIO.save_checkpoint` (issue 21800)."""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(LocalFileSystem, "open", refuse)
    TorchCheckpointIO().save_checkpoint({"step": 1}, tmp_path / "a.ckpt")
    assert not list(tmp_path.iterdir()), "nothing was saved, and nothing was said"


def test_it_writes_into_the_temporary_folder_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then: `WholeCheckpointIO.save_checkpoint` (issue 21253)."""
    places: list[Path] = []
    commit = LocalFileOpener.commit

    def watched(self: LocalFileOpener) -> None:
        places.append(Path(self.temp).parent)
        commit(self)

    monkeypatch.setattr(LocalFileOpener, "commit", watched)
    TorchCheckpointIO().save_checkpoint({"step": 1}, tmp_path / "a.ckpt")
    assert places == [Path(tempfile.gettempdir())]


def test_it_updates_weights_with_what_is_not_a_number(tmp_path: Path) -> None:
    """Then: `StepGuard`."""
    module = Toy(spoiled=True)
    trainer(tmp_path, enable_checkpointing=False).fit(module)
    assert bool(torch.isnan(module.weight).all())


def test_a_loader_begins_again_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    """Then: `StepLoader` and `StepSampler.first_step` could be a stateful loader's."""
    saved = ModelCheckpoint(tmp_path, every_n_train_steps=3, save_top_k=-1, filename="{step}")
    trainer(tmp_path, callbacks=[saved]).fit(Toy())
    resumed = Toy()
    trainer(tmp_path, enable_checkpointing=False).fit(resumed, ckpt_path=tmp_path / "step=3.ckpt")
    assert resumed.seen == [0.0, 1.0, 2.0, 3.0, 4.0], "instead of 3 to 7"


def test_a_run_at_its_greatest_number_of_steps_ends_without_its_hooks(tmp_path: Path) -> None:
    """Then: `SaveCheckpoints` may save the last step before the evaluation."""
    saved = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_top_k=-1, filename="{step}")
    trainer(tmp_path, callbacks=[saved], max_steps=2).fit(Toy())
    ended: list[str] = []

    class End(Callback):
        def on_train_end(self, *_: Any) -> None:
            ended.append("end")

    again = trainer(tmp_path, callbacks=[End()], enable_checkpointing=False, max_steps=2)
    again.fit(Toy(), ckpt_path=tmp_path / "step=2.ckpt")
    assert not ended


def test_the_checkpoint_s_options_win_over_the_command_line_s(tmp_path: Path) -> None:
    """Then: `NumberLMCLI._parse_ckpt_path` (pull requests 21455, 21116)."""
    saved = trainer(tmp_path, max_steps=1)
    saved.fit(Toy(lr=0.25))
    saved.save_checkpoint(tmp_path / "a.ckpt")
    cli = LightningCLI(
        Toy,
        args=["fit", "--ckpt_path", str(tmp_path / "a.ckpt"), "--model.lr", "0.5",
              "--trainer.max_steps", "1", "--trainer.logger", "false",
              "--trainer.default_root_dir", str(tmp_path)],
        save_config_callback=None,
        auto_configure_optimizers=False,
    )  # fmt: skip
    assert cli.model.lr == 0.25


SIGNALLED = """
import os, signal, sys
sys.path.insert(0, {root!r})
from tests.test_lightning_shims import Toy, trainer
from pathlib import Path

class Signalled(Toy):
    def training_step(self, batch, batch_idx):
        if batch_idx == 3:
            os.kill(os.getpid(), signal.{name})
        return super().training_step(batch, batch_idx)

trainer(Path({folder!r}), enable_checkpointing=False, max_epochs=100).fit(Signalled())
"""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 0), ("SIGINT", 1)])
def test_exit_codes_do_not_say_what_ended_a_run(tmp_path: Path, name: str, code: int) -> None:
    """Then: a part of `StopSignals` (pull request 21623)."""
    root = str(Path(__file__).resolve().parents[1])
    script = SIGNALLED.format(root=root, folder=str(tmp_path), name=name)
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, timeout=120
    )
    assert done.returncode == code != 128 + getattr(signal, name)


def test_what_the_shims_rest_on_is_still_there(tmp_path: Path) -> None:
    """Names that are Lightning's own: they can go without notice."""
    run = trainer(tmp_path, enable_checkpointing=False)
    run.fit(Toy())
    epoch = run.fit_loop.epoch_loop
    assert callable(epoch._should_check_val_fx)
    assert epoch.batch_progress.is_last_batch
    assert hasattr(run.fit_loop, "_data_fetcher")
    assert hasattr(run._accelerator_connector, "cluster_environment")
    assert "epoch_loop.batch_progress" in run.fit_loop.state_dict()
