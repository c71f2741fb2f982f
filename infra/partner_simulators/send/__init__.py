"""Send files to intake as their partner's system would, and return the responses.

The content decides the address: a FHIR Bundle goes to `/fhir/$process-message` with BaRS headers derived from it, an
HL7 v2 message over MLLP to its sender's listener (or to `/hl7v2`), a council's CSV or workbook to
`/councils/{council}/referrals`, a form to `/forms/{form}`.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from infra.local.installation import DIRECTORY
from infra.partner_simulators.send import council_csv
from infra.partner_simulators.send.answers import ParsedResponse, ResponseIssue, SendResult, UploadReport
from infra.partner_simulators.send.infer_sender import prepare, sender
from infra.partner_simulators.send.outgoing import NotSent, OutgoingMessage
from infra.partner_simulators.send.transports import SECONDS, transmit
from services.reference import partners

__all__ = [
    "FileSender",
    "NotSent",
    "OutgoingMessage",
    "ParsedResponse",
    "ResponseIssue",
    "SendResult",
    "UploadReport",
    "open_sender",
    "prepare",
    "send",
]

Progress = Callable[[Path, int], None]
"""Called with a council's file and the number of its answered rows."""


def _no_progress(_: Path, __: int) -> None:
    """Ignore the progress."""


@dataclass(frozen=True)
class FileSender:
    """Sends files to one installation. `by` is a partner's id; if it is None, the sender is inferred from each file.

    `http`: send HL7 messages by HTTP instead of MLLP. `report`: the media type of a council's report.
    """

    addresses: Mapping[str, Any]
    partners: partners.Partners
    session: aiohttp.ClientSession
    by: str | None = None
    http: bool = False
    dry_run: bool = False
    report: str = council_csv.JSON
    progress: Progress = _no_progress

    async def send(self, file: Path, body: bytes) -> SendResult:
        """Send a file with this content. A refusal does not raise."""
        try:
            partner = sender(file, body, self.by, self.partners)
            outgoing = prepare(file.name, body, partner, http=self.http, dry_run=self.dry_run, report=self.report)
            progress = partial(self.progress, file)
            response = await transmit(outgoing, partner, self.addresses, self.session, progress)
        except NotSent as problem:
            issue = ResponseIssue("", "", str(problem))
            return SendResult(file, "unknown format", "not sent", self.by, issues=(issue,))
        return _result(file, outgoing, partner, response)


@asynccontextmanager
async def open_sender(addresses: Mapping[str, Any], by: str | None = None, **options: Any) -> AsyncIterator[FileSender]:
    """Yield a sender with these options of FileSender."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=SECONDS, sock_read=SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield FileSender(addresses, partners.load(DIRECTORY, None), session, by, **options)


async def send(
    files: Sequence[Path], by: str | None, addresses: Mapping[str, Any], *, http: bool = False, dry_run: bool = False
) -> list[SendResult]:
    """Send each file in order."""
    async with open_sender(addresses, by, http=http, dry_run=dry_run) as opened:
        return [await opened.send(file, file.read_bytes()) for file in files]


def _result(file: Path, outgoing: OutgoingMessage, partner: partners.Partner, response: ParsedResponse) -> SendResult:
    return SendResult(
        file,
        outgoing.format_name,
        response.outcome,
        partner.id,
        response.by,
        response.reference,
        response.issues,
        response.rows,
        response.notes,
        response.body,
        response.media_type,
    )
