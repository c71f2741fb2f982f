"""The contracts as last released, and the changes since. Pure.

In a fresh clone code and contracts agree, so a change is compared with a baseline that only a release moves.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from infra.docgen.contracts.asyncapi import topics_and_types
from infra.docgen.contracts.compatibility import ContractChange, changes
from infra.docgen.contracts.json_schemas import Schema, bundle
from schemas.events import COMMANDS


@dataclass(frozen=True)
class CompatibilityReport:
    """The changes that break holders of the baseline, and the compatible changes that they will notice."""

    breaking: tuple[str, ...]
    notes: tuple[str, ...]


def present() -> Schema:
    """Return the current contracts of the code, without titles and descriptions, which do not affect readers."""
    return {"topics": topics_and_types(), **without_words(bundle())}


def without_words(schema: Any) -> Any:
    """Return a schema without its titles and descriptions.

    Properties with these names stay, and so do values of const, enum, examples and default.
    """
    if isinstance(schema, list):
        return [without_words(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _part(key, value) for key, value in schema.items() if key not in WORDS}


def _part(key: str, value: Any) -> Any:
    if key in VALUES:
        return value
    return {name: without_words(one) for name, one in value.items()} if key in NAMED else without_words(value)


WORDS = ("title", "description")
VALUES = ("default", "const", "enum", "examples")
NAMED = ("properties", "$defs")


def compare(released: Schema, now: Schema) -> CompatibilityReport:
    """Compare two versions of the contracts."""
    differences = [(change, name) for name in _shared(released, now) for change in _changes(released, now, name)]
    breaking = [(change.message, name) for change, name in differences if change.breaks]
    noted = [(change.message, name) for change, name in differences if not change.breaks]
    gone = [
        f"{name}: this contract was removed" for name in sorted(released["contracts"].keys() - now["contracts"].keys())
    ]
    return CompatibilityReport(
        (*gone, *_topics(released["topics"], now["topics"]), *_once(breaking)),
        (*_new(released, now), *_once(noted)),
    )


def _changes(released: Schema, now: Schema, name: str) -> list[ContractChange]:
    """Return the differences of one contract. Events have old readers; commands are read by the hub only."""
    old, new = _contract(released, name), _contract(now, name)
    return [] if old == new else changes(old, new, old_readers=name not in COMMANDS)


def _shared(released: Schema, now: Schema) -> list[str]:
    return sorted(released["contracts"].keys() & now["contracts"].keys())


def _contract(language: Schema, name: str) -> Schema:
    return {**language["contracts"][name], "$defs": language["$defs"]}


def _new(released: Schema, now: Schema) -> list[str]:
    return [f"{name}: new" for name in sorted(now["contracts"].keys() - released["contracts"].keys())]


def _once(differences: list[tuple[str, str]]) -> list[str]:
    """Return each difference once, with the first contract that has it and the number of others."""
    contracts: dict[str, list[str]] = {}
    for message, name in differences:
        contracts.setdefault(message, []).append(name)
    return [f"{message} ({names[0]}{_and_more(len(names) - 1)})" for message, names in contracts.items()]


def _and_more(others: int) -> str:
    return f" and {others} more" if others else ""


def _topics(released: Schema, now: Schema) -> Iterator[str]:
    for name, promise in released.items():
        if name not in now:
            yield f"topic {name}: removed"
        else:
            yield from (f"topic {name}: {broken}" for broken in _promises_broken(promise, now[name]))


def _promises_broken(promise: Schema, now: Schema) -> Iterator[str]:
    if promise["partitions"] != now["partitions"]:
        yield "a different partition count maps keys to other partitions: the order of a person's records is lost"
    for limit in ("retention_ms", "max_message_bytes"):
        if now[limit] < promise[limit]:
            yield f"{limit} was lowered"
    for missing in sorted(set(promise["types"]) - set(now["types"])):
        yield f"{missing} is no longer sent here"
