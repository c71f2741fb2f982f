"""One HL7 v2 message over MLLP and what is answered to it, as a hospital's integration engine would send it.

Reads no HL7: frames only (VT, bytes, FS, CR; the Minimal Lower Layer Protocol of HL7 v2).
"""

import asyncio

BEGIN, END, RETURN = b"\x0b", b"\x1c", b"\r"


def framed(message: bytes) -> bytes:
    """The message as it goes over the wire."""
    return BEGIN + message + END + RETURN


async def exchange(host: str, port: int, message: bytes, seconds: float = 30.0) -> list[bytes]:
    """Send one message, say that no more will come, and give what is answered until the other side ends: no frame, one or two.

    Nothing at all means that no acknowledgement was asked for (MSH-15 and MSH-16 NE), or that the hub could not promise anything:
    send again. Raises OSError where nobody listens or the connection breaks, TimeoutError after so many seconds.
    """
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(framed(message))
            await writer.drain()
            writer.write_eof()
            return _frames(await reader.read())
        finally:
            writer.close()


def _frames(answered: bytes) -> list[bytes]:
    """What stands in whole frames; a broken one counts for nothing."""
    pieces = answered.split(END + RETURN)[:-1]
    return [piece.partition(BEGIN)[2] for piece in pieces if BEGIN in piece]
