"""The AsyncAPI document: whole, true to the topics and the headers as they are sent."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]  # ships no types

from infra.docgen.contracts.asyncapi import HUB, TRAFFIC
from schemas import topics
from schemas.events import ALL_TYPES, EventData
from services.messaging.cloudevents import headers_of
from tests.schemas.anything import an_event_with
from tests.schemas.contracts import FOLDER, committed, resolved
from tests.traced import SENT

DOCUMENT: dict[str, Any] = yaml.safe_load((FOLDER / "asyncapi.yaml").read_text(encoding="utf-8"))
CHANNELS = DOCUMENT["channels"]
MESSAGES = DOCUMENT["components"]["messages"]
OPERATIONS = DOCUMENT["operations"]


def test_the_document_conforms_to_asyncapi_3() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= DOCUMENT["info"].keys()
    assert DOCUMENT.keys() <= {
        "asyncapi", "id", "info", "servers", "defaultContentType", "channels", "operations", "components",
    }  # fmt: skip
    assert all({"host", "protocol"} <= server.keys() for server in DOCUMENT["servers"].values())


def test_every_reference_resolves_in_the_document() -> None:
    references = _references(DOCUMENT)
    assert references
    for reference in references:
        assert reference.startswith("#/"), "the document refers to no other file"
        assert _resolve(reference) is not None


def test_every_type_is_one_message_whose_payload_is_its_contract() -> None:
    assert MESSAGES.keys() == ALL_TYPES.keys()
    for name, message in MESSAGES.items():
        assert message["name"] == name
        contract = resolved(name)
        assert message["title"] == contract["title"]
        payload = _resolve(message["payload"]["$ref"])
        assert _local(payload) == {key: value for key, value in contract.items() if not key.startswith("$")}


def test_the_schemas_of_the_document_are_the_definitions() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    shared = committed("definitions")["$defs"]
    assert {name: _local(schemas[name]) for name in shared} == shared


def test_every_message_belongs_to_a_channel() -> None:
    carried = {
        _resolve(message["$ref"])["name"] for channel in CHANNELS.values() for message in channel["messages"].values()
    }
    assert carried == set(ALL_TYPES)


def test_the_channels_are_the_declared_topics() -> None:
    assert CHANNELS
    declared = {topic.name: topic for topic in topics.declared([HUB])}
    assert {channel["address"] for channel in CHANNELS.values()} == set(declared)
    for channel in CHANNELS.values():
        topic, kafka = declared[channel["address"]], channel["bindings"]["kafka"]
        assert kafka["partitions"] == topic.partitions
        assert kafka["topicConfiguration"]["retention.ms"] == topic.retention_ms
        assert kafka["topicConfiguration"]["max.message.bytes"] == topic.max_message_bytes


def test_an_address_names_exactly_the_described_parameters() -> None:
    assert CHANNELS
    for channel in CHANNELS.values():
        assert ("{hub}" in channel["address"]) == ("hub" in channel.get("parameters", {}))
        assert channel["address"].count("{") == len(channel.get("parameters", {}))


def test_every_operation_belongs_to_one_service_and_one_channel() -> None:
    assert OPERATIONS
    for name, operation in OPERATIONS.items():
        service, action, channel = name.split(".")
        assert operation["action"] == action in {"send", "receive"}
        assert operation["channel"] == {"$ref": f"#/channels/{channel}"}
        assert operation["tags"] == [{"name": service}]


def test_every_channel_has_a_sender_and_a_receiver_or_is_external() -> None:
    assert TRAFFIC
    for traffic in TRAFFIC:
        ours = {name for name in OPERATIONS if name.endswith(f".{traffic.channel}")}
        assert ours, f"nobody of ours sends or receives on {traffic.channel}"
        assert len(ours) == 2 or traffic.channel in {"hubCase", "hubCommand", "feedbackEvent"}


@pytest.mark.parametrize("data_type", ALL_TYPES.values(), ids=lambda data: data.__name__)
@settings(max_examples=3, deadline=None)
@given(st.data())
def test_the_headers_that_are_sent_are_those_described(data_type: type[EventData], data: st.DataObject) -> None:
    event = data.draw(an_event_with(data_type.model_construct()))
    described = _inlined(MESSAGES[data_type.TYPE]["headers"])
    sent = headers_of(event) | {"traceparent": SENT}
    assert [error.json_path for error in _validator(described).iter_errors(sent)] == []
    assert sent.keys() <= described["allOf"][0]["properties"].keys()


def test_a_message_with_the_headers_of_another_type_is_not_valid() -> None:
    one, other = sorted(ALL_TYPES)[:2]
    described = _inlined(MESSAGES[one]["headers"])
    headers = dict.fromkeys(described["allOf"][0]["required"], "x") | {"ce_type": other}
    assert "$.ce_type" in [error.json_path for error in _validator(described).iter_errors(headers)]


def test_the_key_of_every_record_is_the_person_key() -> None:
    assert MESSAGES
    for message in MESSAGES.values():
        key = message["bindings"]["kafka"]["key"]
        assert (
            _resolve(key["$ref"])
            == DOCUMENT["components"]["schemas"]["cloudEventHeaders"]["properties"]["ce_partitionkey"]
        )


def _validator(schema: Any) -> Any:
    return Draft202012Validator(schema, format_checker=FormatChecker())


def _inlined(node: Any) -> Any:
    """The document's own references followed."""
    if isinstance(node, dict) and node.get("$ref", "").startswith("#/"):
        return _inlined(_resolve(node["$ref"]))
    if isinstance(node, dict):
        return {key: _inlined(value) for key, value in node.items()}
    return [_inlined(item) for item in node] if isinstance(node, list) else node


def _resolve(reference: str) -> Any:
    found: Any = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


def _local(schema: Any) -> Any:
    """With references as the files of the contracts have them."""
    return json.loads(json.dumps(schema).replace("#/components/schemas/", "#/$defs/"))


def _references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [reference for item in node for reference in _references(item)]
    if not isinstance(node, dict):
        return []
    return [value for key, value in node.items() if key == "$ref"] + _references(list(node.values()))
