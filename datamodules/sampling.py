"""Which records make a batch, on every process."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Sampler

from numlm.batch import deal


class StepPiece(NamedTuple):
    """What a process reads at once of a training step.

    Attributes:
        mine: The texts of the piece.
        all: The texts of the whole step.
    """

    mine: list[int]
    all: list[int]


class StepSampler(Sampler[StepPiece]):
    """Random batches of texts of about the same length, each cut into pieces.

    Which texts a step learns from depends on the seed, the epoch and the step alone: the number of
    processes, and how many pieces one after another each of them makes of its share, decide who
    computes what.

    Texts are shuffled, sorted by length within pools of some batches, cut into batches, and the
    batches shuffled: little padding, while an epoch still sees every text (but for a last
    incomplete batch) once, in an order of its own.

    Args:
        lengths: Length of every text.
        batch_size: Texts a step.
        seed: Seed of the order.
        rank: This process.
        world_size: How many processes share a step.
        accumulate: Pieces that a process makes of its share, one after another.
        pool: How many batches are sorted together.

    Raises:
        ValueError: If there are fewer texts in a step than pieces.
    """

    def __init__(
        self,
        lengths: Sequence[int] | Tensor,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
        pool: int = 32,
    ) -> None:
        if batch_size < world_size * accumulate:
            raise ValueError(
                f"{batch_size} texts cannot be dealt to {world_size} processes x {accumulate}"
            )
        self.lengths = torch.as_tensor(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.accumulate = accumulate
        self.pool = pool
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Which order comes next; a trainer calls it before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths) // self.batch_size * self.accumulate

    def __iter__(self) -> Iterator[StepPiece]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator)
        pools = torch.split(order, self.pool * self.batch_size)
        order = torch.cat([pool[self.lengths[pool].argsort(stable=True)] for pool in pools])
        steps = len(self) // self.accumulate
        batches = order[: steps * self.batch_size].view(-1, self.batch_size)
        for step in torch.randperm(steps, generator=generator):
            batch = batches[step]
            pieces = batch.tensor_split(self.world_size * self.accumulate)
            for piece in pieces[self.rank :: self.world_size]:
                yield StepPiece(piece.tolist(), batch.tolist())


class EvenBatchSampler(Sampler[list[int]]):
    """Every record, in whole batches dealt out to the processes in equal numbers.

    Records of about the same length share a batch, for padding costs as much as text. A batch
    holds the same records under any number of processes, so that its figures have the same digits.
    Where the batches do not divide, the last one is repeated; evaluation drops the repeats by
    their records' ids.

    Args:
        lengths: Length of every record.
        batch_size: Records a batch; the last one may have fewer.
        rank: This process.
        world_size: How many processes.
    """

    def __init__(
        self, lengths: Sequence[int], batch_size: int, rank: int = 0, world_size: int = 1
    ) -> None:
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        self.batches = deal(batches, rank, world_size)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)
