"""Tokenized rows that a disk has lost a part of: made again, or refused; never read wrongly."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_hostile_files import Evil

from datamodules import store_files
from datamodules.row_files import DataNotFoundError
from datamodules.rows import Columns
from datamodules.token_store import TokenStore, build_store
from numlm.batch import Record
from numlm.checkpoint import load_tokenizer
from numlm.tokenization import NumberTokenizer

EMBEDDED = Path(__file__).resolve().parents[1] / "assets" / "tiny-qwen2"
ARRAYS = ("ids.bin", "values.bin", "text.bin", "table.bin")


@pytest.fixture(scope="module")
def tokenizer() -> NumberTokenizer:
    base = load_tokenizer(str(EMBEDDED))
    return NumberTokenizer(base, len(base))


@pytest.fixture
def build(tmp_path: Path, tokenizer: NumberTokenizer) -> Callable[[], Path]:
    """Tokenizes the same rows, if that is needed; gives the store's folder."""
    source = tmp_path / "rows.jsonl"
    rows = [{"text": f"It shows {i}.5 volts."} for i in range(20)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    cache = tmp_path / "cache"
    options = (Columns(), tokenizer, "embedded", 1024, "raise", cache)
    return lambda: cache / build_store(str(source), "train", *options)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-8])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def change(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


def garbage(file: Path) -> None:
    file.write_bytes(b"\x80garbage")


def records(folder: Path) -> list[Record]:
    return list(TokenStore(folder))


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        *((name, cut, f"{name} is cut short") for name in ARRAYS),
        *((name, empty, f"{name} is cut short") for name in ARRAYS),
        *((name, change, f"{name} has changed") for name in ARRAYS),
        *((name, Path.unlink, f"{name} is missing") for name in ARRAYS),
        ("about.json", Path.unlink, "about.json is missing"),
        ("about.json", cut, "about.json is damaged"),
        ("about.json", garbage, "about.json is damaged"),
    ],
)
def test_damaged_rows_are_made_again(
    build: Callable[[], Path], name: str, damage: Callable[[Path], None], said: str
) -> None:
    folder = build()
    expected = records(folder)
    damage(folder / name)
    assert store_files.flaw(folder, content=True) == said
    with pytest.warns(UserWarning, match=f"are damaged.*{said}.*made again"):
        assert build() == folder
    assert store_files.flaw(folder, content=True) is None
    assert records(folder) == expected


@pytest.mark.parametrize("damage", [cut, Path.unlink])
@pytest.mark.parametrize("name", [*ARRAYS, "about.json"])
def test_damaged_rows_are_not_read(
    build: Callable[[], Path], name: str, damage: Callable[[Path], None]
) -> None:
    """By a process that finds them after another has checked them."""
    folder = build()
    damage(folder / name)
    with pytest.raises(DataNotFoundError, match=f"damaged.*{name}.*remove the folder"):
        TokenStore(folder)


def test_whole_rows_are_not_made_again(build: Callable[[], Path]) -> None:
    folder = build()
    before = (folder / "about.json").stat().st_mtime_ns
    assert build() == folder
    assert (folder / "about.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("name", [*ARRAYS, "about.json"])
def test_stored_rows_execute_nothing(tmp_path: Path, build: Callable[[], Path], name: str) -> None:
    """Pickles in place of arrays, as NumPy's own format may hold them."""
    folder = build()
    expected = records(folder)
    marker = tmp_path / "executed"
    for write in (
        lambda file: file.write_bytes(pickle.dumps(Evil(marker))),
        lambda file: np.save(file.open("wb"), np.array([Evil(marker)]), allow_pickle=True),
    ):
        write(folder / name)
        with pytest.warns(UserWarning, match="made again"):
            build()
        assert records(folder) == expected
        assert not marker.exists()
