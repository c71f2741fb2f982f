"""What the answers of a form mean: yes, no, a note, not given, a withdrawal; and the published schema says the same."""

import copy
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from functools import cache
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.intake.translators import cleaning, form
from services.intake.translators.form import answers
from services.intake.translators.form.definition import Form
from services.intake.translators.translator import Rejection, Translated
from services.reference.fillers import Fillers
from tests.builders.forms import a_form
from tests.contract.translators.adapters import FORMS, RECEIVED_AT
from tests.contract.translators.golden_pairs import FULL, GOLDEN

FIRST_CONTACT = FORMS["first-contact-plus"]
VALIDATORS = {name: jsonschema.Draft202012Validator(form.json_schema(one)) for name, one in FORMS.items()}
every_form = pytest.mark.parametrize("asked", FORMS.values(), ids=FORMS.keys())


def translated(said: Any, asked: Form = FIRST_CONTACT, fillers: Fillers | None = None) -> Translated | Rejection:
    adapter = FULL[f"form-{asked.form}"]
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    delivery = adapter.delivery(body)
    return adapter.translate(replace(delivery, fillers=fillers) if fillers else delivery)


def accepted(said: Any, asked: Form = FIRST_CONTACT, fillers: Fillers | None = None) -> Translated:
    outcome = translated(said, asked, fillers)
    assert isinstance(outcome, Translated), outcome
    return outcome


def faults(said: Any, asked: Form = FIRST_CONTACT, fillers: Fillers | None = None) -> dict[str, str]:
    outcome = translated(said, asked, fillers)
    assert isinstance(outcome, Rejection), outcome
    return {issue.place: issue.kind for issue in outcome.issues}


def in_cases(*words: str) -> list[str]:
    return sorted({spelled for word in words for spelled in (word, word.upper(), word.capitalize(), f" {word}\n")})


# ---- needs -----------------------------------------------------------------------------------------------------------

YES = [True, 1, 1.0, *in_cases(*answers.YES)]
NO = [False, 0, 0.0, *in_cases(*answers.NO)]
UNTICKED = ("no thanks", "not required", "no  need", "unchecked", "not selected")
NOT_ASKED = [*NO, *in_cases(*answers.NOT_APPLICABLE, *UNTICKED), None, "", " \t", [], [None, ""]]
AMBIGUOUS = [
    *(
        "maybe",
        "Perhaps",
        "unknown",
        "Not known",
        "?",
        "??",
        "x",
        "X",
        "✓",
        "☑",
        "2",
        "10",
        "yes/no",
        "null",
        "undefined",
    ),
    *("No, she has one", "no - has a rail", "No. Has one", "None: has one", "NO (declined)", "not needed, has one"),
    *("no\nshe has one", "no / has one", "no? has one", "no- has one", "(no)", '"no"', "'false'", "- none", "declined"),
    *("not  known", "n.a. (has one)"),
    *("N/A - no stairs", 2, -1, 0.5, ["yes"], {"answer": "yes"}, [[]], {}),
]
NOTES = [
    *(
        "shower cannot be reached",
        "No rail at the front door",
        "yes, at the back step",
        "Non-slip mat",
        "no-one helps her",
    ),
    *("Nothing works", "on the stairs", "No 5 has a step", "1. stairs 2. bath", "ok please", "Łazienka", "浴室"),
]


@pytest.mark.parametrize("answer", YES, ids=repr)
def test_a_yes_asks_for_a_need_and_is_a_yes_in_a_field(answer: Any) -> None:
    asked = accepted(a_form(needs={"advice": answer}, interpreter_needed=answer)).referral
    assert asked is not None
    assert [(need.service, need.text) for need in asked.needs] == [("information-advice", "Advice and information")]
    assert asked.person.interpreter_needed is True


@pytest.mark.parametrize("answer", NOT_ASKED, ids=repr)
def test_a_no_does_not_ask_for_a_need_and_is_not_a_note(answer: Any) -> None:
    asked = accepted(a_form(needs={"advice": True, "homeless": answer})).referral
    assert asked is not None
    assert [need.service for need in asked.needs] == ["information-advice"]
    assert faults(a_form(needs={"homeless": answer})) == {"needs": "required"}


@pytest.mark.parametrize("answer", NO, ids=repr)
def test_a_no_is_a_no_in_a_field(answer: Any) -> None:
    asked = accepted(a_form(interpreter_needed=answer, cancelled=answer)).referral
    assert asked is not None
    assert asked.person.interpreter_needed is False


@pytest.mark.parametrize("answer", in_cases(*answers.NOT_APPLICABLE))
def test_a_question_that_does_not_apply_is_not_answered(answer: str) -> None:
    asked = accepted(a_form(interpreter_needed=answer)).referral
    assert asked is not None
    assert asked.person.interpreter_needed is None


@pytest.mark.parametrize("answer", AMBIGUOUS, ids=repr)
def test_an_answer_that_is_neither_yes_nor_no_nor_a_note_is_refused_by_its_field(answer: Any) -> None:
    said = a_form(needs={"advice": True, "homeless": answer})
    assert faults(said) == {"needs.homeless": "value"}
    assert not VALIDATORS["first-contact-plus"].is_valid(said)
    assert "interpreter_needed" in faults(a_form(interpreter_needed=answer))
    assert "cancelled" in faults(a_form(cancelled=answer))


@pytest.mark.parametrize("note", NOTES)
def test_a_note_asks_for_a_need_and_is_carried_whole(note: str) -> None:
    said = a_form(needs={"advice": note})
    asked = accepted(said).referral
    assert asked is not None
    assert [need.text for need in asked.needs] == [f"Advice and information: {note}"]
    assert VALIDATORS["first-contact-plus"].is_valid(said)


@pytest.mark.parametrize(
    ("note", "warned"),
    [
        ("None at present", True),
        ("no has one already", True),
        ("Not at the moment", True),
        ("false alarm", True),
        ("No rail at the front door", False),
        ("Not able to bathe", False),
        ("Nothing works", False),
        ("no-one helps her", False),
        ("Non-slip mat", False),
        ("shower cannot be reached", False),
    ],
)
def test_a_note_that_begins_with_a_denial_is_warned_of(note: str, warned: bool) -> None:
    warnings = accepted(a_form(needs={"advice": note})).warnings
    assert [warning.place for warning in warnings] == (["needs.advice"] if warned else [])


def test_a_text_that_is_too_long_is_neither_an_answer_nor_a_note() -> None:
    for text in ("no" + " " * 10_000, "no" + "\u200b" * 10_000 + "t at all", "a" * 10_001):
        assert faults(a_form(consents={"referral": text, "feedback": "yes"})) == {"consents.referral": "value"}
    assert list(faults(a_form(needs={"advice": "a" * 10_001})).values()) == ["too-long"]


REPEATED = ["-", "\n", " ", "\u00a0", "(", "0 ", "no ", "not ", "&#", "\u200d", "a\u200d", "\u00c3", "a?", "; "]


@pytest.mark.parametrize("seed", REPEATED, ids=repr)
def test_a_long_text_of_repeats_does_not_hold_up_intake(seed: str) -> None:
    """A pattern that tries every way to divide such a text would take minutes."""
    asked = FIRST_CONTACT
    pair = pairs(asked)[0]
    for text in (seed * 10_000 + "ab", "." + seed * 10_000 + "x1"):
        said = pair | dict.fromkeys(asked.fields, text) | {"needs": {next(iter(asked.needs)): text}}
        began = time.process_time()
        translated(said, asked)
        assert time.process_time() - began < 2.5


# ---- not given -------------------------------------------------------------------------------------------------------

ABSENT = [None, "", "  ", "\u200b", "\u00a0\n", [], [""], [None, " "]]


@pytest.mark.parametrize("asked", [FIRST_CONTACT, FORMS["hospital-discharge"]], ids=lambda form: form.form)
@pytest.mark.parametrize("nothing", ABSENT, ids=repr)
def test_what_is_not_given_reads_as_if_it_were_left_out_in_every_place(asked: Form, nothing: Any) -> None:
    pair = pairs(asked)[0]
    names = {*asked.fields, "form", "completed_at", "cancelled", "cancel_reason", "referred_by", "reference", "needs"}
    for name in sorted(names):
        without = {key: value for key, value in pair.items() if key != name}
        assert_alike(asked, without, pair | {name: nothing})
    consents = pair["consents"]
    for name in (*asked.consents, "on", "by"):
        without = {key: value for key, value in consents.items() if key != name}
        assert_alike(asked, pair | {"consents": without}, pair | {"consents": consents | {name: nothing}})
    no_consents = {key: value for key, value in pair.items() if key != "consents"}
    assert_alike(asked, no_consents, pair | {"consents": nothing})


def assert_alike(asked: Form, without: dict[str, Any], empty: dict[str, Any]) -> None:
    assert translated(empty, asked) == translated(without, asked)
    if cleaned(empty) == empty:
        assert VALIDATORS[asked.form].is_valid(empty) is VALIDATORS[asked.form].is_valid(without)


@pytest.mark.parametrize("name", ["\u200b", "\u2060\ufeff", "-", "...", "?", "\u202e"])
def test_a_name_of_nothing_is_not_given(name: str) -> None:
    assert faults(a_form(family_name=name)) == {"family_name": "required"}
    known = accepted(a_form(given_names=[name, "Ann"], referrer_name=name)).referral
    assert known is not None
    assert (known.person.given_names, known.referred_by.name) == (("Ann",), None)


# ---- one name twice, byte order mark ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"referred_by"', b'"family_name": "Other", "referred_by"'),
        (b'"referral": "yes"', b'"referral": "no", "referral": "yes"'),
        (b'"referral": "yes"', b'"referral": "yes", "referral": "yes"'),
        (b'"referral": "yes"', b'"referral": "no", "ref\\u0065rral": "yes"'),
        (b'"benefits": true', b'"benefits": true, "benefits" : false'),
        (b'"phone"', b'"nothing": {"in": [{"a": 1, "a": 2}]}, "phone"'),
    ],
)
def test_a_name_that_is_there_twice_is_refused_at_every_level(old: bytes, new: bytes) -> None:
    body = json.dumps(a_form()).encode()
    assert old in body
    outcome = translated(body.replace(old, new))
    assert isinstance(outcome, Rejection)
    assert [issue.explanation for issue in outcome.issues] == ["has an element twice; each may be there once"]


@pytest.mark.parametrize("name", ["Family_Name", "FAMILY_NAME", "family_name ", "family\u200b_name", "fаmily_name"])
def test_a_name_that_only_looks_like_a_field_is_refused(name: str) -> None:
    assert set(faults(a_form() | {name: "Other"}).values()) == {"invalid"}


def test_a_byte_order_mark_is_passed_over() -> None:
    body = json.dumps(a_form(reference="FC-1")).encode()
    assert translated(b"\xef\xbb\xbf" + body) == translated(body)


# ---- withdrawals and cancels -----------------------------------------------------------------------------------------

WITHDRAWALS: list[dict[str, Any]] = [
    {"consents": {"referral": "no"}},
    {"consents": {"referral": " NO "}},
    {"consents": {"referral": "n", "feedback": "perhaps", "on": "2999-01-01", "marriage": 5}},
    {"cancelled": True, "cancel_reason": "consent-withdrawn"},
    {"cancelled": "perhaps", "cancel_reason": "consent-withdrawn"},
    {"cancel_reason": "consent-withdrawn"},
]
FAULTS: list[dict[str, Any]] = [
    {},
    {"completed_at": "yesterday"},
    {"completed_at": "2062-01-01T09:00:00Z"},
    {"birth_date": "2048-06-18", "died_on": "2999-01-01"},
    {"nhs_number": "1", "family_name": None, "referred_by": 5, "colour": "red"},
    {"needs": {"advice": "perhaps", "castle": True}},
    {"form": "another"},
]


@every_form
@pytest.mark.parametrize("withdrawal", WITHDRAWALS, ids=str)
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_withdrawal_is_never_stopped_by_a_fault(
    asked: Form, withdrawal: dict[str, Any], fault: dict[str, Any]
) -> None:
    whole = {name: value for name, value in pairs(asked)[0].items() if name != "cancelled"}
    for said in (whole | fault | withdrawal, {"reference": "R-1"} | fault | withdrawal):
        outcome = accepted(said, asked)
        assert (outcome.intent, outcome.cancel_reason) == ("cancel", "consent-withdrawn")
        assert outcome.subject is None
        assert {warning.place for warning in outcome.warnings} <= {"completed_at", "died_on"}


@pytest.mark.parametrize("reference", [None, "", "x" * 201, 7, "a\nb", "\u200b"])
def test_a_withdrawal_whose_reference_cannot_be_read_is_refused_by_its_place(reference: Any) -> None:
    assert set(faults({"reference": reference, "consents": {"referral": "no"}})) == {"reference"}


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"cancel_reason": "referred-in-error"}, "cancelled"),
        ({"cancel_reason": "consent-withdrawn", "cancelled": "no"}, "cancel_reason"),
        ({"cancel_reason": "boredom", "cancelled": False}, "cancel_reason"),
        ({"cancel_reason": "boredom", "cancelled": "yes"}, "cancel_reason"),
        ({"completed_at": "2062-01-01T09:00:00Z", "cancelled": True}, "completed_at"),
        ({"consents": {"referral": False}}, "consents.referral"),
        ({"consents": {"referral": "none"}}, "consents.referral"),
    ],
    ids=str,
)
def test_a_form_that_leaves_open_whether_it_cancels_is_refused(changes: dict[str, Any], place: str) -> None:
    assert place in faults(a_form(**changes))
    if place not in ("completed_at",):
        assert not VALIDATORS["first-contact-plus"].is_valid(a_form(**changes))


def test_a_reason_is_passed_over_if_the_form_says_that_it_cancels_nothing() -> None:
    assert accepted(a_form(cancelled="no", cancel_reason="referred-in-error")).referral is not None


@every_form
@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"cancel_resaon": "consent-withdrawn"}, "cancel_resaon"),
        ({"consents": {"refferal": "no"}}, "consents.refferal"),
        ({"consents": {"referral": "No, not any more"}}, "consents.referral"),
        ({"consents": "no"}, "consents"),
        ({"form": "another"}, "form"),
    ],
    ids=str,
)
def test_a_cancel_that_may_be_a_withdrawal_or_of_another_form_is_refused(
    asked: Form, changes: dict[str, Any], place: str
) -> None:
    said = {"reference": "R-1", "cancelled": True, **changes}
    assert list(faults(said, asked)) == [place]
    assert not VALIDATORS[asked.form].is_valid(said)


@pytest.mark.parametrize("ends", [{"cancelled": True}, {"consents": {"referral": "no"}}], ids=str)
@pytest.mark.parametrize(
    "died",
    [{"died_on": "2026-13-01"}, {"died_on": "2999-01-01"}, {"has_died": False, "died_on": "2026-11-01"}],
    ids=str,
)
def test_a_death_that_cannot_be_read_does_not_stop_a_cancel_and_is_warned_of(
    ends: dict[str, Any], died: dict[str, Any]
) -> None:
    outcome = accepted({"reference": "R-1", **ends, **died})
    assert outcome.death_reported is None
    assert [warning.place for warning in outcome.warnings] == ["died_on"]


def test_a_date_of_a_death_that_is_denied_is_refused() -> None:
    said = a_form(has_died="no", died_on="2026-11-01")
    assert list(faults(said)) == ["died_on"]
    assert not VALIDATORS["first-contact-plus"].is_valid(said)


# ---- plausibility, fillers, letters ----------------------------------------------------------------------------------

FILLERS = Fillers(nhs_numbers=("9876543210",), dates=(date(1900, 1, 1),), names=("UNKNOWN", "N/K"))


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        *(
            ({"birth_date": day}, "birth_date")
            for day in ("2048-06-18", "2999-01-01", "0048-06-18", "1890-01-01", "1900-01-01")
        ),
        *(({"died_on": day}, "died_on") for day in ("2026-11-06", "1800-01-01")),
        *(({"referred_on": day}, "referred_on") for day in ("2099-01-01", "1800-01-01")),
        *(({"enquired_on": day}, "enquired_on") for day in ("2026-11-06", "1800-01-01")),
        *(({"consents": {"referral": "yes", "on": day}}, "consents.on") for day in ("2099-01-01", "1800-01-01")),
        *(({"completed_at": at}, "completed_at") for at in ("2026-11-05T09:35:01Z", "2062-01-01T00:00:00Z")),
        *(({"nhs_number": number}, "nhs_number") for number in ("9999999999", "4444444444", "987 654 3210")),
        *(({"family_name": name}, "family_name") for name in ("UNKNOWN", "unknown.", "N/K")),
    ],
    ids=str,
)
def test_what_cannot_be_true_is_refused_by_its_field(changes: dict[str, Any], place: str) -> None:
    assert list(faults(a_form(**changes), fillers=FILLERS)) == [place]


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"enquired_on": "1900-01-01"}, "enquired_on"),
        ({"consents": {"referral": "yes", "on": "1900-01-01"}}, "consents.on"),
        ({"given_names": ["Unknown"]}, "given_names"),
        ({"given_names": "UNKNOWN\nN/K"}, "given_names"),
        ({"given_names": "Unknown, unknown"}, "given_names"),
        ({"contact_name": "N/K"}, "contact_name"),
    ],
    ids=str,
)
def test_a_filler_is_not_said_and_warned_of(changes: dict[str, Any], place: str) -> None:
    outcome = accepted(a_form(**changes), fillers=FILLERS)
    assert outcome.referral is not None
    assert [warning.place for warning in outcome.warnings] == [place]
    left_out = accepted(
        a_form(**{**changes, **({"consents": {"referral": "yes"}} if "consents" in changes else {place: None})})
    )
    assert left_out.referral is not None
    assert outcome.referral.model_dump(exclude={"message"}) == left_out.referral.model_dump(exclude={"message"})


def test_a_filler_among_names_on_lines_is_left_out() -> None:
    outcome = accepted(a_form(given_names="Ann\nUNKNOWN"), fillers=FILLERS)
    assert outcome.referral is not None
    assert outcome.referral.person.given_names == ("Ann",)


@pytest.mark.parametrize(
    ("at", "until"),
    [
        ("2026-11-05T09:10Z", "2026-11-05T09:11:00+00:00"),
        ("2026-11-05 10:10+01:00", "2026-11-05T09:11:00+00:00"),
        ("2026-11-05T09:10:00Z", None),
        ("2026-11-05T09:10:00.123Z", None),
    ],
)
def test_a_time_to_the_minute_is_any_moment_of_it(at: str, until: str | None) -> None:
    outcome = accepted(a_form(completed_at=at))
    assert (outcome.sent_until and outcome.sent_until.isoformat()) == until


@pytest.mark.parametrize(
    ("field", "value", "warned"),
    [
        ("phone", "n/a", True),
        ("phone", "none", True),
        ("contact_phone", "ex-directory", True),
        ("referrer_phone", "unknown", True),
        ("email", "none", True),
        ("phone", "0116 496 0003 (daughter)", False),
        ("email", "carl@example.org", False),
    ],
)
def test_what_reaches_nobody_is_warned_of(field: str, value: str, warned: bool) -> None:
    said = a_form(**{"contact_name": "Ann Castle", field: value})
    assert [warning.place for warning in accepted(said).warnings] == ([field] if warned else [])


def test_a_postcode_of_no_form_is_warned_of_once() -> None:
    assert [warning.place for warning in accepted(a_form(postcode="LE1O 1DU")).warnings] == ["postcode"]


def test_a_clock_may_be_five_minutes_ahead() -> None:
    assert accepted(a_form(completed_at="2026-11-05T09:35:00Z")).sent_at is not None
    assert RECEIVED_AT.isoformat() == "2026-11-05T09:30:00+00:00"


@pytest.mark.parametrize(
    ("name", "warned"),
    [
        ("O?Dowd", True),
        ("O\ufffdDowd", True),
        ("Oâ€™Dowd", True),
        ("O&#39;Dowd", True),
        ("O\u0092Dowd", True),
        ("Castle (was Keep)", True),
        ("O'Dowd", False),
        ("Müller-Łęski", False),
    ],
)
def test_spoilt_letters_are_kept_and_warned_of(name: str, warned: bool) -> None:
    outcome = accepted(a_form(family_name=name))
    assert outcome.referral is not None
    assert outcome.referral.person.family_name == cleaning.line(name)
    assert [warning.place for warning in outcome.warnings] == (["family_name"] if warned else [])


@pytest.mark.parametrize("character", ["\u0007", "\u001b[31m", "\u202e", "\u2066", "\u200b", "\u00ad", "\ufeff"])
def test_characters_that_cannot_be_seen_are_in_no_text_and_no_code(character: str) -> None:
    at_the_edge = character if character.isprintable() or ord(character[0]) > 0x20 else ""
    said = a_form(
        family_name=f"Ma{character}ry", notes=f"one{character}\ntwo", nhs_number=f"{at_the_edge}999 000 0026\u00a0"
    )
    outcome = accepted(said | {"postcode": f"le10\u00a00aa{at_the_edge}"})
    assert outcome.referral is not None
    texts = (outcome.referral.person.family_name, outcome.referral.reason.text)
    assert not any(character in (text or "") for text in texts)
    assert outcome.referral.reason.text is not None
    assert outcome.referral.reason.text.split() == cleaning.prose(f"one{character}\ntwo").split()
    assert outcome.referral.person.nhs_number == "9990000026"
    assert outcome.referral.person.address is not None
    assert outcome.referral.person.address.postcode == "LE10 0AA"


def test_words_of_one_line_are_on_one_line_and_no_break_spaces_separate_them() -> None:
    known = accepted(a_form(given_names=["Mary\u00a0Ann"], phone="0116\n496 0003")).referral
    assert known is not None
    assert (known.person.given_names, known.person.phone) == (("Mary Ann",), "0116 496 0003")


def test_two_references_that_differ_by_a_blank_are_two() -> None:
    one, two = accepted(a_form(reference="FC 1")), accepted(a_form(reference="FC  1"))
    assert one.referral_id != two.referral_id


# ---- schema and reader -----------------------------------------------------------------------------------------------


def pairs(asked: Form) -> list[dict[str, Any]]:
    """The golden forms that make a referral."""
    return _pairs(asked.form)


@cache
def _pairs(name: str) -> list[dict[str, Any]]:
    found = []
    for case in sorted((GOLDEN / f"form-{name}").glob("*.in")):
        if not case.read_bytes().lstrip().startswith(b"--"):
            said = json.loads(case.with_suffix(".out.json").read_text())
            if said.get("translated", {}).get("referral"):
                found.append(json.loads(case.read_bytes()))
    assert found
    return found


_WORDS = [
    "yes",
    "No",
    "TRUE",
    "false",
    "0",
    "on",
    "n/a",
    "-",
    "maybe",
    "?",
    "x",
    "a note of words",
    "No, has one",
    "not-recorded",
]
_TEXTS = ["", " ", "Castle", "x" * 200, "x" * 201, "x" * 301, "a\nb", "x\n" * 10 + "x", "12.5", "...", *_WORDS]
_CODES = ["gp", "self", "nobody", "falls", "consent-withdrawn", "referred-in-error", "first-contact-plus", "dog"]
_FORMATTED = [
    "2026-11-04",
    "5.11.2026",
    "2026-11-04T09:10Z",
    "2026-11-04T09:10:00+01:00",
    "2026-11-04 09:10",
    "le10 0aa",
]
_FORMATTED += ["999 000 0026", "99900026", "C82991", "e07000130", "E0700013", "100010", "LE1O 1DU"]
_VALUES = st.sampled_from(
    [
        *_TEXTS,
        *_CODES,
        *_FORMATTED,
        *(None, True, False, 0, 1, 1.0, 2, 3, 4, -1, 0.5, 999_999, 1_000_000),
        *([], [""], [None], ["x"], ["x"] * 10, ["x"] * 11, [*["x"] * 10, "", None], ["x" * 301], [5], [[]], ["dog"]),
        *(["dog", "dog", None], {}, {"referral": "yes"}, {"advice": True}, {"on": ""}),
    ]
)
_INVISIBLE = st.sampled_from(["\u200b", "\u00ad", "\ufeff", "\u202e", " ", "\u00a0"])


def cleaned(value: Any) -> Any:
    """The same with its texts cleaned, as the schema describes them."""
    match value:
        case str():
            return cleaning.prose(value)
        case list():
            return [cleaned(one) for one in value]
        case dict():
            return {name: cleaned(one) for name, one in value.items()}
        case _:
            return value


@st.composite
def filled(draw: st.DrawFn, asked: Form) -> dict[str, Any]:
    """A golden form with a few answers replaced, added or taken away."""
    said = copy.deepcopy(draw(st.sampled_from(pairs(asked))))
    for _ in range(draw(st.integers(1, 3))):
        inside = draw(st.sampled_from([said, said, said.get("needs"), said.get("consents")]))
        here = inside if isinstance(inside, dict) else said
        names = [*_names(asked, said, here), "colour"]
        name = draw(st.sampled_from(names))
        if draw(st.integers(0, 3)):
            here[name] = copy.deepcopy(draw(_VALUES))
        else:
            here.pop(name, None)
    return said


def _names(asked: Form, said: dict[str, Any], here: dict[str, Any]) -> Iterator[str]:
    if here is said:
        yield from (*asked.fields, "form", "reference", "completed_at", "cancelled", "cancel_reason", "referred_by")
        yield from ("needs", "consents")
    else:
        yield from asked.needs if here is said.get("needs") else (*asked.consents, "on", "by")


thoroughly = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@every_form
@given(data=st.data())
@thoroughly
def test_the_schema_accepts_what_the_reader_accepts(asked: Form, data: st.DataObject) -> None:
    """Of the values above, none is refused for what JSON Schema cannot say: check digits, days, fillers, who may act for whom."""
    said = cleaned(data.draw(filled(asked)))
    outcome, is_valid = translated(said, asked, Fillers()), VALIDATORS[asked.form].is_valid(said)
    if isinstance(outcome, Translated) and outcome.intent == "cancel":
        return  # it is taken in spite of other faults, which the schema names
    assert is_valid is isinstance(outcome, Translated), (said, outcome)


@every_form
@given(data=st.data())
@thoroughly
def test_what_is_cleaned_changes_nothing_for_the_reader(asked: Form, data: st.DataObject) -> None:
    said = data.draw(filled(asked))
    name = data.draw(st.sampled_from(sorted(said)))
    dressed = copy.deepcopy(said)
    if isinstance(said[name], str):
        dressed[name] = data.draw(_INVISIBLE) + said[name] + data.draw(_INVISIBLE)
    assert translated(dressed, asked) == translated(cleaned(dressed), asked)


# ---- a discharge ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "discharged", "expected"),
    [
        ("2026-11-05", date(2026, 11, 5), None),
        ("2026-11-06", None, date(2026, 11, 6)),
        ("2028-11-05", None, date(2028, 11, 5)),
    ],
)
def test_a_discharge_in_the_future_is_expected_and_ends_no_stay(
    day: str, discharged: date | None, expected: date | None
) -> None:
    asked = FORMS["hospital-discharge"]
    whole = json.loads((GOLDEN / "form-hospital-discharge" / "everything.in").read_bytes())
    whole.pop("expected_discharge_on", None)
    said = accepted({**whole, "discharged_on": day}, asked)
    assert said.referral is not None
    assert (said.referral.discharged_on, said.referral.expected_discharge_on) == (discharged, expected)
    assert said.referral.is_inpatient is (discharged is None)
    assert [issue.place for issue in said.warnings] == ([] if discharged else ["discharged_on"])
