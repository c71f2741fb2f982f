"""Runs the mutants: each guard is taken away in turn, and seeds are played until the checker says so."""

import asyncio
import dataclasses
import sys
from pathlib import Path

from tests.chaos.harness import results
from tests.chaos.harness.plan import InjectCommand, Plan, SendMessage, generate_plan
from tests.chaos.harness.results import Result
from tests.chaos.harness.runner import Progress, Runner
from tests.chaos.harness.schedule import PlannedFault
from tests.chaos.mutants.catalogue import MUTANTS, Mutant


def main(file: Path, names: list[str] | None = None, resume: bool = False) -> int:
    """Return 0 if every mutant was caught."""
    caught = {
        name: _found([r for r in results.read(file) if r.mutant == name]) if resume else [] for name in names or MUTANTS
    }
    for name in caught:
        caught[name] = caught[name] or _run(file, name)
        sys.stdout.write(f"{name}: {'caught by ' + ', '.join(caught[name]) if caught[name] else 'MISSED'}\n")
        sys.stdout.flush()
    return 0 if all(caught.values()) else 1


def _run(file: Path, name: str) -> list[str]:
    """The invariants that it broke, in the first seed that showed it."""
    seeds = MUTANTS[name].seeds
    for seed in seeds:
        runner = Runner(1, file, Progress(len(seeds), seeds.index(seed)), mutant=name)
        asyncio.run(runner.run([plan_of_mutant(MUTANTS[name], seed)]))
        if found := _found(runner.failed):
            return found
    return []


def _found(played: list[Result]) -> list[str]:
    return sorted({violation[:2] for result in played for violation in result.violations if violation[0] == "I"})


def plan_of_mutant(mutant: Mutant, seed: int) -> Plan:
    """Return the seed's plan, with the faults that must show the mutant, on the service that has it."""
    plan = dataclasses.replace(generate_plan(seed), last=None, late=frozenset())
    if mutant.concurrent_updates:
        plan = concurrent_updates(plan)
    if mutant.faults is None:
        return plan
    services = ("intake", "router", "notifier")
    aim = services.index(mutant.service) if mutant.service in services else 1
    faults = tuple(
        PlannedFault(name, 2.0 + 1.5 * at, mutant.seconds, 10 * (aim + 3 * seed))
        for at, name in enumerate(mutant.faults)
    )
    return dataclasses.replace(plan, faults=faults)


def concurrent_updates(plan: Plan) -> Plan:
    """Ten of the people, two seconds apart, each with one referral that is updated in the moment in which its hub begins its work.

    So few at a time that each input is a batch of its own: one that fails with others is tried again alone, and then it is late enough.
    """
    inputs = (SendMessage(0, "new", 0), SendMessage(0, "update", 1), InjectCommand(0, "next"))
    persons = [
        dataclasses.replace(
            person,
            number=2 * person.number + 1,
            referrals=person.referrals[:1],
            inputs=inputs,
            begins_at=1.5 + 2 * person.number,
        )
        for person in plan.persons[:10]
    ]
    return dataclasses.replace(plan, persons=tuple(persons))
