"""Statements for the tables that several services have, each in its own schema."""


def outbox(schema: str) -> tuple[str, ...]:
    """Return the statements for the Transactional Outbox and the bytes of other rows (services/messaging/packets.py).

    `packet.messages`: how many messages it has; `targets`: their topics, each once. `republished`: they repeat earlier ones (lightbulb
    republish). `packet_held`: messages of published packets that wait nevertheless, by `places` (services/messaging/relay.py).
    """
    return (
        f"""
        create table {schema}.packet (
            shard smallint not null,
            messages integer not null,
            id bigint generated always as identity,
            targets text[] not null,
            content bytea not null,
            republished boolean not null default false,
            created_at timestamptz not null default clock_timestamp(),
            published_at timestamptz,
            primary key (shard, id)
        )""",
        f"alter table {schema}.packet alter content set storage external",
        f"create index packet_unpublished on {schema}.packet (shard, id) where published_at is null",
        f"create index packet_created on {schema}.packet using brin (created_at)",
        f"""
        create table {schema}.packet_held (
            shard smallint not null,
            target text not null,
            id bigint not null,
            places integer[] not null,
            since timestamptz not null default clock_timestamp(),
            primary key (shard, target, id)
        )""",
    )


def outbox_applied(schema: str) -> tuple[str, ...]:
    """Return the statements for finding the oldest event that its consumer lacks (infra/operations/not_applied.py).

    `outbox_applied.id`: every event in the shard's packets up to this id has been found applied, or among the consumer's dead letters.
    """
    return (
        f"""
        create table {schema}.outbox_applied (
            shard smallint primary key,
            id bigint not null
        )""",
    )


def dead_letters(schema: str) -> tuple[str, ...]:
    """Return the statements for the Dead Letter Channel (services/messaging/dead_letters.py) and operators' actions.

    `other_groups`: further message groups that wait behind the record. `content`: distinguishes a record from one at
    the same position of a recreated topic. `behind`: the last earlier unresolved one that has one of its groups; null: it waits
    for none. `dead_letter_group`: the groups of unresolved ones. `dead_letter_edit.key`: the record key that an edit gives;
    null: the original's. `paused_topic`: topics that pause because too many of their records would become dead letters
    (services/messaging/dead_letter_share.py). `operator_action.details` names rows, never a person.
    """
    return (
        f"""
        create table {schema}.dead_letter (
            id bigint generated always as identity,
            person_key text not null,
            message_group text not null,
            other_groups text[] not null default '{{}}',
            topic text not null,
            partition integer not null,
            "offset" bigint not null,
            event_id text,
            key bytea,
            headers text not null,
            value bytea not null,
            content text generated always as (encode(sha256(value), 'hex')) stored,
            reason text not null,
            correlation_id text,
            waiting boolean not null,
            behind bigint,
            attempts integer not null default 1,
            first_at timestamptz not null default clock_timestamp(),
            last_at timestamptz not null default clock_timestamp(),
            resubmit_at timestamptz,
            resolved_at timestamptz,
            resolution text,
            primary key (person_key, id),
            constraint dead_letter_position unique (topic, partition, "offset", content, person_key)
        )""",
        f"create index dead_letter_id on {schema}.dead_letter (id)",
        f"create index dead_letter_open on {schema}.dead_letter (id) where resolved_at is null",
        f"create index dead_letter_event on {schema}.dead_letter (person_key, topic, event_id)",
        f"create index dead_letter_behind on {schema}.dead_letter (person_key, behind) where resolved_at is null",
        f"""
        create index dead_letter_ready on {schema}.dead_letter (id)
            where resolved_at is null and behind is null and (waiting or resubmit_at is not null)""",
        f"""
        create table {schema}.dead_letter_group (
            person_key text not null,
            message_group text not null,
            dead_letter_id bigint not null,
            primary key (person_key, message_group, dead_letter_id)
        )""",
        f"""
        create table {schema}.paused_topic (
            topic text primary key,
            until timestamptz not null
        )""",
        f"""
        create table {schema}.dead_letter_edit (
            person_key text not null,
            dead_letter_id bigint not null,
            id bigint generated always as identity,
            key bytea,
            headers text not null,
            value bytea not null,
            operator text not null,
            reason text not null,
            at timestamptz not null default clock_timestamp(),
            primary key (person_key, dead_letter_id, id)
        )""",
        f"""
        create table {schema}.operator_action (
            id bigint generated always as identity primary key,
            at timestamptz not null default clock_timestamp(),
            action text not null,
            operator text not null,
            reason text,
            details jsonb not null
        )""",
    )


def positions(schema: str) -> tuple[str, ...]:
    """Return the statements for the positions of a consumer group (services/runtime/positions.py).

    `records_gone`: records that were deleted from Kafka before the group read them, from `first_offset` to before `next_offset`; a lower
    `next_offset` means that the topic was made again. `resolved_at`: when `lightbulb reconcile` or `republish` replaced them.
    """
    return (
        f"""
        create table {schema}.consumer_position (
            topic text not null,
            partition integer not null,
            next_offset bigint not null,
            primary key (topic, partition)
        )""",
        f"""
        create table {schema}.records_gone (
            topic text not null,
            partition integer not null,
            first_offset bigint not null,
            next_offset bigint not null,
            noticed_at timestamptz not null default clock_timestamp(),
            resolved_at timestamptz,
            primary key (topic, partition, first_offset)
        )""",
        f"create index records_gone_open on {schema}.records_gone (noticed_at) where resolved_at is null",
    )
