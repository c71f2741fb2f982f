"""The edges: attachments, headers, redirects, and who may ask for what."""

import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.field.case import Unplayed, Wrong, case
from tests.field.clients import Installation, raw
from tests.field.referrals import Person, bars, document, hl7

PRACTICE = "gp-castle-view"
NO_REFERRAL = "/referrals/LB-0000-0000-0000/feedback"


def referral_with_an_attachment(hub: Installation, person: Person, request: str) -> tuple[str, str]:
    """Our references of a referral to Blaby's hub, and of its attachment."""
    message = bars(person, referral=request, documents=[document(b"a secret assessment")])
    reference = hub.refer(PRACTICE, message)
    found = hub.hub_events("blaby", about=reference)
    attachments = found[-1].referrals[0]["referral"].get("attachments", []) if found else []
    if not attachments:
        raise Unplayed("the hub was not informed of an attachment")
    return reference, str(attachments[0]["reference"])


@case("security/a1-attachment-is-for-the-holder-while-consent-stands")
def attachment_is_for_the_holder_while_consent_stands(addresses: dict[str, Any]) -> None:
    hub, person, request = Installation(addresses), Person(), str(uuid.uuid4())
    _, attachment = referral_with_an_attachment(hub, person, request)
    if (holder := hub.attachment("hub-blaby", attachment).status) != 200:
        raise Unplayed(f"the holder's hub was answered {holder}")
    stranger = hub.attachment("hub-melton", attachment).status
    hub.refer(PRACTICE, bars(person, referral=request, status="revoked", reason="delete", consent=False))
    hub.settle()
    withdrawn = hub.attachment("hub-blaby", attachment).status
    if 200 in (stranger, withdrawn):
        raise Wrong(
            f"a hub that never had the case is answered {stranger}, the holder after the withdrawal {withdrawn}"
        )


# ---- HTTP -----------------------------------------------------------------------------------------------------------


@case("security/h1-trailer-does-not-carry-a-credential")
def trailer_does_not_carry_a_credential(addresses: dict[str, Any]) -> None:
    """RFC 9110 6.5.1: a trailer field is not merged into the header; gateways and logs do not look at trailers."""
    hub = Installation(addresses)
    head = f"GET {NO_REFERRAL} HTTP/1.1\r\nHost: hub\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n".encode()
    credential = f"Authorization: Bearer {hub.token('uhl')}\r\n".encode()
    without = status_line(raw(hub.notifier, head + b"\r\n0\r\n\r\n"))
    in_header = status_line(raw(hub.notifier, head + credential + b"\r\n0\r\n\r\n"))
    in_trailer = status_line(raw(hub.notifier, head + b"\r\n0\r\n" + credential + b"\r\n"))
    if b"401" not in without or b"404" not in in_header or not in_trailer:
        raise Unplayed(f"no credential {without!r}, in the header {in_header!r}, in the trailer {in_trailer!r}")
    if in_trailer == in_header:
        raise Wrong(f"a credential in the trailer is answered like one in the header: {in_trailer!r}")


def status_line(answer: bytes) -> bytes:
    return answer.partition(b"\r\n")[0]


@case("security/h2-redirects-do-not-lead-to-plain-http")
def redirects_do_not_lead_to_plain_http(addresses: dict[str, Any]) -> None:
    """A slash too many does not send the message again, in clear, to the host of the Host header."""
    hub = Installation(addresses)
    head = " HTTP/1.1\r\nHost: hub.example.nhs.uk\r\nX-Forwarded-Proto: https\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    asked = (
        (hub.intake, "POST /councils/blaby/referrals/"),
        (hub.intake, "POST /forms/self/"),
        (hub.notifier, f"GET {NO_REFERRAL}/"),
    )
    answers = [raw(url, (request + head).encode()) for url, request in asked]
    if not all(answer.startswith(b"HTTP/1.1 ") for answer in answers):
        raise Unplayed(f"not every request was answered: {answers}")
    lines = [line for answer in answers for line in answer.split(b"\r\n") if line.lower().startswith(b"location")]
    if plain := [line for line in lines if b"http://" in line]:
        raise Wrong(f"{len(plain)} of {len(asked)} are redirected: {plain[0].decode()}")


# ---- every route and every partner ----------------------------------------------------------------------------------


class Route(NamedTuple):
    """A request, and the partners that may make it."""

    name: str
    allowed: set[str]
    method: str
    url: str
    body: bytes | None = None
    media_type: str = "application/json"


FORMS = {
    "first-contact-plus": {"first-contact"},
    "customer-service": {"customer-service"},
    "neighbourhood": {"neighbourhood-teams"},
    "self": {"lightbulb-website"},
    "hospital-discharge": {"uhl", "lpt"},
}
COUNCILS = ("blaby", "charnwood", "harborough", "hinckley-bosworth", "melton", "nw-leicestershire", "oadby-wigston")
BARS_SENDERS = {"gp-alder-lane", "gp-brook-street", "gp-castle-view", "first-contact", "uhl"}


@case("security/z1-every-partner-reaches-its-own-routes-only")
def every_partner_reaches_its_own_routes_only(addresses: dict[str, Any]) -> None:
    """Every route is asked for by every partner, and without a credential."""
    hub = Installation(addresses)
    routes = list(_routes(hub))
    wrong = [
        f"{partner or 'nobody'} at {route.name}: {status}"
        for partner in [*addresses["partners"], None]
        for route in routes
        if not _as_expected(route, partner, status := _status(hub, route, partner))
    ]
    if wrong:
        raise Wrong(f"{len(wrong)} of {len(routes) * (len(addresses['partners']) + 1)}: " + "; ".join(wrong))


def _status(hub: Installation, route: Route, partner: str | None) -> int:
    return hub.call(route.method, route.url, route.body, route.media_type, partner).status


def _as_expected(route: Route, partner: str | None, status: int) -> bool:
    """A nonsense body shows whether the route is open without having an effect: it is refused as such, not by 401, 403 or 404."""
    if partner is None:
        return status == 401
    is_open = status == 200 if route.name == "attachment" else status not in (401, 403, 404)
    return is_open == (partner in route.allowed)


def _routes(hub: Installation) -> Iterator[Route]:
    reference, attachment = referral_with_an_attachment(hub, Person(), str(uuid.uuid4()))
    stay = hub.admit("lpt", hl7(Person(), "lpt"))
    hub.settle()
    for owner, one in ((PRACTICE, reference), ("lpt", stay)):
        yield Route(f"feedback of {owner}", {owner}, "GET", f"{hub.notifier}/referrals/{one}/feedback")
    fhir = f"{hub.intake}/fhir/$process-message"
    yield Route("bars", BARS_SENDERS, "POST", fhir, b"{}", "application/fhir+json")
    yield Route("hl7v2", {"uhl", "lpt"}, "POST", f"{hub.intake}/hl7v2", b"MSH|", "application/hl7-v2")
    for form, senders in FORMS.items():
        yield Route(form, senders, "POST", f"{hub.intake}/forms/{form}", b"{}")
    for council in COUNCILS:
        url = f"{hub.intake}/councils/{council}/referrals"
        yield Route(council, {f"council-{council}"}, "POST", url, b"x\r\n", "text/csv")
    yield Route("attachment", {"hub-blaby"}, "GET", f"{hub.intake}/attachments/{attachment}")
