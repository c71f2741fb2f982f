"""Certificates of senders, of the hub and of their authorities, as files."""

import ssl
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = datetime.now(UTC)


class Authority:
    """Issues certificates, with their keys, as files."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        own = self._signed(self._name, self._key, x509.BasicConstraints(ca=True, path_length=0), 1)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(own.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, days: int = 1) -> tuple[Path, Path, str]:
        """Certificate, key, and the certificate's SHA-256."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signed = self._signed(subject, key, x509.BasicConstraints(ca=False, path_length=None), days)
        certificate, private = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        plain = serialization.NoEncryption()
        form = serialization.PrivateFormat.PKCS8
        private.touch(0o600)
        private.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
        return certificate, private, sha256(signed.public_bytes(serialization.Encoding.DER)).hexdigest()

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, basic: x509.BasicConstraints, days: int
    ) -> x509.Certificate:
        built = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
        dated = built.not_valid_before(NOW - timedelta(days=9)).not_valid_after(NOW + timedelta(days=days))
        named = dated.serial_number(x509.random_serial_number()).add_extension(basic, critical=True)
        return named.sign(self._key, hashes.SHA256())


class Keys:
    """Who has which certificate."""

    def __init__(self, folder: Path) -> None:
        ours, theirs = Authority(folder, "ours"), Authority(folder, "theirs")
        self.server = ours.issue("hub")
        self.of = {
            "uhl": ours.issue("uhl"),
            "council": ours.issue("council"),
            "stranger": ours.issue("stranger"),
            "expired": ours.issue("expired", days=-1),
            "self-made": theirs.issue("self-made"),
        }
        self.authority = ours.file
        self.settings = {
            "mllp_certificate": self.server[0],
            "mllp_key": self.server[1],
            "mllp_client_ca": self.authority,
        }

    def context(self, who: str | None) -> ssl.SSLContext:
        """As a sender's engine is set up."""
        context = ssl.create_default_context(cafile=str(self.authority))
        context.check_hostname = False
        if who:
            context.load_cert_chain(*self.of[who][:2])
        return context
