"""Needs, reason, notes, priority and cancel reason of a message."""

from collections.abc import Iterable, Iterator
from typing import Any

from schemas.case import EndReason
from schemas.referral import INFORMATION_ADVICE
from services.intake.translators.hl7v2 import field_paths
from services.intake.translators.hl7v2.er7 import Hl7Message, Repetition
from services.intake.translators.hl7v2.local_fields import LocalValues, snomed
from services.intake.translators.hl7v2.partner_profile import PartnerProfile, fold
from services.intake.translators.translator import CancelReason, Issue, drop_empty, unique

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
    for place in profile.needs.read_from:
        for one, code in field_paths.coded(message, place):
            meaning = profile.needs.meanings.get(fold(code))
            if meaning is not None:
                yield meaning.service, meaning.label or one.text(2), snomed(one)


def _unknown_needs(message: Hl7Message, profile: PartnerProfile) -> list[str | None]:
    """Return the texts of unknown codes in the needs fields."""
    coded = ((one, code) for place in profile.needs.read_from for one, code in field_paths.coded(message, place))
    return [_display_text(one) for one, code in coded if fold(code) not in profile.needs.meanings]


def _display_text(one: Repetition) -> str | None:
    """Return a coded element's text for people."""
    return one.text(2) or one.text(5) or one.text()


def reason(message: Hl7Message, profile: PartnerProfile, local_values: LocalValues) -> dict[str, Any]:
    """Return the reason: our category, the sender's texts, SNOMED CT codings of RF1-10 and DG1.

    The texts are those of RF1-10, notes and the fields of the partner's file.
    """
    coded = [(one, code) for place in profile.reasons.read_from for one, code in field_paths.coded(message, place)]
    codes = [reason_code for _, code in coded if (reason_code := profile.reasons.meanings.get(fold(code)))]
    texts = [one.text(2) or _unknown(code, profile) for one, code in coded]
    stated = message.repetitions("RF1", 10)
    texts += [_display_text(one) for one in stated if one.place not in {other.place for other, _ in coded}]
    texts += _unknown_needs(message, profile)
    codings = [coding for one in [*stated, *message.repetitions("DG1", 3)] for coding in snomed(one)]
    return drop_empty(
        {
            "code": next(iter([*codes, *([local_values.reason] if local_values.reason else [])]), None),
            "text": _joined(
                [*texts, *_field_texts(message, profile), *local_values.texts, *_notes(message, profile, "reason.text")]
            ),
            "snomed": list({coding["code"]: coding for coding in reversed(codings)}.values())[::-1],
        }
    )


def _unknown(code: str, profile: PartnerProfile) -> str | None:
    """Return a code as its text if it has no meaning in the partner's file."""
    meanings = {**profile.reasons.meanings, **profile.needs.meanings}
    return None if fold(code) in meanings else code


def _field_texts(message: Hl7Message, profile: PartnerProfile) -> Iterator[str]:
    for text_field in profile.reason_fields:
        for one, code in field_paths.coded(message, text_field.read_from):
            component = field_paths.split(text_field.read_from)[2]
            text = text_field.meanings.get(fold(code)) or (one.text(2) if component == 1 else None) or code
            yield f"{text_field.label}: {text}"


def communication_needs(message: Hl7Message, profile: PartnerProfile, local_values: LocalValues) -> list[str]:
    """Return the communication needs from notes and observations, per the partner's file."""
    return unique(
        [*local_values.lines, *(" ".join(n.split()) for n in _notes(message, profile, "person.communication_needs"))]
    )


def _notes(message: Hl7Message, profile: PartnerProfile, to: str) -> list[str]:
    """Return the notes for this place: by their type (NTE-4), else the reason."""
    notes = []
    for note in message.all("NTE"):
        kind = note.text(4) or note.text(4, 2) or ""
        entry = profile.note_types.get(fold(kind))
        if (entry.to if entry else "reason.text") == to:
            prose = "\n".join(text for one in note.all(3) if (text := one.prose()))
            notes.append(f"{entry.label}: {prose}" if entry and entry.label and prose else prose)
    return [prose for prose in notes if prose]


def _joined(texts: Iterable[str | None]) -> str | None:
    """Join the texts as paragraphs, without repeats."""
    return "\n".join(unique([text for text in texts if text])) or None


def is_homeless(coded_reason: dict[str, Any], requested: list[dict[str, Any]]) -> bool:
    """Return whether the reason or a need has the code for no fixed abode."""
    codings = [*coded_reason.get("snomed", ()), *(coding for need in requested for coding in need.get("snomed", ()))]
    return any(coding["code"] == HOMELESS for coding in codings)


_PRIORITIES = {"s": "stat", "a": "asap", "u": "urgent", "r": "routine", "t": "routine"}
"""HL7 table 0280 and other common codes, in lower case."""


def priority(message: Hl7Message, profile: PartnerProfile) -> str | None:
    """Return the priority in RF1-2. An unknown code is a fault, since it might mean urgent."""
    repetition = message.first("RF1", 2)
    code = repetition.text() if repetition else None
    if repetition is None or code is None:
        return None
    canonical = profile.priority_codes.get(fold(code)) or _PRIORITIES.get(fold(code))
    if canonical is None:
        message.reading.issues.append(Issue(repetition.place, "value", "is not one of the agreed codes"))
    return canonical


def cancel_reason(message: Hl7Message, profile: PartnerProfile, local_values: LocalValues) -> CancelReason:
    """Return the reason by the partner's codes; any other code, or none, means cancelled by the referrer."""
    if local_values.values.get("consents.referral", {}).get("answer") == "no":
        return EndReason.CONSENT_WITHDRAWN
    codes = (fold(value) for place in profile.cancels.read_from for _, value in field_paths.texts(message, place))
    reasons = (profile.cancels.meanings[code] for code in codes if code in profile.cancels.meanings)
    return next(reasons, EndReason.CANCELLED_BY_REFERRER)
