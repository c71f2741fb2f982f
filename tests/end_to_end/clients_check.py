"""`python -m tests.end_to_end.clients_check HUB_MJS`: run the example clients of a hub against an installation, and compare them.

Each client works for one hub, while referrals arrive, join, are updated and end, cases move between the hubs, one with 300 referrals, and
commands and records that cannot be read come between. Then what either rebuilds from each topic is compared with the other's, and with
what the hub may see. Started again, a client sends nothing that is new. Exits with 1 if anything differs.
"""

import asyncio
import contextlib
import json
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from examples.connect.hub import Case
from infra.local.installation import Plan, start, temporary_folder
from services.runtime.settings import CHECKOUT
from tests.chaos.harness.hub_topics import differences
from tests.chaos.harness.packet_decoder import decompress
from tests.field import kafka
from tests.field.clients import GENEROUS_SECONDS, HubCase, HubEvent, Installation, until
from tests.field.exports import BLABY
from tests.field.referrals import Person, bars, hl7, letters

MANY = 300
LOUGHBOROUGH, LITTLETHORPE = "LE11 5AA", "LE19 2GX"
WORKS_FOR = {"javascript": "charnwood", "python": "blaby"}
PRACTICE = "gp-castle-view"
ACCEPTED = "case.accepted.v1"


class Running:
    """A client that works for a hub."""

    def __init__(self, argv: list[str], output: Path) -> None:
        self._output = output
        with output.open("wb") as file:
            self._process = subprocess.Popen(argv, stdout=file, stderr=subprocess.STDOUT)

    def prints(self, text: str, times: int = 1) -> None:
        """Wait until it has printed this so many times."""
        found = until(lambda: self._printed().count(text) >= times or self._process.poll() is not None)
        assert found, f"{self._process.args!r} did not print {text!r}"
        assert self._process.poll() is None, f"{self._process.args!r} ended:\n{self._printed()[-2000:]}"

    def version(self, case: HubEvent) -> HubCase:
        """Return a case with the version that it printed last."""
        return HubCase(case.case_id, case.key, int(re.findall(rf"{case.case_id} version (\d+)", self._printed())[-1]))

    def _printed(self) -> str:
        return self._output.read_text()

    def stop(self, by: signal.Signals) -> int:
        """Return the exit code."""
        self._process.send_signal(by)
        try:
            return self._process.wait(GENEROUS_SECONDS)
        finally:
            self._process.kill()


class Clients:
    """Both clients, at the Kafka of an installation."""

    def __init__(self, hub_mjs: str, bootstrap: str, folder: Path) -> None:
        self._commands = {
            "javascript": ["node", hub_mjs, bootstrap],
            "python": [sys.executable, str(CHECKOUT / "examples/connect/hub.py"), bootstrap],
        }
        self._folder = folder

    @contextlib.contextmanager
    def working(self, *pairs: tuple[str, str], by: signal.Signals) -> Iterator[None]:
        """Run clients, each for a hub; at the end stop them by a signal, which must end them with 0."""
        started: dict[tuple[str, str], Running] = {}
        try:
            for name, hub in pairs:
                output = self._folder / f"{name}-{hub}-{time.monotonic_ns()}.txt"
                started[name, hub] = Running([*self._commands[name], hub], output)
            for client in started.values():
                client.prints("read to the end")
            self.at = started
            yield
        finally:
            codes = {pair: client.stop(by) for pair, client in started.items()}
        assert not any(codes.values()), f"exit codes: {codes}"

    def rebuilt(self, name: str, hub: str) -> dict[str, Any]:
        """Return what a client knows of each case of a hub, by case id, from the topic alone."""
        argv = [*self._commands[name], hub, "--cases"]
        printed = subprocess.run(argv, stdout=subprocess.PIPE, check=True, timeout=GENEROUS_SECONDS).stdout
        cases = [json.loads(line) for line in printed.decode().splitlines() if line.startswith("{")]
        for case in cases:
            case["referrals"].sort(key=lambda one: one["reference"])
        return {case["case_id"]: case for case in cases}


def main(hub_mjs: str) -> int:
    began = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop what was started then too
    folder = temporary_folder()
    running = start(Plan(folder, ephemeral=True))
    try:
        say(began, "the installation is ready")
        hub = Installation(running.addresses)
        clients = Clients(hub_mjs, running.addresses["kafka"], folder)
        with clients.working(*WORKS_FOR.items(), by=signal.SIGTERM):
            person = work(hub, clients)
        say(began, f"both clients followed what happened, to a case with {MANY} referrals too")
        compared = compare(hub, clients)
        say(began, f"both rebuilt the same cases at {', '.join(compared)}, and those are what the hubs may see")
        start_again(hub, clients)
        say(began, "started again, both sent nothing new")
        lose(hub, clients, person)
        say(began, "both notice that events are missing")
    finally:
        running.stop()
    return 0


def say(began: float, text: str) -> None:
    print(f"{time.monotonic() - began:5.1f} s  {text}", flush=True)


# ---- what happens ------------------------------------------------------------------------------------------------------


def work(hub: Installation, clients: Clients) -> Person:
    """Send what hubs have to deal with; return a person with several referrals at Charnwood."""
    charnwood, blaby = (clients.at[pair] for pair in WORKS_FOR.items())
    person, in_hospital, of_many = (Person(postcode=one) for one in (LOUGHBOROUGH, LOUGHBOROUGH, LITTLETHORPE))
    first, second = (hub.refer(PRACTICE, bars(one, referral=of_practice(one))) for one in (person, in_hospital))
    rows = hub.rows("blaby", BLABY.file(*(_row(of_many) for _ in range(MANY))))
    assert {row.outcome for row in rows} == {"received"}, rows[:3]
    charnwood.prints(ACCEPTED, times=2)
    blaby.prints(ACCEPTED)
    unreadable(hub, clients)
    hub.admit("uhl", hl7(in_hospital, "uhl"))
    charnwood.prints(event_about(hub, "charnwood", second).case_id, times=3)
    several(hub, person, event_about(hub, "charnwood", first), charnwood, blaby)
    many(hub, event_about(hub, "blaby", str(rows[0].reference)), charnwood, blaby)
    return person


def several(hub: Installation, person: Person, case: HubEvent, charnwood: Running, blaby: Running) -> None:
    """Let a referral join a case, and another change; transfer the case to Blaby and back."""
    hub.refer(PRACTICE, bars(person, services=("warm-homes",)))
    changed = bars(person, referral=of_practice(person), reason="update", services=("hearing-services",))
    hub.refer(PRACTICE, changed)
    charnwood.prints(f"case.joined.v1 {case.case_id}")
    charnwood.prints(f"case.updated.v1 {case.case_id}")
    hub.command("charnwood", "transfer", charnwood.version(case), to_hub="blaby")
    blaby.prints(f"{ACCEPTED} {case.case_id}")
    hub.command("blaby", "transfer", blaby.version(case), to_hub="charnwood")
    charnwood.prints(f"{ACCEPTED} {case.case_id}", times=2)


def many(hub: Installation, case: HubEvent, charnwood: Running, blaby: Running) -> None:
    """Transfer a case with many referrals to Charnwood, end the first of them, and transfer it back."""
    blaby.prints(f"case.joined.v1 {case.case_id}", times=MANY - 1)
    hub.command("blaby", "transfer", blaby.version(case), to_hub="charnwood")
    charnwood.prints(f"case.snapshot.v1 {case.case_id}")
    charnwood.prints(f"{ACCEPTED} {case.case_id}")
    ended = [{"reference": one["reference"], "needs": one["open_needs"]} for one in case.referrals]
    hub.command("charnwood", "complete", charnwood.version(case), ended=ended)
    charnwood.prints(f"case.completed.v1 {case.case_id}")
    hub.command("charnwood", "transfer", charnwood.version(case), to_hub="blaby")
    blaby.prints(f"{ACCEPTED} {case.case_id}", times=2)


def of_practice(person: Person) -> str:
    """Return the id that the practice gives to a person's referral."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, person.number))


def _row(person: Person) -> bytes:
    name = {"Surname": person.family, "First Names": person.given, "DOB": "09/03/1951", "NHS No": person.number}
    return BLABY.row(**name, **{"Case Ref": letters(8), "Postcode": person.postcode})


def event_about(hub: Installation, at: str, reference: str) -> HubEvent:
    """Return the first event of a hub that names a referral, once there is one."""
    return until(lambda: [one for one in hub.events_now(at) if reference.encode() in one.value])[0]


def unreadable(hub: Installation, clients: Clients) -> None:
    """Publish a malformed command, a repeat, and types and fields that no client knows, at each client's hub."""
    for (_, at), client in clients.at.items():
        event = [one for one in hub.events_now(at) if one.version][-1]
        publish(hub, at, event.headers, event.data)
        later = event.headers | {"ce_id": letters(12), "ce_type": "uk.lightbulb.case.invented.v7"}
        publish(hub, at, later, {"person_key": event.key, "invented": {"name": "value"}})
        publish(hub, at, event.headers | {"ce_id": letters(12), "ce_type": "org.example.invented"}, {})
        hub.publish_command(at, "accept", event.key, {"case_id": event.case_id, "person_key": event.key})
        client.prints("expected_version: missing")


def publish(hub: Installation, at: str, headers: Mapping[str, str], data: Mapping[str, Any]) -> None:
    key = headers["ce_partitionkey"]
    asyncio.run(kafka.publish(hub.kafka, f"hub.{at}.case", key, headers, json.dumps(data).encode()))


# ---- what the clients know ---------------------------------------------------------------------------------------------


def compare(hub: Installation, clients: Clients) -> list[str]:
    """Compare what both clients rebuild for every hub that has cases, and with the router's tables; return the hubs."""
    hub.settle()
    cases = rows_of(hub, 'select * from router."case"')
    hubs = sorted({at for case in cases for at in json.loads(case["state"]).get("cursors", {})})
    known: dict[tuple[str, str], Case] = {}
    for at in hubs:
        javascript, python = (clients.rebuilt(name, at) for name in WORKS_FOR)
        assert javascript == python, f"the clients know other cases of {at}: {_first_difference(javascript, python)}"
        known |= {(at, case_id): _as_case(one) for case_id, one in javascript.items()}
    found = list(differences(known, cases, rows_of(hub, "select * from router.referral")))
    assert not found, "\n".join(found)
    return hubs


def _first_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    case_id = next(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    mine, theirs = one.get(case_id, {}), other.get(case_id, {})
    return f"{case_id}: {sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))}"


def _as_case(one: Mapping[str, Any]) -> Case:
    case = Case(one["case_id"], one["person_key"], one["version"], one["role"], one["case"])
    case.referrals = {referral["reference"]: referral for referral in one["referrals"]}
    case.snapshots = 0 if one["whole"] else 1
    return case


def rows_of(hub: Installation, statement: str) -> list[dict[str, Any]]:
    """Return rows of the router, their state as JSON."""
    found = hub.query(f"select coalesce(json_agg(to_json(row)), '[]') from ({statement}) as row")
    return [{**row, "state": _state(row["state"])} for row in json.loads(found)]


def _state(stored: str) -> str:
    """Return the JSON of a state; PostgreSQL gives bytes as hexadecimal digits after two characters."""
    return decompress(bytes.fromhex(stored[2:])).decode()


# ---- started again -----------------------------------------------------------------------------------------------------


def start_again(hub: Installation, clients: Clients) -> None:
    """Start both clients for both hubs. They accept a new case; all other commands that they send are repeats, and no case changes."""
    cases = {row["case_id"]: row for row in rows_of(hub, 'select * from router."case"')}
    before = commands(hub)
    pairs = [(name, at) for name in WORKS_FOR for at in WORKS_FOR.values()]
    with clients.working(*pairs, by=signal.SIGINT):
        new = {at: hub.refer(PRACTICE, bars(Person(postcode=postcode))) for at, postcode in POSTCODES.items()}
        marks = {at: event_about(hub, at, reference).case_id for at, reference in new.items()}
        for (_, at), client in clients.at.items():
            client.prints(f"{ACCEPTED} {marks[at]}")
    hub.settle()
    known = {one.headers["ce_id"] for one in before}
    sent = [one for one in commands(hub)[len(before) :] if one.case_id not in marks.values()]
    assert not [one for one in sent if one.headers["ce_id"] not in known], f"new commands: {[one.kind for one in sent]}"
    after = {row["case_id"]: row for row in rows_of(hub, 'select * from router."case"')}
    assert {case_id: after[case_id] for case_id in cases} == cases, "a case has changed"


POSTCODES = {"charnwood": LOUGHBOROUGH, "blaby": LITTLETHORPE}


def commands(hub: Installation) -> list[HubEvent]:
    """Return all commands of both hubs by time."""
    return hub.records_now(*(f"hub.{at}.command" for at in WORKS_FOR.values()))


def lose(hub: Installation, clients: Clients, person: Person) -> None:
    """Delete what a topic has, as its retention does: a case that another referral joins then is not whole for either client."""
    asyncio.run(kafka.delete_records(hub.kafka, "hub.charnwood.case"))
    joined = event_about(hub, "charnwood", hub.refer(PRACTICE, bars(person, services=("blue-badge",))))
    javascript, python = (clients.rebuilt(name, "charnwood") for name in WORKS_FOR)
    assert javascript == python, _first_difference(javascript, python)
    assert not javascript[joined.case_id]["whole"], "a client does not notice that events are missing"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
