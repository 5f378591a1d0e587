"""Predictions as JSONL: one row in, one row out, in the order of the file."""

import heapq
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn


class PredictionsError(OSError):
    """Predictions that cannot be written; the message is one sentence for users."""


class WritePredictions(Callback):
    """Writes what `predict` says of every row.

    A line has `value`, `low`, `high` (ends of the 80 % interval), `p_number`, `source` (which
    number of the prompt was copied, from 0; null for a new one) and `text` (the prompt continued);
    a row that cannot be used has an `error` instead. Lines are written as they come, beside the
    target, and moved there at the end: a run that fails leaves nothing behind.

    Args:
        path: The file; its folder is made where there is none.
    """

    def __init__(self, path: str | None = None) -> None:
        self.path = None if path is None else Path(path).expanduser()
        self._part: IO[str] | None = None
        self._written = -1  # last row written by this process

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find out before anything is predicted whether the file can be written.

        Raises:
            PredictionsError: If it cannot.
        """
        if stage != "predict" or self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.is_dir():
                raise IsADirectoryError(None, "it is a folder")
            self._part = self._part_file(trainer.global_rank).open("w", encoding="utf-8")
        except OSError as error:
            raise PredictionsError(
                f"cannot write predictions to '{self.path}' ({error.strerror}): choose another "
                "file with --predictions.path"
            ) from None

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the rows of a batch; one that was seen before stands in for none."""
        if self._part is None:
            return
        rows: list[tuple[int, dict[str, Any]]] = [
            (row_id, asdict(prediction))
            for row_id, prediction in zip(batch.row_ids, outputs, strict=True)
        ]
        rows += [(row_id, {"error": message}) for row_id, message in batch.bad_rows]
        for row_id, content in sorted(rows, key=lambda row: row[0]):
            if row_id > self._written:
                self._part.write(f"{row_id}\t{json.dumps(content, ensure_ascii=False)}\n")
                self._written = row_id

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the lines of all processes together, in order, and the file in its place."""
        if self._part is None or self.path is None:
            return
        self._part.close()
        trainer.strategy.barrier()
        parts = [self._part_file(rank) for rank in range(trainer.world_size)]
        if trainer.is_global_zero:
            whole = self.path.with_name(f".{self.path.name}.whole")
            try:
                count, bad = _merge(parts, whole)
                os.replace(whole, self.path)
            finally:
                whole.unlink(missing_ok=True)
                for part in parts:
                    part.unlink(missing_ok=True)
            rank_zero_info(f"{count} predictions written to {self.path}")
            if bad:
                rank_zero_warn(f"{bad} of {count} rows could not be used: see their `error`")
        self._part = None

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Leave nothing half-written behind."""
        if self._part is not None:
            self._part.close()
            self._part_file(trainer.global_rank).unlink(missing_ok=True)
            self._part = None

    def _part_file(self, rank: int) -> Path:
        assert self.path is not None
        return self.path.with_name(f".{self.path.name}.{rank}.part")


def _merge(parts: list[Path], whole: Path) -> tuple[int, int]:
    """Write the lines of all parts by their row; returns how many there are, and bad ones."""
    count = bad = 0
    files = [part.open(encoding="utf-8") for part in parts]
    try:
        with whole.open("w", encoding="utf-8") as target:
            last = -1
            for row_id, line in heapq.merge(*map(_numbered, files)):
                if row_id == last:  # a batch that stood in for none
                    continue
                last = row_id
                target.write(line)
                count += 1
                bad += line.startswith('{"error"')
            target.flush()
            os.fsync(target.fileno())
    finally:
        for file in files:
            file.close()
    return count, bad


def _numbered(file: IO[str]) -> Iterator[tuple[int, str]]:
    for line in file:
        row_id, _, content = line.partition("\t")
        yield int(row_id), content
