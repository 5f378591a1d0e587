"""Split-conformal calibration: ranks by hand, coverage by simulation, the identity before."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Cauchy

from numlm.calibration import LEAST_ANSWERS, Calibration


def _rand(n: int, seed: int = 0) -> Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _gaussian_errors(n: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, generator=generator, dtype=torch.float64)


def _needed(errors: Tensor, scale: float) -> Tensor:
    """The level that a central Cauchy interval around 0 needs to reach each error."""
    zero, scales = errors.new_zeros(()), errors.new_tensor(scale)
    return (2 * Cauchy(zero, scales).cdf(errors.abs()) - 1).clamp(0, 1)


def _fitted(needed: Tensor) -> Calibration:
    calibration = Calibration()
    calibration.fit(needed)
    return calibration


def _mended(calibration: Calibration) -> list[float]:
    return [calibration.model_level(percent / 100) for percent in range(1, 100)]


@pytest.mark.parametrize("nominal", [0.0, 0.01, 0.29, 0.5, 0.57, 0.8, 0.805, 0.9999, 1.0])
def test_it_is_the_identity_before_it_is_fitted(nominal: float) -> None:
    calibration = Calibration()
    assert not calibration.fitted
    assert calibration.model_level(nominal) == pytest.approx(nominal, abs=1e-12)


def test_levels_are_their_own_before_it_is_fitted() -> None:
    needed = torch.tensor([0.0, 0.004, 0.503, 0.79, 0.801, 0.995, 1.0], dtype=torch.float64)
    percents = (100 * Calibration().nominal_level(needed)).round().int().tolist()
    assert percents == [0, 0, 50, 78, 80, 99, 99]  # 0.79 is held by the interval of 79 %


def test_ranks_of_99_answers_are_the_answers() -> None:
    """k = ceil((n + 1) b) is 1, 2, ..., 99 of 99."""
    needed = _rand(99)
    calibration = _fitted(needed)
    assert calibration.fitted
    assert _mended(calibration) == pytest.approx(sorted(needed.tolist()), rel=0, abs=1e-12)


@pytest.mark.parametrize(
    ("n", "percent", "rank"),
    [
        (100, 1, 2),  # ceil(101 * 0.01)
        (100, 50, 51),  # ceil(50.5)
        (100, 99, 100),  # ceil(99.99)
        (149, 80, 120),  # exactly 150 * 0.8
        (150, 80, 121),
        (199, 95, 190),
        (199, 7, 14),  # 200 * 0.07 is a little more than 14 in floats
        (1999, 29, 580),  # 2000 * 0.29 is a little less than 580 in floats
        (1000, 80, 801),
    ],
)
def test_a_level_is_the_answer_of_its_rank(n: int, percent: int, rank: int) -> None:
    """Of n answers that need 1/n, 2/n, ..., in any order."""
    needed = (torch.randperm(n) + 1).double() / n
    level = _fitted(needed).model_level(percent / 100)
    assert level == pytest.approx(rank / n, rel=0, abs=1e-9)


def test_between_whole_percents_it_is_linear() -> None:
    calibration = _fitted(_rand(500).square())
    low, high = calibration.model_level(0.80), calibration.model_level(0.81)
    assert low < high
    assert calibration.model_level(0.805) == pytest.approx((low + high) / 2)
    assert calibration.model_level(0.8025) == pytest.approx(0.75 * low + 0.25 * high)
    assert calibration.model_level(0.005) == pytest.approx(calibration.model_level(0.01) / 2)
    last = calibration.model_level(0.99)
    assert calibration.model_level(0.995) == pytest.approx((last + 1) / 2)
    assert (calibration.model_level(0.0), calibration.model_level(1.0)) == (0.0, 1.0)


@pytest.mark.parametrize("scale", [0.2, 0.7, 3.0])
def test_calibrated_intervals_hold_new_truths_as_often_as_they_say(scale: float) -> None:
    """Gaussian noise in Cauchy intervals, over many splits into held-out and new answers.

    The expected coverage is ceil((n + 1) b) / (n + 1), at most 1 / (n + 1) more than b.
    """
    n, splits, new = 149, 400, 250
    percents = [50, 80, 95]
    covered = torch.zeros(len(percents), splits, dtype=torch.float64)
    for split in range(splits):
        needed = _needed(_gaussian_errors(n + new, seed=split), scale)
        calibration = _fitted(needed[:n])
        for i, percent in enumerate(percents):
            level = calibration.model_level(percent / 100)
            covered[i, split] = (needed[n:] <= level).double().mean()
    for percent, shares in zip(percents, covered, strict=True):
        expected = math.ceil((n + 1) * percent / 100) / (n + 1)
        error = shares.std().item() / math.sqrt(splits)
        assert error < 0.004
        assert shares.mean().item() == pytest.approx(expected, abs=4 * error)


def test_the_models_own_intervals_do_not_and_are_mended_either_way() -> None:
    """A Cauchy of a Gaussian's width is too wide at 95 %, a narrow one too narrow at 50 %."""
    new = _gaussian_errors(20_000, seed=1)
    for scale, percent, wide in ((0.6745, 95, True), (0.3, 50, False)):
        nominal = percent / 100
        needed = _needed(new, scale)
        own = (needed < nominal).double().mean().item()
        assert (own > nominal + 0.03) if wide else (own < nominal - 0.03)
        calibration = _fitted(_needed(_gaussian_errors(20_000, seed=2), scale))
        assert (calibration.model_level(nominal) < nominal) == wide
        mended = (calibration.nominal_level(needed) < nominal).double().mean().item()
        assert mended == pytest.approx(nominal, abs=0.012)


@pytest.mark.parametrize("n", [99, 137, 1000])
def test_the_nominal_level_says_which_calibrated_intervals_hold_the_truth(n: int) -> None:
    """The interval of b % holds it where `nominal_level < b / 100`, for every whole percent."""
    calibration = _fitted(_needed(_gaussian_errors(n, seed=3), 0.7))
    needed = _needed(_gaussian_errors(300, seed=4), 0.7)
    needed = torch.cat([needed, needed.new_tensor([0.0, 1.0])])
    nominal = calibration.nominal_level(needed)
    assert nominal.min().item() == 0
    assert nominal.max().item() == 0.99
    for percent in range(1, 100):
        level = calibration.model_level(percent / 100)
        assert torch.equal(nominal < percent / 100, needed < level), percent


def test_answers_that_all_need_the_same_level() -> None:
    calibration = _fitted(torch.full((120,), 0.25))
    assert _mended(calibration) == [0.25] * 99
    needed = torch.tensor([0.24, 0.25, 0.26], dtype=torch.float64)
    assert calibration.nominal_level(needed).tolist() == [0.0, 0.0, 0.99]


def test_nominal_levels_keep_the_shape_and_type_of_what_they_are_asked_for() -> None:
    nominal = Calibration().nominal_level(torch.tensor([0.125, 0.876], dtype=torch.float32))
    assert nominal.dtype == torch.float32
    assert nominal.tolist() == pytest.approx([0.12, 0.87])


@pytest.mark.parametrize("n", [19, 40, 98])
def test_levels_that_few_answers_cannot_tell_are_one(n: int) -> None:
    """The interval of 95 % is known from 19 answers on; those beyond n / (n + 1) hold everything."""
    needed = _rand(n)
    levels = _mended(_fitted(needed))
    assert levels[94] <= needed.max().item()
    for percent in range(1, 100):
        rank = -(-(n + 1) * percent // 100)
        expected = sorted(needed.tolist())[rank - 1] if rank <= n else 1.0
        assert levels[percent - 1] == pytest.approx(expected, rel=0, abs=1e-12), percent


@pytest.mark.parametrize("n", [0, 1, 18])
def test_too_few_answers_are_refused(n: int) -> None:
    assert LEAST_ANSWERS == 19
    calibration = Calibration()
    with pytest.raises(
        ValueError, match=rf"^{n} new values are too few .* at least 19 of the val"
    ):
        calibration.fit(_rand(n))
    assert not calibration.fitted
    assert calibration.model_level(0.8) == pytest.approx(0.8)


def test_it_can_be_fitted_again() -> None:
    calibration = _fitted(_rand(99))
    calibration.fit(_rand(400, seed=5) / 2)
    assert _mended(calibration) == _mended(_fitted(_rand(400, seed=5) / 2))


def test_a_state_dict_keeps_it() -> None:
    calibration, again = _fitted(_rand(250).square()), Calibration()
    again.load_state_dict(calibration.state_dict())
    assert again.fitted
    assert again.answers.item() == 250
    assert _mended(again) == _mended(calibration)
    assert list(calibration.parameters()) == []
