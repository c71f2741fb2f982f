"""Change what one element of a BaRS message means; the change must be visible.

After a change the referral is another one, the message is refused, or the list of what was passed over differs. Otherwise the hub has
read the message as if nothing had changed. `HARMLESS` lists the reviewed exceptions.
"""

import copy
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from services.intake.translators.inbound_message import InboundMessage, Translator
from services.intake.translators.translator import Rejection, Translated
from tests.fuzz import r4_examples
from tests.fuzz.judge import assert_that

Path = tuple[int | str, ...]

ENDED = {"start": "2010-01-01", "end": "2015-12-31"}
STRANGER = "urn:uuid:0b7c3f52-93d4-4f8e-9f30-6a1d5a0c4e77"
"""fullUrl of the patient who is somebody else."""

HARMLESS: dict[str, str] = {
    r"\.resource\.id$": "names an entry that references find by fullUrl",
    r"^Bundle\.meta\.|\.resource\.meta\.(lastUpdated|versionId|profile|source)|\.resource\.meta$": "about the record, not the person",
    r"\.(display|userSelected|version)$": "a label of what is identified by its code or reference",
    r"^Bundle\.timestamp$": "decides by the clock, which other tests move",
}
"""Places at which a change need not be visible, each with the reason. Paths without indexes."""


@dataclass(frozen=True)
class Mutant:
    """One changed message: where, and how its meaning differs."""

    place: str
    kind: str
    message: dict[str, Any]

    @property
    def body(self) -> bytes:
        return json.dumps(self.message).encode()

    @property
    def is_harmless(self) -> bool:
        plain = re.sub(r"\[\d+\]", "", self.place)
        return any(re.search(pattern, plain) for pattern in HARMLESS)


def assert_visible(
    translate: Translator, delivery: Callable[[bytes], InboundMessage], mutant: Mutant, base: Any
) -> None:
    """Raise Broken if the change is not visible. `base`: what `seen` returned for the message before the change."""
    now = seen(translate(delivery(mutant.body)))
    assert_that(now != base or mutant.is_harmless, f"{mutant.kind} at {mutant.place} changes nothing")


def seen(made: Translated | Rejection) -> Any:
    """Return all that a translation lets its sender and the hubs see, but for the ids of the message."""
    if isinstance(made, Rejection):
        return "refused"
    return made.intent, made.referral_id, made.cancel_reason, made.discharged_on, made.referral, made.passed_over


def mutants(message: dict[str, Any]) -> Iterator[Mutant]:
    """Yield every change of one element that the kinds below know."""
    for change in (_dropped, _changed, _ended, _of_another_person, _added):
        yield from change(message)


def any_mutant(data: bytes, draw: random.Random) -> bytes:
    """Return one of the changes of a message; the message itself if it has none."""
    try:
        message = json.loads(data)
        found = list(mutants(message))
    except (ValueError, KeyError, AttributeError, TypeError):
        return data
    return draw.choice(found).body if found else data


# ---- the kinds of change --------------------------------------------------------------------------------------------


def _dropped(message: dict[str, Any]) -> Iterator[Mutant]:
    """Each element, entry of a list and entry of the message is left out."""
    for path, _ in _places(message):
        if path[-1] not in ("resourceType", "resource"):
            yield _mutant(message, path, "leaving out", _delete)


def _changed(message: dict[str, Any]) -> Iterator[Mutant]:
    """Each value is another one of its type."""
    for path, value in _places(message):
        if isinstance(value, (str, bool, int)) and path[-1] != "resourceType":
            yield _mutant(
                message, path, "another value", lambda parent, name, value=value: _put(parent, name, _other(value))
            )


def _ended(message: dict[str, Any]) -> Iterator[Mutant]:
    """What has a period held in the past only."""
    for path, value, model in _structures(message):
        found = r4_examples.elements(model).get("period")
        if found is not None and isinstance(value, dict) and found.type.__name__ == "Period":
            period = [ENDED] if found.repeats else ENDED
            yield _mutant(
                message, path, "an ended period", lambda parent, name, p=period: _put(parent[name], "period", p)
            )


def _of_another_person(message: dict[str, Any]) -> Iterator[Mutant]:
    """Each reference to the patient is to another patient of the message, who is there too."""
    patient = next(entry for entry in message["entry"] if entry["resource"]["resourceType"] == "Patient")
    for path, value in _places(message):
        if path[-1] == "reference" and value == patient["fullUrl"]:
            mutant = _mutant(message, path, "another person", lambda parent, name: _put(parent, name, STRANGER))
            stranger = copy.deepcopy(patient) | {"fullUrl": STRANGER}
            stranger["resource"] |= {"id": STRANGER.removeprefix("urn:uuid:"), "name": [{"family": "Stranger"}]}
            stranger["resource"].pop("identifier", None)
            mutant.message["entry"].append(stranger)
            yield mutant


def _added(message: dict[str, Any]) -> Iterator[Mutant]:
    """Each element that R4 defines, and the message has not, is there with an example of its type."""
    for path, value, model in _structures(message):
        present = {element.choice for name, element in r4_examples.elements(model).items() if name in value}
        for name, element in r4_examples.elements(model).items():
            if name not in value and name != "id" and not (element.choice and element.choice in present):
                added = r4_examples.example(element)
                yield _mutant(message, (*path, name), "adding", lambda parent, at, added=added: _put(parent, at, added))


# ---- places ---------------------------------------------------------------------------------------------------------


def _places(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield every element and list entry of a message with its path."""
    named = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, below in named:
        yield (*path, name), below
        yield from _places(below, (*path, name))


def _structures(message: dict[str, Any]) -> Iterator[tuple[Path, dict[str, Any], Any]]:
    """Yield every structure of every resource: its path, its value, its model."""
    for index, entry in enumerate(message["entry"]):
        resource = entry["resource"]
        yield from _below(("entry", index, "resource"), resource, r4_examples.model_of(resource["resourceType"]))


def _below(path: Path, value: dict[str, Any], model: Any) -> Iterator[tuple[Path, dict[str, Any], Any]]:
    yield path, value, model
    for name, element in r4_examples.elements(model).items():
        if name in value and not isinstance(element.type, str) and element.type.__name__ != "Resource":
            listed = value[name] if element.repeats else [value[name]]
            for index, one in enumerate(listed):
                if isinstance(one, dict):
                    yield from _below((*path, name, index) if element.repeats else (*path, name), one, element.type)


def _mutant(message: dict[str, Any], path: Path, kind: str, change: Callable[[Any, Any], None]) -> Mutant:
    changed = copy.deepcopy(message)
    parent: Any = changed
    for part in path[:-1]:
        parent = parent[part]
    change(parent, path[-1])
    return Mutant(_fhir_path(path), kind, changed)


def _fhir_path(path: Path) -> str:
    return "Bundle" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


def _delete(parent: Any, name: Any) -> None:
    del parent[name]


def _put(parent: Any, name: Any, value: Any) -> None:
    parent[name] = value


def _other(value: Any) -> Any:
    """Return another value of the same form: a day in another year, another number, other words."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if re.match(r"^(19|20)\d\d-", value):
        return "1931" + value[4:]
    if value.startswith("urn:uuid:"):
        return "urn:uuid:11111111-1111-4111-8111-111111111111"
    return value + "x"
