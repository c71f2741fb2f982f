"""POST /councils/{council}/referrals: receive a council's whole file, respond with a report on each row.

The file is first stored in parts as they arrive, and prescanned at the same time. Then its rows are accepted like any other message,
in windows, so that other senders' messages are committed between them; the report is streamed concurrently.
With `?dry-run=true` the rows are judged and reported in the same way, and nothing is kept.
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

from services.intake import limits, media_types, multipart
from services.intake.accept import Intake
from services.intake.batch import ProtocolResponse
from services.intake.csv_upload import upload_store
from services.intake.csv_upload.dry_run import DryRun
from services.intake.csv_upload.importer import FORMAT, CsvImport
from services.intake.csv_upload.upload_store import Upload
from services.intake.group_commit import Unavailable
from services.intake.http import headers as sent
from services.intake.http import messages
from services.intake.http.headers import Headers
from services.intake.http.streaming import TimedStreamingResponse
from services.intake.multipart import FormPart, NotMultipart
from services.intake.rate_limiter import RateLimited
from services.intake.responses import csv_report as answers
from services.intake.responses import problems
from services.intake.translators.council_csv import CouncilMapping
from services.intake.translators.council_csv.prescan import Prescan
from services.intake.translators.translator import Rejection
from services.reference.partners import Partner
from services.runtime import database, tracing
from services.runtime.logs import log

DRY_RUN = "dry-run"
"""The query parameter of a dry run."""

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
MEDIA_TYPES = (answers.CSV, XLSX, "application/vnd.ms-excel", "application/octet-stream")

TOO_LARGE = f"the file is larger than {limits.FILE_BYTES} bytes: split it into several files, each with the header"

_CHARSETS = {
    "utf-8": ("utf-8", "utf8", "us-ascii"),
    "cp1252": ("windows-1252", "cp1252", "iso-8859-1", "latin1", "us-ascii"),
}
"""Charsets that do not contradict a mapping's encoding (https://encoding.spec.whatwg.org/#names-and-labels)."""


class RequestRefused(Exception):
    """No row is accepted: the status of the response, and its text."""

    def __init__(self, status: int, explanation: str) -> None:
        super().__init__(explanation)
        self.status = status


@dataclass(frozen=True)
class UploadRequest:
    """An authorised request: its partner, the council's mapping, the media type of the report, whether it is a dry run."""

    partner: Partner
    mapping: CouncilMapping
    report_type: str
    dry_run: bool = False


async def referrals(request: Request) -> Response:
    """Handle POST /councils/{council}/referrals."""
    headers = sent.first_values(request)
    mirrored = sent.mirrored(headers)
    try:
        made = await _begin_import(request, headers)
        if isinstance(made, CsvImport):
            response_headers = {**mirrored, **made.report.headers, "Cache-Control": "no-store"}
            return TimedStreamingResponse(await made.begun(), response_headers)
    except Exception as error:
        made = _error_response(error)
    return messages.respond(made, problems.PROBLEM, mirrored)


async def _begin_import(request: Request, headers: Headers) -> CsvImport | ProtocolResponse:
    upload_request = _upload_request(request, headers)
    intake: Intake = request.app.state.intake
    with intake.rate_limiter.in_flight(upload_request.partner, FORMAT), intake.memory_budget.reserve_file():
        return await _receive_file(request, headers, upload_request)


def _error_response(error: Exception) -> ProtocolResponse:
    """Return the response if the file could not be received, or its first rows could not be committed."""
    if isinstance(error, RateLimited):
        return problems.problem(429, messages.RATE_LIMITED)
    if isinstance(error, RequestRefused):
        return problems.problem(error.status, str(error))
    if isinstance(error, NotMultipart):
        return problems.problem(400, f"no row was accepted: the body {error}")
    if isinstance(error, ClientDisconnect):
        return problems.problem(400, "the file is incomplete: no row was accepted; send it again")
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


def _upload_request(request: Request, headers: Headers) -> UploadRequest:
    intake: Intake = request.app.state.intake
    partner = intake.partners.authenticate(headers.get("authorization"))
    if partner is None:
        raise RequestRefused(401, messages.NO_CREDENTIAL)
    mapping = intake.councils.get(request.path_params["council"])
    if mapping is None:
        raise RequestRefused(404, "unknown council: its name is that of its mapping file")
    if partner.id != mapping.partner or not partner.may_send(FORMAT):
        raise RequestRefused(403, "this credential is not authorised for the files of this council")
    dry_run = _dry_run(request)
    if media_types.essence(headers.get("content-type", "")) != multipart.MEDIA_TYPE:
        _check_media_type(headers.get("content-type", ""), mapping)
    if sent.is_encoded(headers):
        raise RequestRefused(415, "send the file uncompressed")
    report_type = _report_type(headers)
    _check_length(headers.get("content-length", "0"))
    return UploadRequest(partner, mapping, report_type, dry_run)


def _dry_run(request: Request) -> bool:
    """Return whether this is a dry run. A mistyped parameter never leads to a real upload."""
    if unknown := sent.unknown_parameter(request, (DRY_RUN,)):
        raise RequestRefused(400, f"{unknown}: only {DRY_RUN}=true is known; no row was accepted")
    values = request.query_params.getlist(DRY_RUN)
    if values not in ([], ["true"], ["false"]):
        what = f"the query parameter {DRY_RUN} must be given once, as true or false"
        raise RequestRefused(400, f"{what}; no row was accepted")
    return values == ["true"]


def _check_media_type(content_type: str, mapping: CouncilMapping, *more: str) -> None:
    """Refuse a file of another media type, or in another charset. Whether it is a workbook is decided by its content."""
    if media_types.essence(content_type) not in (*MEDIA_TYPES, *more):
        raise RequestRefused(415, f"send {', '.join(MEDIA_TYPES)}, or {multipart.MEDIA_TYPE} with one file")
    charset = (media_types.parameters(content_type) or {}).get("charset", "us-ascii").lower()
    if media_types.essence(content_type) != XLSX and charset not in _CHARSETS[mapping.file.codec]:
        what = f"the charset that is announced is not that of this council's files, {mapping.file.encoding}"
        raise RequestRefused(415, what)


def _check_length(content_length: str) -> None:
    if not content_length.isdigit():
        raise RequestRefused(400, "Content-Length is not a number")
    if int(content_length[:20]) > limits.FILE_BYTES:
        raise RequestRefused(413, TOO_LARGE)


def _report_type(headers: Headers) -> str:
    """Return the media type of the report: CSV only if it is preferred to JSON."""
    as_json, as_csv = sent.weight(headers, answers.JSON), sent.weight(headers, answers.CSV)
    if max(as_json, as_csv) <= 0:
        raise RequestRefused(406, f"the response is available as {answers.JSON} or {answers.CSV}")
    return answers.CSV if as_csv > as_json else answers.JSON


# ---- the file -------------------------------------------------------------------------------------------------------


async def _receive_file(
    request: Request, headers: Headers, upload_request: UploadRequest
) -> CsvImport | ProtocolResponse:
    """Store the file. Return the import of its rows, or the response that refuses the file."""
    intake: Intake = request.app.state.intake
    engine: AsyncEngine = request.app.state.engine
    mapping = upload_request.mapping
    media_type, pieces = await _file(_in_time(request.stream()), headers.get("content-type", ""), mapping)
    upload = _upload(headers, upload_request, media_type)
    prescan = Prescan(mapping, intake.councils, limits.FILE_ROWS)
    await upload_store.begin(engine, upload)
    try:
        size, digest = await _store_parts(pieces, engine, upload, prescan)
        await _end(intake, prescan)
        notes = await _notes(engine, upload, prescan)
    except BaseException:
        await _forget(engine, upload)
        raise
    if prescan.rejection:
        await _refused(engine, upload, upload_request, size, digest, prescan.rejection)
        return answers.refused(mapping, prescan.rejection)
    if not upload_request.dry_run:
        await upload_store.received(engine, upload, "reporting", size, digest)
    mapping = prescan.mapping
    report = answers.report(mapping, upload_request.report_type, dry_run=upload_request.dry_run, notes=notes)
    context = tracing.valid(headers.get(tracing.HEADER))
    judging = DryRun(intake, engine, prescan.repeated()) if upload_request.dry_run else None
    return CsvImport(intake, engine, upload, upload_request.partner, mapping, prescan, report, context, judging)


async def _refused(
    engine: AsyncEngine, upload: Upload, upload_request: UploadRequest, size: int, digest: str, rejection: Rejection
) -> None:
    if upload_request.dry_run:
        await _forget(engine, upload)
    else:
        await upload_store.received(engine, upload, "refused", size, digest, rejection.issues)


async def _notes(engine: AsyncEngine, upload: Upload, prescan: Prescan) -> tuple[answers.FileNote, ...]:
    """Return what is remarkable of the file as a whole: that it has far fewer rows than the last one."""
    if prescan.rejection or (last := await upload_store.last_reported(engine, upload)) is None:
        return ()
    is_shrunken = last.rows >= limits.NOTED_ROWS and 2 * prescan.rows < last.rows
    return (answers.fewer_rows(prescan.rows, last.rows, last.received_at),) if is_shrunken else ()


def _upload(headers: Headers, upload_request: UploadRequest, media_type: str) -> Upload:
    new = uuid4()
    return Upload(
        partner=upload_request.partner.id,
        id=new,
        council=upload_request.mapping.council,
        received_at=datetime.now(UTC),
        correlation_id=sent.guid(headers.get("x-correlation-id")) or str(new),
        media_type=media_type[:200] or None,
    )


async def _store_parts(
    pieces: AsyncIterator[bytes], engine: AsyncEngine, upload: Upload, prescan: Prescan
) -> tuple[int, str]:
    """Store the whole file in parts, even if it is refused: only then the sender gets the response."""
    digest, size, number = hashlib.sha256(), 0, 0
    async for piece in _in_parts(pieces):
        size += len(piece)
        digest.update(piece)
        await upload_store.append(engine, upload, number, piece)
        prescan.take(piece)
        number += 1
    return size, digest.hexdigest()


async def _end(intake: Intake, prescan: Prescan) -> None:
    """End the prescan; a workbook is read in a thread, so that other requests are served."""
    if prescan.is_workbook:
        with intake.memory_budget.reserve_workbook():
            await asyncio.to_thread(prescan.end)
    else:
        prescan.end()


async def _file(
    stream: AsyncIterator[bytes], content_type: str, mapping: CouncilMapping
) -> tuple[str, AsyncIterator[bytes]]:
    """Return media type and bytes of the file: the body, or the only part of a multipart."""
    if media_types.essence(content_type) != multipart.MEDIA_TYPE:
        return content_type, stream
    parts = multipart.parts(stream, content_type)
    part = await anext(parts, None)
    if part is None:
        raise NotMultipart("has no part")
    _check_media_type(part.media_type, mapping, "text/plain")
    return part.media_type, _only(part, parts)


async def _only(part: FormPart, parts: AsyncIterator[FormPart]) -> AsyncIterator[bytes]:
    async for piece in part.pieces:
        yield piece
    if await anext(parts, None):
        raise NotMultipart(f"has more than one part: send the file alone; a dry run is asked for by ?{DRY_RUN}=true")


async def _in_parts(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the file in parts of PART_BYTES; the last may be smaller."""
    held = bytearray()
    async for piece in pieces:
        held += piece
        while len(held) >= limits.PART_BYTES:
            yield bytes(held[: limits.PART_BYTES])
            del held[: limits.PART_BYTES]
    if held:
        yield bytes(held)


async def _in_time(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the body. Raises RequestRefused if it is late or too large."""
    until, size = asyncio.get_running_loop().time() + limits.FILE_SECONDS, 0
    while True:
        left = until - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(max(0.0, min(left, limits.PART_SECONDS))):
                part = await anext(stream, None)
        except TimeoutError:
            what = "the file was not received in time: no row was accepted; send it again"
            raise RequestRefused(408, what) from None
        if part is None:
            return
        size += len(part)
        if size > limits.FILE_BYTES:
            raise RequestRefused(413, TOO_LARGE)
        yield part


async def _forget(engine: AsyncEngine, upload: Upload) -> None:
    try:
        await upload_store.forget(engine, upload)
    except Exception as error:
        log.warning("upload_cleanup_failed", reason=database.reason_class(error))
