"""An HL7 v2 message, over MLLP to its sender's listener or to `/hl7v2`, and its acknowledgement (HL7 v2.5 chapter 2).

ADT goes to the listener for ADT, if there is one. One file is one message, with or without MLLP's frame; line ends may be CR, LF or both.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Literal

from infra.partner_simulators.send.answers import Outcome, ParsedResponse, ResponseIssue
from infra.partner_simulators.send.fhir import derived
from infra.partner_simulators.send.form import parse_issues
from infra.partner_simulators.send.outgoing import REFERENCE, NotSent, OutgoingMessage, as_json, of_status
from services.reference.partners import Partner

MEDIA_TYPE = "x-application/hl7-v2+er7"
FRAME = re.compile(rb"\A\s*\x0b?(?P<message>.*?)(?:\x1c\r?\n?)?\s*\Z", re.S)
ACCEPTED, CONFLICT = frozenset({"AA", "CA"}), "205"


def unframed(body: bytes) -> bytes:
    """Return the message without MLLP's start and end bytes."""
    match = FRAME.match(body)
    return match["message"] if match else body


def is_hl7(body: bytes) -> bool:
    """Return True for the beginning of an HL7 v2 message."""
    return unframed(body).removeprefix(b"\xef\xbb\xbf").startswith(b"MSH")


def build_request(body: bytes, partner: Partner, *, http: bool) -> OutgoingMessage:
    """Return the message for MLLP or HTTP. Raise NotSent if a file contains several."""
    message = unframed(body)
    if len(re.findall(rb"(?:^|[\r\n])MSH[|^~]", message)) > 1:
        raise NotSent("the file contains several HL7 messages; put each into its own file.")
    headers = {"Content-Type": MEDIA_TYPE, "X-Correlation-Id": derived("hl7", message)}
    listener: Literal["mllp", "adt_mllp"] = "adt_mllp" if _header_field(message, 9).startswith("ADT") else "mllp"
    return OutgoingMessage("HL7 message", "/hl7v2", headers, message, parse_response, "http" if http else listener)


def sender_ods(body: bytes) -> str | None:
    """Return the ODS code in the sending facility (MSH-4)."""
    return _header_field(body, 4).split("^")[0] or None


def _header_field(body: bytes, number: int) -> str:
    """Return a field of MSH, or an empty text."""
    line = unframed(body).decode("latin-1").splitlines()[0]
    return [*line.split(line[3:4] or "|"), *[""] * number][number - 1]


def parse_response(status: int, body: bytes) -> ParsedResponse:
    """Parse the acknowledgements in `body`, each of which begins with MSH. Any refusal is a refusal."""
    answers = [_segments(one) for one in re.split(r"(?=^MSH)", _lines(body), flags=re.M) if one.startswith("MSH")]
    codes = [segment[1][:2] for answer in answers for segment in answer if segment[0] == "MSA" and len(segment) > 1]
    if not codes:
        return _without_acknowledgement(status, body)
    issues = tuple(issue for answer in answers for issue in _error_issues(answer))
    by = " ".join([*([f"HTTP {status}"] if status else []), *codes])
    reference = REFERENCE.search(_lines(body))
    return ParsedResponse(_outcome(codes, issues), reference and reference[0], issues, by=by)


def _without_acknowledgement(status: int, body: bytes) -> ParsedResponse:
    if not status:
        return ParsedResponse(
            "unavailable", issues=(ResponseIssue("MLLP", "", "the connection was closed without an acknowledgement"),)
        )
    issues = tuple(parse_issues(as_json(body)))
    outcome = of_status(status, {issue.kind for issue in issues})
    return ParsedResponse("unavailable" if outcome == "accepted" else outcome, issues=issues, by=f"HTTP {status}")


def _outcome(codes: Sequence[str], issues: Sequence[ResponseIssue]) -> Outcome:
    if set(codes) <= ACCEPTED:
        return "accepted"
    return "conflict" if CONFLICT in {issue.kind for issue in issues} else "refused"


def _lines(body: bytes) -> str:
    text = body.decode(errors="replace").replace("\x0b", "\n").replace("\x1c", "\n")
    return re.sub(r"[\r\n]+", "\n", text).lstrip("\n")


def _segments(message: str) -> list[list[str]]:
    separator = message[3:4]
    return [line.split(separator) for line in message.splitlines() if line]


def _error_issues(answer: Sequence[Sequence[str]]) -> Iterator[ResponseIssue]:
    """Yield the faults in ERR segments.

    Version 2.4: ERR-1 is segment^sequence^field^code&text. Version 2.5: ERR-2 place, ERR-3 code, ERR-7 and ERR-8
    texts.
    """
    for segment in answer:
        if segment[0] == "ERR":
            yield _error_issue([*segment, *[""] * 9])


def _error_issue(error: Sequence[str]) -> ResponseIssue:
    place = [*(error[2] or error[1]).split("^"), *[""] * 6]
    code = (error[3] or place[3].replace("&", "^")).split("^")
    text = error[8] or error[7] or (code[1] if len(code) > 1 else "")
    return ResponseIssue(_place(place), code[0], _unescaped(text))


def _place(place: Sequence[str]) -> str:
    segment, sequence, number = place[:3]
    nth = f"[{sequence}]" if sequence not in ("", "1") else ""
    return f"{segment}{nth}-{number}" if number else segment + nth


def _unescaped(text: str) -> str:
    for escape, letter_ in (("\\F\\", "|"), ("\\S\\", "^"), ("\\R\\", "~"), ("\\T\\", "&"), ("\\E\\", "\\")):
        text = text.replace(escape, letter_)
    return text
