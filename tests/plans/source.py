"""The SQL statements in the source of the services: every call of `text`, by the place that names it."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from services.runtime.settings import CHECKOUT


@dataclass(frozen=True)
class Statement:
    """A statement in the source. `name`: its file, and its constant or function. `pattern` matches its text, whatever is inserted."""

    name: str
    pattern: re.Pattern[str]


def statements() -> list[Statement]:
    """Return every statement of services/, and of the commands that cron repeats."""
    files = [*sorted((CHECKOUT / "services").rglob("*.py")), *(CHECKOUT / "infra" / file for file in COMMANDS)]
    return [one for file in files for one in _in_file(file) if one.name not in OF_TOOLS]


OF_TOOLS = ("messaging/packets.py _all_packets",)
"""Statements of services/ that no service executes: they may read all of a table."""

COMMANDS = ("operations/not_applied.py",)
"""Files of infra/ whose statements are explained too."""


def name_of(sql: str, known: list[Statement]) -> str | None:
    """Return the name of the statement with this text: of several that match, the longest pattern's."""
    words = _words(sql)
    found = [one for one in known if one.pattern.fullmatch(words)]
    return max(found, key=lambda one: len(one.pattern.pattern)).name if found else None


def _in_file(file: Path) -> Iterator[Statement]:
    tree = ast.parse(file.read_text())
    where = str(file.relative_to(CHECKOUT)).removeprefix("services/")
    names: dict[str, int] = {}
    for call, place in _calls(tree, ""):
        names[place] = names.get(place, 0) + 1
        number = f" {names[place]}" if names[place] > 1 else ""
        yield Statement(f"{where} {place}{number}", re.compile(_pattern(call.args[0]), re.DOTALL))


def _calls(node: ast.AST, place: str) -> Iterator[tuple[ast.Call, str]]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Call(func=ast.Name(id="text")):
                yield child, place
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield from _calls(child, name)
                continue
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)) if not place:
                yield from _calls(child, name)
                continue
        yield from _calls(child, place)


def _pattern(sql: ast.expr) -> str:
    match sql:
        case ast.Constant(value=str(value)):
            return re.escape(_words(value))
        case ast.JoinedStr(values=parts):
            return r"\s*".join(
                re.escape(_words(part.value)) if isinstance(part, ast.Constant) else ".*" for part in parts
            )
    return ".+"


def _words(sql: str) -> str:
    return " ".join(sql.split())
