"""Make the router's state of a number of persons, replay it, and prove that the result equals the stored state.

    make replay-proof ARGS="--count 20000"

The services' own batches apply the inputs, two at a time as two processes would: referrals, updates, second referrals of a person,
cancels and commands, repeats, and a directory that changes half-way. Only PostgreSQL is needed. Exit code 1 if a key differs.
"""

import argparse
import asyncio
import hashlib
import itertools
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import uvloop
import yaml
from rich.console import Console
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.messages import messages
from infra.database import postcodes
from infra.database.migrations import migrate
from infra.local.embedded import providers
from infra.operations import replay_router
from infra.operations.replay import Proof
from schemas.events import Accept, Event, EventData, ReferralCancelled, ReferralReceived, ReferralUpdated
from schemas.model import PersonKey, Reference
from schemas.referral import Referral
from schemas.topics import REFERRAL_EVENT, hub_command
from services.intake.translators import bars_fhir
from services.intake.translators.inbound_message import InboundMessage
from services.intake.translators.translator import Translated
from services.messaging.broker import BATCH
from services.messaging.cloudevents import KafkaRecord, headers_of, value_of
from services.reference import directory as directories
from services.reference import partners
from services.router import directory_versions
from services.router.consumer import Batches
from services.router.decide.transition import case_id_of
from services.runtime import database
from services.runtime.settings import CHECKOUT

DIRECTORY = CHECKOUT / "infra" / "reference_data"
PRACTICE = "gp-alder-lane"
console = Console(width=120)


class Inputs:
    """The records of `count` persons, in rounds: within a round each person has one."""

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
    """Apply all inputs, two batches at a time, and return their number.

    The second half of the rounds is applied with another directory.
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
            await batches.receive(records[at : at + 50])  # as Kafka redelivers records


def _full(work: Path) -> Path:
    folder = work / "directory"
    shutil.copytree(DIRECTORY, folder)
    full = {"full": [{"hub": "charnwood", "from": datetime(2026, 1, 1, tzinfo=UTC).date()}]}
    (folder / "capacity.yaml").write_text(yaml.safe_dump(full))
    return folder


async def _sample_locations(engine: AsyncEngine) -> list[tuple[str, str]]:
    """Postcodes of the county and of its neighbours, and their districts."""
    async with engine.connect() as tx:
        rows = await tx.execute(
            text("select postcode, district from router.postcode order by md5(postcode) limit 2000")
        )
        return [(f"{row.postcode[:-3]} {row.postcode[-3:]}", row.district) for row in rows]


# ---- proving --------------------------------------------------------------------------------------------------------


async def _prove(url: str, count: int, work: Path) -> bool:
    engine = database.connect(url, pool=4, timeout=None)
    try:
        begun = time.perf_counter()
        inputs = await _route(engine, count, work)
        routed = time.perf_counter()
        console.print(
            f"made: {count:,} referrals' persons, {inputs:,} inputs at {inputs / (routed - begun):,.0f}/s",
            highlight=False,
            soft_wrap=True,
        )
        proof = await _timed(url)
    finally:
        await engine.dispose()
    return proof.is_equal and not proof.left_out


async def _timed(url: str) -> Proof:
    begun = time.perf_counter()
    proof = await replay_router.run(url, DIRECTORY, lambda done, of: None)
    whole = time.perf_counter() - begun
    console.print(
        f"replay router: {proof.inputs:,} inputs in {proof.seconds:.1f} s, {proof.rate:,.0f}/s; with the comparison {whole:.1f} s;"
        f" {proof.keys:,} keys, checksum {proof.fingerprint}; {len(proof.differing)} differ",
        highlight=False,
        soft_wrap=True,
    )
    return proof


def main() -> None:
    """Exit with code 1 if the replayed state differs from the stored state."""
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
