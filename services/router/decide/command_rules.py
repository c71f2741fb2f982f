"""Rules of the hubs' commands as data: who may send each and when, and what it does to the hub's part of a case.

The decisions read who may send a command and when; tests/router/test_command_rules.py compares all of it with what they do. The page
docs/connect/commands.md is generated from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from schemas.case import BusinessStatus, CaseStatus
from schemas.events import (
    Accept,
    Assess,
    Assign,
    Book,
    Cancel,
    CaseAccepted,
    CaseAssessed,
    CaseAssigned,
    CaseBooked,
    CaseCancelled,
    CaseCompleted,
    CaseEvent,
    CaseHeld,
    CaseRecorded,
    CaseRejected,
    CaseStarted,
    CaseTransferred,
    CaseUpdated,
    Command,
    Complete,
    ConfirmDeath,
    ContactHeld,
    ContactHoldEnded,
    Hold,
    MarkRead,
    Record,
    Reject,
    ReportDeath,
    Start,
    Transfer,
    WithdrawDeathReport,
)
from services.router.decide.model import Role

HubKind = Literal["locality", "triage", "hospital"]

OPEN = tuple(status for status in CaseStatus if status.is_open)
WORKING = (CaseStatus.ACCEPTED, CaseStatus.IN_PROGRESS, CaseStatus.ON_HOLD)
EITHER: tuple[Role, ...] = ("holder", "follow-on")


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRule:
    """Who may send a command and when, and what it does. `status` is that of the hub's part, `case.status` in its events."""

    events: tuple[type[CaseEvent], ...]
    """The event that follows: the first one that the decision emits."""
    roles: tuple[Role, ...] = ("holder",)
    kinds: tuple[HubKind, ...] = ("locality", "triage", "hospital")
    accepted: tuple[Role, ...] = ()
    """Roles that must have accepted the case."""
    needs_latest: bool = False
    """Refused as stale unless it names the version of the hub's latest event: any event may be the reason to decide otherwise."""
    waits_for_reading: bool = False
    """Refused while a referral that the hub works on has a part that no person has read."""
    waits_for_death_check: bool = False
    """Refused while a reported death is neither confirmed nor withdrawn."""
    statuses: tuple[CaseStatus, ...] = OPEN
    """Statuses in which a holder's command is applied."""
    status: CaseStatus | None = None
    """Status afterwards; none: unchanged."""
    changes_from: tuple[CaseStatus, ...] = WORKING
    """Statuses that become `status`; others stay, and so does one of a hub that has not accepted and begins to work."""
    business_status: tuple[BusinessStatus, ...] = ()
    """Business statuses that it may set; none: unchanged."""
    ends: CaseStatus | None = None
    """Status of the needs that it ends, and of the case if none is left."""
    changes_hub: bool = False
    """The case goes to another hub, which has not accepted it."""
    done_on: tuple[str, ...] = ()
    """Dates on which something was done, as paths of fields: the command is refused if one is after today in England."""
    conditions: str = ""
    """Further conditions, as on the page."""


_AT_NEW_HUB = (BusinessStatus.AWAITING_HUB, BusinessStatus.TRIAGE)
_RECORDED = (
    BusinessStatus.NO_CONTACT,
    BusinessStatus.INTERVENTION_COMPLETED,
    BusinessStatus.DFG_OT_ASSESSMENT,
    BusinessStatus.DFG_SS127,
    BusinessStatus.DFG_APPLICATION,
    BusinessStatus.DFG_APPROVAL,
    BusinessStatus.DFG_WORKS,
    BusinessStatus.DFG_COMPLETION,
)

RULES: Mapping[type[Command], CommandRule] = MappingProxyType(
    {
        Accept: CommandRule(
            events=(CaseAccepted,),
            needs_latest=True,
            waits_for_reading=True,
            status=CaseStatus.ACCEPTED,
            changes_from=(CaseStatus.REQUESTED, CaseStatus.ON_HOLD),
            conditions="once accepted or in progress, only if a referral has joined since; the status then stays",
        ),
        Assign: CommandRule(
            events=(CaseAssigned, CaseRejected),
            kinds=("triage", "hospital"),
            needs_latest=True,
            waits_for_reading=True,
            business_status=_AT_NEW_HUB,
            changes_hub=True,
            conditions="triage: to another hub; to a hospital team only a stay that waits for triage; to an authority outside the county "
            "it returns every referral. Hospital team: names the home hub, which holds the case after the stay, until that hub accepts",
        ),
        Transfer: CommandRule(
            events=(CaseTransferred,),
            needs_latest=True,
            waits_for_reading=True,
            business_status=_AT_NEW_HUB,
            changes_hub=True,
            conditions="to another hub; to a hospital team only from another one. From a hospital team it ends the stay",
        ),
        Hold: CommandRule(
            events=(CaseHeld,),
            status=CaseStatus.ON_HOLD,
            changes_from=OPEN,
            business_status=(BusinessStatus.WAITING_LIST,),
            conditions="business status only with the reason `waiting-list`",
        ),
        Book: CommandRule(
            events=(CaseBooked,),
            accepted=("holder",),
            waits_for_death_check=True,
            statuses=WORKING,
            status=CaseStatus.IN_PROGRESS,
            business_status=(BusinessStatus.MOT_BOOKED,),
        ),
        Start: CommandRule(
            events=(CaseStarted,),
            accepted=("holder",),
            waits_for_death_check=True,
            statuses=WORKING,
            status=CaseStatus.IN_PROGRESS,
            conditions="once in progress, only while the business status is `housing-mot-booked` or `no-contact`",
        ),
        Assess: CommandRule(
            events=(CaseAssessed,),
            roles=EITHER,
            accepted=("holder",),
            statuses=WORKING,
            status=CaseStatus.IN_PROGRESS,
            business_status=(BusinessStatus.ASSESSED,),
        ),
        Record: CommandRule(
            events=(CaseRecorded,),
            roles=EITHER,
            accepted=("holder",),
            status=CaseStatus.IN_PROGRESS,
            business_status=_RECORDED,
            done_on=("interventions.on", "dfg.on", "no_contact_on"),
            conditions="at least one field; `no_contact_on` alone also before the hub has accepted",
        ),
        Complete: CommandRule(
            events=(CaseCompleted,),
            accepted=("holder",),
            needs_latest=True,
            statuses=WORKING,
            ends=CaseStatus.COMPLETED,
            done_on=("interventions.on",),
        ),
        Reject: CommandRule(
            events=(CaseRejected,),
            needs_latest=True,
            ends=CaseStatus.REJECTED,
            conditions="only referrals whose own status is not `in-progress`; never with the reason `died`",
        ),
        Cancel: CommandRule(
            events=(CaseCancelled,), ends=CaseStatus.CANCELLED, conditions="never with the reason `died`"
        ),
        MarkRead: CommandRule(
            events=(CaseUpdated,),
            roles=EITHER,
            conditions="the referral waits to be read, and is the hub's to work on",
        ),
        ReportDeath: CommandRule(
            events=(ContactHeld,),
            roles=EITHER,
            conditions="the hub sees an open referral, and no death was reported",
        ),
        ConfirmDeath: CommandRule(
            events=(CaseCancelled,),
            ends=CaseStatus.CANCELLED,
            conditions="a death was reported; ends every open referral of the person, at every hub",
        ),
        WithdrawDeathReport: CommandRule(
            events=(ContactHoldEnded,),
            roles=EITHER,
            conditions="a death was reported, and the hub sees an open referral; a follow-on only if no one else reported it",
        ),
    }
)
