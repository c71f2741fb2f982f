"""Delivers feedback to the FHIR endpoint of the referrer's system: a BaRS-shaped `servicerequest-response`, POSTed.

Address and token come from partners.yaml and deployment.yaml of this installation, never from a message. Every resend has the same
bytes and the same X-Request-ID, so an endpoint that has it already says 409 duplicate: that is success.
"""

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID, uuid5

import aiohttp
import orjson

from services.notifier.channels import Delivered, DeliveryRequest, Failed, Outcome, Rendered, Retry, retry_after_seconds
from services.notifier.channels.bars_message import LOCAL, ODS, bundle_id, message
from services.notifier.compose import Feedback
from services.notifier.templates import SenderDetails
from services.runtime import tracing

CONNECTIONS = 64
ANSWER_SECONDS = 15.0
"""How long an endpoint may take; BaRS allows 5 s. Far below the lease of a claimed feedback."""

NOT_AUTHORISED_SECONDS = 120.0
"""Pause after 401 or 403: somebody must renew a token first."""

MOST_ANSWER_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class EndpointAddress:
    """Where a partner's feedback goes, and the token that we show there."""

    url: str
    token: str | None


Addresses = Callable[[str], EndpointAddress | None]
"""The address of a partner in this installation."""


class FhirEndpoint:
    """Implements `Channel`. Make it inside the event loop; `close()` at the end."""

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
        """Close its connections."""
        await self._session.close()

    def render(self, feedback: Feedback) -> Rendered:
        """The message, its request id, and the referral's correlation id (a GUID, as BaRS wants)."""
        ids = {
            "request_id": feedback.id,
            "correlation_id": _guid(feedback.correlation_id),
            "bundle_id": bundle_id(feedback),
            "target": feedback.recipient.ods or "",
        }
        return Rendered(message(feedback, self._sender_details), ids)

    async def deliver(self, request: DeliveryRequest) -> Outcome:
        """POST it once."""
        address = self.address_of(request)
        if address is None:
            return Retry("no-address", NOT_AUTHORISED_SECONDS)
        try:
            async with self._session.post(
                address.url, data=request.body, headers=self.headers_for(request, address), allow_redirects=False
            ) as response:
                body = await _read(response)
                return outcome_of(response.status, response.headers.get("Retry-After"), body)
        except TimeoutError:
            return Retry("time-out")
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            return Retry(f"away:{type(error).__name__}")

    def address_of(self, parcel: DeliveryRequest) -> EndpointAddress | None:
        """Return where this installation sends feedback to its recipient: never an address from a message."""
        return self._addresses(parcel.recipient)

    def headers_for(self, parcel: DeliveryRequest, address: EndpointAddress) -> dict[str, str]:
        """Return the headers of an attempt: its ids are the same at each attempt."""
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
    """The answer's body, as far as it is of a sane size. A 2xx is an answer even where its body breaks off."""
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
    """What an answer means (BaRS Core 1.5, error handling): of the 409s only `duplicate` is success."""
    if 200 <= status < 300:
        return Delivered()
    codes = _issue_codes(body)
    if status == 409:
        return Delivered(repeat=True) if "duplicate" in codes else Failed("http 409 conflict")
    if status in (408, 425, 429) or (status >= 500 and not (status == 501 and codes)):
        return Retry(f"http {status}", retry_after_seconds(retry_after))
    if status in (401, 403):
        return Retry(f"http {status}", retry_after_seconds(retry_after) or NOT_AUTHORISED_SECONDS)
    return Failed(f"http {status}")


def _issue_codes(body: bytes) -> set[str]:
    """The issue codes of an OperationOutcome; none where it is anything else."""
    try:
        outcome = orjson.loads(body)
        if outcome["resourceType"] != "OperationOutcome":
            return set()
        return {str(issue.get("code")) for issue in outcome["issue"]}
    except (ValueError, KeyError, TypeError, AttributeError):
        return set()


def _own_headers(sender_details: SenderDetails) -> dict[str, str]:
    """Who we are, as BaRS wants it; nothing of a person."""
    organisation = {
        "resourceType": "Organization",
        "identifier": [{"system": ODS, "value": sender_details.ods}],
        "name": sender_details.name,
    }
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
