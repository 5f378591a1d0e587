"""Runs that are killed with SIGKILL and go on: the weights of a run that nobody killed."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.torture import Moment, draw
from tests.test_resume import ROOT
from tests.test_stopping import output, start, stop_after
from tests.test_strategies import DDP, FSDP

pytestmark = pytest.mark.slow
STEPS = ["--trainer.max_epochs", "3"]
PARTS = [*FSDP, "--trainer.strategy.init_args.save_distributed_checkpoint", "true"]
TORTURED = [
    *("--config", str(ROOT / "configs" / "smoke.yaml")),
    *("--config", str(Path(__file__).with_name("resume.yaml"))),
    "--trainer.callbacks+=callbacks.evaluation.BeforeAfterEvaluation",
    "--trainer.callbacks+=callbacks.export.ExportModel",
    "--trainer.callbacks+=callbacks.checkpoints.SaveCheckpoints",
    *("--trainer.callbacks.every_n_steps", "2"),
]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """What a run's last step came to; of parts, once one process has put them together."""
    file = folder / "latest" / "checkpoints" / "step_0000012.ckpt"
    if not file.is_dir():
        found: dict[str, torch.Tensor] = torch.load(file, weights_only=True)["state_dict"]
        return found
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    dcp_to_torch_save(file, folder / "whole.pt")
    found = torch.load(folder / "whole.pt", weights_only=True)["state_dict"]
    return found


def own_rows(folder: Path) -> list[str]:
    rows = [
        {"prompt": f"The gauge shows {i}.25 bar. It shows ", "answer": f"{i}.25"}
        for i in range(40)
    ]
    file = folder / "train.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["--data.train_file", str(file), "--data.cache_dir", str(folder / "cache")]


@pytest.mark.parametrize(
    "options",
    [DDP, FSDP, PARTS, ["--trainer.accumulate_grad_batches", "2"], ["--data.num_workers", "2"]],
    ids=["two", "sharded", "parts", "accumulated", "own_data_two_workers"],
)
def test_killed_and_resumed(tmp_path: Path, options: list[str], request: Any) -> None:
    """Of several processes the first one is killed; the others find nobody to talk to and end."""
    folders = tmp_path / "undisturbed", tmp_path / "killed"
    for folder in folders:
        folder.mkdir()
    if "own_data" in request.node.name:
        options = [*options, *own_rows(tmp_path)]
    undisturbed, killed = folders
    assert start(undisturbed, *STEPS, *options).wait(timeout=200) == 0, output(undisturbed)
    code = stop_after(start(killed, *STEPS, *options), 5, killed, signal.SIGKILL)
    assert code == -signal.SIGKILL
    done = start(killed, "--ckpt_path", "last", *STEPS, *options).wait(timeout=200)
    assert done == 0, output(killed)
    mine, theirs = weights(killed), weights(undisturbed)
    assert list(mine) == list(theirs)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_torture_in_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three kills of a small run, each resumed to its end: three of three equal."""
    from benchmarks import torture

    torture.main(["--kills", "3", "--folder", str(tmp_path / "torture"), "--seed", "3",
                  "--json", str(tmp_path / "found.json"), "--", *TORTURED])  # fmt: skip
    printed = capsys.readouterr().out
    assert "3 of 3 equal" in printed
    assert "killed 3 times, the victim itself came to the same weights" in printed
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert [row["compared_at"] for row in rows] == ["the end"] * 3


def test_torture_finds_a_run_that_is_not_the_same(tmp_path: Path, monkeypatch: Any) -> None:
    """Resumed with another seed, it must not be called equal."""
    from benchmarks import torture

    train = torture.train

    def other(folder: Path, options: list[str], temporary: Path | None = None) -> Any:
        resumed = (folder / torture.RUN / "checkpoints").exists()
        return train(
            folder, [*options, "--seed_everything", "5"] if resumed else options, temporary
        )

    monkeypatch.setattr(torture, "train", other)
    monkeypatch.setattr(
        torture, "draw", lambda *_: [Moment("checkpoints/step_0000004.ckpt", 0.0, False)]
    )
    with pytest.raises(SystemExit):
        torture.main(["--kills", "1", "--folder", str(tmp_path / "t"), "--", *TORTURED])


def test_moments_are_in_the_order_of_the_run() -> None:
    timeline = [
        (0.0, "start"),
        (5.0, "run.json"),
        (8.0, "a_2.ckpt"),
        (9.0, "a_4.ckpt"),
        (10.0, "end"),
    ]
    found = draw(timeline, 200, 1)
    places = [[name for _, name in timeline].index(moment.event) for moment in found]
    assert places == sorted(places)
    assert 80 < places.count(0) < 120, "half of the time, half of the kills"
    assert all(0 <= moment.seconds <= 5 for moment in found)
    assert {moment.event for moment in found if moment.in_write} == {"a_2.ckpt"}
