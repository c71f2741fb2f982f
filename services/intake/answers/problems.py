"""Answers to senders of forms: JSON, and problem details (RFC 9457) that list every fault by its field."""

from collections.abc import Sequence
from datetime import UTC
from http import HTTPStatus
from typing import Any

import orjson

from services.intake.identity import Verdict
from services.intake.ledger import Answer, Decision
from services.intake.translators.contract import CONSENT_REFUSED, Delivery, Fault, Refusal, Translated

MEDIA_TYPE = "application/json"
PROBLEM = "application/problem+json"


def answer(_: Delivery, outcome: Translated | Refusal, decision: Decision) -> Answer:
    """What the sender of this form is told. A repeat is told what it was told the first time."""
    match decision.verdict:
        case Verdict.REPEAT if decision.answered_before is not None:
            return decision.answered_before
        case Verdict.RECEIVED:
            return _accepted(202, decision)
        case Verdict.UPDATED | Verdict.CANCELLED | Verdict.STALE | Verdict.REPEAT:
            return _accepted(200, decision)
        case Verdict.CONFLICT:
            return problem(409, f"{decision.reference} is held under this reference with other content")
        case Verdict.UNKNOWN if decision.withdraws:
            return refused([Fault("consents.referral", "business-rule", CONSENT_REFUSED)])
        case Verdict.UNKNOWN:
            return problem(404, "there is no referral of yours under this reference; there is nothing to cancel")
        case _:
            return refused(decision.faults)


def _accepted(status: int, decision: Decision) -> Answer:
    said = {
        "reference": decision.reference,
        "version": decision.version,
        "status": "superseded" if decision.verdict == Verdict.STALE else str(decision.verdict),
        "received_at": decision.received_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    return Answer(status, orjson.dumps(said))


def refused(faults: Sequence[Fault]) -> Answer:
    """400, 403 or 422 with every fault by its field."""
    kinds = {fault.kind for fault in faults}
    status = 403 if "forbidden" in kinds else 422 if kinds & {"business-rule", "processing"} else 400
    listed = [{"field": fault.place, "kind": fault.kind, "explanation": fault.explanation} for fault in faults]
    return problem(status, "the referral was not accepted; every fault is listed", faults=listed)


def problem(status: int, detail: str, **more: Any) -> Answer:
    """Problem details."""
    said = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return Answer(status, orjson.dumps(said | more))


def media_type(answered: Answer) -> str:
    """What the body of an answer is."""
    return MEDIA_TYPE if answered.status < 400 else PROBLEM
