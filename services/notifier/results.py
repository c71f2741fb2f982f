"""The events of what became of a feedback: sent, or failed. Their ids are made from the feedback's, so that a repeat is one."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from schemas.events import Event, FeedbackFailed, FeedbackSent
from schemas.model import PersonKey, Reference
from schemas.topics import FEEDBACK_EVENT
from services.messaging import outbox
from services.notifier.composing import Composed

SOURCE = "/lightbulb/notifier"


@dataclass(frozen=True, slots=True)
class About:
    """What the event about a feedback needs of it."""

    person_key: str
    feedback_id: str
    reference: str
    recipient: str
    channel: Any
    correlation_id: str
    caused_by: str
    traceparent: str | None


def of_composed(one: Composed) -> About:
    """Of a feedback that is kept to be fetched: it was sent when it was composed."""
    feedback, recipient = one.feedback, one.feedback.recipient
    return About(
        feedback.person_key,
        feedback.id,
        feedback.reference,
        recipient.id,
        recipient.channel,
        feedback.correlation_id,
        feedback.caused_by,
        one.traceparent,
    )


def sent(about: About, at: datetime) -> outbox.Message:
    """Its carrier has it."""
    data = FeedbackSent(
        reference=Reference(about.reference),
        feedback_id=about.feedback_id,
        recipient=about.recipient,
        channel=about.channel,
    )
    return outbox.Message(FEEDBACK_EVENT, _event(about, at, data, "sent"), about.traceparent)


def failed(about: About, at: datetime, reason: str) -> outbox.Message:
    """It will not arrive. `reason`: a class, never a carrier's words."""
    data = FeedbackFailed(
        reference=Reference(about.reference),
        feedback_id=about.feedback_id,
        recipient=about.recipient,
        channel=about.channel,
        reason=reason,
    )
    return outbox.Message(FEEDBACK_EVENT, _event(about, at, data, "failed"), about.traceparent)


def _event(about: About, at: datetime, data: FeedbackSent | FeedbackFailed, what: str) -> Event:
    return Event(
        id=str(uuid5(UUID(about.feedback_id), what)),
        source=SOURCE,
        time=at,
        person_key=PersonKey(about.person_key),
        correlation_id=about.correlation_id,
        causation_id=about.caused_by,
        data=data,
    )
