"""What a practice reads because of a stay at the restricted unit: the same random schedules, played with and without the stay."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import NamedTuple

from schemas.case import Finding, HoldReason
from schemas.events import Accept, Assess, Assign, Complete, Event, Hold, Transfer
from schemas.nhs_number import VerificationStatus
from schemas.referral import Consents, Referral, ServiceCode
from services.notifier import compose
from services.router.decide.lifecycle import EmittedEvent
from services.router.decide.model import CaseRecord
from tests.builders.events import KEY, TODAY, cancelled, received, updated
from tests.builders.reference_data import AT_BLABY, AT_CHARNWOOD, AT_MELTON, CHARNWOOD, IN_THE_CITY, MELTON
from tests.builders.referrals import GP, WARD, YES, a_bradgate_referral, a_person, a_referral, an_address
from tests.notifier.builders import the_recipients, the_words
from tests.router.story import Story, everything

SCHEDULES, SEED = 1200, 2
RESTRICTED = "hospital-housing-bradgate"
SERVICES: list[ServiceCode] = ["minor-adaptations", "blue-badge", "homelessness"]
POSTCODES = [AT_BLABY, AT_CHARNWOOD, AT_MELTON, IN_THE_CITY]
BOTH = Consents(referral=YES, feedback=YES)
WORDS, RECIPIENTS = the_words(), the_recipients()


class Read(NamedTuple):
    """One feedback, as far as it can be compared."""

    kind: str
    status: str
    reasons: tuple[str, ...]
    is_full: bool
    hub: str | None
    reason: str | None
    open_needs: tuple[str, ...]
    refer_to: str | None


KNOWN_DISCLOSURES = {
    ("assessed", ()): "a hub that follows on assesses during a stay, before it has accepted",
    ("home-hub", ()): "the case moves on the day of discharge, or the restricted team chose the hub",
    ("home-hub", ("transferred",)): "the restricted team hands the case over early",
    ("accepted", ()): "a hub that the ward named accepts, and not the one of which the practice read before",
}
"""(kind, reasons) of the first feedback that a practice reads only because of the stay. Each is a fault that is still to be
mended: whoever mends one removes it here, and no other may come."""


def test_a_stay_adds_only_the_known_disclosures_to_feedback_for_a_practice() -> None:
    rng = random.Random(SEED)
    more = [played(rng).first_only_because_of_the_stay() for _ in range(SCHEDULES)]
    found = Counter((one.kind, one.reasons) for one in more if one)

    assert set(found) == set(KNOWN_DISCLOSURES), found


@dataclass
class Both:
    """One schedule, with the stay and without it."""

    gp: Referral
    ward: Referral
    without: Story = field(default_factory=Story)
    during: Story = field(default_factory=Story)
    gp_version: int = 0
    ward_version: int = 0

    def first_only_because_of_the_stay(self) -> Read | None:
        """Silence during the stay is by design; a feedback that is not read without it is a disclosure."""
        expected = read_by_practice(self.without)
        return next((one for one in read_by_practice(self.during) if one not in expected), None)

    # ---- the practice

    def refer(self) -> None:
        if not self.gp_version:
            self.gp_version = 1
            for story in (self.without, self.during):
                story.when(received(GP, self.gp))

    def update(self) -> None:
        if self.gp_version:
            self.gp_version += 1
            urgent = self.gp.model_copy(update={"priority": "urgent"})
            for story in (self.without, self.during):
                story.when(updated(GP, urgent, version=self.gp_version))

    # ---- the ward and its team

    def admit(self) -> None:
        if not self.ward_version:
            self.ward_version = 1
            self.during.when(received(WARD, self.ward))

    def discharge(self) -> None:
        if self.ward_version:
            self.ward_version += 1
            self.during.when(
                updated(WARD, self.ward.model_copy(update={"discharged_on": TODAY}), version=self.ward_version)
            )

    def cancel_stay(self) -> None:
        if self.ward_version:
            self.ward_version += 1
            self.during.when(cancelled(WARD, version=self.ward_version))

    def team(self, command: Callable[[Story, CaseRecord], object]) -> None:
        cases = self.during.state.cases.values()
        held = next((one for one in cases if one.stay and one.stay.hub == RESTRICTED and not one.ended), None)
        if held is not None:
            command(self.during, held)

    # ---- the home hub

    def home(self, command: Callable[[Story, str, CaseRecord], object]) -> None:
        for story in (self.without, self.during) if self.gp_version else ():
            one = story.state.cases[story.referral(GP).case_id]
            hub = one.home.hub
            if not one.ended and hub is not None and hub in one.cursors and one.cursors[hub].role != "former":
                command(story, hub, one)


def complete_ward(story: Story, one: CaseRecord) -> None:
    if WARD in story.state.referrals and story.referral(WARD).is_open:
        story.commanded(RESTRICTED, Complete, case=one, ended=everything({WARD: story.referral(WARD).open_needs}))


def assess(story: Story, hub: str, one: CaseRecord) -> None:
    if needs := story.referral(GP).open_needs:
        finding = Finding(reference=GP, service=needs[0], finding="need-confirmed")
        story.commanded(hub, Assess, case=one, findings=(finding,))


def complete(story: Story, hub: str, one: CaseRecord) -> None:
    if story.referral(GP).is_open:
        story.commanded(hub, Complete, case=one, ended=everything({GP: story.referral(GP).open_needs}))


STEPS: tuple[Callable[[Both], object], ...] = (
    Both.update,
    Both.admit,
    Both.discharge,
    Both.cancel_stay,
    lambda both: both.team(lambda story, one: story.commanded(RESTRICTED, Accept, case=one)),
    lambda both: both.team(lambda story, one: story.commanded(RESTRICTED, Assign, case=one, to_hub="melton")),
    lambda both: both.team(lambda story, one: story.commanded(RESTRICTED, Transfer, case=one, to_hub="melton")),
    lambda both: both.team(complete_ward),
    lambda both: both.home(lambda story, hub, one: story.commanded(hub, Accept, case=one)),
    lambda both: both.home(
        lambda story, hub, one: story.commanded(hub, Hold, case=one, reason=HoldReason.WAITING_LIST)
    ),
    lambda both: both.home(assess),
    lambda both: both.home(complete),
)


def played(rng: random.Random) -> Both:
    """A random schedule of up to seven steps, one of which is the practice's referral."""
    both = Both(*_referrals(rng))
    steps = [rng.choice(STEPS) for _ in range(rng.randint(1, 6))]
    steps.insert(rng.randint(0, len(steps)), Both.refer)
    for step in steps:
        step(both)
    return both


def _referrals(rng: random.Random) -> tuple[Referral, Referral]:
    address = an_address(rng.choice(POSTCODES))
    person = a_person(address=address, nhs_number_status=VerificationStatus.VERIFIED)
    services = rng.sample(SERVICES, rng.randint(1, 2))
    gp = a_referral(*services, person=person, consents=BOTH, referred_on=rng.choice([None, date(2026, 11, 1)]))
    patient = person.model_copy(update={"address": an_address(rng.choice(POSTCODES))}) if rng.random() < 0.5 else person
    ward = a_bradgate_referral(
        person=patient,
        consents=BOTH,
        named_authority=rng.choice([None, None, CHARNWOOD, MELTON]),
        referred_on=rng.choice([None, date(2026, 10, 1)]),
    )
    return gp, ward


def read_by_practice(story: Story) -> list[Read]:
    """Every feedback on the practice's referral, as the notifier composes it."""
    return [
        _read(one)
        for number, happening in enumerate(story.all_happenings)
        if isinstance(happening, EmittedEvent)
        for concern in happening.data.referral_contexts
        if concern.reference == GP
        for one in compose.compose_for(_event(number, happening), concern, RECIPIENTS, WORDS)
    ]


def _event(number: int, happening: EmittedEvent) -> Event:
    return Event(
        id=f"00000000-0000-0000-0000-{number:012d}",
        source="/lightbulb/router",
        time=datetime(2026, 11, 23, tzinfo=UTC),
        person_key=KEY,
        correlation_id="any",
        data=happening.data,
    )


def _read(one: compose.Feedback) -> Read:
    return Read(
        kind=one.feedback_type.value,
        status=one.status.value,
        reasons=tuple(why.code for why in one.routing_reasons),
        is_full=one.full,
        hub=one.hub.name if one.hub else None,
        reason=one.reason.code if one.reason else None,
        open_needs=tuple(need.code for need in one.open_needs),
        refer_to=one.refer_to.id if one.refer_to else None,
    )
