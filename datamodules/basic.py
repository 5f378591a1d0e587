"""Evaluation set `basic`: 0..100 with up to two decimals; a statement, then a restatement."""

from datamodules.examples import Example
from datamodules.scenes import evaluation_set
from datamodules.values import basic_value


def generate(count: int = 200, seed: int = 0) -> list[Example]:
    """Generate the set; the same count and seed give the same examples."""
    return evaluation_set("basic", count, seed, basic_value, facts=(1, 1), kind="restatements")
