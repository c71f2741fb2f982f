"""A port, or a certificate, for ADT only: its messages never delay the partner's referrals."""

import asyncio
import dataclasses

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.intake import limits
from services.intake.rate_limiter import RateLimiter
from tests.builders.hl7v2 import a_ref_i12
from tests.intake.certificates import Keys
from tests.intake.fake_hl7_engine import SECONDS, Wards, acknowledged, agreed, framed
from tests.intake.running import Installation, rows


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


AN_ADT = a_ref_i12().replace(b"REF^I12", b"ADT^A08")


class StoppedClock:
    def __call__(self) -> float:
        return 1_000.0


async def slowed_down(wards: Wards) -> None:
    async with asyncio.timeout(SECONDS):
        while not wards.happened("rate_limited"):
            await asyncio.sleep(0.01)


async def test_on_a_port_for_adt_anything_else_is_rejected(installation: Installation, engine: AsyncEngine) -> None:
    async with Wards(installation, engine) as wards:
        answer = await (await wards.connect("uhl-adt")).send(a_ref_i12())
        assert acknowledged(answer)[0] == "AR"
        assert "MSH^1^9^200&" in answer
    assert [row.verdict for row in await rows(engine, "select verdict from intake.message")] == ["refused"]


async def test_with_a_certificate_for_adt_anything_else_is_rejected(
    installation: Installation, engine: AsyncEngine, keys: Keys
) -> None:
    access = {"uhl": {"adt_certificate_sha256": [keys.of["uhl"][2]]}}
    async with Wards(installation, engine, access=access, settings=keys.settings) as wards:
        answer = await (await wards.connect("tls", ssl=keys.context("uhl"))).send(a_ref_i12())
        assert acknowledged(answer)[0] == "AR"
        assert "MSH^1^9^200&" in answer


@pytest.mark.parametrize("port", ["uhl-adt", "uhl"])
async def test_a_referral_is_answered_while_a_full_feed_waits_for_its_rate(
    installation: Installation, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, port: str
) -> None:
    monkeypatch.setattr(limits, "BURST_SECONDS", 1)
    async with Wards(agreed(installation, uhl={"adt_messages_per_second": 3}), engine) as wards:
        wards.mllp.intake = dataclasses.replace(wards.intake, rate_limiter=RateLimiter(100, StoppedClock()))
        feeds = [await wards.connect(port) for _ in range(5)]
        for feed in feeds:
            await feed.write(framed(AN_ADT) * 50)
        await slowed_down(wards)
        referrals = await wards.connect()
        assert [acknowledged(await referrals.send(a_ref_i12()))[0] for _ in range(20)] == ["AA"] * 20
        assert wards.happened("answered") <= 3 + 20


async def test_connections_for_adt_take_no_place_of_other_connections(
    installation: Installation, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, keys: Keys
) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS", 1)
    access = {
        "uhl": {"adt_certificate_sha256": [keys.of["uhl"][2]]},
        "lpt": {"certificate_sha256": [keys.of["council"][2]]},
    }
    async with Wards(installation, engine, access=access, settings=keys.settings) as wards:
        first = await wards.connect("tls", ssl=keys.context("council"))
        assert acknowledged(await first.send(a_ref_i12()))[0] == "AA"
        for _ in range(3):
            feed = await wards.connect("tls", ssl=keys.context("uhl"))
            assert acknowledged(await feed.send(a_ref_i12()))[0] == "AR"
        assert acknowledged(await first.send(a_ref_i12()))[0] == "AA"
        assert wards.happened("evicted_idle") == 2
