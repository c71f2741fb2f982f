"""Channel to a practice by MESH: a GP Connect Send Document letter, workflow GPCONNECT_SEND_DOCUMENT.

A response of MESH means *accepted* only. Whether the message was collected, and whether the practice has the patient, comes later in
separate messages. A response can be lost, and MESH treats a second send as a second letter: therefore each retry first queries MESH
by our local id. Recipient and subject may name the patient, as MESH requires: they are never logged.
"""

import asyncio
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import quote

import requests
from mesh_client import MeshClient

from schemas.text import ascii_spelling
from services.notifier.channels import (
    ABOUT_THE_MESSAGE,
    Delivered,
    DeliveryRequest,
    Failed,
    Outcome,
    Rendered,
    Retry,
    is_html,
    itk3,
    letter,
    retry_after_seconds,
)
from services.notifier.compose import Feedback
from services.notifier.templates import SenderDetails
from services.runtime.logs import log
from services.runtime.settings import Settings

WORKFLOW = "GPCONNECT_SEND_DOCUMENT"
CLIENTS = 8
ANSWER_SECONDS = 11.0
QUEUE_SECONDS = 4.0
"""Waiting for a client, tracking and sending together stay below the lease of an attempt (30 s)."""

CODE = re.compile("(EPL-)?[0-9]{1,3}[A-Z]?")
"""Form of MESH's error codes."""

ABOUT_THE_ENDPOINT = frozenset({401, 403, 404, 405, 408, 425, 429})
"""Statuses of 4xx that do not reject the letter, also if the body has a code of MESH."""

VERSION = "1"
SUBJECT_LENGTH = 500
"""Longest Mex-Subject (MESH API, message headers)."""


class MeshNotSet(Exception):
    """The settings for MESH are incomplete."""


class MeshChannel:
    """Implements `Channel`. `mailboxes` returns a partner's mailbox; MESH finds practices that are not partners."""

    def __init__(
        self,
        client: Callable[[], MeshClient],
        mailbox: str,
        mailboxes: Callable[[str], str | None],
        sender_details: SenderDetails,
    ) -> None:
        self._client = client
        self._mailbox = mailbox
        self._mailboxes = mailboxes
        self._sender_details = sender_details
        self._own = threading.local()
        self._clients: list[MeshClient] = []
        self._threads = ThreadPoolExecutor(CLIENTS, thread_name_prefix="mesh")
        self._free = asyncio.Semaphore(CLIENTS)

    @classmethod
    def from_settings(
        cls, settings: Settings, mailboxes: Callable[[str], str | None], sender_details: SenderDetails
    ) -> "MeshChannel":
        """Create the channel. Raise MeshNotSet if a setting is missing."""
        url, mailbox = settings.mesh_url, settings.mesh_mailbox
        if url is None or mailbox is None or settings.mesh_password is None or settings.mesh_shared_key is None:
            raise MeshNotSet("Set all of LIGHTBULB_MESH_URL, _MAILBOX, _PASSWORD and _SHARED_KEY, or none of them")
        client = partial(
            connect,
            url,
            mailbox,
            settings.mesh_password.get_secret_value(),
            settings.mesh_shared_key.get_secret_value(),
        )
        return cls(client, mailbox, mailboxes, sender_details)

    def close(self) -> None:
        """Wait for current attempts, end the threads and close the clients."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for client in self._clients:
            client.close()  # type: ignore[no-untyped-call]  # mesh-client ships no types

    def render(self, feedback: Feedback) -> Rendered:
        """Return the letter in its Bundle, with local id, subject, and the address if MESH must find the practice."""
        ids = {
            "local_id": f"{self._sender_details.ods}-{feedback.id}",
            "bundle_id": itk3.bundle_id(feedback),
            "subject": subject(feedback, self._sender_details),
        }
        if feedback.recipient.routed:
            ids["to"] = automatic(feedback)
        return Rendered(itk3.as_xml(itk3.bundle(feedback, self._sender_details, self._mailbox)), ids)

    async def deliver(self, request: DeliveryRequest) -> Outcome:
        """Make one attempt in a thread, because the client is synchronous."""
        try:
            await asyncio.wait_for(self._free.acquire(), QUEUE_SECONDS)
        except TimeoutError:
            return Retry("all-clients-busy", 1.0, endpoint=False)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._deliver, request)
        finally:
            self._free.release()

    def _deliver(self, request: DeliveryRequest) -> Outcome:
        try:
            existing = track(self._mine(), request) if request.attempt > 1 else None
            return existing or self._send(request)
        except requests.Timeout:
            return Retry("time-out")
        except requests.HTTPError as error:
            return _outcome_of_answer(error.response)
        except (requests.RequestException, OSError) as error:
            return Retry(f"away:{type(error).__name__}")

    def _mine(self) -> MeshClient:
        """Return the client of this thread; a client counts its authentication tokens, so threads do not share one."""
        if not hasattr(self._own, "client"):
            self._own.client = self._client()
            self._clients.append(self._own.client)
        client: MeshClient = self._own.client
        return client

    def _send(self, request: DeliveryRequest) -> Outcome:
        to = request.ids.get("to") or self._mailboxes(request.recipient)
        if to is None:
            return Retry("no-mailbox", endpoint=False)
        response = self._mine().send_chunk(
            recipient=to,
            chunk=request.body,
            chunk_num=1,
            total_chunks=1,
            workflow_id=WORKFLOW,
            local_id=request.ids["local_id"],
            subject=request.ids["subject"],
            filename=f"{request.ids['bundle_id']}.xml",
            content_type="application/fhir+xml",
        )
        return _outcome_of_answer(response)


class MeshUnset:
    """Implements `Channel` in an installation without settings for MESH: letters wait, and are rendered once it has them."""

    def render(self, feedback: Feedback) -> Rendered:
        """Return no bytes: a letter names our mailbox."""
        return Rendered(b"", {})

    async def deliver(self, request: DeliveryRequest) -> Outcome:
        """Return Retry."""
        return Retry("no-settings")


def connect(url: str, mailbox: str, password: str, shared_key: str) -> MeshClient:
    """Create a client without automatic retries, because a repeated POST would be a second letter, and without redirects."""
    client = MeshClient(url, mailbox, password, shared_key=shared_key.encode(), max_retries=0, timeout=ANSWER_SECONDS)
    client._session.get_redirect_target = lambda resp: None  # type: ignore[method-assign]  # no setting for it
    return client


def track(client: MeshClient, parcel: DeliveryRequest) -> Outcome | None:
    """Return the outcome that MESH has under our local id, or None if the letter must be sent.

    mesh-client tracks a message only by MESH's id, which is unknown if the response was lost.
    """
    local_id = quote(parcel.ids["local_id"])
    response = client._session.get(f"{client.mailbox_url}/outbox/tracking/{local_id}", timeout=ANSWER_SECONDS)
    match response.status_code:
        case 404 if not is_html(response.content):
            return None
        case 200:
            found = _json(response)
            return Delivered(receipt=found.get("messageId") or found.get("message_id"), repeat=True)
        case 300:
            log.error("mesh_duplicate", feedback_id=parcel.feedback_id, correlation_id=parcel.correlation_id)
            return Delivered(repeat=True)
        case status:
            return Retry(f"tracking http {status}", retry_after_seconds(response.headers.get("Retry-After")))


def failure_outcome(status: int, body: Mapping[str, Any], retry_after: str | None = None) -> Outcome:
    """Return the outcome of MESH's response to a POST.

    A rejection of the letter (417 and other 4xx) is final: code 12 unknown recipient, 17 workflow, EPL-150..154. Everything else
    concerns MESH: a 4xx without a code of MESH comes from a gateway.
    """
    if status in (200, 202):
        receipt = body.get("message_id") or body.get("messageID")
        return Delivered(receipt=receipt) if receipt else Retry("no-message-id")
    code = _code(body)
    rejected = code is not None or (status in ABOUT_THE_MESSAGE and body)
    if rejected and 400 <= status < 500 and status not in ABOUT_THE_ENDPOINT:
        return Failed(f"mesh {code or f'http {status}'}")
    return Retry(f"http {status}", retry_after_seconds(retry_after))


def _outcome_of_answer(response: requests.Response | None) -> Outcome:
    if response is None:
        return Retry("no-answer")
    return failure_outcome(response.status_code, _json(response), response.headers.get("Retry-After"))


def _code(body: Mapping[str, Any]) -> str | None:
    detail = body.get("detail")
    first = detail[0] if isinstance(detail, list) and detail and isinstance(detail[0], dict) else {}
    code = body.get("errorCode") or first.get("code")
    return str(code) if CODE.fullmatch(str(code)) else None


def _json(response: requests.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def subject(feedback: Feedback, sender_details: SenderDetails) -> str:
    """Return the subject as GP Connect Send Document 1.3.2 requires, in ASCII; it does not name a provisional person.

    A name is never shortened: one with a letter that has no ASCII spelling, or that does not fit into MESH's header, is replaced
    by our reference.
    """
    seen_at = f"seen at {sender_details.short_name}, {sender_details.ods}, Version: {VERSION}"
    reference, person = f"reference {feedback.reference}", feedback.person
    if person is None:
        return _as_header(f"{letter.TITLE} for {reference}, {seen_at}") or letter.TITLE
    number = f"NHS Number: {person.nhs_number or 'not given'}"
    lines = (
        _as_header(f"{letter.TITLE} for {whose}, {number}, {seen_at}") for whose in (letter.name_of(person), reference)
    )
    return next(filter(None, lines), letter.TITLE)


def _as_header(line: str) -> str | None:
    spelled = ascii_spelling(line)
    return spelled if spelled and len(spelled) <= SUBJECT_LENGTH else None


def automatic(feedback: Feedback) -> str:
    """Return GPPROVIDER_<NHS number>_<yyyymmdd>_<surname>, by which MESH finds the registered practice."""
    person = feedback.person
    assert person is not None
    assert person.birth_date is not None
    surname = ascii_spelling(person.family_name or "")
    assert surname is not None
    return f"GPPROVIDER_{person.nhs_number}_{person.birth_date:%Y%m%d}_{surname}"
