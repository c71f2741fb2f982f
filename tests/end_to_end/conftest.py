"""One installation for all walks: real parts, two processes of each service, a practice's system, everything at DEBUG."""

import asyncio
import json
import re
import shutil
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bench.messages import BenchmarkMessage, messages
from infra.local import installation
from infra.local.embedded import ports_and_secrets
from infra.local.installation import Installation, Plan
from infra.partner_simulators.hub import HubClient, ScriptStep, SimulatedCase, apply_event, command
from services.runtime.settings import CHECKOUT

PRACTICE = "gp-alder-lane"
FHIR_JSON = "application/fhir+json; version=1.0.0"


@dataclass(frozen=True)
class Walk:
    """The installation, and what its ends saw."""

    running: Installation
    inbox: Path
    traces: Path

    def token(self, partner: str = PRACTICE) -> str:
        return str(self.running.addresses["partners"][partner]["token"])

    async def post(self, session: aiohttp.ClientSession, message: BenchmarkMessage, **more: str) -> tuple[int, str]:
        """POST once, with these additional headers; return (status, body)."""
        headers = {
            "Authorization": f"Bearer {self.token()}",
            "Content-Type": FHIR_JSON,
            "X-Request-Id": message.request_id,
            "X-Correlation-Id": message.correlation_id,
            **more,
        }
        url = self.running.addresses["intake"] + "/fhir/$process-message"
        async with session.post(url, data=message.body, headers=headers) as answer:
            return answer.status, await answer.text()

    def feedback_of(self, correlation_id: str) -> list[dict[str, Any]]:
        """What the practice's system took for one referral, in the order that it came."""
        lines = self.inbox.read_text().splitlines() if self.inbox.exists() else []
        return [line for line in map(json.loads, lines) if line.get("correlation_id") == correlation_id]

    async def until_feedback(
        self, correlation_id: str, feedback_type: str, seconds: float = 60
    ) -> list[dict[str, Any]]:
        """Wait until the practice received this feedback; return all that it received."""
        async with asyncio.timeout(seconds):
            while feedback_type not in {line.get("feedback_type") for line in self.feedback_of(correlation_id)}:
                await asyncio.sleep(0.1)
        return self.feedback_of(correlation_id)

    async def fetched(
        self, session: aiohttp.ClientSession, partner: str, reference: str, often: int = 0, *, or_none: bool = False
    ) -> list[dict[str, Any]]:
        """Return the feedback stored for a partner about a referral once it has the wanted length; `or_none`: or none is found."""
        headers = {"Authorization": f"Bearer {self.token(partner)}"}
        url = f"{self.running.addresses['notifier']}/referrals/{reference}/feedback"
        async with asyncio.timeout(60):
            while True:
                async with session.get(url, headers=headers) as answer:
                    kept: list[dict[str, Any]] = await answer.json() if answer.status == 200 else []
                if len(kept) >= often or (or_none and answer.status == 404):
                    return kept
                await asyncio.sleep(0.2)

    def logs(self) -> str:
        return "".join(file.read_text(errors="replace") for file in (self.running.plan.data / "logs").glob("*.log"))


@pytest.fixture(scope="session")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    folder = tmp_path_factory.mktemp("walk")
    traces = tmp_path_factory.mktemp("traces") / "walk.traces"
    [port] = ports_and_secrets.free_ports(1)
    data = installation.temporary_folder()
    plan = Plan(
        data,
        ephemeral=True,
        each=2,
        feedback_urls={PRACTICE: f"http://{ports_and_secrets.HOST}:{port}/"},
        environment={"LIGHTBULB_LOG_LEVEL": "DEBUG", "LIGHTBULB_TRACES": f"file:{traces}"},
    )
    running = installation.start(plan)
    try:
        inbox = folder / "practice.jsonl"
        system = [
            sys.executable,
            str(CHECKOUT / "infra/partner_simulators/gp_system.py"),
            "--port",
            str(port),
            "--inbox",
            str(inbox),
        ]
        running.start_process("gp-system", [*system, "--token-file", str(data / f"feedback-token-{PRACTICE}")])
        yield Walk(running, inbox, traces)
    finally:
        running.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def a_message() -> Callable[[], BenchmarkMessage]:
    """A new referral of a new person at each call."""

    def make() -> BenchmarkMessage:
        [message] = messages(1, f"walk {uuid.uuid4()}")
        return message

    return make


class HubAtWork:
    """A hub's system under the control of a test: it uses only the hub's topics."""

    def __init__(self, client: HubClient) -> None:
        self._client = client
        self.cases: dict[tuple[str, str], SimulatedCase] = {}
        self.kinds: dict[tuple[str, str], list[str]] = {}
        self.refusals: list[dict[str, Any]] = []
        self.person_keys: dict[str, str] = {}

    async def until(self, ready: Callable[["HubAtWork"], Any], seconds: float = 60) -> Any:
        """Listen until `ready` finds what it looks for."""
        async with asyncio.timeout(seconds):
            while not (found := ready(self)):
                for heard in await self._client.receive(0.1):
                    self._take(heard)
        return found

    def _take(self, heard: Any) -> None:
        if heard.kind == "command-refused":
            self.refusals.append(heard.data)
            return
        key = (heard.hub, heard.data["case_id"])
        case = self.cases.setdefault(key, SimulatedCase(heard.hub, heard.data["case_id"], heard.data["person_key"]))
        if apply_event(case, heard.kind, heard.data):
            case.correlation_id = heard.headers["ce_correlationid"]
            case.event_id = heard.headers["ce_id"]
            case.traceparent = heard.headers.get("traceparent", "")
            self.kinds.setdefault(key, []).append(heard.kind)

    def case_of(self, reference: str) -> SimulatedCase | None:
        """The case that a referral is on, where some hub sees it."""
        return next((c for c in self.cases.values() if reference in [r["reference"] for r in c.referrals]), None)

    def held(self, reference: str, hub: str) -> SimulatedCase | None:
        """The case of a referral, where this hub holds it now."""
        ours = (c for c in self.cases.values() if c.hub == hub and c.role == "holder")
        return next((c for c in ours if reference in [r["reference"] for r in c.referrals]), None)

    def hearing(self, case_id: str) -> set[str]:
        """The hubs that received an event of a case."""
        return {hub for hub, case in self.cases if case == case_id}

    async def does(self, case: SimulatedCase, name: str, argument: str = "", **changed: Any) -> None:
        """Give one command, expecting the version that was received last, or as changed."""
        send = command(case, ScriptStep(name, argument), {})
        await self._client.deliver((case, send._replace(data={**send.data, **changed})))


HUBS = (
    *("blaby", "charnwood", "harborough", "hinckley-bosworth", "melton", "nw-leicestershire", "oadby-wigston"),
    *("triage", "hospital-housing", "hospital-housing-bradgate"),
)


@pytest.fixture
async def hub(walk: Walk) -> AsyncIterator[HubAtWork]:
    async with HubClient(walk.running.addresses["kafka"], HUBS) as client:
        yield HubAtWork(client)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as opened:
        yield opened


@pytest.fixture
def every_test_name() -> Callable[[], set[str]]:
    """Names of all tests of the project."""

    def names() -> set[str]:
        files = (CHECKOUT / "tests").rglob("test_*.py")
        return {name for file in files for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.M)}

    return names
