"""Shared fixtures: models and tokenizers small enough for tests, made without a network."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read once, when huggingface_hub is imported

import gzip
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import torch

from datamodules.number_data_module import NumberDataModule

ROOT = Path(__file__).resolve().parents[1]
EMBEDDED = ROOT / "assets" / "tiny-qwen2"
QWEN_SHAPE = ROOT.parent / "shared" / "data" / "qwen2.5-0.5b-shape"


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """The same random numbers for every test, whatever ran before it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


Model = TypeVar("Model", bound=torch.nn.Module)


def without_dropout(model: Model) -> Model:
    """The model in training, with nothing left out."""
    for dropout in model.modules():
        if isinstance(dropout, torch.nn.Dropout):
            dropout.p = 0.0
    return model


@pytest.fixture(scope="session")
def qwen_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration and tokenizer of Qwen2.5-0.5B, without weights; skips where they are not."""
    if not QWEN_SHAPE.exists():
        pytest.skip("the shape of Qwen2.5-0.5B is not beside the project")
    folder = tmp_path_factory.mktemp("qwen2.5-0.5b")
    for name in ("config.json", "tokenizer_config.json"):
        shutil.copy(QWEN_SHAPE / name, folder)
    with gzip.open(QWEN_SHAPE / "tokenizer.json.gz") as source:
        (folder / "tokenizer.json").write_bytes(source.read())
    return folder


@pytest.fixture(scope="session")
def embedded_data() -> NumberDataModule:
    """Small sets, tokenized for the embedded checkpoint."""
    data = NumberDataModule(
        str(EMBEDDED),
        num_samples=64,
        val_samples=5,
        eval_samples=9,
        noisy_samples=9,
        batch_size=8,
        eval_batch_size=4,
    )
    data.setup("fit")
    return data
