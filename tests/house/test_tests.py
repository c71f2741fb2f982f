"""Hold the rules of tests: a test module imports no other test module, so that shared code has a place of its own."""

import ast

from services.runtime.settings import CHECKOUT

TESTS = CHECKOUT / "tests"


def imported_test_modules(text: str) -> list[str]:
    """Return the test modules that a module imports, or imports from."""
    found: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names]
    return [name for name in found if any(part.startswith("test_") for part in name.split("."))]


def test_no_test_module_imports_another_test_module() -> None:
    modules = sorted(TESTS.rglob("test_*.py"))
    assert len(modules) > 50
    importing = {str(path.relative_to(TESTS)): imported_test_modules(path.read_text("utf-8")) for path in modules}
    assert {name: names for name, names in importing.items() if names} == {}


def test_every_way_to_import_a_test_module_is_found() -> None:
    statements = (
        "import tests.intake.test_bars",
        "from tests.intake.test_bars import HELPER",
        "from tests.intake import test_bars as bars",
        "from .test_bars import HELPER",
        "def late() -> None:\n    from . import test_bars",
    )
    assert [text for text in statements if not imported_test_modules(text)] == []
    assert imported_test_modules("from tests.builders.bars import a_bars_message") == []
