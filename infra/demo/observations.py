"""What was observed of every referral at its recipients, compared with its expected file. Pure: no clock, no network.

Nothing here comes from the sending script: only inboxes of hubs and recipients, mailboxes, the topic case.event,
intake's responses.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from infra.demo.examples import Example, ExampleStep, ExpectedOutcome
from infra.partner_simulators.send import SendResult, UploadReport


class ReferralSummary(NamedTuple):
    """The parts of a hub's view of one referral that an expectation can name."""

    provisional: bool = False
    stay: bool = False
    grant: Mapping[str, Any] = {}


NOTHING = ReferralSummary()


@dataclass(frozen=True)
class HubObservation:
    """One line of a hub's inbox."""

    hub: str
    kind: str
    case: str
    at: str
    role: str | None = None
    brief: ReferralSummary = NOTHING
    error: str | None = None


@dataclass(frozen=True)
class ReceivedFeedback:
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
    def label(self) -> str:
        return self.what or f"status {self.status}"


@dataclass
class ReferralTrace:
    """The observations of one referral."""

    reference: str
    case: str | None = None
    status: str | None = None
    home_hub: str | None = None
    reasons: tuple[str, ...] = ()
    hub_observations: list[HubObservation] = field(default_factory=list)
    feedbacks: list[ReceivedFeedback] = field(default_factory=list)

    def feedbacks_for(self, partner: str) -> list[ReceivedFeedback]:
        return [feedback for feedback in self.feedbacks if feedback.partner == partner]


@dataclass
class Observations:
    """All observations so far. `changes` counts new ones."""

    paths: dict[str, ReferralTrace] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    changes: int = 0
    roles: dict[tuple[str, str], str] = field(default_factory=dict)
    """By (case, hub): the hub's role in the last event that it received."""
    _recorded: set[tuple[str, ...]] = field(default_factory=set)

    def path(self, reference: str) -> ReferralTrace:
        return self.paths.setdefault(reference, ReferralTrace(reference))

    def is_new(self, *what: str) -> bool:
        """Return True the first time: a restarted process and MESH deliver duplicates."""
        if what in self._recorded:
            return False
        self._recorded.add(what)
        self.changes += 1
        return True

    def hub(self, observation: HubObservation, event_id: str, referrals: Mapping[str, ReferralSummary]) -> None:
        if not self.is_new("hub", observation.hub, event_id):
            return
        if observation.error:
            self.errors.append(f"hub {observation.hub}: {observation.error}")
        if observation.role:
            self.roles[observation.case, observation.hub] = observation.role
        for reference, brief in referrals.items():
            self.path(reference).hub_observations.append(replace(observation, brief=brief))

    def position(self, reference: str, case: str, position: Mapping[str, Any]) -> None:
        path = self.path(reference)
        path.case, path.status, path.home_hub = case, position["status"], position.get("home_hub")
        path.reasons = tuple(position.get("reasons", ()))
        self.changes += 1

    def holder(self, path: ReferralTrace) -> str | None:
        """Return the hub whose last event made it the holder of this referral's case, if it received the referral."""
        informed_hubs = {observation.hub for observation in path.hub_observations}
        holding = [hub for (case, hub), role in self.roles.items() if case == path.case and role == "holder"]
        return next((hub for hub in holding if hub in informed_hubs), None)

    def feedback(self, reference: str, received: ReceivedFeedback) -> None:
        if self.is_new("told", received.partner, received.id):
            self.path(reference).feedbacks.append(received)


# ---- comparison with the expected file -----------------------------------------------------------------------------------

Answers = Mapping[int, SendResult]
"""The response to each step of an example that was sent."""


def reference_of(example: Example, of: str, answers: Answers) -> str | None:
    """Return the reference that intake gave to a file of an example, or to a row of one (file#reference)."""
    file, _, row = of.partition("#")
    results = [answers[number] for number, step in _steps(example) if step.send == file and number in answers]
    made = ((one.rows.references.get(row) if one.rows else None) if row else one.reference for one in results)
    return next((reference for reference in made if reference), None)


def _steps(example: Example) -> Iterator[tuple[int, ExampleStep]]:
    return iter(enumerate(example.expected.steps))


def differences(example: Example, answers: Answers, observations: Observations) -> list[str]:
    """Return the differences from the example's file; empty if there are none."""
    problems = [line for number, step in _steps(example) for line in answer_differences(step, answers.get(number))]
    problems += _one_reference_each(example, answers)
    paths: list[ReferralTrace] = []
    for end in example.expected.ends:
        reference = reference_of(example, end.of, answers)
        if reference is None:
            problems.append(f"{end.of} did not get a reference")
            continue
        paths.append(observations.paths.get(reference, ReferralTrace(reference)))
        problems += [f"{end.of}: {line}" for line in _of_end(end, paths[-1], observations)]
    return [*problems, *_cases(example, paths)]


def _of_end(end: ExpectedOutcome, path: ReferralTrace, observations: Observations) -> Iterator[str]:
    yield from _at_the_hub(end, path, observations.holder(path))
    yield from _during_the_stay(end, path, observations)
    yield from _at_the_referrer(end, path)


def _cases(example: Example, paths: Sequence[ReferralTrace]) -> Iterator[str]:
    cases = len({path.case for path in paths})
    if example.expected.cases not in (None, cases):
        yield f"the referrals make {cases} cases, not {example.expected.cases}"


def answer_differences(step: ExampleStep, answer: SendResult | None) -> Iterator[str]:
    """Yield the differences of a response from its step."""
    if answer is None:
        yield f"{step.send} was not sent" + (f": its sender did not receive '{step.after}'" if step.after else "")
        return
    if answer.outcome != step.answer:
        yield f"{step.send}: the outcome was {answer.outcome}, not {step.answer} {_format_issues(answer)}".rstrip()
    elif step.fault and step.fault not in {issue.kind for issue in answer.issues}:
        yield f"{step.send}: no fault of kind {step.fault} was reported {_format_issues(answer)}".rstrip()
    elif step.place and step.place not in {issue.place for issue in answer.issues}:
        yield f"{step.send}: no fault was reported at {step.place} {_format_issues(answer)}".rstrip()
    if step.said and step.said not in answer.by.split():
        yield f"{step.send}: answered {answer.by}, not {step.said}"
    yield from _rows(step, answer)


def _rows(step: ExampleStep, answer: SendResult) -> Iterator[str]:
    if not step.rows:
        return
    counts = {what: count for what, count in (answer.rows.counts if answer.rows else {}).items() if count}
    counts.pop("rows", None)
    if counts != step.rows:
        yield f"{step.send}: the rows were {_format_counts(counts)}, not {_format_counts(step.rows)}"
    yield from _refused_rows(step, answer)


def _refused_rows(step: ExampleStep, answer: SendResult) -> Iterator[str]:
    rows = answer.rows or UploadReport({}, (), {})
    for what, expected, reported in (("fault", step.columns, rows.rejected), ("warning", step.warned, rows.warned)):
        columns = {row.source_reference: {issue.place for issue in row.issues} for row in reported}
        for reference, column in expected.items():
            if column not in columns.get(reference, ()):
                named = _listed(sorted(columns.get(reference, ())))
                yield f"{step.send}#{reference}: the {what} is not in column {column}, but in {named}"
        if len(columns) != len(expected):
            yield f"{step.send}: {len(columns)} rows have a {what}, not {len(expected)}"


def _format_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.items()) or "none"


def _format_issues(answer: SendResult) -> str:
    return "; ".join(f"({issue.place} {issue.kind})" for issue in answer.issues)


def _one_reference_each(example: Example, answers: Answers) -> Iterator[str]:
    """Yield files that got different references when they were sent again."""
    by_file: dict[str, set[str]] = defaultdict(set)
    for number, step in _steps(example):
        if number in answers and answers[number].reference:
            by_file[step.send].add(str(answers[number].reference))
    yield from (
        f"{file} got {len(references)} references" for file, references in by_file.items() if len(references) > 1
    )


def _at_the_hub(end: ExpectedOutcome, path: ReferralTrace, holder: str | None) -> Iterator[str]:
    if holder != end.hub:
        yield f"held by {holder or 'no hub'}, not {end.hub or 'none'}"
    if path.status != end.case.value:
        yield f"its case is {path.status or 'unknown'}, not {end.case.value}"
    if end.why and list(path.reasons) != [reason.value for reason in end.why]:
        yield f"routed because of {', '.join(path.reasons) or 'nothing'}, not {', '.join(end.why)}"
    missing = _first_missing(
        end.hub_hears, [observation.kind for observation in path.hub_observations if observation.hub == end.hub]
    )
    if missing:
        yield f"{end.hub} did not receive '{missing}' in the expected order"
    last = path.hub_observations[-1].brief if path.hub_observations else NOTHING
    if end.hub and path.hub_observations and last.provisional != end.provisional:
        yield f"the hub was {'not ' if end.provisional else ''}informed that the person is provisional"
    for what, expected in end.grant.items():
        if last.grant.get(what) != expected:
            yield f"the hub reads {what} {last.grant.get(what) or 'nothing'} of the grant, not {expected}"
    yield from _other_hubs(end, {observation.hub for observation in path.hub_observations})


def _other_hubs(end: ExpectedOutcome, informed: set[str]) -> Iterator[str]:
    allowed = set(end.hubs) if end.hubs is not None else set() if end.hub is None else informed
    if informed - allowed:
        yield f"{', '.join(sorted(informed - allowed))} received it"
    if end.hubs is not None and allowed - informed:
        yield f"{', '.join(sorted(allowed - informed))} did not receive it"


def _during_the_stay(end: ExpectedOutcome, path: ReferralTrace, observations: Observations) -> Iterator[str]:
    informed = {observation.hub for observation in path.hub_observations if observation.brief.stay}
    if informed != set(end.stay):
        yield f"the stay was sent to {_listed(sorted(informed))}, not to {_listed(end.stay)}"
    if end.follow_on is None:
        return
    if path.home_hub != end.follow_on:
        yield f"the home hub is {path.home_hub or 'none'}, not {end.follow_on}"
    if observations.roles.get((str(path.case), end.follow_on), "follow-on") != "follow-on":
        yield f"{end.follow_on} was not informed that it follows on"


def _first_missing(expected: Sequence[str], actual: Sequence[str]) -> str | None:
    rest = iter(actual)
    return next((kind for kind in expected if kind not in rest), None)


def _at_the_referrer(end: ExpectedOutcome, path: ReferralTrace) -> Iterator[str]:
    for partner, expected in end.heard.items():
        actual = [feedback.label for feedback in path.feedbacks_for(partner)]
        if actual != list(expected):
            yield f"{partner} received {_listed(actual)}, not {_listed(expected)}"
    for partner, expected in end.done.items():
        done = {act for feedback in path.feedbacks_for(partner) for act in feedback.done}
        if done != set(expected):
            yield f"{partner} received completed actions {_listed(sorted(done))}, not {_listed(sorted(expected))}"
    for partner in {feedback.partner for feedback in path.feedbacks} - end.heard.keys():
        yield f"{partner} received feedback but should not"
    if any(feedback.what is None and (feedback.done or feedback.names_person) for feedback in path.feedbacks):
        yield "a status-only message contains more than the status"


def _listed(items: Sequence[str]) -> str:
    return ", ".join(items) or "nothing"
