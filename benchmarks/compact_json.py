"""Figures as JSON that people can read and compare."""

import json
from typing import Any

_WIDEST = 240


def as_json(content: Any, indent: str = "") -> str:  # noqa: ANN401
    """JSON with a line for every list of plain values, and for a short dictionary of such.

    >>> print(as_json({"a": 1, "b": [{"step": 0, "accuracy": None}, {"c": [2, 3]}]}))
    {
      "a": 1,
      "b": [
        {"step": 0, "accuracy": null},
        {"c": [2, 3]}
      ]
    }
    """
    inner = indent + "  "
    line = json.dumps(content, ensure_ascii=False, allow_nan=False)
    if isinstance(content, dict):
        short = len(line) < _WIDEST or not any(isinstance(v, list) for v in content.values())
        if not (short and all(_is_flat(v) for v in content.values())):
            entries = (f"{inner}{json.dumps(k)}: {as_json(v, inner)}" for k, v in content.items())
            return "{\n" + ",\n".join(entries) + f"\n{indent}}}"
    elif not _is_flat(content):
        return "[\n" + ",\n".join(inner + as_json(v, inner) for v in content) + f"\n{indent}]"
    return line


def _is_flat(value: Any) -> bool:  # noqa: ANN401
    """Whether it is a plain value, or a list of plain values."""
    if isinstance(value, list | tuple):
        return not any(isinstance(v, dict | list | tuple) for v in value)
    return not isinstance(value, dict)
