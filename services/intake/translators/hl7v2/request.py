"""What is asked for and why: needs, reason, notes, priority; and why a referral is taken back."""

from collections.abc import Iterable, Iterator
from typing import Any

from schemas.case import EndReason
from schemas.referral import INFORMATION_ADVICE
from services.intake.translators.contract import CancelReason, Fault, once, unnamed
from services.intake.translators.hl7v2 import places
from services.intake.translators.hl7v2.mapping import Mapping, fold
from services.intake.translators.hl7v2.segments import Message, Repetition
from services.intake.translators.hl7v2.told import Filled, snomed

HOMELESS = "224226001"
"""SNOMED CT: no fixed abode."""


def needs(message: Message, mapping: Mapping, told: Filled) -> list[dict[str, Any]]:
    """One need for each service that a local code asks for. A message without any asks for information and advice, with the
    words of the fields where needs would stand: what a triage desk would want to read."""
    asked = [*_coded_needs(message, mapping), *told.needs]
    if not asked:
        return [
            unnamed({"service": INFORMATION_ADVICE, "text": _joined([*_unknown_needs(message, mapping), *told.words])})
        ]
    found: dict[str, dict[str, Any]] = {}
    for service, said, codings in asked:
        need = found.setdefault(service, {"service": service, "text": [], "snomed": []})
        need["text"].append(said)
        need["snomed"] += [coding for coding in codings if coding not in need["snomed"]]
    return [unnamed({**need, "text": _joined(need["text"])}) for need in found.values()]


def _coded_needs(message: Message, mapping: Mapping) -> Iterator[tuple[str, str | None, list[dict[str, Any]]]]:
    for place in mapping.needs.read_from:
        for one, code in places.coded(message, place):
            asked = mapping.needs.meanings.get(fold(code))
            if asked is not None:
                yield asked.service, asked.label or one.text(2), snomed(one)


def _unknown_needs(message: Message, mapping: Mapping) -> list[str | None]:
    """The words of codes where needs would stand, that nobody knows."""
    coded = ((one, code) for place in mapping.needs.read_from for one, code in places.coded(message, place))
    return [_words(one) for one, code in coded if fold(code) not in mapping.needs.meanings]


def _words(one: Repetition) -> str | None:
    """What a coded element says to a reader."""
    return one.text(2) or one.text(5) or one.text()


def reason(message: Message, mapping: Mapping, told: Filled) -> dict[str, Any]:
    """Why: our category, the sender's words (RF1-10, notes, what else the partner's file names), SNOMED CT codings of RF1-10
    and DG1."""
    given = [(one, code) for place in mapping.reasons.read_from for one, code in places.coded(message, place)]
    codes = [known for _, code in given if (known := mapping.reasons.meanings.get(fold(code)))]
    said = [one.text(2) or _unknown(code, mapping) for one, code in given]
    stated = message.repetitions("RF1", 10)
    said += [_words(one) for one in stated if one.place not in {other.place for other, _ in given}]
    said += _unknown_needs(message, mapping)
    codings = [coding for one in [*stated, *message.repetitions("DG1", 3)] for coding in snomed(one)]
    return unnamed(
        {
            "code": next(iter([*codes, *([told.reason] if told.reason else [])]), None),
            "text": _joined(
                [*said, *_field_words(message, mapping), *told.words, *_notes(message, mapping, "reason.text")]
            ),
            "snomed": list({coding["code"]: coding for coding in reversed(codings)}.values())[::-1],
        }
    )


def _unknown(code: str, mapping: Mapping) -> str | None:
    """A code without words, where nobody knows what it means, is all that the sender said."""
    known = {**mapping.reasons.meanings, **mapping.needs.meanings}
    return None if fold(code) in known else code


def _field_words(message: Message, mapping: Mapping) -> Iterator[str]:
    for words in mapping.reason_fields:
        for one, code in places.coded(message, words.read_from):
            component = places.split(words.read_from)[2]
            said = words.meanings.get(fold(code)) or (one.text(2) if component == 1 else None) or code
            yield f"{words.label}: {said}"


def communication_needs(message: Message, mapping: Mapping, told: Filled) -> list[str]:
    """Of notes and observations that the partner's file sends there."""
    return once([*told.lines, *(" ".join(n.split()) for n in _notes(message, mapping, "person.communication_needs"))])


def _notes(message: Message, mapping: Mapping, to: str) -> list[str]:
    """The notes that go to this place: by their type (NTE-4), else to the reason."""
    found = []
    for note in message.all("NTE"):
        kind = note.text(4) or note.text(4, 2) or ""
        entry = mapping.note_types.get(fold(kind))
        if (entry.to if entry else "reason.text") == to:
            said = "\n".join(text for one in note.all(3) if (text := one.prose()))
            found.append(f"{entry.label}: {said}" if entry and entry.label and said else said)
    return [said for said in found if said]


def _joined(texts: Iterable[str | None]) -> str | None:
    """The texts as paragraphs, each one once."""
    return "\n".join(once([text for text in texts if text])) or None


def is_homeless(why: dict[str, Any], asked: list[dict[str, Any]]) -> bool:
    """True where 'no fixed abode' is coded in the reason or in a need."""
    codings = [*why.get("snomed", ()), *(coding for need in asked for coding in need.get("snomed", ()))]
    return any(coding["code"] == HOMELESS for coding in codings)


_PRIORITIES = {"s": "stat", "a": "asap", "u": "urgent", "r": "routine", "t": "routine"}
"""HL7 table 0280 and what is used beside it, in small letters."""


def priority(message: Message, mapping: Mapping) -> str | None:
    """RF1-2. An unknown code is a fault: it might be urgent."""
    found = message.first("RF1", 2)
    said = found.text() if found else None
    if found is None or said is None:
        return None
    known = mapping.priority_codes.get(fold(said)) or _PRIORITIES.get(fold(said))
    if known is None:
        message.reading.faults.append(Fault(found.place, "value", "is not one of the agreed priorities"))
    return known


def why_cancelled(message: Message, mapping: Mapping, told: Filled) -> CancelReason:
    """By the partner's codes; any other code, or none, is a cancel by the referrer."""
    if told.values.get("consents.referral", {}).get("answer") == "no":
        return EndReason.CONSENT_WITHDRAWN
    codes = (fold(said) for place in mapping.cancels.read_from for _, said in places.texts(message, place))
    found = (mapping.cancels.meanings[code] for code in codes if code in mapping.cancels.meanings)
    return next(found, EndReason.CANCELLED_BY_REFERRER)
