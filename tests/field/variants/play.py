"""Judge what was seen of a variant, by as much of its expectation as could be seen."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from tests.field import expectation
from tests.field.expectation import Seen
from tests.field.variants import Variant

IN_PROCESS = ("answers", "answer", "references", "event", "published", "nowhere", "mirrored")
"""What a test that runs intake alone can see."""


def problem(variant: Variant, seen: Seen, kinds: Collection[str] = tuple(expectation.KINDS)) -> str | None:
    """Return what is wrong, or None."""
    right = [{name: value for name, value in one.items() if name in kinds} for one in variant.right]
    found = expectation.wrong(right, seen)
    return f"{variant}: {found}" if found else None


def about(
    variant: Variant, answers: Iterable[Any], records: Iterable[tuple[str, Mapping[str, Any], str]]
) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the records (type or hub, data, text) that hold one of the variant's ids, or a reference in its answers."""
    ids = {*variant.ids, *(answer.reference for answer in answers if answer.reference)}
    return [(name, data) for name, data, text in records if any(one in text for one in ids)]
