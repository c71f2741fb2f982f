"""Accept one message, over any transport: translate it, commit it with others, respond in its protocol.

The transports are http/messages.py and mllp/server.py. They authenticate the sender before any parser runs, and pass one complete body.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import getrandbits
from uuid import UUID

from opentelemetry.trace import INVALID_SPAN, Span, SpanKind

from services.intake import identifiers, limits
from services.intake.batch import MessageDecision, PendingMessage, ProtocolResponse
from services.intake.conformance_sample import ConformanceSample
from services.intake.group_commit import GroupCommit
from services.intake.memory_budget import MemoryBudget
from services.intake.rate_limiter import RateLimiter
from services.intake.responses.conformance import CodeSystems
from services.intake.translators import form
from services.intake.translators.council_csv import CouncilMapping
from services.intake.translators.inbound_message import InboundMessage, Translator
from services.intake.translators.translator import Issue, Rejection, Translated, VisitMessage
from services.intake.visits import Visits
from services.reference.fillers import NO_FILLERS, Fillers
from services.reference.lists import CodeLists
from services.reference.partners import Partner, Partners
from services.runtime import tracing

INTERNAL_ERROR = "internal error; the message was not accepted, retry later"


@dataclass(frozen=True)
class Intake:
    """The translators, limits and shared state that handling a message needs."""

    partners: Partners
    group_commit: GroupCommit
    secret: bytes
    max_body_bytes: int
    bars: Translator
    forms: Mapping[str, form.Form]
    hl7v2: Translator
    councils: Mapping[str, CouncilMapping] = field(default_factory=dict)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    rate_limiter: RateLimiter = field(default_factory=RateLimiter)
    memory_budget: MemoryBudget = field(default_factory=MemoryBudget)
    windows: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(limits.WINDOWS_AT_ONCE))
    service_ids: tuple[str, ...] = ()
    """Identifiers of this service as `system|value`: a message for another one is refused."""

    fillers: Fillers = NO_FILLERS
    """What senders enter for what they do not know."""

    code_systems: CodeSystems = field(default_factory=dict)
    lists: CodeLists = field(default_factory=dict)
    conformance_sample: ConformanceSample = field(default_factory=ConformanceSample)
    attachment_key: bytes = field(init=False)
    visits: Visits = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "attachment_key", identifiers.attachment_key(self.secret))
        object.__setattr__(self, "visits", Visits(self.group_commit))

    def inbound_message(
        self,
        partner: Partner,
        body: bytes,
        request_id: str | None,
        correlation_id: str | None,
        traceparent: str | None = None,
        *,
        adt_only: bool = False,
    ) -> InboundMessage:
        """Return a complete message that an authenticated partner sent now."""
        return InboundMessage(
            partner,
            body,
            datetime.now(UTC),
            self.attachment_key,
            request_id,
            correlation_id,
            traceparent,
            adt_only,
            self.fillers,
        )


@dataclass(frozen=True)
class Protocol:
    """How one protocol is translated and answered. `format` is the name that a partner's entry must allow."""

    format: str
    translate: Translator
    answer: Callable[[InboundMessage, Translated | Rejection, MessageDecision], ProtocolResponse]
    is_about_visit: Callable[[bytes], bool] = field(default=lambda _: False, kw_only=True)
    """Return whether a message is about a visit (ADT): if it is refused, it is not stored."""


async def accept(
    intake: Intake,
    protocol: Protocol,
    inbound: InboundMessage,
    *,
    media_type: str | None = None,
    issues: tuple[Issue, ...] = (),
) -> ProtocolResponse:
    """Return the response to one message after it is committed.

    `issues` are errors outside the body, such as in headers: the message is then stored as refused without being translated.
    Raises Unavailable if the message could not be committed, or if the outcome is unknown. The outcome is also unknown if the
    call is cancelled; the sender may repeat the message, duplicates are recognised.
    """
    span = receive_span(protocol, inbound)
    with tracing.ending(span):
        pending = translate(protocol, inbound, media_type, issues, span=span)
        answer = await _commit(intake, protocol, pending)
        tracing.set_attributes(span, answer=answer.status)
    if protocol.format == "bars-fhir" and isinstance(pending.outcome, Translated):
        intake.conformance_sample.offer(pending.id, inbound.body)
    return answer


async def _commit(intake: Intake, protocol: Protocol, pending: PendingMessage) -> ProtocolResponse:
    match pending.outcome:
        case Translated(visit=VisitMessage() as visit, of_referral=of_referral) if of_referral:
            return await intake.visits.submit(pending, visit, of_referral, _message_id)
        case Rejection() if protocol.is_about_visit(pending.inbound.body):
            return intake.visits.refuse(pending)
        case _:
            return await intake.group_commit.submit(pending)


def receive_span(protocol: Protocol, inbound: InboundMessage, *, link: Span | None = None) -> Span:
    """Begin the span of receiving a message, in the sender's trace if it sent one."""
    return tracing.begin(
        f"receive {protocol.format}",
        inbound.traceparent,
        SpanKind.SERVER,
        link=link,
        partner=inbound.partner.id,
        format=protocol.format,
    )


def translate(
    protocol: Protocol,
    inbound: InboundMessage,
    media_type: str | None = None,
    issues: tuple[Issue, ...] = (),
    *,
    stored_in_upload: bool = False,
    span: Span = INVALID_SPAN,
) -> PendingMessage:
    """Translate a message, and return it ready for the shared commit."""
    outcome: Translated | Rejection = Rejection(issues) if issues else protocol.translate(inbound)

    def compose(decision: MessageDecision) -> ProtocolResponse:
        tracing.set_attributes(span, outcome=decision.verdict)
        return protocol.answer(inbound, outcome, decision)

    message_id = _message_id()
    conversation = outcome.correlation_id if isinstance(outcome, Translated) else inbound.correlation_id
    tracing.set_attributes(span, correlation_id=conversation or str(message_id))
    return PendingMessage(
        id=message_id,
        inbound=inbound,
        format=protocol.format,
        media_type=media_type,
        outcome=outcome,
        compose=compose,
        stored_in_upload=stored_in_upload,
        span=span,
    )


def _message_id() -> UUID:
    """Return a new id that increases with time, so that the index is appended to (UUID version 7, RFC 9562)."""
    bits = (time.time_ns() // 1_000_000) << 80 | getrandbits(76)
    return UUID(int=bits & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62)
