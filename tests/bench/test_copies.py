"""A copied person is like the one that the services wrote."""

import re

from bench import copies
from services.messaging.outbox import shard_of
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

    referrals = await rows(engine, "select person_key, reference, case_id, status, state::text from router.referral")
    assert len({key for key, *_ in referrals}) == len({reference for _, reference, *_ in referrals}) == 4
    assert {copies.IDENTIFIER.sub("*", " ".join(found)) for found in referrals} == {
        copies.IDENTIFIER.sub("*", " ".join(referrals[0]))
    }
    assert all(re.fullmatch("[0-9a-f]{32}", key) and reference in state for key, reference, *_, state in referrals)
    cases = await rows(engine, 'select case_id from router."case"')
    assert sorted(cases) == sorted((case_id,) for _, _, case_id, *_ in referrals)
    shards = await rows(engine, "select person_key, shard from router.outbox")
    assert len(shards) >= 8
    assert all(shard == shard_of(key) for key, shard in shards)
    await engine.dispose()
