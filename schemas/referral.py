"""The canonical Referral: a request by one professional or organisation for housing support for one person."""

from datetime import date
from enum import StrEnum
from operator import not_
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StringConstraints, model_validator

from schemas.model import Immutable, LongText, OdsCode, OnsCode, PartnerId, ShortText
from schemas.nhs_number import NhsNumber, VerificationStatus

ServiceCode = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z][a-z0-9-]{1,39}$", max_length=40),
    Field(description="A code of the Lightbulb service catalogue"),
]
"""Code of a service that Lightbulb offers or arranges.

The contract checks the form of a code only; intake and the router check it against infra/reference_data/services.yaml.
"""

INFORMATION_ADVICE: ServiceCode = "information-advice"
"""Need that is assumed if a referral does not name a service. Every catalogue has this code."""

DISABLED_FACILITIES_GRANT: ServiceCode = "disabled-facilities-grant"
"""Service that the stages of a grant belong to. Every catalogue has this code."""


class ReasonCode(StrEnum):
    """Why the person was referred: Lightbulb's categories (no national code system has them)."""

    FALLS = "falls"
    COLD_OR_DAMP_HOME = "cold-or-damp-home"
    DIFFICULTY_AT_HOME = "difficulty-at-home"
    HOMELESSNESS = "homelessness"
    HOME_NO_LONGER_SUITABLE = "home-no-longer-suitable"
    FAMILY_REFUSING_RETURN = "family-refusing-return"
    HOARDING = "hoarding"
    RENT_ARREARS = "rent-arrears"
    DISCHARGE_FROM_HOSPITAL = "discharge-from-hospital"
    OTHER = "other"


class Identifier(Immutable):
    """A business identifier as its owner gave it."""

    system: ShortText | None = Field(
        None, description="URI of the identifier system, such as https://fhir.nhs.uk/Id/sds-user-id"
    )
    value: ShortText = Field(description="Identifier in that system")


class Coding(Immutable):
    """A code with the system that defines it (FHIR Coding)."""

    system: ShortText = Field(description="URI of the code system, such as http://snomed.info/sct")
    code: ShortText = Field(description="Code in that system")
    display: ShortText | None = Field(None, description="Display text as the sender gave it")


class Organisation(Immutable):
    """An organisation of health or local government."""

    ods: OdsCode | None = Field(None, description="ODS code (https://fhir.nhs.uk/Id/ods-organization-code)")
    name: ShortText | None = Field(None, description="Name as the sender or the directory gives it")


class Sender(Immutable):
    """Partner whose system delivered the message: taken from the credential, never from the message."""

    partner: PartnerId = Field(description="Partner in infra/reference_data/partners.yaml")
    organisation: Organisation = Field(description="Its organisation in that file")


ReferrerKind = Literal[
    "gp",
    "clinician",
    "hospital-team",
    "first-contact",
    "customer-service",
    "council",
    "coordinator",
    "carer",
    "family",
    "self",
    "other",
]


class Referrer(Immutable):
    """Professional or person who made the referral, and who may receive feedback."""

    kind: ReferrerKind = Field(description="Relation to the person: decides which feedback they receive")
    organisation: Organisation | None = Field(
        None, description="Their organisation; none for a carer, family or the person"
    )
    name: ShortText | None = Field(None, description="Name of the professional or person who made the referral")
    identifier: Identifier | None = Field(None, description="Professional identifier: GMC, GMP, NMC, SDS user")
    phone: ShortText | None = Field(None, description="Telephone number for calls from a hub")


class Address(Immutable):
    """An address of the person: home or temporary."""

    lines: tuple[ShortText, ...] = Field((), max_length=10, description="Address lines without the postcode")
    postcode: ShortText | None = Field(
        None, description="Postcode in capitals with one blank, such as LE11 5AA (BS 7666)"
    )
    no_fixed_abode: bool = Field(
        False, description="True for a ZZ99 postcode or a coded 'no fixed abode' (SNOMED 224226001): a valid address"
    )
    uprn: Annotated[str, Field(pattern=r"^[0-9]{1,12}$")] | None = Field(
        None, description="Unique Property Reference Number as given; passed on, not looked up"
    )
    district: OnsCode | None = Field(None, description="ONS district code as a council gave it")
    since: date | None = Field(None, description="First day at the address, if a whole date was stated (FHIR period)")
    until: date | None = Field(None, description="Last day at the address, if a whole date was stated (FHIR period)")


class ContactPoint(Immutable):
    """A further way to reach the person (FHIR ContactPoint)."""

    system: Literal["phone", "email", "sms", "textphone", "pager", "fax", "other"] = Field(
        description="What it is: `textphone` stands for minicom too (UK Core OtherContactSystem, HL7 XTN-3 TDD)"
    )
    value: ShortText = Field(description="Number or address as given")
    use: Literal["home", "work", "temp", "mobile"] | None = Field(None, description="FHIR ContactPointUse, if stated")


class ContactPreference(Immutable):
    """How the person wants to be contacted (UK Core ContactPreference, DCB1605 Accessible Information)."""

    method: ShortText | None = Field(None, description="Preferred method, such as `letter` or `no telephone contact`")
    times: ShortText | None = Field(None, description="When, in the sender's words, such as `not before 11`")
    written_format: ShortText | None = Field(None, description="Format of written texts, such as `large print`")


class DeathReport(Immutable):
    """A sender's statement that the person has died. It is reported, not confirmed."""

    died_on: date | None = Field(None, description="Date of death; none if it was not stated as a whole date")


class Person(Immutable):
    """Who the referral is for, as this sender described them."""

    nhs_number: NhsNumber | None = Field(
        None, description="NHS number, ten digits (https://fhir.nhs.uk/Id/nhs-number), or none"
    )
    nhs_number_status: VerificationStatus = Field(
        VerificationStatus.NOT_STATED, description="Verification status as the sender stated it"
    )
    local_ids: tuple[Identifier, ...] = Field(
        (), max_length=20, description="Identifiers of the sender, such as a hospital number"
    )
    family_name: ShortText | None = Field(None, description="Family name (FHIR HumanName.family, HL7 PID-5.1)")
    given_names: tuple[ShortText, ...] = Field((), max_length=10, description="Given names in order")
    title: ShortText | None = Field(None, description="Title, such as Mrs")
    birth_date: date | None = Field(None, description="Date of birth (ISO 8601)")
    gender: Literal["male", "female", "other", "unknown"] | None = Field(
        None, description="Administrative gender (FHIR AdministrativeGender)"
    )
    address: Address | None = Field(
        None, description="Home address; the temporary one if only that was given; none if not given"
    )
    temporary_address: Address | None = Field(
        None,
        description="Where the person lives at present, if a home was given too (FHIR address use temp, HL7 PID-11.7 C)",
    )
    phone: ShortText | None = Field(None, description="Telephone number as given")
    email: ShortText | None = Field(None, description="E-mail address as given")
    other_contact_points: tuple[ContactPoint, ...] = Field(
        (), max_length=20, description="Every other way to reach the person, the preferred one first"
    )
    preferred_contact: ContactPreference | None = Field(None, description="How the person wants to be contacted")
    language: ShortText | None = Field(None, description="Language they speak (BCP 47, or the sender's words)")
    interpreter_needed: bool | None = Field(None, description="Whether an interpreter is needed; none if not stated")
    communication_needs: tuple[ShortText, ...] = Field(
        (), max_length=20, description="Such as 'hard of hearing' (DCB1605 Accessible Information)"
    )
    restricted_access: bool | None = Field(
        None,
        description="True if the person's data are restricted: only the holder's hub may see address and telephone "
        "(FHIR meta.security R or V, HL7 PD1-12 or ARV); false lifts the sender's own restriction; none if not stated",
    )
    death_reported: DeathReport | None = Field(None, description="Report of the person's death; none if none was made")
    vouched_by: Literal["sender", "nobody"] = Field(
        "sender",
        description="Who vouches for the identity: `nobody` for a public form (`vouches` in partners.yaml)",
    )


class Contact(Immutable):
    """Next of kin or carer (FHIR Patient.contact, HL7 NK1)."""

    name: ShortText | None = Field(None, description="Their name")
    relationship: ShortText | None = Field(None, description="Relationship to the person")
    phone: ShortText | None = Field(None, description="Their telephone number")
    rank: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Order of preference, 1 first, if stated (UK Core ContactRank)"
    )


class HousingNeed(Immutable):
    """One requested service. A referral names each service once."""

    service: ServiceCode = Field(
        description="Service that would meet this need, as a code of the Lightbulb service catalogue"
    )
    text: LongText | None = Field(None, description="What the sender wrote about it")
    snomed: tuple[Coding, ...] = Field((), max_length=20, description="SNOMED CT codes that the sender gave for it")


class Reason(Immutable):
    """Why the person was referred."""

    code: ReasonCode | None = Field(None, description="Lightbulb's category")
    text: LongText | None = Field(None, description="Text as the sender wrote it")
    snomed: tuple[Coding, ...] = Field((), max_length=20, description="SNOMED CT codes that the sender gave")


class HospitalStay(Immutable):
    """Hospital stay of the person. Of all hubs, only hospital teams receive it."""

    visit: Identifier | None = Field(
        None, exclude_if=not_, description="Visit number of the hospital, which identifies the stay (HL7 PV1-19)"
    )

    site: ShortText | None = Field(
        None, description="Site: ODS site code or the local name in infra/reference_data/hubs.yaml"
    )
    ward: ShortText | None = Field(None, description="Ward (HL7 PV1-3.1)")
    bed: ShortText | None = Field(None, description="Room and bed (HL7 PV1-3.2, 3.3)")
    admitted_on: date | None = Field(None, description="Date of admission (HL7 PV1-44)")
    pathway: Literal[0, 1, 2, 3] | None = Field(
        None, description="Discharge pathway: 0 home, 1 home with support, 2 bedded rehabilitation, 3 long-term care"
    )
    delay_attributed_to: Literal["nhs", "social-care", "both"] | None = Field(
        None, description="Organisations that a delayed transfer is attributed to"
    )
    trusted_assessment_suitable: bool | None = Field(
        None, description="Whether a trusted assessor may assess on the ward"
    )
    needs_assessment_attached: bool | None = Field(
        None, description="Whether an assessment (INAT) came with the referral"
    )
    admission_cancelled: bool = Field(
        False,
        exclude_if=not_,
        description="True if the hospital cancelled the admission (HL7 ADT^A11): the stay is over",
    )
    moved_to: ShortText | None = Field(
        None,
        exclude_if=not_,
        description="Another organisation's hospital that the person was discharged to: the stay continues there",
    )


class GrantProgress(Immutable):
    """Stages of a disabled facilities grant that a council reports as reached."""

    category: Literal["A", "B", "C"] | None = Field(
        None, description="A equipment, B building works up to 10,000 pounds, C more"
    )
    ot_assessment_on: date | None = Field(None, description="Assessed by an occupational therapist")
    ss127_on: date | None = Field(None, description="SS127 recommendation made to the district")
    application_on: date | None = Field(None, description="Application received")
    approval_on: date | None = Field(None, description="Grant approved")
    works_on: date | None = Field(None, description="Works begun")
    completion_on: date | None = Field(None, description="Works certified complete")


class Consent(Immutable):
    """One consent of the person: yes, no or not recorded."""

    answer: Literal["yes", "no", "not-recorded"] = Field("not-recorded", description="The person's answer")
    on: date | None = Field(None, description="Date of the answer")
    by: ShortText | None = Field(None, description="Who recorded it")


class Consents(Immutable):
    """Three separate consents; none is inferred from another."""

    referral: Consent = Field(Consent(), description="To share with the housing authority and to be contacted")
    feedback: Consent = Field(Consent(), description="To inform the GP or referrer of what was found and done")
    evaluation: Consent = Field(Consent(), description="To use the outcome in evaluating the service")


class RiskFlag(Immutable):
    """Warning for staff who visit. Never part of feedback."""

    code: ShortText = Field(
        description="BaRS flag category (https://fhir.nhs.uk/CodeSystem/flag-categories-bars), SNOMED code or local code"
    )
    text: LongText | None = Field(None, description="Text as the sender wrote it")


class Attachment(Immutable):
    """Document that came with the referral. It stays in intake; the holder fetches it with an authorised GET."""

    reference: ShortText = Field(description="Reference that intake serves it under: /attachments/{reference}")
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = Field(description="SHA-256 of its bytes")
    size: Annotated[int, Field(ge=0)] = Field(description="Size in bytes")
    media_type: ShortText | None = Field(None, description="Media type as the sender gave it (RFC 6838)")
    title: ShortText | None = Field(None, description="Title of the document")


class UnreadPart(Immutable):
    """A part of the message that could change its meaning and that no rule understands: a person reads it."""

    place: ShortText = Field(description="Place in the message, such as RF1-2")
    kind: ShortText = Field(description="Kind of the fault (FHIR issue type), such as `value`")
    text: LongText | None = Field(None, description="The part as the sender wrote it, if it can be shown")


class MessageIdentity(Immutable):
    """Identity of the sender's message."""

    format: Literal["bars-fhir", "hl7v2", "form", "council-csv"] = Field(
        description="Format of the message, which names the translator"
    )
    message_id: ShortText = Field(
        description="The sender's identifier of the message: Bundle.id, MSH-10, form reference, row reference"
    )
    referral_id: ShortText = Field(
        description="The sender's identifier of the referral; unique together with the partner"
    )
    sent_at: AwareDatetime | None = Field(None, description="Time when the sender created it, by the sender's clock")


class Referral(Immutable):
    """Canonical data model of a referral: every translator produces it, events carry it."""

    message: MessageIdentity = Field(description="Identity of the message")
    sent_by: Sender = Field(description="Partner whose system delivered it (authenticated)")
    referred_by: Referrer = Field(description="Professional or person who made the referral")
    registered_practice: Organisation | None = Field(None, description="Registered GP practice of the person")
    person: Person = Field(description="Person whom it is for")
    contacts: tuple[Contact, ...] = Field((), max_length=20, description="Next of kin and carers")
    needs: tuple[HousingNeed, ...] = Field((), max_length=50, description="Requested services; each service once")
    reason: Reason = Field(Reason(), description="Why the person was referred")
    priority: Literal["routine", "urgent", "asap", "stat"] = Field("routine", description="FHIR RequestPriority")
    named_authority: OnsCode | None = Field(
        None, description="Housing authority that the person chose (duty to refer, Housing Act 1996 s.213B)"
    )
    hospital: HospitalStay | None = Field(None, description="Hospital stay, if a hospital referred an inpatient")
    grant: GrantProgress | None = Field(None, description="Disabled facilities grant, if a council reports one")
    consents: Consents = Field(Consents(), description="What the person agreed to")
    risk_flags: tuple[RiskFlag, ...] = Field((), max_length=30, description="Warnings for staff who visit")
    to_be_read: tuple[UnreadPart, ...] = Field(
        (),
        max_length=50,
        exclude_if=not_,
        description="Parts that a person has to read before the referral is routed (HL7 v2; other formats refuse them)",
    )
    attachments: tuple[Attachment, ...] = Field((), max_length=20, description="Documents that came with it")
    enquired_on: date | None = Field(None, description="First enquiry: DFG times count from this date")
    referred_on: date | None = Field(None, description="Date when the referrer made the referral")
    ready_for_transfer_on: date | None = Field(None, description="Medically ready to leave hospital")
    expected_discharge_on: date | None = Field(None, description="Expected date of discharge (HL7 PV2-9)")
    discharged_on: date | None = Field(None, description="Date of discharge (HL7 PV1-45): the stay is over")

    @model_validator(mode="after")
    def _each_service_once(self) -> "Referral":
        if len({need.service for need in self.needs}) != len(self.needs):
            raise ValueError("a service is named twice in needs")
        return self

    @property
    def is_inpatient(self) -> bool:
        """True during a hospital stay: one is stated, and neither a discharge, except to another hospital, nor its cancel."""
        stay = self.hospital
        if stay is None or stay.admission_cancelled:
            return False
        return self.discharged_on is None or stay.moved_to is not None
