"""Ways to start many processes, and what must not make them wait for each other for ever."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from callbacks.results import BASELINE_FILE
from datamodules.sampling import StepSampler
from numlm.model import NumberLM
from tests.test_strategies import (
    DDP,
    FSDP,
    NO_DROPOUT,
    ROOT,
    SMALL,
    SMOKE,
    checkpoint,
    command,
    curve,
    read,
    run,
)
from train import main

pytestmark = pytest.mark.slow
ROWS = [
    {"text": f"The {color} lamp shows {2 * i} volts in the hall." if i % 2 else f"The {color} door {end}"}
    for i, color in enumerate(["red", "blue", "green", "white"] * 6)
    for end in ("was open all day.",)
]  # fmt: skip
# Without charts, floors and reports, which have tests of their own.
LIGHT = ["--config", str(Path(__file__).with_name("light.yaml"))]
STEPS = ["--trainer.max_steps", "3", "--data.num_samples", "32"]


def light(subcommand: str, folder: Path, *options: str) -> list[str]:
    return command(subcommand, folder, *LIGHT, *options)


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("strategy", [DDP, FSDP], ids=["ddp", "fsdp"])
def test_a_batch_without_a_number_on_one_process_does_not_hang_the_other(
    tmp_path: Path, strategy: list[str]
) -> None:
    """Steps of two texts, one for each process; half of the texts have no number."""
    source = write(tmp_path / "train.jsonl", ROWS)
    pieces = [list(StepSampler([9] * 24, 2, 42, rank, 2)) for rank in range(2)]
    kinds = [tuple(piece.mine[0] % 2 for piece in step) for step in zip(*pieces, strict=True)]
    assert set(kinds) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    run(
        light(
            "fit", tmp_path / "results", *strategy, "--data.train_file", source,
            "--data.val_file", source, "--data.test_file", source, "--data.batch_size", "2",
            "--data.cache_dir", str(tmp_path / "cache"), "--trainer.max_steps", "12",
        )
    )  # fmt: skip
    losses = curve(tmp_path / "results", "train/value")
    assert len(losses) == 12
    assert 0.0 in losses.values(), "a step without any number has no number loss"


def test_sharded_processes_predict_as_one_does(tmp_path: Path) -> None:
    """Among the rows are whole batches of bad ones, which nothing is predicted for."""
    good = [{"text": f"The red lamp shows {i}.5 volts. So it is"} for i in range(5)]
    source = write(tmp_path / "in.jsonl", good[:2] + [{}] * 8 + good[2:])
    options = ["--data.predict_file", source, "--data.on_error", "skip"]
    for name, strategy in (("one", []), ("two", FSDP)):
        target = [
            "--predictions.path",
            str(tmp_path / f"{name}.jsonl"),
            "--data.eval_batch_size",
            "2",
        ]
        run([str(ROOT / "train.py"), "predict", *SMOKE, *SMALL, *strategy, *options, *target])
    assert (tmp_path / "one.jsonl").read_text() == (tmp_path / "two.jsonl").read_text()
    assert (tmp_path / "one.jsonl").read_text().count('"error"') == 8


def test_parts_of_a_checkpoint_are_read_on_any_number_of_devices(tmp_path: Path) -> None:
    """A folder with a part from every process becomes one file; other strategies say what it is."""
    steps = ["--data.num_samples", "32", "--data.batch_size", "16", "--trainer.max_steps", "-1"]
    steps += ["--trainer.max_epochs", "3", *NO_DROPOUT]
    steps += ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.save_top_k", "-1"]
    parts = ["--trainer.strategy.init_args.save_distributed_checkpoint", "true"]
    run(light("fit", tmp_path / "two", *FSDP, *parts, *steps))
    folder = checkpoint(tmp_path / "two", 0)
    assert len(list(Path(folder).glob("*.distcp"))) == 2
    on_one = [*FSDP[:2], *steps, "--ckpt_path", folder]
    run(light("fit", tmp_path / "one", *on_one))
    file = checkpoint(tmp_path / "one", 1)
    run(light("fit", tmp_path / "last", *steps, "--ckpt_path", file))
    expected = curve(tmp_path / "two")
    for name, left in (("one", [2, 3, 4, 5]), ("last", [4, 5])):
        found = curve(tmp_path / name)
        assert list(found) == left
        assert list(found.values()) == pytest.approx([expected[i] for i in left], abs=1e-4)
    with pytest.raises(SystemExit, match="is a folder of parts: go on with --config configs/fsdp"):
        main(light("fit", tmp_path / "no", *steps, "--ckpt_path", folder)[1:])


def test_adapters_are_trained_on_sharded_processes(tmp_path: Path) -> None:
    """The same losses as on one; their checkpoint crosses, and the export has them folded in."""
    lora = ["--model.lora.rank", "4", "--model.lora.dropout", "0", *NO_DROPOUT]
    lora += ["--data.num_samples", "64", "--data.batch_size", "16"]
    lora += ["--trainer.max_steps", "-1", "--trainer.max_epochs", "2"]
    lora += ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.save_top_k", "-1"]
    run(light("fit", tmp_path / "one", *lora))
    run(light("fit", tmp_path / "two", *lora, *FSDP))
    crossing = ["--ckpt_path", checkpoint(tmp_path / "one", 0)]
    run(light("fit", tmp_path / "crossed", *lora, *FSDP, *crossing))
    alone, shared = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert list(alone.values()) == pytest.approx(list(shared.values()), abs=1e-4)
    crossed = curve(tmp_path / "crossed")
    assert list(crossed) == [4, 5, 6, 7]
    assert list(crossed.values()) == pytest.approx([alone[step] for step in crossed], abs=1e-4)
    latest = tmp_path / "two" / "latest"
    merged, adapted = (NumberLM.from_pretrained(latest / name) for name in ("model", "adapter"))
    assert merged.lora is None
    assert adapted.lora is not None
    for one, two in zip(adapted.merge().parameters(), merged.parameters(), strict=True):
        torch.testing.assert_close(one, two)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port: int = probe.getsockname()[1]
        return port


def together(commands: list[list[str]], environments: list[dict[str, str]]) -> None:
    """Run processes side by side, as a launcher on several nodes does."""
    started = [
        subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for arguments, environment in zip(commands, environments, strict=True)
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=240)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    for process, output in zip(started, outputs, strict=True):
        assert process.returncode == 0, output[-3000:]


@pytest.mark.parametrize("config", ["ddp", "fsdp"])
def test_two_nodes_through_torchrun(tmp_path: Path, config: str) -> None:
    """Two launchers on one machine, as on two of them, with a process each."""
    fit = light(
        "fit", tmp_path, "--config", str(ROOT / "configs" / f"{config}.yaml"), *STEPS,
        "--trainer.num_nodes", "2", "--trainer.devices", "1",
    )  # fmt: skip
    port = free_port()
    launchers = [
        ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1",
         "--node_rank", str(node), "--master_addr", "localhost", "--master_port", str(port), *fit]
        for node in range(2)
    ]  # fmt: skip
    together(launchers, [{}, {}])
    (folder,) = [found for found in tmp_path.iterdir() if not found.is_symlink()]
    assert read(folder / "run.json")["processes"] == 2
    assert read(folder / BASELINE_FILE)["basic"]["texts"] == 7


def test_tasks_of_slurm(tmp_path: Path) -> None:
    """What `srun` tells its tasks, without SLURM."""
    fit = light("fit", tmp_path, *DDP[:2], *STEPS, "--trainer.num_nodes", "2")
    port = str(free_port())
    environments = [
        {
            "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "numlm", "SLURM_NTASKS": "2",
            "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "2", "SLURM_NODEID": str(task),
            "SLURM_PROCID": str(task), "SLURM_LOCALID": "0", "SLURM_NODELIST": "localhost",
            "MASTER_ADDR": "localhost", "MASTER_PORT": port,
        }
        for task in range(2)
    ]  # fmt: skip
    together([fit, fit], environments)
    assert read(tmp_path / "latest" / "run.json")["processes"] == 2
