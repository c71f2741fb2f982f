"""Schemas of a BaRS message for the OpenAPI document: every element that is read, what is required of it, and the code lists.

The elements come from the structs that decode a message. `_REQUIRED` adds what R4 and the rules of reading require;
tests/intake/test_openapi_messages.py compares it with the translator, element by element.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from schemas.fhir import LOCAL
from services.intake.responses.conformance import CodeSystems
from services.intake.translators.bars_fhir import models
from services.intake.translators.bars_fhir.consent import CONSENT, POLICIES, SCOPES, TERMINOLOGY
from services.intake.translators.bars_fhir.for_us import EVENTS, REASONS
from services.intake.translators.bars_fhir.request import REASON, SERVICE
from services.intake.translators.bars_fhir.supporting_info import FLAGS

Schema = dict[str, Any]

SCOPE = f"{TERMINOLOGY}consentscope"
_FLAG_CATEGORIES = ("RS", "SG", "SS", "RA", "IR", "RC", "RT", "AC", "API", "CW")
"""Codes of flag-categories-bars (BaRS Core 1.5)."""


def schemas(code_systems: CodeSystems) -> dict[str, Schema]:
    """Return the schemas of a message and its parts, with the codes of our code systems."""
    kinds = [models.Bundle, *models.READ.values()]
    _, described = msgspec.json.schema_components(
        kinds, schema_hook=lambda _: _resource("Any resource"), ref_template="#/components/schemas/bars-{name}"
    )
    text = json.dumps({f"bars-{name}": _plain(schema) for name, schema in described.items()})
    parts: dict[str, Schema] = json.loads(text.replace("bars-Fhir", "bars-").replace(r"\\Z", "$"))
    for name, required in _REQUIRED.items():
        parts[f"bars-{name}"] = _with(parts[f"bars-{name}"], required)
    parts["bars-Coding"]["allOf"] = [_if(system, _code(name)) for name, system in _SYSTEMS.items()]
    parts["bars-Extension"]["allOf"] = [_verification_status()]
    parts["bars-Consent"]["allOf"] = [{"properties": {"policyRule": _policy()}}]
    message = parts.pop("bars-Bundle")
    parts["bars-Entry"]["properties"]["resource"] = _resource(
        f"Read: {', '.join(models.READ)}; others are passed over", _read_resources()
    )
    return {"bars-message": _with_entries(message), **parts, **_code_lists(code_systems)}


def _plain(schema: Any) -> Any:
    """Return the schema without null and defaults: an element of FHIR is absent instead."""
    match schema:
        case {"anyOf": [kind, {"type": "null"}]}:
            return _plain(kind)
        case dict():
            return {name: _plain(value) for name, value in schema.items() if name != "default"}
        case list():
            return [_plain(one) for one in schema]
        case _:
            return schema


def _resource(description: str, rules: Iterable[Schema] = ()) -> Schema:
    rules = list(rules)
    return {
        "type": "object",
        "description": description,
        "properties": {"resourceType": {"type": "string"}},
        "required": ["resourceType"],
        **({"allOf": rules} if rules else {}),
    }


def _read_resources() -> Iterable[Schema]:
    for kind, struct in models.READ.items():
        name = struct.__name__.removeprefix("Fhir")
        then = {"$ref": f"#/components/schemas/bars-{name}"}
        yield {"if": {"properties": {"resourceType": {"const": kind}}}, "then": then}


def _with_entries(message: Schema) -> Schema:
    """Return the schema of the Bundle, which begins with its MessageHeader and holds a ServiceRequest and its Patient."""
    entry = message["properties"]["entry"]
    referred_to = [{"contains": entry_of(kind) | _NAMED} for kind in ("ServiceRequest", "Patient")]
    entry["allOf"] = [{"prefixItems": [entry_of("MessageHeader")]}, *referred_to]
    return message


def entry_of(kind: str) -> Schema:
    """Return the schema of an entry whose resource is of this type."""
    resource = {"properties": {"resourceType": {"const": kind}}, "required": ["resourceType"]}
    return {"properties": {"resource": resource}, "required": ["resource"]}


_NAMED: Schema = {"anyOf": [{"required": ["fullUrl"]}, {"properties": {"resource": {"required": ["id"]}}}]}
"""An entry to which others refer has a fullUrl, or its resource has an id."""


def _with(schema: Schema, required: Mapping[str, Schema]) -> Schema:
    """Return the schema with more required elements, and what is required inside each."""
    properties = schema["properties"]
    more = {
        name: {"allOf": [properties[name], inside]} if name in properties else inside
        for name, inside in required.items()
    }
    return schema | {
        "properties": properties | more,
        "required": sorted({*schema.get("required", ()), *required}),
    }


# ---- what is required -----------------------------------------------------------------------------------------------


_ANY: Schema = {}
_TO_A_RESOURCE: Schema = {"required": ["reference"]}


def _listed(inside: Schema) -> Schema:
    """Return a list that has at least one item, and one such item."""
    return {"type": "array", "minItems": 1, "contains": inside}


def _coded(system: str, codes: Iterable[str] = ()) -> Schema:
    """Return a concept with one of these codes of `system`; without `codes`, bars-Coding lists them."""
    code = {"code": {"enum": list(codes)}} if codes else {}
    coding = {"properties": {"system": {"const": system}, **code}, "required": ["system", "code"]}
    return {"properties": {"coding": _listed(coding)}, "required": ["coding"]}


def _verification_status() -> Schema:
    """Return the rule that the extension for the verification status of an NHS number has a code in each coding."""
    coded = {"properties": {"coding": {"items": {"required": ["code"]}}}}
    return {
        "if": {"properties": {"url": {"pattern": "UKCore-NHSNumberVerificationStatus$"}}, "required": ["url"]},
        "then": {"properties": {"valueCodeableConcept": coded}},
    }


def _policy() -> Schema:
    """Return the rule that a policy with codings has one that is understood; one in words only says nothing."""
    has_codings = {"properties": {"coding": {"minItems": 1}}, "required": ["coding"]}
    return {"if": has_codings, "then": _coded(f"{TERMINOLOGY}v3-ActCode", POLICIES)}


_REQUIRED: dict[str, dict[str, Schema]] = {
    "Entry": {"resource": _ANY},
    "MessageHeader": {
        "eventCoding": {
            "properties": {"system": {"const": EVENTS}, "code": {"const": "servicerequest-request"}},
            "required": ["system", "code"],
        },
        "reason": _coded(REASONS),
        "focus": _listed(_TO_A_RESOURCE),
    },
    "ServiceRequest": {"subject": _TO_A_RESOURCE},
    "Encounter": {"class": {"required": ["system", "code"]}},
    "Patient": {"name": _listed({"required": ["family"]})},
    "Consent": {"scope": _coded(SCOPE, SCOPES)},
    "Flag": {"subject": _ANY},
    "Attachment": {"data": _ANY},
}
"""The required elements of each type, and what is required inside them, beyond what the structs require."""


# ---- code lists -----------------------------------------------------------------------------------------------------


_SYSTEMS = {
    "message-reason": REASONS,
    "service": SERVICE,
    "reason": REASON,
    "consent": CONSENT,
    "usecase": f"{LOCAL}/CodeSystem/usecase",
    "flag": FLAGS,
}
"""The code systems whose codes are listed, by the name of their list."""


def _code_lists(code_systems: CodeSystems) -> dict[str, Schema]:
    """Return the list of codes of each system, each of our codes with its display if it has one."""
    ours = {
        name: {"oneOf": [{"const": code} | ({"title": text} if text else {}) for code, text in codes.items()]}
        for name, codes in code_systems.items()
        if name in _SYSTEMS
    }
    return {
        **{f"code-{name}": listed | {"description": _USED_IN[name]} for name, listed in ours.items()},
        "code-message-reason": {"enum": ["new", "update", "delete"]},
        "code-flag": {
            "type": "string",
            "examples": list(_FLAG_CATEGORIES),
            "description": "A warning for staff who visit, in Flag.category; any code is passed on",
        },
    }


_USED_IN = {
    "service": "A need: in ServiceRequest.code, ServiceRequest.orderDetail, CarePlan or Task",
    "reason": "In ServiceRequest.reasonCode",
    "consent": "The question that a Consent answers, in its category",
    "usecase": "Our use case, in ServiceRequest.category",
}


def _code(name: str) -> Schema:
    return {"properties": {"code": {"$ref": f"#/components/schemas/code-{name}"}}}


def _if(system: str, then: Schema) -> Schema:
    return {"if": {"properties": {"system": {"const": system}}, "required": ["system"]}, "then": then}
