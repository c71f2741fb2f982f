"""Who connects over MLLP, before a byte is read: a port that is a partner's own, or a client certificate."""

import asyncio
import ssl
from collections.abc import Callable

from services.messaging.process import CannotListen
from services.messaging.settings import Settings
from services.partners import Listener, Partner, Partners

Who = Callable[[asyncio.StreamWriter], Partner | None]
"""Who is at the other end of a connection, or none."""


def by_port(listener: Listener) -> Who:
    """Whose port it is, for who comes from one of its networks."""

    def who(writer: asyncio.StreamWriter) -> Partner | None:
        peer = writer.get_extra_info("peername")
        return listener.partner if peer and listener.lets_in(peer[0]) else None

    return who


def by_certificate(partners: Partners) -> Who:
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
