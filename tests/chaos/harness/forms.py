"""Completed forms: each form's own names as in docs/partners."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class FormFields:
    """The names of a form for the fields that plans vary. `referrer`: the required fields about the referrer."""

    needs: Sequence[str]
    referrer: Fields
    practice: str = ""
    authority: str = "named_authority"
    has_status: bool = True
    day: str = "referred_on"


NURSE = {"referrer_name": "Sister Ngozi Okafor", "referrer_phone": "0116 496 0002"}
TEAM = NURSE | {"referrer_organisation": "Any Team"}

FORM_FIELDS: Mapping[str, FormFields] = {
    "first-contact-plus": FormFields(("grab_rails", "falls", "warm_home", "benefits"), NURSE, "practice_ods"),
    "customer-service": FormFields(("grab_rails", "bathing", "benefits", "moving"), TEAM, "referrer_organisation_ods"),
    "neighbourhood": FormFields(("fire_safety", "benefits", "hoarding", "falls"), TEAM, "referrer_organisation_ods"),
    "self": FormFields(("rails", "money", "warm", "falls"), {}, "", "chosen_council", has_status=False, day=""),
    "hospital-discharge": FormFields(("rent_deposit", "grab_rails", "furniture", "key_safe"), NURSE),
}
HELPER = {"helper_name": "Carl Vance", "helper_phone": "01632 960001"}
SITES = {"uhl": ("leicester-royal-infirmary", "glenfield"), "lpt": ("bradgate-unit", "bradgate-unit")}


@dataclass(frozen=True)
class FormContent:
    """The values of a form, independent of its names."""

    form: str
    partner: str
    reference: str
    asker: str
    practice: str
    completed_at: str
    day: int
    postcode: str
    need: int
    number: str | None
    verified: bool
    consents: bool
    names: str
    discharged: bool


def fill(it: FormContent) -> Fields:
    """Return the completed form."""
    paper = FORM_FIELDS[it.form]
    status = ("verified" if it.verified else "not-traced") if it.number and paper.has_status else None
    given: dict[str, Any] = {
        "reference": it.reference,
        "completed_at": it.completed_at,
        "referred_by": it.asker,
        **paper.referrer,
        **(HELPER if it.asker == "carer" else {}),
        paper.practice: it.practice or None,
        paper.authority: it.names or None,
        paper.day: f"2026-11-0{it.day}",
        "nhs_number": it.number,
        "nhs_number_status": status,
        "given_names": ["Ada"],
        "family_name": "Vance",
        "birth_date": "1944-02-29",
        "address": ["1 Any Lane", "Any Town"],
        "postcode": it.postcode,
        "phone": "0116 496 0001",
        "needs": {paper.needs[it.need % len(paper.needs)]: True},
        "consents": {"referral": "yes", "feedback": "yes" if it.consents else "no", "on": "2026-11-01", "by": "Any"},
        **(_stay(it) if it.form == "hospital-discharge" else {}),
    }
    return {name: value for name, value in given.items() if name and value is not None}


def _stay(it: FormContent) -> Fields:
    return {
        "site": SITES[it.partner][it.day % 2],
        "ward": "Any ward",
        "reason": "homelessness",
        "admitted_on": f"2026-10-2{it.day}",
        "discharged_on": "2026-11-05" if it.discharged else None,
    }
