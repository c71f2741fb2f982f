"""The MSH segment, read leniently: for the translator, and for acknowledgements of invalid messages."""

import contextlib
import re
from dataclasses import dataclass

from services.intake import limits

LONGEST = limits.HL7_HEADER_BYTES + 1
"""Maximum number of bytes of an MSH segment that are read."""


@dataclass(frozen=True, slots=True)
class Header:
    """Fields of MSH: texts with their escape sequences, without control characters; "" if not given or `""`.

    `message_code` and `trigger_event` are MSH-9.1 and MSH-9.2; MSH-11, MSH-12, MSH-17 and MSH-18 give the first
    component of the first repetition; MSH-15 and MSH-16 are in capitals. `encoding` is the Python codec that MSH was
    decoded with, and that a response is written in.
    """

    field_separator: str
    encoding_characters: str
    encoding: str
    sending_application: str = ""
    sending_facility: str = ""
    receiving_application: str = ""
    receiving_facility: str = ""
    made_at: str = ""
    message_code: str = ""
    trigger_event: str = ""
    control_id: str = ""
    processing_id: str = ""
    version: str = ""
    accept_acknowledgement: str = ""
    application_acknowledgement: str = ""
    country: str = ""
    character_set: str = ""


def read(body: bytes, default_encoding: str = "utf-8") -> Header | None:
    """Return the header of a message; None if it does not begin with an MSH segment and separators. Never raises.

    Blank lines and a byte order mark may precede it. Bytes that are invalid in its character set become U+FFFD.
    """
    line = msh_of(body)
    if line is None:
        return None
    separator = chr(line[3])
    fields = _fields(line.decode("latin-1"), separator)
    default = _fitting(line, default_of(body, default_encoding))
    encoding = codec(_component(fields, 17, 0), default) or "latin-1"
    if not line.isascii():
        fields = _fields(line.decode(encoding, "replace"), separator)
    return _header(fields, separator, encoding)


def is_adt(body: bytes) -> bool:
    """Return whether a message is about a visit, not about a referral."""
    header = read(body)
    return header is not None and header.message_code == "ADT"


def _fitting(line: bytes, default_encoding: str) -> str:
    """Return an encoding that can decode a header without MSH-18, so that a response repeats its bytes unchanged."""
    for encoding in (default_encoding, "utf-8"):
        with contextlib.suppress(UnicodeDecodeError):
            line.decode(encoding)
            return encoding
    return "windows-1252"


def default_of(body: bytes, default_encoding: str) -> str:
    """Return the encoding to use if MSH-18 is empty: UTF-8 after a byte order mark, else the default."""
    return "utf-8" if body.startswith(b"\xef\xbb\xbf") else default_encoding


def begins(body: bytes) -> int:
    """Return the position of MSH, after blank lines and a byte order mark; 0 if there is no MSH."""
    match = _BEGINNING.match(body)
    return match.end() if match else 0


def msh_of(body: bytes) -> bytes | None:
    """Return the MSH line if it is the first line that is not blank."""
    start = _BEGINNING.match(body)
    if start is None:
        return None
    line = _LINE_END.split(body[start.end() : start.end() + LONGEST], maxsplit=1)[0]
    return line if len(line) > 4 and line[:3] == b"MSH" and _SEPARATOR.match(line[3:4]) else None


_BEGINNING = re.compile(rb"(?:\xef\xbb\xbf)?[\r\n\t ]*(?=MSH)")
_LINE_END = re.compile(rb"[\r\n]")
_SEPARATOR = re.compile(rb"[!-/:-@\[-`{-~]")
"""A printable ASCII character that is not a letter, digit or blank."""


def codec(character_set: str, default_encoding: str) -> str | None:
    """Return the Python codec of MSH-18 (HL7 table 0211, and other names in use); None for an unknown character set.

    ASCII and an empty field mean the partner's encoding, of which ASCII is a part. 8859/1 is read as windows-1252, its
    superset except for control characters, because Windows systems mean that.
    """
    plain = character_set.strip().upper().replace("-", " ").replace("_", " ")
    if plain in ("", "ASCII", "US ASCII", "ISO IR6", "ISO IR 6"):
        return default_encoding
    match = re.fullmatch(r"(?:ISO ?)?(?:IR ?)?8859[/ ]?(\d{1,2})", plain)
    part = int(match[1]) if match else 0
    if part in (*range(2, 12), *range(13, 17)):
        return f"iso8859-{part}"
    return "windows-1252" if part == 1 else _CODECS.get(plain)


_CODECS = {
    **dict.fromkeys(("UNICODE UTF 8", "UTF 8", "UTF8", "UNICODE", "ISO IR192", "ISO IR 192"), "utf-8"),
    **dict.fromkeys(("WINDOWS 1252", "WINDOWS1252", "CP1252", "CP 1252", "ISO IR100", "ISO IR 100"), "windows-1252"),
}

_UTF_8 = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_LETTER_AND_MARK = re.compile(rb"[\xc4-\xdf][\x85\x91-\x97\xa0]")
"""In windows-1252, an accented capital before an ellipsis, quotation mark, bullet, dash or blank: the one use of what UTF-8 has too."""


def is_utf_8(body: bytes) -> bool:
    """Return whether a message that should have a single-byte character set is UTF-8: its bytes would make no words otherwise."""
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return any(not _LETTER_AND_MARK.fullmatch(one[0]) for one in _UTF_8.finditer(body))


_CONTROL = dict.fromkeys((*range(32), *range(127, 160)))


def _fields(line: str, separator: str) -> list[str]:
    """Split the MSH line, into at least 20 fields. MSH-1 is the separator, so the field after the name is MSH-2."""
    plain = line if line.isprintable() else line.translate(_CONTROL)
    fields = [field.strip() if " " in field else field for field in plain.split(separator, 40)]
    return ["" if field == '""' else field for field in fields + [""] * 20]


def _component(fields: list[str], at: int, index: int) -> str:
    """Return a component of the first repetition of the field at this index (MSH-n is at n - 1)."""
    text, component, repetition = fields[at], fields[1][:1], fields[1][1:2]
    if repetition and repetition in text:
        text = text.split(repetition)[0]
    parts = text.split(component) if component and component in text else [text]
    part = parts[index].strip() if index < len(parts) else ""
    return "" if part == '""' else part


def _header(fields: list[str], separator: str, encoding: str) -> Header:
    def whole(number: int) -> str:
        return fields[number - 1]

    def first(number: int) -> str:
        return _component(fields, number - 1, 0)

    return Header(
        field_separator=separator,
        encoding_characters=whole(2),
        encoding=encoding,
        sending_application=whole(3),
        sending_facility=whole(4),
        receiving_application=whole(5),
        receiving_facility=whole(6),
        made_at=first(7),
        message_code=first(9),
        trigger_event=_component(fields, 8, 1),
        control_id=whole(10),
        processing_id=first(11).upper(),
        version=first(12),
        accept_acknowledgement=first(15).upper(),
        application_acknowledgement=first(16).upper(),
        country=first(17),
        character_set=first(18),
    )
