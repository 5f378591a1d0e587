"""The data of a run: generated text and its evaluation sets, or somebody's own rows."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from datamodules import (
    basic,
    boundary_values,
    extreme_values,
    noisy_readings,
    ordinary_text,
    question_answering,
    training_mix,
)
from datamodules.evaluation_set import EvaluationSet
from datamodules.examples import Example
from datamodules.own_data import OwnData, Rows, Sources
from datamodules.prompt_stream import PromptStream
from datamodules.row_files import DataNotFoundError
from datamodules.rows import Columns
from datamodules.sampling import EvenBatchSampler, StepLoader, StepPiece, StepSampler
from datamodules.token_store import OnError
from numlm.batch import Batch, Piece, Record, collate, count_labels
from numlm.checkpoint import load_context_length, load_tokenizer
from numlm.errors import OptionsError
from numlm.floors import Question
from numlm.tokenization import NumberTokenizer

Generator = Callable[[int, int], list[Example]]
COPYING_SETS: dict[str, Generator] = {  # the answer stands in the text
    "basic": basic.generate,
    "question_answering": question_answering.generate,
    "extreme_values": extreme_values.generate,
    "boundary_values": boundary_values.generate,
}
EVALUATION_SETS: dict[str, Generator] = {
    **COPYING_SETS,
    "noisy_readings": noisy_readings.generate,
    "ordinary_text": ordinary_text.generate,
}
_ENCODE_AT_ONCE = 2000


class NumberDataModule(LightningDataModule):
    """Generated text in English and Chinese, or own data, tokenized with the model's tokenizer.

    Own data are JSONL (also `.gz`), CSV or Parquet files, folders of them, or the name of a
    Hugging Face data set (`NAME` or `NAME:SPLIT`). A row has a `text` (the loss is on all of it)
    or a `prompt` and an `answer` (the loss is on the answer). Where `train_file` is given and one
    of the others is not, a tenth of its rows is held out in its place.

    Args:
        qwen_model_path: Folder or hub name of the model whose tokenizer is used; set by
            `model.qwen_model_path`.
        trust_remote_code: Whether code that comes with the model may run; set by
            `model.trust_remote_code`.
        train_file: Own rows to train on, instead of generated text.
        val_file: Own rows for the validation loss and the calibration of intervals.
        test_file: Own rows to evaluate on before and after, instead of the generated sets.
        predict_file: Rows that `predict` gives numbers for.
        text_column: Column of whole texts.
        prompt_column: Column of what stands before an answer.
        answer_column: Column of answers.
        on_error: What to do about a row that cannot be used: "raise", or "skip" and count.
        cache_dir: Where tokenized own data are kept, by content and tokenizer.
        num_samples: Generated training texts of an epoch.
        val_samples: Validation texts, for the validation loss and to calibrate intervals on; the
            most that are held out of own data.
        eval_samples: Examples of each generated evaluation set but the next; the most rows that
            are held out of own data to evaluate on.
        noisy_samples: Examples of `noisy_readings`; more than of the others, for a coverage of
            50 % measured on 200 is only known to within 7 points.
        batch_size: Texts a training step, of all devices and accumulated batches together: what
            is learned does not depend on how many there are.
        eval_batch_size: Texts a batch of the evaluation and of `predict`.
        num_workers: Worker processes that put batches together.
        seed: Seed of the training text, its order and the rows held out; set by
            `seed_everything`. The generated evaluation sets have one of their own.
        eval_seed: Seed of the generated evaluation sets.
    """

    def __init__(
        self,
        qwen_model_path: str,
        trust_remote_code: bool = False,
        train_file: str | None = None,
        val_file: str | None = None,
        test_file: str | None = None,
        predict_file: str | None = None,
        text_column: str = "text",
        prompt_column: str = "prompt",
        answer_column: str = "answer",
        on_error: OnError = "raise",
        cache_dir: str = "~/.cache/numlm",
        num_samples: int = 1000,
        val_samples: int = 200,
        eval_samples: int = 200,
        noisy_samples: int = 200,
        batch_size: int = 32,
        eval_batch_size: int = 50,
        num_workers: int = 0,
        seed: int = 0,
        eval_seed: int = 0,
    ) -> None:
        super().__init__()
        for name, least in {
            "num_samples": batch_size,
            "eval_samples": 1,
            "noisy_samples": 1,
            "val_samples": 1,
            "batch_size": 1,
        }.items():
            if locals()[name] < least:
                raise ValueError(f"data.{name} is {locals()[name]}, but must be at least {least}")
        if val_file and not train_file:
            raise ValueError("data.val_file is of own data: give data.train_file as well")
        self.qwen_model_path = qwen_model_path
        self.trust_remote_code = trust_remote_code
        self.predict_file = predict_file
        self.columns = Columns(text_column, prompt_column, answer_column)
        self.on_error = on_error
        self.num_samples = num_samples
        self.val_samples = val_samples
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.own = OwnData(
            Sources(train_file, val_file, test_file),
            self.columns,
            on_error,
            Path(cache_dir).expanduser(),
            seed,
            {"validation": val_samples, "test": eval_samples},
        )
        self.examples = {
            name: generate(noisy_samples if name == "noisy_readings" else eval_samples, eval_seed)
            for name, generate in EVALUATION_SETS.items()
            if not (train_file or test_file)
        }
        self._train: Sequence[Record] = []
        self._val: Sequence[Record] = []
        self._evaluation: dict[str, EvaluationSet] = {}

    @cached_property
    def tokenizer(self) -> NumberTokenizer:
        """The model's tokenizer."""
        return NumberTokenizer(load_tokenizer(self.qwen_model_path, self.trust_remote_code))

    def _context_length(self) -> int:
        return load_context_length(self.qwen_model_path, self.trust_remote_code)

    def prepare_data(self) -> None:
        """Tokenize own data, once on every machine; the other processes wait."""
        self.own.prepare(self._context_length(), self.tokenizer)

    def setup(self, stage: str) -> None:
        """Tokenize what the stage needs."""
        if stage == "predict":
            if self.predict_file is None:
                raise DataNotFoundError("nothing to predict: give --data.predict_file")
            return
        keys = self.own.keys
        self.own.open(self.trainer.strategy.broadcast(keys) if self.trainer else keys)
        if not self._evaluation:
            self._evaluation = {
                name: EvaluationSet.of_examples(examples, self._encode(examples))
                for name, examples in self.examples.items()
            } or self.own.evaluation_sets()
        if stage in ("fit", "validate") and not self._train:
            if self.own.sources.train:
                self._set_up_own_training()
            else:
                self._generate_training()

    def _set_up_own_training(self) -> None:
        self._train = self.own.rows("train")
        self._val = self.own.rows("validation")
        if len(self._train) < self.batch_size:
            raise DataNotFoundError(
                f"{len(self._train)} rows of {self.own.sources.train} are left to train on, but a "
                f"step takes {self.batch_size}: lower --data.batch_size"
            )

    def _generate_training(self) -> None:
        """Generate training and validation text that shares no sentence with the sets."""
        reserved = training_mix.reserved_sentences(
            itertools.chain.from_iterable(self.examples.values())
        )
        val = itertools.islice(
            training_mix.generate(f"validation/{self.seed}", reserved), self.val_samples
        )
        train = itertools.islice(training_mix.generate(self.seed, reserved), self.num_samples)
        self._val = self._encode(val, ended=True)
        self._train = self._encode(
            tqdm(
                train,
                desc="Writing training text",
                total=self.num_samples,
                unit=" texts",
                disable=self._process()[0] != 0,
            ),
            ended=True,
        )

    def _encode(self, examples: Iterable[Example], ended: bool = False) -> list[Record]:
        end = self.tokenizer.end_token_id if ended else None
        records: list[Record] = []
        stream = iter(examples)
        while chunk := list(itertools.islice(stream, _ENCODE_AT_ONCE)):
            encodings = self.tokenizer.encode_batch([example.text for example in chunk])
            for example, encoding in zip(chunk, encodings, strict=True):
                records.append(Record.of(encoding, example.answers, len(records), end))
        return records

    def train_dataloader(self) -> StepLoader:
        """This process's pieces of the training steps, from the trainer's step on."""
        rank, world_size = self._process()
        accumulate = self.trainer.accumulate_grad_batches if self.trainer else 1
        if self.batch_size < world_size * accumulate:
            raise OptionsError(
                f"data.batch_size is {self.batch_size}, but a step is shared by {world_size} "
                f"processes, each with {accumulate} of trainer.accumulate_grad_batches: give "
                f"{world_size * accumulate} or more texts"
            )
        sampler = StepSampler(
            _lengths(self._train),
            self.batch_size,
            self.seed,
            rank,
            world_size,
            accumulate,
            first_step=lambda: self.trainer.global_step if self.trainer else 0,
        )
        pieces = _Pieces(
            self._train,
            label_counts(self._train, self.tokenizer.num_token_id),
            self._collate(),
            world_size * accumulate,
        )
        return StepLoader(
            DataLoader(pieces, sampler=sampler, batch_size=None, num_workers=self.num_workers)
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Validation batches of the training text."""
        return self._in_order(self._val)

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """The evaluation sets, in the order of `evaluation_names`."""
        return [self._in_order(found.records) for found in self._evaluation.values()]

    def predict_dataloader(self) -> DataLoader[Any]:
        """The rows to predict numbers for, streamed."""
        assert self.predict_file is not None
        stream = PromptStream(
            self.predict_file,
            self.columns,
            self.tokenizer,
            self._context_length(),
            self.on_error,
            self.eval_batch_size,
            *self._process(),
        )
        return DataLoader(stream, batch_size=None)

    def state_dict(self) -> dict[str, Any]:
        """What decides which texts a step learns from, for a checkpoint."""
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "training texts": len(self._train),
            "rows": dict(self.own.keys),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Say where a resumed run learns from other texts than it would have."""
        if not self._train:
            return
        now = self.state_dict()
        changes = [f"{k} {state_dict[k]} -> {now[k]}" for k in now if state_dict[k] != now[k]]
        if changes:
            rank_zero_warn(
                f"the run goes on with other training data than before: {', '.join(changes)}"
            )

    @property
    def evaluation_names(self) -> list[str]:
        """Names of the evaluation sets."""
        return list(self._evaluation)

    def evaluation_records(self, name: str) -> list[Record]:
        """The encoded texts of an evaluation set, a record's id being its place."""
        return self._evaluation[name].records

    def evaluation_facts(self, name: str) -> list[dict[str, str | int | bool]]:
        """What is known of each text of an evaluation set; own rows: the line."""
        return self._evaluation[name].facts

    def evaluation_groups(self, name: str) -> dict[str, list[int]]:
        """Record ids of an evaluation set by group; own rows have none."""
        return self._evaluation[name].groups

    def evaluation_questions(self, name: str) -> list[Question]:
        """The numbers that an evaluation set asks for, in the order of its records."""
        return self._evaluation[name].questions

    def best_answers(self, name: str) -> list[float | None]:
        """The best possible answer to each question of a set; None where the text tells it."""
        return self._evaluation[name].best

    def training_values(self) -> list[float]:
        """The numbers that the training texts ask for."""
        if self.own.sources.train:
            return self.own.training_values()
        return [record.values[index] for record in self._train for index in record.answers]

    def data_summary(self) -> list[dict[str, Any]]:
        """Of every own source: role, source, rows, skipped, bad_rows (what was wrong)."""
        return self.own.summary()

    def _in_order(self, records: Sequence[Record]) -> DataLoader[Any]:
        dataset: Any = records
        sampler = EvenBatchSampler(_lengths(records), self.eval_batch_size, *self._process())
        return DataLoader(dataset, batch_sampler=sampler, collate_fn=self._collate())

    def _collate(self) -> Callable[[list[Record]], Batch]:
        return partial(
            collate,
            num_token_id=self.tokenizer.num_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
        )

    def _process(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


class _Pieces(Dataset[Piece]):
    """Training texts, a piece of a step at a time.

    Args:
        records: All texts; those of the pieces that are asked for are read.
        counts: (N, 2) labelled tokens and numbers of every text.
        collate: Makes a batch.
        pieces: How many pieces a step has.
    """

    def __init__(
        self,
        records: Sequence[Record],
        counts: Tensor,
        collate: Callable[[list[Record]], Batch],
        pieces: int,
    ) -> None:
        self.records = records
        self.counts = counts
        self.collate = collate
        self.pieces = pieces

    def __getitem__(self, piece: StepPiece) -> Piece:
        tokens, numbers = self.counts[piece.all].sum(0).float() / self.pieces
        batch = self.collate([self.records[i] for i in piece.mine])
        return Piece(batch, tokens, numbers)


def label_counts(records: Sequence[Record], num_token_id: int) -> Tensor:
    """`numlm.batch.count_labels`; of stored rows without reading their texts."""
    if isinstance(records, Rows):
        return torch.from_numpy(records.label_counts)
    return count_labels(records, num_token_id)


def _lengths(records: Sequence[Record]) -> Sequence[int]:
    """Tokens of every record."""
    if isinstance(records, Rows):
        lengths: list[int] = records.lengths.tolist()
        return lengths
    return [len(record.input_ids) for record in records]
