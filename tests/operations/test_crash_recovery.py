"""A resubmit, its request or a republish that is killed: repeating it completes it, with nothing lost or done twice."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operations import corrections, queries, republish
from infra.operations.queries import Filters
from schemas.model import Reference
from schemas.topics import CASE_EVENT
from services.messaging import packets
from services.messaging.packets import Place
from services.runtime.settings import CHECKOUT
from tests.builders.events import a_record, broken, cancelled, received, updated
from tests.builders.referrals import GP, a_form, a_referral, keys
from tests.operations.operator_actions import BY, SINCE, parked, resubmit
from tests.router.stored import a_router, events, rows

NURSERY = """
import asyncio, json, os, signal, sys, textwrap
from datetime import UTC, datetime
from infra.operations import corrections, queries, dead_letters as acting, republish
from infra.operations.queries import Filters
from infra.operations.audit_log import Operator
from services.messaging import resubmit
from services.runtime import database
from services.router.consumer import Batches
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.builders.reference_data import DIRECTORY
from tests.builders.events import NOW

def killed_after(module, name, time=1):
    before, calls = getattr(module, name), []
    async def killing(*given, **named):
        found = await before(*given, **named)
        calls.append(name)
        if len(calls) == time:
            os.kill(os.getpid(), signal.SIGKILL)
        return found
    setattr(module, name, killing)

async def do(url, body):
    engine, by = database.connect(url), Operator("A. Operator", "because")
    here = dict(globals())
    exec("async def do_it(engine, by):" + textwrap.indent(body, "    "), here)
    await here["do_it"](engine, by)

for line in sys.stdin:
    if not (child := os.fork()):
        asyncio.run(do(*json.loads(line)))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Imports everything once and forks a child for each piece of work: starting a process for each would take long."""


@pytest.fixture(scope="module")
def nursery() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", NURSERY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT
    ) as process:
        yield process
        assert process.stdin
        process.stdin.close()


@pytest.fixture
def killed(nursery: subprocess.Popen[str], engine: AsyncEngine) -> Callable[[str], Awaitable[None]]:
    """Run a piece of work in a process that is killed before it ends."""

    def answered(body: str) -> str:
        assert nursery.stdin
        assert nursery.stdout
        nursery.stdin.write(json.dumps([engine.url.render_as_string(hide_password=False), body]) + "\n")
        nursery.stdin.flush()
        return nursery.stdout.readline()

    async def do(body: str) -> None:
        assert int(await asyncio.to_thread(answered, body)) == -signal.SIGKILL

    return do


Killed = Callable[[str], Awaitable[None]]


async def asked_for(engine: AsyncEngine) -> None:
    """Store for each of two persons a corrected record and two that wait behind it; request all of them."""
    for number, key in enumerate(keys(2)):
        reference = Reference(f"LB-0000-0000-000{number}")
        good = a_record(received(reference, a_referral()), id=f"first-{number}", key=key)
        value = f'{{"reference": "{reference}", "version": "one"}}'.encode()
        later = [a_record(updated(reference, a_form()), key=key), a_record(cancelled(reference, version=3), key=key)]
        head, *_ = await parked(engine, broken(good, value), *later, message_group=reference)
        await resubmit(engine, [await corrections.edit(engine, head, good.value, {}, BY)])


async def assert_done_once(engine: AsyncEngine) -> None:
    assert await rows(engine, "select distinct resolution from router.dead_letter") == [("applied",)]
    for key in keys(2):
        assert await events(engine, key) == ["opened", "updated", "cancelled"]
    assert await rows(engine, "select distinct last_sequence from router.person_key") == [(3,)]
    async with engine.connect() as tx:
        assert len(await packets.published(tx, "router", CASE_EVENT)) == 6


@pytest.mark.parametrize(
    ("place", "time"), [("take", 1), ("take", 3), ("resolve", 1), ("resolve", 2), ("resubmit_ready", 1)], ids=str
)
async def test_a_killed_resubmit_is_completed_by_the_next_release(
    engine: AsyncEngine, killed: Killed, place: str, time: int
) -> None:
    """It is killed before anything is applied, before the commit, and at the end; in the first, second or third round."""
    await asked_for(engine)
    await killed(f"""
killed_after(resubmit, {place!r}, {time})
await Batches(engine, DIRECTORY, clock=lambda: NOW).release()
""")
    await a_router(engine).release()

    await assert_done_once(engine)


@pytest.mark.parametrize(
    "place", ["corrections, '_keep'", "corrections, 'edit'", "acting, 'record_action'", "acting, 'act'"]
)
async def test_a_killed_resubmit_command_can_be_repeated(engine: AsyncEngine, killed: Killed, place: str) -> None:
    """It is killed before and after the commit of the edit, and before and after the commit of the request."""
    good = a_record(received(GP, a_referral()), id="first")
    await parked(engine, broken(good, b'{"reference": "LB-GP00-0000-0001"}'), a_record(updated(GP, a_form())))
    await killed(f"""
killed_after({place})
[head, *_] = await queries.find(engine, Filters())
row = await corrections.edit(engine, head, {good.value!r}, {{}}, by)
await acting.act(engine, await acting.plan_resubmit(engine, [row]), by)
""")
    [head, *_] = await queries.find(engine, Filters())
    if head.state == "open":
        await resubmit(engine, [await corrections.edit(engine, head, good.value, {}, BY)])
    await a_router(engine).release()

    assert await events(engine) == ["opened", "updated"]
    assert await rows(engine, "select distinct resolution from router.dead_letter") == [("applied",)]
    [(key, *place)] = await rows(engine, "select person_key, packet, place from router.input where id = 'first'")
    async with engine.connect() as tx:
        [(_, value)] = (await packets.contents(tx, "router", [(key, Place(*place))])).values()
    assert value == good.value


async def test_a_killed_republish_is_recorded_and_can_be_repeated(engine: AsyncEngine, killed: Killed) -> None:
    """The operator is recorded; repeating the command publishes only copies."""
    people = keys(3)
    await a_router(engine).receive(
        [a_record(received(Reference(f"LB-{key}"), a_referral()), key=key) for key in people]
    )
    await killed("""
republish.EVENTS = republish.PERSONS = 1
killed_after(republish, "_copy", 2)
await republish.run(engine, "hub.blaby.case", datetime(2026, 1, 1, tzinfo=UTC), by)
""")
    [first] = await copies(engine)
    assert await rows(engine, "select action, operator from router.operator_action") == [("republish", "A. Operator")]
    await republish.run(engine, "hub.blaby.case", SINCE, BY)

    assert sorted(await copies(engine)) == sorted([first, *people])


async def copies(engine: AsyncEngine) -> list[str]:
    """Return the person keys of the events that were published again, in order."""
    async with engine.connect() as tx:
        return [one.message.person_key for one in await packets.published(tx, "router") if one.republished]
