"""Dead Letter Channel and Invalid Message Channel in one place: what cannot be processed is kept, with its reason class.

A parked record leaves no duplicate mark, so that a resubmit works. Later records of its chain (a referral, or the commands of a
case) wait behind it, in order; everything else goes on.
"""

import json
from collections.abc import Sequence

from sqlalchemy import text

from services.messaging.cloudevents import Record
from services.messaging.database import Transaction


async def park(
    tx: Transaction,
    schema: str,
    record: Record,
    *,
    person_key: str,
    chain: str,
    reason: str,
    correlation_id: str | None,
    waiting: bool = False,
) -> None:
    """Keep `record` in `<schema>.quarantine`: its bytes, its place, why. `reason` is a class, without personal data.

    The same record (topic, partition, offset) parked again only counts another attempt.
    """
    await tx.execute(
        text(f"""
            insert into {schema}.quarantine as parked
                (person_key, chain, topic, partition, "offset", key, headers, value, reason, correlation_id, waiting)
            values (:person_key, :chain, :topic, :partition, :offset, :key, :headers, :value, :reason, :correlation_id, :waiting)
            on conflict (person_key, topic, partition, "offset")
            do update set attempts = parked.attempts + 1, last_at = clock_timestamp()"""),  # noqa: S608 - the schema is a name of ours
        {
            "person_key": person_key,
            "chain": chain,
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "key": record.key,
            "headers": json.dumps([[name, value.hex()] for name, value in record.headers]),
            "value": record.value,
            "reason": reason,
            "correlation_id": correlation_id,
            "waiting": waiting,
        },
    )


async def parked_chains(tx: Transaction, schema: str, person_keys: Sequence[str]) -> set[tuple[str, str]]:
    """(person_key, chain) of what is parked and unresolved: later records of these wait behind it."""
    result = await tx.execute(
        text(f"""
            select distinct person_key, chain from {schema}.quarantine
            where resolved_at is null and person_key = any(cast(:keys as text[]))"""),  # noqa: S608 - the schema is a name of ours
        {"keys": list(person_keys)},
    )
    return {(row.person_key, row.chain) for row in result}
