"""Responses to senders of forms: JSON, and problem details (RFC 9457) that list every issue by its field."""

from collections.abc import Sequence
from datetime import UTC
from http import HTTPStatus
from typing import Any

import orjson

from services.intake.batch import MessageDecision, ProtocolResponse
from services.intake.deduplication import Verdict
from services.intake.translators.inbound_message import InboundMessage
from services.intake.translators.translator import CONSENT_REFUSED, Issue, Rejection, Translated

MEDIA_TYPE = "application/json"
PROBLEM = "application/problem+json"

OTHER_PERSON = "names another person than the referral that is held under this reference: send it under a new reference"
"""Explanation for a message under a known reference whose NHS number, birth date or family name contradict what is held."""


def answer(_: InboundMessage, outcome: Translated | Rejection, decision: MessageDecision) -> ProtocolResponse:
    """Return the response to a form. A duplicate gets the response of the first time."""
    match decision.verdict:
        case Verdict.REPEAT if decision.answered_before is not None:
            return decision.answered_before
        case Verdict.RECEIVED | Verdict.NOT_APPLIED:
            return _accepted(202, decision)
        case Verdict.UPDATED | Verdict.CANCELLED | Verdict.STALE | Verdict.REPEAT:
            return _accepted(200, decision)
        case Verdict.CONFLICT:
            return problem(409, f"{decision.reference} already has this reference, with different content")
        case Verdict.UNKNOWN if decision.withdraws:
            return refused([Issue("consents.referral", "business-rule", CONSENT_REFUSED)])
        case Verdict.OTHER_PERSON:
            return refused([Issue("reference", "business-rule", OTHER_PERSON)])
        case Verdict.UNKNOWN:
            return problem(404, "no referral of this sender has this reference; nothing to cancel")
        case _:
            return refused(decision.issues)


def _accepted(status: int, decision: MessageDecision) -> ProtocolResponse:
    content: dict[str, Any] = {
        "reference": decision.reference,
        "version": decision.version,
        "status": "superseded" if decision.verdict == Verdict.STALE else str(decision.verdict),
        "received_at": decision.received_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    warnings = {"warnings": _listed(decision.issues)} if decision.issues else {}
    return ProtocolResponse(status, orjson.dumps(content | warnings))


def _listed(issues: Sequence[Issue]) -> list[dict[str, str]]:
    return [{"field": issue.place, "kind": issue.kind, "explanation": issue.explanation} for issue in issues]


def refused(issues: Sequence[Issue]) -> ProtocolResponse:
    """Return 400, 403 or 422 with every issue by its field."""
    kinds = {issue.kind for issue in issues}
    status = 403 if "forbidden" in kinds else 422 if kinds & {"business-rule", "processing"} else 400
    return problem(status, "the referral was not accepted; every fault is listed", faults=_listed(issues))


def problem(status: int, detail: str, **more: Any) -> ProtocolResponse:
    """Return problem details."""
    content = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return ProtocolResponse(status, orjson.dumps(content | more))


def media_type(answered: ProtocolResponse) -> str:
    """Return the media type of a response."""
    return MEDIA_TYPE if answered.status < 400 else PROBLEM
