"""Referrals of the canonical data model: each builder returns a complete one, and its arguments replace fields."""

from collections.abc import Sequence
from datetime import date
from typing import Any
from uuid import uuid4

from schemas.model import Reference
from schemas.nhs_number import VerificationStatus
from schemas.referral import (
    Address,
    Attachment,
    Consent,
    Consents,
    HospitalStay,
    HousingNeed,
    Identifier,
    MessageIdentity,
    Organisation,
    Person,
    Reason,
    Referral,
    Referrer,
    RiskFlag,
    Sender,
    ServiceCode,
    UnreadPart,
)
from tests.builders.reference_data import AT_BLABY, DIRECTORY

NUMBER = "9990000026"
YES, NO = Consent(answer="yes"), Consent(answer="no")
GP = Reference("LB-GP00-0000-0001")
WARD = Reference("LB-WARD-0000-0002")
FORM = Reference("LB-F0RM-0000-0003")
PART = UnreadPart(place="RF1-2", kind="value", text="Urgent, cannot wait on the ward")
"""A part of an HL7 v2 message that no rule understands."""


def an_nhs_number() -> str:
    """Return any synthetic number: it begins with 999, which is not issued to real persons."""
    return _synthetic(uuid4().int)


def _synthetic(seed: int) -> str:
    while True:
        digits = f"999{seed % 1_000_000:06d}"
        check = 11 - sum(int(d) * w for d, w in zip(digits, range(10, 1, -1), strict=True)) % 11
        if check != 10:
            return digits + str(0 if check == 11 else check)
        seed += 1


def an_address(postcode: str | None = AT_BLABY, **given: Any) -> Address:
    return Address(lines=("1 Any Street",), postcode=postcode, **given)


def a_person(**given: Any) -> Person:
    any_person: dict[str, Any] = {
        "nhs_number": NUMBER,
        "nhs_number_status": VerificationStatus.VERIFIED,
        "family_name": "Vickers",
        "given_names": ("Violet",),
        "birth_date": date(1946, 3, 4),
        "address": an_address(),
    }
    return Person(**{**any_person, **given})


def a_referral(*services: ServiceCode, postcode: str | None = AT_BLABY, **given: Any) -> Referral:
    """Return a referral by a GP of a person at home."""
    practice = Organisation(ods="C82991", name="Alder Lane Surgery")
    anything: dict[str, Any] = {
        "message": MessageIdentity(format="bars-fhir", message_id="m-1", referral_id="r-1"),
        "sent_by": Sender(partner="gp-alder-lane", organisation=practice),
        "referred_by": Referrer(kind="gp", organisation=practice, name="Dr Any Body"),
        "registered_practice": practice,
        "person": a_person(address=an_address(postcode)),
        "needs": tuple(HousingNeed(service=service) for service in services or ("minor-adaptations",)),
        "consents": Consents(referral=YES, feedback=YES),
        "referred_on": date(2026, 11, 20),
    }
    return Referral(**{**anything, **given})


def a_form(*services: ServiceCode, postcode: str | None = AT_BLABY, **given: Any) -> Referral:
    """Return a checklist of First Contact Plus."""
    first_contact = Organisation(name="First Contact Plus")
    return a_referral(
        *(services or ("fire-safety",)),
        postcode=postcode,
        **{
            "message": MessageIdentity(format="form", message_id="f-1", referral_id="f-1"),
            "sent_by": Sender(partner="first-contact", organisation=first_contact),
            "referred_by": Referrer(kind="first-contact", organisation=first_contact),
            **given,
        },
    )


def a_ward_referral(*services: ServiceCode, site: str | None = "Leicester Royal Infirmary", **given: Any) -> Referral:
    """Return a referral of an inpatient by a discharge team."""
    trust = Organisation(ods="RWE", name="University Hospitals of Leicester")
    return a_referral(
        *(services or ("homelessness",)),
        postcode=given.pop("postcode", AT_BLABY),
        **{
            "message": MessageIdentity(format="hl7v2", message_id="MSG7", referral_id="HOSP7"),
            "sent_by": Sender(partner="uhl", organisation=trust),
            "referred_by": Referrer(kind="hospital-team", organisation=trust, name="Nurse Ward"),
            "registered_practice": None,
            "hospital": HospitalStay(site=site, ward="Ward 23", admitted_on=date(2026, 11, 18)),
            "reason": Reason(text="Found on Ward 23 after a fall"),
            **given,
        },
    )


def a_bradgate_referral(*services: ServiceCode, **given: Any) -> Referral:
    """Return a referral from the restricted unit in which every field that could name the unit does."""
    trust = Organisation(ods="RT5", name="Leicestershire Partnership")
    person = a_person(local_ids=(Identifier(system="urn:lpt", value="BRADGATE-77"),))
    return a_ward_referral(
        *(services or ("arrears-benefits",)),
        **{
            "site": "Bradgate Unit",
            "message": MessageIdentity(format="hl7v2", message_id="BRADGATE-1", referral_id="BRADGATE-REF-1"),
            "sent_by": Sender(partner="lpt", organisation=trust),
            "referred_by": Referrer(kind="hospital-team", organisation=trust, name="Nurse Bradgate"),
            "reason": Reason(text="Admitted to the Bradgate Unit"),
            "person": person,
            "needs": (HousingNeed(service="arrears-benefits", text="arrears since Bradgate"),),
            "consents": Consents(referral=Consent(answer="yes", by="Bradgate ward clerk"), feedback=YES),
            "attachments": (Attachment(reference="bradgate-1", sha256="0" * 64, size=10, title="Bradgate INAT"),),
            **given,
        },
    )


def a_huge_referral() -> Referral:
    """Return a referral of the largest size: an event to a hub with it does not fit on a topic."""
    services = [offer.service for offer in DIRECTORY.services]
    return a_referral(
        needs=tuple(HousingNeed(service=service, text="€" * 10_000) for service in services),
        risk_flags=tuple(RiskFlag(code="SG", text="€" * 10_000) for _ in range(30)),
    )


def keys(count: int) -> Sequence[str]:
    """Return different person keys."""
    return [f"{number:032x}" for number in range(1, count + 1)]


def reference(number: int) -> Reference:
    return Reference(f"LB-0000-0000-{number:04}")
