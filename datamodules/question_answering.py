"""Evaluation set `question_answering`: 0..100; two to four facts, one asked for by name."""

from datamodules.examples import Example
from datamodules.scenes import evaluation_set
from datamodules.values import basic_value


def generate(count: int = 200, seed: int = 0) -> list[Example]:
    """Generate the set; the same count and seed give the same examples."""
    return evaluation_set(
        "question_answering", count, seed, basic_value, facts=(2, 4), kind="questions"
    )
