"""Send a message to a running installation, and return the response."""

from collections.abc import Callable, Mapping
from typing import Any

import aiohttp

from infra.partner_simulators import mllp_client
from infra.partner_simulators.send import hl7v2
from infra.partner_simulators.send.answers import ParsedResponse, ResponseIssue
from infra.partner_simulators.send.outgoing import NotSent, OutgoingMessage
from services.reference.partners import Partner

SECONDS = 60
"""Longest wait for a response, or for more of one."""

Progress = Callable[[int], None]
"""Called with the number of answered rows of a file."""


async def transmit(
    outgoing: OutgoingMessage,
    partner: Partner,
    addresses: Mapping[str, Any],
    session: aiohttp.ClientSession,
    progress: Progress,
) -> ParsedResponse:
    """Return the installation's response. Raise NotSent if addresses.json lacks an address or token."""
    if outgoing.over != "http":
        return await _by_mllp(outgoing, partner, addresses)
    return await _by_http(outgoing, _token(partner, addresses), str(addresses["intake"]), session, progress)


async def _by_http(
    outgoing: OutgoingMessage, token: str, intake: str, session: aiohttp.ClientSession, progress: Progress
) -> ParsedResponse:
    headers = {**outgoing.headers, "Authorization": f"Bearer {token}"}
    came = bytearray()
    try:
        async with session.post(intake + outgoing.path, data=outgoing.body, headers=headers) as response:
            await _read_body(response, came, outgoing.counts, progress)
            parsed = outgoing.read(response.status, bytes(came))
            notes = response.headers.getall("Lightbulb-Note", [])
            return parsed._replace(body=bytes(came), media_type=response.content_type, notes=(*parsed.notes, *notes))
    except (aiohttp.ClientError, TimeoutError) as error:
        if outgoing.read_part and came:
            return outgoing.read_part(200, bytes(came))
        return _no_answer(intake, error)


async def _read_body(
    response: aiohttp.ClientResponse, came: bytearray, counts: bytes | None, progress: Progress
) -> None:
    """Read the whole body in chunks; report the count of processed parts."""
    total = 0
    async for part in response.content.iter_any():
        came += part
        if counts:
            total += part.count(counts)
            progress(total)


def _token(partner: Partner, addresses: Mapping[str, Any]) -> str:
    try:
        return str(addresses["partners"][partner.id]["token"])
    except KeyError:
        raise NotSent(f"addresses.json does not contain a token of {partner.id}.") from None


async def _by_mllp(outgoing: OutgoingMessage, partner: Partner, addresses: Mapping[str, Any]) -> ParsedResponse:
    listening = [addresses.get(kind, {}).get(partner.id) for kind in (outgoing.over, "mllp")]
    address = next(filter(None, listening), None)
    if address is None:
        raise NotSent(f"addresses.json does not contain an MLLP listener of {partner.id}; --http sends by HTTP.")
    host, _, port = str(address).rpartition(":")
    try:
        answers = await mllp_client.exchange(host, int(port), outgoing.body, SECONDS)
    except (OSError, TimeoutError) as error:
        return _no_answer(f"MLLP {address}", error)
    came = b"\r".join(answers)
    return outgoing.read(0, came)._replace(body=came, media_type=hl7v2.MEDIA_TYPE)


def _no_answer(where: str, error: Exception) -> ParsedResponse:
    issue = ResponseIssue(where, type(error).__name__, "no response; check that the installation is running")
    return ParsedResponse("unavailable", issues=(issue,))
