"""Answers to HL7 v2 senders: which acknowledgements a message asks for, and what each says.

Sources: HL7 v2.4 and v2.5 chapter 2 (original and enhanced acknowledgement, MSA, ERR), tables 0008, 0155 and 0357.
What is ours alone: the reference of a referral stands in MSA-3, and in RF1-11 for partners that are registered for RRI.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from services.intake.answers import er7
from services.intake.answers.er7 import Addressed, Error
from services.intake.identity import Verdict
from services.intake.ledger import Answer, Decision
from services.intake.translators.contract import CONSENT_REFUSED, Delivery, Fault, Refusal, Translated
from services.intake.translators.hl7v2.header import Header
from services.partners import Hl7v2, Partner

Level = Literal["accept", "application"]
"""Two things may be acknowledged: that we have the message safely (CA, CE, CR), and what became of it (AA, AE, AR)."""

REJECTED = {"200", "201", "202", "203"}
"""Table 0357: what is wrong with the kind of message, not with what it says. Rejected (AR), where the rest are errors (AE)."""

FAULTS = 20
"""Faults that an acknowledgement lists."""


@dataclass(frozen=True, slots=True)
class Said:
    """What is told of a message, whatever acknowledgement tells it: A accepted, E error, R rejected."""

    letter: Literal["A", "E", "R"]
    text: str
    errors: tuple[Error, ...] = ()
    status: int = 200
    reference: str = ""

    @property
    def accepted(self) -> bool:
        return self.letter == "A"


def over_mllp(delivery: Delivery, outcome: Translated | Refusal, decision: Decision) -> Answer:
    """What goes back on the connection: no frame, one, or two in their order."""
    to, said = _heard(delivery, decision)
    levels = asked(to.header, delivery.partner.hl7v2, accepted=said.accepted)
    frames = [framed(_message(level, delivery.partner, to, said, outcome)) for level in levels]
    return Answer(said.status, b"".join(frames))


def over_http(delivery: Delivery, outcome: Translated | Refusal, decision: Decision) -> Answer:
    """One message, since there is a response anyway: what the application says where that is asked for, else the first acknowledgement."""
    to, said = _heard(delivery, decision)
    agreed = delivery.partner.hl7v2
    always: Level = "accept" if to.header and _is_enhanced(to.header, agreed) else "application"
    level = next(reversed(asked(to.header, agreed, accepted=said.accepted)), always)
    return Answer(said.status, _message(level, delivery.partner, to, said, outcome))


def not_taken(partner: Partner, beginning: bytes, at: datetime, explanation: str) -> bytes:
    """Frames for a message that nothing was kept of: too large, or something of ours failed. It is still the sender's."""
    to = er7.addressed(beginning, partner.id, at)
    said = Said("R", explanation, (Error("", "207", explanation),))
    levels = asked(to.header, partner.hl7v2, accepted=False)
    return b"".join(framed(_acknowledgement(level, to, said)) for level in levels)


def framed(message: bytes) -> bytes:
    """The message as it goes over MLLP."""
    return b"\x0b" + message + b"\x1c\r"


def _heard(delivery: Delivery, decision: Decision) -> tuple[Addressed, Said]:
    """Whom an answer goes to, and what it says. Who sent no header that can be read is rejected, whatever else is wrong."""
    to = er7.addressed(delivery.body, delivery.partner.id, delivery.received_at)
    said = judged(decision)
    return to, said if to.header else dataclasses.replace(said, letter="R")


# ---- which acknowledgements -----------------------------------------------------------------------------------------


def asked(header: Header | None, agreed: Hl7v2, *, accepted: bool) -> list[Level]:
    """The acknowledgements that a message gets, in order.

    Original mode (MSH-15 and MSH-16 empty, or no header to ask in): the application's alone. Enhanced mode: the accept acknowledgement by
    MSH-15, and the application's by MSH-16, which follows only what was accepted. An acknowledgement is never acknowledged.
    """
    if header is not None and header.message_code in ("ACK", "MCF"):
        return []
    if header is None or not _is_enhanced(header, agreed):
        return ["application"]
    accept = _wanted(_condition(header, agreed), accepted)
    application = _wanted(header.application_acknowledgement, accepted) and (accepted or not accept)
    levels: list[tuple[Level, bool]] = [("accept", accept), ("application", application)]
    return [level for level, wanted in levels if wanted]


def _is_enhanced(header: Header | None, agreed: Hl7v2) -> bool:
    if header is None or agreed.acknowledgement == "original":
        return False
    valued = header.accept_acknowledgement or header.application_acknowledgement
    return agreed.acknowledgement == "enhanced" or bool(valued)


def _condition(header: Header, agreed: Hl7v2) -> str:
    """MSH-15; a partner that is registered as enhanced, and says nothing in either field, means always."""
    silent = not header.accept_acknowledgement and not header.application_acknowledgement
    return "AL" if silent and agreed.acknowledgement == "enhanced" else header.accept_acknowledgement


def _wanted(condition: str, accepted: bool) -> bool:
    """Table 0155. A condition that nobody knows is answered: silence is never the safe side."""
    match condition:
        case "" | "NE":
            return False
        case "ER":
            return not accepted
        case "SU":
            return accepted
        case _:
            return True


# ---- what is said ---------------------------------------------------------------------------------------------------


def judged(decision: Decision) -> Said:
    """What the sender is told of a decision. A repeat is told the same again: an error would park a trust's queue."""
    reference = decision.reference or ""
    match decision.verdict:
        case Verdict.RECEIVED | Verdict.UPDATED | Verdict.CANCELLED | Verdict.REPEAT:
            return Said("A", reference, reference=reference)
        case Verdict.STALE:
            return Said("A", f"{reference} superseded by a later message", reference=reference)
        case Verdict.CONFLICT:
            return _error(Error("RF1-6", "205", f"{reference} is held under this referral id with other content"), 409)
        case Verdict.UNKNOWN if decision.withdraws:
            return _error(Error("RF1-6", "207", CONSENT_REFUSED), 400)
        case Verdict.UNKNOWN:
            return _error(Error("RF1-6", "204", "no referral of yours is held under this id: nothing to cancel"), 404)
        case _:
            return _refused(decision.faults)


def _error(error: Error, status: int) -> Said:
    return Said("E", error.explanation, (error,), status)


def _refused(faults: Sequence[Fault]) -> Said:
    errors = tuple(Error(fault.place, code(fault), fault.explanation) for fault in faults[:FAULTS])
    rejected = any(error.code in REJECTED for error in errors)
    status = 403 if any(fault.kind == "forbidden" for fault in faults) else 400
    return Said("R" if rejected else "E", _summary(errors, len(faults)), errors, status)


def _summary(errors: Sequence[Error], number: int) -> str:
    first = next(iter(errors), Error("", "207", "could not be taken"))
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


def code(fault: Fault) -> str:
    """Table 0357: message error condition codes."""
    if fault.kind == "not-supported":
        return next((found for place, found in _by_length if fault.place.startswith(place)), CODES[fault.kind])
    return CODES.get(fault.kind, "207")


_by_length = sorted(UNSUPPORTED.items(), key=lambda entry: -len(entry[0]))


def _message(level: Level, partner: Partner, to: Addressed, said: Said, outcome: Translated | Refusal) -> bytes:
    if partner.hl7v2.rri and level == "application" and said.accepted and isinstance(outcome, Translated):
        return er7.rri(to, said.text, said.reference, outcome.referral_id, cancelled=outcome.referral is None)
    return _acknowledgement(level, to, said)


def _acknowledgement(level: Level, to: Addressed, said: Said) -> bytes:
    return er7.acknowledgement(to, ("C" if level == "accept" else "A") + said.letter, said.text, said.errors)
