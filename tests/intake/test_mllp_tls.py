"""MLLP over TLS: a client certificate is the credential, and without a known one nothing is read."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy.ext.asyncio import AsyncEngine

from services.intake import limits
from services.intake.mllp import access as mllp_access
from services.runtime import database
from services.runtime.process import CannotListen
from tests.intake.fake_hl7_engine import Engine, Wards, a_referral, acknowledged, framed
from tests.intake.running import Installation, rows

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


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
async def wards(installation: Installation, engine: AsyncEngine, keys: Keys) -> AsyncIterator[Wards]:
    access = {
        "uhl": {"certificate_sha256": [keys.of["uhl"][2], keys.of["expired"][2], keys.of["self-made"][2]]},
        "council-blaby": {"certificate_sha256": [keys.of["council"][2]]},
    }
    async with Wards(installation, engine, access=access, settings=keys.settings) as running:
        yield running


async def test_a_known_certificate_is_its_partner(wards: Wards, engine: AsyncEngine, keys: Keys) -> None:
    connection = await wards.connect("tls", ssl=keys.context("uhl"))
    answers = [await connection.send(a_referral()) for _ in range(2)]
    assert [acknowledged(answer)[0] for answer in answers] == ["AA", "AA"]
    assert {row.partner for row in await rows(engine, "select partner from intake.message")} == {"uhl"}


def test_many_messages_are_answered_on_the_loop_that_services_run_on(installation: Installation, keys: Keys) -> None:
    async def several() -> list[str]:
        engine = database.connect(installation.database)
        access = {"uhl": {"certificate_sha256": [keys.of["uhl"][2]]}}
        async with Wards(installation, engine, access=access, settings=keys.settings) as wards:
            connection = await wards.connect("tls", ssl=keys.context("uhl"))
            answers = [await connection.send(a_referral()) for _ in range(3)]
            async with asyncio.timeout(limits.WRITE_SECONDS / 2):
                while wards.happened("answered") < 3:
                    await asyncio.sleep(0.01)
        await engine.dispose()
        return [acknowledged(answer)[0] for answer in answers]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(several()) == ["AA", "AA", "AA"]


async def test_anybody_else_is_closed_and_nothing_of_them_is_read(
    wards: Wards, engine: AsyncEngine, keys: Keys
) -> None:
    for who in ("stranger", "council", "expired", "self-made", None):
        assert await _tried(wards, keys.context(who)) == b"", who
    assert wards.happened("no_credential", "unknown") == 1
    assert wards.happened("no_credential", "council-blaby") == 1
    assert await rows(engine, "select 1 from intake.message") == []


async def _tried(wards: Wards, context: ssl.SSLContext) -> bytes:
    try:
        connection = await wards.connect("tls", ssl=context)
        await connection.write(framed(a_referral()))
    except OSError:
        return b""
    return await connection.rest()


async def test_who_speaks_no_tls_is_not_heard(wards: Wards, engine: AsyncEngine) -> None:
    connection = await wards.connect("tls")
    await connection.write(framed(a_referral()))
    assert b"MSA" not in await connection.rest()
    assert await rows(engine, "select 1 from intake.message") == []


async def test_what_is_in_hand_is_answered_at_a_stop(wards: Wards, engine: AsyncEngine, keys: Keys) -> None:
    connection: Engine = await wards.connect("tls", ssl=keys.context("uhl"))
    async with engine.begin() as holder:
        await holder.exec_driver_sql("lock table intake.referral in access exclusive mode")
        await connection.write(framed(a_referral()))
        while not await rows(engine, "select 1 from pg_locks where not granted"):
            await asyncio.sleep(0.02)
        stopping = asyncio.create_task(wards.mllp.stop())
    assert acknowledged(await connection.answer())[0] == "AA"
    await stopping
    assert await connection.rest() == b""


def test_settings_that_lack_something_are_named(
    installation: Installation, engine: AsyncEngine, keys: Keys, tmp_path: Path
) -> None:
    (tmp_path / "broken.pem").write_text("not PEM")
    for lacks in keys.settings:
        assert "LIGHTBULB_MLLP_TLS_PORT requires" in _said(installation, engine, {**keys.settings, lacks: None})
        for file in (tmp_path / "broken.pem", tmp_path / "absent.pem"):
            assert str(file) in _said(installation, engine, {**keys.settings, lacks: file})


def _said(installation: Installation, engine: AsyncEngine, settings: dict[str, Path | None]) -> str:
    """Why there is no listening with these settings."""
    with pytest.raises(CannotListen) as refused:
        mllp_access.context(Wards(installation, engine, settings=settings).settings)
    return str(refused.value)
