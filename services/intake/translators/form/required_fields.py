"""Required fields and consents: the rules of a form beyond a single field. schema.py publishes the same rules."""

from collections.abc import Iterator
from typing import Any

from services.intake.translators.form.answers import consent, is_answered
from services.intake.translators.form.definition import FieldOf, Form, Question, ReferrerOf
from services.intake.translators.translator import Issue

NOTES = {
    "on": FieldOf(label="Date of the consent", type="date", to="consents.referral.on"),
    "by": FieldOf(label="Person who asked for the consent", to="consents.referral.by"),
}
"""Details of the consents, which count for each of them."""


def missing(form: Form, answers: dict[str, Any]) -> Iterator[Issue]:
    """Yield a fault for each missing value; each place once."""
    answered = {name for name, field in form.fields.items() if is_answered(answers.get(name), field.type)}
    kind = answers.get("referred_by")
    referrer = form.referrer(kind)
    named: set[str] = set()
    for issue in (*_fields(form, answered, kind, referrer), *_consents(form, answers, answered, kind, referrer)):
        if issue.place not in named:
            named.add(issue.place)
            yield issue


def _fields(form: Form, answered: set[str], kind: Any, referrer: ReferrerOf | None) -> Iterator[Issue]:
    for name, field in form.fields.items():
        if field.required and name not in answered:
            yield Issue(name, "required", "is required")
    for name in referrer.requires if referrer else ():
        if name not in answered:
            yield Issue(name, "required", f"is required if referred_by is {kind}")
    for name, field in form.fields.items():
        for other in field.with_ if name in answered else ():
            if other not in answered:
                yield Issue(other, "required", f"is required if {name} is given")
    for names in form.one_of:
        if not answered.intersection(names):
            yield Issue(names[0], "required", f"at least one of {', '.join(names)} is required")


def _consents(
    form: Form, answers: dict[str, Any], answered: set[str], kind: Any, referrer: ReferrerOf | None
) -> Iterator[Issue]:
    consents = answers.get("consents") if is_answered(answers.get("consents")) else {}
    if not isinstance(consents, dict):
        return
    for question, condition in _must_be_yes(form, answered, kind, referrer):
        if consent(consents.get(question)) in (None, "not-recorded"):
            yield Issue(f"consents.{question}", "required", f"must be yes if {condition}")
    for question, definition in form.consents.items():
        if definition.required and not is_answered(consents.get(question)):
            yield Issue(f"consents.{question}", "required", "must be answered: yes, no or not-recorded")
        for note in definition.noted if consent(consents.get(question)) == "yes" else ():
            if not is_answered(consents.get(note), NOTES[note].type):
                yield Issue(f"consents.{note}", "required", f"is required if {question} is yes: {NOTES[note].label}")


def _must_be_yes(
    form: Form, answered: set[str], kind: Any, referrer: ReferrerOf | None
) -> Iterator[tuple[Question, str]]:
    """Yield the consents that must be yes. A no is handled elsewhere: it cancels or rejects the referral."""
    for question in referrer.says_yes if referrer else ():
        yield question, f"referred_by is {kind}"
    for name, field in form.fields.items():
        if field.agreed is not None and name in answered:
            yield field.agreed, f"{name} is given"
