"""The losses in tiles: against the naive forms, in the tails, on the edges, in 16 bits."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import Function
from torch.distributions import Cauchy

from benchmarks.naive_loss import naive_one_vs_rest, naive_softmax
from numlm import vocabulary_loss
from numlm.vocabulary_loss import Shift, one_vs_rest_loss, softmax_loss, tile_size, tiles

POSITIONS, ROWS, HIDDEN, TILE = 7, 50, 6, 16  # three tiles and a bit, in both directions

Loss = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
LOSSES: dict[str, tuple[Any, Loss]] = {
    "softmax": (
        lambda loc, scale, weight, threshold, labels, shift=None: softmax_loss(
            loc, weight, labels, shift
        ),
        lambda loc, scale, weight, threshold, labels: naive_softmax(loc, weight, labels),
    ),
    "one_vs_rest": (one_vs_rest_loss, naive_one_vs_rest),
}


@pytest.fixture(params=sorted(LOSSES))
def losses(request: pytest.FixtureRequest) -> tuple[Any, Loss]:
    return LOSSES[request.param]


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        vocabulary_loss, "tile_size", lambda count, *_, **__: 3 if count == ROWS else TILE
    )


def inputs(dtype: torch.dtype = torch.float64, positions: int = POSITIONS) -> list[Tensor]:
    """Location, scale, weights, thresholds that want gradients; labels on edges of tiles."""
    generator = torch.Generator().manual_seed(0)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    made = [
        randn(positions, HIDDEN),
        randn(positions, 1).exp(),
        randn(ROWS, HIDDEN),
        randn(ROWS) + 2,
    ]
    labels = torch.tensor([0, TILE - 1, TILE, 2 * TILE, ROWS - 2, ROWS - 1, 0])[:positions]
    return [*(x.to(dtype).requires_grad_() for x in made), labels]


def gradients(loss: Tensor, wanted: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(loss, wanted, materialize_grads=True))


@pytest.mark.parametrize("tile", [1, TILE, ROWS - 1, ROWS, 1000])
def test_tiles_change_nothing(
    losses: tuple[Any, Loss], tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary_loss, "tile_size", lambda *_, **__: tile)
    tiled, naive = losses
    made = inputs()
    (mine, probs), theirs = tiled(*made), naive(*made)
    torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=0)
    wanted = made[:4] if tiled is one_vs_rest_loss else [made[0], made[2]]
    for a, b in zip(gradients(3 * mine, wanted), gradients(3 * theirs, wanted), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    assert not probs.requires_grad


class Anew(Function):
    """A loss that is taken again for every backward pass, of which gradcheck makes many."""

    @staticmethod
    def forward(ctx: Any, loss: Any, *used: Tensor) -> Tensor:
        ctx.loss = loss
        ctx.save_for_backward(*used)
        return loss(*used)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        used = [tensor.detach().requires_grad_() for tensor in ctx.saved_tensors]
        with torch.enable_grad():
            loss = ctx.loss(*used)
        return None, *torch.autograd.grad(loss, used, upstream, materialize_grads=True)


def test_gradients_are_the_derivatives(losses: tuple[Any, Loss]) -> None:
    loc, scale, weight, threshold, labels = inputs()
    amount = torch.linspace(-1, 1, POSITIONS, dtype=torch.float64).requires_grad_()

    def loss(loc: Tensor, scale: Tensor, weight: Tensor, threshold: Tensor, amount: Tensor) -> Any:
        return losses[0](loc, scale, weight, threshold, labels, Shift(TILE, amount))[0]

    used = [loc, scale, weight, threshold, amount]
    assert torch.autograd.gradcheck(lambda *used: Anew.apply(loss, *used), used)


def test_what_is_frozen_gets_no_gradient(losses: tuple[Any, Loss]) -> None:
    loc, scale, weight, threshold, labels = inputs()
    whole = gradients(losses[0](loc, scale, weight, threshold, labels)[0], [loc])[0]
    loss, _ = losses[0](loc, scale.detach(), weight.detach(), threshold.detach(), labels)
    torch.testing.assert_close(gradients(loss, [loc])[0], whole)
    with torch.no_grad():
        again, _ = losses[0](loc, scale, weight, threshold, labels)
    assert torch.equal(loss.detach(), again)
    assert not again.requires_grad


def test_gradients_are_taken_once(losses: tuple[Any, Loss]) -> None:
    loss, _ = losses[0](*inputs())
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="taken once"):
        loss.backward()


def test_probabilities_are_those_of_the_labels() -> None:
    loc, scale, weight, threshold, labels = (x.detach() for x in inputs())
    _, probs = softmax_loss(loc, weight, labels)
    softmax = (loc @ weight.T).softmax(-1).gather(-1, labels[:, None])[:, 0]
    torch.testing.assert_close(probs, softmax)
    _, probs = one_vs_rest_loss(loc, scale, weight, threshold, labels)
    survival = 1 - Cauchy((loc * weight[labels]).sum(-1), scale[:, 0]).cdf(threshold[labels])
    torch.testing.assert_close(probs, survival)


def test_a_shift_is_that_of_one_row(losses: tuple[Any, Loss]) -> None:
    """Of `<NUM>` under adapters: at a label, beside one, and on both sides of a tile's edge."""
    loc, scale, weight, threshold, labels = inputs()
    delta = torch.linspace(0, 1, HIDDEN, dtype=torch.float64).requires_grad_()
    for token_id in (0, TILE - 1, TILE, 5, ROWS - 1):
        shift = Shift(token_id, loc @ delta)
        mine = losses[0](loc, scale, weight, threshold, labels, shift)[0]
        row = torch.nn.functional.one_hot(torch.tensor(token_id), ROWS)[:, None] * delta
        theirs = losses[1](loc, scale, weight + row, threshold, labels)
        torch.testing.assert_close(mine, theirs)
        wanted = [loc, weight, delta]
        for a, b in zip(gradients(mine, wanted), gradients(theirs, wanted), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("x", [1e2, 1e5, 1e9])
def test_one_vs_rest_in_the_tails(x: float) -> None:
    """In float32: right with certainty, and as wrong as can be, against float64's expansion."""
    weight = torch.tensor([[1.0], [-1.0]], requires_grad=True)
    threshold = torch.zeros(2, requires_grad=True)
    for label, exact in ((0, 2 / (math.pi * x)), (1, 2 * math.log(math.pi * x))):
        loc = torch.tensor([[x]], requires_grad=True)
        scale = torch.ones(1, 1, requires_grad=True)
        loss, probs = one_vs_rest_loss(loc, scale, weight, threshold, torch.tensor([label]))
        assert loss.item() == pytest.approx(exact, rel=1e-2, abs=2.5e-7)
        tail = math.atan2(1, x) / math.pi
        assert probs.item() == pytest.approx(tail if label else 1 - tail, rel=1e-5)
        for gradient in gradients(loss, [loc, scale, weight, threshold]):
            assert gradient.isfinite().all()
        if label:
            assert loc.grad is None
            slope = gradients(
                one_vs_rest_loss(loc, scale, weight, threshold, torch.tensor([1]))[0], [loc]
            )[0]
            assert slope.item() == pytest.approx(2 / x, rel=1e-3)


def test_sixteen_bits_are_within_a_hundredth(losses: tuple[Any, Loss]) -> None:
    made = inputs(torch.float32)
    wanted = made[:4] if losses[0] is one_vs_rest_loss else [made[0], made[2]]
    exact = losses[0](*made)[0]
    expected = gradients(exact, wanted)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = losses[0](*made)[0]
    assert mixed.dtype == torch.float32
    assert mixed.item() == pytest.approx(exact.item(), rel=0.01)
    assert mixed.item() != exact.item(), "the products are in 16 bits"
    for a, b in zip(gradients(mixed, wanted), expected, strict=True):
        assert a.dtype == torch.float32
        assert (a - b).norm() < 0.02 * b.norm()


def test_tiles_cover_a_dimension_and_fit_the_cache() -> None:
    assert tiles(10, 4) == [slice(0, 4), slice(4, 8), slice(8, 10)]
    assert tiles(8, 4) == [slice(0, 4), slice(4, 8)]
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for tables in (2, 3):
        assert 4 * tables * 32_768 * tile_size(32_768, gpu, tables) <= 1 << 30
    assert tile_size(1024, cpu) * 1024 <= 1 << 20
    assert tile_size(1 << 20, cpu) == tile_size(151_936, cpu) == 256, "products stay worth it"
