"""Explain each statement as a service runs it: EXPLAIN (ANALYZE, BUFFERS) in a savepoint, right before the statement itself.

The statement is prepared in the service's session, so that it gets the plan that the rules of the service's role give it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.plans.source import Statement, name_of

Node = Mapping[str, Any]
Shape = tuple[Any, ...]

READS = ("Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Heap Scan", "Bitmap Index Scan", "Tid Scan")


NEW_PAGE = 4
"""Descents that finding room for a row counts as: a row of any table may need a new page."""


@dataclass(frozen=True)
class Plan:
    """What a statement did. `rows`: those read from tables. `descents`: `searches` of an index, and entries made in one."""

    rows: int
    buffers: int
    descents: int
    searches: int
    scanned: frozenset[str]
    shape: Shape


@dataclass
class Recorder:
    """Collects the plans of engines by work and statement. Set `work` before each piece of work."""

    known: list[Statement]
    indexes: Mapping[str, int]
    work: str = ""
    plans: dict[tuple[str, str], list[Plan]] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    failures: list[Exception] = field(default_factory=list)

    def watch(self, engine: AsyncEngine) -> AsyncEngine:
        """Explain every statement of this engine from now on."""

        @event.listens_for(engine.sync_engine, "before_cursor_execute")
        def before(connection: Any, _: Any, sql: str, values: Any, context: Any, __: bool) -> None:
            text = str(getattr(getattr(context.compiled, "statement", None), "text", sql))
            name = name_of(text, self.known)
            if name is None:
                self.unknown.add(text)
                return
            self.seen.add(name)
            driver = connection.connection.dbapi_connection
            try:
                root = driver.run_async(lambda raw: _explained(raw, sql, values))
            except Exception as error:  # the service would take it for a fault of its own
                self.failures.append(error)
                return
            if root is not None:
                self.plans.setdefault((self.work, name), []).append(_plan_of(root, self.indexes))

        return engine


async def _explained(raw: "asyncpg.Connection[Any]", sql: str, values: Sequence[Any]) -> Node | None:
    if not sql.lstrip().lower().startswith(("select", "with", "insert", "update", "delete")):
        return None
    outside = raw.transaction()
    await outside.start()
    try:
        await raw.execute(f"prepare explained as {sql}")
        given = f"({', '.join(map(_literal, values))})" if values else ""
        [row] = await raw.fetch(
            f"explain (analyze, buffers, timing off, verbose, format json) execute explained{given}"
        )
    finally:
        await outside.rollback()
        await raw.execute("deallocate explained")
    node: Node = (json.loads(row[0]) if isinstance(row[0], str) else row[0])[0]["Plan"]
    return node


def _literal(value: Any) -> str:
    """Return a value as an untyped constant, which PostgreSQL reads as the type of the parameter."""
    return "null" if value is None else "'" + _words(value).replace("'", "''") + "'"


def _words(value: Any) -> str:
    match value:
        case list() | tuple():
            return "{" + ",".join(_element(one) for one in value) + "}"
        case bytes():
            return "\\x" + value.hex()
        case bool() | int() | float() | str() | UUID():
            return str(value)
        case date():  # and datetime
            return value.isoformat()
    raise TypeError(type(value))


def _element(value: Any) -> str:
    return "NULL" if value is None else '"' + _words(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


# ---- plans ----------------------------------------------------------------------------------------------------------


def _nodes(node: Node) -> Iterator[Node]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _plan_of(root: Node, indexes: Mapping[str, int]) -> Plan:
    nodes = list(_nodes(root))
    searches = sum(one.get("Index Searches", 0) for one in nodes)
    return Plan(
        rows=sum(map(_rows_read, nodes)),
        buffers=root["Shared Hit Blocks"] + root["Shared Read Blocks"],
        descents=searches + sum(_entries(one, indexes) for one in nodes),
        searches=searches,
        scanned=frozenset(one["Relation Name"] for one in nodes if one["Node Type"] == "Seq Scan"),
        shape=_shape(root),
    )


def _rows_read(node: Node) -> int:
    if node["Node Type"] not in READS:
        return 0
    removed = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    return round((node["Actual Rows"] + sum(node.get(name, 0) for name in removed)) * node["Actual Loops"])


def _entries(node: Node, indexes: Mapping[str, int]) -> int:
    """Return how many entries of indexes a node makes, and rows: each counts as a descent."""
    if node["Node Type"] != "ModifyTable":
        return 0
    rows = sum(child["Actual Rows"] * child["Actual Loops"] for child in node.get("Plans", ())[:1])
    return NEW_PAGE + round(rows) * (indexes[f"{node['Schema']}.{node['Relation Name']}"] + 1)


def _shape(node: Node) -> Shape:
    named = ("Node Type", "Relation Name", "Index Name", "Join Type", "Parent Relationship")
    return (*(node.get(name) for name in named), *map(_shape, node.get("Plans", ())))
