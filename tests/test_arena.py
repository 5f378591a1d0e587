"""The arena: its tasks, what it measures, and its tables."""

import json
import math
import re
from pathlib import Path

import pytest
import torch

from benchmarks import arena, arena_charts, arena_costs, arena_tables
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


@pytest.mark.parametrize(
    ("value", "truth", "right"),
    [
        (42.5, 42.5, True),
        (42.50004, 42.5, True),
        (42.5001, 42.5, False),
        (1 / 3, 0.333333, True),
        (0.33333, 0.333333, False),
        (123456789.4, 123456789.0, True),
        (123456788.0, 123456789.0, False),
        (-7.0, 7.0, False),
        (-0.0, 0.0, True),
        (1e-12, 0.0, False),
        (1.000004, 1.0, True),
    ],
)
def test_an_answer_is_right_if_all_digits_that_are_written_are(
    value: float, truth: float, right: bool
) -> None:
    assert arena.is_right(value, truth) == right


def test_lengths_are_learned_up_to_four_digits() -> None:
    task = TASKS["lengths"](0, 500, 20)
    operands = [
        number for text in task.training for number in text.text.split(" = ")[0].split(" + ")
    ]
    assert {len(number) for number in operands} == {1, 2, 3, 4}
    for name, questions in task.sets.items():
        for question in questions:
            assert {f"{len(n)} digits" for n in question.prompt.split(" = ")[0].split(" + ")} == {
                name
            }
    assert list(task.sets) == [f"{digits} digits" for digits in range(2, 9)]


def test_the_mixed_task_has_the_texts_and_sets_of_both() -> None:
    task = TASKS["mixed"](0, 90, 10)
    assert len(task.training) == 90
    assert sum(not text.whole for text in task.training) == 45
    assert {*TASKS["scorecard"](0, 30, 10).sets, *TASKS["arithmetic"](0, 30, 10).sets} == {
        *task.sets
    }


@pytest.mark.slow
def test_a_run_is_kept_and_not_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["addition", "--contenders", "numlm", "fone", "--seeds", "0", "--texts", "16",
               "--batch", "8", "--evaluated", "6", "--out", str(tmp_path)]  # fmt: skip
    arena.main(command)
    file = tmp_path / "addition.jsonl"
    runs = [json.loads(line) for line in file.read_text().splitlines()]
    assert [run["contender"] for run in runs] == ["numlm", "fone"]
    assert runs[0]["sets"]["test"]["slots"] == 6
    assert runs[0]["steps"] == 2
    before = file.read_bytes()
    arena.main(command)
    assert file.read_bytes() == before
    arena.main([*command, "--seeds", "1", "--contenders", "fone"])
    assert file.read_bytes().startswith(before)
    assert len(file.read_text().splitlines()) == 3
    capsys.readouterr()
    arena_tables.main([str(file)])
    printed = capsys.readouterr().out
    assert "| numlm |" in printed
    assert "| fone |" in printed


@pytest.mark.parametrize("page", ["docs/arena.md", "README.md", "README.zh.md"])
def test_pages_show_what_the_runs_say(page: str) -> None:
    text = (arena.ROOT / page).read_text(encoding="utf-8")
    contents = arena_tables.tables()
    marks = set(re.findall("^<!-- (.*) -->$", text, re.MULTILINE))
    assert marks
    assert marks <= set(contents)
    assert arena_tables.fill(text, contents) == text


def test_no_runs_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"benchmarks/arena.py makes them"):
        arena_tables.load(tmp_path / "addition.jsonl")


def _runs(**rights: list[float]) -> arena_tables.Runs:
    """Runs of contenders, by their shares of right answers."""
    return {
        name: [{"sets": {"test": {"right": right}}} for right in shares]
        for name, shares in rights.items()
    }


@pytest.mark.parametrize(
    ("ours", "others", "place"),
    [
        ([0.9, 0.9], [0.8, 0.8], "first"),
        ([0.8, 0.8], [0.8, 0.8], "level"),
        ([0.75, 0.85], [0.8, 0.84], "level"),
        ([0.7, 0.7], [0.8, 0.84], "lost"),
    ],
)
def test_standings(ours: list[float], others: list[float], place: str) -> None:
    runs = _runs(numlm=ours, digits=[0.1, 0.1], fone=others)
    (standing,) = arena_tables.standings(runs, ["right"])
    assert (standing.place, standing.winner) == (place, "fone")


def test_where_less_is_better() -> None:
    runs = {
        name: [{"sets": {"test": {"crps": score}}}]
        for name, score in [("numlm", 2.0), ("fone", 1.0)]
    }
    (standing,) = arena_tables.standings(runs, ["crps", "coverage_80"])
    assert standing.place == "lost"


def test_two_kinds_of_a_set_are_in_one_column() -> None:
    sets = {"addition, near": {"right": 1.0}, "addition, far": {"right": 0.5}}
    text = arena_tables.table({"numlm": [{"sets": sets}]}, "right")
    assert text.splitlines()[0] == "| right to every digit, %: near / far | addition |"
    assert text.splitlines()[2] == "| numlm | 100 / 50 |"


def test_ablations_are_averaged_over_sets_and_shown_by_seed() -> None:
    def run(right: float) -> dict[str, object]:
        sets = {name: {"right": right, "crps": 2.0, "coverage_80": 0.5, "median_relative_error": 0.0}
                for column in arena_tables.ABLATION_COLUMNS.values() for name in column.sets}  # fmt: skip
        return {"sets": {**sets, "basic": {"right": 1.0}}}

    row = arena_tables.ablation_table({"no-clock": [run(0.4), run(0.7)]}).splitlines()[2]
    assert row.split(" | ")[2:5] == ["70 ± 10", "55 ± 15", "2"]


def test_charts_are_drawn(tmp_path: Path) -> None:
    figures = {"right": 0.5, "median_relative_error": 0.1}
    for name, sets in {"addition": ["test"], "lengths": ["2 digits", "3 digits"]}.items():
        budget = arena_tables.BUDGETS[name]._asdict()
        lines = [
            {"contender": contender, "seed": seed, **budget, "texts": texts,
             "sets": dict.fromkeys(sets, figures)}
            for contender in ("numlm", "fone") for seed in (0, 1)
            for texts in {budget["texts"], 1600}
        ]  # fmt: skip
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    arena_charts.main(["--results", str(tmp_path), "--out", str(tmp_path / "charts")])
    for name in ("arena_texts.png", "arena_digits.png"):
        assert (tmp_path / "charts" / name).stat().st_size > 10_000
    lines = arena_charts.against_texts(arena_tables.load(tmp_path / "addition.jsonl"), "right")
    assert lines["fone"] == {1600: [50.0, 50.0], 12800: [50.0, 50.0]}


@pytest.mark.slow
def test_costs_are_measured_in_turn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "costs.json"
    arena_costs.main(["--contenders", "digits", "fone", "--rounds", "2", "--texts", "4",
                      "--questions", "6", "--json", str(file)])  # fmt: skip
    assert "an answer" in capsys.readouterr().out
    measured = json.loads(file.read_text())
    assert measured["questions"] == 6
    lines = arena_tables.costs(measured).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| digits", "| fone"]
    assert lines[2].endswith("| 0 | 1.00 | 1.00 |")
    assert " | 1 | 193 | " in lines[3]
