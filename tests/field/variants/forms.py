"""Kinds of forms: what form builders send for yes, no and nothing, identifiers, dates, characters, and whom a form is about."""

import base64
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from tests.field import http_bodies
from tests.field.variants import Made, Right, Sent, kind
from tests.field.variants.draw import Draw
from tests.field.variants.rows import BLANK, SPOILT, UNSEEN

FAMILY = "referral.person.family_name"
NEEDS: Mapping[str, str] = {
    "advice": "information-advice",
    "warm_home": "affordable-warmth",
    "falls": "home-safety",
    "smoke_alarms": "fire-safety",
    "security": "home-security",
    "handyperson": "handyperson",
    "hoarding": "hoarding",
    "benefits": "income-maximisation",
    "hearing": "hearing-services",
}
WORDS: Mapping[str, str] = {
    "family_name": FAMILY,
    "phone": "referral.person.phone",
    "referrer_name": "referral.referred_by.name",
    "registered_practice_name": "referral.registered_practice.name",
    "contact_name": "referral.contacts[].name",
    "language": "referral.person.language",
}
"""Fields of one line of words."""

PAST: Mapping[str, str] = {"enquired_on": "referral.enquired_on", "referred_on": "referral.referred_on"}
YES: tuple[Any, ...] = (True, "true", "True", "yes", "YES", "y", "1", "on", 1)
NO: tuple[Any, ...] = (False, "false", "FALSE", "no", "No", "off", "0", 0)
NOT_APPLICABLE: tuple[Any, ...] = ("n/a", "N/A", "none", "-")
"""Neither yes nor no: a need is not asked for; of a field, nothing is said."""

NOTHING: tuple[Any, ...] = (None, "", "  ", "\u200b", [])


class Form:
    """The answers of a First Contact form about a new person."""

    def __init__(self, draw: Draw) -> None:
        self.draw, self.family, self.reference = draw, draw.word(), draw.code("F")
        self.answers: dict[str, Any] = {
            "reference": self.reference,
            "completed_at": draw.at(hours=5),
            "referred_by": "self",
            "given_names": ["Cyril"],
            "family_name": self.family,
            "birth_date": f"19{draw.between(31, 79)}-06-18",
            "address": ["23 Weavers Row", "Hinckley"],
            "postcode": "LE10 1DU",
            "phone": draw.phone(),
            "needs": {"grab_rails": True},
            "consents": {"referral": "yes", "feedback": "yes"},
        }

    def later(self, **changes: Any) -> "Form":
        """Return the next form under the same reference."""
        made = Form.__new__(Form)
        made.__dict__.update(self.__dict__)
        made.answers = {**self.answers, "completed_at": self.draw.at(hours=4), **changes}
        made.family = made.answers["family_name"]
        return made

    def sent(self, body: bytes | None = None) -> Sent:
        text = json.dumps(self.answers, ensure_ascii=self.draw.chance())
        return Sent(
            text.encode() if body is None else body,
            "first-contact",
            {"content-type": "application/json"},
            "/forms/first-contact-plus",
        )


def read_as(form: Form, event: Mapping[str, Any], *warned: str, **more: Any) -> list[Right]:
    """Return the expectation that the form is taken, what its referral says, and at which fields it is warned of."""
    of_person = {FAMILY: {"is": [form.family]}, **event}
    return [{"answers": [202], "faults": {}, "warnings": dict.fromkeys(warned, "value"), "event": of_person, **more}]


def refused_at(form: Form, *fields: str, kind: str = "value") -> list[Right]:
    """Return the expectation that the form is refused for these fields, and nothing of it goes any further."""
    faults = dict.fromkeys(fields, kind)
    return [{"answers": [400], "faults": faults, "published": "nothing", "nowhere": [form.reference]}]


# ---- yes, no and nothing ------------------------------------------------------------------------------------------------


@kind("form-needs")
def needs(draw: Draw) -> Made:
    """A need is asked for by any yes or by a note, never by any no or by nothing."""
    form = Form(draw)
    names = draw.shuffled(list(NEEDS))
    note = f"{draw.word()} {draw.word()}"
    yes, no, nothing = draw.each(YES), draw.each([*NO, *NOT_APPLICABLE]), draw.each([None, "", " "])
    form.answers["needs"] = {names[0]: yes, names[1]: no, names[2]: nothing, names[3]: note}
    asked = [NEEDS[names[0]], NEEDS[names[3]]]
    event = {
        "referral.needs[].service": {"is": asked, "has": asked},
        "referral.needs[].text": {
            "has": [note],
            "lacks": [one for one in (str(yes), str(no)) if len(one) > 3],
        },
    }
    return f"{yes!r}, {no!r} and {nothing!r}", [form.sent()], read_as(form, event)


@kind("form-yes-no")
def yes_no(draw: Draw) -> Made:
    """A field that is yes or no takes the same words; what is neither is refused."""
    form = Form(draw)
    answer = draw.each([*YES, *NO, *NOT_APPLICABLE, *NOTHING, "maybe", 2, -1, 1.5, ["yes"], {"yes": True}])
    form.answers["interpreter_needed"] = answer
    path = "referral.person.interpreter_needed"
    if _is_in(answer, YES):
        return f"{answer!r}", [form.sent()], read_as(form, {path: {"is": [True]}})
    if _is_in(answer, NO):
        return f"{answer!r}", [form.sent()], read_as(form, {path: {"is": [False]}})
    if _is_in(answer, (*NOTHING, *NOT_APPLICABLE)):
        return f"{answer!r}", [form.sent()], read_as(form, {path: {"is": [None]}})
    return f"{answer!r}", [form.sent()], refused_at(form, "interpreter_needed")


def _is_in(answer: Any, some: tuple[Any, ...]) -> bool:
    return any(type(answer) is type(one) and answer == one for one in some)


@kind("form-nothing")
def nothing(draw: Draw) -> Made:
    """null, "", blanks and [] mean that nothing was given, in every place."""
    form = Form(draw)
    empty = draw.each(NOTHING)
    consents = ["consents.on", "consents.by", "consents.evaluation"]
    fields = ["email", "notes", "nhs_number", "enquired_on", "title", "priority", "given_names", "referrer_name"]
    place = draw.each([*fields, *consents, "cancelled", "cancel_reason", "form"])
    group, _, name = place.rpartition(".")
    target = form.answers[group] if group else form.answers
    target[name] = empty
    event = {"referral.consents.feedback.answer": {"is": ["yes"]}, "referral.priority": {"is": ["routine"]}}
    return f"{empty!r} in {place}", [form.sent()], read_as(form, event)


@kind("form-required-nothing")
def required_nothing(draw: Draw) -> Made:
    """What is required and was not given is refused as required, however nothing was written."""
    form = Form(draw)
    empty = draw.each([*NOTHING, "\u2060\ufeff", "-", "UNKNOWN", "not known"])
    form.answers["family_name"] = empty
    return f"{empty!r}", [form.sent()], refused_at(form, "family_name", kind="required")


# ---- identifiers --------------------------------------------------------------------------------------------------------


@kind("form-identifiers")
def identifiers(draw: Draw) -> Made:
    """Invisible characters and blanks around an identifier say nothing; a separator inside makes it another one, or none."""
    form = Form(draw)
    number = draw.nhs_number()
    mark = draw.each([*UNSEEN.values(), "\u00a0", " "])
    field, written, read = draw.each(
        [
            (
                "nhs_number",
                f"{mark}{number[:3]} {number[3:6]}{mark}{number[6:]}",
                ("referral.person.nhs_number", number),
            ),
            ("postcode", f"le10{mark}1du{mark}", ("referral.person.address.postcode", "LE10 1DU")),
            ("registered_practice_ods", f"{mark}c82991{mark}", ("referral.registered_practice.ods", "C82991")),
            ("named_authority", f"{mark}E07000132{mark}", ("referral.named_authority", "E07000132")),
            ("nhs_number", f"{int(number):,}", None),
            ("nhs_number", number.replace(number[4], number[4] + "\u0007"), None),
            ("nhs_number", number[9] * 10, None),
            ("nhs_number", "9876543210", None),
            ("named_authority", "E07,000,132", None),
            ("registered_practice_ods", "C82.991", None),
        ]
    )
    form.answers[field] = written
    if read is None:
        return f"{written!r} in {field}", [form.sent()], refused_at(form, field)
    return f"{written!r} in {field}", [form.sent()], read_as(form, {read[0]: {"is": [read[1]]}})


# ---- dates --------------------------------------------------------------------------------------------------------------


@kind("form-dates")
def dates(draw: Draw) -> Made:
    """A birth date is of a living person; what has happened has happened by today; a filler is refused or not said."""
    form = Form(draw)
    tomorrow = f"{draw.now.date() + timedelta(days=2)}"
    what, field, written = draw.each(
        [
            *(
                (one, "birth_date", one)
                for one in ("2048-06-18", "2999-12-31", "0048-06-18", "0001-01-01", "1850-01-01")
            ),
            *((one, "birth_date", one) for one in ("1900-01-01", "1901-01-01", "1899-12-30", tomorrow)),
            *((one, "PAST", one) for one in ("1800-01-01", "2099-01-01", tomorrow)),
            ("a filler", "PAST", "1900-01-01"),
            ("a good one", "PAST", f"{draw.now.date() - timedelta(days=draw.between(0, 300))}"),
        ]
    )
    place = draw.one_of(sorted(PAST)) if field == "PAST" else field
    form.answers[place] = written
    if what == "a good one":
        return f"{what} in {place}", [form.sent()], read_as(form, {PAST[place]: {"is": [written]}})
    if what == "a filler":
        return f"{what} in {place}", [form.sent()], read_as(form, {PAST[place]: {"is": [None]}}, place)
    return f"{what} in {place}", [form.sent()], refused_at(form, place)


@kind("form-times-ahead")
def times_ahead(draw: Draw) -> Made:
    """A form of the future is refused, and so nothing that comes later counts as older."""
    form = Form(draw)
    minutes = draw.each([10, 90, 3000, 19_000_000, -1, 0])
    form.answers["completed_at"] = (draw.now + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    if minutes <= 0:
        return f"{minutes} minutes", [form.sent()], read_as(form, {})
    return f"{minutes} minutes", [form.sent()], refused_at(form, "completed_at")


# ---- characters ---------------------------------------------------------------------------------------------------------


@kind("form-unseen")
def unseen(draw: Draw) -> Made:
    """What nobody can see is no part of words; every kind of blank is one blank."""
    form = Form(draw)
    what, field = draw.each([*UNSEEN, *BLANK]), draw.each(sorted(WORDS))
    mark, one, two = {**UNSEEN, **BLANK}[what], draw.word(), draw.word()
    form.answers[field] = f"{mark}{one}{mark}{two}{mark}"
    read = f"{one} {two}" if what in BLANK else f"{one}{two}"
    form.family = read if field == "family_name" else form.family
    warned = ["phone"] if field == "phone" else []  # words are no number
    return f"{what} in {field}", [form.sent()], read_as(form, {WORDS[field]: {"is": [read]}}, *warned)


@kind("form-spoilt")
def spoilt(draw: Draw) -> Made:
    """Letters that were lost on the way are carried as they are, with a warning at their field."""
    form = Form(draw)
    what, field = draw.each(list(SPOILT)), draw.each(["family_name", "referrer_name", "contact_name", "notes"])
    form.answers[field] = SPOILT[what]
    form.family = SPOILT[what] if field == "family_name" else form.family
    path = {**WORDS, "notes": "referral.reason.text"}[field]
    return f"{what} in {field}", [form.sent()], read_as(form, {path: {"is": [SPOILT[what]]}}, field)


@kind("form-bytes")
def bytes_around(draw: Draw) -> Made:
    """A byte order mark is passed over; another encoding, one key twice and more than one value are refused."""
    form = Form(draw)
    form.answers["notes"] = f"{draw.word()} é"
    text = json.dumps(form.answers, ensure_ascii=False)
    twice = draw.one_of(['"phone"', '"family_name"', '"reference"'])
    name, body, is_read = draw.each(
        [
            ("a byte order mark", b"\xef\xbb\xbf" + text.encode(), True),
            ("blanks around", b"\r\n\t " + text.encode() + b"\n\n", True),
            ("UTF-16", text.encode("utf-16"), False),
            ("Windows-1252", text.encode("cp1252"), False),
            ("a key twice", text.replace(twice, f'{twice}: "x", {twice}', 1).encode(), False),
            ("a key twice in needs", text.replace('"grab_rails"', '"grab_rails": false, "grab_rails"').encode(), False),
            ("two forms", f"{text}{text}".encode(), False),
            ("cut off", text.encode()[:-4], False),
        ]
    )
    if is_read:
        return name, [form.sent(body)], read_as(form, {"referral.reason.text": {"has": ["é"]}})
    return name, [form.sent(body)], [{"answers": [400], "published": "nothing", "nowhere": [form.reference]}]


# ---- documents ----------------------------------------------------------------------------------------------------------


@kind("form-attachments")
def attachments(draw: Draw) -> Made:
    """Each document is kept as it was sent, with its size; what is no base64 or says no media type refuses the form."""
    form = Form(draw)
    content = draw.word().encode() * draw.between(1, 40)
    text = base64.b64encode(content).decode()
    lines = "\r\n".join(text[at : at + 20] for at in range(0, len(text), 20))
    what, entry, place = draw.each(
        [
            ("base64", {"content": text}, None),
            ("base64 in lines", {"content": lines}, None),
            ("a data URL", {"content": f"data:text/plain;base64,{text}"}, "content"),
            ("words", {"content": f"{draw.word()}, {draw.word()}"}, "content"),
            ("nothing", {"content": ""}, "content"),
            ("no media type", {"content": text, "media_type": None}, "media_type"),
            ("a media type of words", {"content": text, "media_type": "a letter"}, "media_type"),
        ]
    )
    title = draw.word()
    form.answers["attachments"] = [{"title": title, "media_type": "text/plain", **entry}]
    if place:
        right = {"answers": [400], "answer": {"has": [f"attachments[0].{place}"]}, "published": "nothing"}
        return what, [form.sent()], [{**right, "nowhere": [form.reference]}]
    event = {"referral.attachments[].title": {"is": [title]}, "referral.attachments[].size": {"is": [len(content)]}}
    return what, [form.sent()], read_as(form, event)


@kind("form-files")
def files(draw: Draw) -> Made:
    """Files next to the form are its documents, in any order and of any media type; a second form or none refuses all."""
    form = Form(draw)
    body = json.dumps(form.answers).encode()
    contents = [draw.word().encode() * 3 for _ in range(draw.between(1, 3))]
    parts: list[tuple[str, str | None, str, bytes]] = [
        ("attachments", f"{draw.word()}.txt", draw.one_of(["text/plain", "application/pdf"]), one) for one in contents
    ]
    one_form: tuple[str, str | None, str, bytes] = ("form", draw.one_of([None, "form.json"]), "application/json", body)
    what, sent, is_read = draw.each(
        [
            ("the form first", [one_form, *parts], True),
            ("the form last", [*parts, one_form], True),
            ("no form", parts, False),
            ("two forms", [one_form, *parts, one_form], False),
            ("a file of another name", [one_form, ("letter", "a.txt", "text/plain", b"x")], False),
        ]
    )
    media_type, whole = http_bodies.multipart(*sent)
    request = Sent(whole, "first-contact", {"content-type": media_type}, "/forms/first-contact-plus")
    if not is_read:
        return what, [request], [{"answers": [400], "published": "nothing", "nowhere": [form.reference]}]
    sizes = [len(one) for one in contents]
    return f"{what}, {len(contents)} files", [request], read_as(form, {"referral.attachments[].size": {"is": sizes}})


# ---- whom it is about ---------------------------------------------------------------------------------------------------


@kind("form-another-person")
def another_person(draw: Draw) -> Made:
    """Two of number, birth date and family name differ: another person, refused. Less is a correction; a withdrawal always applies."""
    form = Form(draw)
    has_number = draw.chance()
    if has_number:
        form.answers["nhs_number"] = draw.nhs_number()
    changes = {
        "number": ("nhs_number", draw.nhs_number()),
        "family": ("family_name", draw.word()),
        "born": ("birth_date", "1955-05-05"),
    }
    changed = draw.each(
        [(), ("born",), ("family",), ("number",), ("number", "family"), ("number", "born"), ("family", "born")]
    )
    withdraws = draw.chance() and draw.chance()
    later = form.later(phone=draw.phone(), **dict(changes[one] for one in changed))
    if withdraws:
        later.answers["consents"] = {"referral": "no"}
    differs = has_number and "number" in changed
    others = len({"family", "born"} & set(changed))
    is_another = (differs and others > 0) or (others == 2 and not has_number)
    what = f"{'with' if has_number else 'without'} a number, changed: {' '.join(changed) or 'nothing'}{', withdraws' if withdraws else ''}"
    return what, [form.sent(), later.sent()], [_after(form, later, withdraws=withdraws, is_another=is_another)]


def _after(form: Form, later: Form, *, withdraws: bool, is_another: bool) -> Right:
    if withdraws:
        return {
            "answers": [202, 200],
            "references": "same",
            "published": {"has": ["referral.received", "referral.cancelled"]},
        }
    if is_another:
        held = {FAMILY: {"is": [form.family]}, "version": {"is": [1]}}
        return {"answers": [202, 422], "faults": {"reference": "business-rule"}, "event": held}
    return {
        "answers": [202, 200],
        "references": "same",
        "event": {FAMILY: {"is": [later.family]}, "version": {"is": [2]}},
    }
