"""What was seen of every referral at its ends, and whether that is what its file says. Pure: no clock, no network.

Nothing here comes from the sender's script: hubs' inboxes, recipients' inboxes and mailboxes, the topic case.event, intake's answers.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from infra.demo.examples import End, Example, Step
from infra.send import Answer


class Brief(NamedTuple):
    """What a hub reads of one referral, as far as an expectation speaks of it."""

    provisional: bool = False
    stay: bool = False
    grant: Mapping[str, Any] = {}


NOTHING = Brief()


@dataclass(frozen=True)
class HubHeard:
    """One line of a hub's inbox."""

    hub: str
    kind: str
    case: str
    at: str
    role: str | None = None
    brief: Brief = NOTHING
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
    home_hub: str | None = None
    why: tuple[str, ...] = ()
    hub_heard: list[HubHeard] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)

    def heard_by(self, partner: str) -> list[Told]:
        return [told for told in self.told if told.partner == partner]


@dataclass
class Seen:
    """Everything that was seen so far. `changes` counts what was new."""

    paths: dict[str, Path] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    changes: int = 0
    roles: dict[tuple[str, str], str] = field(default_factory=dict)
    """By (case, hub): what the hub heard last that it is to the case."""
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

    def hub(self, heard: HubHeard, event_id: str, referrals: Mapping[str, Brief]) -> None:
        if not self.is_new("hub", heard.hub, event_id):
            return
        if heard.fault:
            self.faults.append(f"hub {heard.hub}: {heard.fault}")
        if heard.role:
            self.roles[heard.case, heard.hub] = heard.role
        for reference, brief in referrals.items():
            self.path(reference).hub_heard.append(replace(heard, brief=brief))

    def position(self, reference: str, case: str, position: Mapping[str, Any]) -> None:
        path = self.path(reference)
        path.case, path.status, path.home_hub = case, position["status"], position.get("home_hub")
        path.why = tuple(position.get("reasons", ()))
        self.changes += 1

    def holder(self, path: Path) -> str | None:
        """The hub that heard last of itself that it holds the case of this referral, and was told of the referral."""
        ours = {heard.hub for heard in path.hub_heard}
        holding = [hub for (case, hub), role in self.roles.items() if case == path.case and role == "holder"]
        return next((hub for hub in holding if hub in ours), None)

    def feedback(self, reference: str, told: Told) -> None:
        if self.is_new("told", told.partner, told.id):
            self.path(reference).told.append(told)


# ---- as its file says? ---------------------------------------------------------------------------------------------------

Answers = Mapping[int, Answer]
"""The answer of each step of an example that was sent."""


def reference_of(example: Example, of: str, answers: Answers) -> str | None:
    """The reference that intake gave for a file of an example, or for a row of one (file#reference)."""
    file, _, row = of.partition("#")
    given = [answers[number] for number, step in _steps(example) if step.send == file and number in answers]
    made = ((one.rows.references.get(row) if one.rows else None) if row else one.reference for one in given)
    return next((reference for reference in made if reference), None)


def _steps(example: Example) -> Iterator[tuple[int, Step]]:
    return iter(enumerate(example.expected.steps))


def differences(example: Example, answers: Answers, seen: Seen) -> list[str]:
    """What is not as the example's file says; empty where everything is."""
    found = [line for number, step in _steps(example) for line in answer_differences(step, answers.get(number))]
    found += _one_reference_each(example, answers)
    paths: list[Path] = []
    for end in example.expected.ends:
        reference = reference_of(example, end.of, answers)
        if reference is None:
            found.append(f"{end.of} got no reference")
            continue
        paths.append(seen.paths.get(reference, Path(reference)))
        found += [f"{end.of}: {line}" for line in _of_end(end, paths[-1], seen)]
    return [*found, *_cases(example, paths)]


def _of_end(end: End, path: Path, seen: Seen) -> Iterator[str]:
    yield from _at_the_hub(end, path, seen.holder(path))
    yield from _during_the_stay(end, path, seen)
    yield from _at_the_referrer(end, path)


def _cases(example: Example, paths: Sequence[Path]) -> Iterator[str]:
    cases = len({path.case for path in paths})
    if example.expected.cases not in (None, cases):
        yield f"the referrals make {cases} cases, not {example.expected.cases}"


def answer_differences(step: Step, answer: Answer | None) -> Iterator[str]:
    """What is not as the step says of the answer alone."""
    if answer is None:
        yield f"{step.send} was not sent" + (f": '{step.after}' was not heard" if step.after else "")
        return
    if answer.outcome != step.answer:
        yield f"{step.send}: the answer was {answer.outcome}, not {step.answer} {_faults(answer)}".rstrip()
    elif step.fault and step.fault not in {fault.kind for fault in answer.faults}:
        yield f"{step.send}: no fault of kind {step.fault} was named {_faults(answer)}".rstrip()
    elif step.place and step.place not in {fault.place for fault in answer.faults}:
        yield f"{step.send}: no fault was named at {step.place} {_faults(answer)}".rstrip()
    if step.said and step.said not in answer.by.split():
        yield f"{step.send}: answered {answer.by}, not {step.said}"
    yield from _rows(step, answer)


def _rows(step: Step, answer: Answer) -> Iterator[str]:
    if not step.rows:
        return
    counts = {what: count for what, count in (answer.rows.counts if answer.rows else {}).items() if count}
    counts.pop("rows", None)
    if counts != step.rows:
        yield f"{step.send}: the rows were {_counted(counts)}, not {_counted(step.rows)}"
    columns = {row.given: {fault.place for fault in row.faults} for row in (answer.rows.faulty if answer.rows else ())}
    for given, column in step.columns.items():
        if column not in columns.get(given, ()):
            named = _listed(sorted(columns.get(given, ())))
            yield f"{step.send}#{given}: the fault is not in column {column}, but in {named}"
    if len(columns) != len(step.columns):
        yield f"{step.send}: {len(columns)} rows were not taken, not {len(step.columns)}"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.items()) or "none"


def _faults(answer: Answer) -> str:
    return "; ".join(f"({fault.place} {fault.kind})" for fault in answer.faults)


def _one_reference_each(example: Example, answers: Answers) -> Iterator[str]:
    """A file that is sent again must be told the reference that it had."""
    given: dict[str, set[str]] = defaultdict(set)
    for number, step in _steps(example):
        if number in answers and answers[number].reference:
            given[step.send].add(str(answers[number].reference))
    yield from (f"{file} got {len(references)} references" for file, references in given.items() if len(references) > 1)


def _at_the_hub(end: End, path: Path, holder: str | None) -> Iterator[str]:
    if holder != end.hub:
        yield f"held by {holder or 'no hub'}, not {end.hub or 'none'}"
    if path.status != end.case.value:
        yield f"its case is {path.status or 'unknown'}, not {end.case.value}"
    if end.why and list(path.why) != [reason.value for reason in end.why]:
        yield f"routed because of {', '.join(path.why) or 'nothing'}, not {', '.join(end.why)}"
    missing = _first_missing(end.hub_hears, [heard.kind for heard in path.hub_heard if heard.hub == end.hub])
    if missing:
        yield f"{end.hub} did not hear '{missing}' in its place"
    last = path.hub_heard[-1].brief if path.hub_heard else NOTHING
    if end.hub and path.hub_heard and last.provisional != end.provisional:
        yield f"the hub was {'not ' if end.provisional else ''}told that the person is uncertain"
    for what, expected in end.grant.items():
        if last.grant.get(what) != expected:
            yield f"the hub reads {what} {last.grant.get(what) or 'nothing'} of the grant, not {expected}"
    yield from _other_hubs(end, {heard.hub for heard in path.hub_heard})


def _other_hubs(end: End, heard: set[str]) -> Iterator[str]:
    allowed = set(end.hubs) if end.hubs is not None else set() if end.hub is None else heard
    if heard - allowed:
        yield f"{', '.join(sorted(heard - allowed))} heard of it"
    if end.hubs is not None and allowed - heard:
        yield f"{', '.join(sorted(allowed - heard))} did not hear of it"


def _during_the_stay(end: End, path: Path, seen: Seen) -> Iterator[str]:
    told = {heard.hub for heard in path.hub_heard if heard.brief.stay}
    if told != set(end.stay):
        yield f"the stay was told to {_listed(sorted(told))}, not to {_listed(end.stay)}"
    if end.follow_on is None:
        return
    if path.home_hub != end.follow_on:
        yield f"{path.home_hub or 'no hub'} follows on, not {end.follow_on}"
    if seen.roles.get((str(path.case), end.follow_on), "follow-on") != "follow-on":
        yield f"{end.follow_on} was not told that it follows on"


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
