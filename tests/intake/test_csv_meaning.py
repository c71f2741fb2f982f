"""What a row's cells mean: dates that can be, names and numbers that are somebody's, texts as written, and warnings."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from services.intake.translators import cleaning, plausibility
from services.intake.translators.council_csv import cells, names, row_translator
from services.intake.translators.council_csv.cells import clean
from services.intake.translators.council_csv.dates import moment, read, short_year
from services.intake.translators.form.fields import ParseError
from services.intake.translators.plausibility import FILLER_BIRTH, FILLER_DATE, IMPLAUSIBLE_BIRTH, IS_AHEAD, NOT_PAST
from services.intake.translators.translator import Issue, Rejection, Translated
from services.reference import fillers
from tests.builders.csv import a_file, a_row
from tests.contract.translators.adapters import ADAPTERS, DIRECTORY, RECEIVED_AT, SAME_TRANSLATOR

FILLERS = fillers.load(DIRECTORY)


def outcome(council: str, received_at: datetime = RECEIVED_AT, **changes: str) -> Translated | Rejection:
    adapter = next(one for one in [*ADAPTERS, *SAME_TRANSLATOR] if one.name == f"council-{council}")
    inbound = replace(adapter.delivery(a_file(council, [a_row(council, **changes)])), fillers=FILLERS)
    return adapter.translate(replace(inbound, received_at=received_at))


def translated(council: str, **changes: str) -> Translated:
    found = outcome(council, **changes)
    assert isinstance(found, Translated), found
    return found


def faults(council: str, **changes: str) -> list[tuple[str, str]]:
    found = outcome(council, **changes)
    assert isinstance(found, Rejection), found
    return [(issue.place, issue.explanation) for issue in found.issues]


def warned(council: str, **changes: str) -> list[tuple[str, str]]:
    return [(issue.place, issue.explanation) for issue in translated(council, **changes).warnings]


@pytest.mark.parametrize(
    "council", ["blaby", "charnwood", "harborough", "hinckley-bosworth", "melton", "nw-leicestershire"]
)
def test_a_good_row_has_no_warning(council: str) -> None:
    assert warned(council) == []


# ---- dates ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["1948", "1950.0", "48", "60", "61", "1", "2026", "2999", "46,331", "1948.0"])
def test_a_year_or_a_small_number_is_no_date_in_any_column(cell: str) -> None:
    for column in ("BIRTH", "SS127"):
        ((place, explanation),) = faults("hinckley-bosworth", **{column: cell})
        assert place == column
        assert "is a year or another number" in explanation


@pytest.mark.parametrize(("serial", "day"), [
    ("3000", date(1908, 3, 18)), ("17421", date(1947, 9, 11)), ("17421.0", date(1947, 9, 11)), ("46331,5", date(2026, 11, 5)),
])  # fmt: skip
def test_a_day_number_is_read(serial: str, day: date) -> None:
    local = read(serial, ("excel-serial",), None)
    assert local is not None
    assert local.date() == day


@pytest.mark.parametrize("year", ["00", "05", "18", "25", "26"])
def test_a_birth_year_that_may_be_of_two_centuries_is_refused(year: str) -> None:
    for council, column in (("melton", "D.O.B."), ("charnwood", "Date_of_birth")):
        written = f"03/07/{year}" if council == "melton" else f"03-Jul-{year}"
        assert faults(council, **{column: written}) == [(column.replace("_", " "), row_translator.SHORT_YEAR)]


@pytest.mark.parametrize(("written", "born"), [
    ("03/07/27", date(1927, 7, 3)), ("03/07/32", date(1932, 7, 3)), ("03/07/99", date(1999, 7, 3)),
    ("03/07/1918", date(1918, 7, 3)), ("03/07/2018", date(2018, 7, 3)),
])  # fmt: skip
def test_a_birth_year_of_one_century_is_read(written: str, born: date) -> None:
    found = translated("melton", **{"D.O.B.": written}).referral
    assert found is not None
    assert found.person.birth_date == born


def test_a_short_year_of_another_date_is_read() -> None:
    found = translated("melton", Enquiry="11/05/26").referral
    assert found is not None
    assert found.enquired_on == date(2026, 5, 11)
    assert short_year("11/05/26", ("dd/mm/yyyy", "dd/mm/yy")) == 26
    assert short_year("11/05/2026", ("dd/mm/yyyy", "dd/mm/yy")) is None


@pytest.mark.parametrize(("written", "explanation"), [
    ("01/01/1900", FILLER_BIRTH), ("01/01/1901", FILLER_BIRTH), ("06/11/2026", IMPLAUSIBLE_BIRTH),
    ("31/12/1895", None), ("30/12/1899", None),
])  # fmt: skip
def test_a_birth_date_that_cannot_be_is_refused(written: str, explanation: str | None) -> None:
    ((place, found),) = faults("blaby", DOB=written)
    assert place == "DOB"
    assert explanation is None or found == explanation


@pytest.mark.parametrize(
    "column",
    [
        "Enquiry_Date",
        "OT_Assessed",
        "SS127_Rec'd",
        "Application",
        "Approved",
        "Works_Start",
        "Certified",
        "Consent_Date",
    ],
)
def test_what_has_happened_is_from_1900_to_today_and_a_filler_is_not_said(column: str) -> None:
    header = column.replace("_", " ")
    assert faults("blaby", **{column: "06/11/2026"}) == [(header, NOT_PAST)]
    assert faults("blaby", **{column: "01/02/2099"}) == [(header, NOT_PAST)]
    assert warned("blaby", **{column: "01/01/1900"}) == [(header, FILLER_DATE)]
    left_out, not_given = translated("blaby", **{column: "01/01/1900"}), translated("blaby", **{column: ""})
    assert left_out.content_hash == not_given.content_hash
    assert warned("blaby", **{column: "05/11/2026"}) == []


@pytest.mark.parametrize(
    ("ahead", "is_refused"), [(timedelta(minutes=4), False), (timedelta(minutes=6), True), (timedelta(days=1), True)]
)
def test_a_time_of_change_more_than_five_minutes_ahead_is_refused(ahead: timedelta, is_refused: bool) -> None:
    written = f"{RECEIVED_AT + ahead:%d/%m/%Y %H:%M}"
    found = outcome("blaby", Last_Changed=written)
    assert isinstance(found, Rejection) == is_refused
    if isinstance(found, Rejection):
        assert found.issues == (Issue("Last Changed", "value", IS_AHEAD),)


@pytest.mark.parametrize("changed", ["05/11/2062 10:00", "yesterday", ""])
def test_no_time_of_change_stops_a_withdrawal_of_consent(changed: str) -> None:
    withdrawal = translated("blaby", **{"Last Changed": changed, "Consent Share": "N"})
    assert (withdrawal.intent, withdrawal.cancel_reason, withdrawal.sent_at) == ("cancel", "consent-withdrawn", None)
    assert [issue.place for issue in withdrawal.warnings] == ["Last Changed"]


def test_a_time_of_change_in_the_future_stops_another_cancel() -> None:
    assert faults("blaby", **{"Last Changed": "05/11/2062 10:00", "Case Status": "Withdrawn"}) == [
        ("Last Changed", IS_AHEAD)
    ]


def test_a_withdrawal_without_a_reference_is_refused() -> None:
    assert [place for place, _ in faults("blaby", **{"Case Ref": "12,000", "Consent Share": "N"})] == ["Case Ref"]


def test_a_filler_as_time_of_change_is_not_given() -> None:
    assert faults("blaby", Last_Changed="01/01/1900 00:00") == [("Last Changed", "is required")]
    assert warned("nw-leicestershire", Amended="1900-01-01") == [("Amended", FILLER_DATE)]
    assert translated("nw-leicestershire", Amended="1900-01-01").sent_at is None


@pytest.mark.parametrize(
    ("written", "begin", "end"),
    [
        ("2026-11-05", datetime(2026, 11, 5, tzinfo=UTC), datetime(2026, 11, 6, tzinfo=UTC)),
        ("05/11/2026", datetime(2026, 11, 5, tzinfo=UTC), datetime(2026, 11, 6, tzinfo=UTC)),
        ("5 Nov 2026", datetime(2026, 11, 5, tzinfo=UTC), datetime(2026, 11, 6, tzinfo=UTC)),
        ("2026-07-05", datetime(2026, 7, 4, 23, tzinfo=UTC), datetime(2026, 7, 5, 23, tzinfo=UTC)),
        ("2026-10-25", datetime(2026, 10, 24, 23, tzinfo=UTC), datetime(2026, 10, 26, tzinfo=UTC)),
        ("46331", datetime(2026, 11, 5, tzinfo=UTC), datetime(2026, 11, 6, tzinfo=UTC)),
        ("46331.5", datetime(2026, 11, 5, 12, tzinfo=UTC), datetime(2026, 11, 5, 12, 1, tzinfo=UTC)),
        ("2026-11-05 09:30", datetime(2026, 11, 5, 9, 30, tzinfo=UTC), datetime(2026, 11, 5, 9, 31, tzinfo=UTC)),
        ("5 Nov 2026 9:30", datetime(2026, 11, 5, 9, 30, tzinfo=UTC), datetime(2026, 11, 5, 9, 31, tzinfo=UTC)),
        ("2026-11-05T09:30+00:00", datetime(2026, 11, 5, 9, 30, tzinfo=UTC), datetime(2026, 11, 5, 9, 31, tzinfo=UTC)),
        ("2026-11-05T09+00:00", datetime(2026, 11, 5, 9, tzinfo=UTC), datetime(2026, 11, 5, 10, tzinfo=UTC)),
        ("2026-11-05 09:30:15", datetime(2026, 11, 5, 9, 30, 15, tzinfo=UTC), None),
        ("2026-11-05T09:30:15Z", datetime(2026, 11, 5, 9, 30, 15, tzinfo=UTC), None),
        # the hour that occurs twice, and the one that does not occur
        ("2026-10-25 01:30", datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 25, 1, 31, tzinfo=UTC)),
        ("2026-10-25 01:30:15", datetime(2026, 10, 25, 0, 30, 15, tzinfo=UTC), datetime(2026, 10, 25, 1, 30, 16, tzinfo=UTC)),
        ("2026-03-29 01:30", datetime(2026, 3, 29, 1, 30, tzinfo=UTC), datetime(2026, 3, 29, 1, 31, tzinfo=UTC)),
    ],
)  # fmt: skip
def test_a_time_of_change_is_as_precise_as_it_is_written(written: str, begin: datetime, end: datetime | None) -> None:
    found = moment(written, ("yyyy-mm-dd", "dd/mm/yyyy", "dd mmm yyyy", "excel-serial"), None)
    assert found is not None
    assert (found.begin, found.end) == (begin, end)


def test_a_row_and_its_cancel_are_sent_in_an_interval() -> None:
    row = translated("nw-leicestershire", Amended="2026-11-02")
    cancel = translated("nw-leicestershire", Amended="2026-11-02", State="Cancelled")
    for one in (row, cancel):
        assert (one.sent_at, one.sent_until) == (datetime(2026, 11, 2, tzinfo=UTC), datetime(2026, 11, 3, tzinfo=UTC))


# ---- numbers and names of nobody --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["0000000000", "9999999999", "4444444444", "9876543210", "1111111111"])
def test_a_filler_is_no_nhs_number(number: str) -> None:
    ((place, _),) = faults("blaby", NHS_No=number)
    assert place == "NHS No"


@pytest.mark.parametrize("reference", ["TBC", "unknown", "N/K", "n/a", "-"])
def test_a_filler_is_no_reference(reference: str) -> None:
    ((place, _),) = faults("oadby-wigston", ID=reference)
    assert place == "ID"


FILLER_NAMES = ["UNKNOWN", "Not known", "n/k", "TBC", "-", ".", "???", "(unknown)"]


@pytest.mark.parametrize("name", FILLER_NAMES)
def test_a_filler_is_no_required_name(name: str) -> None:
    expected = [("Last name", "is required")]
    assert faults("oadby-wigston", Last_name=name) == expected
    assert faults("melton", Applicant=name) == [("Applicant", "is required")]


@pytest.mark.parametrize("name", ["Mr UNKNOWN", "Mrs Not Known", "Miss TBC", "Ann Unknown"])
def test_a_whole_name_without_a_family_name_is_not_given(name: str) -> None:
    assert faults("melton", Applicant=name) == [("Applicant", "is required")]


@pytest.mark.parametrize("name", ["NOT GIVEN", "Not known", "TBC", "."])
def test_a_filler_elsewhere_is_a_name_that_was_not_given(name: str) -> None:
    for column in ("First_Names", "Officer"):
        header = column.replace("_", " ")
        assert warned("blaby", **{column: name}) == [(header, plausibility.FILLER_NAME)]
        assert translated("blaby", **{column: name}).content_hash == translated("blaby", **{column: ""}).content_hash


@pytest.mark.parametrize(("column", "cell", "refusal"), [
    ("Surname", "ASHDOWN (DEC'D)", names.DIED), ("Surname", "ASHDOWN & HALL", names.TWO_PEOPLE),
    ("First_Names", "Vera and Bob", names.TWO_PEOPLE), ("Title", "Mr & Mrs", names.TWO_PEOPLE), ("Title", "Mr/Mrs", names.TWO_PEOPLE),
])  # fmt: skip
def test_a_name_in_columns_of_its_own_is_one_living_persons(column: str, cell: str, refusal: ParseError) -> None:
    assert faults("blaby", **{column: cell}) == [(column.replace("_", " "), refusal.explanation)]


@pytest.mark.parametrize(("council", "column", "cell"), [
    ("melton", "Applicant", "Mr & Mrs J Brown"), ("melton", "Applicant", "Ann Smith - DECEASED"), ("charnwood", "Client", "SMITH JOHN"),
    ("harborough", "applicant", "John Smith, Ann Smith"),
])  # fmt: skip
def test_a_whole_name_that_is_not_understood_refuses_by_column_and_no_value(
    council: str, column: str, cell: str
) -> None:
    ((place, explanation),) = faults(council, **{column: cell})
    assert place == column
    assert cell not in explanation


# ---- texts ------------------------------------------------------------------------------------------------------------

ERRORS = [
    "#REF!", "#N/A", "#n/a", "#NAME?", "#VALUE!", "#DIV/0!", "#NULL!", "#NUM!", "#SPILL!", "#CALC!", "########", "Err:502", "Err:508",
    "#GETTING_DATA", "#ERROR!", "#FIELD!", "#BLOCKED!", "#CONNECT!", "#UNKNOWN!", "#BUSY!", "#EXTERNAL!", "#PYTHON!", "#TIMEOUT!",
    "#N/A N/A", "#WERT!", "#NOM?",
]  # fmt: skip


@pytest.mark.parametrize("cell", ERRORS)
@pytest.mark.parametrize("column", ["Notes", "Surname", "Address_2", "Case_Ref", "Tel"])
def test_a_spreadsheets_error_is_refused_in_every_column(column: str, cell: str) -> None:
    assert (column.replace("_", " "), cells.NO_VALUE.explanation) in faults("blaby", **{column: cell})


@pytest.mark.parametrize("cell", ["#12", "# hoarding!", "#hoarding!", "Err: door code", "Errol", "N/A.", "#1 priority"])
def test_what_only_resembles_an_error_is_kept(cell: str) -> None:
    assert clean(cell, "text") == cell


@pytest.mark.parametrize(
    "cell", ["=SUM(A1)", "@home after 4", "=> ring first", "@SUM(A1)", "+44 7700 900107 is her son", "- ring first"]
)
def test_any_sign_may_begin_a_free_text(cell: str) -> None:
    for council, column in (("blaby", "Notes"), ("charnwood", "Comments")):
        found = translated(council, **{column: cell}).referral
        assert found is not None
        assert found.reason.text == cell


@pytest.mark.parametrize("cell", ["=SUM(A1)", "@ann", '="=A1"', "'=A1", "\u200b=A1", "\u00a0@x"])
@pytest.mark.parametrize(
    "column", ["Surname", "First_Names", "Case_Ref", "Title", "Address_1", "NHS_No", "Officer", "Tel", "Sex"]
)
def test_a_formula_is_refused_in_a_name_an_address_a_code_and_an_identifier(column: str, cell: str) -> None:
    assert (column.replace("_", " "), cells.FORMULA.explanation) in faults("blaby", **{column: cell})


@pytest.mark.parametrize("cell", ["BDC\x0726", "BDC\x1f26", "BDC\ufffd26", "BDC\u009226", "BDC\t26", "BDC\n26"])
def test_a_control_character_in_an_identifier_is_refused(cell: str) -> None:
    ((place, _),) = faults("blaby", Case_Ref=cell)
    assert place == "Case Ref"


def test_invisible_characters_of_words_are_removed_and_none_of_the_words() -> None:
    found = translated(
        "blaby",
        Surname="\u200bAsh\u00addown\u202e",
        Notes="ring\u00a0first\x07please\r\nor\u2028write",
        Officer="Mary\n Okonkwo",
    )
    assert found.referral is not None
    assert found.referral.person.family_name == "Ashdown"
    assert found.referral.reason.text == "ring first please\nor\nwrite"
    assert found.referral.referred_by.name == "Mary Okonkwo"
    assert found.warnings == ()


def test_a_note_may_have_ten_thousand_characters() -> None:
    found = translated("blaby", Notes="x" * 10_000).referral
    assert found is not None
    assert found.reason.text == "x" * 10_000
    assert faults("blaby", Notes="x" * 10_001) == [("Notes", "is too long: at most 10,000 characters")]


@pytest.mark.parametrize(("cell", "warning"), [
    ("O?Dowd", cleaning.SPOILT), ("O\ufffdDowd", cleaning.SPOILT), ("O&#39;Dowd", cleaning.SPOILT), ("M\u00c3\u00bcller", cleaning.SPOILT),
    ("O\u0092Dowd", cleaning.REPAIRED),
])  # fmt: skip
@pytest.mark.parametrize("column", ["Surname", "Notes", "Address_2"])
def test_spoilt_letters_are_kept_with_a_warning(column: str, cell: str, warning: str) -> None:
    assert warned("blaby", **{column: cell}) == [(column.replace("_", " "), warning)]


def test_a_doubtful_postcode_is_kept_with_a_warning_in_both_kinds_of_column() -> None:
    assert warned("blaby", Postcode="LE1O 1DU") == [("Postcode", plausibility.NO_POSTCODE_FORM)]
    assert warned("melton", Property="12 High St, LE1O 1DU") == [("Property", plausibility.NO_POSTCODE_FORM)]


# ---- ticks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tick", "is_asked"), [
    ("\u2713", True), ("\u2714", True), ("\u2714\ufe0f", True), ("\u2611", True), ("yes", True), ("1.0", True),
    ("\u2717", False), ("\u2718", False), ("\u2610", False), ("no", False), ("0", False),
])  # fmt: skip
def test_ticks_are_read_in_a_column_of_yes_or_no(tick: str, is_asked: bool) -> None:
    found = translated("nw-leicestershire", Interpreter=tick).referral
    assert found is not None
    assert found.person.interpreter_needed is is_asked


def test_a_cross_is_a_tick_only_if_the_file_says_so() -> None:
    found = translated("charnwood", Falls="x").referral
    assert found is not None
    assert "home-safety" in {need.service for need in found.needs}
    assert [place for place, _ in faults("nw-leicestershire", Interpreter="x")] == ["Interpreter"]
    assert [place for place, _ in faults("charnwood", How_urgent="x")] == ["How urgent"]
