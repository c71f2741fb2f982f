"""Whatever an authenticated partner sends: one answer of its protocol, never a server error, and one kept record."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from services.runtime import database
from tests.builders.bars import a_bars_message
from tests.builders.forms import a_form
from tests.builders.hl7v2 import a_ref_i12
from tests.intake.running import InProcess, Installation, Reply

Sends = Callable[[InProcess, bytes], Coroutine[Any, Any, Reply]]


def answers(installation: Installation, bodies: list[bytes], send: Sends) -> tuple[list[Reply], int]:
    """The answers to these bodies, sent at once, and how many records were kept of them."""

    async def all_at_once() -> tuple[list[Reply], int]:
        engine = database.connect(installation.database)
        count = text("select count(*) from intake.message")
        async with InProcess(installation, engine) as intake:
            async with engine.connect() as connection:
                before = (await connection.execute(count)).scalar_one()
            replies = await asyncio.gather(*(send(intake, body) for body in bodies))
            async with engine.connect() as connection:
                after = (await connection.execute(count)).scalar_one()
        await engine.dispose()
        return replies, after - before

    return asyncio.run(all_at_once())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=25,
)

bodies = st.lists(
    st.binary(max_size=200)
    | json_values.map(lambda value: json.dumps(value).encode())
    | st.builds(lambda where, value: _with(a_bars_message(), where, value), st.integers(0, 50), json_values)
    | st.builds(lambda where, value: _with(a_form(), where, value), st.integers(0, 50), json_values),
    min_size=1,
    max_size=25,
)


def _with(message: dict[str, Any], where: int, value: Any) -> bytes:
    """A good message with any value at its n-th place."""
    places: list[tuple[Any, Any]] = []
    _places(message, places)
    holder, name = places[where * 7 % len(places)]
    holder[name] = value
    return json.dumps(message).encode()


def _places(here: Any, found: list[tuple[Any, Any]]) -> None:
    for name in list(here) if isinstance(here, dict) else range(len(here)):
        found.append((here, name))
        if isinstance(here[name], dict | list):
            _places(here[name], found)


quickly = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@given(sent=bodies)
@quickly
def test_any_body_to_the_fhir_address_gets_one_answer_and_one_record(
    installation: Installation, sent: list[bytes]
) -> None:
    replies, kept = answers(installation, sent, lambda intake, body: intake.bars(body))
    assert all(200 <= reply.status < 500 for reply in replies), [reply.status for reply in replies]
    assert all(reply.json()["resourceType"] in ("Bundle", "OperationOutcome") for reply in replies)
    assert kept == len(sent)


@given(sent=bodies)
@quickly
def test_any_body_to_a_form_gets_one_answer_and_one_record(installation: Installation, sent: list[bytes]) -> None:
    replies, kept = answers(installation, sent, lambda intake, body: intake.form(body))
    assert all(200 <= reply.status < 500 for reply in replies), [reply.status for reply in replies]
    assert all("reference" in reply.json() or reply.json()["title"] for reply in replies)
    assert kept == len(sent)


er7 = st.lists(
    st.binary(max_size=200)
    | st.builds(
        lambda at, length, put: a_ref_i12()[:at] + put + a_ref_i12()[at + length :],
        st.integers(0, 300),
        st.integers(0, 20),
        st.binary(max_size=20) | st.sampled_from([b"|", b"^", b"~", b"\\", b"\r", b"\x0b", b"\x1c\r", b"\r\nPID|1|||"]),
    ),
    min_size=1,
    max_size=25,
)


@given(sent=er7)
@quickly
def test_any_body_to_the_hl7_address_gets_one_answer_and_one_record(
    installation: Installation, sent: list[bytes]
) -> None:
    headers = {"content-type": "application/hl7-v2"}
    replies, kept = answers(
        installation, sent, lambda intake, body: intake.call("POST", "/hl7v2", body, "uhl", headers)
    )
    assert all(200 <= reply.status < 500 for reply in replies), [reply.status for reply in replies]
    assert all(reply.body.startswith(b"MSH") and b"\rMSA" in reply.body for reply in replies)
    assert kept == len(sent)


def test_no_module_of_intake_prints_or_logs_a_body() -> None:
    """Log calls name their fields; none of them is a body, a person or an exception's text."""
    folder = Path(__file__).resolve().parents[2] / "services" / "intake"
    logged = [line for path in folder.rglob("*.py") for line in path.read_text().splitlines() if "log." in line]
    assert len(logged) > 10
    assert [line for line in logged if any(word in line for word in ("body", "person", "str(error)", "repr("))] == []
