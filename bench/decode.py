"""Measure what checking FHIR costs a translation: `python -m bench.decode`.

The CPU time of translating one message with full conformance (structs, then fhir.resources if they do not accept it), with
fhir.resources alone, and with conformance off; taken in turns, so that a busy machine slows all three alike.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from unittest.mock import patch

from rich.console import Console
from rich.table import Table

from services.intake.translators import bars_fhir
from services.intake.translators.bars_fhir import compiled
from services.intake.translators.inbound_message import InboundMessage
from services.intake.translators.translator import Translated
from services.reference import directory as directories
from services.reference import partners
from services.runtime.settings import CHECKOUT

DIRECTORY = CHECKOUT / "infra" / "reference_data"
PRACTICE = "gp-alder-lane"
RECEIVED_AT = datetime(2027, 1, 1, tzinfo=UTC)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the microseconds of a translation of each message by each check, and their ratio to conformance off."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("messages", nargs="*", type=Path, default=[CHECKOUT / "bench" / "referral.json"])
    parser.add_argument("--rounds", type=int, default=200)
    asked = parser.parse_args(argv)
    table = Table("message", "bytes", "off", "full", "fhir.resources", "full / off", "fhir.resources / off")
    for path in asked.messages:
        off, full, slow = measure(path.read_bytes(), asked.rounds)
        figures = [f"{off:.0f} us", f"{full:.0f} us", f"{slow:.0f} us", f"{full / off:.2f}", f"{slow / off:.2f}"]
        table.add_row(path.name, str(path.stat().st_size), *figures)
    Console(width=120).print(table)
    return 0


def measure(body: bytes, rounds: int) -> tuple[float, float, float]:
    """Return the median microseconds of CPU for conformance off, full, and fhir.resources alone."""
    translate = bars_fhir.translator(directories.catalogue(DIRECTORY))
    found = partners.load(DIRECTORY, None).by_id(PRACTICE)
    assert found is not None
    off, full = (
        InboundMessage(found.model_copy(update={"conformance": kind}), body, RECEIVED_AT, b"key", *_GUIDS)
        for kind in ("subset", "full")
    )
    if not isinstance(translate(full), Translated):
        raise SystemExit("the message is refused")
    slowly = patch.object(compiled, "is_plain", lambda _: False)
    times: tuple[list[float], ...] = ([], [], [])
    for _ in range(rounds):
        times[0].append(_microseconds(lambda: translate(off)))
        times[1].append(_microseconds(lambda: translate(full)))
        with slowly:
            times[2].append(_microseconds(lambda: translate(full)))
    return median(times[0]), median(times[1]), median(times[2])


_GUIDS = ("c757873d-ec9a-4326-a141-556f43239520", "d4a1f3e0-3a57-4a0f-9e55-1f0f1f6b8a77")


def _microseconds(translate: Callable[[], object], times: int = 5) -> float:
    begun = time.thread_time_ns()
    for _ in range(times):
        translate()
    return (time.thread_time_ns() - begun) / times / 1_000


if __name__ == "__main__":
    sys.exit(main())
