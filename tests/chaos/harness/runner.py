"""Plays seeds one after the other on an installation, judges each, and says how it went."""

import subprocess
import sys
import time
import traceback
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.chaos.harness import checker, cluster, evidence, results
from tests.chaos.harness.checker import Violation
from tests.chaos.harness.cluster import Cluster
from tests.chaos.harness.evidence import Evidence
from tests.chaos.harness.leak_check import LeakCheck
from tests.chaos.harness.plan import Plan
from tests.chaos.harness.plan_run import EFFECT_SECONDS, PlanRun
from tests.chaos.harness.results import Result
from tests.chaos.harness.senders import Identity

SEEDS_PER_INSTALLATION = 20


async def run_seed(cluster: Cluster, plan: Plan, mutant: str | None) -> tuple[Result, Evidence]:
    """A seed on a running installation: without faults first (unless it races), then with them."""
    begun = time.monotonic()
    baseline = None if plan.races else await _run_plan(cluster, plan, baseline=True, mutant=mutant)
    violations = (
        [Violation(v.invariant, f"(without faults) {v.what}") for v in checker.check(baseline)] if baseline else []
    )
    if mutant and baseline and violations:
        return _result(cluster, plan, mutant, begun, baseline, violations), baseline  # caught already
    baseline_seconds = time.monotonic() - begun
    faulty = await _run_plan(cluster, plan, baseline=False, mutant=mutant)
    faulty.history.phases["calm"] = baseline_seconds
    violations += checker.check(faulty)
    if baseline is not None:
        violations += checker.differences(checker.final_state(faulty), checker.final_state(baseline))
    return _result(cluster, plan, mutant, begun, faulty, violations), faulty


def _result(
    cluster: Cluster, plan: Plan, mutant: str | None, begun: float, faulty: Evidence, violations: list[Violation]
) -> Result:
    history = faulty.history
    return Result(
        seed=plan.seed,
        brokers=cluster.brokers,
        mutant=mutant,
        races=plan.races,
        seconds=round(time.monotonic() - begun, 1),
        referrals=plan.referrals * (1 if plan.races else 2),
        messages=len(history.answers),
        commands=len(history.commands),
        lost_replies=history.lost_replies,
        faults=results.faults_of(history),
        violations=[str(violation) for violation in violations],
        processes=[asdict(process) for process in faulty.processes],
        notes=history.notes,
        phases={name: round(seconds, 1) for name, seconds in history.phases.items()},
        installation=cluster.data.name,
        code=CODE,
    )


async def _run_plan(cluster: Cluster, plan: Plan, *, baseline: bool, mutant: str | None = None) -> Evidence:
    cluster.slots += 1
    effect_seconds = 25.0 if mutant and baseline else EFFECT_SECONDS
    run = PlanRun(cluster, plan, _identity(cluster, plan, baseline), baseline, effect_seconds=effect_seconds)
    await run.run()
    return await evidence.collect(run)


def _identity(cluster: Cluster, plan: Plan, baseline: bool) -> Identity:
    name = f"{cluster.data.name} {plan.seed} {'calm' if baseline else 'faulty'} {cluster.slots}"
    return Identity(name, cluster.slots, f"http://127.0.0.1:{cluster.feedback_port}/elsewhere")


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
    done: int = 0
    begun: float = field(default_factory=time.monotonic)

    def step(self) -> str:
        self.done += 1
        left = (time.monotonic() - self.begun) / self.done * (self.wanted - self.done)
        return f"{self.done}/{self.wanted}" + (f", {left / 60:.0f} min left" if left else "")


@dataclass
class Runner:
    """A new installation after some seeds, and after each that failed."""

    brokers: int
    results: Path
    progress: Progress
    mutant: str | None = None
    failed: list[Result] = field(default_factory=list)
    _world: Cluster | None = None
    _leak_check: LeakCheck = field(default_factory=LeakCheck)
    _plans_run: int = 0

    async def run(self, plans: Iterable[Plan]) -> None:
        try:
            for plan in plans:
                await self._run_one(plan)
        finally:
            await self._stop()

    async def _run_one(self, plan: Plan) -> None:
        begun = time.monotonic()
        try:
            result, found = await run_seed(await self._running(), plan, self.mutant)
        except Exception as error:  # of the checker itself: the seed shows nothing, and the others are played
            traceback.print_exc()
            result, found = self._failed_run(plan, time.monotonic() - begun, error), None
        else:
            result.violations += map(str, self._leak_check.check(found.processes))
        self._plans_run += 1
        self._record(result, found)
        if result.violations or self._plans_run == SEEDS_PER_INSTALLATION:
            await self._stop()

    async def _running(self) -> Cluster:
        if self._world is None:
            self._world = await cluster.start(brokers=self.brokers, mutant=self.mutant)
            self._plans_run, self._leak_check = 0, LeakCheck()
        return self._world

    def _failed_run(self, plan: Plan, seconds: float, error: Exception) -> Result:
        return Result(
            seed=plan.seed,
            brokers=self.brokers,
            mutant=self.mutant,
            races=plan.races,
            seconds=round(seconds, 1),
            referrals=0,
            messages=0,
            commands=0,
            lost_replies=0,
            faults=[],
            violations=[f"checker: {_error_text(error)}"],
            code=CODE,
        )

    async def _stop(self) -> None:
        if self._world is not None:
            running, self._world = self._world, None
            try:
                await cluster.stop(running)
            except Exception:  # the next installation has ports and folders of its own
                traceback.print_exc()

    def _record(self, result: Result, found: Evidence | None) -> None:
        results.append(self.results, result)
        _print(result, self.progress.step())
        if result.violations:
            self.failed.append(result)
            kept = self.results.with_name(f"seed-{result.seed}-{result.mutant or result.brokers}.json")
            if found is not None:
                kept.write_text(evidence.as_json(found))
            if self._world is not None:
                _save_logs(self._world, kept.with_suffix(".log"))


def _error_text(error: BaseException) -> str:
    """Of several, the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def _save_logs(running: Cluster, file: Path) -> None:
    logs = sorted((running.data / "logs").glob("*.log"))
    file.write_text("".join(f"==== {log.name}\n{log.read_text(errors='replace')}" for log in logs))


def _print(result: Result, progress: str) -> None:
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
