"""Measure what translating an HL7 v2 referral costs: `python -m bench.hl7v2`, and `--with CHECKOUT` for another version of it.

The CPU time of a whole translation, to a validated referral, and how many functions are called: in all, and by the reader of segments and
fields. Versions are measured in turns, so that a busy machine slows both alike.
"""

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any

from rich.console import Console
from rich.table import Table

MESSAGE = Path(__file__).parent / "referral.hl7"
READERS = ("/hl7v2/er7.py", "/hl7v2/segments.py", "/hl7v2/escapes.py", "/hl7v2/header.py", "/site-packages/hl7/")
"""Files of the reader of segments and fields, of this version and of earlier ones."""

TIMES = 20
"""Translations of a round."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the microseconds and function calls of a translation, by version."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--with", dest="other", type=Path, help="another checkout, with its .venv")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="the figures of one round")
    asked = parser.parse_args(argv)
    if asked.json:
        Console(soft_wrap=True).print_json(json.dumps(measure()))
        return 0
    here = Path(__file__).resolve().parents[1]
    checkouts = [here, *([asked.other.resolve()] if asked.other else [])]
    rounds = [[_in_checkout(one) for one in checkouts] for _ in range(asked.rounds)]
    table = Table("version", "microseconds, least", "median", "calls", "calls of the reader")
    for one, figures in zip(checkouts, zip(*rounds, strict=True), strict=True):
        times = [found["microseconds"] for found in figures]
        calls = (figures[0]["calls"], figures[0]["reader"])
        table.add_row(str(one), f"{min(times):.0f}", f"{median(times):.0f}", *map(str, calls))
    Console(width=120).print(table)
    return 0


def _in_checkout(checkout: Path) -> dict[str, Any]:
    """Return the figures of one round in a process of its own, with the code and packages of a checkout."""
    command = [str(checkout / ".venv" / "bin" / "python"), str(Path(__file__).resolve()), "--json"]
    ran = subprocess.run(command, cwd=checkout, env={"PYTHONPATH": str(checkout)}, capture_output=True, check=True)
    figures: dict[str, Any] = json.loads(ran.stdout)
    return figures


def measure() -> dict[str, Any]:
    """Return the microseconds of CPU of a translation, its function calls, and those of the reader."""
    translate = translation()
    translate()
    by_file = calls(translate)
    begun = time.thread_time_ns()
    for _ in range(TIMES):
        translate()
    microseconds = (time.thread_time_ns() - begun) / TIMES / 1_000
    return {"microseconds": microseconds, "calls": by_file.total(), "reader": of_reader(by_file)}


def translation() -> Callable[[], object]:
    """Return a function that translates the message, which must be accepted."""
    from services.intake.translators import hl7v2
    from services.intake.translators.inbound_message import InboundMessage
    from services.intake.translators.translator import Translated
    from services.reference import directory as directories
    from services.reference import partners
    from services.runtime.settings import CHECKOUT

    reference_data = CHECKOUT / "infra" / "reference_data"
    translate = hl7v2.translator(hl7v2.load(reference_data / "hl7v2", directories.catalogue(reference_data)))
    partner = partners.load(reference_data, None).by_id("uhl")
    assert partner is not None
    inbound = InboundMessage(partner, MESSAGE.read_bytes(), datetime(2026, 11, 5, 9, 30, tzinfo=UTC), b"key")
    if not isinstance(translate(inbound), Translated):
        raise SystemExit("the message is refused")
    return lambda: translate(inbound)


def calls(run: Callable[[], object]) -> Counter[str]:
    """Return the number of function calls by the file of the caller (C functions) or the function (Python)."""
    by_file: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: object) -> None:
        if event in ("call", "c_call"):
            by_file[frame.f_code.co_filename] += 1

    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(None)
    return by_file


def of_reader(by_file: Counter[str]) -> int:
    """Return the calls of the reader of segments and fields."""
    return sum(number for file, number in by_file.items() if any(part in file for part in READERS))


if __name__ == "__main__":
    sys.exit(main())
