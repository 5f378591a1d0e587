"""This project's own model with one thing taken away or exchanged.

The seed's four experiments are `likelihood`, `one-vs-rest`, `gaussian` and `one-vs-rest-gaussian`:
of a normal distribution only the likelihood is learned.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.special import ndtr

from benchmarks.contenders.base import Contender
from benchmarks.contenders.numlm_head import NumLM
from numlm.distributions import ValueMixture
from numlm.estimate import Estimate
from numlm.heads import OneVsRestHead, States
from numlm.losses import value_nll
from numlm.number_head import NumberAnswer, NumberHead
from numlm.reading import TextNumbers

_HALVINGS = 60


def gaussian_nll(x: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Negative log-likelihood of N(loc, scale^2) in nats, elementwise."""
    return 0.5 * ((x - loc) / scale).square() + scale.log() + 0.5 * math.log(2 * math.pi)


class GaussianEstimate(Estimate):
    """V ~ N(10^M a, 10^2M s^2), and hands with von Mises distributions."""

    noise_nll = staticmethod(gaussian_nll)

    def hands_nll(self, targets: Tensor) -> Tensor:
        """Negative log-likelihood (B, A) of all hands, without their constants: 0 is a guess."""
        true_hands = self.dial.hands(targets)[..., : self.hands.shape[-2], :]
        sharpness = self.hand_scales.square().reciprocal()
        distance = (self.hands - true_hands).square().sum(-1) / 2  # 1 - cos
        nll = (sharpness * distance + torch.special.i0e(sharpness).log()).sum(-1)
        return nll * (targets != 0) if self.dial.logarithmic else nll


class GaussianMixture(ValueMixture):
    """Point masses, and a normal distribution for what is no copy."""

    def cdf(self, x: Tensor) -> Tensor:
        """P(value <= x) for x (N,)."""
        copied = (self.weights * (self.atoms <= x[:, None])).sum(-1)
        return copied + self.new * ndtr((x - self.loc) / self.scale)

    def quantile(self, level: Tensor | float) -> tuple[Tensor, Tensor]:
        """The least x with `cdf(x) >= level`, (N,) or (L, N); not where it comes from."""
        level = torch.as_tensor(level, dtype=self.loc.dtype).expand(
            *torch.as_tensor(level).shape[:-1], len(self.loc)
        )
        rows = level.reshape(-1, len(self.loc))
        reach = 10 * self.scale
        low = torch.minimum(self.atoms.amin(-1), self.loc - reach).expand_as(rows).clone()
        high = torch.maximum(self.atoms.amax(-1), self.loc + reach).expand_as(rows).clone()
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            reached = torch.stack([self.cdf(row) for row in middle]) >= rows
            low, high = torch.where(reached, low, middle), torch.where(reached, middle, high)
        return high.view_as(level), torch.full(level.shape, -1)


class GaussianAnswer(NumberAnswer):
    """New, made and near values with normal distributions."""

    def mixture(self, copies: bool = True) -> ValueMixture:
        """The decoded distribution, with the normal distribution's scale."""
        return _as(GaussianMixture, super().mixture(copies))


def _as(kind: type[Any], one: Any) -> Any:  # noqa: ANN401
    """The same contents as another kind of thing."""
    return kind(**{field.name: getattr(one, field.name) for field in fields(one)})


class GaussianHead(NumberHead):
    """The number head with normal distributions."""

    def forward(self, states: States, numbers: TextNumbers) -> NumberAnswer:
        """Answer at asking positions."""
        answer = super().forward(states, numbers)
        answer = replace(
            answer,
            new=_as(GaussianEstimate, answer.new),
            made=tuple(_as(GaussianEstimate, made) for made in answer.made),
        )
        gaussian: NumberAnswer = _as(GaussianAnswer, answer)
        return gaussian


@dataclass(frozen=True, slots=True)
class PointerlessAnswer(NumberAnswer):
    """An answer that is no copy and near no number.

    Attributes:
        seen: (B, A, K) bool, which numbers every position may look at.
    """

    seen: Tensor

    @property
    def visible(self) -> Tensor:
        """(B, A, K) bool: numbers that are not copied may still be made something of."""
        return self.seen


class PointerlessHead(NumberHead):
    """The number head without copies and values near a number."""

    def forward(self, states: States, numbers: TextNumbers) -> NumberAnswer:
        """Answer at asking positions."""
        answer = super().forward(states, numbers)
        estimates, copied, near = answer.split_pointer()
        none = torch.full_like(torch.cat([copied, near], dim=-1), -math.inf)
        pointer = torch.cat([estimates.log_softmax(-1), none], dim=-1)
        contents = {field.name: getattr(answer, field.name) for field in fields(answer)}
        return PointerlessAnswer(**{**contents, "pointer": pointer}, seen=numbers.visible)


def _looking_with_the_last_state(contender: NumLM) -> None:
    """The number head looks with the latent cause, which has what the last layer wrote."""
    contender.model.register_forward_hook(
        lambda _module, _inputs, states: states._replace(before=states.loc)
    )


def _seeing_none(_: nn.Module, inputs: tuple[Tensor, Tensor, TextNumbers]) -> tuple[Any, ...]:
    """Attention's inputs without a number to be seen."""
    asking, keys, numbers = inputs
    return asking, keys, numbers._replace(visible=torch.zeros_like(numbers.visible))


def _without_reading(contender: NumLM) -> None:
    contender.model.number_head.reading.register_forward_pre_hook(_seeing_none)


def _from_random(contender: NumLM) -> None:
    """Abduction, embedding and the head start as PyTorch's layers do."""
    model = contender.model
    for part in (model.abduction, model.number_embedding, model.number_head):
        for module in part.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()


class _Narrow(nn.Module):
    """A location through fewer dimensions, at the start a random projection."""

    def __init__(self, hidden_size: int, size: int) -> None:
        super().__init__()
        self.down = nn.Linear(hidden_size, size, bias=False)
        self.up = nn.Linear(size, hidden_size, bias=False)
        nn.init.orthogonal_(self.down.weight)
        with torch.no_grad():
            self.up.weight.copy_(self.down.weight.T)

    def forward(self, loc: Tensor) -> Tensor:
        """(..., H) -> (..., H)."""
        found: Tensor = self.up(self.down(loc))
        return found


def _narrow(size: int) -> Callable[[NumLM], None]:
    def change(contender: NumLM) -> None:
        abduction = contender.model.abduction
        abduction.narrow = _Narrow(abduction.loc.in_features, size)
        abduction.register_forward_hook(
            lambda module, _, latent: latent._replace(loc=module.narrow(latent.loc))
        )

    return change


def changed(folder: str, change: Callable[[NumLM], None]) -> NumLM:
    """Our contender after a change."""
    contender = NumLM(folder)
    change(contender)
    return contender


ABLATIONS: dict[str, Callable[[str], Contender]] = {
    "likelihood": partial(NumLM, value_loss=value_nll),
    "one-vs-rest": partial(NumLM, token_head=OneVsRestHead),
    "gaussian": partial(NumLM, number_head=GaussianHead, value_loss=value_nll),
    "one-vs-rest-gaussian": partial(
        NumLM, token_head=OneVsRestHead, number_head=GaussianHead, value_loss=value_nll
    ),
    "no-clock": partial(NumLM, embedding_hands=0, value_hands=0, answer_hands=0),
    "last-state": partial(changed, change=_looking_with_the_last_state),
    "no-reading": partial(changed, change=_without_reading),
    "no-pointer": partial(NumLM, number_head=PointerlessHead),
    "no-arithmetic": partial(NumLM, arithmetic=False),
    "gate": partial(NumLM, gate_alpha=0.0),
    "random-start": partial(changed, change=_from_random),
    "latent-24": partial(changed, change=_narrow(24)),
    "value-weight-3": partial(NumLM, value_weight=3.0),
}
