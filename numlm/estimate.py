"""One way to a value: a floating-point Cauchy, and hands that sharpen it."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from numlm.clock import LARGEST, Dial
from numlm.distributions import cauchy_cdf, cauchy_nll, wrapped_cauchy_nll

MAGNITUDE_LIMIT = 13.0
_WRITTEN = 1e-6


@dataclass(frozen=True, slots=True)
class Estimate:
    """V ~ Cauchy(10^M a, 10^M s) and the hands of a dial, at every asking position; float32.

    Attributes:
        magnitude: (B, A) M, within +-13.
        signed: (B, A) a.
        log_scale: (B, A) log s.
        hands: (B, A, J, 2) unit vectors, of the dial's first J hands.
        hand_scales: (B, A, J) radians.
        dial: What the hands stand for.
    """

    magnitude: Tensor
    signed: Tensor
    log_scale: Tensor
    hands: Tensor
    hand_scales: Tensor
    dial: Dial

    def nll(self, targets: Tensor) -> Tensor:
        """Negative log-density (B, A) of the Cauchy at targets (B, A) float64, in nats."""
        scaled = as_float(targets) * torch.pow(10.0, -self.magnitude)
        linear = cauchy_nll(scaled, self.signed, self.log_scale.exp())
        return linear + self.magnitude * math.log(10)

    def hands_nll(self, targets: Tensor) -> Tensor:
        """Negative log-likelihood (B, A) of all hands, without their constants: 0 is a guess."""
        true_hands = self.dial.hands(targets)[..., : self.hands.shape[-2], :]
        nll = wrapped_cauchy_nll(self.hands, true_hands, self.hand_scales).sum(-1)
        return nll * (targets != 0) if self.dial.logarithmic else nll

    def read(self) -> tuple[Tensor, Tensor]:
        """Location and scale (B, A) float64, sharpened by the hands."""
        power = 10.0 ** self.magnitude.double()
        return self.dial.read(
            power * self.signed, power * self.log_scale.exp(), self.hands, self.hand_scales
        )

    @torch.no_grad()
    def sharp_nll(self, targets: Tensor) -> Tensor:
        """Negative log-density (B, A) at targets of what is read, in nats; without gradients.

        Reading a dial has steps, on either side of which rounding may fall. This has none: of the
        Cauchy and of a Cauchy around where each hand stands, times the probability that what is
        known before leads to the hand's right turn, the greatest density. Results are
        written with some of their digits: nothing is narrower than a millionth of the value.
        """
        targets = targets.clamp(-LARGEST, LARGEST)
        power = 10.0 ** self.magnitude.double()
        loc, scale = power * self.signed, power * self.log_scale.double().exp()
        scale = torch.maximum(scale, _WRITTEN * loc.abs())
        at_cauchy = -cauchy_nll(targets, loc, scale)
        turns = self.dial.turns(self.hands, targets)
        periods = torch.tensor(
            self.dial.periods[: turns.shape[-1]], dtype=torch.float64, device=loc.device
        )
        place, unit = self.dial.place(loc)  # of the axis, in units of the value
        true_place, true_unit = self.dial.place(targets)
        least = _WRITTEN * loc.abs() / unit
        offsets = torch.cat([(place - true_place)[..., None], turns * periods], dim=-1)
        widths = torch.cat(
            [(scale / unit)[..., None], self.hand_scales.double() / (2 * math.pi) * periods],
            dim=-1,
        )
        widths = torch.maximum(widths, least[..., None])
        known, which = widths[..., :-1].cummin(-1)
        right_turn = _inside(periods / 2, offsets.gather(-1, which), known)
        at_hands = (
            right_turn.log().cumsum(-1)
            - cauchy_nll(offsets[..., 1:], torch.zeros_like(turns), widths[..., 1:])
            - true_unit.log()[..., None]
        )
        if self.dial.logarithmic:  # a hand says nothing of the sign, and zero has none
            of_sign = cauchy_cdf(targets.sign() * loc, torch.zeros_like(loc), scale)
            exists = (targets != 0) & (loc != 0)
            at_hands = at_hands + of_sign.where(exists, 0.0).log()[..., None]
        ends = torch.cat([at_cauchy[..., None], at_hands], dim=-1)
        return -ends.amax(-1).float()


def _inside(reach: Tensor, offset: Tensor, scale: Tensor) -> Tensor:
    """P(-reach < X < reach) of X ~ Cauchy(offset, scale), at least the smallest float64."""
    share = ((reach - offset) / scale).atan() + ((reach + offset) / scale).atan()
    return (share / math.pi).clamp(min=torch.finfo(torch.float64).tiny)


def as_float(values: Tensor) -> Tensor:
    """Float64 values in float32, without infinities."""
    return values.clamp(-LARGEST, LARGEST).float()
