"""One referral the whole way round, and what must hold while it goes: on real parts, two processes of each service."""

import asyncio
import json
import subprocess
import sys
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from sqlalchemy import text

from bench.messages import BenchmarkMessage, messages
from services.runtime import database
from tests.end_to_end.conftest import HUBS, HubAtWork, Walk
from tests.end_to_end.observed import everything_on, people_of
from tests.end_to_end.senders import (
    REFERENCE,
    WARD,
    Stay,
    a_row,
    by_csv,
    by_mllp,
    referred,
    referred_by_ward,
)


async def worked_to_the_end(hub: HubAtWork, reference: str) -> None:
    case = await hub.until(lambda h: h.case_of(reference))
    for step in ("accept", "start", "assess", "record", "complete"):
        before = case.version
        await hub.does(case, step)
        await hub.until(lambda _, before=before: case.version > before)


async def test_the_practice_receives_feedback_about_the_work_of_the_hub(
    walk: Walk, session: aiohttp.ClientSession, hub: HubAtWork, a_message: Callable[[], BenchmarkMessage]
) -> None:
    message = a_message()
    reference = await referred(walk, session, message)
    await worked_to_the_end(hub, reference)
    said = await walk.until_feedback(message.correlation_id, "completed")
    assert [line["feedback_type"] for line in said] == ["home-hub", "accepted", "assessed", "completed"]
    assert {line["reference"] for line in said} == {reference}
    assert said[-1]["completed_actions"]
    assert len({line["bundle_id"] for line in said}) == 4


async def test_a_command_with_a_stale_expected_version_is_refused_to_its_hub_only(
    walk: Walk, session: aiohttp.ClientSession, hub: HubAtWork, a_message: Callable[[], BenchmarkMessage]
) -> None:
    message = a_message()
    reference = await referred(walk, session, message)
    case = await hub.until(lambda h: h.case_of(reference))
    await hub.does(case, "accept", expected_version=case.version + 7)
    [refusal] = await hub.until(lambda h: [one for one in h.refusals if one["case_id"] == case.id])
    assert refusal["explanation"]
    assert [line["feedback_type"] for line in walk.feedback_of(message.correlation_id)] in ([], ["home-hub"])


async def test_trace_and_status_show_the_path_without_personal_data(
    walk: Walk, session: aiohttp.ClientSession, hub: HubAtWork, a_message: Callable[[], BenchmarkMessage]
) -> None:
    message = a_message()
    reference = await referred(walk, session, message)
    await worked_to_the_end(hub, reference)
    await walk.until_feedback(message.correlation_id, "completed")

    def lightbulb(*words: str) -> subprocess.CompletedProcess[str]:
        given = [*words, "--data", str(walk.running.plan.data)]
        return subprocess.run([sys.executable, "-m", "infra", *given], capture_output=True, text=True, timeout=60)

    traced = await asyncio.to_thread(lightbulb, "trace", reference, "--json")
    steps = [step["what"] for step in json.loads(traced.stdout)["steps"]]
    for what in ("received, version 1", "case.opened", "case.accepted", "case.completed"):
        assert any(what in step for step in steps), what
    assert any(step.startswith("completed to gp-alder-lane") for step in steps)
    status = json.loads((await asyncio.to_thread(lightbulb, "status", "--json")).stdout)
    assert set(status) == {"intake", "router", "notifier", "lag", "hubs", "ends"}
    assert status["router"]["cases"] >= 1
    assert status["hubs"]["blaby"]["read by group"] is None
    unknown = await asyncio.to_thread(lightbulb, "trace", "LB-0000-0000-0000")
    assert (unknown.returncode, "was not found" in unknown.stderr) == (1, True)
    assert not people_of([message], traced.stdout + str(status))


# ---- disclosure -------------------------------------------------------------------------------------------------------


def without_ids(said: list[dict[str, Any]]) -> list[dict[str, Any]]:
    ids = ("at", "request_id", "correlation_id", "bundle_id", "answers", "reference", "attempts")
    return [{name: value for name, value in line.items() if name not in ids} for line in said]


async def test_feedback_to_the_practice_is_the_same_with_and_without_a_hospitals_referral(
    walk: Walk, session: aiohttp.ClientSession, hub: HubAtWork, a_message: Callable[[], BenchmarkMessage]
) -> None:
    alone, with_ward = a_message(), a_message()
    first = await referred(walk, session, alone)
    second = await referred(walk, session, with_ward)
    await walk.until_feedback(alone.correlation_id, "home-hub")
    await walk.until_feedback(with_ward.correlation_id, "home-hub")
    ward = await referred_by_ward(walk, Stay(with_ward, "lpt"))
    case = await hub.until(lambda h: h.held(ward, "hospital-housing-bradgate"))
    await hub.does(case, "accept")
    await hub.until(lambda _: case.position["status"] == "accepted")
    await asyncio.sleep(2)
    assert without_ids(walk.feedback_of(with_ward.correlation_id)) == without_ids(
        walk.feedback_of(alone.correlation_id)
    )
    community = await hub.until(lambda h: h.cases.get(("melton", case.id)))
    assert (community.role, community.position["holder"]) == ("follow-on", "elsewhere")
    assert hub.hearing(case.id) == {"melton", "hospital-housing-bradgate"}
    assert WARD not in json.dumps(community.referrals)
    assert [one["reference"] for one in community.referrals] == [second]
    assert first != second


# ---- kills ------------------------------------------------------------------------------------------------------------

Attempt = Callable[[], Awaitable[str | None]]
"""Sends one referral once: its reference, or none where the sender must send it again."""


async def persistently(attempt: Attempt) -> str:
    """As a sender does: the same again until it is answered."""
    async with asyncio.timeout(90):
        while True:
            try:
                if reference := await attempt():
                    return reference
            except (aiohttp.ClientError, OSError):
                pass
            await asyncio.sleep(0.2)


def by_practice(walk: Walk, session: aiohttp.ClientSession, message: BenchmarkMessage) -> Attempt:
    """A duplicate names the reference, too."""

    async def attempt() -> str | None:
        status, body = await walk.post(session, message)
        found = REFERENCE.search(body) if status in (200, 409) else None
        return found and found[0]

    return attempt


def by_ward(walk: Walk, message: BenchmarkMessage) -> Attempt:
    stay = Stay(message)
    body = stay.admitted()

    async def attempt() -> str | None:
        said = await by_mllp(walk, stay.trust, body)
        return said.reference if said.outcome == "accepted" else None

    return attempt


def by_council(walk: Walk, session: aiohttp.ClientSession) -> Attempt:
    """A row that is sent again is already held, under its reference."""
    row = a_row()

    async def attempt() -> str | None:
        said = await by_csv(walk, session, row)
        return said.rows.references.get(row["Case Ref"]) if said.rows and said.outcome == "accepted" else None

    return attempt


async def test_services_killed_under_load_lose_nothing_and_repeat_nothing(
    walk: Walk, session: aiohttp.ClientSession, hub: HubAtWork
) -> None:
    sent = list(messages(90, f"kills {uuid.uuid4()}"))
    practices, wards = sent[:60], sent[60:]
    attempts = [by_practice(walk, session, message) for message in practices]
    attempts += [by_ward(walk, message) for message in wards]
    attempts += [by_council(walk, session) for _ in range(30)]
    posting = asyncio.gather(*(_in_turn(attempts[at::8]) for at in range(8)))
    for name in ("router-1", "notifier-1", "intake-1", "router-2", "notifier-2", "intake-2"):
        await asyncio.sleep(0.7)
        if child := walk.running.supervisor.children.get(name):
            child.kill()
    references = [reference for part in await posting for reference in part]
    assert len(set(references)) == len(attempts)
    for message in practices:
        await walk.until_feedback(message.correlation_id, "home-hub", 120)
    for message in practices:
        said = [line["feedback_type"] for line in walk.feedback_of(message.correlation_id) if not line.get("duplicate")]
        assert said == ["home-hub"]
    await assert_one_case_each(walk, references)
    await assert_sequences_without_gap(walk)
    await assert_wards_and_council_get_feedback_once(walk, session, references)


async def _in_turn(some: list[Attempt]) -> list[str]:
    return [await persistently(attempt) for attempt in some]


async def assert_wards_and_council_get_feedback_once(
    walk: Walk, session: aiohttp.ClientSession, references: list[str]
) -> None:
    """A ward gets two feedbacks (received, home hub) for each of its referrals, a council one (home hub); other references give none."""
    heard = {"uhl": 0, "council-blaby": 0}
    for partner, often in (("uhl", 2), ("council-blaby", 1)):
        for reference in references:
            kept = await walk.fetched(session, partner, reference, often, or_none=True)
            heard[partner] += bool(kept)
            assert len(kept) in (0, often), (partner, reference, kept)
    assert heard == {"uhl": 30, "council-blaby": 30}


async def assert_one_case_each(walk: Walk, references: list[str]) -> None:
    engine = database.connect(walk.running.addresses["postgres"], pool=1)
    cases: dict[str, str] = {}
    async with asyncio.timeout(60):
        while len(cases) < len(references):
            async with engine.connect() as connection:
                rows = await connection.execute(
                    text("select reference, case_id from router.referral where reference = any(cast(:all as text[]))"),
                    {"all": references},
                )
                cases = dict(tuple(row) for row in rows)
            await asyncio.sleep(0.2)
    await engine.dispose()
    assert len(cases) == len(set(cases.values())) == len(references)


async def assert_sequences_without_gap(walk: Walk) -> None:
    """The first occurrences of each key's sequence numbers on case.event are 1 to n in order; repeats are ignored."""
    sequences: dict[str, list[int]] = defaultdict(list)
    for record in await everything_on(walk, "case.event"):
        number = int(dict(record.headers)["ce_sequence"])
        if number not in sequences[record.key]:
            sequences[record.key].append(number)
    assert sequences
    assert all(seen == list(range(1, len(seen) + 1)) for seen in sequences.values())


# ---- personal data ----------------------------------------------------------------------------------------------------


async def test_no_log_header_key_or_error_holds_personal_data_even_at_debug(
    walk: Walk, session: aiohttp.ClientSession, hub: HubAtWork, a_message: Callable[[], BenchmarkMessage]
) -> None:
    """Last of the file on purpose: it searches what all the walks before it wrote."""
    good, broken, conflicting, stale = a_message(), a_message(), a_message(), a_message()
    reference = await referred(walk, session, good)
    changed = good.body.replace(b'"routine"', b'"urgent"')
    answers = [
        await walk.post(session, BenchmarkMessage(good.request_id, good.correlation_id, changed)),
        await walk.post(
            session,
            BenchmarkMessage(
                broken.request_id,
                broken.correlation_id,
                broken.body.replace(b'"male"', b'"x"').replace(b'"female"', b'"x"'),
            ),
        ),
        await walk.post(
            session, BenchmarkMessage(conflicting.request_id, conflicting.correlation_id, conflicting.body[:-200])
        ),
        await walk.post(
            session,
            BenchmarkMessage(
                stale.request_id,
                stale.correlation_id,
                stale.body.replace(b'"status":"active","intent"', b'"status":"revoked","intent"'),
            ),
        ),
    ]
    assert [status for status, _ in answers] == [409, 400, 400, 404]
    await worked_to_the_end(hub, reference)
    await walk.until_feedback(good.correlation_id, "completed")
    sent = [good, broken, conflicting, stale]
    assert not people_of(sent, "".join(body for _, body in answers))
    assert not people_of(sent, walk.logs())
    assert not people_of(sent, walk.traces.read_text())
    assert WARD not in walk.logs()
    for topic in ("referral.event", "case.event", "feedback.event", *(f"hub.{hub}.case" for hub in HUBS)):
        envelopes = "".join(f"{record.key} {record.headers}" for record in await everything_on(walk, topic))
        assert not people_of(sent, envelopes), topic
