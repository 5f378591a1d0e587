"""Numbers as sign, digits and exponent, each a token of its own, sampled (regress-lm)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache

from benchmarks.contenders.base import Answers, Text, number_records
from benchmarks.contenders.digits import Digits
from numlm.batch import Record
from numlm.tokenization import NumberTokenizer

_SIGNS, _DIGITS = "+-", "0123456789"
_CHARACTERS = _SIGNS + _DIGITS
_ROWS = 400  # sampled at once, so that their keys and values fit into memory


@dataclass(frozen=True, slots=True)
class Grammar:
    """How a number is spelled: a sign, D digits m and an exponent e, for `m * 10^e`.

    What is greater than the greatest such number is spelled as that, and what is smaller than the
    smallest with a first digit as zero.

    Attributes:
        digits: Number D of digits.
        reach: The exponents go from -reach to reach.

    >>> grammar = Grammar(digits=3)
    >>> grammar.value(grammar.tokens(72.54))
    72.5
    """

    digits: int = 8
    reach: int = 20

    @property
    def length(self) -> int:
        """Tokens of a number."""
        return self.digits + 2

    @property
    def size(self) -> int:
        """Tokens that there are: two signs, ten digits, the exponents from the least on."""
        return len(_CHARACTERS) + 2 * self.reach + 1

    def allowed(self, place: int) -> range:
        """The tokens that a place of a number may have."""
        if place == 0:
            return range(len(_SIGNS))
        if place <= self.digits:
            return range(len(_SIGNS), len(_CHARACTERS))
        return range(len(_CHARACTERS), self.size)

    def tokens(self, value: float) -> list[int]:
        """The spelling of a finite number, rounded to D digits."""
        mantissa, power = f"{abs(value):.{self.digits - 1}e}".replace(".", "").split("e")
        exponent = int(power) - self.digits + 1
        if exponent > self.reach:
            mantissa, exponent = "9" * self.digits, self.reach
        elif exponent < -self.reach or value == 0:
            mantissa, exponent = "0" * self.digits, 0
        spelled = [_CHARACTERS.index(one) for one in _SIGNS[value < 0] + mantissa]
        return [*spelled, len(_CHARACTERS) + self.reach + exponent]

    def value(self, tokens: Sequence[int]) -> float:
        """The number that is spelled."""
        exponent = tokens[-1] - len(_CHARACTERS) - self.reach
        return float("".join(_CHARACTERS[token] for token in tokens[:-1]) + f"e{exponent}")


class ExponentTokens(Digits):
    """Every number of a text is spelled in tokens of its own, learned by cross-entropy.

    OmniPred (arXiv 2402.14547, section 3.2) and regress-lm, whose `P10Tokenizer` is the spelling:
    the answer is the median of samples at temperature 1, drawn so that they spell a number. There
    only the answer is spelled so and an encoder reads the rest as text; here a number looks the
    same in the text as in the answer. The tokens are new rows of the embedding table; signs and
    digits start as the backbone's own.

    Answers are drawn from torch's random numbers.

    Args:
        folder: The backbone.
        digits: Digits of a number.
        reach: Greatest exponent.
        samples: Samples for an answer.
    """

    def __init__(self, folder: str, digits: int = 8, reach: int = 20, samples: int = 16) -> None:
        super().__init__(folder)
        self.grammar, self.samples = Grammar(digits, reach), samples
        self.tokenizer = NumberTokenizer(self.base)
        self.first = self.backbone.get_input_embeddings().weight.shape[0]
        self.backbone.resize_token_embeddings(self.first + self.grammar.size)
        known = self.base.convert_tokens_to_ids(list(_CHARACTERS))
        for table in (self.backbone.get_input_embeddings(), self.backbone.get_output_embeddings()):
            rows = table.weight.data
            rows[self.first : self.first + len(known)] = rows[known]

    def encode(self, texts: Sequence[Text]) -> list[tuple[list[int], int]]:
        """Token ids, and the first of them that is learned."""
        return [self._spelled(record) for record in number_records(self.tokenizer, texts)]

    def _spelled(self, record: Record) -> tuple[list[int], int]:
        values = iter(record.values)
        pieces = [self._piece(token_id, values) for token_id in record.input_ids]
        start = sum(map(len, pieces[: record.answer_start]))
        return [token_id for piece in pieces for token_id in piece], start

    def _piece(self, token_id: int, values: Iterator[float]) -> list[int]:
        if token_id != self.tokenizer.num_token_id:
            return [token_id]
        return [self.first + token for token in self.grammar.tokens(next(values))]

    def answer(self, prompts: Sequence[str]) -> Answers:
        """Median of what is sampled after each prompt."""
        asked = [Text(prompt, (), whole=False) for prompt in prompts]  # as whole ones they end
        rows = [ids for ids, _ in self.encode(asked)]
        longest = max(map(len, rows))
        input_ids = torch.tensor([[0] * (longest - len(ids)) + ids for ids in rows])
        mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in rows])
        at_once = max(1, _ROWS // self.samples)
        drawn = torch.cat(
            [
                self._draw(*part)
                for part in zip(input_ids.split(at_once), mask.split(at_once), strict=True)
            ]
        )
        return Answers(drawn.quantile(0.5, dim=-1), samples=drawn)

    def _draw(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """Values (N, S) float64 sampled after prompts (N, T), which are padded on the left."""
        cache, tokens = DynamicCache(), []
        for place in range(self.grammar.length):
            positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -input_ids.shape[1] :]
            # The cache by its place: Transformers 5 gave it another name.
            scores = self.backbone(
                input_ids, mask, positions, cache, use_cache=True, logits_to_keep=1
            ).logits[:, -1, self.first :]
            if place == 0:  # the prompt is read once for all samples
                cache.batch_repeat_interleave(self.samples)
                scores, mask = (
                    each.repeat_interleave(self.samples, dim=0) for each in (scores, mask)
                )
            allowed = self.grammar.allowed(place)
            chances = scores[:, allowed.start : allowed.stop].softmax(-1)
            tokens.append(chances.multinomial(1) + allowed.start)
            input_ids, mask = tokens[-1] + self.first, functional.pad(mask, (0, 1), value=1)
        values = [self.grammar.value(row) for row in torch.cat(tokens, dim=-1).tolist()]
        return torch.tensor(values, dtype=torch.float64).view(-1, self.samples)

    def number_tokens(self, texts: Sequence[Text]) -> float:
        """Sign, digits and exponent."""
        return float(self.grammar.length)
