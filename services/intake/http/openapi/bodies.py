"""Schemas of request and response bodies for the OpenAPI document."""

from collections.abc import Iterable, Mapping
from typing import Any, get_args

import orjson

from services.intake import limits
from services.intake.accept import Intake
from services.intake.deduplication import Verdict
from services.intake.http.openapi import bars_bodies
from services.intake.responses import bars
from services.intake.responses.csv_report import NOTE_HEADER, OUTCOMES
from services.intake.translators import form
from services.intake.translators.council_csv import CouncilMapping
from services.intake.translators.translator import IssueKind

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_REFERENCE: Schema = {
    "type": "string",
    "pattern": "^LB(-[0-9A-Z]{4}){3}$",
    "description": "Our reference of the referral, which a person may read out on the telephone",
}
_KIND: Schema = {"enum": list(get_args(IssueKind)), "description": "Named as FHIR issue types"}

HEADERS: dict[str, Schema] = {
    "X-Request-Id": {"description": "As it was sent, if it is a GUID", "schema": _TEXT},
    "X-Correlation-Id": {"description": "As it was sent, if it is a GUID", "schema": _TEXT},
    "Retry-After": {"description": "Seconds until the request may be retried", "schema": {"type": "integer"}},
    "WWW-Authenticate": {"description": "Authentication scheme", "schema": {"const": "Bearer"}},
    NOTE_HEADER: {"description": "With a CSV report: what is remarkable of the file as a whole", "schema": _TEXT},
    "ETag": {"description": "Changes when the document does", "schema": _TEXT},
}


def ref(name: str) -> Schema:
    """Return a reference to the schema of this name."""
    return {"$ref": f"#/components/schemas/{name}"}


def schemas(intake: Intake) -> dict[str, Schema]:
    """Return every schema that the document refers to."""
    return {
        **bars_bodies.schemas(intake.code_systems),
        **_forms(intake.forms),
        **_files(intake.councils),
        "hl7v2-message": {
            "type": "string",
            "description": "One HL7 v2 message, REF^I12 to I14, with CR after each segment; an MLLP frame around it is allowed",
        },
        "hl7v2-acknowledgement": {"type": "string", "pattern": "^MSH"},
        "bars-response": _bars_response(),
        "operation-outcome": _operation_outcome(),
        "capability-statement": _object({"resourceType": {"const": "CapabilityStatement"}}, more=True),
        "accepted": _accepted(),
        "problem": _problem(),
        "report": _report(),
        "report-csv": {
            "type": "string",
            "description": "The file with more columns: our reference, the outcome of the row (of a dry run under another name), warnings",
        },
        "health": _object(
            {"status": {"enum": ["live", "ready", "not ready"]}},
            {"version": _TEXT, "unavailable": {"type": "array", "items": _TEXT}},
        ),
        "code-list": _object({"version": _TEXT, "items": {"type": "array", "items": _list_item()}}),
        "json-schema": {"type": "object", "description": "JSON Schema, draft 2020-12"},
        "document": {"type": "object", "description": "This document"},
        "metrics": {"type": "string", "description": "Prometheus text"},
    }


def _list_item() -> Schema:
    contact = _object({"phone": _TEXT, "email": _TEXT})
    optional = {
        "kind": _TEXT,
        "contact": contact,
        "ons_code": _TEXT,
        "delivered": _TEXT,
        "instead": _TEXT,
        "version": _TEXT,
    }
    return _object({"code": _TEXT, "name": _TEXT}, optional, more=True)


def _object(required: Schema, optional: Schema | None = None, *, more: bool = False) -> Schema:
    closed = {} if more else {"additionalProperties": False}
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required), **closed}


# ---- requests -------------------------------------------------------------------------------------------------------


def _forms(forms: Mapping[str, form.Form]) -> dict[str, Schema]:
    with_files = {f"form-{name}-with-files": _with_files(one) for name, one in forms.items() if one.attachment_fields}
    return {**{f"form-{name}": _form_schema(one) for name, one in forms.items()}, **with_files, **form.DEFINITIONS}


def _form_schema(form_definition: form.Form) -> Schema:
    """Return the schema that is served at the form's address, without $schema and $id, and with our place for its definitions."""
    schema = {name: value for name, value in form.json_schema(form_definition).items() if not name.startswith("$")}
    moved: Schema = orjson.loads(orjson.dumps(schema).replace(b'"#/$defs/', b'"#/components/schemas/'))
    return moved


def _with_files(form_definition: form.Form) -> Schema:
    """Return the schema of a form as multipart/form-data: its JSON, and files by the name of their field."""
    files = {"type": "array", "items": {"type": "string", "format": "binary"}, "maxItems": limits.FORM_DOCUMENTS}
    named = {name: {"title": form_definition.fields[name].label, **files} for name in form_definition.attachment_fields}
    return _object({form.FORM_PART: ref(f"form-{form_definition.form}")}, named)


def _files(councils: Mapping[str, CouncilMapping]) -> dict[str, Schema]:
    only_part = "The file as the only part, of any name, with a media type of this operation or text/plain"
    return {
        **{f"file-{name}": _file(mapping) for name, mapping in councils.items()},
        "workbook": {"description": "An .xlsx workbook with the same columns, or CSV"},
        "file-form": {"type": "object", "description": only_part, "minProperties": 1, "maxProperties": 1},
    }


def _file(mapping: CouncilMapping) -> Schema:
    columns = ", ".join(mapping.headers.values())
    rows = f"at most {limits.FILE_ROWS:,} rows and {limits.FILE_BYTES:,} bytes"
    return {"type": "string", "description": f"{mapping.title}: {rows}. Columns, in any order: {columns}"}


# ---- responses ------------------------------------------------------------------------------------------------------


def _bars_response() -> Schema:
    resource = _object({"resourceType": _TEXT}, {"id": _TEXT}, more=True)
    first = (bars_bodies.entry_of(kind) for kind in ("MessageHeader", "ServiceRequest", "Organization", "Organization"))
    entry = _object({"fullUrl": {"type": "string", "pattern": "^urn:uuid:"}, "resource": resource})
    return _object(
        {
            "resourceType": {"const": "Bundle"},
            "id": _TEXT,
            "meta": {"type": "object"},
            "type": {"const": "message"},
            "timestamp": {"type": "string", "format": "date-time"},
            "entry": {
                "type": "array",
                "items": entry,
                "allOf": [{"prefixItems": list(first)}, {"contains": bars_bodies.entry_of("Encounter")}],
                "minItems": 5,
                "maxItems": 7,
                "description": "MessageHeader; ServiceRequest, whose id is our reference; the organisations; an OperationOutcome, if there "
                "is something to know; the sender's Encounter, if it sent one; our Encounter",
            },
        }
    )


def _operation_outcome() -> Schema:
    coding = _object({"system": {"const": bars.ERROR_CODES}, "code": {"enum": sorted(set(bars.CODES.values()))}})
    issue = _object(
        {
            "severity": {"enum": ["error", "warning", "information"]},
            "code": {"type": "string", "description": "FHIR issue type"},
            "diagnostics": _TEXT,
        },
        {"details": _object({"coding": _list(coding)}), "expression": _list(_TEXT)},
    )
    return _object({"resourceType": {"const": "OperationOutcome"}, "meta": {"type": "object"}, "issue": _list(issue)})


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items, "minItems": 1}


def _accepted() -> Schema:
    makes_event = (verdict for verdict in Verdict if verdict.makes_event and verdict is not Verdict.CONTRADICTED)
    statuses = ["superseded", *makes_event, Verdict.REPEAT]
    return _object(
        {
            "reference": _REFERENCE,
            "version": {"type": "integer", "minimum": 1},
            "status": {"enum": statuses},
            "received_at": {"type": "string", "format": "date-time"},
        },
        {"warnings": _list(_issue_schema("field")) | {"description": "What was accepted with doubts"}},
    )


def _issue_schema(place: str) -> Schema:
    return _object({place: _TEXT, "kind": _KIND, "explanation": _TEXT})


def _problem() -> Schema:
    """Return the schema of problem details (RFC 9457), with `faults` by field of a form or by column of a file."""
    return _object(
        {"type": {"const": "about:blank"}, "title": _TEXT, "status": {"type": "integer"}, "detail": _TEXT},
        {
            "faults": {"type": "array", "items": {"oneOf": [_issue_schema("field"), _issue_schema("column")]}},
            "expected_columns": _list(_TEXT),
        },
    )


def _report() -> Schema:
    notes = _list(_object({"kind": {"enum": ["fewer-rows"]}, "explanation": _TEXT}))
    return _object(
        {
            "council": _TEXT,
            "dry_run": {
                "type": "boolean",
                "description": "True: nothing was stored; the outcomes are what would happen",
            },
            "rows": {"type": "array", "items": _row()},
            "complete": {"type": "boolean"},
            "summary": _object(_counts(("rows", *OUTCOMES))),
        },
        {"attention": {"type": "string", "description": "What to do if rows were not processed"}, "notes": notes},
    )


def _row() -> Schema:
    issues = {"type": "array", "items": _issue_schema("column")}
    return _object(
        {
            "row": {"type": "integer", "description": "The line of the file on which it begins"},
            "reference_given": {"type": ["string", "null"]},
            "outcome": {"enum": list(OUTCOMES)},
            "reference": _or_none(_REFERENCE),
            "faults": issues,
            "warnings": issues | {"description": "What was received with doubts"},
        }
    )


def _or_none(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _counts(names: Iterable[str]) -> Schema:
    return dict.fromkeys(names, _COUNT)
