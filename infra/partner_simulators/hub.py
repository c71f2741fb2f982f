"""A simulated hub system: a process that uses the hub topics on Kafka and nothing else of the product.

    python infra/partner_simulators/hub.py --kafka 127.0.0.1:9092 --hub charnwood --hub melton:accept,book --log hubs.jsonl

For each hub it reads `hub.<id>.case` from the beginning, checks that the versions of each case come without gaps (1,
2, 3, ...), and works on the cases that it holds, one step at a time: accept, book, start, assess, record, complete.
Each step is a command on `hub.<id>.command` with the version on which it was decided. Further steps: `assign=HUB`,
`hold=REASON`, `reject=REASON`, `transfer=HUB`, `report-death`, `confirm-death`, `withdraw-death-report`. While a reported
death is not checked, no visit is booked and no work begun. A referral that a task asks the hub to read is marked as read
before any other step, also at a hub that does not hold the case. A hub whose script ends early leaves its cases there. It
imports no other module of the project: use it as a starting point for connecting a hub.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import IO, Any, NamedTuple

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

FULL = "accept,book,start,assess,record,complete"
WORK: dict[str, list[dict[str, str]]] = json.loads(Path(__file__).with_name("work.json").read_text())
ONWARD = {"assistive-technology", "blue-badge", "community-groups", "energy-loan", "hearing-services"}
ONWARD |= {"income-maximisation", "local-grants-loans", "voluntary-housing-support", "weight-support"}
OPEN = {"requested", "accepted", "in-progress", "on-hold"}
Visits = Mapping[str, list[dict[str, str]]]


class ScriptStep(NamedTuple):
    """One step of a script, and its argument."""

    name: str
    argument: str = ""


class OutgoingCommand(NamedTuple):
    """A command to send."""

    id: str
    name: str
    data: dict[str, Any]


@dataclass
class SimulatedCase:
    """A hub's view of one case: the latest event, the referrals of all, and the hub's own commands.

    `known`: referrals by reference. `named`, `unnamed`: those that the latest event and its snapshots name, and the number of open ones
    that they do not. `snapshots`: how many are still to come.
    """

    hub: str
    id: str
    person_key: str
    correlation_id: str = ""
    event_id: str = ""
    traceparent: str = ""
    version: int = 0
    role: str | None = None
    position: dict[str, Any] = field(default_factory=dict)
    known: dict[str, dict[str, Any]] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    unnamed: int = 0
    snapshots: int = 0
    done: set[str] = field(default_factory=set)
    assessed: set[tuple[str, str]] = field(default_factory=set)
    recorded: set[str] = field(default_factory=set)
    ending: set[tuple[str, str]] = field(default_factory=set)
    to_read: list[str] = field(default_factory=list)
    awaiting: str | None = None
    expected_version: int = 0

    @property
    def is_held(self) -> bool:
        return self.role == "holder" and self.position.get("status") in OPEN

    @property
    def may_contact(self) -> bool:
        """False while a reported death is not confirmed or withdrawn."""
        return not self.position.get("check_before_contact", False)

    @property
    def referrals(self) -> list[dict[str, Any]]:
        return list(self.known.values())

    def open_needs(self) -> list[tuple[str, str]]:
        """Return (reference, service) of every open need."""
        return [(one["reference"], need) for one in self.referrals for need in one.get("open_needs", [])]

    def open_referrals(self) -> list[dict[str, Any]]:
        return [one for one in self.referrals if one.get("open_needs")]


class OutOfOrder(Exception):
    """A version of a case is missing: an event for the hub was lost."""


def apply_event(case: SimulatedCase, kind: str, data: Mapping[str, Any]) -> bool:
    """Apply an event to the case; return False for a repeat. Raise OutOfOrder if an earlier version is missing."""
    version = data["hub_version"]
    if version <= case.version:
        return False
    expected, case.version = case.version + 1, version
    _take_referrals(case, kind, data)
    case.done.add(kind)
    _note_work(case, kind, data)
    if data.get("command_id") == case.awaiting:
        case.awaiting = None
    if version != expected:
        raise OutOfOrder(f"received version {version}, expected {expected}")
    return True


def _take_referrals(case: SimulatedCase, kind: str, data: Mapping[str, Any]) -> None:
    """Replace role, position and the referrals that an event brings; forget open ones that it does not name, if it names all."""
    if kind == "snapshot":
        case.snapshots -= 1
    else:
        others = [one["reference"] for one in data.get("others", [])]
        case.role, case.position, case.snapshots = data.get("role"), data["case"], data.get("snapshots", 0)
        case.named, case.unnamed = set(others), data.get("others_count", 0) - len(others)
    for one in data.get("referrals", []):
        case.named.add(one["reference"])
        case.known[one["reference"]] = one
    if case.role == "former":
        case.known = {}
    elif not case.snapshots and not case.unnamed:
        case.known = {ref: one for ref, one in case.known.items() if ref in case.named or not one["open_needs"]}


def _note_work(case: SimulatedCase, kind: str, data: Mapping[str, Any]) -> None:
    """Note what was done, and what the hub has to read."""
    case.assessed.update((one["reference"], one["service"]) for one in data.get("findings", []))
    case.recorded.update(one["reference"] for one in data.get("interventions", []))
    case.to_read = _still_to_read(case, kind, data)


def _still_to_read(case: SimulatedCase, kind: str, data: Mapping[str, Any]) -> list[str]:
    """Return the open referrals that tasks asked the hub to read, without the one that its own command marked as read."""
    asked = [data["about"]] if kind == "task-raised" and data.get("kind") == "read-message" else []
    read = data.get("updated") if kind == "updated" and data.get("command_id") == case.awaiting else None
    seen = {one["reference"] for one in case.referrals if one.get("open_needs")}
    return [one for one in dict.fromkeys([*case.to_read, *asked]) if one in seen and one != read]


# ---- decisions, without I/O -----------------------------------------------------------------------------------------------

PAST = {"accept": "accepted", "book": "booked", "start": "started", "hold": "held", "reject": "rejected"}
PAST |= {"report-death": "contact-held", "withdraw-death-report": "contact-hold-ended"}
PLANS_CONTACT = {"book", "start"}


def next_step(case: SimulatedCase, script: Sequence[ScriptStep]) -> ScriptStep | None:
    """Return the next step: to mark a referral as read, else the first open step of the script.

    None if the hub waits for an outcome, a check or a snapshot, or has nothing to read and is not the holder.
    """
    if case.awaiting or case.snapshots:
        return None
    if case.to_read:
        return ScriptStep("mark-read", case.to_read[0])
    if not case.is_held:
        return None
    step = next((step for step in script if _is_to_do(case, step)), None)
    return step if step is None or case.may_contact or step.name not in PLANS_CONTACT else None


def _is_to_do(case: SimulatedCase, step: ScriptStep) -> bool:
    match step.name:
        case "assess":
            return bool(set(case.open_needs()) - case.assessed)
        case "record":
            return any(one["reference"] not in case.recorded for one in case.open_referrals())
        case "assign":
            return case.position.get("home_hub") is None
        case "complete":
            return bool(set(case.open_needs()) - case.ending)
        case "transfer":
            return True
        case "confirm-death":
            return not case.may_contact
        case name:
            return PAST[name] not in case.done


def command(case: SimulatedCase, step: ScriptStep, visits: Visits) -> OutgoingCommand:
    """Return the command for a step. Its id is derived from the expected version, so a repeat is recognised."""
    data = {"case_id": case.id, "person_key": case.person_key, "expected_version": case.version}
    data |= {"by_role": "housing support coordinator"} | COMMAND_DATA[step.name](case, step.argument, visits)
    return OutgoingCommand(
        str(uuid.uuid5(uuid.NAMESPACE_OID, f"{case.hub}:{case.id}:{step.name}:{case.version}")), step.name, data
    )


def _findings(case: SimulatedCase, _argument: str, _visits: Visits) -> dict[str, Any]:
    needs = [need for need in case.open_needs() if need not in case.assessed]
    return {"findings": [{"reference": ref, "service": need, "finding": _finding_for(need)} for ref, need in needs]}


def _finding_for(service: str) -> str:
    return "referred-onward" if service in ONWARD else "need-confirmed"


def _interventions(case: SimulatedCase, _argument: str, visits: Visits) -> dict[str, Any]:
    """Return everything done for the next referral.

    From its visit's notes if there are any, else the usual actions for each need.
    """
    one = next(one for one in case.open_referrals() if one["reference"] not in case.recorded)
    done = visits.get(one["referral"]["message"]["referral_id"]) or list(_usual(one["open_needs"]))
    stamp = {"reference": one["reference"], "on": date.today().isoformat()}
    return {"interventions": [dict(act) | stamp for act in done]}


def _usual(needs: Iterable[str]) -> Iterable[dict[str, str]]:
    for need in needs:
        for act in WORK.get(need, [{"action": "referred onward", "provider": "Lightbulb"}]):
            yield {"service": need} | act


def _ended(case: SimulatedCase, _argument: str = "", _visits: Visits | None = None) -> dict[str, Any]:
    return {"ended": [{"reference": one["reference"], "needs": one["open_needs"]} for one in case.open_referrals()]}


def _visit(_case: SimulatedCase, _argument: str, _visits: Visits) -> dict[str, Any]:
    return {"visit_at": (datetime.now(UTC) + timedelta(days=2)).replace(microsecond=0).isoformat()}


def _nothing(_case: SimulatedCase, _argument: str, _visits: Visits) -> dict[str, Any]:
    return {}


COMMAND_DATA: dict[str, Callable[[SimulatedCase, str, Visits], dict[str, Any]]] = {
    "assign": lambda _case, hub, _visits: {"to_hub": hub},
    "accept": _nothing,
    "book": _visit,
    "start": _nothing,
    "assess": _findings,
    "record": _interventions,
    "complete": _ended,
    "hold": lambda _case, reason, _visits: {"reason": reason or "waiting-list"},
    "reject": lambda case, reason, _visits: {"reason": reason or "not-eligible"} | _ended(case),
    "transfer": lambda _case, hub, _visits: {"to_hub": hub},
    "report-death": _nothing,
    "confirm-death": _nothing,
    "withdraw-death-report": _nothing,
    "mark-read": lambda _case, reference, _visits: {"reference": reference},
}


# ---- Kafka ---------------------------------------------------------------------------------------------------------------


class ReceivedHubEvent(NamedTuple):
    """A record of a hub's topic: the hub, the last part of the type's name, headers and data."""

    hub: str
    kind: str
    headers: dict[str, str]
    data: dict[str, Any]


class HubClient:
    """A Kafka connection for any number of hubs; tests and the benchmark use it too."""

    def __init__(self, kafka: str, hubs: Iterable[str]) -> None:
        self._topics = {f"hub.{hub}.case": hub for hub in hubs}
        self._consumer = AIOKafkaConsumer(*self._topics, bootstrap_servers=kafka, auto_offset_reset="earliest")
        self._producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all")

    async def __aenter__(self) -> "HubClient":
        await asyncio.gather(self._consumer.start(), self._producer.start())
        return self

    async def __aexit__(self, *_error: object) -> None:
        await asyncio.gather(self._consumer.stop(), self._producer.stop())

    async def receive(self, seconds: float = 0.1) -> list[ReceivedHubEvent]:
        """Return new records, in order for each case."""
        batches = await self._consumer.getmany(timeout_ms=int(seconds * 1000))
        return [self._to_event(record) for records in batches.values() for record in records]

    def _to_event(self, record: Any) -> ReceivedHubEvent:
        headers = {name: value.decode() for name, value in record.headers}
        kind = headers["ce_type"].removeprefix("uk.lightbulb.case.").removesuffix(".v1")
        return ReceivedHubEvent(self._topics[record.topic], kind, headers, json.loads(record.value))

    async def send(self, case: SimulatedCase, send: OutgoingCommand) -> "asyncio.Future[Any]":
        """Hand a command to the producer.

        The returned future is done when Kafka has it, and raises if it could not be sent in time.
        """
        headers = {
            "ce_specversion": "1.0",
            "ce_id": send.id,
            "ce_type": f"uk.lightbulb.case.{send.name}.v1",
            "ce_source": f"/hub/{case.hub}",
            "ce_time": datetime.now(UTC).isoformat(),
            "ce_partitionkey": case.person_key,
            "ce_correlationid": case.correlation_id,
            "ce_causationid": case.event_id,
            "content-type": "application/json",
        }
        if case.traceparent:
            headers["traceparent"] = case.traceparent
        delivered: asyncio.Future[Any] = await self._producer.send(
            f"hub.{case.hub}.command",
            json.dumps(send.data, separators=(",", ":")).encode(),
            key=case.person_key.encode(),
            headers=[(name, value.encode()) for name, value in headers.items()],
        )
        return delivered

    async def deliver(self, *commands: tuple[SimulatedCase, OutgoingCommand]) -> None:
        """Send commands in order; repeat all with the same ids until Kafka has each.

        A repeat has no second effect.
        """
        while commands:
            try:
                await asyncio.gather(*[await self.send(*one) for one in commands])
                return
            except KafkaError:
                await asyncio.sleep(0.3)


class Inbox:
    """Every received event, one JSON line each: ids, states and services, never personal data."""

    def __init__(self, file: IO[str] | None) -> None:
        self._file = file

    def note(self, event: ReceivedHubEvent, case: SimulatedCase | None, **more: Any) -> None:
        if self._file is None:
            return
        line = {
            "at": datetime.now(UTC).isoformat(),
            "hub": event.hub,
            "type": event.kind,
            "case": event.data.get("case_id"),
        }
        line |= {"id": event.headers.get("ce_id"), "correlation_id": event.headers.get("ce_correlationid")} | more
        if case is not None:
            line |= {"version": event.data.get("hub_version"), "role": case.role, "position": case.position}
            provisional = case.position.get("provisional", False)
            line["referrals"] = [_in_brief(one) | {"provisional": provisional} for one in case.referrals]
        self._file.write(json.dumps(line) + "\n")

    def flush(self) -> None:
        if self._file is not None:
            self._file.flush()


def _in_brief(referral: Mapping[str, Any]) -> dict[str, Any]:
    content = referral.get("referral", {})
    needs = [need["service"] for need in content.get("needs", [])]
    brief = {name: referral.get(name) for name in ("reference", "status", "open_needs")}
    brief |= {"needs": needs, "format": content.get("message", {}).get("format")}
    return brief | {"stay": content.get("hospital") is not None, "grant": content.get("grant")}


@dataclass
class HubSimulator:
    """The loop of all hubs of this process: receive, then one step for each case that waits for one."""

    client: HubClient
    scripts: Mapping[str, Sequence[ScriptStep]]
    inbox: Inbox
    visits: Visits = field(default_factory=dict)
    pause: float = 0.3
    cases: dict[tuple[str, str], SimulatedCase] = field(default_factory=dict)
    due: dict[tuple[str, str], float] = field(default_factory=dict)
    sequence_gaps: int = 0

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            for event in await self.client.receive(0.05):
                self._take(event)
            await self._act(time.monotonic())
            self.inbox.flush()

    def _take(self, event: ReceivedHubEvent) -> None:
        if event.kind == "command-refused":
            return self._handle_rejection(event)
        key = (event.hub, event.data["case_id"])
        case = self.cases.setdefault(key, SimulatedCase(event.hub, event.data["case_id"], event.data["person_key"]))
        error = None
        try:
            if not apply_event(case, event.kind, event.data):
                return self.inbox.note(event, case, repeat=True)
        except OutOfOrder as gap:
            error, self.sequence_gaps = str(gap), self.sequence_gaps + 1
        case.correlation_id, case.event_id = event.headers.get("ce_correlationid", ""), event.headers["ce_id"]
        case.traceparent = event.headers.get("traceparent", "")
        self.due.setdefault(key, time.monotonic() + self.pause)
        return self.inbox.note(event, case, **({"fault": error} if error else {}))

    def _handle_rejection(self, event: ReceivedHubEvent) -> None:
        """Decide again if the command was stale or overtaken by other events.

        Any other refusal is noted as a fault.
        """
        details = {name: event.data.get(name) for name in ("command", "command_id", "reason", "explanation")}
        case = self.cases.get((event.hub, event.data["case_id"]))
        if case is None or case.awaiting != event.data["command_id"]:
            return self.inbox.note(event, None, **details)
        if event.data["reason"] != "stale" and case.version == case.expected_version:
            return self.inbox.note(event, None, **details, fault=f"command {event.data['command']} was refused")
        case.awaiting = None
        case.ending.clear()
        self.due.setdefault((event.hub, case.id), time.monotonic() + self.pause)
        return self.inbox.note(event, None, **details)

    async def _act(self, now: float) -> None:
        commands: list[tuple[SimulatedCase, OutgoingCommand]] = []
        for key in [key for key, when in self.due.items() if when <= now]:
            del self.due[key]
            case = self.cases[key]
            step = next_step(case, self.scripts[case.hub])
            if step is not None:
                send = command(case, step, self.visits)
                case.awaiting, case.expected_version = send.id, case.version
                case.ending.update(case.open_needs() if step.name == "complete" else ())
                commands.append((case, send))
        await self.client.deliver(*commands)


# ---- process -------------------------------------------------------------------------------------------------------------


def scripts(hubs: Sequence[str], usual: str) -> dict[str, list[ScriptStep]]:
    """Return each hub's script; 'melton:accept,hold=awaiting-works' names a hub with its own script."""
    parted = (hub.partition(":") for hub in hubs)
    return {name: [ScriptStep(*word.split("=", 1)) for word in (own or usual).split(",")] for name, _, own in parted}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A simulated hub system on Kafka.")
    parser.add_argument("--kafka", required=True, help="bootstrap servers, host:port")
    parser.add_argument("--hub", action="append", required=True, metavar="ID[:SCRIPT]", help="may be repeated")
    parser.add_argument("--script", default=None, help=f"steps of each hub's cases (default {FULL})")
    parser.add_argument("--log", type=Path, help="inbox file, JSON lines")
    parser.add_argument("--visits", type=Path, help="JSON: actions after a visit, by the sender's referral id")
    parser.add_argument("--pause", type=float, default=0.3, help="seconds from an event to the next step")
    parser.add_argument("--fast", action="store_true", help="no pause; accept and complete")
    return parser.parse_args()


async def main() -> None:
    args, stop = arguments(), asyncio.Event()
    for end in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(end, stop.set)
    plans = scripts(args.hub, args.script or ("accept,complete" if args.fast else FULL))
    visits = json.loads(args.visits.read_text()) if args.visits else {}
    with contextlib.ExitStack() as files:
        log = files.enter_context(args.log.open("a")) if args.log else None
        async with HubClient(args.kafka, plans) as client:
            work = HubSimulator(client, plans, Inbox(log), visits, 0 if args.fast else args.pause)
            await work.run(stop)


if __name__ == "__main__":
    uvloop.run(main())
