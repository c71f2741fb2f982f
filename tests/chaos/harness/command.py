"""Runs seeds: `make chaos SEEDS=100`, `SEEDS=7..9`, `SEEDS=ci`, `SEEDS=mutants`; a line for each, kept so that a run can be resumed."""

import argparse
import asyncio
import dataclasses
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.harness import results
from tests.chaos.harness.plan import Plan, generate_plan
from tests.chaos.harness.results import RESULTS
from tests.chaos.harness.runner import Progress, Runner
from tests.chaos.harness.schedule import CATALOGUE, PlannedFault
from tests.chaos.mutants import mutation_run

KEPT = Path(__file__).parents[1] / "kept_seeds.txt"
"""Seeds that failed once: they are run again by `SEEDS=ci` for ever."""

CI = {1: (1, 7, 32, 38), 3: (30, 40)}
"""By number of brokers: few seeds that meet most faults, in under six minutes together."""

INTERRUPTED = 130
"""The exit code of a run that was ended by Ctrl-C."""

Seeds = list[tuple[int, list[int]]]
"""What to play, in this order: a number of brokers, and seeds."""


def which(words: str, brokers: int | None = None) -> Seeds:
    """`100` is the first hundred, every tenth on three brokers; `7..9`, `7..7` and `3,5` those, on so many brokers; `ci` a fixed set."""
    if words == "ci":
        return [(number, [*seeds, *kept_seeds(number)]) for number, seeds in CI.items()]
    if words.isdecimal() and brokers is None:
        every = range(1, int(words) + 1)
        return [(1, [seed for seed in every if seed % 10]), (3, [seed for seed in every if seed % 10 == 0])]
    found: list[int] = []
    for word in words.split(","):
        first, _, last = word.partition("..")
        found += range(int(first), int(last or first) + 1)
    return [(brokers or 1, list(dict.fromkeys(found)))]


def kept_seeds(brokers: int) -> list[int]:
    """Seeds that failed once with so many brokers."""
    lines = [line.partition("#")[0].split() for line in KEPT.read_text().splitlines()]
    return [int(words[0]) for words in lines if words and int(words[1]) == brokers]


def keep_seed(result: results.Result) -> None:
    """A seed that failed is a regression test from now on, once somebody has committed the line."""
    if result.seed not in kept_seeds(result.brokers):
        with KEPT.open("a") as file:
            file.write(f"{result.seed} {result.brokers}  # {result.violations[0][:100]}\n")


def planned(seed: int, brokers: int, only: str | None) -> Plan:
    """The seed's plan; with `only`, these faults instead."""
    plan = generate_plan(seed, brokers=brokers)
    if only is None:
        return plan
    names = [name for name in only.split(",") if name]
    faults = [PlannedFault(name, 2.0, CATALOGUE[name].longest, seed + at) for at, name in enumerate(names)]
    return dataclasses.replace(plan, faults=tuple(faults), last=None, late=frozenset())


# ---- the command ------------------------------------------------------------------------------------------------------


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seeds", default="ci", help="100 (the first hundred), 7..9, 7..7, 3,5, ci, mutants")
    parser.add_argument("--brokers", type=int, choices=(1, 3), help="for seeds that are named: 1, unless it is said")
    parser.add_argument(
        "--mutant", help="take this guard away (see mutants.py); several as name,name with --seeds mutants"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="what was found, a line for each seed")
    parser.add_argument("--resume", action="store_true", help="leave out what the results file has without a violation")
    parser.add_argument("--only", help="these faults instead of the seed's, as name,name")
    return parser.parse_args(argv)


def main() -> int:
    given = arguments()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # so that everything is stopped, and unmounted
    try:
        if given.seeds == "mutants":
            return mutation_run.main(given.results, given.mutant.split(",") if given.mutant else None, given.resume)
        return _play(given)
    except KeyboardInterrupt:
        sys.stdout.write(f"\nstopped; to go on: {again(given.seeds, given.brokers, given.results, '--resume')}\n")
        return INTERRUPTED


def _play(given: argparse.Namespace) -> int:
    done = results.done(given.results) if given.resume else set()
    wanted = [(n, [seed for seed in seeds if (seed, n) not in done]) for n, seeds in which(given.seeds, given.brokers)]
    progress = Progress(sum(len(seeds) for _, seeds in wanted))
    failed: list[results.Result] = []
    for brokers, seeds in wanted:
        runner = Runner(brokers, given.results, progress, given.mutant)
        asyncio.run(runner.run([planned(seed, brokers, given.only) for seed in seeds]))
        failed += runner.failed
    for result in failed:
        if given.seeds != "ci" and not given.mutant and not given.only:  # CI has its seeds, and changes no file
            keep_seed(result)
        one = f"{result.seed}..{result.seed}"
        sys.stdout.write(f"to play it again: {again(one, result.brokers, given.results)}\n")
    sys.stdout.write(f"{len(failed)} of {progress.wanted} seeds failed\n")
    return 1 if failed else 0


def again(seeds: str, brokers: int | None, file: Path, *more: str) -> str:
    """The command."""
    words = [
        *more,
        *(["--brokers", str(brokers)] if brokers else []),
        *(["--results", str(file)] if file != RESULTS else []),
    ]
    return f"make chaos SEEDS={seeds}" + (f" ARGS='{' '.join(words)}'" if words else "")
