"""Kinds of what an HL7 v2 message means: parts of fields, groups, codes, words, validity, characters, and what a person reads."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from tests.field.variants import Made, Right, kind
from tests.field.variants.draw import LONDON, Draw
from tests.field.variants.ward import Ward


def read_as(ward: Ward, event: Mapping[str, Any], **more: Any) -> list[Right]:
    """Return the expectation that the message is taken, and what its referral says; nothing else is lost by it."""
    whole = {
        "referral.person.family_name": {"is": [ward.family]},
        "referral.needs[].service": {"has": ["minor-adaptations"]},
    }
    return [{"answers": ["AA"], "event": whole | event, "published": {"has": ["referral.received"]}, **more}]


# ---- K5: words are taken as they are written ----------------------------------------------------------------------------

Words = tuple[str, list[str]]
"""What is sent, and the words that must be read of it."""


def _place_of_words(draw: Draw, ward: Ward, sent: str) -> tuple[str, str]:
    """Write the words at a place of free text; return the place and its path."""
    place = draw.each(["NTE-3", "OBX-5", "RF1-10", "PID-11", "PV1-3"])
    if place == "NTE-3":
        ward.behind.append(f"NTE|1||{sent}")
    elif place == "OBX-5":
        ward.observations.append(f"OBX|2|ST|LB-HOME||{sent}||||||F")
    elif place == "RF1-10":
        ward.fields["RF1"][10] = f"FALLS^{sent}"
    elif place == "PID-11":
        ward.fields["PID"][11] = f"{sent}^^LOUGHBOROUGH^^LE11 5AA^^H"
    else:
        ward.fields["PV1"][3] = f"{sent}^B^4^LRI"
    paths = {"PID-11": "referral.person.address.lines[]", "PV1-3": "referral.hospital.ward"}
    return place, paths.get(place, "referral.reason.text")


def _words(draw: Draw, written: str, read: str) -> Words:
    before, after = draw.word(), draw.word()
    return f"{before}{written}{after}", [f"{before}{read}{after}"]


AWKWARD: dict[str, Callable[[Draw], Words]] = {
    "a lone backslash": lambda draw: _words(draw, "\\", "\\"),
    "an unknown escape": lambda draw: _words(draw, "\\Q7\\", "\\Q7\\"),
    "a path of Windows": lambda draw: _words(draw, "\\share\\list ", "\\share\\list "),
    "an ampersand": lambda draw: _words(draw, "&", "&"),
    "ampersands": lambda draw: _words(draw, "&E & T&", "&E & T&"),
    "escaped separators": lambda draw: _words(draw, "\\T\\\\S\\\\F\\\\R\\\\E\\", "&^|~\\"),
    "an apostrophe of Windows-1252": lambda draw: (_words(draw, "\u0092", "’")[0], []),
    "a vertical tab": lambda draw: (_words(draw, "\x0b", " ")[0], []),
    "accents": lambda draw: _words(draw, " café ź ", " café ź "),
}


@kind("hl7v2-words")
def words(draw: Draw) -> Made:
    """Free text is never refused for its characters and never cut, wherever it stands."""
    ward = Ward(draw)
    name = draw.each(list(AWKWARD))
    sent, read = AWKWARD[name](draw)
    place, path = _place_of_words(draw, ward, sent)
    ends = [sent[:6], sent[-6:]]
    if place == "PID-11" and "&" in sent:  # the first component has subcomponents (SAD): street, number
        read = []
    return f"{name} in {place}", [ward.sent()], read_as(ward, {path: {"has": [*ends, *read]}})


LINES = ("NFA", "DNR", "SON", "OBX", "see below:", "PID", "- rail", "")


@kind("hl7v2-lines")
def lines(draw: Draw) -> Made:
    """A line feed or an escape for one inside a text ends no segment, whatever the next line begins with."""
    ward = Ward(draw)
    end = draw.each(["\r", "\r\n"])
    brk = draw.each(["\n", "\\.br\\", "\\X0A\\", "\\X000d\\", "\\X0D0A\\"])
    told = [draw.word(), draw.one_of(LINES if brk == "\n" else ("NFA", "- rail")), draw.word(), draw.word()]
    ward.behind.append(f"NTE|1||{brk.join(told)}")
    ward.behind.append("NTE|2||The end")
    return (
        f"{brk!r} where segments end with {end!r}",
        [ward.sent(end=end)],
        read_as(ward, {"referral.reason.text": {"has": [told[0], told[1], *told[2:], "The end"]}}),
    )


@kind("hl7v2-addendum")
def addendum(draw: Draw) -> Made:
    """ADD continues the segment before it, at any character of any segment with words."""
    ward = Ward(draw)
    text = " ".join(draw.word() for _ in range(6))
    place, path = _place_of_words(draw, ward, text)
    segments = ward.segments
    at = next(number for number, one in enumerate(segments) if text in one)
    whole = segments[at]
    cuts = sorted(draw.between(whole.index(text) + 1, len(whole) - 1) for _ in range(draw.between(1, 2)))
    parts = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True) if a != b]
    segments[at : at + 1] = [parts[0], *(f"ADD|{part}" for part in parts[1:])]
    sent = ward.sent()
    body = "".join(one + "\r" for one in segments).encode()
    return (
        f"{place} in {len(parts)} parts",
        [type(sent)(body, sent.sender, path="")],
        read_as(ward, {path: {"has": [text]}}),
    )


@kind("hl7v2-bytes")
def bytes_around(draw: Draw) -> Made:
    """Bytes around the text, names of the character set, and later versions change nothing."""
    ward = Ward(draw)
    text = f"{draw.word()} é {draw.word()}"
    ward.behind.append(f"NTE|1||{text}")
    name, change, encoding, suffix = draw.each(BYTES)
    change(ward)
    sent = ward.sent(encoding=encoding)
    return (
        name,
        [type(sent)(sent.body + suffix, sent.sender, path="")],
        read_as(ward, {"referral.reason.text": {"has": [text]}}),
    )


def _header(number: int, text: str) -> Callable[[Ward], None]:
    return lambda ward: ward.header.update({number: text})


BYTES: list[tuple[str, Callable[[Ward], None], str, bytes]] = [
    ("NUL at the end", lambda ward: None, "utf-8", b"\0"),
    ("blank lines at the end", lambda ward: None, "utf-8", b"\r\r"),
    ("MSH-12 2.6", _header(12, "2.6"), "utf-8", b""),
    ("MSH-12 2.7.1", _header(12, "2.7.1"), "utf-8", b""),
    ("MSH-12 2.8", _header(12, "2.8^GBR"), "utf-8", b""),
    ("MSH-18 8859/1", _header(18, "8859/1"), "latin-1", b""),
    ("MSH-18 empty", _header(18, ""), "utf-8", b""),
    ("MSH-15 and 16 null", lambda ward: ward.header.update({15: '""', 16: '""'}), "utf-8", b""),
]


# ---- K2: groups, parts and second codes ---------------------------------------------------------------------------------

NOTES: list[tuple[str, list[str], bool]] = [
    ("behind an OBX that is not agreed", ["OBX|2|ST|HIVAB^HIV antibody||Reactive||||||F", "NTE|1||{}"], False),
    ("behind an OBX of an order", ["OBR|1|||VIRO^Virology", "OBX|2|ST|X9^x||1||||||F", "NTE|1||{}"], False),
    ("behind an OBR", ["OBR|1|||VIRO^Virology", "NTE|1||{}"], False),
    ("second behind an OBX that is not agreed", ["OBX|2|ST|ZZ9^x||1||||||F", "NTE|1||first", "NTE|2||{}"], False),
    ("behind an agreed OBX", ["OBX|2|ST|LB-HOME||Stairs||||||F", "NTE|1||{}"], True),
    ("of an agreed type behind an OBX that is not", ["OBX|2|ST|ZZ9^x||1||||||F", "NTE|1||{}|HOUSING"], True),
    ("behind PV1", ["{PV1}", "NTE|1||{}"], True),
]


@kind("hl7v2-notes")
def notes(draw: Draw) -> Made:
    """A comment belongs to the segment before it: one of a result that is not read goes nowhere."""
    ward = Ward(draw)
    where, segments, is_read = draw.each(NOTES)
    text = f"{draw.word()} {draw.word()}"
    if segments[0] == "{PV1}":
        ward.behind += [one.replace("{}", text) for one in segments[1:]]
    else:
        ward.observations += [one.replace("{}", text) for one in segments]
    if is_read:
        return where, [ward.sent()], read_as(ward, {"referral.reason.text": {"has": [text]}})
    return where, [ward.sent()], read_as(ward, {}, nowhere=[text, "Reactive"])


CODED: dict[str, tuple[Callable[[Ward, str], None], str, str, dict[str, Any]]] = {
    "RF1-3": (
        lambda ward, text: ward.fields["RF1"].update({3: f"ADAPT~{text}"}),
        "WARM",
        "A warm home",
        {"referral.needs[].service": {"has": ["affordable-warmth", "minor-adaptations"]}},
    ),
    "RF1-2": (
        lambda ward, text: ward.fields["RF1"].update({2: text}),
        "URGENT",
        "Urgent",
        {"referral.priority": {"is": ["urgent"]}},
    ),
    "OBX-3": (
        lambda ward, text: ward.observations.append(f"OBX|2|CE|{text}||N^No||||||F"),
        "LB-CONSENT-GP",
        "",
        {"referral.consents.feedback.answer": {"is": ["no"]}},
    ),
    "OBX-5": (
        lambda ward, text: ward.observations.append(f"OBX|2|CE|LB-CONSENT-GP||{text}||||||F"),
        "N",
        "",
        {"referral.consents.feedback.answer": {"is": ["no"]}},
    ),
}


@kind("hl7v2-second-code")
def second_code(draw: Draw) -> Made:
    """The agreed code may be either triplet of a CE or CWE, or its words stand where there is no code."""
    ward = Ward(draw)
    place = draw.each(list(CODED))
    write, code, words_, event = CODED[place]
    ways = {
        "second": f"{draw.between(10**5, 10**6)}-1^{draw.word()}^LN^{code}^{draw.word()}^L",
        "only second": f"^^^{code}^{draw.word()}^L",
        "first of two": f"{code}^{draw.word()}^L^{draw.between(10**5, 10**6)}-1^x^LN",
        "in small letters": code.lower(),
    }
    if words_:
        ways["in words"] = f"^{words_}"
    way = draw.each(list(ways))
    write(ward, ways[way])
    if place == "RF1-3" and way == "in words":  # no rule says what the words ask for: a person reads them
        event = {"referral.to_be_read[].text": {"has": [words_]}, "referral.reason.text": {"has": [words_]}}
        return f"{place}: {way}", [ward.sent()], read_as(ward, event, hub={"referral.to_be_read[].text": None})
    return f"{place}: {way}", [ward.sent()], read_as(ward, event)


STREETS = (
    lambda number, street: f"&{street}&{number}",
    lambda number, street: f"{number} {street}",
    lambda number, street: f"{number} {street}&{street}&{number}",
    lambda number, street: f"FLAT 3&{number} {street}",
)


@kind("hl7v2-address")
def address(draw: Draw) -> Made:
    """The address where they live now is read, every line of it; those that have ended, begin later or are for letters are not."""
    ward = Ward(draw)
    street, number, gone = draw.word(), str(draw.between(2, 99)), draw.word()
    home = f"{draw.each(STREETS)(number, street)}^SHELTHORPE&OFF PARK ROAD^LOUGHBOROUGH^^LE11 5AA^^{draw.each(['H', '', 'H', 'P'])}"
    other = f"{gone} House^^MELTON MOWBRAY^^LE13 1AA^"
    name, text = draw.each(
        [
            ("a mailing address", f"{other}^M"),
            ("one that has ended", f"{other}^H^^^^^^^20190101"),
            ("one that is to come", f"{other}^H^^^^^^20990101"),
            ("an office", f"{other}^O"),
        ]
    )
    ward.fields["PID"][11] = "~".join(draw.shuffled([home, text]))
    lines_ = {"has": [number, street, "SHELTHORPE", "OFF PARK ROAD", "LOUGHBOROUGH"], "lacks": [gone]}
    event = {"referral.person.address.lines[]": lines_, "referral.person.address.postcode": {"is": ["LE11 5AA"]}}
    return f"{home} beside {name}", [ward.sent()], read_as(ward, event)


@kind("hl7v2-name")
def name(draw: Draw) -> Made:
    """The name in force is read: legal before others, known types before unknown ones, never one that has ended."""
    ward = Ward(draw)
    current = draw.each(
        [f"{ward.family}^Iris^^^MRS^^L", f"{ward.family}^Iris^^^MRS^^CURRENT", f"{ward.family}^Iris^^^MRS"]
    )
    others = {
        "a previous one": f"{draw.word()}^Iris^^^MRS^^PREVIOUS",
        "a maiden name": f"{draw.word()}^Iris^^^MISS^^M",
        "an alias": f"{draw.word()}^Iris^^^^^A",
        "a birth name": f"{draw.word()}^Iris^^^^^BIRTH",
        "one that has ended": f"{draw.word()}^Iris^^^MRS^^L^^^^^^20010101",
    }
    if not current.endswith("^L"):
        others.pop("a birth name")
    which = draw.each(list(others))
    ward.fields["PID"][5] = "~".join(draw.shuffled([current, others[which]]))
    return f"{current.rpartition('^')[2]} beside {which}", [ward.sent()], read_as(ward, {})


@kind("hl7v2-nhs-number")
def nhs_number(draw: Draw) -> Made:
    """The NHS number is that of its type or its authority; a status never stands alone; what nobody can have is no number."""
    ward = Ward(draw)
    local, number = f"{ward.hospital_number}^^^UHL^MRN", ward.number
    ways: dict[str, tuple[str, dict[str, Any]]] = {
        "by type": (f"{number}^^^^NHS", _verified(number)),
        "by type NH": (f"{number}^^^^NH", _verified(number)),
        "by authority": (f"{number}^^^NHS", _verified(number)),
        "by both, with blanks": (f"{number[:3]} {number[3:6]} {number[6:]}^^^NHS^NHS", _verified(number)),
        "ten equal digits": (
            f"{draw.one_of('0139') * 10}^^^^NHS",
            {"referral.person.nhs_number_status": {"is": ["failed-check"]}},
        ),
        "a check that fails": (
            f"{number[:9]}{(int(number[9]) + 1) % 10}^^^^NHS",
            {"referral.person.nhs_number_status": {"is": ["failed-check"]}},
        ),
        "none": (
            "",
            {"referral.person.nhs_number": {"is": [None]}, "referral.person.nhs_number_status": {"is": ["not-stated"]}},
        ),
    }
    way = draw.each(list(ways))
    text, event = ways[way]
    ward.fields["PID"][3] = "~".join(draw.shuffled([one for one in (local, text) if one]))
    return way, [ward.sent()], read_as(ward, event)


def _verified(number: str) -> dict[str, Any]:
    return {"referral.person.nhs_number": {"is": [number]}, "referral.person.nhs_number_status": {"is": ["01"]}}


# ---- K4: what nobody agreed is read by a person -------------------------------------------------------------------------

UNKNOWN: dict[str, tuple[Callable[[Ward, str], None], str]] = {
    "RF1-2": (lambda ward, code: ward.fields["RF1"].update({2: code}), "RF1-2"),
    "RF1-3": (lambda ward, code: ward.fields["RF1"].update({3: f"ADAPT~{code}^A {code}"}), "RF1-3"),
    "OBX-5 of a consent": (
        lambda ward, code: ward.observations.append(f"OBX|2|CE|LB-CONSENT-GP||{code}||||||F"),
        "OBX",
    ),
    "OBX-5 of a pathway": (lambda ward, code: ward.observations.append(f"OBX|2|CE|LB-PATHWAY||{code}||||||F"), "OBX"),
    "OBX-5 of a date": (lambda ward, code: ward.observations.append(f"OBX|2|ST|LB-RFT||{code}||||||F"), "OBX"),
    "PV1-44": (lambda ward, code: ward.fields["PV1"].update({44: code}), "PV1-44"),
    "PID-7": (lambda ward, code: ward.fields["PID"].update({7: code}), "PID-7"),
}


@kind("hl7v2-unknown")
def unknown(draw: Draw) -> Made:
    """A code, word or date that could change the meaning and that nobody agreed is taken, with its place, for a person to read."""
    ward = Ward(draw)
    what = draw.each(list(UNKNOWN))
    write, place = UNKNOWN[what]
    code = draw.word().upper()
    write(ward, code)
    event = {"referral.to_be_read[].place": {"has": [place]}, "referral.to_be_read[].text": {"has": [code]}}
    return what, [ward.sent()], read_as(ward, event, hub=dict.fromkeys(event))


# ---- death, protection, dates -------------------------------------------------------------------------------------------

DEATHS: dict[str, tuple[Callable[[Ward], None], Any]] = {
    "PID-30": (lambda ward: ward.fields["PID"].update({30: "Y"}), None),
    "PID-29": (lambda ward: ward.fields["PID"].update({29: "202611150410"}), "2026-11-15"),
    "PID-29 and 30": (lambda ward: ward.fields["PID"].update({29: "20261115", 30: "Y"}), "2026-11-15"),
    "PV1-36 79": (lambda ward: ward.fields["PV1"].update({36: "79"}), None),
}


@kind("hl7v2-death")
def death(draw: Draw) -> Made:
    """A report of death is read from every place, and ends nothing."""
    ward = Ward(draw)
    what = draw.each(list(DEATHS))
    write, day = DEATHS[what]
    write(ward)
    event = {
        "referral.person.death_reported": {"has": ["{"], "lacks": ["null"]},
        "referral.person.death_reported.died_on": {"is": [day]},
    }
    hub = {
        "referral.person.death_reported": None,
        "referral.person.death_reported.died_on": None,
        "case.check_before_contact": {"is": [True]},
    }
    return what, [ward.sent()], read_as(ward, event, hub=hub, said={"lacks": ["died", "dead"]})


PROTECTED: dict[str, tuple[str, str, bool | None]] = {
    "PD1-12 Y": ("2.5", "PD1||||||||||||Y", True),
    "PD1-12 N": ("2.5", "PD1||||||||||||N", False),
    "PD1-12 empty": ("2.5", "PD1|||Surgery^^^^^^^^^C82991", None),
    "ARV of 2.7": ("2.7", "ARV|1|A|VIP^Restricted", True),
}


@kind("hl7v2-protected")
def protected(draw: Draw) -> Made:
    """Protected data are read from PD1-12 and ARV; feedback then names no place."""
    ward = Ward(draw)
    what = draw.each(list(PROTECTED))
    version, text, expected = PROTECTED[what]
    ward.header[12] = version
    ward.observations.insert(0, text)
    said = {"said": {"lacks": ["Charnwood"]}} if expected else {}
    return what, [ward.sent()], read_as(ward, {"referral.person.restricted_access": {"is": [expected]}}, **said)


@kind("hl7v2-dates")
def dates(draw: Draw) -> Made:
    """Times and dates that say enough are read, to the precision that they have; an offset is applied before the day is taken."""
    ward = Ward(draw)
    options: list[tuple[str, Callable[[], Any], dict[str, Any]]] = [
        (
            "a year of birth",
            lambda: ward.fields["PID"].update({7: "1948"}),
            {"referral.person.birth_date": {"is": [None]}},
        ),
        (
            "zeros in PID-7",
            lambda: ward.fields["PID"].update({7: "19480000"}),
            {"referral.person.birth_date": {"is": [None]}},
        ),
        (
            "a time of birth",
            lambda: ward.fields["PID"].update({7: "194806110330"}),
            {"referral.person.birth_date": {"is": ["1948-06-11"]}},
        ),
        (
            "microseconds in PV1-44",
            lambda: ward.fields["PV1"].update({44: "20261028101500.123456"}),
            {"referral.hospital.admitted_on": {"is": ["2026-10-28"]}},
        ),
        (
            "a day in another zone",
            lambda: ward.fields["PV1"].update({44: "20260705233000+0000"}),
            {"referral.hospital.admitted_on": {"is": ["2026-07-06"]}},
        ),
        ("minutes in MSH-7", lambda: setattr(ward, "precision", "minute"), {}),
        ("microseconds in MSH-7", lambda: setattr(ward, "precision", "fraction"), _sent_at(ward)),
        ("an offset in MSH-7", lambda: setattr(ward, "precision", "offset"), _sent_at(ward)),
    ]
    what, write, event = draw.each(options)
    write()
    return what, [ward.sent()], read_as(ward, event)


def _sent_at(ward: Ward) -> dict[str, Any]:
    at = ward.draw.now.replace(second=0) - timedelta(minutes=ward.minutes_ago)
    return {"referral.message.sent_at": {"has": [f"{at:%M:%S}", f"{at.astimezone(LONDON):%Y-%m-}"]}}
