"""The OpenAPI document says what intake does: its routes, and every answer that really comes."""

import dataclasses
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import uuid4

import pytest
import schemathesis
from starlette.routing import Match, Route

from services.intake import limits, store
from services.intake.csv_upload import upload_store
from services.intake.group_commit import Unavailable
from services.intake.translators import form
from services.runtime import database
from tests.builders.bars import a_bars_message
from tests.builders.csv import COUNCILS, a_file, a_row
from tests.builders.forms import a_form
from tests.builders.hl7v2 import a_ref_i12
from tests.intake.described import assert_described
from tests.intake.running import InProcess, Installation, Reply, reference_of, rows


@pytest.fixture
async def document(intake: InProcess) -> Any:
    return (await intake.get("/openapi.json")).json()


# ---- how it is served -----------------------------------------------------------------------------------------------


async def test_the_document_is_public_and_not_sent_again_until_it_changes(intake: InProcess) -> None:
    reply = await intake.get("/openapi.json")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/vnd.oai.openapi+json;version=3.1")
    assert "max-age" in reply.headers["cache-control"]
    again = await intake.call("GET", "/openapi.json", b"", None, {"if-none-match": reply.headers["etag"]})
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", reply.headers["etag"])
    assert_described(reply.json(), "GET", "/openapi.json", reply)
    assert_described(reply.json(), "GET", "/openapi.json", again)


async def test_the_document_is_valid_and_its_references_are_complete(document: Any) -> None:
    schemathesis.openapi.from_dict(document).validate()
    said = json.dumps(document)
    named = {f"#/components/{kind}/{name}" for kind, held in document["components"].items() for name in held}
    assert {ref for ref in named if f'"{ref}"' not in said} == {"#/components/securitySchemes/partner"}
    assert all(json.loads(f'"{ref}"') in named for ref in set(_refs(document)))


def _refs(here: Any) -> Any:
    if isinstance(here, dict):
        yield from ([here["$ref"]] if isinstance(here.get("$ref"), str) else [])
        for inner in here.values():
            yield from _refs(inner)
    elif isinstance(here, list):
        for inner in here:
            yield from _refs(inner)


# ---- the same as the code -------------------------------------------------------------------------------------------


async def test_the_document_describes_every_route_and_nothing_else(intake: InProcess, document: Any) -> None:
    described = {
        (path, method) for path, item in document["paths"].items() for method in item if method != "parameters"
    }
    taken = {(path, method): _route(intake, path, method.upper()) for path, method in described}
    assert [asked for asked, route in taken.items() if route is None] == []
    routed = {(route.path, m) for route in intake.app.routes if isinstance(route, Route) for m in route.methods or ()}
    assert {(route.path, method.upper()) for (_, method), route in taken.items() if route} == {
        (path, method) for path, method in routed if method != "HEAD"
    }


def _route(intake: InProcess, path: str, method: str) -> Route | None:
    scope = {"type": "http", "path": path.replace("{", "").replace("}", ""), "method": method, "root_path": ""}
    found = (route for route in intake.app.routes if route.matches(scope)[0] is Match.FULL)
    return next((route for route in found if isinstance(route, Route)), None)


async def test_the_document_describes_forms_and_files_as_published(intake: InProcess, document: Any) -> None:
    assert intake.intake.forms
    assert COUNCILS
    for name, asked in intake.intake.forms.items():
        served = (await intake.get(f"/forms/{name}/schema")).json()
        described = document["components"]["schemas"][f"form-{name}"]
        published = json.loads(json.dumps(described).replace("#/components/schemas/", "#/$defs/"))
        assert published == {key: value for key, value in served.items() if not key.startswith("$")}
        assert all(document["components"]["schemas"][key] == one for key, one in served["$defs"].items())
        assert described["title"] == form.json_schema(asked)["title"]
    for name, mapping in COUNCILS.items():
        assert all(
            column in document["components"]["schemas"][f"file-{name}"]["description"]
            for column in mapping.headers.values()
        )


async def test_the_document_states_the_limits(document: Any) -> None:
    bars = document["paths"]["/fhir/$process-message"]["post"]["description"]
    assert all(f"{number:,}" in bars for number in (1_048_576, limits.JSON_VALUES, limits.JSON_LIST, limits.JSON_DEPTH))
    assert f"{limits.HL7_SEGMENTS:,}" in document["paths"]["/hl7v2"]["post"]["description"]
    assert f"{limits.FILE_ROWS:,}" in document["paths"]["/councils/blaby/referrals"]["post"]["description"]
    assert f"{limits.IN_FLIGHT}" in document["info"]["description"]


async def test_the_document_names_no_person(document: Any) -> None:
    assert not any(word in json.dumps(document) for word in ("CANARY", "999000", "999 000"))


# ---- the answers that come ------------------------------------------------------------------------------------------

Way = Callable[..., Awaitable[Reply]]


@dataclasses.dataclass(frozen=True)
class Door:
    """One address that takes messages: who may send what, and what is there to be refused."""

    path: str
    sender: str
    media_type: str
    good: Callable[[], bytes]
    more: Mapping[int, tuple[bytes, ...]] = dataclasses.field(default_factory=dict)
    """Bodies that are sent one after the other; the last is answered with this status."""


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _bars(**changes: Any) -> bytes:
    return _json(a_bars_message(**changes))


def _doors() -> list[Door]:
    bars, told = _bars(), a_form()
    cancel = a_bars_message(status="revoked", reason="update")
    one: dict[str, Any] = {"seed": "one", "referral_id": "one"}
    not_applied = (
        _bars(**one, sent_at="2026-11-05T09:00:00+00:00"),
        _bars(**one, sent_at="2026-11-05T11:00:00+00:00", reason="update", family="Vane"),
        _bars(**one, sent_at="2026-11-05T10:00:00+00:00", reason="update", family="Vane", status="revoked"),
    )
    withdrawn = {"referral": "no", "feedback": "no", "on": "2026-11-04", "by": "somebody"}
    of_one = {"referral_id": "1", "number": ""}
    after_cancel = (a_ref_i12(**of_one), a_ref_i12(**of_one, trigger="I14"), a_ref_i12(**of_one, trigger="I13"))
    return [
        Door(
            "/fhir/$process-message",
            "gp-alder-lane",
            "application/fhir+json",
            _bars,
            {202: not_applied, 409: (bars, bars), 404: (_json(cancel),), 422: (_bars(consents={"referral": "deny"}),)},
        ),
        Door(
            "/forms/first-contact-plus",
            "first-contact",
            "application/json",
            lambda: _json(a_form()),
            {
                200: (_json(told), _json(told | {"phone": "0116 496 0099"})),
                404: (_json({"reference": "nobody's", "cancelled": True}),),
                422: (_json(a_form(consents=withdrawn)),),
            },
        ),
        Door(
            "/hl7v2",
            "uhl",
            "application/hl7-v2",
            a_ref_i12,
            {409: after_cancel, 404: (a_ref_i12(trigger="I14", status="R"),)},
        ),
        Door("/councils/blaby/referrals", "council-blaby", "text/csv", lambda: a_file("blaby", [a_row("blaby")])),
    ]


@pytest.mark.parametrize("door", _doors(), ids=lambda door: door.path)
async def test_each_described_status_occurs_and_no_other(
    intake: InProcess, document: Any, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies = [*await _refused_at_the_door(intake, door), *await _judged(intake, door)]
    replies += await _our_fault(intake, door, monkeypatch)
    replies += await _late_or_too_fast(intake, door, monkeypatch)
    assert {assert_described(document, "POST", door.path, reply) for reply in replies} == {door.path}
    described = document["paths"][door.path]["post"]["responses"]
    assert {str(reply.status) for reply in replies} == described.keys()


async def _send(intake: InProcess, door: Door, body: bytes, sender: str | None = "", **headers: str) -> Reply:
    ids = {"x-request-id": str(uuid4()), "x-correlation-id": str(uuid4())}
    named = {"content-type": door.media_type, **ids} | {name.replace("_", "-"): v for name, v in headers.items()}
    return await intake.call("POST", door.path, body, door.sender if sender == "" else sender, named)


async def _refused_at_the_door(intake: InProcess, door: Door) -> list[Reply]:
    body = door.good()
    return [
        await _send(intake, door, body, None),
        await _send(intake, door, body, "hub-blaby"),
        await _send(intake, door, body, content_type="text/plain"),
        await _send(intake, door, body, accept="image/png"),
        await _send(intake, door, body, content_length=str(10**12)),
        await _send(intake, door, body, content_length="many"),
    ]


async def _judged(intake: InProcess, door: Door) -> list[Reply]:
    replies = [await _send(intake, door, door.good()), await _send(intake, door, b"\xff nothing of ours")]
    for status, bodies in door.more.items():
        replies += [await _send(intake, door, body) for body in bodies]
        assert replies[-1].status == status
    return replies


async def _late_or_too_fast(intake: InProcess, door: Door, monkeypatch: pytest.MonkeyPatch) -> list[Reply]:
    with monkeypatch.context() as patched:
        for name in ("BODY_SECONDS", "PART_SECONDS"):
            patched.setattr(limits, name, 0.01)
        late = await _send(intake, door, b"", _body_ends="")
    with monkeypatch.context() as patched:
        patched.setattr(limits, "BURST_SECONDS", 0.0)
        too_fast = await _send(intake, door, door.good())
    assert (late.status, too_fast.status) == (408, 429)
    return [late, too_fast]


async def _our_fault(intake: InProcess, door: Door, monkeypatch: pytest.MonkeyPatch) -> list[Reply]:
    replies = []
    for error in (Unavailable(), MemoryError(), RuntimeError("planted")):

        async def fails(*_: Any, error: Exception = error) -> Any:
            raise error

        with monkeypatch.context() as patched:
            patched.setattr(intake.batching, "submit", fails)
            patched.setattr(upload_store, "begin", fails)
            replies.append(await _send(intake, door, door.good()))
    assert [reply.status for reply in replies] == [503, 503, 500]
    assert b"internal error; " in replies[2].body
    return replies


@pytest.mark.parametrize(
    ("path", "served"),
    [("ServiceRequest/{}", True), ("MessageDefinition/bars-message-{}", False), ("CodeSystem/{}", False)],
)
async def test_fhir_reads_are_as_described(intake: InProcess, document: Any, path: str, served: bool) -> None:
    reference = reference_of(await intake.bars(a_bars_message()))
    known = {"ServiceRequest/{}": reference, "CodeSystem/{}": "service"}.get(path, "servicerequest-request-referral")
    kind = path.partition("/")[0]
    asked = [
        (f"/fhir/{path.format(known)}", "gp-alder-lane", 200),
        (f"/fhir/{path.format('none')}", "gp-alder-lane", 404),
        (f"/fhir/{path.format(known)}", None, 401),
        (f"/fhir/{path.format(known)}", "hub-blaby", 403),
        (f"/fhir/{kind}", "gp-alder-lane", 501 if served else 200),
    ]
    for address, sender, status in asked:
        reply = await intake.get(address, sender)
        assert reply.status == status
        assert_described(document, "GET", address, reply)


async def test_each_described_status_of_a_read_occurs_and_no_other(
    intake: InProcess, document: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = [{"attachment": {"contentType": "text/plain", "data": "YQ=="}}]
    letter = {"resourceType": "DocumentReference", "id": str(uuid4()), "status": "current", "content": content}
    await intake.bars(a_bars_message(more=[letter]))
    [(reference,)] = await rows(intake.engine, "select reference from intake.attachment")
    replies = [
        await intake.get(path, sender)
        for path, sender in [
            (f"/attachments/{reference}", "hub-blaby"),
            (f"/attachments/{reference}", "gp-alder-lane"),
            (f"/attachments/{reference}", None),
            ("/attachments/none", "hub-blaby"),
        ]
    ]
    for patch in ((store, "attachment", None), (limits, "BURST_SECONDS", 0.0)):
        with monkeypatch.context() as patched:
            patched.setattr(*patch)
            replies.append(await intake.get(f"/attachments/{reference}", "hub-blaby"))
    assert {assert_described(document, "GET", "/attachments/x", reply) for reply in replies} == {
        "/attachments/{reference}"
    }
    described = document["paths"]["/attachments/{reference}"]["get"]["responses"]
    assert {str(reply.status) for reply in replies} == described.keys()


@pytest.mark.parametrize(
    "path", ["/fhir/metadata", "/health/live", "/health/ready", "/metrics", "/forms/self/schema", "/openapi.json"]
)
async def test_public_resources_are_as_described(intake: InProcess, document: Any, path: str) -> None:
    reply = await intake.get(path)
    assert (reply.status, assert_described(document, "GET", path, reply)) == (200, path)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_no_other_fhir_interaction_is_accepted(intake: InProcess, document: Any, method: str) -> None:
    reply = await intake.call(method, "/fhir/Task", b"", "gp-alder-lane", {})
    assert (reply.status, assert_described(document, method, "/fhir/Task", reply)) == (404, "/fhir/{interaction}")


async def test_not_ready_is_as_described(installation: Installation, document: Any) -> None:
    away = database.connect("postgresql+asyncpg://nobody@127.0.0.1:1/none")
    async with InProcess(installation, away) as intake:
        reply = await intake.get("/health/ready")
        attachment = await intake.get("/attachments/x", "hub-blaby")
    await away.dispose()
    assert (reply.status, assert_described(document, "GET", "/health/ready", reply)) == (503, "/health/ready")
    assert (attachment.status, assert_described(document, "GET", "/attachments/x", attachment)) == (
        503,
        "/attachments/{reference}",
    )


@pytest.mark.parametrize(
    ("method", "path", "status", "media_type"),
    [
        ("GET", "/nothing", 404, "application/problem+json"),
        ("GET", "/hl7v2", 405, "application/problem+json"),
        ("DELETE", "/forms/self", 405, "application/problem+json"),
        ("OPTIONS", "/fhir/$process-message", 405, "application/fhir+json"),
        ("POST", "/forms/unheard-of", 401, "application/problem+json"),
    ],
)
async def test_unknown_routes_are_answered_in_the_format_of_their_kind(
    intake: InProcess, method: str, path: str, status: int, media_type: str
) -> None:
    reply = await intake.call(method, path, b"", None, {})
    assert (reply.status, reply.headers["content-type"]) == (status, media_type)
    assert ("allow" in reply.headers) == (status == 405)
    assert reply.json()
