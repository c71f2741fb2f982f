"""Limit the message rate (token bucket) and the concurrent requests of each partner, for one process.

ADT has a bucket of its own, so that a full feed never delays referrals.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from services.intake import limits
from services.reference.partners import Partner
from services.runtime import metrics
from services.runtime.logs import log


class RateLimited(Exception):
    """The partner exceeds its rate or its concurrent requests. The message was not accepted; the sender may retry."""


@dataclass(slots=True)
class _Sender:
    """The tokens that one partner has left for its ADT or its other messages, as of `at`; negative if messages wait."""

    left: float
    at: float
    in_flight: int = 0
    refused: int = 0
    logged_at: float = float("-inf")


class RateLimiter:
    """The token buckets of all partners. `per_second` is the rate of a partner whose entry gives none."""

    def __init__(self, per_second: int = 200, now: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._now = now
        self._senders: dict[tuple[str, bool], _Sender] = {}

    @contextmanager
    def in_flight(self, partner: Partner, what: str) -> Iterator[None]:
        """Take a token, and count one message as in flight.

        Raises RateLimited if there is none, and counts that in the metrics under `what` (the message's format).
        """
        sender = self._refill(partner)
        if sender.left < 1 or sender.in_flight >= limits.IN_FLIGHT:
            self._count(partner, sender, what)
            raise RateLimited
        sender.left -= 1
        sender.in_flight += 1
        try:
            yield
        finally:
            sender.in_flight -= 1

    def reserve(self, partner: Partner, *, adt: bool = False) -> float:
        """Take a token, even if none is left. Return when the message may be handled, for `pause`."""
        sender = self._refill(partner, adt=adt)
        sender.left -= 1
        return sender.at + max(0.0, -sender.left) / self._rate(partner, adt=adt)

    def pause(self, until: float) -> float:
        """Return the seconds until this time of `reserve`; 0 if it has come."""
        return max(0.0, until - self._now())

    def _rate(self, partner: Partner, *, adt: bool) -> int:
        of_adt = partner.hl7v2.adt_messages_per_second if adt else None
        return of_adt or partner.messages_per_second or self._per_second

    def _refill(self, partner: Partner, *, adt: bool = False) -> _Sender:
        per_second, now = self._rate(partner, adt=adt), self._now()
        burst = per_second * limits.BURST_SECONDS
        sender = self._senders.setdefault((partner.id, adt), _Sender(burst, now))
        sender.left = min(burst, sender.left + (now - sender.at) * per_second)
        sender.at = now
        return sender

    def _count(self, partner: Partner, sender: _Sender, what: str) -> None:
        """Count a refusal in the metrics; log the number so far at most once in LOG_SECONDS."""
        sender.refused += 1
        metrics.MESSAGES.labels(partner.id, what, "rate-limited").inc()
        if sender.at - sender.logged_at >= limits.LOG_SECONDS:
            sender.logged_at = sender.at
            log.warning("rate_limited", partner=partner.id, format=what, count=sender.refused)
