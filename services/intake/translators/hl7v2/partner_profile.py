"""The reviewed file of a partner: the fields that its hospital systems use, and the meanings of their local codes.

`infra/reference_data/hl7v2/<partner>.yaml`. The other modules of this package contain what the standard fixes.
"""

from collections.abc import Mapping
from datetime import date
from functools import cached_property, lru_cache
from typing import Annotated, Literal, TypeVar

from pydantic import Field, StringConstraints, model_validator

from schemas.case import EndReason
from schemas.model import PartnerId, ShortText, StrictInput
from schemas.referral import ReasonCode
from services.reference.directory import OfferedService
from services.reference.yaml_files import Code

T = TypeVar("T")

FieldPath = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9]{2}-[1-9][0-9]{0,2}(\.[1-9][0-9]?)?$")]
"""A field or component, such as PV1-3.4; a field alone means its first component."""

Value = bool | int | str
Encoding = Literal["utf-8", "windows-1252", "iso8859-15"]


class SenderMatch(StrictInput):
    """A system that sends for the partner."""

    application: ShortText | None = Field(None, description="MSH-3, its first component")
    facility: ShortText | None = Field(None, description="MSH-4, its first component")

    @model_validator(mode="after")
    def _requires_application_or_facility(self) -> "SenderMatch":
        if self.application is None and self.facility is None:
            raise ValueError("an application or a facility is required")
        return self


class ReceiverMatch(StrictInput):
    """A name of this service in the partner's messages."""

    application: ShortText | None = Field(None, description="MSH-5, its first component")
    facility: ShortText | None = Field(None, description="MSH-6, its first component")


class ObservationMeaning(StrictInput):
    """The meaning of an observation or local field: a place of the referral, a need or a risk flag."""

    label: ShortText = Field(description="Label for people")
    to: str | None = Field(
        None, description="Place of the referral that it fills; needs or reason.code: by their codes"
    )
    need: OfferedService | None = Field(None, description="Service that is requested if the value is yes")
    flag: ShortText | None = Field(None, description="Risk flag that is set if the value is yes")
    values: dict[Code, Value] = Field(
        {}, description="Meaning of each coded value; not needed for dates, texts, Y and N"
    )
    otherwise: Value | None = Field(
        None, description="Meaning of any other code; without it a person reads another code"
    )

    @model_validator(mode="after")
    def _one_meaning(self) -> "ObservationMeaning":
        if sum(one is not None for one in (self.to, self.need, self.flag)) != 1:
            raise ValueError("exactly one of to, need and flag is required")
        return self

    @cached_property
    def meanings(self) -> Mapping[str, Value]:
        return normalise_keys(self.values)


class NeedMeaning(StrictInput):
    """The need that a local code means."""

    service: OfferedService = Field(description="Service that meets it")
    label: ShortText | None = Field(None, description="Text of the need, before the sender's text")


class CodedNeeds(StrictInput):
    """Local codes of needs, and the fields that contain them."""

    read_from: tuple[FieldPath, ...] = Field((), description="Fields that contain the codes")
    codes: dict[Code, NeedMeaning] = Field({}, description="By local code")

    @cached_property
    def meanings(self) -> Mapping[str, NeedMeaning]:
        return normalise_keys(self.codes)


class CodedReasons(StrictInput):
    """Local codes of reasons, and the fields that contain them."""

    read_from: tuple[FieldPath, ...] = Field((), description="Fields that contain the codes")
    codes: dict[Code, ReasonCode] = Field({}, description="By local code")

    @cached_property
    def meanings(self) -> Mapping[str, ReasonCode]:
        return normalise_keys(self.codes)


CancelCode = Literal[EndReason.CANCELLED_BY_REFERRER, EndReason.REFERRED_IN_ERROR, EndReason.CONSENT_WITHDRAWN]


class CodedCancels(StrictInput):
    """Local codes of cancel reasons; any other code means cancelled by the referrer."""

    read_from: tuple[FieldPath, ...] = Field((), description="Fields that contain the codes, in this order")
    codes: dict[Code, CancelCode] = Field({}, description="By local code")

    @cached_property
    def meanings(self) -> Mapping[str, CancelCode]:
        return normalise_keys(self.codes)


class Sites(StrictInput):
    """The field of the site, and the meanings of its codes; other codes are used as sent."""

    read_from: FieldPath = Field(description="Such as PV1-3.4 or MSH-4")
    codes: dict[Code, ShortText] = Field({}, description="Site of infra/reference_data/hubs.yaml, by local code")

    @cached_property
    def meanings(self) -> Mapping[str, str]:
        return normalise_keys(self.codes)


class TextField(StrictInput):
    """A field whose text is added to the reason."""

    read_from: FieldPath = Field(description="Field; the text of a CE is its second component, if it has one")
    label: ShortText = Field(description="Label before the text")
    values: dict[Code, ShortText] = Field({}, description="Texts of coded values")

    @cached_property
    def meanings(self) -> Mapping[str, str]:
        return normalise_keys(self.values)


class Note(StrictInput):
    """The place for notes of a type (NTE-4)."""

    to: Literal["reason.text", "person.communication_needs", "unread"] = Field(
        description="Place that they fill; unread: they are ignored"
    )
    label: ShortText | None = Field(None, description="Label before the text")


class ReferrerFields(StrictInput):
    """The fields of the referrer in PRD."""

    roles: tuple[Code, ...] = Field(("RP",), description="PRD-1 of the referrer")
    organisation: FieldPath | None = Field(
        None, description="ODS code of the referrer's organisation, if it may differ from the partner"
    )
    identifiers: dict[Code, ShortText] = Field({}, description="URI of the identifier system, by the type in PRD-7.2")

    @cached_property
    def systems(self) -> Mapping[str, str]:
        return normalise_keys(self.identifiers)


class PracticeFields(StrictInput):
    """The fields of the registered practice and the GP."""

    ods: tuple[FieldPath, ...] = Field(
        ("PD1-3.3", "PD1-3.10"), description="ODS code of the practice: the first valid one"
    )
    name: FieldPath | None = Field("PD1-3.1", description="Name of the practice")
    gp: FieldPath = Field("PD1-4", description="Name of the GP (XCN)")


Destination = Literal["home", "another-hospital", "died"]
"""Where a discharge leads: to where the person lives, or is cared for; to another organisation's hospital."""

_OTHER_HOSPITALS = ("48", "49", "50", "51", "52", "53", "84", "87")
DESTINATIONS: Mapping[str, Destination] = {**dict.fromkeys(_OTHER_HOSPITALS, "another-hospital"), "79": "died"}
"""Discharge destinations of the NHS Data Dictionary that are hospitals of other organisations, or a death."""


class PartnerProfile(StrictInput):
    """One partner's use of HL7 v2."""

    partner: PartnerId = Field(description="Partner in partners.yaml; also the name of this file")
    title: ShortText = Field(description="Title for people")
    encoding: Encoding = Field("utf-8", description="Character encoding if MSH-18 is empty or ASCII")
    senders: tuple[SenderMatch, ...] = Field(
        (), description="Systems that send for the partner; if empty: any that names itself"
    )
    receivers: tuple[ReceiverMatch, ...] = Field(
        (), description="Names of this service: a message for another is refused; if empty: any"
    )
    test_until: date | None = Field(
        None,
        description="Last day on which test messages (MSH-11 T or D) are answered as others are, without any effect; "
        "else they are rejected",
    )
    referral_id: FieldPath = Field("RF1-6", description="Originating referral identifier")
    referral_authority: tuple[FieldPath, ...] | None = Field(
        None,
        description="Authority within which the identifier is unique: the first field with a value; by default the "
        "second or third component after an identifier in the first; if empty: the partner",
    )
    updates: Literal["changes", "whole"] = Field(
        "changes", description="Whether REF^I12 and REF^I13 say what has changed, or the whole referral"
    )
    nhs_types: tuple[Code, ...] = Field(("NHS", "NH"), description="PID-3.5 of an NHS number")
    nhs_authorities: tuple[Code, ...] = Field(
        ("NHS", "2.16.840.1.113883.2.1.4.1"),
        description="PID-3.4, or a part of it, of an NHS number without a type in PID-3.5",
    )
    nhs_fields: tuple[FieldPath, ...] = Field(
        (), description="Further fields with the NHS number, such as PID-2, which is read in version 2.2 without this"
    )
    nhs_status: tuple[FieldPath, ...] = Field(
        ("PID-32",), description="Verification status of the NHS number; a component of PID-3 is that of its number"
    )
    local_ids: dict[Code, ShortText] = Field({}, description="URI of the identifier system, by PID-3.5 or else PID-3.4")
    names: dict[Code, Literal["current", "other"]] = Field(
        {}, description="Further types of names (PID-5.7): the current one, or another (previous, birth, alias)"
    )
    sexes: dict[Code, Literal["male", "female", "other", "unknown"]] = Field({}, description="Further codes of PID-8")
    languages: dict[Code, ShortText] = Field({}, description="BCP 47 language tags by code of PID-15")
    home_addresses: tuple[Code, ...] = Field(("H", "HOME", "P", "PERM"), description="PID-11.7 of the home address")
    temporary_addresses: tuple[Code, ...] = Field(("C", "TMP", "TEMP"), description="PID-11.7 of a temporary address")
    practice: PracticeFields = Field(PracticeFields(), description="Registered practice and GP")
    stay_classes: tuple[Code, ...] = Field(
        ("I",), description="PV1-2 of an inpatient stay; an empty PV1-2 means a stay"
    )
    not_stay_classes: tuple[Code, ...] = Field(
        ("O", "E", "P", "R"), description="PV1-2 of a person who is not staying; a person reads any other class"
    )
    restricted_vips: tuple[Code, ...] = Field((), description="PV1-16 of a person whose data are restricted")
    site: Sites | None = Field(None, description="Hospital site")
    referrer: ReferrerFields = Field(ReferrerFields(), description="Referrer")
    priorities: dict[Code, Literal["routine", "urgent", "asap", "stat"]] = Field(
        {}, description="Further codes of RF1-2, beyond table 0280"
    )
    needs: CodedNeeds = Field(CodedNeeds(), description="Local codes of needs")
    reasons: CodedReasons = Field(CodedReasons(), description="Local codes of reasons")
    reason_fields: tuple[TextField, ...] = Field((), description="Fields whose text is added to the reason")
    notes: dict[Code, Note] = Field({}, description="Notes by type (NTE-4); any other type: reason.text")
    observations: dict[Code, ObservationMeaning] = Field(
        {}, description="Meanings by code of OBX-3; other codes are not read"
    )
    fields: dict[FieldPath, ObservationMeaning] = Field({}, description="Local fields, also of Z-segments")
    cancels: CodedCancels = Field(CodedCancels(), description="Cancel reasons")

    destinations: dict[Code, Destination] = Field(
        {}, description="Further codes of PV1-36 and PV1-37, beyond those of the NHS Data Dictionary"
    )

    @cached_property
    def destination_codes(self) -> Mapping[str, Destination]:
        return {**DESTINATIONS, **normalise_keys(self.destinations)}

    def destination(self, code: str) -> Destination | None:
        """Return where a discharge with this code leads, or None if it is not known."""
        return self.destination_codes.get(fold(code))

    @cached_property
    def id_systems(self) -> Mapping[str, str]:
        return normalise_keys(self.local_ids)

    @cached_property
    def name_types(self) -> Mapping[str, str]:
        return normalise_keys(self.names)

    @cached_property
    def sex_codes(self) -> Mapping[str, str]:
        return normalise_keys(self.sexes)

    @cached_property
    def language_codes(self) -> Mapping[str, str]:
        return normalise_keys(self.languages)

    @cached_property
    def priority_codes(self) -> Mapping[str, str]:
        return normalise_keys(self.priorities)

    @cached_property
    def observation_meanings(self) -> Mapping[str, ObservationMeaning]:
        return normalise_keys(self.observations)

    @cached_property
    def note_types(self) -> Mapping[str, Note]:
        return normalise_keys(self.notes)

    def is_one(self, codes: tuple[str, ...], code: str | None) -> bool:
        """Return whether the code is one of these, ignoring case and blanks."""
        return code is not None and fold(code) in _normalised(codes)

    @cached_property
    def authority_fields(self) -> tuple[str, ...]:
        """The fields of the authority of the originating referral identifier."""
        if self.referral_authority is not None:
            return self.referral_authority
        field, _, component = self.referral_id.partition(".")
        return (f"{field}.2", f"{field}.3") if component in ("", "1") else ()

    @property
    def field_paths(self) -> list[str]:
        """The fields that this file adds to those of every partner."""
        named = [self.referral_id, *self.authority_fields, self.practice.gp, *self.practice.ods, *self.fields]
        named += [*self.nhs_fields, *self.nhs_status]
        optional = [self.practice.name, self.referrer.organisation, self.site.read_from if self.site else None]
        listed = [
            *self.needs.read_from,
            *self.reasons.read_from,
            *self.cancels.read_from,
            *(w.read_from for w in self.reason_fields),
        ]
        return [*named, *listed, *(place for place in optional if place)]


def fold(code: str) -> str:
    """Return a code without blanks and case, as codes are compared."""
    return "".join(code.split()).casefold()


@lru_cache
def _normalised(codes: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(fold, codes))


def normalise_keys(codes: Mapping[str, T]) -> dict[str, T]:
    """Return the table by folded codes."""
    return {fold(code): meaning for code, meaning in codes.items()}
