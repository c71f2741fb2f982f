"""Death, restricted access, a temporary address and preferences can come from every format that a partner defines."""

import re
from datetime import date

import pytest
from pydantic import ValidationError

from schemas.referral import Address, ContactPoint, ContactPreference, DeathReport, Person
from services.intake.translators.council_csv import row_translator
from services.intake.translators.council_csv.mapping import ColumnMapping
from services.intake.translators.form.definition import FieldOf
from services.intake.translators.translator import Rejection, Translated, set_path
from tests.builders.csv import COUNCILS, GOOD
from tests.contract.translators.adapters import ADAPTERS, Adapter

BLABY = next(one for one in ADAPTERS if one.name == "council-blaby")

TARGETS = {
    "Textphone": "person.other_contact_points",
    "Contact by": "person.preferred_contact.method",
    "Contact when": "person.preferred_contact.times",
    "Large print": "person.preferred_contact.written_format",
    "Secret": "person.restricted_access",
    "Died": "person.death_reported",
    "Died on": "person.death_reported.died_on",
    "Stays at 1": "person.temporary_address.lines.0",
    "Stays at 3": "person.temporary_address.lines.2",
    "Stays at postcode": "person.temporary_address.postcode",
}


def row(cells: dict[str, str]) -> Translated | Rejection:
    columns = {header: ColumnMapping(to=to) for header, to in TARGETS.items()}
    mapping = COUNCILS["blaby"].model_copy(update={"columns": {**COUNCILS["blaby"].columns, **columns}})
    given = {**GOOD["blaby"], **cells}
    return row_translator.read(
        mapping, {h: cell for h, cell in given.items() if h in mapping.columns}, BLABY.delivery(b"")
    )


def person_of(cells: dict[str, str]) -> Person:
    found = row(cells)
    assert isinstance(found, Translated), found
    assert found.referral is not None
    return found.referral.person


def test_a_councils_columns_can_fill_every_fact() -> None:
    person = person_of(
        {
            "Textphone": "1164960043",
            "Contact by": "letter",
            "Contact when": "not before 11",
            "Large print": "large print",
            "Secret": "Y",
            "Stays at 1": "Flat 2",
            "Stays at 3": "Narborough",
            "Stays at postcode": "LE19 2AA",
        }
    )
    assert person.other_contact_points == (ContactPoint(system="textphone", value="01164960043"),)
    assert person.preferred_contact == ContactPreference(
        method="letter", times="not before 11", written_format="large print"
    )
    assert person.restricted_access
    assert person.temporary_address == Address(lines=("Flat 2", "Narborough"), postcode="LE19 2AA")
    assert person.death_reported is None


@pytest.mark.parametrize(
    ("cells", "report"),
    [
        ({"Died": "Y"}, DeathReport()),
        ({"Died": "N"}, None),
        ({"Died on": "02/11/2026"}, DeathReport(died_on=date(2026, 11, 2))),
        ({"Died": "Y", "Died on": "02/11/2026"}, DeathReport(died_on=date(2026, 11, 2))),
        ({"Died on": "02/11/2026", "Died": "Y"}, DeathReport(died_on=date(2026, 11, 2))),
        ({"Died": "N", "Died on": "02/11/2026"}, DeathReport(died_on=date(2026, 11, 2))),
        ({"Died on": "02/11/2026", "Died": "N"}, DeathReport(died_on=date(2026, 11, 2))),
    ],
)
def test_a_death_is_reported_by_a_yes_or_a_date_in_any_order(cells: dict[str, str], report: DeathReport | None) -> None:
    assert person_of(cells).death_reported == report


@pytest.mark.parametrize(
    "cancelling", [{"Case Status": "Withdrawn"}, {"Case Status": "Opened in error"}, {"Consent Share": "N"}]
)
def test_a_row_that_cancels_reports_a_death(cancelling: dict[str, str]) -> None:
    found = row({"Died on": "02/11/2026", "Surname": "", **cancelling})
    assert isinstance(found, Translated), found
    assert (found.intent, found.death_reported) == ("cancel", DeathReport(died_on=date(2026, 11, 2)))
    plain = row(cancelling)
    assert isinstance(plain, Translated), plain
    assert (plain.death_reported, plain.content_hash == found.content_hash) == (None, False)


@pytest.mark.parametrize(("cell", "restricted"), [("Y", True), ("N", False), ("", None)])
def test_a_row_says_of_a_restriction_yes_no_or_nothing(cell: str, restricted: bool | None) -> None:
    assert person_of({"Secret": cell}).restricted_access is restricted


def test_a_no_does_not_replace_a_restriction_of_the_same_message() -> None:
    content: dict[str, object] = {"person": {"restricted_access": True}}
    set_path(content, "person.restricted_access", False)
    assert content == {"person": {"restricted_access": True}}


def test_a_yes_to_a_death_does_not_replace_its_date() -> None:
    content: dict[str, object] = {"person": {"death_reported": {"died_on": "2026-11-02"}}}
    set_path(content, "person.death_reported", True)
    set_path(content, "person.death_reported", False)
    assert content == {"person": {"death_reported": {"died_on": "2026-11-02"}}}


@pytest.mark.parametrize("born", ["06/11/2026", "31/12/1895"])
def test_a_birth_date_that_cannot_be_right_is_refused_in_a_row(born: str) -> None:
    found = row({"DOB": born})
    assert isinstance(found, Rejection)
    assert [(fault.place, fault.kind) for fault in found.issues] == [("DOB", "value")]


@pytest.mark.parametrize(
    ("kind", "to"),
    [
        ("line", "person.death_reported"),
        ("line", "person.restricted_access"),
        ("line", "person.other_contact_points"),
        ("textphone", "person.phone"),
        ("line", "person.vouched_by"),
    ],
)
def test_a_form_cannot_fill_a_fact_from_a_field_of_another_type(kind: str, to: str) -> None:
    with pytest.raises(ValidationError):
        FieldOf.model_validate({"label": "any", "type": kind, "to": to})


_NUMBER = re.compile(rb"\b999 ?[0-9]{3} ?[0-9]{4}\b")


@pytest.mark.parametrize("number", ["9999999999", "0000000000"])
@pytest.mark.parametrize("adapter", [one for one in ADAPTERS if _NUMBER.search(one.good())], ids=str)
def test_ten_equal_digits_are_not_an_nhs_number_in_any_format(adapter: Adapter, number: str) -> None:
    """HL7 v2 accepts them as a number that failed its check; other formats refuse them."""
    outcome = adapter.translate(adapter.delivery(_NUMBER.sub(number.encode(), adapter.good())))
    if adapter.name.startswith("hl7v2"):
        assert isinstance(outcome, Translated)
        assert outcome.referral is not None
        assert (outcome.referral.person.nhs_number, outcome.referral.person.nhs_number_status) == (None, "failed-check")
    else:
        assert isinstance(outcome, Rejection)
        assert len(outcome.issues) == 1
