"""Field cases of councils' files and forms: exports as council systems, spreadsheets and form builders really write them."""

import json
from typing import Any

from tests.field.case import Unplayed, Wrong, case
from tests.field.clients import Answer, Installation, Row, raw
from tests.field.referrals import (
    BLABY_EXPORT,
    HINCKLEY,
    MELTON_EXPORT,
    Person,
    bars,
    digits,
    first_contact_form,
    letters,
    withdrawal_form,
)

FUTURE = "2062-11-16T13:05:00Z"


def upload_hinckley(hub: Installation, reference: str, **cells: str) -> Row:
    return hub.rows("hinckley-bosworth", HINCKLEY.file(HINCKLEY.row(REFNO=reference, **cells)))[0]


def upload_melton(hub: Installation, reference: str, **cells: str) -> Row:
    return hub.rows("melton", MELTON_EXPORT.file(MELTON_EXPORT.row(**{"Grant No": reference, **cells})))[0]


def fill_in(hub: Installation, answers: dict[str, Any] | bytes) -> Answer:
    return hub.form("first-contact", "first-contact-plus", answers)


def status_of(answer: Answer) -> str:
    return str(answer.json().get("status"))


def must_be_refused(answer: Answer, what: str) -> None:
    if answer.status < 400:
        raise Wrong(f"{what} was answered {answer.status} {status_of(answer)}")


def received(row: Row) -> None:
    if row.outcome != "received":
        raise Unplayed(f"the row was answered {row}")


def person_of(hub: Installation, reference: str) -> dict[str, Any]:
    return dict(hub.shown(reference)["referral"]["person"])


# ---- controls: what is answered rightly today must stay so ----------------------------------------------------------


@case("csv/control-plain-row-reaches-its-hub")
def plain_row_reaches_its_hub(addresses: dict[str, Any]) -> None:
    hub, reference = Installation(addresses), digits(7)
    row = upload_hinckley(hub, reference)
    if row.outcome != "received":
        raise Wrong(f"a plain row was answered {row}")
    event = hub.newest_event_of(reference)
    if event is None or event.hub != "hinckley-bosworth" or event.persons[0]["family_name"] != "TESTER":
        raise Wrong(f"the hub of Hinckley and Bosworth was not informed of the person: {event}")


@case("csv/control-withdrawal-of-today-is-applied")
def withdrawal_of_today_is_applied(addresses: dict[str, Any]) -> None:
    hub, reference = Installation(addresses), letters(8)
    fill_in(hub, first_contact_form(reference))
    answer = fill_in(hub, withdrawal_form(reference))
    if status_of(answer) != "cancelled":
        raise Wrong(f"the withdrawal was answered {answer.status} {status_of(answer)}")


# ---- identity -------------------------------------------------------------------------------------------------------


@case("csv/thousands-separator-is-not-another-reference")
def thousands_separator_is_not_another_reference(addresses: dict[str, Any]) -> None:
    """`12,000`, as spreadsheets and report builders write an integer, is 12000, or is refused: never 12."""
    hub, number = Installation(addresses), digits(3)
    row = upload_hinckley(hub, f"{number},000", SURNAME="ZIMMER")
    if row.outcome != "refused" and (row.reference or "").lstrip("0") != f"{number}000":
        raise Wrong(f"{number},000 was read as the reference {row.reference}: {row.outcome}")


@case("csv/thousands-separator-overwrites-nobody")
def thousands_separator_overwrites_nobody(addresses: dict[str, Any]) -> None:
    hub, number = Installation(addresses), digits(3)
    upload_hinckley(hub, number, SURNAME="ABBOTT" + letters(4), FORENAME="ALICE", BIRTH="01-02-1940")
    before = person_of(hub, f"{int(number):07d}")["family_name"]
    upload_hinckley(hub, f"{number},000", SURNAME="ZIMMER", FORENAME="ZED", BIRTH="05-06-1950")
    after = person_of(hub, f"{int(number):07d}")["family_name"]
    if after != before:
        raise Wrong(f"the referral of {before} now names {after}")


@case("csv/filler-number-does-not-join-two-people")
def filler_number_does_not_join_two_people(addresses: dict[str, Any]) -> None:
    """9999999999 has a valid check digit and is nobody's number: people of one name and one filler date stay two people."""
    hub, name, references = Installation(addresses), "SMITH" + letters(6), (digits(7), digits(7))
    born = f"01-01-19{digits(2)}"
    people = ({"FORENAME": "JOHN", "ADD1": "1 North Street"}, {"FORENAME": "MARY", "ADD1": "77 South Street"})
    for reference, person in zip(references, people, strict=True):
        row = upload_hinckley(hub, reference, SURNAME=name, BIRTH=born, NHSNO="9999999999", **person)
        if row.outcome == "refused":
            return
    events = [hub.newest_event_of(reference) for reference in references]
    cases = {event.case_id for event in events if event}
    if None in events:
        raise Unplayed("a hub was not informed of both people")
    if len(cases) == 1:
        flags = [hub.shown(reference)["provisional"] for reference in references]
        raise Wrong(f"one case for both people, provisional {flags}")


@case("csv/round-of-zeros-is-not-an-nhs-number")
def round_of_zeros_is_not_an_nhs_number(addresses: dict[str, Any]) -> None:
    hub, reference = Installation(addresses), digits(7)
    row = upload_hinckley(hub, reference, NHSNO="0000000000", SURNAME="ZERO" + letters(6))
    if row.outcome != "refused" and (number := person_of(hub, reference).get("nhs_number")):
        raise Wrong(f"the hub reads the NHS number {number}")


# ---- dates ----------------------------------------------------------------------------------------------------------


@case("csv/year-of-birth-is-not-a-day-of-1905")
def year_of_birth_is_not_a_day_of_1905(addresses: dict[str, Any]) -> None:
    hub, reference = Installation(addresses), digits(7)
    if upload_hinckley(hub, reference, BIRTH="1948").outcome != "refused":
        raise Wrong(f"BIRTH 1948 was read as {person_of(hub, reference)['birth_date']}")


@case("csv/form-birth-date-in-the-future")
def form_birth_date_in_the_future(addresses: dict[str, Any]) -> None:
    form = first_contact_form(letters(8), birth_date="2048-06-18")
    must_be_refused(fill_in(Installation(addresses), form), "born 2048-06-18")


@case("csv/form-birth-date-in-the-year-48")
def form_birth_date_in_the_year_48(addresses: dict[str, Any]) -> None:
    form = first_contact_form(letters(8), birth_date="0048-06-18")
    must_be_refused(fill_in(Installation(addresses), form), "born in the year 48")


@case("csv/form-dated-in-the-future-does-not-stop-a-withdrawal")
def form_dated_in_the_future_does_not_stop_a_withdrawal(addresses: dict[str, Any]) -> None:
    """A form of 2062 (typed for 2026) is refused, or a later withdrawal is still applied."""
    hub, reference = Installation(addresses), letters(8)
    if fill_in(hub, first_contact_form(reference, completed_at=FUTURE)).status >= 400:
        return
    answer = fill_in(hub, withdrawal_form(reference))
    if status_of(answer) != "cancelled":
        raise Wrong(f"the withdrawal of consent was answered {answer.status} {status_of(answer)}")


@case("csv/bars-message-dated-in-the-future-does-not-stop-a-revocation")
def bars_message_dated_in_the_future_does_not_stop_a_revocation(addresses: dict[str, Any]) -> None:
    hub, person, sent_id = Installation(addresses), Person(), digits(8)
    referral = f"{sent_id}-0000-4000-8000-{digits(12)}"
    first = hub.fhir("gp-castle-view", bars(person, referral=referral, sent_at=FUTURE))
    if first.status >= 400:
        return
    revocation = bars(person, referral=referral, reason="delete", status="revoked")
    if (status := hub.fhir("gp-castle-view", revocation).status) >= 400:
        return
    kinds = [event.kind for event in hub.hub_events("blaby", about=person.family)]
    if not kinds:
        raise Unplayed("no hub was informed of the referral")
    if "cancelled" not in [event.kind for event in hub.hub_events("blaby", about=_case_of(hub, person))]:
        raise Wrong(f"the revocation was answered {status}, and the case is still open")


def _case_of(hub: Installation, person: Person) -> str:
    return hub.hub_events("blaby", about=person.family)[-1].case_id


# ---- names and addresses --------------------------------------------------------------------------------------------


def surname_is(addresses: dict[str, Any], applicant: str, expected: str) -> None:
    hub, reference = Installation(addresses), letters(8)
    if upload_melton(hub, reference, Applicant=applicant).outcome == "refused":
        return
    person = person_of(hub, reference)
    if person["family_name"] != expected:
        raise Wrong(f"{applicant!r} became {person['family_name']!r}, given names {person['given_names']}")


@case("csv/surname-that-is-a-title")
def surname_that_is_a_title(addresses: dict[str, Any]) -> None:
    surname_is(addresses, "Mrs Ann Lord", "Lord")


@case("csv/note-after-a-name-is-not-a-surname")
def note_after_a_name_is_not_a_surname(addresses: dict[str, Any]) -> None:
    surname_is(addresses, "Mr A Brown (dec'd)", "Brown")


@case("csv/comma-in-a-name")
def comma_in_a_name(addresses: dict[str, Any]) -> None:
    surname_is(addresses, "Smith, Mr John", "Smith")


@case("csv/flat-and-floor-are-not-a-postcode")
def flat_and_floor_are_not_a_postcode(addresses: dict[str, Any]) -> None:
    hub, reference = Installation(addresses), letters(8)
    row = upload_melton(hub, reference, Property="Flat B2 1st Floor, 12 High Street, Melton Mowbray")
    if row.outcome == "refused":
        return
    address = person_of(hub, reference)["address"]
    if address.get("postcode") is not None or "B2" not in address["lines"][0]:
        raise Wrong(f"the address became {address}")


@case("csv/two-spaces-in-a-postcode")
def two_spaces_in_a_postcode(addresses: dict[str, Any]) -> None:
    hub, reference = Installation(addresses), letters(8)
    received(upload_melton(hub, reference, Property="12 High Street, Melton Mowbray, LE13  1DB"))
    address = person_of(hub, reference)["address"]
    if address.get("postcode") != "LE13 1DB":
        raise Wrong(f"the postcode was not found: {address}")


# ---- bytes ----------------------------------------------------------------------------------------------------------


@case("csv/utf-8-row-in-a-windows-1252-file")
def utf_8_row_in_a_windows_1252_file(addresses: dict[str, Any]) -> None:
    hub, one, other = Installation(addresses), letters(8), letters(8)
    first = MELTON_EXPORT.row(**{"Grant No": one, "Applicant": "Zoë O’Brien"})
    second = MELTON_EXPORT.row("utf-8", **{"Grant No": other, "Applicant": "Chloé O’Dowd"})
    if hub.rows("melton", MELTON_EXPORT.file(first, second))[-1].outcome != "received":
        return
    name = person_of(hub, other)["family_name"]
    if name != "O’Dowd":
        raise Wrong(f"the family name became {name!r}")


@case("csv/line-ends-of-two-carriage-returns")
def line_ends_of_two_carriage_returns(addresses: dict[str, Any]) -> None:
    """CR CR LF, as Python's csv module writes into a text file on Windows: every row is read, or the file is refused by that name."""
    hub = Installation(addresses)
    rows = [BLABY_EXPORT.row(**{"Case Ref": letters(8)}) for _ in range(2)]
    report = hub.rows("blaby", BLABY_EXPORT.file(*rows).replace(b"\r\n", b"\r\r\n"))
    refused_by_name = len(report) == 1 and report[0].reference is None and "line end" in report[0].explanation
    if not refused_by_name and [row.outcome for row in report] != ["received", "received"]:
        raise Wrong(f"two whole rows were answered {report}")


@case("csv/control-character-of-windows-1252-in-utf-8")
def control_character_of_windows_1252_in_utf_8(addresses: dict[str, Any]) -> None:
    """U+0092 is an apostrophe that a wrong conversion left behind; nothing shows it."""
    hub, reference = Installation(addresses), letters(8)
    row = BLABY_EXPORT.row(**{"Case Ref": reference, "Surname": "O\x92Dowd"})
    if hub.rows("blaby", BLABY_EXPORT.file(row))[0].outcome == "refused":
        return
    name = person_of(hub, reference)["family_name"]
    if name not in ("O’Dowd", "O'Dowd"):
        raise Wrong(f"the family name is {name!r}")


@case("csv/sep-line-above-the-header")
def sep_line_above_the_header(addresses: dict[str, Any]) -> None:
    """`sep=,`, as Excel wants it, is passed over, or the refusal says that a row stands above the header."""
    hub = Installation(addresses)
    report = hub.rows("blaby", b"sep=,\r\n" + BLABY_EXPORT.file(BLABY_EXPORT.row(**{"Case Ref": letters(8)})))
    if report[0].outcome != "received" and "lower" not in report[0].explanation:
        raise Wrong(f"the file was answered {report[0].outcome}: {report[0].explanation[:120]}")


@case("csv/one-long-row-does-not-stop-the-others")
def one_long_row_does_not_stop_the_others(addresses: dict[str, Any]) -> None:
    hub, reference = Installation(addresses), letters(8)
    whole = MELTON_EXPORT.row(**{"Grant No": reference})
    long = MELTON_EXPORT.row(**{"Grant No": letters(8), "Remarks": "y" * 66_000})
    report = {row.reference: row.outcome for row in hub.rows("melton", MELTON_EXPORT.file(whole, long))}
    if report.get(reference) != "received":
        raise Wrong(f"the other row was not received: {report}")


# ---- forms ----------------------------------------------------------------------------------------------------------


@case("csv/form-need-answered-false")
def form_need_answered_false(addresses: dict[str, Any]) -> None:
    """Form builders send booleans as text: a need that is answered "false" is not asked for, or is refused."""
    hub, reference = Installation(addresses), letters(8)
    needs = {"advice": "true", "grab_rails": "false", "adaptation": "false", "homeless": "false"}
    if fill_in(hub, first_contact_form(reference, needs=needs)).status >= 400:
        return
    asked = sorted(need["service"] for need in hub.shown(reference)["referral"]["needs"])
    if asked != ["information-advice"]:
        raise Wrong(f"the hub is asked for {asked}")


@case("csv/form-name-of-invisible-characters")
def form_name_of_invisible_characters(addresses: dict[str, Any]) -> None:
    form = first_contact_form(letters(8), family_name="\u200b")
    must_be_refused(fill_in(Installation(addresses), form), "a family name of U+200B")


@case("csv/form-with-one-key-twice")
def form_with_one_key_twice(addresses: dict[str, Any]) -> None:
    text = json.dumps(first_contact_form(letters(8)))
    twice = text.replace('"referral": "yes"', '"referral": "no", "referral": "yes"')
    if twice == text:
        raise Unplayed("the consent was not found in the form")
    must_be_refused(fill_in(Installation(addresses), twice.encode()), "a no and a yes to the referral")


# ---- HTTP -----------------------------------------------------------------------------------------------------------


@case("csv/http-1-0-client-gets-no-chunks")
def http_1_0_client_gets_no_chunks(addresses: dict[str, Any]) -> None:
    hub = Installation(addresses)
    file = BLABY_EXPORT.file(BLABY_EXPORT.row(**{"Case Ref": letters(8)}))
    head = (
        f"POST /councils/blaby/referrals HTTP/1.0\r\nHost: hub\r\nContent-Type: text/csv\r\nContent-Length: {len(file)}"
    )
    head += f"\r\nAuthorization: Bearer {hub.token('council-blaby')}\r\n\r\n"
    answer = raw(hub.intake, head.encode() + file)
    if b'"rows"' not in answer:
        raise Unplayed(f"no report came: {answer[:300]!r}")
    if b"transfer-encoding: chunked" in answer.lower():
        raise Wrong("the report comes in chunks")
