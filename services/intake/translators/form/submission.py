"""Translate a submitted form into a canonical referral by the form's definition. All faults are found at once."""

from datetime import date
from typing import Any

from pydantic import ValidationError

from schemas.case import EndReason
from schemas.referral import DeathReport, Referral, ServiceCode
from services.intake.translators import json_text, plausibility
from services.intake.translators.form import required_fields
from services.intake.translators.form.definition import BUILT_IN, FieldOf, Form, FormNeed, Question
from services.intake.translators.form.fields import ANY, READERS, ParseError
from services.intake.translators.inbound_message import InboundMessage, Translator
from services.intake.translators.translator import (
    PLAIN_NAME,
    CancelReason,
    Issue,
    IssueKind,
    Rejection,
    Translated,
    cancel_hash,
    content_hash,
    death_report,
    fhir_path,
    issues_of,
    parse_instant,
    reject,
    set_path,
)


def translator(form: Form) -> Translator:
    """Return the translator of one form."""
    return lambda inbound: _translate(form, inbound)


def _translate(form: Form, inbound: InboundMessage) -> Translated | Rejection:
    answers = _json(inbound.body)
    if isinstance(answers, Rejection):
        return answers
    submission = _Submission(form, answers)
    if answers.get("cancelled") is True:
        return submission.cancel(inbound)
    return submission.referral(inbound)


def _json(body: bytes) -> dict[str, Any] | Rejection:
    raw = json_text.read(body, "form")
    if isinstance(raw, dict | Rejection):
        return raw
    return reject(Issue("form", "invalid", "must be a JSON object with the form's fields"))


class _Submission:
    """A submitted form: reads each part and collects the faults."""

    def __init__(self, form: Form, answers: dict[str, Any]) -> None:
        self._form = form
        self._answers = answers
        self._issues: list[Issue] = []

    def cancel(self, inbound: InboundMessage) -> Translated | Rejection:
        """Translate a form that cancels the referral; only its reference is required."""
        reference, sent_at = self._line("reference", required=True), self._moment("completed_at")
        reason = CANCELS.get(str(self._answers.get("cancel_reason", "cancelled-by-referrer")))
        if reason is None:
            self._add_issue("cancel_reason", "value", f"must be one of {', '.join(CANCELS)}")
        if self._issues or reference is None or reason is None:
            return Rejection(tuple(self._issues))
        return self._cancelled(inbound, reference, sent_at, reason, self._death(inbound))

    def _death(self, inbound: InboundMessage) -> DeathReport | None:
        """Return the report of a death; faults must not prevent a cancel."""
        content: dict[str, Any] = {"person": {}}
        for name, field in self._form.fields.items():
            if field.to.startswith("person.death_reported"):
                self._read(content, name, field, inbound.received_at.date())
        self._issues.clear()
        return death_report(content["person"])

    def _cancelled(
        self,
        inbound: InboundMessage,
        reference: str,
        sent_at: Any,
        reason: CancelReason,
        death_reported: DeathReport | None,
    ) -> Translated:
        digest = cancel_hash(reason, None, death_reported)
        return Translated(
            message_ids=self._message_ids(reference, sent_at, digest),
            referral_id=self._referral_id(reference),
            intent="cancel",
            content_hash=digest,
            cancel_reason=reason,
            death_reported=death_reported,
            sent_at=sent_at,
            correlation_id=inbound.correlation_id,
        )

    def referral(self, inbound: InboundMessage) -> Translated | Rejection:
        """Translate a whole form. If consent to the referral is no, the form cancels the referral."""
        reference, sent_at = self._line("reference", required=True), self._moment("completed_at")
        content = self._content(inbound)
        withdrawn = content["consents"].get("referral", {}).get("answer") == "no"
        if withdrawn and reference and not self._issues:
            died = death_report(content["person"])
            return self._cancelled(inbound, reference, sent_at, EndReason.CONSENT_WITHDRAWN, died)
        content["message"] = {
            "format": "form",
            "message_id": reference or "unknown",
            "referral_id": reference or "unknown",
            "sent_at": sent_at,
        }
        try:
            referral = Referral.model_validate(content)
        except ValidationError as error:
            self._issues += [issue for issue in issues_of(error, self._field_of) if not self._is_named(issue.place)]
        if self._issues or reference is None:
            return Rejection(tuple(self._issues[:50]))
        digest = content_hash(referral)
        return Translated(
            message_ids=self._message_ids(reference, sent_at, digest),
            referral_id=self._referral_id(reference),
            intent="either",
            content_hash=digest,
            referral=referral,
            sent_at=sent_at,
            correlation_id=inbound.correlation_id,
        )

    def _referral_id(self, reference: str) -> str:
        """Return the form's name and reference: two forms of one partner may both number references from 1."""
        return f"{self._form.form}:{reference}"

    def _message_ids(self, reference: str, sent_at: Any, digest: str) -> tuple[str, ...]:
        """Identify a message of the referral by the sender's time and the content."""
        return (f"form:{self._form.form}:{reference}:{sent_at.isoformat()}:{digest}",) if sent_at else ()

    def _content(self, inbound: InboundMessage) -> dict[str, Any]:
        for name in sorted(self._answers.keys() - self._form.fields.keys() - set(BUILT_IN)):
            shown = name if PLAIN_NAME.match(name) else "(unknown field)"
            self._add_issue(shown, "invalid", "is not a field of this form; see its schema")
        if self._answers.get("form", self._form.form) != self._form.form:
            self._add_issue("form", "value", f"must be {self._form.form}")
        if self._answers.get("cancelled") not in (None, False):
            self._add_issue("cancelled", "invalid", "must be true or false")
        person = {"vouched_by": inbound.partner.vouches, "restricted_access": False}
        content: dict[str, Any] = {"sent_by": inbound.partner.sender, "person": person}
        for name, field in self._form.fields.items():
            self._read(content, name, field, inbound.received_at.date())
        self._issues += required_fields.missing(self._form, self._answers)
        self._address(content)
        self._referrer(content, inbound)
        return content | {"needs": self._needs(), "consents": self._consents()}

    # -- fields

    def _read(self, content: dict[str, Any], name: str, field: FieldOf, today: date) -> None:
        value = self._answers.get(name)
        if not required_fields.is_answered(value):
            return
        read = READERS[field.type](value.strip() if isinstance(value, str) else value, field)
        if isinstance(read, ParseError):
            self._add_issue(name, read.kind, read.explanation)
        elif (
            field.to == "person.birth_date"
            and isinstance(read, date)
            and not plausibility.is_plausible_birth(read, today)
        ):
            self._add_issue(name, "value", plausibility.IMPLAUSIBLE_BIRTH)
        else:
            set_path(content, field.to, read)

    def _address(self, content: dict[str, Any]) -> None:
        """Set `no_fixed_abode` for a ZZ99 postcode, the NHS code for it."""
        for name in ("address", "temporary_address"):
            address = content.get("person", {}).get(name)
            if address and str(address.get("postcode", "")).startswith("ZZ99"):
                address["no_fixed_abode"] = True

    def _referrer(self, content: dict[str, Any], inbound: InboundMessage) -> None:
        kind = self._answers.get("referred_by")
        definition = self._form.referrer(kind)
        if definition is None:
            self._add_invalid("referred_by", kind, "value", f"one of {', '.join(self._form.referrers)}")
            kind = "other"
        referrer = content.setdefault("referred_by", {})
        referrer["kind"] = kind
        ods = referrer.get("organisation", {}).get("ods")
        if not inbound.partner.may_act_for(ods):
            place = next(
                (n for n, f in self._form.fields.items() if f.to == "referred_by.organisation.ods"), "referred_by"
            )
            self._add_issue(place, "forbidden", "this credential is not authorised to act for this organisation")

    # -- needs and consents

    def _needs(self) -> list[dict[str, Any]]:
        ticked = self._answers.get("needs")
        if not isinstance(ticked, dict):
            self._add_invalid("needs", ticked, "invalid", "an object with the ticked needs")
            return []
        self._reject_unknown_needs(ticked)
        by_service: dict[ServiceCode, list[str]] = {}
        for name, need in self._form.needs.items():
            text = self._ticked(name, need, ticked.get(name, False))
            if text:
                by_service.setdefault(need.service, []).append(text)
        if not by_service and not any(issue.place.startswith("needs") for issue in self._issues):
            self._add_issue("needs", "required", "at least one need must be ticked")
        return [{"service": service, "text": "\n".join(text)} for service, text in by_service.items()]

    def _reject_unknown_needs(self, ticked: dict[str, Any]) -> None:
        for name in sorted(ticked.keys() - self._form.needs.keys()):
            shown = f"needs.{name}" if PLAIN_NAME.match(name) else "needs"
            self._add_issue(shown, "invalid", "is not a need of this form; see its schema")

    def _ticked(self, name: str, need: FormNeed, answer: Any) -> str | None:
        """Return a ticked entry's label, with its note if there is one; None if it is not ticked."""
        if isinstance(answer, str):
            return f"{need.label}: {answer.strip()}" if answer.strip() else None
        if not isinstance(answer, bool) and answer is not None:
            self._add_issue(f"needs.{name}", "invalid", "must be true, false or a note")
        return need.label if answer is True else None

    def _consents(self) -> dict[str, Any]:
        answers = self._answers.get("consents", {})
        if not isinstance(answers, dict):
            self._add_issue("consents", "invalid", "must be an object with the answers")
            return {}
        for name in sorted(answers.keys() - {*self._form.consents, "on", "by"}):
            shown = f"consents.{name}" if PLAIN_NAME.match(name) else "consents"
            self._add_issue(shown, "invalid", "is not a consent of this form; see its schema")
        read = {question: self._consent(question, answers) for question in self._form.consents}
        return {question: answer for question, answer in read.items() if answer}

    def _consent(self, question: Question, answers: dict[str, Any]) -> dict[str, Any] | None:
        answer = answers.get(question)
        if answer is None:
            return None
        if answer not in required_fields.ANSWERS:
            self._add_issue(f"consents.{question}", "value", "must be yes, no or not-recorded")
            return None
        return {"answer": answer} | self._when_and_by(answers)

    def _when_and_by(self, answers: dict[str, Any]) -> dict[str, Any]:
        details: dict[str, Any] = {}
        for name, kind in (("on", "date"), ("by", "line")):
            if answers.get(name) is None:
                continue
            read = READERS[kind](answers[name], ANY)
            if isinstance(read, ParseError):
                if not self._is_named(f"consents.{name}"):
                    self._add_issue(f"consents.{name}", read.kind, read.explanation)
            else:
                details[name] = read
        return details

    # -- places

    def _add_issue(self, place: str, kind: IssueKind, explanation: str) -> None:
        self._issues.append(Issue(place, kind, explanation))

    def _add_invalid(self, place: str, value: Any, kind: IssueKind, expected: str) -> None:
        """Add a fault for a value that is missing or not what is expected."""
        if value is None:
            self._add_issue(place, "required", f"is required: {expected}")
        else:
            self._add_issue(place, kind, f"must be {expected}")

    def _is_named(self, place: str) -> bool:
        return any(issue.place == place for issue in self._issues)

    def _field_of(self, loc: tuple[int | str, ...]) -> str:
        """Return the field that fills this place of the canonical referral."""
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
            self._add_invalid(name, value, "invalid", "a string of at most 200 characters")
        return None

    def _moment(self, name: str) -> Any:
        value = self._answers.get(name)
        read = parse_instant(value) if isinstance(value, str) else None
        if value is not None and read is None:
            self._add_issue(name, "value", "must be a date and time with an offset, such as 2026-11-05T09:30:00Z")
        return read


CANCELS: dict[str, CancelReason] = {
    "cancelled-by-referrer": EndReason.CANCELLED_BY_REFERRER,
    "referred-in-error": EndReason.REFERRED_IN_ERROR,
    "consent-withdrawn": EndReason.CONSENT_WITHDRAWN,
}
