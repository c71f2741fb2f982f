"""Kafka topics: name, key, partitions and retention. Services refuse to start on topics that differ."""

from collections.abc import Iterable
from dataclasses import dataclass, field

DAY_MS = 24 * 60 * 60 * 1000

REFERRAL_EVENT = "referral.event"
CASE_EVENT = "case.event"
FEEDBACK_EVENT = "feedback.event"

MAX_VALUE_BYTES = 900_000
"""Largest value of an event in bytes; topics allow slightly more, for key and headers. Documents stay in intake."""


@dataclass(frozen=True)
class Topic:
    """Required configuration of one topic.

    Records are keyed by person key; a change of the partition count would break the order for each person.
    """

    name: str
    partitions: int
    retention_ms: int = 30 * DAY_MS
    max_message_bytes: int = 1_048_576
    purpose: str = field(default="", compare=False)


def hub_case(hub: str) -> str:
    """Return the topic on which a hub receives events of its cases."""
    return f"hub.{hub}.case"


def hub_command(hub: str) -> str:
    """Return the topic on which a hub sends commands: permission to write to it identifies the hub."""
    return f"hub.{hub}.command"


def commanding_hub(topic: str) -> str:
    """Return the hub that a command topic belongs to: hub.charnwood.command -> charnwood."""
    return topic.removeprefix("hub.").removesuffix(".command")


def declared(hubs: Iterable[str]) -> tuple[Topic, ...]:
    """Return every topic of an installation with these hubs."""
    return (
        Topic(REFERRAL_EVENT, 12, purpose="Referrals that intake accepted: received, updated, cancelled"),
        Topic(CASE_EVENT, 12, purpose="Internal history of every case"),
        Topic(FEEDBACK_EVENT, 12, purpose="Feedback that the notifier sent or failed to send"),
        *(Topic(hub_case(hub), 3, purpose=f"Events of the cases of {hub}, for its system") for hub in hubs),
        *(Topic(hub_command(hub), 3, purpose=f"Commands of {hub}") for hub in hubs),
    )
