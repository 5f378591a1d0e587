"""Evaluation set `extreme_values`: both signs, 1e-6..1e6, plain and scientific."""

from datamodules.examples import Example
from datamodules.scenes import evaluation_set
from datamodules.values import extreme_value


def generate(count: int = 200, seed: int = 0) -> list[Example]:
    """Generate the set; the same count and seed give the same examples."""
    return evaluation_set(
        "extreme_values", count, seed, extreme_value, facts=(1, 1), kind="restatements"
    )
