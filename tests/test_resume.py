"""A run that is resumed is the run that would have been: the same bits in weights and curves."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_modules.steps import step_seed
from train import main

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = ["--config", str(ROOT / "configs" / "smoke.yaml")]
OPTIONS += ["--config", str(Path(__file__).with_name("resume.yaml"))]
STEPS = 12
LORA = ["--model.lora.rank", "4", "--model.lora.dropout", "0.2"]  # draws random numbers
SETTINGS = {
    "plain": [],
    "dropout": LORA,
    "accumulated": [*LORA, "--trainer.accumulate_grad_batches", "3"],
    "two_workers": ["--data.num_workers", "2"],
    "max_steps": ["--trainer.max_epochs", "-1", "--trainer.max_steps", str(STEPS)],
    "validated_within_epochs": ["--trainer.val_check_interval", "2"],
    "parts_of_epochs": ["--trainer.max_epochs", "4", "--trainer.limit_train_batches", "3"],
}


def fit(folder: Path, *options: str) -> Path:
    main(["fit", *OPTIONS, *options, "--trainer.logger.save_dir", str(folder)])
    return (folder / "latest").resolve()


def checkpoint(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step_{step:07}.ckpt"


def content(run: Path, step: int = STEPS) -> Any:
    return torch.load(checkpoint(run, step), weights_only=True)


def same(one: Any, two: Any) -> bool:
    """Whether two states are equal to the last bit."""
    if isinstance(one, torch.Tensor):
        return one.dtype == two.dtype and torch.equal(one, two)
    if isinstance(one, dict):
        return list(one) == list(two) and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return bool(one == two)


def assert_same_end(run: Path, other: Path) -> None:
    mine, theirs = content(run), content(other)
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch"):
        assert same(mine[part], theirs[part]), part
    assert mine["spent"]["tokens"] == theirs["spent"]["tokens"] > 0


def curves(run: Path) -> dict[str, dict[int, float]]:
    events = EventAccumulator(str(run))
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith(("train/", "val/"))]
    return {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in tags}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        name: fit(tmp_path_factory.mktemp(name), *options) for name, options in SETTINGS.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("step", range(1, STEPS))
def test_from_every_checkpoint(uninterrupted: dict[str, Path], tmp_path: Path, step: int) -> None:
    """Step and epoch ends: weights, optimizer, schedule and all curves from there on."""
    whole = uninterrupted["plain"]
    resumed = fit(tmp_path, "--ckpt_path", str(checkpoint(whole, step)))
    assert_same_end(resumed, whole)
    expected, found = curves(whole), curves(resumed)
    assert set(found) == set(expected) >= {"train/loss", "val/loss"}
    for tag, points in expected.items():
        assert found[tag] == {at: value for at, value in points.items() if at >= step}, tag


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "plain"])
@pytest.mark.parametrize("step", [3, 6])
def test_under_every_setting(
    uninterrupted: dict[str, Path], tmp_path: Path, name: str, step: int
) -> None:
    whole = uninterrupted[name]
    resumed = fit(tmp_path, *SETTINGS[name], "--ckpt_path", str(checkpoint(whole, step)))
    assert_same_end(resumed, whole)
    expected, found = curves(whole), curves(resumed)
    for tag, points in expected.items():
        assert found[tag] == {at: value for at, value in points.items() if at >= step}, tag


def test_random_numbers_depend_on_seed_step_piece_and_process() -> None:
    assert step_seed(1, 2, 3, 4) == step_seed(1, 2, 3, 4)
    places = itertools.product(range(3), range(40), range(4), range(4))
    seeds = [step_seed(*place) for place in places]
    assert len(set(seeds)) == len(seeds)
    torch.manual_seed(max(seeds))
    torch.manual_seed(min(seeds))
