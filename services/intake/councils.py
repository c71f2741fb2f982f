"""POST /councils/{council}/referrals: a council's whole file in, a report with a line for each row out.

The file is kept first, piece by piece as it comes, and looked at meanwhile; then its rows go the way of every message, in windows
that let other senders' messages between them; and the report is streamed while they do.
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

from services.intake import headers as sent
from services.intake import limits, uploads, web
from services.intake.answers import problems
from services.intake.answers import rows as answers
from services.intake.batching import Unavailable
from services.intake.handing_over import FORMAT, HandingOver
from services.intake.headers import Headers
from services.intake.ledger import Answer
from services.intake.rates import TooFast
from services.intake.receive import Intake
from services.intake.streamed import Streamed
from services.intake.translators.council_csv import CouncilMapping
from services.intake.translators.council_csv.survey import Survey
from services.intake.uploads import Upload
from services.messaging import database, tracing
from services.messaging.telemetry import log
from services.partners import Partner


class Idle(Exception):
    """Nothing more of the file comes."""


class TooLarge(Exception):
    """The file is larger than is taken."""


@dataclass(frozen=True)
class Asked:
    """A request that may go on: whose file, read how, and the report in which media type."""

    partner: Partner
    mapping: CouncilMapping
    wanted: str


async def referrals(request: Request) -> Response:
    """POST /councils/{council}/referrals"""
    headers = sent.of(request)
    mirrored = sent.mirrored(headers)
    try:
        made = await _made(request, headers)
        if isinstance(made, HandingOver):
            told = {**mirrored, "Content-Type": made.report.media_type, "Cache-Control": "no-store"}
            return Streamed(await made.begun(), told)
    except Exception as error:
        made = _wrong(error)
    return web.respond(made, problems.PROBLEM, mirrored)


async def _made(request: Request, headers: Headers) -> HandingOver | Answer:
    asked = _asked(request, headers)
    if isinstance(asked, Answer):
        return asked
    intake: Intake = request.app.state.intake
    with intake.rates.in_hand(asked.partner, FORMAT), intake.room.for_a_file():
        return await _taken(request, headers, asked)


def _wrong(error: Exception) -> Answer:
    """What is said where a file could not be taken, or its first rows could not be."""
    if isinstance(error, TooFast):
        return problems.problem(429, web.TOO_FAST)
    if isinstance(error, ClientDisconnect):
        return problems.problem(400, "the file broke off: nothing of it was taken; send it again")
    if isinstance(error, Idle):
        return problems.problem(408, "the file did not come in time: nothing of it was taken; send it again")
    if isinstance(error, TooLarge):
        return problems.problem(
            413, f"more than {limits.FILE_BYTES} bytes: send it in several files, each with the header"
        )
    if isinstance(error, Unavailable) or database.is_transient(error):
        return problems.problem(
            503, "temporarily unavailable; send the file again, rows that were accepted are answered already-held"
        )
    log.error("upload_failed", error_type=type(error).__name__)
    return problems.problem(
        500, "internal error; send the whole file again later: rows that were accepted will be already-held"
    )


# ---- who asks -------------------------------------------------------------------------------------------------------


def _asked(request: Request, headers: Headers) -> Asked | Answer:
    intake: Intake = request.app.state.intake
    partner = intake.partners.authenticate(headers.get("authorization"))
    if partner is None:
        return problems.problem(401, web.NO_CREDENTIAL)
    mapping = intake.councils.get(request.path_params["council"])
    if mapping is None:
        return problems.problem(404, "there is no such council; its name is that of its mapping file")
    if partner.id != mapping.partner or not partner.may_send(FORMAT):
        return problems.problem(403, "this credential is not authorised for the files of this council")
    wanted = _wanted(headers)
    return _unreadable(headers, wanted) or Asked(partner, mapping, wanted or answers.JSON)


def _unreadable(headers: Headers, wanted: str | None) -> Answer | None:
    if sent.essence(headers.get("content-type", "")) != answers.CSV:
        return problems.problem(415, f"send {answers.CSV}")
    if sent.is_encoded(headers):
        return problems.problem(415, "send the file as it is, not compressed")
    if wanted is None:
        return problems.problem(406, f"{answers.JSON} and {answers.CSV} are the media types of the response")
    length = headers.get("content-length", "0")
    if not length.isdigit():
        return problems.problem(400, "Content-Length is not a number")
    return _wrong(TooLarge()) if int(length[:20]) > limits.FILE_BYTES else None


def _wanted(headers: Headers) -> str | None:
    """The media type of the report: CSV only where it is wanted more than JSON."""
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


async def _taken(request: Request, headers: Headers, asked: Asked) -> HandingOver | Answer:
    """The file is kept; its refusal, or what hands its rows over."""
    intake: Intake = request.app.state.intake
    engine: AsyncEngine = request.app.state.engine
    upload = _upload(headers, asked)
    survey = Survey(asked.mapping, intake.councils, limits.FILE_ROWS)
    await uploads.begin(engine, upload)
    try:
        size, digest = await _kept(request, engine, upload, survey)
    except BaseException:
        await _forget(engine, upload)
        raise
    if survey.refusal:
        await uploads.received(engine, upload, "refused", size, digest, survey.refusal.faults)
        return answers.refused(asked.mapping, survey.refusal)
    await uploads.received(engine, upload, "reporting", size, digest)
    report = answers.report(asked.mapping, asked.wanted)
    context = tracing.valid(headers.get(tracing.HEADER))
    return HandingOver(intake, engine, upload, asked.partner, asked.mapping, survey, report, context)


def _upload(headers: Headers, asked: Asked) -> Upload:
    new = uuid4()
    return Upload(
        partner=asked.partner.id,
        id=new,
        council=asked.mapping.council,
        received_at=datetime.now(UTC),
        correlation_id=sent.guid(headers.get("x-correlation-id")) or str(new),
        media_type=headers.get("content-type", "")[:200] or None,
    )


async def _kept(request: Request, engine: AsyncEngine, upload: Upload, survey: Survey) -> tuple[int, str]:
    """Size and SHA-256 of the file, when its last part is kept. A file that is refused is received to its end too: so its sender
    gets the answer, and the record is whole."""
    digest, size, number = hashlib.sha256(), 0, 0
    async for piece in _pieces(request):
        size += len(piece)
        if size > limits.FILE_BYTES:
            raise TooLarge
        digest.update(piece)
        await uploads.append(engine, upload, number, piece)
        survey.take(piece)
        number += 1
    survey.end()
    return size, digest.hexdigest()


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces of one size, whatever the network made of it."""
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
        await uploads.forget(engine, upload)
    except Exception as error:
        log.warning("upload_cleanup_failed", reason=database.reason_class(error))
