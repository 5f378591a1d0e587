"""Which records make a batch, on every process."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

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

    Which texts a step learns from depends on the seed and the step alone: a run that is resumed at
    a step goes on with the texts that would have come. The number of processes, and how many
    pieces one after another each of them makes of its share, decide who computes what.

    Texts are shuffled, sorted by length within pools of some batches, cut into batches, and the
    batches shuffled: little padding, while a pass still sees every text (but for a last incomplete
    batch) once, in an order of its own.

    Args:
        lengths: Length of every text.
        batch_size: Texts a step.
        seed: Seed of the order.
        rank: This process.
        world_size: How many processes share a step.
        accumulate: Pieces that a process makes of its share, one after another.
        first_step: Asked, when pieces are first wanted, which step they are of: how many were made
            before. As many steps follow as there are in a pass.
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
        first_step: Callable[[], int] = int,
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
        self.first_step = first_step
        self.pool = pool

    @property
    def steps(self) -> int:
        """How many steps see every text once."""
        return len(self.lengths) // self.batch_size

    def __len__(self) -> int:
        return self.steps * self.accumulate

    def __iter__(self) -> Iterator[StepPiece]:
        first = self.first_step()
        order = torch.empty(0)
        for step in range(first, first + self.steps):
            number, place = divmod(step, self.steps)
            if step == first or place == 0:
                order = self._pass(number)
            batch = order[place]
            pieces = batch.tensor_split(self.world_size * self.accumulate)
            for piece in pieces[self.rank :: self.world_size]:
                yield StepPiece(piece.tolist(), batch.tolist())

    def _pass(self, number: int) -> Tensor:
        """(steps, batch_size) texts of the steps of one pass."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        order = torch.randperm(len(self.lengths), generator=generator)
        pools = torch.split(order, self.pool * self.batch_size)
        order = torch.cat([pool[self.lengths[pool].argsort(stable=True)] for pool in pools])
        batches = order[: self.steps * self.batch_size].view(-1, self.batch_size)
        return batches[torch.randperm(self.steps, generator=generator)]


class StepLoader:
    """A loader that makes its first batch when it is wanted, not before.

    A trainer asks for an iterator before it has read a checkpoint, and worker processes begin at
    once: they would begin at the first step of all.

    Args:
        loader: What to iterate over.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        yield from self.loader

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the step tells which batch comes. Lightning warns of loaders without this."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The other half of `state_dict`."""


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
