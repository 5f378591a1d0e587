"""The number head: which number comes next, as a mixture of copies and what is no copy.

    new value   V ~ Cauchy(10^M a, 10^M s): a magnitude and a signed part, linear in v within its
                magnitude, and the hands of the clock, each a direction with a wrapped Cauchy's
                scale
    near        V ~ Cauchy(v_k, r) around an earlier number v_k, as a reading lies around what a
                gauge should show: the centre is exact and choosing it is a classification, where
                the new value's would have to be carried through the network
    made        a sum, a mean and a product of the text's numbers (`numlm.arithmetic`)
    copy        V = v_k
    pointer     the probabilities of new, of each made one, of each copy, and of near each number

Reading heads, pointer and what is made look with the state before the last layer (`States`). The
value outputs are a linear skip and a small MLP on (latent, what the reading heads read). The
skip starts as the identity from what most of the heads read to the hands, the magnitude and the
sign, as abduction starts as the identity from the hidden state: restating is what most numbers in
text do, and what is left to learn is where to look. The other heads start without a say; they are
there for what a number depends on beside the one it restates; the scale r of what lies near a
number starts as the magnitude that they read.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from numlm import clock
from numlm.arithmetic import OPERATIONS, Arithmetic
from numlm.distributions import ValueMixture
from numlm.estimate import MAGNITUDE_LIMIT, Estimate, as_float
from numlm.heads import States
from numlm.reading import NumberKeys, Pointer, ReadingHeads, TextNumbers

_MAGNITUDE, _SIGNED, _LOG_SCALE, _HANDS = 0, 1, 2, 3
_HAND_SCALES = _HANDS + 2 * clock.HANDS
_NEAR = _HAND_SCALES + clock.HANDS
_OUTPUTS = _NEAR + 1
_NEAR_UNIT = clock.MAGNITUDE_UNIT * math.log(10)  # so that a magnitude as read is a log scale
_NEAR_LIMIT = MAGNITUDE_LIMIT * math.log(10)


@dataclass(frozen=True, slots=True)
class NumberAnswer:
    """What the head says at every asking position, in float32 unless stated.

    Attributes:
        new: A new value.
        made: Values that are made from the text's numbers; none if the head does not make any.
        near_log_scale: (B, A) log r.
        pointer: (B, A, 1 + M + 2 K) log-probabilities of new, of each of M made ones, of each
            copy, of near each number.
        values: (B, K) float64, the numbers of the text.
    """

    new: Estimate
    made: tuple[Estimate, ...]
    near_log_scale: Tensor
    pointer: Tensor
    values: Tensor

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """The new value and those that are made."""
        return (self.new, *self.made)

    @property
    def visible(self) -> Tensor:
        """(B, A, K) bool, which numbers every position may look at."""
        _, copied, _ = self.split_pointer()
        return torch.isfinite(copied)

    def equals(self, targets: Tensor) -> Tensor:
        """(B, A, K) bool, which of the numbers in sight are the targets (B, A) float64."""
        return (targets[..., None] == self.values[:, None, :]) & self.visible

    def near_nll(self, targets: Tensor) -> Tensor:
        """Negative log-densities (B, A, K) of targets (B, A) float64 near each number, in nats."""
        scale = self.near_log_scale.exp()[..., None]
        offset = as_float(targets[..., None] - self.values[:, None, :])
        return self.new.noise_nll(offset, torch.zeros_like(scale), scale)

    def split_pointer(self) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities (B, A, 1 + M) of the estimates, (B, A, K) of copies and of near."""
        count = self.values.shape[-1]
        estimates, copied, near = self.pointer.split([len(self.estimates), count, count], dim=-1)
        return estimates, copied, near

    def mixture(self, copies: bool = True) -> ValueMixture:
        """The decoded distribution, one row for every asking position (B * A).

        What is no copy is one Cauchy: around the number that the answer most probably is, be it as
        a copy or near it, or the new or made value where that is more probable still.

        Args:
            copies: Whether the pointer may choose a number of the text.
        """
        # again in float64, so that they sum to one
        pointer = self.pointer.double().softmax(-1)
        estimates, copied, near = replace(self, pointer=pointer).split_pointer()
        atoms = self.values[:, None, :].expand_as(copied)
        likeliest, which = estimates.max(-1)
        is_near = torch.zeros_like(which, dtype=torch.bool)
        loc = scale = torch.zeros_like(likeliest)
        if copies:
            likely, column = (copied + near).max(-1)
            is_near = likely > likeliest
            loc = atoms.gather(-1, column[..., None])[..., 0]
            scale = self.near_log_scale.double().exp()
        for index, estimate in enumerate(self.estimates):
            chosen = ~is_near & (which == index)
            if chosen.any():  # reading the clock is half of what a number costs
                read = estimate.read()
                loc, scale = (
                    torch.where(chosen, mine, other)
                    for mine, other in zip(read, (loc, scale), strict=True)
                )
        return ValueMixture(
            atoms=atoms.flatten(0, 1),
            weights=(copied if copies else torch.zeros_like(copied)).flatten(0, 1),
            loc=loc.flatten(),
            scale=scale.flatten(),
        )


class NumberHead(nn.Module):
    """Answers "which number?" at asking positions, in float32 whatever the precision of the rest.

    Args:
        hidden_size: Size H of the hidden state.
        reading_heads: Number R of heads that read the text's numbers.
        free_heads: How many of them the value does not start from.
        reading_size: Size of a reading head's query.
        pointer_size: Size of the pointer's query.
        pointer_dropout: Share of what the pointer looks with that is left out in training. Without
            any it learns by heart which number of a text happens to be near the answer.
        mlp_size: Width of the MLP.
        value_hands: How many hands of the clock, from the longest on, size, sign and certainty are
            answered from; the answer's hands are always restated from all. With all of them a
            value may hang on a number's last digit; three are right where it depends on sizes, as
            a measurement does on others.
        answer_hands: How many hands the answer has. All of them say 42.57 for 42.57; none are
            right where every answer is uncertain, and digits would only be learned by heart.
        reading_contrast: What the reading heads' queries start from is multiplied by this. At 1
            every head starts with a look at all numbers; at 8 each looks at a few of its own,
            which is sooner learned where an answer depends on many numbers.
        arithmetic: Whether sums, means and products of the text's numbers are offered.
    """

    coarse: Tensor
    skip_mask: Tensor

    def __init__(
        self,
        hidden_size: int,
        reading_heads: int = 6,
        free_heads: int = 2,
        reading_size: int = 32,
        pointer_size: int = 128,
        pointer_dropout: float = 0.2,
        mlp_size: int = 256,
        value_hands: int = clock.HANDS,
        answer_hands: int = clock.HANDS,
        reading_contrast: float = 1.0,
        arithmetic: bool = True,
    ) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {
            "reading_heads": reading_heads,
            "free_heads": free_heads,
            "reading_size": reading_size,
            "pointer_size": pointer_size,
            "pointer_dropout": pointer_dropout,
            "mlp_size": mlp_size,
            "value_hands": value_hands,
            "answer_hands": answer_hands,
            "reading_contrast": reading_contrast,
            "arithmetic": arithmetic,
        }
        if not 0 <= answer_hands <= clock.HANDS:
            raise ValueError(f"answer_hands is {answer_hands}, but must be 0 to {clock.HANDS}")
        if not 0 <= free_heads < reading_heads:
            raise ValueError(
                f"free_heads is {free_heads}, but must be less than reading_heads, {reading_heads}"
            )
        self.keys = NumberKeys(hidden_size)
        self.answer_hands = answer_hands
        self.reading = ReadingHeads(hidden_size, reading_heads, reading_size)
        with torch.no_grad():
            self.reading.query.weight.mul_(reading_contrast)
        self.arithmetic = Arithmetic(hidden_size, reading_size) if arithmetic else None
        made = len(OPERATIONS) if arithmetic else 0
        self.pointer = Pointer(hidden_size, pointer_size, made, pointer_dropout)
        inputs = hidden_size + 1 + reading_heads * clock.FEATURES
        self.skip = nn.Linear(inputs, _OUTPUTS)
        self.mlp = nn.Sequential(
            nn.Linear(inputs, mlp_size), nn.SiLU(), nn.Linear(mlp_size, _OUTPUTS)
        )
        self._start_as_identity(reading_heads, reading_heads - free_heads)
        coarse = torch.ones(inputs, dtype=torch.bool)
        coarse[-reading_heads * clock.FEATURES :] = clock.coarse_features(value_hands).repeat(
            reading_heads
        )
        sees_all = torch.zeros(_OUTPUTS, 1, dtype=torch.bool)
        sees_all[_HANDS:_HAND_SCALES] = True
        self.register_buffer("coarse", coarse.float(), persistent=False)
        self.register_buffer("skip_mask", (coarse | sees_all).float(), persistent=False)

    @torch.no_grad()
    def _start_as_identity(self, reading_heads: int, restating: int) -> None:
        """Let the outputs start as the value that the restating heads read on the average."""
        for layer in (self.skip, self.mlp[-1]):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
        heads = self.skip.weight[:, -reading_heads * clock.FEATURES :].unflatten(
            1, (reading_heads, clock.FEATURES)
        )
        read, free = heads[:, :restating], heads[:, restating:]
        read[_MAGNITUDE, :, clock.MAGNITUDE] = clock.MAGNITUDE_UNIT / restating
        read[_SIGNED, :, clock.SIGN] = 1 / restating
        for i in range(2 * clock.HANDS):
            read[_HANDS + i, :, clock.FIRST_HAND + i] = 1 / restating
        free[_NEAR, :, clock.MAGNITUDE] = 1 / max(free.shape[1], 1)
        self.skip.bias[_LOG_SCALE] = math.log(0.5)

    def forward(self, states: States, numbers: TextNumbers) -> NumberAnswer:
        """Answer at asking positions.

        Args:
            states: What is known there, (B, A, H).
            numbers: The numbers of the texts.
        """
        with torch.autocast(states.loc.device.type, enabled=False):
            asking = _normalised(states.before)
            keys = self.keys(
                numbers._replace(
                    states=_normalised(numbers.states), following=_normalised(numbers.following)
                )
            )
            read = self.reading(asking, keys, numbers)
            cause = [_normalised(states.loc), states.scale.log()]
            inputs = torch.cat([*cause, read.flatten(-2)], dim=-1)
            skip = functional.linear(inputs, self.skip.weight * self.skip_mask, self.skip.bias)
            outputs = skip + self.mlp(inputs * self.coarse)
            hands = self.answer_hands
            directions = outputs[..., _HANDS:_HAND_SCALES].unflatten(-1, (clock.HANDS, 2))
            new = Estimate(
                magnitude=outputs[..., _MAGNITUDE].clamp(-MAGNITUDE_LIMIT, MAGNITUDE_LIMIT),
                signed=outputs[..., _SIGNED],
                log_scale=outputs[..., _LOG_SCALE].clamp(math.log(1e-4), math.log(1e4)),
                hands=functional.normalize(directions, dim=-1, eps=1e-6)[..., :hands, :],
                hand_scales=outputs[..., _HAND_SCALES:_NEAR].clamp(-7.0, 2.0).exp()[..., :hands],
                dial=clock.LOG_DIAL,
            )
            return NumberAnswer(
                new=new,
                made=self.arithmetic(asking, keys, numbers) if self.arithmetic else (),
                near_log_scale=(outputs[..., _NEAR] * _NEAR_UNIT).clamp(-_NEAR_LIMIT, _NEAR_LIMIT),
                pointer=self.pointer(asking, keys, numbers),
                values=numbers.values,
            )


def _normalised(states: Tensor) -> Tensor:
    """States (..., H) in float32, brought to size one."""
    return functional.rms_norm(states.float(), states.shape[-1:])
