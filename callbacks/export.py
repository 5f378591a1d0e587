"""The fine-tuned model as a folder that loads anywhere."""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from callbacks.model_card import CARD_FILE, model_card
from callbacks.run_folder import run_folder
from numlm.hub import make_repository, upload_model
from numlm.model import NumberLM
from numlm.sharding import whole_copy

ADAPTER_FOLDER = "adapter"


class ExportModel(Callback):
    """Writes `model/` at the end of training: safetensors, tokenizer, configuration, model card.

    Where adapters were trained they are folded into it, and stand alone in `adapter/`. Comes after
    the evaluation and the floors, whose figures are on the card.

    Args:
        folder: Name of the folder within the run's folder.
        pth: Whether to write the weights as one file as well, `model.pth`, for `torch.load`.
        push_to_hub: `owner/name` of a repository on the Hugging Face hub, to which the folder is
            uploaded; made, as a private one, before training if it is not there.
    """

    def __init__(
        self, folder: str = "model", pth: bool = False, push_to_hub: str | None = None
    ) -> None:
        self.folder = folder
        self.pth = pth
        self.push_to_hub = push_to_hub

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find out that nothing can be uploaded before hours of training.

        Raises:
            HubError: If the hub does not let the repository be made.
        """
        if self.push_to_hub is not None and trainer.is_global_zero:
            make_repository(self.push_to_hub)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the model as it is now, and upload it.

        Raises:
            HubError: If the hub does not take it; it is written all the same.
        """
        target = run_folder(trainer) / self.folder
        trained: Any = pl_module.model
        model: NumberLM | None = whole_copy(trained)
        if model is not None:
            lora = model.lora
            if lora is not None:
                model.save_pretrained(target.with_name(ADAPTER_FOLDER))
                model.merge()
            model.save_pretrained(target)
            card = model_card(target.parent, model, lora, self.push_to_hub)
            (target / CARD_FILE).write_text(card, encoding="utf-8")
            if self.pth:
                torch.save(model.state_dict(), target.with_name(f"{target.name}.pth"))
        rank_zero_info(f"Model written to {target}")
        trainer.strategy.barrier()
        if self.push_to_hub is not None and trainer.is_global_zero:
            rank_zero_info(f"Model uploaded: {upload_model(target, self.push_to_hub)}")
