"""Errors that a user can mend."""

import torch


class OptionsError(ValueError):
    """Options that do not go together; the message is one sentence for users."""


class MemoryShortError(MemoryError):
    """A device without enough memory; the message is one sentence for users."""


class CheckpointError(OSError):
    """A checkpoint that cannot be written or read; the message is one sentence for users."""


class BadNumbersError(ArithmeticError):
    """A loss or gradient that is not finite; the message is one sentence for users."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was short, of a GPU or of the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )
