"""Decode the body of a BaRS message: bytes to the Bundle and the resources that we read, or a rejection."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import inspect

from services.intake import limits
from services.intake.translators import json_text
from services.intake.translators.bars_fhir import compiled, validation
from services.intake.translators.bars_fhir.models import READ, Bundle, Resource
from services.intake.translators.translator import Issue, Rejection, fhir_path, issue_for, reject

Location = tuple[int | str, ...]
"""A place in JSON, such as ("entry", 3, "resource")."""


@dataclass(frozen=True, slots=True)
class DecodedBundle:
    """A message: the envelope, the resources that we read by the index of their entry, and the whole JSON.

    `others`: type and id of the resources that we do not read, such as `Device/1`.
    `conforms`: the whole message conforms, or only what we read is to be checked. Otherwise fhir.resources decides it.
    """

    bundle: Bundle
    resources: list[tuple[int, Resource]]
    tree: dict[str, Any]
    others: frozenset[str]
    conforms: bool


def read(body: bytes, *, whole: bool = True) -> DecodedBundle | Rejection:
    """Return the message, or a rejection if it is not JSON, not a Bundle, or an element that we read is invalid.

    `whole`: try the structs of every element first, and reject with all faults of the message, not only of what we read.
    """
    tree = json_text.read(body, "Bundle")
    if isinstance(tree, Rejection):
        return tree
    if not isinstance(tree, dict) or tree.get("resourceType") != "Bundle":
        return reject(Issue("Bundle", "invalid", "must be a FHIR Bundle of type message"))
    conforming = compiled.conforming(body, tree) if whole else None
    bundle = conforming or _converted(tree if b"null" not in body else _without_placeholders(tree))
    if bundle is None:
        return Rejection(_all_faults(tree, whole=whole))
    raw = [entry["resource"] for entry in tree["entry"]]
    resources = [(i, one.resource) for i, one in enumerate(bundle.entry) if raw[i]["resourceType"] in READ]
    others = {f"{one['resourceType']}/{one.get('id')}" for one in raw if one["resourceType"] not in READ}
    return DecodedBundle(bundle, resources, tree, frozenset(others), conforms=not whole or conforming is not None)


def _converted(tree: dict[str, Any]) -> Bundle | None:
    """Return the message in structs of what we read; None if an element is invalid."""
    try:
        return msgspec.convert(tree, Bundle, dec_hook=_inside)
    except (msgspec.ValidationError, RecursionError):  # its text may hold values, and names the first fault only
        return None


def _inside(_: type[Any], value: Any) -> Resource:
    """Return the resource of an entry, or one inside another; of a type that we do not read, its id."""
    kind = _type_of(value)
    if kind is None:
        raise ValueError
    model, own_id = READ.get(kind), value.get("id")
    if model is None:
        return Resource(id=own_id if isinstance(own_id, str) else None)
    return msgspec.convert(value, model, dec_hook=_inside)


def _type_of(resource: Any) -> str | None:
    kind = resource.get("resourceType") if isinstance(resource, dict) else None
    return kind if isinstance(kind, str) and kind else None


def _without_placeholders(value: Any) -> Any:
    """Return JSON without the nulls that stand in a list for a value of which only an extension is given.

    `"given": ["Iris", null], "_given": [null, {"extension": [...]}]` has one given name (http://hl7.org/fhir/R4/json.html).
    """
    if isinstance(value, list):
        return [_without_placeholders(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        name: [
            _without_placeholders(item)
            for index, item in enumerate(one)
            if not _is_placeholder(item, value.get(f"_{name}"), index)
        ]
        if isinstance(one, list)
        else _without_placeholders(one)
        for name, one in value.items()
    }


def _is_placeholder(item: Any, twin: Any, index: int) -> bool:
    """Return whether an item of a list is null because only its extension is given, in the list of the `_` name."""
    return item is None and isinstance(twin, list) and index < len(twin) and isinstance(twin[index], dict)


# ---- faults ---------------------------------------------------------------------------------------------------------


def _all_faults(tree: dict[str, Any], *, whole: bool) -> tuple[Issue, ...]:
    """Return the faults of what we read, and those that fhir.resources finds elsewhere; at most 50."""
    ours = [*_faults(tree, _shape(Bundle), ())] or [Issue("Bundle", "invalid", "has the wrong format")]
    places = {issue.place for issue in ours}
    theirs = validation.find_issues(tree) if whole else ()
    return (*ours, *(issue for issue in theirs if issue.place not in places))[: limits.ISSUES]


@lru_cache(maxsize=100)
def _shape(kind: Any) -> inspect.Type:
    return inspect.type_info(kind)


def _faults(value: Any, kind: inspect.Type, at: Location, twin: Any = None) -> Iterator[Issue]:
    """Yield each fault of a value by place and kind, in the order of the struct's fields. `twin`: of the `_` name."""
    match kind:
        case inspect.UnionType():  # an element that may be absent, or null
            if value is not None:
                yield from _faults(value, next(one for one in kind.types if not isinstance(one, inspect.NoneType)), at)
        case inspect.StructType():
            yield from _faults_of_object(value, kind, at)
        case inspect.ListType():
            yield from _faults_of_list(value, kind, at, twin)
        case inspect.CustomType():
            yield from _faults_inside(value, at)
        case _:
            if fault := _fault_of_primitive(value, kind):
                yield issue_for(fhir_path("Bundle", at), fault)


def _faults_of_object(value: Any, kind: inspect.StructType, at: Location) -> Iterator[Issue]:
    if not isinstance(value, dict):
        yield issue_for(fhir_path("Bundle", at), "dict_type")
        return
    for one in kind.fields:
        if one.encode_name in value:
            yield from _faults(
                value[one.encode_name], one.type, (*at, one.encode_name), value.get(f"_{one.encode_name}")
            )
        elif one.required:
            yield issue_for(fhir_path("Bundle", (*at, one.encode_name)), "missing")


def _faults_of_list(value: Any, kind: inspect.ListType, at: Location, twin: Any) -> Iterator[Issue]:
    if not isinstance(value, list):
        yield issue_for(fhir_path("Bundle", at), "list_type")
    elif len(value) < (kind.min_length or 0):
        yield issue_for(fhir_path("Bundle", at), "too_short")
    elif kind.max_length is not None and len(value) > kind.max_length:
        yield issue_for(fhir_path("Bundle", at), "too_long")
    else:
        for index, one in enumerate(value):
            if not _is_placeholder(one, twin, index):
                yield from _faults(one, kind.item_type, (*at, index))


def _faults_inside(value: Any, at: Location) -> Iterator[Issue]:
    kind = _type_of(value)
    if kind is None:
        yield issue_for(fhir_path("Bundle", (*at, "resourceType")), "missing")
    elif kind in READ:
        yield from _faults(value, _shape(READ[kind]), at)


def _fault_of_primitive(value: Any, kind: inspect.Type) -> str | None:
    """Return the kind of fault, as pydantic names it, that makes msgspec refuse a primitive."""
    match kind:
        case inspect.LiteralType():
            return None if type(value) is str and value in kind.values else "literal_error"
        case inspect.BoolType():
            return None if type(value) is bool else "bool_type"
        case inspect.IntType():
            return None if type(value) is int and (kind.ge is None or value >= kind.ge) else "int_type"
        case inspect.StrType():
            if type(value) is not str:
                return "string_type"
            if len(value) < (kind.min_length or 0):
                return "string_too_short"
            return None if kind.pattern is None or re.search(kind.pattern, value) else "string_pattern_mismatch"
    raise TypeError(kind)
