"""Send one HL7 v2 message over MLLP and return the acknowledgements, as a hospital's integration engine would.

Only frames are read (VT, bytes, FS, CR; the Minimal Lower Layer Protocol of HL7 v2), not their HL7 content.
"""

import asyncio

BEGIN, END, RETURN = b"\x0b", b"\x1c", b"\r"


def framed(message: bytes) -> bytes:
    """Return the message in its MLLP frame."""
    return BEGIN + message + END + RETURN


async def exchange(host: str, port: int, message: bytes, seconds: float = 30.0) -> list[bytes]:
    """Send one message, close the sending side, and return the frames received until the other side closes: 0 to 2.

    No frame means that no acknowledgement was requested (MSH-15 and MSH-16 NE), or that the hub could not accept the
    message: send it again. Raise OSError if the connection fails, TimeoutError after `seconds`.
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
    """Return the contents of complete frames; an incomplete one is ignored."""
    pieces = answered.split(END + RETURN)[:-1]
    return [piece.partition(BEGIN)[2] for piece in pieces if BEGIN in piece]
