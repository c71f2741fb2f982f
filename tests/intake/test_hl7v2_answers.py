"""What an HL7 v2 sender is told: which acknowledgements, with which codes, in which words."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.intake.batch import REFUSED, MessageDecision
from services.intake.deduplication import Verdict
from services.intake.responses import hl7v2
from services.intake.responses.hl7v2 import code, over_http, over_mllp, requested_acks
from services.intake.translators.hl7v2 import header
from services.intake.translators.inbound_message import InboundMessage
from services.intake.translators.translator import Issue, Rejection, Translated
from services.reference.partners import Hl7v2, Partner

AT = datetime(2026, 11, 5, 9, 30, tzinfo=UTC)
REFERENCE = "LB-0000-1111-2222"
UNDERSTOOD = Translated(("hl7v2:1",), "REF001", "new", "hash", referral=object())  # type: ignore[arg-type]
CANCEL = replace(UNDERSTOOD, intent="cancel", referral=None)
REFUSAL = Rejection((Issue("PID-5", "required", "a name is required"),))


def a_message(accept: str = "", application: str = "", version: str = "2.4", **more: str) -> bytes:
    said = {"type": "REF^I12", "id": "42", "processing": "P", "set": "", "separators": "^~\\&"} | more
    fields = ["TRUST_PAS", "TRUST", "HUB", "COUNTY", "20261105093000", "", said["type"], said["id"], said["processing"]]
    msh = "|".join(["MSH", said["separators"], *fields, version, "", "", accept, application, "GBR", said["set"]])
    return f"{msh}\rPID|1\r".encode()


def a_partner(**agreed: Any) -> Partner:
    return Partner(id="ward", name="Any Trust", kind="hospital-team", formats=("hl7v2",), hl7v2=Hl7v2(**agreed))


def a_delivery(body: bytes, **agreed: Any) -> InboundMessage:
    return InboundMessage(a_partner(**agreed), body, AT, b"key")


def frames(answer: bytes) -> list[str]:
    assert answer == b"" or (answer.startswith(b"\x0b") and answer.endswith(b"\x1c\r"))
    return [piece.removeprefix(b"\x0b").decode() for piece in answer.split(b"\x1c\r")[:-1]]


def told(
    body: bytes, verdict: str = Verdict.RECEIVED, *, outcome: Translated | Rejection = UNDERSTOOD, **agreed: Any
) -> list[str]:
    """The messages that go back over MLLP."""
    faults = outcome.issues if isinstance(outcome, Rejection) else ()
    decision = MessageDecision(verdict, AT, reference=REFERENCE, version=1, issues=faults)
    return frames(over_mllp(a_delivery(body, **agreed), outcome, decision).body)


def segment(message: str, name: str) -> list[str]:
    return next(line for line in message.split("\r") if line.startswith(name)).split("|")


def codes(messages: list[str]) -> list[str]:
    return [segment(message, "MSA")[1] for message in messages]


# ---- which acknowledgements -----------------------------------------------------------------------------------------

MODES = [
    # MSH-15, MSH-16, agreed: accepted, refused
    ("", "", "as-asked", ["AA"], ["AE"]),
    ("AL", "NE", "as-asked", ["CA"], ["CE"]),
    ("AL", "", "as-asked", ["CA"], ["CE"]),
    ("AL", "AL", "as-asked", ["CA", "AA"], ["CE"]),
    ("", "AL", "as-asked", ["AA"], ["AE"]),
    ("NE", "AL", "as-asked", ["AA"], ["AE"]),
    ("NE", "NE", "as-asked", [], []),
    ("NE", "ER", "as-asked", [], ["AE"]),
    ("NE", "SU", "as-asked", ["AA"], []),
    ("ER", "NE", "as-asked", [], ["CE"]),
    ("SU", "NE", "as-asked", ["CA"], []),
    ("SU", "AL", "as-asked", ["CA", "AA"], ["AE"]),
    ("ER", "AL", "as-asked", ["AA"], ["CE"]),
    ("??", "NE", "as-asked", ["CA"], ["CE"]),
    ("AL", "AL", "original", ["AA"], ["AE"]),
    ("NE", "NE", "original", ["AA"], ["AE"]),
    ("", "", "enhanced", ["CA"], ["CE"]),
    ("AL", "AL", "enhanced", ["CA", "AA"], ["CE"]),
    ("NE", "NE", "enhanced", [], []),
]


@pytest.mark.parametrize(("accept", "application", "agreed", "accepted", "refused"), MODES)
def test_a_message_gets_the_acknowledgements_that_it_requests(
    accept: str, application: str, agreed: str, accepted: list[str], refused: list[str]
) -> None:
    body = a_message(accept, application)
    assert codes(told(body, acknowledgement=agreed)) == accepted
    assert codes(told(body, REFUSED, outcome=REFUSAL, acknowledgement=agreed)) == refused


@pytest.mark.parametrize("kind", ["ACK", "ACK^I12", "MCF"])
def test_an_acknowledgement_is_never_acknowledged(kind: str) -> None:
    assert told(a_message(type=kind), REFUSED, outcome=REFUSAL) == []
    assert hl7v2.rejection_frames(a_partner(), a_message(type=kind), AT, "too large") == b""


@pytest.mark.parametrize(
    ("accept", "application", "accepted", "refused"),
    [
        ("", "", "AA", "AE"),
        ("AL", "NE", "CA", "CE"),
        ("AL", "AL", "AA", "CE"),
        ("NE", "AL", "AA", "AE"),
        ("NE", "NE", "CA", "CE"),
    ],
)
def test_over_http_there_is_always_one_acknowledgement(
    accept: str, application: str, accepted: str, refused: str
) -> None:
    delivery = a_delivery(a_message(accept, application))
    good = over_http(delivery, UNDERSTOOD, MessageDecision(Verdict.RECEIVED, AT, REFERENCE, 1))
    bad = over_http(delivery, REFUSAL, MessageDecision(REFUSED, AT, issues=REFUSAL.issues))
    assert codes([good.body.decode(), bad.body.decode()]) == [accepted, refused]


# ---- verdicts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "status", "letter", "error"),
    [
        (Verdict.RECEIVED, 200, "AA", None),
        (Verdict.UPDATED, 200, "AA", None),
        (Verdict.CANCELLED, 200, "AA", None),
        (Verdict.REPEAT, 200, "AA", None),
        (Verdict.STALE, 200, "AA", None),
        (Verdict.NOT_APPLIED, 200, "AA", None),
        (Verdict.CONFLICT, 409, "AE", "RF1^1^6^205&Duplicate key identifier&HL70357"),
        (Verdict.CONTRADICTED, 200, "AA", None),
        (Verdict.AFTER_CANCEL, 409, "AE", "RF1^1^6^207&Application error&HL70357"),
        (Verdict.UNKNOWN, 404, "AE", "RF1^1^6^204&Unknown key identifier&HL70357"),
    ],
)
def test_each_verdict_has_its_answer(verdict: Verdict, status: int, letter: str, error: str | None) -> None:
    answer = over_mllp(a_delivery(a_message()), UNDERSTOOD, MessageDecision(verdict, AT, REFERENCE, 1))
    (message,) = frames(answer.body)
    assert answer.status == status
    assert segment(message, "MSA")[:3] == ["MSA", letter, "42"]
    assert (REFERENCE in segment(message, "MSA")[3]) is (verdict not in (Verdict.UNKNOWN, Verdict.AFTER_CANCEL))
    assert ([segment(message, "ERR")[1]] if "ERR" in message else []) == ([error] if error else [])


def test_a_repeat_gets_the_same_answer_for_the_current_message() -> None:
    first, again = told(a_message(id="1")), told(a_message(id="2"), Verdict.REPEAT)
    assert segment(first[0], "MSA") == ["MSA", "AA", "1", REFERENCE]
    assert segment(again[0], "MSA") == ["MSA", "AA", "2", REFERENCE]


def test_a_stale_message_is_accepted_and_marked_as_superseded() -> None:
    assert segment(told(a_message(), Verdict.STALE)[0], "MSA")[3] == f"{REFERENCE} superseded by a later message"


def test_a_cancel_that_is_not_applied_is_accepted_and_marked_as_such() -> None:
    assert "stored and not applied" in segment(told(a_message(), Verdict.NOT_APPLIED)[0], "MSA")[3]


@pytest.mark.parametrize(
    ("place", "kind", "number", "rejected"),
    [
        ("MSH-9.1", "not-supported", "200", True),
        ("MSH-9", "not-supported", "200", True),
        ("MSH-9.2", "not-supported", "201", True),
        ("MSH-11", "not-supported", "202", True),
        ("MSH-12", "not-supported", "203", True),
        ("MSH-12.1", "not-supported", "203", True),
        ("MSH-18", "not-supported", "103", False),
        ("PID", "required", "101", False),
        ("PID-7", "invalid", "102", False),
        ("PID-8", "value", "103", False),
        ("NTE-3", "too-long", "102", False),
        ("RF1", "invariant", "100", False),
        ("PRD-7", "forbidden", "207", False),
        ("MSH-3", "forbidden", "103", False),
        ("message", "processing", "207", False),
        ("consent", "business-rule", "207", False),
    ],
)
def test_errors_use_table_0357_and_only_an_unsupported_message_is_ar(
    place: str, kind: Any, number: str, rejected: bool
) -> None:
    fault = Issue(place, kind, "explained")
    assert code(fault) == number
    assert codes(told(a_message(), REFUSED, outcome=Rejection((fault,)))) == ["AR" if rejected else "AE"]
    assert codes(told(a_message("AL"), REFUSED, outcome=Rejection((fault,)))) == ["CR" if rejected else "CE"]


@pytest.mark.parametrize("body", [b"", b"MSH", b"FHS|^~\\&|", b"\xff\x00", b"PID|1\rMSH|^~\\&|A"])
def test_without_a_readable_header_the_answer_is_ar_without_a_control_id(body: bytes) -> None:
    fault = Issue("MSH", "invalid", "no header")
    (message,) = told(body, REFUSED, outcome=Rejection((fault,)))
    assert segment(message, "MSA") == ["MSA", "AR", "", "MSH: no header"]
    assert segment(message, "MSH")[1] == "^~\\&"


# ---- ERR ------------------------------------------------------------------------------------------------------------

PLACES = [
    ("PID-3(2).1", "PID^1^3^101&Required field missing&HL70357", "PID^1^3^2^1"),
    ("PID-5", "PID^1^5^101&Required field missing&HL70357", "PID^1^5"),
    ("PID-5.2", "PID^1^5^101&Required field missing&HL70357", "PID^1^5^1^2"),
    ("NTE[2]-3", "NTE^2^3^101&Required field missing&HL70357", "NTE^2^3"),
    ("PID", "PID^1^^101&Required field missing&HL70357", "PID^1"),
    ("message", "MSH^1^^101&Required field missing&HL70357", "MSH^1"),
    ("", "MSH^1^^101&Required field missing&HL70357", "MSH^1"),
]


@pytest.mark.parametrize(("place", "before", "after"), PLACES)
def test_err_holds_the_location_in_the_form_of_the_version(place: str, before: str, after: str) -> None:
    refusal = Rejection((Issue(place, "required", "say who it is: name | number"),))
    old, new = (told(a_message(version=one), REFUSED, outcome=refusal)[0] for one in ("2.4", "2.5.1"))
    assert segment(old, "ERR") == ["ERR", before]
    coded = "101^Required field missing^HL70357"
    assert segment(new, "ERR") == ["ERR", "", after, coded, "E", "", "", "", "say who it is: name \\F\\ number"]


def test_every_error_is_listed() -> None:
    refusal = Rejection((Issue("PID-5", "required", "one"), Issue("PID-8", "value", "two")))
    old, new = (told(a_message(version=one), REFUSED, outcome=refusal)[0] for one in ("2.3", "2.6"))
    assert [one.split("^")[3][:3] for one in segment(old, "ERR")[1].split("~")] == ["101", "103"]
    assert [line.split("|")[8] for line in new.split("\r") if line.startswith("ERR")] == ["one", "two"]
    assert segment(old, "MSA")[3] == "PID-5: one (and 1 more)"


def test_only_the_first_of_very_many_errors_are_listed() -> None:
    refusal = Rejection(tuple(Issue(f"NTE[{number}]-3", "too-long", "cut it") for number in range(1, 501)))
    (message,) = told(a_message(), REFUSED, outcome=refusal)
    assert len(segment(message, "ERR")[1].split("~")) == hl7v2.REPORTED_ERRORS
    assert segment(message, "MSA")[3].endswith("(and 499 more)")


# ---- warnings -------------------------------------------------------------------------------------------------------

PART = Issue("RF1-2", "value", "is not understood")


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (Verdict.RECEIVED, None),
        (Verdict.STALE, "superseded by a later message"),
        (Verdict.NOT_APPLIED, "cancellation stored and not applied"),
        (Verdict.CONTRADICTED, "stored and not applied: it is about another person"),
    ],
)
def test_a_partner_that_understands_them_gets_warnings_by_place(verdict: Verdict, text: str | None) -> None:
    decision = MessageDecision(verdict, AT, REFERENCE, 1, (PART,))
    body = a_message("AL", "AL", version="2.5")
    accept, application = frames(over_mllp(a_delivery(body, warnings=True), UNDERSTOOD, decision).body)
    assert (codes([accept, application]), "ERR" in accept) == (["CA", "AA"], False)
    errors = [line.split("|") for line in application.split("\r") if line.startswith("ERR")]
    assert [(one[2], one[3][:3], one[4]) for one in errors][-1] == ("RF1^1^2", "103", "W")
    assert [one[8] for one in errors if one[2] == "RF1^1^6" and one[8].startswith(text or "-")] == [
        one[8] for one in errors[:-1]
    ]
    assert len(errors) == (2 if text else 1)


@pytest.mark.parametrize(("version", "agreed"), [("2.5", {}), ("2.4", {"warnings": True})])
def test_other_partners_and_versions_before_err_has_a_severity_get_a_plain_acceptance(
    version: str, agreed: dict[str, Any]
) -> None:
    decision = MessageDecision(Verdict.CONTRADICTED, AT, REFERENCE, 1, (PART,))
    (message,) = frames(over_mllp(a_delivery(a_message(version=version), **agreed), UNDERSTOOD, decision).body)
    assert (segment(message, "MSA")[1], "ERR" in message) == ("AA", False)


def test_what_to_do_after_a_cancel_or_a_withdrawal_is_said() -> None:
    cancelled = MessageDecision(Verdict.AFTER_CANCEL, AT, REFERENCE, 2)
    withdrawn = MessageDecision(Verdict.AFTER_CANCEL, AT)
    told = [hl7v2.acknowledge(decision).text for decision in (cancelled, withdrawn)]
    assert [("cancelled" in one, "consent" in one, "refer again" in one) for one in told] == [
        (True, False, True),
        (False, True, True),
    ]


# ---- MSH ------------------------------------------------------------------------------------------------------------


def test_the_header_of_the_answer_swaps_sender_and_receiver() -> None:
    msh = segment(told(a_message(set="8859/1", processing="T"))[0], "MSH")
    assert msh[1:6] == ["^~\\&", "HUB", "COUNTY", "TRUST_PAS", "TRUST"]
    assert (msh[6], msh[8], msh[10], msh[11], msh[17]) == ("20261105093000+0000", "ACK^I12", "T", "2.4", "8859/1")


@pytest.mark.parametrize(
    ("version", "said", "kind"),
    [
        ("2.3", "2.3", "ACK^I12"),
        ("2.4", "2.4", "ACK^I12"),
        ("2.5", "2.5", "ACK^I12^ACK"),
        ("2.10", "2.4", "ACK^I12"),
        ("3", "2.4", "ACK^I12"),
        ("", "2.4", "ACK^I12"),
    ],
)
def test_version_and_type_are_those_of_the_sender_if_supported(version: str, said: str, kind: str) -> None:
    msh = segment(told(a_message(version=version))[0], "MSH")
    assert (msh[8], msh[11]) == (kind, said)


@pytest.mark.parametrize(
    ("header_says", "field", "answered"),
    [
        ({"type": "REF"}, 8, "ACK"),
        ({"type": "REF^~|"}, 8, "ACK"),
        ({"processing": "X"}, 10, "P"),
        ({"processing": "D^A"}, 10, "D"),
        ({"set": "KLINGON"}, 17, None),
    ],
)
def test_an_invalid_code_is_not_repeated(header_says: dict[str, str], field: int, answered: str | None) -> None:
    msh = segment(told(a_message(**header_says), REFUSED, outcome=REFUSAL)[0], "MSH")
    assert (msh[field] if field < len(msh) else None) == answered


def test_answer_ids_are_unique_for_each_answer_and_stable_for_a_repeat() -> None:
    body = a_message("AL", "AL")
    one, two = told(body)
    assert told(body) == [one, two]
    (other,) = told(a_message("AL", id="43"))
    ids = [segment(message, "MSH")[9] for message in (one, two, other)]
    assert len(set(ids)) == 3
    assert all(0 < len(each) <= 20 for each in ids)


@pytest.mark.parametrize("separators", ["^~\\&", "^~\\&#", "!@/$", "%*?;"])
def test_the_answer_uses_the_senders_separators(separators: str) -> None:
    component, repetition, escape, sub = separators[:4]
    kind = f"REF{component}I12"
    refusal = Rejection((Issue("PID-5", "required", f"a {sub} b {repetition} c"), Issue("PID-7", "value", "two")))
    (message,) = told(a_message(separators=separators, type=kind), REFUSED, outcome=refusal)
    assert message.startswith(f"MSH|{separators}|")
    assert segment(message, "MSH")[8].split(component)[:2] == ["ACK", "I12"]
    assert segment(message, "MSA")[3] == f"PID-5: a {escape}T{escape} b {escape}R{escape} c (and 1 more)"
    assert segment(message, "ERR")[1].count(repetition) == 1


@pytest.mark.parametrize("separators", ["", "^", "^~\\", "^^^^", "abcd", "^~\\|", "^~ &"])
def test_ambiguous_separators_are_not_used(separators: str) -> None:
    (message,) = told(a_message(separators=separators), REFUSED, outcome=REFUSAL)
    assert message.startswith("MSH|^~\\&|")


def test_a_repeated_value_cannot_become_structure_of_the_answer() -> None:
    (message,) = told(a_message(separators="^~\\", id="4^2"), REFUSED, outcome=REFUSAL)
    assert segment(message, "MSA")[2] == "4\\S\\2"


@pytest.mark.parametrize(
    ("written_in", "named"),
    [("utf-8", ""), ("windows-1252", ""), ("utf-8", "UNICODE UTF-8"), ("iso8859-15", "8859/15")],
)
def test_the_answer_uses_the_character_set_of_the_message(written_in: str, named: str) -> None:
    body = a_message(set=named, id="Zoë€").decode().encode(written_in)
    (frame,) = over_mllp(a_delivery(body), UNDERSTOOD, MessageDecision(Verdict.RECEIVED, AT, REFERENCE)).body.split(
        b"\x1c\r"
    )[:-1]
    assert f"MSA|AA|Zoë€|{REFERENCE}".encode(written_in) in frame


@pytest.mark.parametrize("outcome", [UNDERSTOOD, REFUSAL])
def test_the_header_that_the_translator_parsed_is_not_parsed_again(outcome: Translated | Rejection) -> None:
    parsed = replace(outcome, header=header.read(a_message(id="parsed")))
    assert [segment(message, "MSA")[2] for message in told(a_message(id="bytes"), outcome=parsed)] == ["parsed"]


# ---- RRI ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "verdict", "status"), [(UNDERSTOOD, Verdict.RECEIVED, "P"), (CANCEL, Verdict.CANCELLED, "R")]
)
def test_partners_registered_for_it_get_an_rri_with_both_references(
    outcome: Translated, verdict: Verdict, status: str
) -> None:
    (message,) = told(a_message(), verdict, outcome=outcome, rri=True)
    assert segment(message, "MSH")[8] == "RRI^I12"
    assert segment(message, "MSA") == ["MSA", "AA", "42", REFERENCE]
    rf1 = segment(message, "RF1")
    assert (rf1[1], rf1[6], rf1[11]) == (status, "REF001", f"{REFERENCE}^LIGHTBULB")


@pytest.mark.parametrize(
    ("accept", "application", "kinds"),
    [("", "", ["RRI"]), ("AL", "NE", ["ACK"]), ("AL", "AL", ["ACK", "RRI"]), ("NE", "AL", ["RRI"])],
)
def test_an_rri_is_the_applications_answer(accept: str, application: str, kinds: list[str]) -> None:
    assert [segment(message, "MSH")[8][:3] for message in told(a_message(accept, application), rri=True)] == kinds


def test_a_rejection_is_always_an_ack_and_other_partners_get_no_rri() -> None:
    assert segment(told(a_message(), REFUSED, outcome=REFUSAL, rri=True)[0], "MSH")[8] == "ACK^I12"
    assert segment(told(a_message(), Verdict.CONFLICT, rri=True)[0], "MSH")[8] == "ACK^I12"
    assert segment(told(a_message(version="2.5"), rri=True)[0], "MSH")[8] == "RRI^I12^RRI_I12"


def test_the_originating_id_has_its_authority() -> None:
    outcome = replace(UNDERSTOOD, reply={"originating_id": ("7^1", "UHL_EPR")})
    (message,) = told(a_message(), outcome=outcome, rri=True)
    assert segment(message, "RF1")[6] == "7\\S\\1^UHL_EPR"


def test_the_originating_id_is_escaped() -> None:
    (message,) = told(a_message(), outcome=replace(UNDERSTOOD, referral_id="a|b^c\r"), rri=True)
    assert segment(message, "RF1")[6] == "a\\F\\b\\S\\c"


# ---- whatever comes -------------------------------------------------------------------------------------------------

texts = st.text(max_size=12) | st.sampled_from(
    ["^~\\&", "AL", "NE", "2.5", "REF^I12", "ACK", "\x0b", "\x1c\r", "\r", "|"]
)
headers = st.lists(texts, max_size=19).map(lambda fields: "|".join(["MSH", *fields]).encode("utf-8", "replace"))


@given(body=st.binary(max_size=60) | headers, text=texts, place=texts)
@settings(max_examples=150, deadline=None)
def test_any_header_gets_complete_messages_in_complete_frames(body: bytes, text: str, place: str) -> None:
    refusal = Rejection((Issue(place, "value", text),))
    for outcome, verdict in ((UNDERSTOOD, Verdict.RECEIVED), (refusal, REFUSED)):
        decision = MessageDecision(verdict, AT, REFERENCE, 1, refusal.issues)
        delivery = a_delivery(body, rri=True)
        whole = over_mllp(delivery, outcome, decision).body
        single = over_http(delivery, outcome, decision).body
        found = header.read(body)
        levels = requested_acks(
            found, delivery.partner.hl7v2, accepted=verdict == Verdict.RECEIVED and found is not None
        )
        assert whole.count(b"\x0b") == whole.count(b"\x1c") == len(levels)
        for message in [*whole.split(b"\x1c\r")[:-1], b"\x0b" + single]:
            lines = message[1:].split(b"\r")
            assert lines[0][:3] == b"MSH"
            assert lines[1][:3] == b"MSA"
            assert lines[-1] == b""
            assert {line[:3] for line in lines[2:-1]} <= {b"ERR", b"RF1"}
