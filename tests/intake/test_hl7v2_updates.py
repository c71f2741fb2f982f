"""Updates, cancels and repeats of HL7 v2 referrals, as they are stored and published, with two intakes on one database."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import date
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operations import trace
from services.intake.translators import hl7v2
from services.intake.translators.hl7v2.partner_profile import ReceiverMatch
from services.intake.translators.inbound_message import Translator
from tests.builders.hl7v2 import a_uhl_message, segment
from tests.contract.translators.adapters import DIRECTORY, SERVICES
from tests.intake.fake_hl7_engine import acknowledged
from tests.intake.running import InProcess, Installation, kind_of, published, rows

PROFILE = hl7v2.load(DIRECTORY / "hl7v2", SERVICES)["uhl"]
SILENT = {"PRD": None, "PD1": None, "PV1": None, "PV2": None, "OBX": None}
"""What an update leaves out."""


def translate(**agreed: Any) -> Translator:
    return hl7v2.translator({"uhl": PROFILE.model_copy(update=agreed)})


@pytest.fixture
async def intakes(installation: Installation, engine: AsyncEngine) -> AsyncIterator[list[InProcess]]:
    agreed = translate(test_until=None)
    async with (
        InProcess(installation, engine, translate=agreed) as one,
        InProcess(installation, engine, translate=agreed) as other,
    ):
        yield [one, other]


class Ward:
    """A ward that sends to each intake in turn. `at`: the minute of MSH-7."""

    def __init__(self, intakes: list[InProcess]) -> None:
        self.intakes = intakes
        self.sent = 0

    async def send(self, trigger: str = "I12", at: str = "0930", **changes: Any) -> tuple[str, str, str]:
        """Send a message, and return MSA-1, the reference and the whole answer."""
        self.sent += 1
        said = {"trigger": trigger, "sent_at": f"20261105{at}", "control_id": f"C{self.sent}"} | changes
        return await self.deliver(a_uhl_message(**said))

    async def update(self, at: str, *more: str, **changes: Any) -> tuple[str, str, str]:
        """Send an update that says the person, and these segments."""
        said = SILENT | {"RF1": "RF1||||||UHL-R-1", "more": list(more)} | changes
        return await self.send("I13", at, **said)

    async def deliver(self, body: bytes) -> tuple[str, str, str]:
        intake = self.intakes[self.sent % len(self.intakes)]
        reply = await intake.post("/hl7v2", body, "uhl", "application/hl7-v2", {})
        code, text = acknowledged(reply.body.decode())
        return code, text[:17], reply.body.decode()


async def events(engine: AsyncEngine) -> list[tuple[str, dict[str, Any]]]:
    """Return the events that were published, by type, in order."""
    return [(kind_of(one).removeprefix("referral."), json.loads(one.message.value)) for one in await published(engine)]


async def kinds(engine: AsyncEngine) -> list[str]:
    return [kind for kind, _ in await events(engine)]


async def last(engine: AsyncEngine) -> dict[str, Any]:
    referral: dict[str, Any] = (await events(engine))[-1][1]["referral"]
    return referral


async def verdicts(engine: AsyncEngine) -> list[str]:
    return [row.verdict for row in await rows(engine, "select verdict from intake.message order by id")]


# ---- merging ---------------------------------------------------------------------------------------------------------


async def test_an_update_changes_what_it_says_and_its_event_has_the_whole_referral(
    intakes: list[InProcess], engine: AsyncEngine
) -> None:
    ward = Ward(intakes)
    await ward.send()
    before = await last(engine)
    assert (await ward.update("1000", segment("PV1", {45: "20261105"})))[0] == "AA"
    after = await last(engine)
    assert await kinds(engine) == ["received", "updated"]
    assert after.pop("message") != before.pop("message")
    assert {name for name in after if after[name] != before.get(name)} == {"discharged_on"}
    assert (after["needs"], after["consents"], after["referred_by"]) == (
        before["needs"],
        before["consents"],
        before["referred_by"],
    )


async def test_the_null_deletes_and_an_omitted_field_stays(intakes: list[InProcess], engine: AsyncEngine) -> None:
    ward = Ward(intakes)
    await ward.send(fields={"PID-14": "0116 496 0002^WPN^PH"})
    await ward.update("1000", fields={"PID-13": '""', "PID-11": ""})
    person = (await last(engine))["person"]
    assert (person["phone"], person["address"]["postcode"]) == ("0116 496 0002", "LE11 5AA")


async def test_a_new_referral_under_a_known_id_is_an_update_and_says_nothing_if_nothing_changed(
    intakes: list[InProcess], engine: AsyncEngine
) -> None:
    ward = Ward(intakes)
    told = [await ward.send(), await ward.send(at="0945"), await ward.send(at="1000", fields={"RF1-2": "U"})]
    assert {(code, reference) for code, reference, _ in told} == {("AA", told[0][1])}
    assert await verdicts(engine) == ["received", "duplicate", "updated"]
    assert await kinds(engine) == ["received", "updated"]


async def test_a_referral_that_is_triggered_again_after_midnight_changes_nothing(
    intakes: list[InProcess], engine: AsyncEngine
) -> None:
    ward = Ward(intakes)
    silent = {"RF1-7": "", "RF1-9": ""}
    await ward.send(sent_at="20261104235500", fields=silent)
    await ward.send(sent_at="20261105000500", fields=silent)
    assert await kinds(engine) == ["received"]
    assert (await last(engine))["referred_on"] == "2026-11-04"


async def test_a_control_id_that_comes_again_with_another_time_is_another_message(
    intakes: list[InProcess], engine: AsyncEngine
) -> None:
    ward = Ward(intakes)
    await ward.send(control_id="1")
    await ward.send("I13", "0940", control_id="2", fields={"RF1-2": "U"})
    await ward.send("I13", "0950", control_id="1")
    again = a_uhl_message(trigger="I13", sent_at="202611050950", control_id="1")
    assert (await ward.deliver(again))[0] == "AA"
    assert await verdicts(engine) == ["received", "updated", "updated", "duplicate"]
    assert (await last(engine))["priority"] == "routine"


async def test_an_older_message_fills_what_no_later_one_has_said_and_else_is_superseded(
    intakes: list[InProcess], engine: AsyncEngine
) -> None:
    ward = Ward(intakes)
    await ward.send(at="0800")
    await ward.update("0930", "OBX||IS|LB-DOG||Y", RF1="RF1||U||||UHL-R-1")
    code, _, answer = await ward.update("0830", RF1="RF1||R||||UHL-R-1")
    assert (code, "superseded by a later message" in answer) == ("AA", True)
    await ward.update("0840", "OBX||IS|LB-KEYSAFE||Y", RF1="RF1||R||||UHL-R-1")
    assert await verdicts(engine) == ["received", "updated", "stale", "updated"]
    referral = await last(engine)
    assert (referral["priority"], [one["code"] for one in referral["risk_flags"]]) == ("urgent", ["dog"])
    assert {one["service"] for one in referral["needs"]} >= {"home-security"}


async def test_a_message_from_the_future_is_taken_at_its_receipt(intakes: list[InProcess], engine: AsyncEngine) -> None:
    ward = Ward(intakes)
    await ward.send(sent_at="20991105093000")
    await ward.send("I13", sent_at="20991105093100", fields={"RF1-2": "U"})
    await ward.send("I13", sent_at="20991105093000", fields={"RF1-2": "R"})
    assert (await last(engine))["priority"] == "routine"
    (first, *_) = await rows(engine, "select issues, sent_at < now() + interval '1 hour' as now from intake.message")
    assert ([one["place"] for one in first.issues], first.now) == (["MSH-7"], True)


async def test_a_whole_update_replaces_the_referral_and_an_older_one_changes_nothing(
    installation: Installation, engine: AsyncEngine
) -> None:
    async with InProcess(installation, engine, translate=translate(updates="whole")) as intake:
        ward = Ward([intake])
        await ward.send(at="0800")
        await ward.update("0900", RF1="RF1||U||||UHL-R-1")
        await ward.send("I13", at="0830")
    referral = await last(engine)
    assert await verdicts(engine) == ["received", "updated", "stale"]
    assert (referral["priority"], referral["consents"]["referral"]["answer"]) == ("urgent", "not-recorded")
    assert referral["hospital"]["ward"] == "W23"


async def test_updates_at_once_through_two_intakes_all_count(intakes: list[InProcess], engine: AsyncEngine) -> None:
    ward = Ward(intakes)
    await ward.send(at="0800")
    told = await asyncio.gather(
        *(ward.update(f"09{at:02}", f"OBX||CE|LB-RISK||V{at}^Risk {at}") for at in range(10, 40))
    )
    assert {code for code, _, _ in told} == {"AA"}
    referral = await last(engine)
    assert {one["code"] for one in referral["risk_flags"]} == {f"V{at}" for at in range(10, 40)}
    versions = [event["version"] for _, event in await events(engine)]
    assert versions == list(range(1, 32))


# ---- cancels, withdrawals and other persons ----------------------------------------------------------------------------


async def test_an_update_after_a_cancel_is_refused_with_what_to_do(
    intakes: list[InProcess], engine: AsyncEngine
) -> None:
    ward = Ward(intakes)
    await ward.send(at="0800")
    await ward.send("I14", at="0900")
    for trigger, at in (("I13", "1000"), ("I12", "1010")):
        code, _, answer = await ward.send(trigger, at)
        assert (code, "RF1^1^6|207" in answer, "refer again under a new referral id" in answer) == ("AE", True, True)
    assert (await ward.send("I13", "0830"))[0] == "AA"
    assert await kinds(engine) == ["received", "cancelled"]
    assert await verdicts(engine) == ["received", "cancelled", "after-cancel", "after-cancel", "stale"]


async def test_refused_consent_withdraws_a_known_referral_in_any_message(
    intakes: list[InProcess], engine: AsyncEngine
) -> None:
    ward = Ward(intakes)
    await ward.send(at="0900")
    assert (await ward.send(at="0830", OBX="OBX||CE|LB-CONSENT||N"))[0] == "AA"
    assert (await kinds(engine), (await events(engine))[-1][1]["reason"]) == (
        ["received", "cancelled"],
        "consent-withdrawn",
    )


async def test_a_withdrawal_before_its_referral_keeps_older_messages_from_opening_it(
    intakes: list[InProcess], engine: AsyncEngine
) -> None:
    ward = Ward(intakes)
    code, _, answer = await ward.send("I13", at="0900", OBX="OBX||CE|LB-CONSENT||N")
    assert (code, "RF1^1^6|207" in answer) == ("AE", True)
    for at in ("0830", "0900"):
        code, _, answer = await ward.send(at=at)
        assert (code, "consent to this referral was withdrawn" in answer) == ("AE", True)
    assert await kinds(engine) == []
    assert (await ward.send(at="0910"))[0] == "AA"
    assert await kinds(engine) == ["received"]
    assert (await ward.send("I13", at="0920", fields={"RF1-2": "U"}))[0] == "AA"


async def test_a_message_about_another_person_is_stored_and_not_applied(
    intakes: list[InProcess], engine: AsyncEngine
) -> None:
    ward = Ward(intakes)
    await ward.send()
    code, reference, answer = await ward.send("I13", at="1000", nhs_number="9990000026", family="Castle")
    assert (code, "not applied" in answer) == ("AA", True)
    ((_, _), (kind, event)) = await events(engine)
    assert (kind, event["reference"], event["version"], event["reason"]) == (
        "update-not-applied",
        reference,
        2,
        "other-person",
    )
    assert (await ward.send("I13", at="1010", family="Castle"))[0] == "AA"
    assert (await last(engine))["person"]["family_name"] == "Castle"
    assert await verdicts(engine) == ["received", "contradicted", "updated"]


async def test_an_older_name_does_not_become_the_one_that_later_messages_are_compared_with(
    intakes: list[InProcess], engine: AsyncEngine
) -> None:
    ward = Ward(intakes)
    await ward.send(at="0800")
    await ward.send("I13", at="0900", family="Castle")
    await ward.send("I13", at="0830", family="Vance")
    await ward.send("I13", at="1000", nhs_number="9990000026", family="Castle")
    assert (await verdicts(engine))[-1] == "updated"


# ---- identity ---------------------------------------------------------------------------------------------------------


async def test_a_referral_id_is_unique_within_its_authority(intakes: list[InProcess], engine: AsyncEngine) -> None:
    ward = Ward(intakes)
    ids = ("7^UHL_EPR", "7^UHL_TIE", "7", "7^uhl_epr&1.2^1.2^ISO")
    told = [await ward.send("I13", f"09{at}0", referral_id=one) for at, one in enumerate(ids)]
    references = [reference for _, reference, _ in told]
    assert {code for code, _, _ in told} == {"AA"}
    assert len(set(references[:3])) == 3
    issues = await rows(engine, "select issues from intake.message order by id limit 1")
    assert [one["place"] for one in issues[0].issues] == ["RF1-6"]


async def test_a_cancel_without_the_authority_of_its_referral_is_unknown(intakes: list[InProcess]) -> None:
    ward = Ward(intakes)
    await ward.send(referral_id="7^UHL_EPR")
    assert (await ward.send("I14", "1000", referral_id="7"))[0] == "AE"
    assert (await ward.send("I14", "1000", referral_id="7^UHL_EPR"))[0] == "AA"


# ---- tests and receivers ----------------------------------------------------------------------------------------------


async def test_test_messages_are_answered_as_others_and_kept_apart(
    installation: Installation, engine: AsyncEngine
) -> None:
    async with InProcess(installation, engine, translate=translate(test_until=date(2099, 1, 1))) as intake:
        ward = Ward([intake])
        test = {"MSH-11": "T"}
        told = [
            (await ward.send(trigger, at, fields=test | more))[0]
            for trigger, at, more in (
                ("I12", "0800", {}),
                ("I13", "0900", {"RF1-2": "U"}),
                ("I14", "1000", {}),
                ("I13", "1100", {}),
            )
        ]
        assert told == ["AA", "AA", "AA", "AE"]
        assert await kinds(engine) == []
        live = await ward.send()
    assert (live[0], await kinds(engine)) == ("AA", ["received"])
    assert await verdicts(engine) == [
        "test-received",
        "test-updated",
        "test-cancelled",
        "test-after-cancel",
        "received",
    ]
    assert await rows(engine, "select 1 from intake.attachment") == []


async def test_test_messages_on_a_live_partner_are_rejected(intakes: list[InProcess], engine: AsyncEngine) -> None:
    code, _, answer = await Ward(intakes).send(fields={"MSH-11": "T"})
    assert (code, "MSH^1^11|202" in answer) == ("AR", True)
    assert await verdicts(engine) == ["refused"]


async def test_a_message_for_another_application_is_refused(installation: Installation, engine: AsyncEngine) -> None:
    mine = (ReceiverMatch(application="LIGHTBULB", facility=None),)
    async with InProcess(installation, engine, translate=translate(receivers=mine)) as intake:
        ward = Ward([intake])
        told = [(await ward.send(fields={"MSH-5": name}))[0] for name in ("lightbulb^X", "", "PAS")]
    assert told == ["AA", "AA", "AE"]


# ---- what operators see -------------------------------------------------------------------------------------------------


async def test_the_trace_shows_warnings_of_accepted_messages_by_place_and_kind(
    intakes: list[InProcess], database_url: str
) -> None:
    _, reference, _ = await Ward(intakes).send(sent_at="20991105093000")
    steps = [step for step in (await trace.path(database_url, reference)).steps if step.place == "intake"]
    assert [step.detail for step in steps] == ["answered 200; warnings: MSH-7 value"]
