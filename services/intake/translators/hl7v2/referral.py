"""A message as a canonical referral, or as its cancel; or everything that is wrong with it."""

import hashlib
from typing import Any

from pydantic import ValidationError

from schemas.referral import Referral
from services.intake.translators.contract import (
    CONSENT_REFUSED,
    CancelReason,
    Delivery,
    Document,
    Fault,
    Intent,
    Refusal,
    Translated,
    cancel_hash,
    content_hash,
    faults_of,
    once,
    unnamed,
)
from services.intake.translators.hl7v2 import documents, places, request
from services.intake.translators.hl7v2.dates import day, moment, parsed
from services.intake.translators.hl7v2.header import Header
from services.intake.translators.hl7v2.mapping import Mapping
from services.intake.translators.hl7v2.message import LONGEST_ID
from services.intake.translators.hl7v2.person import contacts, person, registered_practice
from services.intake.translators.hl7v2.referrer import referred_by
from services.intake.translators.hl7v2.segments import Message
from services.intake.translators.hl7v2.stay import OF_A_STAY, is_stay, stay
from services.intake.translators.hl7v2.told import Filled, filled

Content = dict[str, Any]

_INTENTS: dict[str, Intent] = {"I12": "new", "I13": "update", "I14": "cancel"}


def translated(header: Header, message: Message, mapping: Mapping, delivery: Delivery) -> Translated | Refusal:
    """What the message asks. A person who does not agree is not referred, and one who agrees no longer is taken back."""
    referral_id = _referral_id(message, mapping)
    if header.trigger_event != "I14":
        _check_person(message)
    needed = len(message.reading.faults)
    told = filled(message, mapping)
    disagrees = told.values.get("consents.referral", {}).get("answer") == "no"
    if header.trigger_event == "I14" or (header.trigger_event == "I13" and disagrees):
        # What else is wrong with it keeps nobody's referral going.
        del message.reading.faults[needed:]
        return _cancelled(header, message, delivery, referral_id, request.why_cancelled(message, mapping, told))
    if disagrees:
        message.reading.faults.append(Fault(told.places["consents.referral"], "business-rule", CONSENT_REFUSED))
    return _referred(header, message, mapping, delivery, referral_id, told)


def _referral_id(message: Message, mapping: Mapping) -> str:
    """The originating referral identifier: with the partner, the identity of the referral."""
    given = list(places.texts(message, mapping.referral_id))
    if not given:
        message.reading.faults.append(
            Fault(mapping.referral_id, "required", "the originating referral identifier is required")
        )
        return "unknown"
    if len(given[0][1]) > LONGEST_ID:
        message.reading.faults.append(
            Fault(given[0][0].place, "too-long", f"at most {LONGEST_ID} characters are taken")
        )
    other = next((one for one, said in given if said != given[0][1]), None)
    if other:
        message.reading.faults.append(
            Fault(other.place, "invariant", "is another referral identifier than the one before it")
        )
    return given[0][1]


def _check_person(message: Message) -> None:
    people = message.all("PID")
    if not people:
        message.reading.faults.append(Fault("PID", "required", "the patient is required"))
    for another in people[1:]:
        message.reading.faults.append(Fault(another.place, "invariant", "only one patient is allowed in a message"))


# ---- taken back ------------------------------------------------------------------------------------------------------


def _cancelled(
    header: Header, message: Message, delivery: Delivery, referral_id: str, why: CancelReason
) -> Translated | Refusal:
    discharged_on = day(message.first("PV1", 45))
    if message.reading.faults:
        return _refusal(message)
    digest = cancel_hash(why, discharged_on)
    return Translated(
        message_ids=(_message_id(header, referral_id, digest),),
        referral_id=referral_id,
        intent="cancel",
        content_hash=digest,
        cancel_reason=why,
        discharged_on=discharged_on,
        sent_at=moment(header.made_at),
        correlation_id=delivery.correlation_id,
    )


# ---- referred --------------------------------------------------------------------------------------------------------


def _referred(
    header: Header, message: Message, mapping: Mapping, delivery: Delivery, referral_id: str, told: Filled
) -> Translated | Refusal:
    kept = documents.documents(message, delivery, referral_id)
    content = _content(header, message, mapping, delivery, told)
    content["attachments"] = [named for named, _ in kept]
    content["message"] = unnamed(
        {
            "format": "hl7v2",
            "message_id": header.control_id,
            "referral_id": referral_id,
            "sent_at": moment(header.made_at),
        }
    )
    try:
        referral = Referral.model_validate(content)
    except ValidationError as error:
        named = {fault.place for fault in message.reading.faults}
        found = faults_of(error, lambda loc: _place(loc, told))
        message.reading.faults += [fault for fault in found if fault.place not in named]
        return _refusal(message)
    if message.reading.faults:
        return _refusal(message)
    return _accepted(header, delivery, referral, tuple(document for _, document in kept))


def _accepted(header: Header, delivery: Delivery, referral: Referral, kept: tuple[Document, ...]) -> Translated:
    digest = content_hash(referral)
    return Translated(
        message_ids=(_message_id(header, referral.message.referral_id, digest),),
        referral_id=referral.message.referral_id,
        intent=_INTENTS[header.trigger_event],
        content_hash=digest,
        referral=referral,
        sent_at=referral.message.sent_at,
        correlation_id=delivery.correlation_id,
        documents=kept,
    )


def _message_id(header: Header, referral_id: str, digest: str) -> str:
    """With what it says, of which referral: senders reset their counters, and the same MSH-10 with other content, or about
    another referral, is a message of its own."""
    said = hashlib.sha256(f"{referral_id}\n{digest}".encode()).hexdigest()
    return f"hl7v2:{header.sending_application}:{header.sending_facility}:{header.control_id}:{said}"


def _content(header: Header, message: Message, mapping: Mapping, delivery: Delivery, told: Filled) -> Content:
    asked, why = request.needs(message, mapping, told), request.reason(message, mapping, told)
    why = unnamed({**why, "text": "\n".join(filter(None, [why.get("text"), *documents.elsewhere(message)]))})
    homeless = request.is_homeless(why, asked)
    content = {
        "sent_by": delivery.partner.sender,
        "referred_by": referred_by(message, mapping, delivery.partner),
        "registered_practice": registered_practice(message, mapping),
        "person": person(message, mapping, delivery.received_at, homeless=homeless)
        | unnamed({"communication_needs": request.communication_needs(message, mapping, told)}),
        "contacts": contacts(message, mapping),
        "needs": asked,
        "reason": why,
        "priority": request.priority(message, mapping),
        "risk_flags": told.flags,
        "referred_on": _referred_on(header, message),
    }
    return _of_a_stay(_told(unnamed(content) | stay(message, mapping), told), message, mapping)


def _referred_on(header: Header, message: Message) -> Any:
    """RF1-7, else RF1-9, else the day of a new referral's message: an update is made on another day."""
    is_new = header.trigger_event == "I12" and len(header.made_at) >= 8
    made = parsed(header.made_at) if is_new else None
    return day(message.first("RF1", 7)) or day(message.first("RF1", 9)) or (made.date() if made else None)


def _told(content: Content, told: Filled) -> Content:
    """What the partner's file says goes before what the standard's own field says."""
    for path, value in told.values.items():
        here = content
        *outer, last = path.split(".")
        for part in outer:
            here = here.setdefault(part, {})
        here[last] = value
    return content


def _of_a_stay(content: Content, message: Message, mapping: Mapping) -> Content:
    """A date of leaving tells of a stay too. Where PV1-2 says that nobody stays, nothing of one is taken."""
    if not is_stay(message, mapping):
        return {name: value for name, value in content.items() if name not in OF_A_STAY}
    if any(content.get(name) for name in OF_A_STAY):
        content.setdefault("hospital", {})
    return content


# ---- what is wrong ---------------------------------------------------------------------------------------------------


def _refusal(message: Message) -> Refusal:
    return Refusal(tuple(once(message.reading.faults)[:50]))


_SOURCES = {
    "message.message_id": "MSH-10",
    "message.referral_id": "RF1-6",
    "person.local_ids": "PID-3",
    "person.family_name": "PID-5",
    "person.given_names": "PID-5",
    "person.title": "PID-5",
    "person.address": "PID-11",
    "person.phone": "PID-13",
    "person.email": "PID-13",
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


def _place(loc: tuple[int | str, ...], told: Filled) -> str:
    """Where a value that the canonical model refuses (mostly: too long) comes from."""
    path = ".".join(str(part) for part in loc if isinstance(part, str))
    found = next((place for to, place in told.places.items() if path.startswith(to)), None)
    return found or next((place for start, place in _SOURCES.items() if path.startswith(start)), "message")
