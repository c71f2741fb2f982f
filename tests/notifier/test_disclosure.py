"""What feedback must never contain: more than the consent allows, free text of a hub, or data of another sender's referral."""

import base64
import itertools
import json
from datetime import timedelta

import pytest

from schemas.case import BusinessStatus, EndReason, HoldReason, RoutingReason
from schemas.events import (
    CaseAccepted,
    CaseAssessed,
    CaseAssigned,
    CaseCompleted,
    CaseEvent,
    CaseHeld,
    CaseRejected,
    Event,
    ReferralContext,
)
from schemas.referral import Consent
from services.notifier.channels import bars_message, itk3, letter, mailbox, mesh
from services.notifier.compose import Feedback, compose
from tests.builders.reference_data import DIRECTORY
from tests.notifier.builders import (
    AT,
    GP,
    a_case_event,
    a_finding,
    a_person,
    a_position,
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
ALL_STATUS_ONLY = [
    pytest.param({"feedback_consent": Consent(answer="no")}, id="refused"),
    pytest.param({"feedback_consent": Consent()}, id="nobody asked"),
    pytest.param({"person": a_person(provisional=True)}, id="provisional"),
]


def everything_said(feedback: Feedback) -> str:
    """All that any carrier would write of it, in one text."""
    bars = bars_message.message(feedback, WORDS.sender_details).decode()
    fetched = json.dumps(mailbox.as_fetched(feedback))
    document = itk3.as_xml(itk3.bundle(feedback, WORDS.sender_details, "OURS")).decode()
    return "\n".join(
        (
            bars,
            fetched,
            document,
            letter.page(feedback, WORDS.sender_details),
            mesh.subject(feedback, WORDS.sender_details),
        )
    )


def told_of(concern: ReferralContext) -> list[Feedback]:
    concern = concern.model_copy(update={"interventions": (an_intervention(concern.reference),)})
    composed = [f for event in every_event(concern).values() for f in compose(event, RECIPIENTS, WORDS)]
    assert composed
    return composed


@pytest.mark.parametrize("changed", ALL_STATUS_ONLY)
def test_without_consent_feedback_contains_only_status_date_reference_and_the_hubs_contact(
    changed: dict[str, object],
) -> None:
    told = told_of(by_first_contact_for_gp(**changed))
    assert told
    for feedback in told:
        said = everything_said(feedback)
        for secret in (
            "Minor adaptations",
            "minor-adaptations",
            "grab rails",
            "not-eligible",
            "person-declined",
            "waiting list",
        ):
            assert secret not in said
        assert feedback.reference in said
        assert "3 November 2026" in said
        assert "0116 496 0130" in said


@pytest.mark.parametrize("changed", ALL_STATUS_ONLY)
def test_status_only_feedback_to_a_system_and_a_mailbox_contains_no_personal_data(changed: dict[str, object]) -> None:
    for feedback in told_of(by_gp(**changed)):
        said = bars_message.message(feedback, WORDS.sender_details).decode() + json.dumps(mailbox.as_fetched(feedback))
        for identity in ("Vantongeren", "Edith", "9990000018", "1946"):
            assert identity not in said


def test_no_feedback_not_even_a_letter_names_a_provisional_person() -> None:
    for feedback in told_of(by_gp(person=a_person(provisional=True))):
        for identity in ("Vantongeren", "Edith", "9990000018", "999 000 0018", "1946"):
            assert identity not in everything_said(feedback)


def test_free_text_of_a_hub_is_never_in_feedback() -> None:
    """An action or provider that is not on the reviewed list is replaced by the label of the service."""
    loose = an_intervention(action="rails in, ask Bobbington on 07700 900123", provider="Bobbington from next door")
    concern = by_gp(interventions=(loose,), status="completed")
    [feedback] = compose(a_case_event(CaseCompleted, concern, ended=ended(concern)), RECIPIENTS, WORDS)
    assert "Bobbington" not in everything_said(feedback)
    assert "07700 900123" not in everything_said(feedback)
    assert "Minor adaptations and equipment" in everything_said(feedback)


PLACES = [
    word
    for party in (*(hub for hub in DIRECTORY.hubs if hub.kind == "locality"), *DIRECTORY.authorities)
    for word in (party.name, party.contact.phone, party.contact.email)
    if word is not None
]


@pytest.mark.parametrize("consent", ["yes", "no"])
def test_no_channel_names_a_hub_or_a_place_of_a_restricted_person(consent: str) -> None:
    hidden = {"restricted_access": True, "home_hub": None, "reasons": (), "feedback_consent": Consent(answer=consent)}
    concern = by_gp(**hidden, interventions=(an_intervention(),), status="rejected")
    outside = {"ended": ended(concern), "reason": EndReason.OUTSIDE_COUNTY, "refer_to": "leicester-city"}
    composed = [*told_of(concern), *compose(a_case_event(CaseRejected, concern, **outside), RECIPIENTS, WORDS)]
    for feedback in composed:
        said = everything_said(feedback)
        assert [place for place in PLACES if place in said] == []
        assert "outside" not in said
        assert DIRECTORY.triage.contact.phone in said
        assert said.count("Lightbulb central triage") == 0


def test_only_the_hospital_receives_the_stay_and_others_receive_not_available() -> None:
    held = {"reason": HoldReason.IN_HOSPITAL}
    [to_gp] = compose(a_case_event(CaseHeld, by_gp(status="on-hold"), **held), RECIPIENTS, WORDS)
    [to_ward] = compose(a_case_event(CaseHeld, from_ward(status="on-hold"), **held), RECIPIENTS, WORDS)
    assert "hospital" not in everything_said(to_gp).lower()
    assert to_gp.reason is not None
    assert to_gp.reason.code == "person-unavailable"
    assert to_ward.reason is not None
    assert to_ward.reason.code == "in-hospital"


def test_routing_reasons_of_a_stay_are_sent_only_to_the_hospital() -> None:
    reasons = tuple(RoutingReason)
    [feedback] = compose(a_case_event(CaseAssigned, by_gp(reasons=reasons)), RECIPIENTS, WORDS)
    assert "hospital" not in everything_said(feedback).lower()


def test_feedback_never_contains_the_reasons_and_position_of_the_case() -> None:
    """They are the case's: with a ward's referral on it they would speak of the stay."""
    other = a_position(
        business_status=BusinessStatus.NO_CONTACT,
        holder="hospital-housing-bradgate",
        reasons=(RoutingReason.INPATIENT,),
        district="E07000130",
    )
    plain = a_case_event(CaseAssigned, by_gp())
    with_stay = a_case_event(CaseAssigned, by_gp(), case=other)
    assert compose(plain, RECIPIENTS, WORDS) == compose(with_stay, RECIPIENTS, WORDS)


def _gp_life(with_ward: bool) -> list[Event]:
    """The same life of a GP's referral, with and without a ward's on the same case."""
    ward = (
        (from_ward(interventions=(an_intervention("LB-WARD-WARD-WARD", action="rent deposit paid"),)),)
        if with_ward
        else ()
    )
    position = (
        a_position(holder="hospital-housing-bradgate", reasons=(RoutingReason.INPATIENT,))
        if with_ward
        else a_position()
    )
    done = (an_intervention(), *(i for concern in ward for i in concern.interventions))
    gp = by_gp()
    findings = tuple(a_finding(concern) for concern in (gp, *ward))
    ends = tuple(end for concern in (gp, *ward) for end in ended(concern))
    last = gp.model_copy(update={"interventions": done, "status": "completed", "open_needs": ()})
    steps: list[tuple[type[CaseEvent], ReferralContext, dict[str, object]]] = [
        (CaseAssigned, gp, {}),
        (CaseAccepted, gp, {}),
        (CaseAssessed, gp, {"findings": findings}),
        (CaseCompleted, last, {"ended": ends}),
    ]
    return [
        a_case_event(kind, concern, *ward, id=f"event-{number}", at=AT + timedelta(days=number), case=position, **said)
        for number, (kind, concern, said) in enumerate(steps)
    ]


def test_feedback_to_the_gp_is_the_same_as_without_the_hospitals_referral() -> None:
    def to_gp(with_ward: bool) -> list[str]:
        told = (compose(event, RECIPIENTS, WORDS) for event in _gp_life(with_ward))
        return [everything_said(f) for f in itertools.chain.from_iterable(told) if f.recipient.id == GP]

    assert len(to_gp(True)) == 4
    assert to_gp(True) == to_gp(False)


def test_the_attached_letter_has_the_content_of_the_bundle() -> None:
    concern = by_gp()
    [feedback] = compose(a_case_event(CaseAssessed, concern, findings=(a_finding(concern),)), RECIPIENTS, WORDS)
    bundle = itk3.bundle(feedback, WORDS.sender_details, "OURS")
    document = bundle["entry"][2]["resource"]
    [binary] = [e["resource"] for e in document["entry"] if e["resource"]["resourceType"] == "Binary"]
    page = base64.b64decode(binary["content"]).decode()
    for words in ("help is needed and will be arranged", "999 000 0018", "Edith Vantongeren", "0116 496 0130"):
        assert words in page


def test_markup_in_a_name_is_escaped() -> None:
    person = a_person(family_name="<script>alert(1)</script>", given_names=("A & B",))
    [feedback] = compose(a_case_event(CaseAssigned, by_gp(person=person)), RECIPIENTS, WORDS)
    assert "<script>" not in letter.page(feedback, WORDS.sender_details)
    assert "<script>" not in itk3.as_xml(itk3.bundle(feedback, WORDS.sender_details, "OURS")).decode()


def test_the_reason_of_a_cancellation_is_a_reviewed_text() -> None:
    for reason in EndReason:
        assert WORDS.end(reason).text
