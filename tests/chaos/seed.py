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
from tests.chaos.ways import DATED, PAIRS, WAYS, Format, Way, can_cancel, can_conflict, council, has_time

PEOPLE = 16
SPREAD_SECONDS = 7.0
"""Over this time people begin to be referred, so that every fault meets work."""

POSTCODES = ("LE19 2GX", "LE11 3HH", "LE16 7DR", "LE10 1DU", "LE13 0JJ", "LE67 3BY", "LE18 2HZ")
"""One of each district of the county."""

OUTSIDE = "LE5 5HN"
"""In the city: returned to the referrer by rule."""

Kind = Literal["new", "update", "late", "cancel", "repeat", "conflict", "bad", "unknown-cancel"]
"""`late`: made before what is held, and sent after it. `conflict`: the same ids with other content. `bad`: refused by its format."""

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
    format: Format
    practice: str
    consents: bool
    stays: bool = False
    """The person is in hospital: the hospital's housing team holds the case."""
    refuses_first: bool = False
    """The practice's system refuses the first feedback about it for good: one feedback fails, as the seed wants it."""
    form: str = ""
    asker: str = ""
    """Who asked, as the form calls them."""
    over_http: bool = False
    verified: bool = True
    day: int = 5
    """Of November: when it was referred. Two referrals of one person have two days, so that no tie is decided by a reference."""
    names: str = ""
    """The housing authority that the person named."""
    beside: int = 0
    """Rows of other people in each of a council's files."""


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
    fails_check: bool = False
    """The NHS number's check digit is wrong: HL7 takes it, and triage has a look."""


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
        return sum(1 + referral.beside for person in self.people for referral in person.referrals)


def plan(seed: int, *, brokers: int = 1) -> Plan:
    """The plan of a seed."""
    random = Random(seed)
    races = seed % 4 == 0
    people = tuple(_person(random, seed, number, races) for number in range(PEOPLE))
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


PAIRS_OF_A_SEED = 5
AUTHORITIES = ("E07000130", "E07000132", "E07000135")


def _person(random: Random, seed: int, number: int, races: bool) -> Person:
    ways = _ways(random, seed, number)
    days = random.sample(range(1, 6), len(ways))
    referrals = tuple(_referral(random, way, day) for way, day in zip(ways, days, strict=True))
    outside = random.random() < 0.06
    fails = len(ways) == 1 and ways[0].format == "hl7" and random.random() < 0.15
    return Person(
        number=number,
        has_nhs_number=len(referrals) > 1 or random.random() < 0.85,
        postcode=OUTSIDE if outside else random.choice(POSTCODES),
        referrals=referrals,
        inputs=tuple(_inputs(random, referrals, races)),
        begins_at=round(random.uniform(0, SPREAD_SECONDS), 2),
        pause=round(random.uniform(0, 0.5), 2),
        fails_check=fails,
    )


def _ways(random: Random, seed: int, number: int) -> tuple[Way, ...]:
    """One source, or two. Pairs are dealt, not drawn: fifteen seeds have them all, in both orders."""
    at, is_single = divmod(number, 3)
    if is_single or at >= PAIRS_OF_A_SEED:
        return (random.choice(WAYS),)
    first, second = PAIRS[(seed * PAIRS_OF_A_SEED + at) * 31 % len(PAIRS)]
    one = random.choice([way for way in WAYS if way.source == first])
    others = [way for way in WAYS if way.source == second and way.partner != one.partner]
    if first == second == "council":
        others = [way for way in others if council(way.partner) in DATED]
    return one, random.choice(others or [way for way in WAYS if way.source == second])


def _referral(random: Random, way: Way, day: int) -> Referral:
    return Referral(
        partner=way.partner,
        format=way.format,
        practice=way.practice,
        consents=random.random() < 0.8,
        stays=way.form == "hospital-discharge" or (way.format == "hl7" and random.random() < 0.6),
        refuses_first=way.practice == "C82991" and random.random() < 0.12,
        form=way.form,
        asker=way.asker,
        over_http=way.over_http,
        verified=random.random() < 0.7,
        day=day,
        names=random.choice(AUTHORITIES) if way.form and random.random() < 0.1 else "",
        beside=random.choice((0, 1, 2)) if way.format == "csv" else 0,
    )


def _inputs(random: Random, referrals: tuple[Referral, ...], races: bool) -> Iterator[Say | Do]:
    """Each referral's own messages in order, the referrals' and the hub's mixed; a command only after the first message."""
    waiting = [list(_messages(random, at, one, races)) for at, one in enumerate(referrals)]
    works: list[Say | Do] = list(_commands(random, random.randrange(len(referrals))))
    begun = False
    while any(waiting) or works:
        ready = [one for one in waiting if one] + ([works] if works and begun else [])
        yield random.choice(ready).pop(0)
        begun = True


def _messages(random: Random, at: int, referral: Referral, races: bool) -> Iterator[Say | Do]:
    """Where the order is not certain, a sender without a time of its own cannot say what is newer: it says one thing only."""
    changes, cancels = _can_change(referral, races), can_cancel(referral.partner)
    if cancels and changes and random.random() < 0.06:
        yield Say(at, "unknown-cancel", 0)
    if random.random() < 0.06:
        yield Say(at, "bad", 0)
    content = 0
    yield Say(at, "new", content)
    while random.random() < 0.5:
        kind = random.choice([kind for kind in _MORE if changes or kind in ("repeat", "bad")])
        content += kind == "update"
        if said := _more(random, at, referral, kind, content):
            yield said
    if cancels and changes and random.random() < 0.18:
        yield from [Say(at, "cancel", content + 1)] * random.choice((1, 1, 2))
        if random.random() < 0.25:
            yield Say(at, "update", content + 2)


_MORE: tuple[Kind, ...] = ("update", "update", "update", "repeat", "repeat", "conflict", "late", "bad")


def _can_change(referral: Referral, races: bool) -> bool:
    return has_time(referral.partner) or not races


def _more(random: Random, at: int, referral: Referral, kind: Kind, content: int) -> Say | None:
    """A message of this kind, as far as the format has it."""
    match kind:
        case "conflict" if not can_conflict(referral.format):
            return None
        case "late" if not has_time(referral.partner):
            return None
        case "repeat":
            return Say(at, "repeat", random.randint(0, content) if has_time(referral.partner) else content)
        case _:
            return Say(at, kind, content)


def _commands(random: Random, at: int) -> Iterator[Say | Do]:
    for _ in range(random.choice((0, 2, 4, 6, 7))):
        yield Do(at, "next")
        if random.random() < 0.3:
            yield Do(at, random.choice(("again", "ahead", "wrong-hub", "accept-twice")))
