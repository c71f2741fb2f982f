"""The tracing list: persons whose identity is in doubt, with their cases and hubs. No personal data."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, get_args

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.router.decide.matching import Doubt

DOUBTS: tuple[str, ...] = get_args(Doubt)


@dataclass(frozen=True, slots=True)
class CaseOfPerson:
    """A case of a person in doubt, and the hubs that have it."""

    case_id: str
    home_hub: str | None
    holder: str | None
    is_open: bool


@dataclass(frozen=True, slots=True)
class TracingEntry:
    """One person in doubt. The person key and the number identify the person without disclosing who it is."""

    person_key: str
    person_no: int
    doubts: tuple[str, ...]
    since: datetime
    cases: tuple[CaseOfPerson, ...]

    @property
    def hubs(self) -> tuple[str, ...]:
        """Holders and home hubs of the cases, each once."""
        named = (hub for case in self.cases for hub in (case.holder, case.home_hub) if hub)
        return tuple(dict.fromkeys(named))

    def as_dict(self) -> dict[str, Any]:
        """Return the entry as JSON values."""
        cases = [
            {"case_id": c.case_id, "holder": c.holder, "home_hub": c.home_hub, "open": c.is_open} for c in self.cases
        ]
        return {
            "person_key": self.person_key,
            "person_no": self.person_no,
            "doubts": list(self.doubts),
            "since": self.since.isoformat(),
            "cases": cases,
        }


class TracingList(NamedTuple):
    """Entries, the oldest first, and whether there are more."""

    entries: Sequence[TracingEntry]
    has_more: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the list as JSON values."""
        return {"entries": [entry.as_dict() for entry in self.entries], "more": self.has_more}


async def find(engine: AsyncEngine, *, limit: int, doubt: str | None = None, ended: bool = False) -> TracingList:
    """Return the oldest entries, at most `limit`; `ended`: those of persons without an open case too."""
    query = _ALL if ended else _OF_OPEN_CASES
    async with engine.connect() as tx:
        rows = list(await tx.execute(text(query), {"doubt": doubt, "limit": limit + 1}))
    return TracingList([_entry(row) for row in rows[:limit]], len(rows) > limit)


def _entry(row: Row[Any]) -> TracingEntry:
    cases = tuple(CaseOfPerson(**case) for case in json.loads(row.cases))
    return TracingEntry(row.person_key, row.person_no, tuple(row.tracing_reasons), row.doubted_since, cases)


_CASES = """jsonb_agg(jsonb_build_object('case_id', case_id, 'home_hub', home_hub, 'holder', holder, 'is_open', ended_at is null)
        order by opened_at, case_id)"""

_OF_OPEN_CASES = f"""
    with current as materialized (
        select person_key, person_no, {_CASES} as cases from router."case" where ended_at is null group by person_key, person_no
    )
    select person_key, person_no, tracing_reasons, doubted_since, cases::text
    from router.person join current using (person_key, person_no)
    where doubted_since is not null and (cast(:doubt as text) is null or :doubt = any(tracing_reasons))
    order by doubted_since, person_key, person_no limit :limit"""  # noqa: S608 - a constant expression
"""It begins with the open cases, so that its cost does not grow with history."""

_ALL = f"""
    select person_key, person_no, tracing_reasons, doubted_since, cases::text
    from router.person cross join lateral (
        select coalesce({_CASES}, '[]') as cases from router."case" as entry
        where entry.person_key = person.person_key and entry.person_no = person.person_no
    ) as known
    where doubted_since is not null and (cast(:doubt as text) is null or :doubt = any(tracing_reasons))
    order by doubted_since, person_key, person_no limit :limit"""  # noqa: S608 - a constant expression
