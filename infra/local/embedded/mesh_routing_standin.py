"""A simulation of MESH's automatic routing, in front of the sandbox, which does not have it.

`Mex-To: GPPROVIDER_<NHS number>_<yyyymmdd>_<surname>` goes to the mailbox that a table gives for the NHS number.
Without one, MESH accepts the message and later reports EPL-151 to the sender's inbox; so does this simulation. Every
other request is forwarded unchanged. Its name is in the `Server` header and on stderr. Never for real patients.
"""

import argparse
import asyncio
import json
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

NAME = "Lightbulb stand-in for MESH automatic routing (not MESH)"
AUTOMATIC = "GPPROVIDER_"
HOP = frozenset({"host", "connection", "content-length", "transfer-encoding", "keep-alive", "server", "date"})


def application(sandbox: str, mailboxes: Mapping[str, str]) -> Starlette:
    """Return the ASGI application in front of the sandbox at `sandbox`; `mailboxes` by NHS number."""
    sessions: list[aiohttp.ClientSession] = []

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            sessions.append(session)
            yield

    async def any_request(request: Request) -> Response:
        to = request.headers.get("mex-to", "")
        if not to.startswith(AUTOMATIC):
            return await _hand_on(sessions[0], sandbox, request, None)
        mailbox = mailboxes.get(to.removeprefix(AUTOMATIC).split("_")[0])
        if mailbox is None:
            return await _report_later(sessions[0], sandbox, request)
        return await _hand_on(sessions[0], sandbox, request, mailbox)

    methods = ["GET", "POST", "PUT", "DELETE"]
    return Starlette(routes=[Route("/{path:path}", any_request, methods=methods)], lifespan=lifespan)


async def _hand_on(session: aiohttp.ClientSession, sandbox: str, request: Request, to: str | None) -> Response:
    headers = {name: value for name, value in request.headers.items() if name not in HOP}
    if to is not None:
        headers["mex-to"] = to
    address = f"{sandbox}{request.url.path}" + (f"?{request.url.query}" if request.url.query else "")
    async with session.request(request.method, address, data=await request.body(), headers=headers) as answer:
        response_headers = {name: value for name, value in answer.headers.items() if name.lower() not in HOP}
        return Response(await answer.read(), answer.status, {**response_headers, "Server": NAME})


async def _report_later(session: aiohttp.ClientSession, sandbox: str, request: Request) -> Response:
    """Accept the message, as MESH does, and put a report into the sender's inbox."""
    message_id = uuid.uuid4().hex.upper()
    report = _undeliverable(request, message_id)
    async with session.post(f"{sandbox}/messageexchange/admin/report", json=report) as answer:
        await answer.read()
    return JSONResponse({"message_id": message_id}, 202, {"Server": NAME})


def _undeliverable(request: Request, message_id: str) -> dict[str, str]:
    return {
        "mailbox_id": request.url.path.split("/")[2],
        "status": "undeliverable",
        "code": "EPL-151",
        "description": "No mailbox matched",
        "workflow_id": request.headers.get("mex-workflowid", ""),
        "local_id": request.headers.get("mex-localid", ""),
        "subject": "",
        "linked_message_id": message_id,
    }


def main() -> None:
    """Run `python -m infra.local.embedded.mesh_routing_standin --sandbox URL --port N --mailboxes FILE.json`."""
    parser = argparse.ArgumentParser(description=NAME)
    parser.add_argument("--sandbox", required=True, help="address of the MESH sandbox")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--mailboxes", type=Path, required=True, help='JSON: {"NHS number": "mailbox"}')
    args = parser.parse_args()
    sys.stderr.write(f"{NAME}, in front of {args.sandbox}\n")
    routes = application(args.sandbox, json.loads(args.mailboxes.read_text()))
    server = uvicorn.Server(
        uvicorn.Config(routes, port=args.port, log_config=None, access_log=False, server_header=False)
    )
    asyncio.run(server.serve())


if __name__ == "__main__":
    main()
