"""Status of the hub: counts, what waits longest in PostgreSQL and on Kafka, and what ends soon."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aiokafka.errors import KafkaError
from rich.markup import escape
from rich.table import Table
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operations import not_applied
from infra.operations.ends import ends
from infra.operations.find import PARTNERS
from infra.operations.hub_topics import Unread, look
from infra.operations.not_applied import Hop
from schemas.topics import hub_case
from services.notifier import backlog as notifier_backlog
from services.notifier.store import FAILED, KEPT, UNDELIVERED
from services.router import backlog
from services.runtime import database, settings
from services.runtime.backlog import ROW_COUNT_LIMIT, SHARDS, held_queues
from services.runtime.database import Transaction

GROUPS = ("router", "notifier")

Part = dict[str, Any]
"""A part of the status: a service's numbers by name, or what is known of each hub."""

COUNTED = 10_000
"""Maximum number of rows that are counted; a longer table is estimated from the statistics of PostgreSQL."""


def _count(rows: str) -> str:
    """Return a query for the number of `rows` ("from TABLE where ..."), or "10,000 or more"."""
    return f"""
        select case when count(*) > {COUNTED} then '{COUNTED:,} or more' else count(*)::text end
        from (select {rows} limit {COUNTED + 1}) as counted"""  # noqa: S608 - constants


def _estimate(table: str) -> str:
    """Return a query for the number of rows of a table: "about", if they are not counted.

    `pg_class.reltuples` is from the last VACUUM or ANALYZE.
    """
    estimated = f"(select reltuples from pg_class where oid = '{table}'::regclass)"  # noqa: S608 - constants
    return f"""
        select case when count(*) > {COUNTED} then 'about ' || to_char(greatest({COUNTED}, {estimated}), 'FM999,999,999,999')
                    else count(*)::text end
        from (select from {table} limit {COUNTED + 1}) as counted"""  # noqa: S608 - constants


def _oldest_unpublished(schema: str) -> str:
    return f"""
        with recursive {held_queues(schema)}
        select extract(epoch from clock_timestamp() - min(created_at))::int from (
            select first.created_at from generate_series(0, {SHARDS - 1}) as shards (shard) cross join lateral (
                select created_at from {schema}.packet where published_at is null and shard = shards.shard order by id limit 1) as first
            union all
            select packet.created_at from queue cross join lateral (
                select id from {schema}.packet_held where shard = queue.shard and target = queue.target order by id limit 1
            ) as held join {schema}.packet on packet.shard = queue.shard and packet.id = held.id) as waiting"""  # noqa: S608 - constants


def _outbox(schema: str) -> dict[str, str]:
    return {
        "events unpublished": _count(f"""from (
            select generate_series(1, messages) from {schema}.packet where published_at is null
            union all select unnest(places) from {schema}.packet_held) as waiting"""),  # noqa: S608 - constants
        "oldest unpublished, seconds": _oldest_unpublished(schema),
    }


def _dead_letters(schema: str) -> dict[str, str]:
    return {
        "dead letters": _count(f"from {schema}.dead_letter where resolved_at is null"),
        "oldest dead letter, seconds": f"""
            select extract(epoch from clock_timestamp() - first_at)::int from {schema}.dead_letter
            where resolved_at is null order by id limit 1""",  # noqa: S608 - a constant
    }


def _gone(schema: str) -> str:
    return f"""
        select coalesce(string_agg(concat_ws(' ', topic, records), ', ' order by topic), 'none') from (
            select topic, sum(greatest(1, next_offset - first_offset)) as records from (
                select topic, first_offset, next_offset from {schema}.records_gone
                where resolved_at is null order by noticed_at limit {ROW_COUNT_LIMIT}) as gone
            group by topic) as by_topic"""  # noqa: S608 - a constant


def _paused(schema: str) -> str:
    return f"select coalesce(string_agg(topic, ', ' order by topic), 'none') from {schema}.paused_topic where until > clock_timestamp()"  # noqa: S608 - a constant


def _age(time: str) -> str:
    return f"extract(epoch from clock_timestamp() - {time})::int"


_UNFETCHED = f"from notifier.feedback where {KEPT} order by composed_at limit 1"
_WAITING = "from notifier.conversation where due_since is not null order by due_since limit 1"
_UNDELIVERED = f"select generate_series(1, {UNDELIVERED}) from notifier.conversation where due_since is not null"  # noqa: S608 - a constant

QUESTIONS: dict[str, dict[str, str]] = {
    "intake": {
        "messages kept": _estimate("intake.message"),
        "refused of the latest 10,000": f"""
            with recursive {PARTNERS}
            select count(*) filter (where verdict = 'refused') from (
                select latest.* from partners cross join lateral (
                    select id, verdict from intake.message where partner = partners.partner order by id desc limit {COUNTED}) as latest
                order by id desc limit {COUNTED}) as latest""",  # noqa: S608 - constants
        "referrals": _estimate("intake.referral"),
        **_outbox("intake"),
    },
    "router": {
        "persons": _estimate("router.person"),
        "persons to trace": _count("from router.person where doubted_since is not null"),
        "cases open": _count('from router."case" where ended_at is null'),
        "cases": _estimate('router."case"'),
        **_dead_letters("router"),
        "topics paused": _paused("router"),
        "records deleted unread": _gone("router"),
        **_outbox("router"),
    },
    "notifier": {
        "feedback composed": _estimate("notifier.feedback"),
        "feedback waiting": _count(f"from ({_UNDELIVERED}) as waiting"),
        "feedback failed": _count(f"from notifier.feedback where {FAILED}"),
        "feedback failed lately": _count(
            f"from notifier.feedback where {FAILED} and composed_at > now() - make_interval(secs => :lately)"
        ),
        "feedback kept to be fetched": _count(f"from notifier.feedback where {KEPT}"),
        "feedback not fetched for too long": _count(
            f"from notifier.feedback where {KEPT} and composed_at < now() - make_interval(secs => :unfetched)"
        ),
        "oldest not fetched, seconds": f"select {_age('composed_at')} {_UNFETCHED}",
        "oldest not fetched, reference": f"select reference {_UNFETCHED}",
        **_dead_letters("notifier"),
        "topics paused": _paused("notifier"),
        "records deleted unread": _gone("notifier"),
        **_outbox("notifier"),
        "oldest undelivered, seconds": f"select {_age('due_since')} {_WAITING}",
        "oldest undelivered, reference": f"select reference {_WAITING}",
    },
}


LISTS: dict[str, dict[str, str]] = {
    "notifier": {
        "endpoints failing": """
            select channel, recipient as partner, extract(epoch from clock_timestamp() - failing_since)::int as seconds, reason
            from notifier.endpoint where opened_at is not null order by channel, recipient limit 1000""",
        "partners without address": """
            select channel, partner, extract(epoch from clock_timestamp() - noticed_at)::int as seconds, reason
            from notifier.unaddressed order by channel, partner limit 1000""",
    }
}
"""Questions by service whose answer is a list, each with channel, partner, seconds and reason."""


def _values(query: str) -> dict[str, float]:
    """Return the values of the parameters of a query, by the settings of the notifier as far as they are known here."""
    unfetched, give_up = (_seconds(f"feedback_{name}_after") for name in ("unfetched", "give_up"))
    known = {"unfetched": unfetched, "lately": notifier_backlog.LATELY + give_up}
    return {name: value for name, value in known.items() if f":{name})" in query}


def _seconds(name: str) -> float:
    return float(settings.from_environment(name) or settings.Settings.model_fields[name].default)


async def position(url: str, kafka: str, deployment: Path | None) -> dict[str, Any]:
    """Return what is known by part: services, `lag` and `hubs` (docs/operate.md, Status), and a list `ends`.

    "about N" and "10,000 or more" are numbers that are not counted. If Kafka does not answer, its numbers are texts that say so.
    """
    reading = asyncio.create_task(on_kafka(kafka))
    try:
        return {**assembled(await in_postgresql(url), await reading), "ends": ends(deployment)}
    finally:  # an error of the database leaves no connection to Kafka open
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def in_postgresql(url: str) -> dict[str, Part]:
    """Return the numbers of each service, and of `hubs` the cases that they have not accepted."""
    engine = database.connect(url, pool=1)
    try:
        async with engine.connect() as connection:
            await not_applied.by_index(connection)  # a count stops at its limit
            answers = {service: await _answers(connection, service) for service in QUESTIONS}
            requested = await backlog.requested_cases(connection)
        for hop in not_applied.HOPS:
            answers[hop.outbox] |= await _not_applied(engine, hop)
    finally:
        await engine.dispose()
    return {**answers, "hubs": {one.hub: _requested(one) for one in requested}}


async def _answers(tx: Transaction, service: str) -> Part:
    numbers = {
        name: _number((await tx.execute(text(query), _values(query))).scalar())
        for name, query in QUESTIONS[service].items()
    }
    lists = {
        name: [dict(row) for row in (await tx.execute(text(query))).mappings()]
        for name, query in LISTS.get(service, {}).items()
    }
    return {**numbers, **lists}


async def _not_applied(engine: AsyncEngine, hop: Hop) -> Part:
    """Return the age of the oldest event that its consumer lacks, what it is about, and what is known of why."""
    found, what = await not_applied.oldest(engine, hop), OLDEST_NOT_APPLIED[hop.outbox]
    where = None
    if found.age is not None:
        where = "published" if found.published else "not published"
    elif found.compared_until is not None:
        where = f"not known: compared until {found.compared_until:%Y-%m-%d %H:%M}; repeat the command"
    return {
        f"{what}, seconds": _whole(found.age),
        f"{what}, {hop.subject}": found.subject,
        f"{what}, where": where,
    }


OLDEST_NOT_APPLIED = {"intake": "oldest accepted and undecided", "router": "oldest decision the notifier lacks"}


def _requested(one: backlog.RequestedCases) -> Part:
    return {
        "cases not accepted": f"{one.cases:,} or more" if one.cases >= ROW_COUNT_LIMIT else one.cases,
        "oldest case not accepted, seconds": int(one.seconds),
        "oldest case not accepted, case": one.case_id,
    }


def _number(answer: Any) -> Any:
    """Return a count as a number, and an estimate as its text."""
    return int(answer) if isinstance(answer, str) and answer.isdecimal() else answer


async def on_kafka(bootstrap: str) -> Mapping[str, Unread] | str:
    """Return what is unread by reader, or the kind of error if Kafka does not answer."""
    try:
        return await look(bootstrap)
    except (KafkaError, OSError, TimeoutError) as error:
        return type(error).__name__


def assembled(services: Mapping[str, Part], readers: Mapping[str, Unread] | str) -> dict[str, Part]:
    """Return both together: `lag` by service, and each hub that has cases or a topic."""
    if isinstance(readers, str):
        return {"hubs": {}, **services, "lag": dict.fromkeys(GROUPS, f"unknown: {readers}")}
    lag: Part = {}
    hubs: dict[str, Part] = {hub: dict(known) for hub, known in services.get("hubs", {}).items()}
    for reader, unread in readers.items():
        if reader in GROUPS:
            lag |= {reader: unread.records, f"{reader}, oldest unread, seconds": _whole(unread.oldest)}
        else:
            hubs.setdefault(reader.removeprefix("hub.").removesuffix(".case"), {}).update(_of_topic(unread))
    missing = [one.missing for one in readers.values() if one.missing]
    missing += [hub_case(hub) for hub, known in hubs.items() if "unread" not in known]
    return {
        **services,
        "hubs": dict(sorted(hubs.items())),
        "lag": lag | {"topics missing": ", ".join(sorted(missing)) or "none"},
    }


def _of_topic(unread: Unread) -> Part:
    return {
        "unread": unread.records,
        "oldest unread, seconds": _whole(unread.oldest),
        "read by group": unread.group,
        "deleted unread": unread.deleted,
    }


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)


# ---- for a terminal -------------------------------------------------------------------------------------------------


def table(position: Mapping[str, Any]) -> Table:
    """Return the status as a table that fits into 80 columns. Hubs without anything that waits are left out."""
    shown = Table(box=None, header_style="bold", padding=(0, 1))
    for column in ("of", "what", "now"):
        shown.add_column(column, justify="right" if column == "now" else "left", overflow="fold")
    for part in ("intake", "router", "notifier", "lag"):
        for what, now in _rows(position[part]):
            shown.add_row(part, what, escape(now))
    for hub, known in position["hubs"].items():
        for what, now in _of_hub(known):
            shown.add_row(hub, what, now)
    for one in position["ends"]:
        shown.add_row("ends", " of ".join(filter(None, (one["use"], one.get("partner")))), escape(_end(one)))
    return shown


def _rows(known: Part) -> Iterator[tuple[str, str]]:
    """Yield name and value; an age ("..., seconds") together with what else is known of the same thing."""
    aged = {name.removesuffix(", seconds") for name in known if name.endswith(", seconds")}
    for name, answer in known.items():
        if isinstance(answer, list):
            yield name, str(len(answer) or "none")
            yield from map(_listed, answer)
        elif (thing := next((one for one in aged if name.startswith(f"{one}, ")), None)) is None:
            yield name, "-" if answer is None else str(answer)
        elif name.endswith(", seconds"):
            yield thing, _aged(thing, known)


def _listed(one: Part) -> tuple[str, str]:
    return f"- {one['channel']} of {one['partner']}", f"for {in_words(one['seconds'])}, {one['reason']}"


def _aged(thing: str, known: Part) -> str:
    age = known[f"{thing}, seconds"]
    others = [known[name] for name in known if name.startswith(f"{thing}, ") and not name.endswith(", seconds")]
    return ", ".join(filter(None, [None if age is None else in_words(age), *others])) or "-"


def _of_hub(known: Part) -> Iterator[tuple[str, str]]:
    if known.get("cases not accepted"):
        oldest = in_words(known["oldest case not accepted, seconds"])
        yield "cases not accepted", f"{known['cases not accepted']}, the oldest for {oldest}"
    if known.get("unread"):
        by = f"by {known['read by group']}" if known["read by group"] else "no group has read"
        yield f"events unread, {by}", f"{known['unread']}, the oldest for {in_words(known['oldest unread, seconds'])}"
    if known.get("deleted unread"):
        yield "events deleted unread", str(known["deleted unread"])


def _end(one: Part) -> str:
    return f"not known: {one['unknown']}" if "unknown" in one else f"{one['end'][:10]}, {one['days']} days"


def in_words(seconds: float | None) -> str:
    """Return a duration in its two largest units: 40 s, 5 min, 3 h 20 min, 4 d 2 h."""
    if seconds is None:
        return "?"
    minutes = int(seconds) // 60
    if minutes < 60:
        return f"{minutes} min" if minutes else f"{int(seconds)} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"
