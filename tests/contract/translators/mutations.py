"""How a test takes a good message of some format apart: what the contract suite needs to know of a format's syntax."""

import copy
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

from hypothesis import strategies as st


class Mutations(ABC):
    """One format's syntax. `breaks_off_visibly`: whether a message that breaks off anywhere can be told from a whole one."""

    breaks_off_visibly = True

    @abstractmethod
    def anything(self) -> st.SearchStrategy[bytes]:
        """Bodies that have this syntax and may say anything."""

    @abstractmethod
    def with_anything(self, body: bytes, data: st.DataObject) -> bytes:
        """The body with one value somewhere replaced by anything, added, or taken away."""

    @abstractmethod
    def with_text(self, body: bytes, text: str, data: st.DataObject) -> bytes:
        """The body with this text in it somewhere: as a value, many times as one value, or as a name."""

    @abstractmethod
    def huge(self, body: bytes) -> bytes:
        """The body with a megabyte more."""

    @abstractmethod
    def unkept(self, body: bytes) -> Iterable[bytes]:
        """The body with a character, in a text that is read, that PostgreSQL or UTF-8 cannot hold: none may be kept."""

    def grouped(self, body: bytes) -> Iterable[tuple[bytes, str]]:
        """The body with one of its numbers grouped by a separator of thousands, and the number as it stands there."""
        return ()

    def unseen(self, body: bytes, mark: str) -> Iterable[bytes]:
        """The body with a character that nobody sees at the edges of one of its texts."""
        return ()


GROUPS = (",000", ".000", "'000", " 000,000")
"""What stands behind a number that a report builder has grouped."""


def is_number(text: str) -> bool:
    """Whether a text is digits, with or without blanks between them."""
    return text.replace(" ", "").isdigit()


tempting = [
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "2026-02-30",
    "2026-W01-1",
    "10" * 5000,
    " ",
    "",
    "\u202e",
    "x" * 400,
    "x" * 20_000,
]
"""Texts that have broken programs before."""


class Json(Mutations):
    """Formats that are JSON: BaRS, forms."""

    _values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
        max_leaves=25,
    )
    _tempting: list[Any] = [
        *tempting,
        10**400,
        -1,
        1e308,
        [[]] * 5,
        {"resourceType": "Nope"},
        {"resourceType": 5},
        {"resourceType": None},
        *("true", "false", "Yes", "No", "N/A", "off", "0", "-", "none", "null"),
        *("12,000", "12.000", "9,996,100,243", "\u200b", "\u00a0", "\u0092", "UNKNOWN", "1900-01-01", "9999999999"),
    ]

    def anything(self) -> st.SearchStrategy[bytes]:
        return self._values.map(lambda value: json.dumps(value).encode())

    def with_anything(self, body: bytes, data: st.DataObject) -> bytes:
        return self._put(body, data, self._values | st.sampled_from(self._tempting), or_delete=True)

    def with_text(self, body: bytes, text: str, data: st.DataObject) -> bytes:
        values = [text, f"{text} " * 3000, {text: 1}, [text], {"resourceType": text}]
        return self._put(body, data, st.sampled_from(values), or_delete=False)

    def huge(self, body: bytes) -> bytes:
        content = json.loads(body)
        content["padding"] = ["x" * 1000] * 1000
        return json.dumps(content).encode()

    def unkept(self, body: bytes) -> Iterable[bytes]:
        marked = json.dumps(json.loads(body.decode().replace("Ngozi", "MARK").replace("Dr ", "MARK ")))
        assert "MARK" in marked
        return [marked.replace("MARK", escaped).encode() for escaped in ("\\u0000", "\\ud800", "\\udc00x")]

    def grouped(self, body: bytes) -> Iterable[tuple[bytes, str]]:
        for here, name in _texts(json.loads(body)):
            for group in GROUPS if is_number(here[name]) else ():
                yield _with(body, here[name], here[name] + group), here[name] + group

    def unseen(self, body: bytes, mark: str) -> Iterable[bytes]:
        for here, name in _texts(json.loads(body)):
            if name not in ("content", "media_type"):  # of a document
                yield _with(body, here[name], f"{mark}{here[name]}{mark}")

    def repeated(self, body: bytes) -> Iterable[bytes]:
        """The body with one name twice in one of its objects, first with another value."""
        text = json.dumps(json.loads(body))
        for name in sorted(set(re.findall(r'"[A-Za-z_]+": ', text))):
            yield text.replace(name, f"{name}null, {name}", 1).encode()

    def _put(self, body: bytes, data: st.DataObject, values: st.SearchStrategy[Any], *, or_delete: bool) -> bytes:
        whole = here = json.loads(body)
        while True:
            names = list(here) if isinstance(here, dict) else list(range(len(here)))
            if not names:
                return json.dumps(whole).encode()
            name = data.draw(st.sampled_from(names))
            if isinstance(here[name], dict | list) and here[name] and data.draw(st.integers(0, 5)):
                here = here[name]
                continue
            if not or_delete or data.draw(st.booleans()):
                here[name] = copy.deepcopy(data.draw(values))
            else:
                del here[name]
            return json.dumps(whole).encode()


def _texts(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every text of a JSON value, by what it stands in and its name or index there."""
    for name in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        if isinstance(value[name], str):
            yield value, name
        yield from _texts(value[name])


def _with(body: bytes, text: str, other: str) -> bytes:
    """The body with a text of it replaced, wherever it stands as a whole value."""
    return json.dumps(json.loads(body)).replace(json.dumps(text), json.dumps(other)).encode()


class Hl7(Mutations):
    """HL7 v2: segments on lines, fields between bars. Whether a message broke off is told by its transport."""

    breaks_off_visibly = False
    _texts = st.one_of(
        st.text(max_size=20),
        st.text(alphabet='|^~\\&\r\n"09AZaz.', max_size=20),
        st.sampled_from(
            [*tempting, '""', "20260230", "2026", "99999999", "0" * 14, "\\X", "\\XZZ\\", "\\", "~" * 500, "^&" * 500]
        ),
    )

    def anything(self) -> st.SearchStrategy[bytes]:
        names = st.sampled_from(["MSH", "PID", "RF1", "PV1", "OBX", "NTE", "PRD", "ZZZ", "EVN"])
        lines = st.lists(st.tuples(names, st.lists(self._texts, max_size=6)), max_size=8)
        texts = lines.map(lambda found: "\r".join("|".join([name, *fields]) for name, fields in found))
        return texts.map(lambda text: b"MSH|^~\\&|UHL_EPR|RWE|" + text.encode("utf-8", "surrogatepass"))

    def with_anything(self, body: bytes, data: st.DataObject) -> bytes:
        lines = self._lines(body)
        at = data.draw(st.integers(0, len(lines) - 1))
        match data.draw(st.integers(0, 6)):
            case 0:
                del lines[at]
            case 1:
                lines.insert(data.draw(st.integers(0, len(lines))), lines[at])
            case 2:
                lines[at] = lines[at][: data.draw(st.integers(0, len(lines[at])))]
            case _:
                lines[at] = self._with_field(lines[at], data.draw(self._texts), data)
        return self._body(lines)

    def with_text(self, body: bytes, text: str, data: st.DataObject) -> bytes:
        lines = self._lines(body)
        at = data.draw(st.integers(0, len(lines) - 1))
        said = data.draw(st.sampled_from([text, f"{text} " * 3000, f"{text}^{text}~{text}&{text}", f"\\{text}\\"]))
        lines[at] = data.draw(st.sampled_from([self._with_field(lines[at], said, data), said, f"{said}{lines[at]}"]))
        return self._body(lines)

    def huge(self, body: bytes) -> bytes:
        return body + b"NTE|1||" + b"x" * 500_000 + b"\r" + b"NTE|2||~^&\r" * 50_000

    def unkept(self, body: bytes) -> Iterable[bytes]:
        marked = body.replace(b"Vance", b"MARK")
        assert b"MARK" in marked
        return [marked.replace(b"MARK", what) for what in (b"V\x00ance", b"\\X00\\", b"\x01", b"\\X81\\")]

    @staticmethod
    def _lines(body: bytes) -> list[str]:
        return body.decode("latin-1").splitlines()

    @staticmethod
    def _body(lines: list[str]) -> bytes:
        return "\r".join(lines).encode("utf-8", "surrogatepass")

    @staticmethod
    def _with_field(line: str, text: str, data: st.DataObject) -> str:
        fields = line.split("|")
        fields[data.draw(st.integers(0, len(fields) - 1))] = text
        return "|".join(fields)


JSON = Json()
HL7 = Hl7()
