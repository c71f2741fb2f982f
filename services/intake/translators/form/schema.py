"""The published JSON Schema of a form (draft 2020-12)."""

from collections.abc import Iterator, Sequence
from typing import Any

from services.intake.translators.form.definition import FieldOf, Form
from services.intake.translators.form.fields import SCHEMAS, largest
from services.intake.translators.form.required_fields import ANSWERS, NOTES
from services.intake.translators.form.submission import CANCELS


def json_schema(form: Form) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a form, as published to its senders."""
    required = [name for name, field in form.fields.items() if field.required]
    required_consents = [question for question, one in form.consents.items() if one.required]
    whole = {
        **_required(["reference", "referred_by", "needs", *required]),
        "allOf": [*([_answered(required_consents)] if required_consents else []), *_conditions(form)],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"https://lightbulb.example.org/forms/{form.form}/schema",
        "title": form.title,
        "type": "object",
        "properties": _properties(form),
        "additionalProperties": False,
        "required": ["reference"],
        "if": {"properties": {"cancelled": {"const": True}}, "required": ["cancelled"]},
        "else": whole,
    }


def _conditions(form: Form) -> Iterator[dict[str, Any]]:
    """Yield the rules of required_fields.py."""
    for kind, referrer in form.referrers.items():
        then = _then(referrer.requires, referrer.says_yes)
        if then:
            yield {"if": {"properties": {"referred_by": {"const": kind}}}, "then": then}
    for name, field in form.fields.items():
        then = _then(field.with_, (field.agreed,) if field.agreed else ())
        if then:
            yield {"if": _required([name]), "then": then}
    yield from ({"anyOf": [_required([name]) for name in names]} for names in form.one_of)
    for question, consent in form.consents.items():
        if consent.noted:
            yield {"if": _answered([question], ["yes"]), "then": _answered(consent.noted)}


def _then(fields: Sequence[str], agreed: Sequence[str]) -> dict[str, Any]:
    """Require these fields and an answer to these consents. A no is valid: it cancels the referral."""
    then = _required(fields) if fields else {}
    return then | ({"allOf": [_answered(agreed, ["yes", "no"])]} if agreed else {})


def _answered(questions: Sequence[str], answers: list[str] | None = None) -> dict[str, Any]:
    limits = {"properties": {question: {"enum": answers} for question in questions}} if answers else {}
    consents = {"type": "object", **_required(questions), **limits}
    return {"required": ["consents"], "properties": {"consents": consents}}


def _required(names: Sequence[str]) -> dict[str, Any]:
    """Require these properties. Strict validators need each one defined next to `required`."""
    return {"required": list(names), "properties": dict.fromkeys(names, True)}


def _properties(form: Form) -> dict[str, Any]:
    ticked = [{"type": kind} for kind in ("boolean", "string", "null")]
    needs = {name: {"title": need.label, "anyOf": ticked} for name, need in form.needs.items()}
    consents: dict[str, Any] = {
        question: {"title": one.label, "enum": list(ANSWERS)} for question, one in form.consents.items()
    }
    consents |= {"on": {"title": NOTES["on"], **SCHEMAS["date"]}, "by": {"title": NOTES["by"], **SCHEMAS["line"]}}
    return {
        "form": {"title": "Which form this is", "const": form.form},
        "reference": {"title": "Your reference of this referral, which identifies it", **SCHEMAS["line"]},
        "completed_at": {
            "title": "When the form was completed, by your clock",
            "type": "string",
            "format": "date-time",
        },
        "cancelled": {"title": "True to cancel the referral; then only the reference is required", "type": "boolean"},
        "cancel_reason": {"title": "Why it is cancelled", "enum": list(CANCELS)},
        "referred_by": {"title": "Kind of referrer", "oneOf": [_const(k, r.label) for k, r in form.referrers.items()]},
        **{name: {"title": field.label, **_schema(field)} for name, field in form.fields.items()},
        "needs": {
            "title": "Ticked needs: true, or a note",
            "type": "object",
            "properties": needs,
            "additionalProperties": False,
            "not": {"additionalProperties": {"enum": [False, None, ""]}},
        },
        "consents": {"title": "Consent", "type": "object", "properties": consents, "additionalProperties": False},
    }


def _const(value: str, label: str) -> dict[str, str]:
    return {"const": value, "title": label}


def _schema(field: FieldOf) -> dict[str, Any]:
    if field.type == "choice":
        return {"enum": list(field.choices)}
    if field.type == "flags":
        items = {"oneOf": [_const(name, label) for name, label in field.choices.items()]}
        return {"type": "array", "items": items}
    return SCHEMAS[field.type] | ({"maximum": largest(field)} if field.type == "number" else {})
