"""A disk that is full or refuses: an error and exit code 1, and the checkpoints before it stay."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from numlm.checkpoint_files import checkpoint_files, flaw
from tests.test_resume import OPTIONS, ROOT, fit
from tests.test_strategies import DDP, FSDP

pytestmark = pytest.mark.slow
PARTS = [*FSDP, "--trainer.strategy.init_args.save_distributed_checkpoint", "true"]
LIMIT = 1_000_000  # less than a checkpoint, more than anything else that a run writes


def run(folder: Path, *options: str, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    def limited() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "fit", *OPTIONS, *options,
         "--trainer.logger.save_dir", str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, preexec_fn=limited,
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("options", [[], DDP, PARTS], ids=["one", "two", "parts"])
def test_a_disk_that_takes_no_more(tmp_path: Path, options: list[str]) -> None:
    """The system refuses what is beyond a size, as a full disk does; no process waits for ever."""
    first = run(tmp_path, *options, "--trainer.max_epochs", "1")
    assert first.returncode == 0, first.stderr[-2000:]
    kept = checkpoint_files(tmp_path / "latest" / "checkpoints")
    more = ["--ckpt_path", "last", *options, "--trainer.max_epochs", "2"]
    full = run(tmp_path, *more, limit=LIMIT)
    assert full.returncode == 1
    assert "error: cannot write the checkpoint" in full.stderr
    said = "the disk did not take all of it" if options is PARTS else "File too large"
    assert f"{said}. The checkpoints before it are whole" in full.stderr
    assert "step_0000005" in full.stderr
    assert checkpoint_files(tmp_path / "latest" / "checkpoints") == kept
    assert all(flaw(path) is None for path in kept)
    again = run(tmp_path, *more)
    assert again.returncode == 0, again.stderr[-2000:]
    names = [path.name for path in (tmp_path / "latest" / "checkpoints").iterdir()]
    assert len(names) == 8
    assert all(name.startswith("step_") for name in names), "what was unfinished is swept"


def test_a_folder_that_takes_no_checkpoint(tmp_path: Path) -> None:
    """A file is in its place, as a read-only folder would be: root may write everywhere."""
    run_folder = fit(tmp_path, "--trainer.max_epochs", "1")
    source = checkpoint_files(run_folder / "checkpoints")[1]
    aside = tmp_path / source.name
    shutil.copy(source, aside)
    shutil.rmtree(run_folder / "checkpoints")
    (run_folder / "checkpoints").write_text("in the way")
    with pytest.raises(SystemExit, match="nothing to go on from"):
        fit(tmp_path, "--ckpt_path", "last")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "again").mkdir()
    (tmp_path / "new" / "again" / "checkpoints").write_text("in the way")
    with pytest.raises(SystemExit, match=r"cannot write the checkpoint .*(File exists|Not a dir)"):
        fit(tmp_path / "new", "--ckpt_path", str(aside), "--trainer.logger.run", "again",
            "--trainer.logger.resume", "true")  # fmt: skip
    assert flaw(aside) is None
