"""Runs seeds: `make chaos SEEDS=1..100`, `SEEDS=ci`, `SEEDS=planted`; a line for each, the results kept so that a run can be resumed."""

import argparse
import asyncio
import dataclasses
import json
import logging
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos import checker, evidence, world
from tests.chaos.checker import Violation
from tests.chaos.evidence import Evidence, Health
from tests.chaos.play import EFFECT_SECONDS, Run
from tests.chaos.seed import CATALOGUE, Fault, Plan, plan
from tests.chaos.senders import Identity
from tests.chaos.world import World

SEEDS_OF_AN_INSTALLATION = 12
KEPT = Path(__file__).with_name("kept_seeds.txt")
"""Seeds that failed once: they are run again by `SEEDS=ci` for ever."""

CI = {1: (24, 2, 5, 82), 3: (19, 37)}
"""By number of brokers: few seeds that meet many faults, in under six minutes together."""

RESULTS = Path(".cache/chaos/results.jsonl")


@dataclass
class Result:
    """One seed, as it is kept in the results file."""

    seed: int
    brokers: int
    planted: str | None
    races: bool
    seconds: float
    referrals: int
    messages: int
    commands: int
    lost_replies: int
    faults: list[str]
    recoveries: dict[str, list[float]]
    violations: list[str]
    notes: list[str] = field(default_factory=list)


async def one_seed(world: World, planned: Plan, planted: str | None) -> tuple[Result, Evidence]:
    """A seed on a running installation: without faults first (unless it races), then with them."""
    begun = time.monotonic()
    calm = None if planned.races else await _played(world, planned, calm=True, planted=planted)
    violations = [Violation(v.invariant, f"(without faults) {v.what}") for v in checker.check(calm)] if calm else []
    if planted and calm and violations:
        return _result(world, planned, planted, begun, calm, violations), calm  # caught already
    faulty = await _played(world, planned, calm=False, planted=planted)
    violations += checker.check(faulty)
    if calm is not None:
        violations += checker.differences(checker.final_state(faulty), checker.final_state(calm))
    return _result(world, planned, planted, begun, faulty, violations), faulty


def _result(
    world: World, planned: Plan, planted: str | None, begun: float, faulty: Evidence, violations: list[Violation]
) -> Result:
    history = faulty.history
    return Result(
        seed=planned.seed,
        brokers=world.brokers,
        planted=planted,
        races=planned.races,
        seconds=round(time.monotonic() - begun, 1),
        referrals=planned.referrals * (1 if planned.races else 2),
        messages=len(history.answers),
        commands=len(history.commands),
        lost_replies=history.lost_replies,
        faults=[f"{fault.name} ({fault.about})" for fault in history.faults],
        recoveries=history.recoveries(),
        violations=[str(violation) for violation in violations],
        notes=history.notes,
    )


async def _played(world: World, planned: Plan, *, calm: bool, planted: str | None = None) -> Evidence:
    world.slots += 1
    run = Run(
        world, planned, _identity(world, planned, calm), calm, patience=25.0 if planted and calm else EFFECT_SECONDS
    )
    await run.play()
    return await evidence.collect(run)


def _identity(world: World, planned: Plan, calm: bool) -> Identity:
    name = f"{world.data.name} {planned.seed} {'calm' if calm else 'faulty'} {world.slots}"
    return Identity(name, world.slots, f"http://127.0.0.1:{world.feedback_port}/elsewhere")


# ---- many seeds -------------------------------------------------------------------------------------------------------


@dataclass
class Runner:
    """Plays seeds one after the other; a new installation after some, and after each that failed."""

    brokers: int
    results: Path
    planted: str | None = None
    failed: list[Result] = field(default_factory=list)
    _world: World | None = None
    _first: list[Health] = field(default_factory=list)
    _played: int = 0

    async def run(self, plans: Iterable[Plan]) -> None:
        try:
            for planned in plans:
                await self._one(planned)
        finally:
            await self._stop()

    async def _one(self, planned: Plan) -> None:
        if self._world is None:
            self._world = await world.start(brokers=self.brokers, planted=self.planted)
            self._played, self._first = 0, []
        result, found = await one_seed(self._world, planned, self.planted)
        self._played += 1
        if not self._first:
            self._first = found.processes
        result.violations += map(str, checker.has_grown(self._first, found.processes))
        self._note(result, found)
        if result.violations or self._played == SEEDS_OF_AN_INSTALLATION:
            await self._stop()

    async def _stop(self) -> None:
        if self._world is not None:
            running, self._world = self._world, None
            await world.stop(running)

    def _note(self, result: Result, found: Evidence) -> None:
        self.results.parent.mkdir(parents=True, exist_ok=True)
        with self.results.open("a") as file:
            file.write(json.dumps(asdict(result)) + "\n")
        _say(result)
        if result.violations:
            self.failed.append(result)
            kept = self.results.with_name(f"seed-{result.seed}-{result.planted or result.brokers}.json")
            kept.write_text(evidence.shown(found))
            if not result.planted:
                keep_seed(result)
            assert self._world is not None
            _keep_logs(self._world, kept.with_suffix(".log"))


def _keep_logs(running: World, file: Path) -> None:
    logs = sorted((running.data / "logs").glob("*.log"))
    file.write_text("".join(f"==== {log.name}\n{log.read_text(errors='replace')}" for log in logs))


def _say(result: Result) -> None:
    outcome = "ok" if not result.violations else f"{len(result.violations)} VIOLATIONS"
    what = "races" if result.races else "in order"
    sys.stdout.write(
        f"seed {result.seed:4} {result.brokers} broker{'s' * (result.brokers > 1)} {what:8} {result.seconds:5.1f} s "
        f"{result.referrals:3} referrals {outcome:14} {', '.join(result.faults)}\n"
    )
    for violation in result.violations[:12]:
        sys.stdout.write(f"    {violation}\n")
    sys.stdout.flush()


# ---- the command ------------------------------------------------------------------------------------------------------


def seeds_of(words: str) -> list[int]:
    """'7', '1..100', '3,5,9..12'"""
    found: list[int] = []
    for word in words.split(","):
        first, _, last = word.partition("..")
        found += range(int(first), int(last or first) + 1)
    return found


def keep_seed(result: Result) -> None:
    """A seed that failed is a regression test from now on, once somebody has committed the line."""
    if result.seed not in kept_seeds(result.brokers):
        with KEPT.open("a") as file:
            file.write(f"{result.seed} {result.brokers}  # {result.violations[0][:100]}\n")


def kept_seeds(brokers: int) -> list[int]:
    """Seeds that failed once with so many brokers."""
    lines = [line.partition("#")[0].split() for line in KEPT.read_text().splitlines()]
    return [int(words[0]) for words in lines if words and int(words[1]) == brokers]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="ci", help="7, 1..100, ci, planted")
    parser.add_argument("--brokers", type=int, default=1, choices=(1, 3))
    parser.add_argument("--planted", help="take this guard away (see planted.py)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="what was found, a line for each seed")
    parser.add_argument("--resume", action="store_true", help="leave out seeds that the results file has")
    parser.add_argument("--only", help="these faults instead of the seed's, as name,name")
    return parser.parse_args()


def done_before(results: Path, brokers: int) -> set[int]:
    """Seeds that are in the results file without a violation."""
    if not results.exists():
        return set()
    lines: list[dict[str, Any]] = [json.loads(line) for line in results.read_text().splitlines()]
    return {
        line["seed"] for line in lines if line["brokers"] == brokers and not line["planted"] and not line["violations"]
    }


def main() -> int:
    given = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that everything is stopped, and unmounted
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # our own clients meet the faults too
    failed: list[Result] = []
    if given.seeds == "planted":
        from tests.chaos import hunt  # which plays seeds by this module

        return hunt.main(given.results, given.planted.split(",") if given.planted else None)
    ci = {brokers: [*seeds, *kept_seeds(brokers)] for brokers, seeds in CI.items()}
    for brokers, seeds in (ci if given.seeds == "ci" else {given.brokers: seeds_of(given.seeds)}).items():
        done = done_before(given.results, brokers) if given.resume else set()
        wanted = [seed for seed in dict.fromkeys(seeds) if seed not in done]
        runner = Runner(brokers, given.results, given.planted)
        asyncio.run(runner.run(planned(seed, brokers, given.only) for seed in wanted))
        failed += runner.failed
    sys.stdout.write(f"{len(failed)} seeds failed{': ' if failed else ''}{', '.join(str(r.seed) for r in failed)}\n")
    return 1 if failed else 0


def planned(seed: int, brokers: int, only: str | None) -> Plan:
    """The seed's plan; with `only`, these faults instead."""
    made = plan(seed, brokers=brokers)
    if only is None:
        return made
    names = [name for name in only.split(",") if name]
    faults = [Fault(name, 2.0, CATALOGUE[name].longest, seed + at) for at, name in enumerate(names)]
    return dataclasses.replace(made, faults=tuple(faults))
