"""One target's run as a child process: its seeds as files, libFuzzer's flags, and what its lines say of how far it is."""

import hashlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.targets import CHECKOUT, TARGETS, Target

CACHE = CHECKOUT / ".cache" / "fuzz"
FOUND = CACHE / "found"
MEGABYTES = 2_048
SAY_SECONDS = 30.0

_STATUS = re.compile(r"#(\d+)\s.*?cov: (\d+)")
_WHY = re.compile(r"^[\w.]+(?:Error|Broken|Exception|Exit)\b.*|.*(?:timeout after|out-of-memory).*")


@dataclass(frozen=True)
class Limits:
    """How much: for so many seconds, or so many runs; and how long one input may take."""

    seconds: float | None = None
    runs: int | None = None
    one_input: int = 20

    def flags(self) -> list[str]:
        told = [f"-timeout={self.one_input}", f"-rss_limit_mb={MEGABYTES}"]
        if self.seconds is not None:
            told.append(f"-max_total_time={max(1, round(self.seconds))}")
        return told if self.runs is None else [*told, f"-runs={self.runs}"]


@dataclass(frozen=True)
class Ended:
    """What a run came to: how many inputs, how many places of the code, and the file that broke it, with why."""

    runs: int
    places: int
    found: Path | None = None
    why: str = ""


@contextmanager
def seeded(target: Target, *, is_fresh: bool) -> Iterator[list[Path]]:
    """Folders of inputs to begin with: the corpus that grows from run to run, or an empty one, and seeds with what was found once."""
    with tempfile.TemporaryDirectory(prefix="lightbulb-fuzz-") as folder:
        seeds, corpus = Path(folder) / "seeds", Path(folder) / "corpus" if is_fresh else CACHE / "corpus" / target.name
        for made in (seeds, corpus, FOUND):
            made.mkdir(parents=True, exist_ok=True)
        for body in [*target.seeds(), *(path.read_bytes() for path in target.kept())]:
            (seeds / hashlib.sha256(body).hexdigest()[:20]).write_bytes(body)
        yield [corpus, seeds]


def run(name: str, limits: Limits, seed: int, say: Callable[[str], None], *, is_fresh: bool = False) -> Ended:
    """Fuzz one target. A finding stands in .cache/fuzz/found."""
    target = TARGETS[name]
    began = FOUND / f"{name}-"
    with seeded(target, is_fresh=is_fresh) as folders:
        flags = [*limits.flags(), f"-seed={seed}", f"-max_len={target.longest}", f"-artifact_prefix={began}"]
        command = [sys.executable, "-m", "tests.fuzz.child", name, *map(str, folders), *flags]
        child = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            return _followed(child, name, say)
        finally:
            if child.poll() is None:
                child.terminate()
            child.wait()


def _followed(child: "subprocess.Popen[str]", name: str, say: Callable[[str], None]) -> Ended:
    runs = places = 0
    why, last, found, said = "", "", None, time.monotonic()
    assert child.stdout is not None
    for line in child.stdout:
        last = line.strip() or last
        if status := _STATUS.match(line):
            runs, places = int(status[1]), int(status[2])
            if time.monotonic() - said > SAY_SECONDS:
                said = time.monotonic()
                say(f"{name}: {runs:,} inputs, {places:,} places")
        elif "Test unit written to " in line:
            found = Path(line.rpartition("Test unit written to ")[2].strip())
        elif _WHY.match(line):
            why = line.strip()
    if child.wait() and not found:
        why = why or f"ended with {child.returncode}: {last}"
    return Ended(runs, places, found, why)
