"""A GP's system as our tests see it: a real HTTP server that checks what it gets, refuses repeats, and can misbehave."""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field

from aiohttp import web


def outcome(code: str) -> bytes:
    """An OperationOutcome with one issue."""
    return json.dumps({"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": code}]}).encode()


@dataclass(frozen=True)
class Answer:
    """What it answers before it behaves."""

    status: int = 503
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    closes: bool = False
    """It keeps the message, and closes the connection instead of answering."""
    slow: float = 0.0


class GpSystem:
    """Start with `async with GpSystem() as gp`; `gp.url` is the address."""

    def __init__(self) -> None:
        self.received: list[tuple[dict[str, str], bytes]] = []
        """Every request that came, in order: headers in small letters, and the body."""
        self.kept: dict[str, bytes] = {}
        """What it accepted, by X-Request-ID, in order."""
        self.times: Counter[str] = Counter()
        self.faults: list[str] = []
        self._answers: list[Answer] = []
        self.url = ""

    def first(self, *answers: Answer) -> None:
        """Answer the next requests like this."""
        self._answers.extend(answers)

    async def __aenter__(self) -> "GpSystem":
        application = web.Application()
        application.router.add_post("/fhir", self._post)
        self._runner = web.AppRunner(application, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/fhir"  # type: ignore[union-attr]
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._runner.cleanup()

    @property
    def told(self) -> list[str]:
        """The feedback type of each accepted message, in order."""
        return [_told(body) for body in self.kept.values()]

    async def _post(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.received.append(({name.lower(): value for name, value in request.headers.items()}, body))
        answer = self._answers.pop(0) if self._answers else None
        if answer is None:
            return self._accept(request.headers["X-Request-ID"], body)
        await asyncio.sleep(answer.slow)
        if answer.closes:
            self._accept(request.headers["X-Request-ID"], body)
            assert request.transport is not None
            request.transport.close()
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    def _accept(self, request_id: str, body: bytes) -> web.Response:
        self.times[request_id] += 1
        if request_id in self.kept:
            if self.kept[request_id] == body:
                return web.Response(status=409, body=outcome("duplicate"))
            self.faults.append("other bytes under the same request id")
            return web.Response(status=409, body=outcome("conflict"))
        self.kept[request_id] = body
        return web.Response(status=200)


def _told(body: bytes) -> str:
    tasks = [entry["resource"] for entry in json.loads(body)["entry"] if entry["resource"]["resourceType"] == "Task"]
    status = tasks[0].get("businessStatus")
    return status["coding"][0]["code"] if status else f"status:{tasks[0]['status']}"
