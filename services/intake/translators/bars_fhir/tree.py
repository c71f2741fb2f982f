"""The JSON of a message as it came: every element with its place, also those that we do not read.

for place, element in walk(decoded.tree):
    for name in element.keys() & NAMES:
        issues.append(Issue(fhir_path("Bundle", location(place, name)), "not-supported", "..."))
"""

from collections.abc import Iterator
from typing import Any

Place = tuple[Any, int | str] | None
"""Where an element is: the place of its parent, and its name or index there. None is the Bundle. See `location`."""


def walk(tree: dict[str, Any]) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yield the place and the members of every JSON object, in no particular order.

    It sees what the structs of models.py do not have: unknown resources and elements, contained resources, extensions
    inside extensions, and the `_name` twins of primitives. It is the same whether the message was decoded by the
    compiled structs or checked by fhir.resources. A place costs no string until `location` is asked for it.
    """
    waiting: list[tuple[Place, Any]] = [(None, tree)]
    while waiting:
        place, element = waiting.pop()
        yield place, element
        for name, value in element.items():
            if type(value) is dict:
                waiting.append(((place, name), value))
            elif type(value) is list:
                waiting += _objects(value, (place, name))


def _objects(values: list[Any], place: Place) -> list[tuple[Place, Any]]:
    """Return the objects of a list; of lists in it, too, which FHIR does not have."""
    found: list[tuple[Place, Any]] = []
    for index, one in enumerate(values):
        if type(one) is dict:
            found.append(((place, index), one))
        elif type(one) is list:
            found += _objects(one, (place, index))
    return found


def location(place: Place, *below: int | str) -> tuple[int | str, ...]:
    """Return the steps from the Bundle to a place and on: ("entry", 3, "resource", "name", 0, "family")."""
    steps: list[int | str] = []
    while place is not None:
        place, step = place
        steps.append(step)
    return (*reversed(steps), *below)
