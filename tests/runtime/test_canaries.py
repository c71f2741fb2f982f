"""The search of the run's logs finds what it is for."""

import hashlib
import logging
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from services.messaging import packets
from services.messaging.packets import Message, Packet
from services.runtime import database
from services.runtime.compression import compress
from services.runtime.logs import log
from tests import canaries


@pytest.mark.parametrize("planted", ["number 9990000018", "999 000 0018 called", "name=CANARYSON", "ward Canaryward"])
def test_planted_personal_data_is_found_with_its_place(tmp_path: Path, planted: str) -> None:
    (tmp_path / "a.txt").write_text(f"all is well\n{planted}\n")
    assert canaries.found_in([tmp_path / "a.txt"]) == [f"{tmp_path / 'a.txt'}:2"]


def test_this_run_is_logged_at_debug_and_client_libraries_log_only_the_code_location(
    pytestconfig: pytest.Config,
) -> None:
    log.debug("this_run_is_logged")
    logging.getLogger("aiokafka").warning("key=%s", "CANARY" + "SON")
    [file] = [value for value in pytestconfig.stash._storage.values() if isinstance(value, Path)]
    written = file.read_text()
    assert "this_run_is_logged" in written
    assert "client library: test_canaries." in written


async def test_personal_data_in_another_column_is_found_with_the_columns_name(migrated: str) -> None:
    engine = database.connect(migrated)
    async with engine.connect() as connection:
        assert await canaries.in_columns(connection) == []
        for planted in (
            "insert into intake.secret_check values (true, 'CANARYSON', now())",
            "insert into router.operator_action (action, operator, reason, details) values ('show', 'me', '', '[\"999 000 0018\"]')",
        ):
            await connection.exec_driver_sql(planted)
        found = await canaries.in_columns(connection)
        assert found == ["intake.secret_check.value", "router.operator_action.details"]
    await engine.dispose()


async def test_every_column_listed_for_personal_data_exists(migrated: str) -> None:
    engine = database.connect(migrated)
    async with engine.connect() as connection:
        columns = {name for name, _ in await connection.exec_driver_sql(canaries.COLUMNS)}
    await engine.dispose()
    assert columns >= {name.partition("/")[0] for name in canaries.MAY_HOLD}


async def test_personal_data_in_a_compressed_column_or_packet_is_found_where_it_may_not_be(migrated: str) -> None:
    planted = b"CANARYSON " + b"".join(hashlib.sha512(bytes([n])).hexdigest().encode() for n in range(20))
    known = [("ce_id", b"1"), ("ce_subject", planted)]
    packet = packets.encode(
        Packet([Message("hub.blaby.case", "a key", tuple(known), planted)], [(b"{}", planted), (planted, b"")])
    )
    engine = database.connect(migrated)
    async with engine.connect() as connection:
        await connection.exec_driver_sql("alter table router.postcode add column more bytea")
        await connection.exec_driver_sql("insert into router.postcode values ('LE1', 'x', $1)", (compress(planted),))
        await connection.exec_driver_sql(
            "insert into router.packet (shard, messages, targets, content) values (0, 1, '{}', $1)", (packet,)
        )
        found = await canaries.in_columns(connection)
    await engine.dispose()
    assert b"CANARYSON" not in packet
    assert found == [
        "router.packet.content/contents/0",
        "router.packet.content/headers",
        "router.postcode.more",
    ]


def test_personal_data_in_a_command_line_is_found_with_the_process_id() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()", "CANARY" + "SON"], stdin=subprocess.PIPE) as planted:
        processes = [psutil.Process(), psutil.Process(planted.pid)]
        assert canaries.in_processes(processes) == [str(planted.pid)]
        planted.kill()
