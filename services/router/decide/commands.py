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
from services.router.decide import closures, progress, transfers
from services.router.decide.acting_hub import (
    ActingHub,
    CommandRejection,
    authorise,
    not_accepted,
    not_workable,
    reject,
    served_by,
)
from services.router.decide.transition import Transition


def handle(transition: Transition, command: HubCommand, unknown_fields: Sequence[str] = ()) -> CommandRejection | None:
    """Apply a command, or say why not."""
    acting = authorise(transition, command)
    if isinstance(acting, CommandRejection):
        return acting
    if refused := _not_understood(transition, acting, command, unknown_fields):
        return refused
    match command:
        case Assign():
            return transfers.assign(transition, acting, command)
        case Accept():
            return progress.accept(transition, acting)
        case Hold():
            return progress.hold(transition, acting, command)
        case Book():
            return progress.book(transition, acting, command)
        case Start():
            return progress.start(transition, acting)
        case Assess():
            return progress.assess(transition, acting, command)
        case Record():
            return progress.record(transition, acting, command)
        case Complete():
            return _complete(transition, acting, command)
        case Reject():
            return _reject(transition, acting, command)
        case Cancel():
            return _cancel(transition, acting, command)
        case Transfer():
            return transfers.transfer(transition, acting, command)
        case _:
            assert_never(command)


def _not_understood(
    change: Transition, seat: ActingHub, command: HubCommand, unknown_fields: Sequence[str]
) -> CommandRejection | None:
    """Refuse fields that the command does not have, and services that are not in the catalogue, by their places."""
    if unknown_fields:
        return reject(seat, "unknown-field", f"Not a field of this command: {_listed(unknown_fields)}.")
    if unknown := _unknown_services(change, command):
        return reject(seat, "unknown-service", f"Not a code of the service catalogue: {_listed(unknown)}.")
    return None


def _listed(places: Sequence[str]) -> str:
    """The first few places: an explanation is one line."""
    more = f" and {len(places) - 4} more" if len(places) > 4 else ""
    return ", ".join(places[:4]) + more


def _unknown_services(change: Transition, command: HubCommand) -> list[str]:
    """Where the command names services that are not in the catalogue; one that the referral still waits for is known."""
    return [
        place
        for place, reference, service in _services_of(command)
        if not change.context.directory.offers(service) and not _is_open(change, reference, service)
    ]


def _services_of(command: HubCommand) -> Iterator[tuple[str, Reference, ServiceCode]]:
    """Each service that a command names: its place, the referral it is named for, its code."""
    for name in ("findings", "interventions"):
        for place, one in enumerate(getattr(command, name, ())):
            yield f"{name}.{place}.service", one.reference, one.service
    for place, ended in enumerate(getattr(command, "ended", ())):
        yield from ((f"ended.{place}.needs.{n}", ended.reference, need) for n, need in enumerate(ended.needs))


def _is_open(change: Transition, reference: Reference, service: ServiceCode) -> bool:
    known = change.referrals.get(reference)
    return known is not None and service in known.open_needs


# ---- commands that end needs ----------------------------------------------------------------------------------------


def _complete(transition: Transition, acting: ActingHub, command: Complete) -> CommandRejection | None:
    rejection = (
        not_accepted(acting)
        or _not_open(transition, acting, command.ended)
        or not_workable(transition, acting, (done.reference for done in command.interventions))
    )
    if rejection is None:
        transition.keep(
            *(progress.with_interventions(record, command.interventions) for record in served_by(transition, acting))
        )
        _end(transition, acting, CaseCompleted, command.ended, CaseStatus.COMPLETED, scores=command.scores)
    return rejection


def _reject(transition: Transition, acting: ActingHub, command: Reject) -> CommandRejection | None:
    rejection = _not_open(transition, acting, command.ended)
    if rejection is None and command.refer_to and transition.context.directory.contact(command.refer_to) is None:
        rejection = reject(acting, "unknown-hub", "refer_to is not a hub or an authority of the directory.")
    if rejection is None and any(_is_at_work(transition, ended) for ended in command.ended):
        rejection = reject(acting, "impossible", "Work has begun: cancel with a reason instead of rejecting.")
    if rejection is None:
        data: dict[str, Any] = {"reason": command.reason, "refer_to": command.refer_to}
        _end(transition, acting, CaseRejected, command.ended, CaseStatus.REJECTED, **data)
    return rejection


def _is_at_work(transition: Transition, ended: Ended) -> bool:
    return transition.referrals[ended.reference].status is CaseStatus.IN_PROGRESS


def _cancel(transition: Transition, acting: ActingHub, command: Cancel) -> CommandRejection | None:
    rejection = _not_open(transition, acting, command.ended)
    if rejection is None:
        _end(transition, acting, CaseCancelled, command.ended, CaseStatus.CANCELLED, reason=command.reason)
    return rejection


def _not_open(transition: Transition, acting: ActingHub, ended: Sequence[Ended]) -> CommandRejection | None:
    rejection = not_workable(transition, acting, (one.reference for one in ended))
    if rejection is None and any(set(one.needs) - set(transition.referrals[one.reference].open_needs) for one in ended):
        rejection = reject(acting, "unknown-need", "A need that the command names is not open on its referral.")
    return rejection


def _end(
    transition: Transition,
    acting: ActingHub,
    event: type[CaseEvent],
    ended: Sequence[Ended],
    how: CaseStatus,
    **data: Any,
) -> None:
    closures.end(transition, acting.case, event, _each_once(ended), how, **data)


def _each_once(ended: Sequence[Ended]) -> list[Ended]:
    needs: dict[Reference, dict[ServiceCode, None]] = {}
    for one in ended:
        needs.setdefault(one.reference, {}).update(dict.fromkeys(one.needs))
    return [Ended(reference=reference, needs=tuple(named)) for reference, named in needs.items()]
