"""Adapters: what they touch, that merging is exact, folders, checkpoints and what is refused."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from peft import PeftModel
from safetensors.torch import load_file
from test_model import (
    EMBEDDED,
    NO_NUMBERS,
    NUMBERS,
    batch_of,
    make_folder,
    scores_of,
    tiny_gpt2,
    tiny_llama,
)
from transformers import AutoModelForCausalLM, PreTrainedConfig

from datamodules.number_data_module import NumberDataModule
from lightning_modules.number_lm import NumberLMModule
from numlm.checkpoint import ModelNotFoundError, load_context_length, load_tokenizer
from numlm.heads import Latent, OneVsRestHead, SoftmaxHead, TokenHead
from numlm.identity import ModelMismatchError
from numlm.lora import Lora, PeftMissingError
from numlm.model import NumberLM
from numlm.sharding import whole_copy

LORA = Lora(rank=4, alpha=8, dropout=0.1)
BACKBONES = [
    pytest.param(None, 0, id="embedded-tied"),
    pytest.param(tiny_llama(), 0, id="llama-untied-full"),
    pytest.param(tiny_llama(True), 3, id="llama-tied-spare"),
    pytest.param(tiny_gpt2(), 0, id="gpt2-tied-full"),
]


def folder_of(folder: Path, config: PreTrainedConfig | None, spare: int) -> Path:
    return EMBEDDED if config is None else make_folder(folder, config, spare)


def learnt(path: Path, **options: Any) -> NumberLM:
    """A model with adapters, as if everything that can learn had learnt something."""
    model = NumberLM.from_pretrained(path, lora=LORA, **options).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def assert_same_answers(one: NumberLM, two: NumberLM) -> None:
    for mine, theirs in zip(one.predict(NUMBERS), two.predict(NUMBERS), strict=True):
        assert (mine.text, mine.value, mine.source) == (theirs.text, theirs.value, theirs.source)
        for name in ("low", "high", "p_number"):
            assert getattr(mine, name) == pytest.approx(getattr(theirs, name), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize(("config", "spare"), BACKBONES)
def test_adapters_and_number_modules_learn_and_nothing_else(
    tmp_path: Path, config: PreTrainedConfig | None, spare: int
) -> None:
    path = folder_of(tmp_path, config, spare)
    plain = NumberLM.from_pretrained(path).eval()
    torch.manual_seed(0)
    model = NumberLM.from_pretrained(path, lora=LORA).eval()
    assert type(model.backbone) is type(plain.backbone)
    for name in ("get_input_embeddings", "get_output_embeddings"):
        one, two = (getattr(m.backbone, name)() for m in (model, plain))
        assert type(one) is type(two)
        assert torch.equal(one.weight, two.weight)
    heads = {id(parameter) for parameter in model.head_parameters()}
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == ("lora_" in name or id(parameter) in heads), name
    assert model.num_row is not None
    assert id(model.num_row.delta) in heads
    # What adapters add is zero at the start.
    plain._number_modules().load_state_dict(model._number_modules().state_dict(), strict=False)
    assert torch.equal(scores_of(model, NUMBERS), scores_of(plain, NUMBERS))
    model.train().losses(batch_of(model, NUMBERS)).total(1.0).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    assert model.num_row.delta.grad.abs().sum() > 0


@pytest.mark.parametrize("head", [SoftmaxHead, OneVsRestHead])
def test_the_row_of_num_is_that_of_a_table_with_the_row_changed(head: type[TokenHead]) -> None:
    model = learnt(EMBEDDED, token_head=head)
    num_id, weight = model.tokenizer.num_token_id, model.backbone.get_output_embeddings().weight
    latent = model(batch_of(model, NUMBERS)).latent
    changed = weight.detach().clone()
    changed[num_id] += model.num_row.delta
    expected = model.token_head.scores(latent, changed)
    torch.testing.assert_close(model.token_scores(latent), expected, rtol=1e-5, atol=1e-4)
    without = model.token_head.scores(latent, weight)
    assert not torch.allclose(expected[..., num_id], without[..., num_id], atol=1e-2)
    tile = model.token_scores(latent, slice(num_id - 3, num_id + 2))
    torch.testing.assert_close(tile, expected[..., num_id - 3 : num_id + 2], rtol=1e-5, atol=1e-4)
    at = Latent(latent.loc.detach().flatten(0, 1), latent.scale.detach().flatten(0, 1))
    labels = torch.arange(len(at.loc)) % 5 + num_id - 3
    model.token_loss(at, labels)[0].backward()
    changed = changed.detach().requires_grad_()
    model.token_head.loss(at, changed, labels)[0].backward()
    gradient = model.num_row.delta.grad
    torch.testing.assert_close(gradient, changed.grad[num_id], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("head", [SoftmaxHead, OneVsRestHead])
@pytest.mark.parametrize(("config", "spare"), BACKBONES)
def test_merging_changes_no_answer(
    tmp_path: Path, config: PreTrainedConfig | None, spare: int, head: type[TokenHead]
) -> None:
    path = folder_of(tmp_path / "base", config, spare)
    model = learnt(path, token_head=head)
    merged = whole_copy(model).merge()
    assert model.lora == LORA, "the copy alone is merged"
    assert merged.lora is None
    assert merged.state_dict().keys() == NumberLM.from_pretrained(path, head).state_dict().keys()
    assert all(parameter.requires_grad for parameter in merged.parameters())
    batch = batch_of(model, NUMBERS)
    one, two = (m.embed(batch.input_ids, batch.number_features) for m in (model, merged))
    torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)
    before, after = scores_of(model, NUMBERS), scores_of(merged, NUMBERS)
    # Sums are rounded in proportion to the greatest scores, of whatever unit.
    size = before.abs().max()
    torch.testing.assert_close(before / size, after / size, rtol=0, atol=3e-6)
    assert_same_answers(model, merged)
    plain = scores_of(NumberLM.from_pretrained(path, head).eval(), NUMBERS)
    assert not torch.allclose(before, plain, atol=0.1), "the adapters must do something"
    # The merged model is an export like any other.
    merged.save_pretrained(tmp_path / "export")
    again = NumberLM.from_pretrained(tmp_path / "export").eval()
    assert torch.equal(scores_of(again, NUMBERS), after)
    alone = AutoModelForCausalLM.from_pretrained(tmp_path / "export").eval()
    ids = batch_of(model, NO_NUMBERS[:1]).input_ids
    with torch.no_grad():
        assert torch.equal(alone(ids).logits, merged.backbone(ids).logits)
    assert merged.merge() is merged


def test_merging_a_backbone_of_16_bits_keeps_what_a_number_is_read_as() -> None:
    model = learnt(EMBEDDED, dtype=torch.bfloat16)
    dtypes = {name: parameter.dtype for name, parameter in model.named_parameters()}
    assert {dtype for name, dtype in dtypes.items() if "lora_" in name} == {torch.float32}
    merged = whole_copy(model).merge()
    num_id = model.tokenizer.num_token_id

    def read(m: NumberLM) -> torch.Tensor:
        return m.backbone.get_input_embeddings().weight[num_id].float() + m.number_embedding.bias

    torch.testing.assert_close(read(model), read(merged), rtol=0, atol=1e-6)


def test_a_copy_on_the_cpu_shares_nothing_but_keeps_ties() -> None:
    model = NumberLM.from_pretrained(EMBEDDED)
    twin = whole_copy(model)
    for (name, mine), (_, theirs) in zip(
        model.state_dict().items(), twin.state_dict().items(), strict=True
    ):
        assert torch.equal(mine, theirs), name
        assert mine.data_ptr() != theirs.data_ptr(), name
    tables = twin.backbone.get_input_embeddings(), twin.backbone.get_output_embeddings()
    assert tables[0].weight is tables[1].weight
    assert twin.training


@pytest.mark.parametrize(("config", "spare"), BACKBONES)
def test_adapters_are_saved_small_and_load_with_their_base(
    tmp_path: Path, config: PreTrainedConfig | None, spare: int
) -> None:
    path, folder = folder_of(tmp_path / "base", config, spare), tmp_path / "adapter"
    model = learnt(path)
    model.calibration.fit(torch.linspace(0.3, 1.0, 250, dtype=torch.float64))
    model.save_pretrained(folder)
    assert {file.name for file in folder.iterdir() if not file.name.startswith("token")} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "number_lm.json",
        "number_lm.safetensors",
    }
    adapters = load_file(folder / "adapter_model.safetensors")
    assert all(
        re.fullmatch(r"base_model\.model\..*\.lora_[AB]\.weight", name) for name in adapters
    )
    settings = json.loads((folder / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(path.resolve())
    assert (settings["r"], settings["lora_alpha"], settings["peft_type"]) == (4, 8, "LORA")
    again = NumberLM.from_pretrained(folder).eval()
    assert again.lora == LORA
    assert torch.equal(scores_of(model, NUMBERS), scores_of(again, NUMBERS))
    assert model.predict(NUMBERS) == again.predict(NUMBERS)
    assert again.calibration.fitted
    assert again.identity.backbone.name == path.name
    trained = [name for name, p in again.named_parameters() if p.requires_grad]
    assert trained == [name for name, p in model.named_parameters() if p.requires_grad]
    # What a data module asks of a model's path.
    assert len(load_tokenizer(str(folder))) == len(model.tokenizer.base)
    assert load_context_length(str(folder)) == model.context_length


def test_the_adapters_load_with_peft(tmp_path: Path) -> None:
    model = learnt(EMBEDDED)
    model.save_pretrained(tmp_path)
    base = AutoModelForCausalLM.from_pretrained(EMBEDDED, dtype=torch.float32)
    other = PeftModel.from_pretrained(base, tmp_path).eval()
    ids = batch_of(model, NO_NUMBERS[:1]).input_ids
    with torch.no_grad():
        theirs = other.base_model.model.base_model(ids).last_hidden_state
        ours = model.backbone.base_model(ids).last_hidden_state
    assert torch.equal(theirs, ours)
    # Transformers itself finds the base model where the adapters say.
    found = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    with torch.no_grad():
        assert torch.equal(found.base_model(ids).last_hidden_state, ours)


def test_adapters_on_an_exported_model_keep_its_number_modules(tmp_path: Path) -> None:
    first = learnt(EMBEDDED, token_head=OneVsRestHead).merge()
    first.save_pretrained(tmp_path / "export")
    second = NumberLM.from_pretrained(tmp_path / "export", lora=LORA).eval()
    assert torch.equal(scores_of(first, NUMBERS), scores_of(second, NUMBERS))
    with torch.no_grad():
        second.num_row.delta.add_(0.1)
    second.save_pretrained(tmp_path / "adapter")
    third = NumberLM.from_pretrained(tmp_path / "adapter").eval()
    assert torch.equal(scores_of(second, NUMBERS), scores_of(third, NUMBERS))
    assert third.identity.backbone.name == EMBEDDED.name


def test_adapters_of_other_settings_are_refused(tmp_path: Path) -> None:
    learnt(EMBEDDED).save_pretrained(tmp_path)
    assert NumberLM.from_pretrained(tmp_path, lora=LORA).lora == LORA
    with pytest.raises(ValueError, match=r"Lora\(rank=4.* cannot get Lora\(rank=16"):
        NumberLM.from_pretrained(tmp_path, lora=Lora())


def test_a_base_that_is_gone_is_named_with_the_adapters(tmp_path: Path) -> None:
    base = make_folder(tmp_path / "base", tiny_llama())
    learnt(base).save_pretrained(tmp_path / "adapter")
    base.rename(tmp_path / "moved")
    with pytest.raises(ModelNotFoundError) as error:
        NumberLM.from_pretrained(tmp_path / "adapter")
    assert f"'{tmp_path / 'adapter'}'" in str(error.value)
    assert f"'{base}'" in str(error.value)
    assert "base_model_name_or_path" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_base_of_another_kind_is_refused(tmp_path: Path) -> None:
    base, adapter = make_folder(tmp_path / "base", tiny_llama()), tmp_path / "adapter"
    learnt(base).save_pretrained(adapter)
    make_folder(base, tiny_gpt2())
    with pytest.raises(ModelMismatchError, match=r"'base' \(llama.*'base' \(gpt2"):
        NumberLM.from_pretrained(adapter)
    config = tiny_llama()
    config.num_hidden_layers = 2
    make_folder(base, config)
    with pytest.raises(ModelMismatchError, match=r"other layers.*layers\.1\."):
        NumberLM.from_pretrained(adapter)


@pytest.mark.parametrize("removed", ["adapter_model.safetensors", "number_lm.safetensors"])
def test_a_folder_without_a_part_is_one_sentence(tmp_path: Path, removed: str) -> None:
    learnt(EMBEDDED).save_pretrained(tmp_path)
    (tmp_path / removed).unlink()
    with pytest.raises(ModelNotFoundError, match=rf"no (weights|{re.escape(removed)})"):
        NumberLM.from_pretrained(tmp_path)


def test_without_peft_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    assert NumberLM.from_pretrained(EMBEDDED).lora is None
    with pytest.raises(PeftMissingError, match=r"pip install 'numlm\[lora\]'"):
        NumberLM.from_pretrained(EMBEDDED, lora=LORA)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"rank": 0}, "lora.rank is 0, but must be at least 1"),
        ({"dropout": 1.0}, "lora.dropout is 1.0, but must be in"),
        ({"target_modules": r".*(q_proj|lm_head)"}, "matches the table of token embeddings"),
        ({"target_modules": r".*embed_tokens"}, "matches the table of token embeddings"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    tmp_path: Path, settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(named)):
        NumberLM.from_pretrained(make_folder(tmp_path, tiny_llama()), lora=Lora(**settings))


def test_target_modules_choose_layers() -> None:
    model = NumberLM.from_pretrained(EMBEDDED, lora=Lora(rank=2, target_modules=r".*\.q_proj"))
    names = {name for name, _ in model.named_parameters() if "lora_A" in name}
    assert names == {
        f"backbone.model.layers.{layer}.self_attn.q_proj.lora_A.default.weight"
        for layer in range(3)
    }


# Lightning's checkpoints.


class Remember(Callback):
    """The weights and the step that training starts from."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.step = trainer.global_step
        self.weights = {name: t.clone() for name, t in pl_module.state_dict().items()}


def loaded(module: NumberLMModule) -> NumberLMModule:
    module.configure_model()
    return module


def fit(
    folder: Path, module: NumberLMModule, data: NumberDataModule, steps: int, ckpt: Any = None
) -> tuple[Trainer, Remember]:
    remember = Remember()
    trainer = Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        max_steps=steps,
        limit_val_batches=0,
        logger=False,
        callbacks=[remember],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, datamodule=data, ckpt_path=ckpt)
    return trainer, remember


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, embedded_data: NumberDataModule) -> Path:
    """After two steps of a run with adapters."""
    folder = tmp_path_factory.mktemp("run")
    trainer, _ = fit(folder, NumberLMModule(lora=LORA), embedded_data, 2)
    trainer.save_checkpoint(folder / "two.ckpt")
    return folder / "two.ckpt"


def content(checkpoint: Path) -> dict[str, Any]:
    return torch.load(checkpoint, weights_only=True)


def test_a_checkpoint_holds_what_is_trained_only(checkpoint: Path) -> None:
    saved, module = content(checkpoint), loaded(NumberLMModule(lora=LORA))
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    buffers = {f"model.calibration.{name}" for name in ("levels", "answers")}
    assert saved["state_dict"].keys() == trained | buffers
    assert saved["hyper_parameters"]["lora"] == {
        "rank": 4,
        "alpha": 8,
        "dropout": 0.1,
        "target_modules": "all-linear",
    }
    assert type(saved["hyper_parameters"]["lora"]) is dict
    again = NumberLMModule.load_from_checkpoint(checkpoint)
    assert again.model.lora == LORA
    for name, weight in saved["state_dict"].items():
        assert torch.equal(again.state_dict()[name], weight), name


def test_a_run_is_resumed_where_it_was(
    tmp_path: Path, checkpoint: Path, embedded_data: NumberDataModule
) -> None:
    saved, start = content(checkpoint), loaded(NumberLMModule(lora=LORA)).state_dict()
    module = NumberLMModule(lora=LORA)
    trainer, remember = fit(tmp_path, module, embedded_data, 4, checkpoint)
    assert (remember.step, trainer.global_step) == (2, 4)
    for name, weight in remember.weights.items():
        assert torch.equal(weight, saved["state_dict"].get(name, start[name])), name
    moved = [n for n, w in module.state_dict().items() if not torch.equal(w, remember.weights[n])]
    assert any("lora_B" in name for name in moved)
    assert "model.num_row.delta" in moved
    assert set(moved) <= saved["state_dict"].keys()


@pytest.mark.parametrize("change", ["missing", "unknown"])
def test_a_missing_or_unknown_trained_weight_is_refused(
    tmp_path: Path, checkpoint: Path, embedded_data: NumberDataModule, change: str
) -> None:
    saved = content(checkpoint)
    if change == "missing":
        del saved["state_dict"]["model.num_row.delta"]
    else:
        saved["state_dict"]["model.other"] = torch.zeros(1)
    torch.save(saved, tmp_path / "changed.ckpt")
    named = "Missing key" if change == "missing" else "Unexpected key"
    with pytest.raises(RuntimeError, match=named):
        fit(tmp_path, NumberLMModule(lora=LORA), embedded_data, 4, tmp_path / "changed.ckpt")


@pytest.mark.parametrize("lora", [None, Lora(rank=8)])
def test_a_checkpoint_of_other_adapters_is_refused(
    tmp_path: Path, checkpoint: Path, embedded_data: NumberDataModule, lora: Lora | None
) -> None:
    with pytest.raises(ModelMismatchError, match=r"trained with model\.lora {'rank': 4"):
        fit(tmp_path, NumberLMModule(lora=lora), embedded_data, 4, checkpoint)


def test_a_checkpoint_of_another_model_is_refused_with_both_names(
    tmp_path: Path, checkpoint: Path, embedded_data: NumberDataModule
) -> None:
    other = make_folder(tmp_path / "tiny-llama", tiny_llama())
    with pytest.raises(ModelMismatchError) as error:
        fit(tmp_path, NumberLMModule(str(other), lora=LORA), embedded_data, 4, checkpoint)
    assert "the checkpoint belongs to the backbone 'tiny-qwen2' (qwen2" in str(error.value)
    assert "model.qwen_model_path has the backbone 'tiny-llama' (llama" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_full_checkpoint_has_all_weights(
    tmp_path: Path, embedded_data: NumberDataModule
) -> None:
    module = NumberLMModule()
    trainer, _ = fit(tmp_path, module, embedded_data, 1)
    trainer.save_checkpoint(tmp_path / "full.ckpt")
    saved = content(tmp_path / "full.ckpt")
    assert saved["state_dict"].keys() == module.state_dict().keys()
    assert saved["identity"]["backbone"]["name"] == "tiny-qwen2"
    _, remember = fit(tmp_path, NumberLMModule(), embedded_data, 2, tmp_path / "full.ckpt")
    assert all(torch.equal(remember.weights[n], w) for n, w in saved["state_dict"].items())
    del saved["identity"]
    torch.save(saved, tmp_path / "old.ckpt")
    with pytest.raises(ModelMismatchError, match="the checkpoint does not say which backbone"):
        fit(tmp_path, NumberLMModule(), embedded_data, 2, tmp_path / "old.ckpt")
