"""The published JSON Schema of a form (draft 2020-12): what its sender may rely on."""

from collections.abc import Iterator
from typing import Any

from services.intake.translators.form.definition import FieldOf, Form
from services.intake.translators.form.fields import SCHEMAS
from services.intake.translators.form.filled import CANCELS


def json_schema(form: Form) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a form: what its sender may rely on."""
    required = [name for name, field in form.fields.items() if field.required]
    whole = {
        "required": ["reference", "referred_by", "needs", *required],
        "allOf": list(_conditions(form)),
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
    for kind, referrer in form.referrers.items():
        if referrer.requires:
            yield {
                "if": {"properties": {"referred_by": {"const": kind}}},
                "then": {"required": list(referrer.requires)},
            }


def _properties(form: Form) -> dict[str, Any]:
    needs = {name: {"title": need.label, "type": ["boolean", "string", "null"]} for name, need in form.needs.items()}
    consents: dict[str, Any] = {
        question: {"title": words, "enum": ["yes", "no", "not-recorded"]} for question, words in form.consents.items()
    }
    consents |= {
        "on": {"title": "When they were asked", **SCHEMAS["date"]},
        "by": {"title": "Who asked", **SCHEMAS["line"]},
    }
    return {
        "form": {"title": "Which form this is", "const": form.form},
        "reference": {"title": "Your reference of this referral: its identity", "type": "string", "maxLength": 200},
        "completed_at": {
            "title": "When the form was completed, by your clock",
            "type": "string",
            "format": "date-time",
        },
        "cancelled": {"title": "True to take the referral back; then only the reference is needed", "type": "boolean"},
        "cancel_reason": {"title": "Why it is taken back", "enum": list(CANCELS)},
        "referred_by": {"title": "Who asked", "oneOf": [_const(k, r.label) for k, r in form.referrers.items()]},
        **{name: {"title": field.label, **_schema(field)} for name, field in form.fields.items()},
        "needs": {
            "title": "Ticked needs: true, or a note",
            "type": "object",
            "properties": needs,
            "additionalProperties": False,
        },
        "consents": {"title": "Consent", "type": "object", "properties": consents, "additionalProperties": False},
    }


def _const(value: str, label: str) -> dict[str, str]:
    return {"const": value, "title": label}


def _schema(field: FieldOf) -> dict[str, Any]:
    if field.type == "choice":
        return {"enum": list(field.choices)}
    if field.type == "flags":
        items = {"oneOf": [_const(name, words) for name, words in field.choices.items()]}
        return {"type": "array", "items": items}
    return SCHEMAS[field.type]
