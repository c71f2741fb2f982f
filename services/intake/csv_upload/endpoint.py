"""POST /councils/{council}/referrals: receive a council's whole file, respond with a report on each row.

The file is first stored in parts as they arrive, and prescanned at the same time. Then its rows are accepted like any other message,
in windows, so that other senders' messages are committed between them; the report is streamed concurrently.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from services.intake import limits
from services.intake.accept import Intake
from services.intake.batch import ProtocolResponse
from services.intake.csv_upload import upload_store
from services.intake.csv_upload.importer import FORMAT, CsvImport
from services.intake.csv_upload.upload_store import Upload
from services.intake.group_commit import Unavailable
from services.intake.http import headers as sent
from services.intake.http import messages
from services.intake.http.headers import Headers
from services.intake.http.streaming import TimedStreamingResponse
from services.intake.rate_limiter import RateLimited
from services.intake.responses import csv_report as answers
from services.intake.responses import problems
from services.intake.translators.council_csv import CouncilMapping
from services.intake.translators.council_csv.prescan import Prescan
from services.reference.partners import Partner
from services.runtime import database, tracing
from services.runtime.logs import log


class Idle(Exception):
    """The file was not received in time."""


class FileTooLarge(Exception):
    """The file is larger than FILE_BYTES."""


@dataclass(frozen=True)
class UploadRequest:
    """An authorised request: its partner, the council's mapping, and the media type of the report."""

    partner: Partner
    mapping: CouncilMapping
    report_type: str


async def referrals(request: Request) -> Response:
    """Handle POST /councils/{council}/referrals."""
    headers = sent.first_values(request)
    mirrored = sent.mirrored(headers)
    try:
        made = await _begin_import(request, headers)
        if isinstance(made, CsvImport):
            response_headers = {**mirrored, "Content-Type": made.report.media_type, "Cache-Control": "no-store"}
            return TimedStreamingResponse(await made.begun(), response_headers)
    except Exception as error:
        made = _error_response(error)
    return messages.respond(made, problems.PROBLEM, mirrored)


async def _begin_import(request: Request, headers: Headers) -> CsvImport | ProtocolResponse:
    upload_request = _upload_request(request, headers)
    if isinstance(upload_request, ProtocolResponse):
        return upload_request
    intake: Intake = request.app.state.intake
    with intake.rate_limiter.in_flight(upload_request.partner, FORMAT), intake.memory_budget.reserve_file():
        return await _receive_file(request, headers, upload_request)


def _error_response(error: Exception) -> ProtocolResponse:
    """Return the response if the file could not be received, or its first rows could not be committed."""
    if isinstance(error, RateLimited):
        return problems.problem(429, messages.RATE_LIMITED)
    if isinstance(error, ClientDisconnect):
        return problems.problem(400, "the file is incomplete: no row was accepted; send it again")
    if isinstance(error, Idle):
        return problems.problem(408, "the file was not received in time: no row was accepted; send it again")
    if isinstance(error, FileTooLarge):
        return problems.problem(
            413, f"the file is larger than {limits.FILE_BYTES} bytes: split it into several files, each with the header"
        )
    if isinstance(error, Unavailable) or database.is_transient(error):
        return problems.problem(
            503,
            "temporarily unavailable; send the whole file again later: rows that were accepted will be already-held",
        )
    log.error("upload_failed", error_type=type(error).__name__)
    return problems.problem(
        500, "internal error; send the whole file again later: rows that were accepted will be already-held"
    )


# ---- the request ----------------------------------------------------------------------------------------------------


def _upload_request(request: Request, headers: Headers) -> UploadRequest | ProtocolResponse:
    intake: Intake = request.app.state.intake
    partner = intake.partners.authenticate(headers.get("authorization"))
    if partner is None:
        return problems.problem(401, messages.NO_CREDENTIAL)
    mapping = intake.councils.get(request.path_params["council"])
    if mapping is None:
        return problems.problem(404, "unknown council: its name is that of its mapping file")
    if partner.id != mapping.partner or not partner.may_send(FORMAT):
        return problems.problem(403, "this credential is not authorised for the files of this council")
    report_type = _report_type(headers)
    return _unreadable(headers, report_type) or UploadRequest(partner, mapping, report_type or answers.JSON)


def _unreadable(headers: Headers, report_type: str | None) -> ProtocolResponse | None:
    if sent.essence(headers.get("content-type", "")) != answers.CSV:
        return problems.problem(415, f"send {answers.CSV}")
    if sent.is_encoded(headers):
        return problems.problem(415, "send the file uncompressed")
    if report_type is None:
        return problems.problem(406, f"the response is available as {answers.JSON} or {answers.CSV}")
    length = headers.get("content-length", "0")
    if not length.isdigit():
        return problems.problem(400, "Content-Length is not a number")
    return _error_response(FileTooLarge()) if int(length[:20]) > limits.FILE_BYTES else None


def _report_type(headers: Headers) -> str | None:
    """Return the media type of the report: CSV only if it is preferred to JSON; None if neither is accepted."""
    wishes = {sent.essence(one): _weight(one) for one in headers.get("accept", "*/*").split(",")}
    any_kind = wishes.get("*/*", 0.0)
    as_json = wishes.get(answers.JSON, wishes.get("application/*", any_kind))
    as_csv = wishes.get(answers.CSV, wishes.get("text/*", any_kind))
    if max(as_json, as_csv) <= 0:
        return None
    return answers.CSV if as_csv > as_json else answers.JSON


def _weight(wish: str) -> float:
    for parameter in wish.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0


# ---- the file -------------------------------------------------------------------------------------------------------


async def _receive_file(
    request: Request, headers: Headers, upload_request: UploadRequest
) -> CsvImport | ProtocolResponse:
    """Store the file. Return the import of its rows, or the response that refuses the file."""
    intake: Intake = request.app.state.intake
    engine: AsyncEngine = request.app.state.engine
    upload = _upload(headers, upload_request)
    prescan = Prescan(upload_request.mapping, intake.councils, limits.FILE_ROWS)
    await upload_store.begin(engine, upload)
    try:
        size, digest = await _store_parts(request, engine, upload, prescan)
    except BaseException:
        await _forget(engine, upload)
        raise
    if prescan.rejection:
        await upload_store.received(engine, upload, "refused", size, digest, prescan.rejection.issues)
        return answers.refused(upload_request.mapping, prescan.rejection)
    await upload_store.received(engine, upload, "reporting", size, digest)
    report = answers.report(upload_request.mapping, upload_request.report_type)
    context = tracing.valid(headers.get(tracing.HEADER))
    return CsvImport(intake, engine, upload, upload_request.partner, upload_request.mapping, prescan, report, context)


def _upload(headers: Headers, upload_request: UploadRequest) -> Upload:
    new = uuid4()
    return Upload(
        partner=upload_request.partner.id,
        id=new,
        council=upload_request.mapping.council,
        received_at=datetime.now(UTC),
        correlation_id=sent.guid(headers.get("x-correlation-id")) or str(new),
        media_type=headers.get("content-type", "")[:200] or None,
    )


async def _store_parts(request: Request, engine: AsyncEngine, upload: Upload, prescan: Prescan) -> tuple[int, str]:
    """Store the whole file in parts, even if it is refused: only then the sender gets the response."""
    digest, size, number = hashlib.sha256(), 0, 0
    async for piece in _pieces(request):
        size += len(piece)
        if size > limits.FILE_BYTES:
            raise FileTooLarge
        digest.update(piece)
        await upload_store.append(engine, upload, number, piece)
        prescan.take(piece)
        number += 1
    prescan.end()
    return size, digest.hexdigest()


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """Yield the body in parts of PART_BYTES; the last may be smaller."""
    held = bytearray()
    stream = request.stream()
    async for part in _in_time(stream):
        held += part
        while len(held) >= limits.PART_BYTES:
            yield bytes(held[: limits.PART_BYTES])
            del held[: limits.PART_BYTES]
    if held:
        yield bytes(held)


async def _in_time(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    until = asyncio.get_running_loop().time() + limits.FILE_SECONDS
    while True:
        left = until - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(max(0.0, min(left, limits.PART_SECONDS))):
                part = await anext(stream, None)
        except TimeoutError:
            raise Idle from None
        if part is None:
            return
        yield part


async def _forget(engine: AsyncEngine, upload: Upload) -> None:
    try:
        await upload_store.forget(engine, upload)
    except Exception as error:
        log.warning("upload_cleanup_failed", reason=database.reason_class(error))
