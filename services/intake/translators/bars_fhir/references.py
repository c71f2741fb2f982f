"""Find the resources that references name (http://hl7.org/fhir/R4/bundle.html#references, references.html#contained).

Read are `urn:uuid:` in any letter case, absolute and relative URLs, with or without a version, and `#id` of a contained
resource within its container. Two resources of one name are a fault: which of them is meant must not depend on order.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

from services.intake.translators.bars_fhir.models import Reference, Resource, resource_type

_VERSION = re.compile(r"/_history/[A-Za-z0-9\-.]{1,64}$")
_REST = re.compile(r"^(https?://.+)/([A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64})$")
"""An absolute URL of a resource on a server: its base, and its type and id."""

Place = tuple[int | str, ...]
"""A place in a Bundle, such as ("entry", 3, "resource", "subject")."""


def plain(url: str) -> str:
    """Return a reference or fullUrl without its version, and a UUID in small letters."""
    return url.lower() if url[:9].lower() == "urn:uuid:" else _VERSION.sub("", url)


class References:
    """The resources of a Bundle by every name that a reference can use.

    `resources`: those that we read, with the index of their entry; `others`: type/id of those that we do not read.
    """

    def __init__(
        self, full_urls: list[str | None], resources: list[tuple[int, Resource]], others: Iterable[str] = ()
    ) -> None:
        self._entries = dict(resources)
        self._full_urls = [plain(url) if url else None for url in full_urls]
        self._by_url = {url: index for index, url in reversed(list(enumerate(self._full_urls))) if url}
        self._by_id = {_name(one): index for index, one in reversed(resources) if one.id}
        self._others = frozenset(others)
        self._aliases = _aliases(resources, self._others)
        self._has_bases = any(_REST.match(url) for url in self._by_url)
        self._owners: dict[int, tuple[int, Place]] | None = None

    def ambiguous(self) -> Iterator[tuple[int, str]]:
        """Yield the index of each entry whose `fullUrl`, or whose type and `id`, an earlier entry has too."""
        for index, url in enumerate(self._full_urls):
            if url and self._by_url[url] != index:
                yield index, "fullUrl"
        for index, resource in self._entries.items():
            if resource.id and self._by_id[_name(resource)] != index:
                yield index, "id"

    def target(self, reference: Reference) -> Resource | str | None:
        """Return the resource that is named, or the name of one of a type that we do not read; None if nothing is."""
        text = reference.reference or ""
        if text.startswith("#"):
            return self._contained(reference, text[1:])
        name = plain(text)
        index = self._by_url.get(name)
        if index is None:
            index = self._aliases.get(name) if name.startswith("urn:") else self._relative(reference, name)
        if index is not None:
            return self._entries.get(index, name)
        return name if name in self._others else None

    def named(self, url: str) -> Resource | None:
        """Return the resource with this fullUrl, id or type and id, for a URL that is not a Reference; None if there is none."""
        name = plain(url)
        index = next((found[name] for found in (self._by_url, self._aliases, self._by_id) if name in found), None)
        return None if index is None else self._entries.get(index)

    def _contained(self, reference: Reference, wanted: str) -> Resource | None:
        container = self._entries[self.place(reference)[0]]
        if not wanted:
            return container
        found = [one for one in getattr(container, "contained", []) if one.id == wanted]
        return found[0] if len(found) == 1 else None

    def _relative(self, reference: Reference, name: str) -> int | None:
        """Return the entry of a type and id, on the server of the entry that refers to it if both name a server."""
        index = self._by_id.get(name)
        if not self._has_bases:
            return index
        base = self._base(self.place(reference)[0])
        same_server = self._by_url.get(f"{base}/{name}")
        if same_server is not None or index is None:
            return same_server
        return None if base and self._base(index) else index

    def _base(self, index: int) -> str | None:
        found = _REST.match(self._full_urls[index] or "")
        return found[1] if found else None

    def place(self, reference: Reference) -> tuple[int, Place]:
        """Return the index of the entry that has this reference, and its place in the Bundle."""
        if self._owners is None:
            self._owners = {
                id(one): (index, at)
                for index, resource in self._entries.items()
                for one, at in _references(resource, ("entry", index, "resource"))
            }
        return self._owners[id(reference)]


def _name(resource: Resource) -> str:
    return f"{resource_type(type(resource))}/{resource.id}"


def _aliases(resources: list[tuple[int, Resource]], others: Iterable[str]) -> dict[str, int]:
    """Return entries by `urn:uuid:` and their id, if it is a UUID that one entry has: senders refer by it too."""
    ids = [resource.id.lower() if resource.id else None for _, resource in resources]
    times = Counter([*ids, *(name.rpartition("/")[2].lower() for name in others)])
    return {
        f"urn:uuid:{uuid}": index
        for uuid, (index, _) in zip(ids, resources, strict=True)
        if uuid and times[uuid] == 1 and _is_uuid(uuid)
    }


def _is_uuid(text: str) -> bool:
    try:
        return len(text) == 36 and bool(UUID(text))
    except ValueError:
        return False


def _references(value: Any, at: Place) -> Iterator[tuple[Reference, Place]]:
    """Yield every Reference in an element that we read, with its place."""
    if isinstance(value, list):
        for index, one in enumerate(value):
            yield from _references(one, (*at, index))
        return
    if isinstance(value, Reference):
        yield value, at
    for name in getattr(value, "__struct_fields__", ()):
        inner = getattr(value, name)
        if not isinstance(inner, str | int | None):
            yield from _references(inner, (*at, name.rstrip("_")))
