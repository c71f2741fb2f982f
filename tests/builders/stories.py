"""A story: what one referral says, as plain data that belongs to no format. story_writers.py writes it in each format."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Literal

Answer = Literal["yes", "no", "not-recorded"]


@dataclass(frozen=True)
class Words:
    """A text as it was typed, and what it means: without what a web page, a keyboard or a spreadsheet put into it."""

    written: str
    meant: str


def plain(text: str) -> Words:
    """Return a text that means what is written."""
    return Words(text, text)


@dataclass(frozen=True)
class Name:
    """A name of another person than the one referred, in parts."""

    given: Words
    family: Words
    title: Words | None = None

    @property
    def parts(self) -> tuple[Words, ...]:
        return (*([self.title] if self.title else []), self.given, self.family)

    @property
    def written(self) -> str:
        return " ".join(part.written for part in self.parts)

    @property
    def meant(self) -> str:
        return " ".join(part.meant for part in self.parts)


@dataclass(frozen=True)
class Home:
    """An address: up to four lines, as many as an HL7 v2 address has."""

    lines: tuple[Words, ...]
    postcode: Words | None = None
    uprn: str | None = None
    district: str | None = None
    since: date | None = None
    until: date | None = None


@dataclass(frozen=True)
class Relative:
    name: Name
    relationship: Words
    phone: Words
    rank: int | None = None


@dataclass(frozen=True)
class Need:
    """A requested service, by its code in `SERVICES`, with what the sender adds."""

    code: str
    note: Words | None = None
    snomed: str | None = None


SERVICES = {
    "ADAPT": ("minor-adaptations", "Minor adaptations and equipment"),
    "DFG": ("disabled-facilities-grant", "Disabled facilities grant"),
    "FALLS": ("home-safety", "Home safety check"),
    "WARM": ("affordable-warmth", "A warm home"),
    "MOVE": ("housing-choices", "Housing choices"),
    "HANDY": ("handyperson", "Handyperson"),
    "FURN": ("furniture", "Furniture"),
}
"""Service and label of each need: the codes and labels that the reviewed file of uhl has."""


@dataclass(frozen=True)
class Stay:
    """A hospital stay. `discharged_on`: it is over."""

    site: str = "Leicester Royal Infirmary"
    ward: Words = field(default_factory=lambda: plain("W23"))
    bed: Words | None = None
    visit: str | None = None
    admitted_on: date | None = None
    pathway: int | None = None
    delay: str | None = None
    trusted: bool | None = None
    assessment: bool | None = None
    ready_on: date | None = None
    expected_on: date | None = None
    discharged_on: date | None = None


@dataclass(frozen=True)
class Letter:
    title: str
    media_type: str
    content: bytes


@dataclass(frozen=True)
class Story:
    """One state of a referral. None: not said. The defaults are the least that every format requires."""

    reference: str = "R-1"
    sent_at: datetime = datetime(2026, 11, 5, 9, 0, tzinfo=UTC)
    # the person
    family: Words = field(default_factory=lambda: plain("Vance"))
    given: tuple[Words, ...] = ()
    title: Words | None = None
    birth_date: date | None = date(1944, 2, 29)
    gender: str | None = None
    number: Words | None = None
    number_status: str | None = None
    hospital_number: str | None = None
    home: Home | None = None
    staying_at: Home | None = None
    phone: Words | None = None
    email: str | None = None
    textphone: Words | None = None
    language: str | None = None
    interpreter: bool | None = None
    communication: tuple[Words, ...] = ()
    contact_by: Words | None = None
    contact_when: Words | None = None
    written_format: Words | None = None
    restricted: bool = False
    died: bool = False
    died_on: date | None = None
    practice: str | None = None
    practice_name: Words | None = None
    relative: Relative | None = None
    # the request
    referrer: Name | None = None
    referrer_phone: Words | None = None
    referrer_id: str | None = None
    needs: tuple[Need, ...] = (Need("ADAPT"),)
    reason: str | None = None
    reason_snomed: str | None = None
    text: Words | None = None
    priority: str = "routine"
    authority: str | None = None
    stay: Stay | None = None
    grant_category: str | None = None
    grant_stages: dict[str, date] = field(default_factory=dict)
    consents: dict[str, Answer] = field(default_factory=lambda: {"referral": "yes"})
    consented_on: date | None = None
    consented_by: Name | None = None
    risks: tuple[str, ...] = ()
    letter: Letter | None = None
    enquired_on: date | None = None
    referred_on: date = date(2026, 11, 5)


RISKS = {"dog": "A dog is in the home", "key-safe": "Ring first; there is a key safe", "two": "Visit with two people"}
"""Text of each risk flag."""

STATUSES = {"verified": "01", "not-traced": "02", "trace-required": "03"}
TRUST = {"ods": "RWE", "name": "University Hospitals of Leicester NHS Trust"}
"""The organisation that sends every story."""

HOSPITAL_NUMBERS, VISITS = "https://uhl.example.org/Id/hospital-number", "https://uhl.example.org/Id/visit-number"
NURSES, SNOMED = "https://fhir.hl7.org.uk/Id/nmc-number", "http://snomed.info/sct"

EVERYTHING = Story(
    family=plain("O'Súilleabháin-van der Berg"),
    given=(plain("Zoë"), plain("Anne-Marie"), plain("d’Arcy")),
    title=plain("Mrs"),
    gender="female",
    number=plain("9990000018"),
    number_status="verified",
    hospital_number="RWE12345",
    home=Home(
        lines=(plain('Flat 2, "The Limes"'), plain("1 Any Lane & Yard"), plain("Whetstone"), plain("Leicestershire")),
        postcode=plain("LE8 6AA"),
        uprn="100030412345",
        district="E07000129",
        since=date(2019, 4, 1),
        until=date(2027, 3, 31),
    ),
    staying_at=Home(lines=(plain("c/o 3 Any Close"),), postcode=plain("LE11 5AA")),
    phone=plain("0116 496 0001"),
    email="zoe.osullivan@example.org",
    textphone=plain("0116 496 0043"),
    language="pl",
    interpreter=True,
    communication=(plain("hard of hearing"), plain("reads lips; face her")),
    contact_by=plain("letter"),
    contact_when=plain("not before 11"),
    written_format=plain("large print"),
    restricted=True,
    died=True,
    died_on=date(2026, 11, 4),
    practice="C82991",
    practice_name=plain("Alder Lane Surgery"),
    relative=Relative(Name(plain("Niamh"), plain("Ní Dhomhnaill")), plain("daughter"), plain("07700 900123"), rank=1),
    referrer=Name(plain("Ngozi"), plain("Okafor"), plain("Sister")),
    referrer_phone=plain("0116 496 0002"),
    referrer_id="C9999991",
    needs=(
        Need("ADAPT", plain("grab rails, by the back door | 2 of them"), "229810009"),
        Need("WARM"),
        Need("MOVE", plain("ground floor & near her sister")),
    ),
    reason="home-no-longer-suitable",
    reason_snomed="160734000",
    text=plain('Two falls; says "I can\'t".\nStairs ~ 14 steps ^ steep, 5\\6 & narrow | dark.\nRing first.'),
    priority="urgent",
    authority="E07000130",
    stay=Stay(
        bed=plain("4"),
        visit="V1",
        admitted_on=date(2026, 10, 28),
        pathway=1,
        delay="social-care",
        trusted=True,
        assessment=True,
        ready_on=date(2026, 11, 1),
        expected_on=date(2026, 11, 3),
        discharged_on=date(2026, 11, 4),
    ),
    grant_category="B",
    grant_stages={
        "ot_assessment": date(2026, 9, 1),
        "ss127": date(2026, 9, 2),
        "application": date(2026, 9, 3),
        "approval": date(2026, 9, 4),
        "works": date(2026, 10, 1),
        "completion": date(2026, 11, 2),
    },
    consents={"referral": "yes", "feedback": "no", "evaluation": "yes"},
    consented_on=date(2026, 11, 2),
    consented_by=Name(plain("Dev"), plain("Sharma")),
    risks=("dog", "key-safe"),
    letter=Letter("Discharge letter", "text/plain", "Zoë ~ | ^ & \\ letter".encode()),
    enquired_on=date(2026, 10, 1),
    referred_on=date(2026, 11, 3),
)
"""A story in which every fact is said that a referral can hold, if a message alone can say it."""


# ---- what it means ---------------------------------------------------------------------------------------------------


def meaning(story: Story) -> dict[str, Any]:
    """Return the canonical referral that a story means, with the names of its fields; what is not said is None."""
    stay = story.stay
    return {
        "sent_by": {"partner": "uhl", "organisation": TRUST},
        "referred_by": {
            "kind": "hospital-team",
            "organisation": TRUST,
            "name": story.referrer and story.referrer.meant,
            "identifier": story.referrer_id and {"system": NURSES, "value": story.referrer_id},
            "phone": _meant(story.referrer_phone),
        },
        "registered_practice": {"ods": story.practice, "name": _meant(story.practice_name)},
        "person": _person(story),
        "contacts": [_relative(story.relative)] if story.relative else [],
        "needs": [_need(need) for need in story.needs],
        "reason": {"code": story.reason, "text": _meant(story.text), "snomed": _snomed(story.reason_snomed)},
        "priority": None if story.priority == "routine" else story.priority,
        "named_authority": story.authority,
        "hospital": stay and _stay(stay),
        "ready_for_transfer_on": stay and stay.ready_on,
        "expected_discharge_on": stay and stay.expected_on,
        "discharged_on": stay and stay.discharged_on,
        "grant": {"category": story.grant_category} | {f"{name}_on": on for name, on in story.grant_stages.items()},
        "consents": {question: _consent(story, answer) for question, answer in story.consents.items()},
        "risk_flags": [{"code": code, "text": RISKS[code]} for code in story.risks],
        "attachments": [_letter(story.letter)] if story.letter else [],
        "enquired_on": story.enquired_on,
        "referred_on": story.referred_on,
    }


def _meant(words: Words | None) -> str | None:
    return words.meant if words else None


def _person(story: Story) -> dict[str, Any]:
    ids = [{"system": HOSPITAL_NUMBERS, "value": story.hospital_number}] if story.hospital_number else []
    textphone = story.textphone and {"system": "textphone", "value": story.textphone.meant, "use": "home"}
    return {
        "nhs_number": _meant(story.number),
        "nhs_number_status": STATUSES.get(story.number_status or ""),
        "local_ids": ids,
        "family_name": story.family.meant,
        "given_names": tuple(name.meant for name in story.given),
        "title": _meant(story.title),
        "birth_date": story.birth_date,
        "gender": story.gender,
        "address": _home(story.home),
        "temporary_address": _home(story.staying_at),
        "phone": _meant(story.phone),
        "email": story.email,
        "other_contact_points": [textphone] if textphone else [],
        "preferred_contact": {
            "method": _meant(story.contact_by),
            "times": _meant(story.contact_when),
            "written_format": _meant(story.written_format),
        },
        "language": story.language,
        "interpreter_needed": story.interpreter,
        "communication_needs": tuple(need.meant for need in story.communication),
        "restricted_access": story.restricted,
        "death_reported": {"died_on": story.died_on} if story.died else None,
    }


def _home(home: Home | None) -> dict[str, Any]:
    if home is None:
        return {}
    return {
        "lines": tuple(line.meant for line in home.lines),
        "postcode": _meant(home.postcode),
        "no_fixed_abode": (_meant(home.postcode) or "").startswith("ZZ99") or None,
        "uprn": home.uprn,
        "district": home.district,
        "since": home.since,
        "until": home.until,
    }


def _relative(one: Relative) -> dict[str, Any]:
    return {
        "name": one.name.meant,
        "relationship": one.relationship.meant,
        "phone": one.phone.meant,
        "rank": one.rank,
    }


def _need(need: Need) -> dict[str, Any]:
    service, label = SERVICES[need.code]
    text = f"{label}: {need.note.meant}" if need.note else label
    return {"service": service, "text": text, "snomed": _snomed(need.snomed)}


def _snomed(code: str | None) -> list[dict[str, str]]:
    return [{"system": SNOMED, "code": code}] if code else []


def _stay(stay: Stay) -> dict[str, Any]:
    return {
        "visit": stay.visit and {"system": VISITS, "value": stay.visit},
        "site": stay.site,
        "ward": stay.ward.meant,
        "bed": _meant(stay.bed),
        "admitted_on": stay.admitted_on,
        "pathway": stay.pathway,
        "delay_attributed_to": stay.delay,
        "trusted_assessment_suitable": stay.trusted,
        "needs_assessment_attached": stay.assessment,
    }


def _consent(story: Story, answer: Answer) -> dict[str, Any]:
    by = story.consented_by.meant if story.consented_by else None
    return {"answer": None if answer == "not-recorded" else answer, "on": story.consented_on, "by": by}


def _letter(letter: Letter) -> dict[str, Any]:
    digest = hashlib.sha256(letter.content).hexdigest()
    return {"title": letter.title, "media_type": letter.media_type, "size": len(letter.content), "sha256": digest}
