"""Model folders with a damaged, hostile or foreign file: one sentence that names it."""

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_hostile_files import FAST, Evil, executes
from torch import Tensor

from numlm.checkpoint import ModelNotFoundError, load_context_length, load_tokenizer
from numlm.identity import ModelMismatchError
from numlm.lora import Lora
from numlm.model import NumberLM
from numlm.packing import PER_TEXT
from train import main

ROOT = Path(__file__).resolve().parents[1]
EMBEDDED = ROOT / "assets" / "tiny-qwen2"
OBJECTS = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"),
    "number_lm.json",
)


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "executed"
    yield path
    assert not path.exists(), "a file that was read has executed code"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported model, and one with adapters."""
    folder = tmp_path_factory.mktemp("models")
    NumberLM.from_pretrained(EMBEDDED).save_pretrained(folder / "export")
    adapted = NumberLM.from_pretrained(EMBEDDED, lora=Lora(rank=2))
    adapted.save_pretrained(folder / "adapter")
    return folder


def refusal(folder: Path, *kinds: type[Exception]) -> str:
    with pytest.raises(kinds or (ModelNotFoundError,)) as error:
        NumberLM.from_pretrained(folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def garbage(content: bytes) -> bytes:
    return b"\x80\x04garbage\xff\xfe"


def a_list(content: bytes) -> bytes:
    return b"[1]"


FILES = [
    *(("export", name, spoil) for name in OBJECTS for spoil in (half, garbage, a_list)),
    *(("adapter", "adapter_config.json", spoil) for spoil in (half, garbage, a_list)),
    *(
        (model, name, spoil)
        for model, name in (
            ("export", "model.safetensors"),
            ("export", "number_lm.safetensors"),
            ("adapter", "adapter_model.safetensors"),
        )
        for spoil in (half, garbage)
    ),
]


@pytest.mark.parametrize(("model", "name", "spoil"), FILES)
def test_a_damaged_file_is_named(
    tmp_path: Path, models: Path, model: str, name: str, spoil: Callable[[bytes], bytes]
) -> None:
    folder = shutil.copytree(models / model, tmp_path / "model")
    (folder / name).write_bytes(spoil((folder / name).read_bytes()))
    said = refusal(folder)
    assert f"{name} is damaged (" in said or f"{name}' is damaged (" in said
    assert "copy or download it again" in said


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "number_lm.json"])
def test_an_object_without_its_keys_is_one_sentence(
    tmp_path: Path, models: Path, name: str
) -> None:
    folder = shutil.copytree(models / "export", tmp_path / "model")
    (folder / name).write_text("{}")
    refusal(folder, ModelNotFoundError, ModelMismatchError)


@pytest.mark.parametrize("change", ["gone", "nonsense"])
@pytest.mark.parametrize("key", ["token_head", "number_head", "embedding_hands", "lora"])
def test_what_number_lm_json_does_not_describe(
    tmp_path: Path, models: Path, key: str, change: str
) -> None:
    folder = shutil.copytree(models / "export", tmp_path / "model")
    file = folder / "number_lm.json"
    content = json.loads(file.read_text())
    del content[key]
    file.write_text(json.dumps(content if change == "gone" else {**content, key: "nonsense"}))
    said = refusal(folder, ModelMismatchError)
    assert said.startswith(f"number_lm.json in '{folder}' does not describe number modules")
    assert "export the model again" in said


def without(weights: dict[str, Tensor]) -> None:
    del weights[min(weights)]


def of_another_shape(weights: dict[str, Tensor]) -> None:
    weights[min(weights)] = torch.zeros(3)


def with_more(weights: dict[str, Tensor]) -> None:
    weights["more"] = torch.zeros(3)


@pytest.mark.parametrize("change", [without, of_another_shape, with_more])
@pytest.mark.parametrize(
    ("model", "name"),
    [("export", "number_lm.safetensors"), ("adapter", "adapter_model.safetensors")],
)
def test_other_weights_are_one_sentence(
    tmp_path: Path,
    models: Path,
    model: str,
    name: str,
    change: Callable[[dict[str, Tensor]], None],
) -> None:
    folder = shutil.copytree(models / model, tmp_path / "model")
    weights = load_file(folder / name)
    changed = "more" if change is with_more else min(weights).removeprefix("base_model.model.")
    change(weights)
    save_file(weights, folder / name, metadata={"format": "pt"})
    said = refusal(folder, ModelMismatchError)
    assert str(folder / name) in said
    assert changed in said


def test_adapters_of_nobody(tmp_path: Path, models: Path) -> None:
    folder = shutil.copytree(models / "adapter", tmp_path / "model")
    for base in ("{}", '{"base_model_name_or_path": 3}'):
        (folder / "adapter_config.json").write_text(base)
        assert "base_model_name_or_path" in refusal(folder)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "number_lm.safetensors", "pytorch_model.bin", "legacy"]
)
def test_weights_execute_nothing(tmp_path: Path, marker: Path, models: Path, name: str) -> None:
    """Pickles in place of weights, written by PyTorch and by Python itself."""
    folder = shutil.copytree(models / "export", tmp_path / "model")
    if name in ("pytorch_model.bin", "legacy"):
        (folder / "model.safetensors").unlink()
    file = folder / ("pytorch_model.bin" if name == "legacy" else name)
    if name == "legacy":
        file.write_bytes(pickle.dumps(Evil(marker)))
    else:
        torch.save({"weight": Evil(marker)}, file)
        content = io.BytesIO(file.read_bytes())
        executes(lambda: torch.load(content, weights_only=False), marker)
    said = refusal(folder)
    if name == "pytorch_model.bin":
        assert "names io.open beside tensors and plain values, which could execute code" in said
        assert "take *.safetensors files instead" in said
    with pytest.raises(SystemExit, match=r"^error: .*model"):
        main(["test", *FAST, "--model.qwen_model_path", str(folder),
              "--trainer.logger.save_dir", str(tmp_path)])  # fmt: skip


def test_a_configuration_chooses_no_kernel_of_the_hub(tmp_path: Path) -> None:
    folder = shutil.copytree(EMBEDDED, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["_attn_implementation"] = "somebody/kernel"
    (folder / "config.json").write_text(json.dumps(config))
    assert NumberLM.from_pretrained(folder).backbone.config._attn_implementation == PER_TEXT


CODE = """
from transformers import Qwen2Config, Qwen2ForCausalLM

open({marker!r}, "a").close()


class OwnConfig(Qwen2Config):
    model_type = "own"


class OwnModel(Qwen2ForCausalLM):
    config_class = OwnConfig
"""


def bring_code(folder: Path, marker: Path, model_type: str) -> Path:
    """A copy of the embedded model that brings a module of its own."""
    shutil.copytree(EMBEDDED, folder)
    (folder / "own.py").write_text(CODE.format(marker=str(marker)))
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(CODE.format(marker=str(marker)))
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    config["model_type"] = model_type
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_known_architecture_needs_no_code_of_its_own(tmp_path: Path, marker: Path) -> None:
    folder = bring_code(tmp_path / "model", marker, "qwen2")
    model = NumberLM.from_pretrained(folder)
    assert type(model.backbone).__module__.startswith("transformers.models.qwen2")
    load_tokenizer(str(folder)), load_context_length(str(folder))


def test_code_of_a_model_is_refused_in_one_sentence(
    tmp_path: Path, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nobody is asked on the terminal."""
    monkeypatch.setattr("builtins.input", lambda _="": pytest.fail("the user was asked"))
    folder = bring_code(tmp_path / "model", marker, "own")
    for load in (NumberLM.from_pretrained, load_context_length):
        with pytest.raises(ModelNotFoundError, match=r"--model\.trust_remote_code true"):
            load(str(folder))
    with pytest.raises(SystemExit, match=r"^error: .*--model\.trust_remote_code true"):
        main(["fit", *FAST, "--model.qwen_model_path", str(folder),
              "--trainer.logger.save_dir", str(tmp_path)])  # fmt: skip


@pytest.mark.slow
def test_code_of_a_model_runs_if_the_user_says_so(tmp_path: Path) -> None:
    """A whole run, in a process of its own: the module stays where it was imported."""
    marker = tmp_path / "executed"
    folder = bring_code(tmp_path / "model", marker, "own")
    shutil.rmtree(folder / "custom_generate")  # which generates nothing
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "fit", *FAST,
         "--model.qwen_model_path", str(folder), "--model.trust_remote_code", "true",
         "--trainer.logger.save_dir", str(tmp_path / "results")],
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert marker.exists()
    assert (tmp_path / "results" / "latest" / "model" / "number_lm.json").exists()
