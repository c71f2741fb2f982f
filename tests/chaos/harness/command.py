"""Run plans: `make chaos SEEDS=100`, `7..9`, `ci`, `mutants`, or recorded plans by file. Results are stored; a run can be resumed."""

import argparse
import asyncio
import dataclasses
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.chaos.harness import recorded_plan, results
from tests.chaos.harness.plan import Plan, generate_plan
from tests.chaos.harness.recorded_plan import RecordedPlan
from tests.chaos.harness.results import RESULTS
from tests.chaos.harness.runner import Failure, Progress, Runner
from tests.chaos.harness.schedule import CATALOGUE, PlannedFault, effect_seconds
from tests.chaos.mutants import mutation_run

KEPT_PLANS = Path(__file__).parents[1] / "kept_plans"
"""Recorded plans that failed once: `SEEDS=ci` runs them."""

CI = {1: (48, 458, 1271, 1987), 3: (120, 160)}
"""Seeds by number of brokers: few that cover most faults, in under six minutes together."""

INTERRUPTED = 130
"""The exit code of a run that was ended by Ctrl-C."""


def selected(words: str, brokers: int | None = None) -> list[Plan]:
    """Return the plans of `100` (seeds 1 to 100, every tenth on three brokers), `7..9`, `3,5`, `ci`, or `file.json,file.json`."""
    if words == "ci":
        return [*(generate_plan(seed, brokers=n) for n, seeds in CI.items() for seed in seeds), *kept_plans()]
    if words.endswith(".json"):
        return [recorded_plan.load(Path(word)).plan for word in words.split(",")]
    if words.isdecimal() and brokers is None:
        return [generate_plan(seed, brokers=1 if seed % 10 else 3) for seed in range(1, int(words) + 1)]
    return [generate_plan(seed, brokers=brokers or 1) for seed in _named_seeds(words)]


def _named_seeds(words: str) -> list[int]:
    found: list[int] = []
    for word in words.split(","):
        first, _, last = word.partition("..")
        found += range(int(first), int(last or first) + 1)
    return list(dict.fromkeys(found))


def kept_plans() -> list[Plan]:
    return [recorded_plan.load(file).plan for file in sorted(KEPT_PLANS.glob("*.json"))]


def keep_plan(failure: Failure) -> Path:
    """Record a generated plan that failed. It becomes a regression test when it is committed with a direct test of its defect."""
    file = KEPT_PLANS / f"{failure.plan.label}-{failure.plan.brokers}.json"
    recorded_plan.save(file, RecordedPlan(about=failure.result.violations[0][:200], plan=failure.plan))
    return file


def with_faults(plan: Plan, names: Iterable[str]) -> Plan:
    """Return the plan with these faults instead of its own."""
    faults = [PlannedFault(name, 2.0, CATALOGUE[name].longest, plan.seed + at) for at, name in enumerate(names)]
    patience = effect_seconds(fault.name for fault in faults)
    return dataclasses.replace(plan, faults=tuple(faults), last=None, late=frozenset(), effect_seconds=patience)


# ---- the command ------------------------------------------------------------------------------------------------------


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument(
        "--seeds",
        default="ci",
        help="100 (seeds 1 to 100), 7..9, 7..7, 3,5, ci, mutants, or recorded plans as FILE.json,FILE.json",
    )
    parser.add_argument("--brokers", type=int, choices=(1, 3), help="for 7..9 and 3,5; default: 1")
    parser.add_argument("--mutant", help="apply this mutant; with --seeds mutants also several, as name,name")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file of results, one line for each plan")
    parser.add_argument("--resume", action="store_true", help="skip plans whose last result has no violation")
    parser.add_argument("--only", help="inject these faults instead of the plan's, as name,name")
    return parser.parse_args(argv)


def main() -> int:
    given = arguments()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # so that all processes stop and the disks are unmounted
    try:
        if given.seeds == "mutants":
            return mutation_run.main(given.results, given.mutant.split(",") if given.mutant else None, given.resume)
        return _run(given)
    except KeyboardInterrupt:
        sys.stdout.write(
            f"\nstopped; to resume: {command_for(given.seeds, given.brokers, given.results, '--resume')}\n"
        )
        return INTERRUPTED


def _run(given: argparse.Namespace) -> int:
    done = results.done(given.results) if given.resume else set()
    plans = [p for p in selected(given.seeds, given.brokers) if (p.seed, p.brokers, p.name) not in done]
    if given.only is not None:
        plans = [with_faults(plan, filter(None, given.only.split(","))) for plan in plans]
    progress = Progress(len(plans))
    failed: list[Failure] = []
    for brokers in sorted({plan.brokers for plan in plans}):
        runner = Runner(brokers, given.results, progress, given.mutant)
        asyncio.run(runner.run([plan for plan in plans if plan.brokers == brokers]))
        failed += runner.failed
    for failure in failed:
        sys.stdout.write(f"to run it again: {_command_of(failure, given)}\n")
    sys.stdout.write(f"{len(failed)} of {progress.wanted} plans failed\n")
    return 1 if failed else 0


def _command_of(failure: Failure, given: argparse.Namespace) -> str:
    """Return the command that runs a failed plan again; record the plan, except in CI and with changed faults or services."""
    plan = failure.plan
    if plan.name:
        files = [file for file in given.seeds.split(",") if Path(file).stem == plan.name]
        return command_for(files[0] if files else str(KEPT_PLANS / f"{plan.name}.json"), None, given.results)
    if given.seeds == "ci" or given.mutant or given.only is not None:
        return command_for(f"{plan.seed}..{plan.seed}", plan.brokers, given.results)
    return command_for(str(keep_plan(failure)), None, given.results)


def command_for(seeds: str, brokers: int | None, file: Path, *more: str) -> str:
    """Return the make command."""
    words = [
        *more,
        *(["--brokers", str(brokers)] if brokers else []),
        *(["--results", str(file)] if file != RESULTS else []),
    ]
    return f"make chaos SEEDS={seeds}" + (f" ARGS='{' '.join(words)}'" if words else "")
