"""Check the subjects of commits: imperative, at most 72 characters. `python -m tests.house.commit_subjects`, part of `make check`."""

import re
import subprocess
import sys

from services.runtime.settings import CHECKOUT
from tests.house import measure

AFTER = "f09d409"
"""The last commit that is not checked."""

LONGEST = 72

_AREA = re.compile(r"^[a-z][\w/.-]*: ")


def faults_of(subject: str, verbs: frozenset[str]) -> list[str]:
    """Return what is wrong with a subject; an area and a colon may stand before the verb."""
    words = _AREA.sub("", subject).split() or [""]
    faults = [] if len(subject) <= LONGEST else [f"has {len(subject)} characters, at most {LONGEST} are allowed"]
    return faults if words[0].lower() in verbs else [*faults, f"begins with {words[0]!r}, which is not in verbs.txt"]


def subjects() -> list[str]:
    """Return the subjects of the commits after AFTER. Raises CalledProcessError in a clone that does not reach so far back."""
    log = ["git", "log", "--format=%h %s", f"{AFTER}..HEAD"]
    return subprocess.run(log, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout.splitlines()


def main() -> int:
    """Print the faulty subjects. Exit code: 0 none, 1 some."""
    verbs = measure.verbs()
    lines = [(line, faults_of(line.partition(" ")[2], verbs)) for line in subjects()]
    for line, faults in lines:
        if faults:
            sys.stderr.write(f"{line}\n    {'; '.join(faults)}\n")
    sys.stderr.write(f"{len(lines)} commit subjects checked\n")
    return 1 if any(faults for _, faults in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
