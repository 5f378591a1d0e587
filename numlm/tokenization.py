"""Text -> token ids, with one `<NUM>` for every number and its value beside it.

Only the number's characters are replaced; every other token is what the base tokenizer gives for
the same text. To that end each number is first replaced by the single character `0`: a digit
separates the same way as the digits it stands for, and byte-level tokenizers with single digits
(Qwen's) give it a token of its own. Where a tokenizer joins the digit to what stands before it
(GPT-2's ` 0`), that token is cut at the number.

Half of a surrogate pair is no character, and no tokenizer takes one: U+FFFD stands in its place.

`<NUM>` is never added to the base tokenizer: its id lives beside it, so that a literal `<NUM>` in
a user's text stays ordinary text, and text without numbers gives the base tokenizer's ids.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from numlm.parsing import Number, find_numbers, render

NUM_TOKEN = "<NUM>"
_PLACEHOLDER = "0"
_SHORT, _MOST_SHORT = 4, 10_000  # characters, and texts, whose ids are kept
_HALF_PAIR = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Encoding:
    """A text as token ids.

    Attributes:
        input_ids: The ids, `<NUM>` where a number stands.
        numbers: The numbers in order, one for every `<NUM>`.
    """

    input_ids: list[int]
    numbers: list[Number]


class NumberTokenizer:
    """A Hugging Face tokenizer that reads every number as one token.

    Args:
        base: A fast tokenizer.
        num_token_id: Id of `<NUM>`, above all that the base tokenizer uses; the next one if it is
            not given.

    Raises:
        ValueError: If the tokenizer is not a fast one, or the id is not above its own.
    """

    def __init__(self, base: PreTrainedTokenizerBase, num_token_id: int | None = None) -> None:
        if not base.is_fast:
            raise ValueError(
                f"{type(base).__name__} has no character offsets, which finding numbers needs: "
                "save it with a tokenizer.json"
            )
        spare = max(base.get_vocab().values()) + 1  # not their number: ids may have gaps
        if num_token_id is not None and num_token_id < spare:
            raise ValueError(
                f"<NUM> needs an id of its own, but {num_token_id} is one of the "
                f"tokenizer's {spare}"
            )
        self.base = base
        self.num_token_id = spare if num_token_id is None else num_token_id
        self._decoded_lengths: dict[int, int] = {}
        self._kept_anchor: tuple[list[int], int] | None = None
        self._short_ids: dict[str, list[int]] = {}

    @property
    def pad_token_id(self) -> int:
        """Id used for padding; where the base tokenizer has none, its end-of-text token."""
        for token_id in (self.base.pad_token_id, self.base.eos_token_id):
            if token_id is not None:
                return int(token_id)
        return 0

    @property
    def end_token_id(self) -> int | None:
        """Id of the token that ends a text, if the base tokenizer has one."""
        token_id = self.base.eos_token_id
        return None if token_id is None else int(token_id)

    def encode(self, text: str) -> Encoding:
        """Encode one text."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
        """Encode texts; no special tokens are added."""
        if not texts:
            return []
        replaced = [_replace_numbers(text) for text in texts]
        # What the base tokenizer calls: three times as fast as through its own conversions.
        backend = self.base.backend_tokenizer
        backend.no_padding()
        backend.no_truncation()
        encoded = backend.encode_batch([text for text, _, _ in replaced], add_special_tokens=False)
        return [
            Encoding(
                self._insert(text, found.ids, found.offsets, starts) if starts else found.ids,
                numbers,
            )
            for (text, starts, numbers), found in zip(replaced, encoded, strict=True)
        ]

    def _insert(
        self, text: str, ids: list[int], offsets: list[tuple[int, int]], starts: list[int]
    ) -> list[int]:
        """Put `<NUM>` where the placeholders are."""
        result: list[int] = []
        pending = iter([*starts, len(text) + 1])
        position = next(pending)
        for i, (token_id, (start, end)) in enumerate(zip(ids, offsets, strict=True)):
            shares = i + 1 < len(ids) and offsets[i + 1][0] <= position  # "▁" beside its digit
            if shares or not start <= position < end:
                result.append(token_id)
            else:  # the token holds a number: keep what stands around it
                # Some tokenizers' offsets leave out the space that a token begins with.
                start = min(start, end - self._decoded_length(token_id))
                while position < end:
                    result += [*self._plain_ids(text[start:position]), self.num_token_id]
                    start, position = position + 1, next(pending)
                result += self._plain_ids(text[start:end])
        return result

    def _decoded_length(self, token_id: int) -> int:
        if token_id not in self._decoded_lengths:
            self._decoded_lengths[token_id] = len(self.base.decode([token_id]))
        return self._decoded_lengths[token_id]

    def _plain_ids(self, text: str) -> list[int]:
        """Ids of a text without numbers; what stands between numbers is often the same."""
        if text in self._short_ids:
            return self._short_ids[text]
        ids = list(self.base(text, add_special_tokens=False)["input_ids"]) if text else []
        if len(text) <= _SHORT and len(self._short_ids) < _MOST_SHORT:
            self._short_ids[text] = ids
        return ids

    def decode(self, input_ids: Sequence[int], numbers: Sequence[Number | float] = ()) -> str:
        """Text of token ids, the numbers written in place; `<NUM>` where none is left."""
        return "".join(self.decode_pieces(input_ids, numbers))

    def decode_pieces(
        self,
        input_ids: Sequence[int],
        numbers: Sequence[Number | float] = (),
        after_text: bool = False,
    ) -> list[str]:
        """Text, number, text, ..., text of token ids; `<NUM>` where no number is left.

        Args:
            input_ids: The ids.
            numbers: The numbers in order.
            after_text: Whether the ids go on from a text.
        """
        pieces: list[str] = []
        run: list[int] = []
        left = iter(numbers)
        for token_id in [*input_ids, self.num_token_id]:
            if token_id != self.num_token_id:
                run.append(token_id)
                continue
            pieces.append(self._decode_run(run, after_number=after_text or bool(pieces)))
            number = next(left, None)
            surface = (
                number.surface
                if isinstance(number, Number)
                else None
                if number is None
                else render(number)
            )
            pieces.append(NUM_TOKEN if surface is None else surface)
            run = []
        return pieces[:-1]

    def _decode_run(self, ids: list[int], after_number: bool) -> str:
        """Text of ids without numbers; a space that SentencePiece drops at a start is kept."""
        if not ids:
            return ""
        anchor, length = self._anchor() if after_number else ([], 0)
        return self._plain_text(anchor + ids)[length:]

    def _anchor(self) -> tuple[list[int], int]:
        """Ids that stand for a number before a text, and the length of their text."""
        if self._kept_anchor is None:  # the same before every text
            ids = self._plain_ids(_PLACEHOLDER)
            self._kept_anchor = ids, len(self._plain_text(ids))
        return self._kept_anchor

    def _plain_text(self, ids: list[int]) -> str:
        return str(self.base.decode(ids, clean_up_tokenization_spaces=False))

    def token_text(self, token_id: int) -> str:
        """The text of one token, for messages and charts."""
        return NUM_TOKEN if token_id == self.num_token_id else str(self.base.decode([token_id]))


def _replace_numbers(text: str) -> tuple[str, list[int], list[Number]]:
    """The text with a placeholder for each number, where they are, and the numbers."""
    pieces: list[str] = []
    starts: list[int] = []
    numbers: list[Number] = []
    position = length = 0
    for start, end, number in find_numbers(text):
        pieces += [whole_characters(text[position:start]), _PLACEHOLDER]
        length += start - position
        starts.append(length)
        length += 1
        numbers.append(number)
        position = end
    pieces.append(whole_characters(text[position:]))
    return "".join(pieces), starts, numbers


def whole_characters(text: str) -> str:
    """A text with U+FFFD in place of every half of a surrogate pair.

    >>> whole_characters(chr(0xD800) + "5") == chr(0xFFFD) + "5"
    True
    """
    return _HALF_PAIR.sub("\ufffd", text)
