"""Every process reports that it is ready, and its metrics, without personal data; a full feed starves no referral."""

import re
from collections.abc import Callable

import aiohttp

from bench import backlog
from bench.messages import BenchmarkMessage
from tests import canaries
from tests.end_to_end.conftest import PRACTICE, Walk


async def test_every_process_is_ready_and_its_metrics_contain_no_personal_data(
    walk: Walk, a_message: Callable[[], BenchmarkMessage]
) -> None:
    message = a_message()
    pages: dict[str, str] = {}
    async with aiohttp.ClientSession() as session:
        assert (await walk.post(session, message))[0] == 200
        await walk.until_feedback(message.correlation_id, "home-hub")
        for name, url in walk.running.addresses["metrics"].items():
            async with session.get(url.replace("/metrics", "/health/ready")) as answer:
                assert answer.status == 200, await answer.text()
            async with session.get(url) as answer:
                pages[name] = await answer.text()
        async with session.get(walk.running.addresses["intake"] + "/metrics") as answer:
            assert answer.status == 404, "partners do not see them"
    assert set(pages) == {f"{service}-{number}" for service in ("intake", "router", "notifier") for number in (1, 2)}
    everything = "\n".join(pages.values())
    for wanted in (
        f'lightbulb_messages_total{{format="bars-fhir",partner="{PRACTICE}",verdict="received"}}',
        'lightbulb_consumer_lag_records{topic="referral.event"}',
        'lightbulb_consumer_lag_records{topic="case.event"}',
        'lightbulb_feedback_attempts_total{channel="fhir",outcome="delivered"}',
        "lightbulb_outbox_oldest_age_seconds",
        "lightbulb_feedback_oldest_age_seconds",
        'lightbulb_build_info{python="',
    ):
        assert wanted in everything
    labels = "\n".join(re.findall(r"\{.*\}", everything))
    assert not canaries.PERSONAL.search(labels)
    assert not re.search(r"[0-9a-f]{32}|LB-", labels)


async def test_a_trusts_referrals_are_answered_while_its_full_feed_has_more_to_send(walk: Walk) -> None:
    most, referrals = 2_000, 8
    outcome = await backlog.play(walk.running.addresses, most, referrals, stops=True)
    assert len(outcome.referrals) == referrals
    assert outcome.feed_sent < most
    assert outcome.not_accepted == 0
