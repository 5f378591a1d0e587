"""Exports: whose they are, that they load without Lightning, the card, `.pth`, the hub."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub.errors
import pytest
import torch
from huggingface_hub import ModelCard
from lightning import Trainer
from test_model import EMBEDDED, NO_NUMBERS, NUMBERS, batch_of, make_folder, tiny_llama
from transformers import AutoModelForCausalLM, AutoTokenizer

from callbacks.export import ExportModel
from callbacks.markdown import metric_text
from callbacks.model_card import model_card
from callbacks.results import FINETUNED_FILE
from datamodules.number_data_module import NumberDataModule
from lightning_modules.number_lm import NumberLMModule
from numlm import checkpoint, hub
from numlm.checkpoint import ModelNotFoundError, model_file, tokenizer_fingerprint
from numlm.hub import HubError
from numlm.identity import ModelMismatchError
from numlm.lora import Lora
from numlm.model import NumberLM
from train import main

ROOT = Path(__file__).resolve().parents[1]
TINY = ["--config", str(ROOT / "configs" / "smoke.yaml")]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def changed() -> NumberLM:
    """A model that is not the base model."""
    torch.manual_seed(0)
    model = NumberLM.from_pretrained(EMBEDDED).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def export(changed: NumberLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "model"
    changed.save_pretrained(folder)
    return folder


# Whose the number modules are.


def test_an_export_says_whose_its_number_modules_are(export: Path, changed: NumberLM) -> None:
    saved = read(export / "number_lm.json")
    assert saved["backbone"] == {
        "name": "tiny-qwen2",
        "model_type": "qwen2",
        "hidden_size": 192,
        "rows": 1408,
    }
    fingerprint = tokenizer_fingerprint(AutoTokenizer.from_pretrained(EMBEDDED))
    assert saved["tokenizer"] == {"name": "tiny-qwen2", "fingerprint": fingerprint}
    assert re.fullmatch("[0-9a-f]{64}", fingerprint)
    assert saved["lora"] is None
    again = NumberLM.from_pretrained(export)
    assert again.identity == changed.identity
    assert again.identity.backbone.name == "tiny-qwen2", "not the folder of the export"


def test_the_fingerprint_is_of_the_definition_and_not_of_its_use(tmp_path: Path) -> None:
    base = AutoTokenizer.from_pretrained(EMBEDDED)
    before = tokenizer_fingerprint(base)
    base(["one", "one and two"], padding=True, truncation=True, max_length=2)
    assert tokenizer_fingerprint(base) == before
    base.save_pretrained(tmp_path / "saved")
    assert tokenizer_fingerprint(AutoTokenizer.from_pretrained(tmp_path / "saved")) == before
    base.add_tokens(["<volt>"])
    assert tokenizer_fingerprint(base) != before
    other = make_folder(tmp_path / "other", tiny_llama())
    assert tokenizer_fingerprint(AutoTokenizer.from_pretrained(other)) != before


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "tiny-llama", tiny_llama())


@pytest.mark.parametrize(
    ("files", "named"),
    [
        (
            ["config.json", "model.safetensors"],
            r"backbone 'tiny-qwen2' \(qwen2, hidden size 192, 1408 rows\), but the folder has the "
            r"backbone 'model' \(llama, hidden size 16",
        ),
        (
            ["tokenizer.json", "tokenizer_config.json"],
            r"tokenizer 'tiny-qwen2' \([0-9a-f]{8}\), but the folder has the tokenizer 'model' \(",
        ),
    ],
    ids=["backbone", "tokenizer"],
)
def test_number_modules_beside_another_model_are_refused(
    tmp_path: Path, export: Path, other: Path, files: list[str], named: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(export, folder)
    for name in files:
        shutil.copy(other / name, folder)
    with pytest.raises(ModelMismatchError, match=named) as error:
        NumberLM.from_pretrained(folder)
    assert isinstance(error.value, ValueError)
    assert "\n" not in str(error.value)


def test_an_export_that_does_not_say_whose_it_is_is_refused(tmp_path: Path, export: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(export, folder)
    saved = read(folder / "number_lm.json")
    del saved["backbone"]
    (folder / "number_lm.json").write_text(json.dumps(saved))
    with pytest.raises(ModelMismatchError, match=r"number_lm\.json in '.*' does not say"):
        NumberLM.from_pretrained(folder)


def test_a_checkpoint_of_a_model_that_was_replaced_is_one_sentence(
    tmp_path: Path, other: Path
) -> None:
    path = tmp_path / "base"
    shutil.copytree(EMBEDDED, path)
    options = [*TINY, "--trainer.callbacks", "[]", "--data.val_samples", "4"]
    options += ["--trainer.logger.save_dir", str(tmp_path), "--trainer.max_steps", "1"]
    options += ["--model.qwen_model_path", str(path)]
    cli = main(["fit", *options])
    written = cli.trainer.checkpoint_callback.best_model_path
    shutil.rmtree(path)
    shutil.copytree(other, path)
    with pytest.raises(SystemExit) as stop:
        main(["fit", *options, "--ckpt_path", written])
    message = str(stop.value.code)
    assert message.startswith("error: the checkpoint belongs to the backbone 'base' (qwen2")
    assert "but model.qwen_model_path has the backbone 'base' (llama" in message
    assert "\n" not in message
    # The same where the option names another model: it is not overruled by the checkpoint's.
    options[-1] = str(other)
    with pytest.raises(SystemExit, match=r"qwen2.*but model\.qwen_model_path has the .*llama"):
        main(["fit", *options, "--ckpt_path", written])


# Loading it elsewhere.

WITHOUT_LIGHTNING = """
import json, sys
sys.modules["lightning"] = sys.modules["pytorch_lightning"] = None
from numlm import NumberLM
model = NumberLM.from_pretrained(sys.argv[1])
predictions = model.predict(sys.argv[2:])
print(json.dumps([[p.value, p.low, p.high, p.p_number, p.source, p.text] for p in predictions]))
"""


def predicted_elsewhere(where: str, **environment: str) -> list[list[Any]]:
    """Predictions of a process in which there is no Lightning."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LIGHTNING, where, *NUMBERS],
        cwd=ROOT, check=True, capture_output=True, text=True, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment},
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def rows_of(model: NumberLM) -> list[list[Any]]:
    predictions = model.predict(NUMBERS)
    return [[p.value, p.low, p.high, p.p_number, p.source, p.text] for p in predictions]


def assert_same_rows(one: list[list[Any]], two: list[list[Any]]) -> None:
    for mine, theirs in zip(one, two, strict=True):
        assert mine[4:] == theirs[4:]
        # Another number of threads adds in another order.
        assert mine[:4] == pytest.approx(theirs[:4], rel=1e-4)


@pytest.mark.slow
def test_an_export_loads_without_lightning(export: Path, changed: NumberLM) -> None:
    assert_same_rows(predicted_elsewhere(str(export)), rows_of(changed))


def test_the_plain_backbone_loads_with_transformers(export: Path, changed: NumberLM) -> None:
    plain = AutoModelForCausalLM.from_pretrained(export).eval()
    base = AutoTokenizer.from_pretrained(export)
    for text in NO_NUMBERS:
        ids = torch.tensor([base(text)["input_ids"]])
        batch = batch_of(changed, [text])
        assert torch.equal(ids, batch.input_ids)
        with torch.no_grad():
            theirs = plain.base_model(ids).last_hidden_state
            embedded = changed.embed(batch.input_ids, batch.number_features)
            ours = changed.backbone.base_model(inputs_embeds=embedded).last_hidden_state
        assert torch.equal(theirs, ours)
    batch = batch_of(changed, NUMBERS)
    assert batch.number_features.any()
    with torch.no_grad():
        embedded = changed.embed(batch.input_ids, batch.number_features)
        options = {"inputs_embeds": embedded, "attention_mask": batch.attention_mask}
        theirs, ours = (m.base_model(**options)[0] for m in (plain, changed.backbone))
    assert torch.equal(theirs, ours)


def test_an_export_loads_by_its_name_on_the_hub(
    tmp_path: Path, export: Path, changed: NumberLM
) -> None:
    """From the cache that a download leaves, for there is no network."""
    repository = tmp_path / "models--owner--numlm-tiny"
    shutil.copytree(export, repository / "snapshots" / "0123")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123")
    rows = predicted_elsewhere("owner/numlm-tiny", HF_HUB_CACHE=str(tmp_path))
    assert_same_rows(rows, rows_of(changed))


def test_a_file_that_the_hub_has_not_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_there(repo_id: str, filename: str) -> str:
        raise huggingface_hub.errors.EntryNotFoundError(f"{repo_id} has no {filename}")

    monkeypatch.setattr(checkpoint, "hf_hub_download", not_there)
    assert model_file("owner/name", "number_lm.json") is None

    def no_repository(repo_id: str, filename: str) -> str:
        raise OSError(f"there is no {repo_id}\nand more about it")

    monkeypatch.setattr(checkpoint, "hf_hub_download", no_repository)
    with pytest.raises(ModelNotFoundError, match=r"'owner/name'.*there is no owner/name$"):
        model_file("owner/name", "number_lm.json")


# The hub.


class FakeHub:
    """What an upload would have sent."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.files: dict[str, bytes] = {}
        self.refuse = False

    def create_repo(self, repo_id: str, **options: Any) -> Any:
        self.calls.append((repo_id, options))
        if self.refuse:
            raise huggingface_hub.errors.LocalTokenNotFoundError(
                "Token is required\nbut not found"
            )
        return SimpleNamespace(repo_id=repo_id)

    def upload_folder(self, folder_path: Path, repo_id: str, **options: Any) -> Any:
        self.calls.append((repo_id, options))
        self.files = {file.name: file.read_bytes() for file in Path(folder_path).iterdir()}
        return SimpleNamespace(commit_url=f"https://huggingface.co/{repo_id}/commit/1")


@pytest.fixture
def fake_hub(monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub()
    monkeypatch.setattr(hub, "HfApi", lambda: fake)
    return fake


EXPORTED = {
    *("config.json", "generation_config.json", "model.safetensors"),
    *("tokenizer.json", "tokenizer_config.json", "number_lm.json", "number_lm.safetensors"),
}


def test_a_model_is_uploaded_as_it_is_saved(
    fake_hub: FakeHub, export: Path, changed: NumberLM
) -> None:
    address = changed.push_to_hub("owner/name", commit_message="first")
    assert address == "https://huggingface.co/owner/name/commit/1"
    assert fake_hub.calls == [
        ("owner/name", {"private": True, "exist_ok": True}),
        ("owner/name", {"commit_message": "first"}),
    ]
    assert fake_hub.files == {file.name: file.read_bytes() for file in export.iterdir()}
    assert set(fake_hub.files) == EXPORTED


def test_a_connection_that_breaks_is_one_sentence(
    fake_hub: FakeHub, changed: NumberLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors of a connection are those of the HTTP library, which is another by the hub's version."""
    client = huggingface_hub.utils.get_session()
    library = sys.modules[type(client).__module__.split(".")[0]]

    def breaks(repo_id: str, **options: Any) -> Any:
        raise library.ConnectError("no route to host")

    monkeypatch.setattr(fake_hub, "upload_folder", breaks)
    with pytest.raises(HubError, match="no route to host"):
        changed.push_to_hub("owner/name")


def test_what_the_hub_does_not_take_is_one_sentence(fake_hub: FakeHub, changed: NumberLM) -> None:
    fake_hub.refuse = True
    with pytest.raises(HubError, match=r"'owner/name' \(Token is required\): `hf auth login`"):
        changed.push_to_hub("owner/name", private=False)
    assert fake_hub.calls == [("owner/name", {"private": False, "exist_ok": True})]


# The callback.


@pytest.fixture(scope="module")
def data() -> NumberDataModule:
    return NumberDataModule(
        str(EMBEDDED), num_samples=8, val_samples=4, eval_samples=3, noisy_samples=3, batch_size=8
    )


def train(folder: Path, data: NumberDataModule, callback: ExportModel, **options: Any) -> NumberLM:
    module = NumberLMModule(**options)
    trainer = Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        max_steps=1,
        limit_val_batches=0,
        logger=False,
        callbacks=[callback],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, datamodule=data)
    return module.model.eval()


def test_weights_as_one_file_and_a_folder_on_the_hub(
    tmp_path: Path, data: NumberDataModule, fake_hub: FakeHub
) -> None:
    export = ExportModel(folder="tuned", pth=True, push_to_hub="owner/volts")
    model = train(tmp_path, data, export)
    # The repository is there before training, so that it does not fail after it.
    assert [call for call, _ in fake_hub.calls] == ["owner/volts"] * 3
    assert set(fake_hub.files) == {*EXPORTED, "README.md"}
    card = ModelCard(fake_hub.files["README.md"].decode())
    assert "# volts\n" in card.text
    assert 'from_pretrained("owner/volts")' in card.text
    weights = torch.load(tmp_path / "tuned.pth", weights_only=True)
    fresh = NumberLM.from_pretrained(EMBEDDED).eval()
    fresh.load_state_dict(weights)
    assert rows_of(fresh) == rows_of(model)
    size = (tmp_path / "tuned.pth").stat().st_size
    assert size < 4.1 * sum(parameter.numel() for parameter in model.parameters()), "tied: once"
    assert not (tmp_path / "adapter").exists()


def test_a_hub_that_refuses_is_found_before_training(
    tmp_path: Path, data: NumberDataModule, fake_hub: FakeHub
) -> None:
    fake_hub.refuse = True
    with pytest.raises(HubError):
        train(tmp_path, data, ExportModel(push_to_hub="owner/volts"))
    assert not (tmp_path / "model").exists()


def test_adapters_are_exported_merged_and_alone(tmp_path: Path, data: NumberDataModule) -> None:
    model = train(tmp_path, data, ExportModel(pth=True), lora=Lora(rank=2), lr=0.05, head_lr=0.05)
    assert model.lora == Lora(rank=2), "the live model keeps its adapters"
    alone = NumberLM.from_pretrained(tmp_path / "adapter").eval()
    merged = NumberLM.from_pretrained(tmp_path / "model").eval()
    assert alone.lora == Lora(rank=2)
    assert merged.lora is None
    assert rows_of(alone) == rows_of(model)
    assert_same_rows(rows_of(merged), rows_of(model))
    weights = torch.load(tmp_path / "model.pth", weights_only=True)
    assert weights.keys() == merged.state_dict().keys()
    assert all(torch.equal(weights[name], w) for name, w in merged.state_dict().items())
    adapters = tmp_path / "adapter" / "adapter_model.safetensors"
    assert adapters.stat().st_size < (EMBEDDED / "model.safetensors").stat().st_size / 10


# The card.


def test_a_card_without_an_evaluation_has_no_figures(
    tmp_path: Path, data: NumberDataModule
) -> None:
    train(tmp_path, data, ExportModel())
    card = ModelCard.load(tmp_path / "model" / "README.md")
    assert card.data.to_dict() == {
        "library_name": "numlm",
        "pipeline_tag": "text-generation",
        "tags": ["numlm", "numbers", "uncertainty"],
    }
    headings = re.findall("^## (.*)$", card.text, re.MULTILINE)
    assert headings == ["Use", "Limits"]
    assert "not calibrated" in card.text


CALLBACKS = """
trainer:
  callbacks:
    - class_path: callbacks.run_record.RunRecord
    - class_path: callbacks.calibration.ConformalCalibration
    - class_path: callbacks.evaluation.BeforeAfterEvaluation
    - class_path: callbacks.floors.MeasureFloors
    - class_path: callbacks.export.ExportModel
      init_args:
        pth: true
model:
  lora:
    rank: 4
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the smoke configuration with adapters, without charts and report."""
    folder = tmp_path_factory.mktemp("results")
    (folder / "lora.yaml").write_text(CALLBACKS)
    options = ["--config", str(folder / "lora.yaml"), "--trainer.logger.save_dir", str(folder)]
    main(["fit", *TINY, *options])
    return folder / "latest"


def test_the_card_of_a_run_says_what_it_was_made_of_and_how_good_it_is(run: Path) -> None:
    card = ModelCard.load(run / "model" / "README.md")
    assert card.data.language == ["en", "zh"]
    assert card.data.tags == ["numlm", "numbers", "uncertainty", "lora"]
    assert card.data.base_model is None, "a folder here is no name on the hub"
    headings = re.findall("^## (.*)$", card.text, re.MULTILINE)
    assert headings == ["Use", "What it was tuned on", "Figures", "How it was made", "Limits"]
    finetuned, record = read(run / FINETUNED_FILE), read(run / "run.json")
    assert record["calibration"]
    assert "coverage, calibrated 80 % interval" in card.text
    rows = re.findall(r"^\| (basic|noisy readings|ordinary text) \|.*$", card.text, re.MULTILINE)
    assert rows == ["basic", "noisy readings"], "sets without numbers have no figures"
    row = next(line for line in card.text.splitlines() if line.startswith("| noisy readings |"))
    figures = finetuned["noisy_readings"]
    for metric in ("rmse_all", "exact_match", "accuracy", "calibrated_coverage_80"):
        low, high = figures["intervals"][metric]
        text = f"→ **{metric_text(metric, figures[metric])}** \\[{metric_text(metric, low)}, "
        assert f"{text}{metric_text(metric, high)}\\]" in row
    floors = read(run / "floors.json")["noisy_readings"]
    errors = [e["rmse_all"] for name, e in floors.items() if name != "best_possible"]
    least = min(error for error in errors if error is not None)
    assert f"| {metric_text('rmse_all', least)} (" in row
    assert record["command"] in card.text
    assert f"transformers {record['versions']['transformers']}" in card.text
    assert "(rank 4, alpha 32), which are folded into its weights." in card.text
    assert "{{" not in card.text
    assert "{%" not in card.text
    assert "\n\n\n\n" not in card.text


def test_the_export_of_a_run_with_adapters_gives_its_figures(run: Path, tmp_path: Path) -> None:
    save = ["--trainer.logger.save_dir", str(tmp_path)]
    main(["test", *TINY, *save, "--model.qwen_model_path", str(run / "adapter")])
    (written,) = tmp_path.glob("*/test_results.json")
    tested, finetuned = read(written), read(run / FINETUNED_FILE)
    for name in ("basic", "noisy_readings"):
        assert tested[name]["rmse_all"] == finetuned[name]["rmse_all"]
        assert tested[name]["mean_rank"] == finetuned[name]["mean_rank"]
    merged = NumberLM.from_pretrained(run / "model").eval()
    assert merged.calibration.fitted
    assert_same_rows(rows_of(merged), rows_of(NumberLM.from_pretrained(run / "adapter").eval()))
    assert (run / "model.pth").exists()


def test_the_card_names_own_data_and_a_base_model_of_the_hub(
    tmp_path: Path, export: Path, run: Path
) -> None:
    for name in ("run.json", FINETUNED_FILE, "baseline_results.json"):
        shutil.copy(run / name, tmp_path)
    record = read(tmp_path / "run.json")
    assert record["data"] == []
    sources = [("train", "/home/ada/secret/meters.jsonl", 900), ("test", "owner/meters:test", 90)]
    record["data"] = [
        {"role": role, "source": source, "rows": rows, "skipped": 0, "bad_rows": []}
        for role, source, rows in sources
    ]
    (tmp_path / "run.json").write_text(json.dumps(record))
    results = read(tmp_path / FINETUNED_FILE)
    for entry in results.values():
        entry["groups"] = {"zh": {}}
    (tmp_path / FINETUNED_FILE).write_text(json.dumps(results))
    saved = read(export / "number_lm.json")
    saved["backbone"]["name"] = "Qwen/Qwen2.5-0.5B"
    folder = tmp_path / "model"
    shutil.copytree(export, folder)
    (folder / "number_lm.json").write_text(json.dumps(saved))
    card = ModelCard(model_card(tmp_path, NumberLM.from_pretrained(folder), None, None))
    assert card.data.base_model == "Qwen/Qwen2.5-0.5B"
    assert card.data.language == ["zh"]
    assert "- train: meters.jsonl, 900 rows\n- test: meters:test, 90 rows\n" in card.text
    assert "secret" not in card.text
    assert "Text that NumLM generates" not in card.text
    assert "| basic |" in card.text, "without floors"
