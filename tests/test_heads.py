"""Abduction and the token heads: closed forms, tails, and the start at the base model."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Cauchy
from torch.nn import functional

from numlm.heads import (
    TOKEN_HEADS,
    Abduction,
    Latent,
    OneVsRestHead,
    SoftmaxHead,
    TokenHead,
    starting_scale,
)

HIDDEN, ROWS = 6, 50


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=_generator(seed), dtype=dtype)


@pytest.fixture(params=sorted(TOKEN_HEADS))
def head(request: pytest.FixtureRequest) -> TokenHead:
    return TOKEN_HEADS[request.param](ROWS)


def _one_vs_rest_p(x: Tensor) -> Tensor:
    """P(S > C) in float64 for x = (loc - C) / scale: the survival function, by symmetry a cdf."""
    zero, one = x.new_zeros(()).double(), x.new_ones(()).double()
    return Cauchy(zero, one).cdf(x.double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_abduction_starts_as_the_identity(dtype: torch.dtype) -> None:
    z = _randn(2, 5, HIDDEN).to(dtype) * 100
    latent = Abduction(HIDDEN, scale=0.02)(z)
    assert torch.equal(latent.loc, z.float())
    assert latent.loc.dtype == latent.scale.dtype == torch.float32
    torch.testing.assert_close(latent.scale, torch.full((2, 5, 1), 0.02))


def test_abduction_is_linear_and_log_linear() -> None:
    abduction, z = Abduction(HIDDEN, scale=0.5), _randn(4, HIDDEN, seed=1)
    weight, slope = _randn(HIDDEN, HIDDEN, seed=2), _randn(1, HIDDEN, seed=3)
    with torch.no_grad():
        abduction.loc.weight.copy_(weight)
        abduction.log_scale.weight.copy_(slope)
    latent = abduction(z)
    torch.testing.assert_close(latent.loc, z + z @ weight.T)
    torch.testing.assert_close(latent.scale, 0.5 * (z @ slope.T).exp())


def test_abduction_computes_in_float32_under_autocast() -> None:
    abduction, z = Abduction(HIDDEN, scale=0.02), _randn(3, HIDDEN)
    with torch.no_grad():
        abduction.loc.weight.normal_(generator=_generator(1))
    expected = abduction(z)
    with torch.autocast("cpu", torch.bfloat16):
        latent = abduction(z)
    assert torch.equal(latent.loc, expected.loc)
    assert torch.equal(latent.scale, expected.scale)


def test_a_scale_stays_positive_and_finite() -> None:
    abduction = Abduction(1, scale=0.02)
    torch.nn.init.ones_(abduction.log_scale.weight)
    scale = abduction(torch.tensor([[-1e4], [1e4]])).scale
    assert scale.flatten().tolist() == pytest.approx([math.exp(-12), math.exp(12)], rel=1e-5)


def test_the_ranking_starts_as_the_base_models(head: TokenHead) -> None:
    z, weight = _randn(7, HIDDEN), _randn(ROWS, HIDDEN, seed=1)
    weight *= torch.linspace(0.1, 10, ROWS)[:, None]  # rows of very different norms
    scores = head.scores(Abduction(HIDDEN, starting_scale(ROWS))(z), weight)
    base = functional.linear(z, weight)
    assert scores.shape == (7, ROWS)
    assert torch.equal(scores.argmax(-1), base.argmax(-1))
    in_base_order = scores.gather(-1, base.argsort(-1, descending=True))
    assert (in_base_order.diff(dim=-1) <= 0).all()
    assert (in_base_order.diff(dim=-1) < 0).double().mean() > 0.99, "the scores are all one"


@pytest.mark.parametrize("rows", [100, 151_936])
def test_one_vs_rest_starts_at_one_in_v_for_a_score_of_zero(rows: int) -> None:
    head, latent = OneVsRestHead(rows), Abduction(2, starting_scale(rows))(_randn(1, 2))
    scores = head.scores(latent, torch.zeros(rows, 2))
    p = head.prob(scores, rows // 2).item()
    assert p * rows == pytest.approx(1.0, rel=5e-4)
    loss = head.loss(latent, torch.zeros(rows, 2), torch.tensor([3]))[0].item()
    assert loss == pytest.approx(math.log(rows) + 1, rel=0.02)  # not the 105,314 nats of P = 1/2


def test_one_vs_rest_is_the_cauchys_survival() -> None:
    loc = torch.linspace(-30, 30, 61)
    head = OneVsRestHead(1)
    with torch.no_grad():
        head.threshold.fill_(1.5)
    latent = Latent(loc[:, None], torch.full((61, 1), 0.7))
    p = head.prob(head.scores(latent, torch.ones(1, 1)), 0)
    survival = 1 - Cauchy(loc.double(), torch.tensor(0.7, dtype=torch.float64)).cdf(
        torch.tensor(1.5, dtype=torch.float64)
    )
    torch.testing.assert_close(p.double(), survival, rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("x", [-1e6, -1e4, -3.0, 0.0, 2.0, 1e4])
def test_one_vs_rest_keeps_its_digits_in_the_tails(dtype: torch.dtype, x: float) -> None:
    """At x = -1e6 the textbook form `1/2 + atan(x) / pi` is 3 % wrong in float32."""
    p = OneVsRestHead.prob_of(torch.tensor([x], dtype=dtype)).double().item()
    survival = _one_vs_rest_p(torch.tensor(x, dtype=torch.float64)).item()
    tolerance = 1e-6 if dtype == torch.float32 else 1e-9  # the reference's own at -1e6
    assert p == pytest.approx(survival, rel=tolerance)
    if x == -1e6:
        exact = (1 - 1 / (3 * x**2)) / (math.pi * -x)
        assert p == pytest.approx(exact, rel=2e-7 if dtype == torch.float32 else 1e-14)


def test_one_vs_rest_probabilities_are_those_of_draws() -> None:
    """S_k = A_k . loc + scale * (one standard Cauchy) passes its threshold as often as P says."""
    weight, loc = _randn(5, 3, seed=1), _randn(1, 3, seed=2)
    head, scale = OneVsRestHead(5), 0.8
    with torch.no_grad():
        head.threshold.copy_(torch.tensor([-2.0, -0.5, 0.0, 0.5, 3.0]))
    uniform = torch.rand(400_000, generator=_generator(3), dtype=torch.float64)
    latent_cause = scale * torch.tan(math.pi * (uniform - 0.5))
    drawn = (loc @ weight.T).double() + latent_cause[:, None]
    share = (drawn > head.threshold).double().mean(0)
    scores = head.scores(Latent(loc, torch.full((1, 1), scale)), weight)
    p = torch.stack([head.prob(scores, k) for k in range(5)], dim=-1)[0]
    torch.testing.assert_close(p.double(), share, rtol=0, atol=0.003)


def test_one_vs_rest_loss_is_the_sum_of_decisions() -> None:
    weight, loc = _randn(ROWS, HIDDEN, seed=1), _randn(8, HIDDEN) * 20
    labels = torch.randint(ROWS, (8,), generator=_generator())
    head, latent = OneVsRestHead(ROWS), Latent(loc, torch.full((8, 1), 0.7))
    scores = head.scores(latent, weight).double()
    p = _one_vs_rest_p(scores)
    p_not = 1 - Cauchy(p.new_zeros(()), p.new_ones(())).cdf(scores)
    naive = [
        -p[n, y].log() - sum(p_not[n, k].log() for k in range(ROWS) if k != y)
        for n, y in enumerate(labels.tolist())
    ]
    loss, _ = head.loss(latent, weight, labels)
    torch.testing.assert_close(loss.double(), torch.stack(naive).sum(), rtol=1e-5, atol=0)


def test_softmax_is_torchs() -> None:
    weight, z = _randn(ROWS, HIDDEN, seed=1), _randn(8, HIDDEN)
    labels = torch.randint(ROWS, (8,), generator=_generator())
    head = SoftmaxHead(ROWS)
    scores = head.scores(Latent(z, torch.ones(8, 1)), weight)
    reference = Categorical(logits=z.double() @ weight.double().T)
    loss, probs = head.loss(Latent(z, torch.ones(8, 1)), weight, labels)
    expected = -reference.log_prob(labels)
    torch.testing.assert_close(loss.double(), expected.sum(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(probs.double(), (-expected).exp(), rtol=1e-5, atol=0)
    for token_id in (0, 17, ROWS - 1):
        torch.testing.assert_close(
            head.prob(scores, token_id).double(), reference.probs[:, token_id], rtol=1e-5, atol=0
        )


def test_log_probs_sum_to_one_and_rank_as_the_scores(head: TokenHead) -> None:
    scores = _randn(2, 3, ROWS) * torch.tensor([1.0, 10.0, 80.0])[:, None]
    log_probs = head.log_probs(scores)
    torch.testing.assert_close(log_probs.double().exp().sum(-1), torch.ones(2, 3).double())
    in_score_order = log_probs.gather(-1, scores.argsort(-1))
    assert (in_score_order.diff(dim=-1) >= 0).all()
    assert (in_score_order[..., 1:] > in_score_order[..., :-1]).double().mean() > 0.99


def test_log_probs_are_the_normalised_probabilities(head: TokenHead) -> None:
    """Of one-vs-rest the decisions', in float64; of softmax the probabilities as they are."""
    scores = _randn(4, ROWS, seed=3) * 20
    p = torch.stack([head.prob(scores.double(), k) for k in range(ROWS)], dim=-1)
    if isinstance(head, SoftmaxHead):
        torch.testing.assert_close(p.sum(-1), torch.ones(4).double())
        torch.testing.assert_close(p, scores.double().softmax(-1))
    else:
        torch.testing.assert_close(p, _one_vs_rest_p(scores), rtol=1e-9, atol=0)
    expected = (p / p.sum(-1, keepdim=True)).log()
    torch.testing.assert_close(head.log_probs(scores).double(), expected, rtol=1e-5, atol=1e-5)


def test_log_probs_are_finite_in_the_tails(head: TokenHead) -> None:
    scores = torch.tensor([[-1e30, -1e6, -5.0], [1e6, 1e6 - 1, -1e6], [-1e30, -1e30, -1e30]])
    log_probs = head.log_probs(scores)
    assert log_probs.isfinite().all()
    torch.testing.assert_close(log_probs[2], torch.full((3,), -math.log(3)))


def test_prob_keeps_leading_dimensions(head: TokenHead) -> None:
    scores = _randn(2, 3, ROWS)
    p = head.prob(scores, 4)
    assert p.shape == (2, 3)
    torch.testing.assert_close(p[1, 2], head.prob(scores[1, 2], 4))
    assert ((p > 0) & (p < 1)).all()
    better = scores.clone()
    better[..., 4] += 1
    assert (head.prob(better, 4) > p).all()


def test_scores_of_a_tile_are_a_part_of_all(head: TokenHead) -> None:
    weight, latent = _randn(ROWS, HIDDEN, seed=1), Latent(_randn(4, HIDDEN), torch.ones(4, 1))
    whole = head.scores(latent, weight)
    for tile in (slice(0, 16), slice(16, 32), slice(48, ROWS)):
        torch.testing.assert_close(head.scores(latent, weight, tile), whole[:, tile])


def test_scores_of_bfloat16_weights_are_float32(head: TokenHead) -> None:
    """A backbone may be loaded in bfloat16; the heads are float32."""
    weight, z = _randn(ROWS, HIDDEN, seed=1).bfloat16(), _randn(4, HIDDEN).bfloat16().float()
    latent = Latent(z, torch.ones(4, 1))
    scores = head.scores(latent, weight)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, head.scores(latent, weight.float()), rtol=0.02, atol=0.03)


def test_scores_are_float32_under_autocast(head: TokenHead) -> None:
    weight, latent = _randn(ROWS, HIDDEN, seed=1), Latent(_randn(4, HIDDEN), torch.ones(4, 1))
    expected = head.scores(latent, weight)
    with torch.autocast("cpu", torch.bfloat16):
        scores = head.scores(latent, weight)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, expected, rtol=0.03, atol=0.08)
