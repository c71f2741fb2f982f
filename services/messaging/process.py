"""One service as a process: its settings, its logs, its event loop, its socket; and one clear line where it cannot start."""

import asyncio
import contextlib
import gc
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import uvicorn
import uvloop

from services.messaging import settings, telemetry
from services.messaging.broker import TopicsDiffer
from services.messaging.settings import Settings
from services.messaging.telemetry import log


def run(service: str, main: Callable[[Settings], Coroutine[Any, Any, None]], *faults: type[Exception]) -> None:
    """Run `main` until it ends. One of `faults`, whose texts are for people, ends the process with 1 and its text."""
    expected: tuple[type[Exception], ...] = (TopicsDiffer, *faults)
    chosen = settings.load()
    telemetry.configure(service, chosen)
    _spare_the_collector()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main(chosen))
    except expected as fault:
        sys.stderr.write(f"Cannot start {service}.\n{fault}\n")
        raise SystemExit(1) from None


def _spare_the_collector() -> None:
    """What was imported never goes, and a batch makes many small facts that go at once: a third of the time was the collector's."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


class Server(uvicorn.Server):
    """uvicorn that leaves the signals to the service, which stops everything in its order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server(app: Any) -> Server:
    """A server for this ASGI application: no access log, no headers of its own, slow clients given up."""
    return Server(
        uvicorn.Config(
            app,
            http="httptools",
            access_log=False,
            log_config=None,
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=10,
            h11_max_incomplete_event_size=64 * 1024,
        )
    )


def listen(chosen: Settings) -> socket.socket:
    """The socket for HTTP."""
    opened = shared_socket(chosen.http_host, chosen.http_port)
    log.info("listens", host=chosen.http_host, port=opened.getsockname()[1])
    return opened


def shared_socket(host: str, port: int) -> socket.socket:
    """A socket that several processes can share: the kernel deals the connections out. Raises OSError."""
    opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        opened.bind((host, port))
    except OSError:
        opened.close()
        raise
    return opened
