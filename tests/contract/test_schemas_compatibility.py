"""Planted changes: each kind that breaks somebody is found, and what breaks nobody is let through."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # ships no types

from infra.docgen.contracts import baseline, files
from infra.docgen.contracts.compatibility import changes, compatible
from infra.docgen.contracts.json_schemas import published
from schemas.events import CASE_EVENTS, COMMANDS
from tests.schemas.contracts import resolved

Schema = dict[str, Any]

THING: Schema = {
    "type": "object",
    "required": ["name", "kinds"],
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 30},
        "kinds": {"type": "array", "items": {"$ref": "#/$defs/Kind"}, "minItems": 1, "maxItems": 5},
        "code": {"anyOf": [{"type": "string", "pattern": "^[A-Z]{3}$"}, {"type": "null"}], "default": None},
        "count": {"type": "integer", "minimum": 0, "maximum": 10, "default": 0},
        "on": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}], "default": None},
        "inner": {"anyOf": [{"$ref": "#/$defs/Inner"}, {"type": "null"}], "default": None},
        "state": {"type": "string", "examples": ["a", "b"]},
        "said": {"$ref": "#/$defs/Inner", "default": {"note": None}, "description": "With a default of its own"},
    },
    "$defs": {
        "Kind": {"type": "string", "enum": ["a", "b"]},
        "Inner": {"type": "object", "properties": {"note": {"anyOf": [{"type": "string"}, {"type": "null"}]}}},
    },
}

Change = Callable[[Schema], object]


def changed(change: Change) -> Schema:
    thing = copy.deepcopy(THING)
    change(thing)
    return thing


def field(thing: Schema, name: str) -> Schema:
    return dict.__getitem__(thing["properties"], name)


NEW_REQUIRED = {"properties": {**THING["properties"], "new": {"type": "string"}}, "required": ["name", "kinds", "new"]}

BREAK_EVERYBODY: dict[str, Change] = {
    "a new required field": lambda t: t.update(NEW_REQUIRED),
    "an optional field is required": lambda t: t["required"].append("count"),
    "an optional field is removed": lambda t: t["properties"].pop("code"),
    "a required field is removed": lambda t: (t["properties"].pop("name"), t["required"].remove("name")),
    "a field deep down is removed": lambda t: t["$defs"]["Inner"]["properties"].pop("note"),
    "a field is renamed": lambda t: t["properties"].update(title=t["properties"].pop("code")),
    "a field has another type": lambda t: field(t, "count").update(type="string"),
    "a field is a list now": lambda t: t["properties"].update(name={"type": "array", "items": field(t, "name")}),
    "none is no longer taken": lambda t: field(t, "code")["anyOf"].pop(1),
    "a code is removed": lambda t: t["$defs"]["Kind"]["enum"].remove("b"),
    "a known code of an open list is removed": lambda t: field(t, "state").update(examples=["a"]),
    "free text becomes codes": lambda t: t["properties"].update(name={"type": "string", "enum": ["x"]}),
    "a text must be longer": lambda t: field(t, "name").update(minLength=2),
    "a text must be shorter": lambda t: field(t, "name").update(maxLength=29),
    "a number must be larger": lambda t: field(t, "count").update(minimum=1),
    "a number must be smaller": lambda t: field(t, "count").update(maximum=9),
    "a list must be longer": lambda t: field(t, "kinds").update(minItems=2),
    "a list must be shorter": lambda t: field(t, "kinds").update(maxItems=4),
    "a list must hold each once": lambda t: field(t, "kinds").update(uniqueItems=True),
    "a bound where there was none": lambda t: t["$defs"]["Inner"]["properties"]["note"]["anyOf"][0].update(maxLength=9),
    "another pattern": lambda t: field(t, "code")["anyOf"][0].update(pattern="^[A-Z]{4}$"),
    "another format": lambda t: field(t, "on")["anyOf"][0].update(format="date-time"),
    "fields that are not named are refused": lambda t: (
        t.update(additionalProperties=False) or t["properties"].pop("code")
    ),
    "a value that its own list excludes": lambda t: t["properties"].update(name={"const": "x", "enum": ["y"]}),
    "another default": lambda t: field(t, "count").update(default=1),
    "another default inside a default": lambda t: field(t, "said").update(default={"note": "x"}),
    "a keyword that the comparison does not know": lambda t: t.update(dependentRequired={"code": ["on"]}),
}

BREAK_OLD_READERS: dict[str, Change] = {
    "a required field may be left out": lambda t: t["required"].remove("name"),
    "a field may be none now": lambda t: t["properties"].update(count={"anyOf": [field(t, "count"), {"type": "null"}]}),
    "a field may be of one more type": lambda t: field(t, "code")["anyOf"].append({"type": "integer"}),
    "a list may be empty now": lambda t: field(t, "kinds").update(minItems=0),
    "a list has no least length": lambda t: field(t, "kinds").pop("minItems"),
    "a number may be negative": lambda t: field(t, "count").update(minimum=-1),
    "codes become free text": lambda t: t["$defs"]["Kind"].pop("enum"),
    "a pattern is dropped": lambda t: field(t, "code")["anyOf"][0].pop("pattern"),
    "a format is dropped": lambda t: field(t, "on")["anyOf"][0].pop("format"),
}

NOTED: dict[str, Change] = {
    "one more code": lambda t: t["$defs"]["Kind"]["enum"].append("c"),
    "one more known code of an open list": lambda t: field(t, "state").update(examples=["a", "b", "c"]),
    "a longer text": lambda t: field(t, "name").update(maxLength=31),
    "a text without bound": lambda t: field(t, "name").pop("maxLength"),
    "a longer list": lambda t: field(t, "kinds").update(maxItems=50),
    "a larger number": lambda t: field(t, "count").update(maximum=11),
}

BREAK_NOBODY: dict[str, Change] = {
    "nothing": lambda t: None,
    "a new optional field": lambda t: t["properties"].update(new={"type": "string", "default": "x"}),
    "a new optional field deep down": lambda t: t["$defs"]["Inner"]["properties"].update(new={"type": "string"}),
    "and the default that shows it": lambda t: (
        t["$defs"]["Inner"]["properties"].update(new={"type": "string", "default": "x"}),
        field(t, "said").update(default={"note": None, "new": "x"}),
    ),
    "other words": lambda t: field(t, "name").update(description="Better said", title="Name", examples=["x"]),
    "another name of a definition": lambda t: (
        t["$defs"].update(Sort=t["$defs"].pop("Kind")),
        field(t, "kinds").update(items={"$ref": "#/$defs/Sort"}),
    ),
    "a definition written out": lambda t: field(t, "kinds").update(items={"type": "string", "enum": ["b", "a"]}),
    "another order of alternatives": lambda t: field(t, "code")["anyOf"].reverse(),
    "codes one by one": lambda t: field(t, "kinds").update(items={"anyOf": [{"const": "a"}, {"const": "b"}]}),
    "a list of types": lambda t: field(t, "on").update(anyOf=[{"type": ["string", "null"], "format": "date"}]),
}


def by_name(planted: dict[str, Change]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("change", planted.values(), ids=planted.keys())


@by_name(BREAK_EVERYBODY)
@pytest.mark.parametrize("old_readers", [True, False], ids=["event", "command"])
def test_a_change_that_old_data_does_not_survive_is_found(change: Change, old_readers: bool) -> None:
    assert compatible(THING, changed(change), old_readers=old_readers)


@by_name(BREAK_OLD_READERS)
def test_a_change_that_only_old_readers_do_not_survive_is_found_in_events(change: Change) -> None:
    assert compatible(THING, changed(change), old_readers=True)
    assert not compatible(THING, changed(change), old_readers=False)


@by_name(NOTED)
def test_an_announced_extension_is_noted(change: Change) -> None:
    found = changes(THING, changed(change), old_readers=True)
    assert [one.breaks for one in found] == [False]
    assert not changes(THING, changed(change), old_readers=False)


@by_name({**NOTED, **BREAK_OLD_READERS})
def test_the_reverse_of_an_announced_extension_breaks_readers(change: Change) -> None:
    assert compatible(changed(change), THING, old_readers=False)


@by_name(BREAK_NOBODY)
def test_a_compatible_change_is_accepted(change: Change) -> None:
    assert changes(THING, changed(change), old_readers=True) == []


@pytest.mark.parametrize("name", published())
def test_every_contract_is_compatible_with_itself(name: str) -> None:
    assert changes(resolved(name), resolved(name), old_readers=True) == []


def test_a_message_names_the_path_and_the_broken_reader() -> None:
    told = compatible(THING, changed(BREAK_EVERYBODY["a field deep down is removed"]), old_readers=True)
    assert told == ["old data, new reader: Inner.note: was removed"]


def test_a_recursive_definition_is_compared() -> None:
    tree: Schema = {
        "$ref": "#/$defs/Tree",
        "$defs": {
            "Tree": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "below": {"type": "array", "items": {"anyOf": [{"$ref": "#/$defs/Tree"}, {"type": "null"}]}},
                },
            }
        },
    }
    shorter = copy.deepcopy(tree)
    shorter["$defs"]["Tree"]["properties"]["name"]["maxLength"] = 5
    assert changes(tree, tree, old_readers=True) == []
    assert compatible(tree, shorter, old_readers=True) == ["old data, new reader: Tree.name: maxLength 5 is required"]


# ---- the language as a whole ----------------------------------------------------------------------------------------


def language(change: Change) -> Schema:
    now = copy.deepcopy(files.released())
    change(now)
    return now


def breaking(change: Change) -> str:
    return "\n".join(baseline.compare(files.released(), language(change)).breaking)


def test_the_released_contracts_are_compatible_with_themselves() -> None:
    assert baseline.compare(files.released(), files.released()) == baseline.CompatibilityReport((), ())


def test_a_removed_type_breaks_its_readers() -> None:
    gone = min(CASE_EVENTS)
    assert f"{gone}: this contract was removed" in breaking(lambda now: now["contracts"].pop(gone))


def test_a_new_type_is_noted() -> None:
    first = next(iter(files.released()["contracts"].values()))
    verdict = baseline.compare(files.released(), language(lambda now: now["contracts"].update({"uk.new.v1": first})))
    assert verdict == baseline.CompatibilityReport((), ("uk.new.v1: new",))


@pytest.mark.parametrize(
    "change",
    [
        lambda topic: topic.update(partitions=topic["partitions"] + 1),
        lambda topic: topic.update(retention_ms=topic["retention_ms"] - 1),
        lambda topic: topic.update(max_message_bytes=topic["max_message_bytes"] - 1),
        lambda topic: topic["types"].pop(),
    ],
    ids=["partitions", "retention", "size", "types"],
)
def test_a_topic_with_a_weaker_guarantee_breaks_its_readers(change: Change) -> None:
    told = breaking(lambda now: [change(topic) for topic in now["topics"].values()])
    assert all(f"topic {name}: " in told for name in files.released()["topics"])


def test_a_removed_topic_breaks_its_readers() -> None:
    name = min(files.released()["topics"])
    assert f"topic {name}: removed" in breaking(lambda now: now["topics"].pop(name))


def test_commands_may_require_less_and_events_may_not() -> None:
    def relax(now: Schema, name: str) -> None:
        now["$defs"][now["contracts"][name]["$ref"].removeprefix("#/$defs/")].pop("required")

    assert breaking(lambda now: relax(now, max(COMMANDS))) == ""
    assert "is required" in breaking(lambda now: relax(now, max(CASE_EVENTS)))


# ---- sound: what is called compatible is compatible -----------------------------------------------------------------

NAMES = ("a", "b")

leaves: SearchStrategy[Schema] = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("string")}, optional={"minLength": st.integers(0, 2), "maxLength": st.integers(2, 4)}
    ),
    st.fixed_dictionaries({"type": st.just("string")}, optional={"pattern": st.sampled_from(["^x", "y$"])}),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["integer", "number"])},
        optional={"minimum": st.integers(-1, 1), "maximum": st.integers(1, 3)},
    ),
    st.fixed_dictionaries(
        {"enum": st.lists(st.sampled_from(["", "x", "xy", 0, 1, True, None]), min_size=1, max_size=3)}
    ),
    st.fixed_dictionaries({"const": st.sampled_from(["x", 1, False, None])}),
    st.sampled_from([{"type": "null"}, {"type": "boolean"}, {"type": ["integer", "null"]}]),
)


def composed(inner: SearchStrategy[Schema]) -> SearchStrategy[Schema]:
    properties = st.fixed_dictionaries(dict.fromkeys(NAMES, inner))
    listed = {"type": st.just("array"), "items": inner}
    return st.one_of(
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries(listed, optional={"minItems": st.integers(0, 1), "maxItems": st.integers(1, 2)}),
        st.fixed_dictionaries(
            {
                "type": st.just("object"),
                "properties": properties,
                "required": st.lists(st.sampled_from(NAMES), unique=True),
            },
            optional={"additionalProperties": st.just(False)},
        ),
    )


schemas_of_all_kinds = st.recursive(leaves, composed, max_leaves=5)
values = st.recursive(
    st.sampled_from(["", "x", "xy", "yx", "xxxx", "xxxxx", -1, 0, 1, 2, 4, 0.5, True, False, None]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner),
    max_leaves=4,
)


@st.composite
def a_pair(draw: st.DrawFn) -> tuple[Schema, Schema]:
    """A contract, and the same with one place replaced: two strangers would hardly ever be compatible."""
    old = draw(schemas_of_all_kinds)
    new = copy.deepcopy(old)
    spots = list(_schemas_in(new))
    spot = draw(st.sampled_from(spots))
    spot |= draw(st.sampled_from([copy.deepcopy(other) for other in spots]) | schemas_of_all_kinds)
    if draw(st.booleans()) and len(spot) > 1:
        spot.pop(draw(st.sampled_from(sorted(spot))))
    return old, new


def _schemas_in(schema: Schema) -> list[Schema]:
    below = [*schema.get("anyOf", ()), *schema.get("properties", {}).values()]
    below += [schema["items"]] if "items" in schema else []
    return [schema, *(each for inner in below for each in _schemas_in(inner))]


@settings(max_examples=100, deadline=None)
@given(a_pair(), st.lists(values, min_size=15, max_size=15))
def test_valid_data_stays_valid_after_a_compatible_change(pair: tuple[Schema, Schema], tried: list[Any]) -> None:
    old, new = pair
    if not compatible(old, new, old_readers=False):
        before, now = Draft202012Validator(old), Draft202012Validator(new)
        assert [value for value in tried if before.is_valid(value) and not now.is_valid(value)] == []
