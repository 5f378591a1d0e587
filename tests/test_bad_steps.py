"""Losses and gradients that are not finite: nothing is updated, or the step is left out."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_modules.number_lm import NumberLMModule
from lightning_modules.optimization import clip_to_norm, gradient_norm
from numlm.checkpoint_files import checkpoint_files, flaw
from numlm.model import Losses, NumberLM
from tests.test_resume import checkpoint, content, fit, same

BAD_STEP = 5
SKIP = ["--model.on_bad_step", "skip"]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The loss of the sixth training batch is not a number; the records of that batch."""
    records: list[int] = []
    seen = {"batches": 0}
    losses = NumberLM.losses

    def spoiled(self: NumberLM, batch: Any, *options: Any) -> Losses:
        found = losses(self, batch, *options)
        if self.training:
            if seen["batches"] == BAD_STEP:
                records.extend(batch.record_ids.tolist())
                bad = replace(found.token, sum=found.token.sum * float("nan"))
                found = found._replace(token=bad)
            seen["batches"] += 1
        return found

    monkeypatch.setattr(NumberLM, "losses", spoiled)
    return records


@pytest.mark.slow
def test_a_bad_loss_stops_before_the_update(tmp_path: Path, broken: list[int]) -> None:
    """Step and records are named, and the last good checkpoint stays the newest."""
    with pytest.raises(SystemExit) as stop:
        fit(tmp_path)
    message = str(stop.value.code)
    assert message.startswith(f"error: step {BAD_STEP}: the loss is nan, ")
    assert f"records {', '.join(map(str, broken))}. Nothing was updated" in message
    assert len(broken) == 8
    assert "--model.on_bad_step skip" in message
    run = (tmp_path / "latest").resolve()
    newest = checkpoint_files(run / "checkpoints")[-1]
    assert newest == checkpoint(run, BAD_STEP)
    assert flaw(newest) is None
    assert all(torch.isfinite(t).all() for t in content(run, BAD_STEP)["state_dict"].values())


@pytest.mark.slow
def test_a_bad_step_is_skipped_and_counted(tmp_path: Path, broken: list[int]) -> None:
    """Weights and optimizer are as they were; the schedule and the texts go on."""
    with pytest.warns(UserWarning, match=rf"step {BAD_STEP}: the loss is nan.* \(1 so far\)"):
        run = fit(tmp_path, *SKIP)
    before, after = content(run, BAD_STEP), content(run, BAD_STEP + 1)
    assert same(before["state_dict"], after["state_dict"])
    assert same(before["optimizer_states"][0]["state"], after["optimizer_states"][0]["state"])
    assert not same(before["lr_schedulers"], after["lr_schedulers"])
    assert not same(after["state_dict"], content(run, BAD_STEP + 2)["state_dict"])
    assert [content(run, step)["skipped_steps"] for step in (5, 6, 12)] == [0, 1, 1]
    assert json.loads((run / "run.json").read_text())["skipped_steps"] == 1
    resumed = fit(tmp_path / "resumed", *SKIP, "--ckpt_path", str(checkpoint(run, 8)))
    assert same(content(resumed)["state_dict"], content(run)["state_dict"])
    assert content(resumed)["skipped_steps"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--trainer.gradient_clip_val", "null"],
                                     ["--trainer.gradient_clip_algorithm", "value"]])  # fmt: skip
def test_a_bad_gradient_of_a_good_loss_stops_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    """However it is clipped; clipping by a norm that is not finite would spoil every weight."""

    def infinite(gradient: Tensor) -> Tensor:
        return gradient * float("inf")

    def losses(self: NumberLM, batch: Any, *rest: Any) -> Losses:
        found = original(self, batch, *rest)
        if self.training and not handles:
            weight = self.backbone.get_input_embeddings().weight
            handles.append(weight.register_hook(infinite))
        return found

    original, handles = NumberLM.losses, []
    monkeypatch.setattr(NumberLM, "losses", losses)
    with pytest.raises(
        SystemExit, match=r"step 0: the loss is [\d.]+, the norm of its gradient is (nan|inf)"
    ):
        fit(tmp_path, *options)
    assert not (tmp_path / "latest" / "checkpoints").exists()


def test_clipping_by_a_known_norm_is_torch_s() -> None:
    weights = [torch.nn.Parameter(torch.randn(5, 3)) for _ in range(3)]
    for weight in weights[:2]:  # one has no gradient
        weight.grad = torch.randn(5, 3) * 10
    optimizer = torch.optim.SGD(weights, 0.1)
    expected = [weight.grad.clone() for weight in weights[:2]]  # type: ignore[union-attr]
    twins = [torch.nn.Parameter(torch.zeros(5, 3)) for _ in range(2)]
    for twin, gradient in zip(twins, expected, strict=True):
        twin.grad = gradient
    norm = torch.nn.utils.clip_grad_norm_(twins, 1.0)
    assert torch.equal(gradient_norm(optimizer), norm)
    clip_to_norm(optimizer, 1.0, norm)
    for weight, twin in zip(weights, twins, strict=False):
        assert weight.grad is not None
        assert twin.grad is not None
        assert torch.equal(weight.grad, twin.grad)


@pytest.mark.parametrize("scaler", [None, object()])
def test_the_optimizer_is_fused_but_with_scaled_gradients(scaler: object) -> None:
    """A fused one would unscale them itself, after they were clipped as they were."""
    module = NumberLMModule()
    module.configure_model()
    plugin = SimpleNamespace(scaler=scaler)
    module._trainer = SimpleNamespace(precision_plugin=plugin, estimated_stepping_batches=10)
    optimizer = module.configure_optimizers()["optimizer"]
    assert optimizer.defaults["fused"] == (scaler is None)
