"""A process that cannot start says why, in one line."""

import socket

import pytest

from services.runtime import process
from services.runtime.settings import Settings


def test_a_port_that_is_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        chosen = Settings(
            database="postgresql+asyncpg://unused", kafka="unused", secret_file="/dev/null", http_port=port
        )
        with pytest.raises(process.CannotListen, match=f"HTTP on 127.0.0.1, port {port}: Address already in use"):
            process.listen(chosen)
