"""A record on a hub's own topic that is not a valid command is refused with its places: nothing waits for it, whatever it holds."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.events import COMMANDS, Accept, Book, Command, CommandRefused, Hold, HubCommand
from services.messaging.cloudevents import KafkaRecord
from services.router.consumer import Unreadable, read_record
from services.router.store import Input
from tests.builders.events import KEY, NOW, a_command, a_record, broken, cancelled, received, with_header
from tests.builders.referrals import GP, WARD, a_referral, a_ward_referral, keys
from tests.router.stored import apply, case_id, events, rows, sent

ENDED = [{"reference": GP, "needs": ["housing-support"]}]
DONE = [{"reference": GP, "service": "handyperson", "kind": "minor-adaptation", "done_on": "2026-11-23"}]
FILLED: dict[str, Any] = {
    "case_id": "a-case",
    "person_key": KEY,
    "expected_version": 1,
    "by_role": "coordinator",
    "to_hub": "melton",
    "refer_to": "melton",
    "reference": GP,
    "needs": ["housing-support"],
    "until": "2026-12-01",
    "visit_at": "2026-12-01T10:00:00Z",
    "no_contact_on": "2026-11-23",
    "ended": ENDED,
    "findings": [{"reference": GP, "service": "handyperson"}],
    "interventions": DONE,
    "scores": [],
    "dfg": None,
    "reason": "other",
}
WRONG = {"WRONG": "CANARY"}
"""Not a value of any field."""


def of_data(command: type[Command], data: Any) -> KafkaRecord:
    return broken(of_type(command.TYPE), json.dumps(data).encode())


def of_type(kind: str) -> KafkaRecord:
    return with_header(a_command("blaby", Accept, "a-case"), "ce_type", kind.encode())


def refusal(record: KafkaRecord) -> CommandRefused:
    read = read_record(record)
    assert isinstance(read, Input), read
    assert isinstance(read.event.data, CommandRefused)
    assert "CANARY" not in read.event.model_dump_json()
    return read.event.data


@pytest.mark.parametrize("command", get_args(HubCommand), ids=lambda one: one.__name__)
def test_each_field_of_a_wrong_type_is_named(command: type[Command]) -> None:
    filled = {name: FILLED[name] for name in command.model_fields}
    for name in filled:
        record = dataclasses.replace(of_data(command, {**filled, name: WRONG}), key=KEY.encode())
        refused = refusal(record)
        assert [place for place in refused.places if place.startswith((f"{name}:", f"{name}."))], (name, refused)
        assert (refused.reason, refused.command, refused.person_key) == ("invalid", command.TYPE, KEY)
        assert refused.case_id == ("a-case" if name != "case_id" else None)
        assert refused.command_id is not None


@pytest.mark.parametrize("command", get_args(HubCommand), ids=lambda one: one.__name__)
def test_each_missing_field_is_named(command: type[Command]) -> None:
    required = [name for name, field in command.model_fields.items() if field.is_required()]
    refused = refusal(of_data(command, {}))

    assert refused.places == tuple(f"{name}: missing" for name in required)


@pytest.mark.parametrize("name", ["ce_id", "ce_source", "ce_time"])
def test_a_missing_or_empty_header_is_named(name: str) -> None:
    good = a_command("blaby", Accept, "a-case")
    without = dataclasses.replace(good, headers=tuple(one for one in good.headers if one[0] != name))
    for record in (without, with_header(good, name, b"")):
        assert refusal(record).places == (f"{name}: missing",)


def test_faults_of_headers_and_fields_are_named_together_and_are_few() -> None:
    many = broken(a_command("blaby", Accept, "a-case"), json.dumps({"ended": [1] * 50, "person_key": KEY}).encode())
    refused = refusal(with_header(with_header(many, "ce_type", COMMANDS_WITH_ENDED), "ce_time", b"CANARY"))

    assert refused.places[:4] == (
        "ce_time: datetime_from_date_parsing",
        "case_id: missing",
        "expected_version: missing",
        "ended.0: model_type",
    )
    assert len(refused.places) == 20


COMMANDS_WITH_ENDED = next(kind for kind, data in COMMANDS.items() if "ended" in data.model_fields).encode()


def test_a_record_without_a_person_key_cannot_be_answered() -> None:
    read = read_record(dataclasses.replace(broken(a_command("blaby", Accept, "a-case"), b"{}"), key=None))

    assert isinstance(read, Unreadable)
    assert (read.person_key, read.message_group.startswith("hub.blaby.command/0/")) == ("unknown", True)


def invalid_commands(case: str) -> Iterator[KafkaRecord]:
    """Records that a hub may write by mistake or on purpose, each under the person key of the case."""

    def good() -> KafkaRecord:
        return a_command("blaby", Book, case, visit_at=NOW)

    for name in ("ce_id", "ce_source", "ce_time", "ce_type"):
        record = good()
        yield dataclasses.replace(record, headers=tuple(one for one in record.headers if one[0] != name))
        for value in (b"", b"\xff", b"nul\x00", b"x" * 400, None):
            yield with_header(record, name, value)  # type: ignore[arg-type]  # Kafka has null headers
    yield dataclasses.replace(good(), headers=())
    for name, value in (("ce_sequence", b"one"), ("ce_district", b"one"), ("ce_causationid", b"x" * 400)):
        record = good()
        yield dataclasses.replace(record, headers=(*record.headers, (name, value)))
    shapes = (b"", b"\xff", b"no json", b"null", b"5", b'"text"', b"[]", b"{}", b"[" * 200_000, b'{"a":' * 50_000)
    yield from (broken(good(), value) for value in shapes)
    of_case = json.dumps({"case_id": case, "person_key": KEY}).encode()
    yield broken(good(), of_case)
    yield broken(good(), of_case[:-1] + b',"visit_at":"\\u0000"}')
    yield broken(good(), of_case[:-1] + b',"by_role":"\x00"}')
    yield broken(good(), of_case[:-1] + b',"by_role":"\\ud800"}')
    yield broken(good(), of_case[:-1] + b',"expected_version":' + b"9" * 5_000 + b"}")
    yield broken(good(), good().value[:-1] + b',"x":"' + b"x" * 1_000_000 + b'"}')
    yield broken(good(), good().value.replace(case.encode(), b"c" * 300))
    yield broken(good(), good().value.replace(case.encode(), b"\xe2\x80\xae"))
    yield dataclasses.replace(broken(good(), of_case), key=None)
    yield dataclasses.replace(broken(good(), of_case), key=b"\xff")


async def test_whatever_a_hub_writes_later_commands_of_it_and_of_others_are_applied(engine: AsyncEngine) -> None:
    """Each invalid record is answered once, also if it is delivered again, and nothing becomes a dead letter."""
    other = keys(1)[0]
    ward = a_record(received(WARD, a_ward_referral()), key=other)
    await apply(engine, a_record(received(GP, a_referral())), ward)
    case, of_ward = await case_id(engine), await case_id(engine, other)
    bad = list(invalid_commands(case))
    batch = []
    for record in bad:
        batch += [record, a_command("blaby", Hold, case, reason="other")]
        batch += [a_command("hospital-housing", Hold, of_ward, reason="other", key=other)]
    await apply(engine, *batch)
    found = [
        len(await sent(engine, kind="command-refused", target="hub.blaby.case")),
        (await events(engine)).count("held"),
        (await events(engine, other)).count("held"),
    ]
    await apply(engine, *batch)

    assert await rows(engine, "select reason, message_group from router.dead_letter") == []
    assert found == [len(bad)] * 3
    assert len(await sent(engine, kind="command-refused", target="hub.blaby.case")) == len(bad)


async def test_a_hubs_broken_records_stop_neither_another_hub_nor_a_sender(engine: AsyncEngine) -> None:
    await apply(engine, a_record(received(GP, a_referral())))
    case = await case_id(engine)
    broken_ones = [
        broken(a_command("melton", Accept, case), json.dumps(value).encode())
        for value in ({"case_id": case, "person_key": KEY, "expected_version": "no"}, {"reference": GP})
    ]
    nobodys = dataclasses.replace(broken_ones[1], key=b"nobody")
    await apply(engine, *broken_ones, nobodys, a_command("blaby", Accept, case), a_record(cancelled(GP)))

    assert await events(engine) == ["opened", "accepted", "cancelled"]
    assert await rows(engine, "select person_key, topic from router.dead_letter") == [("unknown", "hub.melton.command")]


async def test_a_refused_command_under_another_persons_key_changes_nothing_there(engine: AsyncEngine) -> None:
    other = keys(1)[0]
    await apply(engine, a_record(received(GP, a_referral())), a_record(received(WARD, a_referral()), key=other))
    bad = a_command("blaby", Hold, await case_id(engine), reason="other", key=other)
    await apply(engine, broken(bad, bad.value.replace(b'"other"', b'"no such reason"')))
    await apply(engine, a_command("blaby", Accept, await case_id(engine, other), key=other))

    assert await events(engine, other) == ["opened", "accepted"]
    assert await events(engine) == ["opened"]


async def test_a_corrected_command_with_the_same_id_is_applied(engine: AsyncEngine) -> None:
    await apply(engine, a_record(received(GP, a_referral())))
    good = a_command("blaby", Accept, await case_id(engine), id="the-same")
    await apply(engine, broken(good, good.value.replace(b":1", b":0")), good)

    assert await events(engine) == ["opened", "accepted"]
