"""The reviewed file of a partner: where its hospital systems say what, and what their local codes mean.

`infra/reference_data/hl7v2/<partner>.yaml`. What the standard fixes is not in it: that stands in the modules beside this one.
"""

from collections.abc import Mapping
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
"""A field or component, such as PV1-3.4; a field alone is its first component."""

Value = bool | int | str
Encoding = Literal["utf-8", "windows-1252", "iso8859-15"]


class SenderMatch(StrictInput):
    """A system that sends for the partner."""

    application: ShortText | None = Field(None, description="MSH-3, its first component")
    facility: ShortText | None = Field(None, description="MSH-4, its first component")

    @model_validator(mode="after")
    def _requires_application_or_facility(self) -> "SenderMatch":
        if self.application is None and self.facility is None:
            raise ValueError("an application or a facility is needed")
        return self


class ObservationMeaning(StrictInput):
    """What an observation, or a field of the partner's own, means: a place of the referral, a need, or a warning."""

    label: ShortText = Field(description="As people read it")
    to: str | None = Field(
        None, description="The place of the referral that it fills; needs or reason.code: by their codes"
    )
    need: OfferedService | None = Field(None, description="The service that is asked for where the value says so")
    flag: ShortText | None = Field(None, description="The risk flag that is raised where the value says so")
    values: dict[Code, Value] = Field({}, description="What each coded value means; without: dates and texts, Y and N")
    otherwise: Value | None = Field(None, description="What any other code means; without it another code is a fault")

    @model_validator(mode="after")
    def _one_meaning(self) -> "ObservationMeaning":
        if sum(one is not None for one in (self.to, self.need, self.flag)) != 1:
            raise ValueError("one of to, need and flag is needed")
        return self

    @cached_property
    def meanings(self) -> Mapping[str, Value]:
        return normalise_keys(self.values)


class NeedMeaning(StrictInput):
    """What a local code asks for."""

    service: OfferedService = Field(description="The service that meets it")
    label: ShortText | None = Field(None, description="Words that go with the need, before the sender's own")


class CodedNeeds(StrictInput):
    """Local codes of needs, and the fields that hold them."""

    read_from: tuple[FieldPath, ...] = Field((), description="Fields whose codes are looked up")
    codes: dict[Code, NeedMeaning] = Field({}, description="By local code")

    @cached_property
    def meanings(self) -> Mapping[str, NeedMeaning]:
        return normalise_keys(self.codes)


class CodedReasons(StrictInput):
    """Local codes of reasons, and the fields that hold them."""

    read_from: tuple[FieldPath, ...] = Field((), description="Fields whose codes are looked up")
    codes: dict[Code, ReasonCode] = Field({}, description="By local code")

    @cached_property
    def meanings(self) -> Mapping[str, ReasonCode]:
        return normalise_keys(self.codes)


CancelCode = Literal[EndReason.CANCELLED_BY_REFERRER, EndReason.REFERRED_IN_ERROR, EndReason.CONSENT_WITHDRAWN]


class CodedCancels(StrictInput):
    """Local codes that say why a referral is taken back; any other code: cancelled by the referrer."""

    read_from: tuple[FieldPath, ...] = Field((), description="Fields whose codes are looked up, in this order")
    codes: dict[Code, CancelCode] = Field({}, description="By local code")

    @cached_property
    def meanings(self) -> Mapping[str, CancelCode]:
        return normalise_keys(self.codes)


class Sites(StrictInput):
    """Where the site stands, and what its codes mean; a code that is not here is carried as it is."""

    read_from: FieldPath = Field(description="Such as PV1-3.4 or MSH-4")
    codes: dict[Code, ShortText] = Field({}, description="Site of infra/reference_data/hubs.yaml, by local code")

    @cached_property
    def meanings(self) -> Mapping[str, str]:
        return normalise_keys(self.codes)


class TextField(StrictInput):
    """A field whose words join those of the reason."""

    read_from: FieldPath = Field(description="The field; its words are a CE's second component where it has one")
    label: ShortText = Field(description="What stands before the words")
    values: dict[Code, ShortText] = Field({}, description="Words of coded values")

    @cached_property
    def meanings(self) -> Mapping[str, str]:
        return normalise_keys(self.values)


class Note(StrictInput):
    """What becomes of notes of a type (NTE-4)."""

    to: Literal["reason.text", "person.communication_needs", "unread"] = Field(
        description="Where they go; unread: nowhere"
    )
    label: ShortText | None = Field(None, description="What stands before the words")


class ReferrerFields(StrictInput):
    """Where the referrer stands in PRD."""

    roles: tuple[Code, ...] = Field(("RP",), description="PRD-1 of the one who refers")
    organisation: FieldPath | None = Field(
        None, description="Their organisation's ODS code, where another than the partner may refer"
    )
    identifiers: dict[Code, ShortText] = Field({}, description="URI of the identifier system, by the type in PRD-7.2")

    @cached_property
    def systems(self) -> Mapping[str, str]:
        return normalise_keys(self.identifiers)


class PracticeFields(StrictInput):
    """Where the registered practice and the GP stand."""

    ods: tuple[FieldPath, ...] = Field(
        ("PD1-3.3", "PD1-3.10"), description="The practice's ODS code: the first that is one"
    )
    name: FieldPath | None = Field("PD1-3.1", description="Its name")
    gp: FieldPath = Field("PD1-4", description="The GP's name (XCN)")


class PartnerProfile(StrictInput):
    """How one partner writes HL7 v2."""

    partner: PartnerId = Field(description="The partner in partners.yaml; the file has its name")
    title: ShortText = Field(description="As people read it")
    encoding: Encoding = Field("utf-8", description="Where MSH-18 names none, or ASCII")
    senders: tuple[SenderMatch, ...] = Field(
        (), description="The systems that send for it; none named: any that names itself"
    )
    processing: tuple[Literal["P", "T", "D"], ...] = Field(("P",), description="MSH-11 that is taken")
    referral_id: FieldPath = Field("RF1-6", description="The originating referral identifier")
    nhs_types: tuple[Code, ...] = Field(("NHS", "NH"), description="PID-3.5 of an NHS number")
    local_ids: dict[Code, ShortText] = Field({}, description="URI of the identifier system, by PID-3.5 or else PID-3.4")
    sexes: dict[Code, Literal["male", "female", "other", "unknown"]] = Field(
        {}, description="Codes of PID-8 beside the usual"
    )
    languages: dict[Code, ShortText] = Field({}, description="BCP 47, by code of PID-15")
    home_addresses: tuple[Code, ...] = Field(
        ("H", "HOME", "P", "PERM"), description="PID-11.7 of where the person lives"
    )
    temporary_addresses: tuple[Code, ...] = Field(
        ("C", "TMP", "TEMP"), description="PID-11.7 of where they are for now"
    )
    practice: PracticeFields = Field(PracticeFields(), description="Registered practice and GP")
    stay_classes: tuple[Code, ...] = Field(("I",), description="PV1-2 of somebody who is staying; none given: staying")
    site: Sites | None = Field(None, description="The hospital site")
    referrer: ReferrerFields = Field(ReferrerFields(), description="Who refers")
    priorities: dict[Code, Literal["routine", "urgent", "asap", "stat"]] = Field(
        {}, description="RF1-2 beside table 0280"
    )
    needs: CodedNeeds = Field(CodedNeeds(), description="Local codes of needs")
    reasons: CodedReasons = Field(CodedReasons(), description="Local codes of reasons")
    reason_fields: tuple[TextField, ...] = Field((), description="Fields whose words join the reason")
    notes: dict[Code, Note] = Field({}, description="By note type (NTE-4); any other: reason.text")
    observations: dict[Code, ObservationMeaning] = Field({}, description="By code of OBX-3; others are left unread")
    fields: dict[FieldPath, ObservationMeaning] = Field(
        {}, description="Fields of the partner's own, also of Z-segments"
    )
    cancels: CodedCancels = Field(CodedCancels(), description="Why a referral is taken back")

    @cached_property
    def id_systems(self) -> Mapping[str, str]:
        return normalise_keys(self.local_ids)

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
        """True where the code is one of these, however it is written."""
        return code is not None and fold(code) in _normalised(codes)

    @property
    def field_paths(self) -> list[str]:
        """The fields that this file names, beside those that are read for everybody."""
        named = [self.referral_id, self.practice.gp, *self.practice.ods, *self.fields]
        optional = [self.practice.name, self.referrer.organisation, self.site.read_from if self.site else None]
        listed = [
            *self.needs.read_from,
            *self.reasons.read_from,
            *self.cancels.read_from,
            *(w.read_from for w in self.reason_fields),
        ]
        return [*named, *listed, *(place for place in optional if place)]


def fold(code: str) -> str:
    """A code without blanks and case: how codes are compared."""
    return "".join(code.split()).casefold()


@lru_cache
def _normalised(codes: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(fold, codes))


def normalise_keys(codes: Mapping[str, T]) -> dict[str, T]:
    """A table by folded codes."""
    return {fold(code): meaning for code, meaning in codes.items()}
