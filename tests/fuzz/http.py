"""Every way in over HTTP, fuzzed: by its own OpenAPI document (schemathesis), and with bodies of any bytes and any structure.

    python -m tests.fuzz.http --seconds 600

What must hold of each request is in http_asked.py. What breaks it is made small, and kept in .cache/fuzz/found.
"""

import argparse
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from infra.database.migrations import migrate
from infra.local.embedded import providers
from tests import canaries
from tests.fuzz.http_asked import Fuzzing
from tests.fuzz.http_served import Served

FOUND = Path(__file__).resolve().parents[2] / ".cache" / "fuzz" / "found"


def run(seconds: float | None, number: int, examples: int) -> int:
    """Round after round with other seeds for so long (None: one round), with a line for each. 1 where something is found, and shown."""
    until = time.monotonic() + (seconds or 0.0)
    with intake() as served:
        fuzzing = Fuzzing(served, examples, derandomize=seconds is None)
        while True:
            fuzzing.number = number
            for name, target in shuffled(fuzzing.targets(), number):
                try:
                    target()
                except BaseException as found:
                    return _found(name, number, found, fuzzing.last)
                if seconds is not None and time.monotonic() >= until:
                    break
            print(
                f"http: seed {number}, {fuzzing.counts.total():,} requests, nothing found, {_left(until)}", flush=True
            )
            if time.monotonic() >= until:
                return 0
            number += 1


Target = tuple[str, Callable[[], None]]


def shuffled(targets: Iterable[Target], number: int) -> list[Target]:
    """In another order for each seed: a short run is not always of the same."""
    found = list(targets)
    random.Random(number).shuffle(found)
    return found


def _left(until: float) -> str:
    return f"{max(0.0, until - time.monotonic()):.0f} s left"


def _found(name: str, number: int, found: BaseException, sent: bytes) -> int:
    if isinstance(found, KeyboardInterrupt | SystemExit):
        raise found
    FOUND.mkdir(parents=True, exist_ok=True)
    file = FOUND / f"http-{name.split()[-1]}-{number}"
    file.write_bytes(sent)
    print(f"http: FOUND in {name}, seed {number}: {found}\n  what was sent is in {file}", flush=True)
    return 1


@contextmanager
def intake() -> Iterator[Served]:
    """Intake on PostgreSQL of its own, with its logs searched for personal data at the end."""
    with tempfile.TemporaryDirectory(prefix="lightbulb-fuzz-") as work, providers.postgres(fsync=False) as provided:
        log = Path(work) / "run.log"
        canaries.log_everything(log)
        migrate(provided.address)
        served = Served(re.sub("^postgresql://", "postgresql+asyncpg://", provided.address), Path(work))
        try:
            yield served
        finally:
            served.stop()
        if told := canaries.found_in([log]):
            raise AssertionError(f"personal data in the log, {len(told)} lines")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: nothing found. 1: something was."""
    reader = argparse.ArgumentParser(prog="python -m tests.fuzz.http", description="Fuzz every way in over HTTP.")
    reader.add_argument("--seconds", type=_seconds, default=60.0, help="or ci: one round of few examples (default 60)")
    reader.add_argument("--examples", type=int, default=40, help="of each target in a round")
    reader.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="of the first round")
    asked = reader.parse_args(arguments)
    return run(asked.seconds, asked.seed, 3 if asked.seconds is None else asked.examples)


def _seconds(text: str) -> float | None:
    return None if text == "ci" else float(text)


if __name__ == "__main__":
    sys.exit(main())
