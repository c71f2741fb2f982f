"""Translate a message into a canonical referral, a cancel, or a rejection with all faults; and an update merged with earlier messages."""

import dataclasses
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any, NamedTuple

from pydantic import ValidationError

from schemas.dates import LONDON
from schemas.referral import DeathReport, Referral, UnreadPart
from services.intake import limits
from services.intake.translators import plausibility
from services.intake.translators.hl7v2 import documents, field_paths, field_state, request, stay_identity
from services.intake.translators.hl7v2.dates import Interval, parse_interval, parse_timestamp, read_date
from services.intake.translators.hl7v2.documents import NamedAttachment
from services.intake.translators.hl7v2.er7 import FieldSelection, Hl7Message
from services.intake.translators.hl7v2.field_state import FieldState
from services.intake.translators.hl7v2.fitting import fitted, remove_implausible_dates
from services.intake.translators.hl7v2.header import Header
from services.intake.translators.hl7v2.local_fields import LocalValues, observations, read_local_values
from services.intake.translators.hl7v2.message import LONGEST_ID
from services.intake.translators.hl7v2.partner_profile import PartnerProfile, fold
from services.intake.translators.hl7v2.person import contacts, death, person, registered_practice
from services.intake.translators.hl7v2.referrer import referred_by
from services.intake.translators.hl7v2.visit import OF_A_STAY, is_stay, stay
from services.intake.translators.inbound_message import InboundMessage
from services.intake.translators.translator import (
    AttachmentContent,
    Intent,
    Issue,
    Rejection,
    Subject,
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


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a message says of itself. `made`: MSH-7, if the message makes a referral."""

    header: Header
    profile: PartnerProfile
    selection: FieldSelection
    inbound: InboundMessage
    originating: tuple[str, ...]
    sent: Interval
    made: str

    @property
    def identity(self) -> str:
        """The identity of the referral within the partner: the sender's id, within its authority; test messages apart."""
        named = "^".join(part.replace("^", "\\S\\") for part in (self.originating[0], *map(fold, self.originating[1:])))
        return f"^test^{named}" if self.is_test else named

    @property
    def is_test(self) -> bool:
        """True for a message for training or debugging (MSH-11)."""
        return self.header.processing_id in ("T", "D")

    @property
    def received_on(self) -> date:
        """The day of the receipt in London."""
        return self.inbound.received_at.astimezone(LONDON).date()

    def message_id(self, digest: str) -> str:
        """Identify a message by sender, MSH-7, MSH-9, MSH-10 and a hash of its referral and content.

        Senders reset their counters: the same MSH-10 of another time, trigger, referral or content is another message.
        """
        one = self.header
        named = f"{one.made_at}\n{one.trigger_event}\n{self.identity}\n{digest}"
        identity_hash = hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest()
        return f"hl7v2:{one.sending_application}:{one.sending_facility}:{one.control_id}:{identity_hash}"


def translated(
    header: Header, message: Hl7Message, profile: PartnerProfile, selection: FieldSelection, inbound: InboundMessage
) -> Translated | Rejection:
    """Translate the message. Refused consent withdraws the referral, also in a new one or an update."""
    message = of_one_visit(_of_one_person(message), profile)
    originating = originating_id(message, profile)
    envelope = envelope_of(header, message, profile, selection, inbound, originating)
    reading = message.reading
    needed, unread = len(reading.issues), reading.unread[:]
    local_values = read_local_values(message, profile)
    disagrees = local_values.values.get("consents.referral", {}).get("answer") == "no"
    if header.trigger_event == "I14" or disagrees:
        # Other faults must not prevent a cancel.
        del reading.issues[needed:]
        return _rejection(message) if needed else _cancelled(envelope, message, local_values)
    if not message.all("PID"):
        reading.issues.append(Issue("PID", "required", "is required"))
    return _referred(envelope, message, local_values, unread)


def envelope_of(
    header: Header,
    message: Hl7Message,
    profile: PartnerProfile,
    selection: FieldSelection,
    inbound: InboundMessage,
    originating: tuple[str, ...],
) -> Envelope:
    """Return what a message says of itself. A time in the future is replaced by that of the receipt."""
    stated = parse_interval(header.made_at)
    latest = inbound.received_at + plausibility.AHEAD
    is_trusted = stated is not None and not plausibility.is_ahead(stated.start, inbound.received_at)
    if stated and not is_trusted:
        explanation = "is more than five minutes in the future: the message was taken with the time of its receipt"
        message.reading.warn(Issue("MSH-7", "value", explanation))
    sent = Interval(stated.start, min(stated.end, latest)) if stated and is_trusted else None
    made = header.made_at if header.trigger_event == "I12" and is_trusted else ""
    return Envelope(
        header, profile, selection, inbound, originating, sent or Interval(inbound.received_at, latest), made
    )


_ID_REQUIRED = "is required: the originating referral identifier"


def originating_id(message: Hl7Message, profile: PartnerProfile) -> tuple[str, ...]:
    """Return the originating referral identifier, and its assigning authority, if it has one."""
    reading = message.reading
    identifiers = list(field_paths.texts(message, profile.referral_id))
    if not identifiers:
        reading.issues.append(Issue(profile.referral_id, "required", _ID_REQUIRED))
        return ("unknown",)
    field, referral_id = identifiers[0]
    for other, another in identifiers[1:]:
        if another != referral_id:
            reading.to_read(other.place, "invariant", other.prose())
    authority = field_paths.text(message, *profile.authority_fields)
    if len(referral_id) + len(authority or "") > LONGEST_ID:
        reading.issues.append(Issue(field.place, "too-long", f"is too long: at most {LONGEST_ID} characters"))
    return (referral_id, authority) if authority else (referral_id,)


def _of_one_person(message: Hl7Message) -> Hl7Message:
    """Return a message up to a second, different patient: a person reads it, because whose the rest is cannot be known."""
    people = message.all("PID")
    other = next((one for one in people[1:] if any(one.raw(at) != people[0].raw(at) for at in (3, 5, 7))), None)
    if other is None:
        return message
    message.reading.to_read(other.place, "invariant", None)
    return Hl7Message(message.segments[: message.segments.index(other)], message.left, message.reading)


def of_one_visit(message: Hl7Message, profile: PartnerProfile) -> Hl7Message:
    """Return a message with one visit (PV1): the first of an inpatient, else the first. A person reads another, different one.

    A referral is of one stay, which the end of another visit does not end.
    """
    visits = message.all("PV1")
    stays = [one for one in visits if profile.is_one(profile.stay_classes, one.text(2))]
    kept = next(iter([*stays, *visits]), None)
    different = [one for one in visits if kept is not None and one.sent_fields() != kept.sent_fields()]
    for one in different:
        message.reading.to_read(one.place, "invariant", None)
    return Hl7Message(tuple(one for one in message.segments if one not in different), message.left, message.reading)


# ---- cancels ---------------------------------------------------------------------------------------------------------


def _cancelled(envelope: Envelope, message: Hl7Message, local_values: LocalValues) -> Translated:
    reason = request.cancel_reason(message, envelope.profile, local_values)
    death_reported = _death(message, envelope.profile, envelope.inbound, local_values)
    discharged_on = read_date(message.first("PV1", 45))
    digest = cancel_hash(reason, discharged_on, death_reported)
    return Translated(
        intent="cancel",
        content_hash=digest,
        cancel_reason=reason,
        discharged_on=discharged_on,
        death_reported=death_reported,
        subject=subject_of(person(message, envelope.profile, envelope.inbound.received_at, homeless=False)),
        warnings=tuple(message.reading.warnings),
        **envelope_fields(envelope, digest),
    )


def _death(
    message: Hl7Message, profile: PartnerProfile, inbound: InboundMessage, local_values: LocalValues
) -> DeathReport | None:
    """Return the report of a death that a cancel makes, as a referral would."""
    content = {"person": death(message, profile, inbound.received_at)}
    for path, value in local_values.values.items():
        if path.startswith("person.death_reported"):
            set_path(content, path, value)
    return death_report(content["person"])


def envelope_fields(envelope: Envelope, digest: str) -> Content:
    """Return what a message says of itself, as fields of `Translated`."""
    return {
        "message_ids": (envelope.message_id(digest),),
        "referral_id": envelope.identity,
        "sent_at": envelope.sent.start,
        "sent_until": envelope.sent.end,
        "correlation_id": envelope.inbound.correlation_id,
        "is_queued": True,
        "is_test": envelope.is_test,
        "reply": {"originating_id": envelope.originating},
    }


# ---- referrals -------------------------------------------------------------------------------------------------------


class _Described(NamedTuple):
    """A referral, and the contents of its attachments that the message brought."""

    referral: Referral
    documents: tuple[AttachmentContent, ...]


def _referred(
    envelope: Envelope, message: Hl7Message, local_values: LocalValues, unread: list[UnreadPart]
) -> Translated | Rejection:
    """Translate a message by itself, ready to be merged with what earlier messages of its referral have said."""
    embedded = _embedded(envelope, message)
    described = _described(envelope, message, local_values, envelope.made, embedded)
    if isinstance(described, Rejection):
        return described
    said = field_state.said_by(
        message, envelope.sent, envelope.profile, made=envelope.made, documents=_names(embedded), unread=unread
    )
    state = field_state.with_discharge_judged(said, envelope.received_on)
    digest = _digest(described.referral, message)  # as sent: the same bytes are the same message on any day
    own = Translated(
        intent=_INTENTS[envelope.header.trigger_event],
        content_hash=digest,
        referral=_as_said(described, state, envelope.profile).referral,
        subject=subject_of(described.referral.person),
        warnings=tuple(message.reading.warnings),
        documents=described.documents,
        fields=state.encode(),
        visit_keys=_visit_keys(envelope, message),
        **envelope_fields(envelope, digest),
    )
    return dataclasses.replace(own, complete=partial(_completed, envelope, state, own))


def _completed(envelope: Envelope, state: FieldState, own: Translated, held: bytes) -> Translated | Rejection:
    """Return the message merged with what earlier messages have said: the whole referral, as it stands after it."""
    before, profile = field_state.decode(held), envelope.profile
    stated = field_state.without_other_visit(state, before, profile)
    is_whole = profile.updates == "whole"
    now = field_state.replaced(before, stated, profile) if is_whole else field_state.merged(before, stated)
    return completed(envelope, now, own)


def completed(envelope: Envelope, whole: FieldState, own: Translated) -> Translated | Rejection:
    """Return a message with the whole referral that a state describes."""
    message = field_state.current(whole, envelope.profile).message(envelope.selection, envelope.inbound.fillers)
    message.reading.unread += whole.unread
    local_values = read_local_values(message, envelope.profile)
    embedded = _embedded(envelope, message)
    described = _described(envelope, message, local_values, whole.made, embedded, whole.documents)
    if isinstance(described, Rejection):
        return described
    described = _as_said(described, whole, envelope.profile)
    return dataclasses.replace(
        own,
        referral=described.referral,
        content_hash=_digest(described.referral, message),
        subject=subject_of(described.referral.person),
        documents=(*own.documents, *described.documents),
        fields=whole.encode(),
        visit_keys=_visit_keys(envelope, message),
    )


def _visit_keys(envelope: Envelope, message: Hl7Message) -> frozenset[str]:
    about = stay_identity.of_message(message, envelope.profile, is_test=envelope.is_test)
    return about.stay_keys | about.number_keys


_Embedded = dict[str, list[NamedAttachment]]
"""Documents by the place of the segment that contains them."""


def _embedded(envelope: Envelope, message: Hl7Message) -> _Embedded:
    embedded = {}
    for segment in observations(message):
        if segment.table_code(2) == "ED" and segment.text(1) != field_state.IN_ATTACHMENTS:
            embedded[segment.place] = documents.embedded_in(segment, envelope.inbound, envelope.identity)
    return embedded


def _names(embedded: _Embedded) -> dict[str, tuple[Content, ...]]:
    return {place: tuple(named for named, _ in those) for place, those in embedded.items()}


def _described(
    envelope: Envelope,
    message: Hl7Message,
    local_values: LocalValues,
    made: str,
    embedded: _Embedded,
    held: Iterable[Content] = (),
) -> _Described | Rejection:
    """Return the referral that a message describes. `held`: attachments of earlier messages."""
    content = _content(message, envelope, local_values, made)
    whole_text = documents.long_reason(content, envelope.inbound, envelope.identity)
    brought = [*whole_text, *(one for those in embedded.values() for one in those)]
    named = [*(one for one, _ in whole_text), *held, *(one for one, _ in brought[len(whole_text) :])]
    content["attachments"] = field_state.each_once(named)
    content["message"] = _identity(envelope)
    today = plausibility.today(envelope.inbound.received_at)
    remove_implausible_dates(content, message.reading, today, lambda loc: _place(loc, local_values))
    try:
        referral = fitted(content, message.reading, lambda loc: _place(loc, local_values))
    except ValidationError as error:
        message.reading.issues += issues_of(error, lambda loc: _place(loc, local_values))
        return _rejection(message)
    kept = {one.reference for one in referral.attachments}
    stored = {one.reference: one for _, one in brought if one.reference in kept}
    return _rejection(message) if message.reading.issues else _Described(referral, tuple(stored.values()))


def _as_said(described: _Described, state: FieldState, profile: PartnerProfile) -> _Described:
    """Return a referral in which a discharge that was in the future when it was said is expected, not done.

    An expected date that was said after it stays.
    """
    if not state.expects_discharge:
        return described
    to = "expected_discharge_on"
    places = {"PV2-9", *(place for place, meaning in profile.fields.items() if meaning.to == to)}
    places |= {f"OBX\t{code}" for code, meaning in profile.observation_meanings.items() if meaning.to == to}
    update: Content = {"discharged_on": None}
    if not state.is_said_after_discharge(places):
        update[to] = described.referral.discharged_on
    return described._replace(referral=described.referral.model_copy(update=update))


def _identity(envelope: Envelope) -> Content:
    identity = {"format": "hl7v2", "message_id": envelope.header.control_id, "referral_id": envelope.originating[0]}
    return identity | ({"sent_at": envelope.sent.start} if parse_interval(envelope.header.made_at) else {})


def subject_of(content: Any) -> Subject:
    """Return who a referral or the content of a person is about."""
    read = content.get if isinstance(content, dict) else partial(getattr, content)
    return Subject(*(read(name, None) for name in ("nhs_number", "birth_date", "family_name")))


def _digest(referral: Referral, message: Hl7Message) -> str:
    """Return the hash of the content. The day of MSH-7 in place of a date of referral is not content."""
    is_stated = any(read_date(message.first("RF1", number)) for number in (7, 9))
    return content_hash(referral, *(() if is_stated else ("referred_on",)))


def _content(message: Hl7Message, envelope: Envelope, local_values: LocalValues, made: str) -> Content:
    profile, inbound = envelope.profile, envelope.inbound
    needs, coded_reason = request.needs(message, profile, local_values), request.reason(message, profile, local_values)
    coded_reason = drop_empty(
        {**coded_reason, "text": "\n".join(filter(None, [coded_reason.get("text"), *documents.elsewhere(message)]))}
    )
    homeless = request.is_homeless(coded_reason, needs)
    content = {
        "sent_by": inbound.partner.sender,
        "referred_by": referred_by(message, profile, inbound.partner, inbound.received_at),
        "registered_practice": registered_practice(message, profile),
        "person": {"vouched_by": inbound.partner.vouches}
        | person(message, profile, inbound.received_at, homeless=homeless)
        | drop_empty({"communication_needs": request.communication_needs(message, profile, local_values)}),
        "contacts": contacts(message, profile, inbound.received_at),
        "needs": needs,
        "reason": coded_reason,
        "priority": request.priority(message, profile),
        "risk_flags": local_values.flags,
        "referred_on": _referred_on(message, made),
    }
    return _of_a_stay(_merge_local_values(drop_empty(content) | stay(message, profile), local_values), message, profile)


def _referred_on(message: Hl7Message, made: str) -> Any:
    """Return RF1-7, else RF1-9, else the day of MSH-7 of the message that made the referral."""
    at = parse_timestamp(made) if len(made) >= 8 else None
    return read_date(message.first("RF1", 7)) or read_date(message.first("RF1", 9)) or (at.date() if at else None)


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
    return Rejection(tuple(unique(message.reading.issues)[: limits.ISSUES]))


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
