"""Responses to HL7 v2 senders: which acknowledgements a message requests, and their content.

Sources: HL7 v2.4 and v2.5 chapter 2 (original and enhanced acknowledgement, MSA, ERR), tables 0008, 0155 and 0357.
Our extension: MSA-3 has the reference of the referral; so does RF1-11 for partners that are registered for RRI.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from services.intake.batch import MessageDecision, ProtocolResponse
from services.intake.deduplication import Verdict
from services.intake.responses import hl7v2_writer
from services.intake.responses.hl7v2_writer import Error, ReplyContext
from services.intake.translators.hl7v2 import header as headers
from services.intake.translators.hl7v2.header import Header
from services.intake.translators.inbound_message import InboundMessage
from services.intake.translators.translator import CONSENT_REFUSED, Issue, Rejection, Translated
from services.reference.partners import Hl7v2, Partner

Level = Literal["accept", "application"]
"""Accept acknowledgements (CA, CE, CR) confirm the commit, application acknowledgements (AA, AE, AR) report the outcome."""

REJECTED = {"200", "201", "202", "203"}
"""Codes of table 0357 for an unsupported kind of message: answered AR (rejected), all others AE (error)."""

_KEPT = {
    Verdict.STALE: "superseded by a later message",
    Verdict.NOT_APPLIED: "cancellation stored and not applied: it is older than an update that was accepted",
    Verdict.CONTRADICTED: "stored and not applied: it is about another person than the referral",
}
"""Answers to messages that are accepted and change nothing."""

AFTER_CANCEL = "the referral was cancelled: refer again under a new referral id"
WITHDRAWN = "consent to this referral was withdrawn: if the person agrees now, refer again under a new referral id"

REPORTED_ERRORS = 20
"""Issues that an acknowledgement lists at most."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The content of an acknowledgement of either level. `letter`: A accepted, E error, R rejected. `errors`: also warnings."""

    letter: Literal["A", "E", "R"]
    text: str
    errors: tuple[Error, ...] = ()
    status: int = 200
    reference: str = ""

    @property
    def accepted(self) -> bool:
        return self.letter == "A"


def over_mllp(inbound: InboundMessage, outcome: Translated | Rejection, decision: MessageDecision) -> ProtocolResponse:
    """Return the acknowledgements that were requested, framed: none, one or two."""
    to, ack = _reply_to(inbound, outcome, decision)
    levels = requested_acks(to.header, inbound.partner.hl7v2, accepted=ack.accepted)
    frames = [framed(_message(level, inbound.partner, to, ack, outcome)) for level in levels]
    return ProtocolResponse(ack.status, b"".join(frames))


def over_http(inbound: InboundMessage, outcome: Translated | Rejection, decision: MessageDecision) -> ProtocolResponse:
    """Return one message, since HTTP needs a response.

    It is the application acknowledgement if that was requested, else the accept acknowledgement in enhanced mode.
    """
    to, ack = _reply_to(inbound, outcome, decision)
    agreed = inbound.partner.hl7v2
    always: Level = "accept" if to.header and _is_enhanced(to.header, agreed) else "application"
    level = next(reversed(requested_acks(to.header, agreed, accepted=ack.accepted)), always)
    return ProtocolResponse(ack.status, _message(level, inbound.partner, to, ack, outcome))


def rejection_frames(partner: Partner, beginning: bytes, at: datetime, explanation: str) -> bytes:
    """Return frames that reject a message that was not stored: it is too large, or an internal error occurred."""
    to = hl7v2_writer.reply_context(headers.read(beginning), beginning, partner.id, at)
    ack = Acknowledgement("R", explanation, (Error("", "207", explanation),))
    levels = requested_acks(to.header, partner.hl7v2, accepted=False)
    return b"".join(framed(_acknowledgement(level, to, ack)) for level in levels)


def framed(message: bytes) -> bytes:
    """Return the message in an MLLP frame."""
    return b"\x0b" + message + b"\x1c\r"


def _reply_to(
    inbound: InboundMessage, outcome: Translated | Rejection, decision: MessageDecision
) -> tuple[ReplyContext, Acknowledgement]:
    """Return the context and the content of the acknowledgement: a rejection if the header is unreadable."""
    header = outcome.header if isinstance(outcome.header, Header) else headers.read(inbound.body)
    to = hl7v2_writer.reply_context(header, inbound.body, inbound.partner.id, inbound.received_at)
    if isinstance(outcome, Translated) and outcome.visit:
        return to, Acknowledgement("A", "")  # the same, whomever it is about
    ack = acknowledge(decision, warns=inbound.partner.hl7v2.warnings)
    return to, ack if to.header else dataclasses.replace(ack, letter="R")


# ---- which acknowledgements -----------------------------------------------------------------------------------------


def requested_acks(header: Header | None, agreed: Hl7v2, *, accepted: bool) -> list[Level]:
    """Return the levels at which a message is acknowledged, in order.

    Original mode (MSH-15 and MSH-16 empty, or no header): application only. Enhanced mode: accept by MSH-15, and application by
    MSH-16. After a requested accept acknowledgement, application follows only if the message was accepted. An acknowledgement
    is never acknowledged.
    """
    if header is not None and header.message_code in ("ACK", "MCF"):
        return []
    if header is None or not _is_enhanced(header, agreed):
        return ["application"]
    accept = _is_requested(_condition(header, agreed), accepted)
    application = _is_requested(header.application_acknowledgement, accepted) and (accepted or not accept)
    levels: list[tuple[Level, bool]] = [("accept", accept), ("application", application)]
    return [level for level, is_requested in levels if is_requested]


def _is_enhanced(header: Header | None, agreed: Hl7v2) -> bool:
    if header is None or agreed.acknowledgement == "original":
        return False
    valued = header.accept_acknowledgement or header.application_acknowledgement
    return agreed.acknowledgement == "enhanced" or bool(valued)


def _condition(header: Header, agreed: Hl7v2) -> str:
    """Return MSH-15; AL (always) if the partner is registered as enhanced and both fields are empty."""
    silent = not header.accept_acknowledgement and not header.application_acknowledgement
    return "AL" if silent and agreed.acknowledgement == "enhanced" else header.accept_acknowledgement


def _is_requested(condition: str, accepted: bool) -> bool:
    """Evaluate a condition of table 0155. An unknown condition is acknowledged, which is safer than silence."""
    match condition:
        case "" | "NE":
            return False
        case "ER":
            return not accepted
        case "SU":
            return accepted
        case _:
            return True


# ---- content --------------------------------------------------------------------------------------------------------


def acknowledge(decision: MessageDecision, *, warns: bool = False) -> Acknowledgement:
    """Return the acknowledgement of a decision. A duplicate is accepted: an error would block a trust's queue.

    `warns`: the sender understands an accepted message with warnings.
    """
    reference = decision.reference or ""
    match decision.verdict:
        case Verdict.RECEIVED | Verdict.UPDATED | Verdict.CANCELLED | Verdict.REPEAT:
            return Acknowledgement("A", reference, _warnings(decision, warns), reference=reference)
        case Verdict.STALE | Verdict.NOT_APPLIED | Verdict.CONTRADICTED:
            text = _KEPT[Verdict(decision.verdict)]
            return Acknowledgement("A", f"{reference} {text}", _warnings(decision, warns, text), reference=reference)
        case Verdict.CONFLICT:
            return _error(
                Error("RF1-6", "205", f"this referral id was accepted before as {reference} with other content"), 409
            )
        case Verdict.AFTER_CANCEL:
            return _error(Error("RF1-6", "207", AFTER_CANCEL if reference else WITHDRAWN), 409)
        case Verdict.UNKNOWN if decision.withdraws:
            return _error(Error("RF1-6", "207", CONSENT_REFUSED), 400)
        case Verdict.UNKNOWN:
            return _error(Error("RF1-6", "204", "no referral of this sender has this id; nothing to cancel"), 404)
        case _:
            return _refused(decision.issues)


def _warnings(decision: MessageDecision, warns: bool, text: str | None = None) -> tuple[Error, ...]:
    """Return the warnings of an accepted message, for a sender that understands them."""
    if not warns:
        return ()
    kept = [Error("RF1-6", "207", text, "W")] if text else []
    parts = [Error(issue.place, code(issue), issue.explanation, "W") for issue in decision.issues]
    return tuple([*kept, *parts][:REPORTED_ERRORS])


def _error(error: Error, status: int) -> Acknowledgement:
    return Acknowledgement("E", error.explanation, (error,), status)


def _refused(issues: Sequence[Issue]) -> Acknowledgement:
    errors = tuple(Error(issue.place, code(issue), issue.explanation) for issue in issues[:REPORTED_ERRORS])
    rejected = any(error.code in REJECTED for error in errors)
    status = 403 if any(issue.kind == "forbidden" for issue in issues) else 400
    return Acknowledgement("R" if rejected else "E", _summary(errors, len(issues)), errors, status)


def _summary(errors: Sequence[Error], number: int) -> str:
    first = next(iter(errors), Error("", "207", "could not be processed"))
    more = f" (and {number - 1} more)" if number > 1 else ""
    return f"{first.place}: {first.explanation}{more}"


CODES = {
    "required": "101",
    "invalid": "102",
    "value": "103",
    "too-long": "102",
    "not-supported": "103",
    "invariant": "100",
}
UNSUPPORTED = {"MSH-9": "200", "MSH-9.1": "200", "MSH-9.2": "201", "MSH-11": "202", "MSH-12": "203"}


def code(issue: Issue) -> str:
    """Return the message error condition code (table 0357) of an issue. An unknown sender or receiver is a value not found."""
    if issue.kind == "forbidden" and issue.place.startswith("MSH-"):
        return "103"
    if issue.kind == "not-supported":
        return next(
            (error_code for place, error_code in _by_length if issue.place.startswith(place)), CODES[issue.kind]
        )
    return CODES.get(issue.kind, "207")


_by_length = sorted(UNSUPPORTED.items(), key=lambda entry: -len(entry[0]))


def _message(
    level: Level, partner: Partner, to: ReplyContext, ack: Acknowledgement, outcome: Translated | Rejection
) -> bytes:
    if (
        partner.hl7v2.rri
        and level == "application"
        and ack.accepted
        and isinstance(outcome, Translated)
        and not outcome.visit
    ):
        named = outcome.reply.get("originating_id", (outcome.referral_id,))
        return hl7v2_writer.rri(to, ack.text, ack.reference, named, cancelled=outcome.referral is None)
    return _acknowledgement(level, to, ack)


def _acknowledgement(level: Level, to: ReplyContext, ack: Acknowledgement) -> bytes:
    """Write an acknowledgement. Warnings are of the application: an accept acknowledgement (CA) has none."""
    errors = () if level == "accept" and ack.accepted else ack.errors
    return hl7v2_writer.acknowledgement(to, ("C" if level == "accept" else "A") + ack.letter, ack.text, errors)
