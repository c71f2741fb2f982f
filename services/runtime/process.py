"""A service process: settings, logs, event loop and sockets, and a clear error if it cannot start."""

import asyncio
import contextlib
import ctypes
import gc
import socket
import struct
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any

import uvicorn
import uvloop
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from services.runtime import StartupError, database, logs, metrics, settings, signals, tracing, watchdog
from services.runtime.http_limits import DEFAULT_LIMITS, HttpLimits, limited
from services.runtime.logs import log
from services.runtime.resource_limits import apply_limits
from services.runtime.settings import Settings
from services.runtime.tracing import CannotTrace
from services.runtime.watchdog import STALLED, Stalled


class Stopped(Exception):
    """A signal stopped the process while it waited to start."""


def run(service: str, main: Callable[[Settings], Coroutine[Any, Any, None]], *startup_errors: type[Exception]) -> None:
    """Run `main` until it ends. On a StartupError or one of `startup_errors`, print its text and exit with 1.

    A process that makes no progress, or whose event loop is blocked, exits with watchdog.STALLED. Any other error is logged by its kind
    and place, because its text may hold personal data; the exit code is 1.
    """
    expected: tuple[type[Exception], ...] = (StartupError, *startup_errors)
    chosen = settings.load(service)
    try:
        _run(service, main, chosen)
    except Stopped:
        pass
    except Stalled:
        raise SystemExit(STALLED) from None
    except expected as error:
        sys.stderr.write(f"Cannot start {service}: {error}\n")
        raise SystemExit(1) from None
    except Exception as error:
        log.critical("ended_by_error", reason=database.reason_class(error), at=watchdog.raised_at(error))
        raise SystemExit(1) from None
    finally:
        tracing.stop()


def _run(service: str, main: Callable[[Settings], Coroutine[Any, Any, None]], chosen: Settings) -> None:
    apply_limits()
    logs.configure(service, chosen)
    metrics.set_build_info(service)
    for name, similar in settings.unknown():
        log.warning("unknown_setting", name=name, similar=similar)
    if chosen.traces is not None:
        configure_tracing(service, chosen.traces)
    _freeze_gc()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_watched(main, chosen))


def configure_tracing(service: str, traces: str) -> None:
    """Switch traces on, with the exporter of the setting LIGHTBULB_TRACES. Raises CannotTrace."""
    try:
        from services.runtime import otel

        tracing.set_provider(otel.exporting_provider(service, traces))
    except ImportError:
        raise CannotTrace(
            "LIGHTBULB_TRACES is set, but the packages for traces are not installed: pip install 'lightbulb-hub[tracing]'"
        ) from None


async def _watched(main: Callable[[Settings], Coroutine[Any, Any, None]], chosen: Settings) -> None:
    with watchdog.loop_watched(chosen.stall_seconds):
        await main(chosen)


def _freeze_gc() -> None:
    """Exclude imported objects from garbage collection and run it less often, because it took a third of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


CLOSE = (b"connection", b"close")


class Server(uvicorn.Server):
    """A uvicorn server without signal handlers, because the service stops its parts in order."""

    app: ASGIApp
    """What answers now, of a server of HttpServers."""

    linger = 0.0
    """Seconds before the end in which connections that are being opened are still accepted, and no more begin."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def drain(self) -> None:
        """Close each connection after its next response."""
        self.config.encoded_headers.append(CLOSE)
        self.server_state.default_headers = [*self.server_state.default_headers, CLOSE]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept what the kernel has queued before the sockets are closed: it would be reset."""
        await accept_last(sockets or (), self.linger)
        await super().shutdown(sockets)


def server(app: Any, limits: HttpLimits = DEFAULT_LIMITS, *, keep_alive: int = 75) -> Server:
    """Return a server for this ASGI application with limits for slow clients, without access log and Server header."""
    return Server(
        uvicorn.Config(
            app,
            http=limited(limits),
            access_log=False,
            log_config=None,
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=keep_alive,
            timeout_graceful_shutdown=10,
        )
    )


class HttpServers:
    """The HTTP servers of a process from its start to its end: on the HTTP port, and on the metrics port if one is set.

    While the process stops, readiness is 503 before they stop listening. Use it as an asynchronous context manager.
    """

    def __init__(
        self, chosen: Settings, waiting: ASGIApp, limits: HttpLimits = DEFAULT_LIMITS, *, only_health: bool = False
    ) -> None:
        """Take the application that answers until `show`. `only_health`: no HTTP port is opened if there is a metrics port."""
        self.stopping = signals.stop_event()
        self._chosen = chosen
        self._waiting = waiting
        self._limits = limits
        self._has_http = not (only_health and chosen.metrics_port)
        self._unused: socket.socket | None = None
        self._http: Server | None = None
        self._apart: Server | None = None
        self._serving: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "HttpServers":
        chosen = self._chosen
        if chosen.metrics_port is not None:
            opened = _opened(chosen.http_host, chosen.metrics_port, shared=False)
            self._apart = self._start(opened, DEFAULT_LIMITS)
        if self._has_http:
            is_shared = _is_taken(chosen.http_host, chosen.http_port or 0)
            self._unused = _opened(chosen.http_host, chosen.http_port or 0, shared=True)
            if not is_shared:
                self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def show(self, app: ASGIApp, health_app: ASGIApp) -> None:
        """Answer with these applications from now on; `health_app` on the metrics port."""
        if self._unused is not None:
            self._listen()
        for one, shown in ((self._http, app), (self._apart, health_app)):
            if one is not None:
                one.app = shown

    async def run(self) -> None:
        """Serve until cancelled; then complete the requests in progress."""
        try:
            await asyncio.wait(self._serving, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self.stop()

    async def stopped(self) -> None:
        """Return when a signal has asked the process to stop, and readiness has been 503 for the time that is set."""
        await self.stopping.wait()
        for each in self._both():
            each.drain()
        await asyncio.sleep(self._chosen.stop_delay_seconds)

    async def stop(self) -> None:
        """Stop listening, and complete the requests in progress."""
        if self._unused is not None:
            self._unused.close()
        for each in self._both():
            each.should_exit = True
        await asyncio.gather(*self._serving)

    def _both(self) -> list[Server]:
        return [one for one in (self._http, self._apart) if one is not None]

    def _listen(self) -> None:
        """Listen on the HTTP port. If another process listens there already, it is time when this one can work."""
        opened, self._unused = self._unused, None
        assert opened is not None
        log.info("http_listening", host=self._chosen.http_host, port=opened.getsockname()[1])
        self._http = self._start(opened, self._limits)

    def _start(self, opened: socket.socket, limits: HttpLimits) -> Server:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            is_ending = self.stopping.is_set() and scope["path"] == "/health/ready"
            await (_stopping if is_ending else one.app)(scope, receive, send)

        one = server(answer, limits, keep_alive=self._chosen.keep_alive_seconds)
        one.app = self._waiting
        one.linger = linger_of(self._chosen)
        self._serving.append(asyncio.create_task(one.serve(sockets=[opened])))
        return one


_stopping = JSONResponse({"status": "not ready", "unavailable": ["stopping"]}, status_code=503)


LINGER_SECONDS = 0.3
"""Longer than a client takes to answer the second packet of a handshake, and shorter than it waits before it repeats the first."""

SO_ATTACH_FILTER = 26
_DROP_FIRST_PACKETS = (  # classic BPF on the TCP header: drop SYN without ACK (the beginning of a connection), pass all else
    (0x30, 0, 0, 13),  # load the byte of flags
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # is it SYN alone?
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # pass
)


def linger_of(chosen: Settings) -> float:
    """Return how long connections that have begun are accepted at the end, in seconds; 0 if the process stops without delay."""
    return min(LINGER_SECONDS, chosen.stop_delay_seconds)


async def accept_last(sockets: Iterable[socket.socket], seconds: float) -> None:
    """Let no further connection begin on these listening sockets, and accept for some seconds those that have begun.

    Without it the kernel resets what it has queued when a socket closes. The packets that it drops are repeated after a second, and
    then reach another process that shares the port. A kernel without socket filters closes at once.
    """
    code = b"".join(struct.pack("HBBI", *step) for step in _DROP_FIRST_PACKETS)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HL", len(_DROP_FIRST_PACKETS), ctypes.addressof(buffer))
    with contextlib.suppress(OSError):
        for one in sockets if seconds else ():
            one.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
        await asyncio.sleep(seconds)


UNTAKEN_MILLISECONDS = 60_000
"""Time without acknowledgement of sent data after which the kernel drops a connection, even a closed one."""


class CannotListen(StartupError):
    """A port cannot be opened; the text gives the port and the reason."""


def _opened(host: str, port: int, *, shared: bool) -> socket.socket:
    """Return a bound socket for HTTP. Raises CannotListen."""
    try:
        return a_socket(host, port, shared=shared)
    except OSError as error:
        raise CannotListen(f"HTTP on {host}, port {port}: {error.strerror}") from None


def _is_taken(host: str, port: int) -> bool:
    """Return True if another process listens on this port: that one takes the connections while this one waits."""
    try:
        a_socket(host, port).close()
    except OSError:
        return True
    return False


def shared_socket(host: str, port: int) -> socket.socket:
    """Return a socket that several processes can share; the kernel distributes the connections. Raises OSError."""
    return a_socket(host, port, shared=True)


def a_socket(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Return a bound socket. Raises OSError if the port is in use."""
    opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNTAKEN_MILLISECONDS)
    try:
        opened.bind((host, port))
    except OSError:
        opened.close()
        raise
    return opened
