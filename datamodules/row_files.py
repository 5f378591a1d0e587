"""Rows of JSONL, CSV and Parquet files, of folders of them, and of Hugging Face data sets.

What cannot be read comes as a `BadRow` in its place, so that the rows after it can still be had;
nothing is held in memory but the row at hand.
"""

import csv
import gzip
import hashlib
import json
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from datamodules.rows import BadRow, NumberText, RawRow, describe
from numlm.parsing import render

Rows = Iterator[RawRow | BadRow]
_BLOCK = 1 << 20
_LONGEST_LINE = 1 << 26  # bytes; a small packed file can hold a line that no memory does
_TABLE_ROWS = 1000  # of a Parquet file at a time
_ONE_OBJECT = 'an object such as {"text": "It is 42.5 volts."}'


class DataNotFoundError(FileNotFoundError):
    """Data that are not there; the message is one sentence for users."""


def source_files(source: str) -> list[Path]:
    """The files of a source, in order; none for the name of a data set.

    Raises:
        DataNotFoundError: If it is the path of nothing, or of a folder without such files.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and _reader(file))
        if not files:
            raise DataNotFoundError(f"no {_KINDS} files in the folder '{source}'")
        return files
    if path.is_file():
        if not _reader(path):
            raise DataNotFoundError(
                f"'{source}' is none of the kinds that can be read: {_KINDS}; rename or convert it"
            )
        return [path]
    looks_like_path = source.startswith((".", "~", "/")) or source.count("/") > 1
    if looks_like_path or _reader(path) or path.suffix in (".json", ".txt", ".tsv"):
        raise DataNotFoundError(
            f"no data at '{source}': give a {_KINDS} file, a folder of them, or the name of a "
            "Hugging Face data set (NAME or NAME:SPLIT)"
        )
    return []


def read_source(source: str, split: str) -> Rows:
    """The rows of a file, a folder or a data set.

    Args:
        source: Path or name.
        split: Which split of a data set, unless the name says it as `NAME:SPLIT`.

    Raises:
        DataNotFoundError: As `source_files`, or if there is no such data set.
    """
    files = source_files(source)
    if not files:
        yield from _read_data_set(source, split)
    for file in files:
        reader = _reader(file)
        assert reader is not None
        empty = True
        for row in reader(file):
            empty = False
            yield row
        if empty:
            yield BadRow(f"{file}:1", "the file has no rows", "at least one")


def source_digest(source: str, split: str) -> str:
    """What tells the content of a source apart from every other (SHA-256 of its bytes).

    Raises:
        DataNotFoundError: As `read_source`.
    """
    files = source_files(source)
    digest = hashlib.sha256()
    if not files:
        digest.update(_load_data_set(source, split)._fingerprint.encode())
    for file in files:
        digest.update(os.fsencode(file.name) + f"\0{file.stat().st_size}\0".encode())
        with file.open("rb") as content:
            while block := content.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def _reader(file: Path) -> Any:  # noqa: ANN401
    """What reads a kind of file, None for an unknown kind."""
    name = file.name.lower()
    return next((read for suffix, read in _READERS.items() if name.endswith(suffix)), None)


def _lines(file: Path) -> Iterator[bytes]:
    """Lines of a file, which may be packed, without a byte order mark.

    Of a line longer than `_LONGEST_LINE` there come so many bytes and one more; the rest is passed
    over a piece at a time.
    """
    packed = file.suffix.lower() == ".gz"
    with gzip.open(file, "rb") if packed else file.open("rb") as lines:
        start = b"\xef\xbb\xbf"
        while line := lines.readline(_LONGEST_LINE + 1):
            yield line.removeprefix(start)
            start = b""
            while len(line) > _LONGEST_LINE and not line.endswith(b"\n"):
                line = lines.readline(_LONGEST_LINE + 1) or b"\n"


def _read_jsonl(file: Path) -> Rows:
    number = 0
    try:
        for number, line in enumerate(_lines(file), 1):
            if line.strip():
                try:
                    yield _json_row(f"{file}:{number}", number, line)
                except BadRow as bad:
                    yield bad
    except (OSError, EOFError, zlib.error) as error:
        yield _broken(file, number + 1, error)


def _json_row(where: str, number: int, line: bytes) -> RawRow:
    if len(line) > _LONGEST_LINE:
        raise BadRow(where, f"a line of more than {_LONGEST_LINE >> 20} MiB", "one row a line")
    try:
        row = json.loads(
            line.decode(),
            object_pairs_hook=_object,
            parse_int=NumberText,
            parse_float=NumberText,
            parse_constant=_refuse,
        )
    except UnicodeDecodeError as error:
        raise BadRow(
            where, f"byte {line[error.start]:#04x} at column {error.start + 1}", "UTF-8 text"
        ) from None
    except json.JSONDecodeError as error:
        raise BadRow(
            where, f"broken JSON ({error.msg} at column {error.colno})", _ONE_OBJECT
        ) from None
    except RecursionError:
        raise BadRow(where, "JSON nested too deep to be read", _ONE_OBJECT) from None
    except ValueError as error:  # of `_object` and `_refuse`
        raise BadRow(where, f"broken JSON ({error})", _ONE_OBJECT) from None
    if not isinstance(row, dict):
        raise BadRow(where, describe(row), _ONE_OBJECT)
    return RawRow(where, number, row)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object of JSON; where a key stands twice, either value may be the one that was meant."""
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError(f"the key '{_twice([key for key, _ in pairs])}' stands twice")
    return row


def _twice(names: list[str]) -> str:
    """The first of some names that stands there twice."""
    return next(name for name, count in Counter(names).items() if count > 1)[:40]


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _read_csv(file: Path) -> Rows:
    """A table with a first line of names, without which none of its rows can be read."""
    rows = _csv_cells(file)
    names: list[str] | None = None
    for where, number, cells in rows:
        if names is None:
            if isinstance(cells, BadRow):
                yield cells
                return
            named = [name for name in cells if name]  # spreadsheets write columns without a name
            if len(set(named)) < len(named):
                yield BadRow(where, f"the column '{_twice(named)}' stands twice", "it once")
                return
            names = cells
        elif isinstance(cells, BadRow):
            yield cells
        elif len(cells) != len(names):
            yield BadRow(
                where,
                f"{len(cells)} cells",
                f"{len(names)}, as in the first line ({', '.join(names)[:80]})",
            )
        else:
            yield RawRow(where, number, dict(zip(names, cells, strict=True)))


def _csv_cells(file: Path) -> Iterator[tuple[str, int, list[str] | BadRow]]:
    """Cells of the lines that are not empty; bytes not of UTF-8 travel as lone surrogates."""
    lines = (line.decode(errors="surrogateescape") for line in _lines(file))
    reader = csv.reader(lines, strict=True)
    while True:
        number = reader.line_num + 1
        where = f"{file}:{number}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            bad = BadRow(where, f"broken CSV ({error})", "cells as RFC 4180 writes them")
            yield where, number, bad
            continue
        except (OSError, EOFError, zlib.error) as error:
            yield where, number, _broken(file, number, error)
            return
        wrong = next((c for cell in cells for c in cell if "\udc80" <= c <= "\udcff"), None)
        if wrong is not None:
            bad = BadRow(where, f"byte {ord(wrong) - 0xDC00:#04x}", "UTF-8 text")
            yield where, number, bad
        elif cells:
            yield where, number, cells


def _read_parquet(file: Path) -> Rows:
    parquet = _import("pyarrow.parquet", "Parquet files")
    number = 0
    try:
        for batch in parquet.ParquetFile(file).iter_batches(batch_size=_TABLE_ROWS):
            for row in batch.to_pylist():
                number += 1
                yield _table_row(f"{file}:{number}", number, row)
    # pyarrow's own errors are of these; a date that Python cannot hold is an overflow
    except (OSError, ValueError, OverflowError, NotImplementedError) as error:
        yield _broken(file, number + 1, error)


def _read_data_set(source: str, split: str) -> Rows:
    name = source if ":" in source else f"{source}:{split}"
    for number, row in enumerate(_load_data_set(source, split), 1):
        yield _table_row(f"{name}:{number}", number, row)


def _load_data_set(source: str, split: str) -> Any:  # noqa: ANN401
    data_sets = _import("datasets", "Hugging Face data sets")
    name, _, named_split = source.partition(":")
    try:
        return data_sets.load_dataset(name, split=named_split or split)
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataNotFoundError(
            f"no data at '{source}': no file of that name, and as a Hugging Face data set, split "
            f"'{named_split or split}': {reason}"
        ) from None


def _import(module: str, what: str) -> Any:  # noqa: ANN401
    try:
        return import_module(module)
    except ImportError:
        raise DataNotFoundError(
            f"{what} need the package '{module.split('.')[0]}': pip install 'numlm[data]'"
        ) from None


def _table_row(where: str, number: int, row: dict[str, object]) -> RawRow:
    """A row of a typed table: its numbers as they would be written."""
    fields: Iterable[tuple[str, object]] = row.items()
    return RawRow(where, number, {name: _written(value) for name, value in fields})


def _written(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return NumberText(value)
    if isinstance(value, float) and abs(value) < float("inf"):
        return NumberText(render(value))
    return value


def _broken(file: Path, line: int, error: Exception) -> BadRow:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return BadRow(
        f"{file}:{line}", f"the file breaks off or is damaged ({reason})", "a whole file"
    )


_READERS = {
    ".jsonl": _read_jsonl,
    ".jsonl.gz": _read_jsonl,
    ".csv": _read_csv,
    ".csv.gz": _read_csv,
    ".parquet": _read_parquet,
}
_KINDS = "JSONL (.jsonl, .jsonl.gz), CSV (.csv, .csv.gz) or Parquet (.parquet)"
