"""The events of what became of a feedback: sent, or failed. Their ids are made from the feedback's, so that a repeat is one."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from schemas.events import Event, FeedbackFailed, FeedbackSent
from schemas.model import PersonKey, Reference
from schemas.topics import FEEDBACK_EVENT
from services.messaging import outbox
from services.notifier.channels import RenderedFeedback

SOURCE = "/lightbulb/notifier"


@dataclass(frozen=True, slots=True)
class FeedbackIdentity:
    """What the event about a feedback needs of it."""

    person_key: str
    feedback_id: str
    reference: str
    recipient: str
    channel: Any
    correlation_id: str
    caused_by: str
    traceparent: str | None


def of_composed(one: RenderedFeedback) -> FeedbackIdentity:
    """Of a feedback that is kept to be fetched: it was sent when it was composed."""
    feedback, recipient = one.feedback, one.feedback.recipient
    return FeedbackIdentity(
        feedback.person_key,
        feedback.id,
        feedback.reference,
        recipient.id,
        recipient.channel,
        feedback.correlation_id,
        feedback.caused_by,
        one.traceparent,
    )


def sent(feedback: FeedbackIdentity, at: datetime) -> outbox.OutboxMessage:
    """Its carrier has it."""
    data = FeedbackSent(
        reference=Reference(feedback.reference),
        feedback_id=feedback.feedback_id,
        recipient=feedback.recipient,
        channel=feedback.channel,
    )
    return outbox.OutboxMessage(FEEDBACK_EVENT, _event(feedback, at, data, "sent"), feedback.traceparent)


def failed(feedback: FeedbackIdentity, at: datetime, reason: str) -> outbox.OutboxMessage:
    """It will not arrive. `reason`: a class, never a carrier's words."""
    data = FeedbackFailed(
        reference=Reference(feedback.reference),
        feedback_id=feedback.feedback_id,
        recipient=feedback.recipient,
        channel=feedback.channel,
        reason=reason,
    )
    return outbox.OutboxMessage(FEEDBACK_EVENT, _event(feedback, at, data, "failed"), feedback.traceparent)


def _event(feedback: FeedbackIdentity, at: datetime, data: FeedbackSent | FeedbackFailed, what: str) -> Event:
    return Event(
        id=str(uuid5(UUID(feedback.feedback_id), what)),
        source=SOURCE,
        time=at,
        person_key=PersonKey(feedback.person_key),
        correlation_id=feedback.correlation_id,
        causation_id=feedback.caused_by,
        data=data,
    )
