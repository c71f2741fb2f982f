"""What every translator is: a pure function from one delivered message to `Translated`, or to a `Rejection` that is a value.

Bytes, partner, time and keys arrive in the `InboundMessage`; nothing is read from a clock, a file or a network. A translator never raises,
whatever the bytes are, and never repeats a value of the message in what it refuses: it names places and kinds.
The suite in tests/contract holds for each of them, and their golden pairs lie beside it as files.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from schemas.case import EndReason
from schemas.referral import Referral
from services.reference.partners import Partner

IssueKind = Literal[
    "required", "value", "invalid", "invariant", "not-supported", "too-long", "business-rule", "forbidden", "processing"
]
"""Kinds of fault, named as FHIR issue types (http://hl7.org/fhir/issue-type), for every format."""


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing that is wrong: where (FHIRPath, field, column), of what kind, and what to do about it. Never the value."""

    place: str
    kind: IssueKind
    explanation: str


@dataclass(frozen=True, slots=True)
class Rejection:
    """The sender still owns it. At least one fault; as many as could be found at once."""

    issues: tuple[Issue, ...]

    def has(self, kind: IssueKind) -> bool:
        """True where one of the faults is of this kind."""
        return any(issue.kind == kind for issue in self.issues)


@dataclass(frozen=True, slots=True)
class InboundMessage:
    """A message as it was delivered: who sent it (authenticated), its bytes, when, and what its envelope said."""

    partner: Partner
    body: bytes
    received_at: datetime
    attachment_key: bytes
    request_id: str | None = None
    correlation_id: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class AttachmentContent:
    """The bytes of an attachment; the referral's `attachments` name it by the same reference."""

    reference: str
    content: bytes
    sha256: str
    media_type: str | None


Intent = Literal["new", "update", "cancel", "either"]
"""What the sender asks: `either` where its format does not tell new from changed (forms, rows)."""

CancelReason = Literal[EndReason.CANCELLED_BY_REFERRER, EndReason.REFERRED_IN_ERROR, EndReason.CONSENT_WITHDRAWN]


@dataclass(frozen=True, slots=True)
class Translated:
    """A message that was understood.

    `message_ids`: any one that was seen before from this partner makes it a repeat (same content) or a conflict (other content).
    `referral_id`: with the partner, the identity of the referral. `content_hash`: SHA-256 of what it says, whatever message says it.
    `referral` is none in a cancel. `encounter`: the sender's own Encounter, in brief, where its protocol's answer repeats it (BaRS).
    """

    message_ids: tuple[str, ...]
    referral_id: str
    intent: Intent
    content_hash: str
    referral: Referral | None = None
    cancel_reason: CancelReason = EndReason.CANCELLED_BY_REFERRER
    discharged_on: date | None = None
    sent_at: datetime | None = None
    correlation_id: str | None = None
    documents: tuple[AttachmentContent, ...] = ()
    encounter: Mapping[str, Any] | None = None


Translator = Callable[[InboundMessage], Translated | Rejection]


# ---- what translators share -----------------------------------------------------------------------------------------


_MESSAGE = {"message", "sent_by"}


def content_hash(referral: Referral) -> str:
    """SHA-256 of what a referral says, without the message that says it. Only what its translator gave counts, so that a
    field which a later version of the language adds does not change the hash of what was sent before it."""
    content = referral.__pydantic_serializer__.to_json(referral, exclude=_MESSAGE, exclude_unset=True)
    return hashlib.sha256(content).hexdigest()


def cancel_hash(reason: EndReason, discharged_on: date | None) -> str:
    """SHA-256 of what a cancel says."""
    return hashlib.sha256(f"cancel {reason} {discharged_on}".encode()).hexdigest()


def document(inbound: InboundMessage, referral_id: str, content: bytes, media_type: str | None) -> AttachmentContent:
    """A document under its reference: 128 bits of a keyed hash, so that nobody guesses it; the same bytes get the same one."""
    digest = hashlib.sha256(content).hexdigest()
    named = f"attachment:{inbound.partner.id}:{referral_id}:{digest}".encode()
    reference = hmac.new(inbound.attachment_key, named, hashlib.sha256).hexdigest()[:32]
    return AttachmentContent(reference, content, digest, media_type)


_ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def holds_nul(body: bytes) -> bool:
    """True where a JSON text holds the character NUL, raw or escaped: PostgreSQL keeps it in no text."""
    return b"\x00" in body or (b"\\u0000" in body and _ESCAPED_NUL.search(body) is not None)


CONSENT_REFUSED = (
    "the person did not agree to share with the housing authority: do not refer; explain the service again, "
    "or give the public contact of Lightbulb so that they can ask themselves"
)
"""What a referrer is told to do instead, where consent to the referral is no."""

LONDON = ZoneInfo("Europe/London")

EARLIEST, LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


def parse_instant(value: str | None) -> datetime | None:
    """A date and time with an offset (RFC 3339) in UTC; none where it is no such thing, or of another century."""
    try:
        parsed = datetime.fromisoformat(value) if value else None
    except ValueError:
        return None
    if parsed is None or parsed.tzinfo is None or not 1900 < parsed.year < 2200:
        return None
    return parsed.astimezone(UTC)


def parse_date(value: str | None) -> date | None:
    """The day that a date or date-time names, as written; none for a partial or impossible one."""
    try:
        return date.fromisoformat(value[:10]) if value and value[4:8:3] == "--" else None
    except ValueError:
        return None


_KINDS: dict[str, tuple[IssueKind, str]] = {
    "missing": ("required", "is required"),
    "string_too_short": ("invalid", "is empty"),
    "string_too_long": ("too-long", "is too long"),
    "too_long": ("too-long", "has too many entries"),
    "too_short": ("required", "needs at least one entry"),
    "extra_forbidden": ("invalid", "is not a known element"),
    "literal_error": ("value", "is not one of the allowed codes"),
    "enum": ("value", "is not one of the allowed codes"),
    "string_pattern_mismatch": ("value", "has the wrong format"),
    "string_type": ("invalid", "must be a string"),
    "bool_type": ("invalid", "must be true or false"),
    "list_type": ("invalid", "must be a list"),
    "model_type": ("invalid", "must be an object"),
    "model_attributes_type": ("invalid", "must be an object"),
    "dict_type": ("invalid", "must be an object"),
    "date_parsing": ("value", "must be a date such as 2026-11-05"),
    "date_from_datetime_parsing": ("value", "must be a date such as 2026-11-05"),
    "date_type": ("invalid", "must be a date such as 2026-11-05"),
    "datetime_parsing": ("value", "must be a date and time such as 2026-11-05T09:30:00Z"),
    "timezone_aware": ("value", "needs an offset, such as 2026-11-05T09:30:00Z"),
    "recursion_loop": ("too-long", "is nested too deeply"),
}


PLAIN_NAME = re.compile(r"^[a-z][A-Za-z_]{0,40}$")
"""Names of unknown elements that may be repeated in an answer: nobody's name or number looks like this by accident."""


def issues_of(error: ValidationError, place: Callable[[tuple[int | str, ...]], str]) -> tuple[Issue, ...]:
    """What a model found wrong, by place and kind. Pydantic's own words are not used: some of them repeat the value."""
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    return tuple(issue_for(place(_named_place(tuple(one["loc"]), one["type"])), one["type"]) for one in errors[:50])


def _named_place(loc: tuple[int | str, ...], kind: str) -> tuple[int | str, ...]:
    """The name of an element that nobody knows was chosen by the sender, and might be anything."""
    unknown = kind == "extra_forbidden" and not PLAIN_NAME.match(str(loc[-1]))
    return loc[:-1] if unknown else loc


def issue_for(place: str, kind: str) -> Issue:
    """The fault for one of pydantic's kinds of error."""
    issue_kind, explanation = _KINDS.get(kind, ("invalid", "has the wrong format"))
    return Issue(place, issue_kind, explanation)


def fhir_path(root: str, loc: Iterable[int | str]) -> str:
    """('entry', 3, 'resource') below 'Bundle' is Bundle.entry[3].resource."""
    return root + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)


def reject(*issues: Issue) -> Rejection:
    """A refusal for these faults."""
    return Rejection(issues)


def postcode(value: str | None) -> str | None:
    """A postcode in capitals, one blank before the last three characters."""
    plain = "".join((value or "").split()).upper()
    return f"{plain[:-3]} {plain[-3:]}" if len(plain) > 4 else plain or None


def drop_empty(values: dict[str, Any]) -> dict[str, Any]:
    """Without the entries that were not given: models then take their defaults."""
    return {name: value for name, value in values.items() if value or value is False or type(value) is int}


def unique(values: Sequence[Any]) -> list[Any]:
    """In order, each one once."""
    return list(dict.fromkeys(values))
