"""Records applied to PostgreSQL, and what the router stored."""

from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.messaging import packets
from services.messaging.cloudevents import KafkaRecord
from services.messaging.packets import Message, Place
from services.router import store
from services.router.consumer import Batches
from tests.builders.events import KEY, NOW
from tests.builders.reference_data import DIRECTORY


def a_router(engine: AsyncEngine) -> Batches:
    return Batches(engine, DIRECTORY, clock=lambda: NOW)


async def apply(engine: AsyncEngine, *records: KafkaRecord) -> None:
    await a_router(engine).receive(records)


async def rows(engine: AsyncEngine, query: str, **given: Any) -> list[tuple[Any, ...]]:
    async with engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(text(query), given)]


async def events(engine: AsyncEngine, key: str = KEY) -> list[str]:
    found = await rows(engine, "select type from router.case_event where person_key = :key order by sequence", key=key)
    return [kind.split(".")[3] for (kind,) in found]


async def case_id(engine: AsyncEngine, key: str = KEY) -> str:
    return str((await rows(engine, 'select case_id from router."case" where person_key = :key', key=key))[0][0])


async def sent(engine: AsyncEngine, key: str | None = None, *, kind: str = "", target: str = "") -> list[Message]:
    """Return the messages of the outbox in order: those under one key, of types that contain `kind`, on topics that contain `target`."""
    async with engine.connect() as tx:
        found = [one.message for one in await packets.published(tx, "router")]
    return [
        one
        for one in found
        if key in (None, one.person_key) and kind in header(one, "ce_type") and target in one.target
    ]


def header(message: Message, name: str) -> str:
    """Return a header; empty if the message does not have it."""
    return dict(message.headers).get(name, b"").decode()


async def history(engine: AsyncEngine, key: str = KEY) -> list[tuple[int, str, Message]]:
    """Return the sequence, the id and the message of each case event under a key."""
    found = await rows(
        engine, "select sequence, id, packet, place from router.case_event where person_key = :key order by 1", key=key
    )
    async with engine.connect() as tx:
        messages = await packets.messages(tx, "router", [(key, Place(*at)) for _, _, *at in found])
    return [(sequence, event, messages[key, Place(*at)]) for sequence, event, *at in found]


async def applied(engine: AsyncEngine) -> list[tuple[dict[str, str], bytes]]:
    """Return the headers and the value of each applied input, in order."""
    found = await rows(engine, "select person_key, packet, place from router.input order by position")
    async with engine.connect() as tx:
        contents = await packets.contents(tx, "router", [(key, Place(*at)) for key, *at in found])
    stored = [contents[key, Place(*at)] for key, *at in found]
    return [({name: text.decode() for name, text in store.stored_headers(headers)}, value) for headers, value in stored]
