"""An installation's worth of intake: database, secret, credentials; in this process through ASGI, or as processes on a port."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from uuid import uuid4

import aiohttp
import yaml
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette

from infra.local.embedded import ports_and_secrets
from services.intake import accept, app
from services.intake.group_commit import GroupCommit
from services.intake.responses import conformance
from services.intake.translators import bars_fhir, council_csv, form, hl7v2
from services.intake.translators.inbound_message import Translator
from services.messaging import packets
from services.messaging.packets import Place, StoredMessage
from services.messaging.relay import Relay
from services.reference import directory, fillers, lists, partners
from tests.builders.bars import SERVICE

CHECKOUT = Path(__file__).resolve().parents[2]
DIRECTORY = CHECKOUT / "infra" / "reference_data"
SECRET = b"a secret of these tests, 32 bytes and more"


@dataclass(frozen=True)
class Installation:
    """Files and addresses of one installation; `tokens` by partner."""

    database: str
    folder: Path
    tokens: Mapping[str, str]
    kafka: str = "127.0.0.1:1"
    directory: Path = DIRECTORY
    settings: Mapping[str, str] = field(default_factory=dict)

    def environment(self, port: int) -> dict[str, str]:
        told = {
            "DATABASE": self.database,
            "KAFKA": self.kafka,
            "SECRET_FILE": str(self.folder / "secret"),
            "DEPLOYMENT": str(self.folder / "deployment.yaml"),
            "DIRECTORY": str(self.directory),
            "HTTP_PORT": str(port),
            "STOP_DELAY_SECONDS": "0",
            **self.settings,
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTBULB_")}
        return inherited | {f"LIGHTBULB_{name}": value for name, value in told.items()}


def install(database: str, folder: Path, **more: Any) -> Installation:
    """Write secret and deployment.yaml with a token for every partner."""
    known = partners.load(more.get("directory", DIRECTORY), None)
    made = {partner.id: partners.new_token() for partner in known}
    ports_and_secrets.write(folder / "secret", SECRET.decode())
    access = {name: {"token_sha256": [digest]} for name, (_, digest) in made.items()}
    access["gp-alder-lane"]["feedback_url"] = "http://127.0.0.1:9/feedback"  # type: ignore[assignment]
    (folder / "deployment.yaml").write_text(yaml.safe_dump({"partners": access}))
    return Installation(database, folder, {name: token for name, (token, _) in made.items()}, **more)


# ---- in this process ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class NoRelay(Relay):
    """Publishes nothing: these tests look at the outbox."""

    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


class Reviewed(NamedTuple):
    """What intake reads of the reviewed files when it starts."""

    bars: Translator
    forms: Mapping[str, form.Form]
    hl7v2: Translator
    councils: Mapping[str, council_csv.CouncilMapping]
    fillers: fillers.Fillers
    code_systems: conformance.CodeSystems
    lists: lists.CodeLists


def reviewed(folder: Path) -> Reviewed:
    """Read a folder of reviewed files; that of the repository once, because it takes longer than most tests."""
    return _shipped() if folder == DIRECTORY else _read(folder)


def _read(folder: Path) -> Reviewed:
    services = directory.catalogue(folder)
    return Reviewed(
        bars_fhir.translator(services, (SERVICE,)),
        form.load(folder / "forms", services),
        hl7v2.translator(hl7v2.load(folder / "hl7v2", services)),
        council_csv.load(folder / "councils", services),
        fillers.load(folder),
        conformance.code_systems(directory.labels(folder)),
        lists.load(folder),
    )


@cache
def _shipped() -> Reviewed:
    return _read(DIRECTORY)


class InProcess:
    """Intake without sockets: requests go straight to the ASGI application."""

    def __init__(
        self,
        installation: Installation,
        engine: AsyncEngine,
        *,
        max_body_bytes: int = 1_048_576,
        translate: Translator | None = None,
    ) -> None:
        self.installation = installation
        self.engine = engine
        self.batching = GroupCommit(engine, SECRET, NoRelay())
        deployment = installation.folder / "deployment.yaml"
        known = partners.load(installation.directory, deployment)
        read = reviewed(installation.directory)
        self.intake = accept.Intake(
            known,
            self.batching,
            SECRET,
            max_body_bytes,
            read.bars,
            read.forms,
            translate or read.hl7v2,
            read.councils,
            service_ids=(SERVICE,),
            fillers=read.fillers,
            code_systems=read.code_systems,
            lists=read.lists,
        )
        self.app: Starlette = app.create(self.intake, engine)

    async def __aenter__(self) -> "InProcess":
        self._task = asyncio.create_task(self.batching.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.batching.close()
        await self._task

    async def bars(self, message: Any, *, sender: str | None = "gp-alder-lane", **headers: Any) -> Reply:
        """Post a message with ids of its own, unless `headers` gives others or None for none."""
        given = {"x_request_id": str(uuid4()), "x_correlation_id": str(uuid4())} | headers
        kept = {name: value for name, value in given.items() if value is not None}
        return await self.post("/fhir/$process-message", message, sender, "application/fhir+json", kept)

    async def form(
        self, filled: Any, *, sender: str | None = "first-contact", name: str = "first-contact-plus", **headers: str
    ) -> Reply:
        return await self.post(f"/forms/{name}", filled, sender, "application/json", headers)

    async def post(
        self,
        path: str,
        content: Any,
        sender: str | None,
        media_type: str,
        headers: Mapping[str, str] = {},
    ) -> Reply:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return await self.call("POST", path, body, sender, {"content-type": media_type, **_named(headers)})

    async def get(self, path: str, sender: str | None = None) -> Reply:
        return await self.call("GET", path, b"", sender, {})

    async def search(self, path: str, query: str, sender: str | None = None) -> Reply:
        return await self.call("GET", f"{path}?{query}", b"", sender, {})

    async def call(self, method: str, path: str, body: bytes, sender: str | None, headers: Mapping[str, str]) -> Reply:
        """Make a request; the query, if there is one, is part of the path."""
        sent = dict(headers)
        if sender is not None:
            sent["authorization"] = f"Bearer {self.installation.tokens.get(sender, sender)}"
        ends, breaks_off = sent.pop("-body-ends", True), sent.pop("-body-breaks-off", False)
        return await _asgi(self.app, method, path, body, sent, ends=bool(ends), breaks_off=bool(breaks_off))


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


async def _asgi(
    application: Any,
    method: str,
    path: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    ends: bool = True,
    breaks_off: bool = False,
) -> Reply:
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path.partition("?")[0],
        "raw_path": path.partition("?")[0].encode(),
        "query_string": path.partition("?")[2].encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
        "server": ("intake.test", 80),
        "client": ("127.0.0.1", 1),
    }
    parts = [{"type": "http.request", "body": body, "more_body": breaks_off or not ends}]
    sent: list[dict[str, Any]] = []

    async def receive_part() -> dict[str, Any]:
        if not parts and not breaks_off:
            await asyncio.Event().wait()  # a client that has sent everything stays for its answer
        return parts.pop(0) if parts else {"type": "http.disconnect"}

    async def send_part(message: dict[str, Any]) -> None:
        sent.append(message)

    await application(scope, receive_part, send_part)
    start = sent[0]
    answered = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
    return Reply(start["status"], answered, b"".join(part.get("body", b"") for part in sent[1:]))


# ---- as processes ---------------------------------------------------------------------------------------------------


class Processes:
    """Intake as real processes that share one port."""

    def __init__(self, installation: Installation, number: int = 1) -> None:
        self.installation = installation
        self.port = _free_port()
        self.started: list[subprocess.Popen[bytes]] = []
        self.log = installation.folder / f"intake-{self.port}.log"
        for _ in range(number):
            self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, **settings: str) -> "subprocess.Popen[bytes]":
        environment = self.installation.environment(self.port) | settings
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "services.intake.app"], env=environment, stderr=log, stdout=log, cwd=CHECKOUT
            )
        self.started.append(process)
        return process

    async def until_ready(self) -> "Processes":
        deadline = time.monotonic() + 60
        wanted = len([process for process in self.started if process.poll() is None])
        while self.log.read_bytes().count(b'"http_listening"') < wanted or not await self.is_ready():
            if time.monotonic() > deadline or all(process.poll() is not None for process in self.started):
                raise AssertionError(self.log.read_text())
            await asyncio.sleep(0.05)
        return self

    async def is_ready(self) -> bool:
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{self.url}/health/ready") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def bars(self, message: Any, *, sender: str = "gp-alder-lane", **headers: str) -> Reply:
        ids = {"x-request-id": str(uuid4()), "x-correlation-id": str(uuid4())}
        sent = {"Content-Type": "application/fhir+json"} | ids | _named(headers)
        return await self.post("/fhir/$process-message", message, sender, sent)

    async def form(self, filled: Any, *, sender: str = "first-contact", name: str = "first-contact-plus") -> Reply:
        return await self.post(f"/forms/{name}", filled, sender, {"Content-Type": "application/json"})

    async def post(self, path: str, content: Any, sender: str, headers: Mapping[str, str]) -> Reply:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        sent = {"Authorization": f"Bearer {self.installation.tokens[sender]}", **headers}
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session,
            session.post(self.url + path, data=body, headers=sent) as response,
        ):
            return Reply(response.status, response.headers, await response.read())

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        for process in self.started:
            if process.poll() is None:
                process.send_signal(number)
        for process in self.started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


# ---- what was kept --------------------------------------------------------------------------------------------------


async def rows(engine: AsyncEngine, query: str, **values: object) -> Sequence[Any]:
    async with engine.connect() as connection:
        return (await connection.execute(text(query), values)).all()


async def published(engine: AsyncEngine) -> list[StoredMessage]:
    """The outbox' messages in order."""
    async with engine.connect() as tx:
        return await packets.published(tx, "intake")


def headers_of(stored: StoredMessage) -> dict[str, str]:
    return {name: value.decode() for name, value in stored.message.headers}


def kind_of(stored: StoredMessage) -> str:
    """The type of an event without its namespace and version, such as referral.received."""
    return headers_of(stored)["ce_type"].removeprefix("uk.lightbulb.").removesuffix(".v1")


async def events(engine: AsyncEngine, reference: str) -> list[dict[str, Any]]:
    """The outbox' events of one referral, in order: headers and data together."""
    read = [
        {
            **headers_of(one),
            **json.loads(one.message.value),
            "key": one.message.person_key,
            "topic": one.message.target,
        }
        for one in await published(engine)
    ]
    return [event for event in read if event["reference"] == reference]


async def stored_messages(engine: AsyncEngine) -> list[Any]:
    """The rows of intake.message by id, each with its `body` and `answer`."""
    async with engine.connect() as tx:
        found = (await tx.execute(text("select * from intake.message order by id"))).all()
        places = {row.id: (row.partner, Place(row.packet, row.place)) for row in found}
        contents = await packets.contents(tx, "intake", places.values())
    return [
        SimpleNamespace(**row._mapping, **dict(zip(("body", "answer"), contents[places[row.id]], strict=True)))
        for row in found
    ]


def reference_of(reply: Reply) -> str:
    """The reference in an answer, wherever its protocol puts it."""
    said = reply.json()
    if "entry" in said:
        return str(said["entry"][-1]["resource"]["identifier"][0]["value"])
    if "reference" in said:
        return str(said["reference"])
    words = " ".join(issue["diagnostics"] for issue in said.get("issue", [])).replace(";", " ").split()
    return next(word for word in words if word.startswith("LB-"))
