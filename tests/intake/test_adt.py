"""ADT over MLLP and HTTP: applied to the partner's own referrals of the stay; for anybody else the same answer, and nothing stored."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.intake import limits, visits
from services.runtime import metrics
from tests.builders.hl7v2 import a_stay, an_adt, an_lpt_message, segment
from tests.contract.translators.adapters import HL7V2
from tests.intake.fake_hl7_engine import SECONDS, Wards, acknowledged, framed, until_in_hand
from tests.intake.running import Installation, events, rows

PORTS = ("uhl", "uhl-adt")
STRANGER = {"visit": "V7^^^UHL", "number": "RWE7^^^UHL^MRN", "nhs_number": "9990000026", "family": "Hill"}
ANOTHER = {"nhs_number": "9990000026", "family": "Hill", "fields": {"PID-7": "19700101"}}


@pytest.fixture
async def wards(installation: Installation, engine: AsyncEngine) -> AsyncIterator[Wards]:
    async with Wards(installation, engine, translate=HL7V2) as running:
        yield running


async def sent(wards: Wards, message: bytes, port: str = "uhl") -> str:
    """Return the acknowledgement, with constants in place of its own time and id."""
    answer = await (await wards.connect(port)).send(message)
    return re.sub(r"\|\d{14}\+0000\|\|(ACK[^|]*)\|LB[0-9A-F]+\|", r"|TIME||\1|ID|", answer)


async def referred(wards: Wards, **changes: Any) -> str:
    """Send a referral that must be accepted; return its reference."""
    code, reference = acknowledged(await sent(wards, a_stay(**changes)))
    assert code == "AA"
    return reference


async def stored(engine: AsyncEngine) -> list[tuple[str, str | None]]:
    return [tuple(row) for row in await rows(engine, "select verdict, reference from intake.message order by id")]


async def last(engine: AsyncEngine, reference: str) -> dict[str, Any]:
    return (await events(engine, reference))[-1]


def counted(trigger: str, outcome: str) -> float:
    return metrics.ADT_MESSAGES.labels("uhl", trigger, outcome)._value.get()


# ---- whom it concerns -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", PORTS)
async def test_a_message_of_an_own_stay_is_stored_and_published_with_the_whole_referral(
    wards: Wards, engine: AsyncEngine, port: str
) -> None:
    reference = await referred(wards)
    before = counted("A03", "found")
    discharge = an_adt("A03", fields={"PV1-45": "20261107"})
    assert acknowledged(await sent(wards, discharge, port)) == ("AA", "")
    assert await stored(engine) == [("received", reference), ("updated", reference)]
    event = await last(engine, reference)
    assert event["ce_type"].endswith("referral.updated.v1")
    assert (event["version"], event["about_visit"]) == (2, True)
    assert event["referral"]["discharged_on"] == "2026-11-07"
    assert event["referral"]["needs"][0]["service"] == "minor-adaptations"
    assert counted("A03", "found") == before + 1


@pytest.mark.parametrize("port", PORTS)
async def test_every_message_has_the_same_acknowledgement(wards: Wards, engine: AsyncEngine, port: str) -> None:
    await referred(wards)
    own = await sent(wards, an_adt("A08", control_id="C1"), port)
    cases: list[dict[str, Any]] = [
        STRANGER,
        ANOTHER,
        {"patient_class": "O"},
        {"visit": "", "number": ""},
        {"fields": {"PID-5": ""}},
        {"PID": None, "PV1": None},
    ]
    for changes in cases:
        assert await sent(wards, an_adt("A08", **({"control_id": "C1"} | changes)), port) == own, changes
    for trigger in ("A03", "A11", "A40", "A04", "A60", "Z99"):
        answer = await sent(wards, an_adt(trigger, control_id="C1"), port)
        assert answer.replace(f"ACK^{trigger}", "ACK^A08") == own, trigger
    for trigger in ("A08", "A03"):
        stranger = await sent(wards, an_adt(trigger, control_id="C1", **STRANGER), port)
        assert stranger.replace(f"ACK^{trigger}", "ACK^A08") == own, trigger


async def test_nothing_is_locked_or_written_for_a_stranger(
    wards: Wards, engine: AsyncEngine, capfd: pytest.CaptureFixture[str]
) -> None:
    await referred(wards)
    before = counted("A08", "unrelated")
    async with engine.begin() as holder:
        for table in ("message", "message_key", "referral", "visit_key", "packet"):
            await holder.exec_driver_sql(f"lock table intake.{table} in exclusive mode")
        for port in PORTS:
            assert acknowledged(await sent(wards, an_adt("A08", **STRANGER), port)) == ("AA", "")
    assert len(await stored(engine)) == 1
    assert counted("A08", "unrelated") == before + 2
    told = "".join(capfd.readouterr())
    assert not re.search("RWE7|Hill|9990000026", told)


async def test_many_strangers_share_a_statement(wards: Wards, monkeypatch: pytest.MonkeyPatch) -> None:
    searches = []
    search, go_on = wards.intake.visits._referrals, asyncio.Event()

    async def counting(asked: Any) -> Any:
        searches.append(len(asked))
        await go_on.wait()
        return await search(asked)

    monkeypatch.setattr(wards.intake.visits, "_referrals", counting)
    feeds = [await wards.connect("uhl-adt") for _ in range(20)]
    for number, feed in enumerate(feeds):
        await feed.write(framed(an_adt("A08", **STRANGER | {"visit": f"V{number}^^^UHL"})))
    async with asyncio.timeout(SECONDS):
        while len(wards.intake.visits._waiting) + sum(searches) < 20:
            await asyncio.sleep(0.01)
    go_on.set()
    assert {acknowledged(await feed.answer()) for feed in feeds} == {("AA", "")}
    assert len(searches) <= 2


async def test_a_referral_is_answered_while_lookups_wait(
    wards: Wards, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def waits(_: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(wards.intake.visits, "_referrals", waits)
    feeds = [await wards.connect("uhl-adt") for _ in range(limits.CONNECTIONS)]
    for feed in feeds:
        await feed.write(framed(an_adt("A08")) * 3)
    async with asyncio.timeout(SECONDS):
        while sum(one.is_in_flight for one in wards.mllp._connections) < len(feeds):
            await asyncio.sleep(0.01)
    for number in range(10):
        await referred(wards, referral_id=f"R{number}", control_id=f"C{number}")
    assert wards.happened("answered") == 10


async def test_the_lookup_reads_the_index_only(engine: AsyncEngine) -> None:
    async with engine.begin() as tx:
        await tx.exec_driver_sql("set local enable_seqscan = off")
        asked = {"numbers": [0, 1], "partners": ["uhl", "uhl"], "keys": ["a", "b"], "most": 2}
        plan = (await tx.execute(text(f"explain {visits._FIND}"), asked)).scalars().all()
    assert any("Index Only Scan using visit_key_pkey" in line for line in plan), plan
    assert not any("Seq Scan" in line for line in plan), plan


async def test_a_repeat_changes_nothing(wards: Wards, engine: AsyncEngine) -> None:
    reference = await referred(wards)
    message = an_adt("A03", fields={"PV1-45": "20261107"})
    assert await sent(wards, message) == await sent(wards, message)
    assert [verdict for verdict, _ in await stored(engine)] == ["received", "updated", "duplicate"]
    assert len(await events(engine, reference)) == 2


async def test_the_same_control_id_with_other_content_is_another_message(wards: Wards, engine: AsyncEngine) -> None:
    reference = await referred(wards)
    for ward in ("W2", "W3"):
        await sent(wards, an_adt("A02", control_id="SAME", ward=ward))
    assert [event.get("referral", {}).get("hospital", {}).get("ward") for event in await events(engine, reference)] == [
        "W23",
        "W2",
        "W3",
    ]


async def test_a_message_concerns_every_referral_of_the_visit(wards: Wards, engine: AsyncEngine) -> None:
    references = [await referred(wards, referral_id=name, control_id=name) for name in ("A", "B")]
    other = await referred(
        wards, referral_id="C", control_id="C", nhs_number="9990000026", fields={"PV1-19": "V2^^^UHL"}
    )
    await sent(wards, an_adt("A03", fields={"PV1-45": "20261107"}))
    for reference in references:
        assert (await last(engine, reference))["referral"]["discharged_on"] == "2026-11-07"
    assert len(await events(engine, other)) == 1


async def test_another_partners_referral_is_never_found(wards: Wards, engine: AsyncEngine) -> None:
    await referred(wards)
    lpt = an_adt("A03").replace(b"UHL_EPR|RWE", b"LPT_PAS|RT5^BMHU")
    assert acknowledged(await sent(wards, lpt, "lpt")) == ("AA", "")
    assert len(await stored(engine)) == 1


async def test_a_trust_with_rri_and_its_site_in_the_header_is_answered_by_an_acknowledgement(
    wards: Wards, engine: AsyncEngine
) -> None:
    stay = segment("PV1", {2: "I", 3: "ASH^2", 44: "20261028"})
    person = "PID|||9990000018^^^^NHS~P77^^^LPT^PAS||Vance^Ada||19440229"
    answer = await sent(wards, an_lpt_message(PV1=stay, PID=person), "lpt")
    assert "|RRI^I12|" in answer
    discharge = an_adt("A03", PV1=f"{stay}|20261107", PID=person)
    discharge = discharge.replace(b"UHL_EPR|RWE", b"LPT_PAS|RT5^BMHU")
    answer = await sent(wards, discharge, "lpt-adt")
    assert "|ACK^A03" in answer
    assert acknowledged(answer) == ("AA", "")
    assert [verdict for verdict, _ in await stored(engine)] == ["received", "updated"]
    assert acknowledged(await sent(wards, discharge.replace(b"RT5^BMHU", b"RT5^OTHER"), "lpt-adt")) == ("AA", "")
    assert len(await stored(engine)) == 2


async def test_a_person_who_contradicts_the_referral_changes_nothing(wards: Wards, engine: AsyncEngine) -> None:
    reference = await referred(wards)
    await sent(wards, an_adt("A03", **ANOTHER))
    assert (await stored(engine))[-1] == ("contradicted", reference)
    event = await last(engine, reference)
    assert (event["version"], event["reason"]) == (2, "other-person")
    await sent(wards, an_adt("A02", ward="W9"))
    after = (await last(engine, reference))["referral"]
    assert (after["person"]["family_name"], after["hospital"]["ward"], after.get("discharged_on")) == (
        "Vance",
        "W9",
        None,
    )


async def test_a_cancelled_referral_is_not_found(wards: Wards, engine: AsyncEngine) -> None:
    await referred(wards)
    assert await rows(engine, "select 1 from intake.visit_key")
    await sent(wards, a_stay(trigger="I14", control_id="2", sent_at="20261106093000"))
    assert await rows(engine, "select 1 from intake.visit_key") == []
    await sent(wards, an_adt("A03", sent_at="20261107100000"))
    assert [verdict for verdict, _ in await stored(engine)] == ["received", "cancelled"]


async def test_cancelled_referrals_do_not_hide_one_of_the_same_visit(
    wards: Wards, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "VISIT_REFERRALS", 1)
    for name in ("A", "B"):
        await referred(wards, referral_id=name, control_id=name)
        await sent(wards, a_stay(trigger="I14", referral_id=name, control_id=f"{name}2", sent_at="20261106093000"))
    assert await rows(engine, "select * from intake.visit_key") == []
    reference = await referred(wards, referral_id="C", control_id="C")
    await sent(wards, an_adt("A03", sent_at="20261107100000", fields={"PV1-45": "20261107"}))
    assert (await last(engine, reference))["referral"]["discharged_on"] == "2026-11-07"


async def test_a_number_of_too_many_referrals_identifies_none(
    wards: Wards, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "VISIT_REFERRALS", 1)
    before = counted("A03", "ambiguous")
    for name in ("A", "B"):
        await referred(wards, referral_id=name, control_id=name)
    assert acknowledged(await sent(wards, an_adt("A03"))) == ("AA", "")
    assert len(await stored(engine)) == 2
    assert counted("A03", "ambiguous") == before + 1


async def test_a_referral_is_found_by_the_visit_that_it_says_last(wards: Wards, engine: AsyncEngine) -> None:
    reference = await referred(wards)
    update = {"trigger": "I13", "control_id": "2", "sent_at": "20261106093000"}
    await referred(wards, **update, fields={"PV1-19": "V2^^^UHL", "PV1-44": "20261103"})
    await sent(wards, an_adt("A03"))
    assert [verdict for verdict, _ in await stored(engine)] == ["received", "updated"]
    await sent(wards, an_adt("A03", visit="V2^^^UHL", fields={"PV1-45": "20261107"}))
    assert (await last(engine, reference))["referral"]["discharged_on"] == "2026-11-07"


async def test_a_referral_update_keeps_what_adt_said_later(wards: Wards, engine: AsyncEngine) -> None:
    reference = await referred(wards)
    await sent(wards, an_adt("A03", sent_at="20261107100000", fields={"PV1-45": "20261107"}))
    await referred(wards, trigger="I13", control_id="2", sent_at="20261106093000", fields={"PV1-3": "W5^^^LRI"})
    now = (await last(engine, reference))["referral"]
    assert (now["discharged_on"], now["hospital"]["ward"]) == ("2026-11-07", "W23")


async def test_adt_does_not_make_a_cancel_older_than_it_a_late_one(wards: Wards, engine: AsyncEngine) -> None:
    await referred(wards)
    await sent(wards, an_adt("A08", sent_at="20261107100000", ward="W5"))
    await sent(wards, a_stay(trigger="I14", control_id="2", sent_at="20261106093000"))
    assert (await stored(engine))[-1][0] == "cancelled"


# ---- under the lock -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "meanwhile", ["cancelled = true", "fields = null"], ids=["it was cancelled", "it is of another format"]
)
async def test_what_is_held_under_the_lock_decides_again(wards: Wards, engine: AsyncEngine, meanwhile: str) -> None:
    reference = await referred(wards)
    feed = await wards.connect("uhl-adt")
    async with engine.begin() as holder:
        await holder.exec_driver_sql("select 1 from intake.referral for update")
        await feed.write(framed(an_adt("A03")))
        await until_in_hand(engine)
        await holder.exec_driver_sql(f"update intake.referral set {meanwhile}")
    assert acknowledged(await feed.answer()) == ("AA", "")
    assert len(await stored(engine)) == 1
    assert len(await events(engine, reference)) == 1


async def test_a_visit_that_changes_between_lookup_and_lock_is_not_concerned(wards: Wards, engine: AsyncEngine) -> None:
    reference = await referred(wards)
    feed, referrals = await wards.connect("uhl-adt"), await wards.connect()
    update = a_stay(
        trigger="I13",
        control_id="2",
        sent_at="20261106093000",
        fields={"PV1-19": "V2^^^UHL", "PV1-44": "20261103"},
    )
    async with engine.begin() as holder:
        await holder.exec_driver_sql("select 1 from intake.referral for update")
        await referrals.write(framed(update))
        await until_in_hand(engine)
        await feed.write(framed(an_adt("A03")))
        async with asyncio.timeout(SECONDS):
            while not wards.batching._waiting:
                await asyncio.sleep(0.01)
    assert acknowledged(await referrals.answer())[0] == "AA"
    assert acknowledged(await feed.answer()) == ("AA", "")
    assert [verdict for verdict, _ in await stored(engine)] == ["received", "updated"]
    assert (await last(engine, reference))["referral"].get("discharged_on") is None


# ---- merge ----------------------------------------------------------------------------------------------------------


async def test_a_merge_is_proposed_for_each_referral_with_either_number(wards: Wards, engine: AsyncEngine) -> None:
    by_number = [
        await referred(
            wards,
            referral_id=number,
            control_id=number,
            nhs_number=nhs_number,
            PID=f"PID|||{number}^^^UHL^MRN~{nhs_number}^^^NHS^NHS||Vance^Ada||19440229",
        )
        for number, nhs_number in (("RWE1", "9990000018"), ("RWE2", "9990000026"), ("RWE3", "9990000034"))
    ]
    before = await rows(engine, "select person_key from intake.referral order by reference")
    await sent(wards, an_adt("A40", number="RWE1^^^UHL^MRN", more=["MRG|RWE2^^^UHL^MRN"]))
    told = [[event["ce_type"].split(".")[-2] for event in await events(engine, one)] for one in by_number]
    assert told == [["received", "merge-proposed"], ["received", "merge-proposed"], ["received"]]
    assert await rows(engine, "select person_key from intake.referral order by reference") == before


# ---- refusals, HTTP -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"MSH": "MSH|^~\\&|OTHER|X|||20261106||ADT^A08|1|P|2.5"},
        {"MSH": "MSH|^~\\&|UHL_EPR|RWE|||20261106||ADT^A08|1|T|2.5"},
    ],
)
async def test_a_refused_message_is_not_stored(wards: Wards, engine: AsyncEngine, changes: dict[str, Any]) -> None:
    before = counted("other", "refused")
    assert acknowledged(await sent(wards, an_adt(**changes)))[0] in ("AE", "AR")
    assert await stored(engine) == []
    assert counted("other", "refused") == before + 1


async def test_over_http_it_is_answered_alike(wards: Wards, engine: AsyncEngine) -> None:
    reference = await referred(wards)
    for message in (an_adt("A03", fields={"PV1-45": "20261107"}), an_adt("A03", **STRANGER)):
        reply = await wards.post("/hl7v2", message, "uhl", "application/hl7-v2")
        assert (reply.status, acknowledged(reply.body.decode())) == (200, ("AA", ""))
    reply = await wards.post("/hl7v2", an_adt(**STRANGER), "uhl", "application/hl7-v2", {"x_request_id": "no guid"})
    assert await stored(engine) == [("received", reference), ("updated", reference)]
