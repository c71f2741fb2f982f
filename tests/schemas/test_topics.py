"""Topics: names, and what every declared topic must be."""

import re

from hypothesis import given
from hypothesis import strategies as st

from schemas.topics import DAY_MS, commanding_hub, declared, hub_case, hub_command

a_hub = st.text("abz-", min_size=1, max_size=40).map(lambda rest: f"h{rest}")
hubs = st.lists(a_hub, unique=True, max_size=10)


@given(a_hub)
def test_a_command_topic_identifies_the_commanding_hub(hub: str) -> None:
    assert commanding_hub(hub_command(hub)) == hub


@given(a_hub, a_hub)
def test_no_two_hubs_share_a_topic(one: str, other: str) -> None:
    names = {hub_case(one), hub_command(one), hub_case(other), hub_command(other)}
    assert len(names) == (2 if one == other else 4)


@given(hubs)
def test_every_topic_is_declared_once_and_every_hub_has_two(hubs: list[str]) -> None:
    names = [topic.name for topic in declared(hubs)]
    assert len(set(names)) == len(names)
    assert {name for hub in hubs for name in (hub_case(hub), hub_command(hub))} <= set(names)
    assert len(names) - 2 * len(hubs) == len(declared([]))


@given(hubs)
def test_every_topic_has_thirty_days_of_retention_and_a_valid_kafka_name(hubs: list[str]) -> None:
    topics = declared(hubs)
    assert topics
    for topic in topics:
        assert topic.retention_ms >= 30 * DAY_MS
        assert topic.partitions >= 1
        assert re.fullmatch(r"[a-zA-Z0-9._-]{1,249}", topic.name)
        assert topic.purpose
