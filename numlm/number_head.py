"""The number head: which number comes next, as a mixture of copies and a new value.

    new value   V ~ Cauchy(10^M a, 10^M s): a magnitude and a signed part, linear in v within its
                magnitude, and the hands of the clock, each a direction with a wrapped Cauchy's
                scale
    copy        a pointer's probabilities of the text's earlier numbers and of "new"

The value outputs are a linear skip and a small MLP on (latent, what the reading heads read). The
skip starts as the identity from
what is read to the hands, the magnitude and the sign, as abduction starts as the identity from the
hidden state: restating is what most numbers in text do, and what is left to learn is where to
look.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from numlm import clock
from numlm.distributions import ValueMixture
from numlm.heads import Latent
from numlm.reading import Pointer, ReadingHeads, TextNumbers

_MAGNITUDE, _SIGNED, _LOG_SCALE, _HANDS = 0, 1, 2, 3
_HAND_SCALES = _HANDS + 2 * clock.HANDS
_OUTPUTS = _HAND_SCALES + clock.HANDS
_MAGNITUDE_LIMIT = 13.0


@dataclass(frozen=True, slots=True)
class NumberAnswer:
    """What the head says at every asking position, in float32 unless stated.

    Attributes:
        magnitude: (B, A) M, within +-13.
        signed: (B, A) a.
        log_scale: (B, A) log s.
        hands: (B, A, J, 2) unit vectors.
        hand_scales: (B, A, J) radians.
        pointer: (B, A, 1 + K) log-probabilities; column 0 is "new".
        values: (B, K) float64, the numbers that could be copied.
    """

    magnitude: Tensor
    signed: Tensor
    log_scale: Tensor
    hands: Tensor
    hand_scales: Tensor
    pointer: Tensor
    values: Tensor

    def mixture(self, copies: bool = True) -> ValueMixture:
        """The decoded distribution, one row for every asking position (B * A).

        Args:
            copies: Whether the pointer takes part; without it every answer is a new value.
        """
        power = 10.0 ** self.magnitude.double()
        loc, scale = clock.read_clock(
            power * self.signed, power * self.log_scale.exp(), self.hands, self.hand_scales
        )
        weights = self.pointer.double().softmax(-1)[
            ..., 1:
        ]  # again in float64, so that they sum to one
        atoms = self.values[:, None, :].expand_as(weights)
        return ValueMixture(
            atoms=atoms.flatten(0, 1),
            weights=(weights if copies else torch.zeros_like(weights)).flatten(0, 1),
            loc=loc.flatten(),
            scale=scale.flatten(),
        )


class NumberHead(nn.Module):
    """Answers "which number?" at asking positions, in float32 whatever the precision of the rest.

    Args:
        hidden_size: Size H of the hidden state.
        reading_heads: Number R of heads that read the text's numbers.
        reading_size: Size of a reading head's query.
        pointer_size: Size of the pointer's query.
        mlp_size: Width of the MLP.
    """

    def __init__(
        self,
        hidden_size: int,
        reading_heads: int = 4,
        reading_size: int = 32,
        pointer_size: int = 128,
        mlp_size: int = 256,
    ) -> None:
        super().__init__()
        self.settings = {
            "reading_heads": reading_heads,
            "reading_size": reading_size,
            "pointer_size": pointer_size,
            "mlp_size": mlp_size,
        }
        self.reading = ReadingHeads(hidden_size, reading_heads, reading_size)
        self.pointer = Pointer(hidden_size, pointer_size)
        inputs = hidden_size + 1 + reading_heads * clock.FEATURES
        self.skip = nn.Linear(inputs, _OUTPUTS)
        self.mlp = nn.Sequential(
            nn.Linear(inputs, mlp_size), nn.SiLU(), nn.Linear(mlp_size, _OUTPUTS)
        )
        self._start_as_identity(reading_heads)

    @torch.no_grad()
    def _start_as_identity(self, reading_heads: int) -> None:
        """Let the outputs start as the value that the heads read on the average."""
        for layer in (self.skip, self.mlp[-1]):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
        read = self.skip.weight[:, -reading_heads * clock.FEATURES :].unflatten(
            1, (reading_heads, clock.FEATURES)
        )
        read[_MAGNITUDE, :, clock.MAGNITUDE] = clock.MAGNITUDE_UNIT / reading_heads
        read[_SIGNED, :, clock.SIGN] = 1 / reading_heads
        for i in range(2 * clock.HANDS):
            read[_HANDS + i, :, clock.FIRST_HAND + i] = 1 / reading_heads
        self.skip.bias[_LOG_SCALE] = math.log(0.5)

    def forward(self, latent: Latent, numbers: TextNumbers) -> NumberAnswer:
        """Answer at asking positions.

        Args:
            latent: Latent cause there, (B, A, H).
            numbers: The numbers of the texts.
        """
        with torch.autocast(latent.loc.device.type, enabled=False):
            asking = functional.rms_norm(latent.loc.float(), latent.loc.shape[-1:])
            states = functional.rms_norm(numbers.states.float(), numbers.states.shape[-1:])
            numbers = numbers._replace(states=states)
            read = self.reading(asking, numbers)
            inputs = torch.cat([asking, latent.scale.log(), read.flatten(-2)], dim=-1)
            outputs = self.skip(inputs) + self.mlp(inputs)
            directions = outputs[..., _HANDS:_HAND_SCALES].unflatten(-1, (clock.HANDS, 2))
            return NumberAnswer(
                magnitude=outputs[..., _MAGNITUDE].clamp(-_MAGNITUDE_LIMIT, _MAGNITUDE_LIMIT),
                signed=outputs[..., _SIGNED],
                log_scale=outputs[..., _LOG_SCALE].clamp(math.log(1e-4), math.log(1e4)),
                hands=functional.normalize(directions, dim=-1, eps=1e-6),
                hand_scales=outputs[..., _HAND_SCALES:].clamp(-7.0, 2.0).exp(),
                pointer=self.pointer(asking, numbers),
                values=numbers.values,
            )
