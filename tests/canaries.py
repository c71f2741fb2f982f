"""Searches for personal data where none may be: in everything that a test run logged, at DEBUG and with client libraries on, in the
database but for the columns and parts of packets that are for it, in what the kernel tells of processes.

The run's own process logs to one file, configured as a service is; service processes inherit DEBUG and log below pytest's folder.
Every test's people have synthetic NHS numbers (999 and seven digits), so whoever is logged is found by number, or by a canary's name.
"""

import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from services.runtime import logs
from services.runtime.settings import Settings
from tests.chaos.harness import packet_decoder

PERSONAL = re.compile(r"\b999[ -]?\d{3}[ -]?\d{4}\b|CANARY[A-Z]*|Canary[a-z]+")


def log_everything(file: Path) -> None:
    """Log this process as a service would be, at DEBUG, into `file`; and have service processes do so too."""
    os.environ.setdefault("LIGHTBULB_LOG_LEVEL", "DEBUG")
    chosen = Settings(
        database="postgresql+asyncpg://unused", kafka="unused", secret_file="/dev/null", log_level="DEBUG"
    )
    terminal, sys.stderr = sys.stderr, file.open("w")
    try:
        logs.configure("tests", chosen)
    finally:
        sys.stderr = terminal
    structlog.contextvars.clear_contextvars()
    for name in logs.QUIET:
        logging.getLogger(name).setLevel(logging.DEBUG)


def found_in(files: Iterable[Path]) -> list[str]:
    """Where something personal stands, by file and line number; never what."""
    return [
        f"{file}:{number}"
        for file in files
        if file.is_file()
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1)
        if PERSONAL.search(line)
    ]


# ---- the database -----------------------------------------------------------------------------------------------------

MAY_HOLD = frozenset(
    {
        # what was sent, byte for byte, its answer, and what the sender's ids are made of
        "intake.packet.content/contents",
        "intake.message.referral_id",
        "intake.message_key.key",
        "intake.referral.referral_id",
        "intake.referral.sender_reference",
        "intake.referral.fields",
        "intake.attachment.content",
        "intake.upload_part.bytes",
        # events, and what follows from them
        "intake.packet.content/value",
        "router.packet.content/value",
        "notifier.packet.content/value",
        "router.case.state",
        "router.person.state",
        "router.referral.state",
        # the value of an input, which is the second part of its content
        "router.packet.content/contents/1",
        # feedback, the bytes that are sent, and by whom MESH finds a practice: its own routing words
        "notifier.packet.content/contents",
        # records that could not be processed, as they came, and as an operator corrected them
        *(
            f"{service}.{table}.{column}"
            for service in ("router", "notifier")
            for table in ("dead_letter", "dead_letter_edit")
            for column in ("key", "headers", "value")
        ),
    }
)
"""Columns whose purpose is personal data, and parts of packets: whatever is added is searched until it stands here."""

COLUMNS = """
    select table_schema || '.' || table_name || '.' || column_name, data_type
    from information_schema.columns join information_schema.tables using (table_schema, table_name)
    where table_schema in ('intake', 'router', 'notifier') and table_type = 'BASE TABLE' order by 1"""


async def in_columns(connection: AsyncConnection) -> list[str]:
    """Columns, and parts of packets, that hold personal data and may not; never what."""
    texts: dict[str, list[str]] = {}
    found: set[str] = set()
    for name, kind in (await connection.exec_driver_sql(COLUMNS)).all():
        table, _, column = name.rpartition(".")
        if kind == "bytea" and name not in MAY_HOLD:
            found |= await _in_bytes(connection, name)
        elif name not in MAY_HOLD:
            texts.setdefault(table, []).append(f'bool_or("{column}"::text ~ \'{PATTERN}\') as "{column}"')
    for table, read in texts.items():
        asked = f"select {', '.join(read)} from {_quoted(table)}"  # one look at each table
        holding = (await connection.exec_driver_sql(asked)).one()._mapping
        found |= {f"{table}.{column}" for column, holds in holding.items() if holds}
    return sorted(found)


async def _in_bytes(connection: AsyncConnection, name: str) -> set[str]:
    """The parts of a column of bytes that hold personal data: what is compressed is decompressed, and a packet taken apart."""
    table, _, column = name.rpartition(".")
    asked = f'select "{column}" from {_quoted(table)} where "{column}" is not null'
    rows = (await connection.exec_driver_sql(asked)).scalars()
    parts = (part for row in rows for part in (_of_packet if name in PACKETS else _whole)(name, row))
    return {part for part, held in parts if part not in MAY_HOLD and PERSONAL.search(held.decode("utf-8", "replace"))}


PACKETS = frozenset(f"{schema}.packet.content" for schema in ("intake", "router", "notifier"))


def _of_packet(name: str, row: bytes) -> Iterator[tuple[str, bytes]]:
    packet = packet_decoder.decode(row)
    for message in packet.messages:
        yield f"{name}/target", message.target.encode()
        yield f"{name}/person_key", message.person_key.encode()
        yield f"{name}/headers", b" ".join([*map(str.encode, message.headers), *message.headers.values()])
        yield f"{name}/value", message.value
    for content in packet.contents:
        for number, part in enumerate(content):
            yield (f"{name}/contents" if f"{name}/contents" in MAY_HOLD else f"{name}/contents/{number}"), part


def _whole(name: str, row: bytes) -> Iterator[tuple[str, bytes]]:
    try:
        yield name, packet_decoder.decompress(row)
    except ValueError:
        yield name, row


PATTERN = r"\m999[ -]?\d{3}[ -]?\d{4}\M|CANARY|Canary[a-z]"
"""PERSONAL, as PostgreSQL writes it."""


def _quoted(table: str) -> str:
    return ".".join(f'"{name}"' for name in table.split("."))


# ---- processes --------------------------------------------------------------------------------------------------------


def in_processes(processes: Iterable[psutil.Process]) -> list[str]:
    """Processes whose title or command line, which everybody on a machine can read, holds personal data; by number."""
    return [str(one.pid) for one in processes if PERSONAL.search(" ".join([one.name(), *one.cmdline()]))]
