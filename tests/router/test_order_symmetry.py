"""Properties over any inputs: order of arrival, disclosure, numbering, and what has ended."""

from collections import defaultdict
from datetime import UTC, date, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.case import EndReason, Finding, HoldReason, Intervention
from schemas.events import (
    Accept,
    Assess,
    Assign,
    Book,
    Cancel,
    CaseEvent,
    CaseJoined,
    CaseOpened,
    Complete,
    Hold,
    Record,
    Reject,
    Start,
    Transfer,
)
from schemas.nhs_number import VerificationStatus
from schemas.referral import Consents, HospitalStay, Referral
from services.router import stored_state
from services.router.decide.aggregate import PersonAggregate
from services.router.decide.transition import EmittedEvent
from tests.builders.events import TODAY, cancelled, received, updated
from tests.builders.reference_data import AT_BLABY, AT_CHARNWOOD, CHARNWOOD, IN_THE_CITY
from tests.builders.referrals import (
    FORM,
    GP,
    NO,
    WARD,
    YES,
    a_bradgate_referral,
    a_form,
    a_person,
    a_referral,
    a_ward_referral,
    an_address,
)
from tests.router.story import Story, everything, short

VERIFIED, NOT_TRACED = VerificationStatus.VERIFIED, VerificationStatus.NOT_TRACED
SERVICES = ["minor-adaptations", "blue-badge", "homelessness"]

persons = st.builds(
    lambda postcode, name, status: a_person(
        address=an_address(postcode, no_fixed_abode=postcode is None), family_name=name, nhs_number_status=status
    ),
    st.sampled_from([AT_BLABY, AT_CHARNWOOD, IN_THE_CITY, "ZE1 0AA", None]),
    st.sampled_from(["Vickers", "VICKERS", "Carter"]),
    st.sampled_from([VERIFIED, VERIFIED, NOT_TRACED]),
)
common = {
    "person": persons,
    "named_authority": st.sampled_from([None, None, CHARNWOOD]),
    "referred_on": st.sampled_from([None, date(2026, 11, 1), date(2026, 11, 2)]),
    "consents": st.sampled_from([Consents(referral=YES, feedback=YES), Consents(feedback=YES)]),
}
needs = st.lists(st.sampled_from(SERVICES), max_size=3, unique=True)


def _with(builder: Any) -> Any:
    return lambda services, given: builder(*services, **given)


gps = st.builds(_with(a_referral), needs, st.fixed_dictionaries(common))
forms = st.builds(_with(a_form), needs, st.fixed_dictionaries(common))
sites = st.sampled_from(
    [HospitalStay(site="LRI", ward="Ward 23"), HospitalStay(site="Glenfield"), HospitalStay(site="Bradgate Unit")]
)
wards = st.builds(_with(a_ward_referral), needs, st.fixed_dictionaries({**common, "hospital": sites}))
bradgate = st.builds(_with(a_bradgate_referral), st.just([]), st.just({}))


def settled(state: PersonAggregate) -> Any:
    """The state without what only numbers the order: versions, ids of cases, numbers of persons."""
    shown = {}
    for reference, known in state.referrals.items():
        case = state.cases[known.case_id]
        together = sorted(other for other, one in state.referrals.items() if one.case_id == known.case_id)
        shown[reference] = (
            known.model_dump(exclude={"case_id", "person_no"}),
            case.model_dump(exclude={"case_id", "person_no", "cursors"}),
            {hub: told.role for hub, told in case.cursors.items() if told.role != "former"},
            together,
            state.persons[known.person_no].provisional,
        )
    return shown


@settings(max_examples=250, deadline=None)
@given(gps, wards)
def test_a_gps_and_a_hospitals_referral_give_the_same_state_in_both_orders(gp: Referral, ward: Referral) -> None:
    one = Story().when(received(GP, gp), received(WARD, ward))
    other = Story().when(received(WARD, ward), received(GP, gp))

    assert settled(one.state) == settled(other.state)


@settings(max_examples=150, deadline=None)
@given(gps, forms)
def test_two_community_referrals_give_the_same_state_in_both_orders(gp: Referral, form: Referral) -> None:
    one = Story().when(received(GP, gp), received(FORM, form))
    other = Story().when(received(FORM, form), received(GP, gp))

    assert settled(one.state) == settled(other.state)


@settings(max_examples=250, deadline=None)
@given(
    gps, wards, st.booleans(), st.lists(st.sampled_from(["update", "ward-update", "hospital", "assess"]), max_size=4)
)
def test_feedback_to_a_gp_does_not_depend_on_the_hospitals_referral(
    gp: Referral, ward: Referral, ward_first: bool, then: list[str]
) -> None:
    """For any input of the ward and the hospital team, the contexts of the GP's referral are as without them.

    Except if the ward's referral is about another person under the same number: then the person is not certain.
    """
    ward = ward.model_copy(update={"person": gp.person})
    alone, together = Story(), Story()
    arrivals = [received(GP, gp)]
    alone.when(*arrivals)
    together.when(*([received(WARD, ward), *arrivals] if ward_first else [*arrivals, received(WARD, ward)]))
    for number, step in enumerate(then, start=2):
        _continue(alone, together, step, gp, ward, number)

    assert _heard(together) == _heard(alone)


def _heard(story: Story) -> list[Any]:
    """Return what the GP's feedback is composed from: a case that was opened and has a holder gives what joined and assigned give."""
    emitted = [one.data for one in story.all_emitted if isinstance(one, EmittedEvent)]
    return [
        (told, one) for data in emitted for one in data.referral_contexts if one.reference == GP for told in _told(data)
    ]


def _told(data: CaseEvent) -> list[str]:
    if isinstance(data, CaseOpened):
        return ["received", "assigned"] if data.case.holder else ["received"]
    return ["received" if isinstance(data, CaseJoined) else short(data)]


def _continue(alone: Story, together: Story, step: str, gp: Referral, ward: Referral, number: int) -> None:
    match step:
        case "update":
            for story in (alone, together):
                story.when(updated(GP, gp.model_copy(update={"priority": "urgent"}), version=number))
        case "ward-update":
            together.when(updated(WARD, ward.model_copy(update={"priority": "stat"}), version=number))
        case "hospital":
            holder = next((c for c in together.state.cases.values() if c.stay and not c.ended), None)
            if holder is not None and holder.stay is not None:
                for command, data in ((Accept, {}), (Assign, {"to_hub": "melton"}), (Start, {})):
                    together.commanded(holder.stay.hub or "", command, case=holder, **data)
        case _:
            hub = alone.case.home.hub or ""
            if alone.referral(GP).is_open and _is_with(together, hub):
                finding = Finding(reference=GP, service="minor-adaptations", finding="need-confirmed")
                case = together.state.cases[together.referral(GP).case_id]
                together.commanded(hub, Assess, case=case, findings=(finding,))
                together.all_emitted = together.all_emitted[: -len(together.emitted) or None]


def _is_with(story: Story, hub: str) -> bool:
    case = story.state.cases[story.referral(GP).case_id]
    return case.home.hub == hub and hub in case.cursors


events = st.one_of(
    st.builds(lambda r: ("event", received(GP, r)), gps),
    st.builds(lambda r: ("event", received(WARD, r)), wards),
    st.builds(lambda r: ("event", received(FORM, r)), forms),
    st.builds(lambda r, v: ("event", updated(GP, r, version=v)), gps, st.integers(2, 9)),
    st.builds(lambda r, v: ("event", updated(WARD, r, version=v)), wards, st.integers(2, 9)),
    st.builds(lambda v: ("event", updated(WARD, a_ward_referral(discharged_on=TODAY), version=v)), st.integers(2, 9)),
    st.builds(lambda v: ("event", updated(FORM, a_form(consents=Consents(referral=NO)), version=v)), st.integers(2, 9)),
    st.builds(lambda r, v: ("event", cancelled(r, version=v)), st.sampled_from([GP, WARD, FORM]), st.integers(2, 9)),
)
ended = st.builds(
    lambda reference, services: everything({reference: services}),
    st.sampled_from([GP, WARD, FORM]),
    st.lists(st.sampled_from(SERVICES), min_size=1, max_size=2),
)
hubs = st.sampled_from(
    ["blaby", "charnwood", "melton", "triage", "hospital-housing", "hospital-housing-bradgate", "nobody"]
)
to_hubs = st.fixed_dictionaries(
    {"to_hub": st.sampled_from(["blaby", "melton", "triage", "hospital-housing", "rutland"])}
)
work = st.builds(
    lambda reference, service: {
        "interventions": (Intervention(reference=reference, service=service, action="x", provider="y", on=TODAY),)
    },
    st.sampled_from([GP, WARD, FORM]),
    st.sampled_from(SERVICES),
)
findings = st.builds(
    lambda reference: {"findings": (Finding(reference=reference, service="blue-badge", finding="need-confirmed"),)},
    st.sampled_from([GP, WARD, FORM]),
)
commands = st.one_of(
    st.tuples(st.sampled_from([Accept, Start]), st.just({})),
    st.tuples(st.just(Hold), st.just({"reason": HoldReason.OTHER})),
    st.tuples(st.just(Book), st.just({"visit_at": datetime(2026, 12, 1, tzinfo=UTC)})),
    st.tuples(st.sampled_from([Assign, Transfer]), to_hubs),
    st.tuples(st.just(Complete), st.builds(lambda e: {"ended": e}, ended)),
    st.tuples(st.sampled_from([Reject, Cancel]), st.builds(lambda e: {"ended": e, "reason": EndReason.OTHER}, ended)),
    st.tuples(st.just(Record), work),
    st.tuples(st.just(Assess), findings),
)
inputs = st.lists(st.one_of(events, st.tuples(st.just("command"), hubs, commands)), max_size=14)


def play(story: Story, one: Any) -> None:
    story.emitted = []
    if one[0] == "event":
        if one[1].TYPE.endswith("cancelled.v1") and one[1].reference not in story.state.referrals:
            return
        story.when(one[1])
        return
    command, data = one[2]
    story.commanded(one[1], command, **data)


@settings(max_examples=250, deadline=None)
@given(inputs)
def test_any_sequence_of_inputs_gives_versions_without_gap_and_ended_cases_stay_ended(given_inputs: list[Any]) -> None:
    story = Story()
    versions: dict[tuple[str, str], int] = defaultdict(int)
    for one in given_inputs:
        before = story.state
        play(story, one)
        assert_nothing_reopened(before, story.state)
        for happening in story.emitted:
            for hub, data in getattr(happening, "hubs", ()):
                versions[hub, data.case_id] += 1
                assert data.hub_version == versions[hub, data.case_id]
                assert data.referral_contexts == ()
    assert_consistent(story.state)
    assert_survives_json(story.state)


def assert_nothing_reopened(before: PersonAggregate, after: PersonAggregate) -> None:
    for reference, known in before.referrals.items():
        assert set(known.ended_needs) <= set(after.referrals[reference].ended_needs)
        assert known.is_open or not after.referrals[reference].is_open
    for case_id, case in before.cases.items():
        assert case.ended is None or after.cases[case_id].ended is case.ended


def assert_survives_json(state: PersonAggregate) -> None:
    for model in (*state.persons.values(), *state.cases.values(), *state.referrals.values()):
        assert stored_state.decode(type(model), stored_state.encode(model)) == model


def assert_consistent(state: PersonAggregate) -> None:
    """Each open referral is on an open case with a holder; a person has one open case; an ended case has nothing open."""
    for known in state.referrals.values():
        case = state.cases[known.case_id]
        if known.is_open:
            assert case.ended is None
            assert case.holding.hub is not None
            assert known.open_needs
            assert not set(known.open_needs) & set(known.ended_needs)
        assert known.person_no == case.person_no
    open_cases = [case for case in state.cases.values() if case.ended is None]
    assert len({case.person_no for case in open_cases}) == len(open_cases)
    for case in open_cases:
        assert any(known.is_open for known in state.referrals.values() if known.case_id == case.case_id)
        assert (case.stay is not None) == any(
            known.in_stay and known.is_open for known in state.referrals.values() if known.case_id == case.case_id
        )


@settings(max_examples=150, deadline=None)
@given(inputs)
def test_a_home_hub_receives_no_text_of_the_hospitals_referral_during_a_stay(given_inputs: list[Any]) -> None:
    story = Story()
    for one in given_inputs:
        play(story, one)
        for happening in story.emitted:
            for hub, data in getattr(happening, "hubs", ()):
                if data.role == "follow-on":
                    assert WARD not in data.model_dump_json(), data.TYPE
                if not hub.startswith("hospital"):
                    text = data.model_dump_json().lower()
                    assert "bradgate" not in text
                    assert "ward 23" not in text or data.role == "holder"
