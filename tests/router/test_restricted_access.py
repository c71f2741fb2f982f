"""A person with restricted data: who reads where the person lives, and what a referrer's feedback may depend on."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given as given_any
from hypothesis import settings
from hypothesis import strategies as st

from schemas.case import EndReason, Finding, HoldReason, Intervention
from schemas.events import (
    Accept,
    Assess,
    Book,
    Cancel,
    CaseTransferred,
    Complete,
    ConfirmDeath,
    Event,
    Hold,
    Record,
    Reject,
    ReportDeath,
    Start,
    Transfer,
)
from schemas.model import OnsCode
from schemas.referral import Consents, Contact, ContactPoint, Person, Referral
from services.messaging.cloudevents import value_of
from services.notifier import compose
from services.notifier.channels import mailbox
from services.router.decide.lifecycle import EmittedEvent
from services.router.decide.model import CaseRecord
from tests.builders.events import KEY, TODAY, cancelled, received, updated
from tests.builders.reference_data import (
    AT_BLABY,
    AT_CHARNWOOD,
    AT_MELTON,
    CHARNWOOD,
    DIRECTORY,
    IN_THE_CITY,
    POSTCODES,
)
from tests.builders.referrals import (
    FORM,
    GP,
    WARD,
    YES,
    a_form,
    a_person,
    a_referral,
    a_ward_referral,
    an_address,
)
from tests.notifier.builders import the_recipients, the_words
from tests.router.story import Story, everything, given

HOSPITAL = "hospital-housing"
NEED, VISIT = "minor-adaptations", datetime(2026, 12, 1, 10, tzinfo=UTC)
WORDS, RECIPIENTS = the_words(), the_recipients()
IN_THE_COUNTY = [AT_BLABY, AT_CHARNWOOD, AT_MELTON]
BOTH = Consents(referral=YES, feedback=YES)
LINE, PHONE, EMAIL, SMS, RELATIVE = "7 Hidden Row", "01509 000111", "hidden@example.org", "07700 900999", "Aunt Agnes"


def a_hidden_person(postcode: str = AT_BLABY, *, restricted: bool | None = True, **given_: Any) -> Person:
    return a_person(
        address=an_address(postcode).model_copy(update={"lines": (LINE,), "district": district(postcode)}),
        temporary_address=an_address(AT_MELTON).model_copy(update={"lines": (LINE,)}),
        phone=PHONE,
        email=EMAIL,
        other_contact_points=(ContactPoint(system="sms", value=SMS),),
        restricted_access=restricted,
        **given_,
    )


def district(postcode: str) -> OnsCode:
    return POSTCODES[postcode.replace(" ", "")]


def hidden(builder: Callable[..., Referral] = a_referral, postcode: str = AT_BLABY, **given_: Any) -> Referral:
    person = a_hidden_person(postcode, restricted=given_.pop("restricted", True))
    contacts = (Contact(name=RELATIVE, phone=PHONE),)
    return builder(NEED, **{"person": person, "contacts": contacts, "consents": BOTH, **given_})


SECRETS = (LINE, PHONE, EMAIL, SMS, RELATIVE, *IN_THE_COUNTY, *POSTCODES.values())


def revealed(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


# ---- hubs -----------------------------------------------------------------------------------------------------------


def test_the_holder_reads_where_a_restricted_person_lives_and_the_hub_that_follows_on_does_not() -> None:
    story = given(received(GP, hidden())).when(received(WARD, hidden(a_ward_referral)))

    assert set(SECRETS[:5]) <= set(revealed(story.sent_to(HOSPITAL)[-1].model_dump_json()))
    for event in story.sent_to("blaby"):
        assert event.role == "follow-on"
        assert revealed(event.model_dump_json()) == []
        assert event.referrals[0].referral.person.restricted_access


def test_a_hub_that_becomes_the_holder_reads_it_on_assignment_and_the_former_one_reads_no_more() -> None:
    story = given(received(GP, hidden(postcode=AT_CHARNWOOD))).commanded("charnwood", Accept)
    story.when(received(FORM, a_form(named_authority=district(AT_BLABY), consents=BOTH)))

    (former,), (holder,) = story.sent_to("charnwood"), story.sent_to("blaby")
    assert isinstance(former, CaseTransferred)
    assert (former.role, former.to_hub, former.case.home_hub, former.case.holder) == ("former", None, None, "elsewhere")
    assert revealed(former.model_dump_json()) == []
    assert LINE in revealed(holder.model_dump_json())


def test_a_hub_that_transfers_a_case_reads_its_own_decision() -> None:
    story = given(received(GP, hidden())).commanded("blaby", Accept).commanded("blaby", Transfer, to_hub="melton")

    (former,) = story.sent_to("blaby")
    assert isinstance(former, CaseTransferred)
    assert former.to_hub == "melton"


def test_a_restriction_hides_the_address_in_other_referrals_of_the_person() -> None:
    story = given(received(GP, hidden(restricted=False)), received(WARD, a_ward_referral()))
    assert revealed(story.sent_to("blaby", ever=True)[-1].model_dump_json()) != []

    story.when(received(FORM, a_form(person=a_hidden_person())))
    (event,) = story.sent_to("blaby")
    assert revealed(event.model_dump_json()) == []
    assert {one.referral.person.restricted_access for one in event.referrals} == {True}


def test_the_position_says_that_the_person_is_restricted_also_if_one_referral_is_not() -> None:
    story = given(received(GP, hidden(restricted=False))).when(received(FORM, a_form(person=a_hidden_person())))

    (event,) = story.sent_to("blaby")
    assert event.case.restricted_access
    assert [one.reference for one in event.referrals] == [FORM]


def test_only_the_referral_that_restricted_the_data_lifts_the_restriction() -> None:
    story = given(received(GP, hidden()), received(FORM, hidden(a_form, restricted=False)))
    assert story.state.persons[1].restricted_access
    assert story.when(updated(FORM, hidden(a_form, restricted=False))).state.persons[1].restricted_access
    assert story.when(cancelled(GP)).state.persons[1].restricted_access

    story.when(updated(GP, hidden(restricted=False), version=3))
    assert not story.state.persons[1].restricted_access


def test_an_update_that_does_not_mention_the_restriction_does_not_lift_it_and_one_that_denies_it_does() -> None:
    story = given(received(WARD, hidden(a_ward_referral)), updated(WARD, hidden(a_ward_referral, restricted=None)))
    assert story.state.persons[1].restricted_access

    story.when(updated(WARD, hidden(a_ward_referral, restricted=False), version=3))
    assert not story.state.persons[1].restricted_access


def test_each_of_two_restrictions_has_to_be_lifted() -> None:
    story = given(received(GP, hidden()), received(FORM, hidden(a_form)), updated(GP, hidden(restricted=False)))
    assert story.state.persons[1].restricted_access

    assert not story.when(updated(FORM, hidden(a_form, restricted=False))).state.persons[1].restricted_access


# ---- referrers ------------------------------------------------------------------------------------------------------


def feedback(story: Story) -> list[compose.Feedback]:
    """Return the feedback on the events of the last call, as the notifier composes it."""
    return [
        one
        for number, happening in enumerate(story.emitted)
        if isinstance(happening, EmittedEvent)
        for one in compose.compose(_event(f"event-{number}", happening), RECIPIENTS, WORDS)
    ]


def _event(id: str, happening: EmittedEvent) -> Event:
    time = datetime(2026, 11, 23, tzinfo=UTC)
    return Event(id=id, source="/tests", time=time, person_key=KEY, correlation_id="any", data=happening.data)


PLACES = [
    *(word for hub in DIRECTORY.hubs if hub.kind == "locality" for word in (hub.name, hub.contact.phone)),
    *(word for place in DIRECTORY.authorities for word in (place.name, place.contact.phone)),
    *(code for hub in DIRECTORY.hubs for code in (served.code for served in hub.districts)),
]


def assert_names_no_place(composed: list[compose.Feedback]) -> None:
    for one in composed:
        text = one.model_dump_json()
        assert [place for place in (*PLACES, *SECRETS) if place and place in text] == [], one.feedback_type
        assert one.hub is not None
        assert (one.hub.name, one.hub.phone) == ("Lightbulb", DIRECTORY.triage.contact.phone)


def test_feedback_about_a_restricted_person_names_lightbulb_and_no_reason() -> None:
    (home,) = feedback(given(received(FORM, hidden(a_form))))

    assert home.feedback_type is compose.FeedbackType.HOME_HUB
    assert home.routing_reasons == ()
    assert home.text[0].startswith(f"Your referral {FORM} is with Lightbulb")
    assert_names_no_place([home])


def test_a_referral_from_outside_the_county_is_returned_with_the_central_number_instead_of_the_place() -> None:
    (rejected,) = [
        one
        for one in feedback(given(received(GP, hidden(postcode=IN_THE_CITY))))
        if one.feedback_type is compose.FeedbackType.REJECTED
    ]

    assert (rejected.reason and rejected.reason.code, rejected.refer_to) == ("other", None)
    assert "What to do instead: please call Lightbulb." in rejected.text
    assert_names_no_place([rejected])


def test_a_completion_names_no_provider_of_a_district() -> None:
    done = Intervention(
        reference=GP, service=NEED, action="grab rails fitted", provider="Blaby District Council", on=TODAY
    )
    story = given(received(GP, hidden())).commanded("blaby", Accept)
    story.commanded("blaby", Complete, ended=everything({GP: [NEED]}), interventions=(done,))

    (completed,) = feedback(story)
    assert [(one.action, one.provider) for one in completed.completed_actions] == [("grab rails fitted", None)]


def test_no_letter_about_a_restricted_person_is_routed_automatically() -> None:
    for restricted in (True, False):
        practice = a_referral().referred_by.model_copy(
            update={"organisation": a_referral().referred_by.organisation.model_copy(update={"ods": "C81001"})}
        )
        referral = hidden(restricted=restricted, referred_by=practice, registered_practice=practice.organisation)
        channels = {one.recipient.channel for one in feedback(given(received(GP, referral))) if one.recipient.routed}
        assert channels == (set() if restricted else {"mesh"})


def test_a_restated_position_repeats_no_reason_from_before_the_restriction() -> None:
    before = [one for one in feedback(given(received(FORM, hidden(a_form, restricted=False)))) if one.routing_reasons]
    story = given(received(FORM, hidden(a_form)))
    (now,) = feedback(story.commanded("blaby", Reject, ended=everything({FORM: [NEED]}), reason=EndReason.OTHER))

    assert before
    assert compose.restate(now, before, WORDS).routing_reasons == ()


# ---- any order of inputs --------------------------------------------------------------------------------------------

BUILDERS: dict[str, Callable[..., Referral]] = {GP: a_referral, FORM: a_form, WARD: a_ward_referral}
references = st.sampled_from([GP, FORM, WARD])
postcodes = st.sampled_from(IN_THE_COUNTY)
messages = st.tuples(
    st.just("message"), references, st.booleans(), st.booleans(), st.tuples(postcodes, postcodes), st.booleans()
)
cancels = st.tuples(st.just("cancel"), references)
finding = Finding(reference=GP, service=NEED, finding="need-confirmed")
actions: st.SearchStrategy[tuple[type, dict[str, Any]]] = st.sampled_from(
    [
        (Accept, {}),
        (Book, {"visit_at": VISIT}),
        (Start, {}),
        (Hold, {"reason": HoldReason.WAITING_LIST}),
        (Assess, {"findings": (finding,)}),
        (Record, {"no_contact_on": TODAY}),
        (Cancel, {"ended": everything({GP: [NEED]}), "reason": EndReason.PERSON_DECLINED}),
        (Reject, {"ended": everything({FORM: [NEED]}), "reason": EndReason.NOT_ELIGIBLE}),
        (ReportDeath, {}),
        (ConfirmDeath, {}),
    ]
)
commands = st.tuples(st.just("command"), st.sampled_from(["holder", "home"]), actions)
transfers = st.tuples(st.just("transfer"))
first = st.tuples(
    st.just("message"), st.just(GP), st.just(True), st.just(False), st.tuples(postcodes, postcodes), st.just(False)
)
histories = st.lists(st.one_of(messages, messages, cancels, commands, commands, transfers), max_size=10)


def play(story: Story, one: Any, version: int, run: int, *, lifted: bool, elsewhere: bool = False) -> None:
    match one:
        case ("message", reference, restricted, discharged, places, named):
            given_ = {"discharged_on": TODAY} if discharged and reference == WARD else {}
            given_ |= {"named_authority": CHARNWOOD} if named and lifted else {}
            restricted = restricted or (reference == GP and not lifted)
            referral = hidden(BUILDERS[reference], places[run], restricted=restricted, **given_)
            send = updated if reference in story.state.referrals else received
            story.when(send(reference, next_door(referral) if elsewhere else referral, version))
        case ("cancel", reference) if reference in story.state.referrals:
            story.when(cancelled(reference, version))
        case ("command", who, (command, data)) if case := open_case(story):
            hub = case.holding.hub if who == "holder" else case.home.hub
            story.commanded(str(hub), command, case=case, **data)
        case ("transfer",) if case := open_case(story):
            to = case.home.hub if case.stay else "melton" if case.home.hub != "melton" else "blaby"
            story.commanded(str(case.holding.hub), Transfer, case=case, to_hub=to)
        case _:
            story.emitted = []


def next_door(referral: Referral) -> Referral:
    """Return the referral with another address in the same postcode, and other contact points and contacts."""
    address = an_address(referral.person.address.postcode if referral.person.address else None, uprn="100030000001")
    moved = {"address": address, "temporary_address": None, "phone": None, "email": "b@example.org"}
    person = referral.person.model_copy(update={**moved, "other_contact_points": ()})
    return referral.model_copy(update={"person": person, "contacts": ()})


def open_case(story: Story) -> CaseRecord | None:
    return next((case for case in story.state.cases.values() if not case.ended), None)


@settings(max_examples=400, deadline=None)
@given_any(first, histories)
def test_no_reader_but_the_holder_gets_where_a_restricted_person_lives(begin: Any, history: list[Any]) -> None:
    story = Story()
    for version, one in enumerate([begin, *history], start=1):
        play(story, one, version, 0, lifted=True)
        if not all(person.restricted_access for person in story.state.persons.values()):
            continue
        for happening in story.emitted:
            for _, data in happening.hubs if isinstance(happening, EmittedEvent) else ():
                if data.role != "holder":
                    record = _event("any", EmittedEvent(data, "any"))
                    assert revealed(value_of(record).decode()) == []
                    assert data.case.district is None
            contexts = happening.data.referral_contexts if isinstance(happening, EmittedEvent) else ()
            assert {(context.home_hub, context.reasons) for context in contexts} <= {(None, ())}
        assert_names_no_place(feedback(story))


@settings(max_examples=200, deadline=None)
@given_any(first, histories)
def test_a_hub_that_does_not_hold_the_case_reads_the_same_for_every_address_of_a_district(
    begin: Any, history: list[Any]
) -> None:
    """Two runs that differ only in the address within a postcode give every hub but the holder the same bytes, in order."""
    stories = Story(), Story()
    for version, one in enumerate([begin, *history], start=1):
        read = []
        for story in stories:
            play(story, one, version, 0, lifted=False, elsewhere=story is stories[1])
            happenings = [each for each in story.emitted if isinstance(each, EmittedEvent)]
            to_hubs = [(hub, data) for each in happenings for hub, data in each.hubs if data.role != "holder"]
            read.append([(hub, value_of(_event("any", EmittedEvent(data, "any")))) for hub, data in to_hubs])
        assert read[0] == read[1]


@settings(max_examples=400, deadline=None)
@given_any(first, histories)
def test_feedback_does_not_depend_on_where_a_restricted_person_lives(begin: Any, history: list[Any]) -> None:
    """Two runs that differ only in addresses within the county give every referrer the same bytes, in order."""
    stories = Story(), Story()
    for version, one in enumerate([begin, *history], start=1):
        composed = []
        for run, story in enumerate(stories):
            play(story, one, version, run, lifted=False)
            composed.append([mailbox.Mailbox().render(each).body for each in feedback(story)])
        assert composed[0] == composed[1]


@pytest.mark.parametrize("postcode", IN_THE_COUNTY)
def test_the_same_history_of_an_unrestricted_person_depends_on_the_address(postcode: str) -> None:
    """The property above is not empty: without the restriction feedback names the hub."""
    composed = feedback(given(received(FORM, hidden(a_form, postcode, restricted=False))))

    assert [one.hub and one.hub.id for one in composed] == [
        DIRECTORY.hub_for_district(district(postcode), TODAY).id
    ] * len(composed)
