"""The whole model: `<NUM>`'s row, the start from the base model, exports, errors, predictions."""

import itertools
import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)

from numlm.batch import IGNORE, Batch, Record, collate
from numlm.checkpoint import ModelNotFoundError
from numlm.clock import encode
from numlm.heads import OneVsRestHead, SoftmaxHead, States, TokenHead
from numlm.layers import decoder_layers
from numlm.losses import made_loss, near_loss, value_crps, value_nll
from numlm.model import NumberLM
from numlm.number_head import NumberAnswer
from numlm.reading import WINDOW, TextNumbers
from tests.conftest import without_dropout

EMBEDDED = Path(__file__).resolve().parents[1] / "assets" / "tiny-qwen2"
NO_NUMBERS = ["The door was open all day.", "今天大家很安静。", "On 2025-06-08 at 12:30, <NUM>."]
NUMBERS = [
    "The red lamp shows 42.5 volts. So it is 42.5",
    "总之，电压是-3e-5，也就是-3e-5",
    "no number",
]


def batch_of(model: NumberLM, texts: list[str]) -> Batch:
    records = [Record.of(model.tokenizer.encode(text)) for text in texts]
    return collate(records, model.tokenizer.num_token_id, model.tokenizer.pad_token_id)


def scores_of(model: NumberLM, texts: list[str]) -> torch.Tensor:
    with torch.no_grad():
        return model.token_scores(model(batch_of(model, texts)).latent)


@pytest.fixture(scope="module")
def embedded() -> NumberLM:
    return without_dropout(NumberLM.from_pretrained(EMBEDDED))


def make_folder(folder: Path, config: PreTrainedConfig, spare_rows: int = 0) -> Path:
    """A tiny random model with a byte-level tokenizer of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=["<e>"]
    )
    tokenizer.train_from_iterator(NO_NUMBERS + NUMBERS, trainer)
    base = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<e>")
    base.save_pretrained(folder)
    config.vocab_size = len(base) + spare_rows
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def tiny_gpt2() -> PreTrainedConfig:
    return GPT2Config(
        n_embd=16, n_layer=1, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=0
    )


def tiny_llama(tied: bool = False) -> PreTrainedConfig:
    return LlamaConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        bos_token_id=0,
        eos_token_id=0,
    )


@pytest.mark.parametrize("head", [SoftmaxHead, OneVsRestHead])
def test_at_the_start_other_tokens_rank_as_in_the_base_model(head: type[TokenHead]) -> None:
    model = NumberLM.from_pretrained(EMBEDDED, token_head=head).eval()
    base = AutoModelForCausalLM.from_pretrained(EMBEDDED, dtype=torch.float32).eval()
    batch = batch_of(model, NO_NUMBERS)
    with torch.no_grad():
        logits = base(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    scores = scores_of(model, NO_NUMBERS)
    num_id = model.tokenizer.num_token_id
    others = [i for i in range(scores.shape[-1]) if i != num_id]
    real = batch.attention_mask.bool()
    ours, theirs = scores[real][:, others], logits[real][:, others]
    if head is SoftmaxHead:
        assert torch.equal(ours, theirs)
    # One-vs-rest rounds (loc - C) / scale: where it joins two scores, the order must not turn.
    order = theirs.argsort(dim=-1, stable=True)
    assert (ours.gather(-1, order).diff(dim=-1) >= 0).all()


def test_the_embedded_checkpoint_has_a_spare_row_and_keeps_its_table(embedded: NumberLM) -> None:
    rows = embedded.backbone.get_input_embeddings().weight.shape[0]
    config = json.loads((EMBEDDED / "config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED)
    assert embedded.tokenizer.num_token_id == len(tokenizer)
    assert config["vocab_size"] == rows > len(tokenizer)
    assert config["model_type"] == "qwen2"
    sizes = [file.stat().st_size for file in EMBEDDED.iterdir()]
    assert sum(sizes) < 6e6


def test_float32_in_training_mode_whatever_the_files_have(embedded: NumberLM) -> None:
    assert json.loads((EMBEDDED / "config.json").read_text())["dtype"] == "bfloat16"
    assert {p.dtype for p in embedded.parameters()} == {torch.float32}
    assert all(module.training for module in embedded.modules())


def test_num_starts_as_the_mean_row_and_is_read_as_a_digit(embedded: NumberLM) -> None:
    rows = embedded.backbone.get_input_embeddings().weight
    num_id = embedded.tokenizer.num_token_id
    torch.testing.assert_close(rows[num_id], rows[:num_id].mean(0))
    digits = [embedded.tokenizer.base(d)["input_ids"][0] for d in "0123456789"]
    torch.testing.assert_close(rows[num_id] + embedded.number_embedding.bias, rows[digits].mean(0))


@pytest.mark.parametrize(
    ("config", "spare", "rows_added"),
    [(tiny_gpt2(), 0, 1), (tiny_gpt2(), 5, 0), (tiny_llama(), 0, 1), (tiny_llama(True), 3, 0)],
    ids=["gpt2-full", "gpt2-spare", "llama-untied-full", "llama-tied-spare"],
)
def test_other_backbones_resize_only_where_no_row_is_spare(
    tmp_path: Path, config: PreTrainedConfig, spare: int, rows_added: int
) -> None:
    folder = make_folder(tmp_path, config, spare)
    before = AutoConfig.from_pretrained(folder).vocab_size
    model = NumberLM.from_pretrained(folder)
    weight = model.backbone.get_input_embeddings().weight
    assert weight.shape[0] == before + rows_added
    assert model.tokenizer.num_token_id < weight.shape[0]
    losses = model.losses(batch_of(model, NUMBERS))
    losses.total(1.0).backward()
    assert losses.value.count == 4
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    model.save_pretrained(tmp_path / "export")
    again = NumberLM.from_pretrained(tmp_path / "export")
    assert torch.equal(scores_of(model.eval(), NUMBERS), scores_of(again.eval(), NUMBERS))


@pytest.mark.parametrize("head", [SoftmaxHead, OneVsRestHead])
def test_an_export_gives_the_same_answers_and_its_backbone_loads_alone(
    tmp_path: Path, head: type[TokenHead]
) -> None:
    model = NumberLM.from_pretrained(EMBEDDED, token_head=head)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    model.eval().save_pretrained(tmp_path)
    again = NumberLM.from_pretrained(tmp_path).eval()
    assert type(again.token_head) is head
    assert torch.equal(scores_of(model, NUMBERS), scores_of(again, NUMBERS))
    assert model.predict(NUMBERS) == again.predict(NUMBERS)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = batch_of(model, NO_NUMBERS[:1]).input_ids
    with torch.no_grad():
        assert torch.equal(plain(ids).logits, model.backbone(ids).logits)
    assert not list(tmp_path.glob("*.bin"))


def test_labels_are_shifted_and_minus_100_takes_no_part(embedded: NumberLM) -> None:
    batch = batch_of(embedded, NUMBERS[:1])
    labels = torch.full_like(batch.labels, IGNORE)
    labels[0, 3] = batch.input_ids[0, 3]
    losses = embedded.losses(batch._replace(labels=labels))
    logits = scores_of(embedded, NUMBERS[:1])
    expected = torch.nn.functional.cross_entropy(logits[0, 2], batch.input_ids[0, 3])
    assert losses.token.count == 1
    torch.testing.assert_close(losses.token.mean, expected)
    assert losses.value.count == 0
    assert losses.total(1.0) == losses.token.mean


@torch.no_grad()
def test_the_number_loss_has_all_its_parts(embedded: NumberLM) -> None:
    """Of SEVERAL three numbers at least are no copies and have others before them."""
    batch = batch_of(embedded, [SEVERAL])
    answer = embedded.number_answer(embedded(batch), batch, embedded.slots(batch)[0])
    targets = answer.values  # every number is asked for once, in the text's order
    parts = [loss(answer, targets).sum() for loss in (value_crps, made_loss, near_loss)]
    assert all(part > 0 for part in parts)
    torch.testing.assert_close(embedded.losses(batch).value.sum, sum(parts))
    other = embedded.losses(batch, value_loss=value_nll).value.sum
    torch.testing.assert_close(other, value_nll(answer, targets).sum() + parts[1] + parts[2])


def test_padding_changes_nothing(embedded: NumberLM) -> None:
    together = embedded.losses(batch_of(embedded, NUMBERS))
    alone = [embedded.losses(batch_of(embedded, [text])) for text in NUMBERS]
    for term in ("token", "value", "pointer"):
        sums = torch.stack([getattr(losses, term).sum for losses in alone]).sum()
        torch.testing.assert_close(getattr(together, term).sum, sums, rtol=1e-4, atol=1e-3)
        assert getattr(together, term).count == sum(getattr(a, term).count for a in alone)


def test_a_batch_without_numbers_reaches_every_parameter(embedded: NumberLM) -> None:
    embedded.zero_grad()
    embedded.losses(batch_of(embedded, ["no number"])).total(1.0).backward()
    missing = [name for name, p in embedded.named_parameters() if p.grad is None]
    assert missing == []
    embedded.zero_grad()


def test_the_gate_weighs_numbers_by_their_probability(embedded: NumberLM) -> None:
    batch = batch_of(embedded, NUMBERS[:1])
    probability = scores_of(embedded, NUMBERS[:1])[0].softmax(-1)[
        :, embedded.tokenizer.num_token_id
    ]
    positions, _ = embedded.slots(batch)
    full, gated = embedded.losses(batch, 1.0), embedded.losses(batch, 0.25)
    torch.testing.assert_close(full.gated.sum, full.value.sum + full.pointer.sum)
    gate = 0.25 + 0.75 * probability[positions[0]].mean()
    # Both numbers have about the same probability, so that the mean gate must fit to a few percent.
    assert (gated.gated.sum / full.gated.sum).item() == pytest.approx(gate.item(), rel=0.1)


SEVERAL = (
    "We read 86 degrees for the green room, 5, 12.5 and then -3 near the old door by the garden. "
    "In the evening of that long day somebody wrote 7.25 and again 86 there."
)
PARTS = ("magnitude", "signed", "log_scale", "hands", "hand_scales")


SAME = {"rtol": 1e-5, "atol": 1e-6}  # a word may move an output by little more


def outputs_of(answer: NumberAnswer) -> dict[str, torch.Tensor]:
    """All that the number head says but for the pointer, under names."""
    return {"near_log_scale": answer.near_log_scale} | {
        f"{'made' if i else 'new'} {i} {name}": getattr(estimate, name)
        for i, estimate in enumerate(answer.estimates)
        for name in PARTS
    }


@pytest.fixture(scope="module")
def trained() -> NumberLM:
    """As if the number head had learnt something: what follows a number matters."""
    torch.manual_seed(0)
    model = NumberLM.from_pretrained(EMBEDDED).eval()
    with torch.no_grad():
        for parameter in model.number_head.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@torch.no_grad()
def text_numbers(
    model: NumberLM, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> tuple[States, TextNumbers]:
    """The states of a batch, and what the number head is given at its slots."""
    seen: list[TextNumbers] = []
    forward = model.number_head.forward

    def listen(states: States, numbers: TextNumbers) -> NumberAnswer:
        seen.append(numbers)
        return forward(states, numbers)

    with monkeypatch.context() as patch:
        patch.setattr(model.number_head, "forward", listen)
        states = model(batch)
        model.number_answer(states, batch, model.slots(batch)[0])
    return states, seen[0]


@torch.no_grad()
@pytest.mark.parametrize("packed", [True, False])
def test_what_the_last_layer_reads_is_the_state_before_it(trained: NumberLM, packed: bool) -> None:
    """As Transformers itself tells it; nothing stays behind in the layer."""
    texts = [SEVERAL, "It was 4, at 12 doors"] if packed else [SEVERAL]
    batch = batch_of(trained, texts)
    before = trained(batch).before
    for row, text in enumerate(texts):
        alone = batch_of(trained, [text])
        embeddings = trained.embed(alone.input_ids, alone.number_features)
        plain = trained.backbone.base_model(inputs_embeds=embeddings, output_hidden_states=True)
        length = alone.input_ids.shape[1]
        expected = plain.hidden_states[-2]
        torch.testing.assert_close(before[row : row + 1, :length], expected, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(plain.hidden_states[-1], expected, atol=0.1)
    with pytest.raises(AttributeError):
        trained.read(embeddings, attention_mask="no mask")
    (last_layer,) = decoder_layers(trained.backbone)[-1:]
    assert torch.equal(trained(batch).before, before)
    assert len(last_layer._forward_pre_hooks) == 0


def test_a_backbone_without_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="Linear has no layers that Transformers knows"):
        NumberLM(torch.nn.Linear(2, 2), None, None, None)


def test_a_window_ends_at_the_next_number_the_end_of_the_text_and_padding(
    trained: NumberLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [SEVERAL, "It was 4, at 12 doors", "No number here", "7 and 8 9", "总之，电压是-3e-5"]
    batch = batch_of(trained, texts)
    states, numbers = text_numbers(trained, batch, monkeypatch)
    num_id, lengths = trained.tokenizer.num_token_id, set()
    for row, text in enumerate(texts):
        ids = trained.tokenizer.encode(text).input_ids
        places = [i for i, token in enumerate(ids) if token == num_id]
        for k, (place, end) in enumerate(itertools.pairwise([*places, len(ids)])):
            length = min(end - place - 1, WINDOW)
            lengths.add(length)
            assert numbers.follows[row, k].tolist() == [w < length for w in range(WINDOW)]
            found = numbers.following[row, k, :length]
            assert torch.equal(found, states.before[row, place + 1 : place + 1 + length])
            assert torch.equal(numbers.states[row, k], states.before[row, place])
    assert WINDOW == 8
    assert {0, 1, 2, WINDOW} <= lengths, "the texts must have windows of all kinds"


def with_tokens(
    model: NumberLM, batch: Batch, start: int, ids: list[int], values: list[float]
) -> Batch:
    """One text with other tokens from a position on, `<NUM>` among them with their values."""
    input_ids, features = batch.input_ids.clone(), batch.number_features.clone()
    number_values = batch.number_values.clone()
    input_ids[0, start:], number_values[0, start:] = torch.tensor(ids), torch.tensor(values)
    is_number = input_ids[0] == model.tokenizer.num_token_id
    features[0, start:] = 0
    places = is_number.nonzero()[:, 0]
    features[0, places] = encode(number_values[0, places])
    return batch._replace(
        input_ids=input_ids,
        number_features=features,
        number_bits=number_values.view(torch.int64),
        labels=input_ids,
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_an_answer_does_not_see_its_number_or_what_stands_after_it(
    trained: NumberLM, seed: int
) -> None:
    """The number asked for has another value, and after it stand other words and numbers."""
    generator = torch.Generator().manual_seed(seed)
    num_id, batch = trained.tokenizer.num_token_id, batch_of(trained, [SEVERAL])
    slots = trained.slots(batch)[0][0].tolist()
    assert len(slots) == 6
    for slot in slots:
        left = batch.input_ids.shape[1] - slot - 2
        random = torch.randint(100, 1000, (left,), generator=generator)
        random[torch.rand(left, generator=generator) < 0.3] = num_id
        ids = [num_id, *random.tolist()]
        values = [1234.5 * (i + 1) if token == num_id else 0.0 for i, token in enumerate(ids)]
        other = with_tokens(trained, batch, slot + 1, ids, values)
        at = torch.tensor([[slot]])
        with torch.no_grad():
            mine, theirs = (trained.number_answer(trained(b), b, at) for b in (batch, other))
        known = int((batch.input_ids[0, : slot + 1] == num_id).sum())
        others = outputs_of(theirs)
        for name, one in outputs_of(mine).items():
            torch.testing.assert_close(one, others[name], **SAME, msg=f"{slot} {name}")
        share, other_share = mine.pointer[0, 0].exp(), theirs.pointer[0, 0].exp()
        assert torch.equal(mine.values[0, :known], theirs.values[0, :known])
        own = len(mine.estimates)
        assert own > 1, "sums and products are among what is compared"
        for first in (own, own + mine.values.shape[1]):  # copies, neighbourhoods
            second = first if first == own else own + theirs.values.shape[1]
            torch.testing.assert_close(
                share[first : first + known], other_share[second : second + known],
                **SAME,
            )  # fmt: skip
        torch.testing.assert_close(share[:own], other_share[:own], **SAME)


def test_an_answer_sees_every_number_and_word_before_it(trained: NumberLM) -> None:
    """The counterpart of the test above: what is compared there does change."""
    num_id, batch = trained.tokenizer.num_token_id, batch_of(trained, [SEVERAL])
    slot = trained.slots(batch)[0][0, -1].item()
    ids, values = batch.input_ids[0].tolist(), batch.number_values[0].tolist()
    places = [i for i, token in enumerate(ids) if token == num_id]
    at = torch.tensor([[slot]])
    with torch.no_grad():
        mine = trained.number_answer(trained(batch), batch, at)
        for place in (places[0], places[0] + 1, places[3] + 2, slot):
            changed_ids, changed_values = list(ids), list(values)
            if place in places:
                changed_values[place] = 1e4
            else:
                changed_ids[place] = 500
            other = with_tokens(trained, batch, 0, changed_ids, changed_values)
            theirs = trained.number_answer(trained(other), other, at)
            others = outputs_of(theirs) | {"pointer": theirs.pointer}
            for name, one in (outputs_of(mine) | {"pointer": mine.pointer}).items():
                if name.startswith("made"):  # which moves little
                    assert not torch.equal(one, others[name]), (place, name)
                else:
                    assert not torch.allclose(one, others[name], **SAME), (place, name)


def test_the_answer_after_a_text_does_not_depend_on_padding(trained: NumberLM) -> None:
    """The window of the last number ends where padding begins."""
    text = "We read 86 degrees for the green room and 5 for it"
    alone, padded = batch_of(trained, [text]), batch_of(trained, [text, SEVERAL])
    last = alone.input_ids.shape[1] - 1
    assert padded.input_ids.shape[1] > last + WINDOW
    with torch.no_grad():
        mine = trained.number_answer(trained(alone), alone, torch.tensor([[last]])).mixture()
        theirs = trained.number_answer(
            trained(padded), padded, torch.tensor([[last], [0]])
        ).mixture()
    torch.testing.assert_close(theirs.weights[:1, :2], mine.weights, rtol=1e-4, atol=1e-7)
    assert theirs.weights[0, 2:].tolist() == [0] * 4
    torch.testing.assert_close(theirs.loc[:1], mine.loc, rtol=1e-3, atol=0)
    torch.testing.assert_close(theirs.scale[:1], mine.scale, rtol=1e-3, atol=0)


def test_an_export_keeps_the_calibration(tmp_path: Path) -> None:
    model = NumberLM.from_pretrained(EMBEDDED)
    model.calibration.fit(torch.linspace(0.3, 1.0, 250, dtype=torch.float64))
    model.save_pretrained(tmp_path)
    again = NumberLM.from_pretrained(tmp_path)
    assert again.calibration.fitted
    assert torch.equal(again.calibration.levels, model.calibration.levels)
    assert again.calibration.levels.dtype == torch.float64
    source = torch.tensor([-1, 0, 3, -1])
    new = again.calibration.model_level(0.8)
    assert new == pytest.approx(0.3 + 0.7 * 200 / 249)  # the 201st of 250
    assert again.interval_level(source, 0.8).tolist() == pytest.approx([new, 0.8, 0.8, new])


def test_calibration_widens_the_interval_of_a_new_value(trained: NumberLM) -> None:
    prompt = "The door is at"  # with no number to copy
    before = trained.predict([prompt])[0]
    state = {name: t.clone() for name, t in trained.calibration.state_dict().items()}
    trained.calibration.fit(torch.full((99,), 0.9))
    after = trained.predict([prompt])[0]
    trained.calibration.load_state_dict(state)
    assert before.source is None
    assert (after.value, after.text) == (before.value, before.text)
    # a Cauchy's interval of level b is 2 s tan(pi b / 2) wide
    ratio = math.tan(math.pi * 0.45) / math.tan(math.pi * 0.4)
    assert (after.high - after.low) / (before.high - before.low) == pytest.approx(ratio, rel=1e-6)


def test_predictions_have_a_text_an_interval_and_a_source(embedded: NumberLM) -> None:
    english, chinese = embedded.predict(
        ["The red lamp shows 42.5 volts. So it is", "总之，电压是7，它是"]
    )
    assert english.text.startswith("The red lamp shows 42.5 volts. So it is")
    assert english.low <= english.high
    assert 0 <= english.p_number <= 1
    assert english.source in (0, None)
    if chinese.source == 0:
        assert chinese.value == 7.0
    with pytest.raises(ValueError, match="prompt 0 is empty"):
        embedded.predict([""])


@pytest.mark.parametrize(
    ("removed", "named"),
    [
        ("config.json", "no configuration (config.json)"),
        ("tokenizer.json", "no tokenizer (tokenizer.json)"),
        ("model.safetensors", "no weights (*.safetensors)"),
    ],
)
def test_an_incomplete_folder_is_named_with_what_it_lacks(
    tmp_path: Path, removed: str, named: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(EMBEDDED, folder)
    (folder / removed).unlink()
    with pytest.raises(ModelNotFoundError) as error:
        NumberLM.from_pretrained(folder)
    assert str(folder) in str(error.value)
    assert named in str(error.value)
    assert "hf download" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", ["/nowhere/model", "~/nowhere-at-all", "./nowhere", "a/b/c"])
def test_a_missing_folder_is_one_sentence(path: str) -> None:
    with pytest.raises(ModelNotFoundError, match="no model folder at") as error:
        NumberLM.from_pretrained(path)
    assert path in str(error.value)


def test_a_broken_configuration_is_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(EMBEDDED, folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelNotFoundError) as error:
        NumberLM.from_pretrained(folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_the_shape_of_qwen(qwen_folder: Path) -> None:
    """Ids, `<NUM>` = 151665, no resize, and the base model's ranking, at full vocabulary."""
    layers = ["full_attention"] * 2
    config = AutoConfig.from_pretrained(qwen_folder, num_hidden_layers=2, layer_types=layers)
    folder = qwen_folder.parent / "two-layers"
    if not folder.exists():
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
        AutoTokenizer.from_pretrained(qwen_folder).save_pretrained(folder)
    model = NumberLM.from_pretrained(folder).eval()
    assert len(model.tokenizer.base) == 151665
    assert model.tokenizer.num_token_id == 151665
    assert model.backbone.get_input_embeddings().weight.shape == (151936, 896)
    assert (
        model.backbone.get_output_embeddings().weight
        is model.backbone.get_input_embeddings().weight
    )
    for text in NO_NUMBERS:
        assert model.tokenizer.encode(text).input_ids == model.tokenizer.base(text)["input_ids"]
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    batch = batch_of(model, NO_NUMBERS)
    with torch.no_grad():
        logits = base(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    others = torch.arange(151936) != 151665
    real = batch.attention_mask.bool()
    assert torch.equal(scores_of(model, NO_NUMBERS)[real][:, others], logits[real][:, others])
    assert model.losses(batch_of(model, NUMBERS)).total(1.0).isfinite()
