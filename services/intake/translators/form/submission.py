"""Translate a submitted form into a canonical referral by the form's definition, or into the cancel of one."""

import re
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from schemas.case import EndReason
from schemas.referral import Referral
from services.intake import limits
from services.intake.translators import json_text, plausibility
from services.intake.translators.form import answers, attachments
from services.intake.translators.form.content import FormContent
from services.intake.translators.form.definition import Form
from services.intake.translators.form.fields import ANY, READERS, ParseError, plain_code
from services.intake.translators.inbound_message import InboundMessage, Translator
from services.intake.translators.translator import (
    AttachmentContent,
    CancelReason,
    Issue,
    Rejection,
    Subject,
    Translated,
    cancel_hash,
    content_hash,
    fhir_path,
    issues_of,
    reject,
)

WITHDRAWN = "consent-withdrawn"
CANCELS: dict[str, CancelReason] = {
    "cancelled-by-referrer": EndReason.CANCELLED_BY_REFERRER,
    "referred-in-error": EndReason.REFERRED_IN_ERROR,
    WITHDRAWN: EndReason.CONSENT_WITHDRAWN,
}

_REFERENCE = "a text of at most 200 characters, without control characters"
_TO_THE_MINUTE = re.compile(r"[T ][0-9]{2}:[0-9]{2}(Z|[+-])")


def translator(form: Form) -> Translator:
    """Return the translator of one form."""
    return lambda inbound: _translate(form, inbound)


def _translate(form: Form, inbound: InboundMessage) -> Translated | Rejection:
    submitted = _submitted(form, inbound.body)
    if isinstance(submitted, Rejection):
        return submitted
    submission = _Submission(form, submitted, inbound)
    if _withdraws(submitted):
        return submission.withdrawal()
    return submission.cancel() if answers.is_yes(submitted.get("cancelled")) else submission.referral()


def _submitted(form: Form, body: bytes) -> dict[str, Any] | Rejection:
    """Return the answers of a form, with the files of a multipart body as further entries of their fields."""
    unpacked = attachments.unpacked(form, body)
    if isinstance(unpacked, Rejection):
        return unpacked
    content, files = unpacked
    submitted = json_text.read(content, "form")
    if isinstance(submitted, Rejection):
        return submitted
    if not isinstance(submitted, dict):
        return reject(Issue("form", "invalid", "must be a JSON object with the form's fields"))
    in_json: dict[str, Any] = {
        name: submitted.get(name) if answers.is_answered(submitted.get(name)) else [] for name in files
    }
    return submitted | {name: [*held, *files[name]] for name, held in in_json.items() if isinstance(held, list)}


def _withdraws(submitted: dict[str, Any]) -> bool:
    """Return whether a form withdraws consent: by a no to the referral, or by its reason, unless it says that it cancels nothing."""
    consents = submitted.get("consents")
    if isinstance(consents, dict) and answers.consent(consents.get("referral")) == "no":
        return True
    return plain_code(submitted.get("cancel_reason")) == WITHDRAWN and not _cancels_nothing(submitted)


def _cancels_nothing(submitted: dict[str, Any]) -> bool:
    """Return whether a form says that it does not cancel the referral."""
    cancelled = submitted.get("cancelled")
    return answers.is_no(cancelled) or answers.is_not_applicable(cancelled)


class _Submission:
    """A submitted form: its identity, and what it asks for."""

    def __init__(self, form: Form, submitted: dict[str, Any], inbound: InboundMessage) -> None:
        self._form = form
        self._submitted = submitted
        self._inbound = inbound
        self._content = FormContent(form, submitted, inbound)
        self._documents: dict[str, AttachmentContent] = {}
        self._reference = self._read_reference()
        self._sent_at = self._read_sent_at()

    def withdrawal(self) -> Translated | Rejection:
        """Translate a withdrawal of consent. Only its reference can prevent it; another fault is a warning."""
        issues = tuple(self._content.issues)
        unnamed = tuple(issue for issue in issues if issue.place == "reference")
        if unnamed:
            return Rejection(unnamed)
        return self._cancelled(EndReason.CONSENT_WITHDRAWN, warnings=issues)

    def cancel(self) -> Translated | Rejection:
        """Translate a form that cancels the referral; only its reference is required, and nothing in it may be unknown."""
        self._require_this_form()
        self._content.refuse_unclear()
        reason = self._reason()
        if self._content.issues or reason is None:
            return Rejection(tuple(self._content.issues))
        return self._cancelled(reason)

    def _reason(self) -> CancelReason | None:
        given = self._submitted.get("cancel_reason")
        reason = CANCELS.get(plain_code(given)) if answers.is_answered(given) else EndReason.CANCELLED_BY_REFERRER
        if reason is None:
            self._content.add_issue("cancel_reason", "value", f"must be one of {', '.join(CANCELS)}")
        return reason

    def _cancelled(self, reason: CancelReason, warnings: tuple[Issue, ...] = ()) -> Translated:
        died = self._content.death()
        warnings += tuple(self._content.warnings)
        digest = cancel_hash(reason, None, died)
        return Translated(
            message_ids=self._message_ids(digest),
            referral_id=self._referral_id,
            intent="cancel",
            content_hash=digest,
            cancel_reason=reason,
            death_reported=died,
            sent_at=self._sent_at,
            sent_until=self._sent_until,
            warnings=warnings,
            correlation_id=self._inbound.correlation_id,
        )

    def referral(self) -> Translated | Rejection:
        """Translate a whole form."""
        self._require_no_cancel()
        referral = self._referral()
        if self._content.issues or referral is None:
            return Rejection(tuple(self._content.issues[: limits.ISSUES]))
        digest = content_hash(referral)
        return Translated(
            message_ids=self._message_ids(digest),
            referral_id=self._referral_id,
            intent="either",
            content_hash=digest,
            referral=referral,
            sent_at=self._sent_at,
            sent_until=self._sent_until,
            warnings=tuple(self._content.warnings),
            subject=Subject.of(referral.person),
            correlation_id=self._inbound.correlation_id,
            documents=tuple(self._documents.values()),
        )

    def _require_no_cancel(self) -> None:
        """Refuse a form that leaves open whether it cancels the referral."""
        cancelled, reason = self._submitted.get("cancelled"), self._submitted.get("cancel_reason")
        cancels_nothing = _cancels_nothing(self._submitted)
        if answers.is_answered(cancelled) and not cancels_nothing:
            self._content.add_issue("cancelled", "value", "must be yes or no")
        if self._reason() and answers.is_answered(reason) and not cancels_nothing:
            self._content.add_issue("cancelled", "required", "must be yes or no if cancel_reason is given")
        elif plain_code(reason) == WITHDRAWN:
            self._content.add_issue("cancel_reason", "value", "contradicts cancelled: no")
        self._require_this_form()

    def _require_this_form(self) -> None:
        if answers.is_answered(self._submitted.get("form")) and plain_code(self._submitted["form"]) != self._form.form:
            self._content.add_issue("form", "value", f"must be {self._form.form}")

    def _referral(self) -> Referral | None:
        content = self._content.read()
        content["message"] = {
            "format": "form",
            "message_id": self._reference or "unknown",
            "referral_id": self._reference or "unknown",
            "sent_at": self._sent_at,
        }
        if attached := self._attachments():
            content["attachments"] = attached
        try:
            return Referral.model_validate(content)
        except ValidationError as error:
            for issue in issues_of(error, self._field_of):
                self._content.add_issue(issue.place, issue.kind, issue.explanation)
        return None

    def _attachments(self) -> list[dict[str, Any]]:
        """Return the documents as the referral names them, each content once."""
        by_reference: dict[str, dict[str, Any]] = {}
        for document in self._content.documents:
            named, stored = document.stored(self._inbound, self._referral_id)
            by_reference.setdefault(stored.reference, named)
            self._documents.setdefault(stored.reference, stored)
        return list(by_reference.values())

    def _field_of(self, loc: tuple[int | str, ...]) -> str:
        """Return the field that fills this place of the canonical referral."""
        path = ".".join(map(str, loc))
        fed = [name for name, field in self._form.fields.items() if path == field.to or path.startswith(f"{field.to}.")]
        if fed:
            return fed[0]
        return "reference" if loc[0] == "message" else fhir_path(str(loc[0]), loc[1:])

    # -- identity

    @property
    def _referral_id(self) -> str:
        """The form's name and reference: two forms of one partner may both number references from 1."""
        return f"{self._form.form}:{self._reference}"

    def _message_ids(self, digest: str) -> tuple[str, ...]:
        """Identify a message of the referral by the sender's time and the content."""
        sent_at = self._sent_at
        return (f"form:{self._referral_id}:{sent_at.isoformat()}:{digest}",) if sent_at else ()

    def _read_reference(self) -> str | None:
        value = self._submitted.get("reference")
        code = plain_code(value)
        if not answers.is_answered(value, "line"):
            self._content.add_issue("reference", "required", f"is required: {_REFERENCE}")
        elif not 0 < len(code) <= 200:
            self._content.add_issue("reference", "invalid", f"must be {_REFERENCE}")
        return code or None

    def _read_sent_at(self) -> datetime | None:
        value = self._submitted.get("completed_at")
        read = READERS["moment"](value, ANY) if answers.is_answered(value) else None
        if isinstance(read, ParseError):
            self._content.add_issue("completed_at", read.kind, read.explanation)
            return None
        if plausibility.is_ahead(read, self._inbound.received_at):
            self._content.add_issue("completed_at", "value", plausibility.IS_AHEAD)
            return None
        return read if isinstance(read, datetime) else None

    @property
    def _sent_until(self) -> datetime | None:
        """The end of the minute, if the time is given to the minute."""
        to_the_minute = _TO_THE_MINUTE.search(plain_code(self._submitted.get("completed_at")))
        return self._sent_at + timedelta(minutes=1) if self._sent_at and to_the_minute else None
