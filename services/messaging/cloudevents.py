"""CloudEvents 1.0 on Kafka, binary mode: `ce_` headers, data as the value, the person key as the record key.

Source: CloudEvents Kafka Protocol Binding 1.0.2, section 3.2.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from schemas.events import Event, EventData
from schemas.model import PersonKey


@dataclass(frozen=True, slots=True)
class KafkaRecord:
    """A Kafka record as received: its bytes, topic, partition and offset."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


class Undecodable(Exception):
    """A record that is not one of our events.

    `issues`: header or field and kind of each fault, at most ISSUES, such as `visit_at: missing`; never a value.
    """

    def __init__(self, *issues: str) -> None:
        self.issues = issues[:ISSUES]
        self.reason = "; ".join(issues[:5])
        super().__init__(self.reason)


ISSUES = 20


def headers_of(event: Event) -> dict[str, str]:
    """Return the CloudEvents attributes as Kafka headers; they hold no personal data."""
    headers = {
        "ce_specversion": "1.0",
        "ce_id": event.id,
        "ce_type": event.data.TYPE,
        "ce_source": event.source,
        "ce_time": event.time.isoformat(),
        "ce_partitionkey": event.person_key,
        "ce_correlationid": event.correlation_id,
        "content-type": "application/json",
    }
    if event.causation_id is not None:
        headers["ce_causationid"] = event.causation_id
    if event.sequence is not None:
        headers["ce_sequence"] = str(event.sequence)
    if event.district is not None:
        headers["ce_district"] = event.district
    return headers


def value_of(event: Event) -> bytes:
    """Return the data as compact JSON, without fields that are None."""
    return event.data.__pydantic_serializer__.to_json(event.data, exclude_none=True)


def decode(record: KafkaRecord, types: Mapping[str, type[EventData]]) -> Event:
    """Return the event in a record. Raise Undecodable if it is not one of `types`."""
    headers = _text(record.headers)
    data_type = types.get(headers.get("ce_type", ""))
    if data_type is None:
        raise Undecodable("ce_type: missing, or not an event type of this topic")
    try:
        data = data_type.model_validate_json(record.value)
    except ValidationError as error:
        raise Undecodable(*_header_errors(record, headers), *_errors(error)) from None
    try:
        return _event(record, headers, data)
    except ValidationError:
        raise Undecodable(*_header_errors(record, headers)) from None


def _event(record: KafkaRecord, headers: Mapping[str, str], data: EventData) -> Event:
    return Event(
        id=headers.get("ce_id", ""),
        source=headers.get("ce_source", ""),
        time=headers.get("ce_time", ""),
        person_key=PersonKey(_key(record)),
        correlation_id=headers.get("ce_correlationid") or headers.get("ce_id", ""),
        causation_id=headers.get("ce_causationid"),
        sequence=headers.get("ce_sequence"),
        district=headers.get("ce_district"),
        data=data,
    )


def _header_errors(record: KafkaRecord, headers: Mapping[str, str]) -> list[str]:
    """Return the faults in the headers: a header that has to be there is missing if it is empty."""
    try:
        _event(record, headers, EventData())
    except ValidationError as error:
        issues = error.errors(include_input=False, include_url=False, include_context=False)
        named = [(f"ce_{str(issue['loc'][0]).replace('_', '')}", issue["type"]) for issue in issues]
        return [f"{name}: {kind if headers.get(name) else 'missing'}" for name, kind in named if name in _ATTRIBUTES]
    return []


_ATTRIBUTES = ("ce_id", "ce_source", "ce_time", "ce_correlationid", "ce_causationid", "ce_sequence", "ce_district")


def unknown_fields(record: KafkaRecord, data_type: type[EventData]) -> tuple[str, ...]:
    """Return the paths of fields in a record that its type does not define, such as ended.0.note; never a value."""
    try:
        data_type.model_validate_json(record.value, extra="forbid")
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False, include_context=False)
        return tuple(_path(fault["loc"]) for fault in faults if fault["type"] == "extra_forbidden")
    return ()


_PLAIN_NAME = re.compile(r"[a-z][A-Za-z_]{0,39}")
"""Unknown field names that are safe to repeat: a capitalised name or a number does not match."""


def _path(loc: tuple[int | str, ...]) -> str:
    *above, name = map(str, loc)
    return ".".join((*above, name if _PLAIN_NAME.fullmatch(name) else "(another name)"))


def _errors(error: ValidationError) -> list[str]:
    """Return the places and types of validation errors, such as 'person.birth_date: date_parsing', without values."""
    issues = error.errors(include_input=False, include_url=False, include_context=False)
    return [f"{'.'.join(map(str, issue['loc'])) or 'value'}: {issue['type']}" for issue in issues[:ISSUES]]


def _text(headers: tuple[tuple[str, bytes], ...]) -> dict[str, str]:
    """Return the headers that are ours; other headers may hold any bytes."""
    attributes = {}
    for name, value in headers:
        if name.startswith(OWN_HEADERS) and value is not None:
            try:
                attributes[name] = value.decode()
            except UnicodeDecodeError:
                raise Undecodable(f"{_attribute(name)}: not UTF-8") from None
            if "\x00" in attributes[name]:
                raise Undecodable(f"{_attribute(name)}: contains NUL")
    return attributes


OWN_HEADERS = ("ce_", "content-type")


def _attribute(name: str) -> str:
    return name if name in (*_ATTRIBUTES, "ce_type") else "headers"


def _key(record: KafkaRecord) -> str:
    try:
        return (record.key or b"").decode("ascii")
    except UnicodeDecodeError:
        raise Undecodable("key: not ASCII") from None
