"""Generate the faults of a seed: a few that overlap, then one without overlap. No I/O."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.harness.plan import Person, Referral


@dataclass(frozen=True)
class PlannedFault:
    """A fault by its name in faults.py; `aim` selects the service, process or broker."""

    name: str
    begins_at: float
    seconds: float
    aim: int
    rows: int = 0
    """Of the load that comes with the fault; 0: as many as the fault's own number."""


@dataclass(frozen=True)
class FaultKind:
    """The properties of a fault: its duration, the group of faults that it must not overlap, and the number of brokers that it needs.

    `overlaps`: False for a fault that needs the whole installation, or an operator's work afterwards. A fault with more `weight` is
    drawn more often among those that overlap.
    """

    shortest: float
    longest: float
    group: str = ""
    brokers: int = 1
    overlaps: bool = True
    weight: int = 1
    effect_seconds: float = 60.0
    """How long an input may take that waits for its end, with the operator's work."""


CATALOGUE: dict[str, FaultKind] = {
    "kill": FaultKind(0, 0),
    "kill-both": FaultKind(0, 0),
    "stop": FaultKind(11.0, 12.5, "stop"),
    "stop-short": FaultKind(2.0, 5.0),
    "loop-blocked": FaultKind(11.0, 12.0, "stop"),
    "rolling-restart": FaultKind(1.0, 1.0),
    "cut-kafka": FaultKind(2.0, 6.0, "kafka"),
    "cut-postgres": FaultKind(2.0, 6.0, "postgres"),
    "hang-kafka": FaultKind(3.0, 9.0, "kafka"),
    "hang-postgres": FaultKind(3.0, 9.0, "postgres"),
    "slow-kafka": FaultKind(4.0, 9.0),
    "slow-postgres": FaultKind(4.0, 9.0),
    "answer-lost-http": FaultKind(5.0, 10.0),
    "answer-lost-mllp": FaultKind(5.0, 10.0),
    "answer-lost-commit": FaultKind(4.0, 8.0, "postgres"),
    "answer-lost-produce": FaultKind(4.0, 8.0, "kafka"),
    "answer-lost-mesh": FaultKind(5.0, 10.0, "mesh"),
    "answer-lost-fhir": FaultKind(5.0, 10.0, "fhir"),
    "cut-mesh": FaultKind(3.0, 6.0, "mesh"),
    "broker-killed": FaultKind(1.0, 4.0, "kafka"),
    "postgres-killed": FaultKind(0.5, 3.0, "postgres"),
    "sessions-ended": FaultKind(0, 0),
    "serialization": FaultKind(3.0, 7.0),
    "deadlock": FaultKind(4.0, 7.0),
    "connections-exhausted": FaultKind(2.0, 5.0, "postgres"),
    "endpoint-slow": FaultKind(4.0, 8.0, "fhir"),
    "endpoint-fails": FaultKind(3.0, 6.0, "fhir"),
    "endpoint-lies": FaultKind(4.0, 8.0, "fhir"),
    "poison": FaultKind(0, 0),
    "clock-skew": FaultKind(5.0, 9.0),
    "disk-full-postgres": FaultKind(2.0, 4.0, "postgres"),
    "disk-full-kafka": FaultKind(1.0, 3.0, "kafka"),
    "leader-moved": FaultKind(2.0, 5.0, "kafka", brokers=3),
    "hot-key": FaultKind(1.0, 2.0),
    "commands-malformed": FaultKind(1.0, 2.0, "hub"),
    "commands-flood": FaultKind(11.0, 12.0, "hub"),
    "recipient-slow": FaultKind(11.0, 12.0, "fhir"),
    "topic-refuses": FaultKind(11.0, 12.0, "hub"),
    "postgres-read-only": FaultKind(13.0, 13.4, "postgres", weight=3),
    "postgres-flapping": FaultKind(4.0, 8.0, "postgres", weight=3),
    "table-renamed": FaultKind(3.0, 5.0, "postgres", weight=3),
    "records-deleted": FaultKind(3.0, 6.0, overlaps=False),
    "servers-away-at-start": FaultKind(4.0, 7.0, overlaps=False),
    "endpoint-redirects": FaultKind(4.0, 8.0, "fhir", weight=2),
    "endpoint-not-found": FaultKind(4.0, 8.0, "fhir", weight=2),
    "address-missing": FaultKind(3.0, 5.0, overlaps=False),
    "restore": FaultKind(4.0, 7.0, overlaps=False, effect_seconds=180.0),
}


def effect_seconds(names: Iterable[str]) -> float:
    """Return how long an effect may take in a plan with these faults."""
    return max((CATALOGUE[name].effect_seconds for name in names), default=FaultKind.effect_seconds)


# ---- faults that overlap ----------------------------------------------------------------------------------------------

LATEST_BEGIN, LATEST_END = 5.0, 13.5


def faults(seed: int, brokers: int) -> tuple[tuple[PlannedFault, ...], PlannedFault]:
    """Return the faults that overlap, and the one without overlap. They depend on the seed only, not on the persons."""
    random = Random(f"faults of {seed}")
    return tuple(_overlapping(random, brokers)), _last_fault(random, seed, brokers)


def _overlapping(random: Random, brokers: int) -> Iterator[PlannedFault]:
    possible = [name for name, kind in CATALOGUE.items() if kind.brokers <= brokers and kind.overlaps]
    weighted = [name for name in possible for _ in range(CATALOGUE[name].weight)]
    groups: set[str] = set()
    wanted = random.randint(3, 5)
    for name in random.sample(weighted, len(weighted)):
        kind = CATALOGUE[name]
        if (kind.group or name) in groups:
            continue
        groups.add(kind.group or name)
        seconds = round(random.uniform(kind.shortest, kind.longest), 2)
        begins = round(random.uniform(0.5, min(LATEST_BEGIN, LATEST_END - seconds)), 2)
        yield PlannedFault(name, begins, seconds, random.randrange(1_000))
        wanted -= 1
        if not wanted:
            return


# ---- the fault that stands alone --------------------------------------------------------------------------------------

LATE_PERSONS = 5
"""The number of persons whose inputs begin with the last fault."""

LAST_FAULTS_3_BROKERS = (
    "broker-killed",
    "leader-moved",
    "hang-kafka",
    "broker-killed",
    "leader-moved",
    "disk-full-kafka",
)
LAST_FAULTS: Mapping[int, Sequence[str]] = {
    1: [name for name, kind in CATALOGUE.items() if kind.brokers == 1],
    3: LAST_FAULTS_3_BROKERS,
}
"""The last faults by number of brokers. Seeds take them in turn, each round with the next service."""

AFFECTED_REFERRALS: "Mapping[str, Callable[[Referral], bool]]" = {
    "answer-lost-mllp": lambda one: one.format == "hl7" and not getattr(one, "over_http", False),
    "mesh": lambda one: one.practice == "C82992",
    "fhir": lambda one: one.practice == "C82991",
    "recipient-slow": lambda one: one.practice not in ("", "C82991"),
    "address-missing": lambda one: one.practice == "C82991",
}
"""The referrals that a fault of this name or group affects."""


def _last_fault(random: Random, seed: int, brokers: int) -> PlannedFault:
    turn = seed // 10 if brokers == 3 else seed - seed // 10
    kinds = LAST_FAULTS[brokers]
    name, service = kinds[turn % len(kinds)], turn // len(kinds)
    seconds = round(random.uniform(CATALOGUE[name].shortest, CATALOGUE[name].longest), 2)
    return PlannedFault(name, 0.5, seconds, service + 3 * random.randrange(300))


def persons_affected(fault: PlannedFault, persons: "Sequence[Person]") -> frozenset[int]:
    """Return the persons whose inputs begin with the last fault; those whom it affects come first."""
    meets = (
        AFFECTED_REFERRALS.get(fault.name) or AFFECTED_REFERRALS.get(CATALOGUE[fault.name].group) or (lambda _: True)
    )
    ordered = sorted(persons, key=lambda person: not any(map(meets, person.referrals)))
    return frozenset(person.number for person in ordered[:LATE_PERSONS])


def begin_within(fault: PlannedFault, part: float) -> float:
    """Return when a person begins, in seconds after the start of the last fault; `part` is from 0 to 1."""
    return round(part * max(fault.seconds, 1.0), 2)
