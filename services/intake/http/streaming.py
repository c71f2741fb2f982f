"""A streamed response that ends when its client disconnects or reads too slowly."""

import asyncio
from collections.abc import AsyncGenerator, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.intake import limits
from services.runtime.logs import log


class TimedStreamingResponse(Response):
    """Status 200 with these chunks. The generator is always closed, so that it can store its final state."""

    def __init__(self, pieces: AsyncGenerator[bytes, None], headers: Mapping[str, str]) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(headers)
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending, gone = asyncio.create_task(self._send_pieces(send)), asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel()
            gone.cancel()
            await asyncio.gather(sending, gone, return_exceptions=True)
            await self._pieces.aclose()

    async def _send_pieces(self, send: Send) -> None:
        try:
            await _within(send, {"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for piece in self._pieces:
                await _within(send, {"type": "http.response.body", "body": piece, "more_body": True})
            await _within(send, {"type": "http.response.body", "body": b"", "more_body": False})
        except (OSError, TimeoutError) as error:
            log.info("client_disconnected", error_type=type(error).__name__)
        except Exception as error:  # the client sees an incomplete response
            log.error("report_failed", error_type=type(error).__name__)


async def _within(send: Send, message: dict[str, object]) -> None:
    async with asyncio.timeout(limits.REPORT_SECONDS):
        await send(message)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
