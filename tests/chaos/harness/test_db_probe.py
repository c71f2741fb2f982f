"""Only one module of the harness reads the services' tables."""

import re
from pathlib import Path

from tests.chaos.harness import db_probe

TABLE = re.compile(r"\b(from|join|into|update|on)\s+(intake|router|notifier|\{\w+\})\.[\"a-z]", re.IGNORECASE)


def test_only_db_probe_holds_sql_on_the_services_tables() -> None:
    found = {file.name: len(TABLE.findall(file.read_text())) for file in Path(__file__).parents[1].rglob("*.py")}
    assert found.pop(Path(db_probe.__file__).name) > 20
    assert {name for name, times in found.items() if times} == set()
