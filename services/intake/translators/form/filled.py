"""A form as it was filled in, read by its definition into a canonical referral. Every fault is found at once."""

from itertools import pairwise
from typing import Any

from pydantic import ValidationError

from schemas.case import EndReason
from schemas.referral import Referral, ServiceCode
from services.intake.translators import json_text
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
    instant,
    refuse,
)
from services.intake.translators.form import rules
from services.intake.translators.form.definition import BUILT_IN, FieldOf, Form, NeedOf, Question
from services.intake.translators.form.fields import ANY, READERS, Wrong


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
    raw = json_text.read(body, "form")
    if isinstance(raw, dict | Refusal):
        return raw
    return refuse(Fault("form", "invalid", "a JSON object with the form's fields is expected"))


class _Filled:
    """A form as it was filled in: reads each part, and gathers what is wrong with any of them."""

    def __init__(self, form: Form, answers: dict[str, Any]) -> None:
        self._form = form
        self._answers = answers
        self._faults: list[Fault] = []

    def cancel(self, delivery: Delivery) -> Translated | Refusal:
        """A form that takes the referral back: only its reference is needed."""
        reference, sent_at = self._line("reference", required=True), self._moment("completed_at")
        why = CANCELS.get(str(self._answers.get("cancel_reason", "cancelled-by-referrer")))
        if why is None:
            self._fault("cancel_reason", "value", f"one of {', '.join(CANCELS)} is expected")
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
        for name in sorted(self._answers.keys() - self._form.fields.keys() - set(BUILT_IN)):
            shown = name if PLAIN_NAME.match(name) else "(a field with another name)"
            self._fault(shown, "invalid", "is not a field of this form; see its schema")
        if self._answers.get("form", self._form.form) != self._form.form:
            self._fault("form", "value", f"{self._form.form} is expected here")
        if self._answers.get("cancelled") not in (None, False):
            self._fault("cancelled", "invalid", "true or false is expected")
        content: dict[str, Any] = {"sent_by": delivery.partner.sender, "person": {}}
        for name, field in self._form.fields.items():
            self._read(content, name, field)
        self._faults += rules.missing(self._form, self._answers)
        self._address(content)
        self._referrer(content, delivery)
        return content | {"needs": self._needs(), "consents": self._consents()}

    # -- fields

    def _read(self, content: dict[str, Any], name: str, field: FieldOf) -> None:
        value = self._answers.get(name)
        if not rules.is_given(value):
            return
        read = READERS[field.type](value.strip() if isinstance(value, str) else value, field)
        if isinstance(read, Wrong):
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
        known = self._form.referrer(kind)
        if known is None:
            wrong: FaultKind = "required" if kind is None else "value"
            self._fault("referred_by", wrong, f"who asked: one of {', '.join(self._form.referrers)}")
            kind = "other"
        referrer = content.setdefault("referred_by", {})
        referrer["kind"] = kind
        ods = referrer.get("organisation", {}).get("ods")
        if not delivery.partner.may_act_for(ods):
            place = next(
                (n for n, f in self._form.fields.items() if f.to == "referred_by.organisation.ods"), "referred_by"
            )
            self._fault(place, "forbidden", "this credential is not authorised to act for this organisation")

    # -- needs and consents

    def _needs(self) -> list[dict[str, Any]]:
        ticked = self._answers.get("needs")
        if not isinstance(ticked, dict):
            self._fault(
                "needs", "required" if ticked is None else "invalid", "an object with the ticked needs is expected"
            )
            return []
        for name in sorted(ticked.keys() - self._form.needs.keys()):
            shown = f"needs.{name}" if PLAIN_NAME.match(name) else "needs"
            self._fault(shown, "invalid", "is not a need of this form; see its schema")
        found: dict[ServiceCode, list[str]] = {}
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
        for name in sorted(given.keys() - {*self._form.consents, "on", "by"}):
            shown = f"consents.{name}" if PLAIN_NAME.match(name) else "consents"
            self._fault(shown, "invalid", "is not a consent of this form; see its schema")
        read = {question: self._consent(question, given) for question in self._form.consents}
        return {question: answer for question, answer in read.items() if answer}

    def _consent(self, question: Question, given: dict[str, Any]) -> dict[str, Any] | None:
        answer = given.get(question)
        if answer is None:
            return None
        if answer not in rules.ANSWERS:
            self._fault(f"consents.{question}", "value", "yes, no or not-recorded is expected")
            return None
        return {"answer": answer} | self._when_and_by(given)

    def _when_and_by(self, given: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, kind in (("on", "date"), ("by", "line")):
            if given.get(name) is None:
                continue
            read = READERS[kind](given[name], ANY)
            if isinstance(read, Wrong):
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
        read = READERS["line"](value.strip() if isinstance(value, str) else value, ANY)
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
            self._fault(name, "value", "must be a date and time with an offset, such as 2026-11-05T09:30:00Z")
        return read


CANCELS: dict[str, CancelReason] = {
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
