"""What a number's value adds to the embedding of `<NUM>`."""

import torch
from torch import Tensor

from numlm import clock
from numlm.embedding import NumberEmbedding

HIDDEN = 12


def _features(*values: float | None) -> Tensor:
    """Clock features, zeros where there is no number."""
    rows = [
        torch.zeros(clock.FEATURES) if v is None else clock.encode(torch.tensor(v).double())
        for v in values
    ]
    return torch.stack(rows)


def _embedding() -> NumberEmbedding:
    torch.manual_seed(0)
    embedding = NumberEmbedding(HIDDEN)
    torch.nn.init.normal_(embedding.bias)
    return embedding


def test_it_is_linear_in_the_features() -> None:
    embedding = _embedding()
    features = _features(42.5, -1e-5, 0.0, 1e12)
    added = embedding(features.view(2, 2, -1))
    expected = features.double() @ embedding.weight.double().T + embedding.bias.double()
    assert added.dtype == torch.float32
    torch.testing.assert_close(added.view(4, -1).double(), expected, rtol=1e-5, atol=1e-6)


def test_nothing_is_added_where_no_number_stands() -> None:
    """Exactly: text without numbers must meet the backbone unchanged."""
    added = _embedding()(_features(None, 5.0, None, 0.0))
    assert torch.equal(added[[0, 2]], torch.zeros(2, HIDDEN))
    assert (added[[1, 3]].abs().sum(-1) > 0).all()
    table = torch.randn(4, HIDDEN)
    assert torch.equal((table + added)[[0, 2]], table[[0, 2]])


def test_equal_values_add_the_same_and_others_do_not() -> None:
    added = _embedding()(_features(5.0, 5.0, -5.0, 5.000001, 50.0, 0.0))
    assert torch.equal(added[0], added[1])
    for other in added[2:]:
        assert (other - added[0]).abs().max() > 1e-4


def test_it_starts_small_with_a_bias_of_zero() -> None:
    torch.manual_seed(0)
    embedding = NumberEmbedding(2000, std=0.05)
    assert embedding.weight.shape == (2000, clock.FEATURES)
    torch.testing.assert_close(embedding.weight.std(), torch.tensor(0.05), rtol=0.03, atol=0)
    assert torch.equal(embedding.bias, torch.zeros(2000))


def test_num_starts_as_digits_on_the_average() -> None:
    embedding = _embedding()
    num_row, digit_rows = torch.randn(HIDDEN), torch.randn(10, HIDDEN)
    weight = embedding.weight.detach().clone()
    embedding.start_from(num_row, digit_rows)
    assert torch.equal(embedding.weight, weight)
    with torch.no_grad():
        embedding.weight.zero_()
    seen = num_row + embedding(_features(42.5))[0]
    torch.testing.assert_close(seen, sum(digit_rows) / 10)


def test_starting_from_bfloat16_rows() -> None:
    embedding = _embedding()
    embedding.start_from(torch.full((HIDDEN,), 2.0).bfloat16(), torch.ones(10, HIDDEN).bfloat16())
    assert embedding.bias.dtype == torch.float32
    assert embedding.bias.tolist() == [-1.0] * HIDDEN
    assert embedding.bias.requires_grad


def test_it_computes_in_float32_under_autocast() -> None:
    embedding, features = _embedding(), _features(42.5, None, -3.0)
    expected = embedding(features)
    with torch.autocast("cpu", torch.bfloat16):
        added = embedding(features)
    assert added.dtype == torch.float32
    assert torch.equal(added, expected)


def test_only_numbers_pass_gradients() -> None:
    embedding, features = _embedding(), _features(None, 42.5, None, 0.0, -7.0)
    embedding(features).sum().backward()
    assert embedding.bias.grad is not None
    assert embedding.weight.grad is not None
    assert embedding.bias.grad.tolist() == [3.0] * HIDDEN
    torch.testing.assert_close(embedding.weight.grad[4], features.sum(0))


def test_hands_that_are_not_seen_make_no_difference() -> None:
    few, all_of_them = NumberEmbedding(8, hands=3), NumberEmbedding(8)
    near = clock.encode(torch.tensor([42.57, 42.58], dtype=torch.float64))
    fine = near[0].clone()
    fine[clock.FIRST_HAND + 2 * 3 :] = 0
    assert torch.equal(few(near[0]), few(fine))
    assert not torch.equal(all_of_them(near[0]), all_of_them(fine))
    assert few.state_dict().keys() == all_of_them.state_dict().keys()
