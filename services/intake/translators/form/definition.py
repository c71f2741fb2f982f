"""A form's reviewed definition file, and its faults."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from schemas.model import ShortText, StrictInput
from schemas.referral import Referral, ReferrerKind
from services.intake.translators import plausibility
from services.reference import yaml_files
from services.reference.directory import Catalogue, OfferedService
from services.reference.yaml_files import ConfigFile, ConfigIssue, field_at

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,40}$")]
FormId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{1,40}$")]
FieldType = Literal[
    "line",
    "prose",
    "lines",
    "date",
    "moment",
    "yes-no",
    "number",
    "nhs-number",
    "postcode",
    "ods",
    "ons",
    "uprn",
    "textphone",
    "choice",
    "flags",
    "attachments",
]
Question = Literal["referral", "feedback", "evaluation"]


_REPORTS = ("person.death_reported", "person.restricted_access")


def _target(path: str) -> str:
    if not field_at(Referral, path):
        raise ValueError(f"the referral has no {path}")
    if path == "person.vouched_by":
        raise ValueError("who vouches for the identity is in partners.yaml, not in a form")
    return path


class FieldOf(StrictInput):
    """One field of a form, and the place of the referral that it fills."""

    label: ShortText = Field(description="Label for people")
    type: FieldType = Field("line", description="Type of its value")
    to: Annotated[str, AfterValidator(_target)] = Field(
        description="Place of the canonical referral that it fills, such as person.birth_date"
    )
    required: bool = Field(False, description="Whether the form is incomplete without it")
    choices: dict[str, ShortText] = Field({}, description="choice: the value for each answer; flags: the text of each")
    most: Annotated[int, Field(ge=0, lt=1_000_000)] | None = Field(
        None, description="number: the largest allowed value"
    )
    with_: tuple[Name, ...] = Field((), alias="with", description="Fields that are required if this one is given")
    agreed: Question | None = Field(None, description="Consent that must be yes if this field is given")

    @model_validator(mode="after")
    def _limits_where_they_apply(self) -> "FieldOf":
        if (self.type in ("choice", "flags")) != bool(self.choices):
            raise ValueError("choices are required with type choice or flags, and allowed only there")
        if self.most is not None and self.type != "number":
            raise ValueError("most is allowed only with type number")
        if (self.type == "textphone") != (self.to == "person.other_contact_points"):
            raise ValueError("person.other_contact_points and type textphone require each other")
        if (self.type == "attachments") != (self.to == "attachments"):
            raise ValueError("the place attachments and type attachments require each other")
        if self.to in _REPORTS and self.type != "yes-no":
            raise ValueError(f"{self.to} requires type yes-no")
        if self.type == "date" and self.to not in plausibility.KINDS:
            raise ValueError(f"no rule says which dates are plausible for {self.to}")
        return self


class FormNeed(StrictInput):
    """One entry of the checklist."""

    label: ShortText = Field(description="Label for people; it becomes the need's text")
    service: OfferedService = Field(description="Service that meets it")


class ReferrerOf(StrictInput):
    """One kind of referrer."""

    label: ShortText = Field(description="Label for people")
    requires: tuple[Name, ...] = Field((), description="Fields that this kind of referrer must give")
    says_yes: tuple[Question, ...] = Field(
        (), description="Consents that must be yes, because the person refers themselves"
    )


class ConsentOf(StrictInput):
    """One consent question."""

    label: ShortText = Field(description="Question as the person reads it")
    required: bool = Field(False, description="Whether it must be answered, if only with not-recorded")
    noted: tuple[Literal["on", "by"], ...] = Field(
        (), description="Details that a yes requires: the date, and the person who asked"
    )


class Form(StrictInput):
    """A reviewed form."""

    form: FormId = Field(description="Name, as in /forms/{form}")
    title: ShortText = Field(description="Title for people")
    referrers: dict[ReferrerKind, ReferrerOf] = Field(min_length=1, description="Kinds of referrer")
    fields: dict[Name, FieldOf] = Field(min_length=1, description="Fields by name")
    one_of: tuple[tuple[Name, ...], ...] = Field((), description="Groups of fields of which at least one must be given")
    needs: dict[Name, FormNeed] = Field(min_length=1, description="Checklist by name")
    consents: dict[Question, ConsentOf] = Field(min_length=1, description="Consent questions")

    def referrer(self, kind: object) -> ReferrerOf | None:
        """Return the referrer of this kind; None if the form does not have it."""
        return next((who for name, who in self.referrers.items() if name == kind), None)

    @cached_property
    def attachment_fields(self) -> tuple[str, ...]:
        """The fields with documents."""
        return tuple(name for name, field in self.fields.items() if field.type == "attachments")

    @property
    def covers_hospital_stay(self) -> bool:
        """Whether it is a form of hospital teams."""
        return any(field.to.startswith("hospital.") for field in self.fields.values())


BUILT_IN = ("form", "reference", "completed_at", "referred_by", "needs", "consents", "cancelled", "cancel_reason")


def load(folder: Path, services: Catalogue | None) -> dict[str, Form]:
    """Return the forms of a folder by name; raise ConfigError. Without `services`, any service code is valid."""
    files = yaml_files.load_all(folder, Form, services)
    if issues := [issue for one in files for issue in _contradictions(one)]:
        raise yaml_files.ConfigError(issues)
    return {one.value.form: one.value for one in files}


def _contradictions(one: ConfigFile[Form]) -> Iterator[ConfigIssue]:
    form = one.value
    if form.form != one.file.stem:
        yield one.issue(("form",), f"the form is called {form.form}, so its file must be named {form.form}.yaml")
    for name in form.fields:
        if name in BUILT_IN:
            yield one.issue(("fields", name), "the name is reserved: every form has this field")
    yield from (
        one.issue(loc, f"{name} is not a field of this form") for loc, name in _named(form) if name not in form.fields
    )
    required_consents = [
        (("fields", name, "agreed"), field.agreed) for name, field in form.fields.items() if field.agreed
    ]
    required_consents += [
        (("referrers", kind, "says_yes"), q) for kind, who in form.referrers.items() for q in who.says_yes
    ]
    yield from (
        one.issue(loc, f"{q} is not a consent of this form") for loc, q in required_consents if q not in form.consents
    )


def _named(form: Form) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """Yield every mention of a field, with its location."""
    for kind, referrer in form.referrers.items():
        yield from ((("referrers", kind, "requires", place), name) for place, name in enumerate(referrer.requires))
    for field, one in form.fields.items():
        yield from ((("fields", field, "with", place), name) for place, name in enumerate(one.with_))
    for group, names in enumerate(form.one_of):
        yield from ((("one_of", group, place), name) for place, name in enumerate(names))
