"""What intake keeps of a council's file: its bytes in parts, exactly as they came, and what became of it.

Each step commits by itself: a file of any size needs no long transaction and little memory, and lies on no disk but the database's.
"""

import dataclasses
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.intake import limits
from services.intake.translators.translator import Issue

State = Literal["receiving", "refused", "reporting", "reported", "broken-off"]


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that is received, or was."""

    partner: str
    id: UUID
    council: str
    received_at: datetime
    correlation_id: str
    media_type: str | None


async def begin(engine: AsyncEngine, upload: Upload) -> None:
    """A row for the file. What a killed process left of an earlier one goes: nobody was told that it is ours."""
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
    """The next part of the file."""
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
    """The whole file is here, and refused or not."""
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
    """What became of its rows."""
    async with engine.begin() as tx:
        await tx.execute(
            text("""
                update intake.upload set state = :state, counts = :counts, ended_at = clock_timestamp()
                where partner = :partner and id = :id"""),
            {"partner": upload.partner, "id": upload.id, "state": state, "counts": json.dumps(counts)},
        )


async def forget(engine: AsyncEngine, upload: Upload) -> None:
    """Away with what is not ours: a file that broke off, or is larger than is taken."""
    async with engine.begin() as tx:
        await tx.execute(
            text("delete from intake.upload where partner = :partner and id = :id"),
            {"partner": upload.partner, "id": upload.id},
        )


async def parts(engine: AsyncEngine, upload: Upload) -> AsyncGenerator[bytes, None]:
    """Its parts in order; each is read when it is asked for, and no transaction stays open in between."""
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
