"""A developer can send from the OpenAPI document alone: its examples are accepted, its schemas say what the server does."""

import copy
import json
from collections.abc import Iterator
from importlib import import_module
from typing import Any
from uuid import uuid4

import pytest
from jsonschema import Draft202012Validator

from services.intake.http.openapi import examples
from services.intake.translators.translator import Translated
from tests.intake.running import InProcess, Reply

PATH = "/fhir/$process-message"
SENDER, ODS = "gp-alder-lane", "C82991"


@pytest.fixture
async def document(intake: InProcess) -> Any:
    return (await intake.get("/openapi.json")).json()


def resolved(document: Any, part: Any) -> Any:
    """Return a part of the document, followed if it is a reference into it."""
    while isinstance(part, dict) and "$ref" in part:
        here = document
        for name in part["$ref"].removeprefix("#/").split("/"):
            here = here[name]
        part = here
    return part


def example(document: Any, name: str) -> Any:
    """Return the message of an example as a developer sends it: with their own ODS code."""
    operation = document["paths"][PATH]["post"]
    found = resolved(document, operation["requestBody"]["content"]["application/fhir+json"]["examples"][name])
    return json.loads(json.dumps(found["value"]).replace("EXAMPLE", ODS))


def headers(document: Any, *, required: bool = True) -> dict[str, str]:
    """Return the headers that are required, or those that are not, with the values of their examples."""
    parameters = [resolved(document, one) for one in document["paths"][PATH]["post"]["parameters"]]
    return {one["name"]: one["example"] for one in parameters if one["required"] is required and "example" in one}


async def send(intake: InProcess, document: Any, message: Any) -> Reply:
    """Send a message with the required headers, and a request id of its own."""
    sent = headers(document) | {"X-Request-Id": str(uuid4()), "content-type": "application/fhir+json"}
    return await intake.call("POST", PATH, json.dumps(message).encode(), SENDER, sent)


def validator(document: Any, name: str) -> Draft202012Validator:
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    return Draft202012Validator(schema)


def resource(message: Any, kind: str) -> Any:
    return next(e["resource"] for e in message["entry"] if e["resource"]["resourceType"] == kind)


# ---- the examples ---------------------------------------------------------------------------------------------------


async def test_a_developer_sends_a_referral_its_update_and_its_cancel_from_the_document_alone(
    intake: InProcess, document: Any
) -> None:
    new = await send(intake, document, example(document, "new"))
    assert new.status == 200, new.body
    given = resource(resolved(document, document["components"]["examples"]["update"])["value"], "ServiceRequest")["id"]
    reference = resource(new.json(), "ServiceRequest")["id"]
    for name, status in {"update": "active", "cancel": "revoked"}.items():
        message = json.loads(json.dumps(example(document, name)).replace(given, reference))
        reply = await send(intake, document, message)
        assert (reply.status, resource(reply.json(), "ServiceRequest")["id"]) == (200, reference), name
        held = await intake.call("GET", f"/fhir/ServiceRequest/{reference}", b"", SENDER, headers(document))
        assert (held.status, held.json()["status"]) == (200, status)


async def test_each_header_is_required_if_the_document_says_so(intake: InProcess, document: Any) -> None:
    body, media_type = json.dumps(example(document, "new")).encode(), {"content-type": "application/fhir+json"}
    all_of_them = headers(document) | headers(document, required=False) | media_type
    assert len(all_of_them) == 7
    for name in headers(document):
        without_it = {one: value for one, value in all_of_them.items() if one != name}
        refused = await intake.call("POST", PATH, body, SENDER, without_it)
        assert (refused.status, f"header {name.lower()}" in refused.body.decode()) == (400, True)
    assert (await intake.call("POST", PATH, body, SENDER, all_of_them)).status == 200
    assert (await intake.call("POST", PATH, body, SENDER, headers(document) | media_type)).status == 409


@pytest.mark.parametrize("name", examples.REQUESTS)
async def test_an_example_of_a_message_matches_its_schema(document: Any, name: str) -> None:
    validator(document, "bars-message").validate(example(document, name))


async def test_every_example_of_a_response_is_fhir_and_matches_its_schema(document: Any) -> None:
    seen = set()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            for body in _bodies(operation) if method != "parameters" else ():
                for name, one in body.get("examples", {}).items():
                    value = resolved(document, one)["value"]
                    validator(document, body["schema"]["$ref"].rpartition("/")[2]).validate(value)
                    _assert_fhir(value)
                    seen.add((path, name))
    assert {name for _, name in seen} == document["components"]["examples"].keys() - set(examples.REQUESTS)


def _bodies(operation: Any) -> Iterator[Any]:
    for response in operation["responses"].values():
        yield from response.get("content", {}).values()


def _assert_fhir(value: Any) -> None:
    kind = value["resourceType"]
    getattr(import_module(f"fhir.resources.R4B.{kind.lower()}"), kind).model_validate(value)


async def test_the_example_of_a_duplicate_is_what_the_server_answers(intake: InProcess, document: Any) -> None:
    message = example(document, "new")
    await send(intake, document, message)
    again = await intake.call(
        "POST",
        PATH,
        json.dumps(message).encode(),
        SENDER,
        headers(document) | {"content-type": "application/fhir+json"},
    )
    shown = resolved(document, document["components"]["examples"]["duplicate"])["value"]
    assert again.status == 409
    assert again.json()["issue"][0]["code"] == shown["issue"][0]["code"] == "duplicate"


async def test_the_example_of_a_refusal_names_each_place(document: Any) -> None:
    shown = resolved(document, document["components"]["examples"]["refused"])["value"]
    assert len(shown["issue"]) == 2
    assert all(issue["expression"][0].startswith("Bundle.entry[") for issue in shown["issue"])


# ---- the schemas ----------------------------------------------------------------------------------------------------


def parts(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of each element of a message."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inside:
        yield (*path, name)
        yield from parts(one, (*path, name))


def without(message: Any, path: tuple[str | int, ...]) -> Any:
    changed = copy.deepcopy(message)
    holder = changed
    for name in path[:-1]:
        holder = holder[name]
    del holder[path[-1]]
    return changed


@pytest.mark.slow
async def test_an_element_is_required_by_the_schema_if_the_server_requires_it(intake: InProcess, document: Any) -> None:
    """For each element of the example: the message without it is refused by both or by neither.

    A schema cannot require the entry to which a reference leads, nor the class of the Encounter to which the request refers;
    the server does.
    """
    message, described = example(document, "new"), validator(document, "bars-message")
    paths = list(parts(message))
    assert len(paths) > 200
    verdicts = {
        path: (is_translated(intake, one), described.is_valid(one))
        for path in paths
        for one in [without(message, path)]
    }
    differ = {path: verdict for path, verdict in verdicts.items() if verdict[0] is not verdict[1]}
    assert {path: verdict for path, verdict in differ.items() if not is_referred_to(message, path)} == {}
    assert set(differ.values()) <= {(False, True)}
    assert {True, False} == {verdict[0] for verdict in verdicts.values()}


def is_referred_to(message: Any, path: tuple[str | int, ...]) -> bool:
    """Return whether the path is that of an entry to which other entries refer, or decides what the request refers to."""
    if path[-2:] == ("class", "code"):
        return True
    if len(path) != 2:
        return False
    url = message["entry"][path[1]]["fullUrl"]
    return f'"reference": "{url}"' in json.dumps(without(message, path))


def is_translated(intake: InProcess, message: Any) -> bool:
    """Return whether the translator accepts a message, whatever was sent before."""
    partner = next(one for one in intake.intake.partners if one.id == SENDER)
    ids = str(uuid4()), str(uuid4())
    return isinstance(
        intake.intake.bars(intake.intake.inbound_message(partner, json.dumps(message).encode(), *ids)), Translated
    )


@pytest.mark.parametrize("code", ["listed", "no-such-code"])
@pytest.mark.parametrize(
    ("code_list", "kind", "element"),
    [
        ("service", "ServiceRequest", "orderDetail"),
        ("reason", "ServiceRequest", "reasonCode"),
        ("consent", "Consent", "category"),
    ],
)
async def test_a_code_is_listed_if_the_server_takes_it(
    intake: InProcess, document: Any, code_list: str, kind: str, element: str, code: str
) -> None:
    listed = [one["const"] for one in document["components"]["schemas"][f"code-{code_list}"]["oneOf"]]
    assert listed
    for one in listed if code == "listed" else [code]:
        message = example(document, "new")
        resource(message, kind)[element][0]["coding"][0]["code"] = one
        verdicts = is_translated(intake, message), validator(document, "bars-message").is_valid(message)
        assert verdicts == (one in listed, one in listed), one


async def test_every_operation_has_an_id_of_its_own(document: Any) -> None:
    operations = [
        operation for item in document["paths"].values() for name, operation in item.items() if name != "parameters"
    ]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids)) > 20
