"""Digits, answered with the mean of what the model would write (RAIL)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.contenders.base import Answers
from benchmarks.contenders.digits import Digits
from numlm.digits import DigitWriter


class Rail(Digits):
    """Trained as digits are; the answer is the expectation of the value under its own strings.

    RAIL, "Regression-aware inference with LLMs" (EMNLP Findings 2024, arXiv 2403.04182): under
    the squared error the best answer is the mean, estimated from samples, not what is most
    probable. A sample that is no number is left out. RAFT (ICLR 2025) trains for that mean as
    well, over a grid of values that free numbers do not have.

    Answers are drawn from torch's random numbers.

    Args:
        folder: The backbone.
        samples: Samples for an answer.
    """

    def __init__(self, folder: str, samples: int = 16) -> None:
        super().__init__(folder)
        self.samples = samples

    def answer(self, prompts: Sequence[str]) -> Answers:
        """Mean of what is sampled after each prompt."""
        writer = DigitWriter(self.backbone, self.base, generate=self._sample)
        written = [writer(prompts) for _ in range(self.samples)]
        drawn = torch.tensor(
            [[float("nan") if value is None else value for value in row] for row in written],
            dtype=torch.float64,
        )  # (S, N)
        return Answers(drawn.nanmean(0), samples=drawn.T)

    def _sample(self, **options: object) -> Tensor:
        """What `generate` draws, from the model's whole distribution."""
        drawn = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
        written: Tensor = self.backbone.generate(**{**options, **drawn})
        return written
