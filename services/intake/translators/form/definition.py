"""What a form's reviewed file says, and what is wrong with it."""

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, Field, StringConstraints, ValidationError, model_validator

from schemas.model import Line, Written
from schemas.referral import Referral, ReferrerKind, Service

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
    "choice",
    "flags",
]
Question = Literal["referral", "feedback", "evaluation"]


class FieldOf(Written):
    """One field of a form, and where it goes."""

    label: Line = Field(description="As people read it")
    type: FieldType = Field("line", description="What it takes")
    to: Annotated[str, StringConstraints(pattern=r"^[a-z_]+(\.[a-z_0-9]+)*$")] = Field(
        description="Where it goes in the canonical referral, such as person.birth_date"
    )
    required: bool = Field(False, description="Whether the form is incomplete without it")
    choices: dict[str, Line] = Field({}, description="choice: what each answer means; flags: the words of each")

    @model_validator(mode="after")
    def _choices_where_chosen(self) -> "FieldOf":
        if (self.type in ("choice", "flags")) != bool(self.choices):
            raise ValueError("choices are given with type choice or flags, and only then")
        return self


class NeedOf(Written):
    """One line of the checklist."""

    label: Line = Field(description="As people read it; it goes with the need")
    service: Service = Field(description="The service that meets it")


class ReferrerOf(Written):
    """One kind of person who may have asked."""

    label: Line = Field(description="As people read it")
    requires: tuple[Name, ...] = Field((), description="Fields that must then be given")


class Form(Written):
    """A reviewed form."""

    form: FormId = Field(description="Its name: /forms/{form}")
    title: Line = Field(description="As people read it")
    referrers: dict[ReferrerKind, ReferrerOf] = Field(min_length=1, description="Who may have asked")
    fields: dict[Name, FieldOf] = Field(min_length=1, description="What it asks, by name")
    needs: dict[Name, NeedOf] = Field(min_length=1, description="The checklist, by name")
    consents: dict[Question, Line] = Field(
        min_length=1, description="The questions of consent, as the person reads them"
    )

    @model_validator(mode="after")
    def _hangs_together(self) -> "Form":
        for name, field in self.fields.items():
            if name in BUILT_IN:
                raise ValueError(f"field {name}: the name is taken")
            if not _is_target(field.to):
                raise ValueError(f"field {name}: the referral has no {field.to}")
        missing = {name for kind in self.referrers.values() for name in kind.requires} - self.fields.keys()
        if missing:
            raise ValueError(f"referrers require fields that are not there: {', '.join(sorted(missing))}")
        return self


BUILT_IN = ("form", "reference", "completed_at", "referred_by", "needs", "consents", "cancelled", "cancel_reason")


class FormFault(Exception):
    """A form's file is wrong; the text says which and how."""


def load(folder: Path) -> dict[str, Form]:
    """Every form of a folder by its name; raises FormFault."""
    forms = [_load_one(path) for path in sorted(folder.glob("*.yaml"))]
    return {form.form: form for form in forms}


def _load_one(path: Path) -> Form:
    try:
        form = Form.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        lines = [f"{path}: {'.'.join(map(str, one['loc'])) or 'form'}: {one['msg']}" for one in found]
        raise FormFault("\n".join(lines)) from None
    except (OSError, yaml.YAMLError):
        raise FormFault(f"{path}: cannot be read, or is not valid YAML") from None
    if form.form != path.stem:
        raise FormFault(f"{path}: the form is called {form.form}; its file must be too")
    return form


def _is_target(path: str) -> bool:
    """True where the canonical referral has this place."""
    model: Any = Referral
    for part in path.split("."):
        if part.isdigit():
            continue
        if not (isinstance(model, type) and issubclass(model, BaseModel)) or part not in model.model_fields:
            return False
        model = _inner(model.model_fields[part].annotation)
    return True


def _inner(annotation: Any) -> Any:
    """The model in `Address | None` or `tuple[Contact, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for one in get_args(annotation) if (found := _inner(one)) is not None), None)
