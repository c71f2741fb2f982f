"""The reviewed files that feedback is composed with, kept by version: a replay composes with those of then.

Besides the files it is kept which partners this installation reaches at an endpoint and our MESH mailbox: they choose a feedback's
carrier and stand in its letter. Addresses, tokens and passwords are not kept.
"""

import hashlib
import json
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import AnyHttpUrl
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier import templates
from services.notifier.channels import Channel
from services.notifier.channels.fhir_endpoint import FhirEndpoint
from services.notifier.channels.mailbox import Mailbox
from services.notifier.channels.mesh import MeshChannel
from services.notifier.composer import FeedbackComposer
from services.notifier.recipients import PartnerRecipients
from services.reference import directory as directories
from services.reference import partners
from services.reference.partners import Deployment, PartnerCredentials, Partners
from services.runtime.database import Transaction
from services.runtime.settings import Settings

FILES = (*directories.FILES, "partners.yaml", "templates/feedback.yaml", "templates/actions.yaml")

NOWHERE = AnyHttpUrl("http://nowhere.invalid/")
"""Stands for the endpoint of a partner that had one: nothing is sent there."""


class TemplateVersionMissing(Exception):
    """The files of a version are not, or no longer, what the version says; the text says which."""


@dataclass(frozen=True)
class Source:
    """All that the bytes of a feedback depend on, beside its event and our code. `mailbox`: ours, where there is MESH."""

    files: Mapping[str, str]
    reached: tuple[str, ...]
    mailbox: str | None

    @cached_property
    def version(self) -> str:
        """Made of the content."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


def texts(folder: Path) -> dict[str, str]:
    """The files by name; empty where one cannot be read: whoever loads it says so, and where."""
    return {name: _text(folder / name) for name in FILES}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def source(config: Settings, partners: Partners) -> Source:
    """What these settings and partners compose with."""
    reached = tuple(sorted(one.id for one in partners if partners.access(one.id).feedback_url is not None))
    return Source(texts(config.directory), reached, config.mesh_mailbox if config.mesh_url else None)


async def store_source(engine: AsyncEngine, source: Source, before: Mapping[str, str]) -> str:
    """Keep it; returns its version. `before`: the files before they were read. Raises NotKept where they changed meanwhile."""
    if source.files != before:
        raise TemplateVersionMissing("The files of the directory changed while they were read. Start again.")
    async with engine.begin() as tx:
        await tx.execute(
            text("""insert into notifier.template_version (version, source) values (:version, cast(:source as jsonb))
                    on conflict do nothing"""),
            {"version": source.version, "source": json.dumps(asdict(source))},
        )
    return source.version


async def stored_sources(tx: Transaction) -> dict[str, Source]:
    """Everything that was kept, by version; raises NotKept where one is not what its version says."""
    rows = (await tx.execute(text("select version, source from notifier.template_version"))).all()
    sources = {row.version: _source(row.source) for row in rows}
    if mismatched := [version for version, one in sources.items() if one.version != version]:
        raise TemplateVersionMissing(
            f"What feedback was composed with as version {', '.join(mismatched)} is not what was kept under it."
        )
    return sources


def _source(stored: Any) -> Source:
    fields = json.loads(stored) if isinstance(stored, str) else stored
    return Source(fields["files"], tuple(fields["reached"]), fields["mailbox"])


@asynccontextmanager
async def composer_of(source: Source) -> AsyncIterator[FeedbackComposer]:
    """Composes as the notifier did that kept this; its carriers can render, and deliver nothing."""
    with tempfile.TemporaryDirectory(prefix="lightbulb-words-") as place:
        folder = _written(Path(place), source.files)
        texts = templates.load(folder, directories.load(folder))
        all_partners = Partners(partners.load(folder, None), _reaching(source.reached))
    recipients = PartnerRecipients(all_partners, mesh=source.mailbox is not None)
    endpoint = FhirEndpoint(lambda _: None, texts.sender_details)
    mesh = MeshChannel(_no_client, source.mailbox or "", recipients.mesh_mailbox, texts.sender_details)
    try:
        channels: dict[str, Channel] = {"fhir": endpoint, "mailbox": Mailbox(), "mesh": mesh}
        yield FeedbackComposer(recipients, texts, channels, source.version)
    finally:
        mesh.close()
        await endpoint.close()


def _written(folder: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def _reaching(reached: tuple[str, ...]) -> Deployment:
    return Deployment(partners={name: PartnerCredentials(feedback_url=NOWHERE) for name in reached})


def _no_client() -> Any:
    raise AssertionError("a replay sends nothing")
