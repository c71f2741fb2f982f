"""Each partner has its own rate: who sends too fast is told so by its protocol, over MLLP waits, and holds up nobody else."""

import asyncio
import dataclasses
import json

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.intake import limits
from services.intake.rate_limiter import RateLimited, RateLimiter
from services.reference import partners
from services.reference.partners import Partner
from services.runtime import metrics
from tests.builders.bars import a_bars_message
from tests.builders.csv import a_file, a_row
from tests.builders.forms import a_form
from tests.builders.hl7v2 import a_ref_i12
from tests.intake.council_client import upload
from tests.intake.fake_hl7_engine import SECONDS, Wards, acknowledged, framed
from tests.intake.running import DIRECTORY, InProcess, Installation, Reply, rows


class Clock:
    """Stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.at = 1_000.0

    def __call__(self) -> float:
        return self.at


PARTNERS = partners.load(DIRECTORY, None)


def a_partner(name: str = "uhl", **changes: int) -> Partner:
    found = PARTNERS.by_id(name)
    assert found
    return found.model_copy(update=changes)


def taken(rates: RateLimiter, partner: Partner) -> int:
    """How many go at once until one is refused."""
    number = 0
    while number < 10_000:
        try:
            with rates.in_flight(partner, "bars-fhir"):
                number += 1
        except RateLimited:
            return number
    return number


def told_too_fast(partner: str, what: str) -> float:
    return metrics.MESSAGES.labels(partner, what, "rate-limited")._value.get()


# ---- the bucket -----------------------------------------------------------------------------------------------------


def test_an_idle_partner_may_send_a_burst_of_ten_seconds_and_then_its_rate() -> None:
    clock = Clock()
    rates = RateLimiter(200, clock)
    assert taken(rates, a_partner()) == 2_000
    clock.at += 0.5
    assert taken(rates, a_partner()) == 100
    clock.at += 3_600
    assert taken(rates, a_partner()) == 2_000


def test_a_partner_may_have_its_own_rate_and_takes_nothing_from_another() -> None:
    rates = RateLimiter(200, Clock())
    assert taken(rates, a_partner(messages_per_second=3)) == 30
    assert taken(rates, a_partner("lpt")) == 2_000


def test_messages_in_flight_are_limited_at_any_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IN_FLIGHT", 1)
    rates = RateLimiter(200, Clock())
    with rates.in_flight(a_partner(), "hl7v2"):
        with pytest.raises(RateLimited), rates.in_flight(a_partner(), "hl7v2"):
            pass
        with rates.in_flight(a_partner("lpt"), "hl7v2"):
            pass
    with rates.in_flight(a_partner(), "hl7v2"):
        pass


def test_connections_that_read_ahead_wait_for_all_that_was_read() -> None:
    clock = Clock()
    rates = RateLimiter(10, clock)
    until = [rates.reserve(a_partner()) for _ in range(100 + 20)]
    assert {rates.pause(one) for one in until[:100]} == {0}
    assert rates.pause(until[-1]) == pytest.approx(2.0)
    clock.at += 1.5
    assert rates.pause(until[-1]) == pytest.approx(0.5)
    assert rates.pause(rates.reserve(a_partner())) == pytest.approx(0.6)


def test_adt_has_a_bucket_of_its_own_at_its_own_rate() -> None:
    clock = Clock()
    partner = a_partner()
    slow = partner.model_copy(update={"hl7v2": partner.hl7v2.model_copy(update={"adt_messages_per_second": 2})})
    rates = RateLimiter(200, clock)
    until = [rates.reserve(slow, adt=True) for _ in range(21)]
    assert [rates.pause(one) for one in until] == [0] * 20 + [0.5]
    assert taken(rates, slow) == 2_000
    assert {rates.pause(rates.reserve(a_partner("lpt"), adt=True)) for _ in range(2_000)} == {0}


def test_the_log_reports_it_once_in_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    monkeypatch.setattr("services.intake.rate_limiter.log.warning", lambda event, **more: said.append((event, more)))
    clock = Clock()
    rates, partner = RateLimiter(1, clock), a_partner()
    for _ in range(5):
        assert taken(rates, partner) <= 10
    clock.at += limits.LOG_SECONDS
    assert taken(rates, partner) == 10
    assert said == [
        ("rate_limited", {"partner": "uhl", "format": "bars-fhir", "count": 1}),
        ("rate_limited", {"partner": "uhl", "format": "bars-fhir", "count": 6}),
    ]


# ---- over HTTP ------------------------------------------------------------------------------------------------------


@pytest.fixture
def exhausted(intake: InProcess) -> InProcess:
    """Each partner may send no more after its first message."""
    rates = RateLimiter(1, Clock())
    for partner in intake.intake.partners:
        for _ in range(9):
            rates.reserve(partner)
    intake.app.state.intake = dataclasses.replace(intake.intake, rate_limiter=rates)
    return intake


async def test_a_bars_sender_over_its_rate_gets_retry_after(exhausted: InProcess, engine: AsyncEngine) -> None:
    before = told_too_fast("gp-alder-lane", "bars-fhir")
    assert (await exhausted.bars(a_bars_message())).status == 200
    reply = await exhausted.bars(a_bars_message())
    assert (reply.status, reply.headers["retry-after"]) == (429, "1")
    [issue] = reply.json()["issue"]
    assert (issue["code"], issue["details"]["coding"][0]["code"]) == ("throttled", "REC_TOO_MANY_REQUESTS")
    assert (
        await exhausted.bars(a_bars_message(), sender="gp-brook-street")
    ).status == 403  # its own turn, and not its patient
    assert len(await rows(engine, "select 1 from intake.message")) == 2
    assert told_too_fast("gp-alder-lane", "bars-fhir") == before + 1


async def _forms(intake: InProcess) -> Reply:
    return await intake.form(a_form())


async def _hl7(intake: InProcess) -> Reply:
    return await intake.call("POST", "/hl7v2", a_ref_i12(), "uhl", {"content-type": "application/hl7-v2"})


async def _file(intake: InProcess) -> Reply:
    return await upload(intake, "blaby", a_file("blaby", [a_row("blaby"), a_row("blaby")]))


@pytest.mark.parametrize("send", [_forms, _hl7, _file])
async def test_other_senders_over_their_rate_get_problem_details_and_nothing_is_stored(
    exhausted: InProcess, send: object
) -> None:
    assert callable(send)
    assert (await send(exhausted)).status < 300
    before = await rows(exhausted.engine, "select count(*) from intake.message")
    reply = await send(exhausted)
    assert (reply.status, reply.headers["retry-after"]) == (429, "1")
    assert reply.headers["content-type"] == "application/problem+json"
    assert json.loads(reply.body)["title"] == "Too Many Requests"
    assert await rows(exhausted.engine, "select count(*) from intake.message") == before
    assert len(await rows(exhausted.engine, "select 1 from intake.upload")) == (send is _file)


# ---- over MLLP ------------------------------------------------------------------------------------------------------


async def slowed_down(wards: Wards) -> None:
    async with asyncio.timeout(SECONDS):
        while not wards.mllp.counts["uhl", "rate_limited"]:
            await asyncio.sleep(0.01)


async def test_the_next_frame_is_read_only_at_the_rate_and_nothing_is_rejected(
    installation: Installation, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BURST_SECONDS", 0.03)
    async with Wards(installation, engine) as wards:
        clock = Clock()
        wards.mllp.intake = dataclasses.replace(wards.intake, rate_limiter=RateLimiter(100, clock))
        connection = await wards.connect()
        await connection.write(b"".join(framed(a_ref_i12(id=str(number))) for number in range(5)))
        assert [acknowledged(await connection.answer())[0] for _ in range(3)] == ["AA"] * 3
        await slowed_down(wards)
        assert len(await rows(engine, "select 1 from intake.message")) == 3
        clock.at += 1
        assert [acknowledged(await connection.answer())[0] for _ in range(2)] == ["AA"] * 2


async def test_a_stop_does_not_wait_for_a_rate_limited_sender(installation: Installation, engine: AsyncEngine) -> None:
    async with Wards(installation, engine) as wards:
        rates = RateLimiter(1, Clock())
        for _ in range(1_000):
            rates.reserve(a_partner())
        wards.mllp.intake = dataclasses.replace(wards.intake, rate_limiter=rates)
        connection = await wards.connect()
        await connection.write(framed(a_ref_i12()))
        await slowed_down(wards)
        await wards.mllp.stop()
        assert await connection.rest() == b""
    assert await rows(engine, "select 1 from intake.message") == []
