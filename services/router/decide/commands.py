"""Decide what a hub's command does to a case. The topic identifies the commanding hub, never a field."""

from collections.abc import Iterator, Sequence
from datetime import date
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
    ConfirmDeath,
    Hold,
    HubCommand,
    MarkRead,
    Record,
    Reject,
    ReportDeath,
    Start,
    Transfer,
    WithdrawDeathReport,
)
from schemas.model import Reference
from schemas.referral import ServiceCode
from services.router.decide import closures, deaths, progress, reading, transfers
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
    """Apply a command, or return why it is refused."""
    acting = authorise(transition, command)
    if isinstance(acting, CommandRejection):
        return acting
    return (
        _reject_unknown_names(transition, acting, command, unknown_fields)
        or _reject_future_dates(transition, acting, command)
        or reading.reject_while_unread(transition, acting)
        or deaths.reject_while_held(transition, acting)
        or _apply(transition, acting, command)
    )


def _apply(transition: Transition, acting: ActingHub, command: HubCommand) -> CommandRejection | None:
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
        case MarkRead():
            return reading.mark_read(transition, acting, command)
        case ReportDeath() | ConfirmDeath() | WithdrawDeathReport():
            return deaths.apply(transition, acting, command)
        case _:
            assert_never(command)


def _reject_unknown_names(
    transition: Transition, acting: ActingHub, command: HubCommand, unknown_fields: Sequence[str]
) -> CommandRejection | None:
    """Refuse fields that the command does not have and services that are not in the catalogue, naming their paths."""
    if unknown_fields:
        return reject(acting, "unknown-field", f"Not a field of this command: {_listed(unknown_fields)}.")
    if unknown := _unknown_services(transition, command):
        return reject(acting, "unknown-service", f"Not a code of the service catalogue: {_listed(unknown)}.")
    return None


def _listed(paths: Sequence[str]) -> str:
    """Return the first four paths, so that the explanation stays on one line."""
    more = f" and {len(paths) - 4} more" if len(paths) > 4 else ""
    return ", ".join(paths[:4]) + more


def _unknown_services(transition: Transition, command: HubCommand) -> list[str]:
    """Return the paths of services that are not in the catalogue; an open need of the referral is accepted."""
    return [
        path
        for path, reference, service in _services_of(command)
        if not transition.context.directory.offers(service) and not _is_open(transition, reference, service)
    ]


def _reject_future_dates(transition: Transition, acting: ActingHub, command: HubCommand) -> CommandRejection | None:
    """Refuse what was not done yet: referrers receive what is ordered or agreed when it is done."""
    today = transition.context.on
    later = [path for field in acting.rule.done_on for path, day in _dates_at(command, field) if day > today]
    if not later:
        return None
    return reject(
        acting, "future-date", f"After today, so it is not done yet: {_listed(later)}. Send it on that day or later."
    )


def _dates_at(value: Any, field: str, place: str = "") -> Iterator[tuple[str, date]]:
    """Yield each date at a path of fields, such as `interventions.on`, with its place, such as `interventions.0.on`."""
    name, _, inner = field.partition(".")
    held, place = getattr(value, name), f"{place}{name}"
    if isinstance(held, date):
        yield place, held
    elif isinstance(held, tuple):
        for index, item in enumerate(held):
            yield from _dates_at(item, inner, f"{place}.{index}.")
    elif held is not None:
        yield from _dates_at(held, inner, f"{place}.")


def _services_of(command: HubCommand) -> Iterator[tuple[str, Reference, ServiceCode]]:
    """Yield each service that a command names: its path, the referral that it is named for, its code."""
    for name in ("findings", "interventions"):
        for index, entry in enumerate(getattr(command, name, ())):
            yield f"{name}.{index}.service", entry.reference, entry.service
    for index, ended in enumerate(getattr(command, "ended", ())):
        yield from ((f"ended.{index}.needs.{n}", ended.reference, need) for n, need in enumerate(ended.needs))
    if isinstance(command, MarkRead):
        yield from ((f"needs.{index}", command.reference, need) for index, need in enumerate(command.needs))


def _is_open(transition: Transition, reference: Reference, service: ServiceCode) -> bool:
    record = transition.referrals.get(reference)
    return record is not None and service in record.open_needs


# ---- commands that end needs ----------------------------------------------------------------------------------------


def _complete(transition: Transition, acting: ActingHub, command: Complete) -> CommandRejection | None:
    rejection = (
        not_accepted(acting)
        or _reject_if_not_open(transition, acting, command.ended)
        or progress.reject_interventions(transition, acting, command.interventions)
    )
    if rejection is None:
        transition.keep(
            *(progress.with_interventions(record, command.interventions) for record in served_by(transition, acting))
        )
        _end(transition, acting, CaseCompleted, command.ended, CaseStatus.COMPLETED, scores=command.scores)
    return rejection


def _reject(transition: Transition, acting: ActingHub, command: Reject) -> CommandRejection | None:
    rejection = deaths.reject_unconfirmed(acting, command.reason) or _reject_if_not_open(
        transition, acting, command.ended
    )
    if rejection is None and command.refer_to and transition.context.directory.contact(command.refer_to) is None:
        rejection = reject(
            acting,
            "unknown-hub",
            "refer_to is not a hub or an authority in the directory. Use an identifier in the directory, or leave it out.",
        )
    if rejection is None and any(_is_at_work(transition, ended) for ended in command.ended):
        rejection = reject(
            acting,
            "impossible",
            "Work on a referral that the command names has begun. Send cancel with a reason instead of reject.",
        )
    if rejection is None:
        data: dict[str, Any] = {"reason": command.reason, "refer_to": command.refer_to}
        _end(transition, acting, CaseRejected, command.ended, CaseStatus.REJECTED, **data)
    return rejection


def _is_at_work(transition: Transition, ended: Ended) -> bool:
    return transition.referrals[ended.reference].status is CaseStatus.IN_PROGRESS


def _cancel(transition: Transition, acting: ActingHub, command: Cancel) -> CommandRejection | None:
    rejection = deaths.reject_unconfirmed(acting, command.reason) or _reject_if_not_open(
        transition, acting, command.ended
    )
    if rejection is None:
        _end(transition, acting, CaseCancelled, command.ended, CaseStatus.CANCELLED, reason=command.reason)
    return rejection


def _reject_if_not_open(transition: Transition, acting: ActingHub, ended: Sequence[Ended]) -> CommandRejection | None:
    rejection = not_workable(transition, acting, (one.reference for one in ended))
    if rejection is None and any(set(one.needs) - set(transition.referrals[one.reference].open_needs) for one in ended):
        rejection = reject(
            acting,
            "unknown-need",
            "The command names a need that is not open on its referral. Use open_needs of the latest event.",
        )
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
