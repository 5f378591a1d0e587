"""Evaluation set `boundary_values`: 0, 1, [0, 1] and next to its ends."""

from datamodules.examples import Example
from datamodules.scenes import evaluation_set
from datamodules.values import boundary_value


def generate(count: int = 200, seed: int = 0) -> list[Example]:
    """Generate the set; the same count and seed give the same examples."""
    return evaluation_set(
        "boundary_values", count, seed, boundary_value, facts=(1, 1), kind="restatements"
    )
