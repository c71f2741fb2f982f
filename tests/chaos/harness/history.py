"""What a run did and was told: every message with its last answer, every command, every fault, and when effects were seen."""

import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Message:
    """One message to intake. `place`: which input of its person it is."""

    person: int
    referral: int
    place: int
    kind: str
    partner: str
    path: str
    request_id: str
    correlation_id: str
    body: bytes
    mark: bytes
    """Stands in the body of this message and of its repeats, and in no other."""
    row: str = ""
    """In a council's file: the reference of the row that is meant."""
    other_rows: tuple[tuple[int, str], ...] = ()
    """Other people's rows in the same file: a number for each, and the row's reference."""


@dataclass(frozen=True)
class Answer:
    """A message, and the answer that ended its sending. It is an acknowledgement where it says that the message is ours."""

    message: Message
    is_acknowledged: bool
    status: int
    code: str
    reference: str | None


@dataclass(frozen=True)
class SentCommand:
    """A command as it was put on a hub's topic."""

    person: int
    place: int
    how: str
    id: str
    hub: str
    case_id: str


@dataclass
class Wait:
    """One input and its effect, in seconds of this process's clock."""

    person: int
    place: int
    begun: float
    seen: float | None = None


@dataclass
class InjectedFault:
    """A fault as it happened."""

    name: str
    target: str
    begun: float
    ended: float | None = None
    alone: bool = False
    """No other fault was near: the recovery is its own."""
    met: int = 0
    what: str = ""
    """What it was seen to do, so many times."""
    delivered_after: float | None = None
    """Seconds from its end until all feedback was delivered that was due then."""


@dataclass
class History:
    """Of one run of a plan."""

    answers: list[Answer] = field(default_factory=list)
    commands: list[SentCommand] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    faults: list[InjectedFault] = field(default_factory=list)
    poison: list[str] = field(default_factory=list)
    """Marks of poisoned records: each must be parked once, and nothing else."""
    notes: list[str] = field(default_factory=list)
    attempts: int = 0
    unanswered: int = 0
    lost_replies: int = 0
    phases: dict[str, float] = field(default_factory=dict)
    """Seconds that each part of the run took."""
    faults_over: float = 0.0
    quiescent_at: float = 0.0

    def begins(self, person: int, place: int) -> Wait:
        waited = Wait(person, place, time.monotonic())
        self.waits.append(waited)
        return waited

    def recovery(self, fault: InjectedFault) -> float | None:
        """Seconds from the end of a fault until all that waited then, or began in the second after, had its effect.

        None where another fault came between: it would not be this one's recovery.
        """
        if fault.ended is None:
            return None
        ended = fault.ended
        seen = [w.seen or self.quiescent_at for w in self.waits if w.begun <= ended + 1]
        over = max((when for when in seen if when > ended), default=ended)
        if any(o is not fault and o.begun < over and (o.ended or over) > ended for o in self.faults):
            return None
        return over - ended
