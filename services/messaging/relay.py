"""The relay publishes the packets of an outbox: each message after those of its person key and topic, at least once.

Packets are marked when Kafka has acknowledged their messages, never read by a moving cursor (one that commits late would be skipped).
One relay at a time works on a shard: the advisory lock lasts for one round, so if a relay stops, another continues.

A round reads some packets of each shard and sends their messages in waves: of each partition one record batch, and the next one after
its acknowledgement. Then it marks all packets that it read, and puts back in the same transaction what was not acknowledged: the places
of these messages, as a row of `packet_held` for each shard and topic. So a topic that refuses waits in rows of its own, by which no other
topic is delayed. While a shard has such rows of a topic, they are sent first, and messages of later packets wait behind them.
A relay that is killed between acknowledgement and mark has its round repeated; consumers drop what they know.
"""

import asyncio
import contextlib
import time
from collections import Counter, defaultdict, deque
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.errors import BrokerResponseError, KafkaError, RequestTimedOutError
from aiokafka.partitioner import murmur2
from opentelemetry.trace import Span, SpanKind
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.messaging.packets import SHARDS, Message, decode
from services.runtime import database, metrics, tracing
from services.runtime.backlog import BacklogSnapshot, held_queues
from services.runtime.compression import Corrupt
from services.runtime.database import Transaction
from services.runtime.logs import log
from services.runtime.watchdog import Progress, WatchedTask

ROUND = 64
"""Maximum number of packets that one round reads of each shard, and of rows of each queue: what is held of a shard and topic."""

ROUND_BYTES = 8 * 1024 * 1024
"""Bytes before compression of packets that one round reads, in equal shares of the shards; as many of held ones, in shares of the
queues. Of each at least one packet."""

BATCH_BYTES = 256 * 1024
"""Bytes of one record batch; a larger message is a batch of its own."""

POLL_SECONDS = 0.5
"""How often a relay polls for packets of other processes; commits of its own process wake it at once."""

SHARD_RETRY_SECONDS = 0.02
"""How soon a relay polls again if another relay held a shard that its new packets may be in."""

BUSY = 8
LINGER_SECONDS = 0.05
"""After a round of at least BUSY messages, a relay that is woken waits this long for further commits: fewer and larger record batches."""

START_SECONDS = 2.0
"""How long a round waits for a new Kafka client."""

TOPIC_SECONDS = 1.0
"""How long a round waits for topics without metadata, for all together."""

ACK_TIMEOUT_SECONDS = 4.0
"""How long one wave of a round waits for Kafka's acknowledgements; with START_SECONDS and TOPIC_SECONDS less than the session's idle
limit (8 s)."""

SENDING_SECONDS = 2.0
"""How long after its beginning a round starts further waves."""

LAST_SECONDS = 8.0
"""How long a relay may take after a stop signal to finish its current round, and again for a last one."""

PRODUCER_STOP_SECONDS = 2.0
"""How long a replaced producer may take to stop before it is cancelled."""

T = TypeVar("T")

Queue = tuple[int, str]
"""A shard and a topic."""

Partition = tuple[str, int]
"""A topic and the number of a partition."""


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """A message that waits to be published, and its place in its packet."""

    shard: int
    place: int
    message: Message


@dataclass(slots=True)
class Round:
    """What a round read: the messages of packets by shard and id, and of held rows by shard, topic and id.

    `paused`: topics of which nothing is sent. `blocked`: queues of which more is held than was read; what packets have for them waits
    behind that. `more`: whether there are packets or held rows that were not read.
    """

    paused: frozenset[str]
    packets: dict[tuple[int, int], list[Waiting]] = field(default_factory=dict)
    held: dict[tuple[int, str, int], list[Waiting]] = field(default_factory=dict)
    blocked: set[Queue] = field(default_factory=set)
    more: bool = False

    def messages(self) -> list[Waiting]:
        """Return what is sent: of each queue in order, what is held first."""
        held = (one for messages in self.held.values() for one in messages)
        return [*held, *(one for messages in self.packets.values() for one in messages if self._may_be_sent(one))]

    def _may_be_sent(self, one: Waiting) -> bool:
        return one.message.target not in self.paused and (one.shard, one.message.target) not in self.blocked


# ---- read ------------------------------------------------------------------------------------------------------------


async def lock_shards(tx: Transaction, schema: str) -> list[int]:
    """Lock the shards that no other relay holds, until this transaction ends, and return them.

    Raises if this transaction is read-only: what it publishes could not be marked, and would be published again and again.
    """
    result = await tx.execute(
        text(f"""
            with nothing as (update {schema}.packet set shard = shard where false)
            select shard from generate_series(0, :last) as shard
            where pg_try_advisory_xact_lock(hashtext(:name), shard)"""),  # noqa: S608 - schema names are constants
        {"last": SHARDS - 1, "name": f"lightbulb outbox {schema}"},
    )
    return list(result.scalars())


async def read(tx: Transaction, schema: str, shards: Sequence[int], paused: Iterable[str]) -> Round:
    """Return the next packets of these shards, and what is held of topics that are not paused."""
    backlog = Round(frozenset(paused))
    if not shards:
        return backlog
    limits = {"shards": list(shards), "round": ROUND, "bytes": ROUND_BYTES}
    held = await tx.execute(_select_held(schema), limits | {"paused": sorted(backlog.paused)})
    for shard, target, packet, places, content in held:
        messages = None if (shard, target) in backlog.blocked else _messages(shard, packet, content)
        if messages is None:
            backlog.blocked.add((shard, target))
            backlog.more |= target not in backlog.paused
        else:
            backlog.held[shard, target, packet] = [messages[place] for place in places]
    stopped = set()
    for shard, packet, content in await tx.execute(_select_packets(schema), limits):
        messages = None if shard in stopped else _messages(shard, packet, content)
        if messages is None:
            stopped.add(shard)
            backlog.more = True
        else:
            backlog.packets[shard, packet] = messages
    return backlog


def _messages(shard: int, packet: int, content: bytes | None) -> list[Waiting] | None:
    """Return the messages of a packet; None if it was not read, or is corrupt: what follows it waits until it is mended."""
    if content is None:
        return None
    try:
        messages = decode(content).messages
    except Corrupt as error:
        log.error("packet_corrupt", shard=shard, packet=packet, reason=str(error))
        return None
    return [Waiting(shard, place, message) for place, message in enumerate(messages)]


def _select_packets(schema: str) -> TextClause:
    """Return a query of the first unpublished packets of each shard; the first beyond the limits comes without its content."""
    return text(f"""
        select shards.shard, waiting.id, waiting.content
        from unnest(cast(:shards as smallint[])) as shards (shard) cross join lateral (
            select id, {_within_limits("cardinality(cast(:shards as smallint[]))")} as content from (
                select id, content, {_MEASURED} from (
                    select id, content from {schema}.packet
                    where published_at is null and shard = shards.shard order by id limit :round + 1
                ) as next
            ) as measured
        ) as waiting
        order by shards.shard, waiting.id""")  # noqa: S608 - schema names are constants


def _select_held(schema: str) -> TextClause:
    """Return a query of the first held rows of each queue; the first beyond the limits, or of a paused topic, comes without content.

    It finds each queue by one index search, so that a long queue costs the others nothing.
    """
    return text(f"""
        with recursive {held_queues(schema)}, chosen as materialized (
            select shard, target from queue where shard = any(cast(:shards as smallint[]))
        )
        select chosen.shard, chosen.target, waiting.id, waiting.places, waiting.content
        from chosen left join lateral (
            select id, places, {_within_limits("(select count(*) from chosen)")} as content from (
                select id, places, content, {_MEASURED} from (
                    select held.id, held.places, packet.content from (
                        select id, places from {schema}.packet_held
                        where shard = chosen.shard and target = chosen.target order by id limit :round + 1
                    ) as held join {schema}.packet on packet.shard = chosen.shard and packet.id = held.id
                ) as next
            ) as measured
        ) as waiting on chosen.target <> all(cast(:paused as text[]))
        order by chosen.shard, chosen.target, waiting.id""")  # noqa: S608 - schema names are constants


_SIZE = "cast(cast('x' || encode(substring(content from 2 for 4), 'hex') as bit(32)) as bigint)"
"""SQL expression for the size of a packet before compression, as the header of its frame says (compression.py)."""

_MEASURED = f"""row_number() over (order by id) as number,
    sum({_SIZE}) over (order by id rows unbounded preceding) - {_SIZE} as before"""


def _within_limits(shares: str) -> str:
    return f"case when number <= :round and (number = 1 or before < cast(:bytes as bigint) / {shares}) then content end"


# ---- publish ---------------------------------------------------------------------------------------------------------


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
        self._busy = self._refused = False
        self._paused: dict[str, float] = {}
        self._failures: Counter[str] = Counter()
        self._progress = Progress()

    def loop(self) -> WatchedTask:
        """Return the task for the watchdog: it is stalled if publishable messages wait and no round succeeds."""
        return WatchedTask("relay", self._progress_by_key)

    def _progress_by_key(self, snapshot: BacklogSnapshot) -> Mapping[str, int]:
        return {"outbox": self._progress.done} if snapshot.publishable else {}

    def wake(self) -> None:
        """Start a round now, for new packets."""
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
            if self._busy and self._woken.is_set():
                await asyncio.sleep(LINGER_SECONDS)
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
        """Publish one round. Return whether more may be there, and whether this relay held all shards."""
        began = time.monotonic()
        async with self._engine.begin() as tx:
            shards = await lock_shards(tx, self._schema)
            backlog = await read(tx, self._schema, shards, self._paused_targets())
            messages = backlog.messages()
            published = await self._publish(messages) if messages else set()
            if backlog.packets or published:
                await mark(tx, self._schema, backlog, published)
        if self._refused:
            await self._replace_producer()
        if published or not messages:
            self._progress.record()
        self._busy = len(messages) >= BUSY
        if messages:
            metrics.PUBLISHED.inc(len(published))
            metrics.ROUND_ROWS.observe(len(messages))
            metrics.ROUND_SECONDS.observe(time.monotonic() - began)
        return backlog.more and bool(backlog.packets or published), len(shards) == SHARDS

    def _paused_targets(self) -> list[str]:
        now = asyncio.get_running_loop().time()
        return [target for target, until in self._paused.items() if until > now]

    async def _publish(self, messages: Sequence[Waiting]) -> set[Waiting]:
        """Send in waves and return the acknowledged messages. What is left when the time is over is put back."""
        clock = asyncio.get_running_loop().time
        end = clock() + SENDING_SECONDS
        producer = await self._started_producer()
        unsent = await self._by_partition(producer, messages)
        published: set[Waiting] = set()
        while unsent and (clock() <= end or not published):
            batches = [RecordBatch(producer, partition, rest) for partition, rest in unsent.items()]
            failed: dict[str, BaseException] = {}
            for batch, result in zip(batches, await self._acknowledged(producer, batches), strict=True):
                if isinstance(result, BaseException):
                    failed[batch.topic] = result
                    unsent[batch.topic, batch.partition].clear()
                else:
                    published.update(batch.messages)
            self._learn({batch.topic for batch in batches}, failed)
            unsent = {partition: rest for partition, rest in unsent.items() if rest}
        return published

    def _learn(self, sent: Iterable[str], failed: Mapping[str, BaseException]) -> None:
        """Pause the topics that failed in a wave; forget the failures of the others that were sent."""
        for target in sent:
            if target in failed:
                self._pause(target, failed[target])
            else:
                self._failures.pop(target, None)

    async def _by_partition(
        self, producer: AIOKafkaProducer, messages: Sequence[Waiting]
    ) -> dict[Partition, deque[Waiting]]:
        """Return the messages of each partition in order, without those of topics that have no metadata."""
        partitions = await self._partitions(producer, sorted({one.message.target for one in messages}))
        unsent: defaultdict[Partition, deque[Waiting]] = defaultdict(deque)
        for one in messages:
            numbers = partitions[one.message.target]
            if isinstance(numbers, BaseException):
                _trace_failed(one.message, numbers)
            else:
                unsent[one.message.target, numbers[_hash(one.message.person_key) % len(numbers)]].append(one)
        return unsent

    async def _partitions(
        self, producer: AIOKafkaProducer, targets: Sequence[str]
    ) -> dict[str, list[int] | BaseException]:
        """Return the partitions of each topic, or the error of one that has no metadata after TOPIC_SECONDS: it pauses."""
        asked = [asyncio.ensure_future(producer.partitions_for(target)) for target in targets]
        partitions: dict[str, list[int] | BaseException] = {}
        for target, result in zip(targets, await _results(asked, TOPIC_SECONDS), strict=True):
            partitions[target] = result if isinstance(result, BaseException) else sorted(result)
            if isinstance(result, BaseException):
                self._pause(target, result)
        return partitions

    async def _acknowledged(self, producer: AIOKafkaProducer, batches: "Sequence[RecordBatch]") -> list[Any]:
        """Send these batches together and wait for Kafka. Return the metadata or the error of each."""
        sending = [asyncio.ensure_future(self._send(producer, batch)) for batch in batches]
        results = await _results(sending, ACK_TIMEOUT_SECONDS)
        for batch, result in zip(batches, results, strict=True):
            batch.end_spans(result)
        return results

    async def _send(self, producer: AIOKafkaProducer, batch: "RecordBatch") -> Any:
        return await (await producer.send_batch(batch.builder, batch.topic, partition=batch.partition))

    def _pause(self, target: str, error: BaseException) -> None:
        self._refused = True
        self._failures[target] += 1
        seconds = min(0.1 * 2.0 ** min(self._failures[target], 10), 5.0)
        self._paused[target] = asyncio.get_running_loop().time() + seconds
        metrics.RELAY_FAILURES.labels(database.error_kind(error)).inc()
        if isinstance(error, BrokerResponseError) and not isinstance(error, RequestTimedOutError):
            self._progress.record()  # Kafka rejected it: a restart would not help, so it does not count as a stall
        log.warning("publish_rejected", topic=target, reason=database.reason_class(error), seconds=seconds)

    async def _started_producer(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._kafka,
                acks="all",
                enable_idempotence=self._idempotent,
                max_batch_size=BATCH_BYTES,
            )
            try:
                async with asyncio.timeout(START_SECONDS):
                    await producer.start()
            except BaseException:
                await producer.stop()  # closes what it had opened
                raise
            self._producer = producer
        return self._producer

    async def _replace_producer(self) -> None:
        """Stop the producer and drop it: after an error an idempotent one may reject a partition indefinitely."""
        producer, self._producer, self._refused = self._producer, None, False
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


async def _results(tasks: Sequence["asyncio.Future[Any]"], seconds: float) -> list[Any]:
    """Wait for all tasks together. Return the result or the error of each; TimeoutError after this time: it is cancelled."""
    try:
        await asyncio.wait(tasks, timeout=seconds)
        return [(task.exception() or task.result()) if task.done() else TimeoutError() for task in tasks]
    finally:
        for task in tasks:
            task.cancel()  # a late result is not used


class RecordBatch:
    """The next messages of a partition, as many as fit into one record batch; they are removed from `unsent`."""

    def __init__(self, producer: AIOKafkaProducer, partition: Partition, unsent: deque[Waiting]) -> None:
        self.topic, self.partition = partition
        self.builder = producer.create_batch()
        self.messages: list[Waiting] = []
        self._spans: list[Span] = []
        while unsent and self._append(unsent[0].message):
            self.messages.append(unsent.popleft())
        self.builder.close()

    def _append(self, message: Message) -> bool:
        """Return False if the message does not fit. The first of a batch always does."""
        span, headers = _publishing(message) if tracing.is_on() else (None, list(message.headers))
        key = message.person_key.encode()
        fits = self.builder.append(timestamp=None, key=key, value=message.value, headers=headers) is not None
        if span is not None and fits:
            self._spans.append(span)
        return fits

    def end_spans(self, result: Any) -> None:
        for place, span in enumerate(self._spans):
            if isinstance(result, BaseException):
                tracing.end(span, type(result))
            else:
                tracing.set_attributes(span, partition=result.partition, offset=result.offset + place)
                tracing.end(span)


def _publishing(message: Message) -> tuple[Span, list[tuple[str, bytes]]]:
    """Begin a span and return it with the headers, which carry it as the parent for consumers."""
    headers = dict(message.headers)
    span = tracing.begin(
        f"publish {message.target}",
        tracing.extract(message.headers),
        SpanKind.PRODUCER,
        topic=message.target,
        type=headers.get("ce_type", b"").decode(),
        correlation_id=headers.get("ce_correlationid", b"").decode() or None,
    )
    context = tracing.traceparent(span)
    return span, list((headers | ({tracing.HEADER: context.encode()} if context else {})).items())


def _trace_failed(message: Message, error: BaseException) -> None:
    if tracing.is_on():
        span, _ = _publishing(message)
        tracing.end(span, type(error))


@lru_cache(maxsize=10_000)
def _hash(person_key: str) -> int:
    """Return the hash of the key from which Kafka's partitioner takes the partition."""
    return int(murmur2(person_key.encode())) & 0x7FFFFFFF


# ---- mark ------------------------------------------------------------------------------------------------------------


async def mark(tx: Transaction, schema: str, backlog: Round, published: set[Waiting]) -> None:
    """Mark all packets that were read, and hold what of them was not acknowledged."""
    held: dict[tuple[int, str, int], list[int]] = {}
    for key, messages in backlog.held.items():
        if any(one in published for one in messages):
            held[key] = [one.place for one in messages if one not in published]
    for (shard, packet), messages in backlog.packets.items():
        for one in messages:
            if one not in published:
                held.setdefault((shard, one.message.target, packet), []).append(one.place)
    if backlog.packets:
        ids = {"shards": [shard for shard, _ in backlog.packets], "ids": [packet for _, packet in backlog.packets]}
        await tx.execute(_mark_packets(schema), ids)
    if held:
        await hold(tx, schema, held)


def _mark_packets(schema: str) -> TextClause:
    return text(f"""
        update {schema}.packet set published_at = clock_timestamp()
        from unnest(cast(:shards as smallint[]), cast(:ids as bigint[])) as sent (shard, id)
        where packet.shard = sent.shard and packet.id = sent.id""")  # noqa: S608 - schema names are constants


async def hold(tx: Transaction, schema: str, held: Mapping[tuple[int, str, int], list[int]]) -> None:
    """Store the places that wait, by shard, topic and packet; delete the rows of which none waits."""
    for statement, rows in (
        (_insert_held(schema), [(key, places) for key, places in held.items() if places]),
        (_delete_held(schema), [(key, places) for key, places in held.items() if not places]),
    ):
        if rows:
            await tx.execute(statement, _columns(rows))


def _columns(rows: Iterable[tuple[tuple[int, str, int], list[int]]]) -> dict[str, list[Any]]:
    rows = list(rows)
    return {
        "shards": [shard for (shard, _, _), _ in rows],
        "targets": [target for (_, target, _), _ in rows],
        "ids": [packet for (_, _, packet), _ in rows],
        "places": [" ".join(map(str, places)) for _, places in rows],
    }


_HELD = """unnest(cast(:shards as smallint[]), cast(:targets as text[]), cast(:ids as bigint[]), cast(:places as text[]))
            as held (shard, target, id, places)"""


def _insert_held(schema: str) -> TextClause:
    return text(f"""
        insert into {schema}.packet_held (shard, target, id, places)
        select shard, target, id, cast(string_to_array(places, ' ') as integer[]) from {_HELD}
        on conflict (shard, target, id) do update set places = excluded.places""")  # noqa: S608 - schema names are constants


def _delete_held(schema: str) -> TextClause:
    return text(f"""
        delete from {schema}.packet_held using {_HELD}
        where packet_held.shard = held.shard and packet_held.target = held.target and packet_held.id = held.id""")  # noqa: S608
