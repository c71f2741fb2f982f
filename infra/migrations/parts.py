"""Tables that several services have, each in its own schema."""

from alembic import op


def create_outbox(schema: str) -> None:
    """The Transactional Outbox that services/messaging/outbox.py writes and relays."""
    op.execute(f"""
        create table {schema}.outbox (
            id bigint generated always as identity,
            shard smallint not null,
            person_key text not null,
            target text not null,
            headers text not null,
            value bytea not null,
            created_at timestamptz not null default clock_timestamp(),
            published_at timestamptz,
            primary key (person_key, id)
        )""")
    op.execute(f"create index outbox_unpublished on {schema}.outbox (id) where published_at is null")


def create_quarantine(schema: str) -> None:
    """The Dead Letter Channel that services/messaging/quarantine.py writes."""
    op.execute(f"""
        create table {schema}.quarantine (
            id bigint generated always as identity,
            person_key text not null,
            chain text not null,
            topic text not null,
            partition integer not null,
            "offset" bigint not null,
            key bytea,
            headers text not null,
            value bytea not null,
            reason text not null,
            correlation_id text,
            waiting boolean not null,
            attempts integer not null default 1,
            first_at timestamptz not null default clock_timestamp(),
            last_at timestamptz not null default clock_timestamp(),
            resolved_at timestamptz,
            resolution text,
            primary key (person_key, id),
            unique (person_key, topic, partition, "offset")
        )""")
    op.execute(f"create index quarantine_open on {schema}.quarantine (person_key, chain) where resolved_at is null")


def extend_quarantine(schema: str) -> None:
    """What putting back needs (docs/decisions/0014): who asked for what, edits beside the originals, and further chains.

    `also`: chains that wait behind the record besides its own. `content`: a place on a topic that was made anew is another place.
    """
    op.execute(f"""
        alter table {schema}.quarantine
            add column also text[] not null default '{{}}',
            add column event_id text,
            add column resubmit_at timestamptz,
            add column content text generated always as (encode(sha256(value), 'hex')) stored""")
    op.execute(f"""
        alter table {schema}.quarantine
            drop constraint quarantine_person_key_topic_partition_offset_key,
            add constraint quarantine_place unique (person_key, topic, partition, "offset", content)""")
    op.execute(f"create index quarantine_id on {schema}.quarantine (id)")
    op.execute(f"""
        create table {schema}.quarantine_edit (
            person_key text not null,
            quarantine_id bigint not null,
            id bigint generated always as identity,
            headers text not null,
            value bytea not null,
            who text not null,
            why text not null,
            at timestamptz not null default clock_timestamp(),
            primary key (person_key, quarantine_id, id)
        )""")
    create_operator_action(schema)


def let_edits_give_keys(schema: str) -> None:
    """The record key that an edit gives; none: the original's."""
    op.execute(f"alter table {schema}.quarantine_edit add column key bytea")


def create_operator_action(schema: str) -> None:
    """What people did by command: who, when, what, why. `what` names rows, never a person."""
    op.execute(f"""
        create table {schema}.operator_action (
            id bigint generated always as identity primary key,
            at timestamptz not null default clock_timestamp(),
            action text not null,
            who text not null,
            why text,
            what jsonb not null
        )""")


def shrink_quarantine(schema: str) -> None:
    """Takes `extend_quarantine` back."""
    op.execute(f"drop table {schema}.operator_action, {schema}.quarantine_edit")
    op.execute(f"drop index {schema}.quarantine_id")
    op.execute(f"""
        alter table {schema}.quarantine
            drop constraint quarantine_place,
            drop column also, drop column event_id, drop column resubmit_at, drop column content,
            add constraint quarantine_person_key_topic_partition_offset_key
                unique (person_key, topic, partition, "offset")""")
