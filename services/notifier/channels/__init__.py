"""Channels of feedback: each renders a feedback once and delivers it.

Every attempt sends the same bytes with the same ids. `deliver` returns expected failures as values: what the recipient says about
this message is final; what concerns its endpoint (unreachable, redirected, not found, not authorised, unavailable) is retried.
"""

import email.utils
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple, Protocol

from services.notifier.compose import Feedback

LONGEST_PAUSE = 300.0
FIRST_PAUSE = 0.5
LONGEST_REQUESTED_PAUSE = 3_600.0
"""Longest pause that an endpoint may request (Retry-After), in seconds."""


class Conversation(NamedTuple):
    """The feedback about one referral to one recipient by one channel; it is delivered in order."""

    person_key: str
    reference: str
    recipient: str
    channel: Literal["fhir", "mesh", "mailbox"]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A feedback as the bytes of its channel. `ids` are sent next to the bytes: request id, local id, subject."""

    body: bytes
    ids: Mapping[str, str]


class RenderedFeedback(NamedTuple):
    """A feedback, and the bytes and ids that its channel sends."""

    feedback: Feedback
    rendered: Rendered
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class DeliveryRequest:
    """One attempt to deliver one feedback. `attempt` counts from 1; if above 1, an earlier one may have arrived.

    `traceparent`: its trace context, which the channel sends if its protocol can carry it.
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
    """The channel accepted it. `receipt`: the id that it assigned, if any; `repeat`: it was accepted before."""

    receipt: str | None = None
    repeat: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """The attempt failed and is repeated. `after`: seconds that the channel requested, if any.

    `endpoint`: whether it would have failed for any other feedback to that endpoint too.
    """

    reason: str
    after: float | None = None
    endpoint: bool = True


@dataclass(frozen=True, slots=True)
class Failed:
    """The feedback failed for good; a person must see to it. `reason`: an error class without personal data."""

    reason: str


Outcome = Delivered | Retry | Failed


class Channel(Protocol):
    """The contract of every channel; tests/contract/channels/test_channels.py tests it for all."""

    def render(self, feedback: Feedback) -> Rendered:
        """Return the bytes and ids of `feedback`; the result is the same each time."""
        ...

    async def deliver(self, request: DeliveryRequest) -> Outcome:
        """Make one attempt."""
        ...


ABOUT_THE_MESSAGE = frozenset({400, 409, 422})
"""HTTP statuses by which a recipient rejects the message; every other failure concerns its endpoint."""

_HTML = re.compile(rb"\s*(<!--.*?-->\s*)*(<!doctype html|<html)", re.IGNORECASE | re.DOTALL)


def is_html(body: bytes) -> bool:
    """Return whether a response is a page: then a gateway or a login form answered, and the status says nothing."""
    return _HTML.match(body.removeprefix(b"\xef\xbb\xbf")) is not None


def retry_after_seconds(retry_after: str | None) -> float | None:
    """Return the seconds of a Retry-After header, which is seconds or a date (RFC 9110, 10.2.3), or None."""
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
    """Return the seconds until attempt number `attempt` (from 2).

    That is what the channel requested, up to an hour, else a pause that grows to 5 minutes. Half of a pause is random, so that
    retries spread.
    """
    if requested is not None:
        return min(requested, LONGEST_REQUESTED_PAUSE) + random.uniform(0, 0.25)  # noqa: S311 - not a secret
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempt - 2, 20))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret
