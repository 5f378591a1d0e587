"""What the options need is imported when `train.py` starts, and no more: each second counts.

By modules, not by time, which other processes take too. What Lightning imports by itself is its own
affair and left out.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from train import main

ROOT = Path(__file__).resolve().parents[1]
# What makes models, reports, charts, tables of rows and pages.
LATER = {
    *("accelerate", "datasets", "gradio", "jinja2", "markdown_it", "matplotlib", "pandas"),
    *("peft", "pyarrow", "scipy", "sklearn", "tensorboard", "torch.utils.tensorboard"),
    *(
        "transformers.generation.utils",
        "transformers.modeling_utils",
        "transformers.trainer_utils",
    ),
}
HELP = """
import gc, json, runpy, sys

import lightning.pytorch.cli

by_lightning = set(sys.modules)
sys.argv = ["train.py", "fit", "--help"]
try:
    runpy.run_path("train.py", run_name="__main__")
except SystemExit as end:
    code = end.code
modules = sorted(set(sys.modules) - by_lightning)
found = {"code": code, "modules": modules, "collects": gc.isenabled(), "kept": gc.get_freeze_count()}
print(json.dumps(found), file=sys.stderr)
"""


def test_help_imports_what_options_need_and_no_more() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELP], cwd=ROOT, check=True, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    found = json.loads(done.stderr.splitlines()[-1])
    assert found["code"] == 0
    assert "--model.embedding_hands" in done.stdout
    modules = found["modules"]
    assert "lightning_modules.number_lm" in modules
    assert "callbacks.report" in modules  # the default configuration's are looked at
    late = [m for m in modules if m in LATER or m.split(".")[0] in LATER]
    assert late == []
    # Nothing is collected while modules are imported, and what they made is not looked at again.
    assert found["collects"]
    assert found["kept"] > 100_000


@pytest.mark.parametrize(
    ("subcommand", "does"),
    [
        ("fit", "Runs the full optimization routine."),
        ("validate", "Perform one evaluation epoch over the validation set."),
        ("test", "Perform one evaluation epoch over the test set."),
        ("predict", "Run inference on your data."),
    ],
)
def test_a_subcommand_is_described_by_its_own_words(
    subcommand: str, does: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It alone is set up; without one all are named."""
    with pytest.raises(SystemExit):
        main([subcommand, "--help"])
    assert f"\n\n{does}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--help"])
    assert f"\n    {subcommand} " in capsys.readouterr().out
