"""Find referrals and messages by what a caller can name. No personal data is returned, and each search uses an index.

Family names and birth dates cannot be searched: no column holds them in plain text.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operations.audit_log import Operator, record_action
from schemas.text import fold
from services.intake import identifiers
from services.runtime.database import Transaction


@dataclass(frozen=True, slots=True)
class SearchFilters:
    """Limits of a search; None does not limit. Times are those of receipt."""

    partner: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 20


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A referral, or a message if `verdict` is set: a refused one has no reference. `status` is that of the referral.

    `holder` and `home_hub` are those of its case. Without a case the router has not decided on it yet.
    """

    received_at: datetime
    partner: str
    format: str | None
    verdict: str | None
    reference: str | None
    status: str | None
    case_id: str | None
    holder: str | None
    home_hub: str | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"received_at": self.received_at.isoformat()}


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The latest hits, the latest first. `more`: there are others beyond the limit."""

    hits: list[SearchHit]
    more: bool

    def as_dict(self) -> dict[str, Any]:
        return {"found": [hit.as_dict() for hit in self.hits], "more": self.more}


class WrongSecret(Exception):
    """The secret is not the one that this database was initialised with, so no person key can be computed."""


async def by_name(engine: AsyncEngine, name: str, filters: SearchFilters) -> SearchResult:
    """Find what has this name: our reference, the sender's own reference, a correlation id, or the id of a case."""
    names = {"name": name, "folded": fold(name), "reference": name.strip().upper()}
    async with engine.connect() as tx:
        return await _hits(tx, _BY_NAME, names, filters)


async def by_nhs_number(
    engine: AsyncEngine, secret: bytes, nhs_number: str, filters: SearchFilters, by: Operator
) -> SearchResult:
    """Find the referrals whose first message had this NHS number, and record who searched. Raise WrongSecret."""
    key = identifiers.person_key(secret, nhs_number, "", "")
    async with engine.begin() as tx:
        if await tx.scalar(text("select value from intake.secret_check")) != identifiers.check_value(secret):
            raise WrongSecret
        found = await _hits(tx, _BY_KEY, {"key": key}, filters)
        references = [hit.reference for hit in found.hits]
        await record_action(tx, "router", "find by NHS number", by, {"references": references, "more": found.more})
    return found


async def messages(engine: AsyncEngine, filters: SearchFilters) -> SearchResult:
    """Find messages by partner and time of receipt, refused ones too."""
    async with engine.connect() as tx:
        return await _hits(tx, _MESSAGES, _ids(filters), filters)


def _ids(filters: SearchFilters) -> dict[str, UUID]:
    """Return between which ids the messages lie: an id begins with the time at which it was made, soon after the receipt."""
    since = filters.since.timestamp() if filters.since else 0
    until = (filters.until + timedelta(hours=1)).timestamp() if filters.until else 2**47 / 1000
    return {"from": UUID(int=int(since * 1000) << 80), "to": UUID(int=int(until * 1000) << 80)}


async def _hits(
    tx: Transaction, statement: TextClause, given: Mapping[str, object], filters: SearchFilters
) -> SearchResult:
    limits = {"partner": filters.partner, "since": filters.since, "until": filters.until, "limit": filters.limit + 1}
    rows = (await tx.execute(statement, {**given, **limits})).mappings().all()
    return SearchResult([SearchHit(**row) for row in rows[: filters.limit]], len(rows) > filters.limit)


_WITHIN = """(cast(:partner as text) is null or partner = :partner)
    and (cast(:since as timestamptz) is null or received_at >= :since)
    and (cast(:until as timestamptz) is null or received_at < :until)"""

_PLACED = """
    select found.received_at, found.partner, found.format, found.verdict, found.reference, known.status, known.case_id,
           work.holder, work.home_hub
    from found
    left join intake.referral as taken on taken.reference = found.reference
    left join router.referral as known on known.person_key = taken.person_key and known.reference = taken.reference
    left join router."case" as work on work.person_key = known.person_key and work.case_id = known.case_id
    order by found.received_at desc, found.reference"""


def _referrals(sent: str) -> str:
    """Return a query for the latest of these rows of intake.referral, which are named `sent`."""
    return f"""
    select sent.first_at as received_at, sent.partner, first.format, cast(null as text) as verdict, sent.reference
    from {sent} left join lateral (
        select format from intake.message where reference = sent.reference order by received_at limit 1
    ) as first on true
    where (cast(:partner as text) is null or sent.partner = :partner)
      and (cast(:since as timestamptz) is null or sent.first_at >= :since)
      and (cast(:until as timestamptz) is null or sent.first_at < :until)
    order by sent.first_at desc limit :limit"""  # noqa: S608 - constants


_MESSAGE = "select received_at, partner, format, verdict, reference from intake.message"

_BY_NAME = text(f"""
    with of_case as (
        select person_key from router."case" where case_id = :name limit 1
    ), named as (
        select reference from intake.referral where reference = :reference
        union select reference from intake.referral where sender_reference = :folded
        union select reference from intake.message where correlation_id = :name and reference is not null
        union select known.reference from of_case join router.referral as known using (person_key) where known.case_id = :name
    ), found as (
        ({_referrals("named join intake.referral as sent on sent.reference = named.reference")})
        union all
        ({_MESSAGE} where correlation_id = :name and reference is null and {_WITHIN} order by received_at desc limit :limit)
    )
    {_PLACED} limit :limit""")  # noqa: S608 - constants

_BY_KEY = text(f"""
    with found as ({_referrals("(select * from intake.referral where person_key = :key) as sent")})
    {_PLACED}""")  # noqa: S608 - constants

PARTNERS = """
    partners (partner) as (
        (select partner from intake.message order by partner limit 1)
        union all
        select next.partner from partners cross join lateral (
            select partner from intake.message where partner > partners.partner order by partner limit 1) as next
    )"""
"""Common table expression for `with recursive`: every partner that sent a message, each by one index search."""

_MESSAGES = text(f"""
    with recursive {PARTNERS}, found as (
        select latest.* from partners cross join lateral (
            {_MESSAGE} where partner = partners.partner and id >= :from and id < :to and {_WITHIN} order by id desc limit :limit
        ) as latest
        where cast(:partner as text) is null or partners.partner = :partner
        order by received_at desc limit :limit
    )
    {_PLACED}""")  # noqa: S608 - constants
