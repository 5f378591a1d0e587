"""The number head's losses, against PyTorch's distributions and sums by hand."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.distributions import Cauchy
from torch.nn import functional

from numlm import clock
from numlm.clock import FINE_LOG_DIAL, LINEAR_DIAL, LOG_DIAL, Dial
from numlm.distributions import cauchy_crps
from numlm.estimate import Estimate
from numlm.losses import (
    HAND_WEIGHT,
    MADE_WEIGHT,
    NEAR_WEIGHT,
    Term,
    ValueLoss,
    made_loss,
    near_loss,
    pointer_nll,
    value_crps,
    value_nll,
)
from numlm.number_head import NumberAnswer

MADE = [(), (LINEAR_DIAL, FINE_LOG_DIAL)]  # dials of the values that are made, if any are
PARTS = ("magnitude", "signed", "log_scale", "hands", "hand_scales")
UNREAD = 40.0  # scale of a hand that knows nothing, and is never read


def _double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _answer(
    positions: int = 4,
    pointer: list[list[float]] | None = None,
    values: list[float] | None = None,
    dtype: torch.dtype = torch.float32,
    made: tuple[Dial, ...] = (),
) -> NumberAnswer:
    """One text with several asking positions, its outputs drawn from a fixed seed.

    The pointer's shares are those of new and made, of each copy and of near each number.
    """
    generator = torch.Generator().manual_seed(0)

    def randn(*shape: int) -> Tensor:
        return torch.randn(1, positions, *shape, generator=generator, dtype=torch.float64)

    def estimate(dial: Dial) -> Estimate:
        return Estimate(
            magnitude=2 * randn().to(dtype),
            signed=randn().to(dtype),
            log_scale=randn().to(dtype),
            hands=functional.normalize(randn(len(dial.periods), 2), dim=-1).to(dtype),
            hand_scales=randn(len(dial.periods)).exp().to(dtype),
            dial=dial,
        )

    shares = torch.tensor(pointer if pointer else [[1.0]] * positions, dtype=torch.float64)
    return NumberAnswer(
        new=estimate(LOG_DIAL),
        made=tuple(estimate(dial) for dial in made),
        near_log_scale=randn().to(dtype),
        pointer=shares.log().to(dtype)[None],
        values=torch.tensor([values or []], dtype=torch.float64),
    )


def _made_answer(positions: int = 4) -> NumberAnswer:
    """Of two numbers in sight, 77.5 and -8, a sum and a product are made."""
    made = (LINEAR_DIAL, FINE_LOG_DIAL)
    return _answer(positions, [[1 / 7] * 7] * positions, [77.5, -8.0], made=made)


def _with_new(answer: NumberAnswer, **outputs: Tensor) -> NumberAnswer:
    """An answer with other outputs of its new value."""
    return replace(answer, new=replace(answer.new, **outputs))


def _unread(answer: NumberAnswer) -> NumberAnswer:
    """An answer whose hands all know nothing: what is read are its Cauchys as they are."""
    new, *made = (
        replace(part, hand_scales=torch.full_like(part.hand_scales, UNREAD))
        for part in answer.estimates
    )
    return replace(answer, new=new, made=tuple(made))


def _density(answer: NumberAnswer, target: float, a: int = 0) -> float:
    """Of new and made values, each by its share: of what is read, or the Cauchy of a single one."""
    density = 0.0
    targets = torch.full_like(answer.new.signed, target, dtype=torch.float64)
    for i, estimate in enumerate(answer.estimates):
        nll = estimate.read_nll(targets) if answer.made else estimate.nll(targets)
        share = answer.pointer[0, a, i].double().exp().item()
        density += share * math.exp(-nll[0, a].item())
    return density


def _without_copies(answer: NumberAnswer, share: float, target: float, a: int = 0) -> float:
    """What is added where there is a copy: the loss if new and made values were all there is."""
    if not answer.made:
        return 0.0
    return -math.log(_density(answer, target, a) / share)


def _with_made(shares: list[float], made: tuple[Dial, ...]) -> list[float]:
    """Of the share of the new value three quarters go to those that are made, if there are any."""
    new, *others = shares
    return [new / 4, new / 2, new / 4, *others] if made else shares


def _naive_cauchy(estimate: Estimate, targets: Tensor) -> list[float]:
    """-log density of V, in plain float64."""
    result = []
    for a, value in enumerate(targets[0].tolist()):
        power = 10.0 ** estimate.magnitude[0, a].double()
        scale = power * estimate.log_scale[0, a].double().exp()
        cauchy = Cauchy(power * estimate.signed[0, a], scale)
        result.append(-cauchy.log_prob(_double(value)).item())
    return result


def _naive_hands(estimate: Estimate, targets: Tensor, scale: float | None = None) -> list[float]:
    """The hands' textbook losses, in plain float64; at their own scales if no other is given."""
    result = []
    for a, value in enumerate(targets[0].tolist()):
        nll = 0.0
        exists = value or not estimate.dial.logarithmic
        for j, period in enumerate(estimate.dial.periods if exists else ()):
            place = math.log10(abs(value)) if estimate.dial.logarithmic else value
            angle = 2 * math.pi * math.fmod(place, period) / period
            cos, sin = estimate.hands[0, a, j].tolist()
            g = scale or estimate.hand_scales[0, a, j].item()
            cos_difference = cos * math.cos(angle) + sin * math.sin(angle)
            density = math.sinh(g) / (math.cosh(g) - cos_difference)  # times 2 pi
            nll -= math.log(density)
        result.append(nll)
    return result


def _of_given_scales(made: Estimate) -> Estimate:
    return replace(
        made,
        log_scale=made.log_scale.detach().clamp(min=-3.0),
        hand_scales=torch.ones_like(made.hand_scales),
    )


def _naive_made(answer: NumberAnswer, targets: Tensor) -> list[float]:
    """The sum of the textbook losses of what is made, at given scales and at their own."""
    result = [0.0] * targets.shape[1]
    for made in answer.made:
        for part, scale in ((_of_given_scales(made), 1.0), (made, None)):
            cauchy, hands = _naive_cauchy(part, targets), _naive_hands(made, targets, scale)
            for a in range(len(result)):
                result[a] += cauchy[a] + HAND_WEIGHT * hands[a]
    return [MADE_WEIGHT * value for value in result]


def test_a_term_divides_once() -> None:
    term = Term(torch.tensor(6.0), torch.tensor(4))
    assert term.mean.item() == 1.5


def test_a_term_of_nothing_is_zero_and_keeps_its_graph() -> None:
    weight = torch.ones(2, requires_grad=True)
    mean = Term((weight * 0).sum(), torch.tensor(0)).mean
    assert mean.item() == 0
    mean.backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [0, 0]


@pytest.mark.parametrize(
    "targets", [[42.5, -42.5, 0.0, 1e-5], [1e6, -123456.789, 1.0, 3e-12], [9.99, 10.0, -0.0, 1e12]]
)
def test_value_nll_is_that_of_the_distributions(targets: list[float]) -> None:
    answer, values = _answer(), _double(*targets)[None]
    nll = value_nll(answer, values)
    assert nll.shape == (1, 4)
    assert nll.dtype == torch.float32
    cauchy, hands = _naive_cauchy(answer.new, values), _naive_hands(answer.new, values)
    expected = [
        of_value + HAND_WEIGHT * of_hands for of_value, of_hands in zip(cauchy, hands, strict=True)
    ]
    assert nll[0].tolist() == pytest.approx(expected, rel=2e-4, abs=2e-4)


@pytest.mark.parametrize(
    "targets", [[42.5, -42.5, 0.0, 1e-5], [1e4, -1234.5, 1.0, 3e-12], [9.99, 10.0, -0.0, -0.25]]
)
def test_made_loss_is_that_of_the_distributions(targets: list[float]) -> None:
    """Of all that is made, the hands of zero on the axis of the value among them."""
    answer, values = _made_answer(), _double(*targets)[None]
    loss = made_loss(answer, values)
    assert loss.shape == (1, 4)
    assert loss.dtype == torch.float32
    assert loss[0].tolist() == pytest.approx(_naive_made(answer, values), rel=2e-4, abs=2e-4)


def test_what_is_taken_is_learned_at_given_scales_and_their_own_beside_it() -> None:
    """And by no way else: neither through what is read nor through each other."""
    answer, values = _made_answer(3), _double(42.5, -0.1, 0.0)[None]
    new, *made = answer.estimates
    leaves = [getattr(m, name).requires_grad_() for m in made for name in PARTS]
    leaves += [getattr(new, name).requires_grad_() for name in PARTS]
    found = torch.autograd.grad(made_loss(answer, values).sum(), leaves, allow_unused=True)
    assert found[-len(PARTS) :] == (None,) * len(PARTS), "of what is new nothing is learned here"
    for i, estimate in enumerate(made):
        alike = _of_given_scales(estimate)
        of_one, of_own = (
            MADE_WEIGHT * (part.nll(values) + HAND_WEIGHT * part.hands_nll(values)).sum()
            for part in (alike, estimate)
        )
        at = {name: getattr(estimate, name) for name in PARTS}
        places, scales = ("magnitude", "signed", "hands"), ("log_scale", "hand_scales")
        learned = torch.autograd.grad(of_one, [at[name] for name in places])
        beside = torch.autograd.grad(of_own, [at[name] for name in scales])
        by_name = dict(zip((*places, *scales), (*learned, *beside), strict=True))
        expected = [by_name[name] for name in PARTS]
        mine = found[i * len(PARTS) : (i + 1) * len(PARTS)]
        for name, one, other in zip(PARTS, mine, expected, strict=True):
            torch.testing.assert_close(one, other, msg=name)


@pytest.mark.parametrize(
    ("values", "shares", "target", "learned"),
    [
        ([5.0, 7.0], [0.2] * 7, 12.0, True),
        ([5.0, 7.0], [0.2] * 7, 7.0, False),  # a copy
        ([5.0, 7.0], [0.2, 0.2, 0.2, 0.2, 0.0, 0.2, 0.0], 12.0, False),  # one is in sight
        ([5.0, 7.0, 7.5], [0.1] * 5 + [0.0] + [0.1] * 2 + [0.0], 7.5, True),  # a copy out of sight
        ([5.0], [0.2] * 5, 12.0, False),
        ([], [0.2] * 3, 12.0, False),
    ],
)
def test_to_make_values_is_learned_from_what_may_be_made(
    values: list[float], shares: list[float], target: float, learned: bool
) -> None:
    answer = _answer(1, [shares], values, made=(LINEAR_DIAL, FINE_LOG_DIAL))
    loss = made_loss(answer, _double(target)[None])
    assert bool(loss) == learned
    assert loss.isfinite().all()


def test_where_nothing_is_made_nothing_is_lost() -> None:
    assert made_loss(_answer(3), _double(1.0, 0.0, -5.0)[None]).tolist() == [[0.0] * 3]


def test_new_values_have_their_own_loss() -> None:
    """What is made does not enter it."""
    answer = _made_answer()
    values = _double(42.5, -42.5, 0.0, 1e-5)[None]
    for i in range(2):
        made = list(answer.made)
        made[i] = replace(made[i], signed=made[i].signed + 1)
        other = replace(answer, made=tuple(made))
        assert (made_loss(answer, values) != made_loss(other, values)).all()
        for loss in (value_nll, value_crps):
            assert torch.equal(loss(answer, values), loss(other, values))


def test_hand_weight_is_one_half() -> None:
    assert HAND_WEIGHT == 0.5


def test_zero_has_no_hands() -> None:
    answer, zero = _answer(1), _double(0.0)[None]
    new = answer.new
    turned = _with_new(answer, hands=-new.hands, hand_scales=new.hand_scales * 2)
    assert torch.equal(value_nll(answer, zero), value_nll(turned, zero))
    one = _double(1.0)[None]
    assert not torch.equal(value_nll(answer, one), value_nll(turned, one))


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_a_change_of_unit_changes_the_density_by_it(unit: float) -> None:
    """With M on the unit, only the Jacobian differs."""
    answer = _answer()
    no_hands = _unread(answer)
    in_unit = _with_new(no_hands, magnitude=no_hands.new.magnitude + math.log10(unit))
    values = _double(1.5, -2.5, 0.25, 40.0)[None]
    difference = value_nll(in_unit, values * unit) - value_nll(no_hands, values)
    assert difference[0].tolist() == pytest.approx([math.log(unit)] * 4, abs=1e-4)


def test_the_right_answer_costs_least() -> None:
    values = _double(42.5, -3.25, 1e-5, 1e6)[None]
    hands = clock.encode(values)[..., clock.FIRST_HAND :].unflatten(-1, (clock.HANDS, 2))
    right = _with_new(
        _answer(),
        magnitude=values.abs().log10().float(),
        signed=values.sign().float(),
        log_scale=torch.full((1, 4), math.log(0.01)),
        hands=hands,
        hand_scales=torch.full((1, 4, clock.HANDS), 0.01),
    )
    best = value_nll(right, values)
    for other in (
        {"signed": right.new.signed + 0.05},
        {"signed": -right.new.signed},
        {"magnitude": right.new.magnitude + 0.05},
        {"hands": -right.new.hands},
        {"hands": right.new.hands.flip(-2)},
        {"log_scale": right.new.log_scale + 2},
    ):
        assert (value_nll(_with_new(right, **other), values) > best + 0.1).all()


def _whole_range(dial: Dial) -> tuple[NumberAnswer, Tensor, Tensor]:
    """Answers and targets over all that the head can say, and the grid they are made from.

    A text may hold 1.6e-19 and 6.02e23, and the head may take the one for the other. New and made
    values say the same.
    """
    targets = _double(1e-30, -1e-12, 1e-5, 0.0, 1.0, -1e5, 1e12, 6.02e23, -1e30, 1e300, -1.7e308)
    grid = torch.cartesian_prod(
        torch.arange(-13.0, 14.0),
        torch.tensor([-1.0, 0.0, 1e3]),
        torch.tensor([1e-4, 1.0, 1e4]).log(),
        torch.arange(float(len(targets))),
    )
    outputs = (grid[None, :, i].clone().requires_grad_() for i in range(3))
    names = ("magnitude", "signed", "log_scale")
    answer = _with_new(_answer(len(grid)), **dict(zip(names, outputs, strict=True)))
    hands = _answer(len(grid), made=(dial,)).made[0]
    made = replace(answer.new, hands=hands.hands, hand_scales=hands.hand_scales, dial=dial)
    values = targets[grid[:, 3].long()]
    shares = torch.tensor([0.5, 0.5]).log().expand(1, len(grid), 2)
    answer = replace(answer, made=(made,), pointer=shares)
    return answer, values[None], torch.cat([grid[:, :3].double(), values[:, None]], dim=-1)


@pytest.mark.parametrize(
    ("loss", "dial"),
    [
        (value_nll, LINEAR_DIAL),
        (made_loss, LINEAR_DIAL),
        (made_loss, FINE_LOG_DIAL),
        (pointer_nll, LINEAR_DIAL),
        (pointer_nll, FINE_LOG_DIAL),
    ],
)
def test_losses_are_finite_over_the_whole_range(loss: ValueLoss, dial: Dial) -> None:
    answer, values, grid = _whole_range(dial)
    bad = grid[~loss(answer, values)[0].isfinite()].tolist()
    assert not bad, f"{len(bad)} of {len(grid)} (M, a, log s, target): {bad[:3]}"


@pytest.mark.parametrize(
    ("loss", "dial"),
    [(value_nll, LINEAR_DIAL), (made_loss, LINEAR_DIAL), (made_loss, FINE_LOG_DIAL)],
)
@pytest.mark.parametrize("name", ["magnitude", "signed", "log_scale"])
def test_gradients_are_finite_over_the_whole_range(loss: ValueLoss, dial: Dial, name: str) -> None:
    answer, values, grid = _whole_range(dial)
    (gradient,) = torch.autograd.grad(loss(answer, values).sum(), getattr(answer.new, name))
    bad = grid[~gradient[0].isfinite()].tolist()
    assert not bad, f"{len(bad)} of {len(grid)} (M, a, log s, target): {bad[:3]}"


def test_gradients_of_the_value_loss() -> None:
    answer = _answer(3, dtype=torch.float64)
    values = _double(42.5, -0.001, 0.0)[None]
    leaves = tuple(getattr(answer.new, name).clone().requires_grad_() for name in PARTS)

    def loss(*parts: Tensor) -> Tensor:
        return value_nll(_with_new(answer, **dict(zip(PARTS, parts, strict=True))), values)

    assert torch.autograd.gradcheck(loss, leaves)


@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize(
    ("values", "shares", "target", "probability"),
    [
        ([5.0, 7.0], [0.5, 0.2, 0.1, 0.1, 0.1], 5.0, 0.2),
        ([5.0, 7.0], [0.5, 0.2, 0.1, 0.1, 0.1], 7.0, 0.1),
        ([5.0, 7.0, 5.0], [0.3, 0.3, 0.1, 0.2, 0.1, 0.0, 0.0], 5.0, 0.5),  # equal ones together
        ([5.0, 5.0, 5.0], [0.1, 0.3, 0.4, 0.2, 0.0, 0.0, 0.0], 5.0, 0.9),
        ([5.0, 5.0], [0.6, 0.3, 0.0, 0.1, 0.0], 5.0, 0.3),  # only the visible one
        ([0.0], [0.3, 0.6, 0.1], -0.0, 0.6),
    ],
)
def test_a_copy_costs_its_probability(
    made: tuple[Dial, ...],
    values: list[float],
    shares: list[float],
    target: float,
    probability: float,
) -> None:
    answer = _unread(_answer(1, pointer=[_with_made(shares, made)], values=values, made=made))
    nll = pointer_nll(answer, _double(target)[None])
    assert nll.shape == (1, 1)
    rest = _without_copies(answer, shares[0], target)
    assert nll.item() - rest == pytest.approx(-math.log(probability), abs=5e-6)


@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize(
    ("values", "shares", "target"),
    [
        ([5.0, 7.0], [0.5, 0.1, 0.1, 0.2, 0.1], 6.0),
        ([5.0, 7.0], [0.4, 0.1, 0.0, 0.5, 0.0], 7.0),  # 7 is not visible
        ([0.0, 7.0], [0.8, 0.0, 0.1, 0.0, 0.1], 0.0),  # padding stands at 0 and is not visible
        ([0.1 + 0.2], [0.4, 0.5, 0.1], 0.3),  # equal means equal
        ([-3e6], [0.2, 0.1, 0.7], 1e-5),
        ([], [1.0], 3.0),
    ],
)
def test_no_copy_costs_the_density_of_the_mixture(
    made: tuple[Dial, ...], values: list[float], shares: list[float], target: float
) -> None:
    shares = _with_made(shares, made)
    answer = _unread(_answer(1, pointer=[shares], values=values, made=made))
    density = _density(answer, target)
    near_shares = shares[1 + len(made) + len(values) :]
    for value, share in zip(values, near_shares, strict=True):
        near = Cauchy(_double(value), math.exp(answer.near_log_scale.item()))
        density += share * near.log_prob(_double(target)).exp().item()
    nll = pointer_nll(answer, _double(target)[None])
    assert nll.item() == pytest.approx(-math.log(density), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("dial", [LOG_DIAL, FINE_LOG_DIAL, LINEAR_DIAL])
def test_a_density_is_that_of_the_value_as_it_is_read(dial: Dial) -> None:
    """Hands that are right make it as high as the last of them is sharp, others leave it."""
    target, g = _double(42.5)[None], 0.06
    shares = [0.0, 1.0] if dial is not LOG_DIAL else [1.0, 0.0]
    answer = _answer(1, pointer=[shares], made=(dial,))
    right = Estimate(
        magnitude=torch.tensor([[1.0]]),
        signed=torch.tensor([[4.3]]),
        log_scale=torch.tensor([[0.2]]).log(),
        hands=dial.hands(target),
        hand_scales=torch.tensor([[[g if p > 0.009 else UNREAD for p in dial.periods]]]),
        dial=dial,
    )
    width = g / (2 * math.pi) * 0.01 * (42.5 * math.log(10) if dial.logarithmic else 1)
    answer = replace(answer, new=right, made=(right,))
    nll = pointer_nll(answer, target)
    assert nll.item() == pytest.approx(math.log(math.pi * width), abs=1e-3)
    blind = Cauchy(_double(43.0), _double(2.0)).log_prob(_double(42.5)).item()
    assert pointer_nll(_unread(answer), target).item() == pytest.approx(-blind, abs=1e-5)


@pytest.mark.parametrize("made", MADE)
def test_pointer_nll_of_several_positions(made: tuple[Dial, ...]) -> None:
    shares = [[0.4, 0.3, 0.2, 0.1, 0.0], [0.7, 0.2, 0.1, 0.0, 0.0], [0.1, 0.1, 0.8, 0.0, 0.0]]
    pointer = [_with_made(row, made) for row in shares]
    answer = _unread(_answer(3, pointer=pointer, values=[5.0, 7.0], made=made))
    nll = pointer_nll(answer, _double(7.0, 7.0, 7.0)[None])
    rest = [_without_copies(answer, row[0], 7.0, a) for a, row in enumerate(shares)]
    copies = (nll[0] - torch.tensor(rest)).exp().tolist()
    assert copies == pytest.approx([1 / 0.2, 1 / 0.1, 1 / 0.8], rel=1e-5)


@pytest.mark.parametrize("made", MADE)
def test_new_and_made_values_are_not_trained_by_their_shares(made: tuple[Dial, ...]) -> None:
    """They are trained on every target by their own losses; the mixture must not pull them away."""
    answer = _answer(1, pointer=[_with_made([0.5, 0.2, 0.3], made)], values=[5.0], made=made)
    leaves, parts = [], []
    for estimate in answer.estimates:
        own = {name: getattr(estimate, name).clone().requires_grad_() for name in PARTS}
        leaves += own.values()
        parts.append(replace(estimate, **own))
    near = answer.near_log_scale.clone().requires_grad_()
    new, *others = parts
    answer = replace(answer, new=new, made=tuple(others), near_log_scale=near)
    loss = pointer_nll(answer, _double(6.0)[None])
    *own, of_near = torch.autograd.grad(loss.sum(), (*leaves, near), allow_unused=True)
    assert own == [None] * len(leaves)
    assert of_near is not None
    assert of_near.item() != 0


@pytest.mark.parametrize("made", MADE)
def test_gradients_of_the_pointer_loss(made: tuple[Dial, ...]) -> None:
    """Through the softmax, an invisible number among them."""
    answer = _answer(3, values=[5.0, 7.0, 5.0], dtype=torch.float64, made=made)
    own = 1 + len(made)
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(1, 3, own + 6, generator=generator, dtype=torch.float64)
    unseen = torch.tensor([[[0, 0, 0], [0, 0, 1], [1, 0, 1]]], dtype=torch.bool)
    invisible = torch.cat([torch.zeros(1, 3, own, dtype=torch.bool), unseen, unseen], dim=-1)
    targets = _double(5.0, 5.0, 5.0)[None]

    def loss(scores: Tensor) -> Tensor:
        log_prob = scores.masked_fill(invisible, float("-inf")).log_softmax(-1)
        return pointer_nll(replace(answer, pointer=log_prob), targets)

    assert torch.autograd.gradcheck(loss, (logits.requires_grad_(),))
    (gradient,) = torch.autograd.grad(loss(logits).sum(), logits)
    assert gradient.isfinite().all()
    assert (gradient[0, 0, own : own + 3] < 0).tolist() == [True, False, True]
    assert gradient[0, 0, :own].sum() > 0, "all that is no copy becomes less probable"
    # No copy is visible: what is no copy together becomes more probable, a copy of the 7 less.
    no_copy = gradient[0, 2, :own].sum() + gradient[0, 2, own + 4]
    assert no_copy < 0 < gradient[0, 2, own + 1]
    assert gradient[0, 2, own] == 0


def test_near_loss_is_that_of_the_numbers_in_sight_alone() -> None:
    answer = _answer(2, values=[5.0, 7.0, 100.0])
    scores = torch.tensor([0.2, 0.5, 3.0])
    near = torch.stack([scores, scores.masked_fill(scores > 2, float("-inf"))])
    own = len(answer.estimates)
    copied = near - near.logsumexp(-1, keepdim=True)
    pointer = torch.cat([torch.zeros(2, own), copied, near - 50.0], dim=-1)[None]
    answer = replace(answer, pointer=pointer)
    scale = answer.near_log_scale.exp()[0, :, None]
    density = Cauchy(torch.tensor([5.0, 7.0, 100.0]), scale).log_prob(torch.tensor(6.5))
    expected = -NEAR_WEIGHT * (near.log_softmax(-1) + density).logsumexp(-1)
    torch.testing.assert_close(near_loss(answer, _double(6.5, 6.5)[None])[0], expected)
    # A copy is one, and where nothing is in sight nothing is near.
    assert near_loss(answer, _double(7.0, 5.0)[None]).tolist() == [[0.0, 0.0]]
    none = replace(answer, pointer=pointer.clone())
    none.pointer[..., own:] = float("-inf")
    assert near_loss(none, _double(6.5, 6.5)[None]).tolist() == [[0.0, 0.0]]


def test_near_loss_trains_the_scale_whatever_its_share_and_nothing_else() -> None:
    answer = _answer(1, [[0.2] * 5], [5.0, 7.0])
    scale = answer.near_log_scale.clone().requires_grad_()
    found = []
    for share in (0.0, -80.0):
        pointer = answer.pointer.clone()
        pointer[..., -2:] += share
        pointer.requires_grad_()
        loss = near_loss(
            replace(answer, near_log_scale=scale, pointer=pointer), _double(6.0)[None]
        )
        of_scale, of_pointer = torch.autograd.grad(loss.sum(), (scale, pointer), allow_unused=True)
        assert of_pointer is None
        found.append(of_scale.item())
    assert found[0] == pytest.approx(found[1], rel=1e-3)
    assert found[0] != 0


def test_the_score_of_a_value_is_in_units_of_its_magnitude() -> None:
    """The same numbers ten times as large have the same loss, and it is the CRPS of the Cauchy."""
    answer = _answer(positions=2)
    targets = torch.tensor([[3.5, -20.0]], dtype=torch.float64)
    new = answer.new
    bare = _with_new(answer, hands=new.hands[..., :0, :], hand_scales=new.hand_scales[..., :0])
    unit = 10.0**new.magnitude
    expected = cauchy_crps(targets.float(), unit * new.signed, unit * new.log_scale.exp()) / unit
    torch.testing.assert_close(value_crps(bare, targets), expected)
    larger = _with_new(bare, magnitude=new.magnitude + 1)
    torch.testing.assert_close(value_crps(larger, 10 * targets), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        value_crps(answer, targets) - expected,
        value_nll(answer, targets) - value_nll(bare, targets),
        rtol=1e-4,
        atol=1e-4,
    )


def test_of_skewed_noise_the_score_finds_the_middle_and_the_likelihood_the_mode() -> None:
    torch.manual_seed(0)
    targets = torch.distributions.Exponential(1.0).sample((1, 4000)).double() + 1.0
    found = []
    for loss in (value_crps, value_nll):
        signed = torch.full((1, 1), 1.5, requires_grad=True)
        log_scale = torch.zeros(1, 1, requires_grad=True)
        optimizer = torch.optim.Adam([signed, log_scale], lr=0.03)
        zeros = torch.zeros_like(targets).float()
        for _ in range(300):
            answer = NumberAnswer(
                new=Estimate(
                    magnitude=zeros,
                    signed=signed.expand_as(zeros),
                    log_scale=log_scale.expand_as(zeros),
                    hands=torch.zeros(1, 4000, 0, 2),
                    hand_scales=torch.ones(1, 4000, 0),
                    dial=LOG_DIAL,
                ),
                made=(),
                near_log_scale=zeros,
                pointer=zeros[..., None],
                values=torch.zeros(1, 0, dtype=torch.float64),
            )
            optimizer.zero_grad()
            loss(answer, targets).mean().backward()
            optimizer.step()
        found.append(signed.item())
    mode, median, mean = 1.0, 1 + math.log(2), 2.0
    assert median < found[0] < mean
    assert mode < found[1] < median - 0.05
