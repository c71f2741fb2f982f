"""ADT: what a hospital's administration system says of a stay, applied to the partner's own referrals of that stay.

It opens no referral, and starts no stay. A message that concerns no referral is not stored. Source: HL7 v2.5 chapter 3.

| trigger | effect on each referral of the stay |
|---|---|
| A01, A02, A12 | admission, transfer, cancelled transfer: where the person stays |
| A03 | discharge: day and destination; to a site of the same team it is a transfer |
| A08, A31 | update of the person and the stay |
| A11 | the admission was cancelled, until A01 |
| A13 | the discharge was cancelled: day and destination are deleted |
| A40 | merge of two hospital numbers: proposed for tracing; changes nothing |
"""

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from services.intake.translators.hl7v2 import field_paths, field_state, referral, stay_identity
from services.intake.translators.hl7v2.dates import parse_days
from services.intake.translators.hl7v2.er7 import FieldSelection, Hl7Message
from services.intake.translators.hl7v2.field_state import ADMISSION, FieldState, Unit
from services.intake.translators.hl7v2.header import Header
from services.intake.translators.hl7v2.partner_profile import PartnerProfile, fold
from services.intake.translators.hl7v2.person import death, person
from services.intake.translators.hl7v2.stay_identity import StayIdentity
from services.intake.translators.hl7v2.visit import CANCELLED
from services.intake.translators.inbound_message import InboundMessage
from services.intake.translators.translator import Rejection, Translated, VisitMessage

_PERSON = ("PID-5", "PID-7", "PID-8", "PID-11", "PID-13", "PID-14", "PID-15", "PID-29", "PID-30", "PID-40")
_PROTECTION = ("PD1-12", "PD1-13", "ARV")
_STAY = ("PV1-2", "PV1-3", "PV1-16", "PV1-19", "PV1-44", "PV2-9")
_CLOCK = "MSH-7"
_DISCHARGED = ("PV1-36", "PV1-37", "PV1-45")

_NEVER_DELETED = ("PID-5", "PID-7")
"""A name or birth date is corrected, not deleted: they say who the person is."""


@dataclass(frozen=True, slots=True)
class _Trigger:
    """What messages with a trigger say: units that they may change, units that they delete, and the state of the admission."""

    may_change: frozenset[str] = frozenset((*_PERSON, *_PROTECTION, *_STAY, _CLOCK))
    deletes: tuple[str, ...] = ()
    admission: str | None = None


MERGE, DISCHARGE, OTHER = "A40", "A03", "other"

_UPDATE = _Trigger(may_change=frozenset((*_PERSON, *_PROTECTION, *_STAY, *_DISCHARGED, _CLOCK)))
_TRANSFER = _Trigger()
_TRIGGERS: Mapping[str, _Trigger] = {
    "A01": _Trigger(admission="A01"),
    "A02": _TRANSFER,
    DISCHARGE: dataclasses.replace(_UPDATE, deletes=_DISCHARGED),
    "A08": _UPDATE,
    "A11": _Trigger(may_change=frozenset(), admission=CANCELLED),
    "A12": _TRANSFER,
    "A13": _Trigger(deletes=_DISCHARGED),
    "A31": _UPDATE,
    MERGE: _Trigger(may_change=frozenset()),
    OTHER: _Trigger(may_change=frozenset()),
}


def select_fields(selection: FieldSelection) -> FieldSelection:
    """Return the fields that are read of ADT, given those of referrals."""
    more = {"EVN": (2, 6), "MRG": (1,), "PV1": (6,)}
    return {name: tuple(sorted({*selection.get(name, ()), *more.get(name, ())})) for name in {*selection, *more}}


def translated(
    header: Header, message: Hl7Message, profile: PartnerProfile, selection: FieldSelection, inbound: InboundMessage
) -> Translated | Rejection:
    """Translate a message: by which keys its referrals are found, and then what it says of each of them."""
    if message.reading.issues:
        return Rejection(tuple(message.reading.issues))
    message = referral.of_one_visit(message, profile)
    envelope = referral.envelope_of(header, message, profile, selection, inbound, ("",))
    trigger = header.trigger_event if header.trigger_event in _TRIGGERS else OTHER
    about = _identity(trigger, envelope, message)
    keys = about.number_keys if trigger == MERGE else about.stay_keys
    visit = VisitMessage(trigger, tuple(sorted(keys)), is_merge=trigger == MERGE)
    of_referral = partial(_of_referral, visit, envelope, message, about)
    return Translated((), "", "update", "", visit=visit, of_referral=of_referral)


def _identity(trigger: str, envelope: referral.Envelope, message: Hl7Message) -> StayIdentity:
    """Return what identifies the stay; of an outpatient, or a trigger that is not read, nothing."""
    profile, is_test = envelope.profile, envelope.is_test
    if trigger == OTHER:
        return StayIdentity()
    if trigger == MERGE:
        merged = [*message.repetitions("PID", 3), *message.repetitions("MRG", 1)]
        return StayIdentity(numbers=frozenset(stay_identity.hospital_numbers(merged, profile)), is_test=is_test)
    places = ("PV1-3", "PV1-6") if _TRIGGERS[trigger] is _TRANSFER else ("PV1-3",)
    return stay_identity.of_message(message, profile, is_test=is_test, places=places)


def _of_referral(
    visit: VisitMessage, envelope: referral.Envelope, message: Hl7Message, about: StayIdentity, referral_id: str
) -> Translated:
    """Return what the message says of one of the referrals that were found."""
    named, inbound = dataclasses.replace(envelope, originating=(referral_id,)), envelope.inbound
    digest = hashlib.sha256(inbound.body).hexdigest()
    own = Translated(
        intent="update",
        content_hash=digest,
        subject=referral.subject_of(person(message, envelope.profile, inbound.received_at, homeless=False)),
        warnings=tuple(message.reading.warnings),
        visit=visit,
        header=envelope.header,
        **referral.envelope_fields(named, digest) | {"referral_id": referral_id, "reply": {}},
    )
    changes = _changes(visit.trigger, envelope, message)
    return dataclasses.replace(own, complete=partial(_completed, visit, envelope, about, changes, own))


def _completed(
    visit: VisitMessage,
    envelope: referral.Envelope,
    about: StayIdentity,
    changes: FieldState,
    own: Translated,
    held: bytes,
) -> Translated | Rejection | None:
    """Return the whole referral after the message; None if the message does not concern it, as it stands now."""
    state = field_state.decode(held)
    message, profile = state.message(envelope.selection, envelope.inbound.fillers), envelope.profile
    identity = stay_identity.of_message(message, profile, is_test=about.is_test)
    if visit.is_merge:
        return own if about.numbers & identity.numbers else None
    if not about.is_same(identity):
        return None
    originating = referral.originating_id(message, profile)
    whole = field_state.merged(state, changes)
    return referral.completed(dataclasses.replace(envelope, originating=originating), whole, own)


# ---- what a message says of the referral -----------------------------------------------------------------------------


def _changes(trigger: str, envelope: referral.Envelope, message: Hl7Message) -> FieldState:
    """Return the units that a message says; those that its trigger deletes, unless it says them."""
    rule, profile = _TRIGGERS[trigger], envelope.profile
    at = field_state.microseconds(envelope.sent.start)
    implied: dict[str, str | None] = dict.fromkeys(rule.deletes)
    implied |= {ADMISSION: rule.admission} if rule.admission else {}
    units = _units(implied.items(), at)
    site = profile.site.read_from.partition(".")[0] if profile.site else "PV1-3"
    said = field_state.said_by(message, envelope.sent, profile)
    is_placed = field_state.says_site(said, profile.site.read_from if profile.site else site)
    may_change = {*rule.may_change, site} if is_placed and "PV1-3" in rule.may_change else rule.may_change
    for key, unit in said.units.items():
        if key in may_change and not (unit.lines is None and key in _NEVER_DELETED):
            units[key] = unit
    if trigger == DISCHARGE:
        units |= _units(_discharge(envelope, message), at)
    changes = FieldState(units, field_state.microseconds(envelope.sent.end))
    return field_state.with_discharge_judged(changes, envelope.received_on)


def _units(implied: Iterable[tuple[str, str | None]], at: int) -> dict[str, Unit]:
    """Return the units of fields that a trigger implies; one without a value is deleted."""
    return {key: Unit(at, (at, 0), (line,) if line else None) for key, line in implied}


def _discharge(envelope: referral.Envelope, message: Hl7Message) -> Iterator[tuple[str, str | None]]:
    """Yield what a discharge implies: its time if PV1-45 gives none; to a site of the partner's own, the transfer there."""
    transfer = _own_site(message, envelope)
    if transfer is not None:
        yield from ((key, None) for key in (*_DISCHARGED, "PV1-3"))
        yield transfer
    elif not _says_a_day(message.text("PV1", 45)):
        times = (message.text("EVN", 6), message.text("EVN", 2), envelope.header.made_at)
        at = next((time for time in times if time and re.match("[0-9]{8}", time)), None)
        yield "PV1-45", at or f"{envelope.inbound.received_at:%Y%m%d%H%M%S%z}"


def _says_a_day(time: str | None) -> bool:
    """Return whether a time is known to the day; an impossible one is read by a person."""
    try:
        days = parse_days(time) if time else None
    except ValueError:
        return True
    return days is not None and days[0] == days[1]


def _own_site(message: Hl7Message, envelope: referral.Envelope) -> tuple[str, str] | None:
    """Return the unit of the partner's own site that a living person was discharged to (PV1-37), as the partner's file has it."""
    site = envelope.profile.site
    if site is None or death(message, envelope.profile, envelope.inbound.received_at):
        return None
    own = next((code for code in field_paths.destinations(message, 37) if fold(code) in site.meanings), None)
    name, number, component = field_paths.split(site.read_from)
    return (f"{name}-{number}", "^" * (component - 1) + own) if own else None
