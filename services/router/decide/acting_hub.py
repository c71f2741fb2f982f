"""The commanding hub and its part of a case: permissions, and explanations of refusals."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from schemas.case import CaseStatus
from schemas.events import CaseEvent, HubCommand
from schemas.model import HubId, Reference
from services.reference.directory.model import Hub
from services.router.decide import disclosure
from services.router.decide.command_rules import RULES, CommandRule
from services.router.decide.model import CaseRecord, HubCursor, ReferralRecord, Responsibility, Role
from services.router.decide.transition import Transition

RejectionReason = Literal[
    "unknown-case",
    "stale",
    "not-permitted",
    "impossible",
    "unknown-need",
    "unknown-hub",
    "unknown-field",
    "unknown-service",
    "future-date",
]


@dataclass(frozen=True, slots=True)
class CommandRejection:
    """Why a command is refused: reason code, explanation, and the version to decide on."""

    reason: RejectionReason
    explanation: str
    hub_version: int | None = None


@dataclass(frozen=True, slots=True)
class ActingHub:
    """The commanding hub, its part of the case, and the rule of its command."""

    hub: Hub
    case: CaseRecord
    role: Role
    rule: CommandRule

    @property
    def in_stay(self) -> bool:
        """True if the hub is the hospital team that holds the case during a stay."""
        return self.case.stay is not None and self.role == "holder"

    @property
    def responsibility(self) -> Responsibility:
        """The hub's part of the case."""
        return self.case.stay if self.in_stay and self.case.stay else self.case.home

    def with_responsibility(self, **update: Any) -> CaseRecord:
        """Return the case with these fields of the hub's part replaced."""
        responsibility = self.responsibility.model_copy(update=update)
        return self.case.model_copy(update={"stay" if self.in_stay else "home": responsibility})

    def serves(self, record: ReferralRecord) -> bool:
        """Return True if the hub works on a referral.

        During a stay the hospital team works on referrals of the stay, the home hub on the others.
        """
        return self.case.stay is None or record.in_stay == self.in_stay


def authorise(transition: Transition, command: HubCommand) -> ActingHub | CommandRejection:
    """Return the commanding hub and its part of the case, or a refusal.

    Refused if the hub has no part, may not send this command, or names a version that is out of date.
    """
    hub = transition.context.directory.hub(transition.trigger.hub)
    case = transition.cases.get(command.case_id)
    cursor = case.cursors.get(hub.id) if case and hub else None
    if case is None or hub is None or cursor is None:
        return CommandRejection("unknown-case", "This hub has never received this case. Check case_id and person_key.")
    rule = RULES[type(command)]
    return _reason_to_reject(case, cursor, command, rule) or ActingHub(hub, case, cursor.role, rule)


def _reason_to_reject(
    case: CaseRecord, cursor: HubCursor, command: HubCommand, rule: CommandRule
) -> CommandRejection | None:
    if cursor.role == "former":
        return _rejection(cursor, "not-permitted", _LEFT)
    if case.ended:
        return _rejection(cursor, "impossible", "The case has ended. Send a new referral for a new need.")
    if rule.needs_latest and command.expected_version < cursor.min_expected_version:
        return _rejection(cursor, "stale", _STALE)
    if command.expected_version > cursor.version:
        return _rejection(cursor, "impossible", _NEVER_SENT)
    if cursor.role not in rule.roles:
        return _rejection(cursor, "not-permitted", _NOT_THE_HOLDER)
    return None


_LEFT = "The case is no longer with this hub, which therefore cannot send commands for it."
_STALE = "The case has changed since expected_version. Read the latest event of the case, then send a new command."
_NEVER_SENT = "expected_version is higher than the hub_version of the latest event sent to this hub."
_NOT_THE_HOLDER = "Another hub holds the case. Until this hub is the holder, it can only assess, record, mark as read, and report a death."


def _rejection(cursor: HubCursor, reason: RejectionReason, explanation: str) -> CommandRejection:
    return CommandRejection(reason, explanation, cursor.version)


def reject(acting: ActingHub, reason: RejectionReason, explanation: str) -> CommandRejection:
    """Return a refusal with the current version of the case for this hub."""
    return _rejection(acting.case.cursors[acting.hub.id], reason, explanation)


def not_accepted(acting: ActingHub) -> CommandRejection | None:
    """Return a refusal if the hub must accept the case before it sends this command."""
    if acting.role not in acting.rule.accepted or acting.responsibility.accepted:
        return None
    return reject(acting, "impossible", "The hub must accept the case first. Send accept.")


def not_workable(transition: Transition, acting: ActingHub, references: Iterable[Reference]) -> CommandRejection | None:
    """Return a refusal if the hub may not work on one of these referrals.

    A referral that the hub may not see is refused like an unknown one.
    """
    for reference in references:
        record = transition.referrals.get(reference)
        if (
            record is None
            or record.case_id != acting.case.case_id
            or not record.is_open
            or not _may_see(acting, record)
        ):
            return reject(
                acting,
                "unknown-need",
                "The command names a referral that is not open on this case. Use the references in the latest event.",
            )
        if not acting.serves(record):
            return reject(
                acting,
                "not-permitted",
                "During a hospital stay, referrals from the community stay with the home hub. Leave them out.",
            )
    return None


def _may_see(acting: ActingHub, record: ReferralRecord) -> bool:
    return disclosure.may_see(acting.case, record, acting.hub.id, acting.role)


def served_by(transition: Transition, acting: ActingHub) -> list[ReferralRecord]:
    """Return the open referrals that the hub works on."""
    return [record for record in transition.open_of(acting.case.case_id) if acting.serves(record)]


def with_status(records: Iterable[ReferralRecord], status: CaseStatus) -> list[ReferralRecord]:
    """Return the referrals with another status."""
    return [record.model_copy(update={"status": status}) for record in records]


def audience(transition: Transition, acting: ActingHub) -> dict[HubId, Role]:
    """Return the hubs that receive the event of a command: the commanding hub and the holder.

    A follow-on hub does not receive events of the holder's commands.
    """
    roles = transition.roles(acting.case)
    return {hub: role for hub, role in roles.items() if hub == acting.hub.id or role == "holder"}


def emit_to(
    transition: Transition,
    acting: ActingHub,
    event: type[CaseEvent],
    case: CaseRecord,
    records: list[ReferralRecord],
    **data: Any,
) -> None:
    """Replace these referrals, and emit an event of a command to its audience."""
    transition.keep(*records)
    transition.emit(event, case, records, audience(transition, acting), **data)
