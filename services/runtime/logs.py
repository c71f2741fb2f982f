"""Structured logs with the correlation id and without personal data.

Records of client libraries can hold keys, values, headers or parameters. Only their warnings are logged, with module, function, line
and exception class instead of the message. While a server is away, both their warnings and our own are repeated: each is logged once in
ten seconds, with the number of those that were left out before.
"""

import logging
import logging.config
import math
import sys
import time
from collections.abc import Hashable
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

from services.runtime.settings import Settings

log: structlog.stdlib.BoundLogger = structlog.get_logger("lightbulb")

QUIET = (
    "aiokafka",
    "faststream",
    "aiohttp",
    "httpx",
    "httpcore",
    "urllib3",
    "requests",
    "mesh_client",
    "sqlalchemy",
    "asyncpg",
    "alembic",
    "uvicorn",
    "uvicorn.access",
    "asyncio",
    "fhir",
    "multipart",
    "stamina",
    "opentelemetry",
)
"""Client libraries; of their warnings only the place in their code is logged."""


OF_SERVERS = frozenset(
    {
        "attachment_unavailable",
        "attempt_save_retrying",
        "batch_retrying",
        "commit_failed",
        "delivery_retrying",
        "dependency_unreachable",
        "fhir_read_unavailable",
        "not_ready",
        "publish_rejected",
        "relay_retrying",
        "resubmit_retrying",
        "visit_lookup_failed",
    }
)
"""Our own warnings that are repeated while a server is away. Those of one reason, dependency and topic are the same."""

REPEATED_SECONDS = 10.0
"""How often the same warning is logged."""


class Repeats:
    """Counts warnings that are repeated, by a key of few values."""

    def __init__(self) -> None:
        self._last: dict[Hashable, tuple[float, int]] = {}

    def left_out(self, key: Hashable) -> int | None:
        """Return the number left out since the last one that was logged, or None if this one is left out too."""
        now = time.monotonic()
        logged_at, count = self._last.get(key, (-math.inf, 0))
        is_repeated = now - logged_at < REPEATED_SECONDS
        self._last[key] = (logged_at, count + 1) if is_repeated else (now, 0)
        return None if is_repeated else count


class ClientLibraryFilter(logging.Filter):
    """Reduces a client library's record to logger, level, place and exception class; a place is a warning of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._repeats = Repeats()

    def filter(self, record: logging.LogRecord) -> bool:
        left_out = self._repeats.left_out((record.name, record.lineno))
        if left_out is None:
            return False
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        record.msg = f"client library: {record.module}.{record.funcName}:{record.lineno}" + (f" {kind}" if kind else "")
        record.msg += f" ({left_out} left out)" if left_out else ""
        record.args = ()
        record.exc_info = record.exc_text = record.stack_info = None
        return True


def configure(service: str, settings: Settings) -> None:
    """Configure logging of this process to stderr, as JSON or for a console, with client libraries filtered."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _kind_of_exception,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            once_in_ten_seconds(Repeats()),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_rendering(settings)))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level)
    handler.addFilter(_Foreign())


def _rendering(settings: Settings) -> list[Any]:
    last = structlog.processors.JSONRenderer() if settings.log_format == "json" else structlog.dev.ConsoleRenderer()
    return [structlog.stdlib.ProcessorFormatter.remove_processors_meta, last]


class _Foreign(logging.Filter):
    """Applies the client library filter to every record that is not our own."""

    def __init__(self) -> None:
        super().__init__()
        self._client = ClientLibraryFilter()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name == "lightbulb" or record.name.startswith("lightbulb."):
            return True
        return record.levelno >= logging.WARNING and self._client.filter(record)


def once_in_ten_seconds(repeats: Repeats) -> Processor:
    """Return a processor that leaves out repeated warnings of OF_SERVERS; `left_out` is their number."""

    def process(_: Any, __: str, event: EventDict) -> EventDict:
        if event["event"] not in OF_SERVERS:
            return event
        left_out = repeats.left_out(tuple(map(event.get, ("event", *_OF_THE_SAME))))
        if left_out is None:
            raise structlog.DropEvent
        return {**event, "left_out": left_out} if left_out else event

    return process


_OF_THE_SAME = ("reason", "error_type", "dependency", "topic")


def _kind_of_exception(_: Any, __: str, event: Any) -> Any:
    """Replace an exception by its class name, because its text may hold personal data."""
    error = event.pop("exc_info", None)
    if error:
        kind = error if isinstance(error, BaseException) else sys.exc_info()[1]
        event["exception"] = type(kind).__name__
    return event
