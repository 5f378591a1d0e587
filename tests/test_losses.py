"""The number head's losses, against PyTorch's distributions and sums by hand."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.distributions import Cauchy
from torch.nn import functional

from numlm import clock
from numlm.distributions import cauchy_crps
from numlm.losses import HAND_WEIGHT, Term, pointer_nll, value_crps, value_nll
from numlm.number_head import NumberAnswer


def _double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _answer(
    positions: int = 4,
    pointer: list[list[float]] | None = None,
    values: list[float] | None = None,
    dtype: torch.dtype = torch.float32,
) -> NumberAnswer:
    """One text with several asking positions, its outputs drawn from a fixed seed.

    The pointer's shares are those of new, of each copy and of near each number.
    """
    generator = torch.Generator().manual_seed(0)

    def randn(*shape: int) -> Tensor:
        return torch.randn(1, positions, *shape, generator=generator, dtype=torch.float64)

    shares = torch.tensor(pointer if pointer else [[1.0]] * positions, dtype=torch.float64)
    return NumberAnswer(
        magnitude=2 * randn().to(dtype),
        signed=randn().to(dtype),
        log_scale=randn().to(dtype),
        hands=functional.normalize(randn(clock.HANDS, 2), dim=-1).to(dtype),
        hand_scales=randn(clock.HANDS).exp().to(dtype),
        near_log_scale=randn().to(dtype),
        pointer=shares.log().to(dtype)[None],
        values=torch.tensor([values or []], dtype=torch.float64),
    )


def _naive_value_nll(answer: NumberAnswer, targets: Tensor) -> list[float]:
    """-log density of V and half the hands' textbook losses, in plain float64."""
    result = []
    for a, value in enumerate(targets[0].tolist()):
        power = 10.0 ** answer.magnitude[0, a].double()
        cauchy = Cauchy(power * answer.signed[0, a], power * answer.log_scale[0, a].double().exp())
        nll = -cauchy.log_prob(_double(value)).item()
        for j, period in enumerate(clock.PERIODS if value else ()):
            angle = 2 * math.pi * math.log10(abs(value)) / period
            cos, sin = answer.hands[0, a, j].tolist()
            g = answer.hand_scales[0, a, j].item()
            cos_difference = cos * math.cos(angle) + sin * math.sin(angle)
            density = math.sinh(g) / (math.cosh(g) - cos_difference)  # times 2 pi
            nll -= HAND_WEIGHT * math.log(density)
        result.append(nll)
    return result


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
    assert nll[0].tolist() == pytest.approx(_naive_value_nll(answer, values), rel=2e-4, abs=2e-4)


def test_hand_weight_is_one_half() -> None:
    assert HAND_WEIGHT == 0.5


def test_zero_has_no_hands() -> None:
    answer, zero = _answer(1), _double(0.0)[None]
    turned = replace(answer, hands=-answer.hands, hand_scales=answer.hand_scales * 2)
    assert torch.equal(value_nll(answer, zero), value_nll(turned, zero))
    one = _double(1.0)[None]
    assert not torch.equal(value_nll(answer, one), value_nll(turned, one))


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_a_change_of_unit_changes_the_density_by_it(unit: float) -> None:
    """With M on the unit, only the Jacobian differs."""
    answer = _answer()
    no_hands = replace(answer, hand_scales=torch.full_like(answer.hand_scales, 40.0))
    in_unit = replace(no_hands, magnitude=no_hands.magnitude + math.log10(unit))
    values = _double(1.5, -2.5, 0.25, 40.0)[None]
    difference = value_nll(in_unit, values * unit) - value_nll(no_hands, values)
    assert difference[0].tolist() == pytest.approx([math.log(unit)] * 4, abs=1e-4)


def test_the_right_answer_costs_least() -> None:
    values = _double(42.5, -3.25, 1e-5, 1e6)[None]
    hands = clock.encode(values)[..., clock.FIRST_HAND :].unflatten(-1, (clock.HANDS, 2))
    right = replace(
        _answer(),
        magnitude=values.abs().log10().float(),
        signed=values.sign().float(),
        log_scale=torch.full((1, 4), math.log(0.01)),
        hands=hands,
        hand_scales=torch.full((1, 4, clock.HANDS), 0.01),
    )
    best = value_nll(right, values)
    for other in (
        replace(right, signed=right.signed + 0.05),
        replace(right, signed=-right.signed),
        replace(right, magnitude=right.magnitude + 0.05),
        replace(right, hands=-right.hands),
        replace(right, hands=right.hands.flip(-2)),
        replace(right, log_scale=right.log_scale + 2),
    ):
        assert (value_nll(other, values) > best + 0.1).all()


def _whole_range() -> tuple[NumberAnswer, Tensor, Tensor]:
    """Answers and targets over all that the head can say, and the grid they are made from.

    A text may hold 1.6e-19 and 6.02e23, and the head may take the one for the other.
    """
    targets = _double(1e-30, -1e-12, 1e-5, 0.0, 1.0, -1e5, 1e12, 6.02e23, -1e30, 1e300)
    grid = torch.cartesian_prod(
        torch.arange(-13.0, 14.0),
        torch.tensor([-1.0, 0.0, 1e3]),
        torch.tensor([1e-4, 1.0, 1e4]).log(),
        torch.arange(float(len(targets))),
    )
    outputs = (grid[None, :, i].clone().requires_grad_() for i in range(3))
    names = ("magnitude", "signed", "log_scale")
    answer = replace(_answer(len(grid)), **dict(zip(names, outputs, strict=True)))
    values = targets[grid[:, 3].long()]
    return answer, values[None], torch.cat([grid[:, :3].double(), values[:, None]], dim=-1)


def test_value_nll_is_finite_over_the_whole_range() -> None:
    answer, values, grid = _whole_range()
    bad = grid[~value_nll(answer, values)[0].isfinite()].tolist()
    assert not bad, f"{len(bad)} of {len(grid)} (M, a, log s, target): {bad[:3]}"


@pytest.mark.parametrize("name", ["magnitude", "signed", "log_scale"])
def test_gradients_of_value_nll_are_finite_over_the_whole_range(name: str) -> None:
    answer, values, grid = _whole_range()
    (gradient,) = torch.autograd.grad(value_nll(answer, values).sum(), getattr(answer, name))
    bad = grid[~gradient[0].isfinite()].tolist()
    assert not bad, f"{len(bad)} of {len(grid)} (M, a, log s, target): {bad[:3]}"


def test_gradients_of_the_value_loss() -> None:
    answer = _answer(3, dtype=torch.float64)
    values = _double(42.5, -0.001, 0.0)[None]
    names = ("magnitude", "signed", "log_scale", "hands", "hand_scales")
    leaves = tuple(getattr(answer, name).clone().requires_grad_() for name in names)

    def loss(*parts: Tensor) -> Tensor:
        return value_nll(replace(answer, **dict(zip(names, parts, strict=True))), values)

    assert torch.autograd.gradcheck(loss, leaves)


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
    values: list[float], shares: list[float], target: float, probability: float
) -> None:
    answer = _answer(1, pointer=[shares], values=values)
    nll = pointer_nll(answer, _double(target)[None])
    assert nll.shape == (1, 1)
    assert nll.item() == pytest.approx(-math.log(probability), abs=1e-6)


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
    values: list[float], shares: list[float], target: float
) -> None:
    answer = _answer(1, pointer=[shares], values=values)
    power = 10.0 ** answer.magnitude.double().item()
    new = Cauchy(power * answer.signed.item(), power * math.exp(answer.log_scale.item()))
    density = shares[0] * new.log_prob(_double(target)).exp().item()
    for value, share in zip(values, shares[1 + len(values) :], strict=True):
        near = Cauchy(_double(value), math.exp(answer.near_log_scale.item()))
        density += share * near.log_prob(_double(target)).exp().item()
    nll = pointer_nll(answer, _double(target)[None])
    assert nll.item() == pytest.approx(-math.log(density), rel=1e-5, abs=1e-5)


def test_pointer_nll_of_several_positions() -> None:
    shares = [[0.4, 0.3, 0.2, 0.1, 0.0], [0.7, 0.2, 0.1, 0.0, 0.0], [0.1, 0.1, 0.8, 0.0, 0.0]]
    answer = _answer(3, pointer=shares, values=[5.0, 7.0])
    nll = pointer_nll(answer, _double(7.0, 7.0, 7.0)[None])
    assert nll[0].exp().tolist() == pytest.approx([1 / 0.2, 1 / 0.1, 1 / 0.8])


def test_the_new_value_is_not_trained_by_its_share() -> None:
    """It is trained on every target by the value loss; the mixture must not pull it away."""
    answer = _answer(1, pointer=[[0.5, 0.2, 0.3]], values=[5.0])
    signed = answer.signed.clone().requires_grad_()
    near = answer.near_log_scale.clone().requires_grad_()
    loss = pointer_nll(replace(answer, signed=signed, near_log_scale=near), _double(6.0)[None])
    gradients = torch.autograd.grad(loss.sum(), (signed, near), allow_unused=True)
    assert gradients[0] is None
    assert gradients[1] is not None
    assert gradients[1].item() != 0


def test_gradients_of_the_pointer_loss() -> None:
    """Through the softmax, an invisible number among them."""
    answer = _answer(3, values=[5.0, 7.0, 5.0], dtype=torch.float64)
    logits = torch.randn(1, 3, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    unseen = torch.tensor([[[0, 0, 0], [0, 0, 1], [1, 0, 1]]], dtype=torch.bool)
    invisible = torch.cat([torch.zeros(1, 3, 1, dtype=torch.bool), unseen, unseen], dim=-1)
    targets = _double(5.0, 5.0, 5.0)[None]

    def loss(scores: Tensor) -> Tensor:
        log_prob = scores.masked_fill(invisible, float("-inf")).log_softmax(-1)
        return pointer_nll(replace(answer, pointer=log_prob), targets)

    assert torch.autograd.gradcheck(loss, (logits.requires_grad_(),))
    (gradient,) = torch.autograd.grad(loss(logits).sum(), logits)
    assert gradient.isfinite().all()
    assert (gradient[0, 0, :4] < 0).tolist() == [False, True, False, True]
    # No copy is visible: new or near the 7 together become more probable, a copy of the 7 less.
    assert gradient[0, 2, 0] + gradient[0, 2, 5] < 0 < gradient[0, 2, 2]
    assert gradient[0, 2, 1] == 0


def test_the_score_of_a_value_is_in_units_of_its_magnitude() -> None:
    """The same numbers ten times as large have the same loss, and it is the CRPS of the Cauchy."""
    answer = _answer(positions=2)
    targets = torch.tensor([[3.5, -20.0]], dtype=torch.float64)
    bare = replace(answer, hands=answer.hands[..., :0, :], hand_scales=answer.hand_scales[..., :0])
    unit = 10.0**bare.magnitude
    expected = cauchy_crps(targets.float(), unit * bare.signed, unit * bare.log_scale.exp()) / unit
    torch.testing.assert_close(value_crps(bare, targets), expected)
    larger = replace(bare, magnitude=bare.magnitude + 1)
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
                magnitude=zeros,
                signed=signed.expand_as(zeros),
                log_scale=log_scale.expand_as(zeros),
                hands=torch.zeros(1, 4000, 0, 2),
                hand_scales=torch.ones(1, 4000, 0),
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
