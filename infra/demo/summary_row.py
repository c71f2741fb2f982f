"""One row of the demo's table for a group of similar examples: outcomes, hubs, cases and feedback."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from rich.markup import escape

from infra.demo.examples import Example, format_of
from infra.demo.observations import Answers, Observations, ReferralTrace, reference_of
from infra.partner_simulators.send import SendResult


def row(
    label: str, examples: Sequence[Example], answers: Mapping[str, Answers], observations: Observations
) -> list[str]:
    """Return the cells: label, formats, outcomes, hubs, cases, feedback."""
    formats = {format_of(example.file(step.send)) for example in examples for step in example.expected.steps}
    results = [answer for example in examples for answer in _sent(example, answers.get(example.name, {}))]
    rows = sum((Counter(answer.rows.counts) for answer in results if answer.rows), Counter[str]())
    total = rows.pop("rows", 0)
    paths = list(_paths(examples, answers, observations))
    hubs = {holder for path in paths if (holder := observations.holder(path))}
    feedbacks = [one for path in paths for one in path.feedbacks]
    recipients = {one.partner for one in feedbacks}
    return [
        escape(label),
        ", ".join(sorted(formats)),
        _format_counts(Counter(answer.outcome for answer in results))
        + (f"; {total} rows: {_format_counts(rows)}" if total else ""),
        f"{len(hubs)}" if hubs else "none",
        _format_counts(Counter(path.status or "unknown" for path in paths)),
        f"{len(feedbacks)} messages to {len(recipients)} partner{'s'[: len(recipients) - 1]}" if feedbacks else "",
    ]


def _sent(example: Example, answers: Answers) -> Iterator[SendResult]:
    """Yield the answers to what was sent, without dry runs."""
    return (answers[at] for at, step in enumerate(example.expected.steps) if at in answers and not step.dry_run)


def _paths(
    examples: Sequence[Example], answers: Mapping[str, Answers], observations: Observations
) -> Iterator[ReferralTrace]:
    for example in examples:
        for end in example.expected.ends:
            reference = reference_of(example, end.of, answers.get(example.name, {}))
            if reference in observations.paths:
                yield observations.paths[reference]


def _format_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {what.removeprefix('home-')}" for what, count in counts.items() if count)
