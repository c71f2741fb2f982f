"""Change what one element of a BaRS message means; the change must be visible.

After a change the referral is another one, the message is refused, or the place is in the list of what was passed over. Otherwise the
hub has read the message as if nothing had changed. `HARMLESS` lists the reviewed exceptions.
"""

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from services.intake.translators.inbound_message import InboundMessage, Translator
from services.intake.translators.translator import Rejection, Translated
from tests.contract.translators.adapters import Adapter
from tests.fuzz import r4_examples
from tests.fuzz.judge import assert_that

Steps = tuple[int | str, ...]
Change = Callable[[Any, Any], None]
"""Changes what stands in a parent under a name or index."""

ENDED = {"start": "2010-01-01", "end": "2015-12-31"}
STRANGER = "urn:uuid:0b7c3f52-93d4-4f8e-9f30-6a1d5a0c4e77"
"""fullUrl of the patient who is somebody else."""

HARMLESS: dict[str, str] = {
    r"\.id$|\.fullUrl$": "names an entry or element: a reference that leads nowhere any more is refused",
    r" at Bundle\.(meta|timestamp)|\.meta(\.(lastUpdated|versionId|profile|source))?$": "about the record, or decides by the clock",
    r"\.(display|userSelected|version)$": "a label of what is identified by its code or reference",
    r" at \w+\.(text|language)$|\.type$|^.* at \w+\.definition$": "a narrative of the same, the language of texts, the type of a reference",
    r"MessageHeader\.source\.(name|software|version)$": "what software made the message",
    r"(leaving out|adding) at ServiceRequest\.priority$": "routine is what R4 means by no priority",
    r"leaving out at .*\.(deceasedBoolean|doNotPerform|active|status|docStatus|clinicalStatus|verificationStatus)$": "the golden messages "
    "have the value that absence means; a status that R4 requires is missed",
    r"HealthcareService\.(identifier|name)": "names the destination again, which its endpoint does",
    r"(leaving out|another value) at .*\.use$|\.rank$": "ranks several; the golden messages have one of the kind",
    r"leaving out at \w+\.(patient|subject|for)$": "a statement without a subject is about the patient of the request",
    r"leaving out at ServiceRequest\.category": "a service of the catalogue says whom it is for, too",
    r"leaving out at (ServiceRequest\.requester|PractitionerRole\.organization)": "a partner that acts for itself is the organisation",
    r"adding at Condition\.abatement": "a condition of the golden messages that is resolved is over already",
    r"extension\.extension\.valueCodeableConcept\.coding\.system$": "a code of any system is read if there is none of UK Core's",
    r"leaving out at .*\.period(\.(start|end))?$": "what has no period, or an open one, holds as what is in its period does",
    r"leaving out at MessageHeader\.sender": "names whose ids they are: the partner's own if it is left out",
    r"(leaving out|adding|an ended period) at Consent\.(policyRule|provision)": "policy and provision of the golden consents say the same",
    r"leaving out at Location\.physicalType": "a place without a type is a ward",
    r"Patient\.meta\.security\.(code|system)$": "every label stricter than normal restricts, also one without a system",
    r"RelatedPerson\.relationship": "decides whether the kind of referrer is carer or family, and is not told",
    r"extension\.valueCoding\.system$": "the extension's URL says which codes its value has",
    r"language\.coding(\.system)?$": "a code of any system is a language",
}
"""Changes that need not be visible, each with the reason: patterns of `kind at Type.path`, without indexes."""


@dataclass(frozen=True)
class Mutant:
    """One changed message: where, how its meaning differs, and the type of the resource that differs."""

    place: str
    kind: str
    resource_type: str
    original: str = field(repr=False)
    steps: Steps
    change: Change = field(repr=False)

    @property
    def message(self) -> Any:
        """The changed message."""
        changed = json.loads(self.original)
        parent: Any = changed
        for step in self.steps[:-1]:
            parent = parent[step]
        self.change(parent, self.steps[-1])
        if self.kind == "another person":
            changed["entry"].append(_stranger(changed))
        return changed

    @property
    def body(self) -> bytes:
        return json.dumps(self.message).encode()

    @property
    def plain(self) -> str:
        """The place as type and path without indexes, such as `Patient.name.period`."""
        path = re.sub(r"\[\d+\]", "", self.place)
        return path.replace("Bundle.entry.resource", self.resource_type)

    @property
    def is_harmless(self) -> bool:
        return any(re.search(pattern, f"{self.kind} at {self.plain}") for pattern in HARMLESS)

    def __str__(self) -> str:
        return f"{self.kind} at {self.place}"


# ---- what must hold -------------------------------------------------------------------------------------------------


def assert_visible(
    translate: Translator, delivery: Callable[[bytes], InboundMessage], mutant: Mutant, base: Translated | Rejection
) -> None:
    """Raise Broken if the change is not visible. `base`: the translation of the message before the change."""
    made = translate(delivery(mutant.body))
    visible = (
        mutant.is_harmless or seen(made) != seen(base) or any(is_listed(mutant.place, one) for one in (base, made))
    )
    assert_that(visible, f"{mutant} changes nothing")


def seen(made: Translated | Rejection) -> Any:
    """Return all that a translation lets its sender and the hubs see, but for the ids of the message."""
    if isinstance(made, Rejection):
        return "refused"
    decided = made.intent, made.referral_id, made.names, made.cancel_reason, made.discharged_on, made.subject
    return decided, made.referral, made.passed_over, made.reply


def is_listed(place: str, made: Translated | Rejection) -> bool:
    """Return whether a place, or one above it, is in the list of what was passed over."""
    listed = made.passed_over if isinstance(made, Translated) else ()
    return any(place == one or place.startswith((f"{one}.", f"{one}[")) for one in listed)


@cache
def goods(adapter: Adapter, golden: Path) -> Sequence[tuple[str, Translated]]:
    """Return the golden messages of a translator that are accepted, each with its translation.

    Not the cancels: of them little more is read than which referral they end.
    """
    texts = [path.read_text() for path in sorted((golden / adapter.name).glob("*.in"))]
    made = [(text, adapter.translate(adapter.delivery(text.encode()))) for text in texts]
    return [(text, one) for text, one in made if isinstance(one, Translated) and one.intent != "cancel"]


def assert_any_visible(adapter: Adapter, golden: Path, data: bytes) -> None:
    """Raise Broken if a change that the bytes choose is not visible, in a golden message with some more elements."""
    draw = random.Random(data)
    text, base = draw.choice(goods(adapter, golden))
    for _ in range(draw.choice((0, 1))):
        before = draw.choice([one for one in mutants(text) if one.kind == "adding"]).body
        made = adapter.translate(adapter.delivery(before))
        if isinstance(made, Translated):
            text, base = before.decode(), made
    assert_visible(adapter.translate, adapter.delivery, draw.choice(list(mutants(text))), base)


def one_of_each(messages: Sequence[tuple[str, Translated]]) -> Iterator[tuple[Mutant, Translated]]:
    """Yield each kind of change at each place that messages have, indexes aside, once; with the translation before it."""
    known: set[tuple[str, str]] = set()
    for text, base in messages:
        for mutant in mutants(text):
            if (key := (mutant.kind, mutant.plain)) not in known:
                known.add(key)
                yield mutant, base


# ---- the kinds of change --------------------------------------------------------------------------------------------


def mutants(text: str) -> Iterator[Mutant]:
    """Yield every change of one element that the kinds below know."""
    message = json.loads(text)
    for kind in (_dropped, _changed, _ended, _of_another_person, _added, _repeated):
        for steps, name, change in kind(message):
            is_entry = steps[0] == "entry" and len(steps) > 1
            resource = message["entry"][steps[1]]["resource"]["resourceType"] if is_entry else "Bundle"
            yield Mutant(_fhir_path(steps), name, resource, text, steps, change)


Found = Iterator[tuple[Steps, str, Change]]


def _dropped(message: dict[str, Any]) -> Found:
    """Each element, entry of a list and entry of the message is left out."""
    for path, _ in _places(message):
        if path[-1] not in ("resourceType", "resource"):
            yield path, "leaving out", _delete


def _changed(message: dict[str, Any]) -> Found:
    """Each value is another one of its type; a boolean is negated."""
    for path, value in _places(message):
        if isinstance(value, (str, bool, int)) and path[-1] != "resourceType":
            yield path, "another value", _putting(_other(value))


def _ended(message: dict[str, Any]) -> Found:
    """What has a period held in the past only."""
    for path, value, model in _structures(message):
        found = r4_examples.elements(model).get("period")
        if found is not None and isinstance(value, dict) and getattr(found.type, "__name__", "") == "Period":
            period = [ENDED] if found.repeats else ENDED
            yield (*path, "period"), "an ended period", _putting(period)


def _of_another_person(message: dict[str, Any]) -> Found:
    """Each reference to the patient is to another patient of the message, who is there too."""
    patients = [entry for entry in message["entry"] if entry["resource"]["resourceType"] == "Patient"]
    for path, value in _places(message):
        if patients and path[-1] == "reference" and value == patients[0].get("fullUrl"):
            yield path, "another person", _putting(STRANGER)


def _stranger(message: dict[str, Any]) -> dict[str, Any]:
    patient = next(entry for entry in message["entry"] if entry["resource"]["resourceType"] == "Patient")
    resource = {**patient["resource"], "id": STRANGER.removeprefix("urn:uuid:"), "name": [{"family": "Stranger"}]}
    resource.pop("identifier", None)
    return {"fullUrl": STRANGER, "resource": resource}


def _added(message: dict[str, Any]) -> Found:
    """Each element that R4 defines, and the message has not, is there with an example of its type."""
    for path, value, model in _structures(message):
        known = r4_examples.elements(model)
        present = {element.choice for name, element in known.items() if name in value}
        for name, element in known.items():
            clashes = element.choice in present if element.choice else name == "extension" and "value" in present
            if name not in value and name != "id" and not clashes and not _is_value_next_to_extensions(element, value):
                yield (*path, name), "adding", _putting(r4_examples.example(element))


def _is_value_next_to_extensions(element: r4_examples.Element, value: dict[str, Any]) -> bool:
    """Return whether the element would be a value of an extension that has extensions: it has one or the other (ext-1)."""
    return element.choice == "value" and "extension" in value


def _repeated(message: dict[str, Any]) -> Found:
    """Each list has one more entry, an example of its type."""
    for path, value, model in _structures(message):
        for name, element in r4_examples.elements(model).items():
            if element.repeats and name in value:
                yield (*path, name, len(value[name])), "one more", _appending(r4_examples.example(element)[0])


def _delete(parent: Any, name: Any) -> None:
    del parent[name]


def _putting(value: Any) -> Change:
    def put(parent: Any, name: Any) -> None:
        parent[name] = value

    return put


def _appending(value: Any) -> Change:
    def append(parent: Any, _: Any) -> None:
        parent.append(value)

    return append


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


# ---- places ---------------------------------------------------------------------------------------------------------


def _places(value: Any, path: Steps = ()) -> Iterator[tuple[Steps, Any]]:
    """Yield every element and list entry of a message with its path."""
    named = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, below in named:
        yield (*path, name), below
        yield from _places(below, (*path, name))


def _structures(message: dict[str, Any]) -> Iterator[tuple[Steps, dict[str, Any], Any]]:
    """Yield every structure of every resource: its path, its value, its model."""
    for index, entry in enumerate(message["entry"]):
        resource = entry["resource"]
        yield from _below(("entry", index, "resource"), resource, r4_examples.model_of(resource["resourceType"]))


def _below(path: Steps, value: dict[str, Any], model: Any) -> Iterator[tuple[Steps, dict[str, Any], Any]]:
    yield path, value, model
    for name, element in r4_examples.elements(model).items():
        if name in value and not isinstance(element.type, str) and element.type.__name__ != "Resource":
            listed = value[name] if element.repeats else [value[name]]
            for index, one in enumerate(listed):
                if isinstance(one, dict):
                    yield from _below((*path, name, index) if element.repeats else (*path, name), one, element.type)


def _fhir_path(steps: Steps) -> str:
    return "Bundle" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
