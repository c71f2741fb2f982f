"""What a sender can infer about somebody from the feedback on referrals of its own."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.field.case import Unplayed, Wrong, case
from tests.field.clients import RESTRICTED, Feedback, Installation
from tests.field.referrals import (
    BLABY,
    HARBOROUGH,
    MELTON,
    NOT_VERIFIED,
    OUTSIDE,
    Person,
    bars,
    hl7,
    self_form,
    ward_referral_id,
)

ASKING = "gp-castle-view"
Summary = tuple[str, str, str, str | None, tuple[str, ...]]


def summaries(feedback: list[Feedback]) -> list[Summary]:
    """What can be compared of feedback about different people."""
    return [(one.kind, one.status, one.detail, one.hub, one.reasons) for one in feedback]


def feedback_to(hub: Installation, person: Person, **more: Any) -> list[Summary]:
    """What a practice reads after it has referred this person."""
    found = summaries(hub.feedback(ASKING, hub.refer(ASKING, bars(person, ASKING, **more))))
    if not found:
        raise Unplayed("no feedback came")
    return found


@case("security/d1-made-up-referral-does-not-tell-whether-a-number-is-known")
def made_up_referral_does_not_tell_whether_a_number_is_known(addresses: dict[str, Any]) -> None:
    """A practice refers "somebody" under a number that only the restricted unit has referred, and under unknown ones."""
    hub = Installation(addresses)
    probe = Person("Probe", "1921-05-04", postcode=MELTON, verified=NOT_VERIFIED)
    unknown = [feedback_to(hub, replace(probe, number=Person().number)) for _ in range(3)]
    if any(one != unknown[0] for one in unknown):
        raise Unplayed(f"feedback on unknown numbers differs: {unknown}")
    patient = Person(postcode=HARBOROUGH)
    hub.admit("lpt", hl7(patient, "lpt"))
    hub.settle()
    known = feedback_to(hub, replace(probe, number=patient.number))
    if known != unknown[0]:
        raise Wrong(f"a number that only the restricted unit referred gives {known}, an unknown one {unknown[0]}")


@case("security/d2-birth-date-cannot-be-found-by-guessing")
def birth_date_cannot_be_found_by_guessing(addresses: dict[str, Any]) -> None:
    """With number and surname known, the right birth date is answered like 23 wrong ones."""
    hub, patient = Installation(addresses), Person(born="1951-03-09")
    hub.refer("gp-alder-lane", bars(patient, "gp-alder-lane"))
    hub.settle()
    guesses = [f"1951-{month:02d}-{day:02d}" for month in (2, 3) for day in range(1, 13)]
    people = {guess: replace(patient, born=guess, verified=NOT_VERIFIED, given="X") for guess in guesses}
    references = {guess: hub.refer(ASKING, bars(person, ASKING)) for guess, person in people.items()}
    answers = {guess: summaries(hub.feedback(ASKING, reference))[:1] for guess, reference in references.items()}
    if not all(answers.values()):
        raise Unplayed("not every guess had feedback")
    right = answers.pop(patient.born)
    if right not in answers.values():
        raise Wrong(
            f"the right birth date gives {right}, every wrong one something else, such as {answers['1951-03-01']}"
        )


@case("security/d3-nobody-learns-where-a-person-lives-now")
def nobody_learns_where_a_person_lives_now(addresses: dict[str, Any]) -> None:
    """The person moved to Melton, and its hub has accepted. Who gives an old address does not learn of the new district.

    An address outside the county is answered alike for a known and an unknown person.
    """
    hub, person = Installation(addresses), Person(postcode=MELTON)
    reference = hub.refer("gp-alder-lane", bars(person, "gp-alder-lane"))
    hub.command("melton", "accept", hub.case_at("melton", reference))
    hub.settle()
    by_practice = feedback_to(hub, replace(person, postcode=BLABY))
    by_public = _feedback_to_the_public_form(hub, replace(person, postcode=BLABY))
    outside = feedback_to(hub, replace(person, postcode=OUTSIDE))
    unknown = feedback_to(hub, Person(postcode=OUTSIDE))
    if "Melton" in str([by_practice, by_public, outside]) or outside != unknown:
        raise Wrong(f"practice {by_practice}, public form {by_public}, outside the county {outside}, unknown {unknown}")


def _feedback_to_the_public_form(hub: Installation, person: Person) -> list[Summary]:
    answer = hub.form("lightbulb-website", "self", self_form(person))
    if answer.status >= 300:
        raise Unplayed(f"the public form was answered {answer.status} {answer.body[:300]!r}")
    return summaries(hub.feedback("lightbulb-website", answer.json()["reference"]))


@case("security/d4-another-referral-does-not-change-what-a-practice-reads")
def another_referral_does_not_change_what_a_practice_reads(addresses: dict[str, Any]) -> None:
    """The restricted unit refers the same number with a slip in the birth date: the practice's feedback stays full."""
    hub, patient = Installation(addresses), Person(verified=NOT_VERIFIED)
    reference = hub.refer(ASKING, bars(patient, ASKING))
    before = hub.feedback(ASKING, reference)
    hub.settle()
    hub.admit("lpt", hl7(replace(patient, born="1951-03-08"), "lpt"))
    hub.command("blaby", "accept", hub.case_at("blaby", reference))
    after = hub.feedback(ASKING, reference)[len(before) :]
    if not before or not after:
        raise Unplayed(f"feedback before the stay {len(before)}, after {len(after)}")
    if after[-1].detail != before[-1].detail:
        raise Wrong(f"feedback was {before[-1].detail}, and is {after[-1].detail} after the other referral")


@case("security/d11-a-stay-before-changes-nothing-that-a-practice-reads")
def a_stay_before_changes_nothing_that_a_practice_reads(addresses: dict[str, Any]) -> None:
    """Referrals of a person who was at the restricted unit are answered as those of a person who was not."""
    hub = Installation(addresses)
    kinds: dict[str, Callable[[Person], list[Summary]]] = {
        "address in Blaby": lambda person: feedback_to(hub, replace(person, postcode=BLABY)),
        "address outside": lambda person: feedback_to(hub, replace(person, postcode=OUTSIDE)),
        "onward only": lambda person: feedback_to(hub, replace(person, postcode=BLABY), services=("blue-badge",)),
    }
    pairs = {name: (ask(Person()), ask(_after_a_stay(hub))) for name, ask in kinds.items()}
    if different := {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}:
        raise Wrong(f"without a stay, and with one: {different}")


def _after_a_stay(hub: Installation) -> Person:
    """Somebody who was discharged from the restricted unit, and whom the home hub has accepted."""
    person, referral = Person(postcode=HARBOROUGH), ward_referral_id()
    reference = hub.admit("lpt", hl7(person, "lpt", referral=referral))
    if not hub.hub_events(RESTRICTED, about=reference):
        raise Unplayed("the restricted team was not informed of the stay")
    hub.mllp("lpt", hl7(person, "lpt", referral=referral, trigger="I13", discharged="20261120"))
    hub.command("harborough", "accept", hub.case_at("harborough", reference))
    hub.settle()
    return person
