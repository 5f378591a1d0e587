"""The arms of `train_speed.py`: the same texts, steps and optimizer in different trainers."""

import itertools
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    PrinterCallback,
    TrainerCallback,
    TrainingArguments,
)
from transformers import Trainer as HuggingFaceTrainer

from benchmarks.memory_formulas import Shape
from benchmarks.naive_loss import naive_one_vs_rest
from benchmarks.trainer_turns import Turn
from datamodules.number_data_module import NumberDataModule
from lightning_modules.number_lm import NumberLMModule
from numlm.batch import IGNORE, Batch, Piece, Record
from numlm.heads import Latent, OneVsRestHead, SoftmaxHead, TokenHead

LR = 1e-4


@dataclass(frozen=True)
class Job:
    """What every arm does.

    Attributes:
        model: Folder of the model.
        shape: Its shape.
        records: The texts, with the loss on all of them.
        answers: The same texts, with the loss on a part of them.
        batch_size: Texts a step.
        steps: Steps.
        precision: `32-true` or `bf16-mixed`.
        folder: Where trainers may write.
    """

    model: str
    shape: Shape
    records: list[Record]
    answers: list[Record]
    batch_size: int
    steps: int
    precision: Literal["32-true", "bf16-mixed"]
    folder: Path

    def flop(self, lengths: Sequence[int], labelled: int) -> float:
        """Operations of the products of a step, forward and backward: 6 for every weight used."""
        shape = self.shape
        layers = shape.layers * shape.layer_matrices * sum(lengths)
        attention = shape.layers * shape.hidden * sum(length**2 for length in lengths)
        return 6.0 * (layers + attention + shape.table * labelled)


class GivenTexts(NumberDataModule):
    """Texts that are given instead of generated.

    Args:
        records: The training texts.
        **options: Those of the data module.
    """

    def __init__(self, records: list[Record], **options: Any) -> None:  # noqa: ANN401
        super().__init__(num_samples=len(records), eval_samples=1, noisy_samples=1, **options)
        self.given = records

    def _generate_training(self) -> None:
        self._train = self._val = self.given


class _TakeTurns(Callback):
    """Tells of every step of a Lightning trainer."""

    def __init__(self, job: Job, turn: Turn) -> None:
        self.job, self.turn = job, turn

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Piece, _: int
    ) -> None:
        self.turn.stepped(*_work(self.job, batch.batch))


def _work(job: Job, batch: Batch) -> tuple[int, float]:
    lengths = batch.attention_mask.sum(-1).tolist()
    return sum(lengths), job.flop(lengths, int((batch.labels[:, 1:] != IGNORE).sum()))


class _NaiveHead(OneVsRestHead):
    """One-vs-rest with all scores at once and gradients by autograd."""

    def loss(
        self,
        latent: Latent,
        weight: Tensor,
        labels: Tensor,
        shift: Any = None,  # noqa: ANN401
    ) -> tuple[Tensor, Tensor]:
        """The naive sum; without the labels' probabilities, which a gate of 1 does not use."""
        loss = naive_one_vs_rest(latent.loc, latent.scale, weight, self.threshold, labels)
        return loss, torch.ones_like(latent.scale[:, 0])


class _BackboneAlone(NumberLMModule):
    """Embedding, layers and abduction, without heads and losses."""

    def training_step(self, piece: Piece, batch_idx: int) -> Tensor:
        """A loss that costs nothing."""
        loss: Tensor = self.model(piece.batch).loc.square().mean()
        return loss

    def configure_gradient_clipping(self, optimizer: Any, *options: Any, **named: Any) -> None:  # noqa: ANN401
        """As Lightning does it: there is no loss for the guard to look at."""
        self.clip_gradients(optimizer, 1.0, "norm")


def ours(
    job: Job,
    token_head: Callable[[int], TokenHead] = SoftmaxHead,
    answers: bool = False,
    module_type: type[NumberLMModule] = NumberLMModule,
    **options: Any,  # noqa: ANN401
) -> Callable[[Turn], None]:
    """This project's trainer: texts of like length together, packed.

    Args:
        job: What to do.
        token_head: The token head.
        answers: Whether the loss is on a part of the texts.
        module_type: The LightningModule.
        **options: Its options.
    """

    def arm(turn: Turn) -> None:
        records = job.answers if answers else job.records
        data = GivenTexts(records, qwen_model_path=job.model, batch_size=job.batch_size)
        trainer = Trainer(
            max_steps=job.steps, precision=job.precision, devices=1, gradient_clip_val=1.0,
            callbacks=[_TakeTurns(job, turn)], logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
            use_distributed_sampler=False, default_root_dir=job.folder,
        )  # fmt: skip
        module = module_type(job.model, token_head=token_head, lr=LR, head_lr=LR, **options)
        trainer.fit(module, datamodule=data)

    return arm


class _HuggingFaceTurns(TrainerCallback):
    def __init__(self, turn: Turn, batches: deque[tuple[int, float]]) -> None:
        self.turn, self.batches = turn, batches

    def on_step_end(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
        self.turn.stepped(*self.batches.popleft())


def hugging_face(
    job: Job, grouped: bool = False, compiled: bool = False
) -> Callable[[Turn], None]:
    """Transformers' own trainer: cross-entropy on all positions, padded to the longest text.

    Args:
        job: What to do.
        grouped: Whether texts of like length come together.
        compiled: Whether the model is compiled.
    """

    def arm(turn: Turn) -> None:
        batches: deque[tuple[int, float]] = deque()  # the loader is a batch ahead of the step

        def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
            lengths = [len(row["input_ids"]) for row in rows]
            batches.append((sum(lengths), job.flop(lengths, sum(lengths) - len(lengths))))
            ids = torch.zeros(len(rows), max(lengths), dtype=torch.long)
            mask = torch.zeros_like(ids)
            for i, row in enumerate(rows):
                ids[i, : lengths[i]] = torch.tensor(row["input_ids"])
                mask[i, : lengths[i]] = 1
            labels = ids.masked_fill(mask == 0, IGNORE)
            return {"input_ids": ids, "attention_mask": mask, "labels": labels}

        model = AutoModelForCausalLM.from_pretrained(
            job.model, dtype=torch.float32, attn_implementation="sdpa"
        )
        arguments = TrainingArguments(
            output_dir=str(job.folder / "hugging_face"), max_steps=job.steps,
            per_device_train_batch_size=job.batch_size, learning_rate=LR, adam_beta2=0.98,
            weight_decay=0.01, lr_scheduler_type="cosine", warmup_steps=1, max_grad_norm=1.0,
            optim="adamw_torch_fused", bf16=job.precision == "bf16-mixed",
            train_sampling_strategy="group_by_length" if grouped else "random",
            torch_compile=compiled, use_cpu=not torch.cuda.is_available(), save_strategy="no",
            logging_strategy="no", report_to=[], disable_tqdm=True, remove_unused_columns=False,
            seed=0,
        )  # fmt: skip
        rows: Any = [
            {"input_ids": list(record.input_ids), "length": len(record.input_ids)}
            for record in job.records
        ]
        trainer = HuggingFaceTrainer(
            model, arguments, train_dataset=rows, data_collator=collate,
            callbacks=[_HuggingFaceTurns(turn, batches)],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()

    return arm


def arms(job: Job) -> dict[str, Callable[[Turn], None]]:
    """All arms by name, those of Hugging Face's trainer first."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return {
        "A: HF Trainer": hugging_face(job),
        "B: A, grouped and compiled": hugging_face(job, grouped=True, compiled=True),
        "C: softmax": ours(job),
        "D: one-vs-rest": ours(job, OneVsRestHead),
        "E: one-vs-rest, answers": ours(job, OneVsRestHead, answers=True),
        "F: one-vs-rest, naive": ours(job, _NaiveHead),
        "G: backbone alone": ours(job, module_type=_BackboneAlone),
        "H: C, compiled": ours(job, compile_layers=True),
    }


def with_answers(records: Sequence[Record], share: float = 0.15) -> list[Record]:
    """The texts with the loss on their last tokens, such a share of them."""
    return [
        record._replace(answer_start=round(len(record.input_ids) * (1 - share)))
        for record in records
    ]


def joined(records: Sequence[Record], length: int, num_token_id: int) -> list[Record]:
    """Texts of exactly a length, of the given ones in a row."""
    ids = itertools.chain.from_iterable(record.input_ids for record in records)
    values = itertools.chain.from_iterable(record.values for record in records)
    made: list[Record] = []
    while len(part := list(itertools.islice(ids, length))) == length:
        own = list(itertools.islice(values, part.count(num_token_id)))
        made.append(Record(part, own, (), len(made)))
    return made
