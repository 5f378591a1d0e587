"""Rows as token ids on disk, memory-mapped: data larger than memory, read again in an instant.

A store is a folder of flat arrays, one after another of all rows, beside a table that says where
each row ends. Its name is a digest of the rows' content, of the tokenizer, of the code that reads
numbers, and of the options; what has the same name has the same content. It is written beside its
place and moved there when it is whole; one that was damaged since is made again.
"""

import hashlib
import itertools
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from datamodules import row_files, rows, store_files
from datamodules.row_files import DataNotFoundError, Rows, read_source, source_digest
from datamodules.rows import BadRow, Columns, RawRow, Row, read_row
from numlm import parsing, tokenization
from numlm.batch import Record
from numlm.tokenization import NumberTokenizer

OnError = Literal["raise", "skip"]
_AT_ONCE = 1000  # rows tokenized together
_MESSAGES = 20  # of skipped rows that are kept
_TABLE = ("ids_end", "values_end", "text_end", "answer_start", "asked_from", "line")
_ARRAYS = {"ids": np.int32, "values": np.float64, "text": np.uint8, "table": np.int64}


@dataclass(frozen=True, slots=True)
class Skipped:
    """Rows that were left out.

    Attributes:
        count: How many.
        messages: What was wrong with the first of them.
    """

    count: int
    messages: list[str]


class TokenStore(Sequence[Record]):
    """The rows of a store as records; a record's id is its row.

    Args:
        folder: A whole store.

    Raises:
        DataNotFoundError: If a file of it is missing or cut short.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if (found := store_files.flaw(folder, content=False)) is not None:
            raise DataNotFoundError(
                f"the tokenized rows in '{folder}' are damaged ({found}): remove the folder, and "
                "they are made again"
            )
        about = store_files.read_about(folder)
        self.skipped = Skipped(**about["skipped"])
        self.source: str = about["source"]
        self._ids, self._values, self._text, table = (
            _mapped(folder / f"{name}.bin", kind) for name, kind in _ARRAYS.items()
        )
        self._table = table.reshape(-1, len(_TABLE))

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> Record:  # type: ignore[override]
        row = self._row(index)
        ids = self._ids[self._start(index, "ids_end") : row["ids_end"]]
        values = self._values[self._start(index, "values_end") : row["values_end"]]
        asked = range(row["asked_from"], len(values))
        return Record(ids.tolist(), values.tolist(), asked, index, row["answer_start"])

    def text(self, index: int) -> str:
        """The text of a row."""
        start = self._start(index, "text_end")
        return bytes(self._text[start : self._row(index)["text_end"]]).decode()

    def line(self, index: int) -> int:
        """The line of its file that a row stands in."""
        return self._row(index)["line"]

    @property
    def lengths(self) -> np.ndarray:
        """(N,) tokens of every row."""
        return np.diff(self._column("ids_end"), prepend=0)

    @property
    def label_counts(self) -> np.ndarray:
        """(N, 2) tokens that a loss is taken on, and the numbers among them, of every row."""
        tokens = self.lengths - np.maximum(self._column("answer_start"), 1)
        numbers = np.diff(self._column("values_end"), prepend=0) - self._column("asked_from")
        return np.stack([tokens, numbers], axis=-1)

    def _column(self, name: str) -> np.ndarray:
        return self._table[:, _TABLE.index(name)]

    def _row(self, index: int) -> dict[str, int]:
        return dict(zip(_TABLE, self._table[index].tolist(), strict=True))

    def _start(self, index: int, end: str) -> int:
        return int(self._table[index - 1, _TABLE.index(end)]) if index else 0


def build_store(
    source: str,
    split: str,
    columns: Columns,
    tokenizer: NumberTokenizer,
    fingerprint: str,
    context_length: int,
    on_error: OnError,
    cache: Path,
) -> str:
    """Tokenize a source, if that was not done before.

    Args:
        source: A file, a folder or the name of a data set.
        split: Which split of a data set.
        columns: Names of the columns.
        tokenizer: Tokenizes the texts.
        fingerprint: What tells it apart from other tokenizers.
        context_length: Greatest number of tokens of a row.
        on_error: "raise" at the first bad row, or "skip" and count them.
        cache: Folder of all stores.

    Returns:
        The name of the store in the cache: the same for the same rows, on every machine.

    Raises:
        BadRow: At the first bad row, if it is to be raised, or if no row is left.
        DataNotFoundError: If there is no such source.
    """
    code = "".join(
        Path(module.__file__ or "").read_text(encoding="utf-8")
        for module in (parsing, tokenization, rows, row_files, store_files)
    )
    tokens = (fingerprint, tokenizer.num_token_id, tokenizer.end_token_id)
    options = (asdict(columns), tokens, context_length, on_error)
    own = Path(__file__).read_text(encoding="utf-8")
    key = hashlib.sha256(
        json.dumps([source_digest(source, split), options, code, own]).encode()
    ).hexdigest()[:32]
    folder = cache / key
    if folder.exists():
        found = store_files.flaw(folder, content=True)
        if found is None:
            return key
        warnings.warn(
            f"the tokenized rows of '{source}' in '{folder}' are damaged ({found}): they are made "
            "again",
            stacklevel=2,
        )
        shutil.rmtree(folder)
    cache.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{key}-", dir=cache))
    try:
        source_rows = read_source(source, split)
        with tqdm(
            desc=f"Tokenizing {Path(source).name}", unit=" rows", unit_scale=True
        ) as progress:
            skipped = _write(
                building,
                _encoded(source_rows, columns, tokenizer, context_length),
                on_error,
                progress.update,
            )
        about = {"source": source, "skipped": asdict(skipped)}
        store_files.seal(building, about)
        _move(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return key


def _move(building: Path, folder: Path) -> None:
    """Put a whole store in its place, unless another process was first."""
    try:
        os.replace(building, folder)
    except OSError:
        if not folder.exists():
            raise


@dataclass(frozen=True, slots=True)
class _EncodedRow:
    row: Row
    record: Record


def _encoded(
    found: Rows, columns: Columns, tokenizer: NumberTokenizer, context_length: int
) -> Iterator[_EncodedRow | BadRow]:
    """Rows as records, bad ones in their places."""
    while chunk := list(itertools.islice(found, _AT_ONCE)):
        checked = [_checked(row, columns, context_length) for row in chunk]
        good = [row for row in checked if isinstance(row, Row)]
        encoded = iter(encode_rows(good, tokenizer))
        for row in checked:
            if isinstance(row, BadRow):
                yield row
                continue
            record = next(encoded)
            if len(record.input_ids) > context_length:
                yield too_long(row, len(record.input_ids), context_length)
            else:
                yield _EncodedRow(row, record)


def _checked(raw: RawRow | BadRow, columns: Columns, context_length: int) -> Row | BadRow:
    if isinstance(raw, BadRow):
        return raw
    try:
        return read_row(raw, columns, context_length)
    except BadRow as bad:
        return bad


def too_long(row: Row, tokens: int, context_length: int) -> BadRow:
    """What is wrong with a row that does not fit."""
    return BadRow(
        row.where, f"{tokens:,} tokens", f"at most {context_length:,}, the model's context"
    )


def encode_rows(found: Sequence[Row], tokenizer: NumberTokenizer) -> list[Record]:
    """Rows as records that end with the end token; the loss begins where the prompt's tokens end.

    All numbers that follow the prompt are asked for, but for one that a text begins with: nothing
    is before it to ask from.
    """
    encodings = tokenizer.encode_batch([row.text for row in found])
    with_prompt = [row.prompt for row in found if row.prompt]
    prompts = iter(tokenizer.encode_batch(with_prompt))
    records = []
    for row, encoding in zip(found, encodings, strict=True):
        record = Record.of(encoding, end_token_id=tokenizer.end_token_id)
        start = 0
        if row.prompt:
            pairs = zip(encoding.input_ids, next(prompts).input_ids, strict=False)
            start = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        before = encoding.input_ids[: max(start, 1)].count(tokenizer.num_token_id)
        asked = range(before, len(encoding.numbers))
        records.append(record._replace(answers=asked, answer_start=start))
    return records


def _write(
    folder: Path,
    encoded: Iterator[_EncodedRow | BadRow],
    on_error: OnError,
    advance: Callable[[int], Any],
) -> Skipped:
    """Write the arrays of a store."""
    ends = {"ids": 0, "values": 0, "text": 0}
    count, messages = 0, []
    written = 0
    with ExitStack() as stack:
        files = {
            name: stack.enter_context((folder / f"{name}.bin").open("wb")) for name in _ARRAYS
        }
        for entry in encoded:
            advance(1)
            if isinstance(entry, BadRow):
                if on_error == "raise":
                    raise entry
                count += 1
                messages += [str(entry)] if count <= _MESSAGES else []
                continue
            record = entry.record
            parts = {
                "ids": np.asarray(record.input_ids, dtype=_ARRAYS["ids"]),
                "values": np.asarray(record.values, dtype=_ARRAYS["values"]),
                "text": np.frombuffer(entry.row.text.encode(), dtype=_ARRAYS["text"]),
            }
            for name, part in parts.items():
                ends[name] += len(part)
                files[name].write(part.tobytes())
            first = len(record.values) - len(record.answers)
            row = (*ends.values(), record.answer_start, first, entry.row.line)
            files["table"].write(np.asarray(row, dtype=_ARRAYS["table"]).tobytes())
            written += 1
    if not written:
        raise BadRow(
            messages[0].split(": ")[0] if messages else str(folder),
            f"no row can be used ({count} are bad; the first: {messages[0] if messages else '-'})",
            "at least one",
        )
    return Skipped(count, messages)


def _mapped(file: Path, kind: Any) -> np.ndarray:  # noqa: ANN401
    """An array on disk; an empty file cannot be mapped."""
    if not file.stat().st_size:
        return np.zeros(0, dtype=kind)
    return np.memmap(file, dtype=kind, mode="r")
