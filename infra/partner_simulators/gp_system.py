"""A simulated GP system: a process that receives feedback over HTTP as a practice's system would.

    python infra/partner_simulators/gp_system.py --port 9000 --token-file token --inbox gp.jsonl --fail-first 3

It checks token, headers and message (FHIR R4, a BaRS-shaped `servicerequest-response`). It answers 503 with
Retry-After to the first attempt of its first messages, then 200; 409 `duplicate` to a message that it has, and 409
`conflict` to other content under the same ids. Each accepted message is one JSON line in its inbox: ids, states and
codes, never personal data. Imports no other module of the project.
"""

import argparse
import asyncio
import hashlib
import hmac
import json
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from uuid import UUID

import uvloop
from aiohttp import web

FHIR = "application/fhir+json"
REFERENCE_SYSTEM = "https://lightbulb.example.org/Id/referral-reference"
Resource = dict[str, Any]


class RequestRejected(Exception):
    """The message is refused: HTTP status, FHIR issue code, and diagnostics."""

    def __init__(self, status: int, code: str, diagnostics: str) -> None:
        super().__init__(diagnostics)
        self.status, self.code, self.diagnostics = status, code, diagnostics


@dataclass(frozen=True)
class ReceivedRequest:
    """A feedback message as received."""

    request_id: str
    correlation_id: str
    body: bytes

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.body).hexdigest()


@dataclass
class SimulatedGpSystem:
    """The state of the GP system: accepted messages, postponed messages, and its inbox file."""

    token: str
    inbox: IO[str]
    fail_first: int = 1
    fast: bool = False
    accepted: dict[str, str] = field(default_factory=dict)
    put_off: dict[str, int] = field(default_factory=dict)

    async def receive(self, request: web.Request) -> web.Response:
        """Handle POST /: one feedback message."""
        try:
            received = await _received(request, self.token)
            self._is_new(received)
            self._may_come_now(received)
            bundle = json.loads(received.body) if self.fast else read(received.body)
        except RequestRejected as rejection:
            return _outcome(rejection, request)
        line = in_brief(received, bundle) | {"attempts": self.put_off.get(received.request_id, 0) + 1}
        self.accepted |= {received.request_id: received.digest, line["bundle_id"]: received.digest}
        self._write(line)
        return web.Response(headers=_mirrored(request), content_type=FHIR)

    def _is_new(self, received: ReceivedRequest) -> None:
        stored_digest = self.accepted.get(received.request_id)
        if stored_digest == received.digest:
            self._write({"at": _now(), "request_id": received.request_id, "duplicate": True})
            raise RequestRejected(409, "duplicate", "this message was accepted before")
        if stored_digest is not None:
            raise RequestRejected(409, "conflict", "another message was accepted under this X-Request-Id")

    def _may_come_now(self, received: ReceivedRequest) -> None:
        """Reject the first attempt of the first messages, like a system that is restarting."""
        if received.request_id not in self.put_off and len(self.put_off) < self.fail_first:
            self.put_off[received.request_id] = 1
            raise RequestRejected(503, "transient", "not available: try again after a second")

    def _write(self, line: Mapping[str, Any]) -> None:
        self.inbox.write(json.dumps(line) + "\n")
        if not self.fast:
            self.inbox.flush()

    async def write_out(self) -> None:
        """Flush the inbox in batches, for --fast."""
        while True:
            await asyncio.sleep(0.2)
            self.inbox.flush()


async def _received(request: web.Request, token: str) -> ReceivedRequest:
    """Return the request if token and headers are valid, before its body is parsed. Raise RequestRejected."""
    shown = request.headers.get("Authorization", "")
    if not hmac.compare_digest(shown.encode(), f"Bearer {token}".encode()):
        raise RequestRejected(401, "login", "no valid bearer token")
    for name in ("X-Request-Id", "X-Correlation-Id"):
        if not _is_guid(request.headers.get(name, "")):
            raise RequestRejected(400, "invalid", f"header {name} is required, and is a GUID")
    if request.content_type != FHIR:
        raise RequestRejected(406, "not-supported", f"{FHIR} is expected")
    return ReceivedRequest(request.headers["X-Request-Id"], request.headers["X-Correlation-Id"], await request.read())


def _is_guid(value: str) -> bool:
    try:
        return str(UUID(value)) == value.lower()
    except ValueError:
        return False


def read(body: bytes) -> Resource:
    """Return the message, checked against FHIR R4B and the shape of a BaRS response. Raise RequestRejected."""
    from fhir.resources.R4B.bundle import Bundle

    try:
        bundle: Resource = json.loads(body)
        Bundle.model_validate(bundle)
        header = bundle["entry"][0]["resource"]
        is_response = header["eventCoding"]["code"] == "servicerequest-response"
        answers = header["resourceType"] == "MessageHeader" and header["response"]["identifier"]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise RequestRejected(400, "invalid", f"not a FHIR message: {type(error).__name__}") from None
    if bundle.get("type") != "message" or not is_response or not answers:
        raise RequestRejected(422, "not-supported", "a servicerequest-response is expected")
    return bundle


def in_brief(received: ReceivedRequest, bundle: Resource) -> dict[str, Any]:
    """Return what the practice notes of a message: its referral, state, findings and completed actions."""
    resources = [entry["resource"] for entry in bundle["entry"]]
    one = {resource["resourceType"]: resource for resource in reversed(resources)}
    task, request = one.get("Task", {}), one.get("ServiceRequest", {})
    return {
        "at": _now(),
        "request_id": received.request_id,
        "correlation_id": received.correlation_id,
        "bundle_id": bundle["id"],
        "answers": one["MessageHeader"]["response"]["identifier"],
        "reference": _reference(request),
        "status": task.get("status"),
        "feedback_type": _code(task.get("businessStatus")),
        "reason": _code(task.get("statusReason")),
        "service_request": request.get("status"),
        "encounter": one.get("Encounter", {}).get("status"),
        "findings": [[_code(finding["type"]), _code(finding["valueCodeableConcept"])] for finding in _findings(task)],
        "completed_actions": list(_done(task, resources)),
        "names_person": any(one.get("Patient", {}).get(name) for name in ("identifier", "name", "birthDate")),
    }


def _reference(request: Resource) -> str | None:
    named = (one["value"] for one in request.get("identifier", []) if one.get("system") == REFERENCE_SYSTEM)
    return next(named, None)


def _code(concept: Resource | None) -> str | None:
    if concept is None:
        return None
    return next((coding["code"] for coding in concept.get("coding", [])), concept.get("text"))


def _is_done(output: Resource) -> bool:
    return _code(output["type"]) == "done"


def _findings(task: Resource) -> Iterable[Resource]:
    return (output for output in task.get("output", []) if not _is_done(output) and not _is_outcome(output))


def _is_outcome(output: Resource) -> bool:
    """Return whether an output is how a need ended."""
    return "need-outcome" in output["valueCodeableConcept"]["coding"][0]["system"]


def _done(task: Resource, resources: list[Resource]) -> Iterable[list[str | None]]:
    """Yield (service, action) of each completed action; action is None if only the service is named."""
    by_reference = {f"urn:uuid:{resource.get('id')}": resource for resource in resources}
    for output in filter(_is_done, task.get("output", [])):
        if "valueReference" in output:
            procedure = by_reference[output["valueReference"]["reference"]]
            yield [_code(procedure.get("category")), procedure["code"].get("text")]
        else:
            yield [_code(output["valueCodeableConcept"]), None]


def _mirrored(request: web.Request) -> dict[str, str]:
    return {name: request.headers[name] for name in ("X-Request-Id", "X-Correlation-Id") if name in request.headers}


def _outcome(rejection: RequestRejected, request: web.Request) -> web.Response:
    issue = {"severity": "error", "code": rejection.code, "diagnostics": rejection.diagnostics}
    later = {"Retry-After": "1"} if rejection.status == 503 else {}
    return web.Response(
        status=rejection.status,
        text=json.dumps({"resourceType": "OperationOutcome", "issue": [issue]}),
        content_type=FHIR,
        headers=_mirrored(request) | later,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat()


# ---- process -------------------------------------------------------------------------------------------------------------


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A simulated GP system with an HTTP endpoint.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument(
        "--token-file", type=Path, required=True, help="file with the bearer token that senders must present"
    )
    parser.add_argument("--inbox", type=Path, required=True, help="file for accepted messages, JSON lines")
    parser.add_argument(
        "--fail-first", type=int, default=1, metavar="N", help="number of messages whose first attempt gets 503"
    )
    parser.add_argument("--fast", action="store_true", help="no 503, no FHIR check, inbox written in batches")
    return parser.parse_args()


async def main() -> None:
    args, stop = arguments(), asyncio.Event()
    for end in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(end, stop.set)
    with args.inbox.open("a") as inbox:
        token = args.token_file.read_text().strip()
        system = SimulatedGpSystem(token, inbox, 0 if args.fast else args.fail_first, args.fast)
        runner = await _start(system, args.port)
        writing = asyncio.create_task(system.write_out())
        await stop.wait()
        writing.cancel()
        await runner.cleanup()


async def _start(system: SimulatedGpSystem, port: int) -> web.AppRunner:
    application = web.Application(client_max_size=2 * 1024 * 1024)
    application.router.add_post("/", system.receive)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner


if __name__ == "__main__":
    uvloop.run(main())
