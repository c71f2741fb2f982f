"""Limits of HTTP connections: their number, the size and time of a request's head, pipelined requests.

uvicorn waits indefinitely for the first request of a connection, for the rest of a head and for data after a response, and accepts
heads of any size. At the limit of connections, the longest-idle connection is closed, so that a client cannot block others with
thousands of silent connections; if every connection has a request in flight, a new one gets 503 with Retry-After.
"""

import asyncio
import resource
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from services.runtime import metrics


@dataclass(frozen=True)
class HttpLimits:
    """Limits of one process.

    `rejected_connections`: how many above `connections` get 503; further ones are aborted.
    """

    connections: int = 1_000
    rejected_connections: int = 100
    head_bytes: int = 32_768
    head_fields: int = 100
    url_bytes: int = 8_192
    head_seconds: float = 10.0
    pipelined: int = 8
    retry_seconds: int = 5


DEFAULT_LIMITS = HttpLimits()


def files() -> int:
    """Return the maximum number of open files and connections of this process."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def limited(limits: HttpLimits) -> type["LimitedHttpProtocol"]:
    """Return the protocol class of one server, with at most half of the process's open files as connections."""
    return type(
        "LimitedHttpProtocol",
        (LimitedHttpProtocol,),
        {"limits": limits, "max_connections": min(limits.connections, files() // 2), "idle": {}},
    )


class LimitedHttpProtocol(HttpToolsProtocol):
    """One connection; idle from its start, or its last response, until the head of a request is complete."""

    limits: ClassVar[HttpLimits]
    max_connections: ClassVar[int]
    idle: ClassVar[dict["LimitedHttpProtocol", None]]
    """Connections without a request in flight, longest-idle first."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # same signature as uvicorn
        super().connection_made(transport)
        self._response_app = self.app
        self._running: RequestResponseCycle | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0  # received since the last data for the application: a head, chunk headers or trailers
        self._is_in_body = False
        self._is_last = False
        self.idle[self] = None
        self._start_head_timer()
        if len(self.connections) > self.max_connections:
            self._evict_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_head_timer()

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing() or self.parser is None:
            return
        if self._head_bytes > self.limits.head_bytes:
            self._refuse(400 if self._is_in_body else 431)
        if not self._has_request_in_flight() and not self.transport.is_closing():
            self._start_head_timer()

    def eof_received(self) -> bool | None:  # type: ignore[override]  # same signature as asyncio
        """Stay open for the response if the client has sent a whole request and closed its side."""
        if not self._has_request_in_flight() or self._is_in_body:
            return None
        self.cycle.keep_alive = False
        return True

    def shutdown(self) -> None:
        """Close the connection when the process stops; a request in progress, or of which the head is arriving, is answered first."""
        self._is_last = bool(self._head_bytes) and not self._is_in_body and not self._has_request_in_flight()
        if not self._is_last:
            super().shutdown()

    # ---- a request ----------------------------------------------------------------------------------------------

    def on_headers_complete(self) -> None:
        self._stop_head_timer()
        self._head_bytes, self._is_in_body = 0, True
        if len(self.pipeline) >= self.limits.pipelined:
            raise httptools.HttpParserError("too many pipelined requests")
        error_status = self._head_error_status()
        self.app = _error_app(error_status, self.limits) if error_status else self._response_app
        super().on_headers_complete()
        self.cycle.keep_alive = self.cycle.keep_alive and not self._is_last

    def _head_error_status(self) -> int | None:
        """Return the status for a head that breaks a limit.

        Also refuses any transfer coding except chunked: a proxy could see another end of the body (request smuggling).
        """
        size = sum(len(name) + len(value) + 4 for name, value in self.headers)
        codings = [value.strip().lower() for name, value in self.headers if name == b"transfer-encoding"]
        if codings not in ([], [b"chunked"]):
            return 400
        if len(self.url) > self.limits.url_bytes:
            return 414
        return 431 if size > self.limits.head_bytes or len(self.headers) > self.limits.head_fields else None

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._head_bytes, self._is_in_body = 0, False
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        is_old = cycle.scope["http_version"] == "1.0"
        super()._start_asgi_task(cycle, _without_chunks(cycle, app) if is_old else app)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._has_request_in_flight() and not self.transport.is_closing():
            self.idle[self] = None
            if self._is_in_body:  # read the rest until the timeout, so that the client receives the response
                self._start_head_timer()

    def _has_request_in_flight(self) -> bool:
        return self._running is not None and not self._running.response_complete

    # ---- invalid requests -------------------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        """Refuse data that is not HTTP; called by uvicorn."""
        self._refuse(400)

    def _refuse(self, status: int) -> None:
        """Close with this status.

        If a complete request is in flight, close after its response instead, which would otherwise be lost.
        """
        running = self._running
        if running is None or running.response_complete:
            self._end(status)
        elif running is self.cycle and self._is_in_body:
            self._end(None if running.response_started else status)
        else:
            metrics.HTTP_CONNECTIONS_REJECTED.labels(_label(status)).inc()
            self.pipeline.clear()
            running.keep_alive = False
            self.flow.pause_reading()

    def _end(self, status: int | None) -> None:
        if status is not None:
            metrics.HTTP_CONNECTIONS_REJECTED.labels(_label(status)).inc()
            self.transport.write(_encode_response(status, self.limits))
        self.transport.close()

    # ---- timeouts and eviction --------------------------------------------------------------------------------------

    def _start_head_timer(self) -> None:
        """Limit the total time until the next head is complete, also if it arrives in small pieces."""
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.limits.head_seconds, self._on_head_timeout)

    def _stop_head_timer(self) -> None:
        self.idle.pop(self, None)
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _on_head_timeout(self) -> None:
        if self._head_bytes and not self._is_in_body:
            return self._end(408)
        metrics.HTTP_CONNECTIONS_REJECTED.labels("idle_timeout").inc()
        return self.transport.abort()

    def _evict_idle(self) -> None:
        longest = next(iter(self.idle))
        if longest is not self:
            longest._stop_head_timer()
            metrics.HTTP_CONNECTIONS_REJECTED.labels("evicted_idle").inc()
            longest.transport.abort()
        elif len(self.connections) <= self.max_connections + self.limits.rejected_connections:
            self._response_app = _error_app(503, self.limits)
        else:
            metrics.HTTP_CONNECTIONS_REJECTED.labels(_label(503)).inc()
            self.transport.abort()


# ---- HTTP/1.0 ---------------------------------------------------------------------------------------------------------

Send = Callable[[Any], Awaitable[None]]


def _without_chunks(cycle: RequestResponseCycle, app: Any) -> Callable[[Any, Any, Send], Awaitable[None]]:
    """Return the application for a client of HTTP/1.0: a response of unknown length ends with the connection (RFC 9112, 6.3).

    uvicorn would send it in chunks. If the response breaks off, the connection is reset, so that it does not look complete.
    """

    async def until_close(scope: Any, receive: Any, send: Send) -> None:
        has_length = False

        async def send_unframed(message: Any) -> None:
            nonlocal has_length
            if message["type"] == "http.response.start":
                has_length = any(name.lower() == b"content-length" for name, _ in message["headers"])
            if not has_length:
                cycle.chunked_encoding = False
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        try:
            await app(scope, receive, send_unframed)
        finally:
            if cycle.response_started and not cycle.response_complete:
                _reset(cycle.transport)

    return until_close


def _reset(transport: asyncio.Transport) -> None:
    """Close a connection by RST, which its client sees as an error."""
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


# ---- responses without the application --------------------------------------------------------------------------------


def _reason_phrase(status: int) -> str:
    return HTTPStatus(status).phrase.lower()


def _label(status: int) -> str:
    return _reason_phrase(status).replace(" ", "_")


def _headers(status: int, limits: HttpLimits) -> list[tuple[bytes, bytes]]:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    return [*headers, (b"retry-after", str(limits.retry_seconds).encode())] if status in (408, 503) else headers


def _encode_response(status: int, limits: HttpLimits) -> bytes:
    text = _reason_phrase(status).encode()
    lines = [b"%s: %s" % pair for pair in [*_headers(status, limits), (b"content-length", b"%d" % len(text))]]
    return b"\r\n".join([b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode()), *lines, b"", text])


def _error_app(status: int, limits: HttpLimits) -> Callable[[Any, Any, Any], Awaitable[None]]:
    """Return an application that sends this status for every request and closes the connection."""
    text = _reason_phrase(status).encode()

    async def app(_: Any, __: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        metrics.HTTP_CONNECTIONS_REJECTED.labels(_label(status)).inc()
        headers = [*_headers(status, limits), (b"content-length", b"%d" % len(text))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text})

    return app
