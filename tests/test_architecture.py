"""Imports point one way: numlm <- {datamodules, lightning_modules, callbacks, demo} <- train.py."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIGHTNING_PACKAGES = {"datamodules", "lightning_modules", "callbacks"}
ALLOWED = {
    "numlm": {"numlm"},
    "demo": {"numlm", "demo"},
    **{package: {"numlm", package} for package in LIGHTNING_PACKAGES},
}


def imported_packages(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_point_one_way(package: str) -> None:
    files = sorted((ROOT / package).glob("*.py"))
    assert files
    ours = {*ALLOWED, "train"}
    for file in files:
        imported = imported_packages(file)
        assert imported & ours <= ALLOWED[package], file
        if package == "numlm":
            assert not imported & {"lightning", "pytorch_lightning"}, file


def test_parsing_needs_the_standard_library_only() -> None:
    assert imported_packages(ROOT / "numlm" / "parsing.py") <= {
        "collections",
        "dataclasses",
        "decimal",
        "math",
        "re",
    }


def test_nobody_imports_pytorch_lightning_or_shadows_a_known_package() -> None:
    known = {"numbers", "tokenizers", "datasets", "evaluate", "statistics"}
    for file in ROOT.glob("*/*.py"):
        assert file.stem not in known, file
        assert "pytorch_lightning" not in imported_packages(file), file
