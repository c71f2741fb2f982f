"""What feedback was composed with, by version; and the record key that an edit of a command gives."""

from alembic import op

from infra.migrations import parts

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    # The reviewed files that feedback is composed with: a replay composes with those of then (docs/decisions/0021).
    op.execute("""
        create table notifier.composing_version (
            version text primary key,
            source jsonb not null,
            first_at timestamptz not null default clock_timestamp()
        )""")
    # None: taken in, or composed, before versions were kept.
    op.execute("alter table notifier.input add column composed_with text")
    op.execute("alter table notifier.feedback add column composed_with text")
    for schema in ("router", "notifier"):
        parts.let_edits_give_keys(schema)


def downgrade() -> None:
    for schema in ("router", "notifier"):
        op.execute(f"alter table {schema}.quarantine_edit drop column key")
    op.execute("alter table notifier.feedback drop column composed_with")
    op.execute("alter table notifier.input drop column composed_with")
    op.execute("drop table notifier.composing_version")
