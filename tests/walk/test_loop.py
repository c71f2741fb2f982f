"""One referral the whole way round, and what must hold while it goes: on real parts, two processes of each service."""

import asyncio
import json
import re
import subprocess
import sys
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime
from typing import Any

import aiohttp
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from sqlalchemy import text

from infra.bench.messages import Message, messages
from infra.demo.hub import Client
from schemas.events import Event, ReferralReceived
from schemas.model import PersonKey, Reference
from schemas.referral import (
    Address,
    HospitalStay,
    HousingNeed,
    MessageIdentity,
    Organisation,
    Person,
    Referral,
    Referrer,
    Sender,
    Service,
)
from services.messaging import database
from services.messaging.cloudevents import headers_of, value_of
from tests.walk.conftest import HubAtWork, Walk

HUBS = ("charnwood", "harborough", "melton", "blaby", "triage", "hospital-housing", "hospital-housing-bradgate")
REFERENCE = re.compile(r"LB(?:-[0-9A-Z]{4}){3}")


@pytest.fixture
async def hub(walk: Walk) -> AsyncIterator[HubAtWork]:
    async with Client(walk.running.addresses["kafka"], HUBS) as client:
        yield HubAtWork(client)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as opened:
        yield opened


async def referred(walk: Walk, session: aiohttp.ClientSession, message: Message) -> str:
    """The reference of a referral that was accepted."""
    status, body = await walk.post(session, message)
    assert status == 200, body
    found = REFERENCE.search(body)
    assert found
    return found[0]


async def worked_to_the_end(hub: HubAtWork, reference: str) -> None:
    case = await hub.until(lambda h: h.case_of(reference))
    for step in ("accept", "start", "assess", "record", "complete"):
        before = case.version
        await hub.does(case, step)
        await hub.until(lambda _, before=before: case.version > before)


async def test_the_practice_hears_what_the_hub_did(
    walk: Walk, session: aiohttp.ClientSession, hub: HubAtWork, a_message: Callable[[], Message]
) -> None:
    message = a_message()
    reference = await referred(walk, session, message)
    await worked_to_the_end(hub, reference)
    said = await walk.hears(message.correlation_id, "completed")
    assert [line["told"] for line in said] == ["home-hub", "accepted", "assessed", "completed"]
    assert {line["reference"] for line in said} == {reference}
    assert said[-1]["done"]
    assert len({line["bundle_id"] for line in said}) == 4


async def test_a_command_decided_on_what_is_out_of_date_is_refused_to_its_hub_only(
    walk: Walk, session: aiohttp.ClientSession, hub: HubAtWork, a_message: Callable[[], Message]
) -> None:
    message = a_message()
    reference = await referred(walk, session, message)
    case = await hub.until(lambda h: h.case_of(reference))
    await hub.does(case, "accept", decided_on=case.version + 7)
    [refusal] = await hub.until(lambda h: [one for one in h.refusals if one["case_id"] == case.id])
    assert refusal["explanation"]
    assert [line["told"] for line in walk.heard(message.correlation_id)] in ([], ["home-hub"])


async def test_trace_and_status_show_the_path_and_name_nobody(
    walk: Walk, session: aiohttp.ClientSession, hub: HubAtWork, a_message: Callable[[], Message]
) -> None:
    message = a_message()
    reference = await referred(walk, session, message)
    await worked_to_the_end(hub, reference)
    await walk.hears(message.correlation_id, "completed")

    def lightbulb(*words: str) -> subprocess.CompletedProcess[str]:
        given = [*words, "--data", str(walk.running.plan.data)]
        return subprocess.run([sys.executable, "-m", "infra", *given], capture_output=True, text=True, timeout=60)

    traced = await asyncio.to_thread(lightbulb, "trace", reference, "--json")
    steps = [step["what"] for step in json.loads(traced.stdout)]
    for what in ("received, version 1", "case.opened", "case.assigned", "case.accepted", "case.completed"):
        assert any(what in step for step in steps), what
    assert any(step.startswith("completed to gp-alder-lane") for step in steps)
    status = json.loads((await asyncio.to_thread(lightbulb, "status", "--json")).stdout)
    assert status["router"]["cases ended"] >= 1
    unknown = await asyncio.to_thread(lightbulb, "trace", "LB-0000-0000-0000")
    assert (unknown.returncode, "is known here" in unknown.stderr) == (1, True)
    assert not people_of([message], traced.stdout + str(status))


# ---- disclosure -------------------------------------------------------------------------------------------------------


async def person_key_of(walk: Walk, reference: str) -> str:
    engine = database.connect(walk.running.addresses["postgres"], pool=1)
    async with engine.connect() as connection:
        found = await connection.scalar(
            text("select person_key from intake.referral where reference = :reference"), {"reference": reference}
        )
    await engine.dispose()
    return str(found)


def a_wards_referral(message: Message) -> Referral:
    """What the Bradgate Unit would send about the same person: HL7 intake comes with a later issue, its event is this one."""
    patient = resource(message, "Patient")
    name = patient["name"][0]
    return Referral(
        message=MessageIdentity(format="hl7v2", message_id="ward-1", referral_id=f"ward-{uuid.uuid4()}"),
        sent_by=Sender(
            partner="lpt", organisation=Organisation(ods="RT5", name="Leicestershire Partnership NHS Trust")
        ),
        referred_by=Referrer(kind="hospital-team", organisation=Organisation(ods="RT5"), name="Ward Canaryward"),
        person=Person(
            nhs_number=nhs_number(message),
            nhs_number_status="01",
            family_name=name["family"],
            given_names=tuple(name["given"]),
            birth_date=patient["birthDate"],
            address=Address(postcode=patient["address"][0]["postalCode"]),
        ),
        needs=(HousingNeed(service=Service.ARREARS_BENEFITS),),
        hospital=HospitalStay(site="Bradgate Unit", ward="Canaryward", admitted_on=date(2026, 11, 1)),
        referred_on=date(2026, 11, 2),
    )


def resource(message: Message, kind: str) -> dict[str, Any]:
    entries = json.loads(message.body)["entry"]
    return next(entry["resource"] for entry in entries if entry["resource"]["resourceType"] == kind)


def nhs_number(message: Message) -> str:
    found = re.search(rb"\b999\d{7}\b", message.body)
    assert found
    return found[0].decode()


async def a_ward_refers(walk: Walk, message: Message, key: str) -> str:
    reference = Reference(f"LB-WARD-{uuid.uuid4().hex[:4].upper()}-{uuid.uuid4().hex[:4].upper()}")
    event = Event(
        id=str(uuid.uuid4()),
        source="/lightbulb/intake",
        time=datetime.now(UTC),
        person_key=PersonKey(key),
        correlation_id=str(uuid.uuid4()),
        data=ReferralReceived(reference=reference, version=1, referral=a_wards_referral(message)),
    )
    producer = AIOKafkaProducer(bootstrap_servers=walk.running.addresses["kafka"])
    await producer.start()
    headers = [(name, value.encode()) for name, value in headers_of(event).items()]
    await producer.send_and_wait("referral.event", value_of(event), key=key.encode(), headers=headers)
    await producer.stop()
    return reference


def without_ids(said: list[dict[str, Any]]) -> list[dict[str, Any]]:
    ids = ("at", "request_id", "correlation_id", "bundle_id", "answers", "reference", "attempts")
    return [{name: value for name, value in line.items() if name not in ids} for line in said]


async def test_nothing_that_the_practice_hears_differs_because_of_a_ward(
    walk: Walk, session: aiohttp.ClientSession, hub: HubAtWork, a_message: Callable[[], Message]
) -> None:
    alone, with_ward = a_message(), a_message()
    first = await referred(walk, session, alone)
    second = await referred(walk, session, with_ward)
    await walk.hears(alone.correlation_id, "home-hub")
    await walk.hears(with_ward.correlation_id, "home-hub")
    ward = await a_ward_refers(walk, with_ward, await person_key_of(walk, second))
    case = await hub.until(lambda h: h.case_of(ward))
    assert case.hub == "hospital-housing-bradgate"
    await hub.does(case, "accept")
    await hub.until(lambda _: case.position["status"] == "accepted")
    await asyncio.sleep(2)
    assert without_ids(walk.heard(with_ward.correlation_id)) == without_ids(walk.heard(alone.correlation_id))
    community = await hub.until(
        lambda h: next((c for c in h.cases.values() if c.id == case.id and c.hub != case.hub), None)
    )
    assert (community.role, community.position["holder"]) == ("follow-on", "elsewhere")
    assert "Canaryward" not in json.dumps(community.referrals)
    assert [one["reference"] for one in community.referrals] == [second]
    assert first != second


# ---- kills ------------------------------------------------------------------------------------------------------------


async def persistently(walk: Walk, session: aiohttp.ClientSession, message: Message) -> str:
    """As a sender does: the same message again until it is answered; a duplicate names the reference."""
    async with asyncio.timeout(90):
        while True:
            try:
                status, body = await walk.post(session, message)
            except aiohttp.ClientError:
                await asyncio.sleep(0.2)
                continue
            if status in (200, 409):
                found = REFERENCE.search(body)
                assert found, body
                return found[0]
            await asyncio.sleep(0.2)


async def test_services_killed_under_load_lose_nothing_and_repeat_nothing(
    walk: Walk, session: aiohttp.ClientSession, hub: HubAtWork
) -> None:
    sent = list(messages(120, f"kills {uuid.uuid4()}"))
    posting = asyncio.gather(*(_in_turn(walk, session, sent[at::8]) for at in range(8)))
    for name in ("router-1", "notifier-1", "intake-1", "router-2", "notifier-2", "intake-2"):
        await asyncio.sleep(0.7)
        if child := walk.running.supervisor.children.get(name):
            child.kill()
    references = [reference for part in await posting for reference in part]
    assert len(set(references)) == len(sent)
    for message in sent:
        await walk.hears(message.correlation_id, "home-hub", 120)
    for message in sent:
        said = [line["told"] for line in walk.heard(message.correlation_id) if not line.get("repeat")]
        assert said == ["home-hub"]
    await everything_is_numbered_without_gap(walk)
    await one_case_each(walk, references)


async def _in_turn(walk: Walk, session: aiohttp.ClientSession, some: list[Message]) -> list[str]:
    return [await persistently(walk, session, message) for message in some]


async def one_case_each(walk: Walk, references: list[str]) -> None:
    engine = database.connect(walk.running.addresses["postgres"], pool=1)
    async with engine.connect() as connection:
        rows = await connection.execute(
            text("select reference, case_id from router.referral where reference = any(cast(:all as text[]))"),
            {"all": references},
        )
        cases = dict(tuple(row) for row in rows)
    await engine.dispose()
    assert len(cases) == len(set(cases.values())) == len(references)


async def everything_is_numbered_without_gap(walk: Walk) -> None:
    """First occurrences of each key's sequence on case.event are 1..n in order, whatever was repeated."""
    sequences: dict[str, list[int]] = defaultdict(list)
    for record in await everything_on(walk, "case.event"):
        number = int(dict(record.headers)["ce_sequence"])
        if number not in sequences[record.key]:
            sequences[record.key].append(number)
    assert sequences
    assert all(seen == list(range(1, len(seen) + 1)) for seen in sequences.values())


async def everything_on(walk: Walk, topic: str) -> list[Any]:
    consumer = AIOKafkaConsumer(bootstrap_servers=walk.running.addresses["kafka"])
    await consumer.start()
    try:
        await consumer._client.force_metadata_update()
        numbers = consumer._client.cluster.partitions_for_topic(topic) or set(
            range(12 if topic.endswith(".event") else 3)
        )
        partitions = [TopicPartition(topic, number) for number in numbers]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        total = sum((await consumer.end_offsets(partitions)).values())
        records: list[Any] = []
        while len(records) < total:
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                records += batch
        return records
    finally:
        await consumer.stop()


# ---- personal data ----------------------------------------------------------------------------------------------------


def people_of(sent: list[Message], written: str) -> list[str]:
    """Whatever of these people's data stands in what was written."""
    data: set[str] = set()
    for message in sent:
        patient = resource(message, "Patient")
        name = patient["name"][0]
        data |= {name["family"], *name["given"], nhs_number(message), patient["birthDate"]}
        data |= {patient["address"][0]["postalCode"], *patient["address"][0]["line"]}
    return sorted(one for one in data if one in written)


async def test_no_log_header_key_or_error_holds_personal_data_even_at_debug(
    walk: Walk, session: aiohttp.ClientSession, hub: HubAtWork, a_message: Callable[[], Message]
) -> None:
    """Last of the file on purpose: it searches what all the walks before it wrote."""
    good, broken, conflicting, stale = a_message(), a_message(), a_message(), a_message()
    reference = await referred(walk, session, good)
    changed = good.body.replace(b'"routine"', b'"urgent"')
    answers = [
        await walk.post(session, Message(good.request_id, good.correlation_id, changed)),
        await walk.post(
            session,
            Message(
                broken.request_id,
                broken.correlation_id,
                broken.body.replace(b'"male"', b'"x"').replace(b'"female"', b'"x"'),
            ),
        ),
        await walk.post(session, Message(conflicting.request_id, conflicting.correlation_id, conflicting.body[:-200])),
        await walk.post(
            session,
            Message(
                stale.request_id,
                stale.correlation_id,
                stale.body.replace(b'"status":"active","intent"', b'"status":"revoked","intent"'),
            ),
        ),
    ]
    assert [status for status, _ in answers] == [409, 400, 400, 404]
    await worked_to_the_end(hub, reference)
    await walk.hears(good.correlation_id, "completed")
    sent = [good, broken, conflicting, stale]
    assert not people_of(sent, "".join(body for _, body in answers))
    assert not people_of(sent, walk.logs())
    for topic in ("referral.event", "case.event", "feedback.event", *(f"hub.{hub}.case" for hub in HUBS)):
        envelopes = "".join(f"{record.key} {record.headers}" for record in await everything_on(walk, topic))
        assert not people_of(sent, envelopes), topic
