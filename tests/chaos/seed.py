"""One integer becomes a plan: who is referred by whom, what is sent and commanded in which order, and which faults happen when. Pure.

A plan names nobody: ids, NHS numbers and message ids are made of it when it is played (senders.py), so that the same plan can be
played twice side by side, with faults and without.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from tests.chaos import schedule
from tests.chaos.schedule import Fault

PEOPLE = 16
SPREAD_SECONDS = 7.0
"""Over this time people begin to be referred, so that every fault meets work."""

POSTCODES = ("LE19 2GX", "LE11 3HH", "LE16 7DR", "LE10 1DU", "LE13 0JJ", "LE67 3BY", "LE18 2HZ")
"""One of each district of the county."""

OUTSIDE = "LE5 5HN"
"""In the city: returned to the referrer by rule."""

Kind = Literal["new", "update", "cancel", "repeat", "conflict", "unknown-cancel"]
How = Literal["next", "again", "ahead", "wrong-hub", "accept-twice", "hold"]


@dataclass(frozen=True)
class Say:
    """A message of a sender: of which referral of the person, and with which content (counted from 0)."""

    referral: int
    kind: Kind
    content: int


@dataclass(frozen=True)
class Do:
    """A command of the hub that holds the case of this referral. `next` is the next step that makes sense; others are as they say."""

    referral: int
    how: How


@dataclass(frozen=True)
class Referral:
    """Who refers, and how. `practice` asked; `partner` sent it."""

    partner: str
    format: str
    practice: str
    consents: bool
    stays: bool = False
    """The person is in hospital: the hospital's housing team holds the case."""
    refuses_first: bool = False
    """The practice's system refuses the first feedback about it for good: a planted cause of one failed feedback."""


@dataclass(frozen=True)
class Person:
    """One person key, and what happens to it, in order."""

    number: int
    has_nhs_number: bool
    postcode: str
    referrals: tuple[Referral, ...]
    inputs: tuple[Say | Do, ...]
    begins_at: float
    pause: float


@dataclass(frozen=True)
class Plan:
    """Everything that a seed decides. `races`: one person's inputs go all at once, so that only I1-I7 can be asked for.

    `last` is a fault that stands alone: it comes when the others are over and all that they held up is done. The people in `late`
    begin with it, so that it meets work, and the time of its recovery is its own.
    """

    seed: int
    races: bool
    people: tuple[Person, ...]
    faults: tuple[Fault, ...]
    last: Fault | None = None
    late: frozenset[int] = frozenset()

    @property
    def referrals(self) -> int:
        return sum(len(person.referrals) for person in self.people)


def plan(seed: int, *, brokers: int = 1) -> Plan:
    """The plan of a seed."""
    random = Random(seed)
    races = seed % 4 == 0
    people = tuple(_person(random, number) for number in range(PEOPLE))
    faults, last = schedule.faults(seed, brokers)
    late = schedule.meeting(last, people)
    people = tuple(
        replace(person, begins_at=schedule.within(last, person.begins_at / SPREAD_SECONDS))
        if person.number in late
        else person
        for person in people
    )
    return Plan(seed, races, people, faults, last, late)


# ---- people -----------------------------------------------------------------------------------------------------------


def _person(random: Random, number: int) -> Person:
    referrals = tuple(_referral(random) for _ in range(random.choice((1, 1, 1, 2))))
    outside = random.random() < 0.06
    return Person(
        number=number,
        has_nhs_number=len(referrals) > 1 or random.random() < 0.85,
        postcode=OUTSIDE if outside else random.choice(POSTCODES),
        referrals=referrals,
        inputs=tuple(_inputs(random, referrals)),
        begins_at=round(random.uniform(0, SPREAD_SECONDS), 2),
        pause=round(random.uniform(0, 0.5), 2),
    )


_WAYS = (
    ("gp-alder-lane", "bars", "C82991"),
    ("gp-alder-lane", "bars", "C82991"),
    ("gp-brook-street", "bars", "C82992"),
    ("gp-castle-view", "bars", "C82993"),
    ("first-contact", "bars", "C82992"),
    ("first-contact", "form", "C82991"),
    ("first-contact", "form", "C82993"),
    ("uhl", "hl7", "RWE"),
    ("uhl", "hl7", "RWE"),
    ("council-blaby", "csv", ""),
)


def _referral(random: Random) -> Referral:
    partner, form, practice = random.choice(_WAYS)
    refuses = practice == "C82991" and random.random() < 0.12
    consents, stays = random.random() < 0.8, form == "hl7" and random.random() < 0.6
    return Referral(partner, form, practice, consents, stays, refuses)


def _inputs(random: Random, referrals: tuple[Referral, ...]) -> Iterator[Say | Do]:
    """Each referral's own messages in order, the referrals' and the hub's mixed; a command only after the first message."""
    waiting = [list(_messages(random, at, one)) for at, one in enumerate(referrals)]
    works: list[Say | Do] = list(_commands(random, random.randrange(len(referrals))))
    begun = False
    while any(waiting) or works:
        ready = [one for one in waiting if one] + ([works] if works and begun else [])
        yield random.choice(ready).pop(0)
        begun = True


def _messages(random: Random, at: int, referral: Referral) -> Iterator[Say | Do]:
    if random.random() < 0.05:
        yield Say(at, "unknown-cancel", 0)
    content = 0
    yield Say(at, "new", content)
    while random.random() < 0.45:
        match random.choice(("update", "update", "repeat", "conflict")):
            case "update":
                content += 1
                yield Say(at, "update", content)
            case "conflict" if referral.format == "bars":
                yield Say(at, "conflict", content)
            case _:
                yield Say(at, "repeat", random.randint(0, content))
    if random.random() < 0.15:
        yield Say(at, "cancel", content + 1)


def _commands(random: Random, at: int) -> Iterator[Say | Do]:
    for _ in range(random.choice((0, 2, 4, 6, 7))):
        yield Do(at, "next")
        if random.random() < 0.3:
            yield Do(at, random.choice(("again", "ahead", "wrong-hub", "accept-twice")))
