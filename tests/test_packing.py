"""Texts in one row: as one by one, on every architecture, and only where that is so."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, Qwen2Config

from numlm import attention
from numlm.attention import can_pack
from numlm.batch import Batch
from numlm.heads import OneVsRestHead, SoftmaxHead, TokenHead
from numlm.model import NumberLM
from numlm.packing import PER_TEXT, Packing
from tests.conftest import without_dropout
from tests.test_memory import tiny_qwen3
from tests.test_model import EMBEDDED, batch_of, make_folder, tiny_gpt2, tiny_llama

TEXTS = [
    "The red lamp shows 42.5 volts, the blue one 7. So the red lamp is at 42.5 volts.",
    "Two of 9",
    "总之，电压是-3e-5，也就是-3e-5",
]


def gradients(model: NumberLM, batches: list[Batch]) -> tuple[float, dict[str, torch.Tensor]]:
    """Sum of all losses and its gradient."""
    model.zero_grad()
    total = 0.0
    for batch in batches:
        losses = model.losses(batch)
        loss = losses.token.sum + losses.gated.sum
        loss.backward()
        total += loss.item()
    return total, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_a_packing_and_back() -> None:
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]])
    packing = Packing.of(mask)
    assert packing.places.tolist() == [0, 1, 2, 4, 8, 9, 10, 11]
    assert packing.table[0, 0].tolist() == [[0, 1, 2, 8], [3, 8, 8, 8], [4, 5, 6, 7]]
    assert packing.position_ids.tolist() == [[0, 1, 2, 0, 0, 1, 2, 3]]
    padded = torch.arange(24.0).view(3, 4, 2)
    back = packing.unpack(packing.pack(padded), padding=-1.0)
    assert torch.equal(back[mask == 1], padded[mask == 1])
    assert (back[mask == 0] == -1).all()


@pytest.mark.parametrize("config", [None, tiny_gpt2(), tiny_llama(), tiny_qwen3()])
@pytest.mark.parametrize("head", [SoftmaxHead, OneVsRestHead])
def test_packed_texts_are_as_one_by_one(
    tmp_path: Path, config: PreTrainedConfig | None, head: type[TokenHead]
) -> None:
    torch.manual_seed(0)
    folder = EMBEDDED if config is None else make_folder(tmp_path, config)
    model = without_dropout(NumberLM.from_pretrained(folder, token_head=head))
    assert model.backbone.config._attn_implementation == PER_TEXT
    packed, mine = gradients(model, [batch_of(model, TEXTS)])
    alone, theirs = gradients(model, [batch_of(model, [text]) for text in TEXTS])
    assert packed == pytest.approx(alone, rel=1e-5)
    assert mine.keys() == theirs.keys()
    whole, difference = (
        torch.stack([gradient.norm() for gradient in each]).norm()
        for each in (theirs.values(), [mine[name] - theirs[name] for name in mine])
    )
    assert difference < 1e-5 * whole


def test_layers_see_no_padding() -> None:
    model = NumberLM.from_pretrained(EMBEDDED)
    rows: list[int] = []
    layer = next(m for m in model.backbone.modules() if isinstance(m, torch.nn.Linear))
    layer.register_forward_hook(lambda _module, inputs, _output: rows.append(inputs[0].shape[:-1]))
    batch = batch_of(model, TEXTS)
    model(batch)
    tokens = int(batch.attention_mask.sum())
    assert rows == [(1, tokens)]
    assert tokens < batch.input_ids.numel()


def test_texts_of_one_length_are_not_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[torch.Tensor] = []
    spread = attention._Spread.apply
    monkeypatch.setattr(
        attention._Spread, "apply", lambda rows, table: moved.append(rows) or spread(rows, table)
    )
    model = NumberLM.from_pretrained(EMBEDDED).eval()
    with torch.no_grad():
        model(batch_of(model, TEXTS))
    assert len(moved) == 3 * model.backbone.config.num_hidden_layers
    moved.clear()
    batch = batch_of(model, [TEXTS[0]] * 3)
    with torch.no_grad():
        together = model(batch).loc
        alone = model(batch_of(model, TEXTS[:1])).loc
    torch.testing.assert_close(together, alone.expand_as(together), rtol=1e-5, atol=1e-5)
    assert not moved


def tiny_qwen2(**options: object) -> Qwen2Config:
    return Qwen2Config(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, vocab_size=64, **options,
    )  # fmt: skip


def test_a_window_is_not_packed() -> None:
    make = AutoModelForCausalLM.from_config
    assert can_pack(make(tiny_qwen2()))
    windowed = tiny_qwen2(use_sliding_window=True, sliding_window=4, max_window_layers=1)
    assert "sliding_attention" in windowed.layer_types
    assert not can_pack(make(windowed))
