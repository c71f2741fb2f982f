"""A client of a running installation: what its partners send over HTTP and MLLP, and what its topics and mailboxes hold.

It knows the installation by its addresses alone (addresses.json); no code of the product is used.
"""

import asyncio
import http.client
import re
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer
from mesh_client import MeshClient

from infra.partner_simulators import mllp_client
from tests.chaos.harness.sinks import Entry, Log
from tests.field.case import Unplayed
from tests.field.expectation import Answer
from tests.field.fresh import Fresh

HERE = Path(__file__).parent
FHIR_JSON = "application/fhir+json; version=1.0.0"
ANSWER_SECONDS = 60.0
PASS_SECONDS = 120.0
"""The longest wait for a referral to pass from intake to a hub's topic."""


class Installation:
    """One running installation. `of(addresses)` gives the one client that all cases of a run share."""

    def __init__(self, addresses: Mapping[str, Any]) -> None:
        self._addresses = addresses
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._log: Log = self._wait_for(self._open())

    def close(self) -> None:
        self._wait_for(self._log.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)

    # ---- sending

    def post(self, path: str, body: bytes, sender: str, headers: Mapping[str, str]) -> Answer:
        """POST to intake with the sender's token; again while it asks for patience (429, 503)."""
        token = self._addresses["partners"][sender]["token"]
        request = urllib.request.Request(
            self._addresses["intake"] + path, body, {"Authorization": f"Bearer {token}", **headers}
        )
        answer: Answer | None = until(lambda: _unless_later(_answer(request)), ANSWER_SECONDS)
        if answer is None:
            raise Unplayed(f"HTTP 429 or 503 for {ANSWER_SECONDS:.0f} s")
        return answer

    def fhir(self, body: bytes, sender: str, correlation_id: str | None) -> Answer:
        """POST a FHIR message with a request id of its own; without transaction ids if `correlation_id` is None."""
        ids = {"X-Request-Id": str(uuid.uuid4()), "X-Correlation-Id": correlation_id} if correlation_id else {}
        return self.post("/fhir/$process-message", body, sender, {"Content-Type": FHIR_JSON, **ids})

    def hl7v2(self, body: bytes, sender: str) -> Answer:
        """Send one HL7 v2 message over MLLP, again if no frame comes back; the answer holds every frame that did.

        ADT goes to the partner's port for ADT, if it has one.
        """
        ports = {**self._addresses["mllp"], **(self._addresses.get("adt_mllp", {}) if b"|ADT^" in body[:300] else {})}
        host, _, port = ports[sender].rpartition(":")
        frames = until(
            lambda: self._wait_for(mllp_client.exchange(host, int(port), body, ANSWER_SECONDS)), ANSWER_SECONDS
        )
        if frames is None:
            raise Unplayed(f"no acknowledgement for {ANSWER_SECONDS:.0f} s")
        text = "\n".join(frame.decode(errors="replace").replace("\r", "\n") for frame in frames)
        return Answer(" ".join(re.findall(r"^MSA\|(\w\w)", text, re.M)), text)

    # ---- what came of it

    def entries(self) -> list[Entry]:
        """Every record of `referral.event` and of the hubs' topics so far."""
        return list(self._log.entries)

    def letters(self, mailbox: str) -> list[tuple[str, bytes]]:
        """Subject and body of each message in a MESH mailbox; they stay there."""
        mesh = self._addresses["mesh"]
        key = mesh["shared_key"].encode()
        with MeshClient(mesh["url"], mailbox, mesh["password"], shared_key=key, timeout=30) as client:
            found = [client.retrieve_message(message_id) for message_id in client.list_messages()]
            return [(message.subject or "", message.read()) for message in found]

    def settle(self, *references: str) -> None:
        """Wait until everything that was accepted so far has reached the topics.

        The references are waited for, then two good referrals are sent, one after the other, and followed to their hub.
        """
        for reference in references:
            self._reaches_a_hub(reference, 30.0)
        for _ in range(2):
            fresh = Fresh()
            body = fresh.bytes((HERE / "fhir" / "control.json").read_bytes())
            answer = self.fhir(body, "gp-alder-lane", str(uuid.uuid4()))
            if not answer.reference or not self._reaches_a_hub(answer.reference, PASS_SECONDS):
                raise Unplayed(f"a good referral was answered {answer.code} and did not reach a hub")
        self._wait_for(self._log.caught_up())

    def _reaches_a_hub(self, reference: str, seconds: float) -> bool:
        def is_there() -> bool:
            return any(entry.topic.startswith("hub.") and sought in entry.value for entry in self.entries())

        sought = reference.encode()
        return bool(until(is_there, seconds))

    async def _open(self) -> Log:
        hubs = [name.removeprefix("hub-") for name in self._addresses["partners"] if name.startswith("hub-")]
        topics = ["referral.event", *(f"hub.{hub}.case" for hub in hubs)]
        async with AIOKafkaConsumer(*topics, bootstrap_servers=self._addresses["kafka"]) as consumer:
            partitions = {topic: len(consumer.partitions_for_topic(topic) or ()) for topic in topics}
        log = Log(self._addresses["kafka"], partitions)
        await log.start()
        return log

    def _wait_for(self, work: Awaitable[Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(_within(work), self._loop).result()


async def _within(work: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(work, PASS_SECONDS)


def _answer(request: urllib.request.Request) -> Answer:
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as response:
            return Answer(response.status, response.read().decode(errors="replace"), _by_name(response.headers))
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read().decode(errors="replace"), _by_name(error.headers))
    except (OSError, http.client.HTTPException) as error:
        raise Unplayed(f"no answer from intake: {error}") from error


def _by_name(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _unless_later(answer: Answer) -> Answer | None:
    return None if answer.code in (429, 503) else answer


_OPEN: dict[str, Installation] = {}
_OPENING = threading.Lock()


def of(addresses: Mapping[str, Any]) -> Installation:
    """Return the client of the installation with these addresses, the same one for every case."""
    with _OPENING:
        known = _OPEN.get(addresses["intake"])
        if known is None:
            known = _OPEN[addresses["intake"]] = Installation(addresses)
        return known


def close_all() -> None:
    """Close every client that `of` opened."""
    while _OPEN:
        _OPEN.popitem()[1].close()


def until(ready: Callable[[], Any], seconds: float) -> Any:
    """Return what `ready` finds as soon as it finds something; None after `seconds`."""
    end = time.monotonic() + seconds
    while not (found := ready()) and time.monotonic() < end:
        time.sleep(0.2)
    return found or None
