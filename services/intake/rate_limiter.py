"""How fast each partner may send, and how much of it may be in hand at once: a token bucket for each, in one process's memory."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from services.intake import limits
from services.reference.partners import Partner
from services.runtime import metrics
from services.runtime.logs import log


class RateLimited(Exception):
    """The partner sends faster than it may, or has too much in hand. Nothing was taken: come again."""


@dataclass(slots=True)
class _Sender:
    """What one partner may still send, as of `at`; below nothing where it waits for its turn."""

    left: float
    at: float
    in_flight: int = 0
    refused: int = 0
    logged_at: float = float("-inf")


class RateLimiter:
    """Counts messages by partner. `per_second`: for each partner whose entry says nothing else."""

    def __init__(self, per_second: int = 200, now: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._now = now
        self._senders: dict[str, _Sender] = {}

    @contextmanager
    def in_flight(self, partner: Partner, what: str) -> Iterator[None]:
        """While one message of this partner is in hand. Raises TooFast, counted as an answer to `what` (its format)."""
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

    def pause(self, partner: Partner) -> float:
        """Seconds until the next message of this partner may be read; 0: now."""
        return max(0.0, 1 - self._refill(partner).left) / self._rate(partner)

    def read(self, partner: Partner) -> None:
        """A message was read, whether it was its turn or not: where several connections did not wait, all wait longer."""
        self._refill(partner).left -= 1

    def _rate(self, partner: Partner) -> int:
        return partner.messages_per_second or self._per_second

    def _refill(self, partner: Partner) -> _Sender:
        per_second, now = self._rate(partner), self._now()
        burst = per_second * limits.BURST_SECONDS
        sender = self._senders.setdefault(partner.id, _Sender(burst, now))
        sender.left = min(burst, sender.left + (now - sender.at) * per_second)
        sender.at = now
        return sender

    def _count(self, partner: Partner, sender: _Sender, what: str) -> None:
        """In the metrics each time; in the log with the number so far, once in ten seconds."""
        sender.refused += 1
        metrics.MESSAGES.labels(partner.id, what, "rate-limited").inc()
        if sender.at - sender.logged_at >= limits.LOG_SECONDS:
            sender.logged_at = sender.at
            log.warning("rate_limited", partner=partner.id, format=what, count=sender.refused)
