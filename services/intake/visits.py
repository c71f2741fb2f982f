"""Accept a message about a hospital visit (ADT), which may concern several of the partner's referrals, or none.

A full feed is nearly all about people who were never referred. Such a message costs a part of one indexed read: nothing is locked,
stored or logged, and its acknowledgement is that of any other.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from uuid import UUID

from sqlalchemy import text

from services.intake import limits
from services.intake.batch import REFUSED, MessageDecision, PendingMessage, ProtocolResponse
from services.intake.deduplication import Verdict
from services.intake.group_commit import GroupCommit, Unavailable
from services.intake.translators.translator import Rejection, Translated, VisitMessage
from services.runtime import database, metrics
from services.runtime.logs import log

Search = tuple[str, VisitMessage, "asyncio.Future[tuple[str, ...]]"]
"""A partner, its message, and the referrals that are found."""


class Visits:
    """Messages about visits of one process: which referrals they concern, and their commit."""

    def __init__(self, group_commit: GroupCommit) -> None:
        self._group_commit = group_commit
        self._waiting: list[Search] = []
        self._searching: asyncio.Task[None] | None = None

    async def submit(
        self,
        message: PendingMessage,
        visit: VisitMessage,
        of_referral: Callable[[str], Translated],
        new_id: Callable[[], UUID],
    ) -> ProtocolResponse:
        """Return the response to a message after it is committed for each referral that it concerns.

        Raises Unavailable if that is not certain.
        """
        referral_ids = await self._find(message.partner, visit) if visit.keys else ()
        if len(referral_ids) > limits.VISIT_REFERRALS:
            self._count(message.partner, visit, "ambiguous")
            referral_ids = ()
        if not referral_ids:
            self._count(message.partner, visit, "unrelated")
            return message.compose(MessageDecision(Verdict.UNRELATED, message.inbound.received_at))
        each = [
            dataclasses.replace(message, id=new_id(), outcome=of_referral(referral_id)) for referral_id in referral_ids
        ]
        answers = await asyncio.gather(*map(self._group_commit.submit, each))
        self._count(message.partner, visit, "found")
        return answers[0]

    def refuse(self, message: PendingMessage) -> ProtocolResponse:
        """Return the response to a message that a translator refused: it is not stored, since it may be about anybody."""
        assert isinstance(message.outcome, Rejection)
        metrics.ADT_MESSAGES.labels(message.partner, "other", "refused").inc()
        return message.compose(MessageDecision(REFUSED, message.inbound.received_at, issues=message.outcome.issues))

    @staticmethod
    def _count(partner: str, visit: VisitMessage, outcome: str) -> None:
        metrics.ADT_MESSAGES.labels(partner, visit.trigger, outcome).inc()

    # ---- find -------------------------------------------------------------------------------------------------------

    async def _find(self, partner: str, visit: VisitMessage) -> tuple[str, ...]:
        """Return the ids of the referrals that have one of the keys; messages that wait at the same time share a statement."""
        if len(self._waiting) >= limits.WAITING:
            raise Unavailable
        result: asyncio.Future[tuple[str, ...]] = asyncio.get_running_loop().create_future()
        self._waiting.append((partner, visit, result))
        if self._searching is None or self._searching.done():
            self._searching = asyncio.create_task(self._search())
        return await result

    async def _search(self) -> None:
        while self._waiting:
            searches, self._waiting = (
                self._waiting[: limits.BATCH_MESSAGES],
                self._waiting[limits.BATCH_MESSAGES :],
            )
            try:
                async with asyncio.timeout(limits.COMMIT_SECONDS):
                    referrals = await self._referrals(searches)
            except Exception as error:
                log.warning("visit_lookup_failed", reason=database.reason_class(error), messages=len(searches))
                _fail(result for *_, result in searches)
                continue
            for number, (*_, result) in enumerate(searches):
                if not result.done():
                    result.set_result(tuple(sorted(referrals.get(number, ()))))

    async def _referrals(self, searches: Sequence[Search]) -> dict[int, set[str]]:
        rows = [(number, partner, key) for number, (partner, visit, _) in enumerate(searches) for key in visit.keys]
        columns = {name: [row[at] for row in rows] for at, name in enumerate(("numbers", "partners", "keys"))}
        referrals: dict[int, set[str]] = {}
        async with self._group_commit.engine.connect() as connection:
            for row in await connection.execute(_FIND, {**columns, "most": limits.VISIT_REFERRALS + 1}):
                referrals.setdefault(row.number, set()).add(row.referral_id)
        return referrals


def _fail(searches: "Iterable[asyncio.Future[tuple[str, ...]]]") -> None:
    for result in searches:
        if not result.done():
            result.set_exception(Unavailable())


_FIND = text("""
    select asked.number, referral.referral_id
    from unnest(cast(:numbers as integer[]), cast(:partners as text[]), cast(:keys as text[]))
        as asked (number, partner, key)
    cross join lateral (
        select known.reference from intake.visit_key as known
        where known.partner = asked.partner and known.key = asked.key limit :most) as found
    join intake.referral as referral on referral.partner = asked.partner and referral.reference = found.reference
    where not referral.cancelled""")
