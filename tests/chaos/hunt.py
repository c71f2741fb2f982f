"""Hunts the planted bugs: each guard is taken away in turn, and seeds are played until the checker says so."""

import asyncio
import dataclasses
import sys
from pathlib import Path

from tests.chaos.planted import BUGS, Bug
from tests.chaos.run import Runner
from tests.chaos.seed import Do, Fault, Plan, Say, plan


def main(results: Path, names: list[str] | None = None, brokers: int = 1) -> int:
    """0 where every bug was caught."""
    missed = []
    for name in names or BUGS:
        runner = Runner(brokers, results, planted=name)
        for seed in BUGS[name].seeds:
            asyncio.run(runner.run([aimed(BUGS[name], seed)]))
            if runner.failed:
                break
        else:
            missed.append(name)
        caught = sorted({violation[:2] for result in runner.failed for violation in result.violations})
        sys.stdout.write(f"{name}: {'caught by ' + ', '.join(caught) if caught else 'MISSED'}\n")
        sys.stdout.flush()
    return 1 if missed else 0


def aimed(bug: Bug, seed: int) -> Plan:
    """The seed's plan, with the faults that the bug is hunted with, on the service that has it."""
    made = crowded(plan(seed)) if bug.crowded else plan(seed)
    if bug.faults is None:
        return made
    services = ("intake", "router", "notifier")
    aim = services.index(bug.service) if bug.service in services else 1
    faults = tuple(Fault(name, 2.0 + 1.5 * at, bug.seconds, aim + 3 * seed) for at, name in enumerate(bug.faults))
    return dataclasses.replace(made, faults=faults)


def crowded(made: Plan) -> Plan:
    """The same people, each with one referral that is updated twice while its hub begins its work."""
    inputs = (Say(0, "new", 0), Say(0, "update", 1), Do(0, "next"), Say(0, "update", 2))
    people = [
        dataclasses.replace(person, number=2 * person.number + 1, referrals=person.referrals[:1], inputs=inputs)
        for person in made.people
    ]
    return dataclasses.replace(made, people=tuple(people))
