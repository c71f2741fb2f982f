"""Every record that cannot be processed becomes a dead letter with its details; records that do not depend on it are processed."""

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operations import queries
from infra.operations.queries import Filters
from schemas.events import CaseAssigned, CaseOpened
from schemas.model import Reference
from services.messaging.cloudevents import KafkaRecord
from services.notifier import compose as decisions
from tests.builders.events import a_record, broken, cancelled, received, updated, with_header
from tests.builders.referrals import GP, WARD, a_form, a_huge_referral, a_referral, keys
from tests.notifier.builders import GP_MAILBOX, a_case_event, as_records, by_gp, the_recipients
from tests.notifier.running import a_notifier
from tests.router.stored import a_router, rows

OTHER = keys(1)[0]


def _with_type(record: KafkaRecord, kind: bytes) -> KafkaRecord:
    return with_header(record, "ce_type", kind)


def _unreadable(record: KafkaRecord) -> KafkaRecord:
    return broken(record, b'{"reference": "LB-GP00-0000-0001", "version": "one"}')


GOOD = a_record(received(GP, a_referral()))
TOO_LARGE = a_record(received(GP, a_huge_referral()))
ROUTER = {
    "undecodable": (_unreadable(GOOD), "version: int_parsing; referral: missing"),
    "unknown version": (
        _with_type(GOOD, b"uk.lightbulb.referral.received.v9"),
        "ce_type: missing, or not an event type of this topic",
    ),
    "decision fails": (a_record(cancelled(GP)), "decision: UnknownReferral"),
    "too large for its topic": (TOO_LARGE, "TooLarge"),
}


@pytest.mark.parametrize(("culprit", "reason"), ROUTER.values(), ids=ROUTER)
async def test_a_record_that_the_router_cannot_apply_becomes_a_dead_letter_with_its_reason(
    engine: AsyncEngine, culprit: KafkaRecord, reason: str
) -> None:
    router = a_router(engine)
    later = [a_record(updated(GP, a_referral(), version=number)) for number in (2, 3)]
    goes_on = [a_record(received(WARD, a_form())), a_record(received(Reference("LB-OTHER"), a_referral()), key=OTHER)]
    batch = [goes_on[0], culprit, later[0], goes_on[1], later[1]]
    for _ in range(2):  # the second time as Kafka brings it again
        await router.receive(batch)

    await assert_dead_letter(engine, culprit, reason, later, attempts=2)
    found = await rows(engine, "select reference from router.referral order by 1")
    assert found == [("LB-OTHER",), (WARD,)]


CANNOT_BE_TOLD = by_gp(GP_MAILBOX, reference=GP)
POOR, LATER, LAST = as_records([a_case_event(kind, CANNOT_BE_TOLD, id=kind.__name__) for kind in (CaseOpened, CaseAssigned)] + [
    a_case_event(CaseAssigned, CANNOT_BE_TOLD, id="last")
])  # fmt: skip
NOTIFIER = {
    "undecodable": (broken(POOR, b'{"referral_contexts": [{"reference": "LB-GP00-0000-0001"}]}'), "case_id: missing"),
    "unknown version": (
        _with_type(POOR, b"uk.lightbulb.case.opened.v9"),
        "ce_type: missing, or not an event type of this topic",
    ),
    "cannot be composed": (POOR, "compose: KeyError"),
}


@pytest.mark.parametrize(("culprit", "reason"), NOTIFIER.values(), ids=NOTIFIER)
async def test_an_event_that_the_notifier_cannot_process_becomes_a_dead_letter_with_its_reason(
    engine: AsyncEngine, culprit: KafkaRecord, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compose = decisions.compose_for

    def composing(event: Any, *given: Any) -> Any:
        if event.id == CaseOpened.__name__:
            raise KeyError("Vickers")
        return compose(event, *given)

    monkeypatch.setattr(decisions, "compose_for", composing)
    same, other = (
        a_case_event(CaseAssigned, by_gp(GP_MAILBOX, reference=reference), id=reference, person_key=key)
        for reference, key in ((WARD, "a" * 32), ("LB-OTHER", OTHER))
    )
    goes_on = as_records([same, other])
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        for _ in range(2):
            await notifier.receiver.receive([goes_on[0], culprit, LATER, goes_on[1], LAST])

    await assert_dead_letter(engine, culprit, reason, [LATER, LAST], attempts=2)
    assert await rows(engine, "select reference from notifier.feedback order by 1") == [("LB-OTHER",), (WARD,)]


async def assert_dead_letter(
    engine: AsyncEngine, culprit: KafkaRecord, reason: str, later: Sequence[KafkaRecord], *, attempts: int
) -> None:
    """It has its bytes, offset, reason, attempts, times and correlation id; later records wait behind it in their order."""
    head, *waiting = await queries.find(engine, Filters(message_group=GP))
    assert head.record == culprit
    assert head.reason.startswith(reason)
    assert (head.state, head.attempts) == ("open", attempts)
    assert head.first_at < head.last_at
    assert head.correlation_id == dict(culprit.headers)["ce_correlationid"].decode()
    assert [(row.record, row.state) for row in waiting] == [(record, "waiting") for record in later]
