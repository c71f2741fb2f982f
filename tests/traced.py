"""Traces as a test sees them: kept in memory, and searched for personal data when the test ends."""

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.messaging.cloudevents import KafkaRecord
from services.runtime import otel, tracing
from tests import canaries

SENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
"""What a sender's own tracing may send: the example of W3C Trace Context."""

TRACE, SPAN = SENT.split("-")[1:3]


def with_context(record: KafkaRecord, context: str = SENT) -> KafkaRecord:
    foreign = (("tracestate", b"a=CANARYSON"), ("baggage", b"n=9990000018"))
    return dataclasses.replace(record, headers=(*record.headers, ("traceparent", context.encode()), *foreign))


class Traces:
    """Every span that has ended."""

    def __init__(self) -> None:
        self._kept = InMemorySpanExporter()
        tracing.set_provider(otel.provider("tests", SimpleSpanProcessor(self._kept)))

    @property
    def ended(self) -> list[ReadableSpan]:
        return list(self._kept.get_finished_spans())

    def named(self, beginning: str) -> list[ReadableSpan]:
        return [span for span in self.ended if span.name.startswith(beginning)]

    def one(self, beginning: str) -> ReadableSpan:
        [span] = self.named(beginning)
        return span

    def off(self) -> None:
        """From here on nothing is traced."""
        tracing.set_provider(None)

    def written(self) -> str:
        """All that leaves the process."""
        return "\n".join(span.to_json(indent=None) for span in self.ended)


@contextmanager
def traces_on() -> Iterator[Traces]:
    """Record spans in memory, as they were set and before the exporter filters them; check at the end that none holds personal data."""
    traces = Traces()
    try:
        yield traces
    finally:
        tracing.set_provider(None)
    assert not [line for line in traces.written().splitlines() if canaries.PERSONAL.search(line)]


def ids(span: ReadableSpan) -> tuple[str, str]:
    """Trace and span, as a header writes them."""
    assert span.context is not None
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"


def parent(span: ReadableSpan) -> str | None:
    """The span that this one is a child of."""
    return f"{span.parent.span_id:016x}" if span.parent else None


def told(span: ReadableSpan) -> dict[str, Any]:
    """Its attributes, without the names of their makers."""
    return {name.rpartition(".")[2]: value for name, value in (span.attributes or {}).items()}


def lines(written: str) -> list[dict[str, Any]]:
    """Spans of a file of traces, as far as their lines are whole: others are being written."""
    return [json.loads(line) for line in written.splitlines(keepends=True) if line.endswith("\n")]
