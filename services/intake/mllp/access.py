"""Who is let in before a byte is read: over MLLP a port that is a partner's own, or a client certificate; over HTTP so many at once."""

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Awaitable, Callable

from services.intake import limits
from services.reference.partners import MllpListener, Partner, Partners
from services.runtime.http_limits import HttpLimits
from services.runtime.logs import log
from services.runtime.process import CannotListen
from services.runtime.settings import Settings

HTTP_LIMITS = HttpLimits(
    connections=limits.HTTP_CONNECTIONS,
    rejected_connections=limits.HTTP_REJECTED_CONNECTIONS,
    head_bytes=limits.HEAD_BYTES,
    head_fields=limits.HEAD_FIELDS,
    url_bytes=limits.URL_BYTES,
    head_seconds=limits.HEAD_SECONDS,
    pipelined=limits.PIPELINED,
    retry_seconds=limits.RETRY_SECONDS,
)

IdentifyPartner = Callable[[asyncio.StreamWriter], Partner | None]
"""Who is at the other end of a connection, or none."""

Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""What becomes of a connection."""


def by_port(listener: MllpListener) -> IdentifyPartner:
    """Whose port it is, for who comes from one of its networks."""

    def who(writer: asyncio.StreamWriter) -> Partner | None:
        peer = writer.get_extra_info("peername")
        return listener.partner if peer and listener.accepts(peer[0]) else None

    return who


def by_certificate(partners: Partners) -> IdentifyPartner:
    """Whose certificate was shown."""

    def who(writer: asyncio.StreamWriter) -> Partner | None:
        tls = writer.get_extra_info("ssl_object")
        return partners.by_certificate(tls.getpeercert(binary_form=True)) if tls else None

    return who


def context(chosen: Settings) -> ssl.SSLContext | None:
    """TLS 1.2 or later, and no connection without a certificate of one of the authorities."""
    if chosen.mllp_tls_port is None:
        return None
    certificate, key, authorities = chosen.mllp_certificate, chosen.mllp_key, chosen.mllp_client_ca
    if certificate is None or key is None or authorities is None:
        named = "LIGHTBULB_MLLP_CERTIFICATE, LIGHTBULB_MLLP_KEY and LIGHTBULB_MLLP_CLIENT_CA"
        raise CannotListen(f"LIGHTBULB_MLLP_TLS_PORT needs {named}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(certificate, key)
        context.load_verify_locations(authorities)
    except OSError as error:
        named = f"{certificate}, {key} or {authorities}"
        raise CannotListen(f"MLLP over TLS: one of {named} cannot be used: {error.strerror or error.args[0]}") from None
    return context


class TlsAcceptor:
    """Lets connections in and shakes hands with them, so many at once: whoever stalls longest makes room for who comes next."""

    def __init__(self, opened: socket.socket, tls: ssl.SSLContext, connected: Connected) -> None:
        opened.listen(limits.BACKLOG)
        opened.setblocking(False)
        self._opened = opened
        self._tls = tls
        self._connected = connected
        self._shaking: dict[asyncio.Task[None], None] = {}
        self._accepting = asyncio.create_task(self._accept())

    def close(self) -> None:
        """No more connections; who had not finished is cut off."""
        self._accepting.cancel()
        self._opened.close()
        for shaking in list(self._shaking):
            shaking.cancel()

    async def _accept(self) -> None:
        while True:
            try:
                accepted, _ = await asyncio.get_running_loop().sock_accept(self._opened)
            except OSError as error:  # no more files: who comes waits in the kernel
                log.warning("mllp_accept_failed", reason=errno.errorcode.get(error.errno or 0, "unknown"))
                await asyncio.sleep(limits.ACCEPT_SECONDS)
                continue
            if len(self._shaking) >= limits.HANDSHAKES:
                longest = next(iter(self._shaking))
                del self._shaking[longest]
                longest.cancel()
            self._shaking[asyncio.create_task(self._shake(accepted))] = None

    async def _shake(self, accepted: socket.socket) -> None:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader, self._connected)
        try:
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: protocol,
                    accepted,
                    ssl=self._tls,
                    ssl_handshake_timeout=limits.HANDSHAKE_SECONDS,
                    ssl_shutdown_timeout=limits.CLOSE_SECONDS,
                )
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._shaking.pop(task, None)
