"""Divide the events of a case over records of limited size: what a hub receives, and the contexts of `case.event`."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from schemas.events import CaseEvent, CaseSnapshot, HubReferral, ReferralContext
from schemas.model import Immutable
from services.router.decide.disclosure import by_referral

SNAPSHOT_BYTES = 200_000
"""Largest size of an event to a hub, and of the contexts of an event on `case.event`: bytes of their JSON.

One referral or context is never divided, and neither is what a command says in one event.
"""

MAX_CONTEXTS = 100
"""Largest number of referral contexts in one event."""

MAX_OTHERS = 50
"""Largest number of open referrals that an event to a hub summarises."""

_ENVELOPE_BYTES = 600
"""Size of a snapshot without its referrals, at most."""

E = TypeVar("E", bound=CaseEvent)
M = TypeVar("M", bound=Immutable)


Parts = tuple[tuple[HubReferral, ...], ...]
"""Referrals of the snapshots that follow an event."""

HubMessage = tuple[CaseEvent, Parts]
"""What one hub receives of an event: its own form of it, and what follows."""


def with_referrals(event: E, referrals: Sequence[HubReferral]) -> tuple[E, Parts]:
    """Return an event to a hub with these referrals, as many as fit, and the others in parts."""
    if len(referrals) < 2:
        return event.model_copy(update={"referrals": tuple(referrals)}), ()
    envelope = _size(event.model_copy(update={"snapshots": len(referrals)}))
    first, *others = _parts(referrals, SNAPSHOT_BYTES - envelope, SNAPSHOT_BYTES - _ENVELOPE_BYTES)
    return event.model_copy(update={"referrals": first, "snapshots": len(others)}), tuple(others)


def snapshots(event: CaseEvent, event_id: str, parts: Parts) -> Iterator[CaseSnapshot]:
    """Yield the snapshots that follow an event to a hub."""
    for part, referrals in enumerate(parts, start=1):
        yield CaseSnapshot(
            case_id=event.case_id,
            person_key=event.person_key,
            hub_version=(event.hub_version or 0) + part,
            of=event_id,
            part=part,
            parts=len(parts),
            referrals=referrals,
        )


def with_contexts(event: CaseEvent, contexts: Sequence[ReferralContext]) -> list[CaseEvent]:
    """Return an event of `case.event` with these contexts: several events if they are many, each with what it says of its own."""
    if len(contexts) < 2:
        return [event.model_copy(update={"referral_contexts": tuple(contexts)})]
    parts = [
        part[at : at + MAX_CONTEXTS]
        for part in _parts(contexts, SNAPSHOT_BYTES, SNAPSHOT_BYTES)
        for at in range(0, len(part), MAX_CONTEXTS)
    ]
    if len(parts) == 1:
        return [event.model_copy(update={"referral_contexts": parts[0]})]
    return [_with_part(event, part, parts[1:] if number == 0 else None) for number, part in enumerate(parts)]


def _with_part(
    event: CaseEvent, part: tuple[ReferralContext, ...], later: Iterable[tuple[ReferralContext, ...]] | None
) -> CaseEvent:
    """Return the event with one part of its contexts; the first one (`later`: the others) keeps what belongs to no other part."""
    own = {context.reference for context in part}
    elsewhere = {context.reference for other in later or () for context in other}
    update: dict[str, object] = {"referral_contexts": part}
    for field in by_referral(type(event)):
        items = getattr(event, field)
        update[field] = tuple(
            item for item in items if (item.reference in own if later is None else item.reference not in elsewhere)
        )
    return event.model_copy(update=update)


def _parts(items: Sequence[M], first: int, limit: int) -> list[tuple[M, ...]]:
    """Divide items in order into parts of at most `limit` bytes, the first of at most `first` bytes; it alone may be empty."""
    parts: list[list[M]] = [[]]
    left = first
    for item in items:
        size = _size(item) + 1
        if size > left and (parts[-1] or len(parts) == 1):
            parts.append([])
            left = limit
        parts[-1].append(item)
        left -= size
    return [tuple(part) for part in parts]


def _size(model: Immutable) -> int:
    return len(model.__pydantic_serializer__.to_json(model, exclude_none=True))
