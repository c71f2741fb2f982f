"""Events and commands: every type goes out by its contract and comes back equal."""

import json
import re
from itertools import combinations

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from schemas import events
from schemas.events import ALL_TYPES, CASE_EVENTS, COMMANDS, FEEDBACK_EVENTS, HUB_EVENTS, REFERRAL_EVENTS, EventData
from services.messaging.cloudevents import KafkaRecord, decode, headers_of, value_of
from tests.schemas.anything import any_event, any_of
from tests.schemas.contracts import faults
from tests.schemas.documents import CANARY, refusal, with_canary, with_unknown_fields

every_type = pytest.mark.parametrize("data_type", ALL_TYPES.values(), ids=lambda data: data.__name__)
NOT_MADE_SMALL = (Phase.explicit, Phase.reuse, Phase.generate)
"""Making an event of a hundred fields small takes minutes; the faults are listed by place, which tells as much."""

a_few = settings(max_examples=3, deadline=None, phases=NOT_MADE_SMALL)
some = settings(max_examples=20, deadline=None, phases=NOT_MADE_SMALL)
any_data = st.sampled_from(list(ALL_TYPES.values())).flatmap(any_of)


@every_type
@a_few
@given(st.data())
def test_any_event_is_valid_by_its_contract_and_is_unchanged_by_kafka(
    data_type: type[EventData], data: st.DataObject
) -> None:
    event = data.draw(any_event(data_type))
    headers = tuple((name, text.encode()) for name, text in headers_of(event).items())
    record = KafkaRecord("any", 0, 0, event.person_key.encode(), value_of(event), headers)
    assert faults(data_type.TYPE, json.loads(record.value)) == []
    assert decode(record, ALL_TYPES) == event


@some
@given(any_data)
def test_an_event_with_every_null_written_is_the_same_event(happened: EventData) -> None:
    text = happened.model_dump_json()
    assert faults(happened.TYPE, json.loads(text)) == []
    assert type(happened).model_validate_json(text) == happened


@some
@given(any_data, st.data())
def test_fields_that_a_newer_version_adds_are_ignored_at_any_depth(happened: EventData, data: st.DataObject) -> None:
    newer = with_unknown_fields(json.loads(happened.model_dump_json()), data)
    assert faults(happened.TYPE, newer) == []
    assert type(happened).model_validate_json(json.dumps(newer)) == happened


@some
@given(any_data, st.data())
def test_an_error_never_repeats_the_invalid_value(happened: EventData, data: st.DataObject) -> None:
    spoilt = with_canary(json.loads(happened.model_dump_json()), data)
    assert CANARY not in refusal(type(happened), spoilt)


def test_every_event_that_is_defined_is_in_a_union() -> None:
    assert {data.TYPE: data for data in _leaves(EventData)} == dict(ALL_TYPES)


def _leaves(parent: type[EventData]) -> list[type[EventData]]:
    """Classes of this module that have a type of their own."""
    children = [child for child in parent.__subclasses__() if child.__module__ == events.__name__]
    own = [child for child in children if "TYPE" in vars(child)]
    return own + [leaf for child in children for leaf in _leaves(child)]


@every_type
def test_a_type_is_named_after_its_event_and_carries_its_version(data_type: type[EventData]) -> None:
    assert re.fullmatch(r"uk\.lightbulb\.(referral|case|feedback)\.[a-z]+(-[a-z]+)*\.v[1-9][0-9]*", data_type.TYPE)
    assert (data_type.__doc__ or "").strip()


def test_no_type_is_both_a_command_and_an_event() -> None:
    kinds = [REFERRAL_EVENTS, CASE_EVENTS, FEEDBACK_EVENTS, COMMANDS]
    assert [one.keys() & other.keys() for one, other in combinations(kinds, 2)] == [set()] * 6
    assert not HUB_EVENTS.keys() & COMMANDS.keys()


@every_type
def test_every_field_has_a_description(data_type: type[EventData]) -> None:
    assert [name for name, field in data_type.model_fields.items() if not field.description] == []


def test_the_commands_of_a_hub_do_not_name_the_commanding_hub() -> None:
    """Who commands is the topic: a field could be forged."""
    shared = set.intersection(*(set(command.model_fields) for command in COMMANDS.values()))
    assert not {name for name in shared if "hub" in name}
