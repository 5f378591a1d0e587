"""One way to a value: a floating-point Cauchy, and hands that sharpen it."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from numlm.clock import LARGEST, RESOLVED, Dial
from numlm.distributions import cauchy_nll, wrapped_cauchy_nll

MAGNITUDE_LIMIT = 13.0
_WRITTEN = 1e-6
_STEEPNESS = 32  # of slopes in place of steps: rounding is a millionth of their width


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

        Reading a dial has steps, on either side of which rounding may fall. Here each step is a
        slope: a reading goes on to a hand by so much as what is known resolves its period, and is
        on the right turn by so much as what is known is near the target. On a wrong turn the
        density is that of a Cauchy one period away. Results are written with some of their digits:
        nothing is narrower than a millionth of the value.
        """
        targets = targets.clamp(-LARGEST, LARGEST)
        power = 10.0 ** self.magnitude.double()
        loc, scale = power * self.signed, power * self.log_scale.double().exp()
        scale = torch.maximum(scale, _WRITTEN * loc.abs())
        place, unit = self.dial.place(loc)  # of the axis, in units of the value
        true_place, true_unit = self.dial.place(targets)
        turns = self.dial.turns(self.hands, targets)
        periods = torch.tensor(
            self.dial.periods[: turns.shape[-1]], dtype=torch.float64, device=loc.device
        )
        of_hands = self.hand_scales.double() / (2 * math.pi) * periods
        widths = torch.cat([(scale / unit)[..., None], of_hands], dim=-1)
        widths = torch.maximum(widths, (_WRITTEN * loc.abs() / unit)[..., None])
        widths, which = widths.cummin(-1)  # of what is known after each hand
        offsets = torch.cat([(place - true_place)[..., None], turns * periods], dim=-1)
        offsets = offsets.gather(-1, which)

        goes_on = _below(widths[..., :-1] / (RESOLVED * periods))
        on_turn = _below(offsets[..., :-1] / (periods / 2))
        if self.dial.logarithmic and len(periods):  # where the sign must be known, and right
            exists = (targets != 0) & (loc != 0)
            goes_on[..., 0] *= exists * _below(scale / loc.abs().where(loc != 0, 1.0))
            on_turn[..., 0] *= targets.sign() == loc.sign()
        stops = 1 - functional.pad(goes_on, (0, 1))
        reached = functional.pad(goes_on.cumprod(-1), (1, 0), value=1.0)
        rightly = functional.pad(on_turn.cumprod(-1), (1, 0), value=1.0)
        last = (reached * stops * widths.log()).sum(-1, keepdim=True).exp()
        right = -cauchy_nll(offsets, torch.zeros_like(offsets), widths)
        wrong = -cauchy_nll(periods.expand_as(turns), torch.zeros_like(turns), last)
        right = right - functional.pad(true_unit.log()[..., None].expand_as(turns), (1, 0))
        right[..., 0] = -cauchy_nll(targets, loc, scale)
        wrong = wrong - true_unit.log()[..., None]
        density = torch.cat(
            [
                right + (reached * rightly * stops).log(),
                wrong + (reached[..., 1:] * rightly[..., :-1] * (1 - on_turn)).log(),
            ],
            dim=-1,
        )
        return -density.logsumexp(-1).float()


def _below(ratio: Tensor) -> Tensor:
    """1 far below a ratio of one, 0 far above: an indicator without a step."""
    return 1 / (1 + ratio**_STEEPNESS)


def as_float(values: Tensor) -> Tensor:
    """Float64 values in float32, without infinities."""
    return values.clamp(-LARGEST, LARGEST).float()
