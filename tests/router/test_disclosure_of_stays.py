"""What a hospital says of a stay reaches hospital teams only, and a part to be read only those who may read its referral."""

from datetime import timedelta
from typing import Any

from hypothesis import given as any_of
from hypothesis import settings
from hypothesis import strategies as st

from schemas.events import (
    Accept,
    Assign,
    CaseEvent,
    ConfirmDeath,
    DischargeOverdue,
    ReferralMergeProposed,
    ReferralUpdateNotApplied,
    ReportDeath,
    TaskRaised,
    Transfer,
    WithdrawDeathReport,
)
from schemas.referral import HospitalStay, Identifier, Reason, Referral, UnreadPart
from services.router.decide.lifecycle import EmittedEvent, UnknownReferral
from tests.builders.events import TODAY, cancelled, received, updated
from tests.builders.referrals import (
    FORM,
    GP,
    WARD,
    a_bradgate_referral,
    a_form,
    a_person,
    a_referral,
    a_ward_referral,
)
from tests.router.story import Story, given

HOSPITAL, BRADGATE, TRIAGE = "hospital-housing", "hospital-housing-bradgate", "triage"
HOME_HUBS = ("blaby", "charnwood", "melton")
OF_A_STAY = ("MARK-VISIT", "MARK-WARD", "MARK-BED", "MARK-MOVED", '"admission_cancelled":true', "moved-to-another")
UNREAD = UnreadPart(place="PV2-3", kind="value", text="MARK-UNREAD")
STAY = HospitalStay(
    visit=Identifier(system="urn:trust", value="MARK-VISIT"), site="LRI", ward="MARK-WARD", bed="MARK-BED"
)
WORDS: list[dict[str, Any]] = [
    {},
    {"hospital": None},
    {"discharged_on": TODAY},
    {"discharged_on": TODAY + timedelta(days=1)},
    {"hospital": STAY.model_copy(update={"moved_to": "MARK-MOVED"}), "discharged_on": TODAY},
    {"hospital": STAY.model_copy(update={"admission_cancelled": True})},
    {"expected_discharge_on": TODAY - timedelta(days=3)},
]


def a_marked(ward: Any, **given_: Any) -> Referral:
    site = "Bradgate Unit" if ward is a_bradgate_referral else "LRI"
    stay = given_.pop("hospital", STAY)
    hospital = stay.model_copy(update={"site": site}) if stay else None
    return ward(**{"reason": Reason(), "to_be_read": (UNREAD,), "hospital": hospital, **given_})  # type: ignore[no-any-return]


wards = st.sampled_from([a_ward_referral, a_bradgate_referral])
words, of_a_stay = st.sampled_from(WORDS), st.sampled_from([word for word in WORDS if word != {"hospital": None}])
steps = st.one_of(
    st.builds(lambda word: ("update", word), words),
    st.sampled_from(
        [
            ("event", received(GP, a_referral())),
            ("event", received(FORM, a_form())),
            ("event", cancelled(GP)),
            ("event", DischargeOverdue(reference=WARD, expected_on=TODAY - timedelta(days=3))),
        ]
    ),
    st.builds(lambda kind, about: ("doubt", kind, about), st.sampled_from(["other", "merge"]), st.sampled_from([WARD, GP])),
    st.builds(lambda hub, command: ("command", hub, command), st.sampled_from([HOSPITAL, BRADGATE, *HOME_HUBS]), st.sampled_from([
        (Accept, {}), (Assign, {"to_hub": "melton"}), (Transfer, {"to_hub": "melton"}), (ReportDeath, {}),
        (WithdrawDeathReport, {}), (ConfirmDeath, {}),
    ])),
)  # fmt: skip


def play(story: Story, ward: Any, step: Any, version: int) -> None:
    story.emitted = []
    try:
        match step:
            case ("update", word):
                story.when(updated(WARD, a_marked(ward, **word), version=version))
            case ("event", event):
                story.when(event.model_copy(update={"version": version}) if hasattr(event, "version") else event)
            case ("doubt", "other", about):
                story.when(ReferralUpdateNotApplied(reference=about, version=version, reason="other-person"))
            case ("doubt", _, about):
                story.when(ReferralMergeProposed(reference=about, version=version))
            case (_, hub, (command, data)):
                story.commanded(hub, command, **data)
    except UnknownReferral:
        pass


def sent(story: Story) -> list[tuple[str, CaseEvent]]:
    return [(hub, data) for one in story.emitted if isinstance(one, EmittedEvent) for hub, data in one.hubs]


@settings(max_examples=300, deadline=None)
@any_of(wards, of_a_stay, st.lists(steps, max_size=10))
def test_nothing_that_a_hospital_says_of_a_stay_reaches_a_home_hub_or_a_referrer(
    ward: Any, first: dict[str, Any], then: list[Any]
) -> None:
    story = Story().when(received(WARD, a_marked(ward, **first)))
    for version, step in enumerate([None, *then], start=1):
        if step is not None:
            play(story, ward, step, version)
        for hub, data in sent(story):
            text = data.model_dump_json()
            if not hub.startswith("hospital"):
                assert not [mark for mark in OF_A_STAY if mark in text], (hub, data.TYPE)
            if hub not in (HOSPITAL, BRADGATE, TRIAGE):
                assert "MARK-UNREAD" not in text, (hub, data.TYPE)
            if hub == HOSPITAL and ward is a_bradgate_referral:
                raise AssertionError("the general team received an event of a stay in the restricted unit")
        for one in story.emitted:
            if isinstance(one, EmittedEvent):
                heard = "".join(context.model_dump_json() for context in one.data.referral_contexts)
                assert not [mark for mark in (*OF_A_STAY, "MARK-UNREAD") if mark in heard]


@settings(max_examples=200, deadline=None)
@any_of(wards, of_a_stay, st.lists(steps, max_size=10))
def test_a_task_goes_to_one_hub_that_sees_its_referral_and_to_no_referrer(
    ward: Any, first: dict[str, Any], then: list[Any]
) -> None:
    story = Story().when(received(WARD, a_marked(ward, **first)))
    for version, step in enumerate(then, start=2):
        play(story, ward, step, version)
        for one in story.emitted:
            if not isinstance(one, EmittedEvent) or not isinstance(one.data, TaskRaised):
                continue
            assert one.data.referral_contexts == ()
            assert len(one.hubs) <= 1
            for _, data in one.hubs:
                seen = {referral.reference for referral in data.referrals}
                assert isinstance(data, TaskRaised)
                assert data.about is None or data.about in seen


@settings(max_examples=150, deadline=None)
@any_of(wards, st.lists(st.sampled_from(["other", "merge"]), min_size=1, max_size=4))
def test_a_doubt_that_a_message_raised_changes_nothing_that_others_read(ward: Any, doubts: list[str]) -> None:
    """The practice and the home hub read the same with and without it."""
    with_doubts, without = (given(received(GP, a_referral()), received(WARD, a_marked(ward))) for _ in range(2))
    for version, doubt in enumerate(doubts, start=2):
        play(with_doubts, ward, ("doubt", doubt, WARD), version)
    for story in (with_doubts, without):
        story.when(updated(GP, a_referral(priority="urgent"))).commanded("blaby", ReportDeath)

    assert with_doubts.concerns(GP, ever=True) == without.concerns(GP, ever=True)
    assert with_doubts.sent_to("blaby", ever=True) == without.sent_to("blaby", ever=True)


def test_the_text_of_an_unread_part_of_a_person_with_restricted_data_goes_to_the_holder_only() -> None:
    person = a_person(restricted_access=True)
    story = given(received(GP, a_referral(person=person))).commanded("blaby", Accept)
    story.when(updated(GP, a_referral(person=person, to_be_read=(UNREAD,))))
    assert "MARK-UNREAD" in story.sent_to("blaby")[0].model_dump_json()

    story.when(received(WARD, a_ward_referral(person=person)))
    (follow_on,) = story.sent_to("blaby")
    (unread,) = follow_on.referrals[0].referral.to_be_read
    assert (unread.place, unread.text) == ("PV2-3", None)
