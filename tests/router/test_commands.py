"""What a hub's command does, and to whom it is refused."""

import json
from datetime import UTC, date, datetime
from typing import Any, get_args

import pytest

from schemas.case import (
    BusinessStatus,
    CaseStatus,
    DfgStep,
    EndReason,
    Finding,
    HoldReason,
    Intervention,
    RoutingReason,
)
from schemas.events import (
    Accept,
    Assess,
    Assign,
    Book,
    Cancel,
    CaseAssessed,
    CaseCompleted,
    CaseRejected,
    Command,
    Complete,
    ConfirmDeath,
    Hold,
    HubCommand,
    Record,
    Reject,
    ReportDeath,
    Start,
    Transfer,
    WithdrawDeathReport,
)
from schemas.referral import ServiceCode
from services.messaging.cloudevents import KafkaRecord as KafkaRecord
from services.reference.directory import Directory
from services.router.consumer import read_record
from services.router.decide import lifecycle
from services.router.decide.lifecycle import CaseDecision, DecisionContext, EmittedRejection
from services.router.decide.progress import MAX_INTERVENTIONS
from services.router.store import Input
from tests.builders.events import TODAY, a_command, broken, cancelled, received, updated
from tests.builders.reference_data import DIRECTORY, POSTCODES
from tests.builders.referrals import FORM, GP, WARD, a_form, a_referral, a_ward_referral
from tests.router.story import Story, everything, given
from tests.schemas.documents import CANARY, Place, places
from tests.schemas.documents import at as object_at

NEED, OTHER = "minor-adaptations", "hoarding"
VISIT = datetime(2026, 12, 1, 10, tzinfo=UTC)
RAILS = Intervention(
    reference=GP, service=NEED, action="grab rails fitted", provider="Handyperson", on=date(2026, 11, 20)
)
FOUND = Finding(reference=GP, service=NEED, finding="need-confirmed")


def accepted(*needs: ServiceCode) -> Story:
    return given(received(GP, a_referral(*needs))).commanded("blaby", Accept)


ALL: list[tuple[type[Command], dict[str, Any]]] = [
    (Assign, {"to_hub": "melton"}),
    (Accept, {}),
    (Reject, {"ended": everything({GP: [NEED]}), "reason": EndReason.NOT_ELIGIBLE}),
    (Hold, {"reason": HoldReason.OTHER}),
    (Book, {"visit_at": VISIT}),
    (Start, {}),
    (Assess, {"findings": (FOUND,)}),
    (Record, {"interventions": (RAILS,)}),
    (Complete, {"ended": everything({GP: [NEED]})}),
    (Cancel, {"ended": everything({GP: [NEED]}), "reason": EndReason.PERSON_DECLINED}),
    (Transfer, {"to_hub": "melton"}),
    (ReportDeath, {}),
    (ConfirmDeath, {}),
    (WithdrawDeathReport, {}),
]
NAMES = [command.__name__ for command, _ in ALL]


# ---- the usual course -----------------------------------------------------------------------------------------------


def test_a_case_from_acceptance_to_completion() -> None:
    story = given(received(GP, a_referral(NEED, OTHER)))
    seen = []
    for command, data in (
        (Accept, {}),
        (Book, {"visit_at": VISIT}),
        (Start, {}),
        (Assess, {"findings": (FOUND,)}),
        (Record, {"interventions": (RAILS,)}),
        (Complete, {"ended": everything({GP: [NEED, OTHER]})}),
    ):
        story.commanded("blaby", command, **data)
        (told,) = story.sent_to("blaby")
        seen.append((story.event_names, told.case.status.value, told.case.business_status.value))

    assert seen == [
        (["accepted"], "accepted", "awaiting-hub"),
        (["booked"], "in-progress", "housing-mot-booked"),
        (["started"], "in-progress", "housing-mot-booked"),
        (["assessed"], "in-progress", "assessed"),
        (["recorded"], "in-progress", "intervention-completed"),
        (["completed"], "completed", "intervention-completed"),
    ]


def test_the_completion_for_a_referrer_lists_every_intervention_so_far() -> None:
    story = accepted(NEED, OTHER).commanded("blaby", Record, interventions=(RAILS,))
    sorted_out = RAILS.model_copy(update={"service": OTHER, "action": "hoarding cleared"})
    story.commanded("blaby", Complete, ended=everything({GP: [NEED, OTHER]}), interventions=(sorted_out,))

    (_, concern) = story.concerns(GP)[0]
    assert concern.interventions == (RAILS, sorted_out)
    assert (concern.status, concern.open_needs, concern.home_hub) == ("completed", (), "blaby")


def test_every_event_contains_the_command_that_caused_it_and_its_hub() -> None:
    told = accepted().event("accepted")

    assert (told.decided_by, told.command_id) == ("blaby", "command-1")


def test_a_need_that_is_not_named_stays_open() -> None:
    story = accepted(NEED, OTHER).commanded("blaby", Complete, ended=everything({GP: [NEED]}))

    assert story.referral(GP).open_needs == (OTHER,)
    assert (story.referral(GP).status, story.case.ended) == (CaseStatus.ACCEPTED, None)
    assert story.concerns(GP)[0][1].open_needs == (OTHER,)


def test_a_referral_is_completed_if_any_of_its_needs_was_completed() -> None:
    story = accepted(NEED, OTHER).commanded("blaby", Complete, ended=everything({GP: [NEED]}))
    story.commanded("blaby", Cancel, ended=everything({GP: [OTHER]}), reason=EndReason.PERSON_DECLINED)

    assert (story.referral(GP).status, story.case.ended) == (CaseStatus.COMPLETED, CaseStatus.COMPLETED)


def test_a_case_is_rejected_if_no_need_was_completed_and_one_was_rejected() -> None:
    story = given(received(GP, a_referral()), received(FORM, a_form()), cancelled(FORM))
    story.commanded("blaby", Reject, ended=everything({GP: [NEED]}), reason=EndReason.NOT_ELIGIBLE)

    assert story.case.ended is CaseStatus.REJECTED


def test_a_rejection_gives_the_referrer_the_reason_and_the_authority_to_refer_to() -> None:
    story = given(received(GP, a_referral()))
    story.commanded(
        "blaby", Reject, ended=everything({GP: [NEED]}), reason=EndReason.SERVED_ELSEWHERE, refer_to="rutland"
    )

    rejected = story.event("rejected")
    assert isinstance(rejected, CaseRejected)
    assert (rejected.reason, rejected.refer_to) == (EndReason.SERVED_ELSEWHERE, "rutland")
    assert story.concerns(GP)[0][1].status == "rejected"


def test_a_completion_concerns_only_the_referrals_that_it_names() -> None:
    story = given(received(GP, a_referral()), received(FORM, a_form())).commanded("blaby", Accept)
    story.commanded("blaby", Complete, ended=everything({GP: [NEED]}))

    assert story.concerns(FORM) == []
    assert story.referral(FORM).is_open


def test_findings_are_sent_only_to_the_referrers_of_those_needs() -> None:
    story = given(received(GP, a_referral()), received(FORM, a_form())).commanded("blaby", Accept)
    story.commanded("blaby", Assess, findings=(FOUND,))

    assert isinstance(story.event("assessed"), CaseAssessed)
    assert (len(story.concerns(GP)), story.concerns(FORM)) == (1, [])


def test_a_hold_has_a_reason_and_a_date_and_accepting_ends_it() -> None:
    story = accepted().commanded("blaby", Hold, reason=HoldReason.WAITING_LIST, until=date(2027, 1, 31))
    assert (story.case.home.status, story.case.home.business_status) == (
        CaseStatus.ON_HOLD,
        BusinessStatus.WAITING_LIST,
    )

    assert story.commanded("blaby", Accept).case.home.status is CaseStatus.ACCEPTED


@pytest.mark.parametrize(
    ("stage", "status"),
    [
        ("ot-assessment", BusinessStatus.DFG_OT_ASSESSMENT),
        ("ss127-recommendation", BusinessStatus.DFG_SS127),
        ("application", BusinessStatus.DFG_APPLICATION),
        ("approval", BusinessStatus.DFG_APPROVAL),
        ("works", BusinessStatus.DFG_WORKS),
        ("completion", BusinessStatus.DFG_COMPLETION),
    ],
)
def test_the_stage_of_a_grant_is_the_business_status(stage: Any, status: BusinessStatus) -> None:
    story = accepted("disabled-facilities-grant")
    story.commanded("blaby", Record, dfg=DfgStep(stage=stage, on=date(2026, 11, 20), category="A"))

    assert story.case.home.business_status is status
    assert len(story.concerns(GP)) == 1


@pytest.mark.parametrize(
    ("command", "data"), [(Record, {}), (Complete, {"ended": everything({GP: [NEED]})})], ids=["record", "complete"]
)
def test_a_referral_has_so_few_interventions_that_its_events_fit(command: type[Command], data: dict[str, Any]) -> None:
    story = accepted(NEED).commanded("blaby", Record, interventions=(RAILS,) * MAX_INTERVENTIONS)
    assert len(story.referral(GP).interventions) == MAX_INTERVENTIONS

    story.commanded("blaby", command, interventions=(RAILS,), **data)
    assert story.refused is not None
    assert story.refused.reason == "impossible"
    assert len(story.referral(GP).interventions) == MAX_INTERVENTIONS


def test_no_contact_can_be_recorded_before_the_hub_accepts() -> None:
    story = given(received(GP, a_referral())).commanded("blaby", Record, no_contact_on=date(2026, 11, 20))

    assert (story.case.home.status, story.case.home.business_status) == (
        CaseStatus.REQUESTED,
        BusinessStatus.NO_CONTACT,
    )


def test_a_referral_that_joins_an_accepted_case_is_accepted_automatically() -> None:
    story = accepted().when(received(FORM, a_form()))
    assert story.referral(FORM).status is CaseStatus.REQUESTED

    story.commanded("blaby", Accept)
    assert (story.referral(FORM).status, story.concerns(GP)) == (CaseStatus.ACCEPTED, [])
    assert story.commanded("blaby", Accept).refused.reason == "impossible"  # type: ignore[union-attr]


def test_an_acceptance_names_the_holding_hub_to_each_referrer() -> None:
    story = given(received(GP, a_referral(postcode="LE13 1AA")), received(FORM, a_form(referred_on=date(2026, 1, 1))))
    assert [c.home_hub for _, c in story.concerns(GP, ever=True)] == ["melton"]

    story.commanded("blaby", Accept)
    assert [c.home_hub for _, c in story.concerns(GP)] == ["blaby"]


# ---- moving the case ------------------------------------------------------------------------------------------------


def test_a_transfer_moves_the_case_and_the_new_hub_must_accept() -> None:
    story = accepted().commanded("blaby", Transfer, to_hub="melton")

    assert (story.case.home.hub, story.case.home.status, story.case.home.accepted) == (
        "melton",
        CaseStatus.REQUESTED,
        False,
    )
    assert [event.role for event in story.sent_to("blaby")] == ["former"]
    (there,) = story.sent_to("melton")
    assert (there.role, there.hub_version, len(there.referrals)) == ("holder", 1, 1)
    ((_, concern),) = story.concerns(GP)
    assert (concern.home_hub, concern.reasons) == ("melton", (RoutingReason.TRANSFERRED,))


def test_a_transferred_case_is_not_moved_back_by_an_update() -> None:
    story = accepted().commanded("blaby", Transfer, to_hub="melton")

    assert story.when(updated(GP, a_referral(postcode="LE11 5AA"))).case.home.hub == "melton"


def test_the_previous_holder_of_a_case_may_not_command_it() -> None:
    story = accepted().commanded("blaby", Transfer, to_hub="melton").commanded("blaby", Start)

    assert story.refused is not None
    assert story.refused.reason == "not-permitted"


def test_triage_receives_no_events_after_it_assigned_the_case() -> None:
    story = given(received(GP, a_referral("blue-badge"))).commanded("triage", Assign, to_hub="charnwood")

    assert (story.event_names, story.case.home.hub) == (["assigned"], "charnwood")
    assert [event.role for event in story.sent_to("triage")] == ["former"]
    assert story.concerns(GP)[0][1].home_hub == "charnwood"
    assert story.commanded("charnwood", Accept).refused is None


def test_triage_refers_a_person_outside_the_county_to_that_authority() -> None:
    story = given(received(GP, a_referral("blue-badge"))).commanded("triage", Assign, to_hub="rutland")

    assert (story.event_names, story.case.ended) == (["rejected"], CaseStatus.REJECTED)
    assert story.event("rejected").refer_to == "rutland"  # type: ignore[attr-defined]


def test_triage_may_do_the_work_itself() -> None:
    story = given(received(GP, a_referral("blue-badge"))).commanded("triage", Accept)
    story.commanded("triage", Complete, ended=everything({GP: ["blue-badge"]}))

    assert isinstance(story.event("completed"), CaseCompleted)
    assert story.concerns(GP)[0][1].home_hub == "triage"


def test_the_hospital_team_assigns_the_home_hub_that_follows_on() -> None:
    story = given(received(WARD, a_ward_referral(postcode=None)))
    assert story.case.home.hub is None

    story.commanded("hospital-housing", Assign, to_hub="charnwood")
    assert (story.case.holding.hub, story.case.home.hub) == ("hospital-housing", "charnwood")
    assert [event.role for event in story.sent_to("charnwood")] == ["follow-on"]


# ---- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "data"), ALL, ids=NAMES)
def test_a_command_by_a_hub_that_never_had_the_case_is_refused_as_unknown_case(
    command: type[Command], data: dict[str, Any]
) -> None:
    story = accepted().commanded("melton", command, **data)

    assert story.refused is not None
    assert (story.refused.reason, story.refused.hub_version) == ("unknown-case", None)
    assert story.event_names == []


@pytest.mark.parametrize(("command", "data"), ALL, ids=NAMES)
def test_only_a_command_that_decides_on_the_case_as_a_whole_is_stale_on_an_older_version(
    command: type[Command], data: dict[str, Any]
) -> None:
    """A hub's own earlier command counts too: a client that is started again does not take a case off hold."""
    story = accepted().commanded("blaby", Hold, reason="waiting-list").commanded("blaby", command, on=1, **data)

    stale = story.refused is not None and story.refused.reason == "stale"
    assert stale == (command in (Accept, Assign, Complete, Reject, Transfer))
    assert story.refused is None or story.refused.hub_version == 3


@pytest.mark.parametrize(("command", "data"), ALL, ids=NAMES)
def test_every_command_on_an_ended_case_is_refused(command: type[Command], data: dict[str, Any]) -> None:
    story = accepted().when(cancelled(GP)).commanded("blaby", command, **data)

    assert story.refused is not None
    assert story.refused.reason == "impossible"


@pytest.mark.parametrize(
    ("command", "data"),
    [one for one in ALL if one[0] in (Book, Start, Assess, Record, Complete)],
    ids=lambda x: str(x)[:9],
)
def test_commands_to_work_on_a_case_are_refused_before_the_hub_accepts_it(
    command: type[Command], data: dict[str, Any]
) -> None:
    story = given(received(GP, a_referral())).commanded("blaby", command, **data)

    assert story.refused is not None
    assert story.refused.reason == "impossible"


def test_a_version_that_was_never_sent_is_impossible() -> None:
    story = accepted().commanded("blaby", Start, on=9)

    assert story.refused is not None
    assert story.refused.reason == "impossible"


REFUSALS: list[tuple[str, type[Command], dict[str, Any], str]] = [
    ("a locality hub assigns", Assign, {"to_hub": "melton"}, "not-permitted"),
    ("accepting twice", Accept, {}, "impossible"),
    ("transfer to itself", Transfer, {"to_hub": "blaby"}, "impossible"),
    ("transfer to nowhere", Transfer, {"to_hub": "nowhere"}, "unknown-hub"),
    ("transfer to an authority outside", Transfer, {"to_hub": "rutland"}, "unknown-hub"),
    ("transfer to a hospital team without a stay", Transfer, {"to_hub": "hospital-housing"}, "impossible"),
    ("a need that is not open", Complete, {"ended": everything({GP: ["hoarding"]})}, "unknown-need"),
    ("a referral that is not on the case", Complete, {"ended": everything({WARD: [NEED]})}, "unknown-need"),
    (
        "a finding on another's referral",
        Assess,
        {"findings": (FOUND.model_copy(update={"reference": WARD}),)},
        "unknown-need",
    ),
    (
        "work for another's referral",
        Record,
        {"interventions": (RAILS.model_copy(update={"reference": WARD}),)},
        "unknown-need",
    ),
    ("a record of nothing", Record, {}, "impossible"),
    (
        "refer_to nowhere",
        Reject,
        {"ended": everything({GP: [NEED]}), "reason": EndReason.OTHER, "refer_to": "nowhere"},
        "unknown-hub",
    ),
]


@pytest.mark.parametrize(("what", "command", "data", "why"), REFUSALS, ids=[what for what, *_ in REFUSALS])
def test_an_impossible_command_is_refused_and_changes_nothing(
    what: str, command: type[Command], data: dict[str, Any], why: str
) -> None:
    story = accepted()
    before = story.state
    story.commanded("blaby", command, **data)

    assert story.refused is not None, what
    assert story.refused.reason == why
    assert story.state is before
    assert story.event_names == []


@pytest.mark.parametrize(
    ("command", "data", "place"),
    [
        (Assess, {"findings": (FOUND, FOUND.model_copy(update={"service": "stairs"}))}, "findings.1.service"),
        (Record, {"interventions": (RAILS.model_copy(update={"service": "stairs"}),)}, "interventions.0.service"),
        (
            Complete,
            {"ended": everything({GP: [NEED]}), "interventions": (RAILS.model_copy(update={"service": "stairs"}),)},
            "interventions.0.service",
        ),
        (Complete, {"ended": everything({GP: [NEED, "stairs"]})}, "ended.0.needs.1"),
        (Reject, {"ended": everything({GP: ["stairs"]}), "reason": EndReason.OTHER}, "ended.0.needs.0"),
        (Cancel, {"ended": everything({GP: ["stairs"]}), "reason": EndReason.OTHER}, "ended.0.needs.0"),
    ],
    ids=lambda one: one if isinstance(one, str) else str(one)[:9],
)
def test_a_service_that_is_not_in_the_catalogue_is_refused_with_the_place_of_the_field(
    command: type[Command], data: dict[str, Any], place: str
) -> None:
    story = accepted()
    before = story.state
    story.commanded("blaby", command, **data)

    assert story.refused is not None
    assert (story.refused.reason, story.refused.hub_version) == ("unknown-service", 2)
    assert f" {place}." in story.refused.explanation
    assert "stairs" not in story.refused.explanation
    assert story.state is before


def test_a_need_whose_service_has_left_the_catalogue_can_still_be_completed() -> None:
    story = accepted()
    fields = {name: getattr(DIRECTORY, name) for name in Directory.model_fields}
    left = [offer for offer in DIRECTORY.services if offer.service != NEED]
    story.grounds = DecisionContext(Directory(**{**fields, "services": left}), POSTCODES, TODAY)
    story.commanded("blaby", Complete, ended=everything({GP: [NEED]}))

    assert story.refused is None
    assert isinstance(story.event("completed"), CaseCompleted)


def with_field(record: KafkaRecord, at: Place, name: str) -> KafkaRecord:
    """The record of a command with one more field in one of its objects."""
    document = json.loads(record.value)
    object_at(document, at)[name] = CANARY
    return broken(record, json.dumps(document).encode())


def objects_in(record: KafkaRecord) -> list[Place]:
    document = json.loads(record.value)
    return [place for place in [(), *places(document)] if isinstance(object_at(document, place), dict)]


def decided(story: Story, record: KafkaRecord) -> CaseDecision:
    """What the router decides on a record, without the database."""
    read = read_record(record)
    assert isinstance(read, Input)
    command = read.event.data
    assert isinstance(command, get_args(HubCommand))
    return lifecycle.decide(story.state, command, "blaby", read.event.id, story.grounds, read.unknown_fields)


@pytest.mark.parametrize(("command", "data"), ALL, ids=NAMES)
def test_an_unknown_field_of_a_command_is_refused_by_name(command: type[Command], data: dict[str, Any]) -> None:
    story = accepted()
    record = a_command("blaby", command, story.case.case_id, expected_version=2, **data)
    for place in objects_in(record):
        decision = decided(story, with_field(record, place, "expected_by"))
        (refusal,) = decision.emitted
        assert isinstance(refusal, EmittedRejection)
        assert (refusal.data.reason, refusal.data.hub_version) == ("unknown-field", 2)
        path = ".".join(map(str, (*place, "expected_by")))
        assert refusal.data.explanation == f"Not a field of this command: {path}."
        assert decision.state is story.state


def test_a_command_without_unknown_fields_is_not_refused_for_them() -> None:
    story = accepted()
    for command, data in ALL:
        (happening, *_) = decided(
            story, a_command("blaby", command, story.case.case_id, expected_version=2, **data)
        ).emitted
        assert not (isinstance(happening, EmittedRejection) and happening.data.reason == "unknown-field"), command


@pytest.mark.parametrize("name", [CANARY, "x" * 41, "", "two words", "9990000000"])
def test_an_unknown_field_whose_name_may_be_personal_data_is_refused_without_its_name(name: str) -> None:
    story = accepted()
    record = a_command("blaby", Complete, story.case.case_id, expected_version=2, ended=everything({GP: [NEED]}))
    (refusal,) = decided(story, with_field(record, ("ended", 0), name)).emitted

    assert isinstance(refusal, EmittedRejection)
    assert refusal.data.explanation == "Not a field of this command: ended.0.(another name)."


def test_a_refusal_names_only_the_first_of_many_unknown_fields() -> None:
    story = accepted()
    record = a_command("blaby", Start, story.case.case_id, expected_version=2)
    for letter in "abcdefghi":
        record = with_field(record, (), f"{'x' * 38}_{letter}")
    (refusal,) = decided(story, record).emitted

    assert isinstance(refusal, EmittedRejection)
    assert refusal.data.explanation.endswith(f"{'x' * 38}_d and 5 more.")


def test_an_unknown_case_is_refused_before_unknown_fields() -> None:
    story = accepted()
    (refusal,) = decided(story, with_field(a_command("blaby", Start, "another"), (), "expected_by")).emitted

    assert isinstance(refusal, EmittedRejection)
    assert refusal.data.reason == "unknown-case"


def test_rejecting_a_case_whose_work_has_begun_is_refused() -> None:
    story = accepted().commanded("blaby", Start)
    story.commanded("blaby", Reject, ended=everything({GP: [NEED]}), reason=EndReason.NOT_ELIGIBLE)

    assert story.refused is not None
    assert story.refused.reason == "impossible"


def test_starting_twice_is_refused() -> None:
    story = accepted().commanded("blaby", Assess, findings=(FOUND,)).commanded("blaby", Start)

    assert story.refused is not None
    assert story.refused.reason == "impossible"


def test_a_need_named_twice_ends_once() -> None:
    ended = everything({GP: [NEED, NEED]}) * 2
    story = accepted().commanded("blaby", Complete, ended=ended)

    event = story.event("completed")
    assert isinstance(event, CaseCompleted)
    assert [(one.reference, one.needs) for one in event.ended] == [(GP, (NEED,))]
