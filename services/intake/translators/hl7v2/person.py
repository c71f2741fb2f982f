"""The person of a message, from PID, PD1 and ARV; their registered practice and contacts."""

import re
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

from schemas import nhs_number
from schemas.fhir import LOCAL
from schemas.nhs_number import VerificationStatus
from services.intake.translators.hl7v2 import field_paths
from services.intake.translators.hl7v2.contact_details import (
    addresses,
    contact_points,
    family_name,
    full_name,
    full_professional,
    phone,
)
from services.intake.translators.hl7v2.dates import (
    day_of_message,
    is_in_force,
    read_any_date,
    read_date,
    read_dates,
    read_period,
)
from services.intake.translators.hl7v2.er7 import Hl7Message, Repetition, Segment
from services.intake.translators.hl7v2.partner_profile import PartnerProfile, fold
from services.intake.translators.hl7v2.targets import YES_NO
from services.intake.translators.plausibility import can_be_name, doubt, today
from services.intake.translators.translator import (
    Issue,
    drop_empty,
    unique,
)

AS_SENT = f"{LOCAL}/Id/nhs-number-as-sent"
"""System of what was sent as an NHS number and cannot be used as one: rejecting it would block the trust's queue."""

Content = dict[str, Any]


def person(message: Hl7Message, profile: PartnerProfile, received_at: datetime, *, homeless: bool) -> Content:
    """Return the canonical person. `homeless`: the message has the code for no fixed abode."""
    day = day_of_message(message, received_at)
    telecom = (one for number in (13, 14, 40) for one in message.repetitions("PID", number))
    facts: Content = {
        "birth_date": _birth_date(message, received_at),
        "gender": _sex(message, profile),
        "language": _language(message, profile),
        "restricted_access": _restriction(message, profile, day),
    }
    facts |= _ids(message, profile, day) | _name(message, profile, day) | contact_points(telecom, day)
    content = drop_empty(facts | addresses(message, profile, day, homeless=homeless))
    if message.all("PID") and not _is_identified(content):
        issue = Issue("PID-5", "required", "is required: a name, or an identifier of the person in PID-3")
        message.reading.issues.append(issue)
    return content | death(message, profile, received_at)


def _is_identified(content: Content) -> bool:
    """Return whether there is a name or a usable identifier."""
    named = content.get("family_name") or content.get("given_names") or content.get("nhs_number")
    return bool(named) or any(one["system"] != AS_SENT for one in content.get("local_ids", ()))


# ---- identifiers ----------------------------------------------------------------------------------------------------


NamedId = tuple[Repetition, str]


def _ids(message: Hl7Message, profile: PartnerProfile, day: date) -> Content:
    """Read the NHS number by its type or authority, and the others as the sender's local identifiers.

    A valid number of a type that is not agreed is a part to be read.
    """
    national, local = _identifiers(message, profile, day)
    numbers = unique([nhs_number.normalise(value) for _, value in national])
    _read_unknown_types(local, profile, numbers)
    local_ids = [identifier(one, value, profile) for one, value in local]
    is_filler = message.reading.fillers.is_number
    if len(numbers) == 1 and nhs_number.is_valid(numbers[0]) and not is_filler(numbers[0]):
        return {"nhs_number": numbers[0], "local_ids": local_ids, "nhs_number_status": _status(message, profile)}
    _read_different_numbers(national, numbers)
    status = VerificationStatus.FAILED_CHECK if len(numbers) == 1 else None
    as_sent = [{"system": AS_SENT, "value": number} for number in numbers]
    return {"local_ids": [*local_ids, *as_sent], "nhs_number_status": status}


def _identifiers(message: Hl7Message, profile: PartnerProfile, day: date) -> tuple[list[NamedId], list[NamedId]]:
    """Return the NHS numbers, and the other identifiers, in force."""
    national: list[NamedId] = []
    local: list[NamedId] = []
    for one, value, is_number in (*_standard_ids(message, profile, day), *_agreed_ids(message, profile)):
        (national if is_number else local).append((one, value))
    return national, local


def _standard_ids(message: Hl7Message, profile: PartnerProfile, day: date) -> Iterator[tuple[Repetition, str, bool]]:
    """Yield the identifiers (CX) in force of PID-3, and those of PID-2 and PID-4 that have a national type or authority.

    With each, yield whether it is an NHS number. In version 2.2, PID-2 is read as PID-3 is, and ten digits without a type
    or authority are an NHS number.
    """
    old = 2 if message.text("MSH", 12) == "2.2" else None
    agreed = {field_paths.split(place) for place in profile.nhs_fields}
    for number in (3, 2, 4):
        for one in message.repetitions("PID", number) if ("PID", number, 1) not in agreed else ():
            is_number = is_national(one, profile) or (number == old and _is_bare_number(one))
            is_read = is_number or number in (3, old) or _has_national_authority(one, profile)
            if is_read and (value := one.code()) and is_in_force(read_period(one, 7, 8), day):
                yield one, value, is_number


def _is_bare_number(one: Repetition) -> bool:
    """Return whether an identifier is ten digits without a type or authority."""
    return not _has_type(one) and re.fullmatch(r"[0-9]{10}", nhs_number.normalise(one.text() or "")) is not None


def _has_type(one: Repetition) -> bool:
    return bool(one.text(4) or one.text(5))


def _agreed_ids(message: Hl7Message, profile: PartnerProfile) -> Iterator[tuple[Repetition, str, bool]]:
    """Yield the identifiers of the agreed further fields: without a type or authority, each is an NHS number."""
    for place in profile.nhs_fields:
        name, number, component = field_paths.split(place)
        for one in message.repetitions(name, number):
            if value := one.code(component):
                yield one, value, component != 1 or not _has_type(one) or is_national(one, profile)


def _read_different_numbers(national: list[NamedId], numbers: list[str]) -> None:
    other = next((one for one, value in national if nhs_number.normalise(value) != numbers[0]), None)
    if other:
        other.reading.to_read(other.place, "invariant", other.prose())


def is_national(one: Repetition, profile: PartnerProfile) -> bool:
    """Return whether an identifier (CX) is an NHS number: by its type, or without one by its authority."""
    kind = one.text(5)
    if kind is not None:
        return profile.is_one(profile.nhs_types, kind)
    return _has_national_authority(one, profile)


def _has_national_authority(one: Repetition, profile: PartnerProfile) -> bool:
    return any(profile.is_one(profile.nhs_authorities, part) for part in one.subcomponents(4))


def _read_unknown_types(local: list[NamedId], profile: PartnerProfile, numbers: list[str]) -> None:
    for one, value in local:
        number = nhs_number.normalise(value)
        if number not in numbers and nhs_number.is_valid(number) and system_of(one, profile) is None:
            one.reading.to_read(one.place, "value", one.prose())


def identifier(one: Repetition, value: str, profile: PartnerProfile) -> Content:
    """Return a local identifier (CX): the system agreed for its type or authority, else one of the partner's own."""
    authority = next(filter(None, one.subcomponents(4)), "")
    own = f"/{authority}" if re.fullmatch(r"[A-Za-z0-9._-]{1,40}", authority) else ""
    return {"system": system_of(one, profile) or f"{LOCAL}/Id/{profile.partner}{own}", "value": value}


def system_of(one: Repetition, profile: PartnerProfile) -> str | None:
    """Return the system that is agreed for the type or the authority of an identifier (CX), or None."""
    kinds = [fold(kind) for kind in (one.text(5), *one.subcomponents(4)) if kind]
    return next((profile.id_systems[kind] for kind in kinds if kind in profile.id_systems), None)


_STATUS = re.compile(r"(?:NSTS)?(0[1-8])", re.IGNORECASE)


def _status(message: Hl7Message, profile: PartnerProfile) -> VerificationStatus:
    """Read the status of the NHS number (NSTS01 to NSTS08) in the agreed fields; it is never assumed."""
    for place in profile.nhs_status:
        for one, text in field_paths.texts(message, place):
            is_theirs = not place.startswith("PID-3.") or is_national(one, profile)
            if is_theirs and (match := _STATUS.fullmatch(text)):
                return VerificationStatus(match[1])
    return VerificationStatus.NOT_STATED


# ---- name, birth, sex, language -------------------------------------------------------------------------------------


_CURRENT, _DISPLAY, _UNTYPED, _OTHER, _UNKNOWN = range(5)
_NAME_TYPES = {
    "l": _CURRENT,
    "d": _DISPLAY,
    "u": _UNTYPED,
    **dict.fromkeys(("a", "m", "s", "n", "b", "t", "k", "i", "p", "c", "bad", "nb", "nouse", "msk", "nav"), _OTHER),
}
"""Ranks of name types (table 0200): legal, display, unspecified; alias, maiden, pseudonym, nickname and so on."""


def _name_rank(one: Repetition, profile: PartnerProfile) -> int:
    kind = one.text(7)
    if kind is None:
        return _UNTYPED
    agreed = profile.name_types.get(fold(kind))
    return {"current": _CURRENT, "other": _OTHER}[agreed] if agreed else _NAME_TYPES.get(fold(kind), _UNKNOWN)


def _name(message: Hl7Message, profile: PartnerProfile, day: date) -> Content:
    """Return the name in force of the best type. What leaves in doubt which it is, is a part to be read."""
    names = [one for one in message.repetitions("PID", 5) if full_name(one)]
    valid = [one for one in names if is_in_force(read_period(one, 12, 13, 10), day)] or names
    valid.sort(key=lambda one: (_name_rank(one, profile), not _family(one)))
    family = _family(valid[0]) if valid else None
    if family is None and message.all("PID"):
        message.reading.to_read(valid[0].place if valid else "PID-5", "required", valid[0].prose() if valid else None)
    if not valid:
        return {}
    _read_unclear_names(valid, profile)
    message.reading.warn_of(valid[0])
    return {"family_name": family, "given_names": list(_given(valid[0])), "title": valid[0].text(5)}


def _family(one: Repetition) -> str | None:
    """Return a surname; None for one that is entered if none is known."""
    name = family_name(one)
    return None if name is None or one.reading.fillers.is_name(name) else name


def _given(one: Repetition) -> Iterator[str]:
    """Yield the given names, but not what is entered if none is known."""
    for name in (one.text(2), *(one.text(3) or "").split()):
        if name and can_be_name(name, one.reading.fillers):
            yield name


def _read_unclear_names(valid: list[Repetition], profile: PartnerProfile) -> None:
    """Read a name of an unknown type if it is the only one, or another family name of an unknown or the best rank."""
    best = _name_rank(valid[0], profile)
    family = fold(_family(valid[0]) or "")
    for one in valid:
        rank, other = _name_rank(one, profile), fold(_family(one) or "")
        if best == _UNKNOWN or (rank in (best, _UNKNOWN) and other not in ("", family) and rank != _OTHER):
            one.reading.to_read(one.place, "value", one.prose())


def _birth_date(message: Hl7Message, received_at: datetime) -> date | None:
    repetition = field_paths.only(message, "PID", 7)
    born = read_any_date(repetition)
    if repetition and born and doubt("person.birth_date", born, today(received_at), repetition.reading.fillers):
        repetition.reading.to_read(repetition.place, "value", repetition.text())
        return None
    return born


_SEXES = {
    "1": "male",
    "2": "female",
    "0": "unknown",
    "9": "unknown",
    "m": "male",
    "f": "female",
    "o": "other",
    "u": "unknown",
}
"""NHS Data Dictionary (0 unknown, 9 not specified) and table 0001, in lower case."""


def _sex(message: Hl7Message, profile: PartnerProfile) -> str | None:
    """Return the gender; an unknown code gives `unknown`, since no rule depends on it."""
    one = field_paths.only(message, "PID", 8)
    return (field_paths.meaning(one, {**_SEXES, **profile.sex_codes}) or "unknown") if one else None


def _language(message: Hl7Message, profile: PartnerProfile) -> str | None:
    one = field_paths.only(message, "PID", 15)
    return (
        (field_paths.meaning(one, profile.language_codes) or field_paths.display_text(one) or one.text())
        if one
        else None
    )


# ---- death and restriction ------------------------------------------------------------------------------------------


def _is_reported_dead(message: Hl7Message, profile: PartnerProfile) -> bool:
    """Return whether PID-30, a time in PID-29, or the discharge in PV1-36 or PV1-37 states a death."""
    stated = _indicated(message, "PID", 30)
    has_died = (message.text("PID", 29) or "").strip("0") != ""
    return bool(stated) or has_died or "died" in map(profile.destination, field_paths.destinations(message, 36, 37))


def death(message: Hl7Message, profile: PartnerProfile, received_at: datetime) -> Content:
    """Return the report of a death, if one is stated, with the day of PID-29. No fault of that day refuses a death.

    A day in the future is a part to be read.
    """
    if not _is_reported_dead(message, profile):
        return {}
    stated = message.first("PID", 29)
    died_on = read_date(stated)
    if stated and died_on and died_on > today(received_at):
        stated.reading.to_read(stated.place, "value", stated.text())
        died_on = None
    return {"death_reported": drop_empty({"died_on": died_on})}


def _restriction(message: Hl7Message, profile: PartnerProfile, day: date) -> bool | None:
    """Return whether PD1-12 protects the person's data, or an ARV restricts access (table 0717); None if neither says.

    The deletion of a restriction does not say that none is left, nor do a period that is not in force and the
    protection's end on a later day (PD1-13). PV1-16 restricts by the partner's file.
    """
    statements = [not profile.is_one(("NO",), value) for one in message.all("ARV") for value in _access(one, day)]
    statements += [
        True
        for one in message.repetitions("PV1", 16)
        for code in field_paths.codes(one)
        if profile.is_one(profile.restricted_vips, code)
    ]
    protected = _indicated(message, "PD1", 12)
    if protected or (protected is False and is_in_force((read_dates(None, message.first("PD1", 13))[1], None), day)):
        statements.append(protected)
    return any(statements) if statements else None


def _indicated(message: Hl7Message, name: str, number: int) -> bool | None:
    """Return whether an indicator says yes: of several values, one yes is enough. Any other code is a part to be read."""
    said = [field_paths.meaning(one, YES_NO, decides=True) for one in message.repetitions(name, number)]
    return True if True in said else False if said and None not in said else None


def _access(restriction: Segment, day: date) -> list[str]:
    """Return the values of an access restriction in force (ARV-3)."""
    period = restriction.first(6)
    if restriction.table_code(2) == "D" or not (period is None or is_in_force(read_period(period, 1, 2), day)):
        return []
    return [code for one in restriction.all(3) for code in field_paths.codes(one)]


# ---- practice and contacts ------------------------------------------------------------------------------------------


_PRACTICE = re.compile(r"(?!V8199[789])[A-Z][0-9]{5}")
"""ODS code of a GP practice; V81997 to V81999 mean that there is none."""


def registered_practice(message: Hl7Message, profile: PartnerProfile) -> Content | None:
    """Return the practice in PD1-3, or in the fields of the partner's file."""
    texts = [text.upper() for place in profile.practice.ods for text in field_paths.parts(message, place)]
    codes = unique([code for code in texts if _PRACTICE.fullmatch(code)])
    ods = codes[0] if codes else None
    if len(codes) > 1:
        message.reading.to_read(profile.practice.ods[0], "invariant", ", ".join(codes))
    name = field_paths.text(message, profile.practice.name) if profile.practice.name else None
    return drop_empty({"ods": ods, "name": name}) or None


def contacts(message: Hl7Message, profile: PartnerProfile, received_at: datetime) -> list[Content]:
    """Return next of kin whose role is in force, and the GP by name, for the hub to contact."""
    day = day_of_message(message, received_at)
    in_force = (one for one in message.all("NK1") if is_in_force(read_dates(one.first(8), one.first(9)), day))
    gp = _gp(message, profile, day)
    return [
        one for one in (*(_kin(kin, day) for kin in in_force), {"name": gp, "relationship": "GP"} if gp else {}) if one
    ]


def _kin(kin: Segment, day: date) -> Content:
    number = phone([*kin.all(5), *kin.all(6)], day)
    return drop_empty({"name": full_name(kin.first(2)), "relationship": _relationship(kin), "phone": number})


_RELATIONSHIPS = {
    "spo": "spouse",
    "dom": "partner",
    "chd": "child",
    "par": "parent",
    "fth": "father",
    "mth": "mother",
    "sib": "sibling",
    "cgv": "carer",
    "grd": "guardian",
    "emc": "emergency contact",
    "fnd": "friend",
    "frd": "friend",
    "nbr": "neighbour",
}
"""Texts of table 0063 and other common codes, by code in lower case."""


def _relationship(kin: Segment) -> str | None:
    one = kin.first(3)
    return (field_paths.display_text(one) or field_paths.meaning(one, _RELATIONSHIPS) or one.text()) if one else None


def _gp(message: Hl7Message, profile: PartnerProfile, day: date) -> str | None:
    """Return the GP in PD1-4 or the field of the partner's file, else of a ROL in force, a primary care provider (PP)."""
    name, number, _ = field_paths.split(profile.practice.gp)
    roles = [
        role
        for role in message.all("ROL")
        if any(fold(code) == "pp" for one in role.all(3) for code in field_paths.codes(one))
    ]
    providers = [
        one for role in roles if is_in_force(read_dates(role.first(5), role.first(6)), day) for one in role.all(4)
    ]
    candidates = (full_professional(one) for one in [*message.repetitions(name, number), *providers])
    return next((candidate for candidate in candidates if candidate), None)
