"""Who receives what: the table of docs/architecture.md, row by row and column by column."""

from datetime import date

import pytest

from schemas.case import CaseStatus, EndReason, RoutingReason
from schemas.events import (
    CaseAccepted,
    CaseAssessed,
    CaseAssigned,
    CaseBooked,
    CaseCompleted,
    CaseEvent,
    CaseJoined,
    CaseOpened,
    CaseRecorded,
    CaseRejected,
    CaseStarted,
    CaseTransferred,
    CaseUpdated,
    Event,
    ReferralContext,
)
from schemas.referral import Organisation, Sender
from services.notifier.compose import Feedback, compose
from services.reference.directory import UnknownService
from tests.notifier.builders import (
    AT,
    GP,
    GP_MAILBOX,
    ODS,
    a_case_event,
    a_concern,
    a_finding,
    a_person,
    a_position,
    a_referrer,
    an_intervention,
    by_first_contact_for_gp,
    by_gp,
    ended,
    every_event,
    from_ward,
    the_recipients,
    the_words,
)

WORDS, RECIPIENTS = the_words(), the_recipients()


def told(event: Event) -> list[tuple[str, str]]:
    """Return (recipient, feedback type) of all feedback about an event."""
    return [(one.recipient.id, one.feedback_type.value) for one in feedbacks(event)]


def feedbacks(event: Event) -> list[Feedback]:
    return compose(event, RECIPIENTS, WORDS)


def test_a_service_that_is_not_in_the_catalogue_has_no_text() -> None:
    concern = by_gp()
    findings = (a_finding(concern, service="stairs"),)
    with pytest.raises(UnknownService):
        feedbacks(a_case_event(CaseAssessed, concern, findings=findings))


EVERYTHING = set(every_event(a_concern()))
BUT_NOT_THE_WORK = EVERYTHING - {"accepted", "on-hold", "assessed"}
ANSWERED = {"received"}


@pytest.mark.parametrize(
    ("concern", "recipient", "hears"),
    [
        (by_gp(), GP, EVERYTHING - ANSWERED),
        (a_concern(referred_by=a_referrer("clinician")), GP, EVERYTHING - ANSWERED),
        (a_concern(referred_by=a_referrer("coordinator")), GP, EVERYTHING - ANSWERED),
        (from_ward(), "uhl", EVERYTHING),
        (from_ward(format="bars-fhir"), "uhl", EVERYTHING - ANSWERED),
        (by_first_contact_for_gp(), GP, EVERYTHING),
        (by_first_contact_for_gp(), "first-contact", BUT_NOT_THE_WORK - ANSWERED),
        (
            by_first_contact_for_gp(referred_by=a_referrer("first-contact", None)),
            "first-contact",
            BUT_NOT_THE_WORK - ANSWERED,
        ),
        (
            a_concern(
                sent_by=Sender(partner="council-charnwood", organisation=Organisation(name="Charnwood")),
                referred_by=a_referrer("council", None),
                format="council-csv",
            ),
            "council-charnwood",
            BUT_NOT_THE_WORK - ANSWERED,
        ),
        (by_first_contact_for_gp(referred_by=a_referrer("other", "Z9999")), "ods:Z9999", BUT_NOT_THE_WORK),
    ],
)
def test_each_recipient_receives_the_rows_of_its_column(
    concern: ReferralContext, recipient: str, hears: set[str]
) -> None:
    heard = {name for name, event in every_event(concern).items() if (recipient, name) in told(event)}
    assert heard == hears


@pytest.mark.parametrize("sender", ["first-contact", "customer-service", "lightbulb-website"])
@pytest.mark.parametrize("kind", ["carer", "family", "self"])
def test_the_sender_receives_feedback_on_referrals_of_carers_family_and_the_person(kind: str, sender: str) -> None:
    sent_by = Sender(partner=sender, organisation=Organisation(name="Any"))
    concern = by_first_contact_for_gp(referred_by=a_referrer(kind, None), sent_by=sent_by)
    heard = {pair for event in every_event(concern).values() for pair in told(event)}
    assert heard == {(sender, name) for name in BUT_NOT_THE_WORK - ANSWERED}


def test_a_social_prescriber_receives_feedback_by_the_mailbox_of_the_neighbourhood_teams() -> None:
    sent_by = Sender(partner="neighbourhood-teams", organisation=Organisation(name="Neighbourhood teams"))
    concern = by_first_contact_for_gp(referred_by=a_referrer("coordinator", None), sent_by=sent_by)
    heard = {pair for event in every_event(concern).values() for pair in told(event)}
    assert heard == {("neighbourhood-teams", name) for name in EVERYTHING - ANSWERED}


def test_a_hub_receives_feedback_on_the_referrals_of_its_own_staff_and_on_no_others() -> None:
    sent_by = Sender(partner="hub-melton", organisation=Organisation(name="Lightbulb hub Melton"))
    concern = by_first_contact_for_gp(referred_by=a_referrer("coordinator", None), sent_by=sent_by)
    heard = {pair for event in every_event(concern).values() for pair in told(event)}
    assert heard == {("hub-melton", name) for name in EVERYTHING - ANSWERED}
    assert not any(
        recipient.startswith("hub-") for event in every_event(by_gp()).values() for recipient, _ in told(event)
    )


def test_a_referrer_that_is_also_the_sender_receives_each_feedback_once() -> None:
    assert max(len(feedbacks(event)) for event in every_event(by_gp()).values()) == 1


@pytest.mark.parametrize("kind", [CaseUpdated, CaseBooked, CaseStarted, CaseRecorded])
def test_an_event_without_a_row_in_the_table_gives_no_feedback(kind: type[CaseEvent]) -> None:
    said = {"visit_at": AT} if kind is CaseBooked else {}
    assert told(a_case_event(kind, by_gp(), **said)) == []


def test_only_the_referral_that_joined_gets_received_feedback() -> None:
    first, second = by_gp(), by_first_contact_for_gp(reference="LB-2222-2222-2222")
    event = a_case_event(CaseJoined, first, second, joined="LB-2222-2222-2222")
    assert told(event) == [(GP, "received")]
    assert feedbacks(event)[0].reference == "LB-2222-2222-2222"


@pytest.mark.parametrize(
    ("concern", "holder", "types"),
    [
        (from_ward(), "charnwood", ["received", "home-hub"]),
        (by_gp(), "charnwood", ["home-hub"]),
        (from_ward(home_hub=None, restricted_access=True), "charnwood", ["received", "home-hub"]),
        (from_ward(home_hub=None), "triage", ["received"]),
        (from_ward(home_hub="leicester-city"), None, ["received"]),
    ],
    ids=["assigned", "answered with the reference", "restricted", "not yet read", "outside the county"],
)
def test_a_new_case_gives_received_and_then_the_home_hub_if_it_is_assigned(
    concern: ReferralContext, holder: str | None, types: list[str]
) -> None:
    composed = feedbacks(a_case_event(CaseOpened, concern, case=a_position(holder=holder)))
    assert [one.feedback_type for one in composed] == types
    assert len({one.id for one in composed}) == len(types)


def test_a_triage_case_without_home_hub_gives_no_home_hub_feedback() -> None:
    assert told(a_case_event(CaseAssigned, by_gp(home_hub=None))) == []


def test_feedback_on_a_referral_without_home_hub_has_the_contact_of_central_triage() -> None:
    [feedback] = feedbacks(a_case_event(CaseAccepted, by_gp(home_hub=None)))
    assert feedback.hub is not None
    assert feedback.hub.id == "triage"
    assert any("was accepted on" in line for line in feedback.text)


def test_feedback_on_a_transfer_names_the_new_home_hub() -> None:
    concern = by_gp(home_hub="melton", reasons=(RoutingReason.TRANSFERRED,))
    event = a_case_event(CaseTransferred, concern, from_hub="charnwood", to_hub="melton")
    assert told(event) == [(GP, "home-hub")]
    assert feedbacks(event)[0].hub.id == "melton"


def test_a_transfer_at_discharge_gives_a_gp_no_feedback() -> None:
    event = a_case_event(CaseTransferred, by_gp(), from_hub="hospital-housing", to_hub="charnwood")
    assert told(event) == []


def test_a_transfer_gives_no_feedback_to_a_referral_whose_home_hub_stays() -> None:
    event = a_case_event(CaseTransferred, by_gp(), from_hub="charnwood", to_hub="melton")
    assert told(event) == []


def test_an_assessment_gives_feedback_only_to_the_referral_of_its_needs() -> None:
    mine, other = by_gp(), from_ward()
    event = a_case_event(CaseAssessed, mine, other, findings=(a_finding(other),))
    assert told(event) == [("uhl", "assessed")]


def test_an_end_gives_feedback_only_to_the_referral_that_ends() -> None:
    mine, other = by_gp(open_needs=()), from_ward()
    assert told(a_case_event(CaseCompleted, mine, other, ended=ended(mine))) == [(GP, "completed")]


def test_completed_lists_service_action_provider_and_date() -> None:
    concern = by_gp(status="completed", open_needs=(), interventions=(an_intervention(),))
    [feedback] = feedbacks(a_case_event(CaseCompleted, concern, ended=ended(concern)))
    [done] = feedback.completed_actions
    assert (done.service.code, done.action, done.provider, done.on) == (
        "minor-adaptations",
        "grab rails fitted",
        "Charnwood Borough Council",
        date(2026, 11, 3),
    )


def test_feedback_to_first_contact_lists_only_the_services_of_completed_work() -> None:
    concern = by_first_contact_for_gp(interventions=(an_intervention(), an_intervention(action="half steps fitted")))
    sent = {f.recipient.id: f for f in feedbacks(a_case_event(CaseCompleted, concern, ended=ended(concern)))}
    assert len(sent[GP].completed_actions) == 2
    [done] = sent["first-contact"].completed_actions
    assert (done.service.code, done.action, done.provider, done.on) == ("minor-adaptations", None, None, None)


def test_a_need_that_stays_open_is_named() -> None:
    concern = by_gp(status="in-progress", open_needs=("warm-homes",))
    ends = ended(concern, "minor-adaptations")
    [feedback] = feedbacks(a_case_event(CaseCompleted, concern, ended=ends))
    assert [need.code for need in feedback.needs] == ["minor-adaptations"]
    assert [need.code for need in feedback.open_needs] == ["warm-homes"]
    assert any("Still open" in line for line in feedback.text)


def test_feedback_on_a_rejection_has_the_reason_and_the_next_step() -> None:
    concern = by_gp(status="rejected", home_hub=None)
    event = a_case_event(
        CaseRejected, concern, ended=ended(concern), reason=EndReason.OUTSIDE_COUNTY, refer_to="leicester-city"
    )
    [feedback] = feedbacks(event)
    assert feedback.reason is not None
    assert feedback.reason.code == "outside-county"
    assert feedback.refer_to is not None
    assert any("What to do instead" in line and "Leicester" in line for line in feedback.text)


def test_home_hub_feedback_has_the_hub_the_reason_and_a_contact() -> None:
    [feedback] = feedbacks(a_case_event(CaseAssigned, by_gp()))
    assert feedback.hub is not None
    assert feedback.hub.phone in " ".join(feedback.text)
    assert "the home address is in its area" in " ".join(feedback.text)


def test_automatic_routing_is_used_only_for_a_practice_that_referred_and_has_the_person_registered() -> None:
    registered = Organisation(ods="Y00001")
    through = by_first_contact_for_gp(referred_by=a_referrer(ods="Y00001"))
    cases = {
        "may": through.model_copy(update={"registered_practice": registered}),
        "registered elsewhere": through,
        "unverified": through.model_copy(
            update={"registered_practice": registered, "person": a_person(nhs_number_status="02")}
        ),
        "provisional": through.model_copy(
            update={"registered_practice": registered, "person": a_person(provisional=True)}
        ),
    }
    channels = {
        name: next(
            f.recipient.channel for f in feedbacks(a_case_event(CaseAssigned, concern)) if f.recipient.ods == "Y00001"
        )
        for name, concern in cases.items()
    }
    assert channels == {
        "may": "mesh",
        "registered elsewhere": "mailbox",
        "unverified": "mailbox",
        "provisional": "mailbox",
    }


def test_without_mesh_automatic_routing_is_not_used() -> None:
    concern = by_first_contact_for_gp(
        referred_by=a_referrer(ods="Y00001"), registered_practice=Organisation(ods="Y00001")
    )
    sent = compose(a_case_event(CaseAssigned, concern), the_recipients(mesh=False), WORDS)
    assert {f.recipient.channel for f in sent} == {"mailbox"}


def test_a_message_cannot_choose_the_address_of_its_feedback() -> None:
    """Whatever organisation a message names, the channel is the directory's."""
    concern = by_first_contact_for_gp(
        GP_MAILBOX, referred_by=a_referrer(ods=ODS[GP_MAILBOX], name="http://evil.example")
    )
    [to_gp] = [f for f in feedbacks(a_case_event(CaseAssigned, concern)) if f.recipient.ods == ODS[GP_MAILBOX]]
    assert (to_gp.recipient.id, to_gp.recipient.channel) == (GP_MAILBOX, "mailbox")


def test_ids_of_feedback_are_the_same_when_composed_again_and_differ_by_recipient() -> None:
    event = a_case_event(CaseAssigned, by_first_contact_for_gp())
    assert feedbacks(event) == feedbacks(event)
    assert len({f.id for f in feedbacks(event)}) == 2


def test_every_status_of_a_referral_has_a_text() -> None:
    for status in CaseStatus:
        [feedback] = feedbacks(
            a_case_event(CaseAssigned, by_gp(status=status.value, feedback_consent=a_sender_consent("no")))
        )
        assert feedback.text


def a_sender_consent(answer: str) -> object:
    return a_concern().feedback_consent.model_copy(update={"answer": answer})
