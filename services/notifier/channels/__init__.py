"""Carriers of feedback. Each renders a feedback once, and delivers the same bytes with the same ids however often it must try.

`deliver` raises nothing that it can foresee: what became of an attempt is a value. A refusal is final, being away is not.
"""

import email.utils
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from services.notifier.compose import Feedback

LONGEST_PAUSE = 300.0
FIRST_PAUSE = 0.5


@dataclass(frozen=True, slots=True)
class Rendered:
    """A feedback as its carrier takes it. `ids` go beside the bytes: request id, local id, subject."""

    body: bytes
    ids: Mapping[str, str]


class RenderedFeedback(NamedTuple):
    """A feedback, and the bytes and ids that its channel sends."""

    feedback: Feedback
    rendered: Rendered
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class DeliveryRequest:
    """One attempt at one feedback. `attempt` counts from 1; above 1 an earlier one may have arrived unseen.

    `traceparent`: the context of its trace; a carrier that has a place for it passes it on.
    """

    feedback_id: str
    reference: str
    correlation_id: str
    recipient: str
    body: bytes
    ids: Mapping[str, str]
    attempt: int
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Delivered:
    """The carrier has it. `receipt` is the carrier's own id of it, where it gave one; `repeat`: it had it already."""

    receipt: str | None = None
    repeat: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """Not now. `after`: seconds that the carrier asked for, or none."""

    reason: str
    after: float | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """Never: a person must see to it. `reason` is a class without personal data."""

    reason: str


Outcome = Delivered | Retry | Failed


class Channel(Protocol):
    """What every carrier does; one suite of tests (tests/contract/channels/test_channels.py) holds them all to it."""

    def render(self, feedback: Feedback) -> Rendered:
        """The bytes and ids of `feedback`: the same each time."""
        ...

    async def deliver(self, request: DeliveryRequest) -> Outcome:
        """One attempt."""
        ...


def retry_after_seconds(retry_after: str | None) -> float | None:
    """Retry-After is seconds or a date (RFC 9110, 10.2.3); none where there is none, or it is neither."""
    if retry_after is None:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        at = email.utils.parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (at.astimezone(UTC) - datetime.now(UTC)).total_seconds())


def pause_before(attempt: int, requested: float | None) -> float:
    """Seconds until attempt number `attempt` (from 2): what the carrier asked for, else growing pauses, never more than 5 minutes.

    Half of a pause is chance, so that many do not come back together.
    """
    if requested is not None:
        return min(requested, 12 * LONGEST_PAUSE) + random.uniform(0, 0.25)  # noqa: S311 - not a secret
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempt - 2, 20))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret
