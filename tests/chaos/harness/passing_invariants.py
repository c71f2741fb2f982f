"""I11: a fault that passes is waited out. No message is refused for it, and a service that can do nothing says so.

That no record becomes a dead letter is I1, that no feedback fails I5, that nobody waits longer than the fault I9.
"""

from collections.abc import Iterator

from tests.chaos.harness.evidence import Evidence

WITH_A_CIRCUIT = ("endpoint-redirects", "endpoint-not-found")
ATTEMPTS = 200
"""How many attempts an endpoint may get that answers nobody: those that were on their way when its circuit opened, and a few."""


def passing_faults_are_waited_out(e: Evidence) -> Iterator[str]:
    """Check what senders were answered, what processes said of themselves, and that they did not end."""
    for what in e.history.held_against_senders:
        yield f"{what} was refused for an error of the database"
    for fault, process in e.history.said_ready:
        yield f"{process} did not say that it was not ready during {fault}"
    for process in e.history.ended_by_themselves:
        yield f"{process} ended while it had to wait for its servers"
    for fault in e.history.faults:
        if fault.name in WITH_A_CIRCUIT and fault.met > ATTEMPTS:
            yield f"{fault.target} was tried {fault.met} times during {fault.name}"
