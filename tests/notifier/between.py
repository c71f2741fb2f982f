"""A proxy between a channel and its server that fails on request: slow, busy, or closing after the request took effect."""

import asyncio
from dataclasses import dataclass, field

from aiohttp import ClientSession, web

HOP = {"host", "connection", "content-length", "transfer-encoding", "keep-alive"}


@dataclass(frozen=True)
class Trouble:
    """The fault of one POST. `status` responds at once; `lost` forwards it and closes without a response."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    lost: bool = False
    slow: float = 0.0
    cut: bool = False
    """Close without forwarding the request."""


class Between:
    """`async with Between(behind) as between`: requests to `between.url` go to `behind`."""

    def __init__(self, behind: str) -> None:
        self.behind = behind
        self.posts: list[bytes] = []
        self.asked: list[str] = []
        self._troubles: list[Trouble] = []

    def trouble(self, *troubles: Trouble) -> None:
        """Apply these faults to the next POSTs, one each."""
        self._troubles.extend(troubles)

    async def __aenter__(self) -> "Between":
        application = web.Application(client_max_size=2**24)
        application.router.add_route("*", "/{path:.*}", self._any)
        self._session = ClientSession(auto_decompress=False)
        self._runner = web.AppRunner(application, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[union-attr]
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _any(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if request.method != "POST":
            self.asked.append(request.path)
            return await self._pass_on(request, body)
        self.posts.append(body)
        trouble = self._troubles.pop(0) if self._troubles else Trouble()
        await asyncio.sleep(trouble.slow)
        if trouble.status:
            return web.Response(status=trouble.status, headers=trouble.headers, body=trouble.body)
        answer = await self._pass_on(request, body) if not trouble.cut else web.Response()
        if trouble.lost or trouble.cut:
            assert request.transport is not None
            request.transport.abort()
        return answer

    async def _pass_on(self, request: web.Request, body: bytes) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP}
        async with self._session.request(
            request.method, self.behind + request.path_qs, data=body, headers=headers
        ) as a:
            kept = {name: value for name, value in a.headers.items() if name.lower() not in HOP}
            return web.Response(status=a.status, body=await a.read(), headers=kept)
