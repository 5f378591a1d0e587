"""The arena: its tasks, what it measures, and its tables."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import (
    arena,
    arena_charts,
    arena_costs,
    arena_runs,
    arena_standings,
    arena_tables,
    arena_tasks,
)
from benchmarks.arena_figures import (
    figures,
    is_right,
    quantile_crps,
    sample_crps,
    sample_quantiles,
)
from benchmarks.arena_tasks import OPERATIONS, TASKS, asked
from benchmarks.contenders.base import LEVELS, Answers, Contender, Text
from numlm.parsing import find_numbers


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


@pytest.mark.parametrize("kind", arena_tasks.KINDS)
@pytest.mark.parametrize("far", [False, True])
def test_a_far_problem_has_an_operand_larger_than_any_that_is_learned(
    kind: str, far: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = arena_tasks.KINDS[kind]
    monkeypatch.setattr(arena_tasks, "KINDS", {kind: own})
    task = TASKS["arithmetic"](0, 300, 60)
    near = [text.text for text in task.training]
    asked_far = [q.prompt for name, of in task.sets.items() if name.endswith("far") for q in of]
    for text in asked_far if far else near:
        left = text.split("=")[0]
        operands = [abs(number.value) for _, _, number in find_numbers(left)]
        assert (max(operands) > own.limit) == far


def test_figures_of_answers() -> None:
    truths = torch.tensor([100.0, -2.0, 0.0, 5.0], dtype=torch.float64)
    values = torch.tensor([100.00005, -2.0, 0.0, math.nan], dtype=torch.float64)
    found = figures(Answers(values), truths)
    assert found["right"] == 0.75
    assert found["exact_match"] == 0.5
    assert found["answered"] == 0.75
    assert found["crps"] == found["mae"] == pytest.approx(0.00005 / 3)
    assert "coverage_80" not in found


def test_the_score_of_quantiles_is_that_of_the_distribution() -> None:
    """A uniform distribution on [0, 1] has a CRPS of 1/12 at its middle, and 1/3 at its ends."""
    truths = torch.tensor([0.5, 1.0], dtype=torch.float64)
    quantiles = torch.tensor([LEVELS] * 2, dtype=torch.float64)
    torch.testing.assert_close(
        quantile_crps(quantiles, truths), torch.tensor([1 / 12, 1 / 3]).double(), rtol=0.02, atol=0
    )
    middle, end = (
        figures(Answers(truths[i : i + 1], quantiles[i : i + 1]), truths[i : i + 1])
        for i in range(2)
    )
    assert (middle["coverage_80"], end["coverage_80"]) == (1.0, 0.0)


def test_few_samples_tell_score_and_coverage_of_the_distribution() -> None:
    """Of a normal forecast that is right: the score is 1 / sqrt(pi), 80 % are inside."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(40_000, 17, generator=generator, dtype=torch.float64)
    samples, truths = drawn[:, :16], drawn[:, 16]
    found = figures(Answers(samples.mean(-1), samples=samples), truths)
    assert found["crps"] == pytest.approx(1 / math.sqrt(math.pi), rel=0.01)
    assert found["coverage_80"] == pytest.approx(0.8, abs=0.02)


def test_samples_that_are_no_numbers_do_not_count() -> None:
    nan = math.nan
    samples = torch.tensor(
        [[3.0, nan, 1.0, nan], [5.0, nan, nan, nan], [nan] * 4], dtype=torch.float64
    )
    truths = torch.tensor([1.0, 7.0, 0.0], dtype=torch.float64)
    assert sample_crps(samples, truths)[:2].tolist() == [1.0 - 1.0, 2.0]
    assert sample_crps(samples, truths)[2].isnan()
    quantiles = sample_quantiles(samples)
    middle = quantiles[:, LEVELS.index(0.5)].tolist()
    assert middle[:2] == [2.0, 5.0]
    assert quantiles[0, [0, -1]].tolist() == [1.0, 3.0]
    assert quantiles[2].isnan().all()
    found = figures(Answers(samples.nanmean(-1), samples=samples), truths)
    assert (found["answered"], found["coverage_80"]) == (
        pytest.approx(2 / 3),
        pytest.approx(1 / 3),
    )
    assert found["crps"] == 1.0


class _Echo(Contender):
    """Answers with the last number of the prompt."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def answer(self, prompts: Sequence[str]) -> Answers:
        values = torch.tensor([float(p.split()[-2]) for p in prompts], dtype=torch.float64)
        return Answers(values, samples=values[:, None])

    encode = loss = added = number_tokens = None  # type: ignore[assignment]


def test_answers_are_in_the_order_of_the_questions() -> None:
    texts = [Text(f"{'x' * (i * 37 % 11)} {i} = {i}", (1,), whole=False) for i in range(250)]
    answers = arena.ask(_Echo(), asked(texts))
    assert answers.values.tolist() == list(range(250))
    assert answers.samples is not None
    assert answers.samples[:, 0].tolist() == list(range(250))
    assert answers.quantiles is None


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
        (12345671.0, 12345670.0, False),
        (560880100.0, 560880000.0, False),
        (1e16, 1e16, True),
    ],
)
def test_an_answer_is_right_if_all_digits_that_are_written_are(
    value: float, truth: float, right: bool
) -> None:
    assert is_right(value, truth) == right


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
    assert runs[0]["texts"] == 16
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
        arena_runs.load(tmp_path / "addition.jsonl")


def _runs(figure: str = "right", **found: list[float | None]) -> arena_runs.Runs:
    """Runs of contenders, by a figure in every seed."""
    return {
        name: [{"seed": i, "sets": {"test": {figure: one}}} for i, one in enumerate(of)]
        for name, of in found.items()
    }


@pytest.mark.parametrize(
    ("ours", "others", "place"),
    [
        ([0.9, 0.9], [0.8, 0.8], "first"),
        ([0.8, 0.8], [0.8, 0.8], "level"),
        ([0.6, 0.9], [0.5, 0.8], "first"),  # by as much in every seed, whatever seeds differ by
        ([0.5, 0.8], [0.6, 0.9], "lost"),
        ([0.75, 0.85], [0.8, 0.82], "level"),
        ([0.83, 0.85], [0.8, 0.84], "first"),
        ([0.7, 0.7], [0.8, 0.84], "lost"),
    ],
)
def test_standings(ours: list[float], others: list[float], place: str) -> None:
    runs = _runs(numlm=ours, digits=[0.1, 0.1], fone=others)
    (standing,) = arena_standings.standings(runs, ["right"])
    assert (standing.place, standing.winner) == (place, "fone")


@pytest.mark.parametrize(
    ("ours", "others", "place"),
    [
        ([2.0, 2.0], [1.0, 1.0], "lost"),
        ([2.0, 2.0], [1.0, None], "first"),  # an error without bounds is the worst
        ([2.0, None], [1.0, 1.0], "lost"),
        ([None, None], [None, None], "level"),
    ],
)
def test_where_less_is_better(
    ours: list[float | None], others: list[float | None], place: str
) -> None:
    runs = _runs("crps", numlm=ours, fone=others)
    (standing,) = arena_standings.standings(runs, ["crps"])
    assert standing.place == place


def test_ours_does_not_compete_with_ours() -> None:
    runs = _runs(**{"numlm": [0.7, 0.7], "likelihood": [0.9, 0.9], "fone": [0.8, 0.8]})
    (standing,) = arena_standings.standings(runs, ["right"])
    assert (standing.place, standing.winner) == ("lost", "fone")


def test_only_the_same_seeds_are_compared() -> None:
    with pytest.raises(ValueError, match="other seeds"):
        arena_standings.standings(_runs(numlm=[1.0, 1.0], fone=[0.5]), ["right"])


def test_a_run_counts_once(tmp_path: Path) -> None:
    line = {"contender": "fone", "seed": 0, **arena_tasks.BUDGETS["lengths"]._asdict()}
    file = tmp_path / "lengths.jsonl"
    file.write_text(json.dumps(line) + "\n" + json.dumps({**line, "lr": 1.0}) + "\n")
    assert len(arena_runs.load(file)["fone"]) == 2
    assert len(arena_runs.load(file, lr=1e-3)["fone"]) == 1
    file.write_text(2 * (json.dumps(line) + "\n"))
    with pytest.raises(ValueError, match="the same settings"):
        arena_runs.load(file)


def test_a_figure_that_could_not_be_calculated_is_shown_as_the_worst() -> None:
    text = arena_tables.table(_runs("rmse_all", numlm=[1.0, None], fone=[3.0, 5.0]), "rmse_all")
    assert text.splitlines()[2:] == ["| numlm | ∞ |", "| fone | 4 ± 1 |"]


def test_two_kinds_of_a_set_are_in_one_column() -> None:
    sets = {"addition, near": {"right": 1.0}, "addition, far": {"right": 0.5}}
    text = arena_tables.table({"numlm": [{"sets": sets}]}, "right")
    assert text.splitlines()[0] == "| right to every digit, %: near / far | addition |"
    assert text.splitlines()[2] == "| numlm | 100 / 50 |"


def test_a_figure_stands_by_how_many_texts_were_learned_from() -> None:
    def run(texts: int, right: float) -> arena_runs.Run:
        return {"texts": texts, "sets": {"test": {"right": right}}}

    runs = {"numlm": [run(1600, 0.4), run(1600, 0.6)], "fone": [run(12800, 1.0)]}
    assert arena_tables.texts_table(runs, "right").splitlines() == [
        "| right to every digit, %, of training texts | 1,600 | 12,800 |",
        "|---|--:|--:|",
        "| numlm | 50 ± 10 | - |",
        "| fone | - | 100 |",
    ]


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
        budget = arena_tasks.BUDGETS[name]._asdict()
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
    lines = arena_runs.against_texts(arena_runs.load(tmp_path / "addition.jsonl"), "right")
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
