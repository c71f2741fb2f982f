"""What must hold of every answer to any bytes: a value of two kinds, nothing of the message in a refusal, and a referral that is one.

Shares no code with the translators but their types: what it finds is not what they think of themselves.
"""

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from schemas import topics
from schemas.events import Event, EventData, ReferralCancelled, ReferralReceived
from schemas.model import PersonKey, Reference
from schemas.topics import MAX_VALUE_BYTES
from services.intake import identifiers
from services.intake.batch import REFUSED, MessageDecision, ProtocolResponse
from services.intake.translators.inbound_message import InboundMessage
from services.intake.translators.translator import PLAIN_NAME, Rejection, Translated, VisitMessage
from services.messaging import cloudevents
from services.messaging.cloudevents import KafkaRecord
from tests.schemas import contracts

CHECKOUT = Path(__file__).resolve().parents[2]
SECRET = b"the secret of these fuzzing runs"
AT = datetime(2026, 11, 5, 9, 30, tzinfo=UTC)
REFERENCE = Reference("LB-7K2M9-QX4TD")

LONGEST_KEY = 2_600
"""Bytes of an id that PostgreSQL can keep in an index."""

LONGEST_REFUSAL = 64 * 1024
"""Characters that a refusal may have in all, however wrong a message is."""

_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_WORD = re.compile(r"\w{4,}")


class Broken(AssertionError):
    """Something that must hold does not. The text says what; the input is in the file that the fuzzer writes."""


def assert_that(holds: object, what: str) -> None:
    """Raise Broken unless it holds."""
    if not holds:
        raise Broken(what)


def assert_outcome(delivery: InboundMessage, made: Any, *, is_json: bool = False) -> None:
    """Judge what a translator made of a delivery."""
    match made:
        case Rejection():
            assert_rejection(made, is_json=is_json)
        case Translated():
            assert_translated(delivery, made)
        case _:
            raise Broken(f"neither Translated nor Refusal: {type(made).__name__}")


def assert_answer(made: Any, given: Any) -> None:
    """Judge what a sender is told: its protocol's own answer, and never a server error."""
    assert_that(isinstance(given, ProtocolResponse), "no Answer")
    assert_that(200 <= given.status < 500, f"status {given.status}")
    if isinstance(made, Rejection):
        assert_that(given.status >= 400, f"a refusal has status {given.status}")


def decided(made: Translated | Rejection) -> MessageDecision:
    """A decision that fits: refused, or received for the first time."""
    if isinstance(made, Rejection):
        return MessageDecision(REFUSED, AT, issues=made.issues)
    return MessageDecision("received", AT, REFERENCE, 1)


# ---- refusals -------------------------------------------------------------------------------------------------------


def assert_rejection(made: Rejection, *, is_json: bool = False) -> None:
    """At least one fault, each with place, kind and explanation; no word in them that our own sources do not have."""
    assert_that(made.issues, "a refusal without a fault")
    for fault in made.issues:
        assert_that(fault.place and fault.kind and fault.explanation, "a fault without place, kind or explanation")
        assert_that(not foreign(fault.explanation), "an explanation holds a word that is not ours")
        assert_that(not foreign(fault.place, names=is_json), "a place holds a word that is not ours")
    size = sum(len(fault.place) + len(fault.explanation) for fault in made.issues)
    assert_that(size <= LONGEST_REFUSAL, f"a refusal of {size} characters")


def foreign(said: str, *, names: bool = False) -> bool:
    """True where a word of four letters or more stands in none of our sources. `names`: unknown elements of JSON may be named."""
    words = _WORD.findall(said)
    return any(
        word.lower() not in vocabulary() and not (names and PLAIN_NAME.match(word.lstrip("_"))) for word in words
    )


@cache
def vocabulary() -> frozenset[str]:
    """Every word of the translators, the language and the reviewed files."""
    return frozenset(word.lower() for text in _sources() for word in _WORD.findall(text.replace("_", " ") + " " + text))


def _sources() -> Iterable[str]:
    for folder, kind in (
        ("services/intake/translators", "*.py"),
        ("services/intake", "multipart.py"),
        ("schemas", "*.py"),
        ("infra/reference_data", "*.yaml"),
    ):
        for path in sorted((CHECKOUT / folder).rglob(kind)):
            text = path.read_text(encoding="utf-8")
            yield text
            yield re.sub(r"(?<=\d)_(?=\d)", "", text)
    yield "2048 65536 utf8 windows"


# ---- referrals ------------------------------------------------------------------------------------------------------


def assert_translated(delivery: InboundMessage, made: Translated) -> None:
    """Ids that a table can hold, and an event that goes to Kafka and back unchanged and keeps the published contract."""
    if made.visit:
        assert_that(made.of_referral, "a message about a visit says nothing of a referral")
        _assert_visit(made.visit, made.of_referral("any") if made.of_referral else made)
        return
    for said in (*made.message_ids, made.referral_id, made.content_hash):
        assert_that(0 < len(_kept(said)) <= LONGEST_KEY, f"an id of {len(said)} characters")
    assert_that((made.referral is None) == (made.intent == "cancel"), f"{made.intent} and its referral do not fit")
    correlation = made.correlation_id
    assert_that(
        correlation is None or _GUID.fullmatch(correlation), "a correlation id that is no GUID goes into headers"
    )
    event = _event(delivery, made)
    value = cloudevents.value_of(event)
    assert_that(len(value) <= max(MAX_VALUE_BYTES, 8 * len(delivery.body)), f"an event of {len(value)} bytes")
    _kept(value.decode("utf-8"))
    assert_that("\\u0000" not in value.decode().replace("\\\\", ""), "a text with the character NUL")
    assert_that(_read_again(event, value) == event, "an event is another one when it is read again")
    assert_that(not contracts.faults(event.data.TYPE, json.loads(value)), "an event breaks its published contract")
    _documents(made)


def _assert_visit(visit: VisitMessage, of_referral: Translated) -> None:
    """Keys that a table can hold, and a statement about a referral that has ids of its own."""
    for said in (*visit.keys, *of_referral.message_ids, of_referral.content_hash):
        assert_that(0 < len(_kept(said)) <= LONGEST_KEY, f"an id of {len(said)} characters")
    assert_that(of_referral.referral is None, "a message about a visit makes a referral by itself")


def _documents(made: Translated) -> None:
    kept = {document.reference for document in made.documents}
    named = {one.reference for one in made.referral.attachments} if made.referral else set()
    assert_that(kept == named, "documents and the attachments that name them do not fit")


def _kept(text: str) -> bytes:
    """As PostgreSQL keeps it: UTF-8, without NUL."""
    assert_that("\x00" not in text, "a text with the character NUL")
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise Broken("a text that is no UTF-8") from None


def _event(delivery: InboundMessage, made: Translated) -> Event:
    number = made.referral.person.nhs_number if made.referral else None
    return Event(
        id=identifiers.event_id(REFERENCE, 1),
        source="/lightbulb/intake",
        time=delivery.received_at,
        person_key=PersonKey(identifiers.person_key(SECRET, number, delivery.partner.id, made.referral_id)),
        correlation_id=made.correlation_id or "none",
        causation_id="none",
        data=_data(made),
    )


def _data(made: Translated) -> Any:
    if made.referral is not None:
        return ReferralReceived(reference=REFERENCE, version=1, referral=made.referral)
    return ReferralCancelled(
        reference=REFERENCE,
        version=2,
        reason=made.cancel_reason,
        discharged_on=made.discharged_on,
        death_reported=made.death_reported,
    )


_TYPES: dict[str, type[EventData]] = {data.TYPE: data for data in (ReferralReceived, ReferralCancelled)}


def _read_again(event: Event, value: bytes) -> Event:
    headers = tuple((name, said.encode()) for name, said in cloudevents.headers_of(event).items())
    record = KafkaRecord(topics.REFERRAL_EVENT, 0, 0, event.person_key.encode(), value, headers)
    try:
        return cloudevents.decode(record, _TYPES)
    except cloudevents.Undecodable as error:
        raise Broken(f"an event cannot be read again: {error.reason}") from None
