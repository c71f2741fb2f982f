"""Say in words why a record became a dead letter: its stored reason consists of places and kinds of faults."""

import re
from collections.abc import Mapping

_CLASSES: Mapping[str, str] = {
    "decision: UnknownReferral": "the referral that it names is not known; the message that made it may be missing, or come later",
    "decision: UnknownService": "it names a service that is not in the directory of the router",
    "compose: UnknownService": "it names a service that is not in the directory of the notifier",
}

_KINDS: tuple[tuple[str, str], ...] = (
    (r"missing", "is missing"),
    (r"json_.*", "is not JSON"),
    (r"(datetime|timezone)_.*", "is not a date and time with an offset, such as 2026-11-23T10:00:00Z"),
    (r"date_.*", "is not a date, such as 2026-11-23"),
    (r"time_.*", "is not a time, such as 10:00"),
    (r"(enum|literal_error)", "is not a code of the list"),
    (r"string_(too_short|too_long|pattern_mismatch)", "is not as long, or not of the form, that is expected"),
    (r"string_.*", "is not text"),
    (r"(int|float|decimal|greater|less|multiple|finite).*", "is not a number that is expected"),
    (r"bool_.*", "is not true or false"),
    (r"(tuple|list|set|frozen_set|iterable)_.*|too_short|too_long", "is not a list of the length that is expected"),
    (r"(model|dict|mapping|dataclass|is_instance).*", "is not a group of fields"),
    (r"extra_forbidden|unexpected.*", "is not a field that is known"),
    (r"(value_error|assertion_error)", "is not valid: another rule of the field is not met"),
    (r"[a-z]+(_[a-z]+)*", "is not valid"),
)
"""What a kind of fault means, by a pattern of pydantic's error types."""


def in_words(reason: str) -> str:
    """Return a stored reason in words, such as `visit_at is not a date and time ...`; one that is in words already as it is."""
    if reason in _CLASSES:
        return _CLASSES[reason]
    stage, _, kind = reason.partition(": ")
    if stage in ("decision", "compose"):
        return f"the {'router' if stage == 'decision' else 'notifier'} failed on it ({kind}): report the defect"
    if reason.startswith("sqlstate"):
        return f"the database refused its data ({reason}): report the defect"
    return "; ".join(map(_fault, reason.split("; ")))


def _fault(fault: str) -> str:
    place, separator, kind = fault.partition(": ")
    means = next((words for pattern, words in _KINDS if re.fullmatch(pattern, kind)), None)
    return f"{'the value' if place == 'value' else place} {means}" if separator and means else fault
