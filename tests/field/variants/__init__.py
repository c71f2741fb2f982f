"""Variants of messages, councils' files and forms: for each kind of fault that senders' systems were seen to make, what no list has.

A generator takes a `Draw` and returns one `Variant`: what is sent, and what is right in the language of tests/field/expectation.py.
The same seed, number and time give the same variants. `KINDS` has the generators by the name of their kind.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count as numbers_from
from typing import Any

from tests.field.variants.draw import Draw

Right = Mapping[str, Any]
"""One alternative of an expectation."""

FIRST_REFERENCE = "@reference@"
"""Stands in a later message for the reference that the answer to the first one gave."""

REFUSED = [400, 403, 409, 422]


@dataclass(frozen=True)
class Sent:
    """One message: the bytes, the partner, and over HTTP path and headers. A header without a value is left out."""

    body: bytes
    sender: str = "gp-alder-lane"
    headers: Mapping[str, str | None] = field(default_factory=dict)
    path: str = "/fhir/$process-message"
    """Empty: over MLLP."""

    def to(self, reference: str | None) -> bytes:
        """Return the body with our reference in the place that stands for it."""
        return self.body.replace(FIRST_REFERENCE.encode(), (reference or "none").encode())


@dataclass(frozen=True)
class Variant:
    """`what`: how it differs from a good message. `right`: the alternatives of what must be seen. `ids`: whom and what it is about."""

    kind: str
    what: str
    sent: Sequence[Sent]
    right: Sequence[Right]
    ids: frozenset[str]

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"


Made = tuple[str, Sequence[Sent], Sequence[Right]]
"""What a generator returns: what differs, what is sent, what is right."""

Generator = Callable[[Draw], Made]

KINDS: dict[str, Generator] = {}


def kind(name: str) -> Callable[[Generator], Generator]:
    """Register the generator of a kind."""

    def register(generator: Generator) -> Generator:
        KINDS[name] = generator
        return generator

    return register


def format_of(name: str) -> str:
    """Return the format of a kind: hl7v2, csv, form or fhir."""
    format_, _, _ = name.partition("-")
    return format_ if format_ in ("hl7v2", "csv", "form") else "fhir"


def variants(name: str, count: int, seed: int, now: datetime) -> Iterator[Variant]:
    """Yield `count` variants of a kind, sent about `now`."""
    for _, (variant, _) in zip(range(count), _drawn(name, seed, now), strict=False):
        yield variant


def with_each_option(name: str, seed: int, now: datetime, *, at_least: int) -> list[Variant]:
    """Return as many variants of a kind as it has options, so that each option comes up."""
    found: list[Variant] = []
    for variant, options in _drawn(name, seed, now):
        found.append(variant)
        at_least = max(at_least, options)
        if len(found) == at_least:
            break
    return found


def _drawn(name: str, seed: int, now: datetime) -> Iterator[tuple[Variant, int]]:
    """Yield the variants of a kind without end, each with the number of its options."""
    used: set[str] = set()
    for number in numbers_from():
        draw = Draw(f"{seed} {name}", number, now, used)
        what, sent, right = KINDS[name](draw)
        yield Variant(name, what, sent, right, frozenset(draw.ids)), draw.options


def refused(*also: Right) -> list[Right]:
    """Return the expectation that a single message is refused, and nothing of it goes any further."""
    return [{"answers": [REFUSED], "published": "nothing"}, *also]


def taken(event: Mapping[str, Any], **more: Any) -> Right:
    """Return the expectation that a single message is taken, and what its referral says."""
    return {"answers": [200], "event": event, **more}


from tests.field.variants import (  # noqa: E402 - they register the kinds
    conversations,  # noqa: F401
    files,  # noqa: F401
    forms,  # noqa: F401
    hl7v2,  # noqa: F401
    hl7v2_talks,  # noqa: F401
    reading,  # noqa: F401
    resolving,  # noqa: F401
    rows,  # noqa: F401
    wire,  # noqa: F401
)
