"""Feedback waits with the context of its trace, so that its delivery is seen as what followed from the referral."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    # None: composed before contexts were kept, or from an event that carried none.
    op.execute("alter table notifier.feedback add column traceparent text")


def downgrade() -> None:
    op.execute("alter table notifier.feedback drop column traceparent")
