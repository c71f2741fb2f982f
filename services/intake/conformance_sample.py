"""Give one in a thousand accepted BaRS messages to both checks of FHIR conformance, outside the event loop.

The structs of bars_fhir/compiled.py must accept nothing that fhir.resources refuses. A message in which they do is logged by
resource type and kind of fault, never by a value, and counted. Its answer and the referral stay as they are.
"""

import asyncio
from uuid import UUID

from services.intake.translators import json_text
from services.intake.translators.bars_fhir import compiled, validation
from services.intake.translators.translator import Issue
from services.runtime import metrics
from services.runtime.logs import log

ONE_IN = 1_000


class ConformanceSample:
    """The comparison that is running, if any: a message that is due before it ends is not compared."""

    def __init__(self) -> None:
        self._running: asyncio.Task[None] | None = None

    def offer(self, message_id: UUID, body: bytes) -> None:
        """Compare the checks on an accepted message if its id is one of the sample's."""
        if message_id.int % ONE_IN == 0 and (self._running is None or self._running.done()):
            self._running = asyncio.create_task(_compare(body))

    async def wait(self) -> None:
        """Wait for the comparison that is running."""
        if self._running is not None:
            await self._running


async def _compare(body: bytes) -> None:
    try:
        found = await asyncio.to_thread(differences, body)
    except Exception as error:
        log.error("conformance_sample_failed", error_type=type(error).__name__)
        return
    for resource_type, kind in found:
        log.error("fhir_conformance_differs", resource_type=resource_type, kind=kind)
        metrics.CONFORMANCE_DIFFERENCES.labels(resource_type).inc()


def differences(body: bytes) -> set[tuple[str, str]]:
    """Return resource type and kind of each fault that fhir.resources finds in a message that the structs accept."""
    tree = json_text.read(body, "Bundle")
    if not isinstance(tree, dict) or compiled.conforming(body, tree) is None:
        return set()
    return {(_resource_type(tree, issue), issue.kind) for issue in validation.find_issues(tree)}


def _resource_type(tree: dict[str, object], issue: Issue) -> str:
    """Return the type of the entry's resource that an issue is in, or Bundle."""
    _, _, below = issue.place.partition("Bundle.entry[")
    index, _, inside = below.partition("]")
    entries = tree["entry"]
    assert isinstance(entries, list)
    return str(entries[int(index)]["resource"]["resourceType"]) if inside.startswith(".resource") else "Bundle"
