"""Files of rows that somebody made to break the reader; `test_bad_rows.py` has the usual ones."""

import datetime
import gzip
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from datamodules import row_files
from datamodules.prompt_stream import PromptStream
from datamodules.row_files import read_source
from datamodules.rows import BadRow, Columns
from numlm.checkpoint import load_tokenizer
from numlm.tokenization import NumberTokenizer
from tests.conftest import EMBEDDED
from tests.test_bad_rows import CONTEXT, GOOD, OBJECT, row, store, write
from tests.test_predictions import arguments
from train import main

MILLION = b"7" * 1_000_000
MEGABYTES = 10 << 20
LONG = "characters, expected at most 8,192, far above the model's context of 64 tokens"
BEYOND = "is beyond float64, expected 0 or a size from 5e-324 to 1.8e308"
NAN = f"broken JSON (NaN is no number of JSON), {OBJECT}"

# name, the file, what is said of its first row
HOSTILE: list[tuple[str, bytes, str]] = [
    ("surrogate.jsonl", b'{"text": "\\udc00 5"}\n',
     "column 'text' has half a character (lone surrogate U+DC00), expected Unicode text"),
    ("pair.jsonl", b'{"text": "\\udc00\\ud800 5"}\n', "column 'text' has half a character"),
    ("coded.jsonl", b'{"text": "\xed\xa0\x80 5"}\n', "byte 0xed at column 11, expected UTF-8 text"),
    ("overlong.jsonl", b'{"text": "\xc0\xaf 5"}\n', "byte 0xc0 at column 11, expected UTF-8 text"),
    ("name.jsonl", b'{"\\ud800": "It is 5"}\n', r"the columns are '\ud800', expected "),
    ("escapes.jsonl", b'{"a\\nb\\u001b[2J\\u202e": 5}\n',
     r"the columns are 'a\nb\x1b[2J\u202e', expected "),
    ("nul.jsonl", b'{"text": "It is\x00 5"}\n', f"broken JSON (Invalid control character at at column 16), {OBJECT}"),
    ("nuls.jsonl", b"\x00" * 1000 + b"\n", "broken JSON (Expecting value at column 1)"),
    ("words.jsonl", row(text="word " * (MEGABYTES // 5)), f"10,485,760 {LONG}"),
    ("numbers.jsonl", row(text="1 " * (MEGABYTES // 2)), f"10,485,760 {LONG}"),
    ("digits.jsonl", b'{"text": "' + b"1" * MEGABYTES + b'"}\n', f"10,485,760 {LONG}"),
    ("answer.jsonl", row(prompt="It is", answer="5 " * (MEGABYTES // 2)), f"10,485,766 {LONG}"),
    ("nested.jsonl", b'{"text": ' + b"[" * 50_000 + b"]" * 50_000 + b"}\n",
     f"JSON nested too deep to be read, {OBJECT}"),
    ("objects.jsonl", b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"\n", "JSON nested too deep to be read"),
    ("minus.jsonl", b'{"prompt": "It is", "answer": -1e999}\n', f"the number '-1e999' {BEYOND}"),
    ("integer.jsonl", b'{"prompt": "It is", "answer": 1' + b"0" * 5000 + b"}\n",
     f"the number '1{'0' * 39}…' {BEYOND}"),
    ("million.jsonl", b'{"prompt": "It is", "answer": ' + MILLION + b"}\n", f"1,000,006 {LONG}"),
    ("exponent.jsonl", b'{"prompt": "It is", "answer": 1e' + MILLION + b"}\n", f"1,000,008 {LONG}"),
    ("line.jsonl", MILLION + b"\n", f"the number {'7' * 40}, {OBJECT}"),
    ("infinity.jsonl", b'{"text": "It is 5", "other": -Infinity}\n',
     f"broken JSON (-Infinity is no number of JSON), {OBJECT}"),
    ("deep_nan.jsonl", b'{"text": "It is 5", "other": [{"a": NaN}]}\n', NAN),
    ("mark.jsonl", b"\xef\xbb\xbf\xef\xbb\xbf" + GOOD, "broken JSON (Unexpected UTF-8 BOM"),
    ("twice.jsonl", b'{"text": "It is 5", "text": "It is 6"}\n',
     f"broken JSON (the key 'text' stands twice), {OBJECT}"),
    ("inside.jsonl", b'{"text": "It is 5", "other": {"a": 1, "a": 2}}\n', "broken JSON (the key 'a' stands twice)"),
    ("cell.csv", b"text\n" + b"5 " * 100_000 + b"\n", "broken CSV (field larger than field limit (131072))"),
    ("quoted.csv", b'text\n"\xed\xa0\x80 5"\n', "byte 0xed, expected UTF-8 text"),
]  # fmt: skip

# What is odd and yet a row, as it is read.
KEPT: list[tuple[str, bytes, list[str]]] = [
    ("nul.jsonl", b'{"text": "It is\\u0000 5"}\n', ["It is\x00 5"]),
    ("nul.csv", b"text\nIt is\x00 5\n", ["It is\x00 5"]),
    ("mark.jsonl", b"\xef\xbb\xbf" + GOOD, ["It is 42.5 volts."]),
    ("mark.csv", b"\xef\xbb\xbftext\nIt is 5\n", ["It is 5"]),
    ("pair.jsonl", b'{"text": "\\ud83d\\ude00 5"}\n', ["😀 5"]),
    ("breaks.jsonl", b'{"text": "a\\u2028b\\u0085 5\\r\\n"}\r\n', ["a\u2028b\x85 5\r\n"]),
    ("unseen.jsonl", '{"text": "\u202eIt\u200b is\u200d 5 \u200fمرحبا"}\n'.encode(),
     ["\u202eIt\u200b is\u200d 5 \u200fمرحبا"]),
    ("deep.jsonl", b'{"text": "It is 5", "other": ' + b"[" * 500 + b"]" * 500 + b"}\n", ["It is 5"]),
    ("other.jsonl", b'{"text": "It is 5", "other": ' + MILLION + b"}\n", ["It is 5"]),
    ("zeros.jsonl", row(text="It is 0." + "0" * 5000), ["It is 0." + "0" * 5000]),
    ("open.jsonl", GOOD.rstrip(), ["It is 42.5 volts."]),
    ("unnamed.csv", b"text,,\nIt is 5,,\n", ["It is 5"]),
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> NumberTokenizer:
    base = load_tokenizer(str(EMBEDDED))
    return NumberTokenizer(base, len(base))


@pytest.mark.parametrize(("name", "content", "message"), HOSTILE, ids=[h[0] for h in HOSTILE])
def test_a_hostile_row_is_told_and_the_next_is_read(
    name: str, content: bytes, message: str, tmp_path: Path, tokenizer: NumberTokenizer
) -> None:
    table = name.endswith(".csv")
    path = write(tmp_path, name, content + (b"It is 42.5 volts.\n" if table else GOOD))
    with pytest.raises(BadRow) as error:
        store(path, tokenizer)
    assert str(error.value).startswith(f"{path}:{1 + table}: {message}")
    assert ", expected " in str(error.value)
    assert str(error.value).isprintable()
    found = store(path, tokenizer, "skip")
    assert (found.skipped.count, found.text(len(found) - 1)) == (1, "It is 42.5 volts.")


def test_predicting_says_the_same_of_texts_and_never_reads_an_answer(
    tmp_path: Path, tokenizer: NumberTokenizer
) -> None:
    for name, content, _ in HOSTILE:
        path = write(tmp_path, name, content)
        stream = PromptStream(str(path), Columns(), tokenizer, CONTEXT, "skip", 4)
        told = [message for batch in stream for _, message in batch.bad_rows]
        assert told or b'"prompt"' in content, name
        assert all(message.isprintable() and f"{path}:" in message for message in told)


@pytest.mark.parametrize(("name", "content", "texts"), KEPT, ids=[k[0] for k in KEPT])
def test_what_is_odd_and_yet_a_row_is_kept(
    name: str, content: bytes, texts: list[str], tmp_path: Path, tokenizer: NumberTokenizer
) -> None:
    path = write(tmp_path, name, content)
    found = store(path, tokenizer)
    assert [found.text(i) for i in range(len(found))] == texts
    stream = PromptStream(str(path), Columns(), tokenizer, CONTEXT, "raise", 4)
    assert [text for batch in stream for text in batch.prompts] == texts


def test_a_far_too_long_text_is_never_tokenized(
    tmp_path: Path, tokenizer: NumberTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(texts: list[str]) -> list[object]:
        assert not texts, "tokenized"
        return []

    monkeypatch.setattr(tokenizer, "encode_batch", encode)
    path = write(tmp_path, "long.jsonl", row(text="1 " * (MEGABYTES // 2)))
    for stage in (lambda: store(path, tokenizer), lambda: list(
        PromptStream(str(path), Columns(), tokenizer, CONTEXT, "raise", 4))):  # fmt: skip
        with pytest.raises(BadRow, match=LONG):
            stage()


@pytest.mark.parametrize("name", ["one.jsonl", "one.csv", "one.jsonl.gz"])
def test_a_file_of_one_endless_line_is_one_bad_row(name: str, tmp_path: Path) -> None:
    content = b"5 " * (MEGABYTES // 2)
    path = write(tmp_path, name, gzip.compress(content, 1) if name.endswith("gz") else content)
    (bad,) = read_source(str(path), "train")
    assert isinstance(bad, BadRow)
    assert str(bad).startswith(f"{path}:1: broken ")
    assert len(str(bad)) < len(str(path)) + 200


def test_no_more_of_a_line_is_held_in_memory_than_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines just below, at and above it, with and without an end."""
    monkeypatch.setattr(row_files, "_LONGEST_LINE", 100)
    for length in (99, 100, 101, 102, 201, 202, 203, 1000):
        text = "a" * (length - len('{"text": ""}'))
        content = json.dumps({"text": text}).encode()
        assert len(content) == length
        for end, rows in ((b"", 1), (b"\n", 1), (b"\n" + GOOD, 2)):
            path = write(tmp_path, f"{length}.jsonl", content + end)
            lines = list(row_files._lines(path))
            assert (len(lines), max(map(len, lines)) <= 101) == (rows, True)
            first, *others = read_source(str(path), "train")
            longer = length + bool(end) > 100
            assert isinstance(first, BadRow) == longer
            assert not longer or "1: a line of more than 0 MiB, expected one" in str(first)
            assert [row.line for row in others if not isinstance(row, BadRow)] == [2][
                : len(others)
            ]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"te\xfft", "byte 0xff, expected UTF-8 text"),
        (b"text,text", "the column 'text' stands twice, expected it once"),
        (b"x" * 200_000, "broken CSV (field larger than field limit (131072))"),
    ],
    ids=["bytes", "twice", "long"],
)
def test_no_row_of_a_table_is_taken_for_its_names(
    header: bytes, message: str, tmp_path: Path
) -> None:
    path = write(tmp_path, "table.csv", header + b"\ntext\nIt is 5\n")
    (bad,) = read_source(str(path), "train")
    assert str(bad).startswith(f"{path}:1: {message}")


def test_a_packed_file_that_is_cut_or_damaged_gives_the_rows_before(tmp_path: Path) -> None:
    lines = [row(text=f"It is {i * 7919 % 1000} V") for i in range(2000)]
    packed = gzip.compress(b"".join(lines))
    wrong = bytearray(packed)
    wrong[len(packed) // 2] ^= 0xFF
    for name, content in (("cut", packed[: len(packed) // 2]), ("wrong", bytes(wrong)),
                          ("more", packed + b"more"), ("head", packed[:5])):  # fmt: skip
        path = write(tmp_path, f"{name}.jsonl.gz", content)
        *rows, last = read_source(str(path), "train")
        assert isinstance(last, BadRow)
        said = f"{path}:{len(rows) + 1}: the file breaks off or is damaged ("
        assert str(last).startswith(said)
        assert (len(rows) < 2000) == (name in ("cut", "head")) or name == "wrong"


def test_a_value_of_a_table_that_python_cannot_hold_is_told(tmp_path: Path) -> None:
    path = tmp_path / "date.parquet"
    far = pyarrow.array([10**7], pyarrow.int32()).cast(pyarrow.date32())
    assert far.type == pyarrow.date32()
    assert datetime.date.max.toordinal() < 10**7
    pyarrow.parquet.write_table(pyarrow.table({"text": ["It is 5"], "day": far}), path)
    (bad,) = read_source(str(path), "train")
    assert str(bad).startswith(f"{path}:1: the file breaks off or is damaged (date value")


def test_predict_writes_an_error_in_the_place_of_every_hostile_row(tmp_path: Path) -> None:
    rows = [content for name, content, _ in HOSTILE if name.endswith(".jsonl")
            and b'"prompt"' not in content and len(content) < 1 << 20 and content.count(b"\n") == 1]  # fmt: skip
    source = write(tmp_path, "in.jsonl", b"".join(GOOD + content for content in rows))
    target = tmp_path / "out.jsonl"
    with pytest.warns(UserWarning, match=f"{len(rows)} of {2 * len(rows)} rows could not be used"):
        main(arguments(source, target, "--data.on_error", "skip"))
    written = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    assert all(line["text"].startswith("It is 42.5") for line in written[::2])
    for place, line in enumerate(written[1::2], 1):
        assert list(line) == ["error"]
        assert line["error"].startswith(f"{source}:{2 * place}: ")
    assert len(written) == 2 * len(rows) >= 20
