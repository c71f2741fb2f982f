"""Senders: make a plan's messages of a run's own ids, send them until somebody owns them, and note every answer."""

import asyncio
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from tests.chaos.history import History, Message
from tests.chaos.seed import Person, Say
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


def message(identity: Identity, person: Person, say: Say, place: int) -> Message:
    """What is sent for the input at `place` of a person. A repeat has the bytes of what it repeats."""
    referral = person.referrals[say.referral]
    about = (person.number, say.referral, _named(say))
    make = _bars if referral.format == "bars" else _form
    path = "/fhir/$process-message" if referral.format == "bars" else "/forms/first-contact-plus"
    return Message(
        person=person.number,
        referral=say.referral,
        place=place,
        kind=say.kind,
        partner=referral.partner,
        path=path,
        request_id=identity.id(*about, "request"),
        correlation_id=identity.id(*about, "correlation"),
        body=json.dumps(make(identity, person, say)).encode(),
    )


def _named(say: Say) -> str:
    """Messages of one name are one message, however often they are sent."""
    match say.kind:
        case "repeat":
            return f"content {say.content}"
        case "new" | "update":
            return f"content {say.content}"
        case kind:
            return f"{kind} {say.content}"


def _bars(identity: Identity, person: Person, say: Say) -> dict[str, object]:
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
    return made


def _form(identity: Identity, person: Person, say: Say) -> dict[str, object]:
    referral = person.referrals[say.referral]
    reference = {"reference": f"FC-{identity.id(person.number, say.referral)}"}
    time = {"completed_at": f"2026-11-05T09:{10 + say.content:02d}:00+00:00"}
    if say.kind in ("cancel", "unknown-cancel"):
        return reference | time | {"cancelled": True}
    return a_form(
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


# ---- sending ----------------------------------------------------------------------------------------------------------


@dataclass
class Senders:
    """Every partner's system: it sends a message again, byte for byte, until it has an answer that says whose it is."""

    url: str
    tokens: Mapping[str, str]
    history: History
    session: aiohttp.ClientSession

    async def send(self, sent: Message) -> None:
        while True:
            status, body = await self._post(sent)
            self.history.attempts += 1
            if status and status not in (408, 429) and status < 500:
                break
            self.history.unanswered += 1
            await asyncio.sleep(AGAIN_SECONDS)
        found = REFERENCE.search(body)
        self.history.answered(sent, status, _code(body), found[0] if found else None)

    async def _post(self, sent: Message) -> tuple[int, str]:
        headers = {
            "Authorization": f"Bearer {self.tokens[sent.partner]}",
            "Content-Type": "application/fhir+json" if sent.path.startswith("/fhir") else "application/json",
            "X-Request-Id": sent.request_id,
            "X-Correlation-Id": sent.correlation_id,
        }
        try:
            async with self.session.post(self.url + sent.path, data=sent.body, headers=headers) as answer:
                return answer.status, await answer.text()
        except (aiohttp.ClientError, OSError, TimeoutError):
            return 0, ""


def _code(body: str) -> str:
    """What the answer says of the message: an issue's code, or the status of a form's answer."""
    try:
        said = json.loads(body)
    except ValueError:
        return ""
    if said.get("resourceType") == "OperationOutcome":
        return str(said["issue"][0]["code"])
    return str(said.get("status", ""))
