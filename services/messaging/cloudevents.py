"""CloudEvents 1.0 on Kafka, binary mode: attributes as `ce_` headers, data as the value, the person key as the record key.

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
    """A Kafka record as it came: bytes, and where it was read."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


class Undecodable(Exception):
    """A record that is no event of ours. `reason` names places and kinds, never a value."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def headers_of(event: Event) -> dict[str, str]:
    """The CloudEvents attributes as Kafka headers; no personal data."""
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
    """The data as compact JSON; what is not known is left out."""
    return event.data.__pydantic_serializer__.to_json(event.data, exclude_none=True)


def decode(record: KafkaRecord, types: Mapping[str, type[EventData]]) -> Event:
    """The event in a record; raises Undecodable where it is none of `types`."""
    headers = _text(record.headers)
    data_type = types.get(headers.get("ce_type", ""))
    if data_type is None:
        raise Undecodable("ce_type: missing, or not a type that belongs on this topic")
    try:
        return Event(
            id=headers.get("ce_id", ""),
            source=headers.get("ce_source", ""),
            time=headers.get("ce_time", ""),
            person_key=PersonKey(_key(record)),
            correlation_id=headers.get("ce_correlationid") or headers.get("ce_id", ""),
            causation_id=headers.get("ce_causationid"),
            sequence=headers.get("ce_sequence"),
            district=headers.get("ce_district"),
            data=data_type.model_validate_json(record.value),
        )
    except ValidationError as error:
        raise Undecodable(error_locations(error)) from None


def unknown_fields(record: KafkaRecord, data_type: type[EventData]) -> tuple[str, ...]:
    """Return the paths of the fields in a record that its type does not have, such as ended.0.note; never a value."""
    try:
        data_type.model_validate_json(record.value, extra="forbid")
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False, include_context=False)
        return tuple(_path(fault["loc"]) for fault in faults if fault["type"] == "extra_forbidden")
    return ()


_PLAIN_NAME = re.compile(r"[a-z][A-Za-z_]{0,39}")
"""Names of unknown fields that are repeated: nobody's name or number looks like this by accident."""


def _path(loc: tuple[int | str, ...]) -> str:
    *above, name = map(str, loc)
    return ".".join((*above, name if _PLAIN_NAME.fullmatch(name) else "(another name)"))


def error_locations(error: ValidationError) -> str:
    """Where a model did not fit and how, without the values: 'referral.person.birth_date: date_parsing'."""
    issues = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{'.'.join(str(part) for part in issue['loc'])}: {issue['type']}" for issue in issues[:5])


def _text(headers: tuple[tuple[str, bytes], ...]) -> dict[str, str]:
    try:
        return {name: value.decode() for name, value in headers if value is not None}
    except UnicodeDecodeError:
        raise Undecodable("headers: not UTF-8") from None


def _key(record: KafkaRecord) -> str:
    try:
        return (record.key or b"").decode("ascii")
    except UnicodeDecodeError:
        raise Undecodable("key: not ASCII") from None
