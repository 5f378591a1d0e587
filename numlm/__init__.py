"""NumLM's model and everything about numbers; never imports Lightning.

from numlm import NumberLM
from numlm.parsing import split_numbers
"""

from typing import Any

__all__ = ["NumberLM", "Prediction"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import the model when asked for: the parser needs the standard library only."""
    if name in __all__:
        from numlm import model

        return getattr(model, name)
    raise AttributeError(f"module 'numlm' has no attribute '{name}'")
