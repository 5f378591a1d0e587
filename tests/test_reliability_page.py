"""`docs/reliability.md` names a test for every fault: it must be there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
NAMED = re.findall(r"\| `(test_\w+\.py)::(test_\w+)` \|$", PAGE, re.MULTILINE)


def test_every_fault_has_a_test_that_is_there() -> None:
    assert len(NAMED) >= 40
    for file, name in NAMED:
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        assert name in {
            node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
        }, name


def test_every_row_of_the_tables_names_one() -> None:
    table = PAGE[PAGE.index("## Faults") :]
    rows = [line for line in table.splitlines() if re.match(r"\| (?!what was done|-)", line)]
    assert len([row for row in rows if not row.startswith("|---")]) == len(NAMED)
