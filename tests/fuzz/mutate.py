"""Changes that keep a format's syntax, so that a run gets behind the first check: ER7 fields, CSV cells, JSON values, MLLP marks."""

import json
import random
from collections.abc import Callable
from typing import Any

Mutator = Callable[[bytes, random.Random], bytes]
"""One change of an input. The same generator in the same state makes the same change."""

TEXTS = (
    *(
        "",
        " ",
        "x" * 201,
        "x" * 2_000,
        "\u202e",
        "\u200b",
        "\u00a0",
        "\x0b",
        "\x00",
        "\ud800",
        "\ufeff",
        "\U0001f600",
        "é",
        "Ł",
    ),
    *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-02-30", "2026-W01-1", "29/02/1900", "20260230"),
    *("2026", "99999999", "0" * 14, "20261105093000+1400", "9" * 400, "-1", "1e999", "NaN", "1.0", "٣", "²"),
    *(
        "9990000018",
        "999 000 0018",
        "9990000019",
        "LE11 5AA",
        "ZZ99 3VZ",
        "C82991",
        "RWE",
        "07700900107",
        "a@example.org",
    ),
    *(
        "=1+1",
        '="0123"',
        "@SUM(1)",
        "#REF!",
        "9.99E+09",
        "'+44",
        '"',
        '""',
        "a\nb",
        "a\r\nb",
        "-",
        "None",
        "null",
        "true",
    ),
    *(
        "\\X\\",
        "\\XZZ\\",
        "\\X00\\",
        "\\X0D0A\\",
        "\\",
        "\\F\\",
        "\\.br\\",
        "\\C2842\\",
        "~" * 90,
        "^&" * 90,
        "yes",
        "no",
        "Y",
        "N",
    ),
    *(
        "12,000",
        "12.000",
        "9,996,100,243",
        "9999999999",
        "9876543210",
        "1948",
        "48",
        "01/01/1900",
        "1900-01-01",
        "2099-01-01",
    ),
    *(
        "Mrs Ann Lord",
        "Smith, Mr John",
        "Mr & Mrs J Brown",
        "Mr A Brown (dec'd)",
        "UNKNOWN",
        "Flat B2 1st Floor",
        "LE1O 1DU",
    ),
    *("O\x92Dowd", "O?Dowd", "O&#39;Dowd", "Oâ€™Dowd", "x", "TRUE", "false", "off", "n/a", "Err:502", "sep=,"),
    *("Verdigris7", "REF^I13", "REF^I14", "UNICODE UTF-8", "8859/1", "A", "P", "2.5", "L", "NK", "http://example.org"),
)
"""Texts that have broken programs before, and some that open doors."""


def behind_first_byte(change: Mutator) -> Mutator:
    """The same for inputs whose first byte chooses a variant; now and then that changes, too."""

    def changed(data: bytes, draw: random.Random) -> bytes:
        first = data[:1] or b"\x00"
        if draw.random() < 0.02:
            first = bytes([draw.randrange(16)])
        return first + change(data[1:], draw)

    return changed


# ---- ER7 ------------------------------------------------------------------------------------------------------------


def er7(data: bytes, draw: random.Random) -> bytes:
    """One segment, field, component or repetition more, less or another; sometimes MSH's own separators."""
    lines = data.decode("utf-8", "surrogateescape").split("\r")
    at = draw.randrange(len(lines))
    match draw.randrange(10):
        case 0:
            del lines[at]
        case 1:
            lines.insert(draw.randrange(len(lines) + 1), lines[at])
        case 2:
            other = draw.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        case 3:
            lines[0] = lines[0].replace(draw.choice("|^~\\&"), draw.choice("|^~\\&#$@!a0 \u00e9"))
        case 4:
            lines.insert(
                at,
                draw.choice(
                    (
                        "NTE|1||",
                        "ZZZ|",
                        "OBX|1|ED|x||^^PDF^Base64^QQ==",
                        "\n",
                        "PID",
                        "DSC|1|F",
                        "obx|",
                        "ADD|x",
                        "NFA",
                        "XYZ|1",
                        "OBR|1",
                    )
                ),
            )
        case _:
            lines[at] = _with_part(lines[at], draw)
    return _utf8("\r".join(lines))


def _with_part(line: str, draw: random.Random) -> str:
    by = draw.choice("|||^~&")
    parts = line.split(by)
    return by.join(_changed(parts, draw))


def _changed(parts: list[str], draw: random.Random) -> list[str]:
    """One of these texts replaced, doubled, taken away, or swapped with another."""
    at = draw.randrange(len(parts))
    match draw.randrange(8):
        case 0:
            return parts[:at] + parts[at + 1 :]
        case 1:
            return [*parts[:at], parts[at], *parts[at:]]
        case 2:
            other = draw.randrange(len(parts))
            parts[at], parts[other] = parts[other], parts[at]
        case 3:
            parts[at] += draw.choice(TEXTS)
        case _:
            parts[at] = draw.choice(TEXTS)
    return parts


# ---- CSV ------------------------------------------------------------------------------------------------------------


def csv_text(data: bytes, draw: random.Random) -> bytes:
    """One cell or line more, less or another; lines and cells by whatever separates them here."""
    text = data.decode("latin-1")
    end = "\r\n" if "\r\n" in text else "\n" if "\n" in text else "\r"
    lines = text.split(end)
    at = draw.randrange(len(lines)) if draw.random() < 0.2 else max(0, len(lines) - 2)
    match draw.randrange(9):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[draw.randrange(len(lines))])
        case 2:
            end = draw.choice(("\r\n", "\n", "\r", "\r\r\n", "\n\r"))
        case _:
            by = max(",;\t|", key=lines[at].count)
            cells = _changed(lines[at].split(by), draw)
            lines[at] = by.join(_quoted(cell, draw) for cell in cells)
    return end.join(lines).encode("latin-1", "ignore")


def _quoted(cell: str, draw: random.Random) -> str:
    """Now and then in quote marks; beyond Latin-1 as its UTF-8."""
    plain = cell.encode("utf-8", "ignore").decode("latin-1") if any(ord(one) > 255 for one in cell) else cell
    if draw.random() > 0.03:
        return plain
    return '"' + plain.replace('"', draw.choice(('""', '"'))) + draw.choice(('"', ""))


# ---- JSON -----------------------------------------------------------------------------------------------------------

_MADE: tuple[Callable[[], Any], ...] = (
    lambda: None,
    lambda: True,
    lambda: False,
    lambda: 0,
    lambda: -1,
    lambda: 10**400,
    lambda: 1.5,
    list,
    dict,
    lambda: [[]],
    lambda: {"": {}},
    lambda: "x" * 5_000,
    lambda: _nested(60),
)


def _nested(depth: int) -> Any:
    made: Any = "deep"
    for _ in range(depth):
        made = [made]
    return made


def json_text(data: bytes, draw: random.Random) -> bytes:
    """One value somewhere replaced, doubled, moved, renamed or taken away."""
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError):
        return data
    places = list[tuple[Any, Any]]()
    _places(whole, places)
    if places:
        _change_at(places, draw)
    try:
        return _utf8(json.dumps(whole, ensure_ascii=draw.random() < 0.3))
    except (ValueError, RecursionError):
        return data


def _places(here: Any, found: list[tuple[Any, Any]]) -> None:
    for name in list(here) if isinstance(here, dict) else range(len(here)) if isinstance(here, list) else ():
        found.append((here, name))
        _places(here[name], found)


def _change_at(places: list[tuple[Any, Any]], draw: random.Random) -> None:
    holder, name = draw.choice(places)
    match draw.randrange(8):
        case 0:
            del holder[name]
        case 1 if isinstance(holder, list):
            holder.insert(draw.randrange(len(holder) + 1), holder[name])
        case 1:
            holder[draw.choice(TEXTS).encode("utf-8", "ignore").decode()] = holder[name]
        case 2:
            source, other = draw.choice(places)
            if other in source if isinstance(source, dict) else other < len(source):
                holder[name] = json.loads(json.dumps(source[other]))
        case 3:
            holder[name] = draw.choice(_MADE)()
        case 4 if isinstance(holder[name], str):
            holder[name] += draw.choice(TEXTS)
        case _:
            holder[name] = draw.choice(TEXTS)


# ---- MLLP -----------------------------------------------------------------------------------------------------------


def frame_bytes(data: bytes, draw: random.Random) -> bytes:
    """A mark or a stretch of bytes put in, taken away or repeated."""
    at = draw.randrange(len(data) + 1)
    match draw.randrange(4):
        case 0:
            return data[:at] + data[at + draw.randrange(1, 40) :]
        case 1:
            return data[:at] + data[draw.randrange(len(data) + 1) :][: draw.randrange(1, 700)] + data[at:]
        case _:
            marks = (
                b"\x0b",
                b"\x1c",
                b"\r",
                b"\n",
                b"\x1c\r",
                b"\x1c\x0b",
                b"\x1c\x1c",
                b"\x0bM\x1c\r",
                b"\x0bMSH|",
                b"\0",
                b"x" * 300,
            )
            return data[:at] + draw.choice(marks) + data[at:]


def _utf8(text: str) -> bytes:
    """In UTF-8; bytes that were none come back as they were, and a lone surrogate as its three bytes."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
