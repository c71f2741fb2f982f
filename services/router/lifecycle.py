"""The two decisions about everything under one person key: what a sender's message does, and what a hub's command does.

Both are pure: state and input in, state and happenings out; no clock, no chance, no I/O. How is told in arrivals.py, commands.py and
endings.py; who may read what of it in views.py.
"""

from collections.abc import Sequence

from schemas.events import CommandRefused, HubCommand, ReferralEvent
from schemas.model import CaseId, HubId
from services.router.arrivals import UnknownReferral, arrive
from services.router.change import Cause, Change, Decision, Grounds, Happening, Refusal
from services.router.commands import obey
from services.router.seat import Refused
from services.router.state import KeyState

__all__ = ["Decision", "Grounds", "Happening", "Refusal", "UnknownReferral", "apply", "decide"]


def apply(state: KeyState, event: ReferralEvent, correlation_id: str, grounds: Grounds) -> Decision:
    """What a sender's message does. One that is older than what is known changes nothing.

    Raises UnknownReferral, UnknownService.
    """
    change = Change(state, grounds, Cause(correlation_id))
    arrive(change, event)
    return change.decision()


def decide(
    state: KeyState,
    command: HubCommand,
    hub: HubId,
    command_id: str,
    grounds: Grounds,
    unknown_fields: Sequence[str] = (),
) -> Decision:
    """What a hub's command does; a refused one changes nothing, and only that hub hears why.

    `unknown_fields` are the paths of fields that came with it and that its type does not have.
    """
    correlation_id = _correlation(state, command.case_id) or command_id
    change = Change(state, grounds, Cause(correlation_id, hub, command_id))
    refused = obey(change, command, unknown_fields)
    if refused is None:
        return change.decision()
    return Decision(state, (Refusal(hub, _refusal(command, command_id, refused), correlation_id),))


def _refusal(command: HubCommand, command_id: str, refused: Refused) -> CommandRefused:
    return CommandRefused(
        case_id=command.case_id,
        person_key=command.person_key,
        command_id=command_id,
        command=command.TYPE,
        reason=refused.reason,
        explanation=refused.explanation,
        hub_version=refused.hub_version,
    )


def _correlation(state: KeyState, case_id: CaseId) -> str | None:
    """The conversation of the case's first referral that is still open, or of its first: a command belongs to a case."""
    known = [one for one in state.referrals.values() if one.case_id == case_id]
    first = min(known, key=lambda one: (not one.is_open, one.reference), default=None)
    return first.correlation_id if first else None
