"""Every process says how it is: ready, with its metrics, and of nobody."""

import re
from collections.abc import Callable

import aiohttp

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
        await walk.hears(message.correlation_id, "home-hub")
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
