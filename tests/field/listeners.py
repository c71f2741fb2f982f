"""What the field cases listen with: a practice's endpoint, and a door to a server that opens later."""

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REFERENCE = re.compile(r"LB(?:-[0-9A-Z]{4}){3}")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Endpoint:
    """A practice's endpoint. `answers`: the status of every answer; `taken`: the references that it has accepted, in order."""

    def __init__(self) -> None:
        self.answers, self.refused = 200, 0
        self.taken: list[str] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self.send_response(endpoint.receive(body))
                self.send_header("Location", "/login")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/feedback"

    def receive(self, body: str) -> int:
        """Take a feedback, or refuse it; return the status of the answer."""
        if self.answers == 200:
            self.taken += REFERENCE.findall(body)[:1]
        else:
            self.refused += 1
        return self.answers

    def __enter__(self) -> "Endpoint":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class Door:
    """A port that nobody listens on until it is open; then it leads to another port of this machine."""

    def __init__(self, to: int) -> None:
        self.to, self.port = to, free_port()

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        with socket.create_server(("127.0.0.1", self.port)) as listener:
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
            yield

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it is closed
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self.to))
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=_copy, args=(one, other), daemon=True).start()


def _copy(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
    for end in (one, other):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
