"""One way to a value: a floating-point Cauchy, and hands that sharpen it."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from numlm.clock import LARGEST, Dial
from numlm.distributions import cauchy_nll, wrapped_cauchy_nll

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
    noise_nll = staticmethod(cauchy_nll)

    def nll(self, targets: Tensor) -> Tensor:
        """Negative log-density (B, A) of the Cauchy at targets (B, A) float64, in nats."""
        scaled = as_float(targets) * torch.pow(10.0, -self.magnitude)
        linear = self.noise_nll(scaled, self.signed, self.log_scale.exp())
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
    def read_nll(self, targets: Tensor) -> Tensor:
        """Negative log-density (B, A) at targets of what is read, in nats; without gradients.

        Results are written with some of their digits: it is a millionth of the value wide or more.
        """
        loc, scale = self.read()
        scale = torch.maximum(scale, _WRITTEN * loc.abs())
        return self.noise_nll(targets.clamp(-LARGEST, LARGEST), loc, scale).float()


def as_float(values: Tensor) -> Tensor:
    """Float64 values in float32, without infinities."""
    return values.clamp(-LARGEST, LARGEST).float()
