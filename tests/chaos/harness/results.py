"""What was found, a line of JSON for each seed: written when it was played, read to resume and for the report."""

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
    """One seed. `code` is the commit that was played, where it is known; `installation` tells which processes were the same."""

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
    at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


def faults_of(history: History) -> list[dict[str, Any]]:
    """As they happened, and how long it took from the end of each until all was done that it had held up."""
    return [
        {
            "name": fault.name,
            "about": fault.target,
            "alone": fault.alone,
            "met": fault.met,
            "what": fault.what,
            "recovered": _rounded(history.recovery(fault)),
            "told": _rounded(fault.delivered_after),
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
    """In the order that they were played."""
    return [Result(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


def newest(found: Iterable[Result]) -> list[Result]:
    """A seed that was played again counts once: as it went last."""
    return list({(one.seed, one.brokers, one.mutant): one for one in found}.values())


def done(file: Path) -> set[tuple[int, int]]:
    """Seeds, and with how many brokers, that went without a violation when they were played last."""
    return {(r.seed, r.brokers) for r in newest(r for r in read(file) if not r.mutant) if not r.violations}
