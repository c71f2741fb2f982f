"""Who may act: nobody moves, ends, blocks or forges what belongs to somebody else."""

import asyncio
import json
import re
import uuid
from dataclasses import replace
from typing import Any

from aiokafka.errors import KafkaError

from tests.field import clients, kafka
from tests.field.case import Unplayed, Wrong, case
from tests.field.clients import BROOK_STREET_MAILBOX, RECEIVED, REFERRALS, RESTRICTED, Installation
from tests.field.fresh import nhs_number
from tests.field.referrals import HINCKLEY_COUNCIL, MELTON, Person, bars, hl7, letters, self_form

PRACTICE = "gp-castle-view"


# ---- senders --------------------------------------------------------------------------------------------------------


@case("security/i1-public-form-does-not-move-an-accepted-case")
def public_form_does_not_move_an_accepted_case(addresses: dict[str, Any]) -> None:
    """Anybody can fill in the public form about somebody and name another council; the hub at work keeps the case."""
    hub, person = Installation(addresses), Person(postcode=MELTON)
    reference = hub.refer(PRACTICE, bars(person))
    held = hub.case_at("melton", reference)
    hub.command("melton", "accept", held)
    hub.settle()
    answer = hub.form("lightbulb-website", "self", self_form(person, chosen_council=HINCKLEY_COUNCIL))
    if answer.status >= 300:
        raise Unplayed(f"the public form was answered {answer.status} {answer.body[:300]!r}")
    roles = [event.role for event in hub.hub_events("melton", about=held.case_id)]
    if roles[-1] == "former":
        raise Wrong(f"a public form took the accepted case from its hub: {roles}")


@case("security/i2-made-up-referral-does-not-make-a-person-doubtful")
def made_up_referral_does_not_make_a_person_doubtful(addresses: dict[str, Any]) -> None:
    """A practice refers "somebody" with a verified person's number: the real person's feedback stays full."""
    hub, patient = Installation(addresses), Person()
    reference = hub.refer(PRACTICE, bars(patient))
    before = hub.feedback(PRACTICE, reference)
    made_up = replace(patient, family="Nobody" + letters(4), born="1921-05-04", postcode=MELTON)
    hub.refer("gp-alder-lane", bars(made_up, "gp-alder-lane"))
    home = hub.case_at("blaby", reference)
    hub.command("blaby", "accept", home)
    after = hub.feedback(PRACTICE, reference)[len(before) :]
    later = hub.feedback(PRACTICE, hub.refer(PRACTICE, bars(patient, services=("fire-safety",))))
    if not (before and after and later) or before[-1].detail != "full":
        raise Unplayed(f"feedback before {before}, after {after}, later {later}")
    provisional = hub.hub_events("blaby", about=home.case_id)[-1].data["case"].get("provisional", False)
    if any(one.detail != "full" for one in (*after, *later)) or provisional:
        details = [one.detail for one in after], [one.detail for one in later]
        raise Wrong(f"after a made-up referral feedback is {details[0]}, later {details[1]}; provisional {provisional}")


@case("security/d13-mistyped-practice-does-not-read-about-a-patient")
def mistyped_practice_does_not_read_about_a_patient(addresses: dict[str, Any]) -> None:
    """A form names the referring practice C82992 for a patient registered at C82991: C82992 gets no letter that names them."""
    hub, person = Installation(addresses), Person()
    practices = {"practice_ods": "C82992", "registered_practice_ods": "C82991"}
    names = {"registered_practice_name": "Alder Lane Surgery", "referrer_name": "Dr Hale"}
    answers = self_form(person, referred_by="gp", nhs_number_status="verified", needs={"hoarding": True})
    answer = hub.form("first-contact", "first-contact-plus", answers | practices | names)
    if answer.status >= 300:
        raise Unplayed(f"the form was answered {answer.status} {answer.body[:300]!r}")
    found = hub.letters(BROOK_STREET_MAILBOX, answer.json()["reference"])
    if any(_names(person, subject, body) for subject, body in found):
        raise Wrong("one mistyped code sends a patient's name and NHS number to another practice")


@case("security/d15-letter-does-not-name-a-person-who-said-no")
def letter_does_not_name_a_person_who_said_no(addresses: dict[str, Any]) -> None:
    """Somebody who said no to feedback is not named in a letter to the practice, nor in its subject."""
    hub, person = Installation(addresses), Person()
    reference = hub.refer("gp-brook-street", bars(person, "gp-brook-street", feedback=False))
    found = hub.letters(BROOK_STREET_MAILBOX, reference)
    if any(person.family in subject or person.family.encode() in body for subject, body in found):
        raise Wrong(f"{len(found)} letters name a person who said no to feedback")


def _names(person: Person, subject: str, body: bytes) -> bool:
    text = subject + body.decode(errors="replace")
    grouped = f"{person.number[:3]} {person.number[3:6]}"
    return person.family in text and (person.number in text or grouped in text)


# ---- hubs and strangers on Kafka ------------------------------------------------------------------------------------


@case("security/k2-one-hubs-broken-records-block-nobody-else")
def one_hubs_broken_records_block_nobody_else(addresses: dict[str, Any]) -> None:
    """Melton, which had the case once, writes unreadable records to its own topic: Blaby's commands and the sender's cancel pass."""
    hub, person, request = Installation(addresses), Person(postcode=MELTON), str(uuid.uuid4())
    reference = hub.refer(PRACTICE, bars(person, referral=request))
    hub.command("melton", "accept", hub.case_at("melton", reference))
    hub.command("melton", "transfer", hub.case_at("melton", reference), to_hub="blaby")
    blaby = hub.case_at("blaby", reference)
    hub.command("melton", "accept", blaby._replace(version="not a number"))  # type: ignore[arg-type]
    hub.publish_command("melton", "accept", blaby.key, {"reference": reference, "person_key": blaby.key})
    hub.settle()
    hub.command("blaby", "accept", blaby)
    accepted = [event.kind for event in hub.hub_events("blaby", about=blaby.case_id)]
    status = hub.fhir(PRACTICE, bars(person, referral=request, status="revoked", reason="delete")).status
    after = [event.kind for event in hub.hub_events("blaby", about=blaby.case_id)]
    if "accepted" not in accepted or "cancelled" not in after:
        raise Wrong(f"after Melton's broken records Blaby's accept and a cancel (answered {status}) led to {after}")


@case("security/k1-broker-asks-for-credentials")
def broker_asks_for_credentials(addresses: dict[str, Any]) -> None:
    """A client without credentials reads no topic, commands as no hub, and publishes no referral."""
    hub = Installation(addresses)
    hub.admit("lpt", hl7(Person(), "lpt"))
    reference = hub.refer(PRACTICE, bars(Person()))
    home = hub.case_at("blaby", reference)
    stranger = {"bootstrap_servers": addresses["kafka"]}
    breaches = []
    if _read_by(stranger, hub.began, f"hub.{RESTRICTED}.case"):
        breaches.append("it reads the restricted unit's topic")
    if referrals := _read_by(stranger, hub.began, REFERRALS):
        breaches.append("it reads NHS numbers in referral.event")
    if _cancels(stranger, hub, home, reference):
        breaches.append("it ends a case as its hub")
    if referrals and _forges(stranger, hub, referrals[-1]):
        breaches.append("it publishes a referral that nobody made")
    if breaches:
        raise Wrong("without credentials: " + "; ".join(breaches))


def _read_by(settings: dict[str, Any], since: int, topic: str) -> list[bytes]:
    """Records with NHS numbers that a client reads; none if the broker refuses it."""
    try:
        records = asyncio.run(kafka.read(settings, [topic], since))
    except KafkaError:
        return []
    return [record.value for record in records if b'"nhs_number"' in record.value]


def _publish_by(settings: dict[str, Any], topic: str, key: str, headers: dict[str, str], data: Any) -> bool:
    try:
        asyncio.run(kafka.publish(settings, topic, key, headers, json.dumps(data).encode()))
    except KafkaError:
        return False
    return True


def _cancels(settings: dict[str, Any], hub: Installation, home: clients.HubCase, reference: str) -> bool:
    ended = [{"reference": reference, "needs": ["minor-adaptations"]}]
    headers = kafka.event_headers(clients.command_type("cancel"), home.key, "/hub/blaby")
    body = clients.command_body(home, ended=ended, reason="other")
    if not _publish_by(settings, "hub.blaby.command", home.key, headers, body):
        return False
    return any(one.status == "cancelled" for one in hub.feedback(PRACTICE, reference))


def _forges(settings: dict[str, Any], hub: Installation, template: bytes) -> bool:
    """Whether a referral that is written straight to referral.event leads to feedback."""
    forged = "LB-" + "-".join(re.sub("[ILOU]", "7", letters(4)) for _ in range(3))
    data, key = json.loads(template), uuid.uuid4().hex
    data |= {"reference": forged, "version": 1}
    data["referral"]["person"] |= {"family_name": "Forged", "nhs_number": nhs_number()}
    if not _publish_by(settings, REFERRALS, key, kafka.event_headers(RECEIVED, key, "/lightbulb/intake"), data):
        return False
    return bool(hub.feedback(data["referral"]["sent_by"]["partner"], forged))
