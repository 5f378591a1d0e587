"""Rows that nobody means well with: each is used, or a bad row with file and line."""

import json
from pathlib import Path

import pytest

from datamodules.row_files import read_source
from datamodules.rows import BadRow, Columns, Row, read_row
from numlm.model import NumberLM
from tests.conftest import EMBEDDED


def rows(folder: Path, content: bytes) -> list[Row | BadRow]:
    file = folder / "rows.jsonl"
    file.write_bytes(content)
    found: list[Row | BadRow] = []
    for raw in read_source(str(file), "train"):
        try:
            found.append(raw if isinstance(raw, BadRow) else read_row(raw, Columns()))
        except BadRow as bad:
            found.append(bad)
    return found


def text(value: str) -> bytes:
    return json.dumps({"text": value}).encode() + b"\n"


@pytest.mark.parametrize(
    "value",
    [
        "It is 5 \0.",
        "It is\u200b5\u200d7.",
        "It is \u202e5\u202c.",
        "\ufeffIt is 5",
        "𝟗 is no 5",
        "5" * 300,
    ],
    ids=["nul", "zero_width", "right_to_left", "byte_order_mark", "mathematical", "long"],
)
def test_strange_characters_are_characters(tmp_path: Path, value: str) -> None:
    (row,) = rows(tmp_path, text(value))
    assert isinstance(row, Row)
    assert row.text == value


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"prompt": "It is", "answer": ' + b"9" * 1_000_000 + b"}", "is beyond float64"),
        (b'{"prompt": "It is", "answer": Infinity}', "Infinity is no number of JSON"),
        (b'{"text": "It is 5", "more": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", "nested too deep"),
        (b'{"text": "It is \x00 5"}', "broken JSON"),
        (b'{"text": "It is 5 \\udfff"}', "lone surrogate U+DFFF"),
        (b"\x00" * 1000, "broken JSON"),
        (b"\xff\xfe" + '{"text": "It is 5"}'.encode("utf-16-le"), "UTF-8 text"),
    ],
    ids=["a_million_digits", "infinity", "nested", "nul", "half_a_pair", "nuls", "utf_16"],
)  # fmt: skip
def test_what_cannot_be_used_is_named_and_the_next_row_is_read(
    tmp_path: Path, line: bytes, said: str
) -> None:
    bad, good = rows(tmp_path, line + b"\n" + text("It is 5."))
    assert isinstance(bad, BadRow)
    assert f"{tmp_path / 'rows.jsonl'}:1: " in str(bad)
    assert said in str(bad)
    assert "\n" not in str(bad)
    assert isinstance(good, Row)


def test_a_line_of_ten_megabytes_without_an_end(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, text("It is 5. " * 1_100_000).rstrip(b"\n"))
    assert isinstance(row, Row)
    assert len(row.text) == 9_900_000


@pytest.fixture(scope="module")
def model() -> NumberLM:
    return NumberLM.from_pretrained(EMBEDDED).eval()


@pytest.mark.parametrize(
    "prompt", ["\0", "half \ud800", "1\u200d2", "\u202e5", " ", "\x1b[31m", "👩‍👩‍👧 5"]
)
def test_any_prompt_is_answered(model: NumberLM, prompt: str) -> None:
    said = model.predict([prompt])[0]
    assert said.text.startswith(prompt)
    written = model.generate([prompt], max_new_tokens=3)[0]
    assert written.text


def test_a_prompt_of_nothing_is_one_sentence(model: NumberLM) -> None:
    with pytest.raises(ValueError, match=r"[Ee]mpty|at least|nothing"):
        model.generate([""], max_new_tokens=3)
