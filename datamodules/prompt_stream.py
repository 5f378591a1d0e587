"""Prompts from a file, a batch at a time in memory, dealt out to the processes."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from torch.utils.data import IterableDataset

from datamodules.row_files import read_source
from datamodules.rows import BadRow, Columns, RawRow, Row, read_prompt
from datamodules.token_store import OnError, too_long
from numlm.tokenization import NumberTokenizer


class PromptBatch(NamedTuple):
    """Rows of a file that numbers are predicted for.

    Attributes:
        row_ids: Which of the file's rows each prompt is.
        prompts: The prompts.
        bad_rows: Rows that cannot be used, with what is wrong.
    """

    row_ids: tuple[int, ...]
    prompts: tuple[str, ...]
    bad_rows: tuple[tuple[int, str], ...]


class PromptStream(IterableDataset[PromptBatch]):
    """Batches of rows in the order of the file; process r of w has every w-th batch.

    Every process has the same number of batches, as sharded models need: where the last round is
    not full, its first batch stands in.

    Args:
        source: A file, a folder or the name of a data set.
        columns: Names of the columns.
        tokenizer: Tells whether a prompt is too long.
        context_length: Greatest number of tokens of a prompt with the number after it.
        on_error: "raise" at the first bad row, or "skip" and hand them on as such.
        batch_size: Rows a batch.
        rank: This process.
        world_size: How many processes.
    """

    def __init__(
        self,
        source: str,
        columns: Columns,
        tokenizer: NumberTokenizer,
        context_length: int,
        on_error: OnError,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.source = source
        self.columns = columns
        self.tokenizer = tokenizer
        self.context_length = context_length
        self.on_error = on_error
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[PromptBatch]:
        rows = enumerate(read_source(self.source, "test"))
        while True:
            batches = [
                batch
                for _ in range(self.world_size)
                if (batch := list(itertools.islice(rows, self.batch_size)))
            ]
            if not batches:
                return
            mine = self.rank if self.rank < len(batches) else 0
            yield self._batch(batches[mine])

    def _batch(self, rows: list[tuple[int, RawRow | BadRow]]) -> PromptBatch:
        prompts: dict[int, str] = {}
        bad: list[tuple[int, str]] = []
        for row_id, raw in rows:
            try:
                prompts[row_id] = self._checked(raw).text
            except BadRow as error:
                if self.on_error == "raise":
                    raise
                bad.append((row_id, str(error)))
        return PromptBatch(tuple(prompts), tuple(prompts.values()), tuple(bad))

    def _checked(self, raw: RawRow | BadRow) -> Row:
        if isinstance(raw, BadRow):
            raise raw
        row = read_prompt(raw, self.columns, self.context_length)
        room = 2  # for a space and the number
        if len(row.text.encode()) + room > self.context_length:  # no token is less than a byte
            tokens = len(self.tokenizer.encode(row.text).input_ids) + room
            if tokens > self.context_length:
                raise too_long(row, tokens, self.context_length)
        return row
