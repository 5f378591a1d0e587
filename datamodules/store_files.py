"""Whether a store of tokenized rows is whole: a disk can lose what it was given.

`about.json` is written last and holds size and checksum of every other file.
"""

import json
import zlib
from pathlib import Path
from typing import Any

ABOUT_FILE = "about.json"
_BLOCK = 1 << 20


def seal(folder: Path, about: dict[str, Any]) -> None:
    """Write what is known of a store, and what its files must be.

    Args:
        folder: The store, with all of its arrays.
        about: What is to be read from it again.
    """
    files = {file.name: [file.stat().st_size, _checksum(file)] for file in folder.iterdir()}
    content = json.dumps({**about, "files": files})
    (folder / ABOUT_FILE).write_text(content, encoding="utf-8")


def read_about(folder: Path) -> dict[str, Any]:
    """What is known of a store.

    Raises:
        ValueError: If it is damaged.
    """
    about: dict[str, Any] = json.loads((folder / ABOUT_FILE).read_text(encoding="utf-8"))
    return about


def flaw(folder: Path, content: bool) -> str | None:
    """What is wrong with a store, in a few words; None if nothing is.

    Args:
        folder: The store.
        content: Whether to read all of it, and not only to look at sizes.
    """
    try:
        files = read_about(folder)["files"]
        for name, (size, checksum) in files.items():
            file = folder / name
            if not file.exists():
                return f"{name} is missing"
            if file.stat().st_size != size:
                return f"{name} is cut short"
            if content and _checksum(file) != checksum:
                return f"{name} has changed"
    except FileNotFoundError:
        return f"{ABOUT_FILE} is missing"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{ABOUT_FILE} is damaged"
    return None


def _checksum(file: Path) -> int:
    checksum = 0
    with file.open("rb") as content:
        while block := content.read(_BLOCK):
            checksum = zlib.crc32(block, checksum)
    return checksum
