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
from services.router.decide.lifecycle import DecisionContext, EmittedEvent, EmittedRejection
from services.router.decide.model import CaseRecord, PersonAggregate, ReferralRecord
from tests.builders.events import KEY, TODAY
from tests.builders.reference_data import DIRECTORY, POSTCODES


@dataclass
class Story:
    """given(...).when(...).then(...): inputs in order under one key, and what was told to whom."""

    state: PersonAggregate = field(default_factory=lambda: PersonAggregate.empty(KEY))
    grounds: DecisionContext = field(default_factory=lambda: DecisionContext(DIRECTORY, POSTCODES, TODAY))
    happenings: list[EmittedEvent | EmittedRejection] = field(default_factory=list)
    all_happenings: list[EmittedEvent | EmittedRejection] = field(default_factory=list)
    commands: int = 0

    def when(self, *events: Any) -> Story:
        """Sender's messages; `happenings` are those of the last call."""
        self.happenings = []
        for event in events:
            self._take(lifecycle.apply(self.state, event, f"correlation of {event.reference}", self.grounds))
        return self

    def commanded(
        self, hub: str, command: type[Command], *, on: int | None = None, case: Any = None, **data: Any
    ) -> Story:
        """A hub commands, on the newest version that it was told, or on another."""
        chosen = case or self.case_of(hub)
        told = chosen.cursors.get(hub) if chosen else None
        self.commands += 1
        given = command(
            case_id=chosen.case_id if chosen else "none",
            person_key=KEY,
            expected_version=on or (told.version if told else 1),
            **data,
        )
        self.happenings = []
        self._take(lifecycle.decide(self.state, given, hub, f"command-{self.commands}", self.grounds))
        return self

    def _take(self, decision: lifecycle.CaseDecision) -> None:
        self.state = decision.state
        self.happenings += decision.emitted
        self.all_happenings += decision.emitted

    def case_of(self, hub: str) -> CaseRecord | None:
        told = [case for case in self.state.cases.values() if hub in case.cursors]
        return told[-1] if told else next(iter(self.state.cases.values()), None)

    # what came of it

    @property
    def case(self) -> CaseRecord:
        """The only case."""
        (case,) = self.state.cases.values()
        return case

    def referral(self, reference: Reference) -> ReferralRecord:
        return self.state.referrals[reference]

    @property
    def told(self) -> list[str]:
        """Types of the last events, such as 'opened'."""
        return [short(one.data) for one in self.happenings if isinstance(one, EmittedEvent)]

    @property
    def refused(self) -> CommandRefused | None:
        return next((one.data for one in self.happenings if isinstance(one, EmittedRejection)), None)

    def event(self, name: str) -> CaseEvent:
        """The last of the last events that has this name."""
        return next(
            one.data for one in reversed(self.happenings) if isinstance(one, EmittedEvent) and short(one.data) == name
        )

    def heard_by(self, hub: str, *, ever: bool = False) -> list[CaseEvent]:
        """What a hub was sent, lately or ever."""
        source = self.all_happenings if ever else self.happenings
        return [data for one in source if isinstance(one, EmittedEvent) for to, data in one.hubs if to == hub]

    def concerns(self, reference: Reference, *, ever: bool = False) -> list[tuple[str, ReferralContext]]:
        """(event, concern) of everything that the referrer of one referral hears, lately or ever."""
        source = self.all_happenings if ever else self.happenings
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
    """A key to which these messages came."""
    return Story(grounds=DecisionContext(directory, postcodes, on)).when(*events)


def short(data: CaseEvent) -> str:
    """uk.lightbulb.case.opened.v1 -> opened"""
    return data.TYPE.split(".")[3]


def everything(named: Mapping[Reference, Iterable[ServiceCode]]) -> list[dict[str, Any]]:
    """`ended` of a command."""
    return [{"reference": reference, "needs": tuple(needs)} for reference, needs in named.items()]
