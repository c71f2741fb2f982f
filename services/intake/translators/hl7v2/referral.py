"""Translate a message into a canonical referral, a cancel, or a rejection with all faults."""

import dataclasses
import hashlib
from typing import Any

from pydantic import ValidationError

from schemas.referral import DeathReport, Referral
from services.intake.translators.hl7v2 import documents, field_paths, request
from services.intake.translators.hl7v2.dates import parse_instant, parse_timestamp, read_date
from services.intake.translators.hl7v2.er7 import Hl7Message
from services.intake.translators.hl7v2.header import Header
from services.intake.translators.hl7v2.local_fields import LocalValues, read_local_values
from services.intake.translators.hl7v2.message import LONGEST_ID
from services.intake.translators.hl7v2.partner_profile import PartnerProfile
from services.intake.translators.hl7v2.person import contacts, death, person, registered_practice
from services.intake.translators.hl7v2.referrer import referred_by
from services.intake.translators.hl7v2.visit import OF_A_STAY, is_stay, stay
from services.intake.translators.inbound_message import InboundMessage
from services.intake.translators.translator import (
    CONSENT_REFUSED,
    CancelReason,
    Intent,
    Issue,
    Rejection,
    Translated,
    cancel_hash,
    content_hash,
    death_report,
    drop_empty,
    issues_of,
    set_path,
    unique,
)

Content = dict[str, Any]

_INTENTS: dict[str, Intent] = {"I12": "new", "I13": "update", "I14": "cancel"}


def translated(
    header: Header, message: Hl7Message, profile: PartnerProfile, inbound: InboundMessage
) -> Translated | Rejection:
    """Translate the message. Refused consent rejects a new referral, and cancels a referral that it updates."""
    referral_id = _referral_id(message, profile)
    if header.trigger_event != "I14":
        _check_person(message)
    needed = len(message.reading.issues)
    local_values = read_local_values(message, profile)
    disagrees = local_values.values.get("consents.referral", {}).get("answer") == "no"
    if header.trigger_event == "I14" or (header.trigger_event == "I13" and disagrees):
        # Other faults must not prevent a cancel.
        del message.reading.issues[needed:]
        reason, died = request.cancel_reason(message, profile, local_values), _death(message, inbound, local_values)
        return _cancelled(header, message, inbound, referral_id, reason, died)
    if disagrees:
        message.reading.issues.append(
            Issue(local_values.sources["consents.referral"], "business-rule", CONSENT_REFUSED)
        )
    return _referred(header, message, profile, inbound, referral_id, local_values)


def _referral_id(message: Hl7Message, profile: PartnerProfile) -> str:
    """Return the originating referral identifier: with the partner, the identity of the referral."""
    issues = message.reading.issues
    identifiers = list(field_paths.texts(message, profile.referral_id))
    if not identifiers:
        issues.append(Issue(profile.referral_id, "required", "is required: the originating referral identifier"))
        return "unknown"
    field, referral_id = identifiers[0]
    if len(referral_id) > LONGEST_ID:
        issues.append(Issue(field.place, "too-long", f"is too long: at most {LONGEST_ID} characters"))
    other = next((one for one, value in identifiers if value != referral_id), None)
    if other:
        issues.append(Issue(other.place, "invariant", "differs from the referral identifier before it"))
    return referral_id


def _check_person(message: Hl7Message) -> None:
    people = message.all("PID")
    if not people:
        message.reading.issues.append(Issue("PID", "required", "is required"))
    for another in people[1:]:
        message.reading.issues.append(Issue(another.place, "invariant", "only one patient is allowed in a message"))


# ---- cancels ---------------------------------------------------------------------------------------------------------


def _death(message: Hl7Message, inbound: InboundMessage, local_values: LocalValues) -> DeathReport | None:
    """Return the report of a death that a cancel makes, as a referral would."""
    content = {"person": death(message, inbound.received_at)}
    for path, value in local_values.values.items():
        if path.startswith("person.death_reported"):
            set_path(content, path, value)
    return death_report(content["person"])


def _cancelled(
    header: Header,
    message: Hl7Message,
    inbound: InboundMessage,
    referral_id: str,
    reason: CancelReason,
    death_reported: DeathReport | None,
) -> Translated | Rejection:
    discharged_on = read_date(message.first("PV1", 45))
    if message.reading.issues:
        return _rejection(message)
    digest = cancel_hash(reason, discharged_on, death_reported)
    return Translated(
        message_ids=(_message_id(header, referral_id, digest),),
        referral_id=referral_id,
        intent="cancel",
        content_hash=digest,
        cancel_reason=reason,
        discharged_on=discharged_on,
        death_reported=death_reported,
        sent_at=parse_instant(header.made_at),
        correlation_id=inbound.correlation_id,
        warnings=tuple(message.reading.warnings),
    )


# ---- referrals -------------------------------------------------------------------------------------------------------


def _referred(
    header: Header,
    message: Hl7Message,
    profile: PartnerProfile,
    inbound: InboundMessage,
    referral_id: str,
    local_values: LocalValues,
) -> Translated | Rejection:
    attachments = documents.documents(message, inbound, referral_id)
    content = _content(header, message, profile, inbound, local_values)
    content |= {"attachments": [named for named, _ in attachments], "to_be_read": message.reading.unread}
    content["message"] = drop_empty(
        {
            "format": "hl7v2",
            "message_id": header.control_id,
            "referral_id": referral_id,
            "sent_at": parse_instant(header.made_at),
        }
    )
    try:
        referral = Referral.model_validate(content)
    except ValidationError as error:
        named = {issue.place for issue in message.reading.issues}
        issues = issues_of(error, lambda loc: _place(loc, local_values))
        message.reading.issues += [issue for issue in issues if issue.place not in named]
        return _rejection(message)
    if message.reading.issues:
        return _rejection(message)
    accepted = _accepted(header, inbound, referral, tuple(message.reading.warnings))
    return dataclasses.replace(accepted, documents=tuple(document for _, document in attachments))


def _accepted(header: Header, inbound: InboundMessage, referral: Referral, warnings: tuple[Issue, ...]) -> Translated:
    digest = content_hash(referral)
    return Translated(
        message_ids=(_message_id(header, referral.message.referral_id, digest),),
        referral_id=referral.message.referral_id,
        intent=_INTENTS[header.trigger_event],
        content_hash=digest,
        referral=referral,
        sent_at=referral.message.sent_at,
        correlation_id=inbound.correlation_id,
        warnings=warnings,
    )


def _message_id(header: Header, referral_id: str, digest: str) -> str:
    """Identify a message by its header and a hash of its referral and content.

    Senders reset their counters: the same MSH-10 with other content, or about another referral, is another message.
    """
    identity_hash = hashlib.sha256(f"{referral_id}\n{digest}".encode()).hexdigest()
    return f"hl7v2:{header.sending_application}:{header.sending_facility}:{header.control_id}:{identity_hash}"


def _content(
    header: Header, message: Hl7Message, profile: PartnerProfile, inbound: InboundMessage, local_values: LocalValues
) -> Content:
    needs, coded_reason = request.needs(message, profile, local_values), request.reason(message, profile, local_values)
    coded_reason = drop_empty(
        {**coded_reason, "text": "\n".join(filter(None, [coded_reason.get("text"), *documents.elsewhere(message)]))}
    )
    homeless = request.is_homeless(coded_reason, needs)
    content = {
        "sent_by": inbound.partner.sender,
        "referred_by": referred_by(message, profile, inbound.partner),
        "registered_practice": registered_practice(message, profile),
        "person": {"vouched_by": inbound.partner.vouches}
        | person(message, profile, inbound.received_at, homeless=homeless)
        | drop_empty({"communication_needs": request.communication_needs(message, profile, local_values)}),
        "contacts": contacts(message, profile),
        "needs": needs,
        "reason": coded_reason,
        "priority": request.priority(message, profile),
        "risk_flags": local_values.flags,
        "referred_on": _referred_on(header, message),
    }
    return _of_a_stay(_merge_local_values(drop_empty(content) | stay(message, profile), local_values), message, profile)


def _referred_on(header: Header, message: Hl7Message) -> Any:
    """Return RF1-7, else RF1-9, else the day of MSH-7 of a new referral; an update is sent on another day."""
    is_new = header.trigger_event == "I12" and len(header.made_at) >= 8
    made = parse_timestamp(header.made_at) if is_new else None
    return read_date(message.first("RF1", 7)) or read_date(message.first("RF1", 9)) or (made.date() if made else None)


def _merge_local_values(content: Content, local_values: LocalValues) -> Content:
    """Set the values of the partner's local fields, which override those of the standard's fields."""
    for path, value in local_values.values.items():
        set_path(content, path, value)
    return content


def _of_a_stay(content: Content, message: Hl7Message, profile: PartnerProfile) -> Content:
    """Complete a stay: a discharge date implies one. Remove all of it if PV1-2 is not an inpatient class."""
    if not is_stay(message, profile):
        return {name: value for name, value in content.items() if name not in OF_A_STAY}
    if any(content.get(name) for name in OF_A_STAY):
        content.setdefault("hospital", {})
    return content


# ---- faults ----------------------------------------------------------------------------------------------------------


def _rejection(message: Hl7Message) -> Rejection:
    return Rejection(tuple(unique(message.reading.issues)[:50]))


_SOURCES = {
    "message.message_id": "MSH-10",
    "message.referral_id": "RF1-6",
    "person.local_ids": "PID-3",
    "person.family_name": "PID-5",
    "person.given_names": "PID-5",
    "person.title": "PID-5",
    "person.address": "PID-11",
    "person.temporary_address": "PID-11",
    "person.phone": "PID-13",
    "person.email": "PID-13",
    "person.other_contact_points": "PID-13",
    "person.language": "PID-15",
    "person.communication_needs": "NTE-3",
    "person": "PID",
    "referred_by": "PRD",
    "registered_practice": "PD1-3",
    "contacts": "NK1",
    "needs": "RF1-10",
    "reason.text": "NTE-3",
    "reason": "DG1-3",
    "hospital.ward": "PV1-3",
    "hospital": "PV1-3",
    "risk_flags": "OBX-5",
    "consents": "OBX-16",
    "attachments": "OBX-5",
}


def _place(loc: tuple[int | str, ...], local_values: LocalValues) -> str:
    """Return the source of a value that the canonical model rejects (usually because it is too long)."""
    path = ".".join(str(part) for part in loc if isinstance(part, str))
    source = next((place for to, place in local_values.sources.items() if path.startswith(to)), None)
    return source or next((place for start, place in _SOURCES.items() if path.startswith(start)), "message")
