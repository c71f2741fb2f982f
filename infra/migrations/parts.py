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
