"""What the experiment aims at."""

from dataclasses import dataclass

SETS = ("basic", "question_answering", "extreme_values", "boundary_values")


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on one figure of every evaluation set.

    Attributes:
        metric: Which figure.
        bounds: The bound on each of `SETS`.
        at_least: Whether the figure must be at least, or at most, the bound.
    """

    metric: str
    bounds: tuple[float, ...]
    at_least: bool = True

    @property
    def symbol(self) -> str:
        """The bound's sign."""
        return "≥" if self.at_least else "≤"

    def met(self, figure: float | None, bound: float) -> bool:
        """Whether a figure keeps its bound; one that does not exist does not."""
        if figure is None:
            return False
        return figure >= bound if self.at_least else figure <= bound


# RMSE: a thousandth of the errors of the report that this project answers (42.10, 48.10, 50724.62,
# 6.53).
TARGETS = (
    Target("accuracy", (1.0, 1.0, 1.0, 1.0)),
    Target("mean_rank", (1.0, 1.0, 1.0, 1.0), at_least=False),
    Target("mean_prob", (0.99, 0.99, 0.99, 0.99)),
    Target("rmse", (0.042, 0.048, 50.7, 0.0065), at_least=False),
    Target("exact_match", (0.99, 0.98, 0.99, 0.99)),
    Target("exact_match_without_pointer", (0.95, 0.85, 0.80, 0.95)),
    Target("f1", (0.99, 0.99, 0.99, 0.99)),
)
