"""The AsyncAPI 3.0 document of the hub: topics, senders and receivers, CloudEvents headers, payloads, keys.

Generated from schemas/, not by FastStream: our subscribers receive raw bytes and decode them themselves (a record
that cannot be decoded becomes a dead letter), so FastStream's own document shows every payload as a binary string,
has neither headers nor key, and names one channel for each subscriber of each hub.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.docgen.contracts import examples
from infra.docgen.contracts.json_schemas import Described, Schema, bundle, with_references
from schemas import topics
from schemas.events import CASE_EVENTS, COMMANDS, FEEDBACK_EVENTS, HUB_EVENTS, REFERRAL_EVENTS, Event, EventData

HUB = "{hub}"
KAFKA_BINDING = "0.5.0"
JSON = "application/json"
PARTITION_KEY = "ce_partitionkey"
SCHEMAS = "#/components/schemas/"


@dataclass(frozen=True)
class Traffic:
    """The types on one topic, or on one topic of each hub, and the service that sends or receives them."""

    channel: str
    topic: str
    types: Mapping[str, type[EventData]]
    sends: str | None
    receives: str | None
    note: str


TRAFFIC = (
    Traffic(
        "referralEvent", topics.REFERRAL_EVENT, REFERRAL_EVENTS, "intake", "router",
        "Internal. The router itself sends discharge-overdue here.",
    ),
    Traffic("caseEvent", topics.CASE_EVENT, CASE_EVENTS, "router", "notifier", "Internal."),
    Traffic("feedbackEvent", topics.FEEDBACK_EVENT, FEEDBACK_EVENTS, "notifier", None, "Internal, for operators."),
    Traffic("hubCase", topics.hub_case(HUB), HUB_EVENTS, "router", None, "The hub's own system receives here."),
    Traffic(
        "hubCommand", topics.hub_command(HUB), COMMANDS, None, "router",
        "The hub's own system sends here: a client that may write to this topic acts as that hub.",
    ),
)  # fmt: skip


def document() -> Schema:
    """Return the whole document, which does not refer to other files."""
    return {
        "asyncapi": "3.0.0",
        "id": "urn:lightbulb:referral-hub",
        "info": _info(),
        "defaultContentType": JSON,
        "servers": {"kafka": _server()},
        "channels": {traffic.channel: _channel(traffic, _declared()[traffic.topic]) for traffic in TRAFFIC},
        "operations": {name: operation for traffic in TRAFFIC for name, operation in _operations(traffic).items()},
        "components": _components(),
    }


def _components() -> Schema:
    return {
        "messages": {name: _message(name, data) for name, data in _every_type().items()},
        "schemas": {"cloudEventHeaders": headers(), **with_references(bundle()["$defs"], SCHEMAS)},
        "correlationIds": {"conversation": _correlation()},
    }


def headers() -> Schema:
    """Return the schema of Kafka record headers in CloudEvents 1.0 binary mode: the attributes of `Event`, as text."""
    fields = Event.model_json_schema(schema_generator=Described)
    attributes = {name: schema for name, schema in fields["properties"].items() if name != "data"}
    fixed = {
        "ce_specversion": {"const": "1.0", "description": "Version of CloudEvents"},
        "ce_type": {"type": "string", "description": "Type of the event or command, with its version"},
        "content-type": {"const": JSON, "description": "How the value is encoded: JSON in UTF-8"},
    }
    context = {
        "type": "string",
        "pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
        "description": "W3C Trace Context, if the sender traces",
    }
    return {
        "type": "object",
        "description": "CloudEvents 1.0 in Kafka binary mode. Values are UTF-8; an absent attribute has no header.",
        "required": [header(name) for name in fields["required"] if name != "data"] + list(fixed),
        "properties": {
            **{header(name): _as_text(schema) for name, schema in attributes.items()},
            **fixed,
            "traceparent": context,
        },
    }


def header(attribute: str) -> str:
    """Return the header of an attribute of Event. The person key is `partitionkey` of the Partitioning extension."""
    return PARTITION_KEY if attribute == "person_key" else "ce_" + attribute.replace("_", "")


def topics_and_types() -> dict[str, Schema]:
    """Return the properties of each topic that readers rely on, for the baseline."""
    return {traffic.topic: _promise(traffic, _declared()[traffic.topic]) for traffic in TRAFFIC}


def _promise(traffic: Traffic, topic: topics.Topic) -> Schema:
    return {
        "partitions": topic.partitions,
        "retention_ms": topic.retention_ms,
        "max_message_bytes": topic.max_message_bytes,
        "types": sorted(traffic.types),
    }


def _declared() -> dict[str, topics.Topic]:
    return {topic.name: topic for topic in topics.declared([HUB])}


def _every_type() -> dict[str, type[EventData]]:
    return {name: data for traffic in TRAFFIC for name, data in sorted(traffic.types.items())}


def _info() -> Schema:
    return {
        "title": "Lightbulb referral hub",
        "version": "1.0.0",
        "description": (
            "Events and commands of the referral hub, from its point of view: a hub's own system receives the messages"
            " of `send` operations, and sends those of `receive` operations. Delivery is at least once and in order for"
            " each record key: drop duplicates by ce_source and ce_id. Ignore unknown fields and types, and keep unknown"
            " codes as they are. Each type carries its version; an incompatible change is a new type."
        ),
        "license": {"name": "MIT"},
    }


def _server() -> Schema:
    return {
        "host": "{bootstrap}",
        "protocol": "kafka",
        "description": "Apache Kafka of the installation; `lightbulb up` writes its address to addresses.json",
        "variables": {"bootstrap": {"description": "Host and port", "default": "127.0.0.1:9092"}},
    }


def _channel(traffic: Traffic, topic: topics.Topic) -> Schema:
    channel: Schema = {
        "address": topic.name,
        "description": f"{topic.purpose.replace(HUB, 'the hub')}. {traffic.note}",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in sorted(traffic.types)},
        "bindings": {"kafka": _topic_binding(topic)},
    }
    if HUB in topic.name:
        channel["parameters"] = {"hub": {"description": "Identifier of the hub, as in infra/reference_data/hubs.yaml"}}
    return channel


def _topic_binding(topic: topics.Topic) -> Schema:
    return {
        "partitions": topic.partitions,
        "topicConfiguration": {"retention.ms": topic.retention_ms, "max.message.bytes": topic.max_message_bytes},
        "bindingVersion": KAFKA_BINDING,
    }


def _operations(traffic: Traffic) -> dict[str, Schema]:
    parts = (("send", traffic.sends), ("receive", traffic.receives))
    return {
        f"{service}.{action}.{traffic.channel}": _operation(action, service, traffic)
        for action, service in parts
        if service
    }


def _operation(action: str, service: str, traffic: Traffic) -> Schema:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{traffic.channel}"},
        "summary": f"{service} {action}s on {traffic.topic}",
        "tags": [{"name": service}],
    }


def _message(name: str, data: type[EventData]) -> Schema:
    return {
        "name": name,
        "title": data.__name__,
        "summary": (data.__doc__ or "").strip().splitlines()[0],
        "contentType": JSON,
        "correlationId": {"$ref": "#/components/correlationIds/conversation"},
        "headers": _message_headers(name),
        "payload": with_references(bundle()["contracts"][name], SCHEMAS),
        "examples": [_example(name)],
        "bindings": {"kafka": {"key": _key(), "bindingVersion": KAFKA_BINDING}},
    }


def _example(name: str) -> Schema:
    example = examples.messages()[name]
    summary = f"On {example['topic']}, with the key {example['key']}"
    return {"name": name.split(".")[3], "summary": summary, "headers": example["headers"], "payload": example["value"]}


def _message_headers(name: str) -> Schema:
    of_this_type = {"properties": {"ce_type": {"const": name}}}
    return {"type": "object", "allOf": [{"$ref": f"{SCHEMAS}cloudEventHeaders"}, of_this_type]}


def _key() -> Schema:
    return {"$ref": f"{SCHEMAS}cloudEventHeaders/properties/{PARTITION_KEY}"}


def _correlation() -> Schema:
    return {
        "description": "The same from the sender's request to the feedback; a conversation, not unique to a referral",
        "location": "$message.header#/ce_correlationid",
    }


def _as_text(schema: Schema) -> Schema:
    """Return the schema of a header: text, and absent instead of null."""
    stated: dict[str, Any] = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    for choice in schema.get("anyOf", ()):
        if choice["type"] != "null":
            stated |= choice
    return {**stated, "type": "string", "pattern": "^[0-9]+$"} if stated.get("type") == "integer" else stated
