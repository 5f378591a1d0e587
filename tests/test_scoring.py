"""Rows of evaluation texts on the embedded model, against Hugging Face's own at the same weights."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from numlm.batch import Batch, Record, collate
from numlm.distributions import ValueMixture
from numlm.heads import OneVsRestHead
from numlm.metrics import column, take_records
from numlm.model import NumberLM
from numlm.scoring import COLUMNS, Scores, score_batch

EMBEDDED = Path(__file__).resolve().parents[1] / "assets" / "tiny-qwen2"
PLAIN = ["The door was open all day.", "今天大家很安静。"]
NUMBERS = [
    "The red lamp shows 42.5 volts, the blue one 7. So the red lamp is at 42.5 volts.",
    "总之，电压是-3e-5，也就是-3e-5",
    "From 100 to 250, and then 975",
]
ANSWERS = [(0, 2), (0, 1), (0, 1, 2)]
TEXTS, ASKED = [*PLAIN, *NUMBERS], [(), (), *ANSWERS]
STATES_OF_TEXT = ("record", "position", "rank", "truth", "source")


def _batch(
    model: NumberLM,
    texts: Sequence[str],
    answers: Sequence[tuple[int, ...]] | None = None,
    first_id: int = 0,
) -> Batch:
    answers = answers or [()] * len(texts)
    records = [
        Record.of(model.tokenizer.encode(text), asked, first_id + i)
        for i, (text, asked) in enumerate(zip(texts, answers, strict=True))
    ]
    return collate(records, model.tokenizer.num_token_id, model.tokenizer.pad_token_id)


@pytest.fixture(scope="module")
def model() -> NumberLM:
    return NumberLM.from_pretrained(EMBEDDED).eval()


@pytest.fixture(scope="module")
def eager() -> NumberLM:
    """Heads with other weights than at the start, and `<NUM>` said at about half the positions."""
    torch.manual_seed(1)
    model = NumberLM.from_pretrained(EMBEDDED).eval()
    with torch.no_grad():
        for parameter in model.number_head.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        model.number_head.pointer.alternative.bias.sub_(3.5)
    latent = model(_batch(model, TEXTS)).latent
    scores = model.token_scores(latent).detach()
    num_id = model.tokenizer.num_token_id
    real = _batch(model, TEXTS).attention_mask.bool()
    lead = (scores.amax(-1) - scores[..., num_id])[real]  # how far <NUM> is behind
    direction = latent.loc[real].mean(0)
    shift = lead.median() / direction.square().sum()
    with torch.no_grad():
        table = model.backbone.get_output_embeddings().weight
        table[num_id] += shift * direction
    return model


@pytest.fixture(scope="module")
def scored(eager: NumberLM) -> Scores:
    return score_batch(eager, _batch(eager, TEXTS, ASKED))


@pytest.fixture(scope="module")
def base() -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(EMBEDDED, dtype=torch.float32).eval()


def test_every_table_has_its_columns(scored: Scores) -> None:
    for rows, columns in zip(scored, COLUMNS, strict=True):
        assert rows.shape[1] == len(columns)
        assert rows.dtype == torch.float64
        assert len(rows) > 0
    assert scored.records[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_positions_are_all_that_have_a_next_token(eager: NumberLM, scored: Scores) -> None:
    lengths = [len(eager.tokenizer.encode(text).input_ids) - 1 for text in TEXTS]
    assert column(scored, "records", "positions").tolist() == lengths
    plain = [lengths[0], lengths[1], 0, 0, 0]
    assert column(scored, "records", "plain_tokens").tolist() == plain
    hits, missed = (
        column(scored, "records", name) for name in ("true_positives", "false_negatives")
    )
    assert (hits + missed).tolist() == [0, 0, 3, 2, 3]


def test_mistakes_are_those_that_are_counted(eager: NumberLM, scored: Scores) -> None:
    num_id = eager.tokenizer.num_token_id
    said, right = column(scored, "mistakes", "said"), column(scored, "mistakes", "right")
    assert torch.equal(said == num_id, right != num_id)
    records = scored.records[:, 0]
    for name, of_kind in (
        ("false_positives", said == num_id),
        ("false_negatives", right == num_id),
    ):
        rows = column(scored, "mistakes", "record")[of_kind]
        counted = [(rows == record).sum().item() for record in records]
        assert counted == column(scored, "records", name).tolist()
        assert sum(counted) > 0, "the case must have some"
    for record, position, _, token in scored.mistakes.int().tolist():
        ids = eager.tokenizer.encode(TEXTS[record]).input_ids
        assert ids[position + 1] == token


def test_decisions_are_those_of_the_scores(eager: NumberLM, scored: Scores) -> None:
    """One text after the other, with loops over its positions."""
    num_id = eager.tokenizer.num_token_id
    for record, text in enumerate(TEXTS):
        ids = eager.tokenizer.encode(text).input_ids
        scores = eager.token_scores(eager(_batch(eager, [text])))[0].detach()
        counts = dict.fromkeys(("true_positives", "false_positives", "false_negatives"), 0)
        for row, token in zip(scores[:-1].tolist(), ids[1:], strict=True):
            said = row[num_id] == max(row)
            counts["true_positives"] += said and token == num_id
            counts["false_positives"] += said and token != num_id
            counts["false_negatives"] += not said and token == num_id
        for name, count in counts.items():
            assert column(scored, "records", name)[record].item() == count, (text, name)


def test_plain_rows_are_of_texts_without_numbers_only(scored: Scores) -> None:
    positions = column(scored, "records", "positions")[:2].int().tolist()
    expected = [(record, i) for record, count in enumerate(positions) for i in range(count)]
    assert [tuple(row[:2]) for row in scored.plain.int().tolist()] == expected


def test_a_text_that_begins_with_a_number_has_one(model: NumberLM) -> None:
    """No position stands before it, so that no label is `<NUM>`, but the text is not plain."""
    scores = score_batch(model, _batch(model, ["42 doors were open.", PLAIN[0]]))
    assert set(column(scores, "plain", "record").tolist()) == {1.0}
    assert column(scores, "records", "plain_tokens")[0].item() == 0
    assert column(scores, "records", "plain_nll")[0].item() == 0


@torch.no_grad()
def _base_logits(base: PreTrainedModel, model: NumberLM, text: str) -> tuple[Tensor, Tensor]:
    """Logits (T - 1, V) of the base model and the next tokens (T - 1,)."""
    ids = torch.tensor([model.tokenizer.base(text)["input_ids"]])
    return base(input_ids=ids).logits[0, :-1], ids[0, 1:]


@torch.no_grad()
def test_the_likelihood_of_plain_text_starts_as_the_base_models(
    model: NumberLM, base: PreTrainedModel
) -> None:
    """`<NUM>`'s row alone is another one than the spare row it took."""
    nll = column(score_batch(model, _batch(model, PLAIN)), "records", "plain_nll").tolist()
    num_id = model.tokenizer.num_token_id
    for text, ours in zip(PLAIN, nll, strict=True):
        logits, ids = _base_logits(base, model, text)
        assert ours == pytest.approx(base_loss(base, model, text) * len(ids), rel=1e-3)
        logits[:, num_id] = model.token_scores(model(_batch(model, [text])).latent)[0, :-1, num_id]
        exact = torch.nn.functional.cross_entropy(logits.double(), ids, reduction="sum")
        assert ours == pytest.approx(exact.item(), rel=1e-6)


@torch.no_grad()
def base_loss(base: PreTrainedModel, model: NumberLM, text: str) -> float:
    """Hugging Face's own loss, in nats a token."""
    ids = torch.tensor([model.tokenizer.base(text)["input_ids"]])
    return base(input_ids=ids, labels=ids).loss.item()


def test_what_is_said_of_plain_text_starts_as_the_base_models_argmax(
    model: NumberLM, base: PreTrainedModel
) -> None:
    scores = score_batch(model, _batch(model, PLAIN))
    said = column(scores, "plain", "said").int()
    expected = torch.cat([_base_logits(base, model, text)[0].argmax(-1) for text in PLAIN])
    assert said.tolist() == expected.tolist()
    assert len(set(said.tolist())) > 3
    hits, false = (
        column(scores, "records", name).sum().item()
        for name in ("true_positives", "false_positives")
    )
    assert (hits, false) == (0, 0), "the mean row is never the most probable token"


def test_the_likelihood_under_one_vs_rest_is_that_of_its_normalised_decisions() -> None:
    torch.manual_seed(0)
    model = NumberLM.from_pretrained(EMBEDDED, token_head=OneVsRestHead).eval()
    nll = column(score_batch(model, _batch(model, PLAIN)), "records", "plain_nll")
    with torch.no_grad():
        scores = model.token_scores(model(_batch(model, PLAIN[:1])).latent)[0, :-1].double()
    p = 0.5 + torch.atan(scores) / torch.pi
    right = torch.tensor(model.tokenizer.encode(PLAIN[0]).input_ids)[1:]
    expected = -(p.gather(-1, right[:, None])[:, 0] / p.sum(-1)).log().sum().item()
    assert nll[0].item() == pytest.approx(expected, rel=1e-4)


def test_slots_are_the_numbers_that_are_asked_for(eager: NumberLM, scored: Scores) -> None:
    expected = []
    for record, (text, asked) in enumerate(zip(TEXTS, ASKED, strict=True)):
        encoding = eager.tokenizer.encode(text)
        places = [i for i, x in enumerate(encoding.input_ids) if x == eager.tokenizer.num_token_id]
        expected += [(record, places[k] - 1, encoding.numbers[k].value) for k in asked]
    found = [column(scored, "slots", name).tolist() for name in ("record", "position", "truth")]
    assert list(zip(*found, strict=True)) == expected
    assert found[2] == [42.5, 42.5, -3e-5, -3e-5, 100.0, 250.0, 975.0]


def test_slots_have_the_rank_and_probability_of_num(eager: NumberLM, scored: Scores) -> None:
    num_id = eager.tokenizer.num_token_id
    for row in range(len(scored.slots)):
        record, position = scored.slots[row, :2].int().tolist()
        scores = eager.token_scores(eager(_batch(eager, TEXTS[record : record + 1])))
        scores = scores[0, position].detach()
        rank = 1 + (scores > scores[num_id]).sum().item()
        assert column(scored, "slots", "rank")[row].item() == rank
        prob = scores.double().softmax(-1)[num_id].item()
        assert column(scored, "slots", "prob")[row].item() == pytest.approx(prob, rel=1e-4)


@torch.no_grad()
def _mixtures(model: NumberLM, copies: bool = True) -> list[ValueMixture]:
    """The distribution at each slot, from the text up to there alone."""
    mixtures = []
    for text, asked in zip(TEXTS, ASKED, strict=True):
        batch = _batch(model, [text])
        ids = batch.input_ids[0].tolist()
        places = [i for i, token in enumerate(ids) if token == model.tokenizer.num_token_id]
        for k in asked:
            cut = Batch(*(t[:, : places[k]] if t.dim() > 1 else t for t in batch))
            at = torch.tensor([[places[k] - 1]])
            mixtures.append(model.number_answer(model(cut), cut, at).mixture(copies=copies))
    return mixtures


def test_slots_are_those_of_the_distribution_after_the_text_so_far(
    eager: NumberLM, scored: Scores
) -> None:
    """What stands after the number takes no part in its answer."""
    names = ("median", "low", "high", "level", "crps", "source")
    found = torch.stack([column(scored, "slots", name) for name in names], dim=-1)
    truths = column(scored, "slots", "truth")
    for row, truth, mixture in zip(found, truths, _mixtures(eager), strict=True):
        median, source = mixture.point()
        low, high = mixture.quantile(0.1)[0], mixture.quantile(0.9)[0]
        level, crps = mixture.central_level(truth[None]), mixture.crps(truth[None])
        expected = torch.cat([median, low, high, level, crps, source.double()])
        torch.testing.assert_close(row, expected, rtol=2e-3, atol=1e-7)


def test_without_the_pointer_the_new_value_is_printed(eager: NumberLM, scored: Scores) -> None:
    printed = column(scored, "slots", "printed_without_pointer").tolist()
    for value, mixture in zip(printed, _mixtures(eager, copies=False), strict=True):
        assert abs(value - mixture.loc.item()) <= mixture.scale.item() * 1.01


def test_before_calibration_a_calibrated_level_is_the_level(scored: Scores) -> None:
    level, calibrated = (column(scored, "slots", name) for name in ("level", "calibrated_level"))
    new = column(scored, "slots", "source") < 0
    assert torch.equal(calibrated[~new], level[~new])
    assert ((level - calibrated)[new] >= 0).all()
    assert ((level - calibrated)[new] <= 0.01 + 1e-9).all()
    assert new.any()
    assert not new.all()


def test_calibration_moves_the_intervals_of_new_values_only(eager: NumberLM) -> None:
    batch = _batch(eager, TEXTS, ASKED)
    before = score_batch(eager, batch)
    state = {name: t.clone() for name, t in eager.calibration.state_dict().items()}
    eager.calibration.fit(torch.linspace(0.5, 0.9, 101, dtype=torch.float64))
    after = score_batch(eager, batch)
    level = eager.calibration.model_level(0.8)
    eager.calibration.load_state_dict(state)
    new = column(before, "slots", "source") < 0
    for name in COLUMNS.slots:
        one, other = column(before, "slots", name), column(after, "slots", name)
        if name not in ("low", "high", "calibrated_level"):
            assert torch.equal(one, other), name
        assert torch.equal(one[~new], other[~new]), name
    assert 0.8 < level < 0.83
    width = [column(s, "slots", "high") - column(s, "slots", "low") for s in (before, after)]
    assert (width[1] > width[0])[new].all()


@pytest.mark.parametrize("order", [[4, 0, 2, 1, 3], [3, 2], [1], [2, 4]])
def test_rows_do_not_depend_on_the_rest_of_the_batch(
    eager: NumberLM, scored: Scores, order: list[int]
) -> None:
    """Padding changes sums of products in their last digits only."""
    records = [Record.of(eager.tokenizer.encode(TEXTS[i]), ASKED[i], i) for i in order]
    batch = collate(records, eager.tokenizer.num_token_id, eager.tokenizer.pad_token_id)
    scores = score_batch(eager, batch)
    assert scores.records[:, 0].tolist() == order
    for i in order:
        one, other = take_records(scores, [i]), take_records(scored, [i])
        for name, a, b in zip(Scores._fields, one, other, strict=True):
            torch.testing.assert_close(a, b, rtol=2e-3, atol=1e-6, msg=lambda m, n=name: n + m)
        for name in STATES_OF_TEXT:
            assert torch.equal(column(one, "slots", name), column(other, "slots", name)), name
        assert torch.equal(one.plain, other.plain)
        assert torch.equal(one.mistakes, other.mistakes)


def test_rows_carry_the_ids_of_their_records(eager: NumberLM, scored: Scores) -> None:
    moved = score_batch(eager, _batch(eager, TEXTS, ASKED, first_id=70))
    for rows, others in zip(moved, scored, strict=True):
        assert torch.equal(rows[:, 0], others[:, 0] + 70)
        assert torch.equal(rows[:, 1:], others[:, 1:])


def test_a_batch_in_which_nothing_is_asked_has_no_slots(eager: NumberLM) -> None:
    scores = score_batch(eager, _batch(eager, TEXTS))
    assert scores.slots.shape == (0, len(COLUMNS.slots))
    assert len(scores.records) == len(TEXTS)
