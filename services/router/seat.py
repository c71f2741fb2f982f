"""The hub that commands, in its part of a case: what it may work on, and the words of a refusal."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from schemas.case import CaseStatus
from schemas.events import Assess, CaseEvent, HubCommand, Record
from schemas.model import HubId, Reference
from services.directory import Hub
from services.router import views
from services.router.change import Change
from services.router.state import Case, KnownReferral, Leg, Role

Why = Literal[
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
class Refused:
    """Why a command is refused, and what its hub should do."""

    reason: Why
    explanation: str
    hub_version: int | None = None


@dataclass(frozen=True, slots=True)
class Seat:
    """The hub that commands, in its part of the case."""

    hub: Hub
    case: Case
    role: Role

    @property
    def in_stay(self) -> bool:
        """True for the hospital team that holds the case during a stay."""
        return self.case.stay is not None and self.role == "holder"

    @property
    def leg(self) -> Leg:
        """Its part of the case."""
        return self.case.stay if self.in_stay and self.case.stay else self.case.home

    def with_leg(self, **update: Any) -> Case:
        """The case with its part changed."""
        leg = self.leg.model_copy(update=update)
        return self.case.model_copy(update={"stay" if self.in_stay else "home": leg})

    def serves(self, known: KnownReferral) -> bool:
        """During a stay the hospital team works on the hospital's referrals, and the home hub on the community's."""
        return self.case.stay is None or known.in_stay == self.in_stay


def take_seat(change: Change, command: HubCommand) -> Seat | Refused:
    """The commanding hub in its part of the case; refused if it has none, or if `expected_version` is out of date."""
    hub = change.grounds.directory.hub(change.cause.hub)
    case = change.cases.get(command.case_id)
    cursor = case.cursors.get(hub.id) if case and hub else None
    if case is None or hub is None or cursor is None:
        return Refused("unknown-case", "No such case was ever given to this hub: check case_id and person_key.")
    refused = _not_now(case, cursor.role, command, cursor.min_expected_version, cursor.version)
    return refused or Seat(hub, case, cursor.role)


def _not_now(case: Case, role: Role, command: HubCommand, min_expected_version: int, version: int) -> Refused | None:
    if role == "former":
        return Refused("not-permitted", "The case is no longer with this hub.", version)
    if case.ended:
        return Refused("impossible", "The case has ended; a new need is a new referral.", version)
    if command.expected_version < min_expected_version:
        return Refused("stale", "The case has changed; read the latest event and send a new command.", version)
    if command.expected_version > version:
        return Refused("impossible", "expected_version is newer than any event sent to this hub.", version)
    if role == "follow-on" and not isinstance(command, Assess | Record):
        return Refused(
            "not-permitted", "The case is held elsewhere: until then this hub may assess and record.", version
        )
    return None


def refuse(seat: Seat, reason: Why, explanation: str) -> Refused:
    """A refusal, with the version that the hub should have expected."""
    return Refused(reason, explanation, seat.case.cursors[seat.hub.id].version)


def not_accepted(seat: Seat) -> Refused | None:
    """Refused until the hub has accepted."""
    return None if seat.leg.accepted else refuse(seat, "impossible", "The hub has not accepted the case yet.")


def not_ours(change: Change, seat: Seat, references: Iterable[Reference]) -> Refused | None:
    """References that this hub may not work on: those it cannot see are unknown to it."""
    for reference in references:
        known = change.referrals.get(reference)
        if known is None or known.case_id != seat.case.case_id or not known.is_open or not _sees(seat, known):
            return refuse(seat, "unknown-need", "A referral that the command names is not open on this case.")
        if not seat.serves(known):
            return refuse(seat, "not-permitted", "During a stay a referral of the community goes on with its home hub.")
    return None


def _sees(seat: Seat, known: KnownReferral) -> bool:
    return views.sees(seat.case, known, seat.hub.id, seat.role)


def served_by(change: Change, seat: Seat) -> list[KnownReferral]:
    """The open referrals that the hub works on."""
    return [known for known in change.open_of(seat.case.case_id) if seat.serves(known)]


def with_status(known: Iterable[KnownReferral], status: CaseStatus) -> list[KnownReferral]:
    """The same referrals with another status."""
    return [one.model_copy(update={"status": status}) for one in known]


def hearing(change: Change, seat: Seat) -> dict[HubId, Role]:
    """Who hears of a command: the hub itself, and the holder of the case. A follow-on hears nothing of the holder's."""
    roles = change.roles(seat.case)
    return {hub: role for hub, role in roles.items() if hub == seat.hub.id or role == "holder"}


def tell(
    change: Change, seat: Seat, event: type[CaseEvent], case: Case, told: list[KnownReferral], **data: Any
) -> None:
    change.keep(*told)
    change.happen(event, case, told, hearing(change, seat), **data)
