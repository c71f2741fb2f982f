"""The simulated GP's system as its callers meet it: a process behind HTTP."""

import asyncio
import json
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from infra.local.embedded import ports_and_secrets
from infra.partner_simulators import gp_system
from services.notifier.channels import bars_message
from services.notifier.compose import Feedback, compose
from tests.notifier import builders


@dataclass
class Running:
    url: str
    inbox: Path

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.inbox.read_text().splitlines()]


@pytest.fixture
def system(tmp_path: Path) -> Iterator[Running]:
    port = ports_and_secrets.free_ports(1)[0]
    (tmp_path / "token").write_text("secret")
    argv = ["--port", str(port), "--token-file", str(tmp_path / "token"), "--inbox", str(tmp_path / "inbox")]
    process = subprocess.Popen([sys.executable, gp_system.__file__, *argv, "--fail-first", "1"])
    try:
        yield Running(f"http://127.0.0.1:{port}/", tmp_path / "inbox")
    finally:
        process.terminate()
        assert process.wait(10) == 0


@pytest.fixture
async def session(system: Running) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        for _ in range(100):
            try:
                await session.get(system.url)
                break
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)
        yield session


def a_feedback() -> Feedback:
    return compose(builders.a_life(builders.by_gp(), "1")[-1], builders.the_recipients(), builders.the_words())[0]


def headers(request_id: str, token: str = "secret") -> dict[str, str]:
    ids = {"X-Request-ID": request_id, "X-Correlation-ID": str(uuid.uuid4())}
    return ids | {"Authorization": f"Bearer {token}", "Content-Type": "application/fhir+json; version=1.0.0"}


def a_message(feedback: Feedback) -> bytes:
    return bars_message.message(feedback, builders.the_words().sender_details)


async def test_a_message_is_deferred_once_then_accepted_and_a_repeat_is_a_duplicate(
    system: Running, session: aiohttp.ClientSession
) -> None:
    feedback = a_feedback()
    body, asked = a_message(feedback), headers(str(uuid.uuid4()))
    answers = [await session.post(system.url, data=body, headers=asked) for _ in range(3)]
    assert [answer.status for answer in answers] == [503, 200, 409]
    assert answers[0].headers["Retry-After"] == "1"
    assert (await answers[2].json(content_type=None))["issue"][0]["code"] == "duplicate"
    taken, repeat = system.lines()
    assert (taken["reference"], taken["feedback_type"], taken["attempts"]) == (
        feedback.reference,
        feedback.feedback_type.value,
        2,
    )
    assert taken["answers"] == feedback.message_id
    assert repeat["duplicate"]


async def test_other_content_under_the_same_id_is_a_conflict(system: Running, session: aiohttp.ClientSession) -> None:
    asked, body = headers(str(uuid.uuid4())), a_message(a_feedback())
    await session.post(system.url, data=body, headers=asked)
    await session.post(system.url, data=body, headers=asked)
    answer = await session.post(system.url, data=body + b" ", headers=asked)
    assert (answer.status, (await answer.json(content_type=None))["issue"][0]["code"]) == (409, "conflict")


async def test_a_request_with_a_wrong_token_is_refused(system: Running, session: aiohttp.ClientSession) -> None:
    asked = headers(str(uuid.uuid4()), token="guessed")
    assert (await session.post(system.url, data=b"{}", headers=asked)).status == 401


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"resourceType":"Bundle"}', b'{"resourceType":"Patient"}'])
async def test_a_body_that_is_not_a_message_is_refused(
    system: Running, session: aiohttp.ClientSession, body: bytes
) -> None:
    asked = headers(str(uuid.uuid4()))
    statuses = [(await session.post(system.url, data=body, headers=asked)).status for _ in range(2)]
    assert statuses == [503, 400]
    assert system.lines() == []


async def test_a_message_without_its_ids_is_refused(system: Running, session: aiohttp.ClientSession) -> None:
    asked = {name: value for name, value in headers("x").items() if name != "X-Correlation-ID"}
    assert (await session.post(system.url, data=b"{}", headers=asked)).status == 400
