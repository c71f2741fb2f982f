"""Store a council's file: its bytes in parts, exactly as received, and its state.

Each step is a separate transaction: a file of any size needs no long transaction and little memory, and is only in the database.
"""

import dataclasses
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.intake import limits
from services.intake.translators.translator import Issue

State = Literal["receiving", "refused", "reporting", "reported", "broken-off"]


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that is being received, or was received."""

    partner: str
    id: UUID
    council: str
    received_at: datetime
    correlation_id: str
    media_type: str | None


async def begin(engine: AsyncEngine, upload: Upload) -> None:
    """Insert a row for the file. Delete incomplete files of killed processes: their senders got no 2xx response."""
    async with engine.begin() as tx:
        await tx.execute(
            text(
                "delete from intake.upload where partner = :partner and state = 'receiving' and received_at < :before"
            ),
            {
                "partner": upload.partner,
                "before": upload.received_at - timedelta(seconds=limits.ABANDONED_SECONDS),
            },
        )
        await tx.execute(
            text("""
                insert into intake.upload (partner, id, council, received_at, correlation_id, media_type, state)
                values (:partner, :id, :council, :received_at, :correlation_id, :media_type, 'receiving')"""),
            dataclasses.asdict(upload),
        )


async def append(engine: AsyncEngine, upload: Upload, number: int, piece: bytes) -> None:
    """Store the next part of the file."""
    async with engine.begin() as tx:
        await tx.execute(
            text(
                "insert into intake.upload_part (partner, upload, number, bytes) values (:partner, :id, :number, :bytes)"
            ),
            {"partner": upload.partner, "id": upload.id, "number": number, "bytes": piece},
        )


async def received(
    engine: AsyncEngine, upload: Upload, state: State, size: int, sha256: str, issues: Sequence[Issue] = ()
) -> None:
    """Record that the file is complete, with its size, its hash and the issues if it is refused."""
    async with engine.begin() as tx:
        await tx.execute(
            text("""
                update intake.upload
                set state = :state, size = :size, sha256 = :sha256, issues = :issues,
                    ended_at = case when :state = 'refused' then clock_timestamp() end
                where partner = :partner and id = :id"""),
            {
                "partner": upload.partner,
                "id": upload.id,
                "state": state,
                "size": size,
                "sha256": sha256,
                "issues": json.dumps([dataclasses.asdict(issue) for issue in issues]),
            },
        )


async def ended(engine: AsyncEngine, upload: Upload, state: State, counts: Mapping[str, int]) -> None:
    """Record the final state of the file, and the number of rows by outcome."""
    async with engine.begin() as tx:
        await tx.execute(
            text("""
                update intake.upload set state = :state, counts = :counts, ended_at = clock_timestamp()
                where partner = :partner and id = :id"""),
            {"partner": upload.partner, "id": upload.id, "state": state, "counts": json.dumps(counts)},
        )


class LastFile(NamedTuple):
    """The file of a council that was reported last."""

    rows: int
    received_at: datetime


async def last_reported(engine: AsyncEngine, upload: Upload) -> LastFile | None:
    """Return the last file of this council whose rows were all reported, or None. Dry runs are not among them."""
    async with engine.connect() as connection:
        rows = await connection.execute(
            text("""
                select cast(counts->>'rows' as integer) as rows, received_at from intake.upload
                where partner = :partner and council = :council and state = 'reported'
                order by received_at desc limit 1"""),
            {"partner": upload.partner, "council": upload.council},
        )
        row = rows.first()
    return LastFile(*row) if row else None


async def forget(engine: AsyncEngine, upload: Upload) -> None:
    """Delete a file that is incomplete or too large, or was a dry run."""
    async with engine.begin() as tx:
        await tx.execute(
            text("delete from intake.upload where partner = :partner and id = :id"),
            {"partner": upload.partner, "id": upload.id},
        )


async def parts(engine: AsyncEngine, upload: Upload) -> AsyncGenerator[bytes, None]:
    """Yield its parts in order. Each is read on demand, in a separate transaction."""
    number = 0
    while True:
        async with engine.connect() as connection:
            content = await connection.scalar(
                text(
                    "select bytes from intake.upload_part where partner = :partner and upload = :id and number = :number"
                ),
                {"partner": upload.partner, "id": upload.id, "number": number},
            )
        if content is None:
            return
        yield bytes(content)
        number += 1
