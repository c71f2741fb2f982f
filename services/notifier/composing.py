"""What feedback is composed with: recipients, reviewed words and carriers, under the version of the files that they were read from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from schemas.events import Concern, Event
from services.notifier import feedback
from services.notifier.channels import Channel, Rendered
from services.notifier.feedback import Feedback, Recipients, Words


class Composed(NamedTuple):
    """A feedback with its carrier's bytes, and the version that it was composed with."""

    feedback: Feedback
    rendered: Rendered
    version: str | None
    traceparent: str | None = None


class Composer(Protocol):
    """Composes feedback. `version`: of what it composes with now; none where nobody keeps it."""

    @property
    def version(self) -> str | None: ...

    def compose(self, event: Event, concern: Concern) -> list[Composed]:
        """The feedbacks that `event` causes about one referral, each as its carrier takes it."""
        ...


@dataclass(frozen=True, slots=True)
class Composing:
    """Implements `Composer` with what a notifier has read at its start."""

    recipients: Recipients
    words: Words
    channels: Mapping[str, Channel]
    version: str | None = None

    def compose(self, event: Event, concern: Concern) -> list[Composed]:
        told = feedback.compose_for(event, concern, self.recipients, self.words)
        return [Composed(one, self.channels[one.recipient.channel].render(one), self.version) for one in told]
