"""One integer becomes a plan: who is referred by whom, what is sent and commanded in which order, and which faults happen when. Pure.

A plan names nobody: ids, NHS numbers and message ids are made of it when it is played (senders.py), so that the same plan can be
played twice side by side, with faults and without.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from tests.chaos.harness import schedule
from tests.chaos.harness.schedule import PlannedFault
from tests.chaos.harness.workload import (
    SENDERS,
    SOURCE_PAIRS,
    WITH_REFERRAL_DATE,
    Format,
    SenderProfile,
    can_cancel,
    can_conflict,
    council,
    has_time_of_change,
)

PERSONS = 16
SPREAD_SECONDS = 7.0
"""Over this time people begin to be referred, so that every fault meets work."""

POSTCODES = ("LE19 2GX", "LE11 3HH", "LE16 7DR", "LE10 1DU", "LE13 0JJ", "LE67 3BY", "LE18 2HZ")
"""One of each district of the county."""

OUTSIDE = "LE5 5HN"
"""In the city: returned to the referrer by rule."""

MessageKind = Literal["new", "update", "late", "cancel", "repeat", "conflict", "bad", "unknown-cancel"]
"""`late`: made before what is held, and sent after it. `conflict`: the same ids with other content. `bad`: refused by its format."""

CommandVariant = Literal["next", "again", "ahead", "wrong-hub", "accept-twice", "hold"]


@dataclass(frozen=True)
class SendMessage:
    """A message of a sender: of which referral of the person, and with which content (counted from 0)."""

    referral: int
    kind: MessageKind
    content: int


@dataclass(frozen=True)
class InjectCommand:
    """A command of the hub that holds the case of this referral. `next` is the next step that makes sense; others are as they say."""

    referral: int
    how: CommandVariant


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
    other_rows: int = 0
    """Rows of other people in each of a council's files."""


@dataclass(frozen=True)
class Person:
    """One person key, and what happens to it, in order."""

    number: int
    has_nhs_number: bool
    postcode: str
    referrals: tuple[Referral, ...]
    inputs: tuple[SendMessage | InjectCommand, ...]
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
    persons: tuple[Person, ...]
    faults: tuple[PlannedFault, ...]
    last: PlannedFault | None = None
    late: frozenset[int] = frozenset()

    @property
    def referrals(self) -> int:
        return sum(1 + referral.other_rows for person in self.persons for referral in person.referrals)


def generate_plan(seed: int, *, brokers: int = 1) -> Plan:
    """The plan of a seed."""
    random = Random(seed)
    races = seed % 4 == 0
    persons = tuple(_person(random, seed, number, races) for number in range(PERSONS))
    faults, last = schedule.faults(seed, brokers)
    late = schedule.persons_affected(last, persons)
    persons = tuple(
        replace(person, begins_at=schedule.begin_within(last, person.begins_at / SPREAD_SECONDS))
        if person.number in late
        else person
        for person in persons
    )
    return Plan(seed, races, persons, faults, last, late)


# ---- people -----------------------------------------------------------------------------------------------------------


SOURCE_PAIRS_PER_SEED = 5
AUTHORITIES = ("E07000130", "E07000132", "E07000135")


def _person(random: Random, seed: int, number: int, races: bool) -> Person:
    senders = _senders_of_person(random, seed, number)
    days = random.sample(range(1, 6), len(senders))
    referrals = tuple(_referral(random, sender, day) for sender, day in zip(senders, days, strict=True))
    outside = random.random() < 0.06
    fails = len(senders) == 1 and senders[0].format == "hl7" and random.random() < 0.15
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


def _senders_of_person(random: Random, seed: int, number: int) -> tuple[SenderProfile, ...]:
    """One source, or two. Pairs are dealt, not drawn: fifteen seeds have them all, in both orders."""
    at, is_single = divmod(number, 3)
    if is_single or at >= SOURCE_PAIRS_PER_SEED:
        return (random.choice(SENDERS),)
    first, second = SOURCE_PAIRS[(seed * SOURCE_PAIRS_PER_SEED + at) * 31 % len(SOURCE_PAIRS)]
    one = random.choice([sender for sender in SENDERS if sender.source == first])
    others = [sender for sender in SENDERS if sender.source == second and sender.partner != one.partner]
    if first == second == "council":
        others = [sender for sender in others if council(sender.partner) in WITH_REFERRAL_DATE]
    return one, random.choice(others or [sender for sender in SENDERS if sender.source == second])


def _referral(random: Random, sender: SenderProfile, day: int) -> Referral:
    return Referral(
        partner=sender.partner,
        format=sender.format,
        practice=sender.practice,
        consents=random.random() < 0.8,
        stays=sender.form == "hospital-discharge" or (sender.format == "hl7" and random.random() < 0.6),
        refuses_first=sender.practice == "C82991" and random.random() < 0.12,
        form=sender.form,
        asker=sender.asker,
        over_http=sender.over_http,
        verified=random.random() < 0.7,
        day=day,
        names=random.choice(AUTHORITIES) if sender.form and random.random() < 0.1 else "",
        other_rows=random.choice((0, 1, 2)) if sender.format == "csv" else 0,
    )


def _inputs(random: Random, referrals: tuple[Referral, ...], races: bool) -> Iterator[SendMessage | InjectCommand]:
    """Each referral's own messages in order, the referrals' and the hub's mixed; a command only after the first message."""
    waiting = [list(_messages(random, at, one, races)) for at, one in enumerate(referrals)]
    works: list[SendMessage | InjectCommand] = list(_commands(random, random.randrange(len(referrals))))
    begun = False
    while any(waiting) or works:
        ready = [one for one in waiting if one] + ([works] if works and begun else [])
        yield random.choice(ready).pop(0)
        begun = True


def _messages(random: Random, at: int, referral: Referral, races: bool) -> Iterator[SendMessage | InjectCommand]:
    """Where the order is not certain, a sender without a time of its own cannot say what is newer: it says one thing only."""
    changes, cancels = _can_change(referral, races), can_cancel(referral.partner)
    if cancels and changes and random.random() < 0.06:
        yield SendMessage(at, "unknown-cancel", 0)
    if random.random() < 0.06:
        yield SendMessage(at, "bad", 0)
    content = 0
    yield SendMessage(at, "new", content)
    while random.random() < 0.5:
        kind = random.choice([kind for kind in _MORE if changes or kind in ("repeat", "bad")])
        content += kind == "update"
        if said := _more(random, at, referral, kind, content):
            yield said
    if cancels and changes and random.random() < 0.18:
        yield from [SendMessage(at, "cancel", content + 1)] * random.choice((1, 1, 2))
        if random.random() < 0.25:
            yield SendMessage(at, "update", content + 2)


_MORE: tuple[MessageKind, ...] = ("update", "update", "update", "repeat", "repeat", "conflict", "late", "bad")


def _can_change(referral: Referral, races: bool) -> bool:
    return has_time_of_change(referral.partner) or not races


def _more(random: Random, at: int, referral: Referral, kind: MessageKind, content: int) -> SendMessage | None:
    """A message of this kind, as far as the format has it."""
    match kind:
        case "conflict" if not can_conflict(referral.format):
            return None
        case "late" if not has_time_of_change(referral.partner):
            return None
        case "repeat":
            return SendMessage(
                at, "repeat", random.randint(0, content) if has_time_of_change(referral.partner) else content
            )
        case _:
            return SendMessage(at, kind, content)


def _commands(random: Random, at: int) -> Iterator[SendMessage | InjectCommand]:
    for _ in range(random.choice((0, 2, 4, 6, 7))):
        yield InjectCommand(at, "next")
        if random.random() < 0.3:
            yield InjectCommand(at, random.choice(("again", "ahead", "wrong-hub", "accept-twice")))
