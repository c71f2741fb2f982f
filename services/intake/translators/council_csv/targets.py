"""Places that a column of a council's file may fill, how its cells are parsed, and the values its codes may mean.

No column can fill other places: the sender, the referrer's organisation, a hospital stay.
"""

import re
from collections.abc import Mapping
from typing import Literal, get_args

from schemas.nhs_number import VerificationStatus
from schemas.referral import ReasonCode
from services.intake.translators.council_csv.cells import Reading
from services.intake.translators.translator import CancelReason

CellKind = Literal[
    "reference",
    "moment",
    "status",
    "name",
    "title",
    "family-name",
    "given-names",
    "address",
    "line",
    "prose",
    "list",
    "date",
    "yes-no",
    "nhs-number",
    "postcode",
    "phone",
    "textphone",
    "uprn",
    "ods",
    "ons",
    "choice",
    "needs",
    "flags",
]
"""Selects the parser of a cell."""

READINGS: Mapping[CellKind, Reading] = {
    **dict.fromkeys(get_args(CellKind), "code"),
    **dict.fromkeys(
        (
            "name",
            "title",
            "family-name",
            "given-names",
            "address",
            "line",
            "list",
            "phone",
            "textphone",
            "needs",
            "flags",
        ),
        "words",
    ),
    "prose": "text",
}
"""How a cell is cleaned, by its kind. Codes of several needs may stand on several lines."""

SPECIAL_TARGETS: Mapping[str, CellKind] = {
    "reference": "reference",
    "changed_on": "moment",
    "status": "status",
    "name": "name",
    "address": "address",
}
"""Targets that are not one place: the row's identity, its last change, whether it is open, a name, an address."""

FEEDS: Mapping[str, tuple[str, ...]] = {
    "reference": ("message.referral_id",),
    "changed_on": ("message.sent_at",),
    "status": (),
    "name": ("person.title", "person.given_names", "person.family_name"),
    "address": ("person.address.lines", "person.address.postcode"),
}
"""Places of the referral that the special targets fill."""

_STAGES = ("ot_assessment", "ss127", "application", "approval", "works", "completion")
_CONSENTS = ("referral", "feedback", "evaluation")

TARGETS: Mapping[str, CellKind] = {
    **SPECIAL_TARGETS,
    "person.nhs_number": "nhs-number",
    "person.nhs_number_status": "choice",
    "person.family_name": "family-name",
    "person.given_names": "given-names",
    "person.title": "title",
    "person.birth_date": "date",
    "person.gender": "choice",
    "person.phone": "phone",
    "person.email": "line",
    "person.language": "line",
    "person.interpreter_needed": "yes-no",
    "person.communication_needs": "list",
    **{f"person.address.lines.{at}": "line" for at in range(8)},
    "person.other_contact_points": "textphone",
    **{f"person.preferred_contact.{what}": "line" for what in ("method", "times", "written_format")},
    "person.restricted_access": "yes-no",
    "person.death_reported": "yes-no",
    "person.death_reported.died_on": "date",
    **{f"person.temporary_address.lines.{at}": "line" for at in range(8)},
    "person.temporary_address.postcode": "postcode",
    "person.address.postcode": "postcode",
    "person.address.no_fixed_abode": "yes-no",
    "person.address.uprn": "uprn",
    "person.address.district": "ons",
    "registered_practice.name": "line",
    "registered_practice.ods": "ods",
    "referred_by.name": "line",
    "referred_by.phone": "phone",
    **{f"contacts.{at}.{what}": "line" for at in range(2) for what in ("name", "relationship")},
    **{f"contacts.{at}.phone": "phone" for at in range(2)},
    "needs": "needs",
    "reason.code": "choice",
    "reason.text": "prose",
    "priority": "choice",
    "named_authority": "ons",
    "grant.category": "choice",
    **{f"grant.{stage}_on": "date" for stage in _STAGES},
    **{f"consents.{question}.answer": "choice" for question in _CONSENTS},
    **{f"consents.{question}.on": "date" for question in _CONSENTS},
    **{f"consents.{question}.by": "line" for question in _CONSENTS},
    "risk_flags": "flags",
    "enquired_on": "date",
    "referred_on": "date",
}
"""Kind of cell by place that a column may fill."""

FREE_TEXTS = frozenset(
    {
        "reason.text",
        "person.communication_needs",
        *(place for place in TARGETS if place.startswith("person.preferred_contact")),
    }
)
"""Places of a person's own words, which may begin with any sign."""

OPEN = "open"
YES_NO: Mapping[str, str] = {
    "yes": "yes",
    "y": "yes",
    "true": "yes",
    "1": "yes",
    **dict.fromkeys("✓✔☑", "yes"),
    "no": "no",
    "n": "no",
    "false": "no",
    "0": "no",
    **dict.fromkeys("✗✘☐", "no"),
}
"""Default codes of yes and no. A cross such as x is a tick to some and a no to others: `ticks` of a file."""

_ANSWERS = frozenset({"yes", "no", "not-recorded"})
_CHOICES: Mapping[str, frozenset[str]] = {
    "status": frozenset({OPEN, *map(str, get_args(CancelReason))}),
    "person.nhs_number_status": frozenset(VerificationStatus) - {VerificationStatus.FAILED_CHECK},
    "person.gender": frozenset({"male", "female", "other", "unknown"}),
    "reason.code": frozenset(ReasonCode),
    "priority": frozenset({"routine", "urgent", "asap", "stat"}),
    "grant.category": frozenset("ABC"),
}
_ONS = re.compile(r"[EWSN][0-9]{8}")

CANCELS: Mapping[str, CancelReason] = {str(reason): reason for reason in get_args(CancelReason)}


def takes_codes(kind: CellKind) -> bool:
    """Return whether cells of this kind may be codes with meanings."""
    return kind in ("choice", "status", "yes-no", "ons")


def may_mean(place: str, value: str) -> bool:
    """Return whether a code for this place may mean this value."""
    kind = TARGETS[place]
    if kind == "ons":
        return _ONS.fullmatch(value) is not None
    if kind == "yes-no":
        return value in ("yes", "no")
    return value in (_ANSWERS if place.endswith(".answer") else _CHOICES.get(place, frozenset()))


def accepts_yes_no(place: str) -> bool:
    """Return whether the place accepts yes and no without codes."""
    return TARGETS[place] == "yes-no" or place.endswith(".answer")
