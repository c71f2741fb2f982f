"""The operations of each path, with every response, for the OpenAPI document."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from services.intake import limits, multipart
from services.intake.accept import Intake
from services.intake.csv_upload import endpoint
from services.intake.http import headers as sent
from services.intake.http import messages
from services.intake.http.openapi import examples, fhir_reads
from services.intake.http.openapi.bodies import Schema, ref
from services.intake.http.openapi.example_messages import YOUR_ODS_CODE
from services.intake.responses import bars, problems
from services.intake.responses import csv_report as reports
from services.intake.translators.form import FORM_PART
from services.runtime import metrics

PathItem = dict[str, Any]

AROUND = (400, 401, 403, 406, 408, 413, 415, 429, 500, 503)
"""Errors that any message may get: credential, headers, size, time, rate, availability."""

SCHEMA = "application/schema+json"


def paths(intake: Intake) -> dict[str, PathItem]:
    """Return every path with its operations. Each form and each council has a path, since their bodies differ."""
    return {
        "/fhir/$process-message": _bars(intake),
        "/fhir/metadata": _metadata(),
        **fhir_reads.paths(),
        "/fhir/{interaction}": _no_interaction(),
        "/hl7v2": _hl7v2(intake),
        **{f"/councils/{name}/referrals": _council(name) for name in intake.councils},
        **{f"/forms/{name}": _form(intake, name) for name in intake.forms},
        **{
            f"/forms/{name}/schema": {
                "get": _reads(
                    f"readFormSchema-{name}", f"JSON Schema of {form_definition.title}", SCHEMA, "json-schema"
                )
            }
            for name, form_definition in intake.forms.items()
        },
        "/attachments/{reference}": _attachment(),
        "/lists": {"get": _code_list("readLists", "Which lists of codes there are")},
        "/lists/{name}": _named_list(intake),
        "/openapi.json": _document(),
        "/health/live": {"get": _reads("readLiveness", "Whether this process answers", "application/json", "health")},
        "/health/ready": _ready(),
        "/metrics": {"get": _reads("readMetrics", "Metrics", metrics.MEDIA_TYPE, "metrics")},
    }


# ---- messages -------------------------------------------------------------------------------------------------------


def _bars(intake: Intake) -> PathItem:
    outcomes = {status: {bars.MEDIA_TYPE: ref("operation-outcome")} for status in (202, *AROUND, 404, 409, 422)}
    answers = {200: {bars.MEDIA_TYPE: ref("bars-response")}, **outcomes}
    body = {"schema": ref("bars-message"), "examples": examples.references(examples.REQUESTS)}
    content = dict.fromkeys(messages.BARS_MEDIA_TYPES, body)
    summary = "BaRS: a new, changed or cancelled referral"
    operation = _message("processMessage", summary, f"{_TO_START} {_size(intake)} {_json()}", content, answers)
    operation["parameters"] = _parameters("bars-request-id", "bars-correlation-id", "traceparent", *sent.ENCODED)
    for status, names in examples.RESPONSES.items():
        operation["responses"][str(status)]["content"][bars.MEDIA_TYPE]["examples"] = examples.references(names)
    return {"post": operation}


_TO_START = (
    f"To start, send the example `new` with your ODS code in place of {YOUR_ODS_CODE}, and new ids. The id of the ServiceRequest in the "
    "response is our reference of the referral: an update or a cancel has it as ServiceRequest.id, and keeps Bundle.id and "
    "X-Correlation-Id. Every request has an X-Request-Id of its own; only a retry has the same."
)


_NO_QUERY = "A query parameter is refused."


def _form(intake: Intake, name: str) -> PathItem:
    accepted = {problems.MEDIA_TYPE: ref("accepted")}
    answers = {200: accepted, 202: accepted, **_problems(*AROUND, 404, 422)}
    content: Schema = {messages.JSON: {"schema": ref(f"form-{name}")}}
    if intake.forms[name].attachment_fields:
        encoding = {FORM_PART: {"contentType": messages.JSON}}
        content[multipart.MEDIA_TYPE] = {"schema": ref(f"form-{name}-with-files"), "encoding": encoding}
    title = intake.forms[name].title
    return {"post": _message(f"sendForm-{name}", title, f"{_size(intake)} {_json()} {_NO_QUERY}", content, answers)}


def _hl7v2(intake: Intake) -> PathItem:
    spoken = messages.of_hl7v2(intake.hl7v2, "").accepts
    ack_content = {media_type: ref("hl7v2-acknowledgement") for media_type in spoken}
    rejections = {status: {**ack_content, problems.PROBLEM: ref("problem")} for status in (400, 403, 404, 409)}
    answers = {200: ack_content, **_problems(*AROUND), **rejections}
    content = {media_type: {"schema": ref("hl7v2-message")} for media_type in spoken}
    limited = f"{_size(intake)} At most {limits.HL7_SEGMENTS:,} segments, and {limits.HL7_PARTS:,} parts of fields. {_NO_QUERY}"
    return {
        "post": _message("sendHl7v2", "HL7 v2 over HTTP, answered by its acknowledgement", limited, content, answers)
    }


def _council(name: str) -> PathItem:
    report = {reports.JSON: ref("report"), reports.CSV: ref("report-csv")}
    limited = (
        f"At most {limits.FILE_BYTES:,} bytes and {limits.FILE_ROWS:,} rows, within {limits.FILE_SECONDS:g} s. "
        "200 after the first rows are stored; the report has an entry for each row. The content decides whether it is CSV or a workbook; "
        "a charset must be that of this council's files. A query parameter of another name is refused."
    )
    content: Schema = {media_type: {"schema": ref("workbook")} for media_type in endpoint.MEDIA_TYPES}
    content |= {reports.CSV: {"schema": ref(f"file-{name}")}, multipart.MEDIA_TYPE: {"schema": ref("file-form")}}
    answers = {200: report, **_problems(*AROUND)}
    operation = _message(f"sendFile-{name}", f"The whole export of {name}", limited, content, answers)
    operation["responses"]["200"]["headers"] |= {
        reports.NOTE_HEADER: {"$ref": f"#/components/headers/{reports.NOTE_HEADER}"}
    }
    return {"post": operation | {"parameters": _parameters("dry-run", "request-id", "correlation-id", "traceparent")}}


def _message(
    operation_id: str, summary: str, description: str, content: Schema, answers: Mapping[int, Schema]
) -> Schema:
    return {
        "operationId": operation_id,
        "summary": summary,
        "description": description,
        "security": [{"partner": []}],
        "parameters": _parameters("request-id", "correlation-id", "traceparent", *sent.ENCODED),
        "requestBody": {"required": True, "content": content},
        "responses": _responses(answers, "X-Request-Id", "X-Correlation-Id"),
    }


def _parameters(*names: str) -> list[Schema]:
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]


def _size(intake: Intake) -> str:
    return f"At most {intake.max_body_bytes:,} bytes, within {limits.BODY_SECONDS:g} s; answered within {limits.HTTP_ANSWER_SECONDS:g} s."


def _json() -> str:
    inside = f"lists of {limits.JSON_LIST:,} entries, and {limits.JSON_DEPTH} levels of nesting"
    return f"At most {limits.JSON_VALUES:,} values, {inside}."


# ---- reads ----------------------------------------------------------------------------------------------------------


def _reads(operation_id: str, summary: str, media_type: str, schema: str) -> Schema:
    return {"operationId": operation_id, "summary": summary, "responses": _responses({200: {media_type: ref(schema)}})}


def _metadata() -> PathItem:
    operation = _reads("readMetadata", "Capabilities of the FHIR server", bars.MEDIA_TYPE, "capability-statement")
    operation["responses"]["200"]["content"][bars.MEDIA_TYPE]["examples"] = examples.references(["capabilities"])
    return {"get": operation}


def _no_interaction() -> PathItem:
    named = {"name": "interaction", "in": "path", "required": True, "schema": {"type": "string"}}
    outcome = {bars.MEDIA_TYPE: ref("operation-outcome")}
    operation = {"summary": "No other FHIR interaction", "responses": _responses({404: outcome, 501: outcome})}
    methods = ("get", "post", "put", "patch", "delete")
    return {"parameters": [named], **{method: {"operationId": f"refuse-{method}", **operation} for method in methods}}


def _attachment() -> PathItem:
    named = {"name": "reference", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    answers = {200: {"*/*": {}}, **_problems(401, 403, 404, 429, 503)}
    return {
        "get": {
            "operationId": "readAttachment",
            "summary": "An attachment, for the hub that received its reference",
            "security": [{"partner": []}],
            "parameters": [named],
            "responses": _responses(answers),
        }
    }


def _named_list(intake: Intake) -> PathItem:
    named = {"name": "name", "in": "path", "required": True, "schema": {"enum": list(intake.lists)}}
    operation = _code_list(
        "readList", "A list of codes that commands of hubs may name, with the words that people read"
    )
    operation["responses"] |= _responses(_problems(404))
    return {"get": operation | {"parameters": [named]}}


def _code_list(operation_id: str, summary: str) -> Schema:
    responses = _responses({200: {"application/json": ref("code-list")}, 304: {}}, "ETag")
    responses |= _responses(_problems(401, 429))
    return {"operationId": operation_id, "summary": summary, "security": [{"partner": []}], "responses": responses}


def _document() -> PathItem:
    operation = _reads("readOpenApi", "This document", "application/vnd.oai.openapi+json", "document")
    operation["responses"] = _responses({200: {"application/vnd.oai.openapi+json": ref("document")}, 304: {}}, "ETag")
    return {"get": operation}


def _ready() -> PathItem:
    content = {"application/json": ref("health")}
    return {
        "get": {
            "operationId": "readReadiness",
            "summary": "Whether its dependencies are available",
            "responses": _responses({200: content, 503: content}),
        }
    }


# ---- responses ------------------------------------------------------------------------------------------------------


def _problems(*statuses: int) -> dict[int, Schema]:
    return {status: {problems.PROBLEM: ref("problem")} for status in statuses}


def _responses(answers: Mapping[int, Mapping[str, Schema]], *headers: str) -> Schema:
    return {str(status): _response(status, answers[status], headers) for status in sorted(answers)}


def _response(status: int, bodies: Mapping[str, Schema], headers: Iterable[str]) -> Schema:
    extra_headers = {401: ("WWW-Authenticate",), 408: ("Retry-After",), 429: ("Retry-After",), 503: ("Retry-After",)}
    named = [
        *headers,
        *(extra_headers.get(status, ()) if problems.PROBLEM in bodies or bars.MEDIA_TYPE in bodies else ()),
    ]
    response: Schema = {"description": HTTPStatus(status).phrase}
    if bodies:
        response["content"] = {media_type: {"schema": schema} for media_type, schema in bodies.items()}
    if named:
        response["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in named}
    return response
