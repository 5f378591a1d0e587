"""Cauchy, wrapped Cauchy and the mixture, against PyTorch, direct sums, quadrature and draws."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Cauchy

from numlm.distributions import (
    ValueMixture,
    cauchy_cdf,
    cauchy_crps,
    cauchy_distance,
    cauchy_nll,
    wrapped_cauchy_nll,
)

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


def _shares(
    atoms: list[tuple[float, float]], new: float
) -> tuple[list[float], list[float], float]:
    """Places of the atoms, their weights, which leave `new`, and what they leave."""
    total = sum(weight for _, weight in atoms)
    new = 1.0 if total == 0 else new
    weights = [(1 - new) * weight / total if total else 0.0 for _, weight in atoms]
    return [atom for atom, _ in atoms], weights, new


@PROPERTY
@given(_ATOMS, _NEW, st.floats(-5, 5), SCALES, st.floats(0.01, 0.99))
@example([(0.25, 1.0), (0.25, 1.0)], 0.0, 0.0, 1.0, 0.5)
@example([(0.25, 0.0)], 1.0, 0.0, 1.0, 0.5)
@example([(0.0, 1.0)], 0.5, 0.0, 1e-3, 0.5)
def test_quantile_is_the_least_value_whose_cdf_reaches_the_level(
    atoms: list[tuple[float, float]], new: float, loc: float, scale: float, level: float
) -> None:
    places, weights, new = _shares(atoms, new)
    mixture = _mixture(places, weights, loc, scale)
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


def _crps(cdf: Callable[[Tensor], Tensor], x: float, half: float, pieces: int = 200_001) -> float:
    """The integral of (F(t) - [t >= x])^2 over x +- half, by trapezoids on either side of x."""
    steps = torch.linspace(0.0, 1.0, pieces, dtype=torch.float64) ** 3 * half  # fine beside x
    below, above = cdf(x - steps).square(), (1 - cdf(x + steps)).square()
    return float(torch.trapezoid(below, steps) + torch.trapezoid(above, steps))


@pytest.mark.parametrize(
    ("x", "loc", "scale"), [(0.0, 0.0, 1.0), (3.0, 1.0, 0.5), (-40.0, 2.0, 3.0), (0.1, 0.2, 5.0)]
)
def test_cauchy_crps_is_the_integral_of_the_squared_difference(
    x: float, loc: float, scale: float
) -> None:
    """Beyond the quadrature both tails are scale^2 / (pi^2 t^2)."""
    half = 1e5 * scale
    cauchy = Cauchy(_double(loc), _double(scale))
    integral = _crps(cauchy.cdf, x, half) + 2 * scale**2 / (math.pi**2 * half)
    crps = cauchy_crps(_double(x), _double(loc), _double(scale)).item()
    assert crps == pytest.approx(integral, rel=1e-6)


@PROPERTY
@given(st.floats(-50, 50), SCALES)
def test_the_derivative_of_cauchy_distance_is_twice_the_cdf_less_one(
    offset: float, scale: float
) -> None:
    d = _double(offset).requires_grad_()
    cauchy_distance(d, _double(scale)).sum().backward()
    assert d.grad is not None
    slope = 2 * Cauchy(_double(0.0), _double(scale)).cdf(d.detach()) - 1
    torch.testing.assert_close(d.grad, slope, rtol=1e-9, atol=1e-12)
    assert cauchy_distance(_double(0.0), _double(scale)).item() == 0


def test_cauchy_distance_is_that_of_draws_cut_at_great_bounds() -> None:
    """E|S - d| - E|S| of S in +-bound, by quadrature over the levels of S."""
    levels = (torch.arange(2_000_000, dtype=torch.float64) + 0.5) / 2_000_000
    draws = 0.7 * torch.tan(math.pi * (levels - 0.5))
    for offset in (-8.0, -0.3, 1.0, 25.0):
        expected = ((draws - offset).abs() - draws.abs()).mean().item()
        distance = cauchy_distance(_double(offset), _double(0.7)).item()
        assert distance == pytest.approx(expected, rel=1e-3, abs=1e-4)


@PROPERTY
@given(st.floats(-1e3, 1e3), LOCS, SCALES, st.sampled_from([1e-30, 1e-6, 3.0, 1e9, 1e100]))
def test_cauchy_crps_is_in_the_units_of_x(x: float, loc: float, scale: float, unit: float) -> None:
    crps = cauchy_crps(_double(x), _double(loc), _double(scale))
    scaled = cauchy_crps(_double(x * unit), _double(loc * unit), _double(scale * unit))
    torch.testing.assert_close(scaled, crps * unit, rtol=1e-9, atol=0)


@pytest.mark.parametrize("scale", [1e-12, 1e-17, 1e-100])
@pytest.mark.parametrize("error", [1e-3, 1.0, 1e15, 1e100])
def test_a_narrow_cauchy_scores_its_absolute_error(error: float, scale: float) -> None:
    crps = cauchy_crps(_double(error, -error), _double(0.0), _double(scale))
    torch.testing.assert_close(crps, _double(error, error), rtol=1e-6, atol=0)


@pytest.mark.parametrize("scale", [1e12, 1e100, 1e300])
def test_a_wide_cauchy_scores_in_proportion_to_its_scale(scale: float) -> None:
    crps = cauchy_crps(_double(0.0, -5.0, 7.0), _double(0.0), _double(scale))
    expected = torch.full((3,), 2 * math.log(2) / math.pi * scale, dtype=torch.float64)
    torch.testing.assert_close(crps, expected)


def test_an_error_too_great_for_its_scale_is_not_scored_as_none() -> None:
    """error / scale overflows float64; the score is still the absolute error."""
    crps = cauchy_crps(_double(1e300), _double(0.0), _double(1e-17)).item()
    assert crps == pytest.approx(1e300, rel=1e-6)
    mixture = _mixture([5.0], [0.0], 0.0, 1e-17)
    assert mixture.crps(_double(1e300)).item() == pytest.approx(1e300, rel=1e-6)


@pytest.mark.parametrize(
    ("atoms", "weights", "x"),
    [
        ([7.0], [1.0], 7.0),
        ([7.0], [1.0], -3.5),
        ([1.0, 4.0], [0.25, 0.75], 2.0),
        ([1.0, 4.0, 4.0, -2.0], [0.1, 0.2, 0.3, 0.4], 4.0),
        ([0.0, 1e9], [0.5, 0.5], -10.0),
    ],
)
def test_crps_of_point_masses_is_the_integral_of_steps(
    atoms: list[float], weights: list[float], x: float
) -> None:
    mixture = _mixture(atoms, weights)
    ends = sorted({*atoms, x})
    integral = 0.0
    for left, right in pairwise(ends):
        below = sum(w for a, w in zip(atoms, weights, strict=True) if a <= left)
        integral += (right - left) * (below - (left >= x)) ** 2
    assert mixture.crps(_double(x)).item() == pytest.approx(integral, rel=1e-12, abs=1e-12)


def test_a_certain_copy_scores_its_absolute_error() -> None:
    mixture = _mixture([7.0, 100.0], [1.0, 0.0], 3.0, 2.0)
    assert [mixture.crps(_double(x)).item() for x in (7.0, 5.5, -3.0)] == [0.0, 1.5, 10.0]


def test_crps_of_point_masses_is_that_of_draws() -> None:
    """E|X - x| - E|X - X'| / 2."""
    generator = torch.Generator().manual_seed(0)
    atoms, weights, x = _double(2.0, -1.0, 5.0), _double(0.5, 0.3, 0.2), 0.5
    one, two = (
        atoms[torch.multinomial(weights, 400_000, replacement=True, generator=generator)]
        for _ in range(2)
    )
    expected = (one - x).abs().mean() - (one - two).abs().mean() / 2
    crps = ValueMixture(atoms[None], weights[None], _double(0.0), _double(1.0)).crps(_double(x))
    assert crps.item() == pytest.approx(expected.item(), abs=0.01)


@pytest.mark.parametrize("x", [-20.0, -1.0, 0.0, 0.4, 2.0, 9.0])
@pytest.mark.parametrize(
    ("atoms", "weights"),
    [([2.0, -1.0], [0.3, 0.2]), ([2.0, 2.0, -15.0], [0.3, 0.1, 0.59]), ([1.0], [0.0])],
)
def test_crps_of_a_mixture_is_the_integral_of_the_squared_difference(
    atoms: list[float], weights: list[float], x: float
) -> None:
    """Trapezoids between the places where F or the step jumps, and the tails' closed form."""
    loc, scale, half = 0.4, 0.7, 1e5
    mixture, new = _mixture(atoms, weights, loc, scale), 1 - sum(weights)
    cauchy = Cauchy(_double(loc), _double(scale))
    ends = sorted({*atoms, x, loc, loc - 50, loc + 50, loc - half, loc + half})
    integral = 2 * (new * scale / math.pi) ** 2 / half
    for left, right in pairwise(ends):
        below = sum(w for a, w in zip(atoms, weights, strict=True) if a <= left)
        pieces = 20_001 if right - left < 100 else 1_000_001
        t = torch.linspace(left, right, pieces, dtype=torch.float64)
        integral += torch.trapezoid(
            (below + new * cauchy.cdf(t) - float(left >= x)).square(), t
        ).item()
    assert mixture.crps(_double(x)).item() == pytest.approx(integral, rel=1e-5, abs=1e-7)


def _draws(mixture: ValueMixture, n: int, seed: int) -> Tensor:
    """Draws (n,) from row 0."""
    generator = torch.Generator().manual_seed(seed)
    shares = torch.cat([mixture.weights[0], mixture.new[:1]])
    kind = torch.multinomial(shares, n, replacement=True, generator=generator)
    uniform = torch.rand(n, generator=generator, dtype=torch.float64)
    fresh = mixture.loc[0] + mixture.scale[0] * torch.tan(math.pi * (uniform - 0.5))
    places = torch.cat([mixture.atoms[0], _double(0.0)])
    return torch.where(kind == len(places) - 1, fresh, places[kind])


def _repeated(mixture: ValueMixture, n: int) -> ValueMixture:
    return ValueMixture(
        mixture.atoms.expand(n, -1),
        mixture.weights.expand(n, -1),
        mixture.loc.expand(n),
        mixture.scale.expand(n),
    )


@pytest.mark.parametrize(
    "other",
    [
        _mixture([2.0, -1.0], [0.3, 0.2], loc=1.0),
        _mixture([2.0, -1.0], [0.3, 0.2], scale=3.0),
        _mixture([2.0, -1.0], [0.3, 0.2], scale=0.3),
        _mixture([2.0, -1.0], [0.2, 0.3]),
        _mixture([2.0, -1.0], [0.0, 0.0]),
        _mixture([2.0, -1.0], [0.6, 0.4]),
        _mixture([2.5, -1.0], [0.3, 0.2]),
    ],
    ids="loc wide narrow swapped new copies atom".split(),
)
def test_the_distribution_of_the_draws_scores_best(other: ValueMixture) -> None:
    """The mean difference to any other distribution is several standard errors below zero.

    Differences of scores grow with the logarithm, while a Cauchy's own scores have no mean.
    """
    mixture, n = _mixture([2.0, -1.0], [0.3, 0.2]), 30_000
    x = _draws(mixture, n, seed=0)
    gain = _repeated(other, n).crps(x) - _repeated(mixture, n).crps(x)
    assert gain.mean() > 4 * gain.std() / math.sqrt(n)


@PROPERTY
@given(
    _ATOMS, _NEW, st.floats(-5, 5), SCALES, st.floats(-9, 9), st.sampled_from([1e-9, 7.0, 1e20])
)
def test_crps_of_a_mixture_is_in_the_units_of_x(
    atoms: list[tuple[float, float]], new: float, loc: float, scale: float, x: float, unit: float
) -> None:
    places, weights, _ = _shares(atoms, new)
    crps = _mixture(places, weights, loc, scale).crps(_double(x)).item()
    scaled = _mixture([place * unit for place in places], weights, loc * unit, scale * unit)
    greatest = max(abs(place) for place in places) + abs(loc) + scale + abs(x)
    assert scaled.crps(_double(x * unit)).item() == pytest.approx(
        crps * unit, rel=1e-9, abs=1e-12 * greatest * unit
    )


@pytest.mark.parametrize("x", [-1e100, -1.0, 0.0, 1e-300, 3.0, 1e100])
@pytest.mark.parametrize("scale", [1e-17, 1e-9, 1e9, 1e17])
def test_crps_of_a_mixture_with_a_huge_or_tiny_scale_is_finite(scale: float, x: float) -> None:
    """A rare copy far away: E|X - x| - E|X - X'| / 2, to which the rest adds little."""
    crps = _mixture([3.0, -1e100], [0.3, 0.1], 1.0, scale).crps(_double(x)).item()
    far = 0.1**2 * 1e100  # (P(X <= t) - [t >= x])^2 from the far copy to the others
    if abs(x) < 1e100:
        assert crps == pytest.approx(far, rel=1e-6)
    else:
        assert crps == pytest.approx(0.9**2 * 1e100 if x < 0 else far + 1e100, rel=1e-6)


def test_quantiles_of_a_tensor_of_levels_are_those_of_each() -> None:
    atoms, weights = [2.0, -1.0, 2.0], [0.15, 0.3, 0.1]
    levels = [0.01, 0.2, 0.4, 0.55, 0.62, 0.8, 0.99]
    mixture = _mixture(atoms, weights, 0.5, 2.0)
    x, source = _repeated(mixture, len(levels)).quantile(_double(*levels))
    single = [mixture.quantile(level) for level in levels]
    assert x.tolist() == [value.item() for value, _ in single]
    assert source.tolist() == [column.item() for _, column in single]
    assert len(set(x.tolist())) > 3


def test_several_levels_at_once_are_those_one_by_one() -> None:
    mixture = _repeated(_mixture([2.0, -1.0], [0.3, 0.2], 0.5, 2.0), 3)
    levels = _double(0.1, 0.5, 0.9, 0.3, 0.7, 0.99).view(2, 3)
    x, source = mixture.quantile(levels)
    for i, row in enumerate(levels):
        one, column = mixture.quantile(row)
        assert torch.equal(x[i], one)
        assert torch.equal(source[i], column)


def test_joined_mixtures_are_those_one_by_one() -> None:
    parts = [
        _mixture([2.0, -1.0], [0.3, 0.2], loc=1.0),
        _mixture([0.0], [0.9], loc=0.0),
        _mixture([5.0, 7.0, 9.0], [0.1, 0.2, 0.3], scale=0.3),
    ]
    joined = ValueMixture.joined(parts)
    level = _double(0.8)
    assert torch.equal(joined.point()[0], torch.cat([part.point()[0] for part in parts]))
    assert torch.equal(joined.point()[1], torch.cat([part.point()[1] for part in parts]))
    for i in range(2):
        ends = torch.cat([part.interval(level)[i] for part in parts])
        assert torch.allclose(joined.interval(level.expand(3))[i], ends, rtol=1e-12, atol=0)


def test_the_interval_lies_between_the_quantiles_of_its_ends() -> None:
    """A Cauchy's interval of level b is loc +- scale * tan(pi b / 2)."""
    levels = [0.01, 0.5, 0.8, 0.99]
    low, high = _repeated(_mixture([9.0], [0.0], 3.0, 2.0), 4).interval(_double(*levels))
    half = [2 * math.tan(math.pi * level / 2) for level in levels]
    assert low.tolist() == pytest.approx([3 - h for h in half], rel=1e-9)
    assert high.tolist() == pytest.approx([3 + h for h in half], rel=1e-9)


def test_the_interval_of_a_likely_copy_is_the_copy() -> None:
    mixture = _mixture([9.0, 1.0], [0.85, 0.05], 3.0, 2.0)
    low, high = mixture.interval(_double(0.5))
    assert (low.item(), high.item()) == (9.0, 9.0)
    low, high = mixture.interval(_double(0.9))
    assert low.item() < 9.0 <= high.item()
    assert mixture.central_level(_double(9.0)).item() == 0
    assert mixture.central_level(_double(8.9)).item() > 0.5


@pytest.mark.parametrize(
    ("weights", "loc", "x", "source"),
    [
        ([0.6, 0.0], 3.0, 9.0, 0),
        ([0.2, 0.4], 1.0, 2.0, 1),  # copies together are more probable than a new value
        ([0.2, 0.3], 1.0, 2.0, 1),
        ([0.1, 0.3], 2.0, 2.0, -1),  # the median lies on a number, but a new value is likely
        ([0.0, 0.0], 3.0, 3.0, -1),
        ([0.4, 0.0], 9.0, 9.0, -1),
    ],
)
def test_the_point_is_the_median_and_a_copy_where_copies_are_more_probable(
    weights: list[float], loc: float, x: float, source: int
) -> None:
    mixture = _mixture([9.0, 2.0], weights, loc)
    point, column = mixture.point()
    assert (point.item(), column.item()) == (pytest.approx(x, rel=1e-9), source)
    assert point.item() == mixture.quantile(0.5)[0].item()


@pytest.mark.parametrize(
    ("x", "level"), [(3.0, 0.0), (5.0, 0.5), (1.0, 0.5), (3 + 2 * math.tan(0.4 * math.pi), 0.8)]
)
def test_the_central_level_of_a_cauchy(x: float, level: float) -> None:
    mixture = _mixture([9.0], [0.0], 3.0, 2.0)
    assert mixture.central_level(_double(x)).item() == pytest.approx(level, abs=1e-12)


def test_central_levels_of_new_draws_are_uniform() -> None:
    """Kolmogorov's distance to the uniform, of draws without atoms."""
    mixture, n = _mixture([9.0], [0.0], 3.0, 2.0), 20_000
    level = _repeated(mixture, n).central_level(_draws(mixture, n, seed=1)).sort().values
    ranks = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    assert (level - ranks).abs().max().item() < 1.63 / math.sqrt(n)  # 1 % point


@pytest.mark.parametrize("level", [0.1, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("weights", [[0.0, 0.0], [0.3, 0.2], [0.1, 0.85]])
def test_draws_fall_into_an_interval_as_often_as_it_says(
    weights: list[float], level: float
) -> None:
    """With the stated share where there are no atoms, at least with it where there are."""
    mixture, n = _mixture([2.0, -1.0], weights, 0.5, 2.0), 40_000
    low, high = mixture.interval(_double(level))
    draws = _draws(mixture, n, seed=2)
    share = ((low <= draws) & (draws <= high)).double().mean().item()
    error = 4 * math.sqrt(level * (1 - level) / n)
    assert share > level - error
    if not any(weights):
        assert share < level + error


_PLACES = st.one_of(st.sampled_from([-3.0, 0.25, 1.0, 1e12]), st.floats(-20, 20))


@PROPERTY
@given(_ATOMS, _NEW, st.floats(-5, 5), SCALES, _PLACES, st.floats(0.01, 0.99))
@example([(0.25, 1.0)], 0.0, 0.0, 1.0, 0.25, 0.01)
@example([(0.25, 1.0)], 0.0, 0.0, 1.0, 0.5, 0.99)
@example([(0.25, 1.0), (1.0, 1.0)], 0.0, 0.0, 1.0, 0.5, 0.3)
def test_an_interval_holds_x_where_its_level_is_greater_than_the_central_one(
    atoms: list[tuple[float, float]],
    new: float,
    loc: float,
    scale: float,
    x: float,
    level: float,
) -> None:
    places, weights, _ = _shares(atoms, new)
    mixture = _mixture(places, weights, loc, scale)
    needed = mixture.central_level(_double(x)).item()
    assert 0 <= needed <= 1
    assume(abs(needed - level) > 1e-9)  # at an end of the interval rounding decides
    low, high = (end.item() for end in mixture.interval(_double(level)))
    assert (low <= x <= high) == (needed < level)


def test_the_number_that_an_answer_lies_near_is_the_answer() -> None:
    """Other copies with less than half of the mass do not move it; the median they do."""
    mixture = ValueMixture(
        atoms=torch.tensor([[42.57, 2013.0]] * 3, dtype=torch.float64),
        weights=torch.tensor([[0.3, 0.2], [0.1, 0.6], [0.3, 0.1]], dtype=torch.float64),
        loc=torch.tensor([42.57, 42.57, 50.0], dtype=torch.float64),
        scale=torch.tensor([5.0, 5.0, 0.01], dtype=torch.float64),
    )
    value, source = mixture.point()
    assert value[:2].tolist() == [42.57, 2013.0]
    assert value[2].item() == pytest.approx(50, abs=0.02)  # new, and not one of the numbers
    assert source.tolist() == [0, 1, -1]
    assert mixture.printed()[:2].tolist() == [42.57, 2013.0]
    assert mixture.printed()[2].item() == pytest.approx(50, abs=0.02)
