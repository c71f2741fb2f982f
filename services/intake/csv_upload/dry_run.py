"""Judge the rows of a dry run as they would be accepted now. Nothing is stored, locked or counted, and no event is made."""

import asyncio
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from services.intake import limits, store
from services.intake.accept import Intake
from services.intake.batch import PendingMessage, ProtocolResponse
from services.intake.translators.council_csv.prescan import reference_hash
from services.runtime import database


class DryRun:
    """Judges the rows of one file.

    `repeated`: hashes of references that several rows may have. A later row sees what an earlier one would change.
    """

    def __init__(self, intake: Intake, engine: AsyncEngine, repeated: frozenset[int]) -> None:
        self._intake = intake
        self._engine = engine
        self._repeated = repeated
        self._changed: store.ChangedReferrals = {}
        self._accepted: store.AcceptedIds = {}

    async def judge(self, messages: Sequence[PendingMessage]) -> list[ProtocolResponse | None]:
        """Return the response that each row would get; None for all if the database cannot be read after the last retry."""
        async with self._intake.windows:
            for pause in (0.0, *limits.ROW_PAUSES):
                await asyncio.sleep(pause)
                try:
                    return list(await self._judged(messages))
                except Exception as error:
                    if not database.is_transient(error):
                        raise
        return [None] * len(messages)

    async def _judged(self, messages: Sequence[PendingMessage]) -> Sequence[ProtocolResponse]:
        async with asyncio.timeout(limits.COMMIT_SECONDS):
            judged = await store.judge(self._engine, self._intake.secret, messages, self._changed, self._accepted)
        self._changed = {
            key: one for key, one in self._changed.items() if reference_hash(one.referral_id) in self._repeated
        }
        self._accepted = {key: one for key, one in self._accepted.items() if reference_hash(key[1]) in self._repeated}
        return judged
