"""Ours with one thing exchanged: what is exchanged is what the name says."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, VonMises

from benchmarks.contenders.ablations import (
    ABLATIONS,
    GaussianEstimate,
    GaussianMixture,
    gaussian_nll,
)
from benchmarks.contenders.base import Text
from benchmarks.contenders.numlm_head import NumLM
from numlm.batch import collate
from numlm.clock import LINEAR_DIAL
from numlm.heads import OneVsRestHead
from numlm.losses import made_loss, pointer_nll, value_crps, value_nll
from numlm.number_head import NumberAnswer
from tests.conftest import EMBEDDED

TEXTS = [
    Text("The red lamp shows 42.5 volts, the blue one 7. In short, red is 42.5", (2,)),
    Text("12 + 30 = 42", (2,), whole=False),
]


def _double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _made(name: str) -> NumLM:
    torch.manual_seed(0)
    contender = ABLATIONS[name](str(EMBEDDED))
    assert isinstance(contender, NumLM)
    return contender


def _answer(contender: NumLM, texts: Sequence[Text] = TEXTS) -> NumberAnswer:
    tokenizer = contender.model.tokenizer
    records = contender.encode(texts)
    batch = collate(records, tokenizer.num_token_id, tokenizer.pad_token_id)
    positions, _ = contender.model.slots(batch)
    return contender.model.number_answer(contender.model(batch), batch, positions)


def test_the_gaussian_is_that_of_torch() -> None:
    x, loc, scale = _double(0.3, -2.0), _double(1.0, 5.0), _double(0.5, 3.0)
    torch.testing.assert_close(gaussian_nll(x, loc, scale), -Normal(loc, scale).log_prob(x))


@pytest.mark.parametrize("scale", [0.2, 1.0])
def test_gaussian_hands_are_von_mises(scale: float) -> None:
    loc, target = 0.4, 2.5  # of the hand of period 10 on an axis of the value
    one = LINEAR_DIAL.periods.index(10.0)
    count = one + 1
    hands = LINEAR_DIAL.hands(_double(loc))[None][..., :count, :]
    estimate = GaussianEstimate(
        magnitude=torch.zeros(1, 1),
        signed=torch.zeros(1, 1),
        log_scale=torch.zeros(1, 1),
        hands=hands,
        hand_scales=torch.full((1, 1, count), scale),
        dial=LINEAR_DIAL,
    )
    turn = [2 * math.pi * (target - loc) / period for period in LINEAR_DIAL.periods[:count]]
    density = VonMises(_double(0.0), _double(scale**-2)).log_prob(_double(*turn))
    expected = -(density + math.log(2 * math.pi)).sum().item()
    assert estimate.hands_nll(_double(target)[None]).item() == pytest.approx(expected, rel=1e-3)


def test_quantiles_of_the_gaussian_mixture() -> None:
    mixture = GaussianMixture(
        atoms=_double(5.0, 7.0)[None].expand(2, 2),
        weights=torch.stack([_double(0.0, 0.0), _double(0.6, 0.2)]),
        loc=_double(3.0, 6.0),
        scale=_double(2.0, 0.1),
    )
    levels = _double(0.1, 0.5, 0.9)[:, None].expand(-1, 2)
    found, _ = mixture.quantile(levels)
    expected = Normal(3.0, 2.0).icdf(torch.tensor([0.1, 0.5, 0.9])).double()
    torch.testing.assert_close(found[:, 0], expected, rtol=1e-5, atol=1e-5)
    assert found[1, 1].item() == pytest.approx(5.0)
    assert mixture.quantile(0.5)[0].tolist() == pytest.approx([3.0, 5.0])
    assert mixture.cdf(_double(3.0, 6.0)).tolist() == pytest.approx([0.5, 0.7])


def test_without_a_pointer_nothing_is_copied_or_near() -> None:
    answer = _answer(_made("no-pointer"))
    estimates, copied, near = answer.split_pointer()
    assert copied.exp().sum() == near.exp().sum() == 0
    torch.testing.assert_close(estimates.exp().sum(-1), torch.ones_like(estimates[..., 0]))


def test_without_a_pointer_values_are_made_as_they_were() -> None:
    """Where something is made, and only there; what cannot be copied is a new value."""
    targets = torch.stack([_double(42.5, 7.0, 42.5), _double(42.0, 0.0, 0.0)])
    answers = [_answer(_made(name)) for name in ("gate", "no-pointer")]
    own, pointerless = (made_loss(answer, targets) for answer in answers)
    assert own[1, 0] != 0
    assert torch.equal(own, pointerless)
    copied, new = (pointer_nll(answer, targets)[0, 2] for answer in answers)
    assert new.isfinite()
    assert new != copied


def test_without_reading_the_new_value_knows_no_number() -> None:
    """It is the same whatever the text's numbers are, as far as the backbone does not tell."""
    contender = _made("no-reading")
    with torch.no_grad():
        for parameter in contender.model.number_embedding.parameters():
            parameter.zero_()
        one = _answer(contender)
        other = _answer(contender, [TEXTS[0], Text("12 + 99 = 111", (2,), whole=False)])
    assert torch.equal(one.new.magnitude[1], other.new.magnitude[1])
    assert not torch.equal(one.values[1], other.values[1])


def test_without_a_clock_there_are_no_hands() -> None:
    assert _answer(_made("no-clock")).new.hands.shape[-2] == 0


def test_without_arithmetic_nothing_is_made() -> None:
    assert _answer(_made("no-arithmetic")).made == ()


def test_a_narrow_latent_cause_has_so_many_dimensions() -> None:
    contender = _made("latent-24")
    states = torch.randn(300, contender.model.abduction.loc.in_features)
    with torch.no_grad():
        loc = contender.model.abduction(states).loc
    assert torch.linalg.matrix_rank(loc).item() == 24


def test_a_random_start_is_not_the_identity() -> None:
    assert _made("random-start").model.abduction.loc.weight.any()
    assert not _made("gate").model.abduction.loc.weight.any()
    assert _made("gate").gate_alpha == 0


def test_the_other_token_head_and_weights() -> None:
    for name in ("one-vs-rest", "one-vs-rest-gaussian"):
        assert isinstance(_made(name).model.token_head, OneVsRestHead)
    assert _made("value-weight-3").value_weight == 3
    assert _made("likelihood").value_loss is value_nll
    assert _made("gate").value_loss is value_crps


@torch.no_grad()
@pytest.mark.parametrize("name", ["last-state", "latent-24"])
def test_only_the_last_state_looks_with_what_the_last_layer_writes(name: str) -> None:
    contender = _made(name)
    contender.eval()
    before = _answer(contender).pointer
    for parameter in contender.model.backbone.model.layers[-1].parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    assert torch.equal(_answer(contender).pointer, before) == (name != "last-state")
