"""Transactional Outbox: events are rows of the transaction that causes them; a relay publishes them afterwards.

Rows are marked when Kafka has acknowledged them, never read by a moving cursor (a row that commits late would be skipped).
Writers lock the person key first, so that ids follow the order of a key. One relay at a time works on a shard: the advisory
lock lasts for one round, so if a relay stops, another continues.
"""

import asyncio
import contextlib
import json
import time
import zlib
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.errors import BrokerResponseError, KafkaError, RequestTimedOutError
from opentelemetry.trace import Span, SpanKind
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.events import Event
from schemas.topics import MAX_VALUE_BYTES
from services.messaging.cloudevents import headers_of, value_of
from services.runtime import database, metrics, tracing
from services.runtime.backlog import BacklogSnapshot, outbox_queues
from services.runtime.database import Transaction
from services.runtime.logs import log
from services.runtime.watchdog import Progress, WatchedTask

SHARDS = 8
ROUND = 1_000
"""Maximum number of rows that one round reads, in equal shares of the queues that have any. A queue: a shard's rows of one topic."""

OLDEST_FIRST = "order by id limit fair.share"
"""Order of a queue's rows in a round: by id, so that the events of a key are published in order."""

POLL_SECONDS = 0.5
"""How often a relay polls for rows of other processes; commits of its own process wake it at once."""

SHARD_RETRY_SECONDS = 0.02
"""How soon a relay polls again if another relay held a shard that its new rows may be in."""

ACK_TIMEOUT_SECONDS = 4.0
"""How long one wave of a round waits for Kafka's acknowledgements."""

SENDING_SECONDS = 2.0
"""How long a round starts new waves; plus ACK_TIMEOUT_SECONDS it stays below the session's idle limit (8 s)."""

LAST_SECONDS = 8.0
"""How long a relay may take after a stop signal to finish its current round, and again for a last one."""

PRODUCER_STOP_SECONDS = 2.0
"""How long a replaced producer may take to stop before it is cancelled."""

T = TypeVar("T")


class TooLarge(ValueError):
    """An event exceeds the size limit of its topic. The text holds sizes only."""


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """An event, its topic and its trace context."""

    target: str
    event: Event
    traceparent: str | None = None


def shard_of(person_key: str) -> int:
    """Return the shard of a person key; one relay at a time publishes a shard."""
    return zlib.crc32(person_key.encode()) % SHARDS


async def add(tx: Transaction, schema: str, messages: Sequence[OutboxMessage]) -> None:
    """Write `messages` in order. Raise TooLarge. The caller holds the locks of their person keys."""
    if not messages:
        return
    values = [value_of(message.event) for message in messages]
    if max(map(len, values)) > MAX_VALUE_BYTES:
        raise TooLarge(f"event of {max(map(len, values))} bytes exceeds the limit of {MAX_VALUE_BYTES} bytes")
    columns = {
        "shards": [shard_of(message.event.person_key) for message in messages],
        "keys": [message.event.person_key for message in messages],
        "targets": [message.target for message in messages],
        "headers": [json.dumps(_headers(message)) for message in messages],
        "values": values,
    }
    await tx.execute(_insert(schema), columns)


def _headers(message: OutboxMessage) -> dict[str, str]:
    """Return the headers, the trace context last: infra/operations/replay_router.py cuts it off to compare them."""
    headers = headers_of(message.event)
    if message.traceparent is not None:
        headers[tracing.HEADER] = message.traceparent
    return headers


def _insert(schema: str) -> TextClause:
    return text(f"""
        insert into {schema}.outbox (shard, person_key, target, headers, value)
        select shard, person_key, target, headers, value
        from unnest(cast(:shards as smallint[]), cast(:keys as text[]), cast(:targets as text[]),
                    cast(:headers as text[]), cast(:values as bytea[]))
             with ordinality as message (shard, person_key, target, headers, value, position)
        order by position""")  # noqa: S608 - schema names are constants


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A row that waits to be published. `lane`: rows of one lane are published in order."""

    id: int
    person_key: str
    target: str
    headers: str
    value: bytes

    @property
    def lane(self) -> tuple[str, str]:
        return self.person_key, self.target


async def lock_shards(tx: Transaction, schema: str) -> list[int]:
    """Lock the shards that no other relay holds, until this transaction ends, and return them.

    Raises if this transaction is read-only: what it publishes could not be marked, and would be published again and again.
    """
    result = await tx.execute(
        text(f"""
            with nothing as (update {schema}.outbox set shard = shard where false)
            select shard from generate_series(0, :last) as shard
            where pg_try_advisory_xact_lock(hashtext(:name), shard)"""),  # noqa: S608 - schema names are constants
        {"last": SHARDS - 1, "name": f"lightbulb outbox {schema}"},
    )
    return list(result.scalars())


async def unpublished(tx: Transaction, schema: str, shards: Sequence[int], paused: Sequence[str]) -> list[OutboxRow]:
    """Return the next unpublished rows of these shards, by id, without those of paused topics."""
    parameters = {"shards": list(shards), "paused": list(paused), "round": ROUND}
    rows = [OutboxRow(*row) for row in await tx.execute(_select_unpublished(schema), parameters)]
    return sorted(rows, key=lambda row: row.id)


def _select_unpublished(schema: str) -> TextClause:
    """Return a query that finds each queue by one index search, so that a long queue costs the others nothing."""
    return text(f"""
        with recursive {outbox_queues(schema)}, taken as materialized (
            select shard, target from queue
            where shard = any(cast(:shards as smallint[])) and target <> all(cast(:paused as text[]))
        ), fair as materialized (
            select greatest(cast(:round as bigint) / greatest(count(*), 1), 1) as share from taken
        )
        select waiting.* from fair cross join taken cross join lateral (
            select id, person_key, target, headers, value from {schema}.outbox
            where published_at is null and shard = taken.shard and target = taken.target {OLDEST_FIRST}
        ) as waiting""")  # noqa: S608 - schema names are constants


def has_more(rows: Sequence[OutboxRow]) -> bool:
    """Return whether a queue used its whole share of a round, so that it may have more rows."""
    by_queue = Counter((shard_of(row.person_key), row.target) for row in rows)
    return bool(rows) and max(by_queue.values()) >= max(ROUND // len(by_queue), 1)


class Relay:
    """Publishes the outbox of one schema. Call `wake()` after a commit; `run()` runs until cancelled."""

    def __init__(self, engine: AsyncEngine, schema: str, kafka: str, *, idempotent: bool = True) -> None:
        self._engine = engine
        self._schema = schema
        self._kafka = kafka
        self._idempotent = idempotent
        self._producer: AIOKafkaProducer | None = None
        self._woken = asyncio.Event()
        self._owed = False
        self._paused: dict[str, float] = {}
        self._failures: Counter[str] = Counter()
        self._progress = Progress()

    def loop(self) -> WatchedTask:
        """Return the task for the watchdog: it is stalled if publishable rows wait and no round succeeds."""
        return WatchedTask("relay", self._progress_by_key)

    def _progress_by_key(self, snapshot: BacklogSnapshot) -> Mapping[str, int]:
        return {"outbox": self._progress.done} if snapshot.publishable else {}

    def wake(self) -> None:
        """Start a round now, for new rows."""
        self._woken.set()

    async def run(self) -> None:
        """Publish until cancelled; then finish the current round, and publish what was committed last.

        Transient faults are retried indefinitely, with growing pauses.
        """
        try:
            await self._run_loop()
        finally:
            await self._last_round()
            await self._replace_producer()

    async def _run_loop(self) -> None:
        pause = 0.1
        while True:
            self._owed = self._owed or self._woken.is_set()
            self._woken.clear()
            try:
                more, whole = await _finish_despite_cancel(self._round())
                pause, self._owed = 0.1, self._owed and not whole
            except Exception as error:
                self._failed(error, pause)
                await self._replace_producer()
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
                continue
            if not more:
                await self._wait(SHARD_RETRY_SECONDS if self._owed else POLL_SECONDS)

    def _failed(self, error: Exception, pause: float) -> None:
        log.warning("relay_retrying", schema=self._schema, reason=database.reason_class(error), seconds=pause)
        metrics.RELAY_FAILURES.labels(database.error_kind(error)).inc()

    async def _last_round(self) -> None:
        """Publish what this process committed last, which would otherwise wait for another process or a restart."""
        if self._woken.is_set():
            with contextlib.suppress(Exception):
                async with asyncio.timeout(LAST_SECONDS):
                    await self._round()

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # in Python 3.11 `wait_for` can swallow the cancellation
                await self._woken.wait()

    async def _round(self) -> tuple[bool, bool]:
        """Publish one round. Return whether more rows may be there, and whether this relay held all shards."""
        began = time.monotonic()
        published: Sequence[OutboxRow] = ()
        async with self._engine.begin() as tx:
            shards = await lock_shards(tx, self._schema)
            rows = await unpublished(tx, self._schema, shards, self._paused_targets())
            if rows:
                published = await self._publish(rows)
                await self._mark(tx, published)
        if published or not rows:
            self._progress.record()
        if rows:
            metrics.PUBLISHED.inc(len(published))
            metrics.ROUND_ROWS.observe(len(rows))
            metrics.ROUND_SECONDS.observe(time.monotonic() - began)
        return bool(published) and has_more(rows), len(shards) == SHARDS

    def _paused_targets(self) -> list[str]:
        now = asyncio.get_running_loop().time()
        return [target for target, until in self._paused.items() if until > now]

    async def _publish(self, rows: Sequence[OutboxRow]) -> list[OutboxRow]:
        """Send in waves and return the acknowledged rows.

        A row is sent only after the earlier row of its lane is acknowledged. If Kafka is slow, the rest is left to the next round.
        """
        producer = await self._started_producer()
        published: list[OutboxRow] = []
        failed: set[tuple[str, str]] = set()
        clock = asyncio.get_running_loop().time
        end = clock() + SENDING_SECONDS
        for send_batch in _split_by_ordering_key(rows):
            if clock() > end:
                break
            ready = [row for row in send_batch if row.lane not in failed]
            for row, result in zip(ready, await self._acknowledged(producer, ready), strict=True):
                if isinstance(result, BaseException):
                    failed.add(row.lane)
                    self._pause(row.target, result)
                else:
                    published.append(row)
                    self._failures.pop(row.target, None)
        if failed:
            await self._replace_producer()
        return published

    async def _acknowledged(self, producer: AIOKafkaProducer, send_batch: Sequence[OutboxRow]) -> list[object]:
        """Send these rows together and wait for Kafka. Return the record metadata or the error of each."""
        unreachable: dict[str, BaseException] = {}
        steps = [_publishing(row) for row in send_batch] if tracing.is_on() else []
        carrying = [row for _, row in steps] if steps else send_batch
        sent = [await self._try_send(producer, row, unreachable) for row in carrying]
        if futures := [one for one in sent if isinstance(one, asyncio.Future)]:
            await asyncio.wait(futures, timeout=ACK_TIMEOUT_SECONDS)
        results = [_result(one) if isinstance(one, asyncio.Future) else one for one in sent]
        for future in futures:
            future.cancel()  # a late acknowledgement is not used
        for (span, _), result in zip(steps, results, strict=False):
            _end_publish_span(span, result)
        return results

    async def _try_send(
        self, producer: AIOKafkaProducer, row: OutboxRow, unreachable: dict[str, BaseException]
    ) -> "asyncio.Future[object] | BaseException":
        """Return the future of one record, or the error. Wait for a topic without metadata once in a wave."""
        if row.target not in unreachable:
            try:
                async with asyncio.timeout(1):
                    return await self._send(producer, row)
            except (KafkaError, OSError, TimeoutError, ValueError) as error:
                unreachable[row.target] = error
        return unreachable[row.target]

    async def _send(self, producer: AIOKafkaProducer, row: OutboxRow) -> "asyncio.Future[object]":
        headers = [(name, value.encode()) for name, value in json.loads(row.headers).items()]
        future: asyncio.Future[object] = await producer.send(
            row.target, row.value, key=row.person_key.encode(), headers=headers
        )
        return future

    def _pause(self, target: str, error: BaseException) -> None:
        self._failures[target] += 1
        seconds = min(0.1 * 2.0 ** min(self._failures[target], 10), 5.0)
        self._paused[target] = asyncio.get_running_loop().time() + seconds
        metrics.RELAY_FAILURES.labels(database.error_kind(error)).inc()
        if isinstance(error, BrokerResponseError) and not isinstance(error, RequestTimedOutError):
            self._progress.record()  # Kafka rejected it: a restart would not help, so it does not count as a stall
        log.warning("publish_rejected", topic=target, reason=database.reason_class(error), seconds=seconds)

    async def _mark(self, tx: Transaction, rows: Sequence[OutboxRow]) -> None:
        await tx.execute(
            text(f"""
                update {self._schema}.outbox as outbox set published_at = clock_timestamp()
                from unnest(cast(:keys as text[]), cast(:ids as bigint[])) as sent (person_key, id)
                where outbox.person_key = sent.person_key and outbox.id = sent.id"""),  # noqa: S608 - schema names are constants
            {"keys": [row.person_key for row in rows], "ids": [row.id for row in rows]},
        )

    async def _started_producer(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._kafka,
                acks="all",
                enable_idempotence=self._idempotent,
                max_request_size=2 * MAX_VALUE_BYTES,
                max_batch_size=262_144,
            )
            await producer.start()
            self._producer = producer
        return self._producer

    async def _replace_producer(self) -> None:
        """Stop the producer and drop it: after an error an idempotent one may reject a partition indefinitely."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        metrics.PRODUCERS_REPLACED.inc()
        try:
            async with asyncio.timeout(PRODUCER_STOP_SECONDS):
                await producer.stop()
        except (TimeoutError, KafkaError, OSError):
            await _abandon(producer)


async def _abandon(producer: AIOKafkaProducer) -> None:
    """End a producer that `stop` could not: otherwise each replacement would leave a sender task running."""
    accumulator, sender = producer._message_accumulator, producer._sender.sender_task
    accumulator.fail_all(KafkaError())
    with contextlib.suppress(TimeoutError, KafkaError, OSError):
        async with asyncio.timeout(PRODUCER_STOP_SECONDS):
            await producer.client.close()
    for _ in range(5):  # once cancelled, it waits for its requests one by one: each further cancel ends one of them
        if sender is not None and not sender.done():
            sender.cancel()
            await asyncio.wait([sender], timeout=0.2)


async def _finish_despite_cancel(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`. If cancelled, let it end first, for up to LAST_SECONDS."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=LAST_SECONDS)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise


def _publishing(row: OutboxRow) -> tuple[Span, OutboxRow]:
    """Begin a span and return it with the row, whose headers now carry the span as the parent for consumers."""
    headers = json.loads(row.headers)
    span = tracing.begin(
        f"publish {row.target}",
        tracing.valid(headers.get(tracing.HEADER)),
        SpanKind.PRODUCER,
        topic=row.target,
        type=headers.get("ce_type", ""),
        correlation_id=headers.get("ce_correlationid"),
    )
    return span, replace(row, headers=json.dumps(headers | {tracing.HEADER: tracing.traceparent(span)}))


def _end_publish_span(span: Span, result: Any) -> None:
    if isinstance(result, BaseException):
        tracing.end(span, type(result))
    else:
        tracing.set_attributes(span, partition=result.partition, offset=result.offset)
        tracing.end(span)


def _result(future: "asyncio.Future[object]") -> object:
    if not future.done():
        return TimeoutError()
    return future.exception() or future.result()


def _split_by_ordering_key(rows: Sequence[OutboxRow]) -> list[list[OutboxRow]]:
    """Split rows into waves: wave n has the n-th row of each lane, so no two rows of a wave share a lane."""
    sent_by_key: Counter[tuple[str, str]] = Counter()
    send_batches: list[list[OutboxRow]] = []
    for row in rows:
        turn = sent_by_key[row.lane]
        sent_by_key[row.lane] += 1
        if turn == len(send_batches):
            send_batches.append([])
        send_batches[turn].append(row)
    return send_batches
