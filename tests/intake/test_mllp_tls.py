"""MLLP over TLS: a client certificate is the credential, and without a known one nothing is read."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvloop
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.local.embedded import ports_and_secrets
from services.intake import limits
from services.intake.mllp import access as mllp_access
from services.runtime import database, metrics
from services.runtime.expiry import Expiring
from services.runtime.process import CannotListen
from services.runtime.settings import FileRefused
from tests.builders.hl7v2 import a_ref_i12
from tests.intake.certificates import Keys
from tests.intake.fake_hl7_engine import Engine, Wards, acknowledged, framed
from tests.intake.running import Installation, rows


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
async def wards(installation: Installation, engine: AsyncEngine, keys: Keys) -> AsyncIterator[Wards]:
    access = {
        "uhl": {"certificate_sha256": [keys.of["uhl"][2], keys.of["expired"][2], keys.of["self-made"][2]]},
        "council-blaby": {"certificate_sha256": [keys.of["council"][2]]},
    }
    async with Wards(installation, engine, access=access, settings=keys.settings) as running:
        yield running


async def test_a_known_certificate_identifies_its_partner(wards: Wards, engine: AsyncEngine, keys: Keys) -> None:
    connection = await wards.connect("tls", ssl=keys.context("uhl"))
    answers = [await connection.send(a_ref_i12()) for _ in range(2)]
    assert [acknowledged(answer)[0] for answer in answers] == ["AA", "AA"]
    assert {row.partner for row in await rows(engine, "select partner from intake.message")} == {"uhl"}
    labels = {"use": "client-certificate", "partner": "uhl"}
    ends = metrics.REGISTRY.get_sample_value("lightbulb_certificate_expiry_timestamp_seconds", labels)
    assert ends == Expiring("client-certificate", keys.of["uhl"][0]).end().timestamp()


def test_many_messages_are_answered_on_the_event_loop_of_the_services(installation: Installation, keys: Keys) -> None:
    async def several() -> list[str]:
        engine = database.connect(installation.database)
        access = {"uhl": {"certificate_sha256": [keys.of["uhl"][2]]}}
        async with Wards(installation, engine, access=access, settings=keys.settings) as wards:
            connection = await wards.connect("tls", ssl=keys.context("uhl"))
            answers = [await connection.send(a_ref_i12()) for _ in range(3)]
            async with asyncio.timeout(limits.WRITE_SECONDS / 2):
                while wards.happened("answered") < 3:
                    await asyncio.sleep(0.01)
        await engine.dispose()
        return [acknowledged(answer)[0] for answer in answers]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(several()) == ["AA", "AA", "AA"]


async def test_an_unknown_client_is_closed_and_none_of_its_bytes_are_read(
    wards: Wards, engine: AsyncEngine, keys: Keys
) -> None:
    for who in ("stranger", "council", "expired", "self-made", None):
        assert await _tried(wards, keys.context(who)) == b"", who
    assert wards.happened("no_credential", "unknown") == 1
    assert wards.happened("no_credential", "council-blaby") == 1
    assert await rows(engine, "select 1 from intake.message") == []


async def _tried(wards: Wards, context: ssl.SSLContext) -> bytes:
    try:
        connection = await wards.connect("tls", ssl=context)
        await connection.write(framed(a_ref_i12()))
    except OSError:
        return b""
    return await connection.rest()


async def test_a_client_without_tls_is_not_read(wards: Wards, engine: AsyncEngine) -> None:
    connection = await wards.connect("tls")
    await connection.write(framed(a_ref_i12()))
    assert b"MSA" not in await connection.rest()
    assert await rows(engine, "select 1 from intake.message") == []


async def test_a_message_in_flight_is_answered_at_a_stop(wards: Wards, engine: AsyncEngine, keys: Keys) -> None:
    connection: Engine = await wards.connect("tls", ssl=keys.context("uhl"))
    async with engine.begin() as holder:
        await holder.exec_driver_sql("lock table intake.referral in access exclusive mode")
        await connection.write(framed(a_ref_i12()))
        while not await rows(engine, "select 1 from pg_locks where not granted"):
            await asyncio.sleep(0.02)
        stopping = asyncio.create_task(wards.mllp.stop())
    assert acknowledged(await connection.answer())[0] == "AA"
    await stopping
    assert await connection.rest() == b""


def test_missing_settings_are_named(
    installation: Installation, engine: AsyncEngine, keys: Keys, tmp_path: Path
) -> None:
    ports_and_secrets.write(tmp_path / "broken.pem", "not PEM")
    for lacks in keys.settings:
        assert "LIGHTBULB_MLLP_TLS_PORT requires" in _said(installation, engine, {**keys.settings, lacks: None})
        for file in (tmp_path / "broken.pem", tmp_path / "absent.pem"):
            assert str(file) in _said(installation, engine, {**keys.settings, lacks: file})


def _said(installation: Installation, engine: AsyncEngine, settings: dict[str, Path | None]) -> str:
    """Why there is no listening with these settings."""
    with pytest.raises((CannotListen, FileRefused)) as refused:
        mllp_access.context(Wards(installation, engine, settings=settings).settings)
    return str(refused.value)
