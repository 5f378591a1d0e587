"""Formulas of memory and work against models that are there, and the page that is made of them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from benchmarks import memory_formulas as formulas
from benchmarks.memory import compare, compare_processes, mode_of, piece_of, shape_of
from benchmarks.memory_formulas import QWEN25, Mode, Piece, Shape
from benchmarks.memory_probe import Setting, contents, kept_tensors, load, make_batch, measure
from benchmarks.memory_processes import measure_processes
from benchmarks.scaling_formulas import (
    ddp_traffic,
    fsdp_collectives,
    fsdp_traffic,
    step_seconds,
    work,
)
from benchmarks.scaling_tables import PIECE, tables
from numlm.embedding import NumberEmbedding
from numlm.heads import Abduction, OneVsRestHead
from numlm.number_head import NumberHead

ROOT = Path(__file__).resolve().parents[1]
EMBEDDED = str(ROOT / "assets" / "tiny-qwen2")
PUBLISHED = {"0.5B": 494_032_768, "7B": 7_615_616_512, "72B": 72_706_203_648}
SETTINGS = {
    "float32": {"autocast": False},
    "bf16": {},
    "unpadded": {"padded": False},
    "answers": {"share": 0.2},
    "checkpointing": {"checkpointing": True},
    "one-vs-rest": {"one_vs_rest": True},
    "lora": {"lora_rank": 4},
    "lora-float32": {"lora_rank": 4, "autocast": False},
}


def backbone_on_meta(shape: Shape) -> torch.nn.Module:
    config = Qwen2Config(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        intermediate_size=shape.intermediate,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        vocab_size=shape.rows,
        tie_word_embeddings=shape.tied,
    )
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def count(*modules: torch.nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


@pytest.mark.parametrize("name", QWEN25)
def test_parameters_are_those_of_the_real_architecture(name: str) -> None:
    shape = QWEN25[name]
    assert shape.backbone_parameters == PUBLISHED[name]
    backbone = backbone_on_meta(shape)
    assert count(backbone) == PUBLISHED[name]
    assert count(backbone.model.layers[0]) == shape.layer_parameters


@pytest.mark.parametrize("name", QWEN25)
def test_parameters_that_this_project_adds(name: str) -> None:
    shape = QWEN25[name]
    with torch.device("meta"):
        added = [
            NumberEmbedding(shape.hidden),
            Abduction(shape.hidden, 1.0),
            NumberHead(shape.hidden),
        ]
        assert formulas.number_parameters(shape, Mode()) == count(*added)
        assert formulas.number_parameters(shape, Mode(one_vs_rest=True)) == count(
            *added, OneVsRestHead(shape.rows)
        )


def test_parameters_of_a_model_with_adapters() -> None:
    shape, mode = shape_of(Path(EMBEDDED)), Mode(lora_rank=4)
    model = load(Setting(EMBEDDED, lora_rank=4))
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert formulas.all_parameters(shape, mode) == count(model)
    assert formulas.trained_parameters(shape, mode) == learning


def test_work_is_that_of_the_notes_on_speed() -> None:
    """GFLOP a token of 0.5B: matrices of the backbone 2.147, attention 0.066, head 0.817."""
    shape = QWEN25["0.5B"]
    assert 6 * shape.layers * shape.layer_matrices / 1e9 == pytest.approx(2.147, abs=5e-4)
    assert 6 * shape.table / 1e9 == pytest.approx(0.817, abs=5e-4)
    assert 6 * shape.layers * shape.hidden * 512 / 1e9 == pytest.approx(0.066, abs=5e-4)
    piece = Piece(texts=1, length=512, labelled=512, numbers=1)
    total = work(shape, piece, Mode()).total / piece.tokens / 1e9
    assert total == pytest.approx(2.147 + 0.066 + 0.817 + 6 * 896**2 / 1e9, abs=2e-3)
    # checkpointing computes layers and attention once more, a third of what they take
    again = work(shape, piece, Mode(checkpointing=True)).total / piece.tokens / 1e9
    assert again - total == pytest.approx((2.147 + 0.066) / 3, abs=1e-3)


@pytest.mark.parametrize("name", SETTINGS)
def test_what_is_kept_is_what_the_formula_says(name: str) -> None:
    setting = Setting(EMBEDDED, texts=4, length=48, **SETTINGS[name])
    shape, mode = shape_of(Path(EMBEDDED)), mode_of(setting)
    model = load(setting)
    batch = make_batch(setting, model.tokenizer.num_token_id)
    found = kept_tensors(model, batch, setting.autocast)
    piece = piece_of(setting, contents(batch, model.tokenizer.num_token_id))
    layers = formulas.kept_layers(shape, piece, mode)
    assert found["layers"] == pytest.approx(layers, rel=0.01)
    casts = formulas.cast_layers(shape, mode, forward=False)
    assert found.get("cast_layers", 0) == casts
    head = formulas.kept_head(shape, piece, mode)
    assert found["head"] == pytest.approx(head, rel=0.02)
    assert found["numbers"] == pytest.approx(formulas.kept_numbers(shape, piece, mode), rel=0.1)
    whole = formulas.kept(shape, piece, mode) + casts
    assert sum(found.values()) == pytest.approx(whole, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["float32", "bf16", "one-vs-rest"])
def test_peaks_of_a_step(name: str) -> None:
    setting = Setting(EMBEDDED, texts=8, length=64, **SETTINGS[name])
    rows = {
        row["what"]: row["ratio"]
        for row in compare(shape_of(Path(EMBEDDED)), setting, measure(setting))
    }
    for what in ("weights", "gradients", "optimizer"):
        assert rows[what] == 1
    for part in ("forward", "backward", "optimizer"):
        assert rows[f"peak: {part}"] == pytest.approx(1, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_hold_and_send_what_the_formulas_say(strategy: str) -> None:
    setting = Setting(EMBEDDED, texts=2, length=32)
    found = measure_processes(setting, strategy, 2)
    rows = compare_processes(shape_of(Path(EMBEDDED)), setting, found, strategy, 2)
    ratios = {row["what"]: row["ratio"] for row in rows}
    for what in ("weights", "gradients", "optimizer", "received"):
        assert ratios[what] == pytest.approx(1, abs=0.01)
    if strategy == "fsdp":  # whose peaks hang, in a model so small, on what is let go when
        talks = fsdp_collectives(shape_of(Path(EMBEDDED)), mode_of(setting))
        assert found["sent"]["collectives"] == talks
    else:
        for part in ("forward", "backward", "optimizer"):
            assert ratios[f"peak: {part}"] == pytest.approx(1, abs=0.1)


def test_devices_share_what_is_sharded_and_nothing_else() -> None:
    shape, mode = QWEN25["7B"], Mode()
    one, eight = (formulas.sharded(shape, PIECE, mode, n) for n in (1, 8))
    assert one.weights == pytest.approx(8 * eight.weights, rel=1e-6)
    alone = formulas.whole(shape, PIECE, mode)
    buckets = formulas.whole(shape, PIECE, mode, buckets=True)
    assert buckets.peak - alone.peak == alone.gradients
    # the root stays whole, whatever the number of devices
    many = formulas.sharded(shape, PIECE, mode, 4096)
    assert many.peak > 4 * formulas.root_parameters(shape, mode)


def test_nothing_is_sent_by_one_device() -> None:
    shape = QWEN25["0.5B"]
    assert ddp_traffic(shape, Mode(), 1).total == fsdp_traffic(shape, Mode(), 1).total == 0
    # a step that is short of work is bound by launches: half of it takes as long
    few = Piece(texts=2, length=40, labelled=39, numbers=3)
    fewer = replace(few, texts=1)
    assert step_seconds(shape, few, Mode()) == step_seconds(shape, fewer, Mode())


def test_the_page_has_the_tables_of_the_formulas() -> None:
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    for name, table in tables().items():
        assert table in page, f"python benchmarks/memory.py --table prints another '{name}'"
