"""Searches for personal data where none may be: in everything that a test run logged, at DEBUG and with client libraries on, in the
database but for the columns that are for it, in what the kernel tells of processes.

The run's own process logs to one file, configured as a service is; service processes inherit DEBUG and log below pytest's folder.
Every test's people have synthetic NHS numbers (999 and seven digits), so whoever is logged is found by number, or by a canary's name.
"""

import logging
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from services.runtime import logs
from services.runtime.settings import Settings

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
        # what was sent, byte for byte, and what the sender's ids are made of
        "intake.message.body",
        "intake.message.response_body",
        "intake.message.referral_id",
        "intake.message_key.key",
        "intake.referral.referral_id",
        "intake.referral.sender_reference",
        "intake.referral.fields",
        "intake.attachment.content",
        "intake.upload_part.bytes",
        # events, and what follows from them
        "intake.outbox.value",
        "router.outbox.value",
        "notifier.outbox.value",
        "router.input.value",
        "router.case.state",
        "router.case_event.data",
        "router.person.state",
        "router.referral.state",
        "notifier.feedback.content",
        "notifier.feedback.body",
        "notifier.feedback.steps",
        # by whom MESH finds a practice: its own routing words
        "notifier.feedback.ids",
        # records that could not be processed, as they came, and as an operator corrected them
        *(
            f"{service}.{table}.{column}"
            for service in ("router", "notifier")
            for table in ("dead_letter", "dead_letter_edit")
            for column in ("key", "headers", "value")
        ),
    }
)
"""Columns whose purpose is personal data. Whatever column is added is searched until it stands here."""

COLUMNS = """
    select table_schema || '.' || table_name || '.' || column_name, data_type
    from information_schema.columns join information_schema.tables using (table_schema, table_name)
    where table_schema in ('intake', 'router', 'notifier') and table_type = 'BASE TABLE' order by 1"""


async def in_columns(connection: AsyncConnection) -> list[str]:
    """Columns that hold personal data and may not; never what."""
    tables: dict[str, list[str]] = {}
    for name, kind in (await connection.exec_driver_sql(COLUMNS)).all():
        table, _, column = name.rpartition(".")
        if name not in MAY_HOLD:
            tables.setdefault(table, []).append(_holding(column, kind))
    found: list[str] = []
    for table, read in tables.items():
        asked = f"select {', '.join(read)} from {_quoted(table)}"  # one look at each table
        holding = (await connection.exec_driver_sql(asked)).one()._mapping
        found += [f"{table}.{column}" for column, holds in holding.items() if holds]
    return found


PATTERN = r"\m999[ -]?\d{3}[ -]?\d{4}\M|CANARY|Canary[a-z]"
"""PERSONAL, as PostgreSQL writes it."""


def _holding(column: str, kind: str) -> str:
    read = f"encode(\"{column}\", 'escape')" if kind == "bytea" else f'"{column}"::text'
    return f"bool_or({read} ~ '{PATTERN}') as \"{column}\""


def _quoted(table: str) -> str:
    return ".".join(f'"{name}"' for name in table.split("."))


# ---- processes --------------------------------------------------------------------------------------------------------


def in_processes(processes: Iterable[psutil.Process]) -> list[str]:
    """Processes whose title or command line, which everybody on a machine can read, holds personal data; by number."""
    return [str(one.pid) for one in processes if PERSONAL.search(" ".join([one.name(), *one.cmdline()]))]
