"""No personal data in refusals, reasons of dead letters, unlisted columns, command lines of processes, or core dumps.

It runs last of the walks and checks what all of them left.
"""

import asyncio
import copy
import json
import os
import uuid
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import psutil
from aiokafka import AIOKafkaProducer

from schemas import topics
from services.runtime import database
from services.runtime.settings import CHECKOUT
from tests import canaries
from tests.builders.bars import a_bars_message
from tests.builders.csv import a_file
from tests.builders.forms import a_form
from tests.builders.hl7v2 import a_uhl_message
from tests.end_to_end.conftest import FHIR_JSON, PRACTICE, Walk
from tests.end_to_end.senders import a_row, by_mllp

WHO = "CANARYSON 9990000018"


def with_a_person_anywhere(message: Any) -> list[bytes]:
    """The message once for each of its values, with a person instead of the value, and as the name of an element."""
    places: list[list[Any]] = []
    _places(message, [], places)
    found = []
    for path in places:
        changed = copy.deepcopy(message)
        here = changed
        for name in path[:-1]:
            here = here[name]
        here[path[-1]] = WHO
        found.append(json.dumps(changed).encode())
    return [*found, json.dumps({**message, WHO: WHO}).encode(), WHO.encode()]


def _places(here: Any, path: list[Any], found: list[list[Any]]) -> None:
    for name in here if isinstance(here, dict) else range(len(here)):
        if isinstance(here[name], dict | list):
            _places(here[name], [*path, name], found)
        else:
            found.append([*path, name])


async def refused(
    walk: Walk, session: aiohttp.ClientSession, path: str, partner: str, media_type: str, body: bytes
) -> str:
    """Return the text of a refusal, or '' if the message was accepted."""
    ids = {"X-Request-Id": str(uuid4()), "X-Correlation-Id": str(uuid4())}
    headers = {"Authorization": f"Bearer {walk.token(partner)}", "Content-Type": media_type, **ids}
    async with session.post(walk.running.addresses["intake"] + path, data=body, headers=headers) as answer:
        assert answer.status < 500, path
        said = await answer.text()
    return said if answer.status >= 400 else ""


async def test_no_refusal_of_any_format_contains_personal_data(walk: Walk, session: aiohttp.ClientSession) -> None:
    bars = with_a_person_anywhere(a_bars_message())[::6]
    forms = with_a_person_anywhere(a_form())
    files = [a_file("blaby", [a_row(**{column: WHO})]) for column in a_row()] + [WHO.encode(), b"\n" + WHO.encode()]
    said = [await refused(walk, session, "/fhir/$process-message", PRACTICE, FHIR_JSON, body) for body in bars]
    said += [
        await refused(walk, session, "/forms/first-contact-plus", "first-contact", "application/json", body)
        for body in forms
    ]
    said += [
        await refused(walk, session, "/councils/blaby/referrals", "council-blaby", "text/csv", body) for body in files
    ]
    assert len([one for one in said if one]) > 25
    assert not [one for one in said if canaries.PERSONAL.search(one)]


async def test_no_hl7_acknowledgement_contains_personal_data(walk: Walk) -> None:
    for place in ("PID-3", "PID-5", "PID-7", "PID-8", "PID-11", "PV1-3", "RF1-3", "RF1-7", "PV2-9", "OBX-5"):
        said = await by_mllp(walk, "uhl", a_uhl_message(fields={place: WHO}, control_id=uuid.uuid4().hex[:12]))
        assert not canaries.PERSONAL.search(repr(said)), place


async def test_the_reason_of_a_dead_letter_contains_places_only(walk: Walk) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=walk.running.addresses["kafka"])
    await producer.start()
    event = str(uuid.uuid4())
    headers = {"ce_type": "uk.lightbulb.referral.received.v1", "ce_id": event, "ce_source": "/a/test", "ce_time": WHO}
    try:
        key, value = uuid.uuid4().hex.encode(), json.dumps({WHO: WHO, "referral": {"person": WHO}}).encode()
        sent = [(name, said.encode()) for name, said in headers.items()]
        await producer.send_and_wait(topics.REFERRAL_EVENT, value, key=key, headers=sent)
    finally:
        await producer.stop()
    engine = database.connect(walk.running.addresses["postgres"], pool=1)
    async with asyncio.timeout(60), engine.connect() as connection:
        query = "select reason from router.dead_letter where key = $1"
        while not (rows := (await connection.exec_driver_sql(query, (key,))).all()):
            await asyncio.sleep(0.2)
    await engine.dispose()
    assert not canaries.PERSONAL.search(rows[0].reason)


async def test_personal_data_is_stored_only_in_the_listed_columns(walk: Walk) -> None:
    engine = database.connect(walk.running.addresses["postgres"], pool=1)
    async with engine.connect() as connection:
        assert await canaries.in_columns(connection) == []
    await engine.dispose()


def ours() -> list[psutil.Process]:
    """The services of this installation."""
    children = psutil.Process().children(recursive=True)
    return [one for one in children if [part[:9] for part in one.cmdline()[1:3]] == ["-m", "services."]]


def test_command_lines_are_free_of_personal_data_and_core_dumps_are_off(walk: Walk) -> None:
    services = ours()
    assert len(services) >= 6
    assert canaries.in_processes(psutil.Process().children(recursive=True)) == []
    for one in services:
        soft, hard = one.rlimit(psutil.RLIMIT_CORE)
        assert 0 <= soft <= hard <= 1, one.cmdline()
    for folder in (CHECKOUT, walk.running.plan.data):
        assert not [name for name in os.listdir(folder) if name == "core" or name.startswith("core.")]


def test_logs_of_the_walks_are_at_debug_and_contain_no_personal_data(walk: Walk) -> None:
    logs = sorted(Path(walk.running.plan.data / "logs").glob("*.log"))
    assert len(logs) >= 6
    assert canaries.found_in([*logs, walk.traces]) == []
