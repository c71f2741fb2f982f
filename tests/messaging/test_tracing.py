"""Traces show the path of a referral without personal data; a failure to export them affects no referral."""

import asyncio
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest
from aiokafka import AIOKafkaConsumer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceState,
    set_span_in_context,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from services.messaging import outbox, packets
from services.messaging.cloudevents import KafkaRecord
from services.messaging.outbox import OutboxMessage
from services.messaging.relay import Relay
from services.runtime import otel, process, tracing
from services.runtime.otel import AllowListExporter
from services.runtime.settings import CHECKOUT
from services.runtime.tracing import CannotTrace, RecordSpans
from tests import canaries, traced
from tests.messaging.running import an_event
from tests.traced import SENT, SPAN, TRACE, Traces

NUMBER = "9990000018"


@pytest.fixture(autouse=True)
def traces_off_afterwards() -> Iterator[None]:
    yield
    tracing.set_provider(None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        SENT.upper(),
        SENT + "-x",
        SENT + "\n",
        "01" + SENT[2:],
        SENT.replace(TRACE, "0" * 32),
        SENT.replace(SPAN, "0" * 16),
        SENT.replace(TRACE, NUMBER.zfill(32)),
        SENT.replace(SPAN, NUMBER.zfill(16)),
        SENT.replace(SPAN, NUMBER.ljust(16, "0")),
        "00-Edith Canaryson, LE8 6AA, 999 000 0018, of 1 Any Street",
    ],
)
def test_only_a_valid_traceparent_is_accepted_and_not_an_nhs_number(text: str) -> None:
    assert tracing.valid(text) is None
    assert tracing.valid(SENT) == SENT


def test_a_record_with_two_trace_contexts_has_none() -> None:
    assert tracing.extract((("ce_id", b"1"), ("traceparent", SENT.encode()))) == SENT
    assert tracing.extract((("traceparent", SENT.encode()), ("traceparent", SENT.encode()))) is None
    assert tracing.extract((("traceparent", None),)) is None
    assert tracing.extract((("traceparent", b"\xff"),)) is None


# ---- off --------------------------------------------------------------------------------------------------------------


def a_record(*headers: tuple[str, bytes]) -> KafkaRecord:
    return KafkaRecord("tried", 1, 7, b"a" * 32, b"{}", headers)


def test_without_tracing_the_incoming_trace_context_is_passed_on() -> None:
    record = a_record(("traceparent", SENT.encode()))
    span = tracing.begin("receive", SENT)
    with tracing.ending(span), RecordSpans("apply", [record]) as taken:
        tracing.set_attributes(span, outcome="received")
        taken.set_attributes(record, outcome="applied")
        assert tracing.traceparent(span) == taken.context_of(record) == SENT
    assert RecordSpans("apply", []).context_of(a_record()) is None


def test_without_tracing_the_opentelemetry_sdk_is_not_imported() -> None:
    program = (
        "import sys, services.router.app;"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=CHECKOUT, check=True)
    assert ran.stdout == "[]\n"


def test_without_the_tracing_extra_the_setting_is_refused_with_the_package_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "services.runtime.otel")
    monkeypatch.delattr("services.runtime.otel")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(CannotTrace, match=r"pip install 'lightbulb-hub\[tracing\]'"):
        process.configure_tracing("router", "http://127.0.0.1:1/v1/traces")
    assert not tracing.is_on()


def test_a_service_with_an_unusable_tracing_setting_does_not_start(environment: dict[str, str]) -> None:
    told = environment | {"LIGHTBULB_TRACES": "file:/no/such/folder/traces"}
    ran = subprocess.run(
        [sys.executable, "-m", "services.router.app"], env=told, capture_output=True, text=True, cwd=CHECKOUT
    )
    assert (ran.returncode, "LIGHTBULB_TRACES: the file" in ran.stderr, "Traceback" in ran.stderr) == (1, True, False)


# ---- what is told -----------------------------------------------------------------------------------------------------


def test_a_span_is_a_child_of_the_incoming_context_and_the_parent_of_what_follows(traces: Traces) -> None:
    first = tracing.begin("receive", SENT, SpanKind.SERVER)
    second = tracing.begin("commit", tracing.traceparent(first))
    with tracing.ending(second, first):
        pass
    assert {traced.ids(span)[0] for span in traces.ended} == {TRACE}
    assert traced.parent(traces.one("receive")) == SPAN
    assert traced.parent(traces.one("commit")) == traced.ids(traces.one("receive"))[1]
    assert tracing.valid(tracing.traceparent(second))


def test_a_message_without_context_begins_a_trace_and_an_unsampled_flag_is_ignored(traces: Traces) -> None:
    tracing.end(tracing.begin("receive", None))
    tracing.end(tracing.begin("receive", SENT[:-2] + "00"))
    assert traced.parent(traces.ended[0]) is None
    assert len(traces.ended) == 2


def test_a_span_has_the_type_of_an_error_and_never_its_text(traces: Traces) -> None:
    span = tracing.begin("apply", None)
    with pytest.raises(ValueError, match=NUMBER), tracing.ending(span), RecordSpans("apply", [a_record()]):
        raise ValueError(f"{NUMBER} CANARYSON")
    assert [traced.told(span)["type"] for span in traces.ended] == ["ValueError"] * 2
    assert [(span.events, span.status.description) for span in traces.ended] == [((), None)] * 2


def test_only_listed_attributes_are_exported_and_a_correlation_id_only_if_it_is_a_uuid(traces: Traces) -> None:
    step = tracing.begin("apply", None, correlation_id=f"{NUMBER} CANARYSON", outcome="applied")
    tracing.set_attributes(step, person_key="a" * 32, url=f"/referrals?number={NUMBER}")  # type: ignore[call-arg]
    tracing.end(step)
    assert traced.told(traces.one("apply")) == {"outcome": "applied"}


def test_the_span_of_a_record_has_its_offset_but_not_its_key_or_headers(traces: Traces) -> None:
    record = a_record(("traceparent", SENT.encode()), ("tracestate", b"a=CANARYSON"), ("baggage", b"n=9990000018"))
    with RecordSpans("apply", [record]) as taken:
        assert taken.context_of(record) != SENT
        taken.set_attributes(record, outcome="applied")
    assert traced.told(traces.one("apply tried")) == {
        "name": "tried",
        "id": 1,
        "offset": 7,
        "message_count": 1,
        "outcome": "applied",
    }
    assert "a" * 32 not in traces.written()


def test_the_exporter_drops_unlisted_attributes_even_if_they_were_set_directly() -> None:
    memory = InMemorySpanExporter()
    provider = otel.provider("tests", SimpleSpanProcessor(AllowListExporter(memory)))
    ids = int(TRACE, 16), int(SPAN, 16)
    foreign = SpanContext(*ids, is_remote=True, trace_state=TraceState([("name", "canaryson")]))
    parent = set_span_in_context(NonRecordingSpan(foreign))
    links = [Link(foreign, {"name": "CANARYSON"})]
    span = provider.get_tracer("tests").start_span("apply", parent, links=links)
    span.set_attributes({"lightbulb.outcome": "applied", "url.full": f"/referrals?number={NUMBER}"})
    span.set_attribute("messaging.message.conversation_id", f"{NUMBER} CANARYSON")
    span.add_event("CANARYSON", {"number": NUMBER})
    with pytest.raises(ValueError, match=NUMBER), span:
        raise ValueError(f"{NUMBER} CANARYSON")
    [exported] = memory.get_finished_spans()
    assert canaries.PERSONAL.search(span.to_json()), "there was something to drop"  # type: ignore[attr-defined]
    assert traced.told(exported) == {"outcome": "applied"}
    assert (exported.events, exported.status.status_code, exported.status.description) == ((), StatusCode.ERROR, None)
    assert (traced.ids(exported)[0], traced.parent(exported)) == (TRACE, SPAN)
    assert not any(context.trace_state for context in (exported.context, exported.parent, exported.links[0].context))
    assert not re.search(f"canaryson|{NUMBER}", exported.to_json(), re.IGNORECASE)


# ---- sending ----------------------------------------------------------------------------------------------------------


def test_the_span_file_has_a_line_for_each_span_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    file = tmp_path / "these.traces"
    for service in ("intake", "router"):
        process.configure_tracing(service, f"file:{file}")
        tracing.end(tracing.begin("receive", SENT))
        tracing.stop()
    assert [line["resource"]["attributes"]["service.name"] for line in traced.lines(file.read_text())] == [
        "lightbulb-intake",
        "lightbulb-router",
    ]
    assert oct(file.stat().st_mode & 0o777) == "0o600"


class Collector(BaseHTTPRequestHandler):
    """Takes what is sent to it."""

    taken: ClassVar[list[tuple[str, bytes]]] = []

    def do_POST(self) -> None:
        self.taken.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_the_collector_receives_every_span_before_the_process_exits() -> None:
    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        process.configure_tracing("router", f"http://127.0.0.1:{server.server_port}/v1/traces")
        for number in range(3):
            tracing.end(tracing.begin(f"apply {number}", SENT))
        tracing.stop()
        server.shutdown()
    [(path, body)] = Collector.taken
    [resource] = ExportTraceServiceRequest.FromString(body).resource_spans
    names = [span.name for scope in resource.scope_spans for span in scope.spans]
    assert (path, sorted(names)) == ("/v1/traces", ["apply 0", "apply 1", "apply 2"])
    assert ("service.name", "lightbulb-router") in [(a.key, a.value.string_value) for a in resource.resource.attributes]


def test_a_collector_that_does_not_respond_delays_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """More spans than the queue holds go to a collector that takes connections and never answers; stopping does not wait for it."""
    monkeypatch.setattr(tracing, "STOP_SECONDS", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        process.configure_tracing("tests", f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces")
        sending = tracing._provider._active_span_processor._span_processors[0]  # type: ignore[union-attr]
        for _ in range(otel.QUEUE + 1_000):
            tracing.end(tracing.begin("receive", None))
        assert len(sending._batch_processor._queue) <= otel.QUEUE
        began = time.monotonic()
        tracing.stop()
        assert time.monotonic() - began < otel.EXPORT_SECONDS, "it waits for its own bound, not for the collector's"


# ---- the relay --------------------------------------------------------------------------------------------------------


async def published(engine: AsyncEngine, bootstrap: str, topic: str, *messages: OutboxMessage) -> list[dict[str, str]]:
    """Headers of these messages, as Kafka has them."""
    async with engine.begin() as tx:
        await outbox.add(tx, "tried", messages)
    await Relay(engine, "tried", bootstrap)._round()
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        async with asyncio.timeout(10):
            records = [await consumer.getone() for _ in messages]
    finally:
        await consumer.stop()
    found = [{name: value.decode() for name, value in record.headers} for record in records]
    return sorted(found, key=lambda one: int(one["ce_sequence"]))


async def test_without_tracing_the_relay_passes_the_trace_context_on(
    engine: AsyncEngine, bootstrap: str, topic: str
) -> None:
    with_context, without = OutboxMessage(topic, an_event("one", 1), SENT), OutboxMessage(topic, an_event("two", 2))
    first, second = await published(engine, bootstrap, topic, with_context, without)
    assert first["traceparent"] == SENT
    assert "traceparent" not in second


async def test_a_consumer_continues_the_trace_of_the_publish_span_and_old_rows_begin_a_trace(
    engine: AsyncEngine, bootstrap: str, topic: str, traces: Traces
) -> None:
    with_context, old = OutboxMessage(topic, an_event("one", 1), SENT), OutboxMessage(topic, an_event("two", 2))
    first, second = await published(engine, bootstrap, topic, with_context, old)
    one, other = sorted(traces.named(f"publish {topic}"), key=lambda span: traced.parent(span) is None)
    assert (traced.ids(one)[0], traced.parent(one)) == (TRACE, SPAN)
    assert first["traceparent"].split("-")[1:3] == [*traced.ids(one)]
    assert second["traceparent"].split("-")[1:3] == [*traced.ids(other)]
    assert traced.told(one)["event_type"] == "uk.lightbulb.referral.cancelled.v1"
    async with engine.connect() as connection:
        [kept] = [one for one in await packets.published(connection, "tried") if one.message.person_key == "one"]
    assert dict(kept.message.headers)["traceparent"] == SENT.encode(), (
        "what is kept is the cause, however often it is published"
    )


async def test_the_span_of_a_refused_record_has_the_type_of_the_error(
    engine: AsyncEngine, bootstrap: str, traces: Traces
) -> None:
    async with engine.begin() as tx:
        await outbox.add(tx, "tried", [OutboxMessage("no.such.topic", an_event("one", 1), SENT)])
    await Relay(engine, "tried", bootstrap)._round()
    assert traced.told(traces.one("publish no.such.topic"))["type"] in ("TimeoutError", "UnknownTopicOrPartitionError")
