"""An estimate: its Cauchy against PyTorch's, its hands, and the density of what is read."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.distributions import Cauchy

from numlm.clock import FINE_LOG_DIAL, LINEAR_DIAL, LOG_DIAL, Dial
from numlm.estimate import Estimate, as_float

DIALS = [LOG_DIAL, FINE_LOG_DIAL, LINEAR_DIAL]
UNREAD = 40.0  # scale of a hand that knows nothing, and is never read


def _double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _estimate(
    dial: Dial, values: list[float], error: float = 0.04, hand_scale: float = 0.05
) -> Estimate:
    """Locations a little off, and hands that stand where those of the values do."""
    count = len(dial.periods)
    return Estimate(
        magnitude=torch.tensor([[math.log10(abs(value) or 1.0) for value in values]]),
        signed=torch.tensor([[math.copysign(1 + error, v) if v else error for v in values]]),
        log_scale=torch.full((1, len(values)), math.log(2 * error)),
        hands=dial.hands(_double(*values))[None],
        hand_scales=torch.full((1, len(values), count), hand_scale),
        dial=dial,
    )


@pytest.mark.parametrize("dial", DIALS)
@pytest.mark.parametrize(
    "targets", [[1.0, -2.5, 0.0], [1e-9, 3e6, -40.0], [-1e12, 1e-12, 7.25], [42.5, 42.4, -42.5]]
)
def test_nll_is_that_of_the_cauchy(dial: Dial, targets: list[float]) -> None:
    """Whatever the hands."""
    estimate, values = _estimate(dial, [42.5, -3e-7, 2e8]), _double(*targets)[None]
    power = 10.0 ** estimate.magnitude.double()
    cauchy = Cauchy(power * estimate.signed, power * estimate.log_scale.double().exp())
    expected = -cauchy.log_prob(values).float()
    torch.testing.assert_close(estimate.nll(values), expected, rtol=1e-5, atol=1e-4)


def test_zero_has_hands_on_the_axis_of_the_value_only() -> None:
    zero = _double(0.0)[None]
    for dial in (LOG_DIAL, FINE_LOG_DIAL):
        assert _estimate(dial, [42.5]).hands_nll(zero).tolist() == [[0.0]]
    right, wrong = (_estimate(LINEAR_DIAL, [value]).hands_nll(zero) for value in (0.0, 5.5555))
    assert right.item() == pytest.approx(22 * math.log(math.tanh(0.05 / 2)), rel=1e-4)
    assert wrong.item() > right.item() + 20


@pytest.mark.parametrize("logarithmic", [False, True])
@pytest.mark.parametrize("scale", [0.05, 0.5, 3.0])
def test_the_density_of_a_hand_has_a_mean_of_one(logarithmic: bool, scale: float) -> None:
    """Over one turn: without its constant, a guess has a density of 1."""
    dial = Dial((2.0,), logarithmic)
    place = 2 * (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    values = (10**place if logarithmic else place)[None]
    estimate = Estimate(
        magnitude=torch.zeros(1, 20000),
        signed=torch.zeros(1, 20000),
        log_scale=torch.zeros(1, 20000),
        hands=torch.tensor([[0.6, 0.8]]).expand(1, 20000, 1, 2),
        hand_scales=torch.full((1, 20000, 1), scale),
        dial=dial,
    )
    density = (-estimate.hands_nll(values).double()).exp()
    assert density.mean().item() == pytest.approx(1, abs=1e-4)
    likeliest = values[0, density.argmax()].item()
    expected = math.atan2(0.8, 0.6) / math.pi
    found = math.log10(likeliest) if logarithmic else likeliest
    assert found == pytest.approx(expected, abs=1e-2)


@pytest.mark.parametrize("dial", DIALS)
def test_an_estimate_of_fewer_hands_is_held_to_these(dial: Dial) -> None:
    target = _double(42.5)[None]
    whole = _estimate(dial, [17.25])
    hands = torch.stack(
        [
            Estimate(
                whole.magnitude,
                whole.signed,
                whole.log_scale,
                whole.hands[..., :count, :],
                whole.hand_scales[..., :count],
                dial,
            ).hands_nll(target)
            for count in range(len(dial.periods) + 1)
        ]
    )
    assert hands[0].item() == 0
    torch.testing.assert_close(hands[-1], whole.hands_nll(target))
    assert (hands.diff(dim=0) != 0).all(), "every hand has its part"


@pytest.mark.parametrize("dial", DIALS)
@pytest.mark.parametrize("value", [42.5, -42.5, 0.00125, 7.0, -1234.56, 0.1])
def test_what_is_read_is_the_value_to_the_scale_of_the_last_hand(dial: Dial, value: float) -> None:
    loc, scale = _estimate(dial, [value]).read()
    width = 0.05 / (2 * math.pi) * dial.periods[-1]
    width *= abs(value) * math.log(10) if dial.logarithmic else 1
    assert loc.dtype == scale.dtype == torch.float64
    assert loc.item() == pytest.approx(value, abs=0.01 * width)
    assert scale.item() == pytest.approx(width, rel=1e-5)


@pytest.mark.parametrize("dial", DIALS)
@pytest.mark.parametrize("last", [1e-9, 1e-2, 1e3])  # the last hand that is sharp, if it is one
def test_read_nll_is_that_of_the_cauchy_that_is_read(dial: Dial, last: float) -> None:
    """Whose scale is a millionth of it at least."""
    values = [42.5, -3.25, 0.001, 1e5]
    estimate = _estimate(dial, values)
    estimate.hand_scales[:, :, torch.tensor(dial.periods) < 0.9 * last] = UNREAD
    loc, scale = estimate.read()
    for targets in (values, [42.4, 3.25, 0.0, -1e5], [1e9, -1e-9, 0.0011, 1.0]):
        target = _double(*targets)[None]
        written = torch.maximum(scale, 1e-6 * loc.abs())
        expected = -Cauchy(loc, written).log_prob(target).float()
        torch.testing.assert_close(estimate.read_nll(target), expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("dial", DIALS)
def test_a_digit_beyond_the_sixth_is_no_error(dial: Dial) -> None:
    """14 / 3 is written as 4.66667, and read to more digits than that."""
    estimate = _estimate(dial, [14 / 3])
    exact, written, wrong = (
        estimate.read_nll(_double(value)[None]).item() for value in (14 / 3, 4.66667, 4.6668)
    )
    assert exact == pytest.approx(math.log(math.pi * 1e-6 * 14 / 3), abs=1e-3)
    assert written == pytest.approx(exact, abs=0.7)
    assert wrong > exact + 5


def test_read_nll_has_no_gradients() -> None:
    estimate = _estimate(LINEAR_DIAL, [42.5])
    for tensor in (estimate.magnitude, estimate.signed, estimate.log_scale, estimate.hands):
        tensor.requires_grad_()
    assert not estimate.read_nll(_double(42.5)[None]).requires_grad
    assert estimate.nll(_double(42.5)[None]).requires_grad


def test_float64_becomes_float32_without_infinities() -> None:
    found = as_float(_double(0.1, -1e300, 1.7e308, 1e-300, -2.0))
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx([0.1, -1e24, 1e24, 0.0, -2.0], rel=1e-6)


@pytest.mark.parametrize("dial", DIALS)
def test_gradients(dial: Dial) -> None:
    names = ("magnitude", "signed", "log_scale", "hands", "hand_scales")
    estimate, target = _estimate(dial, [42.5, -0.002, 7.0]), _double(41.0, -0.001, 0.0)[None]
    leaves = tuple(getattr(estimate, name).double().requires_grad_() for name in names)

    def loss(*parts: Tensor) -> Tensor:
        changed = replace(estimate, **dict(zip(names, parts, strict=True)))
        return changed.nll(target) + changed.hands_nll(target)

    assert torch.autograd.gradcheck(loss, leaves)
