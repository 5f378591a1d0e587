"""Text with numbers, piece by piece, for Transformers' text streamers."""

from torch import Tensor
from transformers.generation.streamers import BaseStreamer, TextStreamer

from numlm.writing import WrittenNumbers


class NumberStreamer(BaseStreamer):
    """Turns the tokens of one text into pieces of text for one of Transformers' text streamers.

    Args:
        to: The streamer.
        numbers: The numbers of the text.
        prompt: Its prompt.
    """

    def __init__(self, to: TextStreamer, numbers: WrittenNumbers, prompt: str) -> None:
        self.to = to
        self.numbers = numbers
        self.prompt = prompt
        self.ids: list[int] | None = None  # None until the prompt has come
        self.values: list[float] = []
        self.written = 0

    def put(self, value: Tensor) -> None:
        """Take the prompt's tokens, then one token at a time."""
        if self.ids is None:
            self.ids = []
            if not self.to.skip_prompt:
                self.to.on_finalized_text(self.prompt)
            return
        model = self.numbers.model
        tokenizer, token_id = model.tokenizer, int(value.item())
        if token_id in model.end_token_ids:
            return
        if token_id == tokenizer.num_token_id:
            self.values.append(self.numbers.say([0]).item())
        self.ids.append(token_id)
        text = "".join(tokenizer.decode_pieces(self.ids, self.values, after_text=True))
        if not text.endswith("\ufffd"):  # the rest of a character is still to come
            self.to.on_finalized_text(text[self.written :])
            self.written = len(text)

    def end(self) -> None:
        """Say that nothing follows."""
        self.to.on_finalized_text("", stream_end=True)
