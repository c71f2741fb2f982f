"""What every carrier of feedback must do, whichever it is."""

import time
from collections.abc import Callable

import pytest

from services.notifier.channels import Delivered, Failed, Retry
from services.notifier.compose import Feedback
from tests.contract.channels.conftest import Carrier, a_feedback
from tests.notifier.between import Trouble
from tests.notifier.builders import GP, GP_MAILBOX, GP_MESH

Renders = Callable[[Feedback], tuple[bytes, dict[str, str]]]


@pytest.mark.parametrize("partner", [GP, GP_MESH, GP_MAILBOX])
def test_a_feedback_is_rendered_with_the_same_bytes_and_ids_each_time(renders: Renders, partner: str) -> None:
    assert renders(a_feedback(partner)) == renders(a_feedback(partner))


def test_two_feedbacks_differ_in_their_ids(renders: Renders) -> None:
    one, other = renders(a_feedback(GP, "one")), renders(a_feedback(GP, "other"))
    assert one[0] != other[0]
    assert not set(one[1].values()) & set(other[1].values()) - {_subject(one[1])}


def _subject(ids: dict[str, str]) -> str:
    return ids.get("subject", "")


async def test_a_delivered_message_arrives_as_it_was_rendered(carrier: Carrier) -> None:
    assert isinstance(await carrier.channel.deliver(carrier.parcel()), Delivered)
    assert await carrier.arrived() == [carrier.parcel().body]


async def test_a_repeated_delivery_succeeds_and_arrives_once(carrier: Carrier) -> None:
    await carrier.channel.deliver(carrier.parcel())
    again = await carrier.channel.deliver(carrier.parcel(attempt=2))
    assert isinstance(again, Delivered)
    assert again.repeat
    assert len(await carrier.arrived()) == 1


async def test_a_rejection_by_the_recipient_is_final(carrier: Carrier) -> None:
    carrier.refuses()
    outcome = await carrier.channel.deliver(carrier.parcel())
    assert isinstance(outcome, Failed)
    assert await carrier.arrived() == []


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_an_unavailable_recipient_is_not_a_final_failure(carrier: Carrier, status: int) -> None:
    carrier.between.trouble(Trouble(status=status))
    assert await carrier.channel.deliver(carrier.parcel()) == Retry(f"http {status}")
    assert isinstance(await carrier.channel.deliver(carrier.parcel(2)), Delivered)
    assert len(await carrier.arrived()) == 1


@pytest.mark.parametrize("status", [401, 403])
async def test_a_rejected_token_is_reported_and_the_delivery_waits_for_an_operator(
    carrier: Carrier, status: int
) -> None:
    carrier.between.trouble(Trouble(status=status))
    outcome = await carrier.channel.deliver(carrier.parcel())
    assert isinstance(outcome, Retry)
    assert outcome.reason == f"http {status}"
    assert (outcome.after or 0) >= 60


async def test_retry_after_is_returned(carrier: Carrier) -> None:
    carrier.between.trouble(
        Trouble(status=503, headers={"Retry-After": "7"}),
        Trouble(status=429, headers={"Retry-After": "Fri, 31 Dec 2099 23:59:59 GMT"}),
        Trouble(status=503, headers={"Retry-After": "soon"}),
    )
    first, second, third = [await carrier.channel.deliver(carrier.parcel()) for _ in range(3)]
    assert first == Retry("http 503", 7.0)
    assert isinstance(second, Retry)
    assert (second.after or 0) > 1000
    assert third == Retry("http 503")


async def test_a_slow_recipient_times_out_and_is_retried(carrier: Carrier) -> None:
    carrier.between.trouble(Trouble(slow=3.0, cut=True))
    before = time.monotonic()
    assert await carrier.channel.deliver(carrier.parcel()) == Retry("time-out")
    assert time.monotonic() - before < 2.5


async def test_a_recipient_that_accepts_and_closes_gets_the_message_once(carrier: Carrier) -> None:
    """The reply is lost after the effect: the most important fault of all."""
    carrier.between.trouble(Trouble(lost=True))
    first = await carrier.channel.deliver(carrier.parcel())
    assert isinstance(first, Retry)
    assert first.reason.startswith("away")
    second = await carrier.channel.deliver(carrier.parcel(attempt=2))
    assert isinstance(second, Delivered)
    assert second.repeat
    assert await carrier.arrived() == [carrier.parcel().body]


async def test_a_recipient_that_closes_without_accepting_gets_the_message_later(carrier: Carrier) -> None:
    carrier.between.trouble(Trouble(cut=True))
    assert isinstance(await carrier.channel.deliver(carrier.parcel()), Retry)
    assert isinstance(await carrier.channel.deliver(carrier.parcel(2)), Delivered)
    assert len(await carrier.arrived()) == 1


async def test_an_unreachable_recipient_is_unavailable(carrier: Carrier) -> None:
    await carrier.between._runner.cleanup()
    outcome = await carrier.channel.deliver(carrier.parcel())
    assert isinstance(outcome, Retry)
    assert outcome.reason.startswith("away")


async def test_an_invalid_answer_is_never_success(carrier: Carrier) -> None:
    """A conflict without a reason, and a proxy's page: neither says that it arrived."""
    carrier.between.trouble(
        Trouble(status=409, body=b"\xff<html>"), Trouble(status=302), Trouble(status=404, body=b"[]")
    )
    for _ in range(3):
        assert isinstance(await carrier.channel.deliver(carrier.parcel()), Failed)
    assert await carrier.arrived() == []


async def test_failure_reasons_hold_no_personal_data(carrier: Carrier) -> None:
    troubles = [
        Trouble(status=s, body=b'{"detail": [{"code": "9990000018 Vantongeren, Edith of Nowhere"}]}')
        for s in (417, 500)
    ]
    carrier.between.trouble(*troubles, Trouble(cut=True))
    for _ in range(3):
        reason = getattr(await carrier.channel.deliver(carrier.parcel()), "reason", "")
        assert "Vantongeren" not in reason
        assert "9990000018" not in reason
