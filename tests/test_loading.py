"""Loading: architectures, types and shards of files, `~`, hub names, Instruct, spare rows."""

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_model import NUMBERS, batch_of, make_folder, scores_of, tiny_gpt2, tiny_llama
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from datamodules.number_data_module import NumberDataModule
from numlm.checkpoint import ModelNotFoundError
from numlm.model import NumberLM
from numlm.packing import PER_TEXT

ROOT = Path(__file__).resolve().parents[1]
TEXT_END, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CALL_END = (
    "<|eom_id|>"  # Llama 3 has a third one, which is neither end nor padding to its tokenizer
)


def tiny_qwen(kind: type[PreTrainedConfig], head_dim: int) -> PreTrainedConfig:
    return kind(
        hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=head_dim, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip


ARCHITECTURES: dict[str, Callable[[], PreTrainedConfig]] = {
    "qwen2": lambda: tiny_qwen(Qwen2Config, 8),
    "qwen3": lambda: tiny_qwen(Qwen3Config, 12),  # not hidden size / heads, as in the real ones
    "llama": tiny_llama,
    "gpt2": tiny_gpt2,
}


def random_model(folder: Path, name: str, tied: bool, spare: int = 0, **settings: object) -> Path:
    """As `make_folder`, but with Qwen's end of text: its tokenizer's class adds what is missing."""
    config = ARCHITECTURES[name]()
    config.update({"tie_word_embeddings": tied, **settings})
    make_folder(folder, config, spare)
    for file in (folder / "tokenizer.json", folder / "tokenizer_config.json"):
        file.write_text(file.read_text().replace('"<e>"', f'"{TEXT_END}"'))
    return folder


def edit_json(file: Path, **changes: object) -> None:
    """Change keys of a file; those that are None go."""
    content = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def tables(model: NumberLM) -> tuple[Tensor, Tensor]:
    """The weights of the input and of the output table."""
    backbone = model.backbone
    return backbone.get_input_embeddings().weight, backbone.get_output_embeddings().weight


def assert_tables(model: NumberLM, tied: bool, rows: int) -> None:
    read, write = tables(model)
    assert read.shape[0] == write.shape[0] == model.token_head.rows == rows
    assert (read is write) == torch.equal(read, write) == tied


def assert_same_weights(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), name


def assert_same_backbone(one: NumberLM, two: NumberLM) -> None:
    assert_same_weights(one.backbone.state_dict(), two.backbone.state_dict())


def refusal(folder: Path) -> str:
    """The one sentence that a folder is refused with."""
    with pytest.raises(ModelNotFoundError) as error:
        NumberLM.from_pretrained(folder)
    message = str(error.value)
    assert message.startswith(f"cannot load the model '{folder}' (from the folder): ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_learns_predicts_and_survives_an_export(
    tmp_path: Path, name: str, tied: bool
) -> None:
    model = NumberLM.from_pretrained(random_model(tmp_path / "model", name, tied))
    assert model.backbone.config.model_type == name
    rows = len(model.tokenizer.base) + 1
    assert_tables(model, tied, rows)
    losses = model.losses(batch_of(model, NUMBERS))
    assert losses.figures(1.0).isfinite().all()
    assert losses.value.count == 4
    losses.total(1.0).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        if parameter_name.startswith("backbone."):  # some of the heads start at zero
            assert parameter.grad.any(), parameter_name
    with torch.no_grad():  # as if all of it had learnt something
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    predictions = model.predict(NUMBERS)
    for prompt, prediction in zip(NUMBERS, predictions, strict=True):
        assert prediction.text.startswith(prompt)
        assert math.isfinite(prediction.value)
        assert prediction.low <= prediction.high
    model.eval().save_pretrained(tmp_path / "export")
    assert ("lm_head.weight" in load_file(tmp_path / "export" / "model.safetensors")) != tied
    again = NumberLM.from_pretrained(tmp_path / "export").eval()
    assert_tables(again, tied, rows)
    assert torch.equal(scores_of(again, NUMBERS), scores_of(model, NUMBERS))
    assert again.predict(NUMBERS) == predictions


@pytest.mark.parametrize(
    ("in_files", "in_config"),
    [
        (torch.bfloat16, "bfloat16"),
        (torch.float16, "float16"),
        (torch.float32, "float32"),
        (torch.float32, "bfloat16"),
        (torch.bfloat16, None),
    ],
)
def test_weights_are_float32_and_have_the_values_of_the_files(
    tmp_path: Path, in_files: torch.dtype, in_config: str | None
) -> None:
    folder = random_model(tmp_path, "llama", tied=False, spare=3, dtype=in_files)
    edit_json(folder / "config.json", dtype=in_config)
    stored = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {in_files}
    model = NumberLM.from_pretrained(folder)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    loaded = model.backbone.state_dict()
    for table in ("model.embed_tokens.weight", "lm_head.weight"):
        row = model.tokenizer.num_token_id  # the only one that is not the file's
        assert not torch.equal(loaded[table][row], stored[table][row].float())
        loaded[table][row] = stored[table][row]
    assert_same_weights(loaded, {name: tensor.float() for name, tensor in stored.items()})


def test_shards_are_the_same_model_and_a_missing_one_is_named(tmp_path: Path) -> None:
    whole = random_model(tmp_path / "whole", "qwen2", tied=False)
    parts = tmp_path / "parts"
    shutil.copytree(whole, parts, ignore=shutil.ignore_patterns("*.safetensors"))
    AutoModelForCausalLM.from_pretrained(whole).save_pretrained(parts, max_shard_size="20KB")
    shards = sorted(file.name for file in parts.glob("*.safetensors"))
    assert len(shards) >= 3
    assert shards[0] == f"model-00001-of-0000{len(shards)}.safetensors"  # and no whole one
    index = json.loads((parts / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == set(shards)
    assert_same_backbone(NumberLM.from_pretrained(whole), NumberLM.from_pretrained(parts))
    (parts / shards[1]).unlink()
    assert shards[1] in refusal(parts)


def break_weights(file: Path, how: str) -> None:
    if how == "half a download":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif how == "a Git LFS pointer":
        file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    else:
        weights = {name: tensor.clone() for name, tensor in load_file(file).items()}
        norm = weights.pop("model.norm.weight")
        if how == "a weight of another shape":
            weights["model.norm.weight"] = norm[:-1]
        save_file(weights, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    "how", ["half a download", "a Git LFS pointer", "a weight of another shape", "a weight less"]
)
def test_broken_weights_are_one_sentence(tmp_path: Path, how: str) -> None:
    folder = random_model(tmp_path, "llama", tied=False)
    break_weights(folder / "model.safetensors", how)
    assert ("model.norm.weight" in refusal(folder)) == how.startswith("a weight")


def test_a_path_may_begin_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    whole = NumberLM.from_pretrained(random_model(tmp_path / "models" / "mine", "qwen2", True))
    model = NumberLM.from_pretrained("~/models/mine")
    assert_same_backbone(model, whole)
    assert model.identity.backbone.name == model.identity.tokenizer.name == "mine"
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": NUMBERS[0]}) + "\n")
    data = NumberDataModule(
        "~/models/mine", predict_file=str(rows), num_samples=4, val_samples=2, eval_samples=2,
        noisy_samples=2, batch_size=4, eval_batch_size=2,
    )  # fmt: skip
    data.setup("fit")
    assert data.tokenizer.encode(NUMBERS[0]) == model.tokenizer.encode(NUMBERS[0])
    (piece,) = data.train_dataloader()
    assert model.losses(piece.batch).figures(1.0).isfinite().all()
    assert len(list(data.predict_dataloader())) == 1  # asks for the length of the context


HUB_NAME = "Qwen/Qwen2.5-0.5B"
LOAD_BY_NAME = """
import json, sys, torch
from numlm.checkpoint import ModelNotFoundError
from numlm.model import NumberLM
wanted, file, *others = sys.argv[1:]
model = NumberLM.from_pretrained(wanted)
torch.save([model.identity.backbone.name, model.backbone.state_dict()], file)
for name in others:
    try:
        NumberLM.from_pretrained(name)
    except ModelNotFoundError as error:
        print(json.dumps([name, str(error)]))
"""


def put_into_cache(folder: Path, name: str, home: Path) -> None:
    """What a download of a folder leaves: links, by revision, to files."""
    revision = "0123456789abcdef0123456789abcdef01234567"
    repository = home / "hub" / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / revision
    snapshot.mkdir(parents=True)
    shutil.copytree(folder, repository / "blobs")
    for file in (repository / "blobs").iterdir():
        (snapshot / file.name).symlink_to(Path("..", "..", "blobs", file.name))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)


def test_a_hub_name_is_found_in_the_cache_and_others_are_one_sentence(tmp_path: Path) -> None:
    folder, home = random_model(tmp_path / "model", "qwen2", tied=True), tmp_path / "home"
    put_into_cache(folder, HUB_NAME, home)
    half = shutil.copytree(folder, tmp_path / "half", ignore=shutil.ignore_patterns("model.*"))
    put_into_cache(half, "Qwen/half", home)
    others = ["Qwen/Qwen2.5-7B", "gpt2", "Qwen/half"]
    caches = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE")  # before HF_HOME
    done = subprocess.run(
        [sys.executable, "-c", LOAD_BY_NAME, HUB_NAME, str(tmp_path / "loaded.pt"), *others],
        cwd=ROOT, check=True, capture_output=True, text=True, timeout=300,
        env={
            **{key: value for key, value in os.environ.items() if key not in caches},
            "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(home),
        },
    )  # fmt: skip
    found, weights = torch.load(tmp_path / "loaded.pt")
    assert found == HUB_NAME
    assert_same_weights(weights, NumberLM.from_pretrained(folder).backbone.state_dict())
    refused = dict(json.loads(line) for line in done.stdout.splitlines())
    assert list(refused) == others
    for name, message in refused.items():
        where = "no folder of that name, and the hub did not give it"
        assert message.startswith(f"cannot load the model '{name}' ({where}): ")
        assert "\n" not in message


TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def instruct(tmp_path: Path) -> NumberLM:
    """A random model with what the folder of an Instruct model has beside the base's."""
    folder = random_model(tmp_path / "Tiny-Instruct", "qwen2", tied=False, spare=9)
    base = AutoTokenizer.from_pretrained(folder)
    base.add_tokens([TURN_START, TURN_END, CALL_END], special_tokens=True)
    base.eos_token, base.pad_token, base.chat_template = TURN_END, TEXT_END, TEMPLATE
    base.save_pretrained(folder)
    edit_json(
        folder / "generation_config.json",
        eos_token_id=base.convert_tokens_to_ids([TURN_END, TEXT_END, CALL_END]),
        pad_token_id=base.pad_token_id,
        **{"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8},
        repetition_penalty=1.1,
    )
    return NumberLM.from_pretrained(folder).eval()


def chat_prompt(model: NumberLM) -> str:
    messages = [{"role": "user", "content": "The lamp shows 42.5 volts. What does it show?"}]
    return model.tokenizer.base.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )


def test_an_instruct_model_keeps_its_tokens_template_and_ends(
    tmp_path: Path, instruct: NumberLM
) -> None:
    tokenizer, prompt = instruct.tokenizer, chat_prompt(instruct)
    start, turn_end, text_end, call_end = tokenizer.base.convert_tokens_to_ids(
        [TURN_START, TURN_END, TEXT_END, CALL_END]
    )
    assert instruct.end_token_ids == {turn_end, text_end, call_end}
    assert (tokenizer.end_token_id, tokenizer.pad_token_id) == (turn_end, text_end)
    num_id = tokenizer.num_token_id
    assert num_id == call_end + 1
    assert num_id not in tokenizer.base.get_vocab().values()
    assert_tables(instruct, tied=False, rows=num_id + 6)  # three of the nine became tokens
    ids = tokenizer.encode(prompt).input_ids
    assert [ids.count(token_id) for token_id in (start, turn_end, num_id)] == [2, 1, 1]
    (prediction,) = instruct.predict([prompt])
    assert prediction.text.startswith(prompt)
    assert math.isfinite(prediction.value)
    (written,) = instruct.generate_text([prompt], max_new_tokens=6)
    assert written.startswith(prompt)
    assert len(written) > len(prompt)
    # Greedy, whatever its files say of sampling.
    assert instruct.generate_text([prompt], max_new_tokens=6) == [written]
    instruct.save_pretrained(tmp_path / "export")
    again = NumberLM.from_pretrained(tmp_path / "export")
    assert again.end_token_ids == instruct.end_token_ids
    assert again.tokenizer.num_token_id == num_id
    assert chat_prompt(again) == prompt
    assert again.generate_text([prompt], max_new_tokens=6) == [written]


@pytest.mark.parametrize("token", [TURN_END, TEXT_END, CALL_END])
def test_each_of_several_end_tokens_ends_a_text(instruct: NumberLM, token: str) -> None:
    prompt = chat_prompt(instruct)
    assert instruct.generate_text([prompt], max_new_tokens=6) != [prompt]
    with torch.no_grad():  # the most probable token after the prompt is the one that ends
        latent = instruct(batch_of(instruct, [prompt]))
        token_id = instruct.tokenizer.base.convert_tokens_to_ids(token)
        tables(instruct)[1][token_id] = 10 * latent.loc[0, -1]
    assert instruct.generate_text([prompt], max_new_tokens=6) == [prompt]


@pytest.mark.parametrize("spare", [0, 1, 271])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_only_a_table_without_spare_rows_grows_and_by_one(
    tmp_path: Path, tied: bool, spare: int
) -> None:
    folder = random_model(tmp_path / "model", "qwen2", tied, spare)
    before = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    model = NumberLM.from_pretrained(folder)
    num_id = model.tokenizer.num_token_id
    assert num_id == len(model.tokenizer.base) == len(before) - spare
    rows = len(before) + (spare == 0)
    assert_tables(model, tied, rows)
    table = tables(model)[0]
    assert torch.equal(table[:num_id], before[:num_id])
    assert torch.equal(table[num_id + 1 :], before[num_id + 1 :])
    model.save_pretrained(tmp_path / "export")
    assert json.loads((tmp_path / "export" / "config.json").read_text())["vocab_size"] == rows
    assert_tables(NumberLM.from_pretrained(tmp_path / "export"), tied, rows)


def test_num_is_no_token_where_ids_have_gaps(tmp_path: Path) -> None:
    folder = random_model(tmp_path, "llama", tied=False, spare=9)
    content = json.loads((folder / "tokenizer.json").read_text())
    ids, added = content["model"]["vocab"], content["added_tokens"]
    ids[TURN_END] = last = max(ids.values()) + 2
    added.append({**added[0], "id": last, "content": TURN_END})
    edit_json(folder / "tokenizer.json", **content)
    base = AutoTokenizer.from_pretrained(folder)
    assert base(TURN_END)["input_ids"] == [len(base)]  # the number of tokens is one of them
    model = NumberLM.from_pretrained(folder)
    data = NumberDataModule(str(folder))
    assert model.tokenizer.num_token_id == data.tokenizer.num_token_id == last + 1
    assert_tables(model, tied=False, rows=len(base) - 1 + 9)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_eager_and_sdpa_attention_give_the_same_losses(tmp_path: Path, name: str) -> None:
    folder, figures = random_model(tmp_path, name, tied=True), []
    for attention in ("eager", "sdpa"):
        torch.manual_seed(0)  # some of the heads start at random
        model = NumberLM.from_pretrained(folder, attn_implementation=attention).eval()
        used = model.backbone.config._attn_implementation
        assert used == {"eager": "eager", "sdpa": PER_TEXT}[attention]
        figures.append(model.losses(batch_of(model, NUMBERS)).figures(1.0))
    torch.testing.assert_close(*figures, rtol=0, atol=1e-5)
