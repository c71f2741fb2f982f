"""Structured logs with the correlation id and without personal data.

Records of client libraries can hold keys, values, headers or parameters. Only their warnings are logged, with module, function, line
and exception class instead of the message, and repeated ones are dropped.
"""

import logging
import logging.config
import sys
import time
from typing import Any

import structlog

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


class ClientLibraryFilter(logging.Filter):
    """Reduces a client library's record to logger, level, place and exception class.

    Each place is logged at most once in ten seconds, because aiokafka logs hundreds of lines while a broker is unreachable.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        place = (record.name, record.lineno)
        now = time.monotonic()
        if now - self._last.get(place, -60.0) < 10.0:
            return False
        self._last[place] = now
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        record.msg = f"client library: {record.module}.{record.funcName}:{record.lineno}" + (f" {kind}" if kind else "")
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
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
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


def _kind_of_exception(_: Any, __: str, event: Any) -> Any:
    """Replace an exception by its class name, because its text may hold personal data."""
    error = event.pop("exc_info", None)
    if error:
        kind = error if isinstance(error, BaseException) else sys.exc_info()[1]
        event["exception"] = type(kind).__name__
    return event
