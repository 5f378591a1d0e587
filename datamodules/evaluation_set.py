"""An evaluation set: its encoded texts and what is known of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from datamodules.examples import Example
from datamodules.token_store import TokenStore
from datamodules.vocabulary import LANGUAGES
from numlm.batch import Record
from numlm.floors import Question, questions


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Texts to evaluate on.

    Attributes:
        records: The encoded texts, a record's id being its place.
        questions: The numbers that are asked for, in the order of the records.
        facts: What is known of each text.
        groups: Record ids by group, for figures of their own.
        best: The best possible answer to each question; None where the text tells it.
    """

    records: list[Record]
    questions: list[Question]
    facts: list[dict[str, str | int | bool]]
    groups: dict[str, list[int]]
    best: list[float | None]

    @classmethod
    def of_examples(cls, examples: Sequence[Example], records: list[Record]) -> Self:
        """A generated set, grouped by wording, by language and by distractors."""
        groups: dict[str, list[int]] = {
            group: []
            for group in ("seen", "unseen", *LANGUAGES, "with_distractors", "without_distractors")
        }
        for record_id, example in enumerate(examples):
            groups[example.wording].append(record_id)
            groups[example.language].append(record_id)
            groups[f"{'with' if example.distractors else 'without'}_distractors"].append(record_id)
        return cls(
            records=records,
            questions=[
                question
                for record_id, example in enumerate(examples)
                for question in questions(example.text, example.answers, record_id)
            ],
            facts=[
                {
                    "language": example.language,
                    "wording": str(example.wording),
                    "distractors": example.distractors,
                }
                for example in examples
            ],
            groups=groups,
            best=[example.best for example in examples for _ in example.answers],
        )

    @classmethod
    def of_rows(cls, store: TokenStore, rows: Sequence[int]) -> Self:
        """Rows of somebody's own data, of which only the lines are known."""
        records = [store[row]._replace(record_id=place) for place, row in enumerate(rows)]
        asked = [
            question
            for record, row in zip(records, rows, strict=True)
            for question in questions(store.text(row), record.answers, record.record_id)
        ]
        facts: list[dict[str, str | int | bool]] = [{"line": store.line(row)} for row in rows]
        return cls(records, asked, facts, groups={}, best=[None] * len(asked))
