"""Sends files to intake as their partner's system would, and says what the answer was.

What a file is decides where it goes: a FHIR Bundle to `/fhir/$process-message` with BaRS headers made from it, an HL7 v2 message over
MLLP to its sender's listener (or to `/hl7v2`), a council's CSV to `/councils/{council}/referrals`, a form to `/forms/{form}`.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from infra.installation import DIRECTORY
from infra.send.answers import Answer, Fault, Rows, Said
from infra.send.carry import SECONDS, Progress, carry
from infra.send.letters import Letter, NotSent
from infra.send.who import prepare, sender
from services import partners

__all__ = ["Answer", "Fault", "Letter", "NotSent", "Rows", "Said", "prepare", "send"]


def _silent(_: int) -> None:
    """Tells nobody."""


async def send(
    files: Sequence[Path],
    by: str | None,
    addresses: Mapping[str, Any],
    *,
    http: bool = False,
    told: Progress = _silent,
) -> list[Answer]:
    """Send each file in order; `by` is a partner's id, else it is found by what the file says. Raises nothing for a refusal.

    `http`: HL7 messages go by HTTP instead of MLLP. `told` hears how many rows of a council's file have been answered.
    """
    known = partners.load(DIRECTORY, None)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=SECONDS, sock_read=SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        return [
            await _send(file, body, by, known, addresses, session, http=http, told=told) for file, body in _read(files)
        ]


def _read(files: Sequence[Path]) -> Iterator[tuple[Path, bytes]]:
    return ((file, file.read_bytes()) for file in files)


async def _send(
    file: Path,
    body: bytes,
    by: str | None,
    known: partners.Partners,
    addresses: Mapping[str, Any],
    session: aiohttp.ClientSession,
    *,
    http: bool,
    told: Progress,
) -> Answer:
    try:
        partner = sender(file, body, by, known)
        letter = prepare(file.name, body, partner, http=http)
        said = await carry(letter, partner, addresses, session, told)
    except NotSent as problem:
        fault = Fault("", "", str(problem))
        return Answer(file, "nothing that is sent from here", "not sent", by, faults=(fault,))
    return _answer(file, letter, partner, said)


def _answer(file: Path, letter: Letter, partner: partners.Partner, said: Said) -> Answer:
    return Answer(file, letter.taken_for, said.outcome, partner.id, said.by, said.reference, said.faults, said.rows)
