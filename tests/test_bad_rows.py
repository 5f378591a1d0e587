"""Thirty files that cannot be used, and what is said of each: `file:line: what, expected what`."""

import gzip
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from datamodules import row_files
from datamodules.row_files import DataNotFoundError
from datamodules.rows import BadRow, Columns
from datamodules.token_store import TokenStore, build_store
from numlm.checkpoint import load_tokenizer
from numlm.tokenization import NumberTokenizer

EMBEDDED = Path(__file__).resolve().parents[1] / "assets" / "tiny-qwen2"
GOOD = b'{"text": "It is 42.5 volts."}\n'
CONTEXT = 64
OBJECT = 'expected an object such as {"text": "It is 42.5 volts."}'
COLUMNS = (
    "expected 'text', or 'prompt' and 'answer' (other names: --data.text_column, "
    "--data.prompt_column, --data.answer_column)"
)


@pytest.fixture(scope="module")
def tokenizer() -> NumberTokenizer:
    base = load_tokenizer(str(EMBEDDED))
    return NumberTokenizer(base, len(base))


def store(source: Path, tokenizer: NumberTokenizer, on_error: str = "raise") -> TokenStore:
    cache = source.parent / "cache"
    key = build_store(
        str(source), "train", Columns(), tokenizer, "embedded", CONTEXT,
        on_error, cache,  # type: ignore[arg-type]
    )  # fmt: skip
    return TokenStore(cache / key)


def parquet(column: str, values: list[object]) -> Callable[[Path], None]:
    return lambda path: pyarrow.parquet.write_table(pyarrow.table({column: values}), path)


def row(**fields: object) -> bytes:
    return json.dumps(fields).encode() + b"\n"


# name, content (bytes, or what writes the file), line, message
BAD: list[tuple[str, bytes | Callable[[Path], None], int, str]] = [
    ("broken.jsonl", GOOD + b'{"text": "5 volts\n', 2,
     f"broken JSON (Invalid control character at at column 18), {OBJECT}"),
    ("cut.jsonl", GOOD + GOOD + b'{"text": ', 3, f"broken JSON (Expecting value at column 10), {OBJECT}"),
    ("quotes.jsonl", b"{'text': '5'}\n", 1,
     f"broken JSON (Expecting property name enclosed in double quotes at column 2), {OBJECT}"),
    ("two.jsonl", b'{"text": "5"} {"text": "6"}\n', 1, f"broken JSON (Extra data at column 15), {OBJECT}"),
    ("nan.jsonl", b'{"prompt": "It is", "answer": NaN}\n', 1,
     f"broken JSON (NaN is no number of JSON), {OBJECT}"),
    ("list.jsonl", GOOD + b'["It is 5"]\n', 2, f"a list, {OBJECT}"),
    ("number.jsonl", b"42\n", 1, f"the number 42, {OBJECT}"),
    ("null.jsonl", b"null\n", 1, f"nothing, {OBJECT}"),
    ("deep.jsonl", b"[" * 100_000 + b"\n", 1, f"JSON nested too deep to be read, {OBJECT}"),
    ("missing.jsonl", GOOD + row(txt="It is 5"), 2, f"the columns are 'txt', {COLUMNS}"),
    ("half.jsonl", row(prompt="It is"), 1, f"the columns are 'prompt', {COLUMNS}"),
    ("nothing.jsonl", b"{}\n", 1, f"the columns are none, {COLUMNS}"),
    ("type.jsonl", row(text=["a", 5]), 1, "column 'text' holds a list, expected a text"),
    ("text_number.jsonl", row(text=5), 1, "column 'text' holds the number 5, expected a text"),
    ("bool.jsonl", row(prompt="It is", answer=True), 1,
     "column 'answer' holds true, expected a text or a number"),
    ("no_answer.jsonl", row(prompt="It is", answer=None), 1,
     "column 'answer' holds nothing, expected a text or a number"),
    ("empty_text.jsonl", GOOD + row(text="  "), 2, "column 'text' is empty, expected a text"),
    ("words.jsonl", row(prompt="It is", answer="about forty"), 1,
     "no number in the answer 'about forty', expected one such as '42.5'"),
    ("date.jsonl", row(prompt="It was on", answer="2025-06-08"), 1,
     "no number in the answer '2025-06-08', expected one such as '42.5'"),
    ("huge.jsonl", row(text="It is 1e999 volts"), 1,
     "the number '1e999' is beyond float64, expected 0 or a size from 5e-324 to 1.8e308"),
    ("tiny.jsonl", row(prompt="It is", answer="1e-999"), 1,
     "the number '1e-999' is beyond float64, expected 0 or a size from 5e-324 to 1.8e308"),
    ("huge_answer.jsonl", b'{"prompt": "It is", "answer": 1e400}\n', 1,
     "the number '1e400' is beyond float64, expected 0 or a size from 5e-324 to 1.8e308"),
    ("latin.jsonl", GOOD + b'{"text": "5 \xb0C"}\n', 2, "byte 0xb0 at column 13, expected UTF-8 text"),
    ("surrogate.jsonl", b'{"text": "It is 5 \\ud83d"}\n', 1,
     "column 'text' has half a character (lone surrogate U+D83D), expected Unicode text"),
    ("empty.jsonl", b"", 1, "the file has no rows, expected at least one"),
    ("long.jsonl", GOOD + row(text="word " * 200), 2, "403 tokens, expected at most 64, the model's context"),
    ("packed.jsonl.gz", gzip.compress(GOOD * 500)[:-4], 501,
     "the file breaks off or is damaged (Compressed file ended before the end-of-stream marker was "
     "reached), expected a whole file"),
    ("unpacked.jsonl.gz", GOOD, 1,
     "the file breaks off or is damaged (Not a gzipped file (b'{\"')), expected a whole file"),
    ("cells.csv", b"prompt,answer\nIt is,5\nIt is\n", 3, "1 cells, expected 2, as in the first line (prompt, answer)"),
    ("bytes.csv", b"text\nIt is 5\nIt is 5 \xb0C\n", 3, "byte 0xb0, expected UTF-8 text"),
    ("open.csv", b'text\n"It is 5\n', 2,
     "broken CSV (unexpected end of data), expected cells as RFC 4180 writes them"),
    ("header.csv", b"", 1, "the file has no rows, expected at least one"),
    ("type.parquet", parquet("text", [5, 6]), 1, "column 'text' holds the number 5, expected a text"),
    ("null.parquet", parquet("text", ["It is 5", None]), 2, "column 'text' holds nothing, expected a text"),
    ("fake.parquet", b"no table", 1, "the file breaks off or is damaged (Parquet"),
]  # fmt: skip


def write(folder: Path, name: str, content: bytes | Callable[[Path], None]) -> Path:
    path = folder / name
    if callable(content):
        content(path)
    else:
        path.write_bytes(content)
    return path


def test_there_are_thirty_or_more() -> None:
    assert len({name for name, *_ in BAD}) == len(BAD) >= 30


@pytest.mark.parametrize(("name", "content", "line", "message"), BAD, ids=[b[0] for b in BAD])
def test_a_bad_row_is_named_with_file_line_and_what_was_expected(
    name: str,
    content: bytes | Callable[[Path], None],
    line: int,
    message: str,
    tmp_path: Path,
    tokenizer: NumberTokenizer,
) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(BadRow) as error:
        store(path, tokenizer)
    said = str(error.value)
    assert said.startswith(f"{path}:{line}: {message}")
    assert "\n" not in said
    assert ", expected " in said
    assert list((tmp_path / "cache").iterdir()) == []  # nothing half-written


def test_bad_rows_are_skipped_and_counted(tmp_path: Path, tokenizer: NumberTokenizer) -> None:
    """All of them in one folder, with good rows around them."""
    for name, content, *_ in BAD:
        write(tmp_path, name, content)
    write(tmp_path, "zzz.jsonl", GOOD)
    found = store(tmp_path, tokenizer, "skip")
    # a row, or the rest of a file, for every file; of the Parquet file of numbers both rows
    assert found.skipped.count == len(BAD) + 1
    assert len(found.skipped.messages) == 20
    assert all(": " in message and ", expected " in message for message in found.skipped.messages)
    good = sum(found.text(i) == "It is 42.5 volts." for i in range(len(found)))
    assert good == 1 + 500 + sum(c.count(GOOD.strip()) for n, c, *_ in BAD
                                 if isinstance(c, bytes) and not n.endswith(".gz"))  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "shown"),
    [
        ("key.jsonl", b'{"\\ud800\\u001b[2J\\n": 5}\n', r"the columns are '\ud800\x1b[2J\n', expected"),
        ("answer.jsonl", row(prompt="It is", answer="a\nb\u202e\0"), r"the answer 'a\nb\u202e\x00', expected"),
        ("head.csv", b"a\x1b[2J\xe2\x80\xae\nIt is 5\n", r"the columns are 'a\x1b[2J\u202e', expected"),
        ("\x1b\udcff.jsonl", b"5\n", r"\x1b\udcff.jsonl:1: the number 5, expected"),
    ],
    ids=["key", "answer", "head", "name"],
)  # fmt: skip
def test_a_message_quotes_nothing_that_a_terminal_obeys_or_no_file_takes(
    name: str, content: bytes, shown: str, tmp_path: Path, tokenizer: NumberTokenizer
) -> None:
    with pytest.raises(BadRow) as error:
        store(write(tmp_path, name, content), tokenizer)
    said = str(error.value)
    assert shown in said
    assert said.isprintable()
    said.encode()


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".csv", ".csv.gz"])
def test_a_line_that_no_memory_holds_is_a_bad_row(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a packed file that is small; the rows around it are had."""
    monkeypatch.setattr(row_files, "_LONGEST_LINE", 1 << 20)
    head, good = (b"text\n", b"It is 5\n") if "csv" in suffix else (b"", row(text="It is 5"))
    content = head + good + b"\0" * 30_000_000 + b"\n" + good
    path = tmp_path / f"bomb{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
    del content
    tracemalloc.start()
    try:
        found = list(row_files.read_source(str(path), "train"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    bad = [str(one) for one in found if isinstance(one, BadRow)]
    line = 3 if "csv" in suffix else 2
    what = "broken CSV (field larger" if "csv" in suffix else "a line of more than 1 MiB"
    assert [message.startswith(f"{path}:{line}: {what}") for message in bad] == [True]
    rows = [one for one in found if not isinstance(one, BadRow)]
    assert [(one.line, one.fields) for one in rows] == [
        (line - 1, {"text": "It is 5"}),
        (line + 1, {"text": "It is 5"}),
    ]
    assert peak < 10_000_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"prompt": "It is", "answer": ' + b"9" * 5000 + b"}\n", "the number '9{40}…' is beyond float64"),
        (b'{"prompt": "It is", "answer": 1e999}\n', "the number '1e999' is beyond float64"),
        (b'{"a":' * 200_000 + b"\n", "JSON nested too deep"),
        (b'{"text": "' + b"\\ud800" * 1_000_000 + b'"}\n', "half a character"),
        (b"\0" * 1_000_000 + b"\n", "broken JSON"),
    ],
    ids=["digits", "beyond", "deep", "halves", "nul"],
)  # fmt: skip
@pytest.mark.timeout(60)
def test_hostile_json_is_a_bad_row(
    content: bytes, message: str, tmp_path: Path, tokenizer: NumberTokenizer
) -> None:
    with pytest.raises(BadRow, match=message) as error:
        store(write(tmp_path, "hostile.jsonl", content), tokenizer)
    assert len(str(error.value)) < 500


def test_nul_is_a_character_like_any_other(tmp_path: Path, tokenizer: NumberTokenizer) -> None:
    write(tmp_path, "a.jsonl", row(text="a\0b 5"))
    write(tmp_path, "b.csv", b"text\na\0b 5\n")
    found = store(tmp_path, tokenizer)
    assert [found.text(i) for i in range(len(found))] == ["a\0b 5"] * 2


def test_a_file_of_bad_rows_only_is_refused_even_when_they_are_skipped(
    tmp_path: Path, tokenizer: NumberTokenizer
) -> None:
    path = write(tmp_path, "bad.jsonl", b"1\n2\n")
    with pytest.raises(BadRow, match=r"bad\.jsonl:1: no row can be used \(2 are bad; the first: "):
        store(path, tokenizer, "skip")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.jsonl", "no data at '.*nowhere.jsonl': give a JSONL"),
        ("data.txt", "none of the kinds that can be read: JSONL"),
        ("folder", "no JSONL .* files in the folder"),
    ],
)
def test_what_is_not_there_is_one_sentence(
    source: str, message: str, tmp_path: Path, tokenizer: NumberTokenizer
) -> None:
    (tmp_path / "data.txt").write_text("It is 5")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataNotFoundError, match=message) as error:
        store(tmp_path / source, tokenizer)
    assert "\n" not in str(error.value)
