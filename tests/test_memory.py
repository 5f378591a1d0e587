"""What a step holds: recomputed layers, scores where labels ask, and what is said when it is short."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedConfig, Qwen3Config

from lightning_modules.number_lm import NumberLMModule
from numlm import vocabulary_loss
from numlm.batch import Batch, Record, collate
from numlm.heads import Latent, OneVsRestHead, SoftmaxHead, TokenHead
from numlm.model import NumberLM
from tests.test_lora import LORA
from tests.test_model import EMBEDDED, NUMBERS, batch_of, make_folder, tiny_gpt2, tiny_llama
from train import main

ROOT = Path(__file__).resolve().parents[1]


class Calls:
    """How often the attention of every layer ran."""

    def __init__(self, model: NumberLM) -> None:
        self.counts: dict[torch.nn.Module, int] = {}
        for layer in model.backbone.base_model.modules():
            if type(layer).__name__.endswith("Attention"):
                self.counts[layer] = 0
                layer.register_forward_hook(self.count)

    def count(self, layer: torch.nn.Module, inputs: Any, output: Any) -> None:
        self.counts[layer] += 1


def tiny_qwen3() -> PreTrainedConfig:
    return Qwen3Config(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip


def gradients(model: NumberLM) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model.losses(batch_of(model, NUMBERS)).total(1.0).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("config", [None, tiny_gpt2(), tiny_llama(), tiny_qwen3()])
def test_layers_are_computed_again_in_training_only(
    tmp_path: Path, config: PreTrainedConfig | None
) -> None:
    folder = EMBEDDED if config is None else make_folder(tmp_path, config)
    plain = NumberLM.from_pretrained(folder)
    model = NumberLM.from_pretrained(folder, activation_checkpointing=True)
    model.load_state_dict(plain.state_dict())
    for module, times in ((plain, 1), (model, 2)):
        for dropout in module.modules():
            if isinstance(dropout, torch.nn.Dropout):  # GPT-2 has some
                dropout.p = 0.0
        calls = Calls(module)
        gradients(module)
        assert set(calls.counts.values()) == {times}
        with torch.no_grad():
            module.eval()(batch_of(module, NUMBERS))
        assert set(calls.counts.values()) == {times + 1}
        module.train()
    mine, theirs = gradients(model), gradients(plain)
    assert mine.keys() == theirs.keys()
    for name, gradient in mine.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-5, atol=1e-6)


def test_layers_with_adapters_are_computed_again() -> None:
    """The embeddings are frozen: nothing that goes into the first layer would need a gradient."""
    model = NumberLM.from_pretrained(EMBEDDED, lora=LORA, activation_checkpointing=True)
    calls, found = Calls(model), gradients(model)
    assert set(calls.counts.values()) == {2}
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert any("lora_B" in name and gradient.any() for name, gradient in found.items())


def test_layers_are_computed_again_in_a_trainer(embedded_data: Any, tmp_path: Path) -> None:
    """Transformers leaves a loaded model in evaluation mode, in which it would do nothing."""
    module = NumberLMModule(activation_checkpointing=True)
    module.configure_model()
    calls = Calls(module.model)
    Trainer(
        default_root_dir=tmp_path, accelerator="cpu", max_steps=2, limit_val_batches=0, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    ).fit(module, datamodule=embedded_data)  # fmt: skip
    assert set(calls.counts.values()) == {4}


class Largest(TorchDispatchMode):
    """The most elements of a table of scores: at most a row for each position, a column for each of many tokens."""

    def __init__(self, positions: int, hidden_size: int) -> None:
        super().__init__()
        self.positions, self.hidden_size = positions, hidden_size
        self.scores: dict[torch.dtype, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.ndim == 2:
                rows, columns = tensor.shape
                if rows <= self.positions and columns > self.hidden_size:
                    self.scores[tensor.dtype] = max(
                        self.scores.get(tensor.dtype, 0), rows * columns
                    )
        return result


@pytest.mark.parametrize("head", [SoftmaxHead, OneVsRestHead])
@pytest.mark.parametrize("mixed", [False, True])
def test_scores_are_made_in_tiles_where_a_label_asks_only(
    head: type[TokenHead], mixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts of many tokens with short answers, forward and backward."""
    model = NumberLM.from_pretrained(EMBEDDED, token_head=head)
    vocabulary, hidden_size = model.backbone.get_output_embeddings().weight.shape
    tile = 2 if head is SoftmaxHead else vocabulary // 4
    monkeypatch.setattr(vocabulary_loss, "tile_size", lambda *_, **__: tile)
    records = []
    for text in ["The red lamp shows 42.5 volts in the hall. So it is 42.5"] * 3:
        ids = model.tokenizer.encode(text).input_ids
        records.append(Record(ids, [42.5, 42.5], (1,), answer_start=len(ids) - 2))
    batch = collate(records, model.tokenizer.num_token_id, model.tokenizer.pad_token_id)
    labels = int((batch.labels[:, 1:] != -100).sum())
    assert labels == 6 < batch.input_ids.numel() // 5
    at = model(batch).map(lambda part: part[:, -3:-1].flatten(0, 1)).latent
    with Largest(labels, hidden_size) as largest:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            loss, _ = model.token_loss(at, batch.labels[:, -2:].flatten())
        loss.backward()
    most = 2 * vocabulary if head is SoftmaxHead else labels * tile
    assert largest.scores[torch.float32] == most
    assert max(largest.scores.values()) == most
    assert (torch.bfloat16 in largest.scores) == mixed


@pytest.fixture
def mixed_model() -> Iterator[tuple[NumberLM, Batch]]:
    model = NumberLM.from_pretrained(EMBEDDED)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        yield model, batch_of(model, NUMBERS)


def test_heads_and_losses_are_float32_under_mixed_precision(
    mixed_model: tuple[NumberLM, Batch],
) -> None:
    model, batch = mixed_model
    products: list[torch.dtype] = []
    layer = next(m for m in model.backbone.modules() if isinstance(m, torch.nn.Linear))
    layer.register_forward_hook(lambda _module, _inputs, output: products.append(output.dtype))
    states = model(batch)
    assert products == [torch.bfloat16], "the layers are what is mixed"
    answer = model.number_answer(states, batch, model.slots(batch)[0])
    losses = model.losses(batch)
    assert answer.made, "what is made is among what is tested"
    for estimate in answer.estimates:
        for tensor in (estimate.magnitude, estimate.signed, estimate.hands, estimate.hand_scales):
            assert tensor.dtype == torch.float32
    for tensor in (*states, answer.pointer, losses.total(1.0)):
        assert tensor.dtype == torch.float32
    assert answer.values.dtype == torch.float64
    losses.total(1.0).backward()
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}


def test_what_is_measured_is_scored_in_float32(mixed_model: tuple[NumberLM, Batch]) -> None:
    """Training scores have 8 bits, and many equals; those of an evaluation have 24."""
    model, batch = mixed_model
    at = model(batch).map(lambda part: part[:, :-1].detach()).latent
    with torch.autocast("cpu", enabled=False):
        exact = at.loc @ model.backbone.get_output_embeddings().weight.T
    with torch.no_grad():
        torch.testing.assert_close(model.token_scores(at), exact, rtol=1e-5, atol=1e-5)
        rows = Latent(at.loc.flatten(0, 1), at.scale.flatten(0, 1))
        labels = batch.input_ids[:, 1:].flatten()
        expected = torch.nn.functional.cross_entropy(
            exact.flatten(0, 1), labels, reduction="sum"
        ).item()
        assert model.train().token_loss(rows, labels)[0].item() != pytest.approx(expected, 1e-6)
        assert model.eval().token_loss(rows, labels)[0].item() == pytest.approx(expected, 1e-6)


class Greedy(Callback):
    """Asks for more memory than there is."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        torch.empty(10**14)


class Broken(Callback):
    """Fails in another way."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        raise RuntimeError("something else")


def fit(folder: Path, callback: str, *options: str) -> None:
    main(
        ["fit", "--config", str(ROOT / "configs" / "smoke.yaml"),
         "--config", str(ROOT / "tests" / "light.yaml"), "--data.val_samples", "5",
         "--trainer.logger.save_dir", str(folder),
         f"--trainer.callbacks+=tests.test_memory.{callback}", *options]
    )  # fmt: skip


def test_too_little_memory_names_the_options_that_lower_it(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as error:
        fit(tmp_path, "Greedy", "--trainer.precision", "bf16-mixed")
    message = str(error.value)
    assert message.startswith("error: out of memory (")
    for option in (
        "--trainer.accumulate_grad_batches above 1",
        "--model.activation_checkpointing true",
        "--model.lora.rank",
        "--config configs/fsdp.yaml",
        "--data.eval_batch_size below 6",
    ):
        assert option in message
    assert "--trainer.precision" not in message, "it is in use"
    assert "\n" not in message


def test_other_errors_are_not_taken_for_too_little_memory(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="something else"):
        fit(tmp_path, "Broken")
