"""The work whose statements are explained: each service's own code, in this process, on a database and without Kafka."""

import itertools
import json
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from aiokafka import TopicPartition
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette

from infra.database import roles
from infra.operations import not_applied
from schemas import events
from schemas.case import Ended
from schemas.model import Reference
from schemas.referral import Referral
from services.intake import store as intake_store
from services.messaging import dead_letter_share, packets
from services.messaging.cloudevents import KafkaRecord
from services.messaging.packets import Message, Place
from services.messaging.relay import Relay, Waiting
from services.notifier import backlog, circuits, leases
from services.notifier import store as notifier_store
from services.notifier.channels import Conversation, Delivered, DeliveryRequest, Failed, Outcome, Retry
from services.notifier.channels.mailbox import Mailbox
from services.notifier.circuits import Endpoint, Sighting
from services.notifier.consumer import CaseEventConsumer, FeedbackComposer
from services.notifier.delivery import EACH, Deliverer
from services.notifier.leases import Attempt, Lease
from services.notifier.read_api import application
from services.reference import partners
from services.router import backlog as router_backlog
from services.router import directory_versions
from services.router.consumer import Batches
from services.router.decide import lifecycle
from services.router.decide.lifecycle import CaseDecision
from services.router.overdue import OverdueDischarges
from services.runtime import database, health, positions, startup
from services.runtime.backlog import BacklogMonitor
from services.runtime.database import SERVICE_ROLES
from services.runtime.positions import Gap
from services.runtime.settings import Settings
from tests.builders.bars import a_bars_message
from tests.builders.csv import a_file
from tests.builders.events import NOW, TODAY, a_command, a_record, broken, cancelled, received, updated
from tests.builders.forms import a_form
from tests.builders.hl7v2 import a_stay, an_adt
from tests.builders.reference_data import DIRECTORY, FOLDER
from tests.builders.referrals import a_person, a_referral, a_ward_referral
from tests.intake.council_client import upload
from tests.intake.running import InProcess, Installation, _asgi, install
from tests.notifier.builders import the_partners, the_recipients, the_words

HOT, FILLER = "b0" * 16, "f1" * 16
"""A person with many referrals on one open case; a person key with many persons of one referral each."""

SLOW, LONG, REFUSING = "slow", "long", "hub.refuses.case"
"""A recipient for which much feedback is due, one that got much about one referral, and a topic for which many events wait."""

PARKED, PARKED_REFERENCE = "dd" * 16, Reference("LB-DDDD-DDDD-DDDD")
"""A person key with many dead letters of one group; the group in the router."""

DEAD = "de" * 16
"""A person with a reported death and many overdue discharges."""

TEMPLATE = "01" * 16
"""The person whose rows are copied for every other one."""


@dataclass
class Services:
    """The engines of the services' roles and of commands, and what runs on them. `owner`: an engine that is not explained."""

    engines: dict[str, AsyncEngine]
    commands: AsyncEngine
    owner: AsyncEngine
    intake: InProcess
    batches: Batches
    receiver: CaseEventConsumer
    deliverer: Deliverer
    feedback: Starlette
    installation: Installation


@asynccontextmanager
async def services(url: str, folder: Path, watch: Callable[[AsyncEngine], AsyncEngine]) -> AsyncIterator[Services]:
    """Yield the services on this database; `watch` is given each engine."""
    engines = {name: watch(database.connect(roles.url_of(url, name))) for name in SERVICE_ROLES}
    commands, owner = watch(database.connect(url)), database.connect(url, timeout=None)
    installation = install(url, folder)
    recipients, words, channel = the_recipients(), the_words(), Mailbox()
    composer = FeedbackComposer(recipients, words, {"fhir": channel, "mailbox": channel, "mesh": channel})
    known = the_partners(tokens={"gp-castle-view": "a token"})
    async with InProcess(installation, engines["intake"]) as intake:
        yield Services(
            engines,
            commands,
            owner,
            intake,
            Batches(engines["router"], DIRECTORY, clock=lambda: NOW),
            CaseEventConsumer(engines["notifier"], composer),
            Deliverer(engines["notifier"], composer.channels, words),
            application(engines["notifier"], known, health.routes(engines["notifier"], "notifier")),
            installation,
        )
    for engine in (*engines.values(), commands, owner):
        await engine.dispose()


def a_reference() -> Reference:
    """Return a reference that no other row has."""
    words = uuid4().hex[:12].upper()
    return Reference(f"LB-{words[:4]}-{words[4:8]}-{words[8:]}")


# ---- intake ---------------------------------------------------------------------------------------------------------


async def messages_of_a_practice(on: Services) -> None:
    intake, ids = on.intake, {"x_request_id": str(uuid4())}
    name = uuid4().hex
    new = a_bars_message(referral_id=name)
    first = await intake.bars(new, **ids)
    assert first.status == 200, first.body
    assert (await intake.bars(new, **ids)).status == 409
    assert (
        await intake.bars(a_bars_message(referral_id=name, reason="update", sent_at="2026-11-06T09:30:00+00:00"))
    ).status == 200
    assert (
        await intake.bars(
            a_bars_message(referral_id=name, reason="update", status="revoked", sent_at="2026-11-07T09:30:00+00:00")
        )
    ).status == 200
    assert (await intake.bars(a_bars_message(referral_id=uuid4().hex, reason="update", status="revoked"))).status >= 400
    url = f"urn:uuid:{uuid4()}"
    for family in ("One", "Another"):
        assert (await intake.bars(_under_a_full_url(url, family), x_request_id=str(uuid4()))).status == 200
    reference = await _one(on, "select reference from intake.referral order by last_at desc limit 1")
    await intake.call("GET", f"/fhir/ServiceRequest/{reference}", b"", "gp-alder-lane", _IDS)


def _under_a_full_url(url: str, family: str) -> dict[str, Any]:
    """Return a new referral that has no other name than its fullUrl."""
    message = a_bars_message(family=family)
    entry = next(one for one in message["entry"] if one["resource"]["resourceType"] == "ServiceRequest")
    del entry["resource"]["id"]
    entry["fullUrl"] = url
    message["entry"][0]["resource"]["focus"] = [{"reference": url}]
    return message


_IDS = {
    "x-request-id": "5b0b1a3e-64b5-4b1e-9b53-9c2f1d0c7c11",
    "x-correlation-id": "5b0b1a3e-64b5-4b1e-9b53-9c2f1d0c7c12",
}


async def messages_of_a_hospital(on: Services) -> None:
    visit, number = f"V{uuid4().hex[:8]}^^^UHL", f"RWE{uuid4().hex[:8]}^^^UHL^MRN"
    stay = a_stay(referral_id=uuid4().hex[:12], fields={"PV1-19": visit})
    for message in (stay, an_adt(visit=visit, number=number), an_adt("A03", visit=visit, number=number)):
        reply = await on.intake.post("/hl7v2", message, "uhl", "application/hl7-v2")
        assert reply.status == 200, reply.body


async def a_form_with_a_letter(on: Services) -> None:
    letter = {"title": "Letter", "media_type": "text/plain", "content": "TGV0dGVy"}
    reply = await on.intake.form(a_form(attachments=[letter]))
    assert reply.status == 202, reply.body
    reference = await _one(on, "select reference from intake.attachment order by received_at desc limit 1")
    assert (await on.intake.get(f"/attachments/{reference}", "hub-blaby")).status == 200


async def a_councils_file(on: Services) -> None:
    assert (await upload(on.intake, "blaby", a_file("blaby"), query="?dry-run=true")).status == 200
    assert (await upload(on.intake, "blaby", a_file("blaby"))).status == 200


async def start_of_intake(on: Services) -> None:
    await intake_store.check_secret(on.engines["intake"], b"the secret of the plans, 32 bytes and more")


# ---- router ---------------------------------------------------------------------------------------------------------


async def life_of_a_person(on: Services) -> None:
    key, first, second = uuid4().hex, a_reference(), a_reference()
    await _decide(on, a_record(received(first, a_referral()), key=key))
    stay, changed = received(second, a_ward_referral()), updated(first, a_referral(priority="urgent"))
    await _decide(on, a_record(stay, key=key), a_record(changed, key=key))
    for hub, command in (
        ("hospital-housing", events.Accept),
        ("hospital-housing", events.ReportDeath),
        ("hospital-housing", events.WithdrawDeathReport),
    ):
        await _command(on, hub, command, key)
    await _decide(on, a_record(cancelled(second), key=key))
    await _command(on, "blaby", events.Accept, key)
    await _command(on, "blaby", events.Complete, key, ended=(Ended(reference=first, needs=("minor-adaptations",)),))
    await _decide(on, a_command("blaby", events.Start, "unknown", key=key))


async def a_command_on_many_referrals(on: Services) -> None:
    key = uuid4().hex
    await _decide(on, *(a_record(received(a_reference(), a_referral()), key=key) for _ in range(60)))
    await _command(on, "blaby", events.Accept, key)


async def _command(on: Services, hub: str, command: type[events.Command], key: str, **said: object) -> None:
    """Decide on a command of a hub that has read every event of the person's only case."""
    sent = [one for one in await _messages(on, key) if one.target == f"hub.{hub}.case"]
    version = max(json.loads(one.value).get("hub_version", 0) for one in sent)
    case = await _one(on, f"select case_id from router.\"case\" where person_key = '{key}' limit 1")
    await _decide(on, a_command(hub, command, case, key=key, expected_version=version, **said))


async def a_decision_that_fails(on: Services) -> None:
    apply, lifecycle.apply = lifecycle.apply, _fails
    try:
        await _decide(on, a_record(received(a_reference(), a_referral()), key=uuid4().hex))
    finally:
        lifecycle.apply = apply


def _fails(*_: object) -> CaseDecision:
    raise ZeroDivisionError


async def a_pause_of_a_topic(on: Services) -> None:
    await dead_letter_share.mark_paused(on.engines["router"], "router", [f"hub.{uuid4().hex}.command"])


async def a_case_of_many_referrals(on: Services) -> None:
    new = a_reference()
    await _decide(on, a_record(received(new, a_referral()), key=HOT))
    await _decide(on, a_record(updated(new, a_referral(priority="urgent")), key=HOT))
    await _decide(on, a_record(cancelled(new), key=HOT))


async def a_number_of_many_persons(on: Services) -> None:
    new = a_reference()
    person = a_person(family_name=f"Family {new[3:7]}", nhs_number_status="02")
    await _decide(on, a_record(received(new, a_referral(person=person)), key=FILLER))
    await _decide(on, a_record(cancelled(new), key=FILLER))


async def a_redelivery(on: Services) -> None:
    record = a_record(received(a_reference(), a_referral()), key=uuid4().hex)
    await _decide(on, record)
    await _decide(on, record)


async def dead_letters_of_the_router(on: Services) -> None:
    reference, key = a_reference(), uuid4().hex
    unreadable = broken(a_record(received(reference, a_referral()), key=key), b"{}")
    await _decide(on, unreadable, a_record(received(reference, a_referral()), key=key))
    await _decide(on, a_record(received(PARKED_REFERENCE, a_referral()), key=PARKED))
    await _decide(on, broken(a_record(received(reference, a_referral()), key="nobody"), b"not JSON"))
    await on.batches._refuse(a_record(received(reference, a_referral(), version=3), key=key), "decision: of a test")
    await on.batches.release()
    await _resubmit(on, "router", key)
    await on.batches.release()


async def overdue_discharges(on: Services) -> None:
    await _decide(on, a_record(received(a_reference(), _stay()), key=uuid4().hex))
    await OverdueDischarges(on.engines["router"], seconds=1, clock=lambda: NOW).publish_due()


async def a_death_of_many_stays(on: Services) -> None:
    await _command(on, "hospital-housing", events.ReportDeath, DEAD)


async def start_of_the_router(on: Services) -> None:
    await directory_versions.store_directory(on.engines["router"], FOLDER, DIRECTORY.version)
    async with on.engines["router"].connect() as tx:
        await directory_versions.stored_directories(tx)


# ---- notifier -------------------------------------------------------------------------------------------------------


async def events_of_a_person(on: Services) -> None:
    key, reference = uuid4().hex, a_reference()
    await _decide(on, a_record(received(reference, a_referral()), key=key))
    await on.receiver.receive(await case_events(on, key))
    headers = {"authorization": "Bearer a token"}
    await _asgi(on.feedback, "GET", f"/referrals/{reference}/feedback", b"", headers)


async def case_events(on: Services, key: str) -> list[KafkaRecord]:
    """Return the records of case.event that the router wrote for a person key."""
    async with on.owner.connect() as tx:
        rows = await tx.execute(
            text("select packet, place from router.case_event where person_key = :key order by sequence"), {"key": key}
        )
        places = [(key, Place(*row)) for row in rows]
        found = await packets.messages(tx, "router", places)
    return [
        KafkaRecord("case.event", 0, number, key.encode(), found[place].value, found[place].headers)
        for number, place in enumerate(places)
    ]


async def _messages(on: Services, key: str) -> list[Message]:
    """Return the messages about a person in the latest packets that have any of its events."""
    async with on.owner.connect() as tx:
        rows = await tx.scalars(
            text("select packet from router.case_event where person_key = :key order by sequence desc limit 20"),
            {"key": key},
        )
        read = await packets.read(tx, "router", [(packets.shard_of(key), packet) for packet in rows])
    return [one for packet in read.values() for one in packet.messages if one.person_key == key]


async def deliveries(on: Services) -> None:
    for _ in range(3):
        await events_of_a_person(on)
    for busy in (EACH, 0):
        on.deliverer._by_recipient[SLOW] = busy
        await _deliver(on, 1, Retry("http 503"))
        await _deliver(on, EACH - 1, Delivered(), Failed("http 400"))
    await _deliver(on, 1, Retry("http 503"))
    async with on.owner.begin() as tx:
        await tx.execute(text("update notifier.endpoint set opened_at = now(), next_attempt_at = now()"))
    await _deliver(on, 2, Delivered())
    async with on.engines["notifier"].begin() as tx:
        await circuits.record(tx, [Sighting(Endpoint("fhir", SLOW), "LB-1", is_trial=False)])
    async with on.owner.begin() as tx:
        await tx.execute(text("delete from notifier.endpoint"))


async def _deliver(on: Services, limit: int, *outcomes: Outcome) -> None:
    acquired = (await on.deliverer._acquire_leases(limit)).leases
    now = datetime.now(UTC)
    pairs = zip(acquired, itertools.cycle(outcomes), strict=False)
    await on.deliverer._mark([Attempt(lease, outcome, now, now, 3600.0) for lease, outcome in pairs])


async def feedback_that_is_given_up(on: Services) -> None:
    async with on.engines["notifier"].begin() as tx:
        await leases.give_up(tx, seconds=3600, limit=8)


async def start_of_the_notifier(on: Services) -> None:
    async with on.engines["notifier"].begin() as tx:
        await circuits.replace_unaddressed(tx, partners.unaddressed(the_partners({}), mesh=False))


async def checks_at_start(on: Services) -> None:
    for engine in on.engines.values():
        async with engine.connect() as one, engine.connect() as other:
            await startup._check_settings(one, {})
            await startup._check_settings(one, {"application_name": "lightbulb"})
            await startup._check_sessions(one, other)


async def feedback_with_a_known_outcome(on: Services) -> None:
    async with on.owner.begin() as tx:
        told = await tx.execute(
            text(f"""
                insert into notifier.known_outcome (person_key, feedback_id, outcome, at)
                select person_key, feedback_id, 'accepted', now() from notifier.feedback
                where recipient = '{LONG}' and state = 'waiting' returning person_key, feedback_id""")
        )
        rows = [(row.person_key, str(row.feedback_id)) for row in told]
        next_one = f"select ordinal from notifier.feedback where recipient = '{LONG}' and state = 'waiting'"
        await tx.execute(text(f"update notifier.conversation set next = ({next_one}) where recipient = '{LONG}'"))
    async with on.engines["notifier"].connect() as tx:
        assert await notifier_store.apply_known_outcomes(tx, rows)
        await tx.rollback()
    async with on.owner.begin() as tx:
        await tx.execute(text("delete from notifier.known_outcome"))


async def a_feedback_after_many(on: Services) -> None:
    async with on.owner.connect() as tx:
        row = (
            await tx.execute(text(f"select * from notifier.feedback where recipient = '{LONG}' and state = 'waiting'"))
        ).one()
    async with on.engines["notifier"].begin() as tx:
        of = Conversation(row.person_key, row.reference, row.recipient, row.channel)
        request = DeliveryRequest(str(row.feedback_id), row.reference, "c", row.recipient, b"", {}, 1)
        lease = Lease(of, uuid4(), request, row.caused_by, follows_failure=True, ordinal=row.ordinal)
        feedback, _ = await leases.since_accepted(tx, lease)
        await leases.rewrite(tx, lease, feedback, Mailbox().render(feedback))


async def dead_letters_of_the_notifier(on: Services) -> None:
    key, reference = uuid4().hex, a_reference()
    await _decide(on, *_received_and_updated(key, reference))
    record, *rest = await case_events(on, key)
    unreadable = broken(record, record.value.replace(b'"case_id"', b'"no_case_id"'))
    await on.receiver.receive([unreadable, *rest])
    await on.receiver.receive(await case_events(on, PARKED))
    await on.receiver._refuse(broken(record, b"{}"), "compose: of a test")
    await on.receiver.release()
    await _resubmit(on, "notifier", key)
    await on.receiver.release()


# ---- all ------------------------------------------------------------------------------------------------------------


class _Publishing(Relay):
    """A relay whose Kafka acknowledges all, or nothing."""

    acknowledges = True

    async def _publish(self, messages: Sequence[Waiting]) -> set[Waiting]:
        return set(messages) if self.acknowledges else set()


async def rounds_of_the_relays(on: Services) -> None:
    for schema, engine in on.engines.items():
        relay = _Publishing(engine, schema, "127.0.0.1:1")
        relay._paused[REFUSING] = math.inf
        for relay.acknowledges in (False, True):
            await relay._round()


async def looks(on: Services) -> None:
    for schema, engine in on.engines.items():
        monitor = BacklogMonitor(
            Settings(database="postgresql+asyncpg://unused", kafka="unused", secret_file=Path("/dev/null")),
            schema,
            group=None if schema == "intake" else schema,
            topics=["referral.event"],
            query={"router": router_backlog.measure, "notifier": backlog.measure}.get(schema),
            quarantine=schema != "intake",
        )
        monitor._engine = engine
        await monitor._rows()
        if schema != "intake":
            await _passes_over_records(engine, schema)
        await _asgi(Starlette(routes=health.routes(engine, schema)), "GET", "/health/ready", b"", {})


async def comparisons(on: Services) -> None:
    for hop in not_applied.HOPS:
        found = await not_applied.oldest(on.commands, hop)
        assert found.subject, hop
        await not_applied.note(on.commands, hop, {0: 0})


async def _passes_over_records(engine: AsyncEngine, schema: str) -> None:
    """Store positions, and gaps of both kinds."""
    place = TopicPartition("referral.event", 0)
    await positions.save(engine, schema, {place: 9}, [Gap(place, 4, 7), Gap(place, 9, 0)])


async def templates(on: Services) -> None:
    """Write the rows that are copied."""
    await a_councils_file(on)
    for key in (HOT, FILLER, DEAD, TEMPLATE):
        await _decide(on, a_record(received(a_reference(), _stay() if key == DEAD else a_referral()), key=key))
    await _decide(on, *_received_and_updated(PARKED, a_reference()))
    await a_death_of_many_stays(on)
    await OverdueDischarges(on.engines["router"], seconds=1, clock=lambda: NOW).publish_due()
    good = a_record(received(PARKED_REFERENCE, a_referral()), key=PARKED)
    await _decide(on, broken(good, good.value.replace(b'"version":1', b'"version":"x"')), good)
    first, *rest = await case_events(on, PARKED)
    await on.receiver.receive([broken(first, first.value.replace(b'"case_id"', b'"no_case_id"')), *rest])
    for recipient in (SLOW, LONG):
        key = uuid4().hex
        await _decide(on, a_record(received(a_reference(), a_referral()), key=key))
        await on.receiver.receive((await case_events(on, key))[:2])
        async with on.owner.begin() as tx:
            for table in ("conversation", "feedback"):
                await tx.execute(
                    text(f"update notifier.{table} set recipient = '{recipient}' where person_key = '{key}'")
                )
    async with on.owner.begin() as tx:
        await tx.execute(
            text(f"update notifier.feedback set ordinal = 1000000 where recipient = '{LONG}' and state = 'waiting'")
        )
    await on.receiver.receive(await case_events(on, TEMPLATE))
    await messages_of_a_practice(on)
    await messages_of_a_hospital(on)
    async with on.owner.begin() as tx:
        # copies of the feedback have other keys, so that their packet is looked for in any shard
        await tx.execute(text(_IN_EVERY_SHARD))
        for schema in on.engines:
            await tx.execute(text(_HELD.format(schema=schema)))


_IN_EVERY_SHARD = f"""
    insert into notifier.packet (shard, messages, id, targets, content, published_at) overriding system value
    select other, messages, id, targets, content, now() from notifier.packet cross join generate_series(0, 7) as other
    where id in (select packet from notifier.feedback where recipient = '{SLOW}')
    on conflict do nothing"""

_HELD = f"""
    insert into {{schema}}.packet_held (shard, target, id, places)
    select shard, '{REFUSING}', id, '{{{{0}}}}' from {{schema}}.packet order by id limit 1"""


def _received_and_updated(key: str, reference: Reference) -> list[KafkaRecord]:
    """Return the messages of a referral that has two events."""
    changed = updated(reference, a_referral(priority="urgent"))
    return [a_record(received(reference, a_referral()), key=key), a_record(changed, key=key)]


def _stay() -> Referral:
    return a_ward_referral(expected_discharge_on=TODAY.replace(day=1))


WORK = (
    start_of_intake, messages_of_a_practice, messages_of_a_hospital, a_form_with_a_letter, a_councils_file,
    start_of_the_router, life_of_a_person, a_command_on_many_referrals, a_decision_that_fails, a_pause_of_a_topic,
    a_case_of_many_referrals, a_number_of_many_persons, a_redelivery,
    dead_letters_of_the_router, overdue_discharges, a_death_of_many_stays,
    checks_at_start, start_of_the_notifier, events_of_a_person, deliveries, feedback_that_is_given_up, a_feedback_after_many,
    feedback_with_a_known_outcome, dead_letters_of_the_notifier, rounds_of_the_relays, looks, comparisons,
)  # fmt: skip


async def _decide(on: Services, *records: KafkaRecord) -> None:
    await on.batches.receive(records)


async def _one(on: Services, query: str) -> str:
    async with on.owner.connect() as tx:
        return str(await tx.scalar(text(query)))


async def _resubmit(on: Services, service: str, key: str) -> None:
    async with on.owner.begin() as tx:
        statement = f"update {service}.dead_letter set resubmit_at = now() where person_key = :key and not waiting"
        await tx.execute(text(statement), {"key": key})
