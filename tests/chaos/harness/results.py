"""Results as lines of JSON, one for each run of a plan; read to resume a run and to write the report."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.chaos.harness.history import History

RESULTS = Path(".cache/chaos/results.jsonl")


@dataclass
class Result:
    """The result of a plan. `code` is the commit; processes with the same `installation` are comparable."""

    seed: int
    brokers: int
    mutant: str | None
    races: bool
    seconds: float
    referrals: int
    messages: int
    commands: int
    lost_replies: int
    faults: list[dict[str, Any]]
    violations: list[str]
    processes: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    phases: dict[str, float] = field(default_factory=dict)
    installation: str = ""
    code: str = ""
    plan: str = ""
    """The name of a recorded plan; empty for a seed's plan."""
    at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


def faults_of(history: History) -> list[dict[str, Any]]:
    """Return the faults of a run with their recovery times."""
    return [
        {
            "name": fault.name,
            "about": fault.target,
            "alone": fault.alone,
            "met": fault.met,
            "what": fault.what,
            "processed": _rounded(history.recovery(fault)),
            "delivered": _rounded(fault.delivered_after),
        }
        for fault in history.faults
    ]


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)


def append(file: Path, result: Result) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as lines:
        lines.write(json.dumps(asdict(result)) + "\n")


def read(file: Path) -> list[Result]:
    """Return all results in order."""
    return [Result(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


def newest(found: Iterable[Result]) -> list[Result]:
    """Return the newest result of each plan."""
    return list({(one.seed, one.brokers, one.mutant, one.plan): one for one in found}.values())


def done(file: Path) -> set[tuple[int, int, str]]:
    """Return (seed, brokers, recorded plan) of the plans whose last run had no violation."""
    return {(r.seed, r.brokers, r.plan) for r in newest(r for r in read(file) if not r.mutant) if not r.violations}
