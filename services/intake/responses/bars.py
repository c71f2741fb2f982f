"""Responses to BaRS senders: the synchronous servicerequest-response, and OperationOutcome with BaRS' error codes.

Sources: BaRS Core 1.5 (response message, error handling), BaRS API (http-error-codes).
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from schemas.fhir import HOME_VISIT, LOCAL, OURS, REFERENCE_SYSTEM, organization_part, resource_id
from services.intake.batch import MessageDecision, ProtocolResponse
from services.intake.deduplication import Verdict
from services.intake.store import HeldReferral
from services.intake.translators import bars_fhir
from services.intake.translators.bars_fhir.for_us import CANCELS, EVENTS, REASONS
from services.intake.translators.bars_fhir.identity import VERSION_PLACE
from services.intake.translators.bars_fhir.referrer import ODS
from services.intake.translators.inbound_message import InboundMessage
from services.intake.translators.translator import CONSENT_REFUSED, Issue, Rejection, Translated

MEDIA_TYPE = "application/fhir+json"
ERROR_CODES = "https://fhir.nhs.uk/CodeSystem/http-error-codes"
BARS_VERSION = "1.0.0"
"""BaRS version of responses to messages that state none."""

PROFILES = "https://fhir.hl7.org.uk/StructureDefinition/UKCore-"
CODES = {
    400: "REC_BAD_REQUEST",
    401: "REC_UNAUTHORIZED",
    403: "REC_FORBIDDEN",
    404: "REC_NOT_FOUND",
    405: "REC_METHOD_NOT_ALLOWED",
    406: "REC_NOT_ACCEPTABLE",
    408: "REC_TIMEOUT",
    409: "REC_CONFLICT",
    413: "REC_BAD_REQUEST",
    415: "REC_UNSUPPORTED_MEDIA_TYPE",
    422: "REC_UNPROCESSABLE_ENTITY",
    429: "REC_TOO_MANY_REQUESTS",
    500: "REC_SERVER_ERROR",
    501: "REC_NOT_IMPLEMENTED",
    503: "REC_UNAVAILABLE",
}


def answer(inbound: InboundMessage, outcome: Translated | Rejection, decision: MessageDecision) -> ProtocolResponse:
    """Return the response to a message."""
    reference = decision.reference
    match decision.verdict:
        case Verdict.RECEIVED | Verdict.UPDATED | Verdict.CANCELLED | Verdict.STALE:
            assert isinstance(outcome, Translated)
            return ProtocolResponse(200, _response(inbound, outcome, decision))
        case Verdict.NOT_APPLIED:
            return problem(202, [_note("warning", "business-rule", f"{reference}: {NOT_APPLIED}")])
        case Verdict.REPEAT:
            explanation = f"this message has been processed already; our reference is {reference}"
            before = decision.answered_before
            if before is not None and before.status == 202:
                explanation += f"; {NOT_APPLIED}"
            return problem(409, [_issue(409, "duplicate", explanation)])
        case Verdict.CONFLICT:
            explanation = f"{reference} has one of these ids with different content: use new ids, or send an update"
            return problem(409, [_issue(409, "conflict", explanation)])
        case Verdict.AMBIGUOUS:
            return problem(409, [_issue(409, "multiple-matches", AMBIGUOUS)])
        case Verdict.OTHER_PERSON:
            return problem(422, [_issue(422, "business-rule", OTHER_PERSON)])
        case Verdict.UNKNOWN if decision.withdraws:
            return refused([Issue("Bundle.entry", "business-rule", CONSENT_REFUSED)])
        case Verdict.UNKNOWN:
            return problem(404, [_issue(404, "not-found", UNKNOWN)])
        case _:
            return refused(decision.issues)


NOT_APPLIED = (
    "the cancellation is stored and not applied, because it is older than an update that was accepted; the hub decides"
)
AMBIGUOUS = (
    "several referrals of this sender have this fullUrl; name the referral by our reference, as ServiceRequest.id"
)
OTHER_PERSON = (
    "the Patient is not the person of this referral: NHS number, birth date or family name differ; nothing was changed"
)
UNKNOWN = "no referral of this sender has this ServiceRequest id or identifier; nothing was changed"
SUPERSEDED = "a newer message of this referral is held; this one is stored and changes nothing"
AFTER_CANCEL = (
    "this referral was cancelled before; the update is stored and shown to the hub, and does not reopen it: "
    "to refer again, send reason new with new ids"
)


def refused(issues: Sequence[Issue]) -> ProtocolResponse:
    """Return 400, 403 or 422 with every issue by its place."""
    kinds = {issue.kind for issue in issues}
    status = 403 if "forbidden" in kinds else 422 if kinds & {"business-rule", "processing"} else 400
    if any(issue.place == VERSION_PLACE for issue in issues):
        status = 422
    outcome_issues = [
        _issue(status, issue.kind, f"{issue.place}: {issue.explanation}", issue.place) for issue in issues
    ]
    return problem(status, outcome_issues)


def error(status: int, kind: str, explanation: str) -> ProtocolResponse:
    """Return one error outside the message: credentials, media types, size, time, availability."""
    return problem(status, [_issue(status, kind, explanation)])


def problem(status: int, issues: Iterable[dict[str, Any]]) -> ProtocolResponse:
    """Return an OperationOutcome."""
    return ProtocolResponse(status, orjson.dumps(_operation_outcome(issues)))


def _operation_outcome(issues: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {
        "resourceType": "OperationOutcome",
        "meta": {"profile": [PROFILES + "OperationOutcome"]},
        "issue": list(issues),
    }


def _issue(status: int, kind: str, explanation: str, place: str | None = None) -> dict[str, Any]:
    issue = {
        "severity": "error",
        "code": kind,
        "details": {"coding": [{"system": ERROR_CODES, "code": CODES[status]}]},
        "diagnostics": explanation,
    }
    return _at(issue, place)


def _at(issue: dict[str, Any], place: str | None) -> dict[str, Any]:
    """Add the place of an issue if it is a FHIRPath."""
    return issue | {"expression": [place]} if place and place.startswith("Bundle") and "(" not in place else issue


def _note(severity: str, kind: str, explanation: str, place: str | None = None) -> dict[str, Any]:
    """Return an issue of a message that was accepted."""
    note: dict[str, Any] = {"severity": severity, "code": kind, "diagnostics": explanation}
    return _at(note, place)


# ---- the response message --------------------------------------------------------------------------------------------


def _response(inbound: InboundMessage, translated: Translated, decision: MessageDecision) -> bytes:
    """Return the response message. Its last entry is our Encounter, with our reference; the sender's is before it."""
    return orjson.dumps(_ResponseWriter(inbound, translated, decision).bundle())


class _ResponseWriter:
    """Writer of one response. The ids of a referral's resources derive from its reference, those of the message from the request."""

    def __init__(self, inbound: InboundMessage, translated: Translated, decision: MessageDecision) -> None:
        assert decision.reference is not None
        self._reference = decision.reference
        self._partner = inbound.partner
        self._sender = organization_part(inbound.partner.ods or inbound.partner.id)
        self._translated = translated
        self._decision = decision
        self._at = _instant(decision.received_at)
        self._message = f"{decision.version} {translated.reply['message_id']} {inbound.request_id}"

    def bundle(self) -> dict[str, Any]:
        """Return the Bundle: header, request, organisations, notes if there are any, the sender's Encounter, ours."""
        notes = self._notes()
        return {
            "resourceType": "Bundle",
            "id": self._message_part("Bundle"),
            "meta": {
                "versionId": self._translated.reply.get("version", BARS_VERSION),
                "lastUpdated": self._at,
                "profile": ["https://fhir.nhs.uk/StructureDefinition/BARSBundleMessage"],
            },
            "type": "message",
            "timestamp": self._at,
            "entry": [
                _entry(self._header(bool(notes))),
                {"fullUrl": self._url("ServiceRequest"), "resource": self._request()},
                _entry(self._organisation(OURS, None, "Lightbulb")),
                _entry(self._organisation(self._sender, self._partner.ods, self._partner.name)),
                *(
                    [_entry(_operation_outcome(notes) | {"id": self._message_part("OperationOutcome")})]
                    if notes
                    else []
                ),
                *self._senders_encounter(),
                _entry(self._encounter()),
            ],
        }

    def _message_part(self, part: str) -> str:
        return resource_id(self._reference, f"{part} {self._message}")

    def _url(self, part: str) -> str:
        return f"urn:uuid:{resource_id(self._reference, part)}"

    def _resource(self, kind: str, own_id: str, profile: str, **elements: Any) -> dict[str, Any]:
        meta = {"lastUpdated": self._at, "profile": [profile]}
        return {"resourceType": kind, "id": own_id, "meta": meta, **elements}

    def _notes(self) -> list[dict[str, Any]]:
        """Return what the sender should know about an accepted message; it requires nothing."""
        notes = [
            _note("information", "informational", f"{place}: not read", place) for place in self._translated.passed_over
        ]
        notes[:0] = [
            _note("warning", one.kind, f"{one.place}: {one.explanation}", one.place)
            for one in self._translated.warnings
        ]
        if self._decision.after_cancel:
            notes.insert(0, _note("information", "informational", AFTER_CANCEL))
        if self._decision.verdict == Verdict.STALE:
            notes.insert(0, _note("information", "informational", SUPERSEDED))
        return notes

    def _header(self, has_notes: bool) -> dict[str, Any]:
        reply = self._translated.reply
        details = {"details": {"reference": f"urn:uuid:{self._message_part('OperationOutcome')}"}} if has_notes else {}
        return self._resource(
            "MessageHeader",
            self._message_part("MessageHeader"),
            "https://fhir.nhs.uk/StructureDefinition/BARSMessageHeader-servicerequest-response",
            eventCoding={"system": EVENTS, "code": "servicerequest-response"},
            destination=[{"endpoint": reply["source"], "receiver": {"reference": self._url(self._sender)}}],
            sender={"reference": self._url(OURS)},
            source={"name": "Lightbulb referral hub", "endpoint": reply.get("destination", f"{LOCAL}/fhir")},
            reason={"coding": [{"system": REASONS, "code": "new"}]},
            response={"identifier": reply["message_id"], "code": "ok", **details},
            focus=[{"reference": self._url("ServiceRequest")}],
            definition="https://fhir.nhs.uk/MessageDefinition/bars-message-servicerequest-response-referral",
        )

    def _request(self) -> dict[str, Any]:
        """Return the ServiceRequest with our reference as its id, which later messages and reads name it by."""
        reply = self._translated.reply
        ours = {"system": REFERENCE_SYSTEM, "value": self._reference}
        request = self._resource(
            "ServiceRequest",
            self._reference,
            "https://fhir.nhs.uk/StructureDefinition/BARSServiceRequest-request-referral",
            identifier=[ours, *reply.get("identifier", ())],
            status="revoked" if self._decision.cancelled else "active",
            intent="plan",
            subject={"type": "Patient"} | reply.get("subject", {}),
        )
        request["meta"]["versionId"] = str(self._decision.version)
        return request

    def _organisation(self, part: str, ods: str | None, name: str) -> dict[str, Any]:
        identifier = {"identifier": [{"system": ODS[0], "value": ods}]} if ods else {}
        own_id = resource_id(self._reference, part)
        return self._resource("Organization", own_id, PROFILES + "Organization", **identifier, name=name)

    def _senders_encounter(self) -> list[dict[str, Any]]:
        """Return the sender's Encounter under the fullUrl that it has there."""
        encounter = self._translated.encounter
        if encounter is None:
            return []
        url = self._translated.reply.get("encounter_url") or self._url("Encounter sender")
        return [{"fullUrl": url, "resource": orjson.Fragment(encounter)}]

    def _encounter(self) -> dict[str, Any]:
        return self._resource(
            "Encounter",
            resource_id(self._reference, "Encounter"),
            PROFILES + "Encounter",
            identifier=[{"system": REFERENCE_SYSTEM, "value": self._reference}],
            status="planned",
            **{"class": HOME_VISIT},
            basedOn=[{"reference": self._url("ServiceRequest")}],
        )


def _entry(resource: dict[str, Any]) -> dict[str, Any]:
    return {"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource}


# ---- reads -----------------------------------------------------------------------------------------------------------


def referral(held: HeldReferral) -> dict[str, Any]:
    """Return the sender's own last ServiceRequest, with our reference as its id and its status as we hold it."""
    request = bars_fhir.sent_request(held.body, held.last_at) or UNREAD
    theirs = [one for one in request.get("identifier", ()) if one.get("system") != REFERENCE_SYSTEM]
    ours = {"system": REFERENCE_SYSTEM, "value": held.reference}
    meta = {"versionId": str(held.version), "lastUpdated": _instant(held.last_at)}
    ended = request["status"] if request.get("status") in CANCELS else "revoked"
    return request | {
        "id": held.reference,
        "meta": {**request.get("meta", {}), **meta},
        "identifier": [ours, *theirs],
        "status": ended if held.cancelled else "active",
    }


UNREAD: dict[str, Any] = {"resourceType": "ServiceRequest", "intent": "plan", "subject": {"type": "Patient"}}
"""What stands for a stored message that this version cannot read."""


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
