"""What reading one HL7 v2 message costs in several ways: `python -m tests.contract.translators.measure_hl7v2`. No test: figures for docs.

The least CPU time of many runs, because the machine's other work only ever adds.
"""

import gc
import time
from collections.abc import Callable

import hl7

from services.intake.translators import hl7v2
from services.intake.translators.hl7v2 import er7, field_paths, header
from tests.builders.hl7v2 import a_uhl_message, segment
from tests.contract.translators.adapters import ADAPTERS, DIRECTORY, SERVICES

RUNS = 400
MAPPINGS = hl7v2.load(DIRECTORY / "hl7v2", SERVICES)
UHL = next(one for one in ADAPTERS if one.name == "hl7v2-uhl")
BODY = a_uhl_message(
    more=[
        segment("EVN", {1: "I12", 2: "20261105093000"}),
        segment("NK1", {1: "1", 2: "Vance^Tom", 3: "SPO", 5: "0116 496 0003"}),
        segment("DG1", {1: "1", 3: "105526001^Homeless family^SCT"}),
        segment("AL1", {1: "1", 2: "DA", 3: "PEN^Penicillin^L"}),
        segment("IN1", {1: "1", 3: "NHS", 4: "NHS^^^^^^"}),
        segment("OBX", {2: "CE", 3: "LB-PATHWAY^Discharge pathway^L", 5: "P1^Home with support^L", 11: "F"}),
        segment("OBX", {2: "NM", 3: "8867-4^Heart rate^LN", 5: "72", 11: "F"}),
        segment("NTE", {1: "1", 3: "Needs a rail by the back door\\.br\\and half steps"}),
    ]
)
TEXT = BODY.decode()
WANTED = field_paths.select_fields(MAPPINGS["uhl"])


def whole_tree() -> None:
    hl7.parse(TEXT)


def segments_that_are_read() -> None:
    hl7.parse("\r".join(line for line in TEXT.split("\r") if line[:3] in WANTED))


def fields_that_are_read_and_have_parts() -> None:
    found = header.read(BODY)
    assert found is not None
    separators = er7.separators(found)
    assert isinstance(separators, er7.Separators)
    er7.read(TEXT, er7.Reading(separators, "utf-8"), WANTED)


def plain_splitting() -> None:
    [
        [[[c.split("&") for c in r.split("^")] for r in f.split("~")] for f in line.split("|")]
        for line in TEXT.split("\r")
    ]


def whole_translation() -> None:
    UHL.translate(UHL.delivery(BODY))


def least(run: Callable[[], None]) -> float:
    """Microseconds of CPU time."""
    found = []
    for _ in range(RUNS):
        begun = time.process_time_ns()
        run()
        found.append(time.process_time_ns() - begun)
    return min(found) / 1000


if __name__ == "__main__":
    gc.disable()
    print(f"{TEXT.count(chr(13))} segments, {len(BODY)} bytes")
    for one in (
        whole_tree,
        segments_that_are_read,
        fields_that_are_read_and_have_parts,
        plain_splitting,
        whole_translation,
    ):
        print(f"{one.__name__.replace('_', ' '):40}{least(one):8.0f} us")
