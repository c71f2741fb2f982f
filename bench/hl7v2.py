"""Measure what translating an HL7 v2 referral costs: `python -m bench.hl7v2`, and `--with CHECKOUT` for another version of it.

The CPU time and the function calls of a whole translation, to a validated referral, and of reading every component of the same fields.
Versions are measured in turns, so that a busy machine slows both alike.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any

from rich.console import Console
from rich.table import Table

MESSAGE = Path(__file__).parent / "referral.hl7"
FIELDS = {
    "MSH": (3, 4, 14),
    "RF1": (1, 2, 3, 6, 7, 9, 10),
    "PRD": (1, 2, 4, 5, 7),
    "PID": (3, 5, 7, 8, 11, 13, 14, 15, 29, 30, 32, 40),
    "PD1": (3, 4, 12),
    "NK1": (2, 3, 5, 6),
    "PV1": (2, 3, 36, 37, 44, 45),
    "PV2": (3, 9),
    "DG1": (3,),
    "OBX": (2, 3, 5, 11, 14, 16),
    "NTE": (3, 4),
}
"""Fields that the measurement reads with every version of the reader."""

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
    table = Table("version", "", "microseconds, least", "median", "calls")
    for one, figures in zip(checkouts, zip(*rounds, strict=True), strict=True):
        for name in figures[0]:
            times = [found[name]["microseconds"] for found in figures]
            table.add_row(str(one), name, f"{min(times):.0f}", f"{median(times):.0f}", str(figures[0][name]["calls"]))
    Console(width=120).print(table)
    return 0


def _in_checkout(checkout: Path) -> dict[str, Any]:
    """Return the figures of one round in a process of its own, with the code and packages of a checkout."""
    command = [str(checkout / ".venv" / "bin" / "python"), str(Path(__file__).resolve()), "--json"]
    ran = subprocess.run(command, cwd=checkout, env={"PYTHONPATH": str(checkout)}, capture_output=True, check=True)
    figures: dict[str, Any] = json.loads(ran.stdout)
    return figures


def measure() -> dict[str, Any]:
    """Return the microseconds of CPU and the function calls of a translation, and of reading alone."""
    return {
        name: {"microseconds": _microseconds(run), "calls": calls(run)}
        for name, run in (("translation", translation()), ("reading", reading()))
    }


def _microseconds(run: Callable[[], object]) -> float:
    run()
    begun = time.thread_time_ns()
    for _ in range(TIMES):
        run()
    return (time.thread_time_ns() - begun) / TIMES / 1_000


def reading() -> Callable[[], object]:
    """Return a function that reads every component of the fields, from the bytes on."""
    from services.intake.translators.hl7v2 import header

    package = "services.intake.translators.hl7v2"
    is_earlier = importlib.util.find_spec(f"{package}.er7") is None
    reader: Any = importlib.import_module(f"{package}.segments" if is_earlier else f"{package}.er7")
    body = MESSAGE.read_bytes()

    def read() -> int:
        msh = header.read(body)
        assert msh is not None
        message = reader.read(body.decode(), reader.Reading(reader.separators(msh), "utf-8"), FIELDS)
        repetitions = [
            one for segment in message.segments for number in FIELDS[segment.name] for one in segment.all(number)
        ]
        return sum(one.text(number) is not None for one in repetitions for number in range(1, len(one.parts) + 1))

    if read() < 80:
        raise SystemExit("the message is not read")
    return read


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


def calls(run: Callable[[], object]) -> int:
    """Return how many functions are called, in Python and in C."""
    number = 0

    def count(_: FrameType, event: str, __: object) -> None:
        nonlocal number
        number += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(None)
    return number


if __name__ == "__main__":
    sys.exit(main())
