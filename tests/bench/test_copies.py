"""A copied person is like the one that the services wrote."""

import re

from sqlalchemy import text

from bench import copies
from schemas.topics import CASE_EVENT
from services.messaging import packets
from services.messaging.packets import Place
from services.runtime import database
from tests.builders.events import KEY, a_record, received
from tests.builders.referrals import GP, a_referral
from tests.router.conftest import emptied
from tests.router.stored import a_router, rows


async def test_copies_have_other_identifiers_of_the_same_form_and_are_otherwise_equal(migrated: str) -> None:
    engine = database.connect(migrated)
    await emptied(engine, "router")
    await a_router(engine).receive([a_record(received(GP, a_referral()), key=KEY)])
    connection = await copies.connect(migrated)
    await copies.insert(connection, await copies.rows_of(connection, KEY, GP), 1, 3)
    await connection.close()

    referrals = await rows(engine, "select person_key, reference, case_id, status, category from router.referral")
    assert len({key for key, *_ in referrals}) == len({reference for _, reference, *_ in referrals}) == 4
    assert {copies.IDENTIFIER.sub("*", " ".join(found)) for found in referrals} == {
        copies.IDENTIFIER.sub("*", " ".join(referrals[0]))
    }
    assert all(re.fullmatch("[0-9a-f]{32}", key) for key, *_ in referrals)
    cases = await rows(engine, 'select case_id from router."case"')
    assert sorted(cases) == sorted((case_id,) for _, _, case_id, *_ in referrals)

    pointing = await rows(engine, "select person_key, packet, place from router.case_event")
    events = [(key, Place(packet, place)) for key, packet, place in pointing]
    inputs = await rows(engine, "select person_key, packet, place from router.input")
    async with engine.connect() as tx:
        messages = await packets.messages(tx, "router", events)
        contents = await packets.contents(tx, "router", [(key, Place(packet, place)) for key, packet, place in inputs])
    assert len(messages) == len(contents) == 4
    assert {message.target for message in messages.values()} == {CASE_EVENT}
    assert await rows(engine, "select count(*), count(distinct id) from router.packet where id < 0") == [(3, 3)]
    await engine.dispose()


async def test_what_is_held_of_a_topic_is_copied_with_its_packet_into_every_shard(migrated: str) -> None:
    engine = database.connect(migrated)
    await emptied(engine, "router")
    await a_router(engine).receive([a_record(received(GP, a_referral()), key=KEY)])
    async with engine.begin() as tx:
        held = "insert into router.packet_held (shard, target, id, places) select shard, 'any', id, '{0}' from router.packet"
        await tx.execute(text(held))
    connection = await copies.connect(migrated)
    await copies.insert(connection, await copies.held_rows_of(connection, "router", "any"), 1, 16)
    await connection.close()
    of_shards = (
        "select shard, count(*) from router.packet_held join router.packet using (shard, id) where id < 0 group by 1"
    )
    assert sorted(await rows(engine, of_shards)) == [(shard, 2) for shard in range(8)]
    await engine.dispose()
