"""Makes what so many referrals make of the router and the notifier, replays both, and proves that the result equals what stands.

    make replay-proof ARGS="--count 20000"

The services' own batches apply the inputs, two at a time as two processes would: referrals, updates, second referrals of a person,
cancels and commands, repeats, and a directory and words that change half-way. PostgreSQL alone is needed. Exit code 1 where a key differs.
"""

import argparse
import asyncio
import hashlib
import itertools
import json
import shutil
import tempfile
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop
import yaml
from rich.console import Console
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.messages import messages
from infra.database import postcodes
from infra.database.migrations import migrate
from infra.local.embedded import providers
from infra.operations import replay_notifier, replay_router
from infra.operations.replay import Proof
from schemas.events import Accept, Event, EventData, ReferralCancelled, ReferralReceived, ReferralUpdated
from schemas.model import PersonKey, Reference
from schemas.referral import Referral
from schemas.topics import CASE_EVENT, REFERRAL_EVENT, hub_command
from services.intake.translators import bars_fhir
from services.intake.translators.translator import InboundMessage, Translated
from services.messaging.broker import BATCH
from services.messaging.cloudevents import KafkaRecord, headers_of, value_of
from services.notifier import template_versions as template_versions
from services.notifier.composer import FeedbackComposer
from services.notifier.consumer import CaseEventConsumer
from services.notifier.template_versions import Source
from services.reference import directory as directories
from services.reference import partners
from services.router import directory_versions
from services.router.consumer import Batches
from services.router.decide.transition import case_id_of
from services.runtime import database
from services.runtime.settings import CHECKOUT, Settings

DIRECTORY = CHECKOUT / "infra" / "reference_data"
PRACTICE = "gp-alder-lane"
console = Console(width=120)


class Inputs:
    """The records of `count` persons, in rounds: in a round each person has at most one."""

    def __init__(self, count: int, locations: Sequence[tuple[str, str]]) -> None:
        self._count = count
        self._locations = locations
        self._referral = _a_referral()
        self._offsets = itertools.count()
        self._hubs = directories.load(DIRECTORY)

    def rounds(self) -> Iterator[list[KafkaRecord]]:
        yield [self._received(number, "A") for number in range(self._count)]
        yield [self._accepted(number) for number in range(0, self._count, 4)]
        yield [self._updated(number) for number in range(0, self._count, 5)]
        yield [self._received(number, "B") for number in range(0, self._count, 7)]
        yield [self._cancelled(number) for number in range(0, self._count, 11)]

    def _received(self, number: int, which: str) -> KafkaRecord:
        data = ReferralReceived(reference=_reference(number, which), version=1, referral=self._of(number, number))
        return self._record(number, data, REFERRAL_EVENT)

    def _updated(self, number: int) -> KafkaRecord:
        data = ReferralUpdated(reference=_reference(number, "A"), version=2, referral=self._of(number, number + 1))
        return self._record(number, data, REFERRAL_EVENT)

    def _cancelled(self, number: int) -> KafkaRecord:
        return self._record(number, ReferralCancelled(reference=_reference(number, "A"), version=3), REFERRAL_EVENT)

    def _accepted(self, number: int) -> KafkaRecord:
        hub = self._hubs.hub_for_district(self._location(number)[1], datetime.now(UTC).date())
        case = case_id_of(_key(number), _reference(number, "A"))
        data = Accept(case_id=case, person_key=_key(number), expected_version=1)
        return self._record(number, data, hub_command(hub.id if hub else self._hubs.triage.id))

    def _location(self, number: int) -> tuple[str, str]:
        return self._locations[number % len(self._locations)]

    def _of(self, number: int, place: int) -> Referral:
        person = self._referral.person
        address = person.address and person.address.model_copy(update={"postcode": self._location(place)[0]})
        changed = person.model_copy(update={"address": address, "given_names": (f"Given{number}",)})
        return self._referral.model_copy(update={"person": changed})

    def _record(self, number: int, data: EventData, topic: str) -> KafkaRecord:
        offset = next(self._offsets)
        event = Event(
            id=f"bench-{offset}",
            source="/lightbulb/bench",
            time=datetime.now(UTC),
            person_key=_key(number),
            correlation_id=f"bench-{number}",
            data=data,
        )
        headers = tuple((name, value.encode()) for name, value in headers_of(event).items())
        return KafkaRecord(topic, 0, offset, event.person_key.encode(), value_of(event), headers)


def _key(number: int) -> PersonKey:
    return PersonKey(hashlib.sha256(str(number).encode()).hexdigest()[:32])


def _reference(number: int, which: str) -> Reference:
    return Reference(f"LB-{which}{number:07}")


def _a_referral() -> Referral:
    [message] = messages(1, "replay")
    partner = partners.load(DIRECTORY, None).by_id(PRACTICE)
    assert partner is not None
    translate = bars_fhir.translator(directories.catalogue(DIRECTORY))
    read = translate(InboundMessage(partner, message.body, datetime.now(UTC), b"bench"))
    assert isinstance(read, Translated)
    assert read.referral is not None
    return read.referral


# ---- making ---------------------------------------------------------------------------------------------------------


async def _route(engine: AsyncEngine, count: int, work: Path) -> int:
    """Apply all inputs, two batches at a time; return their number.

    The second half of the rounds uses another directory.
    """
    today = directories.load(DIRECTORY)
    other = directories.load(_full(work))
    for folder, directory in ((DIRECTORY, today), (work / "directory", other)):
        await directory_versions.store_directory(engine, folder, directory.version)
    for number, records in enumerate(Inputs(count, await _sample_locations(engine)).rounds()):
        batches = Batches(engine, today if number < 2 else other)
        halves = [[record for record in records if (record.key or b"")[-1] % 2 == half] for half in (0, 1)]
        await asyncio.gather(*(_apply(batches, half) for half in halves))
    async with engine.connect() as tx:
        return int(await tx.scalar(text("select count(*) from router.input")) or 0)


async def _apply(batches: Batches, records: Sequence[KafkaRecord]) -> None:
    for at in range(0, len(records), BATCH):
        await batches.receive(records[at : at + BATCH])
        if at % (5 * BATCH) == 0:
            await batches.receive(records[at : at + 50])  # as Kafka delivers some again


def _full(work: Path) -> Path:
    folder = work / "directory"
    shutil.copytree(DIRECTORY, folder)
    full = {"full": [{"hub": "charnwood", "from": datetime(2026, 1, 1, tzinfo=UTC).date()}]}
    (folder / "capacity.yaml").write_text(yaml.safe_dump(full))
    return folder


async def _sample_locations(engine: AsyncEngine) -> list[tuple[str, str]]:
    """Return postcodes of the county and its neighbours, with their districts."""
    async with engine.connect() as tx:
        rows = await tx.execute(
            text("select postcode, district from router.postcode order by md5(postcode) limit 2000")
        )
        return [(f"{row.postcode[:-3]} {row.postcode[-3:]}", row.district) for row in rows]


async def _notify(engine: AsyncEngine, composers: Sequence[FeedbackComposer]) -> int:
    """Take everything in that the router said on case.event, with other words from half-way on; returns the number of events."""
    receivers = [CaseEventConsumer(engine, composer) for composer in composers]
    count = 0
    async with engine.connect() as tx:
        total = int(
            await tx.scalar(text("select count(*) from router.outbox where target = :topic"), {"topic": CASE_EVENT})
            or 0
        )
        rows = await tx.stream(
            text("select id, person_key, headers, value from router.outbox where target = :topic order by id"),
            {"topic": CASE_EVENT},
        )
        async for page in rows.partitions(BATCH):
            receiver = receivers[count * len(receivers) // max(total, 1)]
            await receiver.receive([_published(row.id, row.person_key, row.headers, row.value) for row in page])
            count += len(page)
    return count


def _published(offset: int, key: str, headers: str, value: bytes) -> KafkaRecord:
    header_map: Mapping[str, str] = json.loads(headers)
    return KafkaRecord(
        CASE_EVENT, 0, offset, key.encode(), value, tuple((name, each.encode()) for name, each in header_map.items())
    )


# ---- proving --------------------------------------------------------------------------------------------------------


async def _prove(url: str, count: int, work: Path) -> bool:
    engine = database.connect(url, pool=4, timeout=None)
    try:
        begun = time.perf_counter()
        inputs = await _route(engine, count, work)
        routed = time.perf_counter()
        sources = [_composed_with(folder, work) for folder in (DIRECTORY, _reworded(work))]
        async with AsyncExitStack() as opened:
            composers = [await opened.enter_async_context(template_versions.composer_of(one)) for one in sources]
            for one in sources:
                await template_versions.store_source(engine, one, one.files)
            events = await _notify(engine, composers)
        notified = time.perf_counter()
        console.print(
            f"made: {count:,} referrals' persons, {inputs:,} inputs at {inputs / (routed - begun):,.0f}/s,"
            f" {events:,} case events at {events / (notified - routed):,.0f}/s",
            highlight=False,
            soft_wrap=True,
        )
        proofs = [
            await _timed("router", replay_router.run(url, DIRECTORY, lambda done, of: None)),
            await _timed("notifier", replay_notifier.run(url, sources[0], lambda done, of: None)),
        ]
    finally:
        await engine.dispose()
    return all(proof.is_equal and not proof.left_out for proof in proofs)


def _reworded(work: Path) -> Path:
    """The directory with other words of feedback."""
    folder = work / "reworded"
    shutil.copytree(DIRECTORY, folder)
    template_file = folder / "templates" / "feedback.yaml"
    template_file.write_text(template_file.read_text().replace("Your referral", "Your request for housing support"))
    return folder


def _composed_with(folder: Path, work: Path) -> Source:
    """The practice has a FHIR endpoint, so that its feedback is rendered as such; nothing is ever sent there."""
    access = {PRACTICE: {"token_sha256": [partners.hash_of("bench")], "feedback_url": "http://127.0.0.1:9/"}}
    deployment = work / "deployment.yaml"
    deployment.write_text(yaml.safe_dump({"partners": access}))
    config = Settings(
        database="postgresql+asyncpg://unused",
        kafka="unused",
        secret_file=Path("/dev/null"),
        directory=folder,
        deployment=deployment,
        mesh_url=None,
    )
    return template_versions.source(config, partners.load(folder, deployment))


async def _timed(name: str, replaying: Coroutine[Any, Any, Proof]) -> Proof:
    begun = time.perf_counter()
    proof = await replaying
    whole = time.perf_counter() - begun
    console.print(
        f"replay {name}: {proof.inputs:,} inputs in {proof.seconds:.1f} s, {proof.rate:,.0f}/s; with the comparison {whole:.1f} s;"
        f" {proof.keys:,} keys, checksum {proof.fingerprint}; {len(proof.differing)} differ",
        highlight=False,
        soft_wrap=True,
    )
    return proof


def main() -> None:
    """Run the proof. Exit with 1 if a replay differs."""
    reader = argparse.ArgumentParser(prog="make replay-proof", description=__doc__)
    reader.add_argument("--count", type=int, default=20_000, help="persons, each with a referral and some with more")
    args = reader.parse_args()
    with providers.postgres() as provided, tempfile.TemporaryDirectory(prefix="lightbulb-replay-") as work:
        migrate(provided.address)
        uvloop.run(postcodes.load(provided.address))
        equal = uvloop.run(_prove(provided.address, args.count, Path(work)))
    raise SystemExit(0 if equal else 1)


if __name__ == "__main__":
    main()
