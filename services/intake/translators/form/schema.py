"""The published JSON Schema of a form (draft 2020-12). It describes a form whose texts are cleaned: see `cleaning`."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from services.intake.translators.form import answers, attachments
from services.intake.translators.form.definition import FieldOf, Form
from services.intake.translators.form.fields import SCHEMAS, largest
from services.intake.translators.form.required_fields import NOTES
from services.intake.translators.form.submission import CANCELS, WITHDRAWN

Schema = dict[str, Any]

DEFINITIONS: Schema = {"not-given": answers.NOT_ANSWERED, "not-given-text": answers.NO_LETTERS}
"""The definitions to which the schema of a form refers."""


def json_schema(form: Form) -> Schema:
    """Return the JSON Schema (draft 2020-12) of a form, as published to its senders."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"https://lightbulb.example.org/forms/{form.form}/schema",
        "title": form.title,
        "$defs": DEFINITIONS,
        "type": "object",
        "properties": _properties(form),
        "additionalProperties": False,
        "allOf": [_required({"reference": "line"})],
        "if": {"anyOf": [_cancelled(_CANCELLED), _consents({"referral": _consent_is("no")}), _WITHDRAWN]},
        "else": {"allOf": list(_conditions(form))},
    }


def _conditions(form: Form) -> Iterator[Schema]:
    """Yield the rules of required_fields.py, for a form that cancels nothing."""
    required = {name: field.type for name, field in form.fields.items() if field.required}
    yield _required({"referred_by": "choice", **required})
    yield {"required": ["needs"], "properties": {"needs": {"not": {"anyOf": [_NOT_ANSWERED, _NOTHING_TICKED]}}}}
    not_cancelled = {
        "allOf": [_cancelled(_NOT_CANCELLED), {"properties": {"cancel_reason": {"not": {"const": WITHDRAWN}}}}]
    }
    yield {"if": _required({"cancel_reason": "choice"}), "then": not_cancelled}
    if questions := [question for question, one in form.consents.items() if one.required]:
        yield _consents({question: {"not": _NOT_ANSWERED} for question in questions})
    for kind, referrer in form.referrers.items():
        yield from _if({"properties": {"referred_by": {"const": kind}}}, form, referrer.requires, referrer.says_yes)
    for name, field in form.fields.items():
        yield from _if(_required({name: field.type}), form, field.with_, (field.agreed,) if field.agreed else ())
    yield from ({"anyOf": [_required({name: form.fields[name].type}) for name in names]} for names in form.one_of)
    for name, field in form.fields.items():
        for denied in (one for one, other in form.fields.items() if other.to == "person.death_reported"):
            if field.to.startswith("person.death_reported."):
                yield {"if": _required({name: field.type}), "then": {"properties": {denied: {"not": _NO}}}}
    for question, consent in form.consents.items():
        if consent.noted:
            noted: Schema = {note: {"not": _absent(NOTES[note].type)} for note in consent.noted}
            yield {"if": _consents({question: _consent_is("yes")}), "then": _consents(noted)}


def _if(condition: Schema, form: Form, fields: Sequence[str], agreed: Iterable[str]) -> Iterator[Schema]:
    """Require these fields and an answer to these consents. A no is valid: it cancels the referral."""
    then = [_required({name: form.fields[name].type for name in fields})] if fields else []
    then += [_consents({question: _consent_is("yes", "no")}) for question in agreed]
    if then:
        yield {"if": condition, "then": {"allOf": then}}


def _required(types: dict[str, str]) -> Schema:
    """Require these fields, by type. Strict validators need each one defined next to `required`."""
    return {
        "required": list(types),
        "properties": {name: {"not": _absent(kind)} for name, kind in types.items()},
    }


def _consents(limits: dict[str, Schema]) -> Schema:
    consents = {"type": "object", "required": list(limits), "properties": limits}
    return {"required": ["consents"], "properties": {"consents": consents}}


def _cancelled(answer: Schema) -> Schema:
    return {"required": ["cancelled"], "properties": {"cancelled": answer}}


def _absent(kind: str) -> Schema:
    return _NO_LETTERS if kind in answers.TEXT_TYPES else _NOT_ANSWERED


def _consent_is(*said: answers.ConsentAnswer) -> Schema:
    return {"type": "string", "pattern": answers.means_consent(*said)}


def _optional(schema: Schema, kind: str = "") -> Schema:
    return {"anyOf": [schema, _absent(kind)]}


_NOT_ANSWERED: Schema = {"$ref": "#/$defs/not-given"}
_NO_LETTERS: Schema = {"$ref": "#/$defs/not-given-text"}
_UNTICKED: Schema = {
    "anyOf": [{"enum": [False, 0]}, {"type": "string", "pattern": answers.NOT_TICKED}, _NOT_ANSWERED],
}
_NOTHING_TICKED: Schema = {"type": "object", "additionalProperties": _UNTICKED}
_CANCELLED: Schema = {"anyOf": [{"enum": [True, 1]}, {"type": "string", "pattern": answers.MEANS_YES}]}
_NO: Schema = {"anyOf": [{"enum": [False, 0]}, {"type": "string", "pattern": answers.MEANS_NO}]}
_NOT_CANCELLED: Schema = {
    "anyOf": [
        {"enum": [False, 0]},
        *({"type": "string", "pattern": one} for one in (answers.MEANS_NO, answers.MEANS_NOTHING)),
    ]
}
_WITHDRAWN: Schema = {
    "required": ["cancel_reason"],
    "properties": {"cancel_reason": {"const": WITHDRAWN}, "cancelled": {"not": _NOT_CANCELLED}},
}


def _properties(form: Form) -> Schema:
    return {
        "form": {"title": "Which form this is", **_optional({"const": form.form})},
        "reference": {
            "title": "Your reference of this referral, which identifies it",
            **SCHEMAS["line"],
            "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$",
        },
        "completed_at": {"title": "When the form was completed, by your clock", **_optional(SCHEMAS["moment"])},
        "cancelled": {
            "title": "Yes to cancel the referral; then only the reference is required",
            **_optional(SCHEMAS["yes-no"]),
        },
        "cancel_reason": {"title": "Why it is cancelled", **_optional({"enum": list(CANCELS)})},
        "referred_by": {
            "title": "Kind of referrer",
            **_optional({"oneOf": [_const(kind, referrer.label) for kind, referrer in form.referrers.items()]}),
        },
        **{
            name: {"title": field.label, **_optional(_schema(field), field.type)} for name, field in form.fields.items()
        },
        "needs": {"title": "Ticked needs: yes, or a note", **_optional(_needs(form))},
        "consents": {"title": "Consent", **_optional(_questions(form))},
    }


def _needs(form: Form) -> Schema:
    note = {"type": "string", "not": {"type": "string", "pattern": answers.NOT_A_NOTE}}
    ticked = {"anyOf": [_CANCELLED, note, _UNTICKED]}
    needs = {name: {"title": need.label, **ticked} for name, need in form.needs.items()}
    return {"type": "object", "properties": needs, "additionalProperties": False}


def _questions(form: Form) -> Schema:
    answer = {"anyOf": [{"enum": list(answers.CONSENTS)}, _consent_is(*answers.CONSENTS), _NOT_ANSWERED]}
    questions = {question: {"title": one.label, **answer} for question, one in form.consents.items()}
    notes = {name: {"title": field.label, **_optional(_schema(field), field.type)} for name, field in NOTES.items()}
    return {"type": "object", "properties": {**questions, **notes}, "additionalProperties": False}


def _const(value: str, label: str) -> dict[str, str]:
    return {"const": value, "title": label}


def _schema(field: FieldOf) -> Schema:
    if field.type == "choice":
        return {"enum": list(field.choices)}
    if field.type == "attachments":
        return attachments.SCHEMA
    if field.type == "flags":
        items = [_const(name, label) for name, label in field.choices.items()]
        return {"type": "array", "items": {"anyOf": [*items, _NOT_ANSWERED]}}
    return SCHEMAS[field.type] | ({"maximum": largest(field)} if field.type == "number" else {})
