"""The data of the experiment: the evaluation sets, the training mix, a validation split."""

import itertools
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from lightning import LightningDataModule
from torch.utils.data import DataLoader
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
from datamodules.examples import Example
from datamodules.sampling import EvenBatchSampler, LengthBatchSampler
from datamodules.vocabulary import LANGUAGES
from numlm.batch import Batch, Record, collate
from numlm.checkpoint import load_tokenizer
from numlm.floors import Question, questions
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
    """Generated text in English and Chinese, tokenized with the model's own tokenizer.

    Args:
        qwen_model_path: Folder or hub name of the model whose tokenizer is used; set by
            `model.qwen_model_path`.
        num_samples: Training texts of an epoch.
        val_samples: Validation texts, for the validation loss and to calibrate intervals on.
        eval_samples: Examples of each evaluation set but the next.
        noisy_samples: Examples of `noisy_readings`; more than of the others, for a coverage of
            50 % measured on 200 is only known to within 7 points.
        batch_size: Texts a training step, on every device.
        eval_batch_size: Texts a batch of the evaluation.
        num_workers: Worker processes that put batches together.
        seed: Seed of the training text and its order; set by `seed_everything`. The evaluation
            sets have one of their own.
        eval_seed: Seed of the evaluation sets.
    """

    def __init__(
        self,
        qwen_model_path: str,
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
        self.qwen_model_path = qwen_model_path
        self.num_samples = num_samples
        self.val_samples = val_samples
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.examples = {
            name: generate(noisy_samples if name == "noisy_readings" else eval_samples, eval_seed)
            for name, generate in EVALUATION_SETS.items()
        }
        self.tokenizer: NumberTokenizer | None = None
        self._train: list[Record] = []
        self._val: list[Record] = []
        self._evaluation: dict[str, list[Record]] = {}

    def setup(self, stage: str) -> None:
        """Tokenize what the stage needs."""
        if self.tokenizer is None:
            base = load_tokenizer(self.qwen_model_path)
            self.tokenizer = NumberTokenizer(base, num_token_id=len(base))
        if not self._evaluation:
            self._evaluation = {
                name: self._encode(examples) for name, examples in self.examples.items()
            }
        if stage == "fit" and not self._train:
            reserved = training_mix.reserved_sentences(
                itertools.chain.from_iterable(self.examples.values())
            )
            val = list(
                itertools.islice(
                    training_mix.generate(f"validation/{self.seed}", reserved), self.val_samples
                )
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
        assert self.tokenizer is not None
        end = self.tokenizer.end_token_id if ended else None
        records: list[Record] = []
        stream = iter(examples)
        while chunk := list(itertools.islice(stream, _ENCODE_AT_ONCE)):
            encodings = self.tokenizer.encode_batch([example.text for example in chunk])
            for example, encoding in zip(chunk, encodings, strict=True):
                records.append(Record.of(encoding, example.answers, len(records), end))
        return records

    def train_dataloader(self) -> DataLoader[Any]:
        """Training batches."""
        lengths = [len(record.input_ids) for record in self._train]
        rank, world_size = self._process()
        dataset: Any = self._train
        sampler = LengthBatchSampler(lengths, self.batch_size, self.seed, rank, world_size)
        return DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=self._collate(),
            num_workers=self.num_workers,
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Validation batches of the training mix."""
        return self._in_order(self._val)

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """The evaluation sets, in the order of `evaluation_names`."""
        return [self._in_order(records) for records in self._evaluation.values()]

    @property
    def evaluation_names(self) -> list[str]:
        """Names of the evaluation sets."""
        return list(self._evaluation)

    def evaluation_records(self, name: str) -> list[Record]:
        """The encoded texts of an evaluation set, a record's id being its place."""
        return self._evaluation[name]

    def evaluation_facts(self, name: str) -> list[dict[str, str | bool]]:
        """What is known of each text of an evaluation set: language, wording, distractors."""
        return [
            {
                "language": example.language,
                "wording": str(example.wording),
                "distractors": example.distractors,
            }
            for example in self.examples[name]
        ]

    def evaluation_groups(self, name: str) -> dict[str, list[int]]:
        """Record ids of an evaluation set by wording, by language and by distractors."""
        groups: dict[str, list[int]] = {
            group: []
            for group in ("seen", "unseen", *LANGUAGES, "with_distractors", "without_distractors")
        }
        for record_id, example in enumerate(self.examples[name]):
            groups[example.wording].append(record_id)
            groups[example.language].append(record_id)
            groups[f"{'with' if example.distractors else 'without'}_distractors"].append(record_id)
        return groups

    def evaluation_questions(self, name: str) -> list[Question]:
        """The numbers that an evaluation set asks for, in the order of its records."""
        return [
            question
            for record_id, example in enumerate(self.examples[name])
            for question in questions(example.text, example.answers, record_id)
        ]

    def best_answers(self, name: str) -> list[float | None]:
        """The best possible answer to each question of a set; None where the text tells it."""
        return [example.best for example in self.examples[name] for _ in example.answers]

    def training_values(self) -> list[float]:
        """The numbers that the training texts ask for."""
        return [record.values[index] for record in self._train for index in record.answers]

    def _in_order(self, records: list[Record]) -> DataLoader[Any]:
        dataset: Any = records
        lengths = [len(record.input_ids) for record in records]
        sampler = EvenBatchSampler(lengths, self.eval_batch_size, *self._process())
        return DataLoader(dataset, batch_sampler=sampler, collate_fn=self._collate())

    def _collate(self) -> Callable[[list[Record]], Batch]:
        assert self.tokenizer is not None
        return partial(
            collate,
            num_token_id=self.tokenizer.num_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
        )

    def _process(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
