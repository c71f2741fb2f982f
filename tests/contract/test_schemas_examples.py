"""The examples of the contracts: one for each type, valid, and decided as the rules of commands say."""

import json
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]  # ships no types

from infra.docgen.contracts import asyncapi, examples, files
from schemas.events import ALL_TYPES, HubCommand
from services.messaging.cloudevents import KafkaRecord, decode
from services.router.decide.command_rules import RULES
from services.router.decide.lifecycle import EmittedEvent, EmittedRejection
from tests.schemas.contracts import FOLDER, resolved

COMMITTED: dict[str, Any] = json.loads((FOLDER / files.EXAMPLES).read_text(encoding="utf-8"))
every_example = pytest.mark.parametrize("name", ALL_TYPES)
every_command = pytest.mark.parametrize("command", get_args(HubCommand), ids=lambda command: command.__name__)


def test_every_type_has_an_example_and_no_other() -> None:
    assert set(COMMITTED) == set(ALL_TYPES)


@every_example
def test_an_example_is_valid_by_its_published_schema_and_headers(name: str) -> None:
    message = COMMITTED[name]
    checked = {"format_checker": FormatChecker()}
    assert list(Draft202012Validator(resolved(name), **checked).iter_errors(message["value"])) == []
    assert list(Draft202012Validator(asyncapi.headers(), **checked).iter_errors(message["headers"])) == []
    assert message["headers"]["ce_type"] == name


@every_example
def test_a_service_reads_an_example_as_a_record(name: str) -> None:
    message = COMMITTED[name]
    headers = tuple((header, value.encode()) for header, value in message["headers"].items())
    value = json.dumps(message["value"]).encode()
    record = KafkaRecord(message["topic"], 0, 0, message["key"].encode(), value, headers)
    event = decode(record, ALL_TYPES)
    assert event.type == name


def test_the_asyncapi_document_has_every_example() -> None:
    shown = {name: message["examples"] for name, message in asyncapi.document()["components"]["messages"].items()}
    assert {name: one["payload"] for name, (one,) in shown.items()} == {n: m["value"] for n, m in COMMITTED.items()}


@every_command
def test_an_example_of_a_command_is_applied_and_an_older_version_refused_as_its_rule_says(command: Any) -> None:
    sent = examples.commands()[command]
    first = next(one for one in sent.decided(examples.context()).emitted if getattr(one, "hubs", True))
    assert isinstance(first, EmittedEvent)
    assert isinstance(first.data, RULES[command].events)
    assert COMMITTED[command.TYPE]["value"] == json.loads(sent.command.model_dump_json(exclude_none=True))

    older = sent.command.model_copy(update={"expected_version": sent.command.expected_version - 1})
    answer = examples.SentCommand(sent.state, sent.hub, older).decided(examples.context()).emitted[0]
    stale = isinstance(answer, EmittedRejection) and answer.data.reason == "stale"
    assert stale == RULES[command].needs_latest


@every_command
def test_an_example_of_a_command_is_refused_to_a_hub_without_the_case(command: Any) -> None:
    sent = examples.commands()[command]
    (refused,) = examples.SentCommand(sent.state, "harborough", sent.command).decided(examples.context()).emitted
    assert isinstance(refused, EmittedRejection)
    assert refused.data.reason == "unknown-case"
