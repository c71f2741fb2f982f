"""Read the answers of a form into the content of a referral. All faults are found at once; a warning refuses nothing."""

import re
from collections.abc import Mapping, Set
from dataclasses import replace
from datetime import date
from typing import Any

from schemas.referral import DeathReport, ServiceCode
from services.intake.translators import cleaning, plausibility
from services.intake.translators.form import answers, attachments, required_fields
from services.intake.translators.form.attachments import FormDocument
from services.intake.translators.form.definition import BUILT_IN, FieldOf, Form, FormNeed, Question
from services.intake.translators.form.fields import ANY, READERS, ParseError, plain_code
from services.intake.translators.form.required_fields import NOTES
from services.intake.translators.inbound_message import InboundMessage
from services.intake.translators.translator import (
    PLAIN_NAME,
    Issue,
    IssueKind,
    death_report,
    mark_no_fixed_abode,
    set_path,
    unique,
)

_REACHED = {"phone": re.compile(r"[0-9]"), "email": re.compile("@")}
"""What a telephone number and an e-mail address have at least."""

NOT_REACHED = "has no digit, or is an e-mail address without @: nobody can be reached by it"
BRACKETS = "has brackets, which no name has: check it"
CONTRADICTED = "contradicts the answer that the person has not died"
DENIED = "was asked for, although its note may deny it: if it is not asked for, send no"
NOT_A_NOTE = "must be yes, no or a note of a few words; a note does not begin with no"


class FormContent:
    """The answers of one form. `issues` refuse it, `warnings` do not; `documents` came with it."""

    def __init__(self, form: Form, submitted: Mapping[str, Any], inbound: InboundMessage) -> None:
        self._form = form
        self._answers = {
            **submitted,
            "referred_by": plain_code(submitted.get("referred_by")) or submitted.get("referred_by"),
        }
        self._inbound = inbound
        self._today = plausibility.today(inbound.received_at)
        self.documents: list[FormDocument] = []
        self.issues: list[Issue] = []
        self.warnings: list[Issue] = []

    def read(self) -> dict[str, Any]:
        """Return the content of the referral, as far as it can be read."""
        partner = self._inbound.partner
        person = {"vouched_by": partner.vouches, "restricted_access": False}
        content: dict[str, Any] = {"sent_by": partner.sender, "person": person}
        self._refuse_unknown(self._answers.keys() - self._form.fields.keys() - set(BUILT_IN), "field")
        self._pass_over_fillers()
        for name, field in self._form.fields.items():
            self._read(content, name, field)
        self._require()
        mark_no_fixed_abode(person)
        self._expect_discharge(content)
        self._referrer(content)
        return content | {"needs": self._needs(), "consents": self._consents()}

    def refuse_unclear(self) -> None:
        """Add the faults that refuse a cancel: a mistyped name or consent may be a withdrawal, which is more than a cancel."""
        self._refuse_unknown(self._answers.keys() - self._form.fields.keys() - set(BUILT_IN), "field")
        submitted = self._answered_consents()
        for question in self._form.consents:
            self._consent(question, submitted, {})

    def death(self) -> DeathReport | None:
        """Return the report of a death, for a cancel, which no fault of it prevents: its faults are warnings."""
        content: dict[str, Any] = {"person": {}}
        before = len(self.issues)
        for name, field in self._form.fields.items():
            if field.to.startswith("person.death_reported"):
                self._read(content, name, field)
        self.warnings += self.issues[before:]
        del self.issues[before:]
        return death_report(content["person"])

    def add_issue(self, place: str, kind: IssueKind, explanation: str) -> None:
        """Add a fault; each place has one."""
        if not any(issue.place == place for issue in self.issues):
            self.issues.append(Issue(place, kind, explanation))

    # -- fields

    def _refuse_unknown(self, names: Set[str], what: str, within: str = "") -> None:
        """Add a fault for each of these names, which the form does not have. Only a plain name is repeated."""
        for name in sorted(names):
            part = name.removeprefix(attachments.PART)
            named = f"{within}.{name}" if within else name
            place = named if PLAIN_NAME.match(part) else within or "(unknown field)"
            unknown = f"is not a {what} of this form; see its schema"
            self.issues.append(Issue(place, "invalid", unknown if part == name else attachments.NO_SUCH_FILE))

    def _require(self) -> None:
        for issue in required_fields.missing(self._form, self._answers):
            is_filler = any(warning.place == issue.place for warning in self.warnings)
            explanation = f"{issue.explanation}; what was sent is entered if it is not known"
            self.issues.append(replace(issue, explanation=explanation) if is_filler else issue)

    def _read(self, content: dict[str, Any], name: str, field: FieldOf) -> None:
        submitted = self._answers.get(name)
        if field.type == "attachments":
            self.documents += (
                attachments.read(name, submitted, self.add_issue) if answers.is_answered(submitted) else ()
            )
        elif (value := self._value(name, field, submitted)) is not None:
            set_path(content, field.to, value)

    def _value(self, place: str, field: FieldOf, submitted: Any) -> Any:
        """Return what an answer says; None if it is not given, says nothing, or is not valid."""
        if not answers.is_answered(submitted, field.type):
            return None
        read = READERS[field.type](submitted, field)
        if isinstance(read, ParseError):
            self.add_issue(place, read.kind, read.explanation)
            return None
        if doubt := self._doubt(field, read):
            self.add_issue(place, "value", doubt)
            return None
        if field.type == "postcode" and not plausibility.has_postcode_form(read):
            self.warnings.append(Issue(place, "value", plausibility.NO_POSTCODE_FORM))
        self._warn_of_letters(place, field, submitted)
        if any(field.to.endswith(f".{kind}") and not sign.search(str(read)) for kind, sign in _REACHED.items()):
            self.warnings.append(Issue(place, "value", NOT_REACHED))
        return read

    def _doubt(self, field: FieldOf, read: Any) -> str | None:
        """Return why a value that can be read is not plausible."""
        if field.to.startswith("person.death_reported.") and self._denies_death():
            return CONTRADICTED
        fillers = self._inbound.fillers
        if field.type == "nhs-number" and isinstance(read, str) and fillers.is_number(read):
            return plausibility.FILLER_NUMBER
        if field.type != "date" or not isinstance(read, date):
            return None
        doubt = plausibility.doubt(field.to, read, self._today, fillers)
        return doubt.explanation if doubt else None

    def _expect_discharge(self, content: dict[str, Any]) -> None:
        """Read a discharge in the future as expected: the stay is not over."""
        day = content.get("discharged_on")
        if day and day > self._today:
            del content["discharged_on"]
            content.setdefault("expected_discharge_on", day)
            names = [name for name, field in self._form.fields.items() if field.to == "discharged_on"]
            self.warnings += [Issue(name, "value", plausibility.DISCHARGE_AHEAD) for name in names]

    def _denies_death(self) -> bool:
        fields = self._form.fields.items()
        return any(
            field.to == "person.death_reported" and answers.is_no(self._answers.get(name)) for name, field in fields
        )

    def _warn_of_letters(self, place: str, field: FieldOf, value: Any) -> None:
        if field.type not in (*answers.TEXT_TYPES, "prose"):
            return
        texts = [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
        for explanation in unique([warning for text in texts for warning in cleaning.warnings(text)]):
            self.warnings.append(Issue(place, "value", explanation))
        if plausibility.is_place_of_name(field.to) and any(re.search(r"[()\[\]{}]", text) for text in texts):
            self.warnings.append(Issue(place, "value", BRACKETS))

    def _referrer(self, content: dict[str, Any]) -> None:
        kind = self._answers.get("referred_by")
        if self._form.referrer(kind) is None:
            expected = f"one of {', '.join(self._form.referrers)}"
            self._add_invalid("referred_by", kind, "value", expected)
            kind = "other"
        referrer = content.setdefault("referred_by", {})
        referrer["kind"] = kind
        ods = referrer.get("organisation", {}).get("ods")
        if not self._inbound.partner.may_act_for(ods):
            fields = self._form.fields.items()
            place = next((name for name, field in fields if field.to == "referred_by.organisation.ods"), "referred_by")
            self.add_issue(place, "forbidden", "this credential is not authorised to act for this organisation")

    def _add_invalid(self, place: str, value: Any, kind: IssueKind, expected: str) -> None:
        """Add a fault for a value that is missing or not what is expected."""
        if answers.is_answered(value):
            self.add_issue(place, kind, f"must be {expected}")
        else:
            self.add_issue(place, "required", f"is required: {expected}")

    # -- fillers

    def _pass_over_fillers(self) -> None:
        """Take away names and dates that are entered if none is known, with a warning."""
        for name, field in self._form.fields.items():
            if plausibility.is_place_of_name(field.to):
                self._pass_over_names(name, field)
            elif field.type == "date" and plausibility.KINDS[field.to] != "birth":
                self._pass_over_date(name, self._answers)
        if isinstance(consents := self._answers.get("consents"), dict):
            self._answers["consents"] = dict(consents)
            self._pass_over_date("on", self._answers["consents"], "consents.on")

    def _pass_over_names(self, name: str, field: FieldOf) -> None:
        value = self._answers.get(name)
        if isinstance(value, str) and field.type == "lines":
            value = cleaning.prose(value).split("\n")
        names = value if isinstance(value, list) else [value]
        kept = [one for one in names if not self._is_filler(one)]
        if len(kept) < len(names):
            self._answers[name] = kept
            self.warnings.append(Issue(name, "value", plausibility.FILLER_NAME))

    def _is_filler(self, name: Any) -> bool:
        return isinstance(name, str) and self._inbound.fillers.is_name(cleaning.line(name))

    def _pass_over_date(self, name: str, submitted: dict[str, Any], place: str | None = None) -> None:
        read = READERS["date"](submitted.get(name), ANY)
        if isinstance(read, date) and self._inbound.fillers.is_date(read):
            submitted[name] = None
            self.warnings.append(Issue(place or name, "value", plausibility.FILLER_DATE))

    # -- needs

    def _needs(self) -> list[dict[str, Any]]:
        ticked = self._answers.get("needs")
        if not isinstance(ticked, dict):
            self._add_invalid("needs", ticked, "invalid", "an object with the ticked needs")
            return []
        self._refuse_unknown(ticked.keys() - self._form.needs.keys(), "need", "needs")
        by_service: dict[ServiceCode, list[str]] = {}
        for name, need in self._form.needs.items():
            if text := self._ticked(name, need, ticked.get(name)):
                by_service.setdefault(need.service, []).append(text)
        if not by_service and not any(issue.place.startswith("needs") for issue in self.issues):
            self.add_issue("needs", "required", "at least one need must be ticked")
        return [{"service": service, "text": "\n".join(text)} for service, text in by_service.items()]

    def _ticked(self, name: str, need: FormNeed, answer: Any) -> str | None:
        """Return a ticked entry's label, with its note if there is one; None if it is not ticked."""
        if answers.is_not_ticked(answer):
            return None
        if answers.is_yes(answer):
            return need.label
        if not answers.is_note(answer):
            self.add_issue(f"needs.{name}", "value", NOT_A_NOTE)
            return None
        self._warn_of_letters(f"needs.{name}", ANY, answer)
        if answers.denies(answer):
            self.warnings.append(Issue(f"needs.{name}", "value", DENIED))
        return f"{need.label}: {cleaning.prose(answer)}"

    # -- consents

    def _consents(self) -> dict[str, Any]:
        submitted = self._answered_consents()
        notes = {name: self._value(f"consents.{name}", field, submitted.get(name)) for name, field in NOTES.items()}
        details = {name: value for name, value in notes.items() if value is not None}
        read = {question: self._consent(question, submitted, details) for question in self._form.consents}
        return {question: answer for question, answer in read.items() if answer}

    def _answered_consents(self) -> dict[str, Any]:
        submitted = self._answers.get("consents")
        if not isinstance(submitted, dict):
            if answers.is_answered(submitted):
                self.add_issue("consents", "invalid", "must be an object with the answers")
            return {}
        self._refuse_unknown(submitted.keys() - {*self._form.consents, *NOTES}, "consent", "consents")
        return submitted

    def _consent(self, question: Question, submitted: dict[str, Any], details: dict[str, Any]) -> dict[str, Any] | None:
        answer = answers.consent(submitted.get(question))
        if answer == "unclear":
            self.add_issue(f"consents.{question}", "value", "must be yes, no or not-recorded")
        return {"answer": answer} | details if answer and answer != "unclear" else None
