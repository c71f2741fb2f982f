"""The notifier's schema: feedback, the conversations that keep it in order, attempts, inputs, outbox and quarantine."""

from alembic import op

from infra.migrations import parts

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("create schema notifier")
    # Every case event that was taken in: its key is the duplicate guard.
    op.execute("""
        create table notifier.input (
            person_key text not null,
            event_id text not null,
            received_at timestamptz not null default clock_timestamp(),
            primary key (person_key, event_id)
        )""")
    # One row for each referral, causing event and recipient (feedback_id is derived from the three); composed once.
    # `said` is the feedback, `body` its carrier's bytes.
    # `steps` holds a time for each of composed, first_attempt, sent, accepted, collected, failed, as far as they happened.
    op.execute("""
        create table notifier.feedback (
            person_key text not null,
            feedback_id uuid not null,
            reference text not null,
            caused_by text not null,
            recipient text not null,
            channel text not null check (channel in ('fhir', 'mesh', 'mailbox')),
            told text not null,
            status text not null,
            ordinal integer not null,
            correlation_id text not null,
            state text not null check (state in ('waiting', 'accepted', 'failed')),
            said jsonb not null,
            body bytea not null,
            ids jsonb not null,
            steps jsonb not null,
            attempts integer not null default 0,
            receipt text,
            reason text,
            composed_at timestamptz not null default clock_timestamp(),
            primary key (person_key, feedback_id),
            unique (person_key, reference, recipient, channel, ordinal)
        )""")
    op.execute("create index feedback_of_referral on notifier.feedback (reference, recipient)")
    op.execute("create index feedback_waiting on notifier.feedback (composed_at) where state = 'waiting'")
    op.execute("create index feedback_failed on notifier.feedback (composed_at) where state = 'failed'")
    # One row for each referral, recipient and channel: what is next for it. Only `next` can be claimed, so order holds with any
    # number of processes. `due_at` is null where nothing waits; while claimed it is the end of the lease.
    op.execute("""
        create table notifier.conversation (
            person_key text not null,
            reference text not null,
            recipient text not null,
            channel text not null,
            last integer not null,
            next integer not null,
            attempts integer not null default 0,
            first_attempt_at timestamptz,
            due_at timestamptz,
            lease uuid,
            reason text,
            failed_before boolean not null default false,
            primary key (person_key, reference, recipient, channel)
        ) with (fillfactor = 70)""")
    op.execute("create index conversation_due on notifier.conversation (due_at) where due_at is not null")
    op.execute("""
        create table notifier.attempt (
            person_key text not null,
            feedback_id uuid not null,
            number integer not null,
            started_at timestamptz not null,
            ended_at timestamptz not null,
            outcome text not null check (outcome in ('delivered', 'repeat', 'retry', 'failed')),
            reason text,
            primary key (person_key, feedback_id, number)
        )""")
    parts.create_outbox("notifier")
    parts.create_quarantine("notifier")
