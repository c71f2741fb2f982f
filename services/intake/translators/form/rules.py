"""What must be given, and with what: the rules of a form beyond a single field. Its published schema says the same (schema.py)."""

from collections.abc import Iterator
from typing import Any

from services.intake.translators.contract import Fault
from services.intake.translators.form.definition import Form, Question, ReferrerOf

ANSWERS = ("yes", "no", "not-recorded")
NOTES = {"on": "When they were asked", "by": "Who asked"}


def is_given(value: Any) -> bool:
    """False for what senders write where they have nothing to say."""
    if isinstance(value, list):
        return any(is_given(one) for one in value)
    return bool(value.strip()) if isinstance(value, str) else value is not None


def missing(form: Form, answers: dict[str, Any]) -> Iterator[Fault]:
    """Everything that is required; each place once."""
    given = {name for name in form.fields if is_given(answers.get(name))}
    kind = answers.get("referred_by")
    referrer = form.referrer(kind)
    named: set[str] = set()
    for fault in (*_fields(form, given, kind, referrer), *_consents(form, answers, given, kind, referrer)):
        if fault.place not in named:
            named.add(fault.place)
            yield fault


def _fields(form: Form, given: set[str], kind: Any, referrer: ReferrerOf | None) -> Iterator[Fault]:
    for name, field in form.fields.items():
        if field.required and name not in given:
            yield Fault(name, "required", "is required")
    for name in referrer.requires if referrer else ():
        if name not in given:
            yield Fault(name, "required", f"is required where referred_by is {kind}")
    for name, field in form.fields.items():
        for other in field.with_ if name in given else ():
            if other not in given:
                yield Fault(other, "required", f"is required where {name} is given")
    for names in form.one_of:
        if not given.intersection(names):
            yield Fault(names[0], "required", f"at least one of {', '.join(names)} is required")


def _consents(
    form: Form, answers: dict[str, Any], given: set[str], kind: Any, referrer: ReferrerOf | None
) -> Iterator[Fault]:
    said = answers.get("consents", {})
    if not isinstance(said, dict):
        return
    for question, why in _must_be_yes(form, given, kind, referrer):
        if said.get(question) in (None, "not-recorded"):
            yield Fault(f"consents.{question}", "required", f"a yes is required where {why}")
    for question, asked in form.consents.items():
        if asked.required and said.get(question) is None:
            yield Fault(f"consents.{question}", "required", "must be answered: yes, no or not-recorded")
        for note in asked.noted if said.get(question) == "yes" else ():
            if said.get(note) is None:
                yield Fault(f"consents.{note}", "required", f"is required with a yes to {question}: {NOTES[note]}")


def _must_be_yes(form: Form, given: set[str], kind: Any, referrer: ReferrerOf | None) -> Iterator[tuple[Question, str]]:
    """A no is left alone: it takes the referral back, or has it refused with what to do instead."""
    for question in referrer.says_yes if referrer else ():
        yield question, f"referred_by is {kind}"
    for name, field in form.fields.items():
        if field.agreed is not None and name in given:
            yield field.agreed, f"{name} is given"
