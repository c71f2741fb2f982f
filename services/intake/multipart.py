"""Read the parts of a multipart/form-data body (RFC 7578) while it arrives; never more than one chunk of it is in memory.

What RFC 7578 forbids or leaves open is refused if something could be lost by it: bytes before the first or after the last boundary,
a transfer encoding, a multipart inside a part.
"""

import logging
import re
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser

from services.intake import limits, media_types

MEDIA_TYPE = "multipart/form-data"

logging.getLogger("python_multipart").disabled = True
logging.getLogger("python_multipart.multipart").disabled = True  # it logs bytes of the body

_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_UNENCODED = ("7bit", "8bit", "binary")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NOT_WELL_FORMED = (
    f"is not well-formed {MEDIA_TYPE} (RFC 7578), or a part has more than {limits.PART_HEADERS} header fields"
    f" or one of more than {limits.PART_HEADER_BYTES} bytes"
)


class NotMultipart(Exception):
    """The body cannot be read; the text completes the sentence "the body ..." and contains nothing of the body."""


@dataclass(frozen=True, slots=True)
class FormPart:
    """One part. Read `pieces` before the next part: what is not read then is passed over."""

    name: str
    filename: str | None
    """None for a field that is not a file."""

    media_type: str
    """With its parameters; text/plain if the part does not state it (RFC 7578, 4.4)."""

    pieces: AsyncIterator[bytes]


def parts(stream: AsyncIterator[bytes], content_type: str) -> AsyncIterator[FormPart]:
    """Return the parts of a body with this Content-Type, in order. Raises NotMultipart while they are read."""
    return _parts(stream, (media_types.parameters(content_type) or {}).get("boundary", ""))


def parts_of(body: bytes) -> list[tuple[FormPart, bytes]]:
    """Return the parts of a whole body and their bytes; its first line states the boundary. Raises NotMultipart."""
    boundary = body.lstrip(b"\r\n").partition(b"\r\n")[0].removeprefix(b"--").rstrip(b" \t").decode("latin-1")

    async def stream() -> AsyncIterator[bytes]:
        yield body

    async def read() -> list[tuple[FormPart, bytes]]:
        return [(part, b"".join([piece async for piece in part.pieces])) async for part in _parts(stream(), boundary)]

    try:
        read().send(None)  # it waits for nothing, so that its first step is its last
    except StopIteration as done:
        return list(done.value)
    raise AssertionError("a body in memory makes nothing wait")


async def _parts(stream: AsyncIterator[bytes], boundary: str) -> AsyncIterator[FormPart]:
    if not _BOUNDARY.fullmatch(boundary):
        raise NotMultipart("needs a boundary of 1 to 70 characters in its Content-Type (RFC 2046, 5.1.1)")
    reader = _Reader(stream, boundary.encode())
    while (header := await reader.next_header()) is not None:
        yield _part(header, reader.pieces())


# ---- the header of a part -------------------------------------------------------------------------------------------


def _part(header: Mapping[str, str], pieces: AsyncIterator[bytes]) -> FormPart:
    disposition = header.get("content-disposition", "")
    parameters = media_types.parameters(disposition)
    if media_types.essence(disposition) != "form-data" or parameters is None or "name" not in parameters:
        raise NotMultipart("has a part without a valid Content-Disposition: form-data with a name (RFC 7578, 4.2)")
    if header.get("content-transfer-encoding", "binary").strip().lower() not in _UNENCODED:
        raise NotMultipart("has a part with a Content-Transfer-Encoding: send its bytes as they are (RFC 7578, 4.7)")
    media_type = header.get("content-type", "text/plain")
    if media_types.essence(media_type).startswith("multipart/"):
        raise NotMultipart("has a multipart inside a part: send each file as a part of its own (RFC 7578, 4.3)")
    return FormPart(_name(parameters["name"]), _filename(parameters), media_type, pieces)


def _name(text: str) -> str:
    if len(text) > limits.PART_NAME_CHARACTERS or _CONTROL.search(text):
        most = limits.PART_NAME_CHARACTERS
        raise NotMultipart(f"has a part whose name or file name has control characters, or more than {most} characters")
    return text


def _filename(parameters: Mapping[str, str]) -> str | None:
    """Return the name of the file without its folder. `filename*` counts only without `filename` (RFC 7578, 4.2)."""
    named, extended = parameters.get("filename"), parameters.get("filename*")
    if named is None and extended is not None:
        named = unquote(extended.rpartition("'")[2], errors="replace")
    return None if named is None else _name(re.split(r"[/\\]", named)[-1])


# ---- the body -------------------------------------------------------------------------------------------------------


class _Reader:
    """Feeds the body to the parser, and returns the parser's events: a header, data, nothing (b"") at the end of a part."""

    def __init__(self, stream: AsyncIterator[bytes], boundary: bytes) -> None:
        self._stream = stream
        self._events: deque[dict[str, str] | bytes] = deque()
        self._begin: bytes | None = b""
        self._boundary, self._last, self._tail = b"\r\n--" + boundary, b"\r\n--" + boundary + b"--", b"\r\n"
        self._parts, self._ended = 0, False
        self._header: dict[str, str] = {}
        self._field, self._value = b"", b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": lambda: self._events.append(self._header),
                "on_part_data": lambda data, start, end: self._events.append(data[start:end]),
                "on_part_end": lambda: self._events.append(b""),
                "on_end": self._on_end,
            },
            max_header_count=limits.PART_HEADERS,
            max_header_size=limits.PART_HEADER_BYTES,
        )

    async def next_header(self) -> dict[str, str] | None:
        """Return the header of the next part; None at the end of the body, which is read to its last byte."""
        while (event := await self._next()) is not None:
            if isinstance(event, dict):
                return event
        return None

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the bytes of the part that begins here."""
        while isinstance(event := await self._next(), bytes) and event:
            yield event

    async def _next(self) -> dict[str, str] | bytes | None:
        while not self._events and await self._feed():
            pass
        return self._events.popleft() if self._events else None

    async def _feed(self) -> bool:
        """Parse the next chunk. Return False at the end of the body. Raises NotMultipart if it ends too early."""
        chunk = await anext(self._stream, None)
        if chunk is None:
            if not self._ended:
                raise NotMultipart("is incomplete: it ends before its last boundary")
            return False
        if self._ended:
            self._check_epilogue(chunk)
        elif data := self._without_preamble(chunk):
            self._parse(data)
        return True

    def _without_preamble(self, chunk: bytes) -> bytes:
        """Return what can be parsed: nothing until the first boundary is complete."""
        if self._begin is None:
            return chunk
        self._begin += chunk
        if len(self._begin) < len(self._boundary):
            return b""
        begin, self._begin = self._begin, None
        if not begin.startswith((self._boundary, self._boundary[2:])):
            raise NotMultipart("does not begin with the boundary that its Content-Type states")
        return begin

    def _parse(self, data: bytes) -> None:
        """Parse this chunk as far as a last boundary may end, and again from there, so that what follows it is seen."""
        tail, at = len(self._tail), 0
        window = self._tail + data
        while at < len(data) and not self._ended:
            end = window.find(self._last, max(0, tail + at - len(self._last) + 1))
            until = len(data) if end < 0 else end + len(self._last) - tail
            self._write(data[at:until])
            at = until
        if self._ended:
            self._check_epilogue(data[at:])
        self._tail = window[-len(self._last) + 1 :]

    def _write(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except MultipartParseError:
            raise NotMultipart(_NOT_WELL_FORMED) from None

    @staticmethod
    def _check_epilogue(rest: bytes) -> None:
        if rest.strip():
            raise NotMultipart("continues after its last boundary: the boundary may occur in a file")

    # -- the parser's events

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > limits.MULTIPART_PARTS:
            raise NotMultipart(f"has more than {limits.MULTIPART_PARTS} parts")
        self._header = {}

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        name, value = self._field.decode("ascii").lower(), self._value.decode("utf-8", "replace")
        self._field, self._value = b"", b""
        if name in self._header:
            raise NotMultipart("has a part with one header field twice")
        self._header[name] = value

    def _on_end(self) -> None:
        self._ended = True
