"""Spans in OpenTelemetry's form: made here, sent by a thread of its own, and dropped where they cannot be. Needs the extra `tracing`.

Nothing waits for an exporter. Spans wait in a queue of a fixed length; what is too much for it is lost, and nothing else.
"""

import os
import re
import threading
from collections.abc import Sequence
from typing import Any, Unpack

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.trace import Span as OtelSpan

from services.runtime import metrics
from services.runtime.tracing import CannotTrace, Kind, Span, SpanAttributes

QUEUE = 4_096
"""Spans that wait to be sent at most."""

SEND_AT_ONCE = 512
EACH_MILLISECONDS = 1_000
SEND_SECONDS = 2.0
"""How long a collector may take for one of these parcels, with all attempts."""

ATTRIBUTES = {
    "partner": "lightbulb.partner",
    "format": "lightbulb.format",
    "channel": "lightbulb.channel",
    "attempt": "lightbulb.attempt",
    "outcome": "lightbulb.outcome",
    "answer": "lightbulb.answer",
    "type": "cloudevents.event_type",
    "topic": "messaging.destination.name",
    "partition": "messaging.destination.partition.id",
    "offset": "messaging.kafka.offset",
    "records": "messaging.batch.message_count",
    "correlation_id": "messaging.message.conversation_id",
}
"""By fact: its attribute. What is not here is told nobody."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)

_KINDS: dict[Kind, SpanKind] = {
    "server": SpanKind.SERVER,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
    "client": SpanKind.CLIENT,
    "internal": SpanKind.INTERNAL,
}


def recorder(service: str, traces: str) -> "OtelRecorder":
    """Spans of this service to `traces`: file:PATH, or the URL of a collector. Raises CannotTrace."""
    exporter = _Lines(traces.removeprefix("file:")) if traces.startswith("file:") else _collector(traces)
    sending = BatchSpanProcessor(exporter, QUEUE, EACH_MILLISECONDS, SEND_AT_ONCE)
    return OtelRecorder(service, sending)


def _collector(url: str) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=url, timeout=SEND_SECONDS)


class OtelRecorder:
    """Implements `tracing.Recorder`. Every trace is kept, whatever a sender's flag says: it is our work that is seen."""

    def __init__(self, service: str, sending: SpanProcessor) -> None:
        resource = Resource.create({"service.name": f"lightbulb-{service}", "service.version": metrics.version()})
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(sending)
        self._tracer = self._provider.get_tracer("lightbulb")

    def begin(self, name: str, parent: str | None, kind: Kind, link: str | None, attributes: SpanAttributes) -> Span:
        """A step that begins now."""
        return RecordedSpan(
            self._tracer.start_span(
                name,
                context=set_span_in_context(NonRecordingSpan(_parse_traceparent(parent)), Context())
                if parent
                else Context(),
                kind=_KINDS[kind],
                attributes=_attributes(attributes),
                links=[Link(_parse_traceparent(link))] if link else None,
                record_exception=False,
                set_status_on_exception=False,
            ),
            parent,
        )

    def stop(self, seconds: float) -> None:
        """Send what is left, for so long."""
        ending = threading.Thread(target=self._provider.shutdown, name="sends the last spans", daemon=True)
        ending.start()
        ending.join(seconds)


class RecordedSpan(Span):
    """A step that is kept. What follows from it is its child."""

    __slots__ = ("_span",)

    def __init__(self, span: OtelSpan, parent: str | None) -> None:
        context = span.get_span_context()
        super().__init__(_format_traceparent(context) if context.is_valid else parent)
        self._span = span

    def set_attributes(self, **attributes: Unpack[SpanAttributes]) -> None:
        """What came of it."""
        self._span.set_attributes(_attributes(attributes))

    def end(self, error: str | None = None) -> None:
        """It is over; whatever was told came to nothing where it failed.

        No exception is ever given to OpenTelemetry, which would keep its text and its stack.
        """
        if error is not None:
            self._span.set_attributes({"error.type": error, ATTRIBUTES["outcome"]: "failed"})
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


def _attributes(attributes: SpanAttributes) -> dict[str, str | int]:
    otel_attributes: dict[str, Any] = {
        ATTRIBUTES[name]: value for name, value in attributes.items() if name in ATTRIBUTES
    }
    conversation = otel_attributes.pop(ATTRIBUTES["correlation_id"], None)
    if conversation and _UUID.fullmatch(conversation):
        otel_attributes[ATTRIBUTES["correlation_id"]] = conversation
    return otel_attributes


def _parse_traceparent(traceparent: str) -> SpanContext:
    _, trace, span, flags = traceparent.split("-")
    return SpanContext(int(trace, 16), int(span, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))


def _format_traceparent(context: SpanContext) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


class _Lines(SpanExporter):
    """One JSON line a span, for whoever has no collector. Several processes may write to one file: a parcel is one write."""

    def __init__(self, path: str) -> None:
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            raise CannotTrace(f"LIGHTBULB_TRACES: the file cannot be written: {error.strerror}") from None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Written, or lost."""
        try:
            os.write(self._file, "".join(f"{span.to_json(indent=None)}\n" for span in spans).encode())
        except OSError:
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """No more comes."""
        os.close(self._file)
