"""I5: the feedback that the case events require (docs/architecture.md, Who receives what), that was composed, and that was delivered."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from tests.chaos.harness.disclosure_invariants import stays_are_not_disclosed
from tests.chaos.harness.evidence import Evidence
from tests.chaos.harness.sinks import Entry
from tests.chaos.harness.topic_records import first_occurrences, type_of

ENDS = ("completed", "rejected", "cancelled")
BASIC_FEEDBACK = frozenset(
    {
        "received",
        "home-hub",
        *ENDS,
        *(f"{one}-in-part" for one in ENDS),
        "ended",
        "cancellation-refused",
        "update-refused",
    }
)
CLINICAL_FEEDBACK = BASIC_FEEDBACK | {"accepted", "on-hold", "assessed"}
FEEDBACK_BY_KIND: Mapping[str, frozenset[str]] = {
    "gp": CLINICAL_FEEDBACK,
    "clinician": CLINICAL_FEEDBACK,
    "coordinator": CLINICAL_FEEDBACK,
    "hospital-team": CLINICAL_FEEDBACK,
    "first-contact": BASIC_FEEDBACK,
    "customer-service": BASIC_FEEDBACK,
    "other": BASIC_FEEDBACK,
    "council": BASIC_FEEDBACK,
}
"""The feedback to a referrer of each kind (docs/architecture.md, Who receives what). Others have no electronic channel."""


def feedback_is_delivered(e: Evidence) -> Iterator[str]:
    """Check that all required feedback was composed once, in order, and was delivered to the right recipient only."""
    yield from _composed_as_required(e)
    yield from _arrived_as_composed(e)
    yield from _on_its_channel(e)
    yield from stays_are_not_disclosed(e)
    for one in e.not_stored:
        yield f"{one.at} got feedback {one.id} about {one.reference} before it was committed"
    for one in e.at_once:
        yield f"{one.at} got feedback {one.id} about {one.reference} by two attempts at the same time"
    if e.told_again:
        yield f"{e.told_again} feedbacks were told again after a restore"
    if e.misdirected:
        yield f"{e.misdirected} feedbacks went to an address that a message named"
    if e.unauthorised:
        yield f"{e.unauthorised} feedbacks came without the endpoint's token"


def _composed_as_required(e: Evidence) -> Iterator[str]:
    required: dict[tuple[str, str], list[str]] = defaultdict(list)
    for entry in sorted(first_occurrences(e), key=lambda entry: (entry.key, int(entry.headers["ce_sequence"]))):
        for reference, recipient, feedback_type in _required_feedback(entry, e.partners):
            required[reference, recipient].append(feedback_type)
    composed: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in e.feedback:
        composed[row["reference"], row["recipient"]].append(row["feedback_type"])
    in_order = (lambda types: sorted(types)) if e.is_read_again else list  # what was deleted is published later
    for pair in sorted(required.keys() | composed.keys()):
        if in_order(required[pair]) != in_order(composed[pair]):
            yield f"{pair[1]} requires feedback about {pair[0]} {required[pair]}, but {composed[pair]} was composed"


def _required_feedback(entry: Entry, partners: Any) -> Iterator[tuple[str, str, str]]:
    """Yield (reference, recipient, feedback type) for one case event."""
    for concern in entry.data.get("referral_contexts", ()):
        for feedback_type in _feedback_types(type_of(entry), entry.data, concern):
            for recipient in _recipients(concern, feedback_type, partners):
                yield concern["reference"], recipient, feedback_type


def _recipients(concern: Mapping[str, Any], feedback_type: str, partners: Any) -> Iterator[str]:
    """Yield the partners that require a feedback about one referral: the referrer, and the sender if it is another."""
    by_id = {partner["id"]: partner for partner in partners}
    by_ods = {partner["ods"]: partner for partner in partners if partner.get("ods")}
    sender = by_id[concern["sent_by"]["partner"]]
    referred_by = concern["referred_by"]
    referrer = by_ods.get((referred_by.get("organisation") or {}).get("ods"))
    if referrer is None and referred_by["kind"] == sender["kind"]:
        referrer = sender
    answered = referrer == sender and concern["format"] != "hl7v2"  # its acknowledgement has no place for a reference
    of_referrer, of_sender = (FEEDBACK_BY_KIND.get(kind, ()) for kind in (referred_by["kind"], sender["kind"]))
    if referrer and feedback_type in of_referrer and not (feedback_type == "received" and answered):
        yield referrer["id"]
    if sender != referrer and feedback_type != "received" and feedback_type in of_sender:
        yield sender["id"]


def _feedback_types(kind: str, data: Mapping[str, Any], concern: Mapping[str, Any]) -> Iterator[str]:
    """Yield the feedback types of a case event for one referral, in order: opening a case is received, and assigned if it has a holder."""
    if kind == "opened":
        yield "received"
        kind = "assigned" if data["case"].get("holder") else ""
    if feedback_type := _feedback_type(kind, data, concern):
        yield feedback_type


def _feedback_type(kind: str, data: Mapping[str, Any], concern: Mapping[str, Any]) -> str | None:
    """Return the feedback type of a case event that opens no case for one referral; None if it requires none."""
    reference = concern["reference"]
    match kind:
        case "joined":
            return "received" if data.get("joined") == reference else None
        case "assigned":
            return "home-hub" if concern.get("home_hub") or concern.get("restricted_access") else None
        case "transferred":
            if concern.get("restricted_access"):
                return "home-hub"
            moved = "transferred" in (concern.get("reasons") or data["case"].get("reasons", []))
            return "home-hub" if moved and concern.get("home_hub") == data["to_hub"] else None
        case "accepted":
            return "accepted"
        case "held":
            return "on-hold"
        case "assessed":
            return "assessed" if any(one["reference"] == reference for one in data["findings"]) else None
        case "completed" | "rejected" | "cancelled":
            ended = [one for one in data["ended"] if one["reference"] == reference and one["needs"]]
            return _type_of_end(kind, concern) if ended else None
        case "cancellation-refused" | "update-refused":
            return kind if data["refused"] == reference else None
        case _:
            return None


def _type_of_end(kind: str, concern: Mapping[str, Any]) -> str:
    """Return the type of feedback about an end: of a part of the referral, of all in one way, or of all in several."""
    if concern.get("open_needs"):
        return f"{kind}-in-part"
    return "ended" if {one["status"] for one in concern.get("ended_needs", ())} - {kind} else kind


def _arrived_as_composed(e: Evidence) -> Iterator[str]:
    rows = {row["id"]: row for row in e.feedback}
    arrivals: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in e.received_feedback:
        row = rows.get(one.id)
        if row is None:
            yield f"{one.at} has a feedback {one.id} about {one.reference} with an id that was not composed"
        elif (row["recipient"], row["reference"]) != (one.at, one.reference):
            yield f"{one.at} has feedback {one.id}, which is for {row['recipient']}"
        else:
            arrivals[one.reference, one.at].append(one.id)
    wanted: dict[tuple[str, str], list[str]] = defaultdict(list)
    failed: Counter[str] = Counter()
    for row in e.feedback:
        if row["state"] == "failed":
            failed[row["reference"]] += 1
        else:
            wanted[row["reference"], row["recipient"]].append(row["id"])
    for pair in sorted(wanted.keys() | arrivals.keys()):
        if arrivals[pair] != wanted[pair]:
            yield f"{pair[1]} got of {pair[0]} {len(arrivals[pair])} feedbacks, or not in order; {len(wanted[pair])} were composed"
    yield from _failed_as_wanted(e, failed)


def _on_its_channel(e: Evidence) -> Iterator[str]:
    """Check that nobody's channel was replaced by another, also while it has no address."""
    channels = {partner["id"]: partner.get("feedback", {}).get("channel") for partner in e.partners}
    for row in e.feedback:
        channel = channels.get(row["recipient"])
        if channel and row.get("channel", channel) != channel:
            yield f"feedback {row['id']} to {row['recipient']} went by {row['channel']} instead of {channel}"


def _failed_as_wanted(e: Evidence, failed: Counter[str]) -> Iterator[str]:
    wanted = {
        answer.reference
        for answer in e.history.answers
        for person in e.plan.persons
        if person.number == answer.message.person and person.referrals[answer.message.referral].refuses_first
    }
    for reference, times in failed.items():
        if reference not in wanted or times > 1:
            yield f"{times} feedbacks about {reference} failed for good, which the seed does not want"
