"""What was seen of every referral at its ends, and whether that is what its file says. Pure: no clock, no network.

Nothing here comes from the sender's script: hubs' inboxes, recipients' inboxes and mailboxes, the topic case.event, intake's answers.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from infra.demo.examples import End, Example, Step
from infra.send import Answer


@dataclass(frozen=True)
class HubHeard:
    """One line of a hub's inbox."""

    hub: str
    kind: str
    case: str
    at: str
    role: str | None = None
    provisional: bool = False
    fault: str | None = None


@dataclass(frozen=True)
class Told:
    """One feedback as its recipient has it. `what` is None in a status-only message."""

    partner: str
    id: str
    what: str | None
    status: str
    at: str
    done: tuple[str, ...] = ()
    via: str = ""
    names_person: bool = True

    @property
    def words(self) -> str:
        return self.what or f"status {self.status}"


@dataclass
class Path:
    """One referral's way, as far as it was seen."""

    reference: str
    case: str | None = None
    status: str | None = None
    why: tuple[str, ...] = ()
    hub_heard: list[HubHeard] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)

    @property
    def holder(self) -> str | None:
        """The hub that heard last that it holds the case."""
        held = [heard.hub for heard in self.hub_heard if heard.role == "holder"]
        return held[-1] if held else None

    def heard_by(self, partner: str) -> list[Told]:
        return [told for told in self.told if told.partner == partner]


@dataclass
class Seen:
    """Everything that was seen so far. `changes` counts what was new."""

    paths: dict[str, Path] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    changes: int = 0
    _known: set[tuple[str, ...]] = field(default_factory=set)

    def path(self, reference: str) -> Path:
        return self.paths.setdefault(reference, Path(reference))

    def is_new(self, *what: str) -> bool:
        """True the first time. A process that was started again, and MESH, say things twice."""
        if what in self._known:
            return False
        self._known.add(what)
        self.changes += 1
        return True

    def hub(self, heard: HubHeard, event_id: str, references: Iterable[str]) -> None:
        if not self.is_new("hub", heard.hub, event_id):
            return
        if heard.fault:
            self.faults.append(f"hub {heard.hub}: {heard.fault}")
        for reference in references:
            self.path(reference).hub_heard.append(heard)

    def position(self, reference: str, case: str, status: str, why: Sequence[str]) -> None:
        path = self.path(reference)
        path.case, path.status, path.why = case, status, tuple(why)
        self.changes += 1

    def feedback(self, reference: str, told: Told) -> None:
        if self.is_new("told", told.partner, told.id):
            self.path(reference).told.append(told)


# ---- as its file says? ---------------------------------------------------------------------------------------------------

Answers = Mapping[int, Answer]
"""The answer of each step of an example that was sent."""


def reference_of(example: Example, file: str, answers: Answers) -> str | None:
    """The reference that intake gave for a file of an example."""
    made = (answers[number].reference for number, step in _steps(example) if step.send == file and number in answers)
    return next((reference for reference in made if reference), None)


def _steps(example: Example) -> Iterator[tuple[int, Step]]:
    return iter(enumerate(example.expected.steps))


def differences(example: Example, answers: Answers, seen: Seen) -> list[str]:
    """What is not as the example's file says; empty where everything is."""
    found = [line for number, step in _steps(example) for line in _answer(step, answers.get(number))]
    found += _one_reference_each(example, answers)
    for end in example.expected.ends:
        reference = reference_of(example, end.of, answers)
        if reference is None:
            found.append(f"{end.of} got no reference")
            continue
        path = seen.paths.get(reference, Path(reference))
        found += [f"{end.of}: {line}" for line in (*_at_the_hub(end, path), *_at_the_referrer(end, path))]
    return found


def _answer(step: Step, answer: Answer | None) -> Iterator[str]:
    if answer is None:
        yield f"{step.send} was not sent" + (f": '{step.after}' was not heard" if step.after else "")
    elif answer.outcome != step.answer:
        yield f"{step.send}: the answer was {answer.outcome}, not {step.answer} {_faults(answer)}".rstrip()
    elif step.fault and step.fault not in {kind for _, kind, _ in answer.faults}:
        yield f"{step.send}: no fault of kind {step.fault} was named {_faults(answer)}".rstrip()


def _faults(answer: Answer) -> str:
    return "; ".join(f"({place} {kind})" for place, kind, _ in answer.faults)


def _one_reference_each(example: Example, answers: Answers) -> Iterator[str]:
    """A file that is sent again must be told the reference that it had."""
    given: dict[str, set[str]] = defaultdict(set)
    for number, step in _steps(example):
        if number in answers and answers[number].reference:
            given[step.send].add(str(answers[number].reference))
    yield from (f"{file} got {len(references)} references" for file, references in given.items() if len(references) > 1)


def _at_the_hub(end: End, path: Path) -> Iterator[str]:
    if path.holder != end.hub:
        yield f"held by {path.holder or 'no hub'}, not {end.hub or 'none'}"
    if path.status != end.case.value:
        yield f"its case is {path.status or 'unknown'}, not {end.case.value}"
    if end.why and list(path.why) != [reason.value for reason in end.why]:
        yield f"routed because of {', '.join(path.why) or 'nothing'}, not {', '.join(end.why)}"
    missing = _first_missing(end.hub_hears, [heard.kind for heard in path.hub_heard if heard.hub == end.hub])
    if missing:
        yield f"{end.hub} did not hear '{missing}' in its place"
    if end.hub and path.hub_heard and path.hub_heard[-1].provisional != end.provisional:
        yield f"the hub was {'not ' if end.provisional else ''}told that the person is uncertain"
    others = {heard.hub for heard in path.hub_heard} - {end.hub}
    if end.hub is None and others:
        yield f"{', '.join(sorted(others))} heard of it"


def _first_missing(expected: Sequence[str], heard: Sequence[str]) -> str | None:
    rest = iter(heard)
    return next((wanted for wanted in expected if wanted not in rest), None)


def _at_the_referrer(end: End, path: Path) -> Iterator[str]:
    for partner, expected in end.heard.items():
        heard = [told.words for told in path.heard_by(partner)]
        if heard != list(expected):
            yield f"{partner} heard {_listed(heard)}, not {_listed(expected)}"
    for partner, expected in end.done.items():
        done = {act for told in path.heard_by(partner) for act in told.done}
        if done != set(expected):
            yield f"{partner} heard of what was done: {_listed(sorted(done))}, not {_listed(sorted(expected))}"
    for partner in {told.partner for told in path.told} - end.heard.keys():
        yield f"{partner} heard of it and should not"
    if any(told.what is None and (told.done or told.names_person) for told in path.told):
        yield "a status-only message said more than the status"


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words) or "nothing"
