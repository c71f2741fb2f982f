"""The rules of commands agree with the decisions, in every state that commands can reach from the usual beginnings."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

import pytest

from infra.docgen import commands_page
from schemas.case import BusinessStatus, CaseStatus, DfgStage
from schemas.events import Accept, Command, HubCommand, MarkRead, Record, ReportDeath, Start, Transfer
from services.router.decide import lifecycle
from services.router.decide.aggregate import PersonAggregate
from services.router.decide.command_rules import RULES
from services.router.decide.lifecycle import CaseDecision, DecisionContext, EmittedEvent, EmittedRejection
from services.router.decide.model import CaseRecord, ReferralRecord, Responsibility, Role
from tests.builders.events import KEY, NOW, TODAY, received, updated
from tests.builders.reference_data import DIRECTORY, POSTCODES
from tests.builders.referrals import FORM, GP, PART, WARD, a_form, a_referral, a_ward_referral
from tests.router.story import Story, given

HOSPITAL = "hospital-housing"
CONTEXT = DecisionContext(DIRECTORY, POSTCODES, TODAY)
every_command = pytest.mark.parametrize("command", get_args(HubCommand), ids=lambda command: command.__name__)


@dataclass(frozen=True)
class At:
    """A state, seen by one hub."""

    state: PersonAggregate
    hub: str

    @property
    def case(self) -> CaseRecord:
        return next(case for case in self.state.cases.values() if self.hub in case.cursors)

    @property
    def role(self) -> Role:
        return self.case.cursors[self.hub].role

    @property
    def part(self) -> Responsibility:
        return self.case.stay if self.case.stay and self.role == "holder" else self.case.home

    @property
    def is_held(self) -> bool:
        return self.state.persons[self.case.person_no].check_before_contact

    def served(self) -> list[ReferralRecord]:
        """Return the open referrals that the hub works on."""
        in_stay = self.case.stay is not None and self.role == "holder"
        records = [one for one in self.state.referrals.values() if one.is_open and one.case_id == self.case.case_id]
        return [one for one in records if self.case.stay is None or one.in_stay == in_stay]

    def summary(self) -> tuple[Any, ...]:
        """Return what a rule may depend on: states with the same summary are tried once."""
        part, referrals = self.part, sorted((one.status, bool(one.unread)) for one in self.served())
        return self.role, part.status, part.business_status, part.accepted, self.is_held, self.case.ended, *referrals

    def send(self, command: type[Command], **data: Any) -> CaseDecision:
        given = command(
            case_id=self.case.case_id, person_key=KEY, expected_version=self.case.cursors[self.hub].version, **data
        )
        return lifecycle.decide(self.state, given, self.hub, "a command", CONTEXT)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Tried:
    """A command in a state, and what the decision was."""

    before: At
    command: type[Command]
    data: dict[str, Any]
    decision: CaseDecision

    @property
    def refused(self) -> str | None:
        (first, *_) = self.decision.emitted
        return first.data.reason if isinstance(first, EmittedRejection) else None

    @property
    def after(self) -> At:
        return At(self.decision.state, self.before.hub)

    @property
    def leads_on(self) -> bool:
        """True if other commands are to be tried afterwards."""
        return not self.refused and self.command.TYPE.split(".")[3] not in LEAD_NOWHERE and "dfg" not in self.data

    @property
    def needs_acceptance(self) -> bool:
        """True but for a failed contact, which may be recorded before the hub has accepted."""
        return self.command is not Record or "no_contact_on" not in self.data

    def must_be_refused(self) -> set[str]:
        """Return the reasons by which the rule refuses it."""
        rule, before = RULES[self.command], self.before
        kind = DIRECTORY.hub(before.hub).kind  # type: ignore[union-attr]
        waits = rule.waits_for_reading and any(one.unread for one in before.served())
        held = rule.waits_for_death_check and before.is_held
        early = before.role in rule.accepted and not before.part.accepted and self.needs_acceptance
        elsewhere = before.role == "holder" and before.part.status not in rule.statuses
        not_permitted = before.role not in rule.roles or kind not in rule.kinds
        reasons = {"not-permitted": not_permitted, "impossible": waits or held or early or elsewhere}
        return {reason for reason, applies in reasons.items() if applies}


def commands(at: At) -> Iterator[tuple[type[Command], dict[str, Any]]]:
    """Yield every command with data that fit the state, if any do."""
    named = [(one.reference, one.open_needs) for one in at.served() if one.open_needs] or [(GP, ("hoarding",))]
    reference, needs = named[0]
    about = {"reference": reference, "service": needs[0]}
    done = {"interventions": [{**about, "action": "rails fitted", "provider": "Handyperson", "on": TODAY}]}
    unread = next((one.reference for one in at.served() if one.unread), reference)
    ended = {"ended": [{"reference": one, "needs": open_needs} for one, open_needs in named]}
    idle = [one.reference for one in at.served() if one.status is not CaseStatus.IN_PROGRESS]
    returned = {"ended": [one for one in ended["ended"] if one["reference"] in idle] or ended["ended"]}
    data: dict[str, list[dict[str, Any]]] = {
        "Assign": [{"to_hub": "melton"}],
        "Transfer": [{"to_hub": "melton"}],
        "Hold": [{"reason": "other"}, {"reason": "waiting-list"}],
        "Book": [{"visit_at": NOW}],
        "Assess": [{"findings": [{**about, "finding": "need-confirmed"}]}],
        "Record": [
            done,
            {"no_contact_on": TODAY},
            *({"dfg": {"stage": stage, "on": TODAY}} for stage in get_args(DfgStage)),
        ],
        "Complete": [ended],
        "Reject": [returned | {"reason": "not-eligible"}],
        "Cancel": [ended | {"reason": "person-declined"}],
        "MarkRead": [{"reference": unread}],
    }
    for command in get_args(HubCommand):
        yield from ((command, one) for one in data.get(command.__name__, [{}]))


UNREAD: dict[str, Any] = {"to_be_read": (PART,)}


def beginnings() -> Iterator[At]:
    """Yield states of each kind from which every state is tried that commands reach."""
    yield At(given(received(GP, a_referral("home-safety", "hoarding"))).state, "blaby")
    yield At(given(received(GP, a_referral("blue-badge"))).state, "triage")
    yield At(given(received(WARD, a_ward_referral(hospital=None, **UNREAD))).state, "triage")
    for hub in (HOSPITAL, "blaby"):
        yield At(in_hospital().state, hub)
    yield At(given(received(GP, a_referral())).commanded("blaby", ReportDeath).state, "blaby")


def single_states() -> Iterator[At]:
    """Yield states that only another message leads to."""
    yield At(accepted().commanded("blaby", Transfer, to_hub="melton").state, "blaby")
    yield At(in_hospital().commanded("blaby", ReportDeath).state, "blaby")
    yield At(accepted().when(received(WARD, a_ward_referral()), updated(GP, a_referral(**UNREAD))).state, "blaby")
    for message in (received(FORM, a_form()), updated(GP, a_referral(**UNREAD))):
        yield At(accepted().when(message).state, "blaby")
        yield At(accepted().commanded("blaby", Start).when(message).state, "blaby")


def accepted() -> Story:
    return given(received(GP, a_referral())).commanded("blaby", Accept)


def in_hospital() -> Story:
    return given(received(GP, a_referral()), received(WARD, a_ward_referral()))


LEAD_NOWHERE = {"reject", "cancel", "complete", "transfer", "assign", "report-death", "confirm-death", "mark-read"}
"""Commands after which nothing new is to be tried."""


@cache
def explored() -> tuple[Tried, ...]:
    """Return every command in every state that commands can reach."""
    tried = [one for at in single_states() for one in tries(at)]
    for beginning in beginnings():
        seen, waiting = {beginning.summary()}, [beginning]
        while waiting:
            for one in tries(waiting.pop()):
                tried.append(one)
                if one.leads_on and one.after.summary() not in seen:
                    seen.add(one.after.summary())
                    waiting.append(one.after)
    return tuple(tried)


def tries(at: At) -> Iterator[Tried]:
    for command, data in commands(at):
        yield Tried(at, command, data, at.send(command, **data))


def applied(command: type[Command]) -> list[Tried]:
    found = [one for one in explored() if one.command is command and not one.refused]
    assert found
    return found


@every_command
def test_a_command_is_refused_if_its_rule_says_so_and_otherwise_only_by_a_condition_of_the_rule(
    command: type[Command],
) -> None:
    for one in (one for one in explored() if one.command is command):
        expected = one.must_be_refused()
        assert one.refused in expected or (not expected and (one.refused is None or RULES[command].conditions))


@every_command
def test_a_command_is_applied_from_each_role_kind_and_status_of_its_rule(command: type[Command]) -> None:
    rule, found = RULES[command], applied(command)

    assert {one.before.role for one in found} == set(rule.roles)
    assert {one.before.part.status for one in found if one.before.role == "holder"} == set(rule.statuses)
    assert {DIRECTORY.hub(one.before.hub).kind for one in found} <= set(rule.kinds)  # type: ignore[union-attr]


@every_command
def test_an_older_version_refuses_a_command_if_its_rule_says_so(command: type[Command]) -> None:
    for one in applied(command):
        version = one.before.case.cursors[one.before.hub].version
        given = one.command(case_id=one.before.case.case_id, person_key=KEY, expected_version=version, **one.data)
        old = given.model_copy(update={"expected_version": version - 1})
        (first, *_) = lifecycle.decide(one.before.state, old, one.before.hub, "old", CONTEXT).emitted  # type: ignore[arg-type]
        stale = isinstance(first, EmittedRejection) and first.data.reason == "stale"
        assert stale == RULES[command].needs_latest


@every_command
def test_a_command_does_to_the_hubs_part_what_its_rule_says(command: type[Command]) -> None:
    rule, seen = RULES[command], set()
    for one in applied(command):
        before, after = one.before.part, one.after.part
        first = next(e for e in one.decision.emitted if isinstance(e, EmittedEvent) and e.hubs)
        assert isinstance(first.data, rule.events)
        if rule.changes_hub:
            home = one.after.case.home
            assert (home.hub, home.status, home.accepted) == ("melton", CaseStatus.REQUESTED, False)
            seen.add(home.business_status)
        elif rule.ends:
            assert {r.status for r in one.decision.state.referrals.values() if not r.open_needs} == {rule.ends}
        elif command is not MarkRead or one.after.role == one.before.role:
            begins = rule.status is CaseStatus.IN_PROGRESS and not before.accepted
            changes = rule.status and before.status in rule.changes_from and not begins
            assert after.status is (rule.status if changes else before.status)
            if after.business_status is not before.business_status:
                seen.add(after.business_status)
    assert seen == set(rule.business_status) - {BusinessStatus.TRIAGE}


def test_the_diagram_has_every_change_of_status_that_commands_cause() -> None:
    found = defaultdict(set)
    for one in explored():
        rule = RULES[one.command]
        if one.before.role == "holder" and not one.refused and not rule.changes_hub and not rule.ends:
            before, after = one.before.part.status, one.after.part.status
            if before is not after and one.command is not MarkRead:
                found[before, after].add(one.command)
    assert {edge: set(named) for edge, named in commands_page.changes().items()} == dict(found)


def test_every_command_has_a_rule() -> None:
    assert set(RULES) == set(get_args(HubCommand))
