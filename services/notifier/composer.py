"""What feedback is composed with: recipients, reviewed words and carriers, under the version of the files that they were read from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from schemas.events import Event, ReferralContext
from services.notifier import compose as composition
from services.notifier.channels import Channel, Rendered
from services.notifier.compose import Feedback, FeedbackTexts, Recipients


class RenderedFeedback(NamedTuple):
    """A feedback with its carrier's bytes, and the version that it was composed with."""

    feedback: Feedback
    rendered: Rendered
    version: str | None
    traceparent: str | None = None


class Composer(Protocol):
    """Composes feedback. `version`: of what it composes with now; none where nobody keeps it."""

    @property
    def version(self) -> str | None: ...

    def compose(self, event: Event, context: ReferralContext) -> list[RenderedFeedback]:
        """The feedbacks that `event` causes about one referral, each as its carrier takes it."""
        ...


@dataclass(frozen=True, slots=True)
class FeedbackComposer:
    """Implements `Composer` with what a notifier has read at its start."""

    recipients: Recipients
    texts: FeedbackTexts
    channels: Mapping[str, Channel]
    version: str | None = None

    def compose(self, event: Event, context: ReferralContext) -> list[RenderedFeedback]:
        feedbacks = composition.compose_for(event, context, self.recipients, self.texts)
        return [
            RenderedFeedback(one, self.channels[one.recipient.channel].render(one), self.version) for one in feedbacks
        ]
