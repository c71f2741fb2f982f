"""The places of a message that were not read, which its response names.

Not named is what says nothing about a person or a request: ids, `text` (a narrative of the same, unless its status is
`additional`), the `language` that texts are in, the version of a code system, what software made the message, and
`meta` but for its labels and tags.
"""

from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Annotated, Any, NamedTuple, get_args, get_origin

from msgspec import Struct
from msgspec.structs import fields

from schemas.fhir import LOCAL
from services.intake.translators.bars_fhir import uk_core
from services.intake.translators.bars_fhir.bundle_index import BundleIndex, is_system
from services.intake.translators.bars_fhir.models import (
    READ,
    AnyResource,
    Bundle,
    DomainResource,
    FhirCoding,
    MessageHeader,
    MessageSource,
    Meta,
    PlainExtension,
    Reference,
    Resource,
)
from services.intake.translators.bars_fhir.tree import Place, location
from services.intake.translators.translator import PLAIN_NAME, fhir_path

LISTED = 50
"""Places that are named; the last entry states how many there are more."""

HARMLESS: dict[type[Struct], frozenset[str]] = {
    Struct: frozenset({"id", "resourceType", "fhir_comments"}),
    Resource: frozenset({"language"}),
    DomainResource: frozenset({"text"}),
    Meta: frozenset({"profile", "source"}),
    FhirCoding: frozenset({"version", "userSelected"}),
    Reference: frozenset({"type"}),
    MessageHeader: frozenset({"definition"}),
    MessageSource: frozenset({"name", "software", "version"}),
}
"""Elements that are not named, by the struct that reads what they stand in, or a base class of it."""

UK_CORE_EXTENSIONS = frozenset(
    {
        "addresskey",
        "contactpreference",
        "contactrank",
        "deathnotificationstatus",
        "nhscommunication",
        "nhsnumberverificationstatus",
        "othercontactsystem",
    }
)
"""The names of UK Core's extensions that are read. Of others, Lightbulb's and `INTERPRETER` are."""

PARTS = frozenset(
    {
        *("language", "preferred", "interpreterRequired", "deathNotificationStatus", "type", "value"),
        *("PreferredContactMethod", "PreferredContactTimes", "PreferredWrittenCommunicationFormat"),
    }
)
"""The extensions inside extensions that are read."""

INTERPRETER = "http://hl7.org/fhir/StructureDefinition/patient-interpreterRequired"
LIGHTBULB = f"{LOCAL}/StructureDefinition/"


def places(tree: dict[str, Any], message: BundleIndex, header: MessageHeader) -> tuple[str, ...]:
    """Return the FHIRPaths of what was not read, of what did not count, and of resources that nothing asked for."""
    unused = [message.at(one) for one in message.every() if one is not header and not message.is_used(one)]
    whole = [*message.left_out, *unused]
    unread: list[Place] = []
    _add_unread(unread, tree, Bundle, None, frozenset(whole))
    listed = list(dict.fromkeys([*whole, *(fhir_path("Bundle", location(place)) for place in unread)]))
    more = len(listed) - LISTED + 1
    return tuple(listed if more <= 1 else [*listed[: LISTED - 1], f"{more} more places"])


def _add_unread(found: list[Place], value: dict[str, Any], kind: Any, place: Place, whole: frozenset[str]) -> None:
    """Add the places of the elements of an object that the struct of this kind does not read; not those of `whole`."""
    read = _read_by(kind)
    narrative = value.get("text")
    if type(narrative) is dict and narrative.get("status") == "additional":
        found.append((place, "text"))
    if not read.names.issuperset(value):
        for name in (name for name in value if name not in read.names):
            found += _unread(name, value[name], place)
    for name, inner in read.objects:
        one = value.get(name)
        if type(one) is dict:
            _add_item(found, one, inner, (place, name), whole)
        elif type(one) is list:
            for index, item in enumerate(one):
                if type(item) is dict:
                    _add_item(found, item, inner, ((place, name), index), whole)


def _add_item(found: list[Place], item: dict[str, Any], kind: Any, place: Place, whole: frozenset[str]) -> None:
    if issubclass(kind, PlainExtension) and not is_known(item.get("url")):
        found.append(place)
    elif kind is not AnyResource:
        _add_unread(found, item, kind, place, whole)
    elif item["resourceType"] not in READ:
        found.append(place)
    elif not whole or fhir_path("Bundle", location(place)) not in whole:
        _add_unread(found, item, READ[item["resourceType"]], place, whole)


def _unread(name: str, value: Any, place: Place) -> Iterator[Place]:
    """Yield the place of an unread element, or of each extension in it or in what it is the `_` name of."""
    if name.startswith("_"):
        listed = enumerate(value) if isinstance(value, list) else ((None, value),)
        for index, twin in listed:
            if isinstance(twin, dict) and "extension" in twin:
                of: Place = (place, name[1:])
                yield ((of if index is None else (of, index)), "extension")
    elif name == "extension" and isinstance(value, list):
        yield from (((place, name), index) for index in range(len(value)))
    elif PLAIN_NAME.match(name):
        yield place, name
    else:
        yield place


@lru_cache(maxsize=500)
def is_known(url: Any) -> bool:
    """Return whether an extension is read somewhere, by its URL."""
    plain = url if isinstance(url, str) else ""
    return (
        plain in PARTS
        or uk_core.name_of(plain) in UK_CORE_EXTENSIONS
        or is_system(plain, INTERPRETER)
        or plain.startswith(LIGHTBULB)
    )


class _Read(NamedTuple):
    """The elements of an object that need no mention, and those of them that hold objects, with their structs."""

    names: frozenset[str]
    objects: list[tuple[str, Any]]


@cache
def _read_by(kind: type[Struct]) -> _Read:
    inside = {one.encode_name: struct_in(one.type) for one in fields(kind)}
    if issubclass(kind, Resource | Bundle):
        inside.setdefault("meta", Meta)
    harmless = (name for base in kind.__mro__ for name in HARMLESS.get(base, ()))
    return _Read(frozenset((*inside, *harmless)), [(name, one) for name, one in inside.items() if one is not None])


def struct_in(kind: Any) -> Any:
    """Return the struct or AnyResource in an Optional, Annotated or list type; None for a primitive."""
    if isinstance(kind, type) and get_origin(kind) is None:
        return kind if kind is AnyResource or issubclass(kind, Struct) else None
    inner = get_args(kind)[:1] if get_origin(kind) is Annotated else get_args(kind)
    return next((found for one in inner if (found := struct_in(one)) is not None), None)
