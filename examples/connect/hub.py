"""A hub system's connection: rebuild every case from the hub's topic alone, and accept new cases. Nothing of Lightbulb is imported.

python examples/connect/hub.py KAFKA HUB              for example  127.0.0.1:9092 charnwood
python examples/connect/hub.py KAFKA HUB --cases      print each case with its open referrals as a line of JSON, and stop

It reads the topic from its beginning at each start, and sends nothing before it has read to the end. The id of a command derives
from the case and its version: started again, it repeats a command with the same id, which is applied once.
"""

import asyncio
import contextlib
import json
import signal
import sys
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord

ENDED = ("completed", "rejected", "cancelled")


@dataclass
class Case:
    """A case as its events say: role, position, and the open referrals in full."""

    id: str
    person_key: str
    version: int = 0
    role: str | None = None
    position: dict[str, Any] = field(default_factory=dict)
    referrals: dict[str, dict[str, Any]] = field(default_factory=dict)
    latest: dict[str, str] = field(default_factory=dict)  # headers of the last record
    early: dict[int, tuple[str, dict[str, Any]]] = field(default_factory=dict)  # events that wait for a missing one
    named: set[str] = field(default_factory=set)  # referrals that the last event and its snapshots name
    unnamed: int = 0  # how many open referrals they do not name
    snapshots: int = 0  # how many snapshots of the last event are still to come

    @property
    def is_whole(self) -> bool:
        return not self.early and self.snapshots == 0


def receive(cases: dict[str, Case], kind: str, data: dict[str, Any]) -> Case:
    """Apply an event to its case, in the order of hub_version; a repeat changes nothing."""
    case = cases.setdefault(data["case_id"], Case(data["case_id"], data["person_key"]))
    version = data["hub_version"]
    if version > case.version:
        case.early[version] = kind, data
        if data.get("others_count") == 0:  # it has every open referral: what is missing before it no longer matters
            case.early = {number: event for number, event in case.early.items() if number >= version}
            case.version = version - 1
        while case.version + 1 in case.early:
            case.version += 1
            _apply(case, *case.early.pop(case.version))
    return case


def _apply(case: Case, kind: str, data: dict[str, Any]) -> None:
    if kind == "snapshot":
        case.snapshots -= 1
    elif "case" in data:  # a type of a later version may have no position: its number counts
        others = {one["reference"]: one for one in data.get("others", ())}
        case.role, case.position, case.snapshots = data.get("role"), data["case"], data.get("snapshots", 0)
        case.named, case.unnamed = set(others), data.get("others_count", 0) - len(others)
        for reference in others.keys() & case.referrals.keys():
            case.referrals[reference] |= others[reference]
    for one in data.get("referrals", ()):
        case.named.add(one["reference"])
        case.referrals.pop(one["reference"], None)
        if one["status"] not in ENDED:
            case.referrals[one["reference"]] = one
    if case.snapshots == 0 and case.unnamed == 0:  # all are named: any other has ended, or is not this hub's any more
        case.referrals = {reference: one for reference, one in case.referrals.items() if reference in case.named}


def to_accept(case: Case) -> dict[str, Any] | None:
    """Return the command to accept a new case on its latest version.

    None if there is nothing to accept, an event is missing, or a person has to read a referral first (mark-read).
    """
    to_be_read = any(one["referral"].get("to_be_read") for one in case.referrals.values())
    if not case.is_whole or to_be_read or case.role != "holder" or case.position["status"] != "requested":
        return None
    return {"case_id": case.id, "person_key": case.person_key, "expected_version": case.version}


def headers(hub: str, case: Case) -> list[tuple[str, bytes]]:
    """Return the headers of a command to accept a case: a repeat carries the same id."""
    name = f"{hub}/{case.id}/accept/{case.version}"
    attributes = {
        "ce_specversion": "1.0",
        "ce_id": str(uuid.uuid5(uuid.NAMESPACE_OID, name)),
        "ce_type": "uk.lightbulb.case.accept.v1",
        "ce_source": f"/{hub}/housing-system",
        "ce_time": datetime.now(UTC).isoformat(),
        "ce_partitionkey": case.person_key,
        "ce_correlationid": case.latest["ce_correlationid"],
        "ce_causationid": case.latest["ce_id"],
        "content-type": "application/json",
    }
    return [(name, value.encode()) for name, value in attributes.items()]


def take(cases: dict[str, Case], record: ConsumerRecord) -> Case | None:
    """Print a record and apply it; return its case, None for a refused command and a type that is not known and has no number."""
    event = {name: value.decode() for name, value in record.headers}
    event_type, data = event["ce_type"], json.loads(record.value)
    kind = event_type.removeprefix("uk.lightbulb.case.").removesuffix(".v1")
    if kind == "command-refused":
        print(event_type, data.get("case_id"), data["reason"], data["explanation"], *data.get("places", ()), flush=True)
        return None
    if "hub_version" not in data:
        return None
    print(event_type, data["case_id"], "version", data["hub_version"], flush=True)
    case = receive(cases, kind, data)
    case.latest = event
    return case


def show(case: Case) -> None:
    shown = {
        "case_id": case.id,
        "person_key": case.person_key,
        "version": case.version,
        "whole": case.is_whole,
        "role": case.role,
    }
    print(json.dumps(shown | {"case": case.position, "referrals": list(case.referrals.values())}), flush=True)


async def follow(consumer: AIOKafkaConsumer, producer: AIOKafkaProducer, hub: str, *, only_show: bool) -> None:
    cases: dict[str, Case] = {}
    ends = await consumer.end_offsets(consumer.assignment())
    at_end = False
    while True:
        batches = await consumer.getmany(timeout_ms=500)
        changed = [take(cases, record) for records in batches.values() for record in records]
        if not at_end:
            if any([await consumer.position(partition) < end for partition, end in ends.items()]):
                continue
            at_end, changed = True, list(cases.values())
            if only_show:
                for case in cases.values():
                    show(case)
                return
            print("read to the end", flush=True)
        for case in filter(None, changed):
            if command := to_accept(case):
                await producer.send_and_wait(
                    f"hub.{hub}.command",  # who commands is the topic
                    json.dumps(command).encode(),
                    key=case.person_key.encode(),
                    headers=headers(hub, case),
                )


async def main(kafka: str, hub: str, option: str = "") -> None:
    consumer = AIOKafkaConsumer(f"hub.{hub}.case", bootstrap_servers=kafka, auto_offset_reset="earliest")
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all")
    await consumer.start()
    await producer.start()
    try:
        await follow(consumer, producer, hub, only_show=option == "--cases")
    finally:
        await consumer.stop()
        await producer.stop()


async def until_stopped(*argv: str) -> None:
    """Run until SIGINT or SIGTERM."""
    running = asyncio.create_task(main(*argv))
    for one in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(one, running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await running


if __name__ == "__main__":
    asyncio.run(until_stopped(*sys.argv[1:4]))
