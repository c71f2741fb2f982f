"""Connection limits of HTTP, and authentication of MLLP connections by a partner's port or by client certificate."""

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Awaitable, Callable

from services.intake import limits
from services.reference.partners import MllpFeed, MllpListener, Partners
from services.runtime import metrics, settings
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

IdentifyFeed = Callable[[asyncio.StreamWriter], MllpFeed | None]
"""Returns the partner's feed at the other end of a connection, or None."""

Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Handles a connection."""


def by_port(listener: MllpListener) -> IdentifyFeed:
    """Identify the feed of a port, for clients from one of its networks."""

    def who(writer: asyncio.StreamWriter) -> MllpFeed | None:
        peer = writer.get_extra_info("peername")
        return listener.feed if peer and listener.accepts(peer[0]) else None

    return who


def by_certificate(partners: Partners) -> IdentifyFeed:
    """Identify the feed by its client certificate, and note when that ends."""

    def who(writer: asyncio.StreamWriter) -> MllpFeed | None:
        tls = writer.get_extra_info("ssl_object")
        feed = partners.by_certificate(tls.getpeercert(binary_form=True)) if tls else None
        if feed is not None:
            end = ssl.cert_time_to_seconds(tls.getpeercert()["notAfter"])
            metrics.EXPIRY.labels("client-certificate", feed.partner.id).set(end)
        return feed

    return who


def context(chosen: Settings) -> ssl.SSLContext | None:
    """Return the TLS context, or None if no TLS port is set.

    It requires TLS 1.2 or later and a client certificate of one of the authorities. Raises CannotListen and FileRefused.
    """
    if chosen.mllp_tls_port is None:
        return None
    certificate, key, authorities = chosen.mllp_certificate, chosen.mllp_key, chosen.mllp_client_ca
    if certificate is None or key is None or authorities is None:
        named = "LIGHTBULB_MLLP_CERTIFICATE, LIGHTBULB_MLLP_KEY and LIGHTBULB_MLLP_CLIENT_CA"
        raise CannotListen(f"LIGHTBULB_MLLP_TLS_PORT requires {named}")
    settings.check_private(key, "LIGHTBULB_MLLP_KEY")
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
    """A listener with at most HANDSHAKES concurrent TLS handshakes; the oldest is aborted for the next."""

    def __init__(self, opened: socket.socket, tls: ssl.SSLContext, connected: Connected) -> None:
        opened.listen(limits.BACKLOG)
        opened.setblocking(False)
        self._opened = opened
        self._tls = tls
        self._connected = connected
        self._shaking: dict[asyncio.Task[None], None] = {}
        self._accepting = asyncio.create_task(self._accept())

    def close(self) -> None:
        """Accept no more connections, and abort the handshakes in progress."""
        self._accepting.cancel()
        self._opened.close()
        for shaking in list(self._shaking):
            shaking.cancel()

    async def _accept(self) -> None:
        while True:
            try:
                accepted, _ = await asyncio.get_running_loop().sock_accept(self._opened)
            except OSError as error:  # no file descriptor left: connections wait in the kernel
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
