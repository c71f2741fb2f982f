import json
import socket
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from infra.local.embedded import ports_and_secrets, postgres
from infra.local.embedded.folder_lock import FolderInUse


async def ask(url: str, question: str) -> Any:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()


async def test_committed_rows_survive_a_restart_at_the_same_address(tmp_path: Path) -> None:
    first = postgres.start(tmp_path)
    try:
        await ask(first.url, "create table referral as select 'kept' as fate")
        with pytest.raises(FolderInUse):
            postgres.start(tmp_path)
    finally:
        first.stop()
    second = postgres.start(tmp_path)
    try:
        assert second.url == first.url
        assert await ask(second.url, "select fate from referral") == "kept"
    finally:
        second.stop()


async def test_the_server_is_configured_for_durability_privacy_and_lock_timeouts(tmp_path: Path) -> None:
    server = postgres.start(tmp_path)
    try:
        shown = {name: await ask(server.url, f"show {name}") for name in EXPECTED}
        with pytest.raises(asyncpg.InvalidPasswordError):
            await ask(server.url.replace("://lightbulb:", "://lightbulb:wrong"), "select 1")
    finally:
        server.stop()
    assert shown == EXPECTED


EXPECTED = {
    "fsync": "on",
    "synchronous_commit": "on",
    "data_checksums": "on",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "log_error_verbosity": "terse",
    "log_parameter_max_length_on_error": "0",
    "log_min_error_statement": "panic",
    "idle_in_transaction_session_timeout": "8s",
    "max_connections": "200",
    "password_encryption": "scram-sha-256",
    "server_encoding": "UTF8",
}


async def test_a_port_that_is_in_use_is_replaced(tmp_path: Path) -> None:
    with socket.create_server((ports_and_secrets.HOST, 0)) as somebody:
        taken = somebody.getsockname()[1]
        (tmp_path / "postgres").mkdir()
        (tmp_path / "postgres" / "ports.json").write_text(json.dumps({"PostgreSQL": taken}))
        server = postgres.start(tmp_path, fsync=False)
        try:
            assert await ask(server.url, "select 1") == 1
            assert f":{taken}/" not in server.url
        finally:
            server.stop()
    assert ports_and_secrets.is_free(taken)
