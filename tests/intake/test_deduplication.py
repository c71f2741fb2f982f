"""Which message it is, decided without a database: given what is held and seen, when a message comes, then."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.model import Reference
from services.intake.deduplication import AcceptedMessage, StoredReferral, Verdict, apply_verdict, classify
from services.intake.translators.translator import Intent, Translated
from tests.intake.stored import a_stored_referral

NOW = datetime(2026, 11, 5, 9, 30, tzinfo=UTC)
NOTHING = a_stored_referral()
HELD = a_stored_referral(version=1, content_hash="a", sent_at=NOW)


def a_message(
    intent: Intent = "new", content: str = "a", ids: tuple[str, ...] = ("m-1",), sent_at: datetime | None = NOW
) -> Translated:
    return Translated(ids, "a referral", intent, content, sent_at=sent_at)


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
        (a_message("cancel", "c", sent_at=EARLIER), HELD, Verdict.STALE),
        (a_message("cancel", "a"), HELD, Verdict.REPEAT),
        # the update came first; its new referral was on its way
        (a_message("new", "b", sent_at=EARLIER), replace(HELD, first_intent="update"), Verdict.STALE),
        (a_message("new", "b", sent_at=LATER), replace(HELD, first_intent="update"), Verdict.CONFLICT),
    ],
)
def test_a_message_is_classified_by_the_stored_referral(
    incoming: Translated, held: StoredReferral, verdict: Verdict
) -> None:
    assert classify(incoming, held, ()) is verdict


@pytest.mark.parametrize("intent", ["new", "update", "cancel", "either"])
@pytest.mark.parametrize("held", [NOTHING, HELD])
def test_a_known_message_id_decides_before_anything_else(intent: Intent, held: StoredReferral) -> None:
    message = a_message(intent, "a", ids=("m-1", "m-2"))
    assert classify(message, held, [accepted("a")]) is Verdict.REPEAT
    assert classify(message, held, [accepted("b")]) is Verdict.CONFLICT
    assert classify(message, held, [accepted("a"), accepted("b")]) is Verdict.CONFLICT


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
        verdict = classify(incoming, held, ())
        before = replace(held)
        apply_verdict(incoming, held, verdict)
        assert held.version - before.version == verdict.makes_event
        assert held == before or verdict.makes_event
        assert before.sent_at is None or (held.sent_at is not None and held.sent_at >= before.sent_at)
