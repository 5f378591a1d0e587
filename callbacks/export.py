"""The fine-tuned model as a folder that loads anywhere."""

from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from callbacks.run_folder import run_folder


class ExportModel(Callback):
    """Writes `model/` at the end of training: safetensors, tokenizer and configuration.

    Args:
        folder: Name of the folder within the run's folder.
    """

    def __init__(self, folder: str = "model") -> None:
        self.folder = folder

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the model as it is now."""
        target = run_folder(trainer) / self.folder
        if trainer.is_global_zero:
            model: Any = pl_module.model
            model.save_pretrained(target)
        rank_zero_info(f"Model written to {target}")
        trainer.strategy.barrier()
