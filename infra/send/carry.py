"""Carries a letter to a running installation, and brings the answer."""

from collections.abc import Callable, Mapping
from typing import Any

import aiohttp

from infra import mllp
from infra.send.answers import Fault, Said
from infra.send.letters import Letter, NotSent
from services.partners import Partner

SECONDS = 60
"""The longest wait for an answer, or for more of one."""

Progress = Callable[[int], None]
"""Is told how many rows of a long file have been answered."""


async def carry(
    letter: Letter, partner: Partner, addresses: Mapping[str, Any], session: aiohttp.ClientSession, told: Progress
) -> Said:
    """What the installation said; raises NotSent where addresses.json lacks what is needed."""
    if letter.over == "mllp":
        return await _by_mllp(letter, partner, addresses)
    return await _by_http(letter, _token(partner, addresses), str(addresses["intake"]), session, told)


async def _by_http(letter: Letter, token: str, intake: str, session: aiohttp.ClientSession, told: Progress) -> Said:
    headers = {**letter.headers, "Authorization": f"Bearer {token}"}
    came = bytearray()
    try:
        async with session.post(intake + letter.path, data=letter.body, headers=headers) as response:
            await _take_in(response, came, letter.counts, told)
            return letter.read(response.status, bytes(came))
    except (aiohttp.ClientError, TimeoutError) as error:
        if letter.counts and letter.counts in came:
            return letter.read(200, bytes(came))
        return _no_answer(intake, error)


async def _take_in(response: aiohttp.ClientResponse, came: bytearray, counts: bytes | None, told: Progress) -> None:
    """The whole body, however it comes; what is counted in it is told meanwhile."""
    counted = 0
    async for part in response.content.iter_any():
        came += part
        if counts:
            counted += part.count(counts)
            told(counted)


def _token(partner: Partner, addresses: Mapping[str, Any]) -> str:
    try:
        return str(addresses["partners"][partner.id]["token"])
    except KeyError:
        raise NotSent(f"addresses.json holds no token of {partner.id}.") from None


async def _by_mllp(letter: Letter, partner: Partner, addresses: Mapping[str, Any]) -> Said:
    address = addresses.get("mllp", {}).get(partner.id)
    if address is None:
        raise NotSent(f"addresses.json names no MLLP listener of {partner.id}; --http sends by HTTP.")
    host, _, port = str(address).rpartition(":")
    try:
        answers = await mllp.exchange(host, int(port), letter.body, SECONDS)
    except (OSError, TimeoutError) as error:
        return _no_answer(f"MLLP {address}", error)
    return letter.read(0, b"\r".join(answers))


def _no_answer(where: str, error: Exception) -> Said:
    fault = Fault(where, type(error).__name__, "no answer; is the installation running?")
    return Said("unavailable", faults=(fault,))
