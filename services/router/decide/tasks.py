"""Tasks: what a person at a hub has to decide, because no rule may."""

from collections.abc import Callable, Mapping
from datetime import date, timedelta

from schemas.case import TaskKind
from schemas.events import TaskRaised
from schemas.model import HubId, Reference
from services.router.decide.model import CaseRecord, ReferralRecord, Role
from services.router.decide.transition import Transition

TaskAboutReferral = Callable[[Transition, CaseRecord, ReferralRecord], CaseRecord]


def check_before_contact(transition: Transition, case: CaseRecord) -> CaseRecord:
    """Ask the holder to confirm or to withdraw a reported death."""
    holder = {hub: role for hub, role in transition.roles(case).items() if role == "holder"}
    return _raise(transition, case, TaskKind.CHECK_BEFORE_CONTACT, holder)


def check_cancellation(transition: Transition, case: CaseRecord, record: ReferralRecord) -> CaseRecord:
    """Ask the hub that works on a referral to decide on a cancel that was not applied."""
    return _ask_about(transition, case, record, TaskKind.CHECK_CANCELLATION)


def check_person(transition: Transition, case: CaseRecord, record: ReferralRecord) -> CaseRecord:
    """Ask the hub that works on a referral who the person is: a message about it described another one, and was not applied.

    After a restricted stay no hub is asked: the task would say that its sender is a hospital. The doubt is listed for tracing.
    """
    if record.restricted and case.holding.hub != record.hospital_hub:
        return case
    return _ask_about(transition, case, record, TaskKind.CHECK_PERSON)


def read_message(transition: Transition, case: CaseRecord, record: ReferralRecord) -> CaseRecord:
    """Ask the hub that works on a referral to read what no rule understands."""
    return _ask_about(transition, case, record, TaskKind.READ_MESSAGE)


def discharge_overdue(transition: Transition, case: CaseRecord, record: ReferralRecord) -> CaseRecord:
    """Ask the hospital team whether the person is still in hospital."""
    return _ask_about(transition, case, record, TaskKind.DISCHARGE_OVERDUE)


def _ask_about(transition: Transition, case: CaseRecord, record: ReferralRecord, kind: TaskKind) -> CaseRecord:
    """Ask the hub that works on a referral; other hubs are not informed."""
    part, seeing = case.part_of(record), transition.visible_to(case, record)
    working = {hub: role for hub, role in seeing.items() if hub == part.hub}
    working = working or {hub: role for hub, role in seeing.items() if role == "holder"}
    return _raise(transition, case, kind, working, record.reference)


def _raise(
    transition: Transition, case: CaseRecord, kind: TaskKind, hubs: Mapping[HubId, Role], about: Reference | None = None
) -> CaseRecord:
    return transition.emit(TaskRaised, case, (), hubs, kind=kind, due=next_weekday(transition.context.on), about=about)


def next_weekday(day: date) -> date:
    """Return the next day from Monday to Friday after `day`; public holidays are not known."""
    return day + timedelta(days={4: 3, 5: 2}.get(day.weekday(), 1))
