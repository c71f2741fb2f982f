"""Only one module of the harness reads the services' tables, and its own decoder opens what they store compressed."""

import re
from pathlib import Path

import pytest

from services.messaging import packets
from services.messaging.packets import Message, Packet
from tests.chaos.harness import db_probe, packet_decoder

TABLE = re.compile(r"\b(from|join|into|update|on)\s+(intake|router|notifier|\{\w+\})\.[\"a-z]", re.IGNORECASE)


def test_only_db_probe_holds_sql_on_the_services_tables() -> None:
    found = {file.name: len(TABLE.findall(file.read_text())) for file in Path(__file__).parents[1].rglob("*.py")}
    assert found.pop(Path(db_probe.__file__).name) > 20
    assert {name for name, times in found.items() if times} == set()


MESSAGES = [
    Message("case.event", "a key", (("ce_id", b"e1"), ("ce_sequence", b"1")), b"{}" * size) for size in (1, 9999)
]


def test_the_harness_opens_packets_as_the_services_do() -> None:
    content = packets.encode(Packet(MESSAGES, [(b"a body", b""), (b"",)]))
    found = packet_decoder.decode(content)
    assert [(one.target, one.person_key, tuple(one.headers.items()), one.value) for one in found.messages] == MESSAGES
    assert [one.event_id for one in found.messages] == ["e1", "e1"]
    assert found.contents == [[b"a body", b""], [b""]]


def test_an_altered_packet_is_refused() -> None:
    content = packets.encode(Packet(MESSAGES, []))
    with pytest.raises(ValueError, match="no frame"):
        packet_decoder.decode(content[:-1] + b"x")


def test_the_decoder_imports_nothing_of_the_services() -> None:
    assert "services" not in Path(packet_decoder.__file__).read_text().replace("the services", "")
