"""Every topic: its name, key, partitions and retention, declared once. Services refuse to run on topics that differ."""

from collections.abc import Iterable
from dataclasses import dataclass, field

DAY_MS = 24 * 60 * 60 * 1000

REFERRAL_EVENT = "referral.event"
CASE_EVENT = "case.event"
FEEDBACK_EVENT = "feedback.event"

MAX_VALUE_BYTES = 900_000
"""Largest value of an event; topics take a little more, for key and headers. Documents stay in intake."""


@dataclass(frozen=True)
class Topic:
    """One topic as it must be. Records are keyed by person key; changing the partition count would break order by person."""

    name: str
    partitions: int
    retention_ms: int = 30 * DAY_MS
    max_message_bytes: int = 1_048_576
    purpose: str = field(default="", compare=False)


def hub_case(hub: str) -> str:
    """Topic on which a hub hears of its cases."""
    return f"hub.{hub}.case"


def hub_command(hub: str) -> str:
    """Topic on which a hub gives commands: whoever may write here is that hub."""
    return f"hub.{hub}.command"


def commanding_hub(topic: str) -> str:
    """The hub that a command topic belongs to: hub.charnwood.command -> charnwood."""
    return topic.removeprefix("hub.").removesuffix(".command")


def declared(hubs: Iterable[str]) -> tuple[Topic, ...]:
    """Every topic of an installation with these hubs."""
    return (
        Topic(REFERRAL_EVENT, 12, purpose="Referrals as intake accepted them: received, updated, cancelled"),
        Topic(CASE_EVENT, 12, purpose="What became of them: the internal history of every case"),
        Topic(FEEDBACK_EVENT, 12, purpose="What the notifier sent, or failed to send"),
        *(Topic(hub_case(hub), 3, purpose=f"What {hub} hears of its cases") for hub in hubs),
        *(Topic(hub_command(hub), 3, purpose=f"What {hub} asks for") for hub in hubs),
    )
