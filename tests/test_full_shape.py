"""The whole shape of Qwen2.5-0.5B on two CPU cores: 494M parameters, 151,936 tokens."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def python(*arguments: str) -> str:
    """Run a module in a process of its own, whose memory is its own."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True, text=True, check=False, timeout=800,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_it_loads_and_takes_two_steps_within_its_memory(qwen_folder: Path) -> None:
    python("tests.full_size_steps", "make", str(qwen_folder))
    try:
        found = json.loads(python("tests.full_size_steps", "measure", str(qwen_folder)))
    finally:
        (qwen_folder / "model.safetensors").unlink()
    print(json.dumps(found, indent=1))
    assert found["parameters"] > 494_032_768
    assert found["tokens"] == 512
    assert found["to_load"] - found["weights"] < 4
    # Weights, gradients and two moments are four times the weights; what a step adds is small.
    assert found["peak"] < 4 * found["weights"] + 6
    assert 0 < found["loss_1"] < found["loss_0"]
