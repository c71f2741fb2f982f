"""Export of spans with the OpenTelemetry SDK, to a collector or a file.

Needs the extra `tracing`; imported only if traces are on. Spans wait in a bounded queue for a background thread; when the queue is
full, new spans are dropped and the work continues.
"""

import os
from collections.abc import Sequence

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, SpanContext, Status

from services.runtime import metrics
from services.runtime.tracing import CannotTrace, allowed

QUEUE = 4_096
"""Maximum number of spans that wait for export."""

BATCH_SPANS = 512
BATCH_MILLISECONDS = 1_000
EXPORT_SECONDS = 2.0
"""Time for the export of one batch to a collector, including retries."""


def exporting_provider(service: str, traces: str) -> TracerProvider:
    """Return a provider that exports this service's spans to `traces`: file:PATH, or the URL of a collector.

    Raises CannotTrace if the file cannot be written.
    """
    exporter = _FileExporter(traces.removeprefix("file:")) if traces.startswith("file:") else _collector(traces)
    return provider(service, BatchSpanProcessor(AllowListExporter(exporter), QUEUE, BATCH_MILLISECONDS, BATCH_SPANS))


def provider(service: str, processor: SpanProcessor) -> TracerProvider:
    """Return a provider that records every span, independently of the sampling flag in a sender's context."""
    resource = Resource.create({"service.name": f"lightbulb-{service}", "service.version": metrics.version()})
    tracer_provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
    tracer_provider.add_span_processor(processor)
    return tracer_provider


def _collector(url: str) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=url, timeout=EXPORT_SECONDS)


class AllowListExporter(SpanExporter):
    """Removes what may not leave the process, as a second check of what was set.

    Attributes outside the list, events, status descriptions, tracestate and attributes of links are dropped.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export what may leave the process."""
        return self._exporter.export([_filtered(span) for span in spans])

    def shutdown(self) -> None:
        """Shut the exporter down."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the exporter."""
        return self._exporter.force_flush(timeout_millis)


def _filtered(span: ReadableSpan) -> ReadableSpan:
    return ReadableSpan(
        name=span.name,
        context=_ids(span.context),
        parent=span.parent and _ids(span.parent),
        resource=span.resource,
        attributes=allowed(span.attributes or {}),
        links=[Link(_ids(link.context)) for link in span.links],
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _ids(context: SpanContext) -> SpanContext:
    """Return the context without its tracestate."""
    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags)


class _FileExporter(SpanExporter):
    """Writes each span as a JSON line. Several processes may write to one file: each batch is one write."""

    def __init__(self, path: str) -> None:
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            raise CannotTrace(f"LIGHTBULB_TRACES: the file cannot be written: {error.strerror}") from None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Append the spans; they are dropped if the file cannot be written."""
        try:
            os.write(self._file, "".join(f"{span.to_json(indent=None)}\n" for span in spans).encode())
        except OSError:
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Close the file."""
        os.close(self._file)
