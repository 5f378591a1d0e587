"""What is imported is what is declared: a bare environment has nothing else."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

from tests.conftest import ROOT

PACKAGES = ("numlm", "datamodules", "lightning_modules", "callbacks")
# Their parent is declared, and needs them itself: Transformers, Jinja, Gradio.
PARTS = {"tokenizers": "transformers", "markupsafe": "jinja2", "starlette": "gradio"}


def name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9_.\-]+", requirement)
    assert found, requirement
    return found[0].lower().replace("_", "-")


def declared(*extras: str) -> set[str]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found = [line for line in lines if line and not line.startswith("#")]
    for extra in extras:
        found += project["project"]["optional-dependencies"][extra]
    return {name_of(line) for line in found}


def imported(folder: str) -> set[str]:
    """Distributions that the files of a folder import, wherever in a file."""
    files = sorted((ROOT / folder).rglob("*.py")) if folder else [ROOT / "train.py"]
    names: set[str] = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
    own = {path.name for path in ROOT.iterdir() if path.is_dir()}
    others = names - set(sys.stdlib_module_names) - own
    known = packages_distributions()
    return {
        PARTS.get(name, known.get(name, [name])[0]).lower().replace("_", "-") for name in others
    }


def test_the_product_imports_what_it_declares() -> None:
    found = imported("").union(*(imported(folder) for folder in PACKAGES))
    assert found <= declared("data", "lora")
    assert {"torch", "lightning", "transformers", "pyyaml", "markdown-it-py"} <= found


def test_the_demo_imports_what_it_declares() -> None:
    assert imported("demo") <= declared("demo")
