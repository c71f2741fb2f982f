"""Channel to the FHIR endpoint of the recipient's system: POST of a BaRS-shaped `servicerequest-response`.

Address and token come from deployment.yaml of this installation, never from a message, and redirects are not followed. Every attempt
has the same bytes and the same X-Request-ID, so an endpoint that already has it returns 409 duplicate, which counts as success.
"""

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID, uuid5

import aiohttp
import orjson

from schemas.fhir import LOCAL
from services.notifier.channels import (
    ABOUT_THE_MESSAGE,
    Delivered,
    DeliveryRequest,
    Failed,
    Outcome,
    Rendered,
    Retry,
    is_html,
    retry_after_seconds,
)
from services.notifier.channels.bars_message import ODS, bundle_id, message
from services.notifier.compose import Feedback
from services.notifier.templates import SenderDetails
from services.runtime import tracing

CONNECTIONS = 64
ANSWER_SECONDS = 15.0
"""How long an endpoint may take; BaRS allows 5 s. Far below the lease of an attempt (30 s)."""

MOST_ANSWER_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class EndpointAddress:
    """The URL for a partner's feedback, and the token that we send there."""

    url: str
    token: str | None


Addresses = Callable[[str], EndpointAddress | None]
"""Function from a partner id to its address in this installation."""


class FhirEndpoint:
    """Implements `Channel`. Create it inside the event loop; call `close()` at the end."""

    def __init__(self, addresses: Addresses, sender_details: SenderDetails) -> None:
        self._addresses = addresses
        self._sender_details = sender_details
        connector = aiohttp.TCPConnector(limit=0, limit_per_host=CONNECTIONS, keepalive_timeout=30)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS),
            auto_decompress=False,
            skip_auto_headers=("Accept-Encoding", "User-Agent"),
        )
        self._headers = _own_headers(sender_details)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    def render(self, feedback: Feedback) -> Rendered:
        """Return the message with its request id and the referral's correlation id, a GUID as BaRS requires."""
        ids = {
            "request_id": feedback.id,
            "correlation_id": _guid(feedback.correlation_id),
            "bundle_id": bundle_id(feedback),
            "target": feedback.recipient.ods or "",
        }
        return Rendered(message(feedback, self._sender_details), ids)

    async def deliver(self, request: DeliveryRequest) -> Outcome:
        """POST the message once."""
        try:
            address = self.address_of(request)
        except OSError:
            return Retry("no-token")
        if address is None:
            return Retry("no-address")
        try:
            async with self._session.post(
                address.url, data=request.body, headers=self.headers_for(request, address), allow_redirects=False
            ) as response:
                body = await _read(response)
                return outcome_of(response.status, response.headers.get("Retry-After"), body)
        except TimeoutError:
            return Retry("time-out")
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError, UnicodeError) as error:
            return Retry(f"away:{type(error).__name__}")

    def address_of(self, parcel: DeliveryRequest) -> EndpointAddress | None:
        """Return the address of the recipient in this installation, or None; never an address from a message. Raises OSError."""
        return self._addresses(parcel.recipient)

    def headers_for(self, parcel: DeliveryRequest, address: EndpointAddress) -> dict[str, str]:
        """Return the headers of an attempt; the ids in them are the same at each attempt."""
        headers = {
            **self._headers,
            "X-Request-ID": parcel.ids["request_id"],
            "X-Correlation-ID": parcel.ids["correlation_id"],
        }
        if parcel.ids.get("target"):
            headers["NHSD-Target-Identifier"] = _base64({"system": ODS, "value": parcel.ids["target"]})
        if parcel.traceparent:
            headers[tracing.HEADER] = parcel.traceparent
        if address.token:
            headers["Authorization"] = f"Bearer {address.token}"
        return headers


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Read the response body up to a limit. A 2xx counts as a response even if its body breaks off."""
    body = bytearray()
    try:
        async for chunk in response.content.iter_chunked(MOST_ANSWER_BYTES):
            body += chunk
            if len(body) > MOST_ANSWER_BYTES:
                break
    except (aiohttp.ClientError, TimeoutError):
        if not 200 <= response.status < 300:
            raise
    return bytes(body)


def outcome_of(status: int, retry_after: str | None, body: bytes) -> Outcome:
    """Return the outcome of a response (BaRS Core 1.5, error handling): a 409 is success only with code `duplicate`.

    400, 409 and 422 reject the message. Any other failure, and any answer that is a page, concerns the endpoint.
    """
    if is_html(body):
        return Retry(f"http {status} with a page", retry_after_seconds(retry_after))
    if 200 <= status < 300:
        return Delivered()
    if status == 409:
        return Delivered(repeat=True) if "duplicate" in _issue_codes(body) else Failed("http 409 conflict")
    if status in ABOUT_THE_MESSAGE:
        return Failed(f"http {status}")
    return Retry(f"http {status}", retry_after_seconds(retry_after))


def _issue_codes(body: bytes) -> set[str]:
    """Return the issue codes of an OperationOutcome, or an empty set for any other body."""
    try:
        outcome = orjson.loads(body)
        if outcome["resourceType"] != "OperationOutcome":
            return set()
        return {str(issue.get("code")) for issue in outcome["issue"]}
    except (ValueError, KeyError, TypeError, AttributeError):
        return set()


def _own_headers(sender_details: SenderDetails) -> dict[str, str]:
    """Return the headers that identify us to BaRS; they hold no personal data."""
    identifier = {"system": ODS, "value": sender_details.ods}
    organisation = {"resourceType": "Organization", "identifier": [identifier], "name": sender_details.name}
    device = {"resourceType": "Device", "deviceName": [{"name": "Lightbulb referral hub", "type": "manufacturer-name"}]}
    return {
        "Content-Type": "application/fhir+json; version=1.0.0",
        "Accept": "application/fhir+json; version=1.0.0",
        "User-Agent": "lightbulb-notifier",
        "NHSD-End-User-Organisation": _base64(organisation),
        "NHSD-Requesting-Software": _base64(device),
        "use-context": f"{LOCAL}/housing|referral|servicerequest-response|new",
    }


def _base64(data: object) -> str:
    return base64.b64encode(orjson.dumps(data)).decode()


def _guid(correlation_id: str) -> str:
    try:
        return str(UUID(correlation_id))
    except ValueError:
        return str(uuid5(UUID(int=0), correlation_id))
