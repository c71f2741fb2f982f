"""Parts of a referral that no rule understands: a person reads them, and marks the referral as read."""

from schemas.events import MarkRead
from services.router.decide.acting_hub import ActingHub, CommandRejection, not_workable, reject, served_by
from services.router.decide.model import NeedsCorrection, ReferralRecord, parts_of
from services.router.decide.referrals import apply_change, move_to_named_authority, with_needs_of
from services.router.decide.transition import Transition


def mark_read(transition: Transition, acting: ActingHub, command: MarkRead) -> CommandRejection | None:
    """Store that a person has read the referral, with the needs as corrected, and route it."""
    rejection = not_workable(transition, acting, [command.reference])
    if rejection is not None:
        return rejection
    record = transition.referrals[command.reference]
    if rejection := _reject_if_nothing_to_read(acting, record, command):
        return rejection
    apply_change(transition, record, _read(record, command))
    if record.home_hub is None:
        move_to_named_authority(transition, record.reference)
    return None


def _reject_if_nothing_to_read(acting: ActingHub, record: ReferralRecord, command: MarkRead) -> CommandRejection | None:
    if not record.unread:
        return reject(acting, "impossible", "Nothing of this referral waits to be read.")
    if command.needs and not set(command.needs) - record.ended_needs.keys():
        return reject(
            acting,
            "unknown-need",
            "Every need in needs has ended. Name the needs that are open, or none if they are right.",
        )
    return None


def _read(record: ReferralRecord, command: MarkRead) -> ReferralRecord:
    referral = record.referral
    update: dict[str, object] = {"parts_read": parts_of(referral)}
    if command.needs:
        needs = tuple(dict.fromkeys(command.needs))
        earlier = record.correction
        stated = earlier.stated if earlier else tuple(need.service for need in referral.needs)
        update |= {
            "correction": NeedsCorrection(stated=stated, needs=needs),
            "referral": with_needs_of(referral, needs),
        }
    return record.model_copy(update=update)


def reject_while_unread(transition: Transition, acting: ActingHub) -> CommandRejection | None:
    """Return a refusal to accept or move a case before a person has read what no rule understands."""
    if not acting.rule.waits_for_reading:
        return None
    if not any(record.unread for record in served_by(transition, acting)):
        return None
    return reject(
        acting,
        "impossible",
        "A part of a referral was not understood. Read to_be_read of the referral, then send mark-read.",
    )
