"""HL7 v2 as UK senders write it: any separators, any line ends, any order; nothing of a message is lost; what is wrong is a value."""

import dataclasses
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.referral import DeathReport
from services.intake import limits
from services.intake.translators import cleaning, hl7v2
from services.intake.translators.hl7v2 import dates, er7, field_paths, header
from services.intake.translators.hl7v2.message import message_of
from services.intake.translators.hl7v2.partner_profile import PartnerProfile
from services.intake.translators.translator import Rejection, Translated
from tests.builders.hl7v2 import a_uhl_message, an_lpt_message
from tests.contract.translators.adapters import ADAPTERS, DIRECTORY, SERVICES, Adapter
from tests.contract.translators.golden_pairs import GOLDEN

MAPPINGS = hl7v2.load(DIRECTORY / "hl7v2", SERVICES)
UHL, LPT = (next(one for one in ADAPTERS if one.name == f"hl7v2-{name}") for name in ("uhl", "lpt"))
EVERYTHING = {one.sender: (GOLDEN / one.name / "new-everything.in").read_bytes() for one in (UHL, LPT)}
SAMPLES = Path(__file__).resolve().parents[4] / "shared" / "payloads" / "hl7v2"

few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
both = pytest.mark.parametrize("adapter", [UHL, LPT], ids=str)


def translated(adapter: Adapter, body: bytes) -> Translated:
    outcome = adapter.translate(adapter.delivery(body))
    assert isinstance(outcome, Translated), outcome
    return outcome


def content(adapter: Adapter, body: bytes) -> dict[str, Any]:
    referral = translated(adapter, body).referral
    assert referral is not None
    return referral.model_dump(mode="json", exclude={"message"})


def refused(adapter: Adapter, body: bytes) -> dict[str, str]:
    outcome = adapter.translate(adapter.delivery(body))
    assert isinstance(outcome, Rejection)
    return {fault.place: fault.kind for fault in outcome.issues}


def text_of(adapter: Adapter, body: bytes) -> str:
    return str(content(adapter, body)["reason"]["text"])


# ---- how it is written -----------------------------------------------------------------------------------------------


@both
@given(data=st.data())
@few
def test_line_ends_blank_lines_and_trailing_bars_change_nothing(adapter: Adapter, data: st.DataObject) -> None:
    body = adapter.good()
    ends = st.sampled_from(data.draw(st.sampled_from([[b"\n", b"\n\n"], [b"\r", b"\r\n", b"\r\n\r\n", b"\0\r"]])))
    bars = st.sampled_from([b"", b"|", b"||||"])
    lines = [line + data.draw(bars) + data.draw(ends) for line in body.splitlines()]
    before, after = data.draw(st.sampled_from([b"", b"\r\n", b"\n \n", b"\xef\xbb\xbf"])), data.draw(ends)

    assert translated(adapter, before + b"".join(lines) + after) == translated(adapter, body)


_MARKS = sorted(set("!#$%&'()*+,/:;<=>?@[]^`{|}~\\\"_-"))


@both
@given(marks=st.permutations(_MARKS))
@few
def test_any_five_characters_may_be_the_separators(adapter: Adapter, marks: list[str]) -> None:
    plain = adapter.good().decode().replace("UNICODE UTF-8", "")

    assert content(adapter, _separated(plain, marks[:5]).encode()) == content(adapter, plain.encode())


def _separated(text: str, by: list[str]) -> str:
    field, component, repetition, escape, subcomponent = by
    means = dict(zip("|^~\\&", by, strict=True))
    letters = {field: "F", component: "S", repetition: "R", escape: "E", subcomponent: "T"}
    start = f"MSH{field}{component}{repetition}{escape}{subcomponent}"
    said = (means.get(c) or (f"{escape}{letters[c]}{escape}" if c in letters else c) for c in text[8:])
    return start + "".join(said)


@given(said=st.lists(st.tuples(st.characters(exclude_categories=["Cc", "Cs"]), st.booleans()), min_size=1, max_size=40))
@few
def test_any_text_can_be_escaped(said: list[tuple[str, bool]]) -> None:
    letters = {"|": "F", "^": "S", "~": "R", "\\": "E", "&": "T"}
    written = "".join(
        f"\\X{c.encode().hex()}\\" if by_hex else f"\\{letters[c]}\\" if c in letters else c for c, by_hex in said
    )
    text = cleaning.prose("".join(["<", *(c for c, _ in said), ">"]))

    assert text_of(UHL, a_uhl_message(more=[f"NTE|1||<{written}>"])).endswith(text)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("a\\.br\\b", "a\nb"),
        ("a\\.sp2\\b", "a\nb"),
        ("\\H\\loud\\N\\ and \\.in+4\\indented", "loud and indented"),
        ("\\X0D0A\\b", "b"),
        ("caf\\XC3\\\\XA9\\", "café"),
        ("\\XC3A9\\", "é"),
        ("B&Q and a^b", "B&Q and a^b"),
    ],
)
def test_escapes_are_decoded_as_the_standard_defines(written: str, read: str) -> None:
    assert text_of(UHL, a_uhl_message(more=[f"NTE|1||{written}"])).endswith(read)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("ends in \\", None),
        ("\\Q\\", None),
        ("4\\5 and N\\A", None),
        ("\\X4\\ \\XZZ\\ \\X\\", None),
        ("\\C2842\\", None),
        ("\\XC3\\ alone", None),
        ("a\\.xy\\b", None),
        ("\\f\\", None),
        ("N\\A, a\\T\\b", "N\\A, a&b"),
        ("a\\X00\\b", "a b"),
        ("a\\X000D\\b", "a\nb"),
        ("\\X00E92019\\", "é’"),
        ("\\X00E9\\\\X000A\\b", "é\nb"),
        ("a\x01b\x07", "a b "),
        ("can\x92t", "can’t"),
        ("a\x81b", "a b"),
    ],
)
def test_words_never_refuse_a_message(written: str, read: str | None) -> None:
    assert text_of(UHL, a_uhl_message(more=[f"NTE|1||<{written}>"])).endswith(
        f"<{read or written}>".replace("< ", "< ")
    )


@pytest.mark.parametrize(
    ("character_set", "encoding", "partner"),
    [
        ("", "windows-1252", LPT),
        ("ASCII", "windows-1252", LPT),
        ("8859/1", "windows-1252", LPT),
        ("8859/15", "iso8859-15", LPT),
        ("UNICODE UTF-8", "utf-8", LPT),
        ("", "utf-8", UHL),
        ("8859/1", "latin-1", UHL),
        ("8859/1~UNICODE", "latin-1", UHL),
        ("8859/1", "utf-8", UHL),
        ("", "utf-8", LPT),
        ("WINDOWS-1252", "windows-1252", UHL),
        ("cp1252", "windows-1252", UHL),
        ("ISO IR100", "latin-1", UHL),
        ("ISO IR192", "utf-8", LPT),
        ("UTF8", "utf-8", LPT),
        ('""', "windows-1252", LPT),
    ],
)
def test_the_character_set_is_the_messages_or_the_partners(character_set: str, encoding: str, partner: Adapter) -> None:
    message = a_uhl_message if partner is UHL else an_lpt_message
    body = message(family="Zoë", fields={"MSH-18": character_set}, encoding=encoding)

    assert content(partner, body)["person"]["family_name"] == "Zoë"


@pytest.mark.parametrize(
    ("family", "encoding", "read", "warned"),
    [
        ("Zoë", "utf-8", "Zoë", True),
        ("Żak", "utf-8", "Żak", True),
        ("Łódź’s", "utf-8", "Łódź’s", True),
        ("Zoë", "windows-1252", "Zoë", False),
        ("CAFÉ’S", "windows-1252", "CAFÉ’S", False),
        ("Vance", "utf-8", "Vance", False),
    ],
)
def test_a_message_in_another_character_set_than_its_own_is_read_with_a_warning(
    family: str, encoding: str, read: str, warned: bool
) -> None:
    found = translated(UHL, a_uhl_message(family=family, fields={"MSH-18": "8859/1"}, encoding=encoding))

    assert found.referral is not None
    assert found.referral.person.family_name == read
    assert [warning.place for warning in found.warnings] == ["MSH-18"] * warned


def test_bytes_that_a_single_byte_character_set_does_not_define_refuse_nothing() -> None:
    body = a_uhl_message(fields={"MSH-18": "8859/1"}, more=["NTE|1||no\x81 rail"], encoding="latin-1")
    found = translated(UHL, body)

    assert found.referral is not None
    assert "no\ufffd rail" in str(found.referral.reason.text)
    assert [warning.place for warning in found.warnings] == ["MSH-18"]


@pytest.mark.parametrize(
    "version", ["2.2", "2.3.1", "2.5.1", "2.6", "2.7.1", "2.8.2", "2.4^AUS&Australia&ISO3166_1^2.4&&L"]
)
def test_a_message_of_any_version_up_to_2_8_2_is_read(version: str) -> None:
    assert content(UHL, a_uhl_message(fields={"MSH-12": version}))["person"]["family_name"] == "Vance"


@pytest.mark.parametrize("written", ["2.9", "2.1", "3"])
def test_another_version_is_refused(written: str) -> None:
    assert refused(UHL, a_uhl_message(fields={"MSH-12": written})) == {"MSH-12": "not-supported"}


def test_a_null_is_an_empty_field_of_the_header_and_codes_count_without_case() -> None:
    fields = {5: '""', 8: '""', 15: "al", 16: '""', 17: '""', 18: '""'}
    found = header.read(a_uhl_message(fields={f"MSH-{number}": text for number, text in fields.items()}))

    assert found is not None
    assert (found.receiving_application, found.country, found.character_set) == ("", "", "")
    assert (found.accept_acknowledgement, found.application_acknowledgement) == ("AL", "")


def test_a_time_of_the_message_that_is_not_a_time_is_a_warning() -> None:
    found = translated(UHL, a_uhl_message(sent_at="yesterday"))
    assert [(warning.place, warning.kind) for warning in found.warnings] == [("MSH-7", "value")]


# ---- nothing is lost -------------------------------------------------------------------------------------------------


def taken_apart(adapter: Adapter, body: bytes, wanted: er7.FieldSelection | None = None) -> er7.Hl7Message:
    mapping = MAPPINGS[adapter.sender]
    msh = header.read(body, mapping.encoding)
    assert msh is not None
    found = message_of(adapter.delivery(body), msh, mapping, wanted or field_paths.select_fields(mapping))
    assert not isinstance(found, Rejection)
    return found


@both
def test_every_segment_is_read_or_listed_as_ignored(adapter: Adapter) -> None:
    body = EVERYTHING[adapter.sender]
    names = sorted(line[:3].decode() for line in body.splitlines())
    message = taken_apart(adapter, body)

    assert sorted([*(one.name for one in message.segments), *message.left]) == names
    assert set(message.left) <= {"EVN", "AUT", "CTD", "GT1", "IN1", "AL1", "ZUH", "ZXX"}


@both
@given(data=st.data())
@few
def test_segments_are_read_in_any_position(adapter: Adapter, data: st.DataObject) -> None:
    first, *others = EVERYTHING[adapter.sender].splitlines()
    notes = b"\r".join(line for line in others if line.startswith(b"NTE"))
    shuffled = data.draw(st.permutations([line for line in others if not line.startswith(b"NTE")]))
    at = shuffled.index(next(line for line in shuffled if line.startswith(b"PV1")))

    # Notes belong to the segment before them.
    assert _unordered(content(adapter, b"\r".join([first, *shuffled[: at + 1], notes, *shuffled[at + 1 :]]))) == (
        _unordered(content(adapter, EVERYTHING[adapter.sender]))
    )


def _unordered(value: Any) -> Any:
    """A referral whose lists and paragraphs have no order, without the places of segments."""
    if isinstance(value, dict):
        return {
            name: _unordered(inner) for name, inner in value.items() if name not in ("code", "given_names", "place")
        }
    if isinstance(value, list):
        return sorted(map(str, map(_unordered, value)))
    return sorted(value.split("\n")) if isinstance(value, str) and "\n" in value else value


@both
def test_dropping_a_segment_changes_the_result_unless_it_is_ignored(adapter: Adapter) -> None:
    lines = EVERYTHING[adapter.sender].splitlines()
    left = set(taken_apart(adapter, b"\n".join(lines)).left)
    whole = outcome = adapter.translate(adapter.delivery(b"\n".join(lines)))
    names = {line[:3] for line in lines[1:]}
    assert names
    for name in names:
        outcome = adapter.translate(adapter.delivery(b"\n".join(line for line in lines if line[:3] != name)))
        assert (outcome == whole) is (name.decode() in left), name


@both
def test_every_field_that_is_read_decides_a_golden_pair(adapter: Adapter) -> None:
    """A planted fault: each field in turn is not read, and some case of this partner must then end otherwise."""
    bodies = [path.read_bytes() for path in sorted((GOLDEN / adapter.name).glob("*.in"))]
    wholes = [adapter.translate(adapter.delivery(body)) for body in bodies]
    wanted = field_paths.select_fields(MAPPINGS[adapter.sender])
    assert wanted
    for name, number in ((name, number) for name, numbers in wanted.items() for number in numbers):
        without = {**wanted, name: tuple(one for one in wanted[name] if one != number)}
        blind = ((body, whole) for body, whole in zip(bodies, wholes, strict=True))
        assert (name, number) in UNUSED[adapter.sender] or any(
            hl7v2._translate({adapter.sender: (MAPPINGS[adapter.sender], without)}, adapter.delivery(body)) != whole
            for body, whole in blind
        ), f"{name}-{number}"


UNUSED = {
    "uhl": {("MSH", 14), ("RF1", 1), ("PRD", 4), ("PID", 4), ("PID", 14)},
    "lpt": {
        *(
            ("MSH", 7),
            ("MSH", 12),
            ("MSH", 14),
            ("PRD", 8),
            ("PRD", 9),
            ("PD1", 13),
            ("ARV", 6),
            ("ROL", 5),
            ("ROL", 6),
        ),
        *(("NK1", 8), ("NK1", 9), ("PV1", 16), ("PV1", 19), ("DG1", 4), ("DG1", 18), ("DG1", 21)),
        ("RF1", 1),
        ("PRD", 4),
        ("PID", 4),
        ("PID", 14),
        ("PV1", 45),
        ("PV2", 9),
        ("ROL", 3),
        ("ROL", 4),
        ("DG1", 3),
    }
    | {("NK1", 6), ("OBX", 11), ("PV1", 2)}
    | {("PID", 29), ("PID", 30), ("PID", 40), ("PD1", 12), ("ARV", 2), ("ARV", 3), ("PV1", 36), ("PV1", 37)},
}
"""What one partner's cases do not need, because the other's do, or because a test below does."""


@both
def test_every_entry_of_a_partners_file_is_used_by_a_golden_pair(adapter: Adapter) -> None:
    mapping = MAPPINGS[adapter.sender]
    said = [
        line
        for path in (GOLDEN / adapter.name).glob("*.in")
        for line in path.read_bytes().decode("latin-1").splitlines()
    ]
    observed = {line.split("|")[3].split("^")[0] for line in said if line.startswith("OBX|")}
    noted = {part for line in said if line.startswith("NTE|") for part in line.split("|")[-1].split("^")}
    own = {place.partition("-")[0] for place in mapping.fields}

    assert mapping.observations.keys() <= observed
    assert mapping.notes.keys() <= noted
    assert own <= {line[:3] for line in said}


# ---- what it means ---------------------------------------------------------------------------------------------------


def test_two_quotes_mean_that_no_value_is_given() -> None:
    fields = {"PID-11": '""', "PID-13": '""', "PID-8": '""', "PV1-3": '""', "PD1-3": '""'}
    said = content(UHL, a_uhl_message(fields=fields))

    assert said["person"]["address"] is None
    assert said["person"]["phone"] is None
    assert said["person"]["gender"] is None
    assert said["registered_practice"] is None
    assert said["hospital"]["ward"] is None


@pytest.mark.parametrize(
    ("written", "start", "end"),
    [
        ("20261105093000", "2026-11-05T09:30:00", "2026-11-05T09:30:01"),
        ("202607050930", "2026-07-05T08:30:00", "2026-07-05T08:31:00"),
        ("2026070509", "2026-07-05T08:00:00", "2026-07-05T09:00:00"),
        ("20260705", "2026-07-04T23:00:00", "2026-07-05T23:00:00"),
        ("202612", "2026-12-01T00:00:00", "2027-01-01T00:00:00"),
        ("2026", "2026-01-01T00:00:00", "2027-01-01T00:00:00"),
        ("20260329005959", "2026-03-29T00:59:59", "2026-03-29T01:00:00"),
        ("20260329013000", "2026-03-29T00:30:00", "2026-03-29T01:30:01"),
        ("20260329020000", "2026-03-29T01:00:00", "2026-03-29T01:00:01"),
        ("202610250059", "2026-10-24T23:59:00", "2026-10-25T00:00:00"),
        ("20261025013000", "2026-10-25T00:30:00", "2026-10-25T01:30:01"),
        ("20261025013000+0100", "2026-10-25T00:30:00", "2026-10-25T00:30:01"),
        ("20261025020000", "2026-10-25T02:00:00", "2026-10-25T02:00:01"),
        ("20261105093000.123-0500", "2026-11-05T14:30:00", "2026-11-05T14:30:01"),
        ("99991231235959-1200", None, None),
        ("20261105256000", None, None),
        ("", None, None),
    ],
)
def test_the_senders_time_is_every_moment_of_its_precision_in_london(
    written: str, start: str | None, end: str | None
) -> None:
    found = dates.parse_interval(written)
    assert (found and [f"{moment:%Y-%m-%dT%H:%M:%S}" for moment in found]) == (start and [start, end])


def test_a_message_is_the_same_if_sender_time_trigger_control_id_referral_and_content_are() -> None:
    one, again = (translated(UHL, a_uhl_message()) for _ in range(2))
    others = [
        translated(UHL, a_uhl_message(sent_at="20261105092900")),
        translated(UHL, a_uhl_message(trigger="I13")),
        translated(UHL, a_uhl_message(referral_id="UHL-R-2")),
        translated(UHL, a_uhl_message(referral_id="UHL-R-1^UHL_EPR")),
        *(translated(UHL, a_uhl_message(trigger="I14", referral_id=name)) for name in ("UHL-R-1", "UHL-R-2")),
    ]
    assert one.message_ids == again.message_ids
    assert len({one.message_ids, *(other.message_ids for other in others)}) == 7


def test_another_organisation_refers_only_if_the_partner_may_act_for_it() -> None:
    body = a_uhl_message(PRD="PRD|RP|Bell^Una||^^^rt5")
    spoken_for = UHL.delivery(body).partner.model_copy(update={"acts_for": ("RT5",)})
    own = UHL.translate(UHL.delivery(body))
    other = UHL.translate(dataclasses.replace(UHL.delivery(body), partner=spoken_for))

    assert [one.referral.referred_by.organisation.ods for one in (own, other)] == ["RWE", "RT5"]  # type: ignore[union-attr]


def test_a_work_phone_is_used_only_if_there_is_no_other() -> None:
    said = content(UHL, a_uhl_message(fields={"PID-13": "^NET^Internet^any@example.org", "PID-14": "0116 496 0009"}))
    assert (said["person"]["phone"], said["person"]["email"]) == ("0116 496 0009", "any@example.org")


def test_rf1_1_may_give_the_reason_of_a_cancellation() -> None:
    body = b"MSH|^~\\&|UHL_EPR|RWE|||20261105093000||REF^I14|9|P|2.5\rRF1|WITHDRAWN|||||UHL-R-1"
    assert translated(UHL, body).cancel_reason == "consent-withdrawn"


@pytest.mark.parametrize(("trigger", "answer"), [("I14", "Y"), ("I14", "N"), ("I13", "N")])
def test_other_errors_do_not_prevent_a_cancellation(trigger: str, answer: str) -> None:
    wrong = ["OBX|2|CE|LB-PATHWAY||P9", "OBX|3|DT|LB-RFT||soon", "NTE|1||\\Q\\"]
    found = translated(UHL, a_uhl_message(trigger=trigger, fields={"OBX-5": answer, "PID-7": "?"}, more=wrong))

    assert (found.intent, found.referral) == ("cancel", None)
    assert found.cancel_reason == ("consent-withdrawn" if answer == "N" else "cancelled-by-referrer")


@pytest.mark.parametrize(("trigger", "answer"), [("I14", "Y"), ("I13", "N")])
@pytest.mark.parametrize(
    ("died", "report"),
    [
        ({"PID-30": "Y"}, DeathReport()),
        ({"PID-29": "202611022330"}, DeathReport(died_on=date(2026, 11, 2))),
        ({"PV1-36": "79"}, DeathReport()),
        ({"PID-30": "N"}, None),
        ({}, None),
    ],
)
def test_a_cancel_reports_a_death_as_a_referral_does(
    trigger: str, answer: str, died: dict[str, str], report: DeathReport | None
) -> None:
    found = translated(UHL, a_uhl_message(trigger=trigger, fields={"OBX-5": answer, **died}))
    plain = translated(UHL, a_uhl_message(trigger=trigger, fields={"OBX-5": answer}))

    assert (found.intent, found.death_reported) == ("cancel", report)
    assert (found.content_hash == plain.content_hash) is (report is None)


@pytest.mark.parametrize(
    ("segments", "restricted"),
    [
        ([], None),
        (["PD1||||||||||||Y"], True),
        (["PD1||||||||||||N"], False),
        (["PD1||||||||||||U"], None),
        (["ARV|1|A|DEM"], True),
        (["ARV|1|A|NO"], False),
        (["ARV|1|D|DEM"], None),
        (["ARV|1|d|DEM"], None),
        (["ARV|1|D|DEM", "ARV|2|A|NO"], False),
        (["PD1||||||||||||N", "ARV|1|A|LOC"], True),
        (["PD1||||||||||||Y", "ARV|1|A|NO"], True),
    ],
)
def test_a_restriction_is_stated_denied_or_not_mentioned(segments: list[str], restricted: bool | None) -> None:
    found = translated(UHL, a_uhl_message(trigger="I13", more=segments))

    assert found.referral is not None
    assert found.referral.person.restricted_access is restricted


@pytest.mark.parametrize(("kind", "attached"), [("ED", True), ("RP", None)])
def test_an_assessment_is_attached_only_if_the_message_holds_it(kind: str, attached: bool | None) -> None:
    said = content(UHL, a_uhl_message(more=[f"OBX|2|{kind}|LB-INAT^Assessment||^AP^PDF^Base64^JVBERi0="]))

    assert said["hospital"]["needs_assessment_attached"] is attached
    assert len(said["attachments"]) == (attached is True)


def test_a_message_in_parts_is_rejected() -> None:
    assert refused(UHL, a_uhl_message(fields={"MSH-14": "2"})) == {"MSH-14": "processing"}


def test_a_partner_without_a_file_is_rejected() -> None:
    assert refused(dataclasses.replace(UHL, sender="gp-alder-lane"), a_uhl_message()) == {"MSH": "forbidden"}


# ---- bounds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "place"),
    [
        (["NTE|1||any"] * limits.HL7_SEGMENTS, "message"),
        (["NTE|1||" + "~" * (limits.HL7_PARTS + 1)], "message"),
        (["ZZZ|" + "~" * (limits.HL7_PARTS + 1)], None),
        (["|" * 100_000], None),
    ],
)
def test_a_message_over_a_limit_is_rejected(more: list[str], place: str | None) -> None:
    body = a_uhl_message(more=more)
    assert place is None or place in refused(UHL, body)
    assert place or translated(UHL, body)


@pytest.mark.parametrize("place", ["MSH-3", "MSH-4", "MSH-10", "RF1-6"])
def test_a_value_that_becomes_a_key_is_short(place: str) -> None:
    for trigger in ("I12", "I14"):
        outcome = UHL.translate(UHL.delivery(a_uhl_message(trigger=trigger, fields={place: "é" * 201})))
        assert isinstance(outcome, Rejection)
        assert (place, "too-long") in {(fault.place, fault.kind) for fault in outcome.issues}


def test_a_header_that_is_too_long_is_rejected() -> None:
    assert refused(UHL, a_uhl_message(fields={"MSH-8": "x" * header.LONGEST}))["MSH"] == "too-long"


@both
def test_the_header_is_part_of_a_translation_and_of_a_rejection(adapter: Adapter) -> None:
    accepted, refused_body = EVERYTHING[adapter.sender], EVERYTHING[adapter.sender].replace(b"REF^I12", b"REF^I99", 1)
    for body in (accepted, refused_body):
        outcome = adapter.translate(adapter.delivery(body))
        assert isinstance(outcome, Translated) == (body is accepted)
        assert isinstance(outcome.header, header.Header)
        assert outcome.header == header.read(body, MAPPINGS[adapter.sender].encoding)


@given(body=st.binary(max_size=80) | st.binary(max_size=60).map(lambda tail: b"MSH|" + tail))
@few
def test_an_invalid_header_is_read_as_far_as_possible(body: bytes) -> None:
    found = header.read(body, "windows-1252")
    assert found is None or all(isinstance(getattr(found, field.name), str) for field in dataclasses.fields(found))


# ---- the public samples ----------------------------------------------------------------------------------------------


def sample(name: str, **mapping: Any) -> Translated | Rejection:
    files = sorted(SAMPLES.glob(f"{name}*"))
    if not files:
        pytest.skip("the public samples are not on this machine")
    agreed = PartnerProfile(partner="uhl", title="any", **mapping)
    return hl7v2.translator({"uhl": agreed})(UHL.delivery(files[0].read_bytes()))


def test_the_uk_sample_is_accepted_with_a_number_that_failed_its_check() -> None:
    senders = [{"application": "TRUST_PAS", "facility": "TRUST"}]
    outcome = sample("uk-pas", senders=senders, referral_id="RF1-6.3", needs={"read_from": ["RF1-3"]})

    assert isinstance(outcome, Translated)
    assert outcome.referral_id == "REF001"
    assert outcome.referral is not None
    person = outcome.referral.person
    assert (person.nhs_number, person.nhs_number_status) == (None, "failed-check")
    assert [one.value for one in person.local_ids] == ["0123123", "0000255355"]
    assert (person.phone, person.email) == ("02111111111", "test@test.com")
    assert [need.service for need in outcome.referral.needs] == ["information-advice"]


def test_the_uk_samples_sender_must_be_agreed() -> None:
    outcome = sample("uk-pas", senders=[{"facility": "RWE"}], referral_id="RF1-6.3")
    assert isinstance(outcome, Rejection)
    assert [fault.place for fault in outcome.issues] == ["MSH-3"]


def test_the_hapi_sample_is_rejected_with_paths() -> None:
    outcome = sample("hapi")
    assert isinstance(outcome, Rejection)
    assert {fault.place: fault.kind for fault in outcome.issues} == {"MSH-10": "required", "MSH-11": "required"}
