"""A council's client: sends a file in whatever pieces, takes the report, and may leave in between."""

import asyncio
import csv
import io
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tests.builders.csv import COUNCILS
from tests.intake.running import InProcess, Reply


async def upload(
    intake: InProcess,
    council: str,
    body: bytes,
    *,
    sender: str | None = "",
    accept: str = "*/*",
    query: str = "",
    **headers: str,
) -> Reply:
    """A whole file, by its own council where nobody else is named."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {"content-type": "text/csv", "accept": accept, **named}
    by = COUNCILS[council].partner if sender == "" else sender
    return await intake.call("POST", f"/councils/{council}/referrals{query}", body, by, sent)


async def in_pieces(
    intake: InProcess,
    council: str,
    pieces: Sequence[bytes],
    *,
    accept: str = "*/*",
    query: str = "",
    breaks_off: bool = False,
    at_piece: Callable[[int], Awaitable[bool]] | None = None,
) -> Reply | None:
    """A file in these pieces. `at_piece` is called at each piece of the report that comes, and says whether the client stays; none
    where the client had gone before the answer began."""
    partner = COUNCILS[council].partner
    waiting = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    waiting.append(
        {"type": "http.disconnect"} if breaks_off else {"type": "http.request", "body": b"", "more_body": False}
    )
    sent: list[dict[str, Any]] = []
    gone = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if waiting:
            return waiting.pop(0)
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        number = len(sent) - 1
        if at_piece and message["type"] == "http.response.body" and not await at_piece(number):
            gone.set()
            await asyncio.sleep(0.01)  # so that its leaving is noticed while the report is made

    await intake.app(_scope(intake, council, partner, accept, query), receive, send)
    if not sent:
        return None
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Reply(sent[0]["status"], found, b"".join(part.get("body", b"") for part in sent[1:]))


def _scope(intake: InProcess, council: str, partner: str, accept: str, query: str) -> dict[str, Any]:
    path = f"/councils/{council}/referrals"
    token = intake.installation.tokens[partner]
    headers = {"content-type": "text/csv", "accept": accept, "authorization": f"Bearer {token}"}
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.removeprefix("?").encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "server": ("intake.test", 80),
        "client": ("127.0.0.1", 1),
    }


def outcomes(reply: Reply) -> list[tuple[str | None, str]]:
    """What became of each row, by the reference that it gives, in the order of the report."""
    assert reply.status == 200, reply.body
    return [(row["reference_given"], row["outcome"]) for row in reply.json()["rows"]]


def counts(reply: Reply) -> dict[str, int]:
    """The summary, without what did not happen."""
    assert reply.status == 200, reply.body
    return {outcome: number for outcome, number in reply.json()["summary"].items() if number}


def table(council: str, reply: Reply) -> list[list[str]]:
    """A CSV report as a spreadsheet reads it."""
    file = COUNCILS[council].file
    text = reply.body.decode(file.codec).removeprefix("\ufeff")
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=file.separator))
