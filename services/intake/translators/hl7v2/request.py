"""Needs, reason, notes, priority and cancel reason of a message."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from schemas.case import EndReason
from schemas.referral import INFORMATION_ADVICE
from services.intake.translators.hl7v2 import field_paths
from services.intake.translators.hl7v2.er7 import Hl7Message, Repetition, Segment
from services.intake.translators.hl7v2.local_fields import LocalValues, is_read, snomed
from services.intake.translators.hl7v2.partner_profile import Note, PartnerProfile
from services.intake.translators.hl7v2.targets import YES_NO
from services.intake.translators.translator import CancelReason, drop_empty, unique

HOMELESS = "224226001"
"""SNOMED CT: no fixed abode."""


def needs(message: Hl7Message, profile: PartnerProfile, local_values: LocalValues) -> list[dict[str, Any]]:
    """Return one need for each service that a local code requests.

    Without any, return one need for information and advice, with the texts of the needs fields for the triage desk.
    """
    requested = [*_coded_needs(message, profile), *local_values.needs]
    if not requested:
        return [
            drop_empty(
                {
                    "service": INFORMATION_ADVICE,
                    "text": _joined([*_unknown_needs(message, profile), *local_values.texts]),
                }
            )
        ]
    by_service: dict[str, dict[str, Any]] = {}
    for service, text, codings in requested:
        need = by_service.setdefault(service, {"service": service, "text": [], "snomed": []})
        need["text"].append(text)
        need["snomed"] += [coding for coding in codings if coding not in need["snomed"]]
    return [drop_empty({**need, "text": _joined(need["text"])}) for need in by_service.values()]


def _coded_needs(
    message: Hl7Message, profile: PartnerProfile
) -> Iterator[tuple[str, str | None, list[dict[str, Any]]]]:
    """Yield the needs of the agreed fields. Another code is a part to be read, except in a field of reasons too."""
    for place in profile.needs.read_from:
        decides = place not in profile.reasons.read_from
        component = field_paths.split(place)[2]
        for one, _ in field_paths.coded(message, place):
            need = field_paths.meaning(one, profile.needs.meanings, component, decides=decides)
            if need is not None:
                words = field_paths.display_text(one)
                text = field_paths.labelled(need.label, words if decides else None) if need.label else words
                yield need.service, text, snomed(one)


def _unknown_needs(message: Hl7Message, profile: PartnerProfile) -> list[str | None]:
    """Return the texts of unknown codes in the needs fields, without the agreed code of a reason that has no text."""
    coded = (pair for place in profile.needs.read_from for pair in field_paths.coded(message, place))
    unknown = (pair for pair in coded if not field_paths.meanings(pair[1], profile.needs.meanings))
    return [field_paths.display_text(one) or _unknown(codes, profile) for one, codes in unknown]


def _display_text(one: Repetition) -> str | None:
    """Return a coded element's text for people."""
    return field_paths.display_text(one) or one.text()


def reason(message: Hl7Message, profile: PartnerProfile, local_values: LocalValues) -> dict[str, Any]:
    """Return the reason: our category, the sender's texts, SNOMED CT codings of RF1-10 and DG1."""
    coded = _reason_codes(message, profile)
    codes = [code for one, _ in coded if (code := field_paths.meaning(one, profile.reasons.meanings))]
    diagnosed = [one for diagnosis in _diagnoses(message) for one in diagnosis.all(3)]
    codings = [coding for one in [*message.repetitions("RF1", 10), *diagnosed] for coding in snomed(one)]
    return drop_empty(
        {
            "code": next(iter([*codes, *([local_values.reason] if local_values.reason else [])]), None),
            "text": _joined(_reason_texts(message, profile, local_values)),
            "snomed": list({coding["code"]: coding for coding in reversed(codings)}.values())[::-1],
        }
    )


def _reason_codes(message: Hl7Message, profile: PartnerProfile) -> list[tuple[Repetition, list[str]]]:
    return [pair for place in profile.reasons.read_from for pair in field_paths.coded(message, place)]


def _reason_texts(message: Hl7Message, profile: PartnerProfile, local_values: LocalValues) -> Iterator[str | None]:
    """Yield the texts of the reasons, RF1-10, unknown needs, diagnoses, the fields of the partner's file, and notes."""
    coded = _reason_codes(message, profile)
    for one, codes in coded:
        yield field_paths.display_text(one) or _unknown(codes, profile)
    places = {one.place for one, _ in coded}
    yield from (_display_text(one) for one in message.repetitions("RF1", 10) if one.place not in places)
    yield from _unknown_needs(message, profile)
    yield from map(_diagnosis, _diagnoses(message))
    yield from _field_texts(message, profile)
    yield from local_values.texts
    yield from _notes(message, profile, "reason.text")


def _unknown(codes: list[str], profile: PartnerProfile) -> str | None:
    """Return a code as its text if no code has a meaning in the partner's file."""
    return None if field_paths.meanings(codes, {**profile.reasons.meanings, **profile.needs.meanings}) else codes[0]


def _diagnoses(message: Hl7Message) -> Iterator[Segment]:
    """Yield the diagnoses (DG1), without the deleted (DG1-21) and the confidential (DG1-18)."""
    for diagnosis in message.all("DG1"):
        confidential = diagnosis.first(18)
        is_open = confidential is None or field_paths.meaning(confidential, YES_NO, decides=True) is False
        if diagnosis.table_code(21) != "D" and is_open:
            yield diagnosis


def _diagnosis(diagnosis: Segment) -> str | None:
    """Return a diagnosis in words (DG1-3, or DG1-4 up to version 2.2), or else its code."""
    one, described = diagnosis.first(3), diagnosis.first(4)
    text = (one and field_paths.display_text(one)) or (described and described.prose()) or (one and one.text())
    return f"Diagnosis: {text}" if text else None


_TIME = re.compile("[0-9]{8,14}([+-][0-9]{4})?")
"""The effective date of a discharge location (DLD.2), where other coded elements have words."""


def _field_texts(message: Hl7Message, profile: PartnerProfile) -> Iterator[str]:
    for text_field in profile.reason_fields:
        component = field_paths.split(text_field.read_from)[2]
        for one, codes in field_paths.coded(message, text_field.read_from):
            text = field_paths.display_text(one) if component == 1 else None
            if text and _TIME.fullmatch(text):
                text = None
            yield f"{text_field.label}: {next(iter(field_paths.meanings(codes, text_field.meanings)), None) or text or codes[0]}"


def communication_needs(message: Hl7Message, profile: PartnerProfile, local_values: LocalValues) -> list[str]:
    """Return the communication needs from notes and observations, per the partner's file."""
    return unique(
        [*local_values.lines, *(" ".join(n.split()) for n in _notes(message, profile, "person.communication_needs"))]
    )


def _notes(message: Hl7Message, profile: PartnerProfile, to: str) -> list[str]:
    """Return the notes for this place: by their type (NTE-4), else the reason.

    A note belongs to the segment before it: without an agreed type, that of an observation or order that is not read
    is not read either.
    """
    notes = []
    for note in message.all("NTE"):
        if not (entry := _note_type(note, profile)) and not _follows_what_is_read(note, profile):
            continue
        if (entry.to if entry else "reason.text") == to:
            prose = "\n".join(text for one in note.all(3) if (text := one.prose()))
            notes.append(f"{entry.label}: {prose}" if entry and entry.label and prose else prose)
    return [prose for prose in notes if prose]


_UNREAD = Note(to="unread")


def _note_type(note: Segment, profile: PartnerProfile) -> Note | None:
    """Return the agreed type of a note (NTE-4). One with two types is not read: they are a part to be read."""
    kind = note.first(4)
    if kind is None:
        return None
    entry = field_paths.meaning(kind, profile.note_types)
    return _UNREAD if entry is None and field_paths.meanings(field_paths.codes(kind), profile.note_types) else entry


def _follows_what_is_read(note: Segment, profile: PartnerProfile) -> bool:
    before = note.parent
    return before is None or (before.name == "OBX" and is_read(before, profile))


def _joined(texts: Iterable[str | None]) -> str | None:
    """Join the texts as paragraphs, without repeats."""
    return "\n".join(unique([text for text in texts if text])) or None


def is_homeless(coded_reason: dict[str, Any], requested: list[dict[str, Any]]) -> bool:
    """Return whether the reason or a need has the code for no fixed abode."""
    codings = [*coded_reason.get("snomed", ()), *(coding for need in requested for coding in need.get("snomed", ()))]
    return any(coding["code"] == HOMELESS for coding in codings)


_PRIORITIES = {
    "s": "stat",
    "a": "asap",
    "u": "urgent",
    "r": "routine",
    "t": "routine",
    **{word: word for word in ("stat", "asap", "urgent", "routine")},
}
"""HL7 table 0280, other common codes and their words, in lower case."""


def priority(message: Hl7Message, profile: PartnerProfile) -> str | None:
    """Return the priority in RF1-2. An unknown one is a part to be read, since it might mean urgent."""
    one = field_paths.only(message, "RF1", 2)
    return field_paths.meaning(one, {**_PRIORITIES, **profile.priority_codes}, decides=True) if one else None


def cancel_reason(message: Hl7Message, profile: PartnerProfile, local_values: LocalValues) -> CancelReason:
    """Return the reason by the partner's codes; any other code, or none, means cancelled by the referrer."""
    if local_values.values.get("consents.referral", {}).get("answer") == "no":
        return EndReason.CONSENT_WITHDRAWN
    coded = (codes for place in profile.cancels.read_from for _, codes in field_paths.coded(message, place))
    reasons = (reason for codes in coded for reason in field_paths.meanings(codes, profile.cancels.meanings))
    return next(reasons, EndReason.CANCELLED_BY_REFERRER)
