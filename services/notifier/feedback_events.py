"""Events about a feedback: sent or failed. Their ids derive from its id, so that a repeat is a duplicate."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

from schemas.events import Event, FeedbackFailed, FeedbackSent
from schemas.model import PersonKey, Reference
from schemas.topics import FEEDBACK_EVENT
from services.messaging import outbox
from services.notifier.channels import Conversation, RenderedFeedback

SOURCE = "/lightbulb/notifier"


@dataclass(frozen=True, slots=True)
class FeedbackIdentity:
    """The fields of a feedback that its events need, from a composed or a leased one."""

    conversation: Conversation
    feedback_id: str
    correlation_id: str
    caused_by: str
    traceparent: str | None


def of_composed(one: RenderedFeedback) -> FeedbackIdentity:
    """Return the identity of a composed feedback."""
    feedback, recipient = one.feedback, one.feedback.recipient
    conversation = Conversation(feedback.person_key, feedback.reference, recipient.id, recipient.channel)
    return FeedbackIdentity(conversation, feedback.id, feedback.correlation_id, feedback.caused_by, one.traceparent)


def sent(feedback: FeedbackIdentity, at: datetime) -> outbox.OutboxMessage:
    """Create the event that the channel accepted a feedback."""
    _, reference, recipient, channel = feedback.conversation
    data = FeedbackSent(
        reference=Reference(reference), feedback_id=feedback.feedback_id, recipient=recipient, channel=channel
    )
    return outbox.OutboxMessage(FEEDBACK_EVENT, _event(feedback, at, data, "sent"), feedback.traceparent)


def failed(feedback: FeedbackIdentity, at: datetime, reason: str) -> outbox.OutboxMessage:
    """Create the event that a feedback failed for good. `reason`: an error class, never text of the channel."""
    _, reference, recipient, channel = feedback.conversation
    data = FeedbackFailed(
        reference=Reference(reference),
        feedback_id=feedback.feedback_id,
        recipient=recipient,
        channel=channel,
        reason=reason,
    )
    return outbox.OutboxMessage(FEEDBACK_EVENT, _event(feedback, at, data, "failed"), feedback.traceparent)


def _event(feedback: FeedbackIdentity, at: datetime, data: FeedbackSent | FeedbackFailed, what: str) -> Event:
    return Event(
        id=str(uuid5(UUID(feedback.feedback_id), what)),
        source=SOURCE,
        time=at,
        person_key=PersonKey(feedback.conversation.person_key),
        correlation_id=feedback.correlation_id,
        causation_id=feedback.caused_by,
        data=data,
    )
