"""Intake: what was delivered, by whom, what was decided and answered; the identity of every referral.

Primary keys begin with the partner: intake's tables can be distributed by it.
"""

from alembic import op

from infra.migrations import parts

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("create schema intake")
    op.execute("""
        create table intake.secret_check (
            only_one boolean primary key default true check (only_one),
            value text not null,
            made_at timestamptz not null default clock_timestamp()
        )""")
    op.execute("""
        create table intake.message (
            partner text not null,
            id uuid not null,
            received_at timestamptz not null,
            format text not null,
            request_id text,
            correlation_id text,
            media_type text,
            body bytea not null,
            body_sha256 text not null,
            verdict text not null,
            referral_id text,
            reference text,
            version integer,
            sent_at timestamptz,
            content_hash text,
            faults jsonb not null default '[]',
            answer_status integer not null,
            answer_body bytea not null,
            primary key (partner, id)
        )""")
    op.execute(
        "create index message_of_reference on intake.message (reference, received_at) where reference is not null"
    )
    op.execute("create index message_received on intake.message (received_at)")
    op.execute("""
        create table intake.referral (
            partner text not null,
            referral_id text not null,
            reference text not null,
            person_key text not null default '',
            version integer not null default 0,
            first_intent text not null default 'new',
            content_hash text not null default '',
            cancelled boolean not null default false,
            sent_at timestamptz,
            message_id uuid,
            first_at timestamptz not null,
            last_at timestamptz not null,
            primary key (partner, referral_id)
        )""")
    op.execute("create unique index referral_of_reference on intake.referral (reference, partner)")
    op.execute("""
        create table intake.message_key (
            partner text not null,
            key text not null,
            content_hash text not null,
            reference text not null,
            message_id uuid not null,
            primary key (partner, key)
        )""")
    op.execute("""
        create table intake.attachment (
            partner text not null,
            reference text not null,
            of_referral text not null,
            sha256 text not null,
            media_type text,
            content bytea not null,
            received_at timestamptz not null,
            primary key (partner, reference)
        )""")
    op.execute("create index attachment_of_reference on intake.attachment (reference)")
    parts.create_outbox("intake")


def downgrade() -> None:
    op.execute("drop schema intake cascade")
