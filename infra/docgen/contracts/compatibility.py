"""Check whether a changed contract still serves holders of the old one. Pure; for pydantic's JSON Schema.

- New code reads old data (replay, dead letters, a hub system with old commands): every valid value must stay valid, no
  field may be removed, and the meaning of an absent field may not change.
- Old readers read new events: every value that is valid now must have been valid, except that codes may be added (events list the
  known ones as `examples`) and upper bounds raised. Readers must expect both (docs/contracts.md), so these are notes.

Sound rather than complete: a change that cannot be shown to be compatible counts as breaking, and so does an
unsupported keyword. One convention: no sender writes fields outside the contract, so a new optional field is
compatible.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

Schema = Mapping[str, Any]

ANNOTATIONS = {"$id", "$schema", "$defs", "title", "description", "default", "examples", "deprecated"}
LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
EQUAL = ("pattern", "format", "multipleOf", "uniqueItems")
OF_TEXT = ("minLength", "maxLength", "pattern", "format")
SHAPE = ("type", "properties", "required", "additionalProperties", "items")
SUPPORTED_KEYWORDS = {*ANNOTATIONS, *LOWER, *UPPER, *EQUAL, *SHAPE, "enum", "const"}


@dataclass(frozen=True)
class SchemaDifference:
    """A value that is valid on one side only, or is lost between the two."""

    place: str
    message: str
    only_widens: bool = False

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


@dataclass(frozen=True)
class Part:
    """A place in a schema, with the document that its references point into and the name of its definition."""

    schema: Schema
    root: Schema
    name: str | None = None

    def at(self, schema: Any) -> "Part":
        """Return a place below, with its reference resolved. Only annotations may be next to a $ref."""
        stated: Schema = {} if schema is True else {"enum": []} if schema is False else schema
        if "$ref" not in stated:
            return Part(stated, self.root)
        siblings = {key: value for key, value in stated.items() if key != "$ref"}
        if not siblings.keys() <= ANNOTATIONS:
            raise ValueError(f"a constraint is next to $ref: {sorted(siblings.keys() - ANNOTATIONS)}")
        name = stated["$ref"].removeprefix("#/$defs/")
        return replace(self.at({**self.root["$defs"][name], **siblings}), name=name)

    def branches(self) -> Iterator["Part"]:
        """Yield the alternatives, each with at most one type; together they accept the same values."""
        choices = self.schema.get("anyOf") or self.schema.get("oneOf")
        kinds = self.schema.get("type")
        if choices and self.schema.keys() <= ANNOTATIONS | {"anyOf", "oneOf", "discriminator"}:
            for choice in choices:
                yield from self.at(choice).branches()
        elif isinstance(kinds, list):
            for kind in kinds:
                constraints = {key: what for key, what in self.schema.items() if kind == "string" or key not in OF_TEXT}
                yield from replace(self, schema={**constraints, "type": kind}).branches()
        else:
            yield self

    @property
    def values(self) -> list[Any] | None:
        """All accepted values, if they can be listed."""
        if "const" in self.schema:
            only = self.schema["const"]
            return [only] if _holds(self.schema.get("enum", [only]), only) else []
        if "enum" in self.schema:
            return list(self.schema["enum"])
        match self.schema.get("type"):
            case "null":
                return [None]
            case "boolean":
                return [True, False]
            case _:
                return None

    def takes(self, value: Any) -> bool:
        """Return whether it accepts this value.

        False if that depends on a format or on the content of a list or object.
        """
        listed = self.values
        if listed is not None and not any(type(allowed) is type(value) and allowed == value for allowed in listed):
            return False
        only_this = Part(_exactly(value, self.schema), self.root)
        return only_this.fits(self) and not any(_inside(only_this, self, Walk()))

    def fits(self, other: "Part") -> bool:
        """Return whether every value of this type has the other's type."""
        mine, theirs = self.schema.get("type"), other.schema.get("type")
        return theirs is None or mine == theirs or (mine, theirs) == ("integer", "number")


def _holds(values: Iterable[Any], value: Any) -> bool:
    """Return whether the value is in the list; as in JSON, 1 equals 1.0 but not true."""
    return any(one == value and isinstance(one, bool) == isinstance(value, bool) for one in values)


def _exactly(value: Any, constraints: Schema) -> Schema:
    """Return a schema that accepts this value only, in the keywords of `constraints`."""
    match value:
        case str():
            matched = {"pattern": pattern} if re.search(pattern := constraints.get("pattern", ""), value) else {}
            return {"type": "string", "minLength": len(value), "maxLength": len(value), **matched}
        case int() | float() if not isinstance(value, bool):
            return {"type": "integer" if isinstance(value, int) else "number", "minimum": value, "maximum": value}
        case _:
            return {"type": {bool: "boolean", type(None): "null"}.get(type(value), "unknown")}


@dataclass(frozen=True)
class Walk:
    """The place of a comparison, and whether fields missing on the second side are reported."""

    place: str = ""
    keeps: bool = False
    passed: frozenset[tuple[str, str]] = frozenset()

    def into(self, step: str) -> "Walk":
        return replace(self, place=f"{self.place}.{step}" if self.place else step)

    def difference(self, message: str, *, only_widens: bool = False) -> SchemaDifference:
        return SchemaDifference(self.place or "the whole", message, only_widens)


@dataclass(frozen=True)
class ContractChange:
    """One difference, in one direction, and whether it breaks a reader."""

    message: str
    breaks: bool


def changes(old: Schema, new: Schema, *, old_readers: bool) -> list[ContractChange]:
    """Return the effects of `new` on holders of `old`.

    `old_readers`: some read new data by the old contract (events, not commands).
    """
    before, now = Part({}, old).at(old), Part({}, new).at(new)
    back = [
        ContractChange(f"old data, new reader: {difference}", True)
        for difference in narrower(before, now, Walk(keeps=True))
    ]
    forth = narrower(now, before, Walk()) if old_readers else ()
    met = [ContractChange(f"new data, old reader: {difference}", not difference.only_widens) for difference in forth]
    return list(dict.fromkeys(back + met))


def compatible(old: Schema, new: Schema, *, old_readers: bool) -> list[str]:
    """Return the incompatible changes in `new`; empty if it is compatible."""
    return [change.message for change in changes(old, new, old_readers=old_readers) if change.breaks]


def narrower(written: Part, read: Part, walk: Walk) -> Iterator[SchemaDifference]:
    """Yield what `written` accepts and `read` does not."""
    accepted = list(read.branches())
    for branch in written.branches():
        values = branch.values
        if values is None:
            yield from _closest(branch, accepted, walk)
        else:
            yield from _unknown_values(values, accepted, walk)


def _unknown_values(values: list[Any], accepted: list[Part], walk: Walk) -> Iterator[SchemaDifference]:
    for value in values:
        if not any(branch.takes(value) for branch in accepted):
            is_one_more_code = type(value) in (str, int) and any(_lists_its_like(part, value) for part in accepted)
            yield walk.difference(f"{value!r} is not accepted", only_widens=is_one_more_code)


def _lists_its_like(part: Part, value: Any) -> bool:
    return any(type(allowed) is type(value) for allowed in part.values or ())


def _closest(branch: Part, accepted: list[Part], walk: Walk) -> list[SchemaDifference]:
    """Return the differences from the alternative with the fewest."""
    near = [list(_inside(branch, part, walk)) for part in accepted if part.values is None and branch.fits(part)]
    if near:
        return min(near, key=len)
    return [walk.difference(f"any {branch.schema.get('type', 'value')} is not accepted")]


def _inside(written: Part, read: Part, walk: Walk) -> Iterator[SchemaDifference]:
    if written.name and read.name:
        if (pair := (written.name, read.name)) in walk.passed:
            return
        walk = replace(walk, place=read.name, passed=walk.passed | {pair})
    yield from _not_comparable(read, walk)
    yield from _codes(written.schema, read.schema, walk)
    yield from _compare_limits(written.schema, read.schema, walk)
    yield from _fields(written, read, walk)
    yield from _others(written, read, walk)
    if "items" in read.schema:
        yield from narrower(
            written.at(written.schema.get("items", True)), read.at(read.schema["items"]), walk.into("[]")
        )


def _not_comparable(read: Part, walk: Walk) -> Iterator[SchemaDifference]:
    for keyword in sorted(read.schema.keys() - SUPPORTED_KEYWORDS):
        yield walk.difference(
            f"keyword {keyword!r} is not supported by infra/docgen/contracts/compatibility.py: add it there first"
        )


def _codes(written: Schema, read: Schema, walk: Walk) -> Iterator[SchemaDifference]:
    """Compare open lists of codes, which are `examples`: our code reads the known codes of old data, and no others."""
    for code in written.get("examples", ()) if "examples" in read else ():
        if code not in read["examples"]:
            yield walk.difference(f"{code!r} is not a known code", only_widens=not walk.keeps)


def _compare_limits(written: Schema, read: Schema, walk: Walk) -> Iterator[SchemaDifference]:
    for keyword in LOWER:
        if keyword in read and written.get(keyword, float("-inf")) < read[keyword]:
            yield walk.difference(f"{keyword} {read[keyword]} is required")
    for keyword in UPPER:
        if keyword in read and written.get(keyword, float("inf")) > read[keyword]:
            yield walk.difference(f"{keyword} {read[keyword]} is required", only_widens=True)
    for keyword in EQUAL:
        if keyword in read and written.get(keyword) != read[keyword]:
            yield walk.difference(f"{keyword} {read[keyword]} is required")


def _fields(written: Part, read: Part, walk: Walk) -> Iterator[SchemaDifference]:
    mine: Schema = written.schema.get("properties", {})
    theirs: Schema = read.schema.get("properties", {})
    for name in _missing(read.schema.get("required", ()), written.schema.get("required", ())):
        yield walk.into(name).difference("is required")
    for name in sorted(mine.keys() & theirs.keys()):
        yield from narrower(written.at(mine[name]), read.at(theirs[name]), walk.into(name))
        if walk.keeps and _means_other(mine[name], theirs[name]):
            yield walk.into(name).difference("has another meaning if it is absent: its default was changed")
    for name in _missing(mine, theirs) if walk.keeps else ():
        yield walk.into(name).difference("was removed")


def _missing(required: Iterable[str], present: Iterable[str]) -> list[str]:
    return sorted(set(required) - set(present))


def _means_other(before: Schema, now: Schema) -> bool:
    return "default" in before and "default" in now and not _same_meaning(before["default"], now["default"])


def _same_meaning(before: Any, now: Any) -> bool:
    """Return whether two defaults are equal, apart from added members."""
    if isinstance(before, dict) and isinstance(now, dict):
        return all(key in now and _same_meaning(value, now[key]) for key, value in before.items())
    return type(before) is type(now) and bool(before == now)


def _others(written: Part, read: Part, walk: Walk) -> Iterator[SchemaDifference]:
    """Compare `additionalProperties`. If it is left out, no other fields are written."""
    mine, theirs = written.schema.get("properties", {}), read.schema.get("properties", {})
    rest = read.schema.get("additionalProperties", True)
    for name in _missing(mine, theirs) if rest is not True else ():
        yield from narrower(written.at(mine[name]), read.at(rest), walk.into(name))
    if (free := written.schema.get("additionalProperties", False)) is not False:
        yield from narrower(written.at(free), read.at(rest), walk.into("*"))
        for name in _missing(theirs, mine):
            yield from narrower(written.at(free), read.at(theirs[name]), walk.into(name))
