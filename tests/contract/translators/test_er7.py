"""The reader of HL7 v2's separators: no text is lost, whatever the line ends are, and what is not asked for costs nothing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import hl7v2 as measured
from schemas.referral import UnreadPart
from services.intake import limits
from services.intake.translators.hl7v2 import er7
from services.intake.translators.hl7v2.er7 import Hl7Message, Reading, Separators
from services.intake.translators.translator import Issue

STANDARD = Separators("|", "^", "~", "\\", "&")
ALL = tuple(range(1, 30))
SELECTION = dict.fromkeys(("MSH", "RF1", "PID", "PV1", "OBR", "OBX", "NTE", "ZXX"), ALL)
MSH = "MSH|^~\\&|ANY"

many = settings(max_examples=150, deadline=None)


def message(text: str, encoding: str = "utf-8") -> Hl7Message:
    found = er7.read(text, Reading(STANDARD, encoding), SELECTION)
    assert isinstance(found, Hl7Message)
    return found


def lines_of(*segments: str, end: str = "\r") -> str:
    return end.join([MSH, *segments]) + end


def in_full(found: Hl7Message) -> list[tuple[str, dict[int, str]]]:
    return [(one.place, {number: one.raw(number).strip() for number in one.fields}) for one in found.segments]


def visible(text: str) -> str:
    """The characters of a text that are neither blanks nor controls."""
    return "".join(one for one in text if one.isprintable() and not one.isspace())


# ---- no text is lost -------------------------------------------------------------------------------------------------

characters = st.characters(exclude_categories=["Cs"], exclude_characters="|\r")
words = st.text(characters, max_size=60) | st.text("ab &^~\\\n\x0b\x92 FSTREXH0.", max_size=30)
words = words.filter(lambda text: not STANDARD.escapes.search(text) and text.strip("\0 \t\n") not in ("", '""'))
fields = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="|"), max_size=20)
segments = st.tuples(
    st.sampled_from(["RF1", "PID", "PV1", "OBR", "OBX", "NTE", "ZXX"]), st.lists(fields, min_size=1, max_size=8)
)
written = st.lists(segments.map(lambda one: "|".join([one[0], *one[1]])), min_size=1, max_size=8)


@given(words)
@many
def test_every_character_of_words_is_read(text: str) -> None:
    (note,) = message(lines_of(f"NTE|1||{text}")).all("NTE")
    kept = "".join(prose for one in note.all(3) if (prose := one.prose()))
    on_lines = "".join(
        part for one in note.all(3) for number in range(1, len(one.parts) + 1) if (part := one.text(number))
    )

    assert visible(kept) == visible(_meant(text).replace("~", ""))
    assert visible(on_lines) == visible(_meant(text).replace("~", "").replace("^", ""))


def _meant(text: str) -> str:
    """The text without what stands for no value in its repetitions and components."""
    repetitions = [one for one in text.split("~") if one.strip() not in ("", '""')]
    return "~".join(repetitions).encode("utf-8").decode("utf-8").translate(_WINDOWS)


_WINDOWS = {code: bytes([code]).decode("windows-1252", "ignore") for code in range(0x80, 0xA0)}


@given(written)
@many
def test_a_field_is_kept_as_sent(sent: list[str]) -> None:
    found = message(lines_of(*sent))
    again = ["|".join([one.name, *(one.raw(number) for number in ALL)]).rstrip("|") for one in found.segments[1:]]

    assert again == ["|".join("" if part.isspace() else part for part in one.split("|")).rstrip("|") for one in sent]


@given(
    written, st.sampled_from(["\n", "\r\n", "\r\n\r\n", "\0\r", "\r\n\n"]), st.sampled_from(["", "\0", "\n", "\r\n\0 "])
)
@many
def test_segments_are_equal_for_all_line_ends(sent: list[str], end: str, last: str) -> None:
    assert in_full(message(lines_of(*sent, end=end) + last)) == in_full(message(lines_of(*sent)))


@given(written, st.data())
@many
def test_a_segment_that_was_cut_with_add_is_read_whole(sent: list[str], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(sent) - 1))
    cuts = sorted(data.draw(st.lists(st.integers(4, len(sent[at])), max_size=3)))
    pieces = [sent[at][begin:end] for begin, end in zip([0, *cuts], [*cuts, None], strict=True)]
    cut = [*sent[:at], "\rADD|".join(pieces), *sent[at + 1 :]]

    assert in_full(message(lines_of(*cut))) == in_full(message(lines_of(*sent)))


@given(st.lists(st.sampled_from(["NFA", "DNR", "PV1", "a word", "ABC|x", "it's; so", "Zoe", "ZZZ", "  "]), max_size=8))
@many
def test_lines_of_a_note_are_read_with_it_or_by_a_person(lines: list[str]) -> None:
    """In a message of lines, a line that is a segment's name alone or has an unknown one may be words."""
    found = message(lines_of("NTE|1||first", *lines, "PID|1", end="\n"))
    kept = [str(one.prose()) for note in found.all("NTE") for one in note.all(3)]
    kept += [part.text or "" for part in found.reading.unread]
    kept += [*found.left, *(one.name for one in found.segments)]

    assert found.all("PID")
    assert all(any(line.strip() in one for one in kept) for line in lines)
    assert all(any(line in one for one in kept[: len(kept) - 3]) for line in lines if line in ("NFA", "DNR", "a word"))


def test_a_line_feed_ends_no_segment_if_the_first_ends_with_a_carriage_return() -> None:
    note = "Discharge plan:\nNFA\nPV1\nABC|violent\n\nDo not visit alone"
    for end in ("\r", "\r\n"):
        found = message(lines_of(f"NTE|1||{note.replace('|', '/')}", "PID|1", end=end))
        (text,) = [one.prose() for one in found.all("NTE")[0].all(3)]
        assert text == note.replace("|", "/")
        assert [one.name for one in found.segments] == ["MSH", "NTE", "PID"]
        assert not found.reading.unread


def test_a_segment_after_a_line_feed_among_carriage_returns_is_read_by_a_person() -> None:
    found = message(lines_of("NTE|1||words\nPV1|1|I|WARD", "PID|1"))
    assert found.reading.unread == [UnreadPart(place="NTE", kind="invalid", text="PV1|1|I|WARD")]


def test_a_line_that_is_no_segment_spoils_no_code_before_it() -> None:
    found = message(lines_of("PV1|1|I", "and more words", "OBX|1|TX|X||first", "second||||||F"))

    assert found.text("PV1", 2) == "I"
    assert [(part.place, part.text) for part in found.reading.unread] == [("PV1", "and more words")]
    assert [one.prose() for one in found.all("OBX")[0].all(5)] == ["first\nsecond"]
    assert found.text("OBX", 11) == "F"


def test_a_segment_that_the_standard_has_not_is_named() -> None:
    found = message(lines_of("XYZ|1|words", "ZYX|1", "EVN|1"))
    assert found.left == ("XYZ", "ZYX", "EVN")
    assert [(one.place, one.kind) for one in found.reading.warnings] == [("XYZ", "not-supported")]


# ---- parts -----------------------------------------------------------------------------------------------------------


def test_an_ampersand_cuts_no_words_and_typed_readers_get_subcomponents() -> None:
    (one,) = message(lines_of("PID|||A&E^12&Any Lane&Old Dairy^&x&&")).repetitions("PID", 3)

    assert (one.text(), one.text(2), one.text(3)) == ("A&E", "12&Any Lane&Old Dairy", "&x&&")
    assert one.subcomponents(2) == ("12", "Any Lane", "Old Dairy")
    assert one.subcomponents(3) == ("", "x", "", "")
    assert one.subcomponents(4) == ("",)
    assert one.text(4) is None

    (words,) = message(lines_of("PID|||Smith & Sons")).repetitions("PID", 3)
    assert words.subcomponents() == ("Smith & Sons",)


def test_an_omitted_field_is_not_a_null() -> None:
    (one,) = message(lines_of('PID|1|""| "" ||""~x| ')).all("PID")

    assert one.fields == (1, 2, 3, 5)
    assert [er7.is_null(one.raw(number)) for number in (1, 2, 3, 4, 5)] == [False, True, True, False, False]
    assert [[each.text() for each in one.all(number)] for number in (1, 2, 4, 5)] == [["1"], [], [], ["x"]]
    assert [each.place for each in one.all(5)] == ["PID-5(2)"]


def test_a_note_belongs_to_the_observation_before_it() -> None:
    sent = (
        "NTE|0",
        "PID|1",
        "NTE|1",
        "OBX|1",
        "NTE|2",
        "OBR|1",
        "NTE|3",
        "OBX|2",
        "ZXX|1",
        "NTE|4",
        "NTE|5",
        "OBX|3",
        "PV1|1",
        "NTE|6",
    )
    found = message(lines_of(*sent))
    parents = {one.text(1): one.parent and one.parent.place for one in found.all("NTE")}

    assert parents == {"0": None, "1": None, "2": "OBX", "3": "OBR", "4": "OBX[2]", "5": "OBX[2]", "6": None}
    assert [one.parent and one.parent.place for one in found.all("OBX")] == [None, "OBR", "OBR"]


def test_a_note_belongs_to_an_observation_that_is_not_read() -> None:
    found = er7.read(lines_of("OBR|1", "NTE|1"), Reading(STANDARD, "utf-8"), {"NTE": (1,)})
    assert isinstance(found, Hl7Message)
    assert [one.parent and one.parent.name for one in found.segments] == ["OBR"]


@pytest.mark.parametrize(
    "raw", ["A\\B", "A\\Q\\", "A\x01B", "A\x92B", "\\XC3\\", "A\\X01\\", "A\ufffd", "A\tB", "A\ue000"]
)
def test_an_id_that_is_not_exact_is_read_by_a_person(raw: str) -> None:
    (one,) = message(lines_of(f"PID|1||{raw}^^^X")).repetitions("PID", 3)

    assert one.text()
    assert one.code() is None
    assert [(part.place, part.kind) for part in one.reading.unread] == [("PID-3.1", "invalid")]
    assert [warning.place for warning in one.reading.warnings] == ["PID-3.1"]
    assert one.code(4) == "X"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("A1", "A1"),
        ("A\\T\\1", "A&1"),
        ("\\XC3A9\\", "é"),
        ("A  1", "A  1"),
        ("\ufeffA\u00a01\u200b", "A 1"),
        ("", None),
        ('""', None),
    ],
)
def test_an_exact_id_is_read(raw: str, code: str | None) -> None:
    (one,) = message(lines_of(f"PID|1||{raw}^^^X")).repetitions("PID", 3)
    assert (one.code(), one.reading.unread) == (code, [])


def test_what_a_person_reads_is_whole_bounded_and_without_control_characters() -> None:
    reading = Reading(STANDARD, "utf-8")
    for number in range(100):
        reading.to_read(f"NTE[{number}]", "value", "a\0b" * 10_000)
        reading.to_read(f"NTE[{number}]", "value", "a\0b" * 10_000)
    reading.to_read("PID", "value", " \0 ")

    assert len(reading.unread) == len(reading.warnings) == 50
    text = reading.unread[0].text or ""
    assert text.startswith("a ba b")
    assert text.endswith("[the rest is cut]")
    assert len(text) <= 10_000


# ---- bounds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        lines_of(*["NTE|1"] * limits.HL7_SEGMENTS),
        lines_of(*["PV1"] * 300_000, "words"),
        lines_of("NTE|1||" + "~" * (limits.HL7_PARTS + 1)),
        lines_of("NTE|1||" + "&" * (limits.HL7_PARTS + 1), *["\n"] * 200_000),
    ],
    ids=["segments", "names", "repetitions", "subcomponents"],
)
def test_a_message_over_a_limit_is_a_fault(text: str) -> None:
    found = er7.read(text, Reading(STANDARD, "utf-8"), SELECTION)
    assert isinstance(found, Issue)
    assert found.kind == "too-long"


@pytest.mark.parametrize(
    "line", ["\n", "\r", "x\r", "PV1\r", "a|b\r", "ADD|\r", "\\X41\\", "\n|", "^\r", f"{'x' * 60}\r"]
)
def test_a_megabyte_of_anything_is_read_in_a_moment(line: str) -> None:
    text = lines_of("NTE|1||" + line * (1_000_000 // len(line)))
    number = measured.calls(lambda: er7.read(text, Reading(STANDARD, "utf-8"), SELECTION))
    assert number < 20 * limits.HL7_PARTS


EARLIER_CALLS = 4_359
"""Function calls for reading `bench/referral.hl7` with the package `hl7`, which read it before."""


def test_a_referral_is_read_with_a_third_of_the_calls_of_the_parser_before() -> None:
    assert 0 < measured.calls(measured.reading()) <= EARLIER_CALLS / 3
