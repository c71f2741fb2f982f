"""Message Translator for forms: a checklist as JSON, read by a reviewed file of infra/directory/forms.

A form is flat: `reference` (its identity), who asked, the fields that its file declares, a checklist of needs, the consents. Every
fault is found at once, and named by its field. Adding a form is adding a file.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import from_json

from schemas import nhs_number
from schemas.case import EndReason
from schemas.model import Line, Written
from schemas.referral import Referral, ReferrerKind, Service
from services.intake.translators.contract import (
    PLAIN_NAME,
    CancelReason,
    Delivery,
    Fault,
    FaultKind,
    Refusal,
    Translated,
    Translator,
    cancel_hash,
    content_hash,
    faults_of,
    fhir_path,
    holds_nul,
    instant,
    refuse,
)

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


# ---- reading --------------------------------------------------------------------------------------------------------


def translator(form: Form) -> Translator:
    """The translator of one form."""
    return lambda delivery: _translate(form, delivery)


def _translate(form: Form, delivery: Delivery) -> Translated | Refusal:
    answers = _json(delivery.body)
    if isinstance(answers, Refusal):
        return answers
    filled = _Filled(form, answers)
    if answers.get("cancelled") is True:
        return filled.cancel(delivery)
    return filled.referral(delivery)


def _json(body: bytes) -> dict[str, Any] | Refusal:
    if holds_nul(body):
        return refuse(Fault("form", "invalid", "holds the character NUL, which no text may hold"))
    try:
        raw = from_json(body, allow_inf_nan=False)
    except (ValueError, RecursionError):
        return refuse(Fault("form", "invalid", "is not JSON in UTF-8, or is nested too deeply"))
    return (
        raw
        if isinstance(raw, dict)
        else refuse(Fault("form", "invalid", "a JSON object with the form's fields is expected"))
    )


class _Filled:
    """A form as it was filled in: reads each part, and gathers what is wrong with any of them."""

    def __init__(self, form: Form, answers: dict[str, Any]) -> None:
        self._form = form
        self._answers = answers
        self._faults: list[Fault] = []

    def cancel(self, delivery: Delivery) -> Translated | Refusal:
        """A form that takes the referral back: only its reference is needed."""
        reference, sent_at = self._line("reference", required=True), self._moment("completed_at")
        why = _CANCELS.get(str(self._answers.get("cancel_reason", "cancelled-by-referrer")))
        if why is None:
            self._fault("cancel_reason", "value", f"one of {', '.join(_CANCELS)} is expected")
        if self._faults or reference is None or why is None:
            return Refusal(tuple(self._faults))
        return self._cancelled(delivery, reference, sent_at, why)

    def _cancelled(self, delivery: Delivery, reference: str, sent_at: Any, why: CancelReason) -> Translated:
        digest = cancel_hash(why, None)
        return Translated(
            message_ids=self._message_ids(reference, sent_at, digest),
            referral_id=self._referral_id(reference),
            intent="cancel",
            content_hash=digest,
            cancel_reason=why,
            sent_at=sent_at,
            correlation_id=delivery.correlation_id,
        )

    def referral(self, delivery: Delivery) -> Translated | Refusal:
        """A whole form. Consent that was withdrawn since takes the referral back."""
        reference, sent_at = self._line("reference", required=True), self._moment("completed_at")
        content = self._content(delivery)
        withdrawn = content["consents"].get("referral", {}).get("answer") == "no"
        if withdrawn and reference and not self._faults:
            return self._cancelled(delivery, reference, sent_at, EndReason.CONSENT_WITHDRAWN)
        content["message"] = {
            "format": "form",
            "message_id": reference or "unknown",
            "referral_id": reference or "unknown",
            "sent_at": sent_at,
        }
        try:
            referral = Referral.model_validate(content)
        except ValidationError as error:
            self._faults += [fault for fault in faults_of(error, self._field_of) if not self._is_named(fault.place)]
        if self._faults or reference is None:
            return Refusal(tuple(self._faults[:50]))
        digest = content_hash(referral)
        return Translated(
            message_ids=self._message_ids(reference, sent_at, digest),
            referral_id=self._referral_id(reference),
            intent="either",
            content_hash=digest,
            referral=referral,
            sent_at=sent_at,
            correlation_id=delivery.correlation_id,
        )

    def _referral_id(self, reference: str) -> str:
        """Two forms of one partner may count their references each from 1."""
        return f"{self._form.form}:{reference}"

    def _message_ids(self, reference: str, sent_at: Any, digest: str) -> tuple[str, ...]:
        """The reference names the referral; a message of it is told by the time that its sender gave and its content."""
        return (f"form:{self._form.form}:{reference}:{sent_at.isoformat()}:{digest}",) if sent_at else ()

    def _content(self, delivery: Delivery) -> dict[str, Any]:
        for name in self._answers.keys() - self._form.fields.keys() - set(BUILT_IN):
            shown = name if PLAIN_NAME.match(name) else "(a field with another name)"
            self._fault(shown, "invalid", "is no field of this form; see its schema")
        if self._answers.get("form", self._form.form) != self._form.form:
            self._fault("form", "value", f"{self._form.form} is expected here")
        if self._answers.get("cancelled") not in (None, False):
            self._fault("cancelled", "invalid", "true or false is expected")
        content: dict[str, Any] = {"sent_by": delivery.partner.sender}
        for name, field in self._form.fields.items():
            self._read(content, name, field)
        self._address(content)
        self._referrer(content, delivery)
        return content | {"needs": self._needs(), "consents": self._consents()}

    # -- fields

    def _read(self, content: dict[str, Any], name: str, field: FieldOf) -> None:
        value = self._answers.get(name)
        if isinstance(value, str):
            value = value.strip() or None
        if value is None or value == []:
            if field.required:
                self._fault(name, "required", "is required and was not given")
            return
        read = READERS[field.type](value, field)
        if isinstance(read, _Wrong):
            self._fault(name, read.kind, read.explanation)
        else:
            _put(content, field.to.split("."), read)

    def _address(self, content: dict[str, Any]) -> None:
        """A ZZ99 postcode is the NHS' way to say 'no fixed abode'."""
        address = content.get("person", {}).get("address")
        if address and str(address.get("postcode", "")).startswith("ZZ99"):
            address["no_fixed_abode"] = True

    def _referrer(self, content: dict[str, Any], delivery: Delivery) -> None:
        kind = self._answers.get("referred_by")
        known = self._form.referrers.get(kind) if isinstance(kind, str) else None  # type: ignore[call-overload]
        if known is None:
            wrong: FaultKind = "required" if kind is None else "value"
            self._fault("referred_by", wrong, f"who asked: one of {', '.join(self._form.referrers)}")
            kind = "other"
        for name in known.requires if known else ():
            if self._answers.get(name) in (None, "", []) and not self._form.fields[name].required:
                self._fault(name, "required", f"is required where referred_by is {kind}")
        referrer = content.setdefault("referred_by", {})
        referrer["kind"] = kind
        ods = referrer.get("organisation", {}).get("ods")
        if not delivery.partner.may_speak_for(ods):
            place = next(
                (n for n, f in self._form.fields.items() if f.to == "referred_by.organisation.ods"), "referred_by"
            )
            self._fault(place, "forbidden", "your credential does not speak for this organisation")

    # -- needs and consents

    def _needs(self) -> list[dict[str, Any]]:
        ticked = self._answers.get("needs")
        if not isinstance(ticked, dict):
            self._fault(
                "needs", "required" if ticked is None else "invalid", "an object with the ticked needs is expected"
            )
            return []
        for name in ticked.keys() - self._form.needs.keys():
            shown = f"needs.{name}" if PLAIN_NAME.match(name) else "needs"
            self._fault(shown, "invalid", "is no need of this form; see its schema")
        found: dict[Service, list[str]] = {}
        for name, need in self._form.needs.items():
            said = self._ticked(name, need, ticked.get(name, False))
            if said:
                found.setdefault(need.service, []).append(said)
        if not found and not any(fault.place.startswith("needs") for fault in self._faults):
            self._fault("needs", "required", "at least one need must be ticked")
        return [{"service": service, "text": "\n".join(said)} for service, said in found.items()]

    def _ticked(self, name: str, need: NeedOf, answer: Any) -> str | None:
        """What a ticked line says: its label, and the note where one was written. None where it is not ticked."""
        if isinstance(answer, str):
            return f"{need.label}: {answer.strip()}" if answer.strip() else None
        if not isinstance(answer, bool) and answer is not None:
            self._fault(f"needs.{name}", "invalid", "true, false or a note is expected")
        return need.label if answer is True else None

    def _consents(self) -> dict[str, Any]:
        given = self._answers.get("consents", {})
        if not isinstance(given, dict):
            self._fault("consents", "invalid", "an object with the answers is expected")
            return {}
        for name in given.keys() - {*self._form.consents, "on", "by"}:
            shown = f"consents.{name}" if PLAIN_NAME.match(name) else "consents"
            self._fault(shown, "invalid", "is no consent of this form; see its schema")
        read = {question: self._consent(question, given) for question in self._form.consents}
        return {question: answer for question, answer in read.items() if answer}

    def _consent(self, question: Question, given: dict[str, Any]) -> dict[str, Any] | None:
        answer = given.get(question)
        if answer is None:
            return None
        if answer not in ("yes", "no", "not-recorded"):
            self._fault(f"consents.{question}", "value", "yes, no or not-recorded is expected")
            return None
        return {"answer": answer} | self._when_and_by(given)

    def _when_and_by(self, given: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, kind in (("on", "date"), ("by", "line")):
            if given.get(name) is None:
                continue
            read = READERS[kind](given[name], _ANY)
            if isinstance(read, _Wrong):
                if not self._is_named(f"consents.{name}"):
                    self._fault(f"consents.{name}", read.kind, read.explanation)
            else:
                found[name] = read
        return found

    # -- places

    def _fault(self, place: str, kind: FaultKind, explanation: str) -> None:
        self._faults.append(Fault(place, kind, explanation))

    def _is_named(self, place: str) -> bool:
        return any(fault.place == place for fault in self._faults)

    def _field_of(self, loc: tuple[int | str, ...]) -> str:
        """The field that feeds this place of the canonical referral."""
        path = ".".join(map(str, loc))
        fed = [name for name, field in self._form.fields.items() if path == field.to or path.startswith(f"{field.to}.")]
        if fed:
            return fed[0]
        return "reference" if loc[0] == "message" else fhir_path(str(loc[0]), loc[1:])

    def _line(self, name: str, *, required: bool) -> str | None:
        value = self._answers.get(name)
        read = READERS["line"](value.strip() if isinstance(value, str) else value, _ANY)
        if isinstance(read, str):
            return read
        if value is not None or required:
            self._fault(
                name, "required" if value is None else "invalid", "a text of at most 200 characters is required"
            )
        return None

    def _moment(self, name: str) -> Any:
        value = self._answers.get(name)
        read = instant(value) if isinstance(value, str) else None
        if value is not None and read is None:
            self._fault(name, "value", "is no date and time with an offset, such as 2026-11-05T09:30:00Z")
        return read


_CANCELS: dict[str, CancelReason] = {
    "cancelled-by-referrer": EndReason.CANCELLED_BY_REFERRER,
    "referred-in-error": EndReason.REFERRED_IN_ERROR,
    "consent-withdrawn": EndReason.CONSENT_WITHDRAWN,
}


def _put(content: dict[str, Any], path: list[str], value: Any) -> None:
    """content['contacts'][0]['name'] = value, for 'contacts.0.name'."""
    here: Any = content
    for part, after in pairwise(path):
        empty: Any = [] if after.isdigit() else {}
        if isinstance(here, list):
            here.extend({} for _ in range(int(part) + 1 - len(here)))
            here = here[int(part)]
        else:
            here = here.setdefault(part, empty)
    here[path[-1]] = value


# ---- what each type of field takes ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Wrong:
    kind: FaultKind
    explanation: str


_ANY = FieldOf(label="any", to="person")


def _text(longest: int) -> Callable[[Any, FieldOf], Any]:
    def read(value: Any, _: FieldOf) -> Any:
        if not isinstance(value, str) or not value:
            return _Wrong("invalid", "a text is expected")
        return value if len(value) <= longest else _Wrong("too-long", f"at most {longest} characters are taken")

    return read


def _matching(pattern: str, explanation: str) -> Callable[[Any, FieldOf], Any]:
    form = re.compile(pattern)

    def read(value: Any, _: FieldOf) -> Any:
        plain = value.strip().upper() if isinstance(value, str) else ""
        return plain if form.fullmatch(plain) else _Wrong("value", explanation)

    return read


def _lines(value: Any, _: FieldOf) -> Any:
    given = value.splitlines() if isinstance(value, str) else value
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        return _Wrong("invalid", "a list of texts is expected")
    lines = [one.strip() for one in given if one.strip()]
    if len(lines) > 10 or any(len(one) > 300 for one in lines):
        return _Wrong("too-long", "at most 10 lines of 300 characters are taken")
    return lines


def _date(value: Any, _: FieldOf) -> Any:
    try:
        if isinstance(value, str) and len(value) == 10 and value[4:8:3] == "--":
            return date.fromisoformat(value)
    except ValueError:
        pass
    return _Wrong("value", "a date such as 2026-11-05 is expected")


def _moment(value: Any, _: FieldOf) -> Any:
    found = instant(value) if isinstance(value, str) else None
    return found or _Wrong("value", "a date and time with an offset is expected, such as 2026-11-05T09:30:00Z")


def _nhs_number(value: Any, _: FieldOf) -> Any:
    digits = nhs_number.normalise(value) if isinstance(value, str) else ""
    if nhs_number.is_valid(digits):
        return digits
    return _Wrong("value", "is no valid NHS number: ten digits with a modulus 11 check digit")


def _postcode(value: Any, field: FieldOf) -> Any:
    plain = "".join(value.split()).upper() if isinstance(value, str) else ""
    if not re.fullmatch(r"[A-Z]{1,2}[0-9][A-Z0-9]?[0-9][A-Z]{2}", plain):
        return _Wrong("value", "a postcode such as LE11 5AA is expected, or ZZ99 3VZ for no fixed abode")
    return f"{plain[:-3]} {plain[-3:]}"


def _yes_no(value: Any, _: FieldOf) -> Any:
    found = {"yes": True, "no": False}.get(value) if isinstance(value, str) else value
    return found if isinstance(found, bool) else _Wrong("value", "yes or no is expected")


def _number(value: Any, _: FieldOf) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1_000_000:
        return value
    return _Wrong("value", "a whole number is expected")


def _choice(value: Any, field: FieldOf) -> Any:
    found = field.choices.get(value) if isinstance(value, str) else None
    return found or _Wrong("value", f"one of {', '.join(field.choices)} is expected")


def _flags(value: Any, field: FieldOf) -> Any:
    if not isinstance(value, list) or not all(isinstance(one, str) and one in field.choices for one in value):
        return _Wrong("value", f"a list of {', '.join(field.choices)} is expected")
    return [{"code": one, "text": field.choices[one]} for one in dict.fromkeys(value)]


READERS: Mapping[str, Callable[[Any, FieldOf], Any]] = {
    "line": _text(200),
    "prose": _text(5_000),
    "lines": _lines,
    "date": _date,
    "moment": _moment,
    "yes-no": _yes_no,
    "number": _number,
    "nhs-number": _nhs_number,
    "postcode": _postcode,
    "ods": _matching(r"[A-Z0-9]{3,10}", "an ODS code such as B81001 is expected"),
    "ons": _matching(r"[EWSN][0-9]{8}", "an ONS district code such as E07000130 is expected"),
    "choice": _choice,
    "flags": _flags,
}


# ---- the published schema -------------------------------------------------------------------------------------------


def json_schema(form: Form) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a form: what its sender may rely on."""
    required = [name for name, field in form.fields.items() if field.required]
    whole = {
        "required": ["reference", "referred_by", "needs", *required],
        "allOf": list(_conditions(form)),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"https://lightbulb.example.org/forms/{form.form}/schema",
        "title": form.title,
        "type": "object",
        "properties": _properties(form),
        "additionalProperties": False,
        "required": ["reference"],
        "if": {"properties": {"cancelled": {"const": True}}, "required": ["cancelled"]},
        "else": whole,
    }


def _conditions(form: Form) -> Iterator[dict[str, Any]]:
    for kind, referrer in form.referrers.items():
        if referrer.requires:
            yield {
                "if": {"properties": {"referred_by": {"const": kind}}},
                "then": {"required": list(referrer.requires)},
            }


def _properties(form: Form) -> dict[str, Any]:
    needs = {name: {"title": need.label, "type": ["boolean", "string", "null"]} for name, need in form.needs.items()}
    consents: dict[str, Any] = {
        question: {"title": words, "enum": ["yes", "no", "not-recorded"]} for question, words in form.consents.items()
    }
    consents |= {
        "on": {"title": "When they were asked", **_SCHEMAS["date"]},
        "by": {"title": "Who asked", **_SCHEMAS["line"]},
    }
    return {
        "form": {"title": "Which form this is", "const": form.form},
        "reference": {"title": "Your reference of this referral: its identity", "type": "string", "maxLength": 200},
        "completed_at": {
            "title": "When the form was completed, by your clock",
            "type": "string",
            "format": "date-time",
        },
        "cancelled": {"title": "True to take the referral back; then only the reference is needed", "type": "boolean"},
        "cancel_reason": {"title": "Why it is taken back", "enum": list(_CANCELS)},
        "referred_by": {"title": "Who asked", "oneOf": [_const(k, r.label) for k, r in form.referrers.items()]},
        **{name: {"title": field.label, **_schema(field)} for name, field in form.fields.items()},
        "needs": {
            "title": "Ticked needs: true, or a note",
            "type": "object",
            "properties": needs,
            "additionalProperties": False,
        },
        "consents": {"title": "Consent", "type": "object", "properties": consents, "additionalProperties": False},
    }


def _const(value: str, label: str) -> dict[str, str]:
    return {"const": value, "title": label}


def _schema(field: FieldOf) -> dict[str, Any]:
    if field.type == "choice":
        return {"enum": list(field.choices)}
    if field.type == "flags":
        items = {"oneOf": [_const(name, words) for name, words in field.choices.items()]}
        return {"type": "array", "items": items}
    return _SCHEMAS[field.type]


_SCHEMAS: dict[str, dict[str, Any]] = {
    "line": {"type": "string", "maxLength": 200},
    "prose": {"type": "string", "maxLength": 5_000},
    "lines": {"type": ["array", "string"], "items": {"type": "string", "maxLength": 300}, "maxItems": 10},
    "date": {"type": "string", "format": "date"},
    "moment": {"type": "string", "format": "date-time"},
    "yes-no": {"enum": [True, False, "yes", "no"]},
    "number": {"type": "integer", "minimum": 0},
    "nhs-number": {"type": "string", "description": "Ten digits with a modulus 11 check digit; blanks are allowed"},
    "postcode": {"type": "string", "description": "Such as LE11 5AA; ZZ99 3VZ for no fixed abode"},
    "ods": {"type": "string", "pattern": "^[A-Za-z0-9]{3,10}$"},
    "ons": {"type": "string", "pattern": "^[EWSN][0-9]{8}$"},
}
