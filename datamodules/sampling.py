"""Which records make a batch, on every process."""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler


class LengthBatchSampler(Sampler[list[int]]):
    """Random batches of texts of about the same length, as many on every process.

    Texts are shuffled, sorted by length within pools of some batches, cut into batches, and the
    batches shuffled: little padding, while an epoch still sees every text (but for a last
    incomplete batch) once, in an order of its own.

    Args:
        lengths: Length of every text.
        batch_size: Texts a batch.
        seed: Seed of the order.
        rank: This process.
        world_size: How many processes share the batches.
        pool: How many batches are sorted together.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        pool: int = 32,
    ) -> None:
        self.lengths = torch.tensor(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.pool = pool
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths) // (self.batch_size * self.world_size)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        self.epoch += 1
        order = torch.randperm(len(self.lengths), generator=generator)
        pools = torch.split(order, self.pool * self.batch_size)
        order = torch.cat([pool[self.lengths[pool].argsort(stable=True)] for pool in pools])
        batches = order[: len(self) * self.world_size * self.batch_size].view(-1, self.batch_size)
        shuffled = torch.randperm(len(batches), generator=generator)
        for index in shuffled[self.rank :: self.world_size]:
            yield batches[index].tolist()


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
        self.batches = [
            order[start : start + batch_size] for start in range(0, len(order), batch_size)
        ]
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return -(-len(self.batches) // self.world_size)

    def __iter__(self) -> Iterator[list[int]]:
        for i in range(len(self)):
            yield self.batches[min(i * self.world_size + self.rank, len(self.batches) - 1)]
