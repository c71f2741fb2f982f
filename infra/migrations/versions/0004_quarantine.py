"""Quarantine: putting back, edits beside the originals, further chains; what people did by command; what a replay needs."""

from alembic import op

from infra.migrations import parts

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    for schema in ("router", "notifier"):
        parts.extend_quarantine(schema)
    # The directory's files by version: a replay decides with those that the decision was made with.
    op.execute("""
        create table router.directory_version (
            version text primary key,
            files jsonb not null,
            first_at timestamptz not null default clock_timestamp()
        )""")
    # Districts that a postcode had until then: a replay decides with those that were loaded at the time.
    op.execute("""
        create table router.postcode_before (
            postcode text not null,
            until timestamptz not null,
            district text,
            primary key (postcode, until)
        )""")
    # The row that this one publishes again, for a hub that was away (lightbulb republish).
    op.execute("alter table router.outbox add column again_of bigint")
    op.execute("create index outbox_target on router.outbox (target, created_at)")


def downgrade() -> None:
    op.execute("drop index router.outbox_target")
    op.execute("alter table router.outbox drop column again_of")
    op.execute("drop table router.postcode_before, router.directory_version")
    for schema in ("router", "notifier"):
        parts.shrink_quarantine(schema)
