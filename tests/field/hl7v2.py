"""HL7 v2 messages over MLLP as hospitals' systems write them; most cases are data, in hl7v2.yaml."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from tests.field import clients, installation, scripted
from tests.field.case import Unplayed, Wrong, case
from tests.field.expectation import Answer
from tests.field.fresh import Fresh
from tests.field.installation import Installation

PARTNERS_PAGE = scripted.HERE.parents[1] / "docs" / "partners" / "uhl.md"
SCHEDULE_SECONDS = 120.0
"""The longest wait for what a schedule of the router raises."""


def _send(hub: Installation, body: bytes, sender: str, _conversation: str | None) -> Answer:
    return hub.hl7v2(body, sender)


@case("hl7v2/diagnosis-in-words")
def diagnosis_in_words(addresses: dict[str, Any]) -> None:
    """The words of DG1-3 are read if the partner's page promises it."""
    if re.search(r"^\| *DG1-3 .*\b(words|text)\b", PARTNERS_PAGE.read_text(), re.M):
        _judge("diagnosis-in-words", addresses)


def _judge(slug: str, addresses: Mapping[str, Any]) -> None:
    scripted.judge_effects(scripted.script(f"hl7v2/{slug}"), _send, addresses)


# ---- tasks that a schedule raises -----------------------------------------------------------------------------------


@case("hl7v2/overdue-discharge")
def overdue_discharge(addresses: dict[str, Any]) -> None:
    """Two days after an expected discharge without word there is a task; the schedule that raises it is waited for."""
    scripted.judge_effects(scripted.script("hl7v2/overdue-discharge"), partial(_send_and_wait_for_a_task), addresses)


def _send_and_wait_for_a_task(hub: Installation, body: bytes, sender: str, conversation: str | None) -> Answer:
    answer = _send(hub, body, sender, conversation)
    reference = (answer.reference or "").encode()

    def is_raised() -> bool:
        return any(
            entry.headers["ce_type"].endswith("task-raised.v1") and reference in entry.value for entry in hub.entries()
        )

    installation.until(is_raised, SCHEDULE_SECONDS)
    return answer


# ---- what a person has to read --------------------------------------------------------------------------------------


@case("hl7v2/unknown-need-until-it-is-read")
def unknown_need_until_it_is_read(addresses: dict[str, Any]) -> None:
    """A referral with a code that nobody agreed waits at triage; mark-read with the needs releases it to the home hub."""
    hub = clients.Installation(addresses)
    answer = _send(installation.of(addresses), _fresh("unknown-need-until-it-is-read"), "uhl", None)
    if answer.code != "AA" or not answer.reference:
        raise Wrong(f"answered {answer.code}, expected AA with a reference")
    waiting = hub.hub_events(about=answer.reference)
    if {event.hub for event in waiting} != {"triage"} or waiting[-1].reasons != ["to-be-read"]:
        raise Wrong(f"before it is read: {[(event.hub, event.reasons) for event in waiting]}")
    if not any("SAUNA" in str(one["referral"].get("to_be_read")) for one in waiting[-1].referrals):
        raise Wrong("triage is not shown what it has to read")
    hub.command(
        "triage",
        "mark-read",
        hub.case_at("triage", answer.reference),
        reference=answer.reference,
        needs=["home-security"],
    )
    held = [event for event in hub.hub_events("charnwood", about=answer.reference) if event.role == "holder"]
    if not held:
        raise Wrong("the home hub does not hold the case after mark-read")
    needs = [need["service"] for need in held[-1].referrals[0]["referral"]["needs"]]
    if "home-security" not in needs:
        raise Wrong(f"the home hub reads the needs {needs}")


def _fresh(slug: str) -> bytes:
    return Fresh().bytes(scripted.script(f"hl7v2/{slug}").files[0].read_bytes())


# ---- ADT ------------------------------------------------------------------------------------------------------------


@case("hl7v2/adt-of-a-stranger")
def adt_of_a_stranger(addresses: dict[str, Any]) -> None:
    """Nothing is published or stored, and the acknowledgement is the one that an ADT about a referred person gets."""
    script = scripted.script("hl7v2/adt-of-a-stranger")
    _judge("adt-of-a-stranger", addresses)
    hub, fresh = installation.of(addresses), Fresh()
    stranger = _send(hub, fresh.bytes(script.files[0].read_bytes()), "uhl", None)
    referral, update = (
        Fresh.bytes(fresh, file.read_bytes()) for file in scripted.script("hl7v2/adt-a08-says-one-thing").files
    )
    if not _send(hub, referral, "uhl", None).reference:
        raise Unplayed("the referral was not taken")
    known = _send(hub, update, "uhl", None)
    if _shape(stranger) != _shape(known):
        raise Wrong(f"a stranger's is acknowledged {_shape(stranger)}, a referred person's {_shape(known)}")
    number = fresh.text(re.findall(r"999\d{7}", script.files[0].read_text())[0])
    if clients.Installation(addresses).stored_message_with(number):
        raise Wrong("the message about a stranger is stored")


def _shape(answer: Answer) -> str:
    """The acknowledgement without its time and message ids."""
    return re.sub(r"\d{14}[^|]*|[0-9A-Fa-f-]{8,}|FT\d+", "*", answer.text)


scripted.register("hl7v2", _send, scripted.judge_effects)
