"""Command mark-read: a person has read the parts of a referral that no rule understands."""

from schemas.events import MarkRead
from services.router.decide.acting_hub import ActingHub, CommandRejection, not_workable, reject
from services.router.decide.transition import Transition


def mark_read(transition: Transition, acting: ActingHub, command: MarkRead) -> CommandRejection | None:
    """Refuse the command: nothing of the referral waits to be read."""
    return not_workable(transition, acting, [command.reference]) or reject(
        acting, "impossible", "Nothing of this referral waits to be read."
    )
