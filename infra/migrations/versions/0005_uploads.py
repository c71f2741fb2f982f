"""Councils' files as they were delivered, kept in parts: the original of every row, and the record of a file that was refused."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    # `state`: receiving, refused (the whole file), reporting, reported (every row has its outcome), broken-off (the database was
    # away, or the sender was, before the last row). `counts`: rows by outcome. `faults`: of a file that was refused.
    op.execute("""
        create table intake.upload (
            partner text not null,
            id uuid not null,
            council text not null,
            received_at timestamptz not null,
            correlation_id text not null,
            media_type text,
            size bigint,
            sha256 text,
            state text not null check (state in ('receiving', 'refused', 'reporting', 'reported', 'broken-off')),
            counts jsonb not null default '{}',
            faults jsonb not null default '[]',
            ended_at timestamptz,
            primary key (partner, id)
        )""")
    op.execute("create index upload_received on intake.upload (received_at)")
    op.execute("""
        create table intake.upload_part (
            partner text not null,
            upload uuid not null,
            number integer not null,
            bytes bytea not null,
            primary key (partner, upload, number),
            foreign key (partner, upload) references intake.upload (partner, id) on delete cascade
        )""")


def downgrade() -> None:
    op.execute("drop table intake.upload_part, intake.upload")
