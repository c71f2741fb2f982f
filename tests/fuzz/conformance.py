"""`python -m tests.fuzz.conformance --count 50000`: mutants of FHIR resources that only the compiled structs accept.

The compiled structs may be stricter than fhir.resources, never laxer: what they refuse, fhir.resources decides. Mutants are
made from a seed, of the resources in every golden pair, example and public sample, and of an example of every element of
every type that the models themselves make.
"""

import argparse
import copy
import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import chain, product
from types import UnionType
from typing import Any, Union, get_args, get_origin

import msgspec
import orjson
from fhir.resources.R4B import fhirtypes, get_fhir_model_class
from fhir_core.types import FhirBase

from services.intake.translators.bars_fhir import compiled
from tests.fuzz.targets import CHECKOUT, GOLDEN, PAYLOADS

Judge = Callable[[dict[str, Any]], bool]


def accepted_by_structs(resource: dict[str, Any]) -> bool:
    """Whether the compiled structs accept a resource, in either encoding of its letters."""
    if not compiled.is_plain(json.dumps(resource, ensure_ascii=len(resource) % 2 == 0).encode()):
        return False
    try:
        if resource["resourceType"] == "Bundle":
            compiled.whole(resource)
        else:
            msgspec.convert(resource, compiled.resource(resource["resourceType"]), dec_hook=compiled.inside)
    except (msgspec.ValidationError, LookupError, TypeError):
        return False
    return True


def accepted_by_fhir_resources(resource: dict[str, Any]) -> bool:
    """Whether fhir.resources accepts a resource."""
    try:
        get_fhir_model_class(resource["resourceType"]).model_validate(copy.deepcopy(resource))
    except (ValueError, KeyError, TypeError, AttributeError, LookupError, RecursionError):
        return False
    return True


def accepted_by_structs_only(
    resources: Iterator[dict[str, Any]], verdicts: Counter[tuple[bool, bool]] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the resources that fhir.resources refuses and the structs accept. `verdicts` counts all, structs first."""
    for resource in map(_parsed, resources):
        verdict = accepted_by_structs(resource), accepted_by_fhir_resources(resource)
        if verdicts is not None:
            verdicts[verdict] += 1
        if verdict == (True, False):
            yield resource


def _parsed(resource: dict[str, Any]) -> dict[str, Any]:
    return orjson.loads(json.dumps(resource))  # type: ignore[no-any-return]


# ---- originals ------------------------------------------------------------------------------------------------------


def documents() -> dict[str, dict[str, Any]]:
    """Every Bundle of golden pairs, examples, the benchmark and public samples, by its path."""
    paths = [
        *sorted((GOLDEN / "bars_fhir").glob("*.in")),
        *sorted(CHECKOUT.glob("examples/*.json")),
        CHECKOUT / "bench" / "referral.json",
        *sorted(PAYLOADS.glob("bars*/*.json")),
    ]
    found = {}
    for path in paths:
        try:
            document = orjson.loads(path.read_bytes())
        except orjson.JSONDecodeError:
            continue
        if isinstance(document, dict) and document.get("resourceType") == "Bundle":
            found[str(path)] = document
    return found


@cache
def originals() -> Sequence[dict[str, Any]]:
    """The messages, each of their resources, and the examples that the models make."""
    messages = list(documents().values())
    inside = [entry["resource"] for message in messages for entry in message.get("entry", ()) if "resource" in entry]
    return [*messages, *inside * 5, *examples()]


@cache
def resource_types() -> tuple[str, ...]:
    """The 141 resource types of R4B."""
    names = [name.removesuffix("Type") for name in dir(fhirtypes) if name.endswith("Type")]
    kinds = []
    for name in names:
        try:
            model = get_fhir_model_class(name)
        except (ValueError, ImportError, AttributeError, KeyError):
            continue
        if model.has_resource_base() and name not in ("Resource", "DomainResource", "ElementDefinition"):
            kinds.append(name)
    return tuple(kinds)


def examples() -> Iterator[dict[str, Any]]:
    """Yield, of each element of each model of fhir.resources, a smallest valid resource that has it."""
    seen: set[Any] = set()
    for kind in resource_types():
        for element in _elements(get_fhir_model_class(kind), seen):
            yield {"resourceType": kind, **element}


def _elements(model: Any, seen: set[Any]) -> Iterator[dict[str, Any]]:
    """Smallest objects of a model, one with each element; another model is entered where it is met first."""
    seen.add(model)
    base = smallest(model)
    yield base
    for attribute, field in model.model_fields.items():
        name = field.alias or attribute
        kind, listed = _item(field.annotation)
        below = kind.get_model_klass() if isinstance(kind, type) and issubclass(kind, FhirBase) else None
        values = (
            [sample(field)]
            if below in seen or below is None or below.__name__ == "Resource"
            else _elements(below, seen)
        )
        for value in values:
            changed = {other: kept for other, kept in base.items() if not _same_choice(model, name, other)}
            yield changed | {name: [value] if listed else value}


@cache
def smallest(model: Any) -> dict[str, Any]:
    """Return the smallest valid object of a model, without its resourceType."""
    required = {element for element, _ in model.model_construct().get_required_fields()}
    found: dict[str, Any] = {}
    for attribute, field in model.model_fields.items():
        name, extra = field.alias or attribute, field.json_schema_extra or {}
        first_of_choice = extra.get("one_of_many_required") and not any(_same_choice(model, name, one) for one in found)
        if field.is_required() or name in required or first_of_choice:
            _, listed = _item(field.annotation)
            found[name] = [sample(field)] if listed else sample(field)
    return found or ({"extension": [{"url": "urn:x", "valueCode": "a"}]} if model.__name__[0:4] == "FHIR" else {})


def _same_choice(model: Any, name: str, other: str) -> bool:
    return name != other and any({name, other} <= choice for choice in _choices(model))


@cache
def _choices(model: Any) -> list[set[str]]:
    return [set(choice) for choice in model.model_construct().get_one_of_many_fields().values()]


def _item(annotation: Any) -> tuple[Any, bool]:
    """The type of one value of an element, and whether the element is a list."""
    if get_origin(annotation) is list:
        return _item(get_args(annotation)[0])[0], True
    if get_origin(annotation) in (Union, UnionType):
        return _item(next(one for one in get_args(annotation) if one is not type(None)))
    return annotation, False


_SAMPLES: dict[str, Any] = {
    "string": "a text",
    "markdown": "a *text*",
    "xhtml": '<div xmlns="http://www.w3.org/1999/xhtml">a</div>',
    "code": "a",
    "id": "a-1",
    "uri": "urn:x",
    "canonical": "http://example.org/a|1",
    "url": "http://example.org/a",
    "oid": "urn:oid:1.2.3",
    "uuid": "urn:uuid:c757873d-ec9a-4326-a141-556f43239520",
    "base64Binary": "YW55",
    "date": "2026-11-05",
    "dateTime": "2026-11-05T09:30:00Z",
    "instant": "2026-11-05T09:30:00.123Z",
    "time": "09:30:00",
    "boolean": True,
    "integer": -1,
    "unsignedInt": 0,
    "positiveInt": 1,
    "decimal": 1.5,
}


def sample(field: Any) -> Any:
    """Return a value of an element of fhir.resources; of a code, one that FHIR defines."""
    kind, _ = _item(field.annotation)
    if isinstance(kind, type) and issubclass(kind, FhirBase):
        model = kind.get_model_klass()
        return {"resourceType": "Basic", "code": {}} if model.__name__ == "Resource" else smallest(model)
    codes = (field.json_schema_extra or {}).get("enum_values")
    return codes[0] if codes else "a text" if kind is str else _SAMPLES[compiled.primitive(kind)]


# ---- mutants --------------------------------------------------------------------------------------------------------

_ODD: Sequence[Any] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        2**31,
        1.0,
        1.5,
        1e300,
        -(2**70),
        "",
        " ",
        "\u00a0",
        "\n",
        "a\nb",
        "\t",
        "\x0b",
        "\u2003",
    ),
    *(
        "2026-02-30",
        "2026-13-01",
        "2026",
        "2026-05",
        "2026-11-05",
        "2026-11-05T09:30:00Z",
        "2026-11-05T09:30:00",
        "0000",
    ),
    *(
        "2026-11-05T09:30:60Z",
        "2026-11-05T24:00:00Z",
        "0000-01-01",
        "2026-11-05T09:30:00.123456789+00:00",
        "2024-02-29",
    ),
    *(
        "2023-02-29",
        "1900-02-29",
        "2000-02-29",
        "1000-02-29",
        "2026-11-05T09:30:00+14:30",
        "2026-11-05\n",
        "09:30",
        "24:00:00",
    ),
    *(
        "23:59:60",
        "09:30:00.5",
        "a  b",
        " a",
        "a ",
        "a\n",
        "id\n",
        "x" * 70,
        "x" * 300,
        "é",
        "a\u00a0b",
        "a\u2003",
        "Patient",
    ),
    *(
        "urn:uuid:X",
        "urn:uuid:c757873d-ec9a-1326-a141-556f43239520",
        "urn:oid:3.1",
        "http://x y",
        "http://xn--a/",
        "http://1.2.3",
    ),
    *(
        "http://a..b/",
        "http://a:99999/",
        "https://[::1]/",
        "HTTP://a",
        "mailto:a@b",
        "Patient/1",
        "/Patient/1",
        "a/b?c",
        "http:",
    ),
    *(
        "YW55\n",
        "YW5",
        "YW5=",
        "====",
        "YW55YQ==",
        "é==",
        [],
        {},
        [None],
        [{}],
        [""],
        [[]],
        [None, None],
        [1],
        {"id": "a"},
    ),
    *(
        {"extension": []},
        {"extension": [{"url": "u"}]},
        {"extension": [{"url": "u", "valueCode": "a", "valueString": "b"}]},
    ),
    *(
        {"fhir_comments": "a"},
        {"fhir_comments": []},
        {"resourceType": "Patient"},
        {"resourceType": "Nope"},
        {"resourceType": 5},
    ),
    *(
        {"reference": "x"},
        {"value": 1},
        {"coding": [{"code": "a"}]},
        {"resourceType": "Patient", "text": "a"},
        "1",
        "1.5",
        "true",
    ),
)
_CHOICES = (
    "value",
    "deceased",
    "onset",
    "effective",
    "medication",
    "multipleBirth",
    "occurrence",
    "asNeeded",
    "event",
    "source",
)
_TYPES = (
    "String",
    "Boolean",
    "DateTime",
    "Code",
    "Integer",
    "Period",
    "Quantity",
    "Reference",
    "CodeableConcept",
    "Coding",
    "Uri",
)


def odd_primitives() -> Iterator[dict[str, Any]]:
    """Yield a resource for each primitive type and each odd value, as the value of an extension."""
    for kind, value in product(_SAMPLES, _ODD):
        yield {
            "resourceType": "Basic",
            "code": {},
            "extension": [{"url": "a", f"value{kind[0].upper()}{kind[1:]}": value}],
        }
        yield {
            "resourceType": "Basic",
            "code": {},
            "id": value,
            "implicitRules": value,
            "language": value,
            "created": value,
        }


def mutants(seed: int, count: int) -> Iterator[dict[str, Any]]:
    """Yield `count` resources with one to three changes each."""
    draw = random.Random(seed)
    whole = originals()
    pool = [
        (parent, step) for original in draw.sample(whole, min(len(whole), 400)) for parent, step in _places(original)
    ]
    named: dict[Any, list[Any]] = {}
    for parent, step in pool:
        named.setdefault(step, []).append(parent[step])
    for _ in range(count):
        mutant = copy.deepcopy(draw.choice(whole))
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            parent, step = draw.choice([*_places(mutant)] or [({"a": 1}, "a")])
            other, at = draw.choice(pool)
            _change(draw, parent, step, named, [draw.choice(named.get(step, _ODD)), other[at], draw.choice(_ODD)])
        yield mutant


def _change(draw: random.Random, parent: Any, step: Any, named: dict[Any, list[Any]], values: list[Any]) -> None:
    """Remove, replace or add an element."""
    value, kind = copy.deepcopy(draw.choice(values)), draw.random()
    if kind < 0.2:
        parent.pop(step)
    elif kind < 0.7 or not isinstance(parent, dict):
        parent[step] = value
    else:
        name = draw.choice([*named]) if draw.random() < 0.6 else draw.choice(_CHOICES) + draw.choice(_TYPES)
        fitting = copy.deepcopy(draw.choice(named[name])) if name in named and draw.random() < 0.6 else value
        parent[f"_{name}" if draw.random() < 0.2 else str(name)] = fitting


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for step, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, step
        if isinstance(inner, dict | list):
            yield from _places(inner)


def main(argv: Sequence[str] | None = None) -> int:
    """0: no mutant was accepted by the structs alone; 1: some were."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    asked = parser.parse_args(argv)
    verdicts: Counter[tuple[bool, bool]] = Counter()
    found = [*accepted_by_structs_only(chain(odd_primitives(), mutants(asked.seed, asked.count)), verdicts)]
    said = {(True, True): "both accept", (False, False): "both refuse", (False, True): "left to fhir.resources"}
    print(f"seed {asked.seed}:", *(f"{count:,} {said.get(one, 'ONLY STRUCTS')}," for one, count in verdicts.items()))
    for mutant in found[:20]:
        print(orjson.dumps(mutant).decode())
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
