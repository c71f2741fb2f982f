"""I11: a fault that passes is waited out. No message is refused for it, and a service that can do nothing says so.

That no record becomes a dead letter is I1, that no feedback fails I5, that nobody waits longer than the fault I9.
"""

from collections.abc import Iterator

from tests.chaos.harness.evidence import Evidence


def passing_faults_are_waited_out(e: Evidence) -> Iterator[str]:
    """Check what senders were answered, what processes said of themselves, and that they did not end."""
    for what in e.history.held_against_senders:
        yield f"{what} was refused for an error of the database"
    for fault, process in e.history.said_ready:
        yield f"{process} did not say that it was not ready during {fault}"
    for process in e.history.ended_by_themselves:
        yield f"{process} ended while it had to wait for its servers"
