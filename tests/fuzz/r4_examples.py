"""Values of every element of FHIR R4B, made from the models of fhir.resources: what they are typed as, and an example of each."""

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from fhir.resources.R4B import get_fhir_model_class
from fhir_core.types import FhirBase

PRIMITIVES: dict[str, Any] = {
    "Base64Binary": "QUJD",
    "Boolean": True,
    "Canonical": "https://example.org/canonical",
    "Code": "some-code",
    "Date": "2026-01-02",
    "DateTime": "2026-01-02T09:30:00Z",
    "Decimal": 1.5,
    "Id": "some-id",
    "Instant": "2026-01-02T09:30:00Z",
    "Integer": 1,
    "Integer64": 1,
    "Markdown": "some words",
    "Oid": "urn:oid:1.2.3.4",
    "PositiveInt": 1,
    "String": "some words",
    "Time": "09:30:00",
    "UnsignedInt": 1,
    "Uri": "https://example.org/uri",
    "Url": "https://example.org/url",
    "UuidVersion": "urn:uuid:7f2d4b60-6d1b-4b44-9a44-3c1d3f0a7e11",
    "Xhtml": '<div xmlns="http://www.w3.org/1999/xhtml">some words</div>',
}


@dataclass(frozen=True)
class Element:
    """One element of a type: its name in JSON, its type (the model of a structure, or the name of a primitive), and its rules."""

    name: str
    type: Any
    repeats: bool
    required: bool
    choice: str | None
    codes: tuple[str, ...]


@cache
def elements(model: Any) -> dict[str, Element]:
    """Return the elements of a model by name, without the twins of primitives (`_birthDate`) and comments."""
    return {element.name: element for element in _elements(model)}


def _elements(model: Any) -> Iterator[Element]:
    for name, field in model.model_fields.items():
        if name.endswith("__ext") or name in ("fhir_comments", "resource_type"):
            continue
        extra = field.json_schema_extra or {}
        kind, repeats = _type(field.annotation)
        yield Element(
            field.alias or name,
            kind,
            repeats,
            field.is_required() or bool(extra.get("element_required")),
            extra.get("one_of_many"),
            tuple(extra.get("enum_values", ())),
        )


def _type(annotation: Any) -> tuple[Any, bool]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        annotation = next(one for one in typing.get_args(annotation) if one is not type(None))
    if typing.get_origin(annotation) is list:
        return _type(typing.get_args(annotation)[0])[0], True
    if typing.get_origin(annotation) is typing.Annotated:
        return type(typing.get_args(annotation)[-1]).__name__, False
    if isinstance(annotation, type) and issubclass(annotation, FhirBase):
        return annotation.get_model_klass(), False
    return {bool: "Boolean", str: "String"}[annotation], False


def model_of(resource_type: str) -> Any:
    """Return the model of a resource type."""
    return get_fhir_model_class(resource_type)


def example(element: Element, depth: int = 0) -> Any:
    """Return a value of an element: as small as its type allows, and one that negates if the element can."""
    value = _value(element, depth)
    return [value] if element.repeats else value


def _value(element: Element, depth: int) -> Any:
    if element.codes and element.type == "Code":
        return next(
            (code for code in ("old", "entered-in-error", "inactive") if code in element.codes), element.codes[0]
        )
    if element.name == "active":
        return False
    if isinstance(element.type, str):
        return PRIMITIVES[element.type]
    if element.type.__name__ == "Resource":
        return {"resourceType": "Basic", "code": {"text": "some words"}}
    return smallest(element.type, depth)


def smallest(model: Any, depth: int = 0) -> dict[str, Any]:
    """Return a structure with the elements that R4 requires; with one if it requires none."""
    found = elements(model)
    needed = [one for one in found.values() if one.required]
    required_choices = {
        one.choice for name, one in found.items() if one.choice and _field(model, name).get("one_of_many_required")
    }
    needed += [next(one for one in found.values() if one.choice == choice) for choice in required_choices]
    if not needed:
        needed = [
            next((found[name] for name in ("text", "value", "display", "url") if name in found), None) or _first(found)
        ]
    return {one.name: example(one, depth + 1) for one in needed}


def _first(found: dict[str, Element]) -> Element:
    """Return the first primitive element, or the first of all if there is none."""
    plain = [one for one in found.values() if isinstance(one.type, str) and one.name != "id"]
    return (plain or [one for one in found.values() if one.name not in ("id", "extension", "modifierExtension")])[0]


def _field(model: Any, name: str) -> dict[str, Any]:
    return next(f.json_schema_extra or {} for n, f in model.model_fields.items() if (f.alias or n) == name)
