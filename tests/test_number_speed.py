"""The benchmark of written numbers: its arms do what they say, and its figures are as computed."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import number_speed
from benchmarks.number_speed import Arms
from benchmarks.number_speed_figures import Round, by_set, by_tokens
from numlm.floors import questions
from numlm.model import NumberLM

EMBEDDED = Path(__file__).resolve().parents[1] / "assets" / "tiny-qwen2"
TEXTS = ["It is 42.57, so it is 42.57 volts.", "It is -7, so it is -7 volts."]
ASKED = [q for i, text in enumerate(TEXTS) for q in questions(text, (1,), i)]


@pytest.fixture(scope="module")
def arms() -> Iterator[Arms]:
    return Arms(NumberLM.from_pretrained(EMBEDDED).eval(), str(EMBEDDED))


@pytest.fixture
def clock_of_passes(arms: Arms, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A second for every pass through a backbone: what is timed can be told to the second."""
    passes: list[object] = []
    hooks = [
        backbone.base_model.register_forward_hook(lambda *_: passes.append(None))
        for backbone in (arms.model.backbone, arms.backbone)
    ]
    clock = SimpleNamespace(perf_counter=lambda: float(len(passes)))
    monkeypatch.setattr(number_speed, "time", clock)
    yield
    for hook in hooks:
        hook.remove()


@pytest.mark.usefixtures("clock_of_passes")
def test_a_turn_has_a_time_for_every_token(arms: Arms) -> None:
    found = arms.turn("mine", ASKED)
    assert found.tokens == [5, 1], "what digits take more than their space: ` -` is one token"
    assert len(found.digits_alone) == 5
    assert found.digits_alone == sorted(found.digits_alone)
    assert found.digits_alone == [1, 2, 3, 4, 5]
    assert 0 < found.number_alone < found.number_call
    assert (found.number_alone, found.number_call) == (1, 2), (
        "it writes two words, being untrained"
    )
    assert found.digits_mean == (found.digits_alone[4] + found.digits_alone[0]) / 2
    assert found.digits_right >= 1, "restating a number is what the base model can do"


def test_alone_a_number_is_read_by_the_step_that_is_timed(
    arms: Arms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An untrained model would choose a word; it is given `<NUM>`, and says one for each text."""
    said = []
    generate = arms.model.generate

    def kept(*prompts: object, **options: object) -> object:
        said.append(generate(*prompts, **options))
        return said[-1]

    monkeypatch.setattr(arms.model, "generate", kept)
    arms.number_alone([question.prompt for question in ASKED])
    assert [[n.said is not None for n in one.numbers][:2] for one in said[0]] == [
        [False, True]
    ] * 2


def test_figures_by_set_and_by_tokens() -> None:
    one = Round("basic", 1, [2], 1.0, [1.0, 3.0], 2.0, 8.0, 1, 0)
    two = Round("basic", 2, [1, 2], 2.0, [3.0, 5.0], 2.0, 6.0, 2, 1)
    rows = {(row["batch"], row["what"]): row for row in by_set([one, two])}
    assert rows[1, "alone"]["ratio"] == [3.0, 3.0, 3.0]
    assert rows[2, "alone"]["digits_ms"][0] == 2000  # a number: the mean of 3 and 5 s, by 2
    assert rows[2, "end to end"]["ratio"][0] == 3.0
    assert (rows[2, "alone"]["number_right"], rows[2, "alone"]["digits_right"]) == (1.0, 0.5)
    found = {(row["what"], row["batch"], row["tokens"]): row for row in by_tokens([one, two])}
    alone = {("alone", batch, count) for batch in (1, 2) for count in (1, 2)}
    assert set(found) == {*alone, ("end to end", 1, 2)}
    assert found["alone", 2, 2]["ratio"][0] == 2.5


def test_the_whole_in_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = tmp_path / "found.json", tmp_path / "chart.png"
    number_speed.main(["--model", str(EMBEDDED), "--batches", "2", "--rounds", "1",
                       "--json", str(files[0]), "--chart", str(files[1])])  # fmt: skip
    printed = capsys.readouterr().out
    assert "times as fast" in printed
    found = json.loads(files[0].read_text())
    assert [(r["set"], r["batch"]) for r in found["rounds"]] == [
        ("basic", 2),
        ("extreme_values", 2),
    ]
    assert found["machine"]
    assert files[1].stat().st_size > 10_000
