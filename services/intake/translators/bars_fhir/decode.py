"""Decode the body of a BaRS message: bytes to the Bundle and the resources that we read, or a rejection."""

import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from services.intake.translators import json_text
from services.intake.translators.bars_fhir.models import READ, Bundle, Resource
from services.intake.translators.translator import Issue, Rejection, fhir_path, issue_for, reject

T = TypeVar("T")

Location = tuple[int | str, ...]
"""A place in JSON, such as ("entry", 3, "resource")."""


@dataclass(frozen=True, slots=True)
class DecodedBundle:
    """A message: the envelope, the resources that we read by the index of their entry, and the whole JSON.

    `others`: type and id of the resources that we do not read, such as `Device/1`.
    """

    bundle: Bundle
    resources: list[tuple[int, Resource]]
    tree: dict[str, Any]
    others: frozenset[str]


def read(body: bytes) -> DecodedBundle | Rejection:
    """Return the message, or a rejection if it is not JSON, not a Bundle, or an element that we read is invalid."""
    tree = json_text.read(body, "Bundle")
    if isinstance(tree, Rejection):
        return tree
    if not isinstance(tree, dict) or tree.get("resourceType") != "Bundle":
        return reject(Issue("Bundle", "invalid", "must be a FHIR Bundle of type message"))
    bundle = _converted(tree, Bundle, ())
    return bundle if isinstance(bundle, Rejection) else _with_resources(bundle, tree)


def _with_resources(bundle: Bundle, tree: dict[str, Any]) -> DecodedBundle | Rejection:
    resources: list[tuple[int, Resource]] = []
    issues: list[Issue] = []
    others: list[str] = []
    for index, entry in enumerate(tree["entry"]):
        resource = entry.get("resource")
        kind = _type_of(resource)
        if kind is None:
            place = fhir_path("Bundle", ("entry", index, "resource", "resourceType"))
            issues.append(Issue(place, "required", "is required in the resource of each entry"))
        elif kind in READ:
            made = _converted(resource, READ[kind], ("entry", index, "resource"))
            if isinstance(made, Rejection):
                issues += made.issues
            else:
                resources.append((index, made))
        else:
            others.append(f"{kind}/{resource.get('id')}")
    return Rejection(tuple(issues[:50])) if issues else DecodedBundle(bundle, resources, tree, frozenset(others))


def _type_of(resource: Any) -> str | None:
    kind = resource.get("resourceType") if isinstance(resource, dict) else None
    return kind if isinstance(kind, str) and kind else None


def _converted(value: Any, kind: type[T], at: Location) -> T | Rejection:
    """Return the value as this struct. msgspec's own messages may repeat the value, and name the first fault only."""
    try:
        return msgspec.convert(value, kind, dec_hook=_contained)
    except (msgspec.ValidationError, RecursionError):
        found = tuple(_faults(value, _shape(kind), at))[:50]  # type: ignore[arg-type]  # a class is hashable
        return Rejection(found or (issue_for(fhir_path("Bundle", at), "wrong_format"),))


def _contained(_: type[Any], value: Any) -> Resource:
    """Return a resource inside another one; one of a type that we do not read has its id only."""
    kind = _type_of(value)
    if kind is None:
        raise ValueError
    model = READ.get(kind)
    return msgspec.convert(value, model, dec_hook=_contained) if model else Resource(id=value.get("id"))


# ---- faults ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=500)
def _shape(kind: Hashable) -> inspect.Type:
    return inspect.type_info(kind)


def _faults(value: Any, kind: inspect.Type, at: Location) -> Iterator[Issue]:
    """Yield each fault of a value by place and kind, in the order of the struct's fields."""
    match kind:
        case inspect.UnionType():  # an element that may be absent, or null
            if value is not None:
                yield from _faults(value, next(one for one in kind.types if not isinstance(one, inspect.NoneType)), at)
        case inspect.StructType():
            yield from _faults_of_object(value, kind, at)
        case inspect.ListType():
            yield from _faults_of_list(value, kind, at)
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
            yield from _faults(value[one.encode_name], one.type, (*at, one.encode_name))
        elif one.required:
            yield issue_for(fhir_path("Bundle", (*at, one.encode_name)), "missing")


def _faults_of_list(value: Any, kind: inspect.ListType, at: Location) -> Iterator[Issue]:
    if not isinstance(value, list):
        yield issue_for(fhir_path("Bundle", at), "list_type")
    elif len(value) < (kind.min_length or 0):
        yield issue_for(fhir_path("Bundle", at), "too_short")
    elif kind.max_length is not None and len(value) > kind.max_length:
        yield issue_for(fhir_path("Bundle", at), "too_long")
    else:
        for index, one in enumerate(value):
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
            return None if value in kind.values else "literal_error"
        case inspect.BoolType():
            return None if type(value) is bool else "bool_type"
        case inspect.IntType():
            bad = type(value) is not int or (kind.gt is not None and value <= kind.gt)
            return "int_type" if bad else None
        case inspect.StrType():
            if type(value) is not str:
                return "string_type"
            if len(value) < (kind.min_length or 0):
                return "string_too_short"
            return None if kind.pattern is None or re.search(kind.pattern, value) else "string_pattern_mismatch"
    raise TypeError(kind)
