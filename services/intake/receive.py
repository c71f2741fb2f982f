"""What every message goes through, whatever carried it: its translator, the shared commit, its protocol's own answer.

The edges are web.py (HTTP) and mllp.py (MLLP): they know who sends, judge the credential before any parser runs, and have one whole
body in hand before anything here begins.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import getrandbits
from uuid import UUID

from services.intake import keys, limits
from services.intake.batching import Batching
from services.intake.ledger import Answer, Arrival, Decision
from services.intake.rates import Rates
from services.intake.room import Room
from services.intake.translators import form
from services.intake.translators.contract import Delivery, Fault, Refusal, Translated, Translator
from services.intake.translators.council_csv import CouncilMapping
from services.messaging import tracing
from services.messaging.tracing import NONE, Span
from services.partners import Partner, Partners

INTERNAL_ERROR = "internal error; the message was not accepted, retry later"


@dataclass(frozen=True)
class Intake:
    """What every message needs."""

    partners: Partners
    batching: Batching
    secret: bytes
    max_body_bytes: int
    bars: Translator
    forms: Mapping[str, form.Form]
    hl7v2: Translator
    councils: Mapping[str, CouncilMapping] = field(default_factory=dict)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    rates: Rates = field(default_factory=Rates)
    room: Room = field(default_factory=Room)
    windows: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(limits.WINDOWS_AT_ONCE))
    attachment_key: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "attachment_key", keys.attachment_key(self.secret))

    def delivery(
        self,
        partner: Partner,
        body: bytes,
        request_id: str | None,
        correlation_id: str | None,
        traceparent: str | None = None,
    ) -> Delivery:
        """One whole message, now, from a partner that is known."""
        return Delivery(partner, body, datetime.now(UTC), self.attachment_key, request_id, correlation_id, traceparent)


@dataclass(frozen=True)
class Protocol:
    """How one protocol is read, and what it answers to a message. `format` is what a partner's entry must allow."""

    format: str
    translate: Translator
    answer: Callable[[Delivery, Translated | Refusal, Decision], Answer]


async def received(
    intake: Intake,
    protocol: Protocol,
    delivery: Delivery,
    *,
    media_type: str | None = None,
    faults: tuple[Fault, ...] = (),
) -> Answer:
    """The answer to one message, once it is committed. `faults`: what is wrong around it, so that it is kept, and refused, unread.

    Raises Unavailable where nothing can be promised. Cancelled while it waits, the outcome is unknown: a repeat is recognised.
    """
    with receiving(protocol, delivery) as span:
        answer = await intake.batching.submit(arrival(protocol, delivery, media_type, faults, span=span))
        span.tell(answer=answer.status)
    return answer


def receiving(protocol: Protocol, delivery: Delivery, *, link: str | None = None) -> Span:
    """The step of a trace that a message begins with us, or goes on with."""
    return tracing.begin(
        f"receive {protocol.format}",
        delivery.traceparent,
        "server",
        link=link,
        partner=delivery.partner.id,
        format=protocol.format,
    )


def arrival(
    protocol: Protocol,
    delivery: Delivery,
    media_type: str | None = None,
    faults: tuple[Fault, ...] = (),
    *,
    kept_elsewhere: bool = False,
    span: Span = NONE,
) -> Arrival:
    """A message with what its translator made of it."""
    outcome: Translated | Refusal = Refusal(faults) if faults else protocol.translate(delivery)

    def compose(decision: Decision) -> Answer:
        span.tell(outcome=decision.verdict)
        return protocol.answer(delivery, outcome, decision)

    message_id = _message_id()
    conversation = outcome.correlation_id if isinstance(outcome, Translated) else delivery.correlation_id
    span.tell(correlation_id=conversation or str(message_id))
    return Arrival(
        id=message_id,
        delivery=delivery,
        format=protocol.format,
        media_type=media_type,
        outcome=outcome,
        compose=compose,
        kept_elsewhere=kept_elsewhere,
        span=span,
    )


def _message_id() -> UUID:
    """A new id that grows with time, so that the index of kept messages does (UUID version 7, RFC 9562)."""
    bits = (time.time_ns() // 1_000_000) << 80 | getrandbits(76)
    return UUID(int=bits & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62)
