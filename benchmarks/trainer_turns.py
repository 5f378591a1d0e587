"""Trainers that take turns in one process, a step each, so that all see the same machine.

Each arm is a whole trainer in a thread of its own, with its loader, its hooks and its optimizer.
One moves at a time: what a step took is the time between being woken and having stepped.
"""

import gc
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.turns import peak_memory, start_memory

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True, slots=True)
class Sample:
    """One step of one arm.

    Attributes:
        seconds: What it took.
        tokens: Real tokens that it learned from.
        flop: Floating-point operations that its products need.
    """

    seconds: float
    tokens: int
    flop: float


class Turn:
    """What an arm calls after every step.

    Attributes:
        first: Seconds of everything up to the first step, with it: loading, compiling.
        samples: The steps that were timed.
        memory: Bytes held at the peak of a step beyond those held between steps; of a step that is
            not timed.
    """

    def __init__(self, turns: "Turns") -> None:
        self.turns = turns
        self.first = 0.0
        self.samples: list[Sample] = []
        self.memory = 0
        self.steps = 0
        self._held: int | None = None
        self._start = 0.0

    def begin(self) -> None:
        """Wait for the first turn."""
        self.turns.wait(self)
        self._start = time.perf_counter()

    def stepped(self, tokens: int, flop: float) -> None:
        """Say that a step is done, and wait for the next turn."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds = time.perf_counter() - self._start
        self.steps += 1
        if self.steps == 1:
            self.first = seconds
        elif self.steps == self.turns.steps:
            self.memory = (peak_memory(DEVICE) or 0) - (self._held or 0)
        elif self.steps > self.turns.warm_up:
            self.samples.append(Sample(seconds, tokens, flop))
        self.turns.pass_on(self)
        if self.steps == self.turns.steps - 1:
            gc.collect()
            self._held = start_memory(DEVICE)
        self._start = time.perf_counter()


class Turns:
    """Lets arms take turns.

    Args:
        warm_up: Steps of each arm that are not timed.
        rounds: Steps of each arm that are.
        told: Called with the number of steps done by all.
    """

    def __init__(
        self, warm_up: int, rounds: int, told: Callable[[int], None] = lambda _: None
    ) -> None:
        self.warm_up = warm_up
        self.steps = warm_up + rounds + 1  # the last one is for its memory
        self.told = told
        self._waiting: list[Turn] = []
        self._changed = threading.Condition()
        self._now: Turn | None = None
        self._error: BaseException | None = None

    def run(self, arms: dict[str, Callable[[Turn], None]]) -> dict[str, Turn]:
        """Run all arms to their ends; each must call `Turn.stepped` as often as `steps` says.

        Raises:
            BaseException: What an arm raised.
        """
        turns = {name: Turn(self) for name in arms}
        self._waiting = list(turns.values())
        threads = [
            threading.Thread(target=self._arm, args=(arm, turns[name]), name=name, daemon=True)
            for name, arm in arms.items()
        ]
        self._now = self._waiting[0]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._error is not None:
            raise self._error
        return turns

    def _arm(self, arm: Callable[[Turn], None], turn: Turn) -> None:
        try:
            turn.begin()
            arm(turn)
            if turn.steps != self.steps:
                raise RuntimeError(f"an arm made {turn.steps} steps, not {self.steps}")
        except BaseException as error:
            with self._changed:
                self._error = self._error or error
                self._changed.notify_all()

    def wait(self, turn: Turn) -> None:
        """Wait until it is this one's turn.

        Raises:
            RuntimeError: If another arm failed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._now is turn or self._error is not None)
            if self._error is not None:
                raise RuntimeError("another arm failed") from self._error

    def pass_on(self, turn: Turn) -> None:
        """Let the next one move, and wait; after the last step until all have made theirs."""
        last = turn.steps == self.steps
        with self._changed:
            place = self._waiting.index(turn)
            following = self._waiting[(place + 1) % len(self._waiting)]
            if last:
                self._waiting.remove(turn)
            self._now = following if self._waiting else None
            self.told(1)
            self._changed.notify_all()
            if last:
                self._changed.wait_for(lambda: not self._waiting or self._error is not None)
        if not last:
            self.wait(turn)


def product(size: int, dtype: torch.dtype, steps: int) -> Callable[[Turn], None]:
    """An arm that multiplies two square matrices: what a step could reach at best."""

    def arm(turn: Turn) -> None:
        left, right = _operands(size, dtype)
        for _ in range(steps):
            left @ right
            turn.stepped(0, 2.0 * size**3)

    return arm


def _operands(size: int, dtype: torch.dtype) -> Iterable[Tensor]:
    return (torch.randn(size, size, device=DEVICE, dtype=dtype) for _ in range(2))
