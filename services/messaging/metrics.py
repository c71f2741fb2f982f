"""What a service counts and measures, for Prometheus: declared here, in one place, with every label's values bounded.

Labels are names of ours or of reviewed data (topics, partners, formats, channels, verdicts): never a key, a reference or a text that
somebody sent.
"""

import platform
import tomllib
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.process_collector import ProcessCollector

from services.messaging.settings import CHECKOUT

REGISTRY = CollectorRegistry()
ProcessCollector(namespace="lightbulb", registry=REGISTRY)

MEDIA_TYPE = CONTENT_TYPE_LATEST

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ROWS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)

BUILD = Gauge("lightbulb_build", "1, with what runs", ["service", "version", "python"], registry=REGISTRY)

# ---- what is away, and what stands still -----------------------------------------------------------------------------

AWAY = Gauge("lightbulb_away", "1 while this does not answer: database, kafka", ["what"], registry=REGISTRY)
STILL = Gauge(
    "lightbulb_still_seconds",
    "How long this loop has had work and has not moved, while database and Kafka answered",
    ["loop"],
    registry=REGISTRY,
)

# ---- consuming -------------------------------------------------------------------------------------------------------

LAG = Gauge(
    "lightbulb_lag_records", "Records of a topic that this group has not applied yet", ["topic"], registry=REGISTRY
)
BATCH_RECORDS = Histogram("lightbulb_batch_records", "Records of a batch", buckets=_ROWS, registry=REGISTRY)
BATCH_SECONDS = Histogram(
    "lightbulb_batch_seconds", "From a batch's arrival to its commit", buckets=_SECONDS, registry=REGISTRY
)
BATCH_RETRIES = Counter(
    "lightbulb_batch_retries", "Attempts at a batch that passing faults ended", ["fault"], registry=REGISTRY
)
QUARANTINED = Gauge(
    "lightbulb_quarantined", "Records in quarantine, unresolved, by kind of reason", ["reason"], registry=REGISTRY
)

# ---- the outbox ------------------------------------------------------------------------------------------------------

UNPUBLISHED = Gauge(
    "lightbulb_outbox_unpublished", "Events of the outbox not yet on Kafka (10,001: or more)", registry=REGISTRY
)
OLDEST_UNPUBLISHED = Gauge(
    "lightbulb_outbox_oldest_seconds", "Age of the oldest of them; 0 where there is none", registry=REGISTRY
)
PUBLISHED = Counter("lightbulb_outbox_published", "Events that Kafka acknowledged to this process", registry=REGISTRY)
ROUND_ROWS = Histogram(
    "lightbulb_outbox_round_rows", "Events of a round that had any", buckets=_ROWS, registry=REGISTRY
)
ROUND_SECONDS = Histogram(
    "lightbulb_outbox_round_seconds", "Duration of such a round", buckets=_SECONDS, registry=REGISTRY
)
RELAY_FAILURES = Counter(
    "lightbulb_outbox_failures", "Rounds, or events, that could not be published", ["fault"], registry=REGISTRY
)
PRODUCERS_REPLACED = Counter("lightbulb_producers_replaced", "Producers thrown away after a failure", registry=REGISTRY)

# ---- feedback --------------------------------------------------------------------------------------------------------

FEEDBACK = Gauge("lightbulb_feedback", "Feedback that waits, or failed for good", ["state"], registry=REGISTRY)
OLDEST_UNDELIVERED = Gauge(
    "lightbulb_feedback_oldest_seconds", "Age of the oldest that waits; 0 where there is none", registry=REGISTRY
)
DUE = Gauge("lightbulb_feedback_due", "Conversations whose next feedback may go now", registry=REGISTRY)
ATTEMPTS = Counter(
    "lightbulb_feedback_attempts",
    "Attempts to deliver, by what came of them",
    ["channel", "outcome"],
    registry=REGISTRY,
)
ATTEMPT_SECONDS = Histogram(
    "lightbulb_feedback_attempt_seconds", "Duration of an attempt", ["channel"], buckets=_SECONDS, registry=REGISTRY
)

# ---- intake ----------------------------------------------------------------------------------------------------------

MESSAGES = Counter(
    "lightbulb_messages",
    "Messages answered, by partner, format and verdict; unavailable: nothing was promised; too-fast: nothing was taken",
    ["partner", "format", "verdict"],
    registry=REGISTRY,
)
COMMIT_MESSAGES = Histogram(
    "lightbulb_commit_messages", "Messages that shared a transaction", buckets=_ROWS, registry=REGISTRY
)
COMMIT_SECONDS = Histogram(
    "lightbulb_commit_seconds", "Duration of such a transaction", buckets=_SECONDS, registry=REGISTRY
)
MLLP = Counter(
    "lightbulb_mllp",
    "Answers over MLLP, and connections that ended otherwise than their sender wished, by what happened",
    ["partner", "what"],
    registry=REGISTRY,
)
MLLP_CONNECTIONS = Gauge(
    "lightbulb_mllp_connections", "Connections over MLLP that are open", ["partner"], registry=REGISTRY
)
HTTP_ANSWERS = Counter("lightbulb_http_answers", "HTTP answers by status", ["status"], registry=REGISTRY)
HTTP_TURNED_AWAY = Counter(
    "lightbulb_http_turned_away",
    "HTTP connections that ended before a request of theirs was read, by why",
    ["why"],
    registry=REGISTRY,
)


def tell_build(service: str) -> None:
    """Say once what runs."""
    BUILD.labels(service, version(), platform.python_version()).set(1)


@cache
def version() -> str:
    """The version that pyproject.toml declares."""
    try:
        declared = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    except (OSError, tomllib.TOMLDecodeError):
        return "unknown"
    return str(declared["project"]["version"])


def exposition() -> bytes:
    """Everything, as Prometheus reads it."""
    return generate_latest(REGISTRY)
