"""Message Translator: a pure function from one delivered message to `Translated` or `Rejection`.

Bytes, partner, time and keys arrive in the `InboundMessage`; a translator reads no clock, file or network. It never
raises, and its rejections name places and kinds, never a value of the message.
Each translator passes the suite in tests/contract; its golden pairs are next to that suite.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any, Literal, NamedTuple, cast, get_args

from pydantic import ValidationError

from schemas.case import EndReason
from schemas.dates import LONDON
from schemas.referral import DeathReport, Person, Referral
from services.intake import limits

IssueKind = Literal[
    "required", "value", "invalid", "invariant", "not-supported", "too-long", "business-rule", "forbidden", "processing"
]
"""Kinds of fault, named as FHIR issue types (http://hl7.org/fhir/issue-type), for every format."""


@dataclass(frozen=True, slots=True)
class Issue:
    """One fault: its place (FHIRPath, field or column), its kind and an explanation. Never the value."""

    place: str
    kind: IssueKind
    explanation: str


@dataclass(frozen=True, slots=True)
class Rejection:
    """A rejected message, which the sender still owns: at least one fault, and all that could be found at once."""

    issues: tuple[Issue, ...]
    header: object | None = field(default=None, repr=False, compare=False)
    """The parsed header of the message, if the protocol's response repeats parts of it (HL7 v2: MSH)."""

    def has(self, kind: IssueKind) -> bool:
        """Return whether one of the faults is of this kind."""
        return any(issue.kind == kind for issue in self.issues)


@dataclass(frozen=True, slots=True)
class AttachmentContent:
    """The bytes of an attachment; the referral's `attachments` use the same reference."""

    reference: str
    content: bytes
    sha256: str
    media_type: str | None


Intent = Literal["new", "update", "cancel", "either"]
"""What the sender requests: `either` if its format does not distinguish new from changed (forms, rows)."""

NameKind = Literal["reference", "id", "identifier", "message", "location", "entry"]
"""Kinds of names of a referral: our reference, the sender's id, its identifier, its message's id, a transient URL.

`location` is the URL of a request without an id, `entry` that of a request with one.
"""

TRANSIENT: tuple[NameKind, ...] = ("location", "entry")


class ReferralName(NamedTuple):
    """A name by which a referral is found. `authority`: the organisation within which it is unique; empty for the partner."""

    kind: NameKind
    value: str
    authority: str = ""

    @property
    def key(self) -> str:
        """The name as one text, for a key that is unique for each partner; of a long one, all but its kind is hashed."""
        text = f"{self.authority}/{self.kind}:{self.value}"
        if len(text) <= 200:
            return text
        return f"/{self.kind}:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"

    @classmethod
    def of_key(cls, key: str) -> "ReferralName":
        """Return a name that has this key."""
        parts = _NAME_KEY.fullmatch(key)
        assert parts is not None
        return cls(cast(NameKind, parts[2]), parts[3], parts[1])


_NAME_KEY = re.compile(f"(.*?)/({'|'.join(get_args(NameKind))}):(.*)", re.DOTALL)


class Subject(NamedTuple):
    """The person as a message identifies them; a part that it does not give is None."""

    nhs_number: str | None = None
    birth_date: date | None = None
    family_name: str | None = None

    @classmethod
    def of(cls, person: Person) -> "Subject":
        """Return the subject of a referral."""
        return cls(person.nhs_number, person.birth_date, person.family_name)


CancelReason = Literal[EndReason.CANCELLED_BY_REFERRER, EndReason.REFERRED_IN_ERROR, EndReason.CONSENT_WITHDRAWN]


@dataclass(frozen=True, slots=True)
class VisitMessage:
    """A message about a hospital visit (ADT), which names no referral.

    It concerns the partner's referrals that have one of `keys`; none, if nothing is read of it. `trigger`: the trigger event, or
    `other`. `is_merge`: it says that two persons are one.
    """

    trigger: str
    keys: tuple[str, ...]
    is_merge: bool = False


@dataclass(frozen=True, slots=True)
class Translated:
    """A translated message.

    `message_ids`: if one was accepted before, the message is a duplicate (same content) or a conflict (other content).
    `referral_id`: with the partner, the identity of the referral. `content_hash`: SHA-256 of the content without the
    message's own ids. `referral` is None in a cancel; `death_reported`: what a cancel says of the person. `encounter`:
    JSON of the sender's Encounter in brief, for responses; `reply`: what else a BaRS response repeats.
    `passed_over`: places (FHIRPath) that were not read and cannot change the meaning.
    `sent_until`: the end of the interval that `sent_at` begins, by its precision. `warnings`: parts that were taken, and that a person
    has to read or the sender to know of; they refuse nothing.
    `names`: the names of the referral, best first; if empty, `referral_id` is the only one. `subject`: the person, if a message about
    another person must be refused. `fields`: what the message said, unit by unit, if its updates are merged (HL7 v2);
    `complete` merges it with the `fields` that are held of the referral. `is_queued`: the sender's other messages
    wait behind a refused one. `is_test`: it is answered as another, and has no effect. `visit`: set if it is about a visit; then
    `of_referral` returns what it says of the referral with an id, and its `complete` returns None if it does not concern that
    referral. `visit_keys`: by which such messages find the referral.
    """

    message_ids: tuple[str, ...]
    referral_id: str
    intent: Intent
    content_hash: str
    referral: Referral | None = None
    cancel_reason: CancelReason = EndReason.CANCELLED_BY_REFERRER
    discharged_on: date | None = None
    death_reported: DeathReport | None = None
    sent_at: datetime | None = None
    sent_until: datetime | None = None
    warnings: tuple[Issue, ...] = ()
    correlation_id: str | None = None
    documents: tuple[AttachmentContent, ...] = ()
    encounter: bytes | None = None
    passed_over: tuple[str, ...] = ()
    reply: Mapping[str, Any] = field(default_factory=dict)
    names: tuple[ReferralName, ...] = ()
    subject: Subject | None = None
    fields: bytes | None = None
    complete: "Callable[[bytes], Translated | Rejection | None] | None" = field(default=None, repr=False, compare=False)
    visit: VisitMessage | None = None
    of_referral: "Callable[[str], Translated] | None" = field(default=None, repr=False, compare=False)
    visit_keys: frozenset[str] = frozenset()
    is_queued: bool = False
    is_test: bool = False
    header: object | None = field(default=None, repr=False, compare=False)

    @property
    def has_own_id(self) -> bool:
        """True if the sender gave the referral an id."""
        return any(name.kind == "id" for name in self.names)

    def is_found_by(self, name: ReferralName) -> bool:
        """Return whether a name may find the referral: a request with an id is not that of another id at the same URL."""
        return name.kind != "entry" or not self.has_own_id


# ---- shared by the translators --------------------------------------------------------------------------------------


_MESSAGE: dict[str, Any] = {
    "message": True,
    "sent_by": True,
    "person": {"vouched_by"},
    "attachments": {"__all__": {"reference"}},
    "to_be_read": {"__all__": {"place"}},
}
"""What is not content: the envelope, the partner's entry, references of attachments, which derive from the referral's names, and
where a part to be read stands in the message."""


def content_hash(referral: Referral, *without: str) -> str:
    """Return the SHA-256 of a referral's content, without the message that carried it, and without these fields.

    Only fields that the translator set count, so that a field added by a later version does not change older hashes.
    """
    ignored = _MESSAGE | dict.fromkeys(without, True)
    content = referral.__pydantic_serializer__.to_json(referral, exclude=ignored, exclude_unset=True)
    return hashlib.sha256(content).hexdigest()


def cancel_hash(reason: EndReason, discharged_on: date | None, death_reported: DeathReport | None) -> str:
    """Return the SHA-256 of a cancel's content."""
    died = f" died {death_reported.died_on}" if death_reported else ""
    return hashlib.sha256(f"cancel {reason} {discharged_on}{died}".encode()).hexdigest()


def death_report(person: Mapping[str, Any]) -> DeathReport | None:
    """Return the report of a death in the content of a person, for a cancel; None if none was made."""
    reported = person.get("death_reported")
    return None if reported is None else DeathReport.model_validate(reported)


CONTAINS_NUL = "contains a NUL character, which is not allowed"

CONSENT_REFUSED = (
    "the person refused consent to share data with the housing authority: do not refer; explain the service again, "
    "or give the person Lightbulb's public contact so that they can refer themselves"
)
"""Explanation for a referrer if the person refuses consent to the referral."""


def parse_instant(value: str | None) -> datetime | None:
    """Return a date and time with an offset (RFC 3339) in UTC; None if it is invalid or outside 1901 to 2199."""
    try:
        parsed = datetime.fromisoformat(value) if value else None
    except ValueError:
        return None
    if parsed is None or parsed.tzinfo is None or not 1900 < parsed.year < 2200:
        return None
    return parsed.astimezone(UTC)


def parse_date(value: str | None) -> date | None:
    """Return the day of a date, or the day in England of a date-time; None if it is partial or impossible."""
    if value and (instant := parse_instant(value)):
        return instant.astimezone(LONDON).date()
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
"""Names of unknown elements that a response may repeat: personal data does not look like this by accident."""


def issues_of(error: ValidationError, place: Callable[[tuple[int | str, ...]], str]) -> tuple[Issue, ...]:
    """Return the faults that a model found, by place and kind. Pydantic's own messages may repeat the value."""
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    return tuple(
        issue_for(place(_named_place(tuple(one["loc"]), one["type"])), one["type"]) for one in errors[: limits.ISSUES]
    )


def _named_place(loc: tuple[int | str, ...], kind: str) -> tuple[int | str, ...]:
    """Return the location without the name of an unknown element, which the sender chose and may be personal data."""
    unknown = kind == "extra_forbidden" and not PLAIN_NAME.match(str(loc[-1]))
    return loc[:-1] if unknown else loc


def issue_for(place: str, kind: str) -> Issue:
    """Return the fault for one of pydantic's error types."""
    issue_kind, explanation = _KINDS.get(kind, ("invalid", "has the wrong format"))
    return Issue(place, issue_kind, explanation)


def fhir_path(root: str, loc: Iterable[int | str]) -> str:
    """Return the FHIRPath of a location: ('entry', 3, 'resource') below 'Bundle' is Bundle.entry[3].resource."""
    return root + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)


def reject(*issues: Issue) -> Rejection:
    """Return a rejection with these faults."""
    return Rejection(issues)


def postcode(value: str | None) -> str | None:
    """Return a postcode in capitals, with one blank before its last three characters."""
    plain = "".join((value or "").split()).upper()
    return f"{plain[:-3]} {plain[-3:]}" if len(plain) > 4 else plain or None


def mark_no_fixed_abode(person: Mapping[str, Any]) -> None:
    """Set `no_fixed_abode` in the addresses of a person that have a ZZ99 postcode, the NHS code for it."""
    for name in ("address", "temporary_address"):
        address = person.get(name)
        if address and str(address.get("postcode", "")).startswith("ZZ99"):
            address["no_fixed_abode"] = True


def set_path(content: dict[str, Any], path: str, value: Any) -> None:
    """Set the value at a dotted path: 'contacts.0.name' is content['contacts'][0]['name'].

    A yes to 'person.death_reported' is a report without a date. A no to 'person.restricted_access' does not replace a yes.
    """
    parents, last = _keys(path)
    here: Any = content
    for key, child in parents:
        here = _child(here, key, child)
    if path == "person.death_reported":
        here.update({last: here.get(last, {})} if value else {})
    elif path == "person.restricted_access":
        here[last] = value or here.get(last, value)
    else:
        if isinstance(last, int):
            here.extend(None for _ in range(last + 1 - len(here)))
        here[last] = value


@lru_cache(maxsize=1_000)
def _keys(path: str) -> tuple[tuple[tuple[str | int, type], ...], str | int]:
    """Return the keys of a path: those of its objects and lists, each with the type of what it leads to, and the last one."""
    keys = [int(part) if part.isdigit() else part for part in path.split(".")]
    kinds = [list if isinstance(key, int) else dict for key in keys[1:]]
    return tuple(zip(keys, kinds, strict=False)), keys[-1]


def _child(here: Any, key: str | int, kind: type) -> Any:
    """Return the object or list at this key; create it if there is none."""
    if isinstance(key, int):
        here.extend(kind() for _ in range(key + 1 - len(here)))
    elif key not in here:
        here[key] = kind()
    return here[key]


def drop_empty(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values without the entries that were not given, so that models use their defaults."""
    return {name: value for name, value in values.items() if value or value is False or type(value) is int}


def unique(values: Sequence[Any]) -> list[Any]:
    """Return the values in order, without repeats."""
    return list(dict.fromkeys(values))
