"""What the messages of a referral have said, merged: given messages in any order of arrival, then one state."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.intake.translators import hl7v2
from services.intake.translators.hl7v2 import er7, field_paths, field_state
from services.intake.translators.hl7v2.dates import Interval
from services.intake.translators.hl7v2.er7 import Hl7Message, Reading, Separators
from services.intake.translators.hl7v2.field_state import STANDARD, FieldState, decode, merged, said_by
from services.intake.translators.translator import Translated
from services.reference.fillers import NO_FILLERS
from tests.contract.translators.adapters import DIRECTORY, SERVICES
from tests.contract.translators.golden_pairs import CASES, FULL

UHL = hl7v2.load(DIRECTORY / "hl7v2", SERVICES)["uhl"]
SELECTION = field_paths.select_fields(UHL)
START = datetime(2026, 11, 5, 9, 30, tzinfo=UTC)
EMPTY = FieldState({})


def a_message(*segments: str, by: Separators = STANDARD, encoding: str = "utf-8") -> Hl7Message:
    msh = f"MSH{by.field}{by.component}{by.repetition}{by.escape}{by.subcomponent}"
    message = er7.read("\r".join([msh, *segments]), Reading(by, encoding), SELECTION)
    assert isinstance(message, Hl7Message)
    return message


def said(minute: int, *segments: str, made: str = "") -> FieldState:
    start = START + timedelta(minutes=minute)
    return said_by(a_message(*segments), Interval(start, start + timedelta(minutes=1)), UHL, made=made)


def replaced(held: FieldState, whole: FieldState) -> FieldState:
    return field_state.replaced(held, whole, UHL)


def after(*states: FieldState) -> FieldState:
    held = EMPTY
    for state in states:
        held = merged(held, state)
    return decode(held.encode())


def lines(state: FieldState) -> list[str]:
    """Return the segments of a state, with their fields as sent."""
    segments = state.message(SELECTION, NO_FILLERS).segments
    return ["|".join([one.name, *(one.raw(number) for number in one.fields)]) for one in segments if one.fields]


# ---- one message -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case", [one for one in CASES if one.parent.name.startswith("hl7v2")], ids=lambda one: one.stem
)
def test_a_message_says_the_same_when_it_is_read_from_its_state(case: Path) -> None:
    adapter = FULL[case.parent.name]
    outcome = adapter.translate(adapter.delivery(case.read_bytes()))
    if isinstance(outcome, Translated) and outcome.complete and outcome.fields:
        again = outcome.complete(outcome.fields)
        assert isinstance(again, Translated)
        assert (again.referral, again.content_hash) == (outcome.referral, outcome.content_hash)
        assert decode(again.fields or b"").units == decode(outcome.fields).units


def test_other_separators_and_encodings_are_written_as_the_standards() -> None:
    by = Separators("!", "|", "~", "#", "&")
    written = a_message("NTE!1!!rail #F# stairs ^ #XE9# #.br#50# off!HOUSING", by=by, encoding="windows-1252")
    state = said_by(written, Interval(START, START), UHL)
    (note,) = state.message(SELECTION, NO_FILLERS).all("NTE")
    assert note.all(3)[0].prose() == "rail ! stairs ^ é \n50# off"
    assert note.all(3)[0].prose() == written.all("NTE")[0].all(3)[0].prose()


def test_a_separator_of_components_is_a_character_of_prose() -> None:
    by = Separators("#", "@", "!", "$", "%")
    written = a_message("NTE#1##mail a@b ^ 50% sure", "OBX#1#TX#LB-HOME##up @ 50%", "OBX#2#CE#LB-RISK##V@Son", by=by)
    state = said_by(written, Interval(START, START), UHL).message(SELECTION, NO_FILLERS)
    assert [state.all("NTE")[0].all(3)[0].prose(), state.all("OBX")[0].all(5)[0].prose()] == [
        "mail a@b ^ 50% sure",
        "up @ 50%",
    ]
    assert state.text("OBX", 5, 1) == "up @ 50%"
    assert state.all("OBX")[1].text(5, 2) == "Son"


# ---- merging ---------------------------------------------------------------------------------------------------------

SEGMENTS = (
    "PID|1||A1^^^UHL^MRN||HOLROYD^ENID||19480611",
    "PID|1||A1^^^UHL^MRN~9990000018^^^^NHS||HOLROYD^MAY",
    'PID||||||||||""||0116 496 0312',
    "PID|||||||||||||0116 496 0311",
    "PV1|1|I|WARD 23^B^4^LRI",
    'PV1||||||||||||||||||||||||||||||||||||||||||||""',
    "RF1|A|URGENT|ADAPT|||FT-1",
    "PRD|RP|Okafor^Chidi",
    "PRD|RP|Bell^Una~PRD|CP|Moss",
    "OBX|1|IS|LB-DOG||Y||||||F",
    'OBX|1|IS|LB-DOG||""||||||F',
    "OBX|1|CE|LB-RISK||V1^Son is violent||||||F",
    "OBX|1|CE|LB-RISK||V2||||||F\rNTE|1||in the evening|HOUSING",
    "OBX|1|CE|LB-RISK||V1||||||D",
    'OBX|1|CE|LB-RISK||""||||||F',
    "OBX|1|CE|LB-CONSENT||Y||||||F",
    "OBX|1|CE|718-7^Haemoglobin^LN||12||||||F\rNTE|1||low",
    "DG1|1||S72.0^Fracture",
    'DG1|1||""',
    "NTE|1||Stairs are steep|HOUSING",
    'NTE|1||""|HOUSING',
    "NTE|1||Rings at night",
)
MESSAGES = st.lists(st.lists(st.sampled_from(SEGMENTS), max_size=5, unique=True), min_size=1, max_size=5)


@given(MESSAGES, st.data())
def test_messages_of_different_times_give_the_same_state_in_any_order_of_arrival(
    messages: list[list[str]], data: st.DataObject
) -> None:
    states = [said(at, *segments, made=f"2026110{at + 1}") for at, segments in enumerate(messages)]
    arrived = data.draw(st.permutations(states))
    assert after(*arrived).units == after(*states).units


@given(MESSAGES)
def test_a_message_that_comes_again_changes_nothing(messages: list[list[str]]) -> None:
    states = [said(at, *segments) for at, segments in enumerate(messages)]
    assert after(*states, *states).units == after(*states).units


@given(MESSAGES, st.lists(st.sampled_from(SEGMENTS), max_size=3, unique=True))
def test_what_a_message_omits_stays(messages: list[list[str]], last: list[str]) -> None:
    before = after(*(said(at, *segments) for at, segments in enumerate(messages)))
    later = said(len(messages), *last)
    now = merged(before, later).units
    named = {key for one in later.units for key in before.units if key == one or key.startswith(f"{one}\t")}
    assert all(now[key] == unit for key, unit in before.units.items() if key not in named)
    assert all(now[key].lines == unit.lines for key, unit in later.units.items())


def test_the_null_deletes_one_field_and_an_older_message_does_not_bring_it_back() -> None:
    new = said(0, "PID|1||A1^^^UHL^MRN||HOLROYD||||||||0116 1|0116 2")
    deletes = said(2, 'PID|1||A1^^^UHL^MRN||||||||||""')
    older = said(1, "PID|1||A1^^^UHL^MRN||||||||||0116 3|0116 4")
    assert lines(after(new, deletes, older)) == ["PID|A1^^^UHL^MRN|HOLROYD|0116 4"]


def test_an_older_message_fills_what_no_later_one_has_said() -> None:
    new, later = said(0, "RF1|A|R|ADAPT|||FT-1"), said(9, "RF1||URGENT||||FT-1")
    assert lines(after(new, later, said(5, "RF1||R|FALLS|||FT-1"))) == ["RF1|A|URGENT|FALLS|FT-1"]


def test_a_message_of_the_same_minute_applies_in_the_order_of_arrival() -> None:
    assert lines(after(said(0, "RF1||R"), said(0, "RF1||URGENT"))) == ["RF1|URGENT"]


def test_a_group_is_replaced_if_it_is_sent_and_stays_if_not() -> None:
    new = said(
        0, "NK1|1|ASH", "NK1|2|OAK", "OBX|1|ST|LB-HOME||Stairs", "OBX|2|ST|LB-NEED||FALLS", "NTE|1||one", "NTE|2||two"
    )
    update = said(1, "NK1|1|ELM", "OBX|1|ST|LB-HOME||Ramp")
    state = lines(after(new, update))
    assert "NK1|ELM" in state
    assert not any("ASH" in one or "OAK" in one or "Stairs" in one for one in state)
    assert [one for one in state if "Ramp" in one or "FALLS" in one] == ["OBX|ST|LB-HOME|Ramp", "OBX|ST|LB-NEED|FALLS"]
    assert sum(one.startswith("NTE") for one in state) == 2


def test_a_risk_flag_goes_only_when_it_is_named() -> None:
    new = said(0, "OBX|1|CE|LB-RISK||V1^Son~V2^Dog", "OBX|2|IS|LB-DOG||Y")
    assert len(lines(after(new, said(1, "OBX|1|CE|LB-RISK||V3")))) == 4
    assert lines(after(new, said(1, "OBX|1|CE|LB-RISK||V1||||||D"))) == ["OBX|CE|LB-RISK|V2^Dog", "OBX|IS|LB-DOG|Y"]
    assert lines(after(new, said(1, "OBX|1|ce|LB-RISK||V1||||||d"))) == ["OBX|CE|LB-RISK|V2^Dog", "OBX|IS|LB-DOG|Y"]
    assert lines(after(new, said(1, 'OBX|1|CE|LB-RISK||""'))) == ["OBX|IS|LB-DOG|Y"]


@pytest.mark.parametrize("status", ["X", "N", "x", "n"])
def test_an_observation_that_was_not_made_says_nothing(status: str) -> None:
    new = said(0, "OBX|1|IS|LB-DOG||Y", "OBX|2|CE|LB-CONSENT-GP||N")
    later = said(1, f"OBX|1|IS|LB-DOG||N||||||{status}", f"OBX|2|CE|LB-CONSENT-GP||Y||||||{status}")
    assert lines(after(new, later)) == lines(new)


def test_an_observation_is_known_by_the_agreed_code_of_either_triplet() -> None:
    first, second = "OBX|1|CE|LB-CONSENT-GP||Y", "OBX|1|CE|64290-0^Consent^LN^LB-CONSENT-GP^Tell the GP^L||N"
    assert lines(after(said(0, first), said(1, second))) == ["OBX|CE|64290-0^Consent^LN^LB-CONSENT-GP^Tell the GP^L|N"]


def test_a_note_stays_with_the_observation_that_it_belongs_to() -> None:
    new = said(0, "OBX|1|IS|LB-DOG||Y", "NTE|1||in the yard|HOUSING", "PV1||I", "NTE|1||rings at night|HOUSING")
    message = after(new, said(1, "OBX|1|CE|LB-RISK||V1")).message(SELECTION, NO_FILLERS)
    assert [one.parent.text(3) if one.parent else None for one in message.all("NTE")] == [None, "LB-DOG"]
    assert lines(after(new, said(1, "OBX|1|IS|LB-DOG||||||||D")))[1:] == ["PV1|I"]


RISKS = ("OBX|1|IS|LB-DOG||Y", "OBX|2|CE|LB-RISK||V1^Son", "OBX|3|CE|LB-NEED||FALLS")
KEPT = ("OBX|IS|LB-DOG|Y", "OBX|CE|LB-RISK|V1^Son")


def test_a_whole_update_begins_again_but_silence_ends_neither_a_stay_nor_a_risk_flag() -> None:
    new = said(0, "RF1||R", "PID|1||A1", "PV1||I|WARD 1", "PV2|||||||||20261127", *RISKS, made="20261105")
    state = replaced(new, said(1, "RF1||U", "PV1||I|WARD 2", made="20261106"))
    assert (lines(state), state.made) == (["PV1|I|WARD 2", "PV2|20261127", "RF1|U", *KEPT], "20261105")
    assert replaced(state, said(0, "RF1||R", made="20261105")).units == state.units
    deleted = replaced(state, said(2, "RF1||U", 'OBX|1|CE|LB-RISK||""', "OBX|2|IS|LB-DOG||||||||D"))
    assert not any(one.startswith("OBX") for one in lines(deleted))


def test_the_end_of_a_visit_is_not_that_of_another() -> None:
    first = said(0, "PV1||I|W1^^^LRI||||||||||||||||V1" + "|" * 17 + "19" + "|" * 8 + "20261028|20261107")
    second = said(1, "PV1||I|W2^^^LRI||||||||||||||||V2^^^UHL" + "|" * 25 + "20261109")
    assert lines(after(first, second)) == lines(after(second, first)) == lines(second)
    again = said(2, "PV1||I|W2^^^LRI||||||||||||||||V2" + "|" * 26 + "20261112")
    assert "20261112" in lines(after(first, second, again))[-1]


def test_what_adt_said_later_stays_in_a_whole_update_that_was_sent_earlier() -> None:
    first = said(0, "RF1||||||R1", "PID|||||HOLROYD^ENID||||||||0116 496 0311", "PV1||I|W1")
    discharge = said(2, "PID|||||||||||||0116 496 0399", "PV1" + "|" * 45 + "20261107")
    late = said(1, "RF1|A|||||R1", "PID|||||HOLROYD^MAY||||||||0116 496 0311", "PV1||I|W2")
    expected = ["PID|HOLROYD^MAY|0116 496 0399", "PV1|I|W2|20261107", "RF1|A|R1"]
    assert sorted(lines(replaced(merged(first, discharge), late))) == expected
    later = said(3, "RF1|R|||||R1", "PV1||I|W3")
    assert lines(replaced(replaced(first, later), late)) == lines(replaced(first, later))
