"""Own data: what rows become, the cache, what is held out, and runs from data to report."""

import csv
import gzip
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from callbacks.floors import FLOORS_FILE
from callbacks.results import FINETUNED_FILE
from datamodules.number_data_module import EVALUATION_SETS, NumberDataModule, label_counts
from datamodules.own_data import GENERATED_SETS
from datamodules.row_files import DataNotFoundError, read_source
from datamodules.rows import BadRow, Columns, RawRow, join
from datamodules.token_store import TokenStore, build_store
from numlm.batch import IGNORE, Record, count_labels
from numlm.checkpoint import load_tokenizer
from numlm.tokenization import NumberTokenizer
from train import main

ROOT = Path(__file__).resolve().parents[1]
EMBEDDED = ROOT / "assets" / "tiny-qwen2"
ROWS: list[dict[str, Any]] = [
    {"text": "The pump is at 42.5 bar and 7 degrees."},
    {"prompt": "The lamp shows 42.5 volts. So it is", "answer": "42.5 volts"},
    {"prompt": "总之，电压是", "answer": "7"},
    {"text": "Nothing to see here."},
    {"text": "12 is all there is."},
]


@pytest.fixture(scope="module")
def tokenizer() -> NumberTokenizer:
    base = load_tokenizer(str(EMBEDDED))
    return NumberTokenizer(base, len(base))


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def open_rows(
    source: Path,
    tokenizer: NumberTokenizer,
    columns: Columns = Columns(),  # noqa: B008
) -> TokenStore:
    cache = source.parent / "cache"
    key = build_store(str(source), "train", columns, tokenizer, "embedded", 1024, "raise", cache)
    return TokenStore(cache / key)


def module(folder: Path, **options: Any) -> NumberDataModule:
    data = NumberDataModule(
        str(EMBEDDED), cache_dir=str(folder / "cache"), batch_size=4, num_samples=4, **options
    )
    data.prepare_data()
    data.setup("fit")
    return data


def test_rows_come_back_as_they_were(tmp_path: Path, tokenizer: NumberTokenizer) -> None:
    found = open_rows(write_jsonl(tmp_path / "a.jsonl", ROWS), tokenizer)
    texts = [row.get("text") or join(row["prompt"], row["answer"]) for row in ROWS]
    assert [found.text(i) for i in range(len(found))] == texts
    assert [found.line(i) for i in range(5)] == [1, 2, 3, 4, 5]
    for index, (record, text) in enumerate(zip(found, texts, strict=True)):
        encoding = tokenizer.encode(text)
        assert record.input_ids == [*encoding.input_ids, tokenizer.end_token_id]
        assert record.values == [number.value for number in encoding.numbers]
        assert record.record_id == index
    assert found.lengths.tolist() == [len(record.input_ids) for record in found]


def test_what_is_asked_and_where_the_loss_begins(
    tmp_path: Path, tokenizer: NumberTokenizer
) -> None:
    """All numbers of a text but one that it begins with; of an answer, its numbers only."""
    found = open_rows(write_jsonl(tmp_path / "a.jsonl", ROWS), tokenizer)
    assert [list(record.answers) for record in found] == [[0, 1], [1], [0], [], []]
    assert [record.answer_start == 0 for record in found] == [True, False, False, True, True]
    english, chinese = found[1], found[2]
    assert tokenizer.decode(english.input_ids[english.answer_start : -1], [42.5]) == " 42.5 volts"
    assert tokenizer.decode(chinese.input_ids[chinese.answer_start : -1], [7]) == "7"


def test_labels_leave_the_prompt_out(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", ROWS * 8)
    write_jsonl(tmp_path / "test.jsonl", ROWS[1:2])
    data = module(
        tmp_path,
        train_file=str(tmp_path / "train.jsonl"),
        test_file=str(tmp_path / "test.jsonl"),
        val_file=str(tmp_path / "test.jsonl"),
    )
    (batch,) = data.test_dataloader()[0]
    assert data.evaluation_names == ["test"]
    record = data.evaluation_records("test")[0]
    labelled = (batch.labels[0] != IGNORE).nonzero()[:, 0].tolist()
    assert labelled == list(range(record.answer_start, len(record.input_ids)))
    (question,) = data.evaluation_questions("test")
    assert (question.prompt, question.truth, question.last_number) == (
        "The lamp shows 42.5 volts. So it is ", 42.5, 42.5,
    )  # fmt: skip


def test_every_kind_of_file_gives_the_same_rows(
    tmp_path: Path, tokenizer: NumberTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"prompt": f"Lamp {i}, so it is", "answer": str(i / 4)} for i in range(9)]
    expected = [join(row["prompt"], row["answer"]) for row in rows]
    lines = write_jsonl(tmp_path / "a.jsonl", rows)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.read_bytes()))
    for name in ("c.csv", "d.csv.gz"):
        opened = gzip.open if name.endswith("gz") else open
        with opened(tmp_path / name, "wt", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, ["prompt", "answer"])
            writer.writeheader()
            writer.writerows(rows)
    table = {"prompt": [r["prompt"] for r in rows], "answer": [i / 4 for i in range(9)]}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "e.parquet")
    for file in sorted(tmp_path.glob("?.*")):
        found = open_rows(file, tokenizer)
        texts = [found.text(i).replace(".0", "") for i in range(len(found))]
        assert texts == [text.replace(".0", "") for text in expected], file
    folder = tmp_path / "folder" / "part"
    folder.mkdir(parents=True)
    lines.rename(folder / "a.jsonl")
    assert len(open_rows(tmp_path / "folder", tokenizer)) == 9

    def load_dataset(name: str, split: str) -> datasets.Dataset:
        assert (name, split) in (("owner/lamps", "train"), ("owner/lamps", "dev"))
        return datasets.Dataset.from_dict(table)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    for name in ("owner/lamps", "owner/lamps:dev"):
        read = list(read_source(name, "train"))
        assert all(isinstance(row, RawRow) for row in read)
        assert [row.fields["answer"] for row in read][:3] == ["0", "0.25", "0.5"]
    assert read[1].where == "owner/lamps:dev:2"


def test_a_data_set_without_its_package_or_without_a_network_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataNotFoundError, match=r"no data at 'owner/nowhere'.*split 'train'"):
        list(read_source("owner/nowhere", "train"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataNotFoundError, match=r"need the package 'datasets'.*numlm\[data\]"):
        list(read_source("owner/nowhere", "train"))


def test_columns_may_have_other_names(tmp_path: Path, tokenizer: NumberTokenizer) -> None:
    rows = [{"question": "It is", "price": 5.50, "text": "unused"}]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    found = open_rows(path, tokenizer, Columns("text", "question", "price"))
    assert found.text(0) == "It is 5.5"


def test_the_cache_is_keyed_by_content_tokenizer_and_options(
    tmp_path: Path, tokenizer: NumberTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ROWS[1:3])
    first = open_rows(path, tokenizer)

    def fail(*_: object) -> None:
        raise AssertionError("tokenized again")

    with monkeypatch.context() as patched:
        patched.setattr(NumberTokenizer, "encode_batch", fail)
        again = open_rows(path, tokenizer)
        assert again.folder == first.folder
        assert list(again) == list(first)
    assert isinstance(again._ids, np.memmap)
    folders = {first.folder}
    write_jsonl(path, ROWS[1:2])
    folders.add(open_rows(path, tokenizer).folder)
    folders.add(open_rows(path, tokenizer, Columns(answer="answer", text="txt")).folder)
    other = NumberTokenizer(tokenizer.base, tokenizer.num_token_id + 1)
    folders.add(open_rows(path, other).folder)
    assert len(folders) == 4


def test_rows_are_held_out_where_there_is_no_file_for_them(tmp_path: Path) -> None:
    rows = [{"prompt": "It is", "answer": str(i)} for i in range(200)]
    path = write_jsonl(tmp_path / "train.jsonl", rows)
    data = module(tmp_path, train_file=str(path), val_samples=15, eval_samples=100)
    parts = [
        [record.values[0] for batch in [source] for record in batch]
        for source in (data._train, data._val, data.evaluation_records("train_held_out"))
    ]
    assert [len(part) for part in parts] == [165, 15, 20]  # a tenth at most
    assert sorted(itertools.chain(*parts)) == [float(i) for i in range(200)]
    assert [r.record_id for r in data.evaluation_records("train_held_out")] == list(range(20))
    assert sorted(data.training_values()) == sorted(parts[0])
    other = NumberDataModule(
        str(EMBEDDED), train_file=str(path), cache_dir=str(tmp_path / "cache"),
        batch_size=4, num_samples=4, seed=7, val_samples=15, eval_samples=100,
    )  # fmt: skip
    other.prepare_data()
    other.setup("fit")
    assert [r.values for r in other.evaluation_records("train_held_out")] != [
        [v] for v in parts[2]
    ]


def test_names_of_generated_sets_are_theirs(tmp_path: Path) -> None:
    """Else a user's `basic.jsonl` would be held against targets that are not its own."""
    assert set(EVALUATION_SETS) == GENERATED_SETS
    path = write_jsonl(tmp_path / "basic.jsonl", ROWS)
    data = module(tmp_path, test_file=str(path))
    assert data.evaluation_names == ["own_basic"]
    with pytest.raises(ValueError, match=r"give data\.train_file as well"):
        NumberDataModule(str(EMBEDDED), val_file=str(path), num_samples=32)


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "train.jsonl", ROWS)
    with pytest.raises(DataNotFoundError, match=r"5 rows are too few .* --data\.test_file"):
        module(tmp_path, train_file=str(path))
    with pytest.raises(DataNotFoundError, match=r"a step takes 4: lower --data\.batch_size"):
        module(
            tmp_path, train_file=str(write_jsonl(path, ROWS[:3])), val_file=str(path), test_file=str(path)
        )  # fmt: skip


def run(folder: Path, command: str, *options: str) -> None:
    smoke = ["--config", str(ROOT / "configs" / "smoke.yaml"), "--data.batch_size", "8"]
    cache = ["--data.cache_dir", str(folder / "cache")]
    main([command, *smoke, *cache, "--trainer.logger.save_dir", str(folder / "results"), *options])


def test_a_run_on_own_data_from_rows_to_report(tmp_path: Path) -> None:
    """Evaluation before and after, floors, answers, skipped rows in the report, in both languages."""
    train = write_jsonl(tmp_path / "train.jsonl", ROWS * 20)
    with train.open("a") as file:
        file.write('{"txt": "<b>5</b>"}\n')
    test = write_jsonl(tmp_path / "meters.jsonl", ROWS * 2)
    with pytest.warns(
        UserWarning, match=r"1 bad rows of .*train\.jsonl were skipped; the first: "
    ):
        run(
            tmp_path, "fit", "--data.train_file", str(train), "--data.test_file", str(test),
            "--data.on_error", "skip", "--trainer.max_steps", "2",
        )  # fmt: skip
    folder = tmp_path / "results" / "latest"
    finetuned = json.loads((folder / FINETUNED_FILE).read_text())
    assert list(finetuned) == ["meters"]
    assert (finetuned["meters"]["slots"], finetuned["meters"]["texts"]) == (8, 10)
    floors = json.loads((folder / FLOORS_FILE).read_text())["meters"]
    assert {"training_median", "best_constant", "last_number", "digits"} <= set(floors)
    assert floors["best_constant"]["answer"] == (42.5 + 7 + 42.5 + 7) / 4
    with (folder / "finetuned_answers.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["line"] for row in rows] == ["1", "1", "2", "3", "6", "6", "7", "8"]
    report = (folder / "report.md").read_text(encoding="utf-8")
    assert "train.jsonl | 100 | 1 |" in report
    assert "train.jsonl:101: the columns are 'txt', expected" in report
    assert "Neither is known of own data." in report
    assert "跳过的行数" in (folder / "report.zh.md").read_text(encoding="utf-8")
    assert "<b>5</b>" not in (folder / "report.html").read_text(encoding="utf-8")


def test_a_bad_row_ends_a_run_with_one_sentence(tmp_path: Path) -> None:
    train = write_jsonl(tmp_path / "train.jsonl", [*ROWS, {"prompt": "It is", "answer": "some"}])
    with pytest.raises(SystemExit) as stop:
        run(tmp_path, "fit", "--data.train_file", str(train))
    assert str(stop.value.code) == (
        f"error: {train}:6: no number in the answer 'some', expected one such as '42.5'"
    )


def test_bad_rows_are_value_errors() -> None:
    assert str(BadRow("a.csv:3", "this", "that")) == "a.csv:3: this, expected that"
    assert issubclass(BadRow, ValueError)


def test_every_process_reads_its_own_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts of the others are not read, though a piece knows the labels of the whole step."""
    rows = [{"text": f"It is {i} volts" + " now" * (i % 3)} for i in range(30)]
    path = str(write_jsonl(tmp_path / "train.jsonl", rows))
    data = module(tmp_path, train_file=path, val_file=path, test_file=path)
    read: list[int] = []
    original = TokenStore.__getitem__

    def listen(store: TokenStore, index: int) -> Record:
        read.append(index)
        return original(store, index)

    monkeypatch.setattr(TokenStore, "__getitem__", listen)
    shares, labels = [], []
    for rank in range(2):
        monkeypatch.setattr(data, "_process", lambda rank=rank: (rank, 2))
        pieces = list(data.train_dataloader())
        shares.append(sorted(read))
        labels.append([(piece.tokens.item(), piece.numbers.item()) for piece in pieces])
        read.clear()
    assert [len(share) for share in shares] == [14, 14]  # 7 steps of 4 texts
    assert not set(shares[0]) & set(shares[1])
    assert labels[0] == labels[1]
    monkeypatch.setattr(data, "_process", lambda: (0, 1))
    whole = [(p.tokens.item() / 2, p.numbers.item() / 2) for p in data.train_dataloader()]
    assert whole == labels[0]
    assert sum(numbers for _, numbers in whole) == 14


def test_labels_are_counted_without_reading_texts(tmp_path: Path) -> None:
    data = module(tmp_path, test_file=str(write_jsonl(tmp_path / "a.jsonl", ROWS)))
    found = data.own.rows("test")
    counted = count_labels(list(found), data.tokenizer.num_token_id)
    assert label_counts(found, data.tokenizer.num_token_id).tolist() == counted.tolist()
    assert counted[:, 1].sum() == sum(len(record.answers) for record in found)


def test_one_process_of_a_machine_reads_the_source(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "test.jsonl", ROWS)
    first = module(tmp_path, test_file=str(path))
    path.unlink()
    other = NumberDataModule(
        str(EMBEDDED), test_file=str(path), num_samples=32, cache_dir=str(tmp_path / "cache")
    )
    other.own.open(first.own.keys)
    assert list(other.own.rows("test")) == list(first.own.rows("test"))


def test_a_machine_with_other_rows_is_told_so(tmp_path: Path) -> None:
    first = module(tmp_path, test_file=str(write_jsonl(tmp_path / "test.jsonl", ROWS)))
    (tmp_path / "elsewhere").mkdir()
    elsewhere = write_jsonl(tmp_path / "elsewhere" / "test.jsonl", ROWS[:3])
    other = NumberDataModule(
        str(EMBEDDED), test_file=str(elsewhere), num_samples=32,
        cache_dir=str(tmp_path / "elsewhere" / "cache"),
    )  # fmt: skip
    other.prepare_data()
    with pytest.raises(DataNotFoundError, match=r"on this machine are not those of the first one"):
        other.own.open(first.own.keys)
