"""Clients of a running installation, as partners' and hubs' systems have them: HTTP, MLLP, MESH and Kafka.

The names that the product gives to its topics, fields, tables and metrics stand in this module only.
"""

import asyncio
import contextlib
import json
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import asyncpg
import psutil
import yaml

from tests.chaos.harness import packet_decoder
from tests.field import kafka
from tests.field.case import Unplayed

GENEROUS_SECONDS = 120.0
"""How long a case waits for what must come, on a loaded machine."""

REFERENCE = re.compile(r"LB(?:-[0-9A-Z]{4}){3}")
REFERRALS, CASES = "referral.event", "case.event"
RECEIVED = "uk.lightbulb.referral.received.v1"
RESTRICTED = "hospital-housing-bradgate"
BROOK_STREET_MAILBOX = "X26ABC2"
SERVICE_ROLES = ("lightbulb_intake", "lightbulb_router", "lightbulb_notifier")
LISTENERS = (
    "gp-",
    "first-contact",
    "customer-service",
    "neighbourhood-teams",
    "lightbulb-website",
    "uhl",
    "lpt",
    "council-",
    "hub-blaby",
)

Seen = TypeVar("Seen")


def until(look: Callable[[], Seen], is_there: Callable[[Seen], bool] = bool, seconds: float = GENEROUS_SECONDS) -> Seen:
    """Look until `is_there` holds of what is seen, or the time is over; return the last thing seen."""
    deadline = time.monotonic() + seconds
    while not is_there(seen := look()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return seen


class Answer(NamedTuple):
    """An HTTP answer. An error status is an answer like any other."""

    status: int
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Row(NamedTuple):
    """What a council's report says of one row; a file that is refused whole is one row without a reference."""

    reference: str | None
    outcome: str
    explanation: str


class Feedback(NamedTuple):
    """One feedback as its referrer fetches it. `kind` of a status-only one: `status requested`."""

    kind: str
    status: str
    detail: str
    hub: str | None
    reasons: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class HubEvent:
    """One record of a hub's topic."""

    hub: str
    kind: str
    key: str
    headers: Mapping[str, str]
    data: Mapping[str, Any]
    value: bytes

    @property
    def case_id(self) -> str:
        return str(self.data["case_id"])

    @property
    def role(self) -> str | None:
        return self.data.get("role")

    @property
    def version(self) -> int | None:
        return self.data.get("hub_version")

    @property
    def referrals(self) -> list[dict[str, Any]]:
        return list(self.data.get("referrals", ()))

    @property
    def persons(self) -> list[dict[str, Any]]:
        return [one["referral"]["person"] for one in self.referrals]

    @property
    def reasons(self) -> list[str]:
        return list(self.data["case"]["reasons"])


class HubCase(NamedTuple):
    """What a hub needs to command a case."""

    case_id: str
    key: str
    version: int


@dataclass
class Installation:
    """A running installation, from its addresses.json."""

    addresses: dict[str, Any]
    began: int = field(default_factory=lambda: int(time.time() * 1000) - 1000)

    # ---- HTTP

    @property
    def intake(self) -> str:
        return str(self.addresses["intake"])

    @property
    def notifier(self) -> str:
        return str(self.addresses["notifier"])

    @property
    def hubs(self) -> list[str]:
        return [name[4:] for name in self.addresses["partners"] if name.startswith("hub-")]

    def token(self, partner: str) -> str:
        return str(self.addresses["partners"][partner]["token"])

    def call(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        media_type: str = "application/json",
        partner: str | None = None,
    ) -> Answer:
        headers = {"Content-Type": media_type, "X-Request-Id": str(uuid.uuid4()), "X-Correlation-Id": str(uuid.uuid4())}
        if partner:
            headers["Authorization"] = f"Bearer {self.token(partner)}"
        request = urllib.request.Request(url, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=GENEROUS_SECONDS) as answer:
                return Answer(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read())

    def fhir(self, partner: str, message: bytes) -> Answer:
        return self.call("POST", f"{self.intake}/fhir/$process-message", message, "application/fhir+json", partner)

    def refer(self, partner: str, message: bytes) -> str:
        """Send a BaRS referral that must be accepted; return our reference."""
        answer = self.fhir(partner, message)
        if answer.status != 200:
            raise Unplayed(f"the referral of {partner} was answered {answer.status}: {answer.body[:300]!r}")
        return str(answer.json()["entry"][-1]["resource"]["identifier"][0]["value"])

    def form(self, partner: str, form: str, answers: Mapping[str, Any] | bytes) -> Answer:
        body = answers if isinstance(answers, bytes) else json.dumps(answers).encode()
        return self.call("POST", f"{self.intake}/forms/{form}", body, partner=partner)

    def rows(self, council: str, file: bytes) -> list[Row]:
        """Upload a council's file; return what its report says of each row."""
        url = f"{self.intake}/councils/{council}/referrals"
        answer = self.call("POST", url, file, "text/csv", f"council-{council}")
        report = answer.json()
        if "rows" not in report:
            return [Row(None, f"file refused {answer.status}", report.get("detail", ""))]
        return [
            Row(
                row["reference_given"],
                row["outcome"],
                "; ".join(f"{fault['column']}: {fault['explanation']}" for fault in row["faults"]),
            )
            for row in report["rows"]
        ]

    def attachment(self, partner: str, attachment: str) -> Answer:
        return self.call("GET", f"{self.intake}/attachments/{attachment}", partner=partner)

    def health(self) -> dict[str, int]:
        """The readiness of each service's process, as an HTTP status."""
        urls = {name: url.replace("/metrics", "/health/ready") for name, url in self.addresses["metrics"].items()}
        return {name: self.call("GET", url).status for name, url in urls.items()}

    # ---- MLLP

    def mllp(self, trust: str, message: bytes) -> str:
        """Send one frame; return the acknowledgement."""
        host, _, port = self.addresses["mllp"][trust].rpartition(":")
        with socket.create_connection((host, int(port)), timeout=GENEROUS_SECONDS) as connection:
            connection.sendall(b"\x0b" + message + b"\x1c\r")
            answer = b""
            while not answer.endswith(b"\x1c\r") and (more := connection.recv(4096)):
                answer += more
        return answer.strip(b"\x0b\x1c\r").decode("latin-1")

    def admit(self, trust: str, message: bytes) -> str:
        """Send a ward's message that must be accepted; return our reference."""
        acknowledgement = self.mllp(trust, message)
        found = REFERENCE.search(acknowledgement)
        if not found:
            raise Unplayed(f"the message of {trust} was answered {acknowledgement[:300]!r}")
        return found[0]

    # ---- feedback

    def feedback(self, partner: str, reference: str) -> list[Feedback]:
        """All feedback on a referral, once everything that was sent has had its effects."""
        self.settle()
        return self.feedback_now(partner, reference)

    def feedback_now(self, partner: str, reference: str) -> list[Feedback]:
        """The feedback on a referral that is there already; asked again while the answer is 429 or 503."""
        url = f"{self.notifier}/referrals/{reference}/feedback"
        answer = until(lambda: self.call("GET", url, partner=partner), lambda one: one.status not in (429, 503))
        if answer.status not in (200, 404):
            raise Unplayed(f"the feedback on {reference} was answered {answer.status}")
        return [_feedback(one) for one in answer.json()] if answer.status == 200 else []

    def feedback_of_any(self, reference: str | None) -> list[tuple[str, str]]:
        """Kind and text of all feedback on a referral that is there already, for whichever practice, ward or front door asked."""
        listeners = [name for name in self.addresses["partners"] if name.startswith(LISTENERS)]
        return [(one.kind, one.text) for name in listeners if reference for one in self.feedback_now(name, reference)]

    def letters(self, mailbox: str, reference: str) -> list[tuple[str, bytes]]:
        """(subject, body) of the letters about a referral in a MESH mailbox, once none is on its way."""
        self.settle()
        waiting = "select count(*) from notifier.feedback where reference = $1 and state = 'waiting'"
        until(lambda: self.query(waiting, reference), lambda count: count == 0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from mesh_client import MeshClient

            mesh = self.addresses["mesh"]
            key = mesh["shared_key"].encode()
            with contextlib.closing(MeshClient(mesh["url"], mailbox, mesh["password"], shared_key=key)) as client:
                messages = [client.retrieve_message(one) for one in client.list_messages()]
                letters = [(str(message.subject), message.read()) for message in messages]
        return [letter for letter in letters if reference.encode() in letter[1]]

    # ---- Kafka

    def hub_events(self, *hubs: str, about: str | None = None) -> list[HubEvent]:
        """Events on the topics of these hubs (of all, if none is named) about a case or a reference, in order.

        Everything that was sent before has had its effects by then.
        """
        self.settle()
        return [event for event in self.events_now(*hubs) if about is None or about.encode() in event.value]

    def events_now(self, *hubs: str) -> list[HubEvent]:
        """Events that are on the topics of these hubs (of all, if none is named) already."""
        return self.records_now(*(f"hub.{hub}.case" for hub in hubs or self.hubs))

    def records_now(self, *topics: str) -> list[HubEvent]:
        """Records that are on these topics of hubs already."""
        return [_hub_event(record) for record in asyncio.run(kafka.read(self.kafka, topics, since=self.began))]

    def case_at(self, hub: str, reference: str) -> HubCase:
        """The case of a referral as this hub was last informed of it."""
        found = self.hub_events(hub, about=reference)
        if not found:
            raise Unplayed(f"{hub} was not informed of {reference}")
        newest = [event for event in self.hub_events(hub, about=found[-1].case_id) if event.version][-1]
        return HubCase(newest.case_id, newest.key, int(newest.version or 0))

    def command(self, hub: str, name: str, case: HubCase, command_id: str | None = None, **data: Any) -> None:
        """Publish a hub's command."""
        self.publish_command(hub, name, case.key, command_body(case, **data), command_id)

    def publish_command(
        self, hub: str, name: str, key: str, body: Mapping[str, Any], command_id: str | None = None
    ) -> None:
        """Publish whatever `body` is as a command of this hub."""
        headers = kafka.event_headers(command_type(name), key, f"/hub/{hub}", command_id)
        asyncio.run(kafka.publish(self.kafka, f"hub.{hub}.command", key, headers, json.dumps(body).encode()))

    @property
    def kafka(self) -> dict[str, Any]:
        """Connection settings of a client with credentials."""
        return {"bootstrap_servers": self.addresses["kafka"]}

    def settle(self, seconds: float = GENEROUS_SECONDS) -> None:
        """Wait until everything that was accepted before is published, decided and composed as feedback."""
        asyncio.run(self._settle(seconds))

    async def _settle(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        commands = [f"hub.{hub}.command" for hub in self.hubs]
        topics = [REFERRALS, CASES, *commands]
        async with (
            self._pool() as database,
            kafka.admin(self.kafka) as admin,
            kafka.consumer(self.kafka, topics) as consumer,
        ):
            for remaining in (
                lambda: database.fetchval(UNPUBLISHED.format("intake")),
                lambda: kafka.lag(admin, consumer, "router", {REFERRALS, *commands}),
                lambda: database.fetchval(UNPUBLISHED.format("router")),
                lambda: kafka.lag(admin, consumer, "notifier", {CASES}),
            ):
                while count := await remaining():
                    if time.monotonic() > deadline:
                        raise Unplayed(f"the installation has {count} records to apply after {seconds:.0f} s")
                    await asyncio.sleep(0.05)

    # ---- the database and the machine, for what only they show

    @property
    def dsn(self) -> str:
        return str(self.addresses["postgres"]).replace("+asyncpg", "")

    def _pool(self) -> Any:
        return asyncpg.create_pool(self.dsn, min_size=1, max_size=1)

    def query(self, statement: str, *arguments: Any) -> Any:
        """One value."""

        async def on_connection() -> Any:
            async with self._pool() as database:
                return await database.fetchval(statement, *arguments)

        return asyncio.run(on_connection())

    def unpublished(self) -> int:
        """Events of accepted messages that intake has not published yet."""
        return int(self.query(UNPUBLISHED.format("intake")))

    def stored_message_with(self, text: str) -> bytes | None:
        """What is stored of a message that holds this text, the latest first."""
        return asyncio.run(self._stored_message_with(text.encode()))

    async def _stored_message_with(self, text: bytes) -> bytes | None:
        async with self._pool() as database, database.acquire() as connection, connection.transaction():
            async for row in connection.cursor("select content from intake.packet order by id desc", prefetch=10):
                for parts in packet_decoder.decode(row["content"]).contents:
                    for part in parts:
                        if text in part:
                            return part
        return None

    def stored_size(self) -> int:
        """Bytes of the stored messages."""
        return int(
            self.query("select pg_total_relation_size('intake.message') + pg_total_relation_size('intake.packet')")
        )

    def quarantined_for_server_faults(self) -> int:
        """Records in quarantine for an error of the database."""
        waiting = "select count(*) from {}.dead_letter where reason like 'sqlstate%'"
        return sum(int(self.query(waiting.format(service))) for service in ("router", "notifier"))

    def feedback_states(self, reference: str) -> list[str]:
        """The states of all feedback on a referral: waiting, accepted, failed."""
        return list(
            self.query(
                "select array_agg(state order by ordinal) from notifier.feedback where reference = $1", reference
            )
            or ()
        )

    def unaddressed(self) -> list[str]:
        """The partners of which the notifier says that their channel has no address."""
        return list(self.query("select array_agg(partner) from notifier.unaddressed") or ())

    def give_address(self, partner: str, url: str) -> None:
        """Write the address of a partner's endpoint into deployment.yaml, and let the notifier start again with it."""
        file = self.data_folder() / "deployment.yaml"
        deployment = yaml.safe_load(file.read_text())
        deployment["partners"][partner]["feedback_url"] = url
        file.write_text(yaml.safe_dump(deployment))
        notifier = self._process_at(self.addresses["notifier"])
        notifier.terminate()
        notifier.wait(GENEROUS_SECONDS)
        ready = self.addresses["metrics"]["notifier"].replace("/metrics", "/health/ready")

        def is_ready() -> bool:
            try:
                return self.call("GET", ready).status == 200
            except OSError:
                return False

        until(is_ready)

    def port_of(self, server: str) -> int:
        """The port of PostgreSQL or Kafka."""
        return int(re.findall(r":(\d+)", self.addresses[server])[-1])

    @contextlib.contextmanager
    def another_router(self, database: int, broker: int, health: int) -> Iterator["subprocess.Popen[bytes]"]:
        """Another process of the router, with other ports of its servers."""
        of_the_first = self.router().environ()
        url = re.sub(r":\d+/", f":{database}/", of_the_first["LIGHTBULB_DATABASE"])
        settings = {"DATABASE": url, "KAFKA": f"127.0.0.1:{broker}", "METRICS_PORT": str(health)}
        environment = of_the_first | {f"LIGHTBULB_{name}": value for name, value in settings.items()}
        router = subprocess.Popen(
            self.router().cmdline(), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield router
        finally:
            router.terminate()
            router.wait(GENEROUS_SECONDS)

    def router(self) -> psutil.Process:
        """The router's process: the one that serves its metrics."""
        return self._process_at(self.addresses["router"])

    def _process_at(self, url: str) -> psutil.Process:
        port = int(url.rpartition(":")[2])
        for one in psutil.net_connections("tcp"):
            if one.laddr and one.laddr.port == port and one.status == psutil.CONN_LISTEN and one.pid:
                return psutil.Process(one.pid)
        raise Unplayed(f"no process listens at {url}")

    def data_folder(self) -> Path:
        """The folder of the installation."""
        return Path(self.router().environ()["LIGHTBULB_SECRET_FILE"]).parent


UNPUBLISHED = """
    select (select count(*) from {0}.packet where published_at is null) + (select count(*) from {0}.packet_held)"""


def _feedback(one: Mapping[str, Any]) -> Feedback:
    hub = (one.get("hub") or {}).get("name")
    reasons = tuple(why["code"] for why in one.get("routing_reasons", ()))
    kind = one.get("feedback_type") or f"status {one['status']}"
    return Feedback(kind, one["status"], one["detail"], hub, reasons, json.dumps(one))


def _hub_event(record: Any) -> HubEvent:
    headers = {name: value.decode() for name, value in record.headers}
    kind = headers["ce_type"].removeprefix("uk.lightbulb.case.").removesuffix(".v1")
    hub = record.topic.split(".")[1]
    key = (record.key or b"").decode()
    return HubEvent(hub, kind, key, headers, json.loads(record.value), record.value)


def command_type(name: str) -> str:
    return f"uk.lightbulb.case.{name}.v1"


def command_body(case: HubCase, **data: Any) -> dict[str, Any]:
    return {"case_id": case.case_id, "person_key": case.key, "expected_version": case.version, **data}


# ---- bytes on a socket ----------------------------------------------------------------------------------------------


def raw(url: str, request: bytes) -> bytes:
    """Send these bytes to the port of `url`; return everything until the server closes the connection."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=GENEROUS_SECONDS) as connection:
        connection.sendall(request)
        return b"".join(_received(connection))


def _received(connection: socket.socket) -> Iterator[bytes]:
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(65536):
            yield chunk
