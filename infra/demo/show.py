"""Draws what was seen: one table, live while it goes on, and the same at the end."""

from collections.abc import Mapping, Sequence
from itertools import groupby

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from infra.demo import folded
from infra.demo.examples import End, Example, format_of
from infra.demo.seen import Answers, Path, Seen, Told, differences, reference_of

WIDTHS = {"hub, and why": 1, "what is heard last": 1, "answers": 3, "cases": 1, "what is heard": 2}
"""Shares of what the other columns leave."""

AllAnswers = Mapping[str, Answers]
"""By example: the answer of each step that was sent."""

STYLES = {"accepted": "green", "duplicate": "green", "conflict": "yellow", "refused": "yellow"}


def page(examples: Sequence[Example], answers: AllAnswers, seen: Seen, *, final: bool) -> Group:
    """Two tables: the people one by one, then the files that are folded into a line for all that are alike."""
    people = [example for example in examples if example.expected.fold is None]
    return Group(_people(people, answers, seen, final=final), Text(), _alike(examples, answers, seen, final=final))


def _people(examples: Sequence[Example], answers: AllAnswers, seen: Seen, *, final: bool) -> Table:
    """One row for each referral."""
    drawn = _table("who", "sent as", "answer", "hub, and why", "case", "what is heard last", final=final)
    for example in examples:
        given = answers.get(example.name, {})
        mark = _mark(differences(example, given, seen), final=final)
        for end in example.expected.ends or [None]:
            drawn.add_row(*_row(example, end, given, seen), mark)
    return drawn


def _alike(examples: Sequence[Example], answers: AllAnswers, seen: Seen, *, final: bool) -> Table:
    """One row for all examples with the same `fold`."""
    drawn = _table("files", "sent as", "answers", "hubs", "cases", "what is heard", final=final)
    for words, some in _folded(examples).items():
        drawn.add_row(*folded.row(words, some, answers, seen), _mark(reasons(some, answers, seen), final=final))
    return drawn


def _table(*columns: str, final: bool) -> Table:
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", expand=True)
    for name in columns:
        drawn.add_column(name, no_wrap=name in ("who", "sent as", "case"), ratio=WIDTHS.get(name))
    drawn.add_column("as said" if final else "", no_wrap=True, justify="right")
    return drawn


def _folded(examples: Sequence[Example]) -> dict[str, list[Example]]:
    together: dict[str, list[Example]] = {}
    for example in examples:
        if example.expected.fold:
            together.setdefault(example.expected.fold, []).append(example)
    return together


def _mark(wrong: Sequence[str], *, final: bool) -> Text:
    if not wrong:
        return Text("yes" if final else "✓", style="green")
    return Text("NO", style="bold red") if final else Text("…", style="dim")


def _row(example: Example, end: End | None, answers: Answers, seen: Seen) -> list[Text | str]:
    steps = example.expected.steps
    alone = len(example.expected.ends) < 2
    numbers = [number for number, step in enumerate(steps) if alone or (end and step.send == end.file)]
    sent = dict.fromkeys(format_of(example.file(steps[number].send)) for number in numbers)
    reference = reference_of(example, end.of, answers) if end else None
    path = seen.paths.get(reference or "", Path(""))
    return [
        escape(example.expected.who),
        ", ".join(sent),
        _outcomes(answers, numbers),
        _hub(path, end, seen.holder(path)),
        path.status or "",
        Text("; ").join(_heard(partner, path) for partner in dict.fromkeys(told.partner for told in path.told)),
    ]


def _outcomes(answers: Answers, numbers: Sequence[int]) -> Text:
    """accepted, duplicate; 3 accepted."""
    given = [answers[number].outcome if number in answers else "…" for number in numbers]
    return Text(", ").join(_outcome(outcome, sum(1 for _ in same)) for outcome, same in groupby(given))


def _outcome(outcome: str, times: int) -> Text:
    style = "dim" if outcome == "…" else STYLES.get(outcome, "red")
    return Text(f"{times} {outcome}" if times > 1 else outcome, style=style)


WHY = {
    "handed-over-at-discharge": "discharged",
    "community-postcode": "postcode",
    "onward-services-only": "onward only",
    "already-open": "open",
}
"""Reasons in fewer words; the others as they are."""


def _hub(path: Path, end: End | None, holder: str | None) -> str:
    why = ", ".join(WHY.get(reason, reason).replace("-", " ") for reason in path.why)
    then = f", then {end.follow_on}" if end and end.follow_on and path.home_hub == end.follow_on else ""
    return f"{holder or 'none'}{then} ({why})" if why else holder or ""


def _heard(partner: str, path: Path) -> Text:
    """How many messages a recipient had, the last of them, and how many things were done."""
    told = path.heard_by(partner)
    done = len({act for one in told for act in one.done})
    name = partner.removeprefix("gp-").removeprefix("council-")
    words = f"{len(told)}, {told[-1].words}" + (f" ({done} done)" if done else "")
    by = "" if told[0].via == "mailbox" else f" {told[0].via}"
    return Text.assemble((f"{name}{by} ", "dim"), words)


def reasons(examples: Sequence[Example], answers: AllAnswers, seen: Seen) -> list[str]:
    """Why examples did not end as their files say; empty where all did."""
    wrong = [
        f"{example.name}: {line}"
        for example in examples
        for line in differences(example, answers.get(example.name, {}), seen)
    ]
    return [*wrong, *seen.faults]


def steps(example: Example, answers: Answers, seen: Seen) -> list[str]:
    """Every answer, and every step of every referral of an example, with its time."""
    lines = [f"{example.name}: {example.expected.shows}"]
    lines += [
        f"  {line}" for number in sorted(answers) for line in Text.from_markup(answers[number].line()).plain.split("\n")
    ]
    for end in example.expected.ends:
        path = seen.paths.get(reference_of(example, end.of, answers) or "", Path("no reference"))
        at_hubs = [(heard.at, f"hub {heard.hub} hears: {heard.kind} ({heard.role})") for heard in path.hub_heard]
        told = [(one.at, f"{one.partner} hears by {one.via}: {_with_acts(one)}") for one in path.told]
        lines += [f"  {end.of} {path.reference}"]
        lines += [f"    {at[11:23]}  {what}" for at, what in sorted([*at_hubs, *told])]
    return lines


def _with_acts(told: Told) -> str:
    return told.words + (": " + "; ".join(told.done) if told.done else "")
