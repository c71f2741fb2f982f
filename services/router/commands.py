"""Decides what a hub's command does to a case. Who commands is the topic that it came by, never a field of it."""

from collections.abc import Iterator, Sequence
from typing import Any, assert_never

from schemas.case import CaseStatus, Ended
from schemas.events import (
    Accept,
    Assess,
    Assign,
    Book,
    Cancel,
    CaseCancelled,
    CaseCompleted,
    CaseEvent,
    CaseRejected,
    Complete,
    Hold,
    HubCommand,
    Record,
    Reject,
    Start,
    Transfer,
)
from schemas.model import Reference
from schemas.referral import ServiceCode
from services.router import endings, moves, work
from services.router.change import Change
from services.router.seat import Refused, Seat, not_accepted, not_ours, refuse, served_by, take_seat


def obey(change: Change, command: HubCommand, unknown_fields: Sequence[str] = ()) -> Refused | None:
    """Apply a command, or say why not."""
    found = take_seat(change, command)
    if isinstance(found, Refused):
        return found
    if refused := _not_understood(change, found, command, unknown_fields):
        return refused
    match command:
        case Assign():
            return moves.assign(change, found, command)
        case Accept():
            return work.accept(change, found)
        case Hold():
            return work.hold(change, found, command)
        case Book():
            return work.book(change, found, command)
        case Start():
            return work.start(change, found)
        case Assess():
            return work.assess(change, found, command)
        case Record():
            return work.record(change, found, command)
        case Complete():
            return _complete(change, found, command)
        case Reject():
            return _reject(change, found, command)
        case Cancel():
            return _cancel(change, found, command)
        case Transfer():
            return moves.transfer(change, found, command)
        case _:
            assert_never(command)


def _not_understood(change: Change, seat: Seat, command: HubCommand, unknown_fields: Sequence[str]) -> Refused | None:
    """Refuse fields that the command does not have, and services that are not in the catalogue, by their places."""
    if unknown_fields:
        return refuse(seat, "unknown-field", f"Not a field of this command: {_listed(unknown_fields)}.")
    if unknown := _unknown_services(change, command):
        return refuse(seat, "unknown-service", f"Not a code of the service catalogue: {_listed(unknown)}.")
    return None


def _listed(places: Sequence[str]) -> str:
    """The first few places: an explanation is one line."""
    more = f" and {len(places) - 4} more" if len(places) > 4 else ""
    return ", ".join(places[:4]) + more


def _unknown_services(change: Change, command: HubCommand) -> list[str]:
    """Where the command names services that are not in the catalogue; one that the referral still waits for is known."""
    return [
        place
        for place, reference, service in _services_of(command)
        if not change.grounds.directory.offers(service) and not _is_open(change, reference, service)
    ]


def _services_of(command: HubCommand) -> Iterator[tuple[str, Reference, ServiceCode]]:
    """Each service that a command names: its place, the referral it is named for, its code."""
    for name in ("findings", "interventions"):
        for place, one in enumerate(getattr(command, name, ())):
            yield f"{name}.{place}.service", one.reference, one.service
    for place, ended in enumerate(getattr(command, "ended", ())):
        yield from ((f"ended.{place}.needs.{n}", ended.reference, need) for n, need in enumerate(ended.needs))


def _is_open(change: Change, reference: Reference, service: ServiceCode) -> bool:
    known = change.referrals.get(reference)
    return known is not None and service in known.open_needs


# ---- commands that end needs ----------------------------------------------------------------------------------------


def _complete(change: Change, seat: Seat, command: Complete) -> Refused | None:
    refused = (
        not_accepted(seat)
        or _not_open(change, seat, command.ended)
        or not_ours(change, seat, (done.reference for done in command.interventions))
    )
    if refused is None:
        change.keep(*(work.with_done(known, command.interventions) for known in served_by(change, seat)))
        _end(change, seat, CaseCompleted, command.ended, CaseStatus.COMPLETED, scores=command.scores)
    return refused


def _reject(change: Change, seat: Seat, command: Reject) -> Refused | None:
    refused = _not_open(change, seat, command.ended)
    if refused is None and command.refer_to and change.grounds.directory.contact(command.refer_to) is None:
        refused = refuse(seat, "unknown-hub", "refer_to is not a hub or an authority of the directory.")
    if refused is None and any(_is_at_work(change, ended) for ended in command.ended):
        refused = refuse(seat, "impossible", "Work has begun: cancel with a reason instead of rejecting.")
    if refused is None:
        data: dict[str, Any] = {"reason": command.reason, "refer_to": command.refer_to}
        _end(change, seat, CaseRejected, command.ended, CaseStatus.REJECTED, **data)
    return refused


def _is_at_work(change: Change, ended: Ended) -> bool:
    return change.referrals[ended.reference].status is CaseStatus.IN_PROGRESS


def _cancel(change: Change, seat: Seat, command: Cancel) -> Refused | None:
    refused = _not_open(change, seat, command.ended)
    if refused is None:
        _end(change, seat, CaseCancelled, command.ended, CaseStatus.CANCELLED, reason=command.reason)
    return refused


def _not_open(change: Change, seat: Seat, ended: Sequence[Ended]) -> Refused | None:
    refused = not_ours(change, seat, (one.reference for one in ended))
    if refused is None and any(set(one.needs) - set(change.referrals[one.reference].open_needs) for one in ended):
        refused = refuse(seat, "unknown-need", "A need that the command names is not open on its referral.")
    return refused


def _end(
    change: Change, seat: Seat, event: type[CaseEvent], ended: Sequence[Ended], how: CaseStatus, **data: Any
) -> None:
    endings.end(change, seat.case, event, _each_once(ended), how, **data)


def _each_once(ended: Sequence[Ended]) -> list[Ended]:
    needs: dict[Reference, dict[ServiceCode, None]] = {}
    for one in ended:
        needs.setdefault(one.reference, {}).update(dict.fromkeys(one.needs))
    return [Ended(reference=reference, needs=tuple(named)) for reference, named in needs.items()]
