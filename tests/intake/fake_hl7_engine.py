"""A ward's integration engine, and intake with its MLLP ports open in this process."""

import asyncio
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.local.embedded import ports_and_secrets
from services.intake.mllp.server import Mllp
from services.intake.translators.hl7v2 import PartnerProfile, translator
from services.intake.translators.inbound_message import Translator
from services.runtime.settings import Settings
from tests.intake.running import InProcess, Installation, rows

SECONDS = 15.0
"""Nothing here takes so long, unless it hangs."""


MAPPING = PartnerProfile.model_validate(
    {
        "partner": "uhl",
        "title": "A trust of these tests",
        "needs": {"read_from": ["RF1-3"], "codes": {"MOVE": {"service": "housing-choices"}}},
        "reasons": {"read_from": ["RF1-3"], "codes": {"MOVE": "home-no-longer-suitable"}},
    }
)
TRANSLATE = translator({name: MAPPING.model_copy(update={"partner": name}) for name in ("uhl", "lpt")})


def framed(message: bytes) -> bytes:
    return b"\x0b" + message + b"\x1c\r"


class Engine:
    """One connection to a port."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def send(self, message: bytes) -> str:
        """One message, and the one frame that answers it."""
        await self.write(framed(message))
        return await self.answer()

    async def answer(self) -> str:
        async with asyncio.timeout(SECONDS):
            frame = await self.reader.readuntil(b"\x1c\r")
        assert frame.startswith(b"\x0b")
        return frame[1:-2].decode()

    async def rest(self) -> bytes:
        """What comes until the other side closes."""
        async with asyncio.timeout(SECONDS):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    def close(self) -> None:
        self.writer.close()


class Wards(InProcess):
    """Intake with an MLLP port for each of its hospital partners, and one for TLS where `settings` tells its files."""

    def __init__(
        self,
        installation: Installation,
        engine: AsyncEngine,
        translate: Translator = TRANSLATE,
        access: dict[str, dict[str, Any]] | None = None,
        settings: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        named = ("uhl", "lpt", "uhl-adt", "lpt-adt", "tls")
        self.ports = dict(zip(named, ports_and_secrets.free_ports(len(named)), strict=True))
        ports = {
            name: {"mllp_port": self.ports[name], "adt_mllp_port": self.ports[f"{name}-adt"]} for name in ("uhl", "lpt")
        }
        give(installation.folder / "deployment.yaml", ports)
        give(installation.folder / "deployment.yaml", access or {})
        super().__init__(installation, engine, translate=translate, **more)
        self.mllp = Mllp(self.intake)
        self.settings = Settings(
            database="postgresql+asyncpg://nobody@127.0.0.1/none",
            kafka="127.0.0.1:1",
            secret_file=installation.folder / "secret",
            stop_delay_seconds=0,
            mllp_tls_port=self.ports["tls"] if settings else None,
            **(settings or {}),
        )
        self.engines: list[Engine] = []

    async def __aenter__(self) -> "Wards":
        await super().__aenter__()
        await self.mllp.open(self.settings)
        return self

    async def __aexit__(self, *_: object) -> None:
        for engine in self.engines:
            engine.close()
        await self.mllp.stop()
        await super().__aexit__()

    async def connect(self, port: str = "uhl", **more: Any) -> Engine:
        engine = Engine(*await asyncio.open_connection("127.0.0.1", self.ports[port], **more))
        self.engines.append(engine)
        return engine

    def happened(self, what: str, partner: str = "uhl") -> int:
        return self.mllp.counts[partner, what]


def agreed(installation: Installation, **hl7v2: dict[str, Any]) -> Installation:
    """Change what partners.yaml says of the HL7 v2 of these partners."""
    reviewed = installation.folder / "reference_data"
    shutil.copytree(installation.directory, reviewed)
    file = reviewed / "partners.yaml"
    said = yaml.safe_load(file.read_text())
    for partner in said["partners"]:
        partner["hl7v2"] = partner.get("hl7v2", {}) | hl7v2.get(partner["id"], {})
    file.write_text(yaml.safe_dump(said))
    return dataclasses.replace(installation, directory=reviewed)


def give(deployment: Path, access: dict[str, dict[str, Any]]) -> None:
    """Add to what deployment.yaml says of these partners."""
    said = yaml.safe_load(deployment.read_text())
    for name, more in access.items():
        said["partners"][name] |= more
    deployment.write_text(yaml.safe_dump(said))


def acknowledged(message: str) -> tuple[str, str]:
    """MSA-1 and MSA-3 of an answer."""
    msa = next(line for line in message.split("\r") if line.startswith("MSA")).split("|")
    return msa[1], msa[3] if len(msa) > 3 else ""


async def until_in_hand(engine: AsyncEngine) -> None:
    """Until a message waits for its commit behind a lock of the test's."""
    async with asyncio.timeout(SECONDS):
        while not await rows(engine, "select 1 from pg_locks where not granted"):
            await asyncio.sleep(0.02)
