"""The simulated hubs and the GP's system are strangers: they know nothing but the wire."""

import ast
import sys
from pathlib import Path

import pytest

from infra.partner_simulators import hub

FOLDER = Path(hub.__file__).parent
STRANGERS = {
    "hub.py": {"aiokafka", "uvloop"},
    "gp_system.py": {"aiohttp", "fhir", "uvloop"},
}


def imported(file: Path) -> set[str]:
    """First names of everything that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            names.add("." if node.level else (node.module or "").partition(".")[0])
    return names


@pytest.mark.parametrize("name", STRANGERS)
def test_simulated_partner_systems_import_no_service_code(name: str) -> None:
    assert imported(FOLDER / name) - sys.stdlib_module_names <= STRANGERS[name]
