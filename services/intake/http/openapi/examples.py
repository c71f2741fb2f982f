"""The examples of the OpenAPI document: messages, and the responses that the code gives to them."""

import copy
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from schemas.fhir import LOCAL
from schemas.model import Reference
from services.intake.accept import Intake
from services.intake.batch import REFUSED, MessageDecision
from services.intake.deduplication import Verdict
from services.intake.http.openapi import example_messages
from services.intake.http.openapi.example_messages import (
    CORRELATION_ID,
    EXAMPLE_REFERENCE,
    REQUEST_ID,
    YOUR_ODS_CODE,
    Message,
)
from services.intake.responses import bars, conformance
from services.intake.store import HeldReferral
from services.intake.translators.inbound_message import InboundMessage
from services.intake.translators.translator import Rejection
from services.reference.partners import Partner

Example = dict[str, Any]

_RECEIVED_AT = datetime(2026, 3, 2, 9, 30, 2, tzinfo=UTC)
_PARTNER = Partner(id="example-surgery", name="Example Surgery", kind="gp", ods=YOUR_ODS_CODE, formats=("bars-fhir",))

REQUESTS = ("new", "update", "cancel")
"""Names of the examples of a message, in the order in which a sender sends them."""

RESPONSES: Mapping[int, tuple[str, ...]] = {
    200: ("accepted",),
    202: ("not-applied",),
    400: ("refused",),
    409: ("duplicate", "conflict"),
}
"""Names of the examples of a response, by status."""


def components(intake: Intake) -> dict[str, Example]:
    """Return every example of a BaRS message and its responses by name."""
    destination = next(iter(intake.service_ids), f"{LOCAL}/fhir")
    new = example_messages.new_referral(min(intake.code_systems["service"]), destination)
    messages = {
        "new": (f"A new referral; replace {YOUR_ODS_CODE} by your ODS code", new),
        "update": ("The same referral with another telephone number", example_messages.update(new, EXAMPLE_REFERENCE)),
        "cancel": ("The same referral, cancelled", example_messages.cancel(new, EXAMPLE_REFERENCE)),
    }
    return _as_examples(messages) | _as_examples(_responses(intake, new)) | _as_examples(_resources(intake, new))


def _as_examples(texts: Mapping[str, tuple[str, Any]]) -> dict[str, Example]:
    return {name: {"summary": summary, "value": value} for name, (summary, value) in texts.items()}


def references(names: Iterable[str]) -> dict[str, Example]:
    """Return references to the examples of these names."""
    return {name: {"$ref": f"#/components/examples/{name}"} for name in names}


def _responses(intake: Intake, new: Message) -> dict[str, tuple[str, Any]]:
    return {
        "accepted": (
            "Accepted: the reference is the id of the ServiceRequest",
            _response(intake, new, Verdict.RECEIVED),
        ),
        "not-applied": (
            "Stored, but not applied: the cancel is older than an update",
            _response(intake, example_messages.cancel(new, EXAMPLE_REFERENCE), Verdict.NOT_APPLIED),
        ),
        "refused": ("Not valid: every fault with its place", _response(intake, _faulty(new), REFUSED)),
        "duplicate": ("Accepted before: nothing to do", _response(intake, new, Verdict.REPEAT)),
        "conflict": ("An id was used for other content", _response(intake, new, Verdict.CONFLICT)),
    }


READS: Mapping[str, str] = {
    "ServiceRequest": "service-request",
    "MessageDefinition": "message-definition",
    "CodeSystem": "code-system",
}
"""Names of the examples of what is read, by resource type."""


def _resources(intake: Intake, new: Message) -> dict[str, tuple[str, Any]]:
    held = HeldReferral(Reference(EXAMPLE_REFERENCE), 1, False, _RECEIVED_AT, "bars-fhir", json.dumps(new).encode())
    [definition, *_] = conformance.message_definitions(intake.service_ids, None)
    codes = conformance.code_system("usecase", intake.code_systems["usecase"])
    return {
        READS["ServiceRequest"]: ("The referral as it is held: read it before a cancel", bars.referral(held)),
        READS["MessageDefinition"]: ("A message that is received", definition),
        READS["CodeSystem"]: ("The codes of our use case", codes),
        "capabilities": ("What the server can do", json.loads(conformance.capability(f"{LOCAL}/fhir", _RECEIVED_AT))),
    }


def _faulty(new: Message) -> Message:
    """Return the message with two faults: an NHS number that fails its check, and a need that is not in the catalogue."""
    faulty = copy.deepcopy(new)
    example_messages.resource(faulty, "Patient")["identifier"][0]["value"] = "9991234510"
    example_messages.resource(faulty, "ServiceRequest")["orderDetail"][0]["coding"][0]["code"] = "no-such-service"
    return faulty


def _response(intake: Intake, message: Message, verdict: str) -> Any:
    """Return the body that answers a message, by the translator and the composer of responses."""
    body = json.dumps(message).encode()
    inbound = InboundMessage(_PARTNER, body, _RECEIVED_AT, b"", REQUEST_ID, CORRELATION_ID)
    outcome = intake.bars(inbound)
    issues = outcome.issues if isinstance(outcome, Rejection) else ()
    decision = MessageDecision(verdict, _RECEIVED_AT, Reference(EXAMPLE_REFERENCE), 1, issues)
    return json.loads(bars.answer(inbound, outcome, decision).body)
