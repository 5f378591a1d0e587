"""Files from somebody else: none that is read executes anything, and each is refused in words."""

import io
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from numlm.checkpoint_files import COMPLETE_FILE
from train import main

ROOT = Path(__file__).resolve().parents[1]
EMBEDDED = ROOT / "assets" / "tiny-qwen2"
FAST = [
    *("--config", str(ROOT / "configs" / "smoke.yaml")),
    *("--config", str(Path(__file__).with_name("light.yaml"))),
    *("--data.num_samples", "32", "--data.batch_size", "16", "--data.val_samples", "10"),
    *("--data.eval_samples", "6", "--data.noisy_samples", "6"),
    *("--trainer.max_steps", "-1", "--trainer.max_epochs", "1"),
]
ROWS = "".join(json.dumps({"text": f"It shows {i}.5 volts."}) + "\n" for i in range(40))


class Evil:
    """What makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return (open, (self.marker, "w"))


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """A file that must never appear."""
    path = tmp_path / "executed"
    yield path
    assert not path.exists(), "a file that was read has executed code"


def refusal(*arguments: str) -> str:
    """What the command line says where it refuses: one sentence."""
    with pytest.raises(SystemExit) as error:
        main(list(arguments))
    assert isinstance(error.value.code, str), "an exit code without a sentence"
    assert error.value.code.startswith("error: ")
    assert "\n" not in error.value.code
    return error.value.code


def executes(load: Callable[[], object], marker: Path) -> None:
    """What is put into a file is as bad as it is meant to be, read as Python reads it."""
    load()
    assert marker.exists()
    marker.unlink()


def save(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a training run."""
    folder = tmp_path_factory.mktemp("run")
    save_all = ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.save_top_k", "-1"]
    main(["fit", *FAST, *save_all, "--trainer.logger.save_dir", str(folder)])
    (found,) = (folder / "latest" / "checkpoints").glob("epoch*.ckpt")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_a_checkpoint_executes_nothing(
    tmp_path: Path, marker: Path, checkpoint: Path, command: str
) -> None:
    file = tmp_path / "evil.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    torch.save({**content, "callbacks": {"it": Evil(marker)}}, file)
    executes(lambda: torch.load(file, weights_only=False), marker)
    (tmp_path / "in.jsonl").write_text(ROWS)
    prediction = ["--data.predict_file", str(tmp_path / "in.jsonl")]
    prediction += ["--predictions.path", str(tmp_path / "out.jsonl")]
    said = refusal(
        command, *FAST, *(prediction if command == "predict" else []),
        "--ckpt_path", str(file), "--trainer.logger.save_dir", str(tmp_path / "results"),
    )  # fmt: skip
    assert f"the checkpoint '{file}' names io.open" in said
    assert "could execute code: it was not read" in said


@pytest.mark.parametrize("content", [[1], {"weights": torch.zeros(2)}])
def test_what_is_no_checkpoint_is_named(tmp_path: Path, content: object) -> None:
    file = tmp_path / "other.ckpt"
    torch.save(content, file)
    results = ["--trainer.logger.save_dir", str(tmp_path / "results")]
    said = refusal("fit", *FAST, "--ckpt_path", str(file), *results)
    assert f"'{file}' is no checkpoint of a training run" in said


FSDP = ["--config", str(ROOT / "configs" / "fsdp.yaml"), "--trainer.devices", "1"]


def in_own_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    """FSDP2 leaves a group of processes behind."""
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that is a folder of parts."""
    folder = tmp_path_factory.mktemp("parts")
    options = ["--trainer.strategy.init_args.save_distributed_checkpoint", "true"]
    options += ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.save_top_k", "-1"]
    done = in_own_process(
        "fit", *FAST, *FSDP, *options, "--trainer.logger.save_dir", str(folder)
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (found,) = (folder / "latest" / "checkpoints").glob("epoch*.ckpt")
    return found


def evil_description(folder: Path, marker: Path) -> None:
    (folder / ".metadata").write_bytes(pickle.dumps(Evil(marker)))
    executes(lambda: pickle.loads((folder / ".metadata").read_bytes()), marker)


def evil_rest(folder: Path, marker: Path) -> None:
    (folder / "meta.pt").write_bytes(save({"callbacks": Evil(marker)}))


def evil_value(folder: Path, marker: Path) -> None:
    put_into_part(folder, "BytesStorageMetadata", save(Evil(marker)))


def evil_tensor(folder: Path, marker: Path) -> None:
    put_into_part(folder, "TensorStorageMetadata", save(Evil(marker)))


def put_into_part(folder: Path, kind: str, content: bytes) -> None:
    """Let every value of a kind be read from bytes that are put behind the others."""
    (part,) = folder.glob("*.distcp")
    before = part.stat().st_size
    with part.open("ab") as file:
        file.write(content)
    description = pickle.loads((folder / ".metadata").read_bytes())
    chosen = {
        name for name, of in description.state_dict_metadata.items() if type(of).__name__ == kind
    }
    assert chosen
    for index, place in description.storage_data.items():
        if index.fqn in chosen:
            place.offset, place.length = before, len(content)
    (folder / ".metadata").write_bytes(pickle.dumps(description))


def outside(folder: Path, marker: Path) -> None:
    description = pickle.loads((folder / ".metadata").read_bytes())
    (part,) = folder.glob("*.distcp")
    shutil.copy(part, folder.parent / "outside.distcp")
    for place in description.storage_data.values():
        place.relative_path = "../outside.distcp"
    (folder / ".metadata").write_bytes(pickle.dumps(description))


def garbage(folder: Path, marker: Path) -> None:
    (folder / ".metadata").write_bytes(b"garbage")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (evil_description, "names io.open beside tensors and plain values"),
        (evil_rest, "names io.open beside tensors and plain values"),
        (evil_value, "names io.open beside tensors and plain values"),
        (evil_tensor, "names io.open beside tensors and plain values"),
        (outside, "(it takes a part from '../outside.distcp'): it was not read"),
        (garbage, "is damaged, or holds more than tensors and plain values"),
    ],
)
def test_a_folder_of_parts_executes_nothing(
    tmp_path: Path, marker: Path, parts: Path, spoil: Callable[[Path, Path], None], said: str
) -> None:
    folder = shutil.copytree(parts, tmp_path / "evil.ckpt")
    spoil(folder, marker)
    sizes = {file.name: file.stat().st_size for file in folder.iterdir()}
    del sizes[COMPLETE_FILE]
    (folder / COMPLETE_FILE).write_text(json.dumps(sizes))
    results = ["--trainer.logger.save_dir", str(tmp_path / "results")]
    done = in_own_process("fit", *FAST, *FSDP, "--ckpt_path", str(folder), *results)
    assert done.returncode == 1
    (last,) = done.stderr.strip().splitlines()[-1:]
    assert last.startswith("error: ")
    assert f"the checkpoint '{folder}' " in last
    assert said in last
    assert "Traceback" not in done.stderr


def pandas_extension(marker: Path) -> bytes:
    """A Parquet file whose schema names a type that older pyarrow unpickled (CVE-2023-47248)."""
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    named = {
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": pickle.dumps(Evil(marker)),
    }
    schema = arrow.schema([arrow.field("text", arrow.int64(), metadata=named)])
    table = arrow.table([arrow.array(range(40))], schema=schema)
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "name", ["rows.jsonl", "rows.jsonl.gz", "rows.csv", "rows.parquet", "rows.pkl", "rows.npy"]
)
def test_data_execute_nothing(tmp_path: Path, marker: Path, name: str) -> None:
    source = tmp_path / name
    contents = [pickle.dumps(Evil(marker)), save(Evil(marker))]
    if name.endswith(".parquet"):
        contents.append(pandas_extension(marker))
    for content in contents:
        source.write_bytes(content)
        cache = ["--data.cache_dir", str(tmp_path / "cache")]
        results = ["--trainer.logger.save_dir", str(tmp_path / "results")]
        said = refusal("fit", *FAST, "--data.train_file", str(source), *cache, *results)
        assert str(source) in said


def test_a_script_beside_data_does_not_run(tmp_path: Path, marker: Path) -> None:
    """As data sets on the hub had one; `datasets` of before 4 would have asked and run it."""
    folder = tmp_path / "rows"
    folder.mkdir()
    script = folder / "rows.py"
    script.write_text(f"open({str(marker)!r}, 'w')\n")
    for source in (folder, script):
        said = refusal("fit", *FAST, "--data.train_file", str(source))
        assert str(source) in said


def call(marker: Path) -> str:
    return f"!!python/object/apply:builtins.open [{str(marker)!r}, w]"


def process(marker: Path) -> str:
    return f"{{class_path: subprocess.Popen, init_args: {{args: [touch, {str(marker)!r}]}}}}"


@pytest.mark.parametrize(
    "options",
    [
        lambda marker: call(marker),
        lambda marker: f"trainer: {call(marker)}",
        lambda marker: f"model: {{lr: {call(marker)}}}",
        lambda marker: f"trainer: {{logger: {process(marker)}}}",
        lambda marker: f"trainer: {{plugins: [{process(marker)}]}}",
        lambda marker: f"trainer: {{callbacks: [{process(marker)}]}}",
        lambda marker: f"model: {{token_head: {process(marker)}}}",
    ],
)
def test_a_configuration_calls_nothing(
    tmp_path: Path,
    marker: Path,
    options: Callable[[Path], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Tags of YAML that call functions, and classes that are no loggers, plugins or callbacks."""
    config = tmp_path / "evil.yaml"
    config.write_text(options(marker))
    with pytest.raises(SystemExit) as error:
        main(["fit", *FAST, "--config", str(config)])
    assert error.value.code == 2  # as of every option that is refused
    assert "error: " in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("options", [call, lambda marker: "{", lambda marker: "[1]"])
def test_the_options_of_a_run_call_nothing(
    tmp_path: Path, marker: Path, checkpoint: Path, options: Callable[[Path], str]
) -> None:
    """`--ckpt_path last` reads them from the run's folder."""
    run = tmp_path / "results" / "latest"
    (run / "checkpoints").mkdir(parents=True)
    shutil.copy(checkpoint, run / "checkpoints" / "step_0000002.ckpt")
    (run / "config.yaml").write_text(options(marker))
    results = ["--trainer.logger.save_dir", str(tmp_path / "results")]
    said = refusal("fit", *FAST, *results, "--ckpt_path", "last")
    assert f"cannot read '{run / 'config.yaml'}': " in said
