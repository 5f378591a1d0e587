"""Benchmarks of vocabulary and size: their arms agree, and their figures are as computed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.distributions import Cauchy

from benchmarks import per_dimension, per_dimension_head, scaling, turns, vocabulary_speed
from benchmarks.turns import Sample, rows

ROOT = Path(__file__).resolve().parents[1]


def test_rows_pair_calls_of_a_round() -> None:
    samples = [
        Sample("a", "first", 0, 1.0, 8.0, 0.0),
        Sample("a", "second", 0, 2.0, 2.0, 0.0),
        Sample("a", "second", 1, 12.0, 1.0, 0.0),
        Sample("a", "first", 1, 3.0, 8.0, 0.0),
        Sample("b", "only", 0, 5.0, None, 0.0),
    ]
    first, second, only = rows(samples)
    assert first["ms"] == [2000.0, 1500.0, 2500.0]
    assert first["time_ratio"] == [1.0, 1.0, 1.0]
    assert second["time_ratio"] == [3.0, 2.5, 3.5], "2 / 1 and 12 / 3"
    assert second["memory_ratio"][0] == (2 / 8 + 1 / 8) / 2
    assert only["mib"] is only["memory_ratio"] is None


def test_every_round_begins_with_another_arm() -> None:
    called = []
    arms = {name: lambda name=name: called.append(name) or 0.0 for name in "abc"}
    turns.in_turn({"part": arms}, 2, torch.device("cpu"), "Turns")
    assert called == [*"abc", *"bca"]


_MEASURED = """
import gc, torch
from benchmarks.turns import measure

def ones():
    gc.collect()
    return float(torch.ones(1 << 23).sum())  # 32 MiB

gc.disable()
held = torch.ones(1 << 24)  # 64 MiB that a call does not take
cycle = [torch.ones(1 << 24)]  # nor does it give these back
cycle.append(cycle)
del cycle
cpu = torch.device("cpu")
print(*measure(ones, cpu), measure(lambda: 0.0, cpu)[1])
"""


@pytest.mark.skipif(not turns._CLEAR.exists(), reason="tells no peak of a process")
def test_memory_is_what_a_call_takes() -> None:
    """In a process of its own: what other tests leave behind may end at any time."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED], cwd=ROOT, check=True, capture_output=True, text=True
    )
    seconds, mib, value, nothing = map(float, done.stdout.split())
    assert mib == pytest.approx(32, abs=2)
    assert (seconds > 0, value) == (True, 1 << 23)
    assert nothing == pytest.approx(0, abs=2)


def test_ways_through_the_vocabulary_agree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a compiler, which takes seconds and is tested elsewhere."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    file = tmp_path / "found.json"
    vocabulary_speed.main(["--positions", "32", "--ranked", "8", "--vocabulary", "3000",
                           "--hidden", "16", "--rounds", "2", "--json", str(file)])  # fmt: skip
    assert "of the time (goal 1.2)" in capsys.readouterr().out
    found = json.loads(file.read_text())
    assert found["machine"]
    values: dict[str, list[float]] = {}
    for call in found["calls"]:
        values.setdefault(call["part"], []).append(call["value"])
    assert {part: len(each) for part, each in values.items()} == {
        "one-vs-rest": 6,
        "softmax": 4,
        "rank": 4,
        "rank, end to end": 4,
    }
    for part, each in values.items():
        assert each == pytest.approx([each[0]] * len(each), rel=1e-4), part
    assert values["rank"][0] > 1


def test_a_slope_is_that_of_the_larger_half() -> None:
    points = {1: 5.0, 2: 5.0, 4: 16.0, 8: 64.0}
    samples = [Sample("a", str(n), 0, v / 1e3, 0.0, 0.0) for n, v in points.items()]
    (line,) = scaling.slopes(rows(samples))
    assert (line["measure"], line["slope"]) == ("ms", 2.0), "no memory was taken"
    assert line["points"][0] == (1, 5.0)


def test_scaling_in_short(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"texts": [1, 2], "length": [8, 16], "vocabulary": [1500, 3000], "data": [5, 10]}
    monkeypatch.setattr(scaling, "SIZES", small)
    files = tmp_path / "found.json", tmp_path / "chart.png"
    scaling.main(["--rounds", "1", "--json", str(files[0]),
                  "--chart", str(files[1])])  # fmt: skip
    assert "1 is linear" in capsys.readouterr().out
    found = json.loads(files[0].read_text())
    calls = {(call["part"], call["arm"]): call["value"] for call in found["calls"]}
    assert len(calls) == 12, "two sizes of six curves"
    assert [calls["tokenizing", n] for n in ("5", "10")] == [5, 10]
    assert calls["vocabulary, softmax", "3000"] > 0
    assert files[1].stat().st_size > 10_000


@pytest.mark.parametrize("tile", [7, 50, 1000])
def test_a_scale_per_dimension_in_tiles(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the naive form with its gradients, and that against the distribution."""
    monkeypatch.setattr(per_dimension_head, "tile_size", lambda *_, **__: tile)
    loc, weight, threshold = (
        torch.randn(*n, dtype=torch.float64) for n in ((5, 6), (50, 6), (50,))
    )
    scale = torch.rand(5, 6, dtype=torch.float64) + 0.1
    labels = torch.tensor([0, 6, 7, 49, 0])
    used = [tensor.requires_grad_() for tensor in (loc, scale, weight, threshold)]
    mine = per_dimension_head.per_dimension_loss(*used, labels)
    theirs = per_dimension_head.naive_per_dimension(*used, labels)
    torch.testing.assert_close(mine, theirs)
    pairs = zip(
        torch.autograd.grad(3 * mine, used), torch.autograd.grad(3 * theirs, used), strict=True
    )
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)

    cdf = Cauchy(loc @ weight.T, scale @ weight.abs().T).cdf(threshold)
    right = torch.nn.functional.one_hot(labels, 50).bool()
    torch.testing.assert_close(theirs, -torch.where(right, 1 - cdf, cdf).log().sum())


def test_scales_in_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "found.json"
    small = (
        "--positions 8 --vocabulary 300 --hidden 8 --rounds 1 --steps 2 --batch 2 --evaluated 4"
    )
    per_dimension.main([*small.split(), "--json", str(file)])
    assert "perplexity of ordinary text" in capsys.readouterr().out
    found = json.loads(file.read_text())
    isotropic, other = (found["ranking_at_the_start"][name] for name in per_dimension.HEADS)
    assert isotropic["same first token"] == 1.0
    assert isotropic["correlation with logits"] == pytest.approx(1, abs=1e-3)
    assert other["correlation with logits"] < 0.999
    assert {name: len(steps) for name, steps in found["seconds_of_steps"].items()} == {
        "isotropic": 2,
        "per dimension": 2,
    }
    values = {(call["part"], call["arm"]): call["value"] for call in found["calls"]}
    for arm in per_dimension.HEADS:
        assert values["in tiles", arm] == pytest.approx(values["at once", arm], rel=1e-4)
