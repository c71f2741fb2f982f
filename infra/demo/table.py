"""Draw the observations: one table, live while the demo runs, and the same at the end."""

from collections.abc import Mapping, Sequence
from itertools import groupby

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from infra.demo import summary_row
from infra.demo.examples import Example, ExpectedOutcome, format_of
from infra.demo.observations import Answers, Observations, ReceivedFeedback, ReferralTrace, differences, reference_of

WIDTHS = {"hub (reasons)": 1, "last feedback": 1, "outcomes": 3, "cases": 1, "feedback": 2}
"""Shares of the width that the other columns leave."""

AllAnswers = Mapping[str, Answers]
"""By example: the response to each step that was sent."""

STYLES = {"accepted": "green", "duplicate": "green", "conflict": "yellow", "refused": "yellow"}


def page(examples: Sequence[Example], answers: AllAnswers, observations: Observations, *, final: bool) -> Group:
    """Return two tables: the people one by one, then a row for each group of similar files."""
    people = [example for example in examples if example.expected.fold is None]
    return Group(
        _people(people, answers, observations, final=final),
        Text(),
        _alike(examples, answers, observations, final=final),
    )


def _people(examples: Sequence[Example], answers: AllAnswers, observations: Observations, *, final: bool) -> Table:
    """Return the table with one row for each referral."""
    drawn = _table("who", "sent as", "outcome", "hub (reasons)", "case", "last feedback", final=final)
    for example in examples:
        results = answers.get(example.name, {})
        mark = _mark(differences(example, results, observations), final=final)
        for end in example.expected.ends or [None]:
            drawn.add_row(*_row(example, end, results, observations), mark)
    return drawn


def _alike(examples: Sequence[Example], answers: AllAnswers, observations: Observations, *, final: bool) -> Table:
    """Return the table with one row for all examples with the same `fold`."""
    drawn = _table("files", "sent as", "outcomes", "hubs", "cases", "feedback", final=final)
    for label, some in _group_by_fold(examples).items():
        drawn.add_row(
            *summary_row.row(label, some, answers, observations),
            _mark(reasons(some, answers, observations), final=final),
        )
    return drawn


def _table(*columns: str, final: bool) -> Table:
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", expand=True)
    for name in columns:
        drawn.add_column(name, no_wrap=name in ("who", "sent as", "case"), ratio=WIDTHS.get(name))
    drawn.add_column("matches" if final else "", no_wrap=True, justify="right")
    return drawn


def _group_by_fold(examples: Sequence[Example]) -> dict[str, list[Example]]:
    groups: dict[str, list[Example]] = {}
    for example in examples:
        if example.expected.fold:
            groups.setdefault(example.expected.fold, []).append(example)
    return groups


def _mark(failures: Sequence[str], *, final: bool) -> Text:
    if not failures:
        return Text("yes" if final else "✓", style="green")
    return Text("NO", style="bold red") if final else Text("…", style="dim")


def _row(
    example: Example, end: ExpectedOutcome | None, answers: Answers, observations: Observations
) -> list[Text | str]:
    steps = example.expected.steps
    is_single = len(example.expected.ends) < 2
    numbers = [number for number, step in enumerate(steps) if is_single or (end and step.send == end.file)]
    sent = dict.fromkeys(format_of(example.file(steps[number].send)) for number in numbers)
    reference = reference_of(example, end.of, answers) if end else None
    path = observations.paths.get(reference or "", ReferralTrace(""))
    return [
        escape(example.expected.who),
        ", ".join(sent),
        _outcomes(answers, numbers),
        _hub(path, end, observations.holder(path)),
        path.status or "",
        Text("; ").join(
            _feedback_summary(partner, path)
            for partner in dict.fromkeys(feedback.partner for feedback in path.feedbacks)
        ),
    ]


def _outcomes(answers: Answers, numbers: Sequence[int]) -> Text:
    """Return the outcomes, equal ones together: `accepted, duplicate` or `3 accepted`."""
    outcomes = [answers[number].outcome if number in answers else "…" for number in numbers]
    return Text(", ").join(_outcome(outcome, sum(1 for _ in same)) for outcome, same in groupby(outcomes))


def _outcome(outcome: str, times: int) -> Text:
    style = "dim" if outcome == "…" else STYLES.get(outcome, "red")
    return Text(f"{times} {outcome}" if times > 1 else outcome, style=style)


REASON_LABELS = {
    "handed-over-at-discharge": "discharged",
    "community-postcode": "postcode",
    "onward-services-only": "onward only",
    "already-open": "open",
}
"""Shorter labels of reasons; others are shown as they are."""


def _hub(path: ReferralTrace, end: ExpectedOutcome | None, holder: str | None) -> str:
    reason_text = ", ".join(REASON_LABELS.get(reason, reason).replace("-", " ") for reason in path.reasons)
    then = f", then {end.follow_on}" if end and end.follow_on and path.home_hub == end.follow_on else ""
    return f"{holder or 'none'}{then} ({reason_text})" if reason_text else holder or ""


def _feedback_summary(partner: str, path: ReferralTrace) -> Text:
    """Return a recipient's number of messages, the last one, and the number of completed actions."""
    feedbacks = path.feedbacks_for(partner)
    done = len({act for one in feedbacks for act in one.done})
    name = partner.removeprefix("gp-").removeprefix("council-")
    summary = f"{len(feedbacks)}, {feedbacks[-1].label}" + (f" ({done} done)" if done else "")
    by = "" if feedbacks[0].via == "mailbox" else f" {feedbacks[0].via}"
    return Text.assemble((f"{name}{by} ", "dim"), summary)


def reasons(examples: Sequence[Example], answers: AllAnswers, observations: Observations) -> list[str]:
    """Return why examples did not end as their files state; empty if all did."""
    failures = [
        f"{example.name}: {line}"
        for example in examples
        for line in differences(example, answers.get(example.name, {}), observations)
    ]
    return [*failures, *observations.errors]


def steps(example: Example, answers: Answers, observations: Observations) -> list[str]:
    """Return every step of an example with its time."""
    lines = [f"{example.name}: {example.expected.shows}"]
    lines += [
        f"  {line}" for number in sorted(answers) for line in Text.from_markup(answers[number].line()).plain.split("\n")
    ]
    for end in example.expected.ends:
        path = observations.paths.get(reference_of(example, end.of, answers) or "", ReferralTrace("no reference"))
        lines += [f"  {end.of} {path.reference}"]
        lines += [f"    {at[11:23]}  {what}" for at, what in _receipts(path)]
    return lines


def _receipts(path: ReferralTrace) -> list[tuple[str, str]]:
    """Return what hubs and recipients received, with its time, in order."""
    at_hubs = [
        (observation.at, f"hub {observation.hub} receives {observation.kind} ({observation.role})")
        for observation in path.hub_observations
    ]
    at_recipients = [(one.at, f"{one.partner} receives by {one.via}: {_with_acts(one)}") for one in path.feedbacks]
    return sorted([*at_hubs, *at_recipients])


def _with_acts(feedback: ReceivedFeedback) -> str:
    return feedback.label + (": " + "; ".join(feedback.done) if feedback.done else "")
