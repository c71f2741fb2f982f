"""An example message of every event and command: headers, key and value as they are on Kafka.

All are made by the code that makes real ones: a form of `examples` is translated, the decisions are applied to it and to commands, and
the records are encoded. Persons are invented. Ids and times are fixed, and do not depend on the directory's version.
"""

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

from infra.docgen.contracts.json_schemas import Schema
from schemas import topics
from schemas.case import DfgStep, Ended, EndReason, Finding, HoldReason, Intervention, OutcomeDomain, OutcomeScore
from schemas.events import (
    Accept,
    Assess,
    Assign,
    Book,
    Cancel,
    CaseEvent,
    Command,
    Complete,
    ConfirmDeath,
    DischargeOverdue,
    Event,
    EventData,
    FeedbackFailed,
    FeedbackSent,
    Hold,
    MarkRead,
    Record,
    ReferralCancellationNotApplied,
    ReferralCancelled,
    ReferralMergeProposed,
    ReferralReceived,
    ReferralUpdated,
    ReferralUpdateNotApplied,
    Reject,
    ReportDeath,
    Start,
    Transfer,
    WithdrawDeathReport,
)
from schemas.model import HubId, OnsCode, PersonKey, Reference
from schemas.referral import Referral, UnreadPart
from services.intake.translators import form
from services.intake.translators.inbound_message import InboundMessage
from services.intake.translators.translator import Translated
from services.messaging.cloudevents import headers_of, value_of
from services.reference import directory, partners, yaml_files
from services.router.decide import hub_events, lifecycle
from services.router.decide.aggregate import PersonAggregate
from services.router.decide.lifecycle import CaseDecision, DecisionContext, EmittedEvent, EmittedRejection
from services.runtime.settings import CHECKOUT

REFERENCE_DATA = CHECKOUT / "infra" / "reference_data"
FORM = CHECKOUT / "examples" / "drop-in.json"
NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
VERSION = "5d41402abc4b"
IDS = uuid.UUID("3f5f3c52-6c58-5c5e-9f0c-6c1d5a0d7c11")
KEY = PersonKey("9a5ad86854692be0242716d53e5df36f")
FIRST, SECOND = Reference("LB-7K3M-9Q2X-4TDW"), Reference("LB-2H8P-6V4R-9WKJ")
CONVERSATION = "0b5dd2c1-7a37-5c86-8a53-2f6c5e7f1a10"
ROUTER, INTAKE, NOTIFIER = "/lightbulb/router", "/lightbulb/intake", "/lightbulb/notifier"


@dataclass(frozen=True)
class SentCommand:
    """A command of the examples, with the state in which it is decided."""

    state: PersonAggregate
    hub: HubId
    command: Any

    def decided(self, context: DecisionContext) -> CaseDecision:
        """Return the decision on it."""
        return lifecycle.decide(self.state, self.command, self.hub, id_of(self.command), context)


@dataclass
class _Story:
    """Messages and commands about one person, in order, and the messages that follow: the first of each type is kept."""

    context: DecisionContext
    state: PersonAggregate = field(default_factory=lambda: PersonAggregate.empty(KEY))
    messages: dict[str, Schema] = field(default_factory=dict)
    commands: dict[type[Command], SentCommand] = field(default_factory=dict)
    last: dict[str, str] = field(default_factory=dict)
    """Id of the last event that each hub received."""

    def receive(self, *events: Any) -> "_Story":
        for event in events:
            self._keep(topics.REFERRAL_EVENT, INTAKE, event)
            self._apply(lifecycle.apply(self.state, event, CONVERSATION, self.context), id_of(event))
        return self

    def send(self, hub: HubId, command: type[Command], *, older: bool = False, **data: Any) -> "_Story":
        """Send a command with the hub's latest version, or the one before."""
        case = next(case for case in self.state.cases.values() if hub in case.cursors)
        version = case.cursors[hub].version - older
        data_of_command = command(case_id=case.case_id, person_key=KEY, expected_version=version, **data)
        sent = SentCommand(self.state, hub, data_of_command)
        self._keep(topics.hub_command(hub), f"/hub/{hub}/housing-system", data_of_command, causation_id=self.last[hub])
        if not older:
            self.commands.setdefault(command, sent)
        self._apply(sent.decided(self.context), id_of(data_of_command))
        return self

    def _apply(self, decision: CaseDecision, cause: str) -> None:
        self.state = decision.state
        for emitted in decision.emitted:
            for hub, data in _published(emitted):
                topic = topics.hub_case(hub) if hub else topics.CASE_EVENT
                self._keep(topic, ROUTER, data, causation_id=cause, district=_district(data))
                self.last[hub] = id_of(data)

    def _keep(self, topic: str, source: str, data: EventData, **attributes: Any) -> None:
        self.messages.setdefault(data.TYPE, _message(topic, source, data, **attributes))


def _published(emitted: EmittedEvent | EmittedRejection) -> Iterator[tuple[HubId, EventData]]:
    """Yield the messages to hubs, with the hub; those that no hub receives with an empty text."""
    if isinstance(emitted, EmittedRejection):
        yield emitted.hub, emitted.data
        return
    if not emitted.hubs:
        yield "", emitted.data
    for hub, data in emitted.hubs:
        yield hub, data
        for snapshot in hub_events.snapshots(data, id_of(data), (data.referrals,)):
            yield hub, snapshot


def _district(data: EventData) -> OnsCode | None:
    return data.case.district if isinstance(data, CaseEvent) else None


def _message(topic: str, source: str, data: EventData, **attributes: Any) -> Schema:
    event = Event(
        id=id_of(data), source=source, time=NOW, person_key=KEY, correlation_id=CONVERSATION, data=data, **attributes
    )
    return {"topic": topic, "key": KEY, "headers": headers_of(event), "value": json.loads(value_of(event))}


def id_of(data: EventData) -> str:
    """Return the id of an example, which derives from its type."""
    return str(uuid.uuid5(IDS, data.TYPE))


@cache
def messages() -> Mapping[str, Schema]:
    """Return the example of every type: topic, key, headers and value."""
    by_type: dict[str, Schema] = {}
    of_stories = [example for story in stories() for example in story.messages.items()]
    for name, message in sorted(of_stories, key=lambda example: example[1]["topic"] == topics.CASE_EVENT):
        by_type.setdefault(name, message)  # as a hub receives it, if one does
    for data in _feedback():
        by_type[data.TYPE] = _message(topics.FEEDBACK_EVENT, NOTIFIER, data)
    return dict(sorted(by_type.items()))


@cache
def commands() -> Mapping[type[Command], SentCommand]:
    """Return the command of each type, with the state in which it is applied."""
    return {kind: sent for story in reversed(stories()) for kind, sent in story.commands.items()}


@cache
def context() -> DecisionContext:
    """Return the reference data and date of the decisions."""
    known = directory.load(REFERENCE_DATA).model_copy(update={"version": VERSION})
    return DecisionContext(known, {"LE115AA": OnsCode("E07000130")}, NOW.date())


@cache
def referral() -> Referral:
    """Return the referral of the examples: a form of a hub's own staff, translated."""
    forms = form.load(REFERENCE_DATA / "forms", directory.catalogue(REFERENCE_DATA))
    body = FORM.read_bytes()
    senders = yaml_files.load(REFERENCE_DATA / "partners.yaml", partners.PartnersFile).value.partners
    partner = next(one for one in senders if one.may_send("form:coordinator"))
    translated = form.translator(forms["coordinator"])(InboundMessage(partner, body, NOW, b"a key"))
    assert isinstance(translated, Translated)
    assert translated.referral
    return translated.referral


# ---- what happens ---------------------------------------------------------------------------------------------------


@cache
def stories() -> tuple[_Story, ...]:
    """Return what happens to several persons; together they have every type."""
    return (_work(), _moves(), _death(), _unread(), _not_applied())


def _story() -> _Story:
    return _Story(context())


def _received(reference: Reference = FIRST, **changed: Any) -> ReferralReceived:
    return ReferralReceived(reference=reference, version=1, referral=referral().model_copy(update=changed))


def _work() -> _Story:
    """Return a case from its first referral to its end; a second referral joins, and is cancelled."""
    need, other, *_ = (one.service for one in referral().needs)
    about: dict[str, Any] = {"reference": FIRST, "service": need}
    done = Intervention(**about, action="boiler repaired", provider="Handyperson", on=NOW.date())
    updated = referral().model_copy(update={"person": referral().person.model_copy(update={"phone": "01632 960118"})})
    story = _story().receive(_received())
    story.send("charnwood", Accept).send("charnwood", Hold, reason=HoldReason.WAITING_LIST)
    story.send("charnwood", Accept, older=True)
    story.send("charnwood", Book, visit_at=NOW.replace(month=12, day=1)).send("charnwood", Start)
    story.receive(_received(SECOND), ReferralUpdated(reference=FIRST, version=2, referral=updated))
    story.send("charnwood", Assess, findings=[Finding(**about, finding="need-confirmed")], scores=_scores(2))
    story.send("charnwood", Record, interventions=[done], dfg=_grant())
    story.send("charnwood", Complete, ended=[Ended(reference=FIRST, needs=(need,))], scores=_scores(4))
    story.send("charnwood", Cancel, ended=[Ended(reference=FIRST, needs=(other,))], reason=EndReason.PERSON_DECLINED)
    story.receive(ReferralCancelled(reference=SECOND, version=2))
    return story.receive(
        ReferralCancelled(reference=SECOND, version=3), ReferralUpdated(reference=FIRST, version=3, referral=referral())
    )


def _scores(score: int) -> list[OutcomeScore]:
    return [OutcomeScore(domain=OutcomeDomain.HOME_ENVIRONMENT, score=score)]


def _grant() -> DfgStep:
    return DfgStep(stage="application", on=NOW.date())


def _moves() -> _Story:
    """Return a case that triage assigns and the hub transfers, and the next hub returns the referral."""
    onward = tuple(one.model_copy(update={"service": "blue-badge"}) for one in referral().needs[:1])
    story = _story().receive(_received(needs=onward)).send("triage", Assign, to_hub="charnwood")
    story.send("charnwood", Transfer, to_hub="melton")
    ended = [Ended(reference=FIRST, needs=("blue-badge",))]
    return story.send("melton", Reject, ended=ended, reason=EndReason.NOT_ELIGIBLE)


def _death() -> _Story:
    """Return a case in which a reported death is withdrawn, and a later one confirmed."""
    story = _story().receive(_received())
    for command in (ReportDeath, WithdrawDeathReport, ReportDeath, ConfirmDeath):
        story.send("charnwood", command)
    return story


def _unread() -> _Story:
    """Return a referral with a part that no rule understands, which triage reads."""
    part = UnreadPart(place="RF1-2", kind="code-invalid", text="Before the weekend")
    return _story().receive(_received(to_be_read=(part,))).send("triage", MarkRead, reference=FIRST)


def _not_applied() -> _Story:
    """Return a referral with messages that are stored and not applied."""
    about: dict[str, Any] = {"reference": FIRST, "version": 2}
    return _story().receive(
        _received(),
        ReferralCancellationNotApplied(**about),
        ReferralUpdateNotApplied(**about, reason="other-person"),
        ReferralMergeProposed(**about),
        DischargeOverdue(reference=FIRST, expected_on=NOW.date()),
    )


def _feedback() -> Iterable[EventData]:
    about: dict[str, Any] = {"reference": FIRST, "feedback_id": CONVERSATION, "recipient": "first-contact"}
    yield FeedbackSent(**about, channel="mailbox")
    yield FeedbackFailed(**about | {"recipient": "gp-alder-lane"}, channel="fhir", reason="http 400")
