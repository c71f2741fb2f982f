"""One line of the demo's table for examples that are much alike: what was answered, where it went, and how much was heard."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from rich.markup import escape

from infra.demo.examples import Example, format_of
from infra.demo.seen import Answers, Path, Seen, reference_of


def row(words: str, examples: Sequence[Example], answers: Mapping[str, Answers], seen: Seen) -> list[str]:
    """who, sent as, answer, hub and why, case, what is heard."""
    formats = {format_of(example.file(step.send)) for example in examples for step in example.expected.steps}
    given = [answer for example in examples for answer in answers.get(example.name, {}).values()]
    rows = sum((Counter(answer.rows.counts) for answer in given if answer.rows), Counter[str]())
    total = rows.pop("rows", 0)
    paths = list(_paths(examples, answers, seen))
    hubs = {holder for path in paths if (holder := seen.holder(path))}
    told = [one for path in paths for one in path.told]
    listeners = {one.partner for one in told}
    return [
        escape(words),
        ", ".join(sorted(formats)),
        _counted(Counter(answer.outcome for answer in given)) + (f"; {total} rows: {_counted(rows)}" if total else ""),
        f"{len(hubs)}" if hubs else "none",
        _counted(Counter(path.status or "unknown" for path in paths)),
        f"{len(told)} messages to {len(listeners)} partner{'s'[: len(listeners) - 1]}" if told else "",
    ]


def _paths(examples: Sequence[Example], answers: Mapping[str, Answers], seen: Seen) -> Iterator[Path]:
    for example in examples:
        for end in example.expected.ends:
            reference = reference_of(example, end.of, answers.get(example.name, {}))
            if reference in seen.paths:
                yield seen.paths[reference]


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {what.removeprefix('home-')}" for what, count in counts.items() if count)
