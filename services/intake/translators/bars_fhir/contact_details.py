"""How and where a person is reached: names, addresses, telephones and contacts that are in force.

Of several, the one in force counts: the explicit rank first, then the use, then the latest begun, then the order.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from services.intake.translators.bars_fhir import uk_core
from services.intake.translators.bars_fhir.bundle_index import display_text, line
from services.intake.translators.bars_fhir.in_force import in_force, interval
from services.intake.translators.bars_fhir.models import (
    CodeableConcept,
    Extension,
    FhirAddress,
    FhirContactPoint,
    HumanName,
    Patient,
    PatientContact,
    PlainExtension,
    Timing,
)
from services.intake.translators.cleaning import is_nothing
from services.intake.translators.translator import drop_empty, parse_date, postcode, unique

U = TypeVar("U", HumanName, FhirContactPoint, FhirAddress)

NAME_USES = ("official", "usual", None, "temp", "anonymous")
"""Uses of a name by which a person is known, the best first; not old, maiden or nickname."""

HOME_USES = ("home", None, "temp")
"""Uses of an address where the person lives; not old, work or billing."""

PRIVATE_USES = ("home", "mobile", None, "temp", "work")
WORK_USES = ("work", "mobile", None, "home", "temp")
"""Uses of a contact point, the best first: of the person or a contact, and of a professional."""


def ranked(items: Iterable[U], at: datetime, uses: Sequence[str | None]) -> list[U]:
    """Return the items in force at a time whose use is one of these, the best first."""
    latest_first = sorted((item for item in in_force(items, at) if item.use in uses), key=_began, reverse=True)
    return sorted(latest_first, key=lambda item: (getattr(item, "rank", None) or _UNRANKED, uses.index(item.use)))


_UNRANKED = 2**31
_ALWAYS = datetime.min.replace(tzinfo=UTC)


def _began(item: U) -> datetime:
    begins = interval(item.period.start) if item.period else None
    return begins[0] if begins else _ALWAYS


# ---- names ----------------------------------------------------------------------------------------------------------


def full_name(names: list[HumanName], at: datetime) -> str | None:
    """Return the best name in force on one line."""
    spoken = (
        _name(" ".join([*name.prefix, *name.given, name.family or ""])) or _name(name.text)
        for name in ranked(names, at, NAME_USES)
    )
    return next(filter(None, spoken), None)


def _name(text: str | None) -> str | None:
    """Return a name on one line; None without a letter."""
    name = line(text)
    return None if name is None or is_nothing(name) else name


# ---- addresses ------------------------------------------------------------------------------------------------------


def addresses(given: list[FhirAddress], at: datetime, *, homeless: bool) -> dict[str, Any]:
    """Return `address`: the home, else a temporary address; and `temporary_address` if there is a home too.

    `homeless`: the message has the code for no fixed abode.
    """
    carried = lived_at(given, at)
    if not carried:
        return {"address": {"no_fixed_abode": True}} if homeless else {}
    temporary = {"temporary_address": _address(carried[1], homeless=False)} if len(carried) > 1 else {}
    return {"address": _address(carried[0], homeless)} | temporary


def lived_at(given: list[FhirAddress], at: datetime) -> list[FhirAddress]:
    """Return the addresses in force that are carried: the home, else a temporary one; and a temporary one after a home."""
    filled = [one for one in ranked(given, at, HOME_USES) if one.type != "postal" and _is_filled(one)]
    temporary = [one for one in filled[1:] if one.use == "temp" != filled[0].use]
    return [*filled[:1], *temporary[:1]]


def address_lines(address: FhirAddress) -> list[str]:
    """Return the lines; the text is one if it does not repeat them, as PDS has it: `Student Accommodation`."""
    parts = [*address.line, address.city, address.district, address.state]
    lines = [text for text in map(line, parts) if text]
    text = line(address.text)
    return lines if not text or any(one.casefold() in text.casefold() for one in lines) else [text, *lines]


def _is_filled(address: FhirAddress) -> bool:
    return bool(address_lines(address) or postcode(line(address.postalCode)))


def _address(address: FhirAddress, homeless: bool) -> dict[str, Any]:
    code, lines, period = postcode(line(address.postalCode)), address_lines(address), address.period
    no_fixed_abode = any(text.casefold() in ("no fixed abode", "nfa", "no fixed address") for text in lines)
    return drop_empty(
        {
            "lines": lines,
            "postcode": code,
            "no_fixed_abode": no_fixed_abode or (code or "").startswith("ZZ99") or (homeless and code is None) or None,
            "uprn": uprn(address),
            "since": parse_date(period.start) if period else None,
            "until": parse_date(period.end) if period else None,
        }
    )


def uprn(address: FhirAddress) -> str | None:
    """Return the Unique Property Reference Number of an address; None if there is none, or a key of another kind."""
    for key in uk_core.extensions(address.extension, "AddressKey"):
        is_uprn = any(part.valueCoding and part.valueCoding.code == "UPRN" for part in uk_core.parts(key, "type"))
        value = next((line(part.valueString) for part in uk_core.parts(key, "value")), None)
        if is_uprn and value and value.isdigit():
            return value
    return None


# ---- contact points -------------------------------------------------------------------------------------------------


def reach(
    points: list[FhirContactPoint], system: str, at: datetime, uses: Sequence[str | None] = PRIVATE_USES
) -> str | None:
    """Return the best contact point of this system in force: a telephone number or an email address."""
    return next((one["value"] for one in _points(points, at, uses) if one["system"] == system), None)


def own_points(patient: Patient, at: datetime) -> dict[str, Any]:
    """Return `phone`, `email` and the other contact points of a person.

    BaRS has the person's own telephones also in a contact with relationship ONESELF.
    """
    selves = [contact for contact in current_contacts(patient, at) if is_self(contact)]
    points = [*patient.telecom, *(point for contact in selves for point in contact.telecom)]
    left = _points(points, at, PRIVATE_USES)
    found: dict[str, Any] = {}
    for system in ("phone", "email"):
        best = next((one for one in left if one["system"] == system), None)
        if best:
            found[system] = best["value"]
            left = [one for one in left if (one["system"], one["value"]) != (system, best["value"])]
    by_value = {(one["system"], one["value"]): one for one in reversed(left)}
    return found | drop_empty({"other_contact_points": list(reversed(by_value.values()))})


def _points(points: list[FhirContactPoint], at: datetime, uses: Sequence[str | None]) -> list[dict[str, Any]]:
    return [
        drop_empty({"system": _system(point), "value": line(point.value), "use": point.use})
        for point in ranked(points, at, uses)
        if line(point.value)
    ]


_SYSTEMS = ("phone", "email", "sms", "pager", "fax")


def _system(point: FhirContactPoint) -> str:
    """Return the system; UK Core's OtherContactSystem stands next to `system`, or inside it as the profile has it."""
    inside = point.system_.extension if point.system_ else []
    stated = uk_core.extensions([*point.extension, *inside], "OtherContactSystem")
    if any(one.valueCoding and one.valueCoding.code in ("textphone", "minicom") for one in stated):
        return "textphone"
    return point.system if point.system in _SYSTEMS else "other"


def preferred_contact(patient: Patient) -> dict[str, Any] | None:
    """Return how the person wants to be contacted, from ContactPreference."""
    preferences = list(uk_core.extensions(patient.extension, "ContactPreference"))
    methods = [part.valueCodeableConcept for part in _parts(preferences, "PreferredContactMethod")]
    formats = [part.valueCodeableConcept for part in _parts(preferences, _WRITTEN)]
    times = [line(part.valueString) or _times(part.valueTiming) for part in _parts(preferences, _TIMES)]
    found = {
        "method": _listed(uk_core.meaning(one, "PreferredContactMethod", uk_core.CONTACT_METHODS) for one in methods),
        "times": _listed(times),
        "written_format": _listed(uk_core.meaning(one, _WRITTEN, uk_core.WRITTEN_FORMATS) for one in formats),
    }
    return drop_empty(found) or None


def _parts(preferences: list[Extension], name: str) -> Iterator[PlainExtension]:
    return (part for preference in preferences for part in uk_core.parts(preference, name))


def _listed(texts: Iterable[str | None]) -> str | None:
    """Return all of several wishes: one of them may be not to be called."""
    return "; ".join(unique([text for text in texts if text])) or None


_WRITTEN = "PreferredWrittenCommunicationFormat"
_TIMES = "PreferredContactTimes"
_WHEN = {"MORN": "in the morning", "AFT": "in the afternoon", "EVE": "in the evening", "NIGHT": "at night"}
"""Words for codes of http://hl7.org/fhir/event-timing."""


def _first(texts: Iterable[str | None]) -> str | None:
    return next(filter(None, texts), None)


def _times(timing: Timing | None) -> str | None:
    """Return a timing in words: its text, else its days, hours and times of day."""
    if timing is None or timing.repeat is None:
        return display_text(timing.code) if timing else None
    repeat = timing.repeat
    listed = [
        *repeat.dayOfWeek,
        *(time[:5] for time in repeat.timeOfDay),
        *(_WHEN.get(one, one) for one in repeat.when),
    ]
    return display_text(timing.code) or ", ".join(listed) or None


# ---- contacts -------------------------------------------------------------------------------------------------------


def contacts(patient: Patient, at: datetime) -> list[dict[str, Any]]:
    """Return next of kin and carers in force by rank, without the contact for the person's own telephones."""
    entries = [
        drop_empty(
            {
                "name": full_name([contact.name] if contact.name else [], at),
                "relationship": _relationship(contact.relationship),
                "phone": contact_phone(contact, at),
                "rank": _rank(contact),
            }
        )
        for contact in current_contacts(patient, at)
        if not is_self(contact)
    ]
    return [entry for entry in entries if entry.keys() - {"rank"}]


def contact_phone(contact: PatientContact, at: datetime) -> str | None:
    """Return the number at which a contact is reached: by telephone, text message or textphone."""
    return _first(reach(contact.telecom, system, at) for system in ("phone", "sms", "textphone"))


def current_contacts(patient: Patient, at: datetime) -> list[PatientContact]:
    """Return the contacts whose period holds, by rank."""
    return sorted(in_force(patient.contact, at), key=lambda contact: _rank(contact) or _UNRANKED)


def _rank(contact: PatientContact) -> int | None:
    ranks = (one.valuePositiveInt for one in uk_core.extensions(contact.extension, "ContactRank"))
    return next((rank for rank in ranks if rank), None)


def is_self(contact: PatientContact) -> bool:
    """Return whether a contact is the person."""
    relationship_codes = {coding.code for concept in contact.relationship for coding in concept.coding}
    return "ONESELF" in relationship_codes or (contact.name is None and not contact.relationship)


_RELATIONSHIPS = {"C": "emergency contact", "N": "next of kin"}
"""Words for codes of http://terminology.hl7.org/CodeSystem/v2-0131 that came without a text."""


def _relationship(concepts: list[CodeableConcept]) -> str | None:
    """Return every relationship in words, such as `next of kin, daughter`."""
    codes = ([coding.code for coding in concept.coding if coding.code] for concept in concepts)
    spoken = (
        display_text(concept) or _first(_RELATIONSHIPS.get(code, code) for code in found)
        for concept, found in zip(concepts, codes, strict=True)
    )
    return ", ".join(unique([text for text in spoken if text])) or None
