"""docs/limits.md lists every limit of intake, and every limit is declared in one module."""

import ast
from pathlib import Path

import pytest

from infra.docgen import limits_page, pages
from services.runtime.settings import CHECKOUT, Settings

INTAKE = CHECKOUT / "services" / "intake"


def test_the_page_agrees_with_the_code() -> None:
    assert "limits.md" not in pages.drift(), "run `python -m infra.docgen`, read what changed, and commit it"


def test_every_limit_has_its_row_with_its_value() -> None:
    page = (pages.DOCS / "limits.md").read_text()
    limits = list(limits_page.declared())
    assert limits
    for limit in limits:
        assert f"| `{limit.name}` | {limit.shown} | " in page
    assert limits_page.SETTINGS.keys() <= Settings.model_fields.keys()


def test_an_outdated_page_is_found(tmp_path: Path) -> None:
    pages.write(tmp_path)
    page = tmp_path / "limits.md"
    page.write_text(page.read_text().replace("408", "409"))
    assert pages.drift(tmp_path) == ["limits.md"]


@pytest.mark.parametrize("path", sorted(INTAKE.rglob("*.py")), ids=lambda path: str(path.relative_to(INTAKE)))
def test_no_other_module_of_intake_declares_a_limit(path: Path) -> None:
    """A constant whose name ends as a limit's does is a number only in limits.py."""
    ends = ("_BYTES", "_SECONDS", "_AT_ONCE", "_ROWS", "_CONNECTIONS", "_LIST", "_DEPTH")
    starts = ("LONGEST", "MOST", "MAX")
    declared = [
        statement.targets[0].id
        for statement in ast.parse(path.read_text()).body
        if isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Name)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, int | float)
    ]
    found = [name for name in declared if name.endswith(ends) or name.startswith(starts)]
    assert not found or path.name == "limits.py"
