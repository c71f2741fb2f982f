"""What every carrier of feedback must do, whichever it is."""

import asyncio
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from services.notifier.channels import Delivered, DeliveryRequest, Failed, Outcome, Retry, fhir_endpoint, mesh
from services.notifier.channels.fhir_endpoint import Addresses, EndpointAddress, FhirEndpoint
from services.notifier.compose import Feedback
from tests.contract.channels.conftest import WORDS, Carrier, a_feedback
from tests.intake.certificates import Authority
from tests.notifier.between import Trouble
from tests.notifier.builders import GP, GP_MAILBOX, GP_MESH
from tests.notifier.gp_system import GpSystem, outcome

Renders = Callable[[Feedback], tuple[bytes, dict[str, str]]]


@pytest.mark.parametrize("partner", [GP, GP_MESH, GP_MAILBOX])
def test_a_feedback_is_rendered_with_the_same_bytes_and_ids_each_time(renders: Renders, partner: str) -> None:
    assert renders(a_feedback(partner)) == renders(a_feedback(partner))


def test_two_feedbacks_differ_in_their_ids(renders: Renders) -> None:
    one, other = renders(a_feedback(GP, "one")), renders(a_feedback(GP, "other"))
    assert one[0] != other[0]
    assert not set(one[1].values()) & set(other[1].values()) - {_subject(one[1])}


def _subject(ids: dict[str, str]) -> str:
    return ids.get("subject", "")


async def test_a_delivered_message_arrives_as_it_was_rendered(carrier: Carrier) -> None:
    assert isinstance(await carrier.channel.deliver(carrier.parcel()), Delivered)
    assert await carrier.arrived() == [carrier.parcel().body]


async def test_a_repeated_delivery_succeeds_and_arrives_once(carrier: Carrier) -> None:
    await carrier.channel.deliver(carrier.parcel())
    again = await carrier.channel.deliver(carrier.parcel(attempt=2))
    assert isinstance(again, Delivered)
    assert again.repeat
    assert len(await carrier.arrived()) == 1


async def test_a_rejection_by_the_recipient_is_final(carrier: Carrier) -> None:
    carrier.refuses()
    outcome = await carrier.channel.deliver(carrier.parcel())
    assert isinstance(outcome, Failed)
    assert await carrier.arrived() == []


@pytest.mark.parametrize("status", [301, 302, 307, 401, 403, 404, 405, 408, 429, 500, 501, 502, 503, 504])
async def test_what_concerns_the_endpoint_is_retried_and_no_redirect_is_followed(carrier: Carrier, status: int) -> None:
    carrier.between.trouble(Trouble(status=status, headers={"Location": f"{carrier.between.url}/elsewhere"}))
    assert await carrier.channel.deliver(carrier.parcel()) == Retry(f"http {status}")
    assert (len(carrier.between.posts), carrier.between.asked) == (1, [])
    assert isinstance(await carrier.channel.deliver(carrier.parcel(2)), Delivered)
    assert len(await carrier.arrived()) == 1


@pytest.mark.parametrize("status", [200, 400, 403, 409, 422, 502])
async def test_a_page_comes_from_a_gateway_whatever_its_status_says(carrier: Carrier, status: int) -> None:
    page = b"\xef\xbb\xbf <!-- gateway --> <!DOCTYPE html><html><body>Log in</body></html>"
    carrier.between.trouble(Trouble(status=status, body=page))
    answered = await carrier.channel.deliver(carrier.parcel())
    assert isinstance(answered, Retry)
    assert answered.endpoint
    assert isinstance(await carrier.channel.deliver(carrier.parcel(2)), Delivered)


async def test_retry_after_is_returned(carrier: Carrier) -> None:
    carrier.between.trouble(
        Trouble(status=503, headers={"Retry-After": "7"}),
        Trouble(status=429, headers={"Retry-After": "Fri, 31 Dec 2099 23:59:59 GMT"}),
        Trouble(status=503, headers={"Retry-After": "soon"}),
    )
    first, second, third = [await carrier.channel.deliver(carrier.parcel()) for _ in range(3)]
    assert first == Retry("http 503", 7.0)
    assert isinstance(second, Retry)
    assert (second.after or 0) > 1000
    assert third == Retry("http 503")


async def test_a_slow_recipient_times_out_and_is_retried(carrier: Carrier) -> None:
    carrier.between.trouble(Trouble(slow=3.0, cut=True))
    before = time.monotonic()
    assert await carrier.channel.deliver(carrier.parcel()) == Retry("time-out")
    assert time.monotonic() - before < 2.5


async def test_a_recipient_that_accepts_and_closes_gets_the_message_once(carrier: Carrier) -> None:
    """The reply is lost after the effect: the most important fault of all."""
    carrier.between.trouble(Trouble(lost=True))
    first = await carrier.channel.deliver(carrier.parcel())
    assert isinstance(first, Retry)
    assert first.reason.startswith("away")
    second = await carrier.channel.deliver(carrier.parcel(attempt=2))
    assert isinstance(second, Delivered)
    assert second.repeat
    assert await carrier.arrived() == [carrier.parcel().body]


async def test_a_recipient_that_closes_without_accepting_gets_the_message_later(carrier: Carrier) -> None:
    carrier.between.trouble(Trouble(cut=True))
    assert isinstance(await carrier.channel.deliver(carrier.parcel()), Retry)
    assert isinstance(await carrier.channel.deliver(carrier.parcel(2)), Delivered)
    assert len(await carrier.arrived()) == 1


async def test_an_unreachable_recipient_is_unavailable(carrier: Carrier) -> None:
    await carrier.between._runner.cleanup()
    outcome = await carrier.channel.deliver(carrier.parcel())
    assert isinstance(outcome, Retry)
    assert outcome.reason.startswith("away")


async def test_a_conflict_without_a_reason_is_never_success(carrier: Carrier) -> None:
    carrier.between.trouble(Trouble(status=409, body=b"\xff{}"), Trouble(status=409, body=b"[]"))
    for _ in range(2):
        assert not isinstance(await carrier.channel.deliver(carrier.parcel()), Delivered)
    assert await carrier.arrived() == []


@pytest.mark.parametrize(
    ("status", "body", "wanted"),
    [
        (400, outcome("invalid"), Failed("http 400")),
        (422, b"", Failed("http 422")),
        (409, outcome("conflict"), Failed("http 409 conflict")),
        (409, outcome("duplicate"), Delivered(repeat=True)),
        (204, b"", Delivered()),
        (200, b"OK", Delivered()),
        (101, b"", Retry("http 101")),
        (304, b"", Retry("http 304")),
        (418, outcome("invalid"), Retry("http 418")),
        (501, outcome("not-supported"), Retry("http 501")),
    ],
)
def test_a_fhir_endpoint_rejects_a_message_by_400_409_and_422_only(status: int, body: bytes, wanted: object) -> None:
    assert fhir_endpoint.outcome_of(status, None, body) == wanted


@pytest.mark.parametrize(
    ("status", "code", "wanted"),
    [
        (417, "12", Failed("mesh 12")),
        (400, "17", Failed("mesh 17")),
        (417, "EPL-151", Failed("mesh EPL-151")),
        (422, None, Failed("mesh http 422")),
        (413, None, Retry("http 413")),
        (404, "20", Retry("http 404")),
        (403, "EPL-200", Retry("http 403")),
        (500, "12", Retry("http 500")),
        (302, None, Retry("http 302")),
        (202, None, Retry("no-message-id")),
    ],
)
def test_mesh_rejects_a_letter_by_a_4xx_with_a_code(status: int, code: str | None, wanted: object) -> None:
    assert mesh.failure_outcome(status, {"detail": [{"code": code}]}) == wanted


async def test_a_certificate_that_is_not_trusted_and_a_broken_tls_handshake_concern_the_endpoint(
    tmp_path: Path,
) -> None:
    certificate, key, _ = Authority(tmp_path, "nobody trusts it").issue("gp")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    async with await asyncio.start_server(_close, "127.0.0.1", 0, ssl=tls) as server, GpSystem() as plain:
        port = server.sockets[0].getsockname()[1]
        too_long = "https://" + "a" * 64 + ".example/fhir"
        for url in (f"https://127.0.0.1:{port}/fhir", plain.url.replace("http:", "https:"), too_long):
            answered = await _deliver_once(lambda partner, url=url: EndpointAddress(url, None))  # type: ignore[misc]
            assert isinstance(answered, Retry)
            assert answered.endpoint


async def _close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _deliver_once(addresses: Addresses) -> Outcome:
    endpoint = FhirEndpoint(addresses, WORDS.sender_details)
    rendered = endpoint.render(a_feedback(GP))
    try:
        return await endpoint.deliver(DeliveryRequest("id", "LB-1", "c", GP, rendered.body, rendered.ids, 1))
    finally:
        await endpoint.close()


async def test_an_address_or_token_that_is_missing_concerns_the_endpoint() -> None:
    def without_token(partner: str) -> EndpointAddress | None:
        raise FileNotFoundError

    assert await _deliver_once(without_token) == Retry("no-token")
    assert await _deliver_once(lambda partner: None) == Retry("no-address")
    assert await mesh.MeshUnset().deliver(DeliveryRequest("id", "LB-1", "c", GP_MESH, b"", {}, 1)) == Retry(
        "no-settings"
    )


async def test_failure_reasons_hold_no_personal_data(carrier: Carrier) -> None:
    troubles = [
        Trouble(status=s, body=b'{"detail": [{"code": "9990000018 Vantongeren, Edith of Nowhere"}]}')
        for s in (417, 500)
    ]
    carrier.between.trouble(*troubles, Trouble(cut=True))
    for _ in range(3):
        reason = getattr(await carrier.channel.deliver(carrier.parcel()), "reason", "")
        assert "Vantongeren" not in reason
        assert "9990000018" not in reason
