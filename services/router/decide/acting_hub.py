"""The hub that commands, in its part of a case: what it may work on, and the words of a refusal."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from schemas.case import CaseStatus
from schemas.events import Assess, CaseEvent, HubCommand, Record
from schemas.model import HubId, Reference
from services.reference.directory.model import Hub
from services.router.decide import disclosure
from services.router.decide.model import CaseRecord, ReferralRecord, Responsibility, Role
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
]


@dataclass(frozen=True, slots=True)
class CommandRejection:
    """Why a command is refused, and what its hub should do."""

    reason: RejectionReason
    explanation: str
    hub_version: int | None = None


@dataclass(frozen=True, slots=True)
class ActingHub:
    """The hub that commands, in its part of the case."""

    hub: Hub
    case: CaseRecord
    role: Role

    @property
    def in_stay(self) -> bool:
        """True for the hospital team that holds the case during a stay."""
        return self.case.stay is not None and self.role == "holder"

    @property
    def responsibility(self) -> Responsibility:
        """Its part of the case."""
        return self.case.stay if self.in_stay and self.case.stay else self.case.home

    def with_responsibility(self, **update: Any) -> CaseRecord:
        """The case with its part changed."""
        responsibility = self.responsibility.model_copy(update=update)
        return self.case.model_copy(update={"stay" if self.in_stay else "home": responsibility})

    def serves(self, record: ReferralRecord) -> bool:
        """During a stay the hospital team works on the hospital's referrals, and the home hub on the community's."""
        return self.case.stay is None or record.in_stay == self.in_stay


def authorise(transition: Transition, command: HubCommand) -> ActingHub | CommandRejection:
    """The commanding hub in its part of the case; refused if it has none, or if `expected_version` is out of date."""
    hub = transition.context.directory.hub(transition.trigger.hub)
    case = transition.cases.get(command.case_id)
    cursor = case.cursors.get(hub.id) if case and hub else None
    if case is None or hub is None or cursor is None:
        return CommandRejection(
            "unknown-case", "No such case was ever given to this hub: check case_id and person_key."
        )
    rejection = _reason_to_reject(case, cursor.role, command, cursor.min_expected_version, cursor.version)
    return rejection or ActingHub(hub, case, cursor.role)


def _reason_to_reject(
    case: CaseRecord, role: Role, command: HubCommand, min_expected_version: int, version: int
) -> CommandRejection | None:
    if role == "former":
        return CommandRejection("not-permitted", "The case is no longer with this hub.", version)
    if case.ended:
        return CommandRejection("impossible", "The case has ended; a new need is a new referral.", version)
    if command.expected_version < min_expected_version:
        return CommandRejection("stale", "The case has changed; read the latest event and send a new command.", version)
    if command.expected_version > version:
        return CommandRejection("impossible", "expected_version is newer than any event sent to this hub.", version)
    if role == "follow-on" and not isinstance(command, Assess | Record):
        return CommandRejection(
            "not-permitted", "The case is held elsewhere: until then this hub may assess and record.", version
        )
    return None


def reject(acting: ActingHub, reason: RejectionReason, explanation: str) -> CommandRejection:
    """A refusal, with the version that the hub should have expected."""
    return CommandRejection(reason, explanation, acting.case.cursors[acting.hub.id].version)


def not_accepted(acting: ActingHub) -> CommandRejection | None:
    """Refused until the hub has accepted."""
    return (
        None
        if acting.responsibility.accepted
        else reject(acting, "impossible", "The hub has not accepted the case yet.")
    )


def not_workable(transition: Transition, acting: ActingHub, references: Iterable[Reference]) -> CommandRejection | None:
    """References that this hub may not work on: those it cannot see are unknown to it."""
    for reference in references:
        record = transition.referrals.get(reference)
        if (
            record is None
            or record.case_id != acting.case.case_id
            or not record.is_open
            or not _may_see(acting, record)
        ):
            return reject(acting, "unknown-need", "A referral that the command names is not open on this case.")
        if not acting.serves(record):
            return reject(
                acting, "not-permitted", "During a stay a referral of the community goes on with its home hub."
            )
    return None


def _may_see(acting: ActingHub, record: ReferralRecord) -> bool:
    return disclosure.may_see(acting.case, record, acting.hub.id, acting.role)


def served_by(transition: Transition, acting: ActingHub) -> list[ReferralRecord]:
    """The open referrals that the hub works on."""
    return [record for record in transition.open_of(acting.case.case_id) if acting.serves(record)]


def with_status(records: Iterable[ReferralRecord], status: CaseStatus) -> list[ReferralRecord]:
    """The same referrals with another status."""
    return [one.model_copy(update={"status": status}) for one in records]


def audience(transition: Transition, acting: ActingHub) -> dict[HubId, Role]:
    """Who hears of a command: the hub itself, and the holder of the case. A follow-on hears nothing of the holder's."""
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
    transition.keep(*records)
    transition.emit(event, case, records, audience(transition, acting), **data)
