"""Field cases of operation: what happens to everybody else when one key is hot, the database fails over, or Kafka loses records.

All are destructive: each needs an installation of its own.
"""

import asyncio
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from tests.field import kafka
from tests.field.case import Unplayed, Wrong, case
from tests.field.clients import REFERRALS, SERVICE_ROLES, Installation, until
from tests.field.exports import BLABY, HINCKLEY
from tests.field.fresh import nhs_number
from tests.field.listeners import Door, Endpoint, free_port
from tests.field.referrals import Person, bars, first_contact_form, letters

WAIT_SECONDS = 60.0
"""How long others may wait: on a machine at rest it is a second."""
NOTICED_SECONDS = 10.0
"""By when readiness says that nothing can be written."""
IN_EFFECT_SECONDS = 2.0
"""By when every open session has the setting."""
SENDERS = 6
FORM = ("first-contact", "first-contact-plus")


# ---- one hot key ----------------------------------------------------------------------------------------------------

HOT_ROWS = 8000
OTHER_ROWS = 100
"""Other people, so many that some share the partition of the hot key."""


@case("ops/hot-key-does-not-stop-everybody", destructive=True)
def hot_key_does_not_stop_everybody(addresses: dict[str, Any]) -> None:
    """A council's file with one NHS number in every row (filled down a column); another council's people still get their cases."""
    hub, number = Installation(addresses), nhs_number()
    rows = hub.rows("hinckley-bosworth", HINCKLEY.file(*(_row_of(number, place) for place in range(HOT_ROWS))))
    if not {row.outcome for row in rows} <= {"received", "refused"}:
        raise Unplayed(f"the file was answered {Counter(row.outcome for row in rows)}")
    references = [letters(8) for _ in range(OTHER_ROWS)]
    hub.rows("blaby", BLABY.file(*(BLABY.row(**{"Case Ref": reference}) for reference in references)))
    if not until(lambda: _are_informed(hub, "blaby", references), seconds=WAIT_SECONDS):
        raise Wrong(f"other people have no case {WAIT_SECONDS:.0f} s later")


def _row_of(number: str, place: int) -> bytes:
    """Somebody else in each place, under one NHS number."""
    born = f"0{1 + place % 9}-0{1 + place % 9}-19{20 + place % 60}"
    return HINCKLEY.row(REFNO=f"{1_000_000 + place}", SURNAME=f"NAME{place}", BIRTH=born, NHSNO=number)


def _are_informed(hub: Installation, at: str, references: list[str]) -> bool:
    values = b"".join(event.value for event in hub.events_now(at))
    return all(reference.encode() in values for reference in references)


# ---- a database that takes no writes --------------------------------------------------------------------------------


@dataclass
class Traffic:
    """Forms that senders post all the time, and how each was answered."""

    hub: Installation
    answers: list[tuple[float, int]] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def send(self) -> None:
        while not self._stopping.is_set():
            try:
                status = self.hub.form(*FORM, first_contact_form(letters(10))).status
            except OSError:
                status = 0
            self.answers.append((time.monotonic(), status))
            self._stopping.wait(0.15)

    def since(self, moment: float) -> Counter[int]:
        return Counter(status for at, status in self.answers if at >= moment)

    @contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self.send) for _ in range(SENDERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            for thread in threads:
                thread.join()


READ_ONLY = "default_transaction_read_only"


def _execute(hub: Installation, *statements: str) -> None:
    async def on_connection() -> None:
        connection = await asyncpg.connect(hub.dsn)
        try:
            await connection.execute(f"set {READ_ONLY} = off")
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(on_connection())


def _heal(hub: Installation) -> None:
    roles = _for_every_role(f"reset {READ_ONLY}")
    _execute(hub, *roles, f"alter system reset {READ_ONLY}", "select pg_reload_conf()")


def _for_every_role(change: str) -> list[str]:
    return [f"alter role {role} {change}" for role in ("current_user", *SERVICE_ROLES)]


@case("ops/read-only-stale-sessions-are-replaced", destructive=True)
def read_only_stale_sessions_are_replaced(addresses: dict[str, Any]) -> None:
    """Open sessions are read-only and a new one would write, as after a failover: service resumes, and readiness says no until then."""
    hub = Installation(addresses)
    traffic, faults = Traffic(hub), []
    with traffic.running():
        if not until(lambda: traffic.since(0)[202]):
            raise Unplayed(f"no form was accepted before the fault: {traffic.since(0)}")
        try:
            new_sessions_write = _for_every_role(f"set {READ_ONLY} = off")
            _execute(hub, *new_sessions_write, f"alter system set {READ_ONLY} = on", "select pg_reload_conf()")
            failed = until(lambda: traffic.since(0)[503] or traffic.since(0)[500], seconds=NOTICED_SECONDS)
            faults = _faults_of_recovery(hub, traffic) if failed else []
        finally:
            _heal(hub)
    if faults:
        raise Wrong("; ".join(faults))


def _faults_of_recovery(hub: Installation, traffic: Traffic) -> list[str]:
    began = time.monotonic() + IN_EFFECT_SECONDS
    if until(lambda: traffic.since(began)[202], seconds=NOTICED_SECONDS):
        return []
    ready = [name for name, status in hub.health().items() if status == 200]
    faults = [f"ready while nothing can be written: {', '.join(ready)}"] if ready else []
    accepted = until(lambda: traffic.since(began)[202], seconds=WAIT_SECONDS - NOTICED_SECONDS)
    return faults if accepted else [*faults, f"nothing is accepted {WAIT_SECONDS:.0f} s after the fault"]


FLIPS = 120


@contextmanager
def _nothing_refused(hub: Installation) -> Iterator[None]:
    """Send forms while a fault passes; then nothing may have been refused or quarantined."""
    traffic, before = Traffic(hub), hub.quarantined_for_server_faults()
    with traffic.running():
        if not until(lambda: traffic.since(0)[202]):
            raise Unplayed(f"no form was accepted before the fault: {traffic.since(0)}")
        yield
    until(lambda: hub.form(*FORM, first_contact_form(letters(10))).status == 202)
    hub.settle()
    refused = {status: count for status, count in traffic.since(0).items() if status in (400, 422, 500)}
    quarantined = hub.quarantined_for_server_faults() - before
    if refused or quarantined:
        raise Wrong(f"valid referrals refused {refused}, records quarantined {quarantined}")


@case("ops/read-only-flapping-refuses-nothing", destructive=True)
def read_only_flapping_refuses_nothing(addresses: dict[str, Any]) -> None:
    """Reads and writes change places for some seconds, as while a pooler finds the primary: nothing is refused or quarantined."""
    hub = Installation(addresses)
    with _nothing_refused(hub):
        try:
            asyncio.run(_flap(hub.dsn))
        finally:
            _heal(hub)


async def _flap(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(f"set {READ_ONLY} = off")
    for _ in range(FLIPS):
        for change in (f"set {READ_ONLY} = on", f"reset {READ_ONLY}"):
            await connection.execute(f"alter system {change}")
            await connection.execute("select pg_reload_conf()")
            await asyncio.sleep(0.15)
    await connection.close()


TABLES = ("intake.referral", "router.input", "notifier.feedback")
AWAY_SECONDS = 4.0


@case("ops/table-renamed-refuses-nothing", destructive=True)
def table_renamed_refuses_nothing(addresses: dict[str, Any]) -> None:
    """A table of each service is away for seconds, as in a restore or a migration: nothing is refused or quarantined."""
    hub = Installation(addresses)
    with _nothing_refused(hub):
        for table in TABLES:
            schema, _, name = table.partition(".")
            _execute(hub, f"alter table {table} rename to {name}_away")
            time.sleep(AWAY_SECONDS)
            _execute(hub, f"alter table {schema}.{name}_away rename to {name}")


# ---- records that Kafka no longer has -------------------------------------------------------------------------------

ACCEPTED = 30


@case("ops/records-gone-are-decided-or-reported", destructive=True)
def records_gone_are_decided_or_reported(addresses: dict[str, Any]) -> None:
    """What was published and is deleted before the router read it (retention, a topic made again) is decided, or readiness says no."""
    hub = Installation(addresses)
    router = hub.router()
    router.suspend()
    try:
        answers = [hub.form(*FORM, first_contact_form(letters(10))) for _ in range(ACCEPTED)]
        if any(answer.status != 202 for answer in answers):
            raise Unplayed(f"forms were answered {Counter(answer.status for answer in answers)}")
        if until(hub.unpublished, lambda count: count == 0):
            raise Unplayed("intake did not publish what it accepted")
        asyncio.run(kafka.delete_records(hub.kafka, REFERRALS))
    finally:
        router.resume()
    references = [answer.json()["reference"] for answer in answers]
    undecided = until(lambda: _without_feedback(hub, references), lambda some: not some, seconds=WAIT_SECONDS)
    if undecided and set(hub.health().values()) == {200}:
        raise Wrong(f"{len(undecided)} of {ACCEPTED} accepted referrals are not decided, and every service is ready")


def _without_feedback(hub: Installation, references: list[str]) -> list[str]:
    return [one for one in references if not hub.feedback_now("first-contact", one)]


# ---- servers that come later than the services -----------------------------------------------------------------------

STARTS_SECONDS = 60.0


@case("ops/servers-away-at-start-are-waited-for", destructive=True)
def servers_away_at_start_are_waited_for(addresses: dict[str, Any]) -> None:
    """A second router starts before its servers can be reached: it lives, is not ready, does not end, and works when they come."""
    hub = Installation(addresses)
    database, broker, health = Door(hub.port_of("postgres")), Door(hub.port_of("kafka")), free_port()
    url = f"http://127.0.0.1:{health}/health"
    with hub.another_router(database.port, broker.port, health) as router:
        live = until(lambda: _status(f"{url}/live"), lambda status: status == 200, seconds=STARTS_SECONDS)
        ready, ended = _status(f"{url}/ready"), router.poll()
        if (live, ready, ended) != (200, 503, None):
            raise Wrong(f"live {live}, ready {ready}, exit code {ended} while its servers are away")
        with database.open(), broker.open():
            ready = until(lambda: _status(f"{url}/ready"), lambda status: status == 200)
            if ready != 200:
                raise Wrong(f"ready {ready} when its servers were there, exit code {router.poll()}")


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


# ---- a practice's endpoint -------------------------------------------------------------------------------------------

PRACTICE = "gp-alder-lane"
UNREACHED_SECONDS = 5.0


@case("ops/practice-without-address-is-named-and-waits", destructive=True)
def practice_without_address_is_named_and_waits(addresses: dict[str, Any]) -> None:
    """A practice has a FHIR endpoint and no address: its feedback is not taken for delivered, it is named, and goes when there is one."""
    hub = Installation(addresses)
    reference = hub.refer(PRACTICE, bars(Person(), PRACTICE))
    if not until(lambda: hub.feedback_states(reference)):
        raise Unplayed(f"no feedback about {reference} was composed")
    states, named = hub.feedback_states(reference), hub.unaddressed()
    if set(states) != {"waiting"} or PRACTICE not in named:
        raise Wrong(f"its feedback is {states}, and without an address are {named}")
    with Endpoint() as endpoint:
        hub.give_address(PRACTICE, endpoint.url)
        if not until(lambda: reference in endpoint.taken):
            raise Wrong(f"feedback about {reference} did not arrive when there was an address")


@case("ops/endpoint-redirect-loses-nothing", destructive=True)
def endpoint_redirect_loses_nothing(addresses: dict[str, Any]) -> None:
    """A practice's gateway answers 302, then 404, for seconds: all feedback arrives afterwards, once, and none counts as failed."""
    hub = Installation(addresses)
    with Endpoint() as endpoint:
        hub.give_address(PRACTICE, endpoint.url)
        references = []
        for status in (302, 404):
            endpoint.answers = status
            references += [hub.refer(PRACTICE, bars(Person(), PRACTICE)) for _ in range(3)]
            if not until(lambda: endpoint.refused >= len(references)):  # noqa: B023 - called in this round
                raise Unplayed(f"the endpoint was asked {endpoint.refused} times")
            time.sleep(UNREACHED_SECONDS)
        failed = [one for one in references if "failed" in hub.feedback_states(one)]
        endpoint.answers = 200
        until(lambda: not set(references) - set(endpoint.taken))
        missing = set(references) - set(endpoint.taken)
        if failed or missing:
            raise Wrong(
                f"of {len(references)} referrals feedback failed for {len(failed)}, and is missing for {len(missing)}"
            )
