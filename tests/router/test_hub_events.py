"""What hubs receive: every case can be rebuilt from a hub's topic alone, by the example client's own function."""

import functools
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given as given_any
from hypothesis import settings
from hypothesis import strategies as st

from examples.connect.hub import Case, receive, to_accept
from schemas.case import EndReason, Finding, HoldReason, Intervention
from schemas.events import (
    Accept,
    Assess,
    Assign,
    Cancel,
    CaseSnapshot,
    Complete,
    ConfirmDeath,
    Hold,
    MarkRead,
    Record,
    ReferralCancellationNotApplied,
    ReferralMergeProposed,
    Reject,
    ReportDeath,
    Start,
    Transfer,
    WithdrawDeathReport,
)
from schemas.model import Reference
from schemas.referral import DeathReport, HospitalStay, Referral
from services.router.decide import hub_events
from services.router.decide.hub_events import MAX_CONTEXTS, MAX_OTHERS, SNAPSHOT_BYTES
from services.router.decide.lifecycle import EmittedEvent
from tests.builders.events import TODAY, cancelled, received, updated
from tests.builders.hub_views import Topics, rebuilt_from, records_of, seen_by_rebuilding, seen_by_state
from tests.builders.reference_data import AT_BLABY, AT_CHARNWOOD, IN_THE_CITY
from tests.builders.referrals import (
    FORM,
    GP,
    PART,
    WARD,
    a_bradgate_referral,
    a_form,
    a_person,
    a_referral,
    a_ward_referral,
    an_address,
    reference,
)
from tests.router.story import Story, given

BRADGATE, LETTER = "hospital-housing-bradgate", Reference("LB-BRAD-0000-0005")
HUBS = ("blaby", "charnwood", "melton", "triage", "hospital-housing", BRADGATE)
BUILDERS: dict[Reference, Callable[..., Referral]] = {
    GP: a_referral,
    FORM: a_form,
    WARD: a_ward_referral,
    LETTER: a_bradgate_referral,
}

references = st.sampled_from(list(BUILDERS))
messages = st.tuples(
    st.just("message"),
    references,
    st.fixed_dictionaries(
        {},
        optional={
            "restricted": st.booleans(),
            "died": st.booleans(),
            "discharged": st.sampled_from([TODAY, TODAY + timedelta(days=3)]),
            "stay": st.sampled_from(["Glenfield Hospital", "Bradgate Unit", "moved", "cancelled"]),
            "unread": st.booleans(),
            "authority": st.sampled_from(["E07000130", "E07000133"]),
            "postcode": st.sampled_from([AT_BLABY, AT_CHARNWOOD, IN_THE_CITY]),
        },
    ),
)
ends = st.tuples(st.sampled_from(["cancel", "died", "not applied", "merge"]), references)
FINDING = Finding(reference=GP, service="minor-adaptations", finding="need-confirmed")
DONE = Intervention(reference=FORM, service="fire-safety", action="alarm fitted", provider="Fire service", on=TODAY)
commands = st.tuples(
    st.just("command"),
    st.sampled_from(HUBS),
    st.one_of(
        st.sampled_from(
            [
                (Accept, {}),
                (Start, {}),
                (Hold, {"reason": HoldReason.WAITING_LIST}),
                (Assess, {"findings": (FINDING,)}),
                (Record, {"interventions": (DONE,)}),
                (ReportDeath, {}),
                (ConfirmDeath, {}),
                (WithdrawDeathReport, {}),
            ]
        ),
        st.tuples(st.sampled_from([Transfer, Assign]), st.fixed_dictionaries({"to_hub": st.sampled_from(HUBS)})),
        st.tuples(st.just(MarkRead), st.fixed_dictionaries({"reference": references})),
        st.tuples(st.sampled_from([Complete, Reject, Cancel]), st.fixed_dictionaries({"named": references})),
    ),
)
histories = st.lists(st.one_of(messages, messages, ends, commands, commands), min_size=2, max_size=14)


def play(story: Story, one: Any, version: int) -> None:
    match one:
        case ("message", of, said):
            send = updated if of in story.state.referrals else received
            story.when(send(of, a_message(of, **said), version))
        case ("command", hub, (command, {"named": of})):
            record = story.state.referrals.get(of)
            ended = [{"reference": of, "needs": record.open_needs}] if record and record.open_needs else []
            if ended:
                more = {} if command is Complete else {"reason": EndReason.OTHER}
                story.commanded(hub, command, ended=ended, **more)
        case ("command", hub, (command, data)):
            story.commanded(hub, command, **data)
        case (end, of) if of in story.state.referrals:
            story.when(_ENDS[end](of, version))


_ENDS: dict[str, Callable[[Reference, int], Any]] = {
    "cancel": cancelled,
    "died": lambda of, version: cancelled(of, version, death_reported=DeathReport()),
    "not applied": lambda of, version: ReferralCancellationNotApplied(reference=of, version=version),
    "merge": lambda of, version: ReferralMergeProposed(reference=of, version=version),
}


def a_message(
    of: Reference,
    *,
    restricted: bool | None = None,
    died: bool = False,
    discharged: date | None = None,
    stay: str | None = None,
    unread: bool = False,
    authority: str | None = None,
    postcode: str = AT_BLABY,
) -> Referral:
    reported = DeathReport() if died else None
    person = a_person(address=an_address(postcode), restricted_access=restricted, death_reported=reported)
    more: dict[str, Any] = {"person": person, "named_authority": authority, "discharged_on": discharged}
    if stay == "moved":
        more["hospital"] = HospitalStay(site="Leicester Royal Infirmary", moved_to="Elsewhere Hospital")
    elif stay == "cancelled":
        more["hospital"] = HospitalStay(site="Leicester Royal Infirmary", admission_cancelled=True)
    elif stay is not None:
        more["hospital"] = HospitalStay(site=stay, ward="Ward 1")
    if unread:
        more["to_be_read"] = (PART,)
    return BUILDERS[of](**more)


@settings(max_examples=400, deadline=None)
@given_any(histories)
def test_every_case_of_every_hub_is_rebuilt_from_its_topic_alone(history: list[Any]) -> None:
    story, topics = Story(), Topics()
    for version, one in enumerate(history, start=1):
        story.emitted = []
        play(story, one, version)
        assert_rebuilt(topics, story)


def assert_rebuilt(topics: Topics, story: Story) -> None:
    """Apply the last events of a story to the topics, and compare what they say of the cases with its state."""
    rebuilt_from(story.emitted, topics)
    assert all(case.is_whole for cases in topics.values() for case in cases.values())
    assert seen_by_rebuilding(topics) == seen_by_state(story.state, story.grounds.directory)


# ---- a case with many referrals -----------------------------------------------------------------------------------------

MANY = 1_000


@functools.cache
def _crowded() -> Story:
    """Return the story of a case with many referrals, as one sender's column of numbers makes it."""
    return given(*(received(reference(number), a_referral()) for number in range(MANY)))


def crowded() -> Story:
    return replace(_crowded())


def sizes(story: Story) -> list[int]:
    return [len(data.model_dump_json(exclude_none=True)) for _, data in records_of(story.emitted)]


def events(story: Story) -> list[EmittedEvent]:
    return [one for one in story.emitted if isinstance(one, EmittedEvent)]


def test_a_case_with_a_thousand_referrals_is_accepted_transferred_and_completed() -> None:
    story, topics = crowded(), rebuilt_from(_crowded().emitted)
    everything = [{"reference": reference(number), "needs": ("minor-adaptations",)} for number in range(MANY)]
    for hub, command, data in (
        ("blaby", Accept, {}),
        ("blaby", Transfer, {"to_hub": "melton"}),
        ("melton", Accept, {}),
        ("melton", Complete, {"ended": everything}),
    ):
        story.commanded(hub, command, **data)
        assert story.refused is None
        assert max(sizes(story)) <= SNAPSHOT_BYTES
        contexts = [one.data.referral_contexts for one in events(story)]
        assert max(map(len, contexts)) <= MAX_CONTEXTS
        assert sorted(context.reference for each in contexts for context in each) == [
            each["reference"] for each in everything
        ]
        assert_rebuilt(topics, story)
    assert topics["blaby"][story.case.case_id].role == "former"
    assert topics["melton"][story.case.case_id].position["status"] == "completed"
    ended = [one.reference for event in events(story) for one in event.data.ended]  # type: ignore[attr-defined]
    assert sorted(ended) == [each["reference"] for each in everything]


def test_an_event_that_fills_its_limit_to_the_byte_does_not_exceed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    story = given(*(received(reference(number), a_referral()) for number in range(5)))
    story.commanded("blaby", Transfer, to_hub="melton")
    (event,) = story.sent_to("melton")
    smallest = len(event.model_copy(update={"referrals": event.referrals[:2]}).model_dump_json(exclude_none=True))
    for limit in range(smallest - 2, smallest + 40):
        monkeypatch.setattr(hub_events, "SNAPSHOT_BYTES", limit)
        first, parts = hub_events.with_referrals(event.model_copy(update={"referrals": ()}), event.referrals)
        assert len(first.model_dump_json(exclude_none=True)) <= limit
        assert [*first.referrals, *(one for part in parts for one in part)] == [*event.referrals]


def test_an_ordinary_event_of_a_large_case_has_what_changed_and_fifty_others_with_their_count() -> None:
    story = crowded().when(updated(reference(7), a_referral(priority="urgent")))

    (event,) = story.sent_to("blaby")
    assert [one.reference for one in event.referrals] == [reference(7)]
    assert [one.reference for one in event.others] == [
        reference(number) for number in range(MAX_OTHERS + 1) if number != 7
    ]
    assert event.others_count == MANY - 1
    assert event.snapshots == 0
    assert max(sizes(story)) < 20_000


def test_a_hub_that_may_no_longer_see_one_of_many_referrals_receives_all_that_it_sees() -> None:
    many = [received(reference(number), a_referral()) for number in range(MAX_OTHERS + 10)]
    story = given(*many, received(WARD, a_ward_referral()))
    topics = rebuilt_from(story.emitted)
    story.when(updated(reference(7), a_ward_referral()))

    assert_rebuilt(topics, story)
    assert reference(7) not in topics["blaby"][story.case.case_id].referrals
    assert len(topics["blaby"][story.case.case_id].referrals) == len(many) - 1


def test_a_missing_snapshot_is_noticed_and_filled_when_it_is_published_again() -> None:
    story = crowded().commanded("blaby", Transfer, to_hub="melton")
    records = [data for hub, data in records_of(story.emitted) if hub == "melton"]
    assert [type(data) is CaseSnapshot for data in records] == [False] + [True] * (len(records) - 1)
    lost = records[2]
    cases: dict[str, Case] = {}
    for data in [*records[:2], *records[3:]]:
        case = read(cases, data)
    assert not case.is_whole
    assert to_accept(case) is None

    case = read(cases, lost)
    assert case.is_whole
    assert len(case.referrals) == MANY
    assert to_accept(case) == {"case_id": case.id, "person_key": case.person_key, "expected_version": len(records)}


def test_an_event_that_has_every_open_referral_makes_up_for_what_is_missing_before_it() -> None:
    story = given(received(GP, a_referral()), received(FORM, a_form())).commanded("blaby", Accept)
    *_, accepted = [data for _, data in records_of(story.all_emitted)]

    case = read({}, accepted)
    assert case.is_whole
    assert case.referrals.keys() == {GP, FORM}


def read(cases: dict[str, Case], data: Any) -> Case:
    return receive(cases, data.TYPE.split(".")[3], data.model_dump(mode="json", exclude_none=True))
