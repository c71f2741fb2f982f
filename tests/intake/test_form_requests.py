"""How forms arrive and are answered over HTTP: charsets, warnings, another person, attachments as base64 and as multipart/form-data."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.responses import Response

from services.intake.http import read_api
from tests.builders.forms import a_form
from tests.builders.hl7v2 import a_ref_i12
from tests.intake.running import InProcess, Reply, events, reference_of, rows, stored_messages

PDF = b"%PDF-1.7\r\n--not-the-boundary\r\n\x00\xff\r\n%%EOF\r\n"
JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256))


def faults(reply: Reply) -> dict[str, str]:
    return {fault["field"]: fault["kind"] for fault in reply.json()["faults"]}


@pytest.mark.parametrize(
    ("stated", "status"),
    [
        ("application/json", 202),
        ("application/json; charset=utf-8", 202),
        ('application/json; charset="UTF8"', 202),
        ("application/json;", 202),
        ("application/json; charset=utf-16", 415),
        ("application/json; charset=windows-1252", 415),
        ("application/json; charset=utf-8; charset=latin-1", 415),
        ("application/json; charset", 415),
    ],
)
async def test_a_charset_other_than_utf_8_is_refused_and_never_ignored(
    intake: InProcess, engine: AsyncEngine, stated: str, status: int
) -> None:
    reply = await intake.post("/forms/first-contact-plus", a_form(), "first-contact", stated)
    assert reply.status == status
    assert len(await rows(engine, "select 1 from intake.message")) == (status == 202)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("dry-run=true", "unknown query parameter 'dry-run'"),
        ("dry-run", "unknown query parameter 'dry-run'"),
        ("Mrs+Smith=1", "unknown query parameter:"),
        ("9990000018=1", "unknown query parameter:"),
    ],
)
async def test_a_query_parameter_is_refused_and_never_ignored(
    intake: InProcess, engine: AsyncEngine, query: str, told: str
) -> None:
    for path, sender, body, media_type in (
        ("/forms/first-contact-plus", "first-contact", json.dumps(a_form()).encode(), "application/json"),
        ("/hl7v2", "uhl", a_ref_i12(), "application/hl7-v2"),
    ):
        reply = await intake.post(f"{path}?{query}", body, sender, media_type)
        assert (reply.status, reply.headers["content-type"]) == (400, "application/problem+json")
        assert reply.json()["detail"].startswith(told)
    assert not await rows(engine, "select 1 from intake.message")


@pytest.mark.parametrize("path", ["/forms/first-contact-plus/", "/hl7v2/", "/councils/blaby/", "/openapi.json/"])
async def test_an_address_with_a_slash_too_many_is_unknown_and_never_redirected(intake: InProcess, path: str) -> None:
    reply = await intake.post(path, a_form(), "first-contact", "application/json")
    assert (reply.status, reply.headers["content-type"]) == (404, "application/problem+json")
    assert "location" not in reply.headers


@pytest.mark.parametrize("reference", ["%00", "%ED%A0%80", "..%2F", "x" * 3_000, "%0d%0aX-A:%20b"])
async def test_what_is_no_reference_of_an_attachment_is_unknown(intake: InProcess, reference: str) -> None:
    assert (await intake.get(f"/attachments/{reference}", "hub-blaby")).status == 404


@pytest.mark.parametrize("stated", ["text/p\u0142ain", "text/html; charset=utf-8", "text/html\r\nX-A: b", "text", None])
def test_a_media_type_that_no_header_can_state_is_served_as_bytes(stated: str | None) -> None:
    headers = Response(b"%PDF", headers=read_api.as_download(stated)).headers
    assert headers["content-type"] == "application/octet-stream"


async def test_a_byte_order_mark_is_passed_over(intake: InProcess) -> None:
    assert (await intake.form(b"\xef\xbb\xbf" + json.dumps(a_form()).encode())).status == 202


async def test_warnings_are_in_the_answer_and_in_the_stored_message(intake: InProcess, engine: AsyncEngine) -> None:
    reply = await intake.form(a_form(family_name="O?Dowd", enquired_on="1900-01-01"))
    assert reply.status == 202
    assert {warning["field"]: warning["kind"] for warning in reply.json()["warnings"]} == {
        "family_name": "value",
        "enquired_on": "value",
    }
    assert b"Dowd" not in reply.body
    assert b"1900" not in reply.body
    (kept,) = await rows(engine, "select issues from intake.message")
    assert len(kept.issues) == 2
    document = (await intake.get("/openapi.json")).json()
    accepted = {"$ref": "#/components/schemas/accepted", "components": document["components"]}
    jsonschema.Draft202012Validator(accepted).validate(reply.json())


async def test_a_form_without_doubts_has_no_warnings(intake: InProcess) -> None:
    assert "warnings" not in (await intake.form(a_form())).json()


ANOTHER = {"nhs_number": "999 000 0042", "family_name": "Zimmer", "birth_date": "1977-07-07"}


async def test_another_person_under_a_known_reference_is_refused(intake: InProcess, engine: AsyncEngine) -> None:
    held = a_form()
    first = await intake.form(held)
    other = await intake.form(held | ANOTHER)
    assert (other.status, faults(other)) == (422, {"reference": "business-rule"})
    assert "under a new reference" in other.json()["faults"][0]["explanation"]
    assert len(await events(engine, reference_of(first))) == 1
    assert (await intake.form(a_form(**ANOTHER))).status == 202


@pytest.mark.parametrize("part", list(ANOTHER))
async def test_a_correction_of_one_part_of_the_person_is_applied(intake: InProcess, part: str) -> None:
    held = a_form()
    await intake.form(held)
    corrected = await intake.form(held | {part: ANOTHER[part]})
    assert (corrected.status, corrected.json()["status"]) == (200, "updated")


@pytest.mark.parametrize(
    "ends", [{"consents": {"referral": "no"}}, {"cancelled": "yes"}, {"cancel_reason": "consent-withdrawn"}], ids=str
)
async def test_a_cancel_that_names_another_person_is_applied(intake: InProcess, ends: dict[str, Any]) -> None:
    held = a_form()
    await intake.form(held)
    reply = await intake.form(held | ANOTHER | ends)
    assert (reply.status, reply.json()["status"]) == (200, "cancelled")


async def test_a_form_of_the_future_is_refused_and_later_forms_are_applied(
    intake: InProcess, engine: AsyncEngine
) -> None:
    """What was once accepted with such a time must not keep later messages out: it is refused, by its field."""
    held = a_form()
    ahead = await intake.form(held | {"completed_at": "2062-01-01T00:00:00Z"})
    assert (ahead.status, faults(ahead)) == (400, {"completed_at": "value"})
    now = datetime.now(UTC)
    assert (await intake.form(held | {"completed_at": (now + timedelta(minutes=4)).isoformat()})).status == 202
    withdrawn = await intake.form(held | {"consents": {"referral": "no"}, "completed_at": "2062-01-01T00:00:00Z"})
    assert (withdrawn.status, withdrawn.json()["status"]) == (200, "cancelled")
    assert [warning["field"] for warning in withdrawn.json()["warnings"]] == ["completed_at"]


async def test_a_form_of_the_same_minute_is_not_older_than_what_it_corrects(intake: InProcess) -> None:
    held = a_form(completed_at="2026-11-05T09:30:40Z")
    await intake.form(held)
    changed = await intake.form(held | {"phone": "0116 496 0009", "completed_at": "2026-11-05T09:30Z"})
    assert changed.json()["status"] == "updated"
    older = await intake.form(held | {"phone": "0116 496 0010", "completed_at": "2026-11-05T09:29Z"})
    assert older.json()["status"] == "superseded"


# ---- attachments -----------------------------------------------------------------------------------------------------


def a_letter(of: bytes = PDF, **changes: Any) -> dict[str, Any]:
    return {
        "title": "PRISM letter",
        "media_type": "application/pdf",
        "content": base64.b64encode(of).decode(),
    } | changes


def multipart(form: Any, *files: tuple[str, str, str, bytes], boundary: str = "----Lightbulb7a") -> bytes:
    """A body as a browser sends it: the form, then files as (field, file name, media type, content)."""
    answers = form if isinstance(form, bytes) else json.dumps(form).encode()
    parts = [b'Content-Disposition: form-data; name="form"\r\nContent-Type: application/json\r\n\r\n' + answers]
    for field, name, media_type, content in files:
        head = (
            f'Content-Disposition: form-data; name="{field}"; filename="{name}"\r\nContent-Type: {media_type}\r\n\r\n'
        )
        parts.append(head.encode() + content)
    mark = f"--{boundary}".encode()
    return b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts) + mark + b"--\r\n"


async def send_parts(
    intake: InProcess, body: bytes, stated: str = "multipart/form-data; boundary=----Lightbulb7a"
) -> Reply:
    return await intake.post("/forms/first-contact-plus", body, "first-contact", stated)


async def fetched(intake: InProcess, engine: AsyncEngine, reply: Reply) -> list[tuple[dict[str, Any], bytes]]:
    """What the hub that reads the last event gets for each of its attachments."""
    *_, event = await events(engine, reference_of(reply))
    found = []
    for named in event["referral"].get("attachments", []):
        got = await intake.get(f"/attachments/{named['reference']}", "hub-blaby")
        assert (got.status, got.headers["x-content-type-options"]) == (200, "nosniff")
        assert got.headers["content-type"] == named["media_type"].split(";")[0]
        found.append((named, got.body))
    return found


async def test_a_letter_in_the_json_is_fetched_by_the_hub_as_it_was_sent(
    intake: InProcess, engine: AsyncEngine
) -> None:
    reply = await intake.form(a_form(attachments=[a_letter(), a_letter(JPEG, media_type="image/jpeg", title=None)]))
    assert reply.status == 202
    found = await fetched(intake, engine, reply)
    assert [(named.get("title"), named["media_type"], content) for named, content in found] == [
        ("PRISM letter", "application/pdf", PDF),
        (None, "image/jpeg", JPEG),
    ]
    assert {named["size"] for named, _ in found} == {len(PDF), len(JPEG)}


async def test_files_next_to_the_form_are_fetched_by_the_hub_as_they_were_sent(
    intake: InProcess, engine: AsyncEngine
) -> None:
    body = multipart(
        a_form(),
        ("attachments", "PRISM letter.pdf", "application/pdf", PDF),
        ("attachments[]", "b.jpg", "image/jpeg", JPEG),
    )
    reply = await send_parts(intake, body)
    assert reply.status == 202
    found = await fetched(intake, engine, reply)
    assert [(named["title"], named["media_type"], content) for named, content in found] == [
        ("PRISM letter.pdf", "application/pdf", PDF),
        ("b.jpg", "image/jpeg", JPEG),
    ]
    (kept,) = await stored_messages(engine)
    assert (kept.body, kept.media_type) == (body, "multipart/form-data; boundary=----Lightbulb7a")


async def test_both_ways_of_sending_a_letter_are_one_content(intake: InProcess) -> None:
    form = a_form()
    first = await intake.form(form | {"attachments": [a_letter(title="a.pdf")]})
    again = await send_parts(intake, multipart(form, ("attachments", "a.pdf", "application/pdf", PDF)))
    assert (again.status, again.body) == (first.status, first.body)


async def test_another_letter_is_an_update_and_the_same_one_a_repeat(intake: InProcess, engine: AsyncEngine) -> None:
    form = a_form()
    first = await intake.form(form | {"attachments": [a_letter()]})
    assert (await intake.form(form | {"attachments": [a_letter()]})).body == first.body
    changed = await intake.form(form | {"attachments": [a_letter(PDF + b" ")]})
    assert (changed.status, changed.json()["status"]) == (200, "updated")
    assert [content for _, content in await fetched(intake, engine, changed)] == [PDF + b" "]


async def test_the_same_document_twice_is_stored_once(intake: InProcess, engine: AsyncEngine) -> None:
    reply = await intake.form(a_form(attachments=[a_letter(title="one"), a_letter(title="two")]))
    assert [named["title"] for named, _ in await fetched(intake, engine, reply)] == ["one"]


@pytest.mark.parametrize("empty", [None, "", [], [None, ""]], ids=repr)
async def test_no_attachment_is_no_fault(intake: InProcess, empty: Any) -> None:
    assert (await intake.form(a_form() | {"attachments": empty})).status == 202
    nothing_chosen = multipart(a_form() | {"attachments": empty}, ("attachments", "", "application/octet-stream", b""))
    assert (await send_parts(intake, nothing_chosen)).status == 202


@pytest.mark.parametrize(
    ("sent", "place"),
    [
        ("a letter", "attachments"),
        ({"content": "QQ=="}, "attachments"),
        (["QQ=="], "attachments[0]"),
        ([a_letter(content="not base64!")], "attachments[0].content"),
        ([a_letter(content="data:application/pdf;base64,QQ==")], "attachments[0].content"),
        ([a_letter(content="QQ=")], "attachments[0].content"),
        ([a_letter(content="")], "attachments[0].content"),
        ([a_letter(content=None)], "attachments[0].content"),
        ([a_letter(), a_letter(media_type="pdf")], "attachments[1].media_type"),
        ([a_letter(media_type="text/html\r\nX-Other: 1")], "attachments[0].media_type"),
        ([a_letter(media_type=None)], "attachments[0].media_type"),
        ([a_letter(title="x" * 201)], "attachments[0].title"),
        ([a_letter(url="https://example.org/letter.pdf")], "attachments[0].url"),
        ([a_letter(bytes([n])) for n in range(11)], "attachments"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_a_document_that_cannot_be_read_is_refused_by_its_place(intake: InProcess, sent: Any, place: str) -> None:
    form = a_form(attachments=sent)
    reply = await intake.form(form)
    assert (reply.status, list(faults(reply))) == (400, [place])
    schema = (await intake.get("/forms/first-contact-plus/schema")).json()
    assert not jsonschema.Draft202012Validator(schema).is_valid(form)


@pytest.mark.parametrize(
    "sent", [[a_letter()], [a_letter(content="QQ\r\nE=\n")], [a_letter(media_type="text/plain; charset=utf-8")]]
)
async def test_a_document_that_can_be_read_conforms_to_the_schema(intake: InProcess, sent: Any) -> None:
    form = a_form(attachments=sent)
    assert (await intake.form(form)).status == 202
    schema = (await intake.get("/forms/first-contact-plus/schema")).json()
    assert jsonschema.Draft202012Validator(schema).is_valid(form)


LETTER = ("attachments", "a.pdf", "application/pdf", PDF)


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (multipart(a_form(), ("letter", "a.pdf", "application/pdf", PDF)), "part letter"),
        (multipart(a_form(), ("family_name", "a.pdf", "application/pdf", PDF)), "part family_name"),
        (multipart(a_form(), ("form", "a.json", "application/json", b"{}")), "form"),
        (multipart(a_form(), ("attachments", "a.pdf", "application/pdf", b"")), "attachments[0].content"),
        (multipart(a_form(attachments="x"), LETTER), "attachments"),
        (multipart(b"[]", LETTER), "form"),
        (multipart(b"\xff", LETTER), "form"),
        (multipart(a_form(), LETTER)[:-6], "form"),
        (multipart(a_form(), LETTER) + b"more", "form"),
        (multipart(a_form(), LETTER).replace(b'name="form"', b'name="other"'), "form"),
        (multipart(a_form(), LETTER).replace(b"application/json", b"application/json; charset=utf-16"), "form"),
        (multipart(a_form(), *[LETTER] * 20), "form"),
        (b"--\r\n\r\n----\r\n", "form"),
    ],
    ids=range(13),
)
async def test_a_multipart_body_that_cannot_be_read_is_refused_by_its_place(
    intake: InProcess, body: bytes, place: str
) -> None:
    reply = await send_parts(intake, body)
    assert reply.status == 400
    assert place in faults(reply)


async def test_a_withdrawal_with_files_that_cannot_be_read_is_applied(intake: InProcess) -> None:
    held = a_form()
    await intake.form(held)
    withdrawn = held | {"consents": {"referral": "no"}, "attachments": "nothing"}
    reply = await send_parts(intake, multipart(withdrawn, ("consents", "a.pdf", "application/pdf", PDF), LETTER))
    assert (reply.status, reply.json()["status"]) == (200, "cancelled")


async def test_the_public_form_takes_no_documents(intake: InProcess) -> None:
    asks = {"reference": "W-1", "referred_by": "self", "family_name": "Ives", "phone": "07700 900045"}
    asks |= {"needs": {"warm": True}, "consents": {"referral": "yes"}}
    body = multipart(asks, LETTER)
    reply = await intake.post("/forms/self", body, "lightbulb-website", "multipart/form-data; boundary=----Lightbulb7a")
    assert reply.status == 415
    reply = await intake.post(
        "/forms/self", asks | {"attachments": [a_letter()]}, "lightbulb-website", "application/json"
    )
    assert (reply.status, faults(reply)) == (400, {"attachments": "invalid"})
