"""When certificates and tokens end that are in files."""

import base64
import json
import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from services.runtime import metrics


class EndUnknown(Exception):
    """It cannot be known when a certificate or token ends. The text says why, and holds nothing of the file."""


@dataclass(frozen=True, slots=True)
class Expiring:
    """A file of certificates (PEM) or with a token. `partner`: whose it is, if it is a partner's."""

    use: str
    file: Path
    partner: str = ""

    def end(self) -> datetime:
        """Return when the token, or the first of the certificates, ends. Raise EndUnknown."""
        try:
            content = self.file.read_bytes().decode("ascii", "replace").strip()
        except OSError as error:
            raise EndUnknown(f"the file cannot be read: {error.strerror}") from None
        return certificates_end(content) if "-----BEGIN" in content else token_end(content)


def of_mllp(certificate: Path | str | None, client_ca: Path | str | None) -> list[Expiring]:
    """Return the files of MLLP over TLS that are set. A process reads them when it starts."""
    uses = {"mllp-certificate": certificate, "mllp-client-ca": client_ca}
    return [Expiring(use, Path(file)) for use, file in uses.items() if file]


def of_feedback_tokens(files: Iterable[tuple[str, Path]]) -> list[Expiring]:
    """Return the files of feedback tokens, each given with its partner. A process reads them at every delivery."""
    return [Expiring("feedback-token", file, partner) for partner, file in files]


def measure(files: Iterable[Expiring]) -> None:
    """Set the metric of each of these as it ends now; NaN if that cannot be known."""
    for one in files:
        metrics.EXPIRY.labels(one.use, one.partner).set(_seconds(one))


def watch(files: Iterable[Expiring]) -> None:
    """Let the metric of each of these be what its file says when the metrics are read."""
    for one in files:
        metrics.EXPIRY.labels(one.use, one.partner).set_function(partial(_seconds, one))


def _seconds(one: Expiring) -> float:
    try:
        return one.end().timestamp()
    except EndUnknown:
        return float("nan")


def certificates_end(pem: str) -> datetime:
    """Return the earliest end of the certificates in this text. Raise EndUnknown."""
    found = re.findall("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", pem, re.DOTALL)
    if not found:
        raise EndUnknown("the file has no certificate")
    try:
        return min(_not_after(ssl.PEM_cert_to_DER_cert(one)) for one in found)
    except (ValueError, IndexError):
        raise EndUnknown("a certificate of the file cannot be read") from None


UTC_TIME, VERSION = 0x17, 0xA0


def _not_after(der: bytes) -> datetime:
    """Return `validity.notAfter` of a certificate (RFC 5280, 4.1): after version, serial number, signature and issuer."""
    _, certificate = _elements(der)[0]
    _, to_be_signed = _elements(certificate)[0]
    fields = [content for tag, content in _elements(to_be_signed) if tag != VERSION]
    tag, content = _elements(fields[3])[1]
    text = content.decode("ascii")
    if tag == UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _elements(der: bytes) -> list[tuple[int, bytes]]:
    """Return tag and content of each element of a DER sequence (X.690, 8.1)."""
    found, at = [], 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length >= 0x80:
            size = length - 0x80
            length, at = int.from_bytes(der[at : at + size]), at + size
        found.append((tag, der[at : at + length]))
        at += length
    return found


def token_end(token: str) -> datetime:
    """Return `exp` of a JSON Web Token (RFC 7519, 4.1.4). Raise EndUnknown if it is another kind of token, or has none."""
    try:
        _, payload, _ = token.split(".")
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return datetime.fromtimestamp(claims["exp"], UTC)
    except (ValueError, KeyError, TypeError, OverflowError, OSError):
        raise EndUnknown("the token does not state its end") from None
