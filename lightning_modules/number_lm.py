"""The LightningModule: wires NumberLM to steps, logs and an optimizer. All maths is in `numlm`."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer

from lightning_modules.optimization import (
    OptimizerOptions,
    apply_options,
    clip_to_norm,
    make_optimizer,
    make_schedule,
)
from lightning_modules.steps import (
    OnBadStep,
    StepGuard,
    rescale_progress,
    scales_gradients,
    step_seed,
)
from lightning_modules.strategies import ShardedStrategy
from numlm import clock
from numlm.batch import Batch, Piece
from numlm.compilation import check_compiler, compile_layers
from numlm.errors import OptionsError
from numlm.heads import SoftmaxHead, TokenHead
from numlm.identity import Identity, ModelMismatchError
from numlm.lora import Lora
from numlm.losses import ValueLoss, value_crps
from numlm.metrics import LossTable
from numlm.model import FIGURES, NumberLM
from numlm.number_head import NumberHead
from numlm.prediction import Prediction, predict_batch
from numlm.scoring import score_batch
from numlm.sharding import is_sharded, load_sharded

EMBEDDED_MODEL = str(Path(__file__).resolve().parents[1] / "assets" / "tiny-qwen2")
_STAND_IN = ("0",)


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
        value_loss: Loss of new values: `numlm.losses.value_crps`, their score, or
            `numlm.losses.value_nll`, their likelihood, which seeks the mode.
        gate_alpha: A number's loss is weighted by `alpha + (1 - alpha) * P(<NUM>)`; 1 is no gate.
        attn_implementation: Attention of the backbone, "sdpa" or "eager".
        activation_checkpointing: In training, keep only what goes into every layer, and compute
            the rest again in the backward pass: less memory, a third more time.
        compile_layers: Compile the backbone's layers for training: faster steps after a minute
            or less of compiling, which pays in runs of many minutes.
        trust_remote_code: Whether code that comes with the model, for an architecture that
            Transformers does not know, may run: it can do anything that you can.
        lora: Train low-rank adapters beside a frozen backbone; None trains all of it.
        on_bad_step: What to do where a loss or the norm of a gradient is not finite: "raise"
            stops before anything is updated, "skip" leaves the step out, says so and counts it.
        seed: Seed of what is random in a training step; set by `seed_everything`.
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
        value_loss: ValueLoss = value_crps,
        gate_alpha: float = 1.0,
        attn_implementation: str = "sdpa",
        activation_checkpointing: bool = False,
        compile_layers: bool = False,
        trust_remote_code: bool = False,
        lora: Lora | None = None,
        on_bad_step: OnBadStep = "raise",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if isinstance(lora, dict):  # from a checkpoint, which holds plain values only
            lora = Lora(**lora)
        self.save_hyperparameters(ignore=["token_head", "number_head", "value_loss", "lora"])
        self.save_hyperparameters({"lora": lora and asdict(lora)})
        self._load = partial(
            NumberLM.from_pretrained,
            qwen_model_path,
            token_head=token_head,
            number_head=number_head,
            embedding_hands=embedding_hands,
            attn_implementation=attn_implementation,
            activation_checkpointing=activation_checkpointing,
            trust_remote_code=trust_remote_code,
            lora=lora,
        )
        self.compile_layers = compile_layers
        self.model: NumberLM
        self.validation_losses = LossTable()
        self.guard = StepGuard(on_bad_step)
        self._step_figures: list[Tensor] = []
        self.options = OptimizerOptions(lr, head_lr, weight_decay)
        self.seed = seed
        self.warmup_ratio = warmup_ratio
        self.value_weight = value_weight
        self.value_loss = value_loss
        self.gate_alpha = gate_alpha

    def setup(self, stage: str) -> None:
        """Refuse a precision that the number path does not survive.

        Raises:
            OptionsError: If the trainer would turn every float of model and batch into 16 bits.
        """
        if self.trainer.precision in ("bf16-true", "16-true", "transformer-engine-float16"):
            raise OptionsError(
                f"precision {self.trainer.precision} would cut every number to 16 bits "
                "(12345.678 arrives as 12352): use bf16-mixed or 16-mixed"
            )

    def configure_model(self) -> None:
        """Load the model, and let it be compiled if it is to train.

        Raises:
            ModelNotFoundError: If there is no whole model at the path.
            ModelMismatchError: If the files there do not belong together.
            OptionsError: If the strategy splits what cannot be split, or nothing can be compiled.
        """
        if hasattr(self, "model"):  # Lightning asks again before every fit and test
            return
        compiled = self.compile_layers and self._trainer is not None and self.trainer.training
        if compiled:
            check_compiler(self.device)
        self._load_model()
        if compiled:
            compile_layers(self.model.backbone, self.model.token_head)

    def _load_model(self) -> None:
        """Load the model: whole, or in parts where the strategy spreads it over devices.

        Raises:
            ModelNotFoundError: If there is no whole model at the path.
            ModelMismatchError: If the files there do not belong together.
            OptionsError: If the strategy splits what cannot be split.
        """
        strategy = self.trainer.strategy if self._trainer else None
        if not isinstance(strategy, ModelParallelStrategy):
            self.model = self._load()
            return
        if not isinstance(strategy, ShardedStrategy):
            raise OptionsError(
                "no layer can be split over devices: give "
                "lightning_modules.strategies.ShardedStrategy (configs/fsdp.yaml) instead"
            )
        mixed = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
        mesh = strategy.device_mesh["data_parallel"]
        self.model = load_sharded(self._load, mesh, mixed.get(str(self.trainer.precision)))
        if self.model.lora is not None and strategy.saves_parts:
            raise OptionsError(
                "checkpoints of adapters are small: leave "
                "trainer.strategy.init_args.save_distributed_checkpoint false"
            )

    def on_train_start(self) -> None:
        """A resumed run takes the options that it is given, not those of the checkpoint."""
        optimizer, schedule = self.optimizers(), self.lr_schedulers()
        apply_options(optimizer, schedule, self.options)

    def on_train_batch_start(self, piece: Piece, batch_idx: int) -> None:
        """What is random in a step depends on the seed and the step, not on what was before."""
        place = batch_idx % self.trainer.accumulate_grad_batches
        seed = step_seed(self.seed, self.trainer.global_step, place, self.trainer.global_rank)
        torch.manual_seed(seed)

    def training_step(self, piece: Piece, batch_idx: int) -> Tensor:
        """Loss of a piece of a training step; what is logged is the loss of the whole step."""
        losses = self.model.losses(piece.batch, self.gate_alpha, self.value_loss)
        losses = losses.over(piece.tokens, piece.numbers)
        self.guard.records.append(piece.batch.record_ids)
        self._step_figures.append(losses.figures(self.value_weight).detach())
        if (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0:
            figures = torch.stack(self._step_figures).mean(0)
            figures = self.trainer.strategy.reduce(figures, reduce_op="mean")
            self._log("train", figures)
            self.guard.loss = figures[0]
            self._step_figures.clear()
        return losses.total(self.value_weight)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient of a step, and leave nothing of it where it is not finite.

        Raises:
            BadNumbersError: If it is not, and such steps are not to be skipped.
        """
        norm = self.guard.check(optimizer, self.trainer)
        if norm is not None and gradient_clip_val and gradient_clip_algorithm != "value":
            clip_to_norm(optimizer, gradient_clip_val, norm)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count the losses of a validation batch."""
        losses = self.model.losses(batch, self.gate_alpha, self.value_loss)
        self.validation_losses.update(batch.record_ids[0], losses)

    def on_validation_epoch_end(self) -> None:
        """Log the loss of all validation texts, each counted once."""
        self._log("val", self.validation_losses.losses().figures(self.value_weight))
        self.validation_losses.reset()

    def _log(self, stage: str, figures: Tensor) -> None:
        """Log figures that are the same on every process."""
        for name, figure in zip(FIGURES, figures, strict=True):
            self.log(f"{stage}/{name}", figure, batch_size=1)
        self.log(f"{stage}_loss", figures[0], prog_bar=True, logger=False, batch_size=1)

    def test_step(
        self, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> dict[str, Tensor]:
        """Score a batch of an evaluation set, for the evaluation callback."""
        return score_batch(self.model, batch)._asdict()

    def predict_step(self, batch: Any, batch_idx: int) -> list[Prediction]:  # noqa: ANN401
        """The number that comes after each of the batch's `prompts`."""
        # Where weights are shared no process may leave a pass out.
        prompts = batch.prompts or _STAND_IN
        return predict_batch(self.model, prompts)[: len(batch.prompts)]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what was trained only, and say which model it belongs to."""
        checkpoint["identity"] = asdict(self.model.identity)
        checkpoint["lora"] = self.model.lora and asdict(self.model.lora)
        checkpoint["accumulate_grad_batches"] = self.trainer.accumulate_grad_batches
        checkpoint["skipped_steps"] = self.guard.skipped
        for name in self._frozen():
            checkpoint["state_dict"].pop(name, None)  # of shared weights the first process has all

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
        if not is_sharded(self.model):  # else the strategy has read the weights already
            # Lightning's strict loading then finds every other missing or unknown weight.
            checkpoint["state_dict"] = {**self._frozen(), **checkpoint["state_dict"]}
        if self._trainer and self.trainer.training:
            self._go_on_from(checkpoint)

    def _go_on_from(self, checkpoint: dict[str, Any]) -> None:
        """Take over what is counted, and say which options are not those of the checkpoint."""
        self.guard.skipped = checkpoint["skipped_steps"]
        pieces = checkpoint["accumulate_grad_batches"], self.trainer.accumulate_grad_batches
        rescale_progress(checkpoint["loops"], *pieces)
        before = checkpoint["hyper_parameters"]
        others = {k: v for k, v in self.hparams.items() if k in before and before[k] != v}
        others.pop("qwen_model_path", None)  # what it is tells the identity
        if others:
            changes = ", ".join(f"{name} {before[name]} -> {v}" for name, v in others.items())
            rank_zero_warn(f"the run goes on with other options than the checkpoint's: {changes}")

    def _frozen(self) -> dict[str, Tensor]:
        """Weights that are not trained, by name; a tied one by each of its names."""
        return {
            name: parameter.detach()
            for name, parameter in self.named_parameters(remove_duplicate=False)
            if not parameter.requires_grad
        }

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with two learning rates, linear warm-up and cosine decay."""
        fused = not scales_gradients(self.trainer)
        optimizer = make_optimizer(self.model, self.options, fused)
        schedule = make_schedule(
            optimizer, int(self.trainer.estimated_stepping_batches), self.warmup_ratio
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }
