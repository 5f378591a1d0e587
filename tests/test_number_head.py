"""The number head and what it reads with: the start as a copy, what is visible, the mixture."""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from numlm import clock
from numlm.arithmetic import OPERATIONS
from numlm.clock import FINE_LOG_DIAL, LINEAR_DIAL, LOG_DIAL, Dial
from numlm.estimate import Estimate
from numlm.heads import States
from numlm.losses import value_nll
from numlm.model import NumberLM
from numlm.number_head import NumberAnswer, NumberHead
from numlm.reading import WINDOW, NumberKeys, Pointer, ReadingHeads, TextNumbers

EMBEDDED = Path(__file__).resolve().parents[1] / "assets" / "tiny-qwen2"

HIDDEN = 8
VALUES = [42.5, -0.00125, 1e6, -7.0, 3.14159, 9.99, -123456.0]
PARTS = ("magnitude", "signed", "log_scale", "hands", "hand_scales")


def _outputs(answer: NumberAnswer) -> dict[str, Tensor]:
    """All that the head says, under names."""
    return {"near_log_scale": answer.near_log_scale, "pointer": answer.pointer} | {
        f"{'made' if i else 'new'} {i} {name}": getattr(estimate, name)
        for i, estimate in enumerate(answer.estimates)
        for name in PARTS
    }


def _hangs_on_numbers(name: str) -> bool:
    """Whether an output surely does: how certain a made one is may hang on what asks alone."""
    return not (name.startswith("made") and name.endswith(("log_scale", "hand_scales")))


def _nothing_made(answer: NumberAnswer) -> NumberAnswer:
    """The answer without the values that are made, and without their shares."""
    pointer = torch.cat([answer.pointer[..., :1], answer.pointer[..., 1 + len(answer.made) :]], -1)
    return replace(answer, made=(), pointer=pointer.log_softmax(-1))


def _randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _numbers(values: list[list[float]], visible: Tensor | None = None) -> TextNumbers:
    """Numbers of texts with 0, 1, 2, ... tokens after them.

    All of them are visible from one asking position unless said otherwise.
    """
    table = torch.tensor(values, dtype=torch.float64)
    if visible is None:
        visible = torch.ones(len(values), 1, table.shape[1], dtype=torch.bool)
    after = torch.arange(table.numel()).view(table.shape)[..., None] % (WINDOW + 1)
    return TextNumbers(
        states=_randn(*table.shape, HIDDEN, seed=1),
        following=_randn(*table.shape, WINDOW, HIDDEN, seed=4),
        follows=torch.arange(WINDOW) < after,
        features=clock.encode(table),
        values=table,
        visible=visible,
    )


def _states(texts: int = 1, asking: int = 1, seed: int = 2) -> States:
    return States(
        loc=_randn(texts, asking, HIDDEN, seed=seed),
        scale=torch.full((texts, asking, 1), 0.02),
        before=_randn(texts, asking, HIDDEN, seed=seed + 50),
    )


def _small_head(arithmetic: bool) -> NumberHead:
    torch.manual_seed(0)
    return NumberHead(
        HIDDEN,
        reading_heads=3,
        free_heads=1,
        reading_size=4,
        pointer_size=5,
        pointer_dropout=0.0,
        mlp_size=16,
        arithmetic=arithmetic,
    )


@pytest.fixture(params=[True, False], ids=["arithmetic", "no-arithmetic"])
def head(request: pytest.FixtureRequest) -> NumberHead:
    return _small_head(request.param)


@pytest.fixture(params=[True, False], ids=["arithmetic", "no-arithmetic"])
def trained(request: pytest.FixtureRequest) -> NumberHead:
    """As if it had learnt something: no weight is at its start."""
    head = _small_head(request.param)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return head


def _only_reading(head: NumberHead) -> NumberHead:
    """Reading heads that never choose to read nothing."""
    with torch.no_grad():
        head.reading.alternative.bias.fill_(-60.0)
    return head


@torch.no_grad()
def _scores(
    layer: ReadingHeads | Pointer, asking: Tensor, keys: Tensor, visible: Tensor
) -> Tensor:
    """exp of the scores (B, A, R, K), one by one in float64; 0 where a number is not visible."""
    texts, positions, _ = asking.shape
    size = layer.query.out_features // layer.heads
    result = torch.zeros(texts, positions, layer.heads, keys.shape[1], dtype=torch.float64)
    for b in range(texts):
        for a in range(positions):
            queries = layer.query(asking[b, a]).double().view(layer.heads, size)
            for k in range(keys.shape[1]):
                key = layer.key(keys[b, k]).double().view(layer.heads, size)
                for r in range(layer.heads):
                    score = (queries[r] @ key[r]).item() / math.sqrt(size)
                    result[b, a, r, k] = math.exp(score) * visible[b, a, k].item()
    return result


_VISIBLE = torch.tensor(
    [[[1, 1, 1], [1, 0, 0]], [[0, 0, 0], [0, 1, 1]]], dtype=torch.bool
)  # (2 texts, 2 asking positions, 3 numbers)
_THREE = [[42.5, -1.0, 1e-3], [0.0, 7.0, 7.0]]


@torch.no_grad()
def test_a_key_is_the_state_beside_an_average_of_what_follows() -> None:
    torch.manual_seed(0)
    keys, numbers = NumberKeys(HIDDEN), _numbers(_THREE)
    result = keys(numbers)
    assert result.shape == (2, 3, 2 * HIDDEN)
    assert torch.equal(result[..., :HIDDEN], numbers.states)
    for b in range(2):
        for k in range(3):
            weights, summary = [1.0], torch.zeros(HIDDEN, dtype=torch.float64)
            for state in numbers.following[b, k][numbers.follows[b, k]]:
                weights.append(math.exp(keys.score(state).item()))
                summary += weights[-1] * state.double()
            torch.testing.assert_close(
                result[b, k, HIDDEN:].double(), summary / sum(weights), rtol=1e-5, atol=1e-6
            )
    assert not result[0, 0, HIDDEN:].any(), "where nothing follows there is nothing to sum up"


def test_what_follows_a_number_changes_its_key_and_what_does_not_follow_does_not() -> None:
    torch.manual_seed(0)
    keys, numbers = NumberKeys(HIDDEN), _numbers(_THREE)
    before = keys(numbers)
    for place in numbers.follows.nonzero().tolist() + (~numbers.follows).nonzero().tolist():
        b, k, w = place
        following = numbers.following.clone()
        following[b, k, w] += 1.0
        changed = (keys(numbers._replace(following=following)) != before).any(-1)
        expected = torch.zeros(2, 3, dtype=torch.bool)
        expected[b, k] = numbers.follows[b, k, w]
        assert torch.equal(changed, expected), place


@pytest.mark.parametrize("made", [0, 2, 3])
def test_pointer_is_attention_to_copies_and_neighbourhoods_with_alternatives(made: int) -> None:
    torch.manual_seed(0)
    pointer, asking = Pointer(HIDDEN, size=5, made=made), _randn(2, 2, HIDDEN)
    keys, numbers = _randn(2, 3, 2 * HIDDEN, seed=5), _numbers(_THREE, _VISIBLE)
    log_prob = pointer(asking, keys, numbers)
    assert log_prob.shape == (2, 2, 1 + made + 2 * 3)
    no_number = pointer.alternative(asking).double().exp().detach()
    scores = _scores(pointer, asking, keys, _VISIBLE)
    expected = torch.cat([no_number, scores[:, :, 0], scores[:, :, 1]], dim=-1)
    expected /= expected.sum(-1, keepdim=True)
    torch.testing.assert_close(log_prob.double().exp(), expected, rtol=1e-5, atol=0)


def test_reading_heads_read_the_features_untouched() -> None:
    torch.manual_seed(0)
    reading, asking = ReadingHeads(HIDDEN, heads=3, size=4), _randn(2, 2, HIDDEN)
    keys, numbers = _randn(2, 3, 2 * HIDDEN, seed=5), _numbers(_THREE, _VISIBLE)
    read = reading(asking, keys, numbers)
    assert read.shape == (2, 2, 3, clock.FEATURES)
    nothing = reading.alternative(asking).double().exp().detach()
    scores = _scores(reading, asking, keys, _VISIBLE)
    weights = scores / (nothing + scores.sum(-1))[..., None]
    expected = torch.einsum("bark,bkf->barf", weights, numbers.features.double())
    torch.testing.assert_close(read.double(), expected, rtol=1e-5, atol=1e-6)
    assert (read[1, 0] == 0).all(), "where no number is visible nothing is read"


@pytest.mark.parametrize("value", VALUES)
def test_the_hands_start_as_those_of_the_only_number(head: NumberHead, value: float) -> None:
    """Whatever share the heads give to reading nothing, the direction is the number's own."""
    answer = head(_states(), _numbers([[value]]))
    features = clock.encode(torch.tensor(value, dtype=torch.float64))
    hands = features[clock.FIRST_HAND :].view(clock.HANDS, 2)
    torch.testing.assert_close(answer.new.hands[0, 0], hands, rtol=0, atol=2e-6)


@pytest.mark.parametrize("value", VALUES)
def test_a_new_value_starts_as_the_value_that_is_read(head: NumberHead, value: float) -> None:
    answer = _only_reading(head)(_states(), _numbers([[value]]))
    assert answer.new.magnitude.item() == pytest.approx(math.log10(abs(value)), abs=1e-5)
    assert answer.new.signed.item() == pytest.approx(math.copysign(1, value), rel=1e-6)
    assert answer.new.log_scale.exp().item() == pytest.approx(0.5)
    mixture = _nothing_made(answer).mixture(copies=False)
    assert mixture.loc.item() == pytest.approx(value, rel=1e-6)
    assert mixture.weights.sum().item() == 0
    assert mixture.new.item() == 1
    assert mixture.quantile(0.5)[0].item() == mixture.loc.item()
    assert mixture.quantile(0.5)[1].item() == -1


def test_zero_is_read_as_a_location_of_zero(head: NumberHead) -> None:
    answer = _nothing_made(_only_reading(head)(_states(), _numbers([[0.0]])))
    assert answer.mixture(copies=False).loc.item() == pytest.approx(0.0, abs=1e-6)
    assert answer.new.hands.isfinite().all()


def test_a_head_has_by_default_six_reading_heads_two_of_which_are_free() -> None:
    settings = NumberHead(HIDDEN).settings
    assert (settings["reading_heads"], settings["free_heads"]) == (6, 2)


@pytest.mark.parametrize(("heads", "free"), [(1, 0), (3, 2), (6, 2)])
def test_the_value_starts_from_the_heads_that_are_not_free(heads: int, free: int) -> None:
    """Free heads that look at another number change neither value nor hands."""
    torch.manual_seed(0)
    head = _only_reading(NumberHead(HIDDEN, reading_heads=heads, free_heads=free))
    numbers, asking = _numbers([[42.5, -1e6]]), _states()
    with torch.no_grad():
        # every restating head looks at the first number, every free head at the second
        size = head.reading.query.out_features // heads
        keys = functional.rms_norm(numbers.states, (HIDDEN,))[0]
        difference = torch.cat([keys[0] - keys[1], torch.zeros(HIDDEN)])
        head.reading.query.weight.zero_()
        head.reading.query.bias.fill_(0.0)
        head.reading.key.weight.zero_()
        head.reading.key.weight[::size] = difference
        sign = torch.tensor([1.0] * (heads - free) + [-1.0] * free)
        head.reading.query.bias[::size] = 1e3 * sign
    answer = head(asking, numbers)
    loc = _nothing_made(answer).mixture(copies=False).loc
    assert loc.item() == pytest.approx(42.5, rel=1e-5)
    if free:
        assert answer.near_log_scale.item() == pytest.approx(math.log(1e6), rel=1e-4)


@pytest.mark.parametrize(("heads", "free"), [(3, 3), (2, 5), (4, -1)])
def test_at_least_one_head_restates(heads: int, free: int) -> None:
    with pytest.raises(ValueError, match=f"free_heads is {free}, but must be less than reading_"):
        NumberHead(HIDDEN, reading_heads=heads, free_heads=free)


def test_invisible_numbers_have_no_weight(trained: NumberHead) -> None:
    numbers = _numbers(_THREE, _VISIBLE)
    answer = trained(_states(2, 2), numbers)
    share, own = answer.pointer.exp(), len(answer.estimates)
    assert share.shape == (2, 2, own + 6)
    assert (share[..., :own] > 0).all()
    assert torch.equal(share[..., own:] > 0, _VISIBLE.repeat(1, 1, 2))
    torch.testing.assert_close(share.sum(-1), torch.ones(2, 2))
    in_sight = share[1, 0, own:].tolist()
    assert in_sight == [0] * 6, "with no number in sight it is new, or made of none"
    assert share[1, 0, :own].sum().item() == pytest.approx(1, abs=1e-6)
    mixture = answer.mixture()
    assert torch.equal(mixture.weights.view(2, 2, 3) > 0, _VISIBLE)
    assert mixture.new.view(2, 2)[1, 0] == 1


def test_an_answer_does_not_depend_on_invisible_numbers(trained: NumberHead) -> None:
    states, numbers = _states(2, 2), _numbers(_THREE, _VISIBLE)
    answer = trained(states, numbers)
    changed = _numbers([[42.5, 1e9, -77.0], [-1e-9, 7.0, 7.0]], _VISIBLE)
    changed = changed._replace(states=numbers.states.clone(), following=numbers.following.clone())
    for seen in (changed.states, changed.following):
        seen[0, 1:] += 3.0
        seen[1, 0] -= 5.0
    other = trained(states, changed)
    for (b, a), same in {(0, 1): True, (1, 0): True, (1, 1): True, (0, 0): False}.items():
        theirs = _outputs(other)
        for name, mine in _outputs(answer).items():
            if same or _hangs_on_numbers(name):
                assert torch.equal(mine[b, a], theirs[name][b, a]) == same, (b, a, name)


def test_numbers_are_found_by_what_the_last_layer_read(trained: NumberHead) -> None:
    """And size, sign and certainty of a new value hang on the latent cause besides."""
    states, numbers = _states(2, 2), _numbers(_THREE, _VISIBLE)
    answer = trained(states, numbers)
    other_cause = trained(states._replace(loc=states.loc + 1, scale=states.scale * 2), numbers)
    theirs = _outputs(other_cause)
    for name, mine in _outputs(answer).items():
        of_cause = name.startswith("new") or name == "near_log_scale"
        assert torch.equal(mine, theirs[name]) != of_cause, name
    elsewhere = _outputs(trained(states._replace(before=states.before.flip(-1)), numbers))
    assert not torch.allclose(elsewhere["pointer"], answer.pointer, atol=1e-3)


def test_an_answer_depends_on_what_follows_a_number(trained: NumberHead) -> None:
    """And not on what stands after the next number."""
    states, numbers = _states(), _numbers([[42.5, -1.0, 1e-3]])
    answer = trained(states, numbers)
    for mask, same in ((numbers.follows, False), (~numbers.follows, True)):
        other = trained(
            states,
            numbers._replace(following=numbers.following + mask[..., None] * _randn(HIDDEN)),
        )
        theirs = _outputs(other)
        for name, mine in _outputs(answer).items():
            if same or _hangs_on_numbers(name):
                assert torch.equal(mine, theirs[name]) == same, name


def test_padding_by_an_invisible_number_changes_nothing(trained: NumberHead) -> None:
    numbers = _numbers([[42.5, -1.0]])
    padded = TextNumbers(
        states=functional.pad(numbers.states, (0, 0, 0, 2)),
        following=functional.pad(numbers.following, (0, 0, 0, 0, 0, 2)),
        follows=functional.pad(numbers.follows, (0, 0, 0, 2)),
        features=functional.pad(numbers.features, (0, 0, 0, 2)),
        values=functional.pad(numbers.values, (0, 2)),
        visible=functional.pad(numbers.visible, (0, 2)),
    )
    answer, with_padding = (trained(_states(), n) for n in (numbers, padded))
    outputs = _outputs(with_padding)
    for name, mine in _outputs(answer).items():
        if name != "pointer":
            torch.testing.assert_close(outputs[name], mine, rtol=1e-5, atol=1e-5, msg=name)
    mixture, other = answer.mixture(), with_padding.mixture()
    assert other.weights.shape == (1, 4)
    assert other.weights[0, 2:].tolist() == [0, 0]
    torch.testing.assert_close(other.weights[:, :2], mixture.weights)
    for name in ("loc", "scale", "new"):
        mine, theirs = getattr(mixture, name), getattr(other, name)
        torch.testing.assert_close(theirs, mine, rtol=1e-5, atol=1e-7)  # made in float32


def test_the_order_of_the_numbers_does_not_matter(trained: NumberHead) -> None:
    numbers, order = _numbers([[42.5, -1.0, 1e-3]]), [2, 0, 1]
    shuffled = TextNumbers(
        *(table[:, order] for table in numbers[:-1]), numbers.visible[..., order]
    )
    answer, of_shuffled = (trained(_states(), n) for n in (numbers, shuffled))
    outputs = _outputs(of_shuffled)
    for name, mine in _outputs(answer).items():
        if name != "pointer":
            torch.testing.assert_close(outputs[name], mine, rtol=1e-4, atol=1e-5, msg=name)
    mixture, other = answer.mixture(), of_shuffled.mixture()
    torch.testing.assert_close(other.weights, mixture.weights[:, order])
    torch.testing.assert_close(other.loc, mixture.loc, rtol=1e-4, atol=0)
    assert other.atoms.tolist() == [[1e-3, 42.5, -1.0]]


def test_outputs_are_in_their_ranges(trained: NumberHead) -> None:
    with torch.no_grad():
        trained.skip.weight.mul_(1e3)
    answer = trained(_states(40, 1), _numbers([[1e12, -1e-12]] * 40))
    new = answer.new
    assert new.magnitude.abs().max().item() == 13
    torch.testing.assert_close(new.hands.norm(dim=-1), torch.ones(40, 1, clock.HANDS))
    assert new.hand_scales.min().item() == pytest.approx(math.exp(-7))
    assert new.hand_scales.max().item() == pytest.approx(math.exp(2))
    assert new.log_scale.abs().max().item() == pytest.approx(math.log(1e4))
    for made in answer.made:
        assert made.magnitude.abs().max().item() <= 13
        lengths = made.hands.norm(dim=-1)
        torch.testing.assert_close(lengths, torch.ones(40, 1, len(made.dial.periods)))
        for scales in (made.log_scale, made.hand_scales):
            assert scales.isfinite().all()
    assert answer.near_log_scale.abs().max().item() == pytest.approx(13 * math.log(10))
    mixture = answer.mixture()
    assert mixture.loc.isfinite().all()
    assert (mixture.scale > 0).all()


def test_the_head_computes_in_float32_under_autocast(trained: NumberHead) -> None:
    states, numbers = _states(2, 2), _numbers(_THREE, _VISIBLE)
    expected = trained(states, numbers)
    with torch.autocast("cpu", torch.bfloat16):
        answer = trained(states, numbers)
    outputs = _outputs(answer)
    for name, tensor in _outputs(expected).items():
        assert torch.equal(outputs[name], tensor), name


def _estimate(dial: Dial, factor: float = 1.0) -> Estimate:
    """For two texts; hands that know nothing leave the Cauchy as it is."""
    count = len(dial.periods)
    return Estimate(
        magnitude=torch.tensor([[0.0, 1.0, 2.0], [-1.0, -2.0, 3.0]]),
        signed=factor * torch.tensor([[1.5, -2.0, 0.0], [4.0, 5.0, -6.0]]),
        log_scale=torch.full((2, 3), math.log(3.0 * factor)),
        hands=functional.normalize(torch.ones(2, 3, count, 2), dim=-1),
        hand_scales=torch.full((2, 3, count), 1e4),
        dial=dial,
    )


def _answer(weights: Tensor, near: float = -1.0, made: tuple[Estimate, ...] = ()) -> NumberAnswer:
    """Two texts with two numbers each."""
    return NumberAnswer(
        new=_estimate(LOG_DIAL),
        made=made,
        near_log_scale=near + torch.arange(6.0).view(2, 3),
        pointer=weights.log(),
        values=torch.tensor([[10.0, 20.0], [30.0, 40.0]], dtype=torch.float64),
    )


LOCS, SCALES = [1.5, -20.0, 0.0, 0.4, 0.05, -6000.0], [3.0, 30.0, 300.0, 0.3, 0.03, 3000.0]


def test_mixture_rows_are_the_asking_positions_in_order() -> None:
    weights = torch.tensor([[[0.6, 0.3, 0.1, 0.0, 0.0]] * 3, [[0.6, 0.0, 0.4, 0.0, 0.0]] * 3])
    mixture = _answer(weights).mixture()
    assert mixture.loc.tolist() == pytest.approx(LOCS, rel=1e-6)
    assert mixture.scale.tolist() == pytest.approx(SCALES, rel=1e-6)
    assert mixture.atoms.tolist() == [[10, 20]] * 3 + [[30, 40]] * 3
    expected = torch.tensor([[0.3, 0.1]] * 3 + [[0.0, 0.4]] * 3, dtype=torch.float64)
    torch.testing.assert_close(mixture.weights, expected, rtol=1e-6, atol=0)
    assert mixture.quantile(0.999)[0][0].item() > 100
    assert mixture.loc.dtype == mixture.scale.dtype == mixture.weights.dtype == torch.float64


def test_what_is_no_copy_is_near_a_number_where_that_is_more_probable_than_new() -> None:
    weights = torch.tensor(
        [
            [[0.2, 0.3, 0.0, 0.1, 0.4], [0.4, 0.0, 0.0, 0.3, 0.3], [0.1, 0.6, 0.1, 0.15, 0.05]],
            [[0.0, 0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0, 0.0], [0.2, 0.2, 0.2, 0.4, 0.0]],
        ]
    )
    answer = _answer(weights)
    mixture = answer.mixture()
    loc = [20.0, LOCS[1], 10.0, 40.0, LOCS[4], 30.0]
    assert mixture.loc.tolist() == pytest.approx(loc, rel=1e-6)
    near = [math.exp(-1 + i) for i in range(6)]
    scale = [near[0], SCALES[1], near[2], near[3], SCALES[4], near[5]]
    assert mixture.scale.tolist() == pytest.approx(scale, rel=1e-6)
    expected = weights[..., 1:3].double().flatten(0, 1)
    torch.testing.assert_close(mixture.weights, expected, rtol=1e-6, atol=1e-12)
    assert mixture.new.tolist() == pytest.approx([0.7, 1, 0.3, 1, 1, 0.6], rel=1e-6)
    without = answer.mixture(copies=False)
    assert without.loc.tolist() == pytest.approx(LOCS, rel=1e-6)
    assert without.scale.tolist() == pytest.approx(SCALES, rel=1e-6)
    assert without.new.tolist() == [1] * 6


def test_what_is_no_copy_is_the_likeliest_of_new_made_and_near() -> None:
    """One of them, not a mean of them; without copies the likeliest of new and made."""
    made = (_estimate(LINEAR_DIAL, 2.0), _estimate(FINE_LOG_DIAL, 3.0))
    # of new, two that are made, two copies, and near each
    weights = torch.tensor(
        [
            [
                [0.4, 0.3, 0.2, 0.1, 0.0, 0.0, 0.0],
                [0.2, 0.3, 0.1, 0.2, 0.0, 0.0, 0.2],
                [0.1, 0.2, 0.3, 0.2, 0.2, 0.0, 0.0],
            ],
            [
                [0.1, 0.2, 0.1, 0.3, 0.0, 0.3, 0.0],
                [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0],
                [0.1, 0.3, 0.2, 0.0, 0.1, 0.0, 0.3],
            ],
        ]
    )
    answer = _answer(weights, made=made)
    mixture, without = answer.mixture(), answer.mixture(copies=False)
    factors = [1, 2, 3, 2, 3, 2]
    locs = [loc * factor for loc, factor in zip(LOCS, factors, strict=True)]
    scales = [scale * factor for scale, factor in zip(SCALES, factors, strict=True)]
    assert without.loc.tolist() == pytest.approx(locs, rel=1e-6)
    assert without.scale.tolist() == pytest.approx(scales, rel=1e-6)
    assert without.new.tolist() == [1] * 6
    locs[3], scales[3] = 30.0, math.exp(-1 + 3)  # a copy of 30 or near it, together
    locs[5], scales[5] = 40.0, math.exp(-1 + 5)
    assert mixture.loc.tolist() == pytest.approx(locs, rel=1e-6)
    assert mixture.scale.tolist() == pytest.approx(scales, rel=1e-6)
    expected = weights[..., 3:5].double().flatten(0, 1)
    torch.testing.assert_close(mixture.weights, expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("dial", [LINEAR_DIAL, FINE_LOG_DIAL])
def test_a_made_value_is_read_from_its_own_dial(dial: Dial) -> None:
    """To the last decimal of 417.25, from a location 4 % off."""
    value = torch.full((2, 3), 417.25, dtype=torch.float64)
    made = replace(
        _estimate(dial),
        magnitude=torch.full((2, 3), 2.0),
        signed=torch.full((2, 3), 4.0),
        log_scale=torch.full((2, 3), math.log(0.4)),
        hands=dial.hands(value),
        hand_scales=torch.full((2, 3, len(dial.periods)), 0.05),
    )
    weights = torch.tensor([[[0.1, 0.7, 0.2, 0.0, 0.0, 0.0]] * 3] * 2)
    assert _answer(weights, made=(made,)).mixture().printed().tolist() == [417.25] * 6


@pytest.mark.parametrize(("new", "loc"), [(0.4, 10.0), (0.6, LOCS[0])])
def test_a_number_counts_as_copy_and_as_near(new: float, loc: float) -> None:
    """Torn between a copy and near it, the answer is that number; the new value is not asked."""
    shares = [new, (1 - new) * 0.6, 0.0, (1 - new) * 0.4, 0.0]
    mixture = _answer(torch.tensor([[shares] * 3] * 2)).mixture()
    assert mixture.loc[0].item() == pytest.approx(loc)
    value, source = mixture.point()
    assert (value[0].item() == 10) is (new < 0.5)
    assert source[0].item() == -1  # more probably no copy


def test_a_sure_pointer_copies_exactly(head: NumberHead) -> None:
    value = 12345.678901234567
    answer = head(_states(), _numbers([[value, 3.0]]))
    sure = torch.full_like(answer.pointer, -30.0)
    sure[..., len(answer.estimates)] = 0.0
    mixture = replace(answer, pointer=sure).mixture()
    for level in (0.1, 0.5, 0.9):
        x, source = mixture.quantile(level)
        assert x.item() == value
        assert source.item() == 0


def test_gradients_reach_every_parameter(trained: NumberHead) -> None:
    """Finite also where a position sees no number."""
    answer = trained(_states(2, 2), _numbers(_THREE, _VISIBLE))
    sum(
        (output * _randn(*output.shape)).sum()
        for name, output in _outputs(answer).items()
        if name != "pointer"
    ).backward(retain_graph=True)
    answer.pointer[torch.isfinite(answer.pointer)].square().sum().backward()
    for name, parameter in trained.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_the_pointer_leaves_out_some_of_what_it_looks_with_in_training(
    trained: NumberHead,
) -> None:
    """And nothing else does; by default a fifth."""
    assert NumberHead(HIDDEN).pointer.dropout.p == 0.2
    states, numbers = _states(2, 2), _numbers(_THREE, _VISIBLE)
    expected = _outputs(trained(states, numbers))
    trained.pointer.dropout.p = 0.5
    first, second = _outputs(trained(states, numbers)), _outputs(trained(states, numbers))
    for name, tensor in expected.items():
        assert torch.equal(first[name], tensor) == (name != "pointer"), name
    assert not torch.equal(first["pointer"], second["pointer"])
    trained.pointer.eval()
    assert torch.equal(_outputs(trained(states, numbers))["pointer"], expected["pointer"])


def test_settings_rebuild_the_head(trained: NumberHead) -> None:
    again = NumberHead(HIDDEN, **trained.settings)
    again.load_state_dict(trained.state_dict())
    states, numbers = _states(2, 2), _numbers(_THREE, _VISIBLE)
    outputs = _outputs(again(states, numbers))
    expected = _outputs(trained(states, numbers))
    assert outputs.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(outputs[name], tensor), name


def test_a_head_makes_values_unless_it_is_told_not_to() -> None:
    """Sums on the dial of the value, products on that of its logarithm."""
    numbers = _numbers([[2.0, 3.0]])
    answer = NumberHead(HIDDEN)(_states(), numbers)
    dials = [made.dial for made in answer.made]
    assert dials == [operation.dial for operation in OPERATIONS]
    assert {LINEAR_DIAL, FINE_LOG_DIAL} == set(dials)
    assert answer.pointer.shape == (1, 1, 1 + len(OPERATIONS) + 4)
    plain = NumberHead(HIDDEN, arithmetic=False)
    answer = plain(_states(), numbers)
    assert answer.made == ()
    assert answer.pointer.shape == (1, 1, 1 + 4)
    assert not [name for name, _ in plain.named_parameters() if "arithmetic" in name]


def test_what_is_made_does_not_change_what_is_new() -> None:
    """At the same weights the new value is the same with and without arithmetic."""
    head, plain = _small_head(arithmetic=True), _small_head(arithmetic=False)
    own = dict(plain.named_parameters())
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            if name in own:
                own[name].copy_(parameter[: len(own[name])])
    states, numbers = _states(2, 2), _numbers(_THREE, _VISIBLE)
    answer, other = head(states, numbers), plain(states, numbers)
    for name in PARTS:
        torch.testing.assert_close(getattr(answer.new, name), getattr(other.new, name))
    torch.testing.assert_close(_nothing_made(answer).pointer, other.pointer)


def test_with_few_value_hands_size_and_certainty_do_not_see_digits() -> None:
    """What the answer's own hands restate is still all of the number."""
    torch.manual_seed(0)
    head = NumberHead(8, value_hands=3, pointer_dropout=0.0)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_(std=0.3)
    states = States(torch.randn(1, 1, 8), torch.ones(1, 1, 1), torch.randn(1, 1, 8))
    features = clock.encode(torch.tensor([[42.57, 7.0]], dtype=torch.float64))
    fine = features.clone()
    fine[..., clock.FIRST_HAND + 2 * 3 :] *= -1
    answers = []
    for seen in (features, fine):
        numbers = TextNumbers(
            states=torch.ones(1, 2, 8),
            following=torch.ones(1, 2, WINDOW, 8),
            follows=torch.ones(1, 2, WINDOW, dtype=torch.bool),
            features=seen,
            values=torch.tensor([[42.57, 7.0]], dtype=torch.float64),
            visible=torch.ones(1, 1, 2, dtype=torch.bool),
        )
        answers.append(head(states, numbers))
    one, two = answers
    theirs = _outputs(two)
    for name, mine in _outputs(one).items():
        same = torch.equal(mine, theirs[name])
        assert same == (name != "new 0 hands"), name
    assert not torch.allclose(one.new.hands, two.new.hands)
    assert head.settings["value_hands"] == 3
    with pytest.raises(ValueError, match="not 10"):
        NumberHead(8, value_hands=10)


@pytest.mark.parametrize("hands", [0, 2, 9])
def test_an_answer_has_as_many_hands_as_it_is_to_have(hands: int) -> None:
    """Without any it is the Cauchy of size and sign, and its loss that Cauchy's."""
    torch.manual_seed(0)
    head = NumberHead(8, answer_hands=hands)
    with torch.no_grad():
        head.skip.bias.normal_()
        head.skip.bias[2] = -6.0  # certain enough for hands to be read
        scales = 3 + 2 * clock.HANDS
        head.skip.bias[scales : scales + clock.HANDS] = -2.0  # and these sharp enough
    numbers = TextNumbers(
        states=torch.ones(1, 1, 8),
        following=torch.ones(1, 1, WINDOW, 8),
        follows=torch.ones(1, 1, WINDOW, dtype=torch.bool),
        features=clock.encode(torch.tensor([[42.57]], dtype=torch.float64)),
        values=torch.tensor([[42.57]], dtype=torch.float64),
        visible=torch.zeros(1, 1, 1, dtype=torch.bool),
    )
    states = States(torch.randn(1, 1, 8), torch.ones(1, 1, 1), torch.randn(1, 1, 8))
    answer = head(states, numbers)
    new = answer.new
    assert new.hands.shape == (1, 1, hands, 2)
    linear = (10.0 ** new.magnitude.double() * new.signed).flatten()
    same = torch.equal(_nothing_made(answer).mixture(copies=False).loc, linear)
    assert same == (hands < 9)  # the two longest hands are coarser than what is known
    target = torch.tensor([[17.25]], dtype=torch.float64)
    loss = value_nll(answer, target)
    assert torch.isfinite(loss).all()
    if hands == 0:
        cauchy = torch.distributions.Cauchy(linear, (10.0**new.magnitude * new.log_scale.exp())[0])
        assert loss.item() == pytest.approx(-cauchy.log_prob(target[0]).item(), abs=1e-3)
    with pytest.raises(ValueError, match="answer_hands is 10"):
        NumberHead(8, answer_hands=10)


def test_contrast_spreads_what_the_reading_heads_look_at() -> None:
    torch.manual_seed(0)
    looks = []
    for contrast in (1.0, 8.0):
        torch.manual_seed(1)
        head = NumberHead(64, reading_heads=10, reading_contrast=contrast)
        states = functional.rms_norm(torch.randn(1, 10, 64), (64,))
        keys = torch.cat([states, torch.zeros_like(states)], dim=-1)
        visible = torch.ones(1, 1, 10, dtype=torch.bool)
        scores = head.reading.scores(
            functional.rms_norm(torch.randn(1, 1, 64), (64,)), keys, visible
        )
        looks.append(scores.softmax(-1).amax(-1).mean().item())
    assert looks[0] < 0.25 < 0.35 < looks[1]


@pytest.mark.parametrize("arithmetic", [True, False])
def test_an_export_keeps_the_options_of_the_head(tmp_path: Path, arithmetic: bool) -> None:
    head = partial(
        NumberHead, value_hands=3, answer_hands=0, reading_contrast=8.0, arithmetic=arithmetic
    )
    model = NumberLM.from_pretrained(EMBEDDED, number_head=head, embedding_hands=4)
    model.save_pretrained(tmp_path)
    again = NumberLM.from_pretrained(tmp_path)
    assert again.number_head.settings == model.number_head.settings
    assert again.number_embedding.hands == 4
    prompts = ["The red lamp shows 42.57 volts. So it is"]
    assert again.predict(prompts) == model.predict(prompts)
