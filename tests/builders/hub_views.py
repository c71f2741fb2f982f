"""What hubs see of cases: rebuilt from the events that they received, and as the state says."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from examples.connect.hub import Case, receive
from schemas.events import CaseEvent, CaseSnapshot, CommandRefused
from services.reference.directory import Directory
from services.router.decide import disclosure, hub_events
from services.router.decide.aggregate import PersonAggregate
from services.router.decide.disclosure import HubView
from services.router.decide.lifecycle import EmittedEvent, EmittedRejection
from services.router.decide.model import CaseRecord

Seen = Mapping[tuple[str, str], Mapping[str, Any]]
"""By hub and case: each open referral that the hub sees, by reference."""


def records_of(
    emitted: Iterable[EmittedEvent | EmittedRejection],
) -> Iterable[tuple[str, CaseEvent | CaseSnapshot | CommandRefused]]:
    """Yield (hub, data) of every record that hubs receive, in order."""
    for number, one in enumerate(emitted):
        if isinstance(one, EmittedRejection):
            yield one.hub, one.data
            continue
        for hub, data in one.hubs:
            yield hub, data
            for part in hub_events.snapshots(data, f"event-{number}", one.snapshots.get(hub, ())):
                yield hub, part


Topics = dict[str, dict[str, Case]]
"""What each hub has rebuilt from its topic: its cases by id."""


def rebuilt_from(emitted: Iterable[EmittedEvent | EmittedRejection], topics: Topics | None = None) -> Topics:
    """Return every case of every hub, rebuilt by the example client from the records of decisions; `topics`: from earlier ones."""
    topics = {} if topics is None else topics
    for hub, data in records_of(emitted):
        if not isinstance(data, CommandRefused):
            receive(
                topics.setdefault(hub, {}), data.TYPE.split(".")[3], json.loads(data.model_dump_json(exclude_none=True))
            )
    return topics


def seen_by_rebuilding(topics: Topics) -> Seen:
    """Return what the rebuilt cases hold of their open referrals."""
    return {
        (hub, case.id): {reference: _compared(one) for reference, one in case.referrals.items()}
        for hub, cases in topics.items()
        for case in cases.values()
    }


def seen_by_state(state: PersonAggregate, directory: Directory) -> Seen:
    """Return what every hub that has received a case may see of its open referrals now."""
    return {
        (hub, case.case_id): {one["reference"]: _compared(one) for one in _open_referrals(state, case, hub, directory)}
        for case in state.cases.values()
        for hub in case.cursors
    }


def _open_referrals(state: PersonAggregate, case: CaseRecord, hub: str, directory: Directory) -> list[dict[str, Any]]:
    role = case.cursors[hub].role
    records = [one for one in state.referrals.values() if one.case_id == case.case_id and one.is_open]
    shown = disclosure.visible(records, case, hub, role)
    view = HubView(hub, role, case, state.persons[case.person_no], False, len(shown), shown=shown)
    referrals = disclosure.hub_referrals(view, directory)
    return [json.loads(one.model_dump_json(exclude_none=True)) for one in referrals]


def _compared(referral: Mapping[str, Any]) -> dict[str, Any]:
    """Return a referral without its version: a message that was not applied counts too, and changes nothing that hubs see."""
    return {name: value for name, value in referral.items() if name != "version"}
