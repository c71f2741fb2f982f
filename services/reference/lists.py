"""Lists of codes that hubs and other partners fetch: what commands may name, with the words that people read."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from schemas.case import EndReason
from services.reference import directory, texts
from services.reference.directory import Directory, Hub

Item = Mapping[str, Any]


class CodeList(NamedTuple):
    """One list: its title, and its items, each with `code` and `name`."""

    title: str
    items: tuple[Item, ...]

    @property
    def version(self) -> str:
        """First 12 digits of the SHA-256 of the items."""
        return hashlib.sha256(orjson.dumps(self.items)).hexdigest()[:12]

    def body(self) -> bytes:
        """Return the list as JSON: version and items."""
        return orjson.dumps({"version": self.version, "items": self.items})


CodeLists = Mapping[str, CodeList]


def load(folder: Path) -> CodeLists:
    """Return every list by name, from the reviewed files of `folder`. Raise ConfigError."""
    loaded, labels, phrases = directory.load(folder), texts.code_texts(folder), texts.approved_phrases(folder)
    return {
        "hubs": CodeList("Hubs", tuple(map(_hub, loaded.hubs))),
        "authorities": CodeList("Authorities outside the county", _authorities(loaded)),
        "services": CodeList("Services", _services(loaded)),
        "actions": CodeList("Actions of an intervention that feedback quotes", _phrases(phrases.actions)),
        "providers": CodeList("Providers of an intervention that feedback quotes", _phrases(phrases.providers)),
        "end-reasons": CodeList("Reasons of cancel and reject", _end_reasons(labels)),
        "hold-reasons": CodeList("Reasons of hold", _coded(labels.hold_reasons)),
        "findings": CodeList("Findings of assess", _coded(labels.findings)),
    }


def overview(lists: CodeLists) -> CodeList:
    """Return the list of the lists."""
    items = ({"code": name, "name": one.title, "version": one.version} for name, one in lists.items())
    return CodeList("Lists", tuple(items))


def _hub(hub: Hub) -> Item:
    """Return a hub; one that is restricted has no public contact."""
    contact = {} if hub.restricted else {"contact": hub.contact.model_dump()}
    return {"code": hub.id, "name": hub.name, "kind": hub.kind, **contact}


def _authorities(loaded: Directory) -> tuple[Item, ...]:
    return tuple(
        {"code": one.id, "name": one.name, "ons_code": one.code, "contact": one.contact.model_dump()}
        for one in loaded.authorities
    )


def _services(loaded: Directory) -> tuple[Item, ...]:
    return tuple({"code": one.service, "name": one.label, "delivered": one.delivered} for one in loaded.services)


def _phrases(phrases: Iterable[str]) -> tuple[Item, ...]:
    return tuple({"code": phrase, "name": phrase} for phrase in phrases)


def _end_reasons(labels: texts.CodeTexts) -> tuple[Item, ...]:
    """Return the reasons that commands may use: a death is confirmed by a command of its own."""
    return tuple(
        {"code": reason.value, "name": one.text, "instead": one.instead}
        for reason, one in labels.end_reasons.items()
        if reason is not EndReason.DIED
    )


def _coded(labels: Mapping[Any, str]) -> tuple[Item, ...]:
    return tuple({"code": str(code), "name": text} for code, text in labels.items())
