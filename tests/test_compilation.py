"""Compiled layers: the same losses, one graph, in training only; and what is said without a compiler."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from numlm.compilation import compile_layers
from numlm.heads import OneVsRestHead, SoftmaxHead, TokenHead
from numlm.model import NumberLM
from tests.conftest import without_dropout
from tests.test_model import EMBEDDED, NUMBERS, batch_of
from tests.test_packing import TEXTS, gradients
from train import main

ROOT = Path(__file__).resolve().parents[1]


class Graphs:
    """A compiler that compiles nothing and counts the graphs it is given."""

    def __init__(self) -> None:
        self.runs: list[int] = []

    def __call__(self, graph: torch.fx.GraphModule, inputs: Any) -> Any:
        self.runs.append(0)
        number = len(self.runs) - 1

        def run(*args: Any) -> Any:
            self.runs[number] += 1
            return graph.forward(*args)

        return run


@pytest.fixture(autouse=True)
def new_graphs() -> None:
    torch._dynamo.reset()


def test_layers_share_a_graph_and_other_batches_need_no_other() -> None:
    model, graphs = NumberLM.from_pretrained(EMBEDDED, token_head=OneVsRestHead), Graphs()
    compile_layers(model.backbone, model.token_head, backend=graphs)
    layers = model.backbone.config.num_hidden_layers
    for step, texts in enumerate((TEXTS, NUMBERS, TEXTS[:2], TEXTS[1:]), start=1):
        model.losses(batch_of(model, texts))
        assert sorted(graphs.runs) == [step, step * layers], "the terms and the layers"


def test_only_training_is_compiled() -> None:
    model, graphs = NumberLM.from_pretrained(EMBEDDED, token_head=OneVsRestHead), Graphs()
    compile_layers(model.backbone, model.token_head, backend=graphs)
    model.eval()
    with torch.no_grad():
        model.losses(batch_of(model, TEXTS))
    model.train()
    model.predict(["It is"])
    model.generate(["It is"], max_new_tokens=3)
    assert not graphs.runs


def test_names_of_weights_stay(tmp_path: Path) -> None:
    model = NumberLM.from_pretrained(EMBEDDED)
    names = model.state_dict().keys()
    compile_layers(model.backbone, model.token_head, backend="eager")
    assert model.state_dict().keys() == names
    model.save_pretrained(tmp_path)
    NumberLM.from_pretrained(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("head", [SoftmaxHead, OneVsRestHead])
def test_losses_and_gradients_stay(head: type[TokenHead]) -> None:
    torch.manual_seed(0)
    model = without_dropout(NumberLM.from_pretrained(EMBEDDED, token_head=head))
    plain, theirs = gradients(model, [batch_of(model, TEXTS)])
    compile_layers(model.backbone, model.token_head)
    compiled, mine = gradients(model, [batch_of(model, TEXTS)])
    assert compiled == pytest.approx(plain, rel=1e-5)
    for name, gradient in mine.items():
        assert (gradient - theirs[name]).norm() <= 1e-4 * theirs[name].norm() + 1e-6, name


@pytest.mark.slow
def test_no_compiler_is_said_in_a_sentence(tmp_path: Path) -> None:
    """In a process of its own: what torch found out about compilers it keeps."""
    found = subprocess.run(
        [sys.executable, "train.py", "fit", "--config", "configs/smoke.yaml",
         "--trainer.logger.save_dir", str(tmp_path), "--model.compile_layers", "true"],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)},
    )  # fmt: skip
    assert found.returncode == 1
    message = found.stderr.strip().splitlines()[-1]
    assert message.startswith("error: model.compile_layers found no compiler that works on cpu (")
    assert "no-such-compiler" in message
    assert "g++ python3-dev" in message


@pytest.mark.slow
def test_a_compiled_run(tmp_path: Path) -> None:
    main(
        ["fit", "--config", str(ROOT / "configs" / "smoke.yaml"),
         "--config", str(ROOT / "tests" / "light.yaml"), "--data.val_samples", "5",
         "--trainer.logger.save_dir", str(tmp_path), "--model.compile_layers", "true"]
    )  # fmt: skip
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
