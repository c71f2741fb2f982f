"""Recorded plans: operations and faults as JSON. A seed changes its meaning with the generator; a recorded plan does not.

The JSON holds the fields of `Plan`, `Person`, `Referral` and `PlannedFault` by name; fields with their default value are left out.
An input with `kind` is a message, one with `how` a command.
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from tests.chaos.harness.plan import InjectCommand, Person, Plan, Referral, SendMessage
from tests.chaos.harness.schedule import PlannedFault


@dataclass(frozen=True)
class RecordedPlan:
    """A plan that once showed a defect, or that must show a mutant."""

    about: str
    """The defect, or how the mutant shows."""
    plan: Plan
    violates: tuple[str, ...] = ()
    """Of a mutant's plan: invariants, one of which must be violated."""
    test: str = ""
    """Of a plan that failed: the direct test of the defect, as file::function."""


def load(file: Path) -> RecordedPlan:
    """Return the recorded plan in a file; its plan has the file's name."""
    data = json.loads(file.read_text())
    return RecordedPlan(
        about=data["about"],
        plan=_plan(file.stem, data["plan"]),
        violates=tuple(data.get("violates", ())),
        test=data.get("test", ""),
    )


def save(file: Path, recorded: RecordedPlan) -> None:
    """Write a recorded plan, one line for each person and fault."""
    rest = _as_json(recorded.plan)
    persons, faults = rest.pop("persons"), rest.pop("faults", [])
    rest.pop("name", None)
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in rest.items()]
    lines += [_list(name, values) for name, values in (("faults", faults), ("persons", persons)) if values]
    head = {"about": recorded.about, "test": recorded.test, "violates": list(recorded.violates)}
    top = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in head.items() if value]
    plan = ",\n  ".join(lines)
    file.write_text("{\n" + ",\n".join([*top, f' "plan": {{\n  {plan}\n }}']) + "\n}\n")


def _list(name: str, values: list[Any]) -> str:
    items = ",\n   ".join(json.dumps(value) for value in values)
    return f"{json.dumps(name)}: [\n   {items}\n  ]"


def _as_json(value: Any) -> Any:
    """Return dataclasses as objects without the fields that have their default."""
    if isinstance(value, tuple | frozenset):
        return [_as_json(one) for one in (sorted(value) if isinstance(value, frozenset) else value)]
    if not hasattr(value, "__dataclass_fields__"):
        return value
    found = {field: getattr(value, field.name) for field in fields(value)}
    return {f.name: _as_json(one) for f, one in found.items() if f.default is MISSING or one != f.default}


def _plan(name: str, data: Mapping[str, Any]) -> Plan:
    given = {
        "persons": tuple(_person(one) for one in data["persons"]),
        "faults": tuple(PlannedFault(**one) for one in data.get("faults", ())),
        "last": PlannedFault(**data["last"]) if data.get("last") else None,
        "late": frozenset(data.get("late", ())),
    }
    return Plan(**{**data, **given, "name": name})


def _person(data: Mapping[str, Any]) -> Person:
    given = {
        "referrals": tuple(Referral(**one) for one in data["referrals"]),
        "inputs": tuple(SendMessage(**one) if "kind" in one else InjectCommand(**one) for one in data["inputs"]),
    }
    return Person(**{**data, **given})
