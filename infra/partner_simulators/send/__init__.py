"""Send files to intake as their partner's system would, and return the responses.

The content decides the address: a FHIR Bundle goes to `/fhir/$process-message` with BaRS headers derived from it, an
HL7 v2 message over MLLP to its sender's listener (or to `/hl7v2`), a council's CSV to
`/councils/{council}/referrals`, a form to `/forms/{form}`.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from infra.local.installation import DIRECTORY
from infra.partner_simulators.send.answers import ParsedResponse, ResponseIssue, SendResult, UploadReport
from infra.partner_simulators.send.infer_sender import prepare, sender
from infra.partner_simulators.send.outgoing import NotSent, OutgoingMessage
from infra.partner_simulators.send.transports import SECONDS, Progress, transmit
from services.reference import partners

__all__ = [
    "NotSent",
    "OutgoingMessage",
    "ParsedResponse",
    "ResponseIssue",
    "SendResult",
    "UploadReport",
    "prepare",
    "send",
]


def _no_progress(_: int) -> None:
    """Ignore the progress."""


async def send(
    files: Sequence[Path],
    by: str | None,
    addresses: Mapping[str, Any],
    *,
    http: bool = False,
    progress: Progress = _no_progress,
) -> list[SendResult]:
    """Send each file in order; `by` is a partner's id, else it is inferred from the file. A refusal does not raise.

    `http`: send HL7 messages by HTTP instead of MLLP. `progress` is called with the number of answered rows of a
    council's file.
    """
    all_partners = partners.load(DIRECTORY, None)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=SECONDS, sock_read=SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        return [
            await _send(file, body, by, all_partners, addresses, session, http=http, progress=progress)
            for file, body in _read(files)
        ]


def _read(files: Sequence[Path]) -> Iterator[tuple[Path, bytes]]:
    return ((file, file.read_bytes()) for file in files)


async def _send(
    file: Path,
    body: bytes,
    by: str | None,
    all_partners: partners.Partners,
    addresses: Mapping[str, Any],
    session: aiohttp.ClientSession,
    *,
    http: bool,
    progress: Progress,
) -> SendResult:
    try:
        partner = sender(file, body, by, all_partners)
        outgoing = prepare(file.name, body, partner, http=http)
        response = await transmit(outgoing, partner, addresses, session, progress)
    except NotSent as problem:
        issue = ResponseIssue("", "", str(problem))
        return SendResult(file, "unknown format", "not sent", by, issues=(issue,))
    return _answer(file, outgoing, partner, response)


def _answer(file: Path, outgoing: OutgoingMessage, partner: partners.Partner, response: ParsedResponse) -> SendResult:
    return SendResult(
        file,
        outgoing.format_name,
        response.outcome,
        partner.id,
        response.by,
        response.reference,
        response.issues,
        response.rows,
    )
