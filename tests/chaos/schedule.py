"""Which faults a seed has, and when: a few that overlap, and then one that stands alone. Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.seed import Person, Referral


@dataclass(frozen=True)
class Fault:
    """A fault by its name in faults.py; `aim` picks its victim."""

    name: str
    begins_at: float
    seconds: float
    aim: int


@dataclass(frozen=True)
class Kindred:
    """What the catalogue says of a fault: how long it lasts, what it cannot be beside, and how many brokers it needs."""

    shortest: float
    longest: float
    group: str = ""
    brokers: int = 1


CATALOGUE: dict[str, Kindred] = {
    "kill": Kindred(0, 0),
    "kill-both": Kindred(0, 0),
    "stop": Kindred(11.0, 12.5, "stop"),
    "stop-short": Kindred(2.0, 5.0),
    "loop-blocked": Kindred(11.0, 12.0, "stop"),
    "rolling-restart": Kindred(1.0, 1.0),
    "cut-kafka": Kindred(2.0, 6.0, "kafka"),
    "cut-postgres": Kindred(2.0, 6.0, "postgres"),
    "hang-kafka": Kindred(3.0, 9.0, "kafka"),
    "hang-postgres": Kindred(3.0, 9.0, "postgres"),
    "slow-kafka": Kindred(4.0, 9.0),
    "slow-postgres": Kindred(4.0, 9.0),
    "answer-lost-http": Kindred(5.0, 10.0),
    "answer-lost-mllp": Kindred(5.0, 10.0),
    "answer-lost-commit": Kindred(4.0, 8.0, "postgres"),
    "answer-lost-produce": Kindred(4.0, 8.0, "kafka"),
    "answer-lost-mesh": Kindred(5.0, 10.0, "mesh"),
    "answer-lost-fhir": Kindred(5.0, 10.0, "fhir"),
    "cut-mesh": Kindred(3.0, 6.0, "mesh"),
    "broker-killed": Kindred(1.0, 4.0, "kafka"),
    "postgres-killed": Kindred(0.5, 3.0, "postgres"),
    "sessions-ended": Kindred(0, 0),
    "serialization": Kindred(3.0, 7.0),
    "deadlock": Kindred(4.0, 7.0),
    "connections-exhausted": Kindred(2.0, 5.0, "postgres"),
    "endpoint-slow": Kindred(4.0, 8.0, "fhir"),
    "endpoint-fails": Kindred(3.0, 6.0, "fhir"),
    "endpoint-lies": Kindred(4.0, 8.0, "fhir"),
    "poison": Kindred(0, 0),
    "clock-skew": Kindred(5.0, 9.0),
    "disk-full-postgres": Kindred(2.0, 4.0, "postgres"),
    "disk-full-kafka": Kindred(1.0, 3.0, "kafka"),
    "leader-moved": Kindred(2.0, 5.0, "kafka", brokers=3),
}


# ---- faults that overlap ----------------------------------------------------------------------------------------------

LATEST_BEGIN, LATEST_END = 5.0, 13.5


def faults(seed: int, brokers: int) -> tuple[tuple[Fault, ...], Fault]:
    """Those that overlap, and the one that comes when they are over. Whoever else a seed has in it, its faults are the same."""
    random = Random(f"faults of {seed}")
    return tuple(_overlapping(random, brokers)), _alone(random, seed, brokers)


def _overlapping(random: Random, brokers: int) -> Iterator[Fault]:
    possible = [name for name, kind in CATALOGUE.items() if kind.brokers <= brokers]
    groups: set[str] = set()
    wanted = random.randint(3, 5)
    for name in random.sample(possible, len(possible)):
        kind = CATALOGUE[name]
        if kind.group and kind.group in groups:
            continue
        groups.add(kind.group)
        seconds = round(random.uniform(kind.shortest, kind.longest), 2)
        begins = round(random.uniform(0.5, min(LATEST_BEGIN, LATEST_END - seconds)), 2)
        yield Fault(name, begins, seconds, random.randrange(1_000))
        wanted -= 1
        if not wanted:
            return


# ---- the fault that stands alone --------------------------------------------------------------------------------------

LATE = 5
"""So many people begin with it."""

OF_THREE = ("broker-killed", "leader-moved", "hang-kafka", "broker-killed", "leader-moved", "disk-full-kafka")
ALONE: Mapping[int, Sequence[str]] = {1: [name for name, kind in CATALOGUE.items() if kind.brokers == 1], 3: OF_THREE}
"""By number of brokers: each has its turn, and then again, on the next service."""

MEETS: "Mapping[str, Callable[[Referral], bool]]" = {
    "answer-lost-mllp": lambda one: one.format == "hl7" and not getattr(one, "over_http", False),
    "mesh": lambda one: one.practice == "C82992",
    "fhir": lambda one: one.practice == "C82991",
}
"""Whose referrals a fault of this name or group needs, to find anything to do."""


def _alone(random: Random, seed: int, brokers: int) -> Fault:
    turn = seed // 10 if brokers == 3 else seed - seed // 10
    kinds = ALONE[brokers]
    name, service = kinds[turn % len(kinds)], turn // len(kinds)
    seconds = round(random.uniform(CATALOGUE[name].shortest, CATALOGUE[name].longest), 2)
    return Fault(name, 0.5, seconds, service + 3 * random.randrange(300))


def meeting(fault: Fault, people: "Sequence[Person]") -> frozenset[int]:
    """Those who begin with it: where it only meets some, they come first."""
    meets = MEETS.get(fault.name) or MEETS.get(CATALOGUE[fault.name].group) or (lambda _: True)
    ordered = sorted(people, key=lambda person: not any(map(meets, person.referrals)))
    return frozenset(person.number for person in ordered[:LATE])


def within(fault: Fault, part: float) -> float:
    """When somebody begins, on the clock of the fault that stands alone; `part` is from 0 to 1."""
    return round(part * max(fault.seconds, 1.0), 2)
