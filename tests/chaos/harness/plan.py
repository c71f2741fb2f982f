"""Generate the plan of a seed: referrals, the order of messages and commands, and faults with their times. No I/O.

A plan holds no ids, NHS numbers or message ids. These are made when it is run (messages.py), so that a plan can run several times.
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
"""The first inputs of the persons are spread over this time, so that each fault affects some."""

POSTCODES = ("LE19 2GX", "LE11 3HH", "LE16 7DR", "LE10 1DU", "LE13 0JJ", "LE67 3BY", "LE18 2HZ")
"""One in each district of the county."""

OUTSIDE = "LE5 5HN"
"""In the city: rejected by a rule."""

MessageKind = Literal[
    "new", "update", "late", "cancel", "repeat", "conflict", "bad", "stranger", "unknown-cancel", "adt", "adt-stranger"
]
"""`late`: older than the stored one, and sent after it. `conflict`: the same ids with other content. `bad`: refused by its format.
`stranger`: an update that names another person (FHIR: refused; HL7 v2: acknowledged, not applied). HL7 v2 only: `adt`, a transfer of the
referral's stay; `adt-stranger`, one of somebody who was never referred."""

CommandVariant = Literal["next", "again", "ahead", "wrong-hub", "accept-twice", "part", "hold", "book", "report-death"]


@dataclass(frozen=True)
class SendMessage:
    """Send a message about a referral of the person, with this content (counted from 0)."""

    referral: int
    kind: MessageKind
    content: int


@dataclass(frozen=True)
class InjectCommand:
    """Inject a command of the hub that holds the referral's case.

    `next` is the next valid step, and `part` completes one need alone; `book` and `report-death` are sent as they are; the others are
    invalid or repeated.
    """

    referral: int
    how: CommandVariant


@dataclass(frozen=True)
class Referral:
    """A referral: `partner` sends it, `practice` is the referring organisation."""

    partner: str
    format: Format
    practice: str
    consents: bool
    stays: bool = False
    """The person is in hospital: the hospital's housing team holds the case."""
    refuses_first: bool = False
    """The practice's system rejects the first feedback about it permanently: this one feedback fails as planned."""
    form: str = ""
    asker: str = ""
    """The referrer in the form's words."""
    over_http: bool = False
    restricted: bool = False
    """The person's data are restricted (BaRS only)."""
    verified: bool = True
    day: int = 5
    """The day of the referral in November. Two referrals of a person have different days, so that their order is certain."""
    names: str = ""
    """The housing authority that the person stated."""
    other_rows: int = 0
    """The number of rows of other persons in each file of a council."""


@dataclass(frozen=True)
class Person:
    """A person, and the inputs about the person in order."""

    number: int
    has_nhs_number: bool
    postcode: str
    referrals: tuple[Referral, ...]
    inputs: tuple[SendMessage | InjectCommand, ...]
    begins_at: float
    pause: float
    fails_check: bool = False
    """The NHS number has a wrong check digit: HL7 accepts it, and the case goes to central triage."""


@dataclass(frozen=True)
class Plan:
    """All operations and faults of a run. If `races`, the inputs of a person are sent at the same time: I8 cannot be checked.

    `last` is a fault without overlap: it begins when the work that the others delayed is done. The persons in `late` begin with
    it, so that it affects inputs, and its recovery time is not that of another fault.
    """

    seed: int
    races: bool
    persons: tuple[Person, ...]
    faults: tuple[PlannedFault, ...]
    last: PlannedFault | None = None
    late: frozenset[int] = frozenset()
    brokers: int = 1
    baseline: bool = True
    """The plan first runs without faults, and the final states are compared (I8)."""
    effect_seconds: float = 60.0
    """How long an effect may take: longer than all faults and their recovery."""
    quiescence_seconds: float = 60.0
    """How long the installation may take until nothing is unpublished, unread or due."""
    name: str = ""
    """Of a recorded plan: its file's name."""

    @property
    def has_baseline(self) -> bool:
        return self.baseline and not self.races

    @property
    def label(self) -> str:
        return self.name or f"seed-{self.seed}"

    @property
    def referrals(self) -> int:
        return sum(1 + referral.other_rows for person in self.persons for referral in person.referrals)


def generate_plan(seed: int, *, brokers: int = 1) -> Plan:
    """Return the plan of a seed."""
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
    patience = schedule.effect_seconds(fault.name for fault in (*faults, last))
    return Plan(seed, races, persons, faults, last, late, brokers, effect_seconds=patience)


# ---- persons ----------------------------------------------------------------------------------------------------------


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
    """Return one or two senders. Pairs of sources are assigned in turn: fifteen seeds have all of them, in both orders."""
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
    """Yield the messages of each referral in order, mixed with commands; a command never comes first."""
    waiting = [list(_messages(random, at, one, races)) for at, one in enumerate(referrals)]
    works: list[SendMessage | InjectCommand] = list(_commands(random, random.randrange(len(referrals))))
    begun = False
    while any(waiting) or works:
        ready = [one for one in waiting if one] + ([works] if works and begun else [])
        yield random.choice(ready).pop(0)
        begun = True


def _messages(random: Random, at: int, referral: Referral, races: bool) -> Iterator[SendMessage | InjectCommand]:
    """Yield the messages of a referral.

    In a race, a sender without a time of change sends one content only, and a ward whole messages only (every second content): a partial
    one that came first would be of a person who is not known to be in hospital.
    """
    changes, cancels = _can_change(referral, races), can_cancel(referral.partner)
    step = 2 if races and referral.format == "hl7" and referral.stays else 1
    if cancels and changes and random.random() < 0.06:
        yield SendMessage(at, "unknown-cancel", 0)
    if random.random() < 0.06:
        yield SendMessage(at, "bad", 0)
    content = 0
    yield SendMessage(at, "new", content)
    more = [
        kind
        for kind in (*_MORE, *(_OF_STAYS if _has_adt(referral, races) else ()))
        if changes or kind in ("repeat", "bad")
    ]
    while random.random() < (0.72 if referral.format == "hl7" else 0.5):
        kind = random.choice(more)
        content += step if kind == "update" else 0
        if message := _more(random, at, referral, kind, content, step):
            yield message
    if referral.format in ("bars", "hl7") and not races and referral.day % 3 == 0:
        yield SendMessage(at, "stranger", content)
    if cancels and changes and random.random() < 0.18:
        yield from [SendMessage(at, "cancel", content + 1)] * random.choice((1, 1, 2))
        if random.random() < 0.25:
            yield SendMessage(at, "update", content + 2)


_MORE: tuple[MessageKind, ...] = ("update", "update", "update", "repeat", "repeat", "conflict", "late", "bad")
_OF_STAYS: tuple[MessageKind, ...] = ("adt", "adt", "adt", "adt", "adt-stranger", "adt-stranger")


def _has_adt(referral: Referral, races: bool) -> bool:
    """Return whether ADT is sent about a referral. In a race it might come before the referral, and then concern nobody."""
    return referral.format == "hl7" and referral.stays and not races


def _can_change(referral: Referral, races: bool) -> bool:
    return has_time_of_change(referral.partner) or not races


def _more(
    random: Random, at: int, referral: Referral, kind: MessageKind, content: int, step: int
) -> SendMessage | None:
    """Return a message of this kind; None if the format does not support it."""
    match kind:
        case "conflict" if not can_conflict(referral.format):
            return None
        case "late" if not has_time_of_change(referral.partner):
            return None
        case "adt" if content > 1:  # the stay is over
            return None
        case "repeat":
            return SendMessage(
                at,
                "repeat",
                random.randrange(0, content + 1, step) if has_time_of_change(referral.partner) else content,
            )
        case _:
            return SendMessage(at, kind, content)


def _commands(random: Random, at: int) -> Iterator[SendMessage | InjectCommand]:
    for done in range(random.choice((0, 2, 4, 6, 7))):
        yield InjectCommand(at, "next")
        if random.random() < 0.3:
            how: CommandVariant = random.choice(("again", "ahead", "wrong-hub", "accept-twice"))
            yield InjectCommand(at, "part" if how == "again" and done > 1 else how)
