"""The person of a message, from PID and PD1; their registered practice and contacts."""

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from schemas import nhs_number
from schemas.fhir import LOCAL
from schemas.nhs_number import VerificationStatus
from services.intake.translators.hl7v2 import field_paths
from services.intake.translators.hl7v2.dates import parse_timestamp, read_date
from services.intake.translators.hl7v2.er7 import Hl7Message, Repetition, Segment
from services.intake.translators.hl7v2.partner_profile import PartnerProfile, fold
from services.intake.translators.translator import Issue, drop_empty, postcode, unique

AS_SENT = f"{LOCAL}/Id/nhs-number-as-sent"
"""System of an NHS number with an invalid check digit: rejecting it would block the trust's queue."""

Content = dict[str, Any]


def person(message: Hl7Message, profile: PartnerProfile, received_at: datetime, *, homeless: bool) -> Content:
    """Return the canonical person. `homeless`: the message has the code for no fixed abode."""
    content = drop_empty(
        {
            **_ids(message, profile),
            **_name(message),
            "birth_date": _birth_date(message, received_at),
            "gender": _sex(message, profile),
            **_addresses(message, profile, homeless),
            **_points(one for number in (13, 14, 40) for one in message.repetitions("PID", number)),
            "language": _language(message, profile),
            "restricted_access": _restriction(message),
        }
    )
    return content | death(message, received_at)


# ---- identifiers ----------------------------------------------------------------------------------------------------


def _ids(message: Hl7Message, profile: PartnerProfile) -> Content:
    """Read PID-3: the NHS number by its type, the others as the sender's local identifiers."""
    identifiers = [(one, value) for one in message.repetitions("PID", 3) if (value := one.text())]
    national = [(one, value) for one, value in identifiers if profile.is_one(profile.nhs_types, one.text(5))]
    local = [_local_id(one, value, profile) for one, value in identifiers if (one, value) not in national]
    numbers = unique([nhs_number.normalise(value) for _, value in national])
    if len(numbers) > 1:
        issue = Issue(national[1][0].place, "invariant", "differs from the NHS number before it")
        message.reading.issues.append(issue)
    number = numbers[0] if numbers else None
    if number is not None and not nhs_number.is_valid(number):
        local.append({"system": AS_SENT, "value": number})
        return {"local_ids": local, "nhs_number_status": VerificationStatus.FAILED_CHECK}
    return {"nhs_number": number, "local_ids": local, "nhs_number_status": _status(message)}


def _local_id(one: Repetition, value: str, profile: PartnerProfile) -> Content:
    kinds = [fold(kind) for kind in (one.text(5), one.text(4)) if kind]
    named = next((profile.id_systems[kind] for kind in kinds if kind in profile.id_systems), None)
    return {"system": named or f"{LOCAL}/Id/{profile.partner}", "value": value}


_STATUS = re.compile(r"(?:NSTS)?(0[1-8])", re.IGNORECASE)


def _status(message: Hl7Message) -> VerificationStatus:
    """Read PID-32 as UK senders use it: the tracing status of the NHS number (NSTS01 to NSTS08), never assumed."""
    matches = (_STATUS.fullmatch(text) for _, text in field_paths.texts(message, "PID-32"))
    return next((VerificationStatus(match[1]) for match in matches if match), VerificationStatus.NOT_STATED)


# ---- name, birth, sex, language -------------------------------------------------------------------------------------


_NOT_THEIRS = ("A", "M", "S", "N", "B", "T", "K", "I", "P", "C")
"""Name types (table 0200) that are not a legal or current name: alias, maiden, pseudonym, nickname and so on."""


def _name(message: Hl7Message) -> Content:
    names = message.repetitions("PID", 5)
    legal = [one for one in names if one.text(7) in ("L", "D")]
    current = [one for one in names if one.text(7) not in _NOT_THEIRS]
    chosen = next(iter(legal or current or names), None)
    family = chosen.text() if chosen else None
    if chosen is None or family is None:
        place = f"{chosen.place}.1" if chosen else "PID-5"
        if message.all("PID"):
            message.reading.issues.append(Issue(place, "required", "is required: a name with a family name"))
        return {}
    forenames = [chosen.text(2), *(chosen.text(3) or "").split()]
    return {"family_name": family, "given_names": [one for one in forenames if one], "title": chosen.text(5)}


def _birth_date(message: Hl7Message, received_at: datetime) -> Any:
    repetition = message.first("PID", 7)
    born = read_date(repetition)
    if repetition and born and born > received_at.date():
        message.reading.issues.append(Issue(repetition.place, "value", "is in the future"))
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
    code = message.text("PID", 8)
    return profile.sex_codes.get(fold(code)) or _SEXES.get(fold(code), "unknown") if code else None


def _language(message: Hl7Message, profile: PartnerProfile) -> str | None:
    repetition = message.first("PID", 15)
    code = repetition.text() if repetition else None
    return (profile.language_codes.get(fold(code)) if code else None) or (repetition and repetition.text(2)) or code


# ---- death and restriction ------------------------------------------------------------------------------------------


_DIED = "79"
"""Discharge destination of the NHS Data Dictionary: not applicable, the patient died."""


def _is_reported_dead(message: Hl7Message) -> bool:
    """Return whether PID-30, a time in PID-29, or the discharge in PV1-36 or PV1-37 states a death."""
    discharges = (one.text() for number in (36, 37) for one in message.repetitions("PV1", number))
    return message.text("PID", 30) == "Y" or message.text("PID", 29) is not None or _DIED in discharges


def death(message: Hl7Message, received_at: datetime) -> Content:
    """Return the report of a death, if one is stated, with the day of PID-29, if it is a whole date that has come.

    No fault refuses a death.
    """
    if not _is_reported_dead(message):
        return {}
    text = message.text("PID", 29) or ""
    died_at = parse_timestamp(text) if text[:8].isdigit() and len(text) >= 8 else None
    has_come = died_at is not None and died_at.date() <= received_at.date()
    return {"death_reported": {"died_on": died_at.date()} if died_at and has_come else {}}


def _restriction(message: Hl7Message) -> bool | None:
    """Return whether PD1-12 protects the person's data, or an ARV restricts access (table 0717); None if neither says.

    The deletion of a restriction does not say that none is left.
    """
    values = [value for one in message.all("ARV") if one.text(2) != "D" and (value := one.text(3))]
    said = [fold(value) != "no" for value in values]
    if (protected := message.text("PD1", 12)) in ("Y", "N"):
        said.append(protected == "Y")
    return any(said) if said else None


# ---- address and telephone ------------------------------------------------------------------------------------------


_NO_HOMES = ("B", "O", "BA", "N", "BDL", "F", "BR", "RH", "BI")
"""Address types (table 0190) that are not a current residence."""


def _addresses(message: Hl7Message, profile: PartnerProfile, homeless: bool) -> Content:
    """Return the home address, else one without a type, else a temporary one; and a temporary one next to another."""
    lived_at = [one for one in message.repetitions("PID", 11) if not profile.is_one(_NO_HOMES, one.text(7))]
    given = [one for one in sorted(lived_at, key=lambda one: _rank(one, profile)) if _read_address(one, homeless=False)]
    if not given:
        return {"address": {"no_fixed_abode": True}} if homeless else {}
    temporary = [one for one in given[1:] if _rank(one, profile) == _TEMPORARY > _rank(given[0], profile)]
    return {"address": _read_address(given[0], homeless)} | (
        {"temporary_address": _read_address(temporary[0], homeless=False)} if temporary else {}
    )


_TEMPORARY = 2


def _rank(one: Repetition, profile: PartnerProfile) -> int:
    kind = one.text(7)
    return (
        0
        if profile.is_one(profile.home_addresses, kind)
        else _TEMPORARY
        if profile.is_one(profile.temporary_addresses, kind)
        else 1
    )


def _read_address(one: Repetition, homeless: bool) -> Content:
    code = postcode(one.text(5))
    lines = [text for text in (one.text(n) for n in (1, 2, 3, 4)) if text]
    no_fixed_abode = any(fold(text) in ("nofixedabode", "nfa", "nofixedaddress") for text in lines)
    none = no_fixed_abode or (code or "").startswith("ZZ99") or (homeless and code is None)
    return drop_empty({"lines": lines, "postcode": code, "no_fixed_abode": none or None})


_SYSTEMS = {"FX": "fax", "BP": "pager", "TDD": "textphone", "TTY": "textphone"}
"""Systems of contact points by equipment type (XTN-3, table 0202); other equipment is a telephone."""

_USES = {"PRN": "home", "WPN": "work"}
"""Uses of contact points by telecommunication use (XTN-2, table 0201)."""


def phone(telecom: Iterable[Repetition]) -> str | None:
    """Return the first telephone number (XTN), as a text or in parts; not a fax, pager, textphone or email address."""
    points = (point for one in telecom for point in _points_of(one))
    return next((point["value"] for point in points if point["system"] == "phone"), None)


def _points(telecom: Iterable[Repetition]) -> Content:
    """Return the first telephone number, the first email address, and the other contact points, each one once."""
    left = [point for one in telecom for point in _points_of(one)]
    found: Content = {}
    for system in ("phone", "email"):
        value = next((one["value"] for one in left if one["system"] == system), None)
        found[system] = value
        left = [one for one in left if (one["system"], one["value"]) != (system, value)]
    by_value = {(one["system"], one["value"]): one for one in reversed(left)}
    return found | {"other_contact_points": list(reversed(by_value.values()))}


def _points_of(one: Repetition) -> Iterator[Content]:
    """Yield the number and the email address of a repetition, if it has them."""
    number = _number(one)
    if number and one.text(3) not in ("Internet", "X.400") and one.text(2) != "NET":
        use = "mobile" if one.text(3) == "CP" else _USES.get(one.text(2) or "")
        yield drop_empty({"system": _SYSTEMS.get(one.text(3) or "", "phone"), "value": number, "use": use})
    email = next((value for n in (4, 1) if (value := one.text(n)) and "@" in value), None)
    if email:
        yield {"system": "email", "value": email}


def _number(one: Repetition) -> str | None:
    parts = " ".join(part for part in (one.text(6), one.text(7)) if part)
    numbers = (number for number in (one.text(1), one.text(12), parts) if number)
    return next((number for number in numbers if "@" not in number and re.search(r"[0-9]{3}", number)), None)


# ---- practice and contacts ------------------------------------------------------------------------------------------


_PRACTICE = re.compile(r"(?!V8199[789])[A-Z][0-9]{5}")
"""ODS code of a GP practice; V81997 to V81999 mean that there is none."""


def registered_practice(message: Hl7Message, profile: PartnerProfile) -> Content | None:
    """Return the practice in PD1-3, or in the fields of the partner's file."""
    codes = (text.upper() for place in profile.practice.ods for _, text in field_paths.texts(message, place))
    ods = next((code for code in codes if _PRACTICE.fullmatch(code)), None)
    name = field_paths.text(message, profile.practice.name) if profile.practice.name else None
    return drop_empty({"ods": ods, "name": name}) or None


def contacts(message: Hl7Message, profile: PartnerProfile) -> list[Content]:
    """Return next of kin, and the GP by name, for the hub to contact."""
    kin = [
        drop_empty(
            {
                "name": full_name(next(iter(one.all(2)), None)),
                "relationship": _relationship(one),
                "phone": phone([*one.all(5), *one.all(6)]),
            }
        )
        for one in message.all("NK1")
    ]
    gp = _gp(message, profile)
    return [one for one in (*kin, {"name": gp, "relationship": "GP"} if gp else {}) if one]


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
    code = kin.text(3)
    return kin.text(3, 2) or (_RELATIONSHIPS.get(fold(code), code) if code else None)


def _gp(message: Hl7Message, profile: PartnerProfile) -> str | None:
    """Return the GP in PD1-4 or the field of the partner's file, else of a ROL with role primary care provider (PP)."""
    name, number, _ = field_paths.split(profile.practice.gp)
    providers = [one for role in message.all("ROL") if role.text(3) == "PP" for one in role.all(4)]
    candidates = (full_professional(one) for one in [*message.repetitions(name, number), *providers])
    return next((candidate for candidate in candidates if candidate), None)


def full_name(one: Repetition | None) -> str | None:
    """Return a name (XPN) on one line."""
    return " ".join(part for n in (5, 2, 3, 1) if (part := one.text(n))) or None if one else None


def full_professional(one: Repetition | None) -> str | None:
    """Return a professional's name (XCN) on one line; None if only an identifier is given."""
    return " ".join(part for n in (6, 3, 4, 2) if (part := one.text(n))) or None if one else None
