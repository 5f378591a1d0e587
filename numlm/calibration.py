"""Split-conformal calibration of the intervals around new values.

A model's central interval of level 0.8 may hold the truth in more or fewer than 80 of 100 cases: a
Cauchy is narrow in the middle and wide at the ends where the noise is a Gaussian's. On held-out
answers the level that each truth needed is known (`ValueMixture.central_level`); the k-th smallest
of n of them, k = ceil((n + 1) b), is the level at which an interval holds the next truth with
probability b or a little more, whatever the model's distribution is, as long as held-out and new
answers are exchangeable (Vovk et al. 2005; Chernozhukov et al. 2021, distributional conformal
prediction).

Copies are left as they are: they are exact or wrong, and calibrated together with them the
intervals of new values would be those of the copies (group-conditional, "Mondrian", conformal
prediction with the answer's source as the group).
"""

import math

import torch
from torch import Tensor, nn

INTERVAL = 0.8  # level of the interval that answers state
PERCENT = torch.arange(1, 100, dtype=torch.float64) / 100
LEAST_ANSWERS = 19  # with fewer the 95 % interval would have to be infinite


class Calibration(nn.Module):
    """The model's own level for every nominal level of a whole percent; the identity until fitted.

    Its table is a buffer, so that checkpoints and exports keep it.
    """

    levels: Tensor
    answers: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("levels", PERCENT.clone())
        self.register_buffer("answers", torch.tensor(0))

    @property
    def fitted(self) -> bool:
        """Whether it is more than the identity."""
        return bool(self.answers > 0)

    def fit(self, needed: Tensor) -> None:
        """Calibrate on held-out answers.

        Levels above n / (n + 1), of which n answers cannot tell anything, become 1.

        Args:
            needed: (n,) the level that each truth needed, from new values only.

        Raises:
            ValueError: If there are fewer than 19.
        """
        count = len(needed)
        if count < LEAST_ANSWERS:
            raise ValueError(
                f"{count} new values are too few to calibrate on: at least {LEAST_ANSWERS} of the "
                "validation split's answers must be new ones"
            )
        ranks = [math.ceil((count + 1) * percent / 100) for percent in range(1, 100)]
        ordered = torch.cat([needed.double().sort().values, torch.ones(1).to(needed.double())])
        self.levels.copy_(ordered[torch.tensor(ranks).clamp(max=count + 1) - 1])
        self.answers.fill_(count)

    def model_level(self, nominal: float) -> float:
        """The level of the model's own interval that holds the truth with probability `nominal`.

        Linear between whole percents, and between them and the ends 0 and 1.
        """
        table = [0.0, *self.levels.tolist(), 1.0]
        below = min(int(nominal * 100), 99)
        share = nominal * 100 - below
        return table[below] + share * (table[below + 1] - table[below])

    def nominal_level(self, needed: Tensor) -> Tensor:
        """The whole percent (N,) that calibrated intervals must exceed to hold truths.

        Args:
            needed: (N,) the level that each truth needs of the model's own intervals.

        Returns:
            (N,) in [0, 0.99]: the calibrated interval of a nominal level, in whole percents, holds
            a truth if the level is greater than this.
        """
        table = self.levels.to(needed)
        return torch.searchsorted(table, needed, right=False).to(needed) / 100
