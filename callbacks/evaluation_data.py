"""What the callbacks need of a data module that has evaluation sets."""

from typing import Any, Protocol, cast

from lightning import Trainer
from torch.utils.data import DataLoader

from numlm.batch import Record
from numlm.floors import Question
from numlm.tokenization import NumberTokenizer


class EvaluationData(Protocol):
    """A data module with evaluation sets and a validation split."""

    tokenizer: NumberTokenizer
    evaluation_names: list[str]

    def val_dataloader(self) -> DataLoader[Any]:
        """The validation split, which deals every record to one process."""

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """One loader for each evaluation set, which deals every record to one process."""

    def evaluation_records(self, name: str) -> list[Record]:
        """The encoded texts of a set, a record's id being its place."""

    def evaluation_facts(self, name: str) -> list[dict[str, str | int | bool]]:
        """What is known of each text of a set, under the same keys for all texts."""

    def evaluation_groups(self, name: str) -> dict[str, list[int]]:
        """Record ids of a set by group, for figures of their own."""

    def evaluation_questions(self, name: str) -> list[Question]:
        """The numbers that a set asks for, in the order of its records."""

    def best_answers(self, name: str) -> list[float | None]:
        """The best possible answer to each question; None where the text tells it."""

    def data_summary(self) -> list[dict[str, Any]]:
        """Of every own source: role, source, rows, skipped, bad_rows (what was wrong)."""

    def training_values(self) -> list[float]:
        """The numbers that the training texts ask for."""


def evaluation_data(trainer: Trainer) -> EvaluationData:
    """The trainer's data module.

    Raises:
        ValueError: If it has no evaluation sets.
    """
    data = getattr(trainer, "datamodule", None)
    if not hasattr(data, "evaluation_names"):
        raise ValueError("the evaluation needs a data module with evaluation sets")
    return cast(EvaluationData, data)
