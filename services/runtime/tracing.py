"""Traces: a referral's way through all services, step by step. Where they are off, only the context that came is passed on.

A context is the text of a `traceparent` header (W3C Trace Context, 3.2). It comes with a sender's request or a Kafka record, waits with
the work in the rows of outbox and feedback, and goes on with what follows. `tracestate` and `baggage` are never read: whoever sends
them may write anything into them. process.py switches traces on; only then otel.py, and with it OpenTelemetry, is imported.
"""

import re
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Literal, Protocol, Self, TypedDict, Unpack

from services.runtime import StartupError

HEADER = "traceparent"

STOP_SECONDS = 3.0
"""How long the last spans may take to leave a process that stops."""

_TRACEPARENT = re.compile(
    "00-(?![0-9]{32})[0-9a-f]{32}-(?!0{6}[0-9]{10}|[0-9]{10}0{6})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII
)
"""Version 00. Ids of zeros are none; ids that are a padded number could be somebody's, and chance makes one in millions."""

Kind = Literal["server", "producer", "consumer", "client", "internal"]


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


class SpanAttributes(TypedDict, total=False):
    """What may be told of a step: names of ours or of reviewed data, codes and counts. Never a key, a reference or a text of others."""

    partner: str
    format: str
    type: str
    topic: str
    partition: int
    offset: int
    channel: str
    attempt: int
    outcome: str
    answer: int
    records: int
    correlation_id: str | None
    """Told only where it is a UUID: a hub's own may be any text."""


def valid(traceparent: str | None) -> str | None:
    """The context in a header that somebody sent; none where it is none."""
    return traceparent if traceparent and _TRACEPARENT.fullmatch(traceparent) else None


def extract(headers: Iterable[tuple[str, bytes | None]]) -> str | None:
    """The context in a record's headers; none where there is none, or more than one."""
    values = [value for name, value in headers if name == HEADER]
    return valid(values[0].decode("ascii", "replace")) if len(values) == 1 and values[0] else None


class Span:
    """One step, and the context of what follows from it. This one is kept nowhere, and passes on what came."""

    __slots__ = ("traceparent",)

    def __init__(self, traceparent: str | None = None) -> None:
        self.traceparent = traceparent

    def set_attributes(self, **attributes: Unpack[SpanAttributes]) -> None:
        """What came of it."""

    def end(self, error: str | None = None) -> None:
        """It is over. `error`: the kind of what went wrong, never its text."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        self.end(kind.__name__ if kind else None)


NONE = Span()
"""No trace, and nothing to pass on."""


class SpanRecorder(Protocol):
    """What makes spans that are kept: otel.py."""

    def begin(self, name: str, parent: str | None, kind: Kind, link: str | None, attributes: SpanAttributes) -> Span:
        """A step that begins now."""
        ...

    def stop(self, seconds: float) -> None:
        """Send what is left, for so long."""
        ...


_recorder: SpanRecorder | None = None


class CannotTrace(StartupError):
    """LIGHTBULB_TRACES cannot be followed; the text says why, and what to do."""


def set_recorder(recorder: SpanRecorder) -> None:
    """Switch traces on: what begins from now on is kept."""
    global _recorder
    _recorder = recorder


def stop() -> None:
    """Send the last spans, and switch traces off."""
    global _recorder
    recorder, _recorder = _recorder, None
    if recorder is not None:
        recorder.stop(STOP_SECONDS)


def is_on() -> bool:
    """True where spans are kept."""
    return _recorder is not None


def begin(
    name: str,
    parent: str | None,
    kind: Kind = "internal",
    *,
    link: str | None = None,
    **attributes: Unpack[SpanAttributes],
) -> Span:
    """A step that begins now: a child of `parent`, or the first of a new trace. `link`: what it belongs to besides."""
    return Span(parent) if _recorder is None else _recorder.begin(name, parent, kind, link, attributes)


class SpanGroup:
    """Steps of several traces that begin and end together, because one transaction does. Each is a child of its own cause."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = spans

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        for span in self.spans:
            span.end(kind.__name__ if kind else None)


def batch_span(name: str, parents: Iterable[str | None], **attributes: Unpack[SpanAttributes]) -> SpanGroup:
    """The same step of each of these traces."""
    return SpanGroup([begin(name, parent, **attributes) for parent in parents] if is_on() else ())


class RecordSpans(SpanGroup):
    """Records that are applied together."""

    def __init__(self, name: str, records: Sequence[TracedRecord]) -> None:
        self._by_record = {record: _consumer_span(name, record, len(records)) for record in records} if is_on() else {}
        super().__init__(tuple(self._by_record.values()))

    def context_of(self, record: TracedRecord) -> str | None:
        """What follows from this record carries it."""
        if (span := self._by_record.get(record) if self._by_record else None) is not None:
            return span.traceparent
        return extract(record.headers)

    def set_attributes(self, record: TracedRecord, **attributes: Unpack[SpanAttributes]) -> None:
        """What came of this record."""
        if self._by_record and (span := self._by_record.get(record)) is not None:
            span.set_attributes(**attributes)


def _consumer_span(name: str, record: TracedRecord, batch_size: int) -> Span:
    return begin(
        f"{name} {record.topic}",
        extract(record.headers),
        "consumer",
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        records=batch_size,
        outcome="duplicate",
    )
