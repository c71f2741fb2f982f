"""Run the mutants: remove one guard at a time, and run its plan. The checker must detect the violation that the plan names."""

import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.chaos.harness import recorded_plan, results
from tests.chaos.harness.recorded_plan import RecordedPlan
from tests.chaos.harness.runner import Progress, Runner
from tests.chaos.mutants.catalogue import MUTANTS

PLANS = Path(__file__).with_name("plans")
ATTEMPTS = 3
"""A plan is run again if its mutant was not detected: whether two transactions overlap also depends on the load."""


def main(file: Path, names: list[str] | None = None, resume: bool = False) -> int:
    """Return 0 if every mutant was caught."""
    names = names or list(MUTANTS)
    earlier = results.read(file) if resume else []
    caught: dict[str, list[str]] = {}
    for at, name in enumerate(names):
        recorded = plan_of(name)
        before = (violation for result in earlier if result.mutant == name for violation in result.violations)
        caught[name] = violated(recorded, before) or _run(file, name, recorded, Progress(len(names), at))
        sys.stdout.write(f"{name}: {'caught by ' + ', '.join(caught[name]) if caught[name] else 'MISSED'}\n")
        sys.stdout.flush()
    return 0 if all(caught.values()) else 1


def plan_of(name: str) -> RecordedPlan:
    """Return the recorded plan that catches a mutant."""
    return recorded_plan.load(PLANS / f"{name}.json")


def _run(file: Path, name: str, recorded: RecordedPlan, progress: Progress) -> list[str]:
    """Return the violated invariants of the first run that violates one of those that the plan names."""
    for _ in range(ATTEMPTS):
        runner = Runner(recorded.plan.brokers, file, progress, mutant=name)
        asyncio.run(runner.run([recorded.plan]))
        if found := violated(recorded, (one for failure in runner.failed for one in failure.result.violations)):
            return found
    return []


def violated(recorded: RecordedPlan, violations: Iterable[str]) -> list[str]:
    """Return the violated invariants, if one is among them that the plan names."""
    found = {violation.partition(":")[0] for violation in violations if violation[0] == "I"}
    return sorted(found) if found & set(recorded.violates) else []
