"""The history of a run: each message with its last answer, each command, each fault, and the times of observed effects."""

import time
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class Message:
    """One message to intake. `place`: the index of the input of its person."""

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
    """Part of the body of this message and of its repeats, and of no other."""
    row: str = ""
    """In a council's file: the reference of the row that is meant."""
    other_rows: tuple[tuple[int, str], ...] = ()
    """Rows of other persons in the same file: a number for each, and the row's reference."""


@dataclass(frozen=True)
class Answer:
    """A message, and its last answer; an acknowledgement if the receiver has accepted the message."""

    message: Message
    is_acknowledged: bool
    status: int
    code: str
    reference: str | None


@dataclass(frozen=True)
class SentCommand:
    """A command as sent on a hub's topic."""

    person: int
    place: int
    how: str
    id: str
    hub: str
    case_id: str


@dataclass
class Wait:
    """The times of one input and its effect, in seconds of the monotonic clock."""

    person: int
    place: int
    begun: float
    seen: float | None = None


@dataclass
class InjectedFault:
    """An injected fault with its times."""

    name: str
    target: str
    begun: float
    ended: float | None = None
    alone: bool = False
    """No other fault overlaps it, so the recovery time is its own."""
    met: int = 0
    what: str = ""
    """What `met` counts."""
    delivered_after: float | None = None
    """Seconds from its end until all feedback that was due then was delivered."""
    holds: str | None = None
    """The topic or recipient that waits for the end of the fault, or "" for none; everybody else must not wait (I9). None: all may."""
    grace: float = 0.0
    """Seconds after its beginning in which everybody may wait."""
    began_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True)
class MalformedCommand:
    """A record on a hub's command topic that is no valid command and names its person: it must be refused once."""

    hub: str
    person_key: str
    id: str | None
    """Of the event; None if its header is missing."""


@dataclass
class History:
    """The history of one run of a plan."""

    answers: list[Answer] = field(default_factory=list)
    commands: list[SentCommand] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    faults: list[InjectedFault] = field(default_factory=list)
    poison: list[str] = field(default_factory=list)
    """Marks of poisoned records: each must become one dead letter, and no other record may."""
    floods: list[str] = field(default_factory=list)
    """Marks of records that flooded a topic: some of them may become dead letters."""
    paused: set[str] = field(default_factory=set)
    """Topics that a process said it read no further."""
    malformed: list[MalformedCommand] = field(default_factory=list)
    held_against_senders: list[str] = field(default_factory=list)
    """Messages that were refused because they could not be stored: an error of the database was taken for one of their data (I11)."""
    said_ready: list[tuple[str, str]] = field(default_factory=list)
    """A fault during which a service can do nothing, or does not know everything, and a process that said it was ready (I11)."""
    ended_by_themselves: list[str] = field(default_factory=list)
    """Processes that ended while they had to wait for their servers (I11)."""
    repeats_before_restore: int = 0
    """How often the practice's endpoint had been sent feedback again when an older copy of the database was restored."""
    notes: list[str] = field(default_factory=list)
    attempts: int = 0
    unanswered: int = 0
    lost_replies: int = 0
    phases: dict[str, float] = field(default_factory=dict)
    """Duration of each part of the run in seconds."""
    faults_over: float = 0.0
    quiescent_at: float = 0.0

    def begins(self, person: int, place: int) -> Wait:
        waited = Wait(person, place, time.monotonic())
        self.waits.append(waited)
        return waited

    def recovery(self, fault: InjectedFault) -> float | None:
        """Return the seconds from the end of a fault until all inputs that waited then, or began in the next second, had their effect.

        Return None if another fault overlapped.
        """
        if fault.ended is None:
            return None
        ended = fault.ended
        seen = [w.seen or self.quiescent_at for w in self.waits if w.begun <= ended + 1]
        over = max((when for when in seen if when > ended), default=ended)
        if any(o is not fault and o.begun < over and (o.ended or over) > ended for o in self.faults):
            return None
        return over - ended

    def overlaps(self, fault: InjectedFault) -> bool:
        """Return whether another fault stood at some time during this one."""
        ended = fault.ended or self.quiescent_at
        return any(o is not fault and o.begun < ended and (o.ended or ended) > fault.begun for o in self.faults)
