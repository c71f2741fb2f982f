"""The records of a topic for the checker; a record with the same id again is a repeat."""

from collections.abc import Iterable

from tests.chaos.harness.evidence import Evidence
from tests.chaos.harness.sinks import Entry

CASE_EVENT = "case.event"


def of(e: Evidence, topic: str) -> list[Entry]:
    return [entry for entry in e.records if entry.topic == topic and "ce_id" in entry.headers]


def first_occurrences_of(entries: Iterable[Entry]) -> list[Entry]:
    """Return the first occurrences in the order of the log; a record with the same id again is a repeat."""
    seen: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        seen.setdefault((entry.topic, entry.headers["ce_id"]), entry)
    return list(seen.values())


def first_occurrences(e: Evidence) -> list[Entry]:
    return first_occurrences_of(of(e, CASE_EVENT))


def type_of(entry: Entry) -> str:
    """Return the last part of the event type: uk.lightbulb.case.opened.v1 is opened."""
    return entry.headers.get("ce_type", "").removeprefix("uk.lightbulb.case.").removesuffix(".v1")
