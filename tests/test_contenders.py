"""The contenders of the arena: they learn, they answer, and their formulas are their papers'."""

import math
import struct
import sys
from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Cauchy
from torch.nn import functional

from benchmarks.contenders import rail
from benchmarks.contenders.ablations import ABLATIONS
from benchmarks.contenders.base import LEVELS, Contender, Text, ValueTokens, load
from benchmarks.contenders.bit_tokens import BitTokens, from_bits, to_bits
from benchmarks.contenders.digits import Digits
from benchmarks.contenders.exponent_tokens import ExponentTokens, Grammar
from benchmarks.contenders.fone import FoNE
from benchmarks.contenders.number_token_loss import NumberTokenLoss
from benchmarks.contenders.numlm_head import NumLM
from benchmarks.contenders.rail import Rail
from benchmarks.contenders.registry import DESCRIPTIONS, EVERY
from benchmarks.contenders.regression_head import RegressionHead
from benchmarks.contenders.seed_head import SeedHead
from benchmarks.contenders.xval import XVal
from numlm.parsing import find_numbers
from tests.conftest import EMBEDDED
from tests.test_requirements import declared, imported

FOLDER = str(EMBEDDED)
TEXTS = [
    Text("The red lamp shows 42.5 volts. In short, it is 42.5", (1,)),
    Text("From 3 to 15.25 metres, which is 3 or -8", (2, 3)),
    Text("12 + 30 = 42", (2,), whole=False),
    Text("mean of 0.5 , 1.5 = 1", (2,), whole=False),
]
PROMPTS = [
    "12 + 30 = ",
    "The red lamp shows 42.5 volts. In short, it is ",
    "今天甲号书的价格是3块，它是",
]
SAMPLING = {"exponent", "rail"}
STEPS = 15


class Trained(NamedTuple):
    name: str
    contender: Contender
    losses: list[float]


@pytest.fixture(scope="module", params=list(EVERY))
def trained(request: pytest.FixtureRequest) -> Iterator[Trained]:
    """A contender after a few steps on a few texts."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        contender = EVERY[request.param](FOLDER)
        contender.prepare(TEXTS)
        batch = contender.encode(TEXTS)
        optimizer = torch.optim.AdamW(contender.parameters(), lr=1e-3)
        losses = []
        for _ in range(STEPS + 1):
            loss = contender.train().loss(batch)
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        yield Trained(request.param, contender.eval(), losses)


def test_every_name_has_a_description() -> None:
    assert list(EVERY) == list(DESCRIPTIONS)


def test_the_extra_declares_what_contenders_import() -> None:
    assert "ntloss" in imported("benchmarks/contenders") <= declared("arena")


def test_the_loss_falls(trained: Trained) -> None:
    assert all(map(math.isfinite, trained.losses))
    assert trained.losses[-1] < 0.98 * trained.losses[0]


def test_a_prompt_has_one_answer_and_ascending_quantiles(trained: Trained) -> None:
    with torch.no_grad():
        answers = trained.contender.answer(PROMPTS)
    assert answers.values.shape == (len(PROMPTS),)
    assert answers.values.dtype == torch.float64
    assert not answers.values.isinf().any()
    if trained.name in SAMPLING:
        samples = answers.samples
        assert samples is not None
        assert samples.shape == (len(PROMPTS), 16)
        assert samples.dtype == torch.float64
        assert samples.isfinite().any(-1).equal(answers.values.isfinite())
    else:
        assert answers.samples is None
    if trained.name in {"numlm", "seed", *ABLATIONS}:
        quantiles = answers.quantiles
        assert quantiles is not None
        assert quantiles.shape == (len(PROMPTS), len(LEVELS))
        assert quantiles.dtype == torch.float64
        known = quantiles[answers.values.isfinite()]
        assert len(known)
        assert (known.diff() >= 0).all()
    else:
        assert answers.quantiles is None


def test_an_answer_does_not_hang_on_the_prompts_beside_it(trained: Trained) -> None:
    if trained.name in SAMPLING:
        pytest.skip("what is sampled hangs on the random numbers; see below")
    with torch.no_grad():
        together = trained.contender.answer(PROMPTS).values
        alone = torch.cat([trained.contender.answer([prompt]).values for prompt in PROMPTS])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5, equal_nan=True)


def test_digits_are_learned_from_where_they_are_asked_for() -> None:
    """The space before them is left to the model; without it in the loss it is soon forgotten."""
    contender = Digits(FOLDER)
    [(ids, start)] = contender.encode([Text("12 + 30 = 42", (2,), whole=False)])
    assert contender.base.decode(ids[start:]) == " 42<|endoftext|>"
    [(ids, start)] = contender.encode([Text("12 + 30 = 42", (2,))])
    assert start == 0


def test_added_parameters_are_those_beside_the_backbone(trained: Trained) -> None:
    own = len(list(load(FOLDER).parameters()))  # tables may have more rows
    added = {id(parameter) for parameter in trained.contender.added()}
    every = {id(parameter) for parameter in trained.contender.parameters()}
    assert added <= every
    assert len(every) - len(added) == own
    assert bool(added) == isinstance(trained.contender, ValueTokens | RegressionHead | NumLM)


def learned(contender: Contender, text: Text) -> tuple[list[int], int]:
    """Positions whose last hidden states the loss hangs on, and the number of positions."""
    states: list[Tensor] = []

    def keep(_: object, __: object, output: object) -> None:
        states.append(output.last_hidden_state)  # type: ignore[attr-defined]
        states[0].retain_grad()

    model = contender.model if isinstance(contender, RegressionHead) else contender.backbone
    handle = model.base_model.register_forward_hook(keep)
    contender.loss(contender.encode([text])).backward()
    handle.remove()
    gradient = states[0].grad
    assert gradient is not None
    return gradient[0].abs().sum(-1).nonzero()[:, 0].tolist(), gradient.shape[1]


@pytest.mark.parametrize("whole", [False, True])
def test_a_loss_is_taken_on_what_is_learned(trained: Trained, whole: bool) -> None:
    contender = trained.contender
    head, number, tail = "The red lamp shows 42.5 volts. It is ", "-7.25", " here."
    text = Text(head + number + tail, (1,), whole)

    def count(piece: str) -> int:
        return len(contender.base(piece)["input_ids"])

    if isinstance(contender, NumLM):  # its reading heads look back at the text
        table = contender.encode([text])[0]
        assert len(table.input_ids) - table.answer_start == (
            len(table.input_ids) if whole else 1 + count(tail) + 1
        )
        return
    positions, length = learned(contender, text)
    contender.zero_grad()
    if isinstance(contender, RegressionHead):
        assert (positions, length) == ([count(head) - 1], count(head))
        return
    as_digits = isinstance(contender, Digits) and not isinstance(contender, ExponentTokens)
    tokens = count(number) if as_digits else int(contender.number_tokens([text]))
    labels = tokens + count(tail) + 1  # and the end of the text
    assert positions == list(range(0 if whole else length - 1 - labels, length - 1))


# --- number token loss ---


def test_the_number_token_loss_is_a_wasserstein_distance() -> None:
    """Against the areas between distribution functions, on labelled digits alone."""
    contender = NumberTokenLoss(FOLDER, weight=0.15)
    batch = contender.encode([TEXTS[0], TEXTS[2]])
    logits, labels = contender.logits(batch)
    ids = contender.base.convert_tokens_to_ids(list("0123456789"))
    distances = []
    for scores, label in zip(logits, labels.tolist(), strict=True):
        if label in ids:
            predicted = scores[ids].softmax(-1).cumsum(-1)
            truth = (torch.arange(10) >= ids.index(label)).float()
            distances.append((predicted - truth).abs().sum())
    assert len(distances) == len("425425" + "42")  # of the second text only the answer
    expected = Digits.loss(contender, batch) + 0.15 * torch.stack(distances).mean()
    torch.testing.assert_close(contender.loss(batch), expected)


def test_the_label_4_is_nearer_to_3_than_to_9() -> None:
    """The example of the paper's page: where cross-entropy is the same, the distance is not."""
    contender = NumberTokenLoss(FOLDER)
    ids = contender.base.convert_tokens_to_ids(list("0123456789"))
    certain = torch.full((3, 1, contender.backbone.config.vocab_size), -100.0)
    for row, digit in enumerate((3, 9, 4)):
        certain[row, 0, ids[digit]] = 100.0
    label = torch.full((3, 1), ids[4])
    assert contender.distance(certain, label, reduction="none")[:, 0].tolist() == [1.0, 5.0, 0.0]


def test_the_number_token_loss_leaves_the_tokenizer_alone() -> None:
    contender = NumberTokenLoss(FOLDER)
    assert contender.base.added_tokens_decoder == Digits(FOLDER).base.added_tokens_decoder


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "ntloss"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(
        ModuleNotFoundError, match=r"needs the package ntloss: pip install .*arena"
    ):
        NumberTokenLoss(FOLDER)


# --- xVal ---


def test_xval_scales_all_training_values_to_5() -> None:
    contender = XVal(FOLDER)
    contender.prepare([Text("From -80 to 20, it is 40", (2,)), Text("0.5 is 1e1", (1,))])
    assert contender.unit == 16.0
    row = torch.randn(contender.hidden_size)
    values = torch.tensor([-80.0, 40.0, 0.0, 160.0], dtype=torch.float64)
    factors = torch.tensor([-5.0, 2.5, 0.0, 10.0])[:, None]
    torch.testing.assert_close(contender.embed(values, row), factors * row)


def test_xval_learns_and_says_the_same_scale() -> None:
    contender = XVal(FOLDER)
    contender.prepare([Text("It is 1000", (0,))])
    hidden = torch.randn(4, contender.hidden_size)
    values = torch.tensor([7.0, -1000.0, 0.0, 0.25], dtype=torch.float64)
    said = contender.say(hidden).values
    torch.testing.assert_close(
        contender.value_loss(hidden, values), ((said - values) / 200).square().float()
    )
    with pytest.raises(ValueError, match="no training text has a number but zero"):
        contender.prepare([Text("It is 0", (0,)), Text("nothing", ())])


# --- FoNE ---


@pytest.fixture(scope="module")
def fone() -> FoNE:
    return FoNE(FOLDER, whole=7, decimals=5)


def doubles(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_fone_example_of_the_paper() -> None:
    """Example 3.5: from the circles of 4.17 its rests 0.07, 0.17 and 4.17 can be read."""
    points = FoNE(FOLDER, whole=1, decimals=2).circles(doubles(4.17))[0]
    turns = torch.atan2(points[:, 1], points[:, 0]) / (2 * math.pi) % 1
    rests = turns * torch.tensor([0.1, 1.0, 10.0])
    torch.testing.assert_close(rests, torch.tensor([0.07, 0.17, 4.17]))


@settings(max_examples=200, deadline=None)
@given(st.decimals(0, "9999999.99999", places=5))
def test_fone_reads_back_what_it_encodes(fone: FoNE, written: Decimal) -> None:
    """From the circles alone: lower digits are what a digit's circle shows beyond it."""
    value = doubles(float(written))
    points = fone.circles(value)[0].double()
    turns = torch.atan2(points[:, 1], points[:, 0]) / (2 * math.pi) % 1
    digits, below = [], 0.0
    for turn in turns.tolist():
        digits.append(round(10 * turn - below) % 10)
        below = (digits[-1] + below) / 10
    assert fone.digits(value)[0].tolist() == digits
    assert fone.value(torch.tensor([digits])).item() == float(written)


@pytest.mark.parametrize("value", [0.0, 18.0, 82.0, -3.5, 9999999.99999, -0.00001, 1234567.12345])
def test_fone_says_the_digits_that_the_hidden_state_points_at(fone: FoNE, value: float) -> None:
    """Definition 3.7; 82 is the answer of the paper's figure 2."""
    hidden = torch.zeros(1, fone.hidden_size)
    hidden[:, : 2 * fone.count] = fone.directions[fone.digits(doubles(value))].flatten(1)
    hidden[:, -1] = -1.0 if value < 0 else 1.0
    with torch.no_grad():
        fone.sign.weight.zero_()
        fone.sign.weight[0, -1] = -1.0
        fone.sign.bias.zero_()
    assert fone.say(hidden).values.item() == value


@pytest.mark.parametrize(
    ("text", "decimals"),
    [("12 + 30 = 42", 0), ("1.5 and 2e3", 1), ("0.00042 of 10", 5), ("1e-9 is little", 7)],
)
def test_fone_has_the_decimals_of_the_texts(text: str, decimals: int) -> None:
    contender = FoNE(FOLDER)
    contender.prepare([Text(text, ())])
    assert (contender.decimals, contender.count) == (decimals, 8 + decimals)


def test_fone_loss_by_its_definition(fone: FoNE) -> None:
    """Definition 3.6 in plain Python, with the sign as a further digit."""
    hidden = torch.randn(1, fone.hidden_size)
    total = functional.softplus(fone.sign(hidden)[0, 0]).item()  # of a positive number
    for place, digit in enumerate(reversed("0000042" + "17030")):
        a, b = hidden[0, 2 * place : 2 * place + 2].tolist()
        scores = [a * math.cos(math.pi * j / 5) + b * math.sin(math.pi * j / 5) for j in range(10)]
        total += math.log(sum(map(math.exp, scores))) - scores[int(digit)]
    loss = fone.value_loss(hidden, doubles(42.1703)).item()
    assert loss == pytest.approx(total / 13, rel=1e-5)


def test_fone_beyond_its_digits(fone: FoNE) -> None:
    values = doubles(12345678.9, 1e-7, 9999999.999999, 1e300, 0.000007)
    read = fone.value(fone.digits(values)).tolist()
    assert read[:3] == [2345678.9, 0.0, 0.0]
    assert read[4] == 0.00001
    assert 0 <= read[3] < 1e7
    with pytest.raises(ValueError, match="10 and 6 digits are not 1 to 15 together"):
        FoNE(FOLDER, whole=10, decimals=6)


def test_fone_pads_with_zeros_and_tells_signs_apart(fone: FoNE) -> None:
    row = torch.randn(fone.hidden_size)
    one, other = fone.embed(doubles(18.25, -18.25), row) - row
    size = 2 * fone.count
    assert one[size + 1 :].abs().max() == 0
    torch.testing.assert_close(one[:size], other[:size])
    torch.testing.assert_close(torch.stack([one, other])[:, size], torch.tensor([1.0, -1.0]))


# --- BitTokens ---


@settings(max_examples=300, deadline=None)
@given(st.floats(allow_nan=False))
def test_bits_are_those_of_ieee_754_and_read_back(value: float) -> None:
    bits = to_bits(doubles(value))
    whole = int.from_bytes(struct.pack(">d", value), "big")
    assert "".join(map(str, bits[0].tolist())) == f"{whole:064b}"
    assert struct.pack(">d", from_bits(bits).item()) == struct.pack(">d", value)


@pytest.mark.parametrize("value", [0.0, -6.25, 1e-300, -1e300, 42.57, 5e-324])
def test_bits_make_the_value_of_the_paper_formula(value: float) -> None:
    """(-1)^s (1 + sum of b_(52-i) 2^-i) 2^(E-1023), of section 5; below it no leading one."""
    sign, *rest = to_bits(doubles(value))[0].tolist()
    exponent = int("".join(map(str, rest[:11])), 2)
    fraction = sum(bit * 2.0**-i for i, bit in enumerate(rest[11:], 1))
    leading, power = (1, exponent - 1023) if exponent else (0, -1022)
    assert (-1) ** sign * math.ldexp(leading + fraction, power) == value


def test_bit_tokens_say_nothing_where_bits_are_no_number() -> None:
    contender = BitTokens(FOLDER)
    values = doubles(42.57, -1e-300, math.inf, math.nan, 0.0)
    hidden = functional.pad(2.0 * to_bits(values) - 1, (0, contender.hidden_size - 64))
    with torch.no_grad():
        contender.writer.weight.copy_(torch.eye(64, contender.hidden_size))
        contender.writer.bias.zero_()
    said = contender.say(hidden).values.tolist()
    assert said[:2] == [42.57, -1e-300]
    assert [math.isnan(value) for value in said[2:]] == [True, True, False]
    expected = functional.softplus(torch.tensor(-1.0)).expand(5)  # every bit is right, by 1
    torch.testing.assert_close(contender.value_loss(hidden, values), expected)


# --- exponent tokens ---


def spelled(grammar: Grammar, value: float) -> str:
    tokens = grammar.tokens(value)
    return "".join("+-0123456789"[t] for t in tokens[:-1]) + f"E{tokens[-1] - 12 - grammar.reach}"


@pytest.mark.parametrize(
    ("digits", "value", "tokens"),
    [
        (3, 72.5, "+725E-1"),  # OmniPred, table 2
        (8, 42.57, "+42570000E-6"),
        (8, -0.00001, "-10000000E-12"),
        (4, 0.99999, "+1000E-3"),
        (4, 0.0, "+0000E0"),
        (4, 1e300, "+9999E20"),
        (4, -1e-300, "-0000E0"),
    ],
)
def test_spelling(digits: int, value: float, tokens: str) -> None:
    assert spelled(Grammar(digits), value) == tokens


@settings(max_examples=300, deadline=None)
@given(st.floats(-1e20, 1e20).filter(lambda value: value == 0 or abs(value) > 1e-12))
def test_a_spelling_reads_back_to_its_digits(value: float) -> None:
    grammar = Grammar(digits=8)
    tokens = grammar.tokens(value)
    assert grammar.value(tokens) == float(f"{value:.7e}")
    assert len(tokens) == grammar.length
    assert all(token in grammar.allowed(place) for place, token in enumerate(tokens))


def test_numbers_are_spelled_in_rows_of_their_own() -> None:
    contender = ExponentTokens(FOLDER, digits=2)
    [(ids, start)] = contender.encode([Text("It is 42 or -0.5", (1,), whole=False)])
    first = contender.first
    assert [i - first for i in ids if i >= first] == [0, 6, 4, 32, 1, 7, 2, 30]
    assert ids[start:] == [
        first + 1,
        first + 7,
        first + 2,
        first + 30,
        contender.base.eos_token_id,
    ]
    table, before = contender.backbone.get_input_embeddings().weight, load(FOLDER)
    assert len(table) == first + contender.grammar.size
    known = contender.base.convert_tokens_to_ids(list("+-0123456789"))
    assert torch.equal(table[first : first + 12], before.get_input_embeddings().weight[known])


@torch.no_grad()
def test_the_cache_and_the_padding_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the most probable token drawn each time, against the whole text read anew."""
    contender = ExponentTokens(FOLDER, digits=3, samples=2).eval()
    monkeypatch.setattr(Tensor, "multinomial", lambda chances, _: chances.argmax(-1, keepdim=True))
    said = contender.answer(PROMPTS)
    for value, prompt in zip(said.values.tolist(), PROMPTS, strict=True):
        answer = len(list(find_numbers(prompt)))
        [(ids, start)] = contender.encode([Text(f"{prompt}42", (answer,), whole=False)])
        ids, tokens = ids[:start], list[int]()  # up to where an answer is learned
        for place in range(contender.grammar.length):
            seen = torch.tensor([[*ids, *(contender.first + token for token in tokens)]])
            scores = contender.backbone(seen, use_cache=False).logits[0, -1, contender.first :]
            tokens.append(max(contender.grammar.allowed(place), key=scores.tolist().__getitem__))
        assert contender.grammar.value(tokens) == value
    assert said.samples is not None
    assert torch.equal(said.samples, said.values[:, None].expand(-1, 2))


# --- RAIL ---


def test_rail_means_the_samples_that_are_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = iter([[1.0, None, 5.0], [2.0, None, None], [6.0, None, 7.0]])
    monkeypatch.setattr(rail, "DigitWriter", lambda *_, **__: lambda _: next(rows))
    answers = Rail(FOLDER, samples=3).answer(["a", "b", "c"])
    torch.testing.assert_close(answers.values, doubles(3.0, math.nan, 6.0), equal_nan=True)
    assert answers.samples is not None
    expected = doubles(1.0, 2.0, 6.0, math.nan, math.nan, math.nan, 5.0, math.nan, 7.0)
    torch.testing.assert_close(answers.samples, expected.view(3, 3), equal_nan=True)


@torch.no_grad()
def test_rail_samples_the_whole_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    contender = Rail(FOLDER, samples=2).eval()
    asked = []
    generate = contender.backbone.generate
    monkeypatch.setattr(
        contender.backbone,
        "generate",
        lambda **options: asked.append(options) or generate(**options),
    )
    contender.answer(PROMPTS[:1])
    kept = ("do_sample", "temperature", "top_k", "top_p", "repetition_penalty")
    assert [[options[name] for name in kept] for options in asked] == [
        [True, 1.0, 0, 1.0, 1.0]
    ] * 2


# --- regression head ---


@torch.no_grad()
def test_every_answer_is_an_example_of_the_regression_head() -> None:
    """Its loss is Hugging Face's own, over the prompts of all answers."""
    contender = RegressionHead(FOLDER).eval()
    examples = [
        ("The red lamp shows 42.5 volts. In short, it is ", 42.5),
        ("From 3 to 15.25 metres, which is ", 3.0),
        ("From 3 to 15.25 metres, which is 3 or ", -8.0),
        ("12 + 30 = ", 42.0),
        ("mean of 0.5 , 1.5 = ", 1.0),
    ]
    prompts, values = zip(*examples, strict=True)
    inputs = contender.base(list(prompts), padding=True, padding_side="right", return_tensors="pt")
    contender.model.config.pad_token_id = contender.base.pad_token_id
    own = contender.model(**inputs, labels=torch.tensor(values), use_cache=False)
    torch.testing.assert_close(contender.loss(contender.encode(TEXTS)), own.loss)
    torch.testing.assert_close(contender.answer(prompts).values, own.logits[:, 0].double())


def test_prompts_that_continue_one_another_are_read_once() -> None:
    """A sign and the space before it are one token, which the prompt that ends there lacks."""
    contender = RegressionHead(FOLDER)
    text = Text("It was 3, then 4, then -5, then 6", (1, 2, 3))
    (rows,) = contender.encode([text])
    assert [row.values for row in rows] == [[4.0, -5.0], [6.0]]
    assert [contender.base.decode(row.ids) for row in rows] == [
        "It was 3, then 4, then ",
        "It was 3, then 4, then -5, then ",
    ]
    with pytest.raises(ValueError, match="needs text before"):
        contender.answer([""])


# --- the seed's head ---


@torch.no_grad()
def test_the_seed_head_is_a_cauchy_variable_linear_in_cauchy_causes() -> None:
    contender = SeedHead(FOLDER)
    torch.nn.init.normal_(contender.scale.weight, std=0.05)
    hidden = torch.randn(2, contender.hidden_size)
    values = doubles(3.5, -1e6)
    value = Cauchy(*contender.distribution(hidden))
    torch.testing.assert_close(
        contender.value_loss(hidden, values), -value.log_prob(values.float())
    )
    cause = Cauchy(contender.loc(hidden), functional.softplus(contender.scale(hidden)))
    drawn = contender.action(cause.sample(torch.Size([20_000])))[..., 0]
    shares = torch.stack(
        [(drawn <= value.icdf(torch.tensor(level))).float().mean(0) for level in (0.25, 0.5, 0.75)]
    )
    torch.testing.assert_close(
        shares, torch.tensor([[0.25] * 2, [0.5] * 2, [0.75] * 2]), atol=0.015, rtol=0
    )
    answers = contender.say(hidden)
    assert answers.quantiles is not None
    torch.testing.assert_close(answers.values, value.loc.double())
    expected = value.icdf(torch.tensor(LEVELS)[:, None]).T.double()
    torch.testing.assert_close(answers.quantiles, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_seed_head_starts_as_the_identity() -> None:
    contender = SeedHead(FOLDER)
    hidden = torch.randn(3, contender.hidden_size)
    loc, scale = contender.distribution(hidden)
    torch.testing.assert_close(loc, contender.action(hidden)[:, 0])
    start = math.log1p(math.e) * contender.action.weight.abs().sum()
    torch.testing.assert_close(scale, start.expand(3))
    row = torch.zeros(contender.hidden_size)
    one, other, none = contender.embed(doubles(math.e - 1, 1 - math.e, 0.0), row)
    torch.testing.assert_close(one, contender.direction)
    torch.testing.assert_close(other, -contender.direction)
    assert not none.any()
