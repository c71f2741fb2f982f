"""The walk over a message's JSON sees every element, at its place."""

from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.intake.translators.bars_fhir.tree import location, walk
from tests.builders.bars import a_bars_message

json = st.recursive(
    st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


def _elements(value: Any, at: tuple[int | str, ...] = ()) -> Iterator[tuple[tuple[int | str, ...], Any]]:
    if isinstance(value, dict | list):
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(value, dict):
                yield (*at, step), inner
            yield from _elements(inner, (*at, step))


def _walked(tree: dict[str, Any]) -> list[tuple[tuple[int | str, ...], Any]]:
    return [(location(place, name), value) for place, element in walk(tree) for name, value in element.items()]


@settings(max_examples=60, deadline=None)
@given(tree=st.dictionaries(st.text(), json))
def test_the_walk_yields_each_element_once_with_its_place(tree: dict[str, Any]) -> None:
    assert sorted(map(repr, _walked(tree))) == sorted(map(repr, _elements(tree)))


def test_the_walk_sees_contained_resources_extensions_in_extensions_and_twins_of_primitives() -> None:
    inside = {"resourceType": "Basic", "_language": {"extension": [{"url": "a", "extension": [{"url": "b"}]}]}}
    tree = a_bars_message(more=[{"resourceType": "Observation", "id": "o-1", "contained": [inside]}])
    last = len(tree["entry"]) - 1
    at = ("entry", last, "resource", "contained", 0, "_language", "extension", 0, "extension", 0, "url")
    assert (at, "b") in _walked(tree)
