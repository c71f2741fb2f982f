"""Letters by MESH: read back from the practice's inbox; a lost reply never leads to a second letter."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from aiohttp import ClientSession
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.local.embedded.mesh import MeshSandbox as Sandbox
from infra.local.embedded.mesh_routing_standin import NAME, application
from schemas.events import CaseAssigned, ReferralContext
from schemas.referral import Organisation
from services.notifier import store
from services.notifier.channels import mesh
from services.notifier.compose import ROUTED_SURNAME, Feedback, compose
from tests.notifier.between import Between, Trouble
from tests.notifier.builders import (
    GP_MESH,
    a_case_event,
    a_life,
    a_person,
    a_referrer,
    by_first_contact_for_gp,
    by_gp,
    the_recipients,
    the_words,
)
from tests.notifier.mesh_box import OURS, ROUTED, Box, a_mesh
from tests.notifier.running import a_notifier, contents, rows, until_rows

ACCEPTED = "select * from notifier.feedback where state = 'accepted' order by ordinal"


@pytest.fixture
async def box(sandbox: Sandbox) -> Box:
    box = Box(sandbox)
    await box.letters()
    return box


async def test_a_practice_receives_its_letters_in_its_mesh_inbox(
    engine: AsyncEngine, sandbox: Sandbox, box: Box
) -> None:
    channel = a_mesh(sandbox)
    async with a_notifier(engine, the_recipients(), more={"mesh": channel}) as notifier:
        await notifier.receive(*a_life(by_gp(GP_MESH), "mesh-life"))
        accepted = await until_rows(engine, ACCEPTED, 2)
    letters = await box.letters()
    channel.close()
    assert [letter.body for letter in letters] == [one.body for one in await contents(engine, accepted)]
    assert [letter.local_id for letter in letters] == [f"LIGHTBULB-{row.feedback_id}" for row in accepted]
    assert {letter.workflow_id for letter in letters} == {"GPCONNECT_SEND_DOCUMENT"}
    assert letters[0].subject.startswith("Housing support feedback for Edith Vantongeren, NHS Number: 9990000018")
    assert all(row.receipt for row in accepted)


async def test_a_letter_that_mesh_accepted_is_not_reported_as_delivered_or_collected(
    engine: AsyncEngine, sandbox: Sandbox, box: Box
) -> None:
    channel = a_mesh(sandbox)
    async with a_notifier(engine, the_recipients(), more={"mesh": channel}) as notifier:
        await notifier.receive(a_life(by_gp(GP_MESH), "steps")[1])
        [accepted] = await until_rows(engine, ACCEPTED, 1)
    await box.letters()
    channel.close()
    assert set(store.steps_of(accepted)) == {"composed", "first_attempt", "sent", "accepted"}


async def test_a_lost_response_does_not_lead_to_a_second_letter(
    engine: AsyncEngine, sandbox: Sandbox, box: Box
) -> None:
    async with Between(sandbox.url) as between:
        between.trouble(Trouble(lost=True))
        channel = a_mesh(sandbox, between.url)
        async with a_notifier(engine, the_recipients(), more={"mesh": channel}) as notifier:
            await notifier.receive(a_life(by_gp(GP_MESH), "lost")[1])
            [accepted] = await until_rows(engine, ACCEPTED, 1)
        channel.close()
        assert len(between.posts) == 1
        assert any(path.endswith(f"/outbox/tracking/LIGHTBULB-{accepted.feedback_id}") for path in between.asked)
    assert len(await box.letters()) == 1
    assert accepted.receipt
    attempts = await rows(engine, "select outcome from notifier.attempt order by number")
    assert [row.outcome for row in attempts] == ["retry", "duplicate"]


async def test_a_letter_that_mesh_does_not_have_is_sent_again(engine: AsyncEngine, sandbox: Sandbox, box: Box) -> None:
    async with Between(sandbox.url) as between:
        between.trouble(Trouble(cut=True))
        channel = a_mesh(sandbox, between.url)
        async with a_notifier(engine, the_recipients(), more={"mesh": channel}) as notifier:
            await notifier.receive(a_life(by_gp(GP_MESH), "cut")[1])
            await until_rows(engine, ACCEPTED, 1)
        channel.close()
        assert len(between.posts) == 2
        assert between.posts[0] == between.posts[1]
    assert len(await box.letters()) == 1


async def test_an_unknown_mailbox_is_a_final_failure(engine: AsyncEngine, sandbox: Sandbox) -> None:
    channel = mesh.MeshChannel(
        lambda: mesh.connect(sandbox.url, OURS, sandbox.password, sandbox.shared_key),
        OURS,
        lambda partner: "NOBODY",
        a_mesh(sandbox)._sender_details,
    )
    async with a_notifier(engine, the_recipients(), more={"mesh": channel}) as notifier:
        await notifier.receive(a_life(by_gp(GP_MESH), "unknown")[1])
        [failed] = await until_rows(engine, "select * from notifier.feedback where state = 'failed'", 1)
    channel.close()
    assert failed.reason == "mesh 12"


@asynccontextmanager
async def a_standin(sandbox: Sandbox, table: dict[str, str]) -> AsyncIterator[str]:
    server = uvicorn.Server(
        uvicorn.Config(application(sandbox.url, table), port=0, log_config=None, access_log=False, server_header=False)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        await asyncio.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await asyncio.to_thread(thread.join)


def a_practice_outside() -> ReferralContext:
    """Return a referral through First Contact by a GP who is not a partner and has the person registered."""
    return by_first_contact_for_gp(
        referred_by=a_referrer(ods="Y00009"), registered_practice=Organisation(ods="Y00009"), reference="LB-OUTSIDE"
    )


async def test_a_letter_to_a_practice_that_is_not_a_partner_uses_automatic_routing(
    engine: AsyncEngine, sandbox: Sandbox
) -> None:
    box = Box(sandbox, ROUTED)
    async with a_standin(sandbox, {"9990000018": ROUTED}) as address:
        channel = a_mesh(sandbox, address)
        async with a_notifier(engine, the_recipients(), more={"mesh": channel}) as notifier:
            await notifier.receive(a_life(a_practice_outside(), "routed")[1])
            [row] = await until_rows(
                engine, "select * from notifier.feedback where channel = 'mesh' and state = 'accepted'", 1
            )
        channel.close()
    [letter] = await box.letters()
    [sent] = await contents(engine, [row])
    assert sent.ids["to"] == "GPPROVIDER_9990000018_19460201_Vantongeren"
    assert row.recipient == "ods:Y00009"
    assert letter.body == sent.body


async def test_a_letter_that_automatic_routing_cannot_deliver_is_accepted_first_and_fails_later(
    engine: AsyncEngine, sandbox: Sandbox
) -> None:
    """As with real MESH, the response to the POST does not contain the result. The services do not read the report yet."""
    async with a_standin(sandbox, {}) as address:
        channel = a_mesh(sandbox, address)
        async with a_notifier(engine, the_recipients(), more={"mesh": channel}) as notifier:
            await notifier.receive(a_life(a_practice_outside(), "nobody")[1])
            await until_rows(engine, "select * from notifier.feedback where channel = 'mesh' and state = 'accepted'", 1)
        channel.close()
    with mesh.connect(sandbox.url, OURS, sandbox.password, sandbox.shared_key) as ours:
        [message_id] = ours.list_messages()
        report = ours.retrieve_message(message_id)
        assert report.message_type == "REPORT"
        report.acknowledge()


async def test_the_mesh_simulator_identifies_itself(sandbox: Sandbox) -> None:
    async with (
        a_standin(sandbox, {}) as address,
        ClientSession() as session,
        session.get(f"{address}/health") as answer,
    ):
        assert answer.status == 200
        assert answer.headers["Server"] == NAME


# ---- names in headers -----------------------------------------------------------------------------------------------


def told(family_name: str, *given_names: str) -> Feedback:
    """Return the feedback to a practice outside the directory about a person of this name."""
    person = a_person(family_name=family_name, given_names=given_names or ("Edith",))
    concern = a_practice_outside().model_copy(update={"person": person})
    composed = compose(a_case_event(CaseAssigned, concern), the_recipients(), the_words())
    [feedback] = [feedback for feedback in composed if feedback.recipient.id == "ods:Y00009"]
    return feedback


@pytest.mark.parametrize(
    ("given", "family", "name", "surname"),
    [
        ("Łucja", "Łukaszewicz", "Lucja Lukaszewicz", "Lukaszewicz"),
        ("Zoë", "O’Łaski-Sørensen", "Zoe O'Laski-Sorensen", "O'Laski-Sorensen"),
        ("Þóra", "Guðmundsdóttir", "Thora Gudmundsdottir", "Gudmundsdottir"),
        ("Ġużeppi", "Ħaż-Żebbuġ", "Guzeppi Haz-Zebbug", "Haz-Zebbug"),
        ("Ирина", "Щербакова", "Irina Shcherbakova", "Shcherbakova"),
        ("Ελένη", "Παπαδόπουλος", "Eleni Papadopoylos", "Papadopoylos"),
        ("小龍", "李", "XiaoLong Li", "Li"),
        ("I\u0308da", "Weiß\x0b", "Ida Weiss", "Weiss"),
    ],
)
def test_names_are_spelled_in_ascii_and_never_shortened(given: str, family: str, name: str, surname: str) -> None:
    feedback = told(family, given)
    assert mesh.automatic(feedback) == f"GPPROVIDER_9990000018_19460201_{surname}"
    assert mesh.subject(feedback, the_words().sender_details).startswith(
        f"Housing support feedback for {name}, NHS Number: 9990000018, seen at"
    )


@pytest.mark.parametrize("family_name", ["\U0001208a", "Smith-\U0001208a", "W" * 70, "Щ" * 18, "\x0b"])
def test_a_surname_that_no_address_can_hold_is_not_routed_by_mesh(family_name: str) -> None:
    """The practice fetches the feedback, as when MESH may not be used: a shortened name might be another person's."""
    feedback = told(family_name)
    assert (feedback.recipient.channel, feedback.recipient.routed) == ("mailbox", False)


@pytest.mark.parametrize("name", ["\U0001208a", "W" * 500])
def test_a_subject_that_cannot_hold_the_name_gives_our_reference(name: str) -> None:
    feedback = told(name)
    assert mesh.subject(feedback, the_words().sender_details).startswith(
        f"Housing support feedback for reference {feedback.reference}, NHS Number: 9990000018, seen at"
    )


@given(family=st.text(min_size=1, max_size=300), given_names=st.lists(st.text(min_size=1, max_size=300), max_size=10))
def test_no_name_gives_a_header_that_mesh_does_not_take(family: str, given_names: list[str]) -> None:
    feedback = told(family, *given_names)
    headers = {mesh.subject(feedback, the_words().sender_details): 500}
    if feedback.recipient.routed:
        headers[mesh.automatic(feedback)] = 100
    assert all(0 < len(header) <= most for header, most in headers.items())
    assert all(header.isascii() and header.isprintable() for header in headers)
    assert any(header.endswith("LIGHTBULB, Version: 1") for header in headers)


def test_the_longest_routed_surname_fills_the_address() -> None:
    assert len(mesh.automatic(told("W" * ROUTED_SURNAME))) == 100
