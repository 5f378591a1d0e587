"""The arena: its tasks, what it measures, and its tables."""

import json
import math
from pathlib import Path

import pytest
import torch

from benchmarks import arena, arena_tables
from benchmarks.arena_tasks import OPERATIONS, TASKS, asked
from benchmarks.contenders.base import LEVELS, Answers, Text


@pytest.mark.parametrize("name", TASKS)
def test_a_task_has_texts_and_questions_that_are_not_learned(name: str) -> None:
    task = TASKS[name](0, 60, 10)
    assert len(task.training) == 60
    learned = {text.text for text in task.training}
    for questions in task.sets.values():
        assert questions
        for question in questions:
            assert not any(text.startswith(question.prompt) for text in learned)
            assert math.isfinite(question.truth)
    again = TASKS[name](0, 60, 10)
    assert again.training == task.training
    assert TASKS[name](1, 60, 10).training != task.training


def test_results_follow_from_operands() -> None:
    task = TASKS["arithmetic"](0, 300, 20)
    seen = set()
    for text in task.training:
        left, right = text.text.split(" = ")
        if " of " in left:
            name, rest = left.split(" of ")
            values = [float(part) for part in rest.split(" , ")]
            mean = sum(values) / len(values)
            spread = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
            expected = mean if name == "mean" else spread
        else:
            a, sign, b = left.split(" ")
            x, y = float(a), float(b)
            expected = {"+": x + y, "-": x - y, "*": x * y, "/": x / y if y else math.nan}[sign]
            name = sign
        seen.add(name)
        assert float(right) == pytest.approx(expected, rel=1e-5, abs=1e-9)
    assert len(seen) == len(OPERATIONS)


def test_far_operands_are_larger_than_any_that_were_learned() -> None:
    task = TASKS["arithmetic"](0, 2000, 100)
    for operation in ("addition", "mean"):
        near, far = (
            torch.tensor([abs(q.truth) for q in task.sets[f"{operation}, {place}"]])
            for place in ("near", "far")
        )
        assert far.max() > 10 * near.max()


def test_figures_of_answers() -> None:
    truths = torch.tensor([100.0, -2.0, 0.0, 5.0], dtype=torch.float64)
    values = torch.tensor([100.00005, -2.0, 0.0, math.nan], dtype=torch.float64)
    found = arena.figures(Answers(values), truths)
    assert found["right"] == 0.75
    assert found["exact_match"] == 0.5
    assert found["answered"] == 0.75
    assert "crps" not in found


def test_the_score_of_quantiles_is_that_of_the_distribution() -> None:
    """A uniform distribution on [0, 1] has a CRPS of 1/12 at its middle, and 1/3 at its ends."""
    truths = torch.tensor([0.5, 1.0], dtype=torch.float64)
    quantiles = torch.tensor([LEVELS] * 2, dtype=torch.float64)
    middle, end = (
        arena.figures(Answers(truths[i : i + 1], quantiles[i : i + 1]), truths[i : i + 1])
        for i in range(2)
    )
    assert middle["crps"] == pytest.approx(1 / 12, rel=0.06)
    assert end["crps"] == pytest.approx(1 / 3, rel=0.06)
    assert (middle["coverage_80"], end["coverage_80"]) == (1.0, 0.0)


def test_questions_are_the_numbers_that_are_asked_for() -> None:
    (question,) = asked([Text("3 + 4 = 7", (2,), whole=False)])
    assert (question.prompt, question.truth) == ("3 + 4 = ", 7.0)


@pytest.mark.slow
def test_a_run_is_kept_and_not_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["addition", "--contenders", "numlm", "fone", "--seeds", "0", "--texts", "64",
               "--steps", "2", "--batch", "8", "--evaluated", "6", "--out", str(tmp_path)]  # fmt: skip
    arena.main(command)
    folder = tmp_path / "addition" / "64_2"
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == ["fone_0.json", "numlm_0.json"]
    run = json.loads(files[1].read_text())
    assert run["contender"] == "numlm"
    assert run["sets"]["test"]["slots"] == 6
    changed = [file.stat().st_mtime_ns for file in files]
    arena.main(command)
    assert [file.stat().st_mtime_ns for file in files] == changed
    capsys.readouterr()
    arena_tables.main([str(folder), "--json", str(tmp_path / "all.json")])
    printed = capsys.readouterr().out
    assert "| numlm |" in printed
    assert "| fone |" in printed
    assert len(json.loads((tmp_path / "all.json").read_text())) == 2


def test_no_runs_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"benchmarks/arena.py writes them"):
        arena_tables.load(tmp_path)
