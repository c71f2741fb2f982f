"""Decide what a sender's message or a hub's command does to the state under one person key.

Both decisions are pure: state and input in, new state and events out. referrals.py applies messages; commands.py, progress.py,
transfers.py and closures.py apply commands; disclosure.py decides what each reader may see.
"""

from collections.abc import Sequence

from schemas.events import CommandRefused, HubCommand, ReferralEvent
from schemas.model import CaseId, HubId
from services.router.decide.acting_hub import CommandRejection
from services.router.decide.aggregate import PersonAggregate
from services.router.decide.commands import handle
from services.router.decide.referrals import UnknownReferral, apply_referral_event
from services.router.decide.transition import (
    CaseDecision,
    DecisionContext,
    EmittedEvent,
    EmittedRejection,
    Transition,
    Trigger,
)

__all__ = ["CaseDecision", "DecisionContext", "EmittedEvent", "EmittedRejection", "UnknownReferral", "apply", "decide"]


def apply(state: PersonAggregate, event: ReferralEvent, correlation_id: str, context: DecisionContext) -> CaseDecision:
    """Decide what a sender's message does; one that is older than the stored version changes nothing.

    Raises UnknownReferral, UnknownService.
    """
    transition = Transition(state, context, Trigger(correlation_id))
    apply_referral_event(transition, event)
    return transition.decision()


def decide(
    state: PersonAggregate,
    command: HubCommand,
    hub: HubId,
    command_id: str,
    context: DecisionContext,
    unknown_fields: Sequence[str] = (),
) -> CaseDecision:
    """Decide what a hub's command does; a refused one changes nothing and is reported to that hub only.

    `unknown_fields`: paths of fields in the command that its type does not have.
    """
    correlation_id = _correlation_id(state, command.case_id) or command_id
    transition = Transition(state, context, Trigger(correlation_id, hub, command_id))
    rejection = handle(transition, command, unknown_fields)
    if rejection is None:
        return transition.decision()
    return CaseDecision(state, (EmittedRejection(hub, _rejected(command, command_id, rejection), correlation_id),))


def _rejected(command: HubCommand, command_id: str, rejection: CommandRejection) -> CommandRefused:
    return CommandRefused(
        case_id=command.case_id,
        person_key=command.person_key,
        command_id=command_id,
        command=command.TYPE,
        reason=rejection.reason,
        explanation=rejection.explanation,
        hub_version=rejection.hub_version,
    )


def _correlation_id(state: PersonAggregate, case_id: CaseId) -> str | None:
    """Return the correlation id of the first open referral of the case, or of its first referral."""
    if first := state.first_of(case_id):
        return first.correlation_id
    tally = state.case_tallies.get(case_id)
    return tally.first_ended[1] if tally and tally.first_ended else None
