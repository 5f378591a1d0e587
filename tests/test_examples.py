"""The diabetes example: what it writes, and the whole of it at a tiny budget."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

from examples import diabetes


def test_a_person_becomes_a_sentence_that_can_be_read_back() -> None:
    table = load_diabetes(scaled=False)
    people = diabetes.measurements(table.data)
    assert people[0, 8] == pytest.approx(np.exp(table.data[0, 8]))
    text = diabetes.sentence(people[0].tolist())
    assert text == (
        "age 59, sex 2, weight 32.1, pressure 101, total 157, LDL 93.2, HDL 38, ratio 4.00, fat 129, "
        "sugar 87. The score is"
    )


def test_remeasuring_keeps_the_sex_and_changes_the_rest_a_little() -> None:
    people = diabetes.measurements(load_diabetes(scaled=False).data)
    again = diabetes.remeasured(people, 0.1, np.random.default_rng(0))
    assert (again[:, 1] == people[:, 1]).all()
    error = (again - people).std(0) / people.std(0)
    assert error[[0, 2, 3, 4, 5, 6, 7, 9]] == pytest.approx(0.1, rel=0.15)


@pytest.mark.slow
def test_from_data_to_report(tmp_path: Path) -> None:
    tiny = ["--trainer.max_steps", "2", "--data.batch_size", "4"]
    folder = diabetes.main(
        ["--folds", "1", "--people", "160", "--copies", "1", "--out", str(tmp_path), *tiny]
    )
    results = json.loads((folder / "results.json").read_text())
    (fold,) = results["folds"]
    assert fold["people"] == 32
    assert set(fold["rmse"]) == set(diabetes.METHODS)
    assert fold["rmse"]["ridge"] < fold["rmse"]["training_median"]
    assert 0 <= fold["coverage"] <= 1
    rows = [json.loads(line) for line in (folder / "fold_0" / "train.jsonl").open()]
    assert len(rows) == 160 - 32 - 40
    prompts = {row["prompt"] for row in rows}
    tested = {json.loads(line)["prompt"] for line in (folder / "fold_0" / "test.jsonl").open()}
    assert not prompts & tested
    report = (folder / "report.md").read_text()
    assert f"| NumLM, from sentences | **{fold['rmse']['numlm']:.2f}** |" in report
    assert (folder / "diabetes.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "fold_0" / "run" / "report.html").exists()
