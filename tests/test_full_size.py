"""The full-size benchmark: its options, the model that it makes, and the whole of it at a tiny budget."""

import doctest
import gzip
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from benchmarks import full_size
from callbacks.learning_curve import FIGURES
from numlm.checkpoint import load_backbone, load_tokenizer, tokenizer_fingerprint

ROOT = Path(__file__).resolve().parents[1]
EMBEDDED = ROOT / "assets" / "tiny-qwen2"
SETS = ["basic", "question_answering", "extreme_values", "boundary_values", "noisy_readings"]


@pytest.fixture(scope="module")
def shape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configuration and packed tokenizer of the embedded checkpoint."""
    folder = tmp_path_factory.mktemp("shape")
    for name in ("config.json", "tokenizer_config.json"):
        shutil.copy(EMBEDDED / name, folder)
    packed = gzip.compress((EMBEDDED / "tokenizer.json").read_bytes())
    (folder / "tokenizer.json.gz").write_bytes(packed)
    return folder


def test_doctests() -> None:
    assert doctest.testmod(full_size).failed == 0


def test_minutes_are_turned_into_steps_and_texts_into_epochs(shape: Path) -> None:
    options = full_size.parse(["--shape", str(shape), "--minutes", "8"])
    assert options.steps == round(8 * 60 * 100_000 / (256 * 63)) == 2976
    command = full_size.train_command(options, shape, shape)
    given = dict(zip(command[3::2], command[4::2], strict=True))
    assert given["--data.num_samples"] == "200000"
    assert given["--trainer.max_epochs"] == "4"  # 781 steps each
    assert given["--trainer.callbacks.every_n_steps"] == "198"
    options = full_size.parse(["--shape", str(shape), "--steps", "3", "--", "--model.lr", "1"])
    command = full_size.train_command(options, shape, shape)
    assert command[command.index("--data.num_samples") + 1] == str(3 * 256)
    assert command[-2:] == ["--model.lr", "1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "0"], "less than one step to train"),
        (["--steps", "1", "--minutes", "1"], "not allowed with"),
        (["--texts", "10"], "--texts 10 do not make a step of 256"),
        (["--shape", "/nowhere"], "the folder '/nowhere' has no config.json"),
    ],
)
def test_options_that_cannot_be_are_refused(
    options: list[str], message: str, shape: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        full_size.parse(["--shape", str(shape), *options])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_random_weights_are_those_of_the_seed_in_the_real_shape(
    shape: Path, tmp_path: Path
) -> None:
    before = torch.get_rng_state()
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        full_size.write_model(shape, tmp_path / name, seed)
    assert torch.equal(torch.get_rng_state(), before)
    a, b, c = (load_file(tmp_path / name / "model.safetensors") for name in "abc")
    assert all(weight.dtype == torch.bfloat16 for weight in a.values())
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["model.embed_tokens.weight"], c["model.embed_tokens.weight"])
    assert a["model.embed_tokens.weight"].float().std() == pytest.approx(0.02, rel=0.02)
    embedded = load_backbone(str(EMBEDDED)).state_dict()
    assert {n: w.shape for n, w in load_backbone(str(tmp_path / "a")).state_dict().items()} == {
        n: w.shape for n, w in embedded.items()
    }
    fingerprints = [
        tokenizer_fingerprint(load_tokenizer(str(f))) for f in (tmp_path / "a", EMBEDDED)
    ]
    assert fingerprints[0] == fingerprints[1]


@pytest.mark.slow
def test_from_a_shape_to_the_figures(
    shape: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    tiny = ["--config", str(ROOT / "configs" / "smoke.yaml"), "--steps", "5", "--every", "2"]
    tiny += ["--batch-size", "8", "--pieces", "2", "--texts", "24"]  # 3 steps an epoch
    sizes = ["--data.val_samples", "8", "--data.eval_samples", "4", "--data.noisy_samples", "4"]
    file = full_size.main(
        ["--shape", str(shape), *tiny, "--out", str(tmp_path), "--", *sizes, "--model.lr", "1e-3"]
    )
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    assert file.name.endswith("_full-size.json")
    assert f"cpu-{os.cpu_count()}-cores" in file.name
    assert sorted(tmp_path.iterdir()) == [file, file.with_suffix(".png")]
    assert file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert found["command"].startswith("python benchmarks/full_size.py --shape ")
    assert found["command"].endswith("--model.lr 1e-3")
    assert (found["steps"], found["texts"], found["batch_size"], found["lr"]) == (5, 24, 8, 1e-3)
    assert found["versions"]["torch"] == torch.__version__
    assert found["tokens"] > 0
    assert found["tokens_per_second_without_scoring"] > found["tokens_per_second"]
    seconds = found["seconds"]
    assert seconds["training"] + seconds["random_weights"] < seconds["whole"]
    for stage in ("baseline", "finetuned"):
        assert list(found[stage]) == [*SETS, "ordinary_text"]
        assert all(list(figures) == list(full_size.FIGURES) for figures in found[stage].values())
    # Nothing is known of <NUM>, nor of any other token.
    assert found["baseline"]["ordinary_text"]["perplexity"] == pytest.approx(1408, rel=0.3)
    assert found["baseline"]["basic"]["accuracy"] == 0
    for name in SETS:
        points = found["learning_curve"][name]
        assert [point["step"] for point in points] == [0, 2, 3, 4, 5]  # an epoch has 3
        assert list(points[0]) == ["step", *FIGURES]
        assert points[0]["mean_rank"] == found["baseline"][name]["mean_rank"]
    printed = capsys.readouterr().out
    assert printed.count("accuracy / exact match: basic") == 5  # train.py's own go past capsys
    assert "before -> after" in printed
    assert f"Written to {file}" in printed
