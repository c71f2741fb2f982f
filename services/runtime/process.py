"""A service process: settings, logs, event loop and sockets, and a clear error if it cannot start."""

import asyncio
import contextlib
import gc
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import uvicorn
import uvloop

from services.runtime import StartupError, logs, metrics, settings, tracing, watchdog
from services.runtime.http_limits import DEFAULT_LIMITS, HttpLimits, limited
from services.runtime.logs import log
from services.runtime.resource_limits import apply_limits
from services.runtime.settings import Settings
from services.runtime.tracing import CannotTrace
from services.runtime.watchdog import STALLED, Stalled


def run(service: str, main: Callable[[Settings], Coroutine[Any, Any, None]], *startup_errors: type[Exception]) -> None:
    """Run `main` until it ends. On a StartupError or one of `startup_errors`, print its text and exit with 1.

    A process that makes no progress, or whose event loop is blocked, exits with watchdog.STALLED.
    """
    expected: tuple[type[Exception], ...] = (StartupError, *startup_errors)
    chosen = settings.load()
    apply_limits()
    logs.configure(service, chosen)
    metrics.set_build_info(service)
    try:
        if chosen.traces is not None:
            configure_tracing(service, chosen.traces)
        _freeze_gc()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_watched(main, chosen))
    except Stalled:
        raise SystemExit(STALLED) from None
    except expected as error:
        sys.stderr.write(f"Cannot start {service}.\n{error}\n")
        raise SystemExit(1) from None
    finally:
        tracing.stop()


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


class Server(uvicorn.Server):
    """A uvicorn server without signal handlers, because the service stops its parts in order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server(app: Any, limits: HttpLimits = DEFAULT_LIMITS) -> Server:
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
            timeout_keep_alive=30,
            timeout_graceful_shutdown=10,
        )
    )


async def answer(app: Any, chosen: Settings) -> None:
    """Serve HTTP until cancelled, then complete the requests in flight. Several processes may share the port."""
    await _answer(app, listen(chosen))


async def answer_apart(app: Any, chosen: Settings) -> None:
    """Serve HTTP on this process's metrics port, which is not shared."""
    assert chosen.metrics_port is not None
    await _answer(app, _opened(chosen.http_host, chosen.metrics_port, shared=False))


async def _answer(app: Any, opened: socket.socket) -> None:
    one = server(app)
    serving = asyncio.create_task(one.serve(sockets=[opened]))
    try:
        await asyncio.shield(serving)
    finally:
        one.should_exit = True
        await serving


UNTAKEN_MILLISECONDS = 60_000
"""Time without acknowledgement of sent data after which the kernel drops a connection, even a closed one."""


class CannotListen(StartupError):
    """A port cannot be opened; the text gives the port and the reason."""


def listen(chosen: Settings) -> socket.socket:
    """Return the socket for HTTP. Raises CannotListen."""
    opened = _opened(chosen.http_host, chosen.http_port, shared=True)
    log.info("http_listening", host=chosen.http_host, port=opened.getsockname()[1])
    return opened


def _opened(host: str, port: int, *, shared: bool) -> socket.socket:
    try:
        return a_socket(host, port, shared=shared)
    except OSError as error:
        raise CannotListen(f"HTTP on {host}, port {port}: {error.strerror}") from None


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
