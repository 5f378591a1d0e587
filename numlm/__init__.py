"""NumLM's model and everything about numbers; never imports Lightning.

from numlm import NumberLM
from numlm.parsing import split_numbers
"""

from importlib import import_module
from typing import Any

_WHERE = {
    "NumberLM": "numlm.model",
    "Prediction": "numlm.prediction",
    "Continuation": "numlm.generation",
}
__all__ = ["Continuation", "NumberLM", "Prediction"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import the model when asked for: the parser needs the standard library only."""
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'numlm' has no attribute '{name}'")
