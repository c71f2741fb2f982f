"""Builders of referrals in the formats BaRS, HL7 v2 and forms. Invented people with synthetic 999 NHS numbers."""

import base64
import json
import random
import string
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.field.fresh import nhs_number

RANDOM = random.SystemRandom()
BARS, LIGHTBULB = "https://fhir.nhs.uk", "https://lightbulb.example.org"
UK_CORE = "https://fhir.hl7.org.uk"
VERIFIED, NOT_VERIFIED = "01", "02"
BLABY, MELTON, HARBOROUGH, OUTSIDE = "LE8 4FA", "LE13 1DB", "LE16 7DR", "LE5 5HN"
HINCKLEY_COUNCIL = "E07000132"
PRACTICES = {
    "gp-alder-lane": ("C82991", "Alder Lane Surgery"),
    "gp-brook-street": ("C82992", "Brook Street Medical Centre"),
    "gp-castle-view": ("C82993", "Castle View Practice"),
}


def letters(count: int) -> str:
    return "".join(RANDOM.choice(string.ascii_uppercase) for _ in range(count))


def digits(count: int) -> str:
    """A number of this many digits that does not begin with 0."""
    return str(RANDOM.randrange(10 ** (count - 1), 10**count))


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Person:
    """Somebody new, unless given."""

    family: str = field(default_factory=lambda: "Q" + letters(7).lower())
    born: str = "1951-03-09"
    number: str = field(default_factory=nhs_number)
    postcode: str = BLABY
    given: str = "Ada"
    verified: str = VERIFIED


# ---- BaRS -----------------------------------------------------------------------------------------------------------


def bars(
    person: Person,
    practice: str = "gp-castle-view",
    *,
    services: Iterable[str] = ("minor-adaptations",),
    consent: bool = True,
    feedback: bool = True,
    referral: str | None = None,
    reason: str = "new",
    status: str = "active",
    documents: Iterable[dict[str, Any]] = (),
    sent_at: str | None = None,
) -> bytes:
    """A servicerequest-request message of a practice."""
    ods, name = PRACTICES[practice]
    request = referral or str(uuid.uuid4())
    resources = [
        _header(request, ods, name, reason),
        _service_request(request, services, status),
        _encounter(),
        _patient(person),
        *_practitioner(ods, name),
        _consent("referral", consent),
        _consent("feedback", feedback),
        *documents,
    ]
    return json.dumps(_bundle(resources, sent_at or now())).encode()


def _bundle(resources: list[dict[str, Any]], at: str) -> dict[str, Any]:
    ids = {name: str(uuid.uuid4()) for name in ("header", "encounter", "patient", "role", "doctor", "practice", "hub")}
    text = json.dumps([resource | {"meta": {"lastUpdated": at}} for resource in resources])
    for name, one in ids.items():
        text = text.replace(f'"#{name}"', f'"{one}"').replace(f'"urn:uuid:#{name}"', f'"urn:uuid:{one}"')
    entries = [{"fullUrl": f"urn:uuid:{one['id']}", "resource": one} for one in json.loads(text)]
    profile = f"{BARS}/StructureDefinition/BARSBundleMessage"
    meta = {"versionId": "1.0.0", "lastUpdated": at, "profile": [profile]}
    bundle = {"resourceType": "Bundle", "id": str(uuid.uuid4()), "meta": meta, "type": "message", "timestamp": at}
    return bundle | {"entry": entries}


def _to(name: str) -> dict[str, str]:
    return {"reference": f"urn:uuid:#{name}"}


def _coding(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def _header(request: str, ods: str, practice: str, reason: str) -> dict[str, Any]:
    return {
        "resourceType": "MessageHeader",
        "id": "#header",
        "eventCoding": {"system": f"{BARS}/CodeSystem/message-events-bars", "code": "servicerequest-request"},
        "destination": [{"endpoint": f"{BARS}/Id/dos-service-id|2000099999", "receiver": _to("hub")}],
        "sender": _to("practice"),
        "source": {"name": practice, "endpoint": f"{BARS}/Id/ods-organization-code|{ods}"},
        "reason": _coding(f"{BARS}/CodeSystem/message-reason-bars", reason),
        "focus": [{"reference": f"urn:uuid:{request}"}],
        "definition": f"{BARS}/MessageDefinition/bars-message-servicerequest-request-referral",
    }


def _service_request(request: str, services: Iterable[str], status: str) -> dict[str, Any]:
    category = {"system": f"{BARS}/CodeSystem/message-category-servicerequest", "code": "referral"}
    use_case = {"system": f"{LIGHTBULB}/CodeSystem/usecase", "code": "housing"}
    wanted = [_coding(f"{LIGHTBULB}/CodeSystem/service", one) | {"text": "please"} for one in services]
    return {
        "resourceType": "ServiceRequest",
        "id": request,
        "status": status,
        "intent": "plan",
        "priority": "routine",
        "category": [{"coding": [category | {"display": "Transfer of Care"}, use_case]}],
        "orderDetail": wanted,
        "subject": _to("patient"),
        "encounter": _to("encounter"),
        "authoredOn": now(),
        "requester": _to("role"),
        "performer": [_to("hub")],
        "reasonCode": [_coding(f"{LIGHTBULB}/CodeSystem/reason", "falls") | {"text": "two falls"}],
    }


def _encounter() -> dict[str, Any]:
    return {
        "resourceType": "Encounter",
        "id": "#encounter",
        "status": "finished",
        "subject": _to("patient"),
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
        "period": {"start": now()},
    }


def _patient(person: Person) -> dict[str, Any]:
    status = _coding(f"{UK_CORE}/CodeSystem/UKCore-NHSNumberVerificationStatusEngland", person.verified)
    url = f"{UK_CORE}/StructureDefinition/Extension-UKCore-NHSNumberVerificationStatus"
    number = {"system": f"{BARS}/Id/nhs-number", "value": person.number}
    address = {"use": "home", "line": ["5 Scalford Row"], "city": "Leicester", "postalCode": person.postcode}
    return {
        "resourceType": "Patient",
        "id": "#patient",
        "identifier": [number | {"extension": [{"url": url, "valueCodeableConcept": status}]}],
        "name": [{"use": "official", "family": person.family, "given": [person.given]}],
        "gender": "female",
        "birthDate": person.born,
        "telecom": [{"system": "phone", "value": "01632 960071"}],
        "generalPractitioner": [_to("practice")],
        "address": [address],
    }


def _practitioner(ods: str, practice: str) -> list[dict[str, Any]]:
    role = {"resourceType": "PractitionerRole", "id": "#role"}
    code = {"system": f"{BARS}/Id/ods-organization-code", "value": ods}
    return [
        role | {"practitioner": _to("doctor"), "organization": _to("practice")},
        {"resourceType": "Practitioner", "id": "#doctor", "name": [{"use": "official", "family": "Hale"}]},
        {"resourceType": "Organization", "id": "#practice", "identifier": [code], "name": practice},
        {"resourceType": "Organization", "id": "#hub", "name": "Lightbulb"},
    ]


def _consent(code: str, agreed: bool) -> dict[str, Any]:
    terms = "http://terminology.hl7.org/CodeSystem"
    return {
        "resourceType": "Consent",
        "id": str(uuid.uuid4()),
        "status": "active",
        "patient": _to("patient"),
        "dateTime": now()[:10],
        "scope": _coding(f"{terms}/consentscope", "patient-privacy"),
        "category": [_coding(f"{LIGHTBULB}/CodeSystem/consent", code)],
        "policyRule": _coding(f"{terms}/v3-ActCode", "OPTIN" if agreed else "OPTOUT"),
        "provision": {"type": "permit" if agreed else "deny"},
    }


def document(content: bytes) -> dict[str, Any]:
    """A DocumentReference that carries its content."""
    data = base64.b64encode(content).decode()
    attachment = {"contentType": "text/plain", "data": data, "title": "INAT"}
    one = {"resourceType": "DocumentReference", "id": str(uuid.uuid4()), "status": "current"}
    return one | {"content": [{"attachment": attachment}]}


# ---- HL7 v2 ---------------------------------------------------------------------------------------------------------


def hl7(
    person: Person,
    trust: str,
    *,
    referral: str | None = None,
    trigger: str = "I12",
    admitted: str = "20261101",
    discharged: str = "",
) -> bytes:
    """A REF message of a ward: `uhl` at the Royal Infirmary, or `lpt` at the Bradgate Unit, the restricted one."""
    general = trust == "uhl"
    sender, version, site, need, consent, yes, assigner = (
        ("UHL_EPR|RWE", "2.5", "LRI", "FALLS", "LB-CONSENT", "Y", "")
        if general
        else ("LPT_PAS|RT5^BMHU", "2.4", "BMHU", "H3", "C1", "1", "^^")
    )
    at = f"{datetime.now(UTC):%Y%m%d%H%M%S}"
    identity = f"PID|1||{person.number}^^^^NHS||{person.family.upper()}^{person.given.upper()}"
    home = "H" if general else "HOME"
    identity += (
        f"||{person.born.replace('-', '')}|F|||5 Scalford Row^^^^{person.postcode}^^{home}" + "|" * 21 + "NSTS01"
    )
    segments = [
        f"MSH|^~\\&|{sender}|LIGHTBULB|LIGHTBULB|{at}||REF^{trigger}|{uuid.uuid4().hex[:12].upper()}|P|{version}",
        f"EVN|{trigger}|{at}",
        f"RF1|{'R' if trigger == 'I14' else 'A'}|R|{need}|||{assigner}{referral or ward_referral_id()}|20261116",
        identity,
        f"PV1|1|I|BEECH^^^{site}" + "|" * 41 + f"{admitted}|{discharged}".rstrip("|"),
        f"OBX|1|CE|{consent}||{yes}||||||F|||20261101",
    ]
    return "\r".join([*segments, ""]).encode()


def ward_referral_id() -> str:
    return "B-" + uuid.uuid4().hex[:10].upper()


# ---- forms ----------------------------------------------------------------------------------------------------------


def first_contact_form(reference: str, **changes: Any) -> dict[str, Any]:
    """A filled-in First Contact Plus form; a change to None leaves the field out."""
    filled = {
        "reference": reference,
        "completed_at": "2026-11-16T13:05:00Z",
        "referred_by": "self",
        "title": "Mr",
        "given_names": ["Cyril"],
        "family_name": "Tester",
        "birth_date": "1945-06-18",
        "address": ["23 Weavers Row", "Hinckley"],
        "postcode": "LE10 1DU",
        "phone": "01632 960051",
        "needs": {"grab_rails": True},
        "consents": {"referral": "yes", "feedback": "yes"},
    }
    return {name: value for name, value in {**filled, **changes}.items() if value is not None}


def self_form(person: Person, **changes: Any) -> dict[str, Any]:
    """The form of the public website, filled in about a person."""
    return {
        "reference": f"W{uuid.uuid4().hex[:10]}",
        "referred_by": "self",
        "given_names": [person.given],
        "family_name": person.family,
        "birth_date": person.born,
        "nhs_number": person.number,
        "address": ["1 Elsewhere Road"],
        "postcode": person.postcode,
        "phone": "01632 960071",
        "needs": {"rails": True},
        "consents": {"referral": "yes", "feedback": "yes"},
        **changes,
    }
