"""Given/when/then for the decisions about one person key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from schemas.events import CaseEvent, Command, CommandRefused, ReferralContext
from schemas.model import OnsCode, Reference
from schemas.referral import ServiceCode
from services.reference.directory import Directory
from services.router.decide import lifecycle
from services.router.decide.aggregate import PersonAggregate
from services.router.decide.lifecycle import DecisionContext, EmittedEvent, EmittedRejection
from services.router.decide.model import CaseRecord, ReferralRecord
from tests.builders.events import KEY, TODAY
from tests.builders.reference_data import DIRECTORY, POSTCODES


@dataclass
class Story:
    """given(...).when(...).commanded(...): inputs in order under one key, and the emitted events."""

    state: PersonAggregate = field(default_factory=lambda: PersonAggregate.empty(KEY))
    grounds: DecisionContext = field(default_factory=lambda: DecisionContext(DIRECTORY, POSTCODES, TODAY))
    emitted: list[EmittedEvent | EmittedRejection] = field(default_factory=list)
    all_emitted: list[EmittedEvent | EmittedRejection] = field(default_factory=list)
    commands: int = 0

    def when(self, *events: Any) -> Story:
        """Apply messages of senders; `emitted` contains the events of the last call."""
        self.emitted = []
        for event in events:
            self._take(lifecycle.apply(self.state, event, f"correlation of {event.reference}", self.grounds))
        return self

    def commanded(
        self, hub: str, command: type[Command], *, on: int | None = None, case: Any = None, **data: Any
    ) -> Story:
        """Apply a command of a hub, on the newest version that it received, or on another."""
        chosen = case or self.case_of(hub)
        told = chosen.cursors.get(hub) if chosen else None
        self.commands += 1
        given = command(
            case_id=chosen.case_id if chosen else "none",
            person_key=KEY,
            expected_version=on or (told.version if told else 1),
            **data,
        )
        self.emitted = []
        self._take(lifecycle.decide(self.state, given, hub, f"command-{self.commands}", self.grounds))
        return self

    def _take(self, decision: lifecycle.CaseDecision) -> None:
        self.state = decision.state
        self.emitted += decision.emitted
        self.all_emitted += decision.emitted

    def case_of(self, hub: str) -> CaseRecord | None:
        told = [case for case in self.state.cases.values() if hub in case.cursors]
        return told[-1] if told else next(iter(self.state.cases.values()), None)

    @property
    def case(self) -> CaseRecord:
        """The only case."""
        (case,) = self.state.cases.values()
        return case

    def referral(self, reference: Reference) -> ReferralRecord:
        return self.state.referrals[reference]

    @property
    def event_names(self) -> list[str]:
        """The types of the last events, such as 'opened'."""
        return [short(one.data) for one in self.emitted if isinstance(one, EmittedEvent)]

    @property
    def refused(self) -> CommandRefused | None:
        return next((one.data for one in self.emitted if isinstance(one, EmittedRejection)), None)

    def event(self, name: str) -> CaseEvent:
        """Return the last of the last events with this name."""
        return next(
            one.data for one in reversed(self.emitted) if isinstance(one, EmittedEvent) and short(one.data) == name
        )

    def sent_to(self, hub: str, *, ever: bool = False) -> list[CaseEvent]:
        """Return the events sent to a hub by the last call, or by all."""
        source = self.all_emitted if ever else self.emitted
        return [data for one in source if isinstance(one, EmittedEvent) for to, data in one.hubs if to == hub]

    def concerns(self, reference: Reference, *, ever: bool = False) -> list[tuple[str, ReferralContext]]:
        """Return (event name, context) of the last events, or of all, that concern the referrer of a referral."""
        source = self.all_emitted if ever else self.emitted
        return [
            (short(one.data), concern)
            for one in source
            if isinstance(one, EmittedEvent)
            for concern in one.data.referral_contexts
            if concern.reference == reference
        ]


def given(
    *events: Any, directory: Directory = DIRECTORY, postcodes: Mapping[str, OnsCode] = POSTCODES, on: date = TODAY
) -> Story:
    """Return the story of a person key to which these messages were applied."""
    return Story(grounds=DecisionContext(directory, postcodes, on)).when(*events)


def short(data: CaseEvent) -> str:
    """Return the name in a type: opened, of uk.lightbulb.case.opened.v1."""
    return data.TYPE.split(".")[3]


def everything(named: Mapping[Reference, Iterable[ServiceCode]]) -> list[dict[str, Any]]:
    """Return the field `ended` of a command."""
    return [{"reference": reference, "needs": tuple(needs)} for reference, needs in named.items()]
