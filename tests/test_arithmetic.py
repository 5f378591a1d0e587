"""Sums, means and products of the text's numbers: turned hands against plain arithmetic."""

import math
import random
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from numlm import clock
from numlm.arithmetic import MEAN, OPERATIONS, PRODUCT, SUM, Arithmetic, Operation, SignedChoice
from numlm.batch import Batch, Record, collate, take_positions
from numlm.estimate import Estimate
from numlm.heads import States
from numlm.losses import made_loss, near_loss, pointer_nll, value_crps, value_nll
from numlm.model import NumberLM
from numlm.number_head import NumberAnswer, NumberHead
from numlm.reading import WINDOW, TextNumbers

EMBEDDED = Path(__file__).resolve().parents[1] / "assets" / "tiny-qwen2"
HIDDEN = 8
FLOAT64 = 2.0**-52
SHARP = 0.06  # scale of a hand in radians: more than what a nearly certain choice turns it by


def _randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _numbers(values: list[list[float]], visible: Tensor | None = None) -> TextNumbers:
    table = torch.tensor(values, dtype=torch.float64)
    if visible is None:
        visible = torch.ones(len(values), 1, table.shape[1], dtype=torch.bool)
    return TextNumbers(
        states=_randn(*table.shape, HIDDEN, seed=1),
        following=_randn(*table.shape, WINDOW, HIDDEN, seed=2),
        follows=torch.ones(*table.shape, WINDOW, dtype=torch.bool),
        features=clock.encode(table),
        values=table,
        visible=visible,
    )


class _Chosen(nn.Module):
    """A choice that is made already."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = scores

    def forward(self, *_: Tensor) -> Tensor:
        return self.scores


def _set_certainty(arithmetic: Arithmetic, certainty: float) -> None:
    """Of every estimate and its hands, wherever is asked: the lower, the more certain."""
    with torch.no_grad():
        arithmetic.certainty.weight.zero_()
        arithmetic.certainty.bias.fill_(certainty)


def _make(
    values: list[list[float]], signs: list[list[int]], score: float, learning: bool = False
) -> dict[Operation, Estimate]:
    """What is made of (B, K) values that are taken with signs of 1, -1 and 0 (B, K).

    Its hands are as certain as they can be.

    Args:
        values: The numbers of the texts.
        signs: Which are taken with plus, with minus and not at all.
        score: Of what is so; what is not has that score below zero.
        learning: Whether choices are as they are while they are learned.
    """
    arithmetic, table = Arithmetic(HIDDEN, 4).train(learning), torch.tensor(signs)[:, None]
    scores = score * torch.stack([2.0 * (table == 1) - 1, 2.0 * (table == -1) - 1], dim=2)
    arithmetic.choices = nn.ModuleList(_Chosen(scores) for _ in OPERATIONS)
    _set_certainty(arithmetic, -1e4)
    asking, keys = torch.zeros(len(values), 1, HIDDEN), torch.zeros(*table[:, 0].shape, 2 * HIDDEN)
    made = arithmetic(asking, keys, _numbers(values))
    return dict(zip(OPERATIONS, made, strict=True))


EXACT = 1e3  # a score that leaves nothing to what is not chosen
LEAKING = 4 / 8  # one that leaves it 2 %: odds of exp(4) to 1


def _result(operation: Operation, values: list[float], signs: list[int]) -> float:
    pairs = [(value, sign) for value, sign in zip(values, signs, strict=True) if sign]
    if operation is PRODUCT:
        return math.prod(v if sign > 0 else 1 / v for v, sign in pairs)
    total = math.fsum(sign * v for v, sign in pairs)
    return total / max(len(pairs), 1) if operation is MEAN else total


CASES = [
    ([2.5, 4.0], [1, 1]),
    ([2.5, 4.0], [1, -1]),
    ([-2.5, 4.0], [1, 1]),
    ([-2.5, -4.0, 7.75], [-1, 1, 1]),
    ([0.1, 0.2], [1, 1]),
    ([0.00125, -0.00075], [1, -1]),
    ([1e-5, 2e-5], [1, 1]),
    ([123456.78, 0.22], [1, 1]),
    ([123456789.0, 987654321.0], [1, -1]),
    ([1e12, 1e-12], [1, 1]),
    ([3.0, 5.0, 7.0], [1, 0, 1]),
    ([3.0, 1e9, 7.0], [1, 0, -1]),
    ([3.0, 0.0, 7.0], [1, 0, 1]),
    ([6.02e23, 1.6e-19], [1, 1]),
    ([42.5], [1]),
    ([-42.5], [-1]),
    ([42.5, 7.0], [0, 0]),
    ([1.5, -2.25, 3.125, 0.5, -0.75, 8.0, 1.0], [1, 1, -1, 1, -1, 1, 0]),
]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(("values", "signs"), CASES)
def test_hands_of_what_is_taken_stand_where_those_of_the_result_do(
    operation: Operation, values: list[float], signs: list[int]
) -> None:
    """Sums and products, differences and quotients, means; of nothing 0 and 1."""
    result, dial = _result(operation, values, signs), operation.dial
    hands = _make([values], [signs], EXACT)[operation].hands[0, 0]
    expected = dial.hands(torch.tensor(result, dtype=torch.float64))
    # what float64 leaves open of the places on the axis, in the angle of every hand
    taken = [v for v, sign in zip([*values, result], [*signs, 1], strict=True) if sign]
    places = [abs(math.log10(abs(v))) + 1 if dial.logarithmic else abs(v) for v in taken]
    unsure = 2 * math.pi * 4 * FLOAT64 * math.fsum(places) / torch.tensor(dial.periods)
    off = (hands - expected).abs().amax(-1)
    assert (off <= 2e-6 * len(values) + unsure).all(), (off, unsure)
    if max(places) < 1e9:
        assert (unsure[:13] < 0.02).all(), "at least all hands from 1 on must be compared"


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(("values", "signs"), CASES)
def test_size_and_sign_are_those_of_the_result(
    operation: Operation, values: list[float], signs: list[int]
) -> None:
    made = _make([values], [signs], EXACT)[operation]
    loc = (10.0 ** made.magnitude.double() * made.signed).item()
    result = _result(operation, values, signs)
    if abs(result) > 1e13:  # which is as large as M goes
        assert abs(loc) == pytest.approx(1e13, rel=1e-5)
    elif operation is PRODUCT:
        assert loc == pytest.approx(result, rel=1e-4)
        assert abs(made.signed.item()) == 1
    else:  # in units of the sizes taken, which a difference may be far below
        size = sum(abs(v) for v, sign in zip(values, signs, strict=True) if sign)
        assert loc == pytest.approx(result, abs=1e-5 * size + 1e-12)
        assert abs(made.signed.item()) <= 1 + 1e-6


@pytest.mark.parametrize("operation", OPERATIONS)
def test_of_no_number_the_sum_is_zero_and_the_product_one(operation: Operation) -> None:
    torch.manual_seed(0)
    arithmetic = Arithmetic(HIDDEN, 4)
    numbers = _numbers([[42.5, -7.0]], torch.zeros(1, 1, 2, dtype=torch.bool))
    made = arithmetic(_randn(1, 1, HIDDEN), _randn(1, 2, 2 * HIDDEN), numbers)
    estimate = made[OPERATIONS.index(operation)]
    loc = (10.0 ** estimate.magnitude.double() * estimate.signed).item()
    assert loc == (1 if operation is PRODUCT else 0)
    straight = torch.tensor([[1.0, 0.0]] * len(operation.dial.periods))
    torch.testing.assert_close(estimate.hands[0, 0], straight)


def test_a_product_with_zero_is_zero() -> None:
    values, signs = [[5.0, 0.0], [-5.0, 0.0], [0.0, 0.0]], [[1, 1]] * 3
    exact = _make(values, signs, EXACT)[PRODUCT]
    assert exact.signed.flatten().tolist() == [0.0] * 3
    assert exact.magnitude.flatten().tolist() == pytest.approx([math.log10(5)] * 2 + [0.0])
    assert exact.hands.isfinite().all()
    assert _printed(_make(values, signs, LEAKING)[PRODUCT], 0.7) == [0.0] * 3


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9, 16, 33])
def test_any_count_of_numbers_can_be_taken(count: int) -> None:
    """Odd ones, even ones and powers of two."""
    r = random.Random(count)
    values = [r.randint(1, 999) / 4 for _ in range(count)]
    signs = [r.choice([1, -1]) for _ in range(count)]
    made = _make([values], [signs], EXACT)
    for operation in (SUM, MEAN, PRODUCT):
        dial, result = operation.dial, _result(operation, values, signs)
        assert made[operation].hands.shape == (1, 1, len(dial.periods), 2)
        expected = dial.hands(torch.tensor(result, dtype=torch.float64))
        coarse = [period >= 1e-5 for period in dial.periods]
        torch.testing.assert_close(
            made[operation].hands[0, 0, coarse], expected[coarse], rtol=0, atol=1e-4
        )


# The decimals of a sum's or product's two numbers, of how many digits and at what power of ten.
_SIZES = [(digits, power) for digits in (1, 2, 4, 7, 9) for power in range(-5, 3)]


def _problems(operator: Callable[[Decimal, Decimal], Decimal]) -> tuple[list, list, list[Decimal]]:
    """Numbers, a third one that is not taken, signs, and the result of the first two."""
    r, values, signs, results = random.Random(0), [], [], []
    minus = -1 if operator in (Decimal.__sub__, Decimal.__truediv__) else 1
    for digits, power in _SIZES:
        for _ in range(20):
            one, two, third = (
                Decimal(r.choice([1, -1]) * r.randint(1, 10**digits - 1)).scaleb(power)
                for _ in range(3)
            )
            if operator is Decimal.__truediv__:  # of what divides without a remainder
                one *= two
            order = r.sample(range(3), 3)
            values.append([[float(one), float(two), float(third)][i] for i in order])
            signs.append([[1, minus, 0][i] for i in order])
            results.append(operator(one, two))
    return values, signs, results


def _printed(estimate: Estimate, scale: float) -> list[float]:
    """As it is written where nothing but this estimate is probable.

    Args:
        estimate: What is made.
        scale: Of its Cauchy, in units of 10^M: more than what a nearly certain choice is off by.
    """
    estimate = replace(
        estimate,
        log_scale=torch.full_like(estimate.log_scale, math.log(scale)),
        hand_scales=estimate.hand_scales.clamp(min=SHARP),
    )
    loc, width = (part.flatten().tolist() for part in estimate.read())
    return [clock.shortest_decimal(v, w) for v, w in zip(loc, width, strict=True)]


def _wrong(values: list, printed: list[float], results: list[Decimal]) -> list:
    """The numbers, what is written and what is right, wherever these differ."""
    return [row for row in zip(values, printed, results, strict=True) if row[1] != float(row[2])]


@pytest.mark.parametrize("operator", [Decimal.__add__, Decimal.__sub__])
def test_sums_are_exact_though_choices_leak(
    operator: Callable[[Decimal, Decimal], Decimal],
) -> None:
    """From 1e-5 to 1e9 and 2e11, with up to 10 digits."""
    values, signs, results = _problems(operator)
    printed = _printed(_make(values, signs, LEAKING)[SUM], 0.06)
    wrong = _wrong(values, printed, results)
    assert not wrong, f"{len(wrong)} of {len(results)}: {wrong[:5]}"


@pytest.mark.parametrize("operator", [Decimal.__add__, Decimal.__sub__])
def test_means_of_two_are_exact_though_choices_leak(
    operator: Callable[[Decimal, Decimal], Decimal],
) -> None:
    """Of up to 7 digits, whose halves have one decimal more."""
    values, signs, results = _problems(operator)
    few = [i for i, row in enumerate(values) if max(abs(v) for v in row) < 1e4]
    values, signs, results = ([part[i] for i in few] for part in (values, signs, results))
    printed = _printed(_make(values, signs, LEAKING)[MEAN], 0.06)
    wrong = _wrong(values, printed, [result / 2 for result in results])
    assert len(few) > 300
    assert not wrong, f"{len(wrong)} of {len(results)}: {wrong[:5]}"


@pytest.mark.parametrize("operator", [Decimal.__mul__, Decimal.__truediv__])
def test_products_are_exact_though_choices_leak(
    operator: Callable[[Decimal, Decimal], Decimal],
) -> None:
    """Wherever they have up to nine digits."""
    values, signs, results = _problems(operator)
    few = [i for i, r in enumerate(results) if len(r.normalize().as_tuple().digits) <= 9]
    values, signs, results = ([part[i] for i in few] for part in (values, signs, results))
    printed = _printed(_make(values, signs, LEAKING)[PRODUCT], 0.7)
    wrong = _wrong(values, printed, results)
    assert len(few) > 400
    assert not wrong, f"{len(wrong)} of {len(results)}: {wrong[:5]}"


@pytest.fixture
def trained() -> Arithmetic:
    """With biases, so that choices differ from number to number."""
    torch.manual_seed(0)
    arithmetic = Arithmetic(HIDDEN, 4)
    with torch.no_grad():
        for parameter in arithmetic.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return arithmetic


_THREE = [[42.5, -1.0, 1e-3], [0.0, 7.0, 7.0]]
_VISIBLE = torch.tensor(
    [[[1, 1, 1], [1, 0, 0]], [[0, 0, 0], [0, 1, 1]]], dtype=torch.bool
)  # (2 texts, 2 asking positions, 3 numbers)
_PARTS = ("magnitude", "signed", "log_scale", "hands", "hand_scales")


def _inputs() -> tuple[Tensor, Tensor]:
    """Asking states and keys of two texts of three numbers."""
    return _randn(2, 2, HIDDEN, seed=1), _randn(2, 3, 2 * HIDDEN, seed=2)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(("learning", "odds"), [(True, 3.0), (False, 8.0)])
def test_hands_turn_as_far_as_numbers_are_taken(
    operation: Operation, learning: bool, odds: float
) -> None:
    """With odds of up to exp(3) to 1 in learning, where a choice is soft, and exp(8) in use."""
    values, signs, score = [[42.5, -1.25, 3.0]], [[1, -1, 0]], 0.4
    made = _make(values, signs, score, learning)[operation]
    chosen, other = math.exp(odds * score), math.exp(-odds * score)
    taken = [(chosen + other) / (1 + chosen + other)] * 2 + [2 * other / (1 + 2 * other)]
    way = [(chosen - other) / (1 + chosen + other), (other - chosen) / (1 + chosen + other), 0.0]
    values = [v / 2 for v in values[0]] if operation is MEAN else values[0]
    for j, period in enumerate(operation.dial.periods):
        turned = 1 + 0j
        for value, share, direction in zip(values, taken, way, strict=True):
            place = math.log10(abs(value)) if operation is PRODUCT else value
            angle = 2 * math.pi * math.fmod(place, period) / period
            turned *= complex(1 - share + share * math.cos(angle), direction * math.sin(angle))
        expected = [turned.real / abs(turned), turned.imag / abs(turned)]
        off = 1e-5 + 1e-14 / period  # float64 leaves the last ones open
        assert made.hands[0, 0, j].tolist() == pytest.approx(expected, abs=off)


def test_size_and_sign_are_the_same_in_learning_and_in_use() -> None:
    for values in ([[2.5, -4.0]], [[1e6, 3.0]]):
        one, two = (_make(values, [[1, -1]], 0.4, learning) for learning in (True, False))
        for operation in OPERATIONS:
            assert torch.equal(one[operation].magnitude, two[operation].magnitude)
            assert torch.equal(one[operation].signed, two[operation].signed)
            assert not torch.equal(one[operation].hands, two[operation].hands)


@torch.no_grad()
def test_scores_are_cosines(trained: Arithmetic) -> None:
    choice = trained.choices[0]
    assert isinstance(choice, SignedChoice)
    asking, keys = _inputs()
    scores = choice(asking, keys, _VISIBLE)
    assert scores.shape == (2, 2, 2, 3)
    for b in range(2):
        for a in range(2):
            for k in range(3):
                expected = [-math.inf, -math.inf]
                if _VISIBLE[b, a, k]:
                    query = choice.query(asking[b, a]).double().view(2, 4)
                    key = choice.key(keys[b, k]).double().view(2, 4)
                    expected = functional.cosine_similarity(query, key).tolist()
                assert scores[b, a, :, k].tolist() == pytest.approx(expected, abs=1e-6)


@torch.no_grad()
def test_all_numbers_are_taken_with_plus_at_the_start() -> None:
    """At the sizes of a model, whatever its states are: scores of about a half, and minus that."""
    torch.manual_seed(0)
    choice = SignedChoice(192, 32)
    asking, keys = _randn(20, 5, 192, seed=1), _randn(20, 10, 384, seed=2)
    scores = choice(asking, keys, torch.ones(20, 5, 10, dtype=torch.bool))
    plus, minus = scores.unbind(2)
    assert plus.mean().item() == pytest.approx(0.5, abs=0.1)
    assert minus.mean().item() == pytest.approx(-0.5, abs=0.1)
    assert (plus > minus).all()


@torch.no_grad()
@pytest.mark.parametrize("factor", [1.0, 1e6, 1e-6])
def test_no_choice_is_beyond_recall(trained: Arithmetic, factor: float) -> None:
    """However large weights and states become, scores stay within 1."""
    for parameter in trained.parameters():
        parameter.mul_(factor)
    visible = torch.ones(2, 50, 3, dtype=torch.bool)
    asking, keys = (
        factor * _randn(2, 50, HIDDEN, seed=5),
        factor * _randn(2, 3, 2 * HIDDEN, seed=6),
    )
    for choice in trained.choices:
        scores = choice(asking, keys, visible)
        assert 0.5 < scores.abs().max() <= 1 + 1e-5


def test_an_invisible_number_changes_nothing(trained: Arithmetic) -> None:
    asking, keys = _inputs()
    made = trained(asking, keys, _numbers(_THREE, _VISIBLE))
    other_keys = keys.clone()
    other_keys[0, 1:] += 3.0
    other_keys[1, 0] -= 5.0
    others = _numbers([[42.5, 1e9, -77.0], [-1e-9, 7.0, 7.0]], _VISIBLE)
    changed = trained(asking, other_keys, others)
    for mine, theirs in zip(made, changed, strict=True):
        for (b, a), same in {(0, 1): True, (1, 0): True, (1, 1): True, (0, 0): False}.items():
            for name in ("magnitude", "signed", "hands"):
                one, two = getattr(mine, name)[b, a], getattr(theirs, name)[b, a]
                assert torch.equal(one, two) == same, (b, a, name)


@pytest.mark.parametrize("value", [0.0, 1e308, -5e-324])
def test_padding_changes_nothing(trained: Arithmetic, value: float) -> None:
    """Nor a number that comes later in the text, whatever it is."""
    asking, keys = _inputs()
    made = trained(asking, keys, _numbers(_THREE, _VISIBLE))
    numbers = _numbers([[*row, value, value] for row in _THREE], functional.pad(_VISIBLE, (0, 2)))
    padded = trained(asking, functional.pad(keys, (0, 0, 0, 2)), numbers)
    for mine, theirs in zip(made, padded, strict=True):
        for name in _PARTS:
            one, two = getattr(mine, name), getattr(theirs, name)
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("order", [[2, 0, 1], [0, 2, 1], [2, 1, 0]])
def test_the_order_of_the_numbers_does_not_matter(trained: Arithmetic, order: list[int]) -> None:
    asking, keys = _inputs()
    numbers = _numbers(_THREE, _VISIBLE)
    made = trained(asking, keys, numbers)
    tables = (table[:, order] for table in numbers[:-1])
    shuffled = TextNumbers(*tables, numbers.visible[..., order])
    others = trained(asking, keys[:, order], shuffled)
    for mine, theirs in zip(made, others, strict=True):
        for name in _PARTS:
            one, two = getattr(mine, name), getattr(theirs, name)
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5, msg=name)


def test_each_operation_has_a_choice_of_its_own(trained: Arithmetic) -> None:
    asking, keys = _inputs()
    numbers = _numbers(_THREE, _VISIBLE)
    made = trained(asking, keys, numbers)
    assert len(made) == len(trained.choices) == len(OPERATIONS)
    for i, choice in enumerate(trained.choices):
        before = choice.query.bias.detach().clone()
        with torch.no_grad():
            choice.query.bias.add_(1.0)
        changed = trained(asking, keys, numbers)
        with torch.no_grad():
            choice.query.bias.copy_(before)
        for j, (mine, theirs) in enumerate(zip(made, changed, strict=True)):
            assert torch.equal(mine.hands, theirs.hands) == (i != j)


@pytest.mark.parametrize("certainty", [-1e4, -5.0, 0.0, 5.0, 1e4])
def test_scales_stay_inside_their_bounds(trained: Arithmetic, certainty: float) -> None:
    asking, keys = _inputs()
    _set_certainty(trained, certainty)
    made = trained(asking, keys, _numbers(_THREE, _VISIBLE))
    for estimate in made:
        assert estimate.log_scale.min() >= -9
        assert estimate.log_scale.max() <= 4
        assert estimate.hand_scales.min() >= 0.03  # more than what a sure choice is off by
        assert estimate.hand_scales.max() <= 10
        assert estimate.magnitude.abs().max() <= 13
    if abs(certainty) <= 5:
        total = sum(estimate.log_scale.sum() for estimate in made)
        (gradient,) = torch.autograd.grad(total, trained.certainty.bias)
        assert (gradient > 0).sum() == len(OPERATIONS), "none may end"


def _head() -> NumberHead:
    torch.manual_seed(0)
    head = NumberHead(HIDDEN, reading_heads=3, free_heads=1, reading_size=4, mlp_size=16)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return head


def _answer(head: NumberHead, values: list[list[float]]) -> NumberAnswer:
    texts = len(values)
    loc, before = (_randn(texts, 1, HIDDEN, seed=seed) for seed in (7, 8))
    return head(States(loc, torch.full((texts, 1, 1), 0.02), before), _numbers(values))


@pytest.mark.parametrize(
    "values",
    [
        [1.5, 2.25],
        [0.0, 0.0],
        [1e-308, 5e-324],
        [1e39, 1.0],
        [1e200, -1e200],
        [1e308, 1e-308],
        [1.7e308, 1.7e308, -1.7e308],
        [1e308, 0.0, 1e-308] * 20,
        [-3.0] * 300,
        [-1e5] * 300,
        [0.1 * i for i in range(100)],
    ],
    ids=lambda values: f"{len(values)} from {values[0]:g}",
)
def test_extremes_are_finite_in_value_loss_and_gradient(values: list[float]) -> None:
    """For eight targets, so that instructions for vectors are at work."""
    targets = [3.75, 0.0, -1e-12, 1e45, 1e300, -1.7e308, 5e-324, -7.0]
    head = _head()
    answer = _answer(head, [values] * 8)
    for made in answer.made:
        for name in _PARTS:
            assert getattr(made, name).isfinite().all(), name
        loc, scale = made.read()
        assert loc.isfinite().all()
        assert scale.isfinite().all()
        assert (scale > 0).all()
    assert answer.mixture().printed().isfinite().all()
    for loss in (value_nll, value_crps, made_loss, near_loss, pointer_nll):
        value = loss(answer, torch.tensor(targets, dtype=torch.float64)[:, None])
        assert value.isfinite().all(), (loss, value)
        head.zero_grad()
        value.sum().backward(retain_graph=True)
        for name, parameter in head.named_parameters():
            if parameter.grad is not None:
                assert parameter.grad.isfinite().all(), (loss, name)


@pytest.mark.parametrize("count", [2, 13, 40, 300])
def test_hands_of_many_numbers_are_still_unit_vectors_that_learn(count: int) -> None:
    """Half taken, each number shortens the product of all; the direction is what counts."""
    head = _head()
    answer = _answer(head, [[0.01 * i * i + 0.01 for i in range(count)]])
    for made in answer.made:
        lengths = made.hands.norm(dim=-1)
        torch.testing.assert_close(lengths, torch.ones_like(lengths))
    hands = answer.made[0].hands
    (hands * _randn(*hands.shape, seed=8)).sum().backward()
    gradient = head.arithmetic.choices[0].query.weight.grad
    assert gradient.isfinite().all()
    assert gradient.norm() > 1e-3


def test_gradients_of_the_made_loss_reach_every_parameter() -> None:
    torch.manual_seed(0)
    head = NumberHead(HIDDEN, reading_heads=3, free_heads=1, reading_size=4, mlp_size=16)
    with torch.no_grad():
        head.mlp[-1].weight.normal_()
    answer = _answer(head, _THREE)
    made_loss(answer, torch.tensor([[41.5], [14.0]], dtype=torch.float64)).sum().backward()
    own = {name: p for name, p in head.named_parameters() if name.startswith("arithmetic")}
    assert len(own) == 4 * len(OPERATIONS) + 2
    for name, parameter in own.items():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    assert (head.arithmetic.certainty.bias.grad != 0).all(), "every scale learns"
    assert not head.pointer.query.weight.grad, "and the pointer does not"


def _problem(r: random.Random) -> str:
    one, two = (Decimal(r.randint(-99999, 99999)).scaleb(-2) for _ in range(2))
    if r.random() < 0.5:
        return f"{one} + {two} = {one + two}"
    return f"{one} - {two} = {one - two}"


def _batch(model: NumberLM, texts: list[str]) -> Batch:
    """Texts with the loss on their last number."""
    records = []
    for encoding in model.tokenizer.encode_batch(texts):
        ids, values = encoding.input_ids, [number.value for number in encoding.numbers]
        last = max(i for i, token in enumerate(ids) if token == model.tokenizer.num_token_id)
        records.append(Record(ids, values, (len(values) - 1,), answer_start=last))
    return collate(records, model.tokenizer.num_token_id, model.tokenizer.pad_token_id)


def _learn(model: NumberLM, steps: int, texts: int, seed: int) -> None:
    """As the trainer does: AdamW, warm-up and cosine, heads twice as fast as the rest."""
    r, heads = random.Random(seed), model.head_parameters()
    ours = {id(parameter) for parameter in heads}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in ours]
    groups = [{"params": rest, "lr": 1e-3}, {"params": heads, "lr": 2e-3}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (
            min((step + 1) / (0.05 * steps), 1) * (1 + math.cos(math.pi * step / steps)) / 2
        ),
    )
    model.train()
    for _ in range(steps):
        batch = _batch(model, [_problem(r) for _ in range(texts)])
        optimizer.zero_grad()
        model.losses(batch).total(0.3).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sums_and_differences_are_learned_from_a_few_thousand_texts(seed: int) -> None:
    """Of numbers from -999.99 to 999.99, to the last decimal, on problems never seen."""
    torch.manual_seed(seed)
    model = NumberLM.from_pretrained(EMBEDDED)
    _learn(model, steps=100, texts=64, seed=seed)
    held_out = [_problem(random.Random(f"held out {i}")) for i in range(200)]
    batch = _batch(model.eval(), held_out)
    positions, _ = model.slots(batch)
    with torch.no_grad():
        answer = model.number_answer(model(batch), batch, positions)
    truth = take_positions(batch.number_values[:, 1:], positions).flatten()
    for copies in (True, False):
        right = answer.mixture(copies).printed() == truth
        assert right.double().mean() >= 0.95, f"copies: {copies}"
    assert answer.pointer[:, 0, 1].exp().mean() > 0.9, "they are said to be sums"
