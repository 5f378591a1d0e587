"""Cauchy, wrapped Cauchy and the mixture, against PyTorch, direct sums, quadrature and draws."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Cauchy

from numlm.distributions import ValueMixture, cauchy_cdf, cauchy_nll, wrapped_cauchy_nll

PROPERTY = settings(max_examples=100, deadline=None, derandomize=True, database=None)
LOCS, SCALES = st.floats(-1e3, 1e3), st.floats(-6, 6).map(math.exp)


def _double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _unit(angle: Tensor) -> Tensor:
    return torch.stack([angle.cos(), angle.sin()], dim=-1)


@PROPERTY
@given(LOCS, SCALES, LOCS)
def test_cauchy_nll_is_torchs(loc: float, scale: float, x: float) -> None:
    nll = cauchy_nll(_double(x), _double(loc), _double(scale))
    torch.testing.assert_close(nll, -Cauchy(_double(loc), _double(scale)).log_prob(_double(x)))


@PROPERTY
@given(LOCS, SCALES, st.floats(-100, 100), st.floats(1e-3, 100))
def test_cauchy_density_integrates_to_its_cdf(
    loc: float, scale: float, start: float, width: float
) -> None:
    """Over t = (x - loc) / scale, by Gauss-Legendre in 400 pieces."""
    edges = torch.linspace(start, start + width, 401, dtype=torch.float64)
    nodes = _double(-math.sqrt(3 / 5), 0.0, math.sqrt(3 / 5))
    half = (edges[1:] - edges[:-1])[:, None] / 2
    t = (edges[1:] + edges[:-1])[:, None] / 2 + half * nodes
    density = (-cauchy_nll(loc + scale * t, _double(loc), _double(scale))).exp() * scale
    integral = (density * half * _double(5 / 9, 8 / 9, 5 / 9)).sum().item()
    ends = cauchy_cdf(loc + scale * edges[[0, -1]], _double(loc), _double(scale))
    assert integral == pytest.approx((ends[1] - ends[0]).item(), rel=1e-4, abs=1e-12)


def test_cauchy_cdf_is_torchs() -> None:
    x = torch.linspace(-50, 50, 1001, dtype=torch.float64)
    loc, scale = _double(1.5), _double(0.7)
    torch.testing.assert_close(cauchy_cdf(x, loc, scale), Cauchy(loc, scale).cdf(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cauchy_cdf_keeps_its_digits_in_the_lower_tail(dtype: torch.dtype) -> None:
    x = torch.tensor([-1e3, -1e6, -1e12, -1e20], dtype=dtype)
    p = cauchy_cdf(x, torch.zeros((), dtype=dtype), torch.ones((), dtype=dtype)).double()
    z = x.double()
    exact = (1 - 1 / (3 * z**2)) / (math.pi * -z)  # atan's series
    torch.testing.assert_close(p, exact, rtol=1e-6 if dtype == torch.float32 else 1e-11, atol=0)


def test_cauchy_nll_in_float32_is_finite_in_the_far_tail() -> None:
    x = torch.tensor([1e30, -1e38], requires_grad=True)
    nll = cauchy_nll(x, torch.zeros(2), torch.ones(2))
    expected = math.log(math.pi) + 2 * math.log(10) * torch.tensor([30.0, 38.0])
    torch.testing.assert_close(nll.detach(), expected)
    nll.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, 2 / x.detach())


@pytest.mark.parametrize("scale", [0.05, 0.3, 1.0, 3.0, 7.0])
def test_wrapped_cauchy_is_the_sum_of_its_images(scale: float) -> None:
    """The Cauchy's images at angle + 2 pi k, and the integral of the far ones."""
    delta = torch.linspace(-math.pi, math.pi, 21, dtype=torch.float64)
    images = 2000
    turns = 2 * math.pi * torch.arange(-images, images + 1, dtype=torch.float64)
    density = Cauchy(_double(0.0), _double(scale)).log_prob(delta[:, None] + turns).exp().sum(-1)
    density += 2 * scale / (2 * math.pi) ** 2 / math.pi / (images + 0.5)  # sum of 1/k^2 beyond
    nll = wrapped_cauchy_nll(_unit(delta), _unit(_double(0.0)), _double(scale))
    torch.testing.assert_close(nll, -(density * 2 * math.pi).log(), rtol=1e-7, atol=1e-9)


@PROPERTY
@given(st.floats(0.05, 7.4), st.floats(-math.pi, math.pi))
def test_wrapped_cauchy_integrates_to_one_with_the_known_resultant(
    scale: float, mean: float
) -> None:
    """The trapezoid rule on a circle; E[cos(angle - mean)] = exp(-scale)."""
    angles = torch.arange(2048, dtype=torch.float64) * (2 * math.pi / 2048)
    density = (-wrapped_cauchy_nll(_unit(_double(mean)), _unit(angles), _double(scale))).exp()
    assert density.mean().item() == pytest.approx(1.0, rel=1e-9)
    resultant = (density * (angles - mean).cos()).mean().item()
    assert resultant == pytest.approx(math.exp(-scale), rel=1e-8)


@pytest.mark.parametrize("scale", [1e-3, 1e-2, 0.3, 7.0])
@pytest.mark.parametrize("delta", [0.0, 1e-6, 1e-4, 1e-2, 1.0, math.pi])
def test_wrapped_cauchy_in_float32_keeps_its_digits(scale: float, delta: float) -> None:
    """The textbook form `log(cosh g - cos d)` is -inf or wrong there."""
    target = _unit(torch.tensor([delta]))
    nll = wrapped_cauchy_nll(_unit(torch.zeros(1)), target, torch.tensor([scale]))
    exact = math.log(2 * math.sinh(scale / 2) ** 2 + 2 * math.sin(delta / 2) ** 2)
    assert nll.item() == pytest.approx(exact - math.log(math.sinh(scale)), rel=2e-5, abs=2e-5)


def test_wrapped_cauchy_has_finite_gradients() -> None:
    scale = torch.tensor([math.exp(-7), 1.0, math.exp(2)], requires_grad=True)
    direction = _unit(torch.zeros(3)).requires_grad_()
    wrapped_cauchy_nll(direction, _unit(torch.zeros(3)), scale).sum().backward()
    assert scale.grad is not None
    assert direction.grad is not None
    assert direction.grad.isfinite().all()
    # at distance 0 the loss is log tanh(g / 2)
    torch.testing.assert_close(scale.grad, 1 / scale.detach().sinh(), rtol=1e-4, atol=1e-6)


def _mixture(
    atoms: list[float], weights: list[float], loc: float = 0.0, scale: float = 1.0
) -> ValueMixture:
    return ValueMixture(
        _double(*atoms)[None], _double(*weights)[None], _double(loc), _double(scale)
    )


def _cdf(mixture: ValueMixture, x: float) -> float:
    """Row 0, summed in plain Python."""
    atoms, weights = mixture.atoms[0].tolist(), mixture.weights[0].tolist()
    copied = sum(w for a, w in zip(atoms, weights, strict=True) if a <= x)
    standardized = (x - mixture.loc[0].item()) / mixture.scale[0].item()
    return copied + (1 - sum(weights)) * (0.5 + math.atan(standardized) / math.pi)


def test_cdf_steps_at_the_atoms() -> None:
    mixture = _mixture([3.0, -1.0], [0.25, 0.5])
    for x in (-2.0, -1.0, 0.0, 2.999, 3.0, 100.0):
        assert mixture.cdf(_double(x)).item() == pytest.approx(_cdf(mixture, x), rel=1e-12)
    step = mixture.cdf(_double(3.0)) - mixture.cdf(_double(math.nextafter(3.0, 0.0)))
    assert step.item() == pytest.approx(0.25)
    assert mixture.new.item() == 0.25


@pytest.mark.parametrize(
    ("atoms", "weights", "level", "x", "source"),
    [
        ([7.0], [1.0], 0.5, 7.0, 0),
        ([7.0], [1.0], 0.001, 7.0, 0),
        ([7.0, 2.0], [0.4, 0.6], 0.5, 2.0, 1),
        ([7.0, 2.0], [0.4, 0.6], 0.7, 7.0, 0),
        ([2.0, 7.0, 2.0], [0.3, 0.4, 0.3], 0.5, 2.0, 2),  # two equal atoms carry it together
        ([2.0, 7.0], [0.0, 1.0], 0.1, 7.0, 1),
        ([-9.0, 7.0, 9.0], [0.0, 0.0, 0.0], 0.5, 0.0, -1),  # all new
        ([-9.0], [0.0], 0.75, 1.0, -1),
        ([0.0, 5.0], [0.0, 0.9], 0.5, 5.0, 1),  # padding of weight 0 stands at 0
        ([5.0], [0.2], 0.4, 0.0, -1),  # half of the new mass lies below 0
        ([-5.0], [0.2], 0.6, 0.0, -1),
        ([0.1 + 0.2], [0.6], 0.5, 0.1 + 0.2, 0),  # exactly as it is
        ([1e300, -1e-300], [0.3, 0.4], 0.5, -1e-300, 1),
    ],
)
def test_quantile(
    atoms: list[float], weights: list[float], level: float, x: float, source: int
) -> None:
    quantile, column = _mixture(atoms, weights).quantile(level)
    assert column.item() == source
    if source >= 0:
        assert quantile.item() == x
    else:
        assert quantile.item() == pytest.approx(x, rel=1e-9, abs=1e-9)


def test_rows_of_a_mixture_are_independent() -> None:
    rows = [
        ([1.0, 2.0, 0.0], [0.9, 0.1, 0.0], 5.0, 1.0),
        ([4.0, 3.0, 3.0], [0.2, 0.2, 0.2], -8.0, 0.1),
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], 7.0, 2.0),
    ]
    together = ValueMixture(
        _double(*(a for row in rows for a in row[0])).view(3, 3),
        _double(*(w for row in rows for w in row[1])).view(3, 3),
        _double(*(row[2] for row in rows)),
        _double(*(row[3] for row in rows)),
    )
    for level in (0.1, 0.5, 0.9):
        x, source = together.quantile(level)
        single = [_mixture(*row).quantile(level) for row in rows]
        assert x.tolist() == [value.item() for value, _ in single]
        assert source.tolist() == [column.item() for _, column in single]
    assert together.quantile(0.5)[0].tolist()[::2] == [1.0, 7.0]


def test_no_numbers_at_all() -> None:
    mixture = ValueMixture(
        torch.zeros(2, 1, dtype=torch.float64),
        torch.zeros(2, 1, dtype=torch.float64),
        _double(3.0, -4.0),
        _double(1.0, 2.0),
    )
    x, source = mixture.quantile(0.25)
    torch.testing.assert_close(x, _double(2.0, -6.0))
    assert source.tolist() == [-1, -1]


_ATOMS = st.lists(
    st.tuples(
        st.sampled_from([-1e9, -3.0, -0.5, 0.0, 0.25, 0.25, 1.0, 2.0, 1e-6, 1e12]),
        st.one_of(st.just(0.0), st.floats(0.01, 5.0)),
    ),
    min_size=1,
    max_size=6,
)
_NEW = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.001, 0.999))


@PROPERTY
@given(_ATOMS, _NEW, st.floats(-5, 5), SCALES, st.floats(0.01, 0.99))
@example([(0.25, 1.0), (0.25, 1.0)], 0.0, 0.0, 1.0, 0.5)
@example([(0.25, 0.0)], 1.0, 0.0, 1.0, 0.5)
@example([(0.0, 1.0)], 0.5, 0.0, 1e-3, 0.5)
def test_quantile_is_the_least_value_whose_cdf_reaches_the_level(
    atoms: list[tuple[float, float]], new: float, loc: float, scale: float, level: float
) -> None:
    total = sum(weight for _, weight in atoms)
    new = 1.0 if total == 0 else new
    weights = [(1 - new) * weight / total if total else 0.0 for _, weight in atoms]
    mixture = _mixture([atom for atom, _ in atoms], weights, loc, scale)
    x, source = (t.item() for t in mixture.quantile(level))
    assert _cdf(mixture, x + 1e-9 * abs(x)) >= level - 1e-9
    assert _cdf(mixture, x - 1e-6 * max(abs(x), scale)) <= level + 1e-9
    assert mixture.cdf(_double(x)).item() == pytest.approx(_cdf(mixture, x), abs=1e-9)
    if source >= 0:
        assert x == atoms[source][0]
        assert weights[source] > 0
    else:
        assert new > 0
        assert _cdf(mixture, x) == pytest.approx(level, abs=1e-9)


def test_quantiles_of_draws() -> None:
    generator = torch.Generator().manual_seed(0)
    n, atoms, weights = 200_000, _double(2.0, -1.0, 2.0), _double(0.15, 0.3, 0.1)
    mixture = ValueMixture(atoms[None], weights[None], _double(0.5), _double(2.0))
    kind = torch.multinomial(
        torch.cat([weights, _double(0.45)]), n, replacement=True, generator=generator
    )
    uniform = torch.rand(n, generator=generator, dtype=torch.float64)
    fresh = 0.5 + 2 * torch.tan(math.pi * (uniform - 0.5))
    draws = torch.where(kind == 3, fresh, torch.cat([atoms, _double(0.0)])[kind]).sort().values
    for level in (0.05, 0.25, 0.4, 0.55, 0.62, 0.8, 0.95):
        x = mixture.quantile(level)[0].item()
        assert draws[int(level * n)].item() == pytest.approx(x, rel=0.05, abs=0.03)
        share = (draws <= x).double().mean().item()
        assert mixture.cdf(_double(x)).item() == pytest.approx(share, abs=0.005)
