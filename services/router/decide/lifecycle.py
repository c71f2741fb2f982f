"""Decide what a sender's message and what a hub's command do to everything under one person key.

Both decisions are pure: state and input in, state and events out. Messages are applied in referrals.py, commands in commands.py,
progress.py, transfers.py and closures.py; disclosure.py decides who may read what.
"""

from collections.abc import Sequence

from schemas.events import CommandRefused, HubCommand, ReferralEvent
from schemas.model import CaseId, HubId
from services.router.decide.acting_hub import CommandRejection
from services.router.decide.commands import handle
from services.router.decide.model import PersonAggregate
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
    """What a sender's message does. One that is older than what is known changes nothing.

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
    """What a hub's command does; a refused one changes nothing, and only that hub hears why.

    `unknown_fields` are the paths of fields that came with it and that its type does not have.
    """
    correlation_id = _correlation(state, command.case_id) or command_id
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


def _correlation(state: PersonAggregate, case_id: CaseId) -> str | None:
    """The conversation of the case's first referral that is still open, or of its first: a command belongs to a case."""
    records = [one for one in state.referrals.values() if one.case_id == case_id]
    first = min(records, key=lambda one: (not one.is_open, one.reference), default=None)
    return first.correlation_id if first else None
