"""Apply inputs that the router's database lacks, as they were applied before: in the same order and batches, and at the same time.

Kafka orders the records of a partition, not those of several topics. What was decided before says more: events of a case carry the
sequence of their person key, and name the input that caused them. So a hub's command is decided again after the referral that it is
about, and gives events with the same ids, numbers and bytes.
"""

import hashlib
import itertools
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operations.reconcile.kafka import BATCH, KeptRecord, Report
from services.messaging import dead_letters, relay
from services.messaging.packets import SHARDS, Message
from services.reference.directory import Directory
from services.router import store
from services.router.consumer import Batches, read_record
from services.router.store import SCHEMA, Input

Rank = tuple[float, float, float]
"""Order of the inputs of a person key: the sequence of what it caused; 1 after the event with that sequence; the offset."""


async def missing(engine: AsyncEngine, records: Sequence[KeptRecord]) -> list[KeptRecord]:
    """Return the records that the router neither applied nor stored as dead letters."""
    read = [(one, read_record(one.record)) for one in records]
    async with engine.connect() as tx:
        applied = await store.applied(tx, [of for _, of in read if isinstance(of, Input)])
        keyed = [(of.person_key, one.record) for one, of in read]
        status = await dead_letters.status_of(tx, SCHEMA, [], keyed)
        known = set(await tx.scalars(text(_DEAD_LETTERS), _places(records)))
    return [
        one
        for place, (one, of) in enumerate(read, start=1)
        if not (isinstance(of, Input) and of.identity in applied)
        and not status.is_closed(of.person_key, one.record)
        and place not in known
    ]


_DEAD_LETTERS = """
    select place from unnest(cast(:topics as text[]), cast(:partitions as integer[]), cast(:offsets as bigint[]), cast(:contents as text[]))
        with ordinality as given (topic, partition, "offset", content, place)
    join router.dead_letter as held using (topic, partition, "offset", content)"""


def _places(records: Sequence[KeptRecord]) -> dict[str, list[object]]:
    return {
        "topics": [one.record.topic for one in records],
        "partitions": [one.record.partition for one in records],
        "offsets": [one.record.offset for one in records],
        "contents": [hashlib.sha256(one.record.value).hexdigest() for one in records],
    }


@dataclass(slots=True)
class Evidence:
    """When and in which order the inputs of `keys`, person keys, were decided, by what they caused, and the bytes of that."""

    keys: frozenset[str]
    decided: dict[tuple[str, str], tuple[Rank, datetime]] = field(default_factory=dict)
    values: dict[tuple[str, str], int] = field(default_factory=dict)
    _last: dict[tuple[str, str], float] = field(default_factory=dict)

    def add(self, records: Sequence[KeptRecord]) -> None:
        """Add events of `case.event` or of hubs' topics, in the order of each partition."""
        for one in records:
            if one.key in self.keys:
                self._add(one)

    def _add(self, one: KeptRecord) -> None:
        place, sequence = (one.key, one.record.topic), one.header("ce_sequence")
        last = self._last[place] = max(float(sequence or 0), self._last.get(place, 0.0))
        self.values.setdefault((one.record.topic, one.header("ce_id")), zlib.crc32(one.record.value))
        rank = (float(sequence), 0.0, 0.0) if sequence else (last, 1.0, float(one.record.offset))
        cause = (one.key, one.header("ce_causationid"))
        known = self.decided.get(cause)
        if known is None or rank < known[0]:
            self.decided[cause] = rank, datetime.fromisoformat(one.header("ce_time"))


def person_keys(inputs: Sequence[KeptRecord]) -> frozenset[str]:
    """Return whom these inputs are about: of a command its data says so, not the key of its record."""
    return frozenset(read_record(one.record).person_key for one in inputs)


def in_order(inputs: Sequence[KeptRecord], evidence: Evidence) -> list[tuple[datetime, list[KeptRecord]]]:
    """Return the batches in which these inputs are applied, each with its time."""
    by_key: defaultdict[str, list[KeptRecord]] = defaultdict(list)
    for one in inputs:
        by_key[read_record(one.record).person_key].append(one)
    decided: defaultdict[str, dict[str, tuple[Rank, datetime]]] = defaultdict(dict)
    for (key, cause), known in evidence.decided.items():
        decided[key][cause] = known
    timed = [pair for key, records in by_key.items() for pair in _of_key(records, decided[key])]
    timed.sort(key=lambda pair: pair[0])
    return [
        (at, list(part))
        for at, pairs in itertools.groupby(timed, key=lambda pair: pair[0])
        for part in _parts([one for _, one in pairs])
    ]


def _parts(records: Sequence[KeptRecord]) -> Iterator[Sequence[KeptRecord]]:
    return (records[at : at + BATCH] for at in range(0, len(records), BATCH))


def _of_key(
    records: Sequence[KeptRecord], decided: Mapping[str, tuple[Rank, datetime]]
) -> Iterator[tuple[datetime, KeptRecord]]:
    """Yield the inputs of a person key in order, with times that do not go back."""
    latest = datetime.min.replace(tzinfo=UTC)
    for one in _ranked(records, decided):
        known = decided.get(one.header("ce_id"))
        latest = max(latest, known[1] if known else datetime.fromtimestamp(one.at, UTC))
        yield latest, one


def _ranked(records: Sequence[KeptRecord], decided: Mapping[str, tuple[Rank, datetime]]) -> list[KeptRecord]:
    """Return inputs in order: one that caused nothing follows that before it in its partition, and what was decided before it came."""
    placed: list[tuple[Rank, float, int, KeptRecord]] = []
    last: dict[object, Rank] = {}
    for one in sorted(records, key=lambda one: (one.record.topic, one.record.partition, one.record.offset)):
        if known := decided.get(one.header("ce_id")):
            rank = known[0]
        else:
            earlier = [rank for rank, at in decided.values() if at.timestamp() <= one.at]
            before = max([*earlier, last.get(one.partition, _FIRST)])
            rank = (before[0], max(before[1], 0.5), before[2])
        last[one.partition] = rank
        placed.append((rank, one.at, one.record.offset, one))
    return [one for *_, one in sorted(placed, key=lambda each: each[:3])]


_FIRST: Rank = (0.0, 0.0, 0.0)


async def apply(
    engine: AsyncEngine, directory: Directory, inputs: Sequence[KeptRecord], evidence: Evidence, report: Report
) -> int:
    """Apply these inputs with the router's own code, each batch at its time. Return how many events differ from those on Kafka.

    What Kafka has is marked as published after each batch, so that a kill leaves at most one batch to be published again.
    """
    done = differing = 0
    for at, records in in_order(inputs, evidence):
        await Batches(engine, directory, clock=lambda at=at: at).receive([one.record for one in records])  # type: ignore[misc]  # a lambda's default
        differing += await mark_published(engine, evidence.values)
        done += len(records)
        report("applied by the router", done)
    return differing


async def mark_published(engine: AsyncEngine, values: Mapping[tuple[str, str], int]) -> int:
    """Mark what Kafka has of the outbox as published, as a relay does with what it has sent. Return how many events differ from Kafka's."""
    differing, more = 0, True
    while more:
        async with engine.begin() as tx:
            found = await relay.read(tx, SCHEMA, range(SHARDS), ())
            known = [(one, crc) for one in found.messages() if (crc := values.get(_event_of(one.message))) is not None]
            differing += sum(zlib.crc32(one.message.value) != crc for one, crc in known)
            await relay.mark(tx, SCHEMA, found, {one for one, _ in known})
        more = found.more and bool(found.packets or known)
    return differing


def _event_of(message: Message) -> tuple[str, str]:
    return message.target, dict(message.headers)["ce_id"].decode()
