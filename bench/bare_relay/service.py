"""The loop with its guarantees and nothing else: no validation, no rules, no traces. What a product costs is compared with it.

One process each of intake (POST, commit, answer), router (a person's one open case, its numbered events) and notifier (a POST for each
referral). What a transaction causes to be sent is in its row of `outbox`, or is a feedback that is not `told`: it is sent after the
commit, and again after a crash. Offsets are committed when what the records caused is durable.
"""

import asyncio
import contextlib
import os
import re
import sys
import zlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import chain, count
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

REFERRAL, CASE, PARTITIONS, HUBS = "referral.received", "case.event", 8, 8
BATCH, GATHER_SECONDS = 500, 0.002
CONSUMING = {
    "enable_auto_commit": False,
    "auto_offset_reset": "earliest",
    "fetch_min_bytes": 400_000,
    "fetch_max_wait_ms": 50,
}
KAFKA = os.environ.get("KAFKA_BOOTSTRAP", "")
LANES = 16
"""Keep-alive connections to the referrer's system, each with one request at a time."""

TABLES = {
    "intake": """create table if not exists message (bundle text primary key, person text, body bytea);
        alter table message alter body set storage external""",
    "router": """create table if not exists seen (bundle text primary key);
        create table if not exists "case" (person text primary key, id bigint generated always as identity, hub text, last bigint);
        create table if not exists case_event (person text, sequence bigint, bundle text, primary key (person, sequence))""",
    "notifier": """create table if not exists feedback (id bigint generated always as identity, bundle text primary key,
            person text, body bytea, told boolean not null default false);
        alter table feedback alter body set storage external;
        create index if not exists feedback_untold on feedback (id) where not told""",
}
OUTBOX = """create schema if not exists {0}; set search_path = {0};
    create table if not exists outbox (id bigint generated always as identity primary key, content bytea, sent boolean);
    alter table outbox alter content set storage external;
    create index if not exists outbox_unsent on outbox (id) where not sent; """
PUT = """with marked as (update outbox set sent = true where id = any($2))
    insert into outbox (content, sent) values ($1, false) returning id"""
KEEP = "insert into message select * from unnest($1::text[], $2::text[], $3::bytea[]) on conflict do nothing returning bundle"
SEE = "insert into seen select unnest($1::text[]) on conflict do nothing returning bundle"
OPEN = """insert into "case" as held (person, hub, last)
    select person, min(hub), count(*) from unnest($1::text[], $2::text[]) as given (person, hub) group by person
    on conflict (person) do update set last = held.last + excluded.last returning *"""
APPEND = "insert into case_event select * from unnest($1::text[], $2::bigint[], $3::text[])"
COMPOSE = """with marked as (update feedback set told = true where bundle = any($4))
    insert into feedback (bundle, person, body) select * from unnest($1::text[], $2::text[], $3::bytea[])
    on conflict do nothing returning bundle"""

Message = Sequence[str]
"""A record: topic, person, value."""


class Service:
    """A connection to PostgreSQL with the tables of one service, its outbox and a producer."""

    def __init__(self, name: str) -> None:
        self.name, self.sent = name, list[int]()

    async def start(self) -> None:
        """Connect, and send what an earlier process left."""
        settings = {"jit": "off", "plan_cache_mode": "force_generic_plan", "search_path": self.name}
        self.sql = await asyncpg.connect(os.environ["PG_TCP_DSN"], server_settings=settings)
        await self.sql.execute(OUTBOX.format(self.name) + TABLES[self.name])
        self.kafka = AIOKafkaProducer(bootstrap_servers=KAFKA, acks="all", max_batch_size=400_000)
        await self.kafka.start()
        for row in await self.sql.fetch("select id, content from outbox where not sent order by id"):
            await self.send(row["id"], orjson.loads(row["content"]))

    async def put(self, messages: Sequence[Message]) -> int:
        """Write messages to the outbox, and mark what was sent before, in the caller's transaction."""
        done, self.sent = self.sent, []
        return int(await self.sql.fetchval(PUT, orjson.dumps(messages), done))

    async def send(self, outbox: int, messages: Iterable[Message]) -> None:
        """Send these messages in whole batches, in order; return when Kafka has acknowledged all."""
        parts: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
        for topic, person, value in messages:
            key, inside = person.encode(), topic in (REFERRAL, CASE)
            record = {"key": key, "value": value.encode(), "timestamp": None}
            parts[topic, zlib.crc32(key) % PARTITIONS if inside else 0].append(record)
        acknowledged = []
        for (topic, partition), records in parts.items():
            batch = self.kafka.create_batch()
            for record in records:
                if batch.append(**record) is None:
                    acknowledged.append(await self.kafka.send_batch(batch, topic, partition=partition))
                    batch = self.kafka.create_batch()
                    batch.append(**record)
            acknowledged.append(await self.kafka.send_batch(batch, topic, partition=partition))
        for one in acknowledged:
            await one
        self.sent.append(outbox)

    async def consume(self, topic: str, apply: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        """Give the events of each batch, by Bundle, to `apply`; when it returns, what they caused is durable."""
        consumer = AIOKafkaConsumer(topic, bootstrap_servers=KAFKA, group_id=f"bare-{self.name}", **CONSUMING)
        await consumer.start()
        ready()
        while True:
            found = (await consumer.getmany(timeout_ms=1000, max_records=BATCH)).values()
            if found:
                events = [orjson.loads(record.value) for record in chain.from_iterable(found)]
                await apply({event["bundle"]: event for event in events})
                await consumer.commit()


def ready() -> None:
    """Report to the process that started this one."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()


async def http_message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return the head and the body of the next request or answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return head, await reader.readexactly(int(length[1]) if length else 0)


class BareIntake(Service):
    """Answers a request after the commit of its message and event; requests that wait together are committed together."""

    async def run(self) -> None:
        await self.start()
        self.waiting, self.woken = list[tuple[bytes, asyncio.Future[None]]](), asyncio.Event()
        await asyncio.start_server(self.serve, "127.0.0.1", int(os.environ["LOOP_PORT"]), limit=1 << 20)
        ready()
        unsent: asyncio.Queue[tuple[int, list[Message]]] = asyncio.Queue()
        await asyncio.gather(self.commit_all(unsent), self.send_all(unsent))

    async def commit_all(self, unsent: "asyncio.Queue[tuple[int, list[Message]]]") -> None:
        while await self.woken.wait():
            await asyncio.sleep(GATHER_SECONDS)
            batch, self.waiting = self.waiting[:BATCH], self.waiting[BATCH:]
            if not self.waiting:
                self.woken.clear()
            unsent.put_nowait(await self.commit([body for body, _ in batch]))
            for _, committed in batch:
                committed.set_result(None)

    async def send_all(self, unsent: "asyncio.Queue[tuple[int, list[Message]]]") -> None:
        while True:
            await self.send(*await unsent.get())

    async def commit(self, bodies: Sequence[bytes]) -> tuple[int, list[Message]]:
        read = {event["bundle"]: (event, body) for event, body in zip(map(event_of, bodies), bodies, strict=True)}
        people = [event["nhs"] for event, _ in read.values()]
        async with self.sql.transaction():
            rows = await self.sql.fetch(KEEP, list(read), people, [body for _, body in read.values()])
            new = [read[row["bundle"]][0] for row in rows]
            messages: list[Message] = [(REFERRAL, event["nhs"], orjson.dumps(event).decode()) for event in new]
            return await self.put(messages), messages

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                _, body = await http_message(reader)
                committed = asyncio.get_running_loop().create_future()
                self.waiting.append((body, committed))
                self.woken.set()
                await committed
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def event_of(body: bytes) -> dict[str, Any]:
    """Return what the router and the notifier need of a BaRS message."""
    bundle = orjson.loads(body)
    found = {one["resource"]["resourceType"]: one["resource"] for one in reversed(bundle["entry"])}
    header, request, patient = found["MessageHeader"], found["ServiceRequest"], found["Patient"]
    kept = ("id", "identifier", "priority", "category", "code", "reasonCode", "note")
    return {
        "bundle": bundle.get("identifier", {}).get("value", bundle["id"]),
        "message": header["id"],
        "sender": header["source"],
        "request": {name: request[name] for name in kept if name in request},
        "nhs": patient["identifier"][0]["value"],
        "person": {name: patient[name] for name in ("name", "birthDate", "address")},
        "practice": {"name": found["Organization"]["name"], "practitioner": found["Practitioner"]["name"]},
    }


class BareRouter(Service):
    """Puts each referral on its person's open case, once, and publishes that for the notifier and the hub."""

    async def run(self) -> None:
        await self.start()
        await self.consume(REFERRAL, self.apply)

    async def apply(self, read: dict[str, Any]) -> None:
        async with self.sql.transaction():
            new = [read[row["bundle"]] for row in await self.sql.fetch(SEE, list(read))]
            people = [event["nhs"] for event in new]
            opened = await self.sql.fetch(OPEN, people, list(map(hub_of, new)))
            cases = {one["person"]: (one, count(one["last"] - people.count(one["person"]) + 1)) for one in opened}
            for event in new:
                case, numbers = cases[event["nhs"]]
                event |= {"case": case["id"], "hub": case["hub"], "sequence": next(numbers)}
            await self.sql.execute(APPEND, people, *([event[of] for event in new] for of in ("sequence", "bundle")))
            encoded = [(event["hub"], event["nhs"], orjson.dumps(event).decode()) for event in new]
            messages = [(topic, person, value) for hub, person, value in encoded for topic in (CASE, hub)]
            outbox = await self.put(messages)
        await self.send(outbox, messages)


def hub_of(event: dict[str, Any]) -> str:
    """Return the topic of the hub for the first part of a person's postcode."""
    outward = event["person"]["address"][0]["postalCode"].split()[0]
    return f"hub.{zlib.crc32(outward.encode()) % HUBS}.case"


class BareNotifier(Service):
    """Stores one feedback of each referral, and posts it until it is accepted; those of a person in the order of their events."""

    async def run(self) -> None:
        await self.start()
        self.told = list[str]()
        self.lanes: list[tuple[asyncio.StreamReader, asyncio.StreamWriter] | None] = [None] * LANES
        await self.deliver(await self.sql.fetch("select bundle, person, body from feedback where not told order by id"))
        await self.consume(CASE, self.apply)

    async def apply(self, events: dict[str, Any]) -> None:
        composed = {key: (key, event["nhs"], orjson.dumps(feedback(event))) for key, event in events.items()}
        done, self.told = self.told, []
        rows = await self.sql.fetch(COMPOSE, *map(list, zip(*composed.values(), strict=True)), done)
        await self.deliver([composed[row["bundle"]] for row in rows])

    async def deliver(self, due: Iterable[Any]) -> None:
        """Post all; those of one person follow each other on one connection."""
        lanes: list[list[tuple[str, bytes]]] = [[] for _ in range(LANES)]
        for bundle, person, body in due:
            lanes[zlib.crc32(person.encode()) % LANES].append((bundle, body))
        await asyncio.gather(*(self.tell(number, lane) for number, lane in enumerate(lanes)))

    async def tell(self, lane: int, due: Iterable[tuple[str, bytes]]) -> None:
        for bundle, body in due:
            while not await self.is_accepted(lane, body):  # noqa: ASYNC110 - a referrer who is down gives no signal
                await asyncio.sleep(0.2)
            self.told.append(bundle)

    async def is_accepted(self, lane: int, body: bytes) -> bool:
        to = urlsplit(os.environ["SINK_URL"])
        head = f"POST {to.path} HTTP/1.1\r\nHost: {to.netloc}\r\nContent-Type: application/fhir+json\r\nContent-Length: {len(body)}\r\n\r\n"
        try:
            reader, writer = self.lanes[lane] = self.lanes[lane] or await asyncio.open_connection(to.hostname, to.port)
            writer.write(head.encode() + body)
            answer, _ = await asyncio.wait_for(http_message(reader), 30)
            return answer[9:10] == b"2"
        except (OSError, asyncio.IncompleteReadError):
            self.lanes[lane] = None
            return False


def feedback(event: dict[str, Any]) -> dict[str, Any]:
    """Return the Bundle that names the hub of the case to the referrer."""
    answer = {"destination": [event["sender"]], "response": {"identifier": event["bundle"], "code": "ok"}}
    text = f"Accepted by {event['hub']}, case {event['case']}, number {event['sequence']}."
    resources: list[dict[str, Any]] = [
        {"resourceType": "MessageHeader", "id": event["message"], **answer},
        {"resourceType": "ServiceRequest", "status": "active", **event["request"], "note": [{"text": text}]},
        {"resourceType": "Patient", "identifier": [{"value": event["nhs"]}], **event["person"]},
        {"resourceType": "Organization", "identifier": [{"value": event["hub"]}], "name": event["practice"]["name"]},
    ]
    entries = [{"fullUrl": f"urn:uuid:{event['message']}", "resource": one} for one in resources]
    return {"resourceType": "Bundle", "id": f"feedback-{event['bundle']}", "type": "message", "entry": entries}


if __name__ == "__main__":
    uvloop.run(globals()[f"Bare{sys.argv[1].title()}"](sys.argv[1]).run())
