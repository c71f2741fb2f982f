"""Plays seeds one after the other on an installation, judges each, and says how it went."""

import subprocess
import sys
import time
import traceback
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.chaos import checker, evidence, results, world
from tests.chaos.checker import Violation
from tests.chaos.evidence import Evidence
from tests.chaos.growth import Growth
from tests.chaos.play import EFFECT_SECONDS, Run
from tests.chaos.results import Result
from tests.chaos.seed import Plan
from tests.chaos.senders import Identity
from tests.chaos.world import World

SEEDS_OF_AN_INSTALLATION = 20


async def one_seed(world: World, planned: Plan, mutant: str | None) -> tuple[Result, Evidence]:
    """A seed on a running installation: without faults first (unless it races), then with them."""
    begun = time.monotonic()
    calm = None if planned.races else await _played(world, planned, calm=True, mutant=mutant)
    violations = [Violation(v.invariant, f"(without faults) {v.what}") for v in checker.check(calm)] if calm else []
    if mutant and calm and violations:
        return _result(world, planned, mutant, begun, calm, violations), calm  # caught already
    calm_seconds = time.monotonic() - begun
    faulty = await _played(world, planned, calm=False, mutant=mutant)
    faulty.history.phases["calm"] = calm_seconds
    violations += checker.check(faulty)
    if calm is not None:
        violations += checker.differences(checker.final_state(faulty), checker.final_state(calm))
    return _result(world, planned, mutant, begun, faulty, violations), faulty


def _result(
    world: World, planned: Plan, mutant: str | None, begun: float, faulty: Evidence, violations: list[Violation]
) -> Result:
    history = faulty.history
    return Result(
        seed=planned.seed,
        brokers=world.brokers,
        mutant=mutant,
        races=planned.races,
        seconds=round(time.monotonic() - begun, 1),
        referrals=planned.referrals * (1 if planned.races else 2),
        messages=len(history.answers),
        commands=len(history.commands),
        lost_replies=history.lost_replies,
        faults=results.faults_of(history),
        violations=[str(violation) for violation in violations],
        processes=[asdict(process) for process in faulty.processes],
        notes=history.notes,
        phases={name: round(seconds, 1) for name, seconds in history.phases.items()},
        installation=world.data.name,
        code=CODE,
    )


async def _played(world: World, planned: Plan, *, calm: bool, mutant: str | None = None) -> Evidence:
    world.slots += 1
    patience = 25.0 if mutant and calm else EFFECT_SECONDS
    run = Run(world, planned, _identity(world, planned, calm), calm, patience=patience)
    await run.play()
    return await evidence.collect(run)


def _identity(world: World, planned: Plan, calm: bool) -> Identity:
    name = f"{world.data.name} {planned.seed} {'calm' if calm else 'faulty'} {world.slots}"
    return Identity(name, world.slots, f"http://127.0.0.1:{world.feedback_port}/elsewhere")


def _code() -> str:
    """The commit, with a + where files differ from it."""
    here = Path(__file__).parent
    told = subprocess.run(
        ["git", "describe", "--always", "--exclude=*", "--dirty=+"],
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip()


CODE = _code()


# ---- many seeds -------------------------------------------------------------------------------------------------------


@dataclass
class Progress:
    """How many of how many, and how long the rest will take if it goes on like this."""

    wanted: int
    played: int = 0
    begun: float = field(default_factory=time.monotonic)

    def step(self) -> str:
        self.played += 1
        left = (time.monotonic() - self.begun) / self.played * (self.wanted - self.played)
        return f"{self.played}/{self.wanted}" + (f", {left / 60:.0f} min left" if left else "")


@dataclass
class Runner:
    """A new installation after some seeds, and after each that failed."""

    brokers: int
    results: Path
    progress: Progress
    mutant: str | None = None
    failed: list[Result] = field(default_factory=list)
    _world: World | None = None
    _growth: Growth = field(default_factory=Growth)
    _played: int = 0

    async def run(self, plans: Iterable[Plan]) -> None:
        try:
            for planned in plans:
                await self._one(planned)
        finally:
            await self._stop()

    async def _one(self, planned: Plan) -> None:
        begun = time.monotonic()
        try:
            result, found = await one_seed(await self._running(), planned, self.mutant)
        except Exception as error:  # of the checker itself: the seed shows nothing, and the others are played
            traceback.print_exc()
            result, found = self._not_shown(planned, time.monotonic() - begun, error), None
        else:
            result.violations += map(str, self._growth.has_grown(found.processes))
        self._played += 1
        self._note(result, found)
        if result.violations or self._played == SEEDS_OF_AN_INSTALLATION:
            await self._stop()

    async def _running(self) -> World:
        if self._world is None:
            self._world = await world.start(brokers=self.brokers, mutant=self.mutant)
            self._played, self._growth = 0, Growth()
        return self._world

    def _not_shown(self, planned: Plan, seconds: float, error: Exception) -> Result:
        return Result(
            seed=planned.seed,
            brokers=self.brokers,
            mutant=self.mutant,
            races=planned.races,
            seconds=round(seconds, 1),
            referrals=0,
            messages=0,
            commands=0,
            lost_replies=0,
            faults=[],
            violations=[f"checker: {_told(error)}"],
            code=CODE,
        )

    async def _stop(self) -> None:
        if self._world is not None:
            running, self._world = self._world, None
            try:
                await world.stop(running)
            except Exception:  # the next installation has ports and folders of its own
                traceback.print_exc()

    def _note(self, result: Result, found: Evidence | None) -> None:
        results.append(self.results, result)
        _say(result, self.progress.step())
        if result.violations:
            self.failed.append(result)
            kept = self.results.with_name(f"seed-{result.seed}-{result.mutant or result.brokers}.json")
            if found is not None:
                kept.write_text(evidence.shown(found))
            if self._world is not None:
                _keep_logs(self._world, kept.with_suffix(".log"))


def _told(error: BaseException) -> str:
    """Of several, the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def _keep_logs(running: World, file: Path) -> None:
    logs = sorted((running.data / "logs").glob("*.log"))
    file.write_text("".join(f"==== {log.name}\n{log.read_text(errors='replace')}" for log in logs))


def _say(result: Result, progress: str) -> None:
    outcome = "ok" if not result.violations else f"{len(result.violations)} VIOLATIONS"
    what = "races" if result.races else "in order"
    faults = ", ".join(f"{'then ' * fault['alone']}{fault['name']} ({fault['about']})" for fault in result.faults)
    sys.stdout.write(
        f"[{progress}] seed {result.seed} {result.brokers} broker{'s' * (result.brokers > 1)} {what} {result.seconds:.1f} s "
        f"{result.referrals} referrals {outcome}: {faults}\n"
    )
    for violation in result.violations[:12]:
        sys.stdout.write(f"    {violation}\n")
    sys.stdout.flush()
