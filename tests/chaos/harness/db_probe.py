"""Read the services' tables as a black-box oracle. All SQL of the chaos harness is in this module; a change of a table changes it.

Queries go to PostgreSQL directly, not through a proxy. They are repeated while the server is down, on a new connection each time.
"""

import asyncio
import contextlib
import json
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg

from tests.chaos.harness.packet_decoder import DecodedPacket, PacketMessage, decode, decompress

PATIENCE_SECONDS = 60.0
OURS = (asyncpg.SyntaxOrAccessError, asyncpg.DataError, asyncpg.exceptions.DataError)
"""Errors of the query itself, which a repetition cannot solve. All others pass when the server is back, or the table."""

SCHEMAS = ("intake", "router", "notifier")
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
Row = Mapping[str, Any]


@dataclass
class Probe:
    """One connection, made at the first query, for one query at a time; a caller that must not wait uses its own probe.

    Any error closes it. A server that is killed during an answer leaves asyncpg in an undefined state (InternalClientError, which is
    not a PostgresError), and so does a cancelled query.
    """

    connect: Callable[[], Awaitable[Any]]
    since: datetime = EARLIEST
    """The server's time when the run began: older packets are other runs'."""
    decoded: dict[tuple[Any, ...], DecodedPacket] = field(default_factory=dict)
    """Packets of this run by schema, id and time: after a restore an id is used again."""
    _connection: Any = None
    _busy: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def fetch(self, query: str, *values: object) -> list[Any]:
        """Return the rows; try again while the server is down."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._busy:
            while True:
                try:
                    return await self._once(query, *values)
                except OURS as error:
                    if not isinstance(error, asyncpg.UndefinedTableError):
                        raise
                except Exception:  # passes
                    pass
                await asyncio.sleep(0.2)

    async def _once(self, query: str, *values: object) -> list[Any]:
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await self.connect()
            return list(await self._connection.fetch(query, *values))
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """Drop the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


async def create_indexes(probe: Probe) -> None:
    """Create the indexes that the queries below need, in addition to the services' own."""
    await probe.fetch("create index if not exists chaos_input on router.input (correlation_id)")
    await probe.fetch("create index if not exists chaos_input_id on router.input (id)")
    await probe.fetch("create index if not exists chaos_feedback on notifier.feedback (feedback_id)")
    await probe.fetch("create index if not exists chaos_referral on router.referral (reference)")


# ---- packets ----------------------------------------------------------------------------------------------------------

PART = 200
"""Packets that one query reads."""


async def begin(probe: Probe) -> None:
    """Read only packets of the run that begins now."""
    probe.decoded.clear()
    probe.since = await now(probe)


@dataclass(frozen=True)
class StoredPacket:
    """A packet of this run. `waiting`: its messages that are not published, by place."""

    id: int
    created_at: datetime
    packet: DecodedPacket
    waiting: frozenset[int]


async def packets(probe: Probe, schema: str) -> dict[int, StoredPacket]:
    """Return the packets of this run by id."""
    rows = await probe.fetch(
        f"""
        select id, created_at, published_at is null as waits,
               array(select unnest(places) from {schema}.packet_held as part
                     where part.shard = packet.shard and part.id = packet.id) as held
        from {schema}.packet where created_at >= $1 order by id""",
        probe.since,
    )
    names = {row["id"]: (schema, row["id"], row["created_at"]) for row in rows}
    await _decode(probe, schema, [one for one, name in names.items() if name not in probe.decoded])
    return {
        row["id"]: _stored(row, probe.decoded[names[row["id"]]]) for row in rows if names[row["id"]] in probe.decoded
    }


def _stored(row: Row, packet: DecodedPacket) -> StoredPacket:
    waiting = range(len(packet.messages)) if row["waits"] else row["held"]
    return StoredPacket(row["id"], row["created_at"], packet, frozenset(waiting))


async def _decode(probe: Probe, schema: str, ids: Sequence[int]) -> None:
    for at in range(0, len(ids), PART):
        query = f"select id, created_at, content from {schema}.packet where id = any($1::bigint[])"
        for row in await probe.fetch(query, ids[at : at + PART]):
            probe.decoded[schema, row["id"], row["created_at"]] = decode(row["content"])


async def _with_parts(probe: Probe, schema: str, rows: Iterable[Row], *names: str) -> list[dict[str, Any]]:
    """Return rows of this run with the parts of the content that each points at, by these names."""
    found = await packets(probe, schema)
    return [
        dict(row) | dict(zip(names, found[row["packet"]].packet.contents[row["place"]], strict=True))
        for row in rows
        if row["packet"] in found
    ]


async def _waiting(probe: Probe, schema: str) -> list[PacketMessage]:
    """Return the messages of this run that are not published."""
    found = await packets(probe, schema)
    return [one.packet.messages[place] for one in found.values() for place in sorted(one.waiting)]


# ---- intake -----------------------------------------------------------------------------------------------------------


async def accepted(probe: Probe, partner: str, mark: bytes) -> list[Row]:
    """Return the accepted messages of a partner whose body holds `mark`: correlation id, id, person key."""
    rows = await probe.fetch(
        """
        select message.correlation_id, message.id::text as id, referral.person_key, packet, place
        from intake.message join intake.referral using (partner, reference)
        where partner = $1 and verdict in ('received', 'updated', 'cancelled')""",
        partner,
    )
    return [row for row in await _with_parts(probe, "intake", rows, *BODY) if mark in row["body"]]


BODY = ("body", "answer")
"""The parts of a message's content."""


async def applied(probe: Probe, correlation_id: str, mark: bytes) -> str | None:
    """Return the correlation id of an HL7 v2 message that made an event; None if it was superseded, repeated or not stored."""
    rows = await probe.fetch("""
        select coalesce(correlation_id, id::text) as correlation_id, packet, place from intake.message
        where format = 'hl7v2' and verdict in ('received', 'updated', 'contradicted')""")
    for row in await _with_parts(probe, "intake", rows, *BODY):
        if row["correlation_id"] == correlation_id or mark in row["body"]:
            return str(row["correlation_id"])
    return None


async def messages(probe: Probe, correlation_ids: Sequence[str], marks: Sequence[bytes]) -> list[Row]:
    """Return the messages with these correlation ids, and those in HL7 v2 whose body holds one of `marks`."""
    rows = await probe.fetch(
        """
        select coalesce(correlation_id, id::text) as correlation_id, verdict, reference, version, format, packet, place
        from intake.message where correlation_id = any($1::text[]) or format = 'hl7v2'""",
        correlation_ids,
    )
    return [
        row
        for row in await _with_parts(probe, "intake", rows, *BODY)
        if row["correlation_id"] in correlation_ids
        or (row["format"] == "hl7v2" and any(mark in row["body"] for mark in marks))
    ]


async def referrals_at_intake(probe: Probe, references: Sequence[str]) -> list[Row]:
    """Return intake's referrals with these references."""
    return await probe.fetch("select * from intake.referral where reference = any($1::text[])", references)


# ---- router -----------------------------------------------------------------------------------------------------------


async def referrals(probe: Probe, person_keys: Sequence[str]) -> list[Row]:
    """Return the router's referrals of these persons."""
    rows = await probe.fetch("select * from router.referral where person_key = any($1::text[])", person_keys)
    return [_with_state(row) for row in rows]


async def cases(probe: Probe, person_keys: Sequence[str]) -> list[Row]:
    """Return the cases of these persons."""
    rows = await probe.fetch('select * from router."case" where person_key = any($1::text[])', person_keys)
    return [_with_state(row) for row in rows]


def _with_state(row: Row) -> dict[str, Any]:
    """Return a row with its state as JSON."""
    return dict(row) | {"state": decompress(row["state"]).decode()}


async def inputs(probe: Probe, person_keys: Sequence[str]) -> list[Row]:
    """Return the events and commands that were applied to these persons."""
    return await probe.fetch(
        "select person_key, topic, id, position, correlation_id from router.input where person_key = any($1::text[])",
        person_keys,
    )


async def case_events(probe: Probe, person_keys: Sequence[str]) -> list[Row]:
    """Return the case events of these persons."""
    return await probe.fetch(
        "select person_key, sequence, id, type from router.case_event where person_key = any($1::text[])", person_keys
    )


async def last_sequences(probe: Probe, person_keys: Sequence[str]) -> dict[str, int]:
    """Return the number of the last case event of each of these persons."""
    rows = await probe.fetch(
        "select person_key, last_sequence from router.person_key where person_key = any($1::text[])", person_keys
    )
    return {row["person_key"]: row["last_sequence"] for row in rows}


async def events_for_hubs(probe: Probe, person_keys: Collection[str]) -> list[Row]:
    """Return what the router's outbox holds for hubs about these persons: person key, topic and event id."""
    return [
        {"person_key": one.person_key, "target": one.target, "id": one.event_id}
        for stored in (await packets(probe, "router")).values()
        for one in stored.packet.messages
        if one.target.startswith("hub.") and one.person_key in person_keys
    ]


async def persons_of(probe: Probe, correlation_id: str) -> list[str]:
    """Return the person keys to which inputs of this conversation were applied."""
    rows = await probe.fetch("select distinct person_key from router.input where correlation_id = $1", correlation_id)
    return [row["person_key"] for row in rows]


async def effects(probe: Probe, correlation_ids: Sequence[str], command_ids: Sequence[str]) -> list[str]:
    """Return which of these were applied or dead-lettered: `c <correlation id>`, `k <key> <correlation id>`, `i <command id>`."""
    rows = await probe.fetch(
        """
        with conversation as (
            select person_key, correlation_id from router.input
            where topic = 'referral.event' and correlation_id = any($1::text[])
            union all select person_key, correlation_id from router.dead_letter
            where topic = 'referral.event' and correlation_id = any($1::text[]))
        select 'c ' || correlation_id as name from conversation
        union all select 'k ' || person_key || ' ' || correlation_id from conversation
        union all select 'i ' || id from router.input where id = any($2::text[]) and topic like 'hub.%'""",
        correlation_ids,
        command_ids,
    )
    return [row["name"] for row in rows]


async def decided(probe: Probe, references: Sequence[str]) -> int:
    """Count which of these referrals the router has."""
    [row] = await probe.fetch(
        "select count(*) as rows from router.referral where reference = any($1::text[])", references
    )
    return int(row["rows"])


async def unpublished_to(probe: Probe, topic: str) -> int:
    """Count the router's messages for a topic that are not published."""
    return sum(one.target == topic for one in await _waiting(probe, "router"))


async def unpublished_of(probe: Probe, person_key: str) -> int:
    """Count the router's messages about a person that are not published."""
    return sum(one.person_key == person_key for one in await _waiting(probe, "router"))


async def referral_count(probe: Probe) -> int:
    """Count the router's referrals."""
    [row] = await probe.fetch("select count(*) as rows from router.referral")
    return int(row["rows"])


# ---- notifier ---------------------------------------------------------------------------------------------------------


async def feedback(probe: Probe, person_keys: Sequence[str]) -> list[Row]:
    """Return the feedback about these persons, in order for each referral, recipient and channel."""
    rows = await probe.fetch(
        """
        select person_key, feedback_id::text as id, reference, recipient, channel, feedback_type, ordinal, state, caused_by, composed_at,
               coalesce(accepted_at, case when channel = 'mailbox' then composed_at end) as accepted_at, packet, place
        from notifier.feedback where person_key = any($1::text[]) order by reference, recipient, channel, ordinal""",
        person_keys,
    )
    found = await _with_parts(probe, "notifier", rows, "content", "body", "envelope")
    return [row | {"body": row["body"].decode(), "status": json.loads(row["content"])["status"]} for row in found]


async def has_feedback(probe: Probe, feedback_id: str) -> bool:
    """Return whether a feedback is stored."""
    with contextlib.suppress(ValueError):
        return bool(await probe.fetch("select from notifier.feedback where feedback_id = $1", uuid.UUID(feedback_id)))
    return False


@dataclass(frozen=True)
class Backlog:
    """Case events that the notifier has not received, and feedback that is not delivered, at one time."""

    person_keys: Sequence[str]
    event_ids: Sequence[str]
    feedback_ids: Sequence[Any]


async def backlog(probe: Probe) -> Backlog:
    """Return the notifier's present backlog."""
    events = await probe.fetch("""
        select person_key, id from router.case_event
        where not exists (select from notifier.input where person_key = case_event.person_key and event_id = case_event.id)""")
    waiting = await probe.fetch("select feedback_id from notifier.feedback where state = 'waiting'")
    return Backlog(
        [row["person_key"] for row in events],
        [row["id"] for row in events],
        [row["feedback_id"] for row in waiting],
    )


async def due(probe: Probe, recipient: str) -> int:
    """Count the conversations with a recipient whose next feedback is due or leased."""
    [row] = await probe.fetch(
        "select count(*) as rows from notifier.conversation where due_at is not null and recipient = $1", recipient
    )
    return int(row["rows"])


async def composed(probe: Probe, recipient: str) -> tuple[int, int]:
    """Count the feedback for a recipient that waits to be delivered, and that which does not."""
    [row] = await probe.fetch(
        "select count(*) filter (where state = 'waiting') as waiting, count(*) as rows from notifier.feedback where recipient = $1",
        recipient,
    )
    return int(row["waiting"]), int(row["rows"] - row["waiting"])


async def is_done(probe: Probe, old: Backlog) -> bool:
    """Return True if everything of an earlier backlog was received, and all its feedback delivered."""
    [row] = await probe.fetch(
        """
        select (select count(*) from unnest($1::text[], $2::text[]) as event (person_key, id) where not exists (
                    select from notifier.input where person_key = event.person_key and event_id = event.id)) as not_received,
               (select count(*) from notifier.feedback where state = 'waiting'
                and (feedback_id = any($3::uuid[]) or caused_by = any($2::text[]))) as waiting""",
        old.person_keys,
        old.event_ids,
        old.feedback_ids,
    )
    return not any(row.values())


# ---- every service ----------------------------------------------------------------------------------------------------


async def dead_letters(probe: Probe, schema: str) -> list[Row]:
    """Return the unresolved dead letters of a service."""
    return await probe.fetch(f"""
        select topic, partition, "offset", person_key, message_group, reason, value, '{schema}' as schema
        from {schema}.dead_letter where resolved_at is null""")


async def unpublished(probe: Probe, schema: str) -> int:
    """Count the packets of a service that are not published, and the parts of others that are held."""
    [row] = await probe.fetch(f"""
        select (select count(*) from {schema}.packet where published_at is null) + (select count(*) from {schema}.packet_held) as rows""")
    return int(row["rows"])


async def unpublished_since(probe: Probe, schema: str, time: datetime) -> int:
    """Count the messages of a service that were written by this time and are not published."""
    found = await packets(probe, schema)
    return sum(len(one.waiting) for one in found.values() if one.created_at <= time)


async def is_quiet(probe: Probe) -> bool:
    """Return True if every outbox is published and no feedback is due."""
    if any([await unpublished(probe, schema) for schema in SCHEMAS]):
        return False
    [row] = await probe.fetch("select count(*) as due from notifier.conversation where due_at is not null")
    return not row["due"]


# ---- the server -------------------------------------------------------------------------------------------------------


async def now(probe: Probe) -> datetime:
    """Return the server's time."""
    [row] = await probe.fetch("select clock_timestamp() as now")
    time: datetime = row["now"]
    return time


async def open_transactions(probe: Probe) -> int:
    """Count the services' transactions that have been open for more than two seconds."""
    [row] = await probe.fetch(
        "select count(*) as open from pg_stat_activity where application_name = 'lightbulb'"
        " and xact_start < clock_timestamp() - interval '2 seconds'"
    )
    return int(row["open"])


async def deadlocks(probe: Probe) -> int:
    """Return how many deadlocks the server has found since it started."""
    [row] = await probe.fetch("select deadlocks from pg_stat_database where datname = current_database()")
    return int(row["deadlocks"])


# ---- faults that need SQL ---------------------------------------------------------------------------------------------

END_SESSIONS = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'lightbulb'"

FAILING_TABLES = ("intake.message", "router.input", "notifier.input", "notifier.feedback")


async def end_sessions(probe: Probe) -> int:
    """End every session of the services, and return their number."""
    return len(await probe.fetch(END_SESSIONS))


async def create_failure_counter(probe: Probe) -> None:
    """Create the sequence that counts the failures of `create_failure_triggers`."""
    await probe.fetch("create sequence if not exists chaos_failures")


async def create_failure_triggers(probe: Probe) -> None:
    """Make every third transaction that writes fail with a serialization failure."""
    await probe.fetch("""
        create or replace function chaos_fails() returns trigger language plpgsql as $$
        begin
            if random() < 0.34 then
                perform nextval('public.chaos_failures');  -- which no rollback takes back
                raise exception 'chaos' using errcode = '40001';
            end if;
            return null;
        end $$""")
    for table in FAILING_TABLES:
        await probe.fetch(
            f"create or replace trigger chaos after insert on {table} for each statement execute function chaos_fails()"
        )


async def drop_failure_triggers(probe: Probe) -> None:
    """Let transactions succeed again."""
    for table in FAILING_TABLES:
        await probe.fetch(f"drop trigger if exists chaos on {table}")


async def failures(probe: Probe) -> int:
    """Return how many transactions the triggers have failed."""
    [row] = await probe.fetch("select case when is_called then last_value else 0 end as failures from chaos_failures")
    return int(row["failures"])


async def create_refusal_trigger(probe: Probe, prefix: str) -> None:
    """Make the database refuse inputs of the router whose id begins with `prefix`, as if our own code or schema were at fault."""
    await probe.fetch("""
        create or replace function chaos_refuses() returns trigger language plpgsql as $$
        begin
            raise exception 'chaos' using errcode = '22023';
        end $$""")
    await probe.fetch(f"""
        create or replace trigger chaos_refuses before insert on router.input for each row
        when (new.id like '{prefix}%') execute function chaos_refuses()""")


async def drop_refusal_trigger(probe: Probe) -> None:
    """Let the database take every input again."""
    await probe.fetch("drop trigger if exists chaos_refuses on router.input")


READ_ONLY = "default_transaction_read_only"


async def set_read_only(probe: Probe, is_read_only: bool) -> None:
    """Make every session of the services read-only, open or new, or let them write again."""
    await probe.fetch(f"alter system set {READ_ONLY} = on" if is_read_only else f"alter system reset {READ_ONLY}")
    await probe.fetch("select pg_reload_conf()")


async def let_new_sessions_write(probe: Probe, is_set: bool) -> None:
    """Let the services' new sessions write whatever the server's setting: that of a role is read when a session begins."""
    for service in SCHEMAS:
        setting = f"set {READ_ONLY} = off" if is_set else f"reset {READ_ONLY}"
        await probe.fetch(f"alter role lightbulb_{service} {setting}")


AWAY = "_away"
"""The end of the name of a renamed table."""


async def rename_table(probe: Probe, table: str) -> None:
    """Rename a table, as in a restore or a migration."""
    await _rename(probe, table, table + AWAY)


async def rename_table_back(probe: Probe, table: str) -> None:
    """Give a table its name again; it may have it already."""
    await _rename(probe, table + AWAY, table)


async def _rename(probe: Probe, table: str, name: str) -> None:
    schema, _, old = table.partition(".")
    new = name.partition(".")[2]
    await probe.fetch("set lock_timeout = '2s'")
    await probe.fetch(f"alter table if exists {schema}.{old} rename to {new}")


async def lock_cases_before_persons(connection: asyncpg.Connection) -> None:
    """Lock the latest cases, wait, and lock their persons: the router locks in the opposite order, and a deadlock follows."""
    await connection.execute("set deadlock_timeout = '20s'; set lock_timeout = '3s'")
    async with connection.transaction():
        rows = await connection.fetch(
            'select person_key from router."case" order by updated_at desc limit 8 for update'
        )
        await asyncio.sleep(0.25)
        for key in sorted({row["person_key"] for row in rows}, reverse=True):
            await connection.fetch("select from router.person_key where person_key = $1 for update", key)
