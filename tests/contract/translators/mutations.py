"""How a test takes a good message of some format apart: what the contract suite needs to know of a format's syntax."""

import copy
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
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
        """The body with a character, in a text that is read, that PostgreSQL or UTF-8 cannot hold: each must be refused."""


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


JSON = Json()
