"""The LightningModule: wires NumberLM to steps, logs and an optimizer. All maths is in `numlm`."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from transformers import get_cosine_schedule_with_warmup

from numlm import clock
from numlm.batch import Batch
from numlm.heads import SoftmaxHead, TokenHead
from numlm.identity import Identity, ModelMismatchError
from numlm.lora import Lora
from numlm.losses import ValueLoss, value_nll
from numlm.model import NumberLM
from numlm.number_head import NumberHead
from numlm.prediction import Prediction, predict_batch
from numlm.scoring import score_batch

EMBEDDED_MODEL = str(Path(__file__).resolve().parents[1] / "assets" / "tiny-qwen2")
_NO_DECAY_DIMENSIONS = 1


class NumberLMModule(LightningModule):
    """Fine-tunes a causal language model to say numbers.

    Args:
        qwen_model_path: Folder or hub name of the model: a plain backbone, or one exported by an
            earlier run. The default is the checkpoint in `assets/`.
        token_head: Decides whether a number comes next: `numlm.heads.SoftmaxHead` or
            `numlm.heads.OneVsRestHead`.
        number_head: Decides which number; `numlm.number_head.NumberHead`.
        embedding_hands: How many hands of the clock the backbone sees of a number, from the
            longest on; fewer than all where digits would only be learned by heart.
        lr: Greatest learning rate of the backbone.
        head_lr: Greatest learning rate of number embedding, abduction and heads.
        weight_decay: Weight decay of the matrices.
        warmup_ratio: Share of the steps in which the learning rate rises; it falls as a cosine
            after that.
        value_weight: Weight of the number loss beside the token loss.
        value_loss: Loss of new values: `numlm.losses.value_nll`, exact where they are restated,
            or `numlm.losses.value_crps`, better where they are uncertain and noise is skewed.
        gate_alpha: A number's loss is weighted by `alpha + (1 - alpha) * P(<NUM>)`; 1 is no gate.
        attn_implementation: Attention of the backbone, "sdpa" or "eager".
        random_weights: Take the backbone's architecture with random weights, for tests of loading
            and speed.
        lora: Train low-rank adapters beside a frozen backbone; None trains all of it.
    """

    def __init__(
        self,
        qwen_model_path: str = EMBEDDED_MODEL,
        token_head: Callable[[int], TokenHead] = SoftmaxHead,
        number_head: Callable[[int], NumberHead] = NumberHead,
        embedding_hands: int = clock.HANDS,
        lr: float = 1e-3,
        head_lr: float = 2e-3,
        weight_decay: float = 0.01,
        warmup_ratio: float = 0.05,
        value_weight: float = 0.3,
        value_loss: ValueLoss = value_nll,
        gate_alpha: float = 1.0,
        attn_implementation: str = "sdpa",
        random_weights: bool = False,
        lora: Lora | None = None,
    ) -> None:
        super().__init__()
        if isinstance(lora, dict):  # from a checkpoint, which holds plain values only
            lora = Lora(**lora)
        self.save_hyperparameters(ignore=["token_head", "number_head", "value_loss", "lora"])
        self.save_hyperparameters({"lora": lora and asdict(lora)})
        self.model = NumberLM.from_pretrained(
            qwen_model_path,
            token_head=token_head,
            number_head=number_head,
            embedding_hands=embedding_hands,
            attn_implementation=attn_implementation,
            random_weights=random_weights,
            lora=lora,
        )
        self.lr = lr
        self.head_lr = head_lr
        self.weight_decay = weight_decay
        self.warmup_ratio = warmup_ratio
        self.value_weight = value_weight
        self.value_loss = value_loss
        self.gate_alpha = gate_alpha

    def setup(self, stage: str) -> None:
        """Refuse a precision that the number path does not survive.

        Raises:
            ValueError: If the trainer would turn every float of model and batch into 16 bits.
        """
        if self.trainer.precision in ("bf16-true", "16-true", "transformer-engine-float16"):
            raise ValueError(
                f"precision {self.trainer.precision} would cut every number to 16 bits "
                "(12345.678 arrives as 12352): use bf16-mixed or 16-mixed"
            )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a training batch."""
        return self._step(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a validation batch."""
        return self._step(batch, "val")

    def _step(self, batch: Batch, stage: str) -> Tensor:
        losses = self.model.losses(batch, self.gate_alpha, self.value_loss)
        total = losses.total(self.value_weight)
        figures = {
            "loss": total,
            "token": losses.token.mean,
            "value": losses.value.mean,
            "pointer": losses.pointer.mean,
        }
        self.log_dict(
            {f"{stage}/{name}": figure for name, figure in figures.items()},
            batch_size=len(batch.input_ids),
            sync_dist=stage != "train",
        )
        self.log(
            f"{stage}_loss", total, prog_bar=True, logger=False, batch_size=len(batch.input_ids)
        )
        return total

    def test_step(
        self, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> dict[str, Tensor]:
        """Score a batch of an evaluation set, for the evaluation callback."""
        return score_batch(self.model, batch)._asdict()

    def predict_step(self, batch: Any, batch_idx: int) -> list[Prediction]:  # noqa: ANN401
        """The number that comes after each of the batch's `prompts`."""
        return predict_batch(self.model, batch.prompts) if batch.prompts else []

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what was trained only, and say which model it belongs to."""
        checkpoint["identity"] = asdict(self.model.identity)
        checkpoint["lora"] = self.model.lora and asdict(self.model.lora)
        for name in self._frozen():
            del checkpoint["state_dict"][name]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another model; what was frozen is as it was loaded.

        Raises:
            ModelMismatchError: If the checkpoint is of another backbone, tokenizer or adapters.
        """
        owner = "the checkpoint"
        Identity.read(checkpoint.get("identity", {}), owner).check(
            self.model.identity, owner, "model.qwen_model_path"
        )
        lora = self.model.lora and asdict(self.model.lora)
        if checkpoint["lora"] != lora:
            raise ModelMismatchError(
                f"the checkpoint was trained with model.lora {checkpoint['lora']}, but here it is "
                f"{lora}: give the same settings"
            )
        # Lightning's strict loading then finds every other missing or unknown weight.
        checkpoint["state_dict"] = {**self._frozen(), **checkpoint["state_dict"]}

    def _frozen(self) -> dict[str, Tensor]:
        """Weights that are not trained, by name; a tied one by each of its names."""
        return {
            name: parameter.detach()
            for name, parameter in self.named_parameters(remove_duplicate=False)
            if not parameter.requires_grad
        }

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with two learning rates, linear warm-up and cosine decay."""
        heads = {id(parameter) for parameter in self.model.head_parameters()}
        groups: dict[tuple[bool, bool], list[Tensor]] = {}
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                key = (id(parameter) in heads, parameter.ndim > _NO_DECAY_DIMENSIONS)
                groups.setdefault(key, []).append(parameter)
        optimizer = torch.optim.AdamW(
            [
                {
                    "params": parameters,
                    "lr": self.head_lr if is_head else self.lr,
                    "weight_decay": self.weight_decay if decays else 0.0,
                    "name": f"{'head' if is_head else 'backbone'}{'' if decays else '_no_decay'}",
                }
                for (is_head, decays), parameters in groups.items()
            ],
            betas=(0.9, 0.98),
        )
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = get_cosine_schedule_with_warmup(
            optimizer, max(1, int(self.warmup_ratio * steps)), steps
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }
