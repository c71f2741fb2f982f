"""Reported deaths ("check before contact"): a report holds contact with the person and ends nothing; a person confirms or withdraws it.

Other hubs learn that contact is on hold, and neither who reported the death nor when or where it was.
"""

from typing import assert_never

from schemas.case import CaseStatus, EndReason
from schemas.events import (
    CaseCancelled,
    CaseEvent,
    ConfirmDeath,
    ContactHeld,
    ContactHoldEnded,
    ReportDeath,
    WithdrawDeathReport,
)
from services.router.decide import closures, disclosure, tasks
from services.router.decide.acting_hub import ActingHub, CommandRejection, reject
from services.router.decide.model import CaseRecord, PersonRecord
from services.router.decide.transition import Transition


def note_report(transition: Transition, person_no: int, source: str) -> None:
    """Hold contact with a person because of a report by `source`, a referral or a hub; a further report adds only its source."""
    if keep_report(transition, person_no, source):
        announce_hold(transition, person_no)


def keep_report(transition: Transition, person_no: int, source: str) -> bool:
    """Store a report by `source`, and return whether it is the first one."""
    person = transition.persons[person_no]
    if source not in person.death_reported_by:
        transition.keep(person.model_copy(update={"death_reported_by": (*person.death_reported_by, source)}))
    return not person.check_before_contact


def announce_hold(transition: Transition, person_no: int) -> None:
    """Inform each hub that sees an open referral of the person, and ask the holders to check."""
    for case in transition.open_cases(person_no):
        tasks.check_before_contact(transition, _announce(transition, ContactHeld, case))


def _announce(transition: Transition, event: type[CaseEvent], case: CaseRecord) -> CaseRecord:
    """Emit an event to each hub that sees an open referral of the case, in the conversation of such a referral.

    The conversation of the report would disclose who made it.
    """
    roles, records = transition.roles(case), transition.first_open_of(case)
    seen = {hub: disclosure.visible(records, case, hub, role) for hub, role in roles.items()}
    own = {hub: min(of_hub, key=lambda one: one.reference).correlation_id for hub, of_hub in seen.items() if of_hub}
    return transition.emit(event, case, (), {hub: roles[hub] for hub in own}, conversations=own)


# ---- commands -------------------------------------------------------------------------------------------------------


def apply(
    transition: Transition, acting: ActingHub, command: ReportDeath | ConfirmDeath | WithdrawDeathReport
) -> CommandRejection | None:
    """Apply a command about a death, or return why it is refused."""
    match command:
        case ReportDeath():
            return _report(transition, acting)
        case ConfirmDeath():
            return _confirm(transition, acting)
        case WithdrawDeathReport():
            return _withdraw(transition, acting)
        case _:
            assert_never(command)


def _report(transition: Transition, acting: ActingHub) -> CommandRejection | None:
    """Hold contact with the person at every hub with an open referral."""
    if rejection := _reject_without_referral(transition, acting):
        return rejection
    if _person(transition, acting).check_before_contact:
        return reject(acting, "impossible", "A death has been reported already, and contact is on hold.")
    note_report(transition, acting.case.person_no, acting.hub.id)
    return None


def _confirm(transition: Transition, acting: ActingHub) -> CommandRejection | None:
    """End every open referral of the person; their referrers receive "the person has died"."""
    person = _person(transition, acting)
    if not person.check_before_contact:
        return reject(acting, "impossible", "No death has been reported. Send report-death first.")
    transition.keep(person.model_copy(update={"death_confirmed": True}))
    for case in transition.open_cases(person.person_no):
        ended = [closures.all_open_needs(record) for record in transition.open_of(case.case_id)]
        closures.end(transition, case, CaseCancelled, ended, CaseStatus.CANCELLED, reason=EndReason.DIED)
    return None


def _withdraw(transition: Transition, acting: ActingHub) -> CommandRejection | None:
    """End the hold: the person has not died. Referrals that have ended stay ended; a discharge that was sent before counts now."""
    if rejection := _reject_without_referral(transition, acting):
        return rejection
    person = _person(transition, acting)
    if not person.check_before_contact:
        return reject(acting, "impossible", "No death has been reported, and contact is not on hold.")
    if acting.role != "holder" and person.death_reported_by != (acting.hub.id,):
        return reject(
            acting,
            "not-permitted",
            "Another party has reported the death too: only the holder of the case can withdraw.",
        )
    transition.keep(person.model_copy(update={"death_reported_by": (), "death_confirmed": False}))
    for case in transition.open_cases(person.person_no):
        closures.end_stays_that_are_over(transition, _announce(transition, ContactHoldEnded, case))
    return None


def reject_while_held(transition: Transition, acting: ActingHub) -> CommandRejection | None:
    """Return a refusal of a command that plans contact with the person while a reported death is not checked."""
    if not acting.rule.waits_for_death_check or not _person(transition, acting).check_before_contact:
        return None
    return reject(
        acting,
        "impossible",
        "A death was reported: check before contact. Send confirm-death, or withdraw-death-report if the person is alive.",
    )


def reject_unconfirmed(acting: ActingHub, reason: EndReason) -> CommandRejection | None:
    """Return a refusal to end needs with the reason `died`: only confirm-death says so to referrers."""
    if reason is not EndReason.DIED:
        return None
    return reject(
        acting, "impossible", "A death is reported with report-death, and confirmed with confirm-death by the holder."
    )


def _reject_without_referral(transition: Transition, acting: ActingHub) -> CommandRejection | None:
    """Return a refusal to a hub that sees no open referral: it may not learn whether a death was reported."""
    if transition.count_open(acting.case, acting.hub.id, acting.role):
        return None
    return reject(acting, "not-permitted", "This hub has no open referral of the person.")


def _person(transition: Transition, acting: ActingHub) -> PersonRecord:
    return transition.persons[acting.case.person_no]
