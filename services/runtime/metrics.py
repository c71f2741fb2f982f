"""Prometheus metrics of all services, each label with a bounded set of values.

Label values are our own names or reviewed data (topics, partners, formats, channels, verdicts): never a key, a reference or a
sender's text.
"""

import platform
import tomllib
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.process_collector import ProcessCollector

from services.runtime.settings import CHECKOUT

REGISTRY = CollectorRegistry()
ProcessCollector(namespace="lightbulb", registry=REGISTRY)

MEDIA_TYPE = CONTENT_TYPE_LATEST

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ROWS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)

BUILD = Gauge(
    "lightbulb_build_info",
    "Always 1; the labels give the versions",
    ["service", "version", "python"],
    registry=REGISTRY,
)

EXPIRY = Gauge(
    "lightbulb_certificate_expiry_timestamp_seconds",
    "When the first certificate, or the token, of a file that the settings or deployment.yaml name ends; NaN if that cannot be known",
    ["use", "partner"],
    registry=REGISTRY,
)

# ---- dependencies and stalled tasks ----------------------------------------------------------------------------------

DEPENDENCY_UP = Gauge(
    "lightbulb_dependency_up", "1 if it is reachable, else 0: database, kafka", ["dependency"], registry=REGISTRY
)
TASK_STALLED_SECONDS = Gauge(
    "lightbulb_task_stalled_seconds",
    "How long this task has had work without progress while its dependencies were reachable",
    ["task"],
    registry=REGISTRY,
)

# ---- consuming -------------------------------------------------------------------------------------------------------

LAG = Gauge(
    "lightbulb_consumer_lag_records",
    "Records of a topic that this consumer group has not applied yet",
    ["topic"],
    registry=REGISTRY,
)
OLDEST_UNAPPLIED = Gauge(
    "lightbulb_consumer_oldest_age_seconds",
    "Age of the oldest record on a topic that this consumer group has not applied yet; 0 if none",
    ["topic"],
    registry=REGISTRY,
)
BATCH_RECORDS = Histogram("lightbulb_batch_records", "Records of a batch", buckets=_ROWS, registry=REGISTRY)
BATCH_SECONDS = Histogram(
    "lightbulb_batch_duration_seconds",
    "Time from the arrival of a batch to its commit",
    buckets=_SECONDS,
    registry=REGISTRY,
)
BATCH_RETRIES = Counter(
    "lightbulb_batch_retries", "Attempts at a batch that ended with a transient error", ["error"], registry=REGISTRY
)
TOPIC_PAUSED = Gauge(
    "lightbulb_topic_paused",
    "1 while this process has paused a topic because too many of its records would become dead letters",
    ["topic"],
    registry=REGISTRY,
)
RECORDS_GONE = Gauge(
    "lightbulb_records_gone",
    "Records of a topic that were deleted from Kafka before this consumer group read them, until they are reconciled",
    ["topic"],
    registry=REGISTRY,
)
DEAD_LETTERS = Gauge(
    "lightbulb_dead_letters",
    "Unresolved dead letters, by kind of reason (1,000: or more)",
    ["reason"],
    registry=REGISTRY,
)

# ---- hubs ------------------------------------------------------------------------------------------------------------

OLDEST_REQUESTED = Gauge(
    "lightbulb_case_requested_oldest_age_seconds",
    "How long the oldest case that a hub holds and has not accepted has been with it",
    ["hub"],
    registry=REGISTRY,
)

# ---- the outbox ------------------------------------------------------------------------------------------------------

UNPUBLISHED = Gauge(
    "lightbulb_outbox_unpublished",
    "Events of the outbox not yet on Kafka, in at most 100 packets of each shard and 100 of each topic and shard that are held",
    registry=REGISTRY,
)
OLDEST_UNPUBLISHED = Gauge(
    "lightbulb_outbox_oldest_age_seconds", "Age of the oldest unpublished event; 0 if none", registry=REGISTRY
)
PUBLISHED = Counter("lightbulb_outbox_published", "Events that Kafka acknowledged to this process", registry=REGISTRY)
ROUND_ROWS = Histogram(
    "lightbulb_outbox_batch_records", "Events published in one round of the relay", buckets=_ROWS, registry=REGISTRY
)
ROUND_SECONDS = Histogram(
    "lightbulb_outbox_batch_duration_seconds", "Duration of such a round", buckets=_SECONDS, registry=REGISTRY
)
RELAY_FAILURES = Counter(
    "lightbulb_outbox_publish_failures", "Rounds, or events, that could not be published", ["error"], registry=REGISTRY
)
PRODUCERS_REPLACED = Counter(
    "lightbulb_kafka_producers_replaced", "Kafka producers replaced after a failure", registry=REGISTRY
)

# ---- feedback --------------------------------------------------------------------------------------------------------

FEEDBACK = Gauge(
    "lightbulb_feedback",
    "Feedback that is waiting; that has failed finally in the last 7 days, or somewhat longer ago; or that is kept and was not fetched for"
    " LIGHTBULB_FEEDBACK_UNFETCHED_AFTER (1,000: or more)",
    ["state"],
    registry=REGISTRY,
)
OLDEST_UNDELIVERED = Gauge(
    "lightbulb_feedback_oldest_age_seconds",
    "How long the oldest feedback that is waiting has been due; 0 if none",
    registry=REGISTRY,
)
ENDPOINT_FAILING = Gauge(
    "lightbulb_endpoint_failing",
    "1 while the circuit of an endpoint is open: it fails, and gets one attempt at a time; partner *: MESH, for all",
    ["channel", "partner"],
    registry=REGISTRY,
)
PARTNER_UNADDRESSED = Gauge(
    "lightbulb_partner_unaddressed",
    "1 for each partner whose feedback waits because its channel has no address or settings in this installation",
    ["channel", "partner"],
    registry=REGISTRY,
)
DUE = Gauge("lightbulb_feedback_due", "Recipients that feedback may go to now", registry=REGISTRY)
ATTEMPTS = Counter(
    "lightbulb_feedback_attempts",
    "Delivery attempts, by outcome",
    ["channel", "outcome"],
    registry=REGISTRY,
)
ATTEMPT_SECONDS = Histogram(
    "lightbulb_feedback_attempt_duration_seconds",
    "Duration of an attempt",
    ["channel"],
    buckets=_SECONDS,
    registry=REGISTRY,
)

# ---- intake ----------------------------------------------------------------------------------------------------------

MESSAGES = Counter(
    "lightbulb_messages",
    "Messages answered, by partner, format and verdict; unavailable and rate-limited: not accepted",
    ["partner", "format", "verdict"],
    registry=REGISTRY,
)
ADT_MESSAGES = Counter(
    "lightbulb_adt_messages",
    "ADT messages answered, by trigger event (other: not read) and outcome: found, unrelated, ambiguous, refused",
    ["partner", "trigger", "outcome"],
    registry=REGISTRY,
)
COMMIT_MESSAGES = Histogram(
    "lightbulb_commit_messages", "Messages that shared a transaction", buckets=_ROWS, registry=REGISTRY
)
COMMIT_SECONDS = Histogram(
    "lightbulb_commit_duration_seconds", "Duration of such a transaction", buckets=_SECONDS, registry=REGISTRY
)
MLLP_MESSAGES = Counter(
    "lightbulb_mllp_messages",
    "Messages answered over MLLP, and what else was done to a message or connection, by outcome",
    ["partner", "outcome"],
    registry=REGISTRY,
)
MLLP_CONNECTIONS = Gauge(
    "lightbulb_mllp_connections", "Connections over MLLP that are open", ["partner"], registry=REGISTRY
)
CONFORMANCE_DIFFERENCES = Counter(
    "lightbulb_conformance_differences",
    "Faults that fhir.resources found in a sample of accepted messages, by resource type",
    ["resource_type"],
    registry=REGISTRY,
)
HTTP_RESPONSES = Counter("lightbulb_http_responses", "HTTP responses by status", ["status"], registry=REGISTRY)
HTTP_CONNECTIONS_REJECTED = Counter(
    "lightbulb_http_connections_rejected",
    "HTTP connections closed before a request was read, by reason",
    ["reason"],
    registry=REGISTRY,
)


def set_build_info(service: str) -> None:
    """Set the build information of this process."""
    BUILD.labels(service, version(), platform.python_version()).set(1)


@cache
def version() -> str:
    """Return the version in pyproject.toml, or \"unknown\"."""
    try:
        declared = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    except (OSError, tomllib.TOMLDecodeError):
        return "unknown"
    return str(declared["project"]["version"])


def exposition() -> bytes:
    """Return all metrics in the Prometheus text format."""
    return generate_latest(REGISTRY)
