"""The reviewed file of a partner: where its hospital systems say what, and what their local codes mean.

`infra/directory/hl7v2/<partner>.yaml`. What the standard fixes is not in it: that stands in the modules beside this one.
"""

from collections.abc import Mapping as MappingOf
from functools import cached_property, lru_cache
from typing import Annotated, Literal, TypeVar

from pydantic import Field, StringConstraints, model_validator

from schemas.case import EndReason
from schemas.model import Line, PartnerId, Written
from schemas.referral import ReasonCode
from services.directory import OfferedService
from services.reviewed import Code

T = TypeVar("T")

Place = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9]{2}-[1-9][0-9]{0,2}(\.[1-9][0-9]?)?$")]
"""A field or component, such as PV1-3.4; a field alone is its first component."""

Value = bool | int | str
Encoding = Literal["utf-8", "windows-1252", "iso8859-15"]


class SentBy(Written):
    """A system that sends for the partner."""

    application: Line | None = Field(None, description="MSH-3, its first component")
    facility: Line | None = Field(None, description="MSH-4, its first component")

    @model_validator(mode="after")
    def _says_something(self) -> "SentBy":
        if self.application is None and self.facility is None:
            raise ValueError("an application or a facility is needed")
        return self


class Told(Written):
    """What an observation, or a field of the partner's own, means: a place of the referral, a need, or a warning."""

    label: Line = Field(description="As people read it")
    to: str | None = Field(
        None, description="The place of the referral that it fills; needs or reason.code: by their codes"
    )
    need: OfferedService | None = Field(None, description="The service that is asked for where the value says so")
    flag: Line | None = Field(None, description="The risk flag that is raised where the value says so")
    values: dict[Code, Value] = Field({}, description="What each coded value means; without: dates and texts, Y and N")
    otherwise: Value | None = Field(None, description="What any other code means; without it another code is a fault")

    @model_validator(mode="after")
    def _one_meaning(self) -> "Told":
        if sum(one is not None for one in (self.to, self.need, self.flag)) != 1:
            raise ValueError("one of to, need and flag is needed")
        return self

    @cached_property
    def meanings(self) -> MappingOf[str, Value]:
        return folded(self.values)


class NeedOf(Written):
    """What a local code asks for."""

    service: OfferedService = Field(description="The service that meets it")
    label: Line | None = Field(None, description="Words that go with the need, before the sender's own")


class CodedNeeds(Written):
    """Local codes of needs, and the fields that hold them."""

    read_from: tuple[Place, ...] = Field((), description="Fields whose codes are looked up")
    codes: dict[Code, NeedOf] = Field({}, description="By local code")

    @cached_property
    def meanings(self) -> MappingOf[str, NeedOf]:
        return folded(self.codes)


class CodedReasons(Written):
    """Local codes of reasons, and the fields that hold them."""

    read_from: tuple[Place, ...] = Field((), description="Fields whose codes are looked up")
    codes: dict[Code, ReasonCode] = Field({}, description="By local code")

    @cached_property
    def meanings(self) -> MappingOf[str, ReasonCode]:
        return folded(self.codes)


Ended = Literal[EndReason.CANCELLED_BY_REFERRER, EndReason.REFERRED_IN_ERROR, EndReason.CONSENT_WITHDRAWN]


class CodedCancels(Written):
    """Local codes that say why a referral is taken back; any other code: cancelled by the referrer."""

    read_from: tuple[Place, ...] = Field((), description="Fields whose codes are looked up, in this order")
    codes: dict[Code, Ended] = Field({}, description="By local code")

    @cached_property
    def meanings(self) -> MappingOf[str, Ended]:
        return folded(self.codes)


class Sites(Written):
    """Where the site stands, and what its codes mean; a code that is not here is carried as it is."""

    read_from: Place = Field(description="Such as PV1-3.4 or MSH-4")
    codes: dict[Code, Line] = Field({}, description="Site of infra/directory/hubs.yaml, by local code")

    @cached_property
    def meanings(self) -> MappingOf[str, str]:
        return folded(self.codes)


class Words(Written):
    """A field whose words join those of the reason."""

    read_from: Place = Field(description="The field; its words are a CE's second component where it has one")
    label: Line = Field(description="What stands before the words")
    values: dict[Code, Line] = Field({}, description="Words of coded values")

    @cached_property
    def meanings(self) -> MappingOf[str, str]:
        return folded(self.values)


class Note(Written):
    """What becomes of notes of a type (NTE-4)."""

    to: Literal["reason.text", "person.communication_needs", "unread"] = Field(
        description="Where they go; unread: nowhere"
    )
    label: Line | None = Field(None, description="What stands before the words")


class ReferrerPlaces(Written):
    """Where the referrer stands in PRD."""

    roles: tuple[Code, ...] = Field(("RP",), description="PRD-1 of the one who refers")
    organisation: Place | None = Field(
        None, description="Their organisation's ODS code, where another than the partner may refer"
    )
    identifiers: dict[Code, Line] = Field({}, description="URI of the identifier system, by the type in PRD-7.2")

    @cached_property
    def systems(self) -> MappingOf[str, str]:
        return folded(self.identifiers)


class PracticePlaces(Written):
    """Where the registered practice and the GP stand."""

    ods: tuple[Place, ...] = Field(
        ("PD1-3.3", "PD1-3.10"), description="The practice's ODS code: the first that is one"
    )
    name: Place | None = Field("PD1-3.1", description="Its name")
    gp: Place = Field("PD1-4", description="The GP's name (XCN)")


class Mapping(Written):
    """How one partner writes HL7 v2."""

    partner: PartnerId = Field(description="The partner in partners.yaml; the file has its name")
    title: Line = Field(description="As people read it")
    encoding: Encoding = Field("utf-8", description="Where MSH-18 names none, or ASCII")
    senders: tuple[SentBy, ...] = Field(
        (), description="The systems that send for it; none named: any that names itself"
    )
    processing: tuple[Literal["P", "T", "D"], ...] = Field(("P",), description="MSH-11 that is taken")
    referral_id: Place = Field("RF1-6", description="The originating referral identifier")
    nhs_types: tuple[Code, ...] = Field(("NHS", "NH"), description="PID-3.5 of an NHS number")
    local_ids: dict[Code, Line] = Field({}, description="URI of the identifier system, by PID-3.5 or else PID-3.4")
    sexes: dict[Code, Literal["male", "female", "other", "unknown"]] = Field(
        {}, description="Codes of PID-8 beside the usual"
    )
    languages: dict[Code, Line] = Field({}, description="BCP 47, by code of PID-15")
    home_addresses: tuple[Code, ...] = Field(
        ("H", "HOME", "P", "PERM"), description="PID-11.7 of where the person lives"
    )
    temporary_addresses: tuple[Code, ...] = Field(
        ("C", "TMP", "TEMP"), description="PID-11.7 of where they are for now"
    )
    practice: PracticePlaces = Field(PracticePlaces(), description="Registered practice and GP")
    stay_classes: tuple[Code, ...] = Field(("I",), description="PV1-2 of somebody who is staying; none given: staying")
    site: Sites | None = Field(None, description="The hospital site")
    referrer: ReferrerPlaces = Field(ReferrerPlaces(), description="Who refers")
    priorities: dict[Code, Literal["routine", "urgent", "asap", "stat"]] = Field(
        {}, description="RF1-2 beside table 0280"
    )
    needs: CodedNeeds = Field(CodedNeeds(), description="Local codes of needs")
    reasons: CodedReasons = Field(CodedReasons(), description="Local codes of reasons")
    reason_fields: tuple[Words, ...] = Field((), description="Fields whose words join the reason")
    notes: dict[Code, Note] = Field({}, description="By note type (NTE-4); any other: reason.text")
    observations: dict[Code, Told] = Field({}, description="By code of OBX-3; others are left unread")
    fields: dict[Place, Told] = Field({}, description="Fields of the partner's own, also of Z-segments")
    cancels: CodedCancels = Field(CodedCancels(), description="Why a referral is taken back")

    @cached_property
    def id_systems(self) -> MappingOf[str, str]:
        return folded(self.local_ids)

    @cached_property
    def sex_codes(self) -> MappingOf[str, str]:
        return folded(self.sexes)

    @cached_property
    def language_codes(self) -> MappingOf[str, str]:
        return folded(self.languages)

    @cached_property
    def priority_codes(self) -> MappingOf[str, str]:
        return folded(self.priorities)

    @cached_property
    def told(self) -> MappingOf[str, Told]:
        return folded(self.observations)

    @cached_property
    def note_types(self) -> MappingOf[str, Note]:
        return folded(self.notes)

    def is_one(self, codes: tuple[str, ...], code: str | None) -> bool:
        """True where the code is one of these, however it is written."""
        return code is not None and fold(code) in _folded(codes)

    @property
    def places(self) -> list[str]:
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
def _folded(codes: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(fold, codes))


def folded(codes: MappingOf[str, T]) -> dict[str, T]:
    """A table by folded codes."""
    return {fold(code): meaning for code, meaning in codes.items()}
