"""Which message it is, decided without a database: given what is held and seen, when a message comes, then."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.case import EndReason
from schemas.model import Reference
from services.intake import identifiers
from services.intake.deduplication import (
    AcceptedMessage,
    FoundReferral,
    StoredReferral,
    Verdict,
    apply_verdict,
    classify,
    contradicts,
    find,
)
from services.intake.translators.translator import Intent, ReferralName, Subject, Translated
from tests.intake.stored import a_stored_referral

NOW = datetime(2026, 11, 5, 9, 30, tzinfo=UTC)
NOTHING = a_stored_referral()
HELD = a_stored_referral(version=1, content_hash="a", first_sent_at=NOW, sent_at=NOW)
CHANGED = replace(HELD, version=2, content_hash="b", sent_at=NOW + timedelta(hours=2))


def a_message(
    intent: Intent = "new", content: str = "a", ids: tuple[str, ...] = ("m-1",), sent_at: datetime | None = NOW
) -> Translated:
    return Translated(ids, "a referral", intent, content, sent_at=sent_at)


def a_withdrawal(sent_at: datetime) -> Translated:
    return replace(a_message("cancel", "c", sent_at=sent_at), cancel_reason=EndReason.CONSENT_WITHDRAWN)


def accepted(content: str) -> AcceptedMessage:
    return AcceptedMessage(content, uuid4(), Reference("LB-0000-1111-2222"))


LATER, EARLIER = NOW + timedelta(hours=1), NOW - timedelta(hours=1)


@pytest.mark.parametrize(
    ("incoming", "held", "verdict"),
    [
        (a_message("new"), NOTHING, Verdict.RECEIVED),
        (a_message("update"), NOTHING, Verdict.RECEIVED),
        (a_message("either"), NOTHING, Verdict.RECEIVED),
        (a_message("cancel"), NOTHING, Verdict.UNKNOWN),
        (a_message("new", "a"), HELD, Verdict.REPEAT),
        (a_message("new", "b"), HELD, Verdict.CONFLICT),
        (a_message("new", "b", sent_at=EARLIER), HELD, Verdict.CONFLICT),
        (a_message("update", "b", sent_at=LATER), HELD, Verdict.UPDATED),
        (a_message("update", "b", sent_at=NOW), HELD, Verdict.UPDATED),
        (a_message("update", "b", sent_at=None), HELD, Verdict.UPDATED),
        (a_message("update", "b", sent_at=EARLIER), HELD, Verdict.STALE),
        (a_message("either", "a"), HELD, Verdict.REPEAT),
        (a_message("either", "b"), HELD, Verdict.UPDATED),
        (a_message("either", "b", sent_at=EARLIER), HELD, Verdict.STALE),
        (a_message("cancel", "c"), HELD, Verdict.CANCELLED),
        # older than the first message: the clock is slow; older than an update: a person decides
        (a_message("cancel", "c", sent_at=EARLIER), HELD, Verdict.CANCELLED),
        (a_message("cancel", "c", sent_at=EARLIER), CHANGED, Verdict.CANCELLED),
        (a_message("cancel", "c", sent_at=LATER), CHANGED, Verdict.NOT_APPLIED),
        (a_message("cancel", "c", sent_at=LATER), replace(CHANGED, cancelled=True), Verdict.STALE),
        (a_message("cancel", "c", sent_at=EARLIER), replace(HELD, first_intent="update"), Verdict.NOT_APPLIED),
        (a_withdrawal(LATER), CHANGED, Verdict.CANCELLED),
        (a_message("cancel", "a"), HELD, Verdict.REPEAT),
        # the update came first; its new referral was on its way
        (a_message("new", "b", sent_at=EARLIER), replace(HELD, first_intent="update"), Verdict.STALE),
        (a_message("new", "b", sent_at=LATER), replace(HELD, first_intent="update"), Verdict.CONFLICT),
    ],
)
def test_a_message_is_classified_by_the_stored_referral(
    incoming: Translated, held: StoredReferral, verdict: Verdict
) -> None:
    assert classify(incoming, FoundReferral(held), ()) is verdict


@pytest.mark.parametrize(
    ("content", "by_message_id", "verdict"),
    [("a", True, Verdict.REPEAT), ("a", False, Verdict.UPDATED), ("b", True, Verdict.UPDATED)],
)
def test_an_update_under_a_known_bundle_id_is_a_duplicate_only_with_the_content_that_is_held(
    content: str, by_message_id: bool, verdict: Verdict
) -> None:
    found = FoundReferral(HELD, by_message_id=by_message_id)
    assert classify(a_message("update", content), found, ()) is verdict


def test_what_is_older_than_a_repeated_update_is_stale() -> None:
    held = replace(HELD)
    again = a_message("update", "a", sent_at=LATER + timedelta(hours=1))
    found = FoundReferral(held, by_message_id=True)
    apply_verdict(again, found, classify(again, found, ()))
    assert (held.version, held.changed) == (1, True)
    assert classify(a_message("update", "b", sent_at=LATER), FoundReferral(held), ()) is Verdict.STALE


def test_a_cancel_that_is_not_applied_takes_a_version_and_changes_nothing_else() -> None:
    held = replace(CHANGED)
    apply_verdict(a_message("cancel", "c", sent_at=LATER), FoundReferral(held), Verdict.NOT_APPLIED)
    assert held == replace(CHANGED, version=3, changed=True)


def test_an_update_after_a_cancel_leaves_the_referral_cancelled() -> None:
    held = replace(HELD, cancelled=True)
    message = a_message("update", "b", sent_at=LATER)
    apply_verdict(message, FoundReferral(held), Verdict.UPDATED)
    assert (held.version, held.cancelled) == (2, True)


def test_one_message_id_for_the_cancels_of_two_referrals_is_a_conflict() -> None:
    cancel, of_this = a_message("cancel", "c"), accepted("c")
    of_another = replace(of_this, reference=Reference("LB-9999-9999-9999"))
    assert classify(cancel, FoundReferral(HELD), [of_this]) is Verdict.REPEAT
    assert classify(cancel, FoundReferral(HELD), [of_another]) is Verdict.CONFLICT


@pytest.mark.parametrize(
    ("said", "held", "verdict"),
    [(0, 500, Verdict.UPDATED), (400, 500, Verdict.STALE), (0, 1000, Verdict.STALE), (500, 0, Verdict.UPDATED)],
)
def test_a_time_in_whole_seconds_is_any_moment_of_its_second(said: int, held: int, verdict: Verdict) -> None:
    """Milliseconds after NOW: 0 and 1000 are stated in whole seconds."""
    stored = replace(HELD, sent_at=NOW + timedelta(milliseconds=held))
    message = a_message("update", "b", sent_at=NOW + timedelta(milliseconds=said))
    assert classify(message, FoundReferral(stored), ()) is verdict


# ---- messages that are merged ------------------------------------------------------------------------------------------


def a_merged_message(
    intent: Intent = "update", content: str = "b", at: datetime = LATER, minutes: int = 1, **fields: Any
) -> Translated:
    """A message of a format whose messages are merged, sent within some minutes. `content`: of what the merge resulted in."""
    until = at + timedelta(minutes=minutes)
    merge = None if intent == "cancel" else (lambda _: replace(MERGED))
    message = a_message(intent, content, sent_at=at)
    return replace(message, sent_until=until, complete=merge, fields=b"merged", is_queued=True, **fields)


MERGED = a_message("update", "b")
CANCELLED = replace(HELD, version=2, cancelled=True, sent_at=NOW)
MARK = replace(NOTHING, cancelled=True, sent_at=NOW)
SENT_LATER = replace(HELD, sent_at=LATER + timedelta(minutes=1))


@pytest.mark.parametrize(
    ("incoming", "held", "verdict"),
    [
        (a_merged_message("new"), NOTHING, Verdict.RECEIVED),
        (a_merged_message("new"), HELD, Verdict.UPDATED),
        (a_merged_message("new", "a"), HELD, Verdict.REPEAT),
        (a_merged_message("update", "a"), HELD, Verdict.REPEAT),
        # sent before the last one: it fills something, or nothing
        (a_merged_message("update", "b"), SENT_LATER, Verdict.UPDATED),
        (a_merged_message("update", "a"), SENT_LATER, Verdict.STALE),
        (a_merged_message("update", "a", minutes=2), SENT_LATER, Verdict.REPEAT),
        (a_merged_message("update"), CANCELLED, Verdict.AFTER_CANCEL),
        (a_merged_message("new", "a"), CANCELLED, Verdict.AFTER_CANCEL),
        (a_merged_message("update", at=EARLIER), CANCELLED, Verdict.STALE),
        (a_merged_message("cancel", "c"), HELD, Verdict.CANCELLED),
        (a_merged_message("cancel", "c"), NOTHING, Verdict.UNKNOWN),
        # a withdrawal of consent came first
        (a_merged_message("new", at=EARLIER), MARK, Verdict.AFTER_CANCEL),
        (a_merged_message("new", at=NOW), MARK, Verdict.RECEIVED),
        (a_merged_message("cancel", "c"), MARK, Verdict.UNKNOWN),
    ],
)
def test_a_merged_message_is_classified_by_what_it_changed(
    incoming: Translated, held: StoredReferral, verdict: Verdict
) -> None:
    assert classify(incoming, FoundReferral(held), ()) is verdict


def test_what_is_merged_is_kept_if_it_changes_nothing_but_its_time() -> None:
    held = replace(HELD, fields=b"before")
    apply_verdict(a_merged_message("update", "a"), FoundReferral(held), Verdict.REPEAT)
    assert (held.fields, held.version, held.changed, held.sent_at) == (b"merged", 1, True, LATER)


def test_a_withdrawal_of_an_unknown_referral_leaves_a_mark_until_it_is_referred_again() -> None:
    held = replace(NOTHING)
    withdrawal = a_merged_message("cancel", "c", cancel_reason=EndReason.CONSENT_WITHDRAWN)
    apply_verdict(withdrawal, FoundReferral(held), Verdict.UNKNOWN)
    assert held == replace(NOTHING, cancelled=True, changed=True, sent_at=LATER + timedelta(minutes=1))
    again = a_merged_message("new", at=LATER + timedelta(hours=1))
    apply_verdict(again, FoundReferral(held), classify(again, FoundReferral(held), ()))
    assert (held.version, held.cancelled, held.sent_at) == (1, False, again.sent_at)


def test_other_cancels_of_an_unknown_referral_leave_none() -> None:
    held = replace(NOTHING)
    for cancel in (a_merged_message("cancel", "c"), a_withdrawal(NOW)):
        apply_verdict(cancel, FoundReferral(held), Verdict.UNKNOWN)
    assert held == NOTHING


# ---- the person ------------------------------------------------------------------------------------------------------

SECRET = b"a secret of these tests, 32 bytes and more"
ADA = Subject("9990000018", date(1944, 2, 29), "Vance")


def hashes(subject: Subject | None) -> str:
    return identifiers.subject_hashes(SECRET, subject)


@pytest.mark.parametrize(
    ("said", "is_other"),
    [
        (ADA, False),
        (ADA._replace(family_name="VANCÉ"), False),
        (ADA._replace(birth_date=date(1990, 1, 1), family_name="Other"), False),  # the number is the same: a correction
        (ADA._replace(nhs_number="9990000026"), False),
        (ADA._replace(nhs_number="9990000026", family_name="Other"), True),
        (ADA._replace(nhs_number="9990000026", birth_date=date(1990, 1, 1)), True),
        (Subject(None, date(1990, 1, 1), "Other"), True),
        (Subject(None, date(1944, 2, 29), "Other"), False),
        (Subject(None, None, "Other"), False),
        (Subject("9990000026", None, None), False),
        (None, False),
    ],
)
def test_a_person_is_contradicted_by_number_and_one_more_or_without_a_number_by_both(
    said: Subject | None, is_other: bool
) -> None:
    assert contradicts(hashes(ADA), hashes(said)) is is_other
    assert contradicts(hashes(said), hashes(ADA)) is is_other


@pytest.mark.parametrize(
    ("intent", "verdict"),
    [("update", Verdict.OTHER_PERSON), ("cancel", Verdict.OTHER_PERSON), ("new", Verdict.CONFLICT)],
)
def test_a_message_about_another_person_is_refused(intent: Intent, verdict: Verdict) -> None:
    held = replace(HELD, subject=hashes(ADA))
    other = hashes(ADA._replace(nhs_number="9990000026", family_name="Other"))
    assert classify(a_message(intent, "b"), FoundReferral(held, other), ()) is verdict


def test_an_older_new_referral_of_another_person_is_not_taken_for_a_superseded_one() -> None:
    held = replace(HELD, subject=hashes(ADA), first_intent="update")
    other = hashes(ADA._replace(nhs_number="9990000026", family_name="Other"))
    assert classify(a_message("new", "b", sent_at=EARLIER), FoundReferral(held, other), ()) is Verdict.CONFLICT


def test_an_update_that_leaves_out_who_the_person_is_does_not_open_the_referral_to_another() -> None:
    held = replace(HELD, subject=hashes(ADA))
    partial = hashes(Subject(None, None, "Corrected"))
    apply_verdict(a_message("update", "b"), FoundReferral(held, partial), Verdict.UPDATED)
    assert held.subject == hashes(ADA._replace(family_name="Corrected"))
    other = hashes(Subject("9990000026", date(1990, 1, 1), "Other"))
    assert classify(a_message("update", "c"), FoundReferral(held, other), ()) is Verdict.OTHER_PERSON


@pytest.mark.parametrize(
    ("person", "verdict"),
    [
        (ADA, Verdict.UPDATED),
        (ADA._replace(nhs_number="9990000026"), Verdict.UPDATED),
        (ADA._replace(family_name="Corrected"), Verdict.UPDATED),
        (ADA._replace(birth_date=date(1944, 3, 1)), Verdict.UPDATED),
        (Subject("9990000026", date(1990, 1, 1), ADA.family_name), Verdict.OTHER_PERSON),
        (Subject("9990000026", ADA.birth_date, "Other"), Verdict.OTHER_PERSON),
        (Subject(None, date(1990, 1, 1), "Other"), Verdict.OTHER_PERSON),
    ],
)
def test_a_row_or_form_corrects_a_person_and_does_not_replace_them(person: Subject, verdict: Verdict) -> None:
    held = replace(HELD, subject=hashes(ADA))
    assert classify(a_message("either", "b"), FoundReferral(held, hashes(person)), ()) is verdict


@pytest.mark.parametrize("intent", ["cancel", "either"])
def test_a_message_that_names_no_person_contradicts_none(intent: Intent) -> None:
    held = replace(HELD, subject=hashes(ADA))
    verdict = classify(a_message(intent, "b"), FoundReferral(held, ""), ())
    assert verdict in (Verdict.CANCELLED, Verdict.UPDATED)


def test_hashes_of_a_person_hold_none_of_the_data() -> None:
    assert not any(part in hashes(ADA) for part in ("9990000018", "1944", "ance"))


# ---- the names ------------------------------------------------------------------------------------------------------

FIRST, SECOND = ReferralName("id", "r-1"), ReferralName("message", "b-1")
PLACE = ReferralName("location", "urn:x")
ONE = replace(HELD, referral_id="one", subject=hashes(ADA))
OTHER = replace(HELD, referral_id="two")


def a_named_message(*names: ReferralName, intent: Intent = "update", content: str = "a") -> Translated:
    return replace(a_message(intent, content), names=names)


def test_the_first_name_that_is_known_leads_to_the_referral() -> None:
    message = a_named_message(FIRST, SECOND)
    assert find(message, "", [ONE, OTHER], None) is ONE
    assert find(message, "", [None, OTHER], None) is OTHER
    assert find(message, "", [None, None], NOTHING) is NOTHING


def test_a_name_gives_way_to_the_next_if_it_leads_to_another_person() -> None:
    said = hashes(Subject("9990000026", None, "Other"))
    message = a_named_message(FIRST, SECOND)
    assert find(message, said, [ONE, OTHER], None) is OTHER
    assert find(message, said, [ONE, None], None) is ONE


@pytest.mark.parametrize(("content", "found"), [("a", ONE), ("b", NOTHING)])
def test_a_new_message_under_a_transient_url_is_the_same_referral_only_with_its_content(
    content: str, found: StoredReferral
) -> None:
    assert find(a_named_message(PLACE, intent="new", content=content), "", [ONE], NOTHING) is found


def test_an_update_is_found_by_a_transient_url() -> None:
    assert find(a_named_message(PLACE, content="b"), "", [ONE], NOTHING) is ONE


# ---- all ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("intent", ["new", "update", "cancel", "either"])
@pytest.mark.parametrize("held", [NOTHING, HELD])
def test_a_known_message_id_decides_before_anything_else(intent: Intent, held: StoredReferral) -> None:
    message = a_message(intent, "a", ids=("m-1", "m-2"))
    found = FoundReferral(held)
    assert classify(message, found, [accepted("a")]) is Verdict.REPEAT
    assert classify(message, found, [accepted("b")]) is Verdict.CONFLICT
    assert classify(message, found, [accepted("a"), accepted("b")]) is Verdict.CONFLICT


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["new", "update", "cancel", "either"]),
            st.sampled_from("abc"),
            st.integers(-3, 3) | st.none(),
        ),
        min_size=1,
    )
)
def test_the_version_grows_by_one_with_each_event_and_never_otherwise(
    messages: list[tuple[Intent, str, int | None]],
) -> None:
    held = a_stored_referral()
    for intent, content, hours in messages:
        sent_at = None if hours is None else NOW + timedelta(hours=hours)
        incoming = a_message(intent, content, ids=(), sent_at=sent_at)
        verdict = classify(incoming, FoundReferral(held), ())
        before = replace(held)
        apply_verdict(incoming, FoundReferral(held), verdict)
        assert held.version - before.version == verdict.makes_event
        assert replace(held, sent_at=None) == replace(before, sent_at=None) or verdict.makes_event
        assert before.sent_at is None or (held.sent_at is not None and held.sent_at >= before.sent_at)
