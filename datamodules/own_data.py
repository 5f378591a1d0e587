"""Somebody's own rows for training, validation and evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.evaluation_set import EvaluationSet
from datamodules.row_files import DataNotFoundError
from datamodules.rows import Columns
from datamodules.token_store import OnError, TokenStore, build_store
from numlm.batch import Record
from numlm.checkpoint import tokenizer_fingerprint
from numlm.tokenization import NumberTokenizer

GENERATED_SETS = frozenset(
    "basic question_answering extreme_values boundary_values noisy_readings ordinary_text".split()
)
_HELD_OUT = 10  # one row in so many is kept from training where a role has no file of its own


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the rows of each role come from: files, folders or names of data sets.

    Attributes:
        train: Rows to train on.
        validation: Rows for the validation loss and the calibration.
        test: Rows to evaluate on.
    """

    train: str | None = None
    validation: str | None = None
    test: str | None = None

    def given(self) -> dict[str, str]:
        """The sources that there are, by role."""
        roles = {"train": self.train, "validation": self.validation, "test": self.test}
        return {role: source for role, source in roles.items() if source}


class Rows(Sequence[Record]):
    """Some rows of a store as records; a record's id is its place."""

    def __init__(self, store: TokenStore, rows: np.ndarray) -> None:
        self.store = store
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Record:  # type: ignore[override]
        return self.store[int(self.rows[index])]._replace(record_id=index)

    @property
    def lengths(self) -> np.ndarray:
        """(N,) tokens of every row."""
        lengths: np.ndarray = self.store.lengths[self.rows]
        return lengths

    @property
    def label_counts(self) -> np.ndarray:
        """(N, 2) tokens that a loss is taken on, and the numbers among them, of every row."""
        counts: np.ndarray = self.store.label_counts[self.rows]
        return counts


@dataclass
class OwnData:
    """Own rows, tokenized once and cached.

    Where `train` is given and validation or test rows are not, a tenth of its rows is kept from
    training for each, at most as many as are asked for.

    Attributes:
        sources: Where the rows come from.
        columns: Names of their columns.
        on_error: "raise" at the first bad row, or "skip" and count them.
        cache: Folder of the tokenized rows.
        seed: Which rows are held out.
        most_held_out: Greatest number of rows held out, by role.
    """

    sources: Sources
    columns: Columns
    on_error: OnError
    cache: Path
    seed: int
    most_held_out: dict[str, int]
    keys: dict[str, str] = field(default_factory=dict)
    stores: dict[str, TokenStore] = field(default_factory=dict)

    def prepare(self, context_length: int, tokenizer: NumberTokenizer) -> None:
        """Tokenize what is not in the cache; one process of every machine does.

        Args:
            context_length: Greatest number of tokens of a row.
            tokenizer: The model's tokenizer.

        Raises:
            BadRow: At the first bad row, if it is to be raised.
            DataNotFoundError: If there is no such source.
        """
        fingerprint = tokenizer_fingerprint(tokenizer.base)
        self.keys = {
            role: build_store(
                source,
                role,
                self.columns,
                tokenizer,
                fingerprint,
                context_length,
                self.on_error,
                self.cache,
            )
            for role, source in self.sources.given().items()
        }

    def open(self, keys: dict[str, str]) -> None:
        """Map what was tokenized on this machine; no source is read.

        Args:
            keys: The stores' names by role, as the first process of all has them.

        Raises:
            DataNotFoundError: If this machine has other rows than the first.
        """
        for role, key in keys.items():
            if not (self.cache / key).exists():
                raise DataNotFoundError(
                    f"the rows of {self.sources.given()[role]} on this machine are not those of "
                    "the first one: copy them again"
                )
            self.stores.setdefault(role, TokenStore(self.cache / key))

    def rows(self, role: str) -> Rows:
        """The rows of a role.

        Raises:
            DataNotFoundError: If there are none to take.
        """
        if role in self.stores and role != "train":
            store = self.stores[role]
            return Rows(store, np.arange(len(store)))
        if "train" not in self.stores:
            raise DataNotFoundError(f"no {role} rows: give --data.{_OPTIONS[role]}")
        store = self.stores["train"]
        order = np.random.default_rng(self.seed).permutation(len(store))
        start = 0
        for held_out in ("validation", "test"):
            if held_out in self.stores:
                continue
            count = min(len(store) // _HELD_OUT, self.most_held_out[held_out])
            if role == held_out:
                if not count:
                    raise DataNotFoundError(
                        f"{len(store)} rows are too few to hold any out for {role}: give "
                        f"--data.{_OPTIONS[role]}"
                    )
                return Rows(store, np.sort(order[start : start + count]))
            start += count
        return Rows(store, np.sort(order[start:]))

    def evaluation_sets(self) -> dict[str, EvaluationSet]:
        """The rows to evaluate on, as one set that has their file's name."""
        source = self.sources.test or self.sources.train
        assert source is not None
        name = set_name(source) + ("" if self.sources.test else "_held_out")
        rows = self.rows("test")
        return {name: EvaluationSet.of_rows(rows.store, rows.rows.tolist())}

    def training_values(self) -> list[float]:
        """The numbers that the training rows ask for."""
        rows = self.rows("train")
        return [record.values[i] for record in rows for i in record.answers]

    def summary(self) -> list[dict[str, Any]]:
        """Of every source: role, name, rows, skipped rows and what was wrong with the first."""
        return [
            {
                "role": role,
                "source": source,
                "rows": len(self.stores[role]),
                "skipped": self.stores[role].skipped.count,
                "bad_rows": self.stores[role].skipped.messages,
            }
            for role, source in self.sources.given().items()
        ]


_OPTIONS = {"train": "train_file", "validation": "val_file", "test": "test_file"}


def set_name(source: str) -> str:
    """The name of an evaluation set that is read from a source; never that of a generated one.

    >>> set_name("meters/test.jsonl.gz"), set_name("owner/meters:test"), set_name("basic.csv")
    ('test', 'meters', 'own_basic')
    """
    name = Path(source.partition(":")[0]).name.split(".")[0]
    return f"own_{name}" if name in GENERATED_SETS else name
