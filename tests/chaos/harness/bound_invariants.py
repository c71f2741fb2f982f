"""I9: while one key, topic, hub or recipient is in trouble, nobody else waits. Malformed commands are answered once each (I2)."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta

from tests.chaos.harness.evidence import Evidence
from tests.chaos.harness.history import InjectedFault, Wait
from tests.chaos.harness.topic_records import first_occurrences_of, type_of

OTHERS_SECONDS = 10.0
"""How long an input or feedback may take that such a fault does not concern; without a fault it takes a second."""


def others_do_not_wait(e: Evidence) -> Iterator[str]:
    """Check the inputs and feedback that waited while such a fault stood and no other, and that only a flooded topic was paused."""
    for fault in e.history.faults:
        if fault.holds is not None and not e.history.overlaps(fault):
            yield from _waiting_inputs(e, fault)
            yield from _waiting_feedback(e, fault)
    flooded = {entry.topic for entry in e.flooding}
    for topic in sorted(e.history.paused - flooded):
        yield f"{topic} was read no further, but {sorted(flooded)} were flooded"


def _waiting_inputs(e: Evidence, fault: InjectedFault) -> Iterator[str]:
    concerned = _persons_of(e, fault.holds or "")
    for wait in e.history.waits:
        waited = _seconds_during(wait, fault, e.history.quiescent_at)
        if waited > OTHERS_SECONDS and wait.person not in concerned:
            yield f"input {wait.place} of person {wait.person} waited {waited:.0f} s because of {fault.name} ({fault.target})"


def _seconds_during(wait: Wait, fault: InjectedFault, quiescent_at: float) -> float:
    """Return for how many seconds an input waited since the fault began; 0 if it did not wait during the fault."""
    seen, ended = wait.seen or quiescent_at, fault.ended or quiescent_at
    begun = fault.begun + fault.grace
    return seen - max(wait.begun, begun) if wait.begun < ended and seen > begun else 0.0


def _persons_of(e: Evidence, topic: str) -> set[int]:
    """Return the plan's persons about whom there is an event on this topic."""
    keys = {row["person_key"] for row in e.for_hubs if row["target"] == topic}
    concerned = {row["reference"] for row in e.intake if row["person_key"] in keys}
    return {answer.message.person for answer in e.history.answers if answer.reference in concerned}


def _waiting_feedback(e: Evidence, fault: InjectedFault) -> Iterator[str]:
    assert fault.began_at is not None
    for row in e.feedback:
        composed: datetime | None = row.get("composed_at")
        ended = fault.ended_at or composed
        if composed is None or ended is None or row["recipient"] == fault.holds or row["state"] == "failed":
            continue
        waited = (row["accepted_at"] - composed).total_seconds() if row["accepted_at"] else float("inf")
        if fault.began_at + timedelta(seconds=fault.grace) <= composed <= ended and waited > OTHERS_SECONDS:
            yield f"feedback to {row['recipient']} waited {waited:.0f} s because of {fault.name} ({fault.target})"


def malformed_commands_are_refused_once(e: Evidence) -> Iterator[str]:
    """Check that each malformed command that names its person has one answer, which says what is wrong with it."""
    answers: Counter[tuple[str, str, str | None]] = Counter()
    for entry in first_occurrences_of(one for one in e.records if one.topic.endswith(".case")):
        if type_of(entry) == "command-refused" and entry.data.get("reason") == "invalid":
            answers[entry.topic, entry.key, entry.data.get("command_id")] += 1
            if not entry.data.get("places"):
                yield f"a refusal on {entry.topic} does not say what is wrong"
    sent = Counter((f"hub.{one.hub}.case", one.person_key, one.id) for one in e.history.malformed)
    for about, times in sent.items():
        if answers[about] != times:
            topic, _, command = about
            yield f"{times} malformed commands ({command or 'without an id'}) have {answers[about]} answers on {topic}"
