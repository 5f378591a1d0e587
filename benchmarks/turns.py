"""Arms of a benchmark in turn: the time of every call, and the memory that it takes.

All arms run in one process, each once a round, so that what else the machine does meets all of
them; ratios are of calls of the same round.
"""

import ctypes
import gc
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
import transformers
from tqdm import tqdm

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_MIB = 1 << 20

Arms = Mapping[str, Callable[[], float]]


@dataclass(frozen=True, slots=True)
class Sample:
    """One call.

    Attributes:
        part: What it is a way to do.
        arm: Which way.
        round: In which round.
        seconds: How long it took.
        mib: Greatest memory during it beyond what was held before; None where it is not told.
        value: What it returned, for arms to be compared by.
    """

    part: str
    arm: str
    round: int
    seconds: float
    mib: float | None
    value: float


def in_turn(
    parts: Mapping[str, Arms], rounds: int, device: torch.device, desc: str
) -> list[Sample]:
    """Call every arm once a round; each round begins with another one."""
    arms = [(part, arm, call) for part, ways in parts.items() for arm, call in ways.items()]
    samples = []
    with tqdm(total=rounds * len(arms), desc=desc, unit=" calls", leave=False) as bar:
        for number in range(rounds):
            first = number % len(arms)
            for part, arm, call in arms[first:] + arms[:first]:
                bar.set_postfix_str(f"{part}, {arm}")
                samples.append(Sample(part, arm, number, *measure(call, device)))
                bar.update()
    return samples


def measure(call: Callable[[], float], device: torch.device) -> tuple[float, float | None, float]:
    """Seconds of a call, MiB that it takes beyond what is held, and what it returns."""
    before = start_memory(device)
    start = time.perf_counter()
    value = call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - start
    peak = peak_memory(device)
    taken = None if before is None or peak is None else round((peak - before) / _MIB, 1)
    return round(seconds, 7), taken, value


def start_memory(device: torch.device) -> int | None:
    """Forget the peak; returns the bytes that are held."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    if not _CLEAR.exists():
        return None
    gc.collect()  # or what a call before left in cycles is given back in the middle of this one
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc keeps what was freed
    if trim is not None:
        trim(0)
    _CLEAR.write_text("5", encoding="ascii")
    return _status("VmRSS")


def peak_memory(device: torch.device) -> int | None:
    """Bytes held at the peak since `start_memory`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _status("VmHWM") if _CLEAR.exists() else None


def _status(name: str) -> int:
    lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def rows(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """For every arm milliseconds, MiB, and both over those of its part's first arm.

    >>> first = Sample("a", "slow", 0, 0.004, 8.0, 1.0)
    >>> second = Sample("a", "fast", 0, 0.001, 2.0, 1.0)
    >>> rows([first, second])[1]["time_ratio"]
    [0.25, 0.25, 0.25]
    """
    found: dict[tuple[str, str], dict[int, Sample]] = {}
    for sample in samples:
        found.setdefault((sample.part, sample.arm), {})[sample.round] = sample
    first = {part: mine for (part, _), mine in reversed(found.items())}

    def over(sample: Sample) -> tuple[float, float | None]:
        base = first[sample.part][sample.round]
        time = sample.seconds / base.seconds
        return time, sample.mib / base.mib if sample.mib is not None and base.mib else None

    return [
        {
            "part": part,
            "arm": arm,
            "ms": spread([s.seconds * 1e3 for s in mine.values()]),
            "mib": _spread_of([s.mib for s in mine.values()]),
            "time_ratio": spread([over(s)[0] for s in mine.values()]),
            "memory_ratio": _spread_of([over(s)[1] for s in mine.values()]),
        }
        for (part, arm), mine in found.items()
    ]


def _spread_of(values: Sequence[float | None]) -> list[float] | None:
    known = [value for value in values if value is not None]
    return spread(known) if known else None


def table(found: Sequence[dict[str, Any]]) -> str:
    """The rows, for people: median (lower quartile-upper quartile)."""
    names = {"ms": "ms", "mib": "MiB", "time_ratio": "time / first", "memory_ratio": "MiB / first"}
    widths = {"ms": 26, "mib": 24, "time_ratio": 22, "memory_ratio": 22}
    head = f"{'':<46}" + "".join(names[name].rjust(widths[name]) for name in names)
    lines = [head]
    for row in found:
        cells = "".join(cell(row[name]).rjust(widths[name]) for name in names)
        lines.append(f"{row['part']:<20}{row['arm']:<26}{cells}")
    return "\n".join(lines)


def cell(values: Sequence[float] | None) -> str:
    """Median and quartiles.

    >>> cell([1234.5, 0.5, 2000.0])
    '1,234 (0.500-2,000)'
    """
    if values is None:
        return "-"
    middle, low, high = (_digits(value) for value in values)
    return f"{middle} ({low}-{high})"


def _digits(value: float) -> str:
    decimals = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 3
    return f"{value:,.{decimals}f}"


def circumstances(device: torch.device) -> dict[str, str]:
    """When, where and with what something was measured."""
    cuda = torch.cuda.get_device_name(device) + ", " if device.type == "cuda" else ""
    return {
        "date": str(date.today()),
        "machine": f"{cuda}{platform.machine()}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} thread(s)",
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def spread(values: Sequence[float]) -> list[float]:
    """Median, lower and upper quartile.

    >>> spread([3.0, 1.0, 2.0])
    [2.0, 1.5, 2.5]
    """
    several = values if len(values) > 1 else [*values] * 2
    low, middle, high = statistics.quantiles(several, n=4, method="inclusive")
    return [round(value, 4) for value in (middle, low, high)]
