"""Traces with the OpenTelemetry API; without a provider, spans are no-ops that only pass the context on.

A context is the value of a `traceparent` header (W3C Trace Context, 3.2). It arrives in a request or a Kafka record, is stored with
the work in the rows of outbox and feedback, and is sent with what follows. `tracestate` and `baggage` are never read or sent, because
they may hold any text. Attributes are set by `set_attributes` only, and an exception is recorded by its class name only.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from threading import Thread
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Protocol, Self, TypedDict, TypeVar, Unpack, get_type_hints

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Link, NoOpTracer, Span, SpanKind, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from services.runtime import StartupError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

HEADER = "traceparent"

STOP_SECONDS = 3.0
"""Time that a stopping process waits for the export of its last spans."""

_TRACEPARENT = re.compile(
    "00-(?![0-9]{32})[0-9a-f]{32}-(?!0{6}[0-9]{10}|[0-9]{10}0{6})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII
)
"""Version 00. An id that could be a padded NHS number is refused (by chance, one in millions), and one of zeros."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)

_W3C = TraceContextTextMapPropagator()

V = TypeVar("V")


class Attributes(TypedDict, total=False):
    """Attributes of a span with their OpenTelemetry names: our names, reviewed data, codes and counts.

    Never a key, a reference or a sender's text.
    """

    partner: Annotated[str, "lightbulb.partner"]
    format: Annotated[str, "lightbulb.format"]
    channel: Annotated[str, "lightbulb.channel"]
    attempt: Annotated[int, "lightbulb.attempt"]
    outcome: Annotated[str, "lightbulb.outcome"]
    answer: Annotated[int, "lightbulb.answer"]
    type: Annotated[str, "cloudevents.event_type"]
    topic: Annotated[str, "messaging.destination.name"]
    partition: Annotated[int, "messaging.destination.partition.id"]
    offset: Annotated[int, "messaging.kafka.offset"]
    records: Annotated[int, "messaging.batch.message_count"]
    correlation_id: Annotated[str | None, "messaging.message.conversation_id"]
    """Set only if it is a UUID, because a hub may send any text."""


ATTRIBUTES = {name: hint.__metadata__[0] for name, hint in get_type_hints(Attributes, include_extras=True).items()}

ERROR_TYPE = "error.type"

_ALLOWED = {*ATTRIBUTES.values(), ERROR_TYPE}


class TracedRecord(Protocol):
    """The parts of a Kafka record that a span shows."""

    @property
    def topic(self) -> str: ...

    @property
    def partition(self) -> int: ...

    @property
    def offset(self) -> int: ...

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class CannotTrace(StartupError):
    """The setting LIGHTBULB_TRACES cannot be used; the text gives the reason and what to do."""


_provider: "TracerProvider | None" = None
_tracer: Tracer = NoOpTracer()


def set_provider(provider: "TracerProvider | None") -> None:
    """Record spans with this provider from now on; None switches traces off."""
    global _provider, _tracer
    _provider, _tracer = provider, provider.get_tracer("lightbulb") if provider else NoOpTracer()


def stop() -> None:
    """Switch traces off and export the last spans, for at most STOP_SECONDS."""
    provider = _provider
    set_provider(None)
    if provider is not None:
        export = Thread(target=provider.shutdown, name="export of the last spans", daemon=True)
        export.start()
        export.join(STOP_SECONDS)


def is_on() -> bool:
    """Return True if spans are recorded."""
    return _provider is not None


# ---- contexts ---------------------------------------------------------------------------------------------------------


def valid(traceparent: str | None) -> str | None:
    """Return the header's value if it is a valid context, otherwise None."""
    return traceparent if traceparent and _TRACEPARENT.fullmatch(traceparent) else None


def extract(headers: Iterable[tuple[str, bytes | None]]) -> str | None:
    """Return the context in a record's headers, or None if there is not exactly one valid header."""
    values = [value for name, value in headers if name == HEADER]
    return valid(values[0].decode("ascii", "replace")) if len(values) == 1 and values[0] else None


def traceparent(span: Span) -> str | None:
    """Return the context for what follows from this span; None if there is no trace."""
    headers: dict[str, str] = {}
    _W3C.inject(headers, set_span_in_context(span, Context()))
    return headers.get(HEADER)


# ---- spans ------------------------------------------------------------------------------------------------------------


def begin(
    name: str,
    parent: str | None,
    kind: SpanKind = SpanKind.INTERNAL,
    *,
    link: Span | None = None,
    **attributes: Unpack[Attributes],
) -> Span:
    """Start a span as a child of `parent`, or as the first of a new trace. End it with `end` or `ending`."""
    if parent is None and not is_on():
        return INVALID_SPAN
    span = _tracer.start_span(
        name,
        _W3C.extract({HEADER: parent} if parent else {}, Context()),
        kind,
        links=[Link(link.get_span_context())] if link else None,
        record_exception=False,
        set_status_on_exception=False,
    )
    set_attributes(span, **attributes)
    return span


def set_attributes(span: Span, **attributes: Unpack[Attributes]) -> None:
    """Set these attributes, if they are on the list."""
    if span.is_recording():
        named: dict[str, Any] = {ATTRIBUTES[name]: value for name, value in attributes.items() if name in ATTRIBUTES}
        span.set_attributes(allowed(named))


def allowed(attributes: Mapping[str, V]) -> dict[str, V]:
    """Return the attributes that are on the list; of correlation ids only a UUID."""
    return {
        name: value
        for name, value in attributes.items()
        if name in _ALLOWED and (name != ATTRIBUTES["correlation_id"] or _UUID.fullmatch(str(value)))
    }


def end(span: Span, error: type[BaseException] | None = None) -> None:
    """End the span; after an error, with the class name as its type and the outcome `failed`."""
    if error is not None:
        span.set_attributes({ERROR_TYPE: error.__name__, ATTRIBUTES["outcome"]: "failed"})
        span.set_status(StatusCode.ERROR)
    span.end()


@contextmanager
def ending(*spans: Span) -> Iterator[None]:
    """End these spans together after the block."""
    error: type[BaseException] | None = None
    try:
        yield
    except BaseException as raised:
        error = type(raised)
        raise
    finally:
        for span in spans:
            end(span, error)


def batch_span(
    name: str, parents: Iterable[str | None], **attributes: Unpack[Attributes]
) -> AbstractContextManager[None]:
    """Trace one transaction that several traces share: a span in each, ended after the block."""
    return ending(*(begin(name, parent, **attributes) for parent in parents if is_on()))


class RecordSpans:
    """Spans of records that are applied together, each a child of the context in its record."""

    def __init__(self, name: str, records: Sequence[TracedRecord]) -> None:
        self._spans = {record: _consumer_span(name, record, len(records)) for record in records} if is_on() else {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for span in self._spans.values():
            end(span, kind)

    def context_of(self, record: TracedRecord) -> str | None:
        """Return the context for what follows from this record."""
        span = self._spans.get(record) if self._spans else None
        return extract(record.headers) if span is None else traceparent(span)

    def set_attributes(self, record: TracedRecord, **attributes: Unpack[Attributes]) -> None:
        """Set attributes of this record's span."""
        if self._spans and (span := self._spans.get(record)) is not None:
            set_attributes(span, **attributes)


def _consumer_span(name: str, record: TracedRecord, batch_size: int) -> Span:
    return begin(
        f"{name} {record.topic}",
        extract(record.headers),
        SpanKind.CONSUMER,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        records=batch_size,
        outcome="duplicate",
    )
