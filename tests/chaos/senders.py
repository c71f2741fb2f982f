"""Senders: make a plan's messages of a run's own ids, send them until somebody owns them, and note every answer."""

import asyncio
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from infra import mllp
from tests.chaos.history import Answered, History, Message
from tests.chaos.seed import Person, Say
from tests.intake.council_files import a_file, a_row
from tests.intake.hl7 import a_uhl_message
from tests.intake.messages import a_bars_message, a_form

REFERENCE = re.compile(r"LB(?:-[0-9A-Z]{4}){3}")
NEEDS = ({"minor-adaptations": "grab rails by the back door"}, {"home-safety": "rugs"}, {"affordable-warmth": "cold"})
FORM_NEEDS = ({"grab_rails": True}, {"falls": True}, {"warm_home": True})
AGAIN_SECONDS = 0.4
ELSEWHERE = "http://127.0.0.1:9/elsewhere"


@dataclass(frozen=True)
class Identity:
    """What makes two runs of one plan different: the ids and NHS numbers. `slot` counts the runs of an installation."""

    run: str
    slot: int
    elsewhere: str = ELSEWHERE

    def id(self, *about: object) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, " ".join(map(str, (self.run, *about)))))

    def nhs_number(self, person: int) -> str:
        """A synthetic number (999...) of this run's own."""
        at = (self.slot * 64 + person * 2) % 999_998
        return next(number for digits in (at, at + 1) if (number := _with_check_digit(f"999{digits:06d}")))


def _with_check_digit(nine: str) -> str | None:
    check = 11 - sum(int(digit) * weight for digit, weight in zip(nine, range(10, 1, -1), strict=True)) % 11
    return None if check == 10 else nine + str(check % 11)


# ---- messages ---------------------------------------------------------------------------------------------------------


PATHS = {
    "bars": "/fhir/$process-message",
    "form": "/forms/first-contact-plus",
    "csv": "/councils/blaby/referrals",
    "hl7": "",
}
MEDIA_TYPES = {"/fhir/$process-message": "application/fhir+json", "/councils/blaby/referrals": "text/csv"}


def message(identity: Identity, person: Person, say: Say, place: int) -> Message:
    """What is sent for the input at `place` of a person. A repeat has the bytes of what it repeats."""
    referral = person.referrals[say.referral]
    about = (person.number, say.referral, _named(say))
    make = {"bars": _bars, "form": _form, "hl7": _hl7, "csv": _csv}[referral.format]
    return Message(
        person=person.number,
        referral=say.referral,
        place=place,
        kind=say.kind,
        partner=referral.partner,
        path=PATHS[referral.format],
        request_id=identity.id(*about, "request"),
        correlation_id=identity.id(*about, "correlation"),
        body=make(identity, person, say),
        mark=_mark(identity, person, say).encode(),
    )


def _mark(identity: Identity, person: Person, say: Say) -> str:
    return identity.id(person.number, say.referral, _named(say), "mark").replace("-", "")[:20]


def _named(say: Say) -> str:
    """Messages of one name are one message, however often they are sent."""
    match say.kind:
        case "repeat":
            return f"content {say.content}"
        case "new" | "update":
            return f"content {say.content}"
        case kind:
            return f"{kind} {say.content}"


def _bars(identity: Identity, person: Person, say: Say) -> bytes:
    referral = person.referrals[say.referral]
    of_referral = (person.number, say.referral)
    bundle = f"content {say.content}" if say.kind == "conflict" else _named(say)
    cancels = say.kind in ("cancel", "unknown-cancel")
    first = say.content == 0 and not cancels
    made = a_bars_message(
        seed=identity.id(*of_referral, bundle),
        referral_id=identity.id(*of_referral),
        bundle_id=identity.id(*of_referral, bundle, "bundle"),
        sent_at=f"2026-11-05T09:{10 + say.content:02d}:00+00:00",
        reason="new" if first else "update",
        status="revoked" if cancels else "active",
        nhs_number=identity.nhs_number(person.number) if person.has_nhs_number else None,
        ods=referral.practice,
        needs=NEEDS[say.content % len(NEEDS)] if say.kind != "conflict" else {"fire-safety": "another content"},
        consents={"referral": "permit", "feedback": "permit" if referral.consents else "deny"},
        doctor_telecom=[{"system": "phone", "value": identity.elsewhere}],
    )
    patient = next(e["resource"] for e in made["entry"] if e["resource"]["resourceType"] == "Patient")
    patient["address"][0]["postalCode"] = person.postcode
    return json.dumps(made).encode()


def _form(identity: Identity, person: Person, say: Say) -> bytes:
    referral = person.referrals[say.referral]
    reference = {"reference": f"FC-{identity.id(person.number, say.referral)}"}
    time = {"completed_at": f"2026-11-05T09:{10 + say.content:02d}:00+00:00"}
    if say.kind in ("cancel", "unknown-cancel"):
        return json.dumps(reference | time | {"cancelled": True}).encode()
    filled = a_form(
        **reference,
        **time,
        practice_ods=referral.practice,
        nhs_number=identity.nhs_number(person.number) if person.has_nhs_number else None,
        nhs_number_status="verified" if person.has_nhs_number else None,
        given_names=["Ada"],
        family_name="Vance",
        birth_date="1944-02-29",
        postcode=person.postcode,
        needs=FORM_NEEDS[say.content % len(FORM_NEEDS)],
        consents={"referral": "yes", "feedback": "yes" if referral.consents else "no"},
    )
    return json.dumps(filled).encode()


def _hl7(identity: Identity, person: Person, say: Say) -> bytes:
    """REF^I12, I13 or I14 of a hospital trust."""
    referral = person.referrals[say.referral]
    number = identity.nhs_number(person.number)
    return a_uhl_message(
        control_id=_mark(identity, person, say),
        referral_id=identity.id(person.number, say.referral),
        sent_at=f"2026110509{10 + say.content:02d}00",
        trigger={"cancel": "I14", "unknown-cancel": "I14"}.get(say.kind, "I12" if say.content == 0 else "I13"),
        fields={
            "PID-3": f"{number}^^^NHS^NHS" if person.has_nhs_number else "RWE12345^^^UHL^MRN",
            "PID-11": f"1 Any Lane^^Any Town^^{person.postcode}^^H",
            "PID-32": "NSTS01" if person.has_nhs_number else "",
            "PV1-2": "I" if referral.stays else "O",
            "RF1-3": ("ADAPT", "FALLS", "WARM")[say.content % 3],
        },
    )


def _csv(identity: Identity, person: Person, say: Say) -> bytes:
    """A council's file with the row of one case."""
    referral = person.referrals[say.referral]
    row = a_row(
        "blaby",
        **{
            "Case Ref": identity.id(person.number, say.referral),
            "Last Changed": f"05/11/2026 09:{10 + say.content:02d}",
            "Case Status": "Withdrawn" if say.kind in ("cancel", "unknown-cancel") else "Open",
            "NHS No": identity.nhs_number(person.number) if person.has_nhs_number else "",
            "Surname": "Vance",
            "First Names": "Ada",
            "Postcode": person.postcode,
            "Needs": ("GR", "ADV", "DFG")[say.content % 3],
            "Consent GP": "Y" if referral.consents else "N",
            "Notes": _mark(identity, person, say),
        },
    )
    return a_file("blaby", [row])


# ---- sending ----------------------------------------------------------------------------------------------------------


Reply = tuple[bool | None, int, str, str]
"""Whether it is the receiver's now (none: not known, send again), its status and code, and its whole text."""


@dataclass
class Senders:
    """Every partner's system: it sends a message again, byte for byte, until it has an answer that says whose it is."""

    url: str
    mllp: int
    tokens: Mapping[str, str]
    history: History
    session: aiohttp.ClientSession

    async def send(self, sent: Message) -> None:
        while True:
            ours, status, code, text = await (self._post(sent) if sent.path else self._exchange(sent))
            self.history.attempts += 1
            if ours is not None:
                break
            self.history.unanswered += 1
            await asyncio.sleep(AGAIN_SECONDS)
        found = REFERENCE.search(text)
        self.history.answers.append(Answered(sent, ours, status, code, found[0] if found else None))

    async def _post(self, sent: Message) -> Reply:
        headers = {
            "Authorization": f"Bearer {self.tokens[sent.partner]}",
            "Content-Type": MEDIA_TYPES.get(sent.path, "application/json"),
            "X-Request-Id": sent.request_id,
            "X-Correlation-Id": sent.correlation_id,
        }
        try:
            async with self.session.post(self.url + sent.path, data=sent.body, headers=headers) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None, 0, "", ""
        if answer.status in (408, 429) or answer.status >= 500:
            return None, answer.status, "", ""
        return (_of_row if sent.path.startswith("/councils") else _of_message)(answer.status, text)

    async def _exchange(self, sent: Message) -> Reply:
        """Over MLLP. No frame: nothing was promised."""
        try:
            frames = await mllp.exchange("127.0.0.1", self.mllp, sent.body, 12)
        except (OSError, TimeoutError):
            return None, 0, "", ""
        said = [line.split("|") for frame in frames for line in frame.decode().split("\r") if line.startswith("MSA")]
        if not said:
            return None, 0, "", ""
        return said[-1][1] in ("AA", "CA"), 200, said[-1][1], frames[-1].decode()


def _of_message(status: int, text: str) -> Reply:
    """2xx, or 409 duplicate: an earlier sending of it was accepted."""
    said = json.loads(text)
    issue = said.get("issue", [{}])[0].get("code", "") if said.get("resourceType") == "OperationOutcome" else ""
    return status < 300 or (status == 409 and issue == "duplicate"), status, issue or str(said.get("status", "")), text


def _of_row(status: int, text: str) -> Reply:
    """What the report says of the only row."""
    try:
        [row] = json.loads(text)["rows"]
    except (ValueError, KeyError):
        return (None if status < 300 else False), status, "no report", ""
    if row["outcome"] == "not-processed":
        return None, status, "", ""
    ours = row["outcome"] in ("received", "updated", "already-held", "superseded", "cancelled")
    return ours, status, row["outcome"], text
