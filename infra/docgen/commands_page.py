"""Generate docs/connect/commands.md from services/router/decide/command_rules.py: which hub may send which command, and what it does."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from infra.docgen.markdown import page, section, table
from schemas.case import CaseStatus
from schemas.events import Command
from services.router.decide.command_rules import OPEN, RULES, CommandRule

HEAD = """# Commands of a hub

Who may send which command and when, and what it does. How to send one, and the answers to refused ones: [hub.md](hub.md).
The decisions read the source of this page, and a test compares it with what they do in every state that commands can reach.

- *Status* and *business status* are those in `case` of your hub's events: of your own part, while a hospital team and a home hub have
  one each.
- A former holder can send no command (`not-permitted`), and once the case has ended no hub can (`impossible`).
- *Latest version*: refused as `stale` unless `expected_version` is the `hub_version` of your latest event of the case. For the other
  commands an older version does not matter. A version that was never sent to you is `impossible`.
- `in-progress` needs acceptance: a home hub that works during a stay, or a hub that notes a failed contact first, keeps its status.
- A date on which something was done is never in the future: what is ordered or agreed is recorded when it is done. `visit_at` and
  `until` may be in the future.
- The hubs, services, reasons, actions and providers that a command may name are [lists](lists.md).
- An example of every command and event, with its headers: [examples.json](../../schemas/contracts/examples.json).
"""

WORDS = {"holder": "holder", "follow-on": "home hub during a stay"}


WHO = ("command", "fields", "from", "while the status is", "latest version", "conditions")
WHAT = ("command", "event that follows", "status", "business status")


def generated() -> str:
    """Return the page."""
    who = section("Who and when", *table(WHO, map(_permission, RULES.items())))
    what = section("What it does", *table(WHAT, map(_effect, RULES.items())))
    return page("services/router/decide/command_rules.py", [HEAD, *who, *what, *section("Status", *_diagram())])


def changes() -> Mapping[tuple[CaseStatus, CaseStatus], list[type[Command]]]:
    """Return the commands that change a status into another one, by the two."""
    edges: dict[tuple[CaseStatus, CaseStatus], list[type[Command]]] = defaultdict(list)
    for command, rule in RULES.items():
        for before in rule.statuses:
            if rule.status and rule.status is not before and before in rule.changes_from:
                edges[before, rule.status].append(command)
    return edges


def name(command: type[Command]) -> str:
    """Return the name in a type: `accept` of uk.lightbulb.case.accept.v1."""
    return command.TYPE.split(".")[3]


def _permission(command_and_rule: tuple[type[Command], CommandRule]) -> tuple[str, ...]:
    command, rule = command_and_rule
    fields = [field for field in command.model_fields if field not in Command.model_fields]
    status = "any" if rule.statuses == OPEN else _listed(rule.statuses)
    latest = "yes" if rule.needs_latest else ""
    return f"`{name(command)}`", _listed(fields), _from(rule), status, latest, "; ".join(_conditions(rule))


def _from(rule: CommandRule) -> str:
    words = [WORDS[role] + (" that has accepted" if role in rule.accepted else "") for role in rule.roles]
    kinds = "" if len(rule.kinds) == 3 else f", of kind {' or '.join(rule.kinds)}"
    return " or ".join(words) + kinds


def _conditions(rule: CommandRule) -> Iterator[str]:
    if rule.waits_for_reading:
        yield "not while a referral waits to be read"
    if rule.waits_for_death_check:
        yield "not while a reported death is not checked"
    if rule.done_on:
        yield f"no {_listed(rule.done_on)} after today in England (`future-date`)"
    if rule.conditions:
        yield rule.conditions


def _effect(command_and_rule: tuple[type[Command], CommandRule]) -> tuple[str, ...]:
    command, rule = command_and_rule
    events = " or ".join(f"`{event.TYPE.split('.')[3]}`" for event in rule.events)
    return f"`{name(command)}`", events, _status(rule), "" if rule.ends else _listed(rule.business_status)


def _status(rule: CommandRule) -> str:
    if rule.changes_hub:
        return "`requested` at the other hub"
    if rule.ends:
        return f"unchanged; what has no open need is `{rule.ends}`, and the case with its last referral"
    return f"`{rule.status}`" if rule.status else "unchanged"


def _listed(codes: Iterable[str]) -> str:
    return ", ".join(f"`{code}`" for code in codes)


def _diagram() -> list[str]:
    ends = [(name(command), rule) for command, rule in RULES.items() if rule.ends]
    lines = ["[*] --> requested: first event of the case"]
    lines += [f"{_state(one)} --> {_state(other)}: {_names(named)}" for (one, other), named in changes().items()]
    for status in OPEN:
        lines.append(f"{_state(status)} --> [*]: {', '.join(word for word, rule in ends if status in rule.statuses)}")
    return ["```mermaid", "stateDiagram-v2", *(f"    {line}" for line in lines), "```", "", NOTE]


NOTE = """A case ends with its last open referral. `transfer` and `assign` give it to another hub, with the status `requested`. A command
that is not in the diagram leaves the status as it is."""


def _state(status: CaseStatus) -> str:
    return status.value.replace("-", "_")


def _names(commands: Sequence[type[Command]]) -> str:
    return ", ".join(map(name, commands))
