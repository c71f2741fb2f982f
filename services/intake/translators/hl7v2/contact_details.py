"""Names, addresses (XAD) and contact points (XTN) of a message: of several, the one in force of the best type."""

import re
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any

from services.intake.translators.cleaning import is_nothing
from services.intake.translators.hl7v2.dates import is_in_force, read_period
from services.intake.translators.hl7v2.er7 import Hl7Message, Repetition
from services.intake.translators.hl7v2.partner_profile import PartnerProfile, fold
from services.intake.translators.translator import drop_empty, postcode

Content = dict[str, Any]

# ---- names -----------------------------------------------------------------------------------------------------------


def family_name(one: Repetition, component: int = 1) -> str | None:
    """Return a surname (FN): its first subcomponent, or else the others, its prefixes and parts; None without a letter."""
    whole, *parts = one.subcomponents(component)
    name = whole or " ".join(filter(None, parts))
    return None if is_nothing(name) else name


def full_name(one: Repetition | None) -> str | None:
    """Return a name (XPN) on one line."""
    return " ".join(filter(None, (one.text(5), one.text(2), one.text(3), family_name(one)))) or None if one else None


def full_professional(one: Repetition | None) -> str | None:
    """Return a professional's name (XCN) on one line, or words in place of the identifier; None for an identifier alone."""
    if one is None:
        return None
    words = one.text(1) if not re.search("[0-9]", one.text(1) or "") and " " in (one.text(1) or "") else None
    return " ".join(filter(None, (one.text(6), one.text(3), one.text(4), family_name(one, 2)))) or words


# ---- addresses -------------------------------------------------------------------------------------------------------


_NO_HOMES = ("B", "O", "BA", "N", "BDL", "F", "BR", "RH", "BI", "S", "SH")
"""Address types (table 0190) that are not a current residence."""

_HOME, _UNTYPED, _UNKNOWN, _TEMPORARY, _MAILING = range(5)
"""Ranks of addresses by type. The legal address (L) is like one without a type."""

_POST_BOX = re.compile(r"(p\.?\s*o\.?|post(al)?(\s+office)?)\s*box\b", re.IGNORECASE)


def addresses(message: Hl7Message, profile: PartnerProfile, day: date, *, homeless: bool) -> Content:
    """Return the home address, else one without a type, else a temporary one; and a temporary one next to another."""
    homes = _homes(message, profile, day)
    if not homes:
        return {"address": {"no_fixed_abode": True}} if homeless else {}
    home = _chosen(homes, profile)
    temporary = [one for one in homes if _rank(one, profile) == _TEMPORARY > _rank(home, profile)]
    for one in (home, *temporary[:1]):
        message.reading.warn_of(one)
    return {"address": _address(home, homeless)} | (
        {"temporary_address": _address(temporary[0], homeless=False)} if temporary else {}
    )


def _homes(message: Hl7Message, profile: PartnerProfile, day: date) -> list[Repetition]:
    """Return the addresses in force that may be a home, the best first. If there is only a post box, a person reads it."""
    lived_at = [
        one
        for one in message.repetitions("PID", 11)
        if _may_be_home(one, profile) and is_in_force(read_period(one, 13, 14, 12), day)
    ]
    boxes = [one for one in lived_at if any(map(_POST_BOX.match, _lines(one)))]
    homes = [one for one in lived_at if one not in boxes and _address(one, homeless=False)]
    for box in boxes if not homes else ():
        box.reading.to_read(box.place, "value", box.prose())
    return sorted(homes, key=lambda one: _rank(one, profile))


def _may_be_home(one: Repetition, profile: PartnerProfile) -> bool:
    """Return whether an address is of a type that may be a home; the partner's file decides before the standard."""
    agreed = (*profile.home_addresses, *profile.temporary_addresses)
    return profile.is_one(agreed, one.text(7)) or not profile.is_one(_NO_HOMES, one.text(7))


def _rank(one: Repetition, profile: PartnerProfile) -> int:
    kind = one.text(7)
    if kind is None or fold(kind) == "l":
        return _UNTYPED
    ranks = {_HOME: profile.home_addresses, _TEMPORARY: profile.temporary_addresses, _MAILING: ("M",)}
    return next((rank for rank, kinds in ranks.items() if profile.is_one(kinds, kind)), _UNKNOWN)


def _chosen(homes: list[Repetition], profile: PartnerProfile) -> Repetition:
    """Return the best address: of equal ones, the one that began last. Another of the same rank is a part to be read."""
    rank = _rank(homes[0], profile)
    best = [one for one in homes if _rank(one, profile) == rank]
    best.sort(key=lambda one: read_period(one, 13, 14, 12)[0] or date.min, reverse=True)
    begun = [read_period(one, 13, 14, 12)[0] for one in best]
    other = next(
        (one for one, begins in zip(best, begun, strict=True) if begins == begun[0] and _differ(one, best[0])), None
    )
    unclear = other or (best[0] if rank == _UNKNOWN else None)
    if unclear:
        unclear.reading.to_read(unclear.place, "value", unclear.prose())
    return best[0]


def _differ(one: Repetition, other: Repetition) -> bool:
    """Return whether two addresses are of different places: by postcode, if both have one."""
    codes = postcode(one.text(5)), postcode(other.text(5))
    return codes[0] != codes[1] if all(codes) else fold("".join(_lines(one))) != fold("".join(_lines(other)))


def _address(one: Repetition, homeless: bool) -> Content:
    code, lines = postcode(one.text(5)), _lines(one)
    no_fixed_abode = any(fold(text) in ("nofixedabode", "nfa", "nofixedaddress") for text in lines)
    none = no_fixed_abode or (code or "").startswith("ZZ99") or (homeless and code is None)
    content = drop_empty({"lines": lines, "postcode": code, "no_fixed_abode": none or None})
    return content | _period(one) if content else {}


def _period(one: Repetition) -> Content:
    since, until = read_period(one, 13, 14, 12)
    return drop_empty({"since": since, "until": until})


def _lines(one: Repetition) -> list[str]:
    """Return the lines: the street address (SAD), and every subcomponent of the next three components."""
    others = [line for number in (2, 3, 4) for line in one.subcomponents(number) if line]
    return [*_street(one.subcomponents()), *others]


def _street(parts: tuple[str, ...]) -> list[str]:
    """Return the lines of a street address (SAD): the first part, then the number and street that it does not hold."""
    whole, street, number, *others = [*parts, "", ""]
    if whole == street:
        whole = ""
    missing = " ".join(part for part in (number, street) if part and not _holds(whole, part))
    return [line for line in (whole, missing, *others) if line]


def _holds(line: str, part: str) -> bool:
    """Return whether a line has these words, in this order."""
    return f" {_plain(part)} " in f" {_plain(line)} "


def _plain(line: str) -> str:
    return " ".join(re.findall(r"\w+", line.casefold()))


# ---- contact points --------------------------------------------------------------------------------------------------


_SYSTEMS = {"FX": "fax", "BP": "pager", "TDD": "textphone", "TTY": "textphone"}
"""Systems of contact points by equipment type (XTN-3, table 0202); other equipment is a telephone."""

_USES = {"PRN": "home", "WPN": "work"}
"""Uses of contact points by telecommunication use (XTN-2, table 0201)."""

_LATER = {"WPN": 1, "ORN": 1, "VHN": 2, "ASN": 2, "EMR": 2}
"""Ranks of telephones by use: other residence and work after the person's own; holiday, answering, emergency last."""


def phone(telecom: Iterable[Repetition], day: date) -> str | None:
    """Return the first telephone number (XTN), as a text or in parts, or else words; not a fax, pager or email address."""
    points = [point for one in _in_force(telecom, day) for point in _points_of(one)]
    return next((one["value"] for kind in ("phone", "other") for one in points if one["system"] == kind), None)


def contact_points(telecom: Iterable[Repetition], day: date) -> Content:
    """Return the best telephone number, the first email address, and the other contact points, each one once."""
    left = [point for one in _in_force(telecom, day) for point in _points_of(one)]
    first: Content = {}
    for system in ("phone", "email"):
        value = next((one["value"] for one in left if one["system"] == system), None)
        first[system] = value
        left = [one for one in left if (one["system"], one["value"]) != (system, value)]
    by_value = {(one["system"], one["value"]): one for one in reversed(left)}
    return first | {"other_contact_points": list(reversed(by_value.values()))}


def _in_force(telecom: Iterable[Repetition], day: date) -> list[Repetition]:
    valid = [one for one in telecom if is_in_force(read_period(one, 13, 14), day)]
    return sorted(valid, key=lambda one: _LATER.get(one.table_code(2), 0))


def _points_of(one: Repetition) -> Iterator[Content]:
    """Yield the number and the email address of a repetition, or else its words."""
    number = _number(one)
    equipment = one.table_code(3)
    if number and equipment not in ("INTERNET", "X.400") and one.table_code(2) != "NET":
        use = "mobile" if equipment == "CP" else _USES.get(one.table_code(2))
        yield drop_empty({"system": _SYSTEMS.get(equipment, "phone"), "value": number, "use": use})
    email = next((value for n in (4, 1) if (value := one.text(n)) and "@" in value), None)
    if email:
        yield {"system": "email", "value": email}
    if not number and not email and (text := one.text(1)):
        yield {"system": "other", "value": text}


def _number(one: Repetition) -> str | None:
    """Return a number: the text of XTN.1 (also as 2.2 has it), else XTN.12, else parts: area, number and extension.

    The words of XTN.9 follow in brackets.
    """
    written, extension = one.text(1), one.text(8)
    if _is_number(written) and extension:
        written = f"{written} ext. {extension}"
    elif not _is_number(written):
        written = next(filter(_is_number, (one.text(12), _of_parts(one, 6, 7))), None)
    if written is None:
        written, text = _of_parts(one, 9, 10), None
    else:
        text = one.text(9)
    is_prose = text is not None and re.search(r"[^\W\d_]{2}", text)
    return (f"{written} ({text})" if is_prose else written) if _is_number(written) else None


def _is_number(text: str | None) -> bool:
    return text is not None and "@" not in text and re.search(r"[0-9]{3}", text) is not None


def _of_parts(one: Repetition, area: int, number: int) -> str | None:
    """Return a number in parts; an area code without its 0 is written with the country code."""
    code, country, extension = one.text(area), one.text(5), one.text(8)
    international = f"+{country.lstrip('+0')}" if code and country and not code.startswith("0") else None
    whole = " ".join(filter(None, (international, code, one.text(number))))
    return f"{whole} ext. {extension}" if whole and extension and area == 6 else whole or None
