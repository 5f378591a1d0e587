"""Which file of a model folder is damaged: libraries seldom say it, and each in its own way."""

import json
import pickle
import re
from pathlib import Path

from safetensors import SafetensorError, safe_open

# Files that hold one JSON object.
_OBJECTS = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("number_lm.json", "adapter_config.json", "*.safetensors.index.json"),
)


def first_flaw(folder: Path) -> str | None:
    """The first damaged file of a model folder and what is wrong with it, or None.

    It executes nothing, and of weights it reads the table of contents only.
    """
    files = [file for pattern in (*_OBJECTS, "*.safetensors") for file in folder.glob(pattern)]
    for file in files:
        if (found := flaw(file)) is not None:
            return f"its file {file.name} is damaged ({found}): copy or download it again"
    return None


def flaw(file: Path) -> str | None:
    """What is wrong with a JSON or safetensors file, in a few words; None if nothing is.

    Raises:
        OSError: If it cannot be read at all.
    """
    if file.suffix == ".safetensors":
        return _flaw_of_weights(file)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        return f"broken JSON, {error.msg} in line {error.lineno}"
    except UnicodeDecodeError:
        return "it is no UTF-8 text"
    except RecursionError:
        return "JSON nested too deep to be read"
    return None if isinstance(content, dict) else "it is no JSON object"


def _flaw_of_weights(file: Path) -> str | None:
    try:
        with safe_open(file, framework="pt"):
            return None
    except SafetensorError as error:
        return str(error).removeprefix("Error while deserializing header: ")


def why_not_plain(error: pickle.UnpicklingError) -> str:
    """What is wrong with a pickle that PyTorch refuses, without its page on how to execute it.

    >>> why_not_plain(pickle.UnpicklingError("Unsupported global: GLOBAL os.system was not ..."))
    'names os.system beside tensors and plain values, which could execute code'
    """
    named = re.search(r"(?:GLOBAL|it names) (\S+)", str(error))
    if named:
        return f"names {named[1]} beside tensors and plain values, which could execute code"
    words = str(error).partition("WeightsUnpickler error: ")[2] or str(error)
    line = (words.strip() or type(error).__name__).splitlines()[0]
    return f"is damaged, or holds more than tensors and plain values ({line})"
