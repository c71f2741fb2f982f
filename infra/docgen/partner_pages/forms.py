"""The page of a form."""

from collections.abc import Iterable, Iterator

from infra.docgen.markdown import code, place, section, table
from services.intake.translators.form.answers import CONSENTS, NO, NOT_APPLICABLE, YES
from services.intake.translators.form.definition import FieldOf, Form
from services.intake.translators.form.fields import largest
from services.intake.translators.form.required_fields import NOTES
from services.intake.translators.form.submission import CANCELS
from services.reference.directory import Directory
from services.reference.partners import Partner

TYPES = {
    "line": "a text, at most 200 characters",
    "prose": "a text, at most 5,000 characters",
    "lines": "a list of texts, or one text with line ends",
    "date": "a date such as `2026-11-05`",
    "moment": "a date and time with an offset, such as `2026-11-05T09:30:00Z`",
    "yes-no": "`yes` or `no`, in one of the words above",
    "nhs-number": "ten digits with a valid check digit; blanks are allowed",
    "postcode": "a postcode such as `LE11 5AA`; `ZZ99 3VZ` for no fixed abode",
    "ods": "an ODS code such as `B81001`",
    "ons": "an ONS district code such as `E07000130`",
    "uprn": "a number of at most 12 digits",
    "textphone": "a textphone number, at most 200 characters",
    "attachments": "a list of documents, each with `title`, `media_type` and `content` (base64); or files of this name",
}


def page(form: Form, senders: list[Partner], directory: Directory) -> list[str]:
    """Return the page: the form's fields, needs and consents, and where each value goes."""
    return [
        f"# {form.title}",
        "",
        f"JSON, `POST /forms/{form.form}`; its schema for programs is at `/forms/{form.form}/schema`. The names in the first",
        "columns below are the names in the JSON. A refusal lists all faults at once, by these names.",
        "",
        *(_BY_PARTS if form.attachment_fields else ()),
        f"Sent by: {', '.join(partner.name for partner in senders) or 'no partner yet'}.",
        "",
        *section("Yes, no and not given", *_ANSWERS),
        *section("Fields of every form", *table(("field", "what it is", "target field"), _of_every_form())),
        *section("Referrers", *table(("`referred_by`", "referrer", "then required"), _referrers(form))),
        *section(
            "Fields", *table(("field", "what it is", "accepted values", "required", "target field"), _fields(form))
        ),
        *section("Needs", *_NEEDS, *table(("`needs.`", "what it is", "service"), _needs(form, directory))),
        *section("Consents", *_CONSENTS, *table(("`consents.`", "question", "required"), _consents(form))),
        *section("Cancelling a referral", *_CANCELS),
    ]


def places(form: Form) -> set[str]:
    """Return the places of the referral to which the fields and the date of consent lead."""
    return {*(field.to for field in form.fields.values()), *(f"consents.{question}.on" for question in form.consents)}


_BY_PARTS = (
    "With files the body is `multipart/form-data`: the JSON is its part `form`, and each file has the name of its field.",
    "",
)


def _codes(words: Iterable[str]) -> str:
    return ", ".join(map(code, words))


_ANSWERS = (
    f"Yes is true, 1, {_codes(YES)}; no is false, 0, {_codes(NO)}; {_codes(NOT_APPLICABLE)}",
    "mean that the question does not apply. Case does not count. null, a blank text and an empty list are not given, in every place;",
    "so is a text without a letter or digit, in a field for names and other words.",
    "",
)
_NEEDS = (
    "At least one is required: a yes, or a note, which is stored with the need. A no, or an answer that does not apply, asks for nothing.",
    "An answer that is neither is refused by its field, such as `maybe`, `?`, or a note that begins with no.",
    "",
)
_CONSENTS = (
    f"Answers: {', '.join(map(code, CONSENTS))}. A no to `referral` cancels the referral, in spite of all other faults; if there is none, "
    "the form is refused and the response states what to do instead.",
    "",
)
_CANCELS = (
    "`reference` with a yes to `cancelled` is enough; `cancel_reason` may give the reason: "
    f"{', '.join(map(code, CANCELS))} (default: {code(next(iter(CANCELS)))}).",
    "",
)


def _of_every_form() -> Iterator[tuple[str, ...]]:
    yield (
        code("reference"),
        "your own reference, which identifies the referral (required)",
        place("message.referral_id"),
    )
    yield code("completed_at"), f"when the form was completed: {TYPES['moment']}", place("message.sent_at")
    yield code("form"), "the form's name; optional", ""


def _referrers(form: Form) -> Iterator[tuple[str, ...]]:
    for kind, referrer in form.referrers.items():
        yes = [f"a yes to {code(f'consents.{question}')}" for question in referrer.says_yes]
        yield code(kind), referrer.label, ", ".join([*map(code, referrer.requires), *yes])


def _fields(form: Form) -> Iterator[tuple[str, ...]]:
    for name, field in form.fields.items():
        yield code(name), field.label, _takes(field), _required(form, name), place(field.to)


def _takes(field: FieldOf) -> str:
    if field.type == "number":
        return f"a whole number, 0 to {largest(field)}"
    if field.type == "flags":
        return "a list of: " + "; ".join(f"{code(name)} ({label})" for name, label in field.choices.items())
    if field.type == "choice":
        return "; ".join(name if name == meaning else f"{name} ({meaning})" for name, meaning in _shown(field).items())
    return TYPES[field.type]


def _shown(field: FieldOf) -> dict[str, str]:
    return {code(name): code(name) if name == meaning else meaning for name, meaning in field.choices.items()}


def _required(form: Form, name: str) -> str:
    field = form.fields[name]
    if field.required:
        return "yes"
    companions = [other for other, one in form.fields.items() if name in one.with_]
    groups = [group for group in form.one_of if name in group]
    parts = [f"with {code(other)}" for other in companions]
    parts += [f"this, or {', '.join(code(other) for other in group if other != name)}" for group in groups]
    parts += [f"allowed with a yes to {code(f'consents.{field.agreed}')}"] if field.agreed else []
    return "; ".join(parts)


def _needs(form: Form, directory: Directory) -> Iterator[tuple[str, ...]]:
    for name, need in form.needs.items():
        yield code(name), need.label, f"{code(need.service)}: {directory.offer(need.service).label}"


def _consents(form: Form) -> Iterator[tuple[str, ...]]:
    for question, one in form.consents.items():
        notes = f"; with a yes: {', '.join(code(note) for note in one.noted)}" if one.noted else ""
        yield code(question), one.label, ("an answer" if one.required else "") + notes
    yield from ((code(note), field.label.lower(), "") for note, field in NOTES.items())
