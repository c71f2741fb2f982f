"""Run plans one after the other on an installation, check each, and print its outcome."""

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
from tests.chaos.harness.plan_run import PlanRun
from tests.chaos.harness.results import Result
from tests.chaos.harness.senders import Identity

PLANS_PER_INSTALLATION = 20


async def run_plan(cluster: Cluster, plan: Plan, mutant: str | None) -> tuple[Result, Evidence]:
    """Run a plan on a running installation: first without faults, if it has a baseline run, then with them."""
    begun = time.monotonic()
    baseline = await _run(cluster, plan, is_baseline=True) if plan.has_baseline else None
    violations = (
        [Violation(v.invariant, f"(without faults) {v.what}") for v in checker.check(baseline)] if baseline else []
    )
    if mutant and baseline and violations:
        return _result(cluster, plan, mutant, begun, baseline, violations), baseline  # caught already
    baseline_seconds = time.monotonic() - begun
    faulty = await _run(cluster, plan, is_baseline=False)
    faulty.history.phases["baseline"] = baseline_seconds
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
        referrals=plan.referrals * (1 + plan.has_baseline),
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
        plan=plan.name,
    )


async def _run(cluster: Cluster, plan: Plan, *, is_baseline: bool) -> Evidence:
    cluster.slots += 1
    run = PlanRun(cluster, plan, _identity(cluster, plan, is_baseline), is_baseline)
    await run.run()
    return await evidence.collect(run)


def _identity(cluster: Cluster, plan: Plan, is_baseline: bool) -> Identity:
    name = f"{cluster.data.name} {plan.label} {'baseline' if is_baseline else 'faults'} {cluster.slots}"
    return Identity(name, cluster.slots, f"http://127.0.0.1:{cluster.feedback_port}/elsewhere")


def _code() -> str:
    """Return the commit, with a + if files differ from it."""
    here = Path(__file__).parent
    described = subprocess.run(
        ["git", "describe", "--always", "--exclude=*", "--dirty=+"],
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip()


CODE = _code()


# ---- many plans -------------------------------------------------------------------------------------------------------


@dataclass
class Progress:
    """The number of plans run, and an estimate of the time for the rest."""

    wanted: int
    done: int = 0
    begun: float = field(default_factory=time.monotonic)

    def step(self) -> str:
        self.done += 1
        left = (time.monotonic() - self.begun) / self.done * (self.wanted - self.done)
        return f"{self.done}/{self.wanted}" + (f", {left / 60:.0f} min left" if left else "")


@dataclass(frozen=True)
class Failure:
    """A plan with violations, and its result."""

    plan: Plan
    result: Result


@dataclass
class Runner:
    """Run plans with the same number of brokers; restart the installation after twenty plans, and after each that failed."""

    brokers: int
    results: Path
    progress: Progress
    mutant: str | None = None
    failed: list[Failure] = field(default_factory=list)
    _cluster: Cluster | None = None
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
            result, found = await run_plan(await self._running(), plan, self.mutant)
        except Exception as error:  # of the harness itself: this plan shows nothing, and the others are run
            traceback.print_exc()
            result, found = self._failed_run(plan, time.monotonic() - begun, error), None
        else:
            result.violations += map(str, self._leak_check.check(found.processes))
        self._plans_run += 1
        self._record(plan, result, found)
        if result.violations or self._plans_run == PLANS_PER_INSTALLATION:
            await self._stop()

    async def _running(self) -> Cluster:
        if self._cluster is None:
            self._cluster = await cluster.start(brokers=self.brokers, mutant=self.mutant)
            self._plans_run, self._leak_check = 0, LeakCheck()
        return self._cluster

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
            plan=plan.name,
        )

    async def _stop(self) -> None:
        if self._cluster is not None:
            running, self._cluster = self._cluster, None
            try:
                await cluster.stop(running)
            except Exception:  # the next installation has ports and folders of its own
                traceback.print_exc()

    def _record(self, plan: Plan, result: Result, found: Evidence | None) -> None:
        results.append(self.results, result)
        _print(result, self.progress.step())
        if result.violations:
            self.failed.append(Failure(plan, result))
            kept = self.results.with_name(f"{plan.label}-{result.mutant or result.brokers}.json")
            if found is not None:
                kept.write_text(evidence.as_json(found))
            if self._cluster is not None:
                _save_logs(self._cluster, kept.with_suffix(".log"))


def _error_text(error: BaseException) -> str:
    """Return the first error of a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def _save_logs(running: Cluster, file: Path) -> None:
    logs = sorted((running.data / "logs").glob("*.log"))
    file.write_text("".join(f"==== {log.name}\n{log.read_text(errors='replace')}" for log in logs))


def _print(result: Result, progress: str) -> None:
    outcome = "ok" if not result.violations else f"{len(result.violations)} VIOLATIONS"
    what = f"{result.brokers} broker{'s' * (result.brokers > 1)} {'races' if result.races else 'in order'}"
    faults = ", ".join(f"{'then ' * fault['alone']}{fault['name']} ({fault['about']})" for fault in result.faults)
    sys.stdout.write(
        f"[{progress}] {result.plan or f'seed {result.seed}'} {what} {result.seconds:.1f} s "
        f"{result.referrals} referrals {outcome}: {faults}\n"
    )
    for violation in result.violations[:12]:
        sys.stdout.write(f"    {violation}\n")
    sys.stdout.flush()
