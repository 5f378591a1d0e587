"""`predict`: one row in, one row out, in order; nothing half-written; several processes alike."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from numlm.model import NumberLM
from train import main

ROOT = Path(__file__).resolve().parents[1]
EMBEDDED = ROOT / "assets" / "tiny-qwen2"
PROMPTS = [f"The {w} pump is at {i / 8} bar. So it is" for i in range(8) for w in ("red", "green")]
PROMPTS += ["总之，电压是7，它是", "The door"]


def write(path: Path, extra: str = "") -> Path:
    path.write_text("".join(json.dumps({"prompt": p}) + "\n" for p in PROMPTS) + extra)
    return path


def arguments(source: Path, target: Path, *options: str) -> list[str]:
    return [
        "predict", "--data.predict_file", str(source), "--predictions.path", str(target),
        "--data.eval_batch_size", "4", *options,
    ]  # fmt: skip


def assert_same(one: dict[str, Any], two: dict[str, Any]) -> None:
    """The same but for rounding."""
    assert one.keys() == two.keys()
    for name, value in one.items():
        if isinstance(value, float):
            assert value == pytest.approx(two[name], rel=1e-4, abs=1e-9), name
        else:
            assert value == two[name], name


def test_rows_are_those_of_predict_in_python(tmp_path: Path) -> None:
    target = tmp_path / "new" / "out.jsonl"
    NumberLM.from_pretrained(EMBEDDED).save_pretrained(tmp_path / "model")
    model = ["--model.qwen_model_path", str(tmp_path / "model")]
    main(arguments(write(tmp_path / "in.jsonl"), target, *model))
    rows = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    expected = NumberLM.from_pretrained(tmp_path / "model").predict(PROMPTS, batch_size=4)
    assert [row["text"] for row in rows] == [prediction.text for prediction in expected]
    for row, prediction in zip(rows, expected, strict=True):
        assert set(row) == {"value", "low", "high", "p_number", "source", "text"}
        assert_same(row, asdict(prediction))
    assert os.listdir(target.parent) == ["out.jsonl"]
    assert not (ROOT / "lightning_logs").exists()


def test_a_bad_row_has_a_row_of_its_own_where_it_is_skipped(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", '[1]\n{"text": "It is"}\n{"txt": 1}\n')
    target = tmp_path / "out.jsonl"
    with pytest.warns(UserWarning, match="2 of 21 rows could not be used"):
        main(arguments(source, target, "--data.on_error", "skip"))
    rows = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 21
    assert rows[18] == {"error": rows[18]["error"]}
    assert rows[18]["error"].startswith(f"{source}:19: a list, expected an object")
    assert rows[19]["text"].startswith("It is")
    assert rows[20]["error"].startswith(
        f"{source}:21: the columns are 'txt', expected 'prompt' or"
    )


@pytest.mark.parametrize("content", ["{}\n", '{"text": "' + "word " * 600 + '"}\n'])
def test_nothing_is_left_behind_when_predicting_fails(tmp_path: Path, content: str) -> None:
    """The bad row comes last: everything before it was written by then."""
    source, target = write(tmp_path / "in.jsonl", content), tmp_path / "out" / "out.jsonl"
    target.parent.mkdir()
    target.write_text("what was there before\n")
    with pytest.raises(SystemExit) as stop:
        main(arguments(source, target))
    assert str(stop.value.code).startswith(f"error: {source}:19: ")
    assert os.listdir(target.parent) == ["out.jsonl"]
    assert target.read_text() == "what was there before\n"


def test_what_cannot_be_written_is_found_first(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl")
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "file" / "out.jsonl", tmp_path):
        with pytest.raises(SystemExit, match=r"cannot write predictions to .*--predictions\.path"):
            main(arguments(source, target))


def test_options_belong_to_predict(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"say where to write: --predictions\.path"):
        main(["predict", "--data.predict_file", str(write(tmp_path / "in.jsonl"))])
    with pytest.raises(SystemExit, match="is an option of `predict`"):
        main(["fit", "--predictions.path", "out.jsonl"])
    with pytest.raises(SystemExit, match=r"nothing to predict: give --data\.predict_file"):
        main(["predict", "--predictions.path", str(tmp_path / "out.jsonl")])
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.slow
def test_several_processes_write_the_same_file(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", '{"no": 1}\n')
    written = []
    for devices, strategy in (("1", "auto"), ("2", "ddp")):
        target = tmp_path / devices / "out.jsonl"
        options = ["--data.on_error", "skip", "--trainer.devices", devices,
                   "--trainer.strategy", strategy, "--trainer.accelerator", "cpu"]  # fmt: skip
        subprocess.run(
            [sys.executable, str(ROOT / "train.py"), *arguments(source, target, *options)],
            cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, timeout=300,
        )  # fmt: skip
        assert os.listdir(target.parent) == ["out.jsonl"]
        written.append(target.read_text(encoding="utf-8").splitlines())
    assert len(written[0]) == len(PROMPTS) + 1
    for one, two in zip(*written, strict=True):
        assert_same(json.loads(one), json.loads(two))
