"""Councils' files as their systems, spreadsheets and people write them; most cases are data, in csv.yaml."""

from functools import partial
from typing import Any

from tests.field import http_bodies, scripted
from tests.field.case import Unplayed, Wrong, case
from tests.field.clients import Installation, raw
from tests.field.exports import BLABY
from tests.field.referrals import letters


@case("csv/http-1-0-client-gets-no-chunks")
def http_1_0_client_gets_no_chunks(addresses: dict[str, Any]) -> None:
    """An HTTP/1.0 client (ab, old integration tools) does not know chunks: the report comes whole, with its row."""
    hub = Installation(addresses)
    file = BLABY.file(BLABY.row(**{"Case Ref": letters(8)}))
    head = (
        f"POST {http_bodies.path_of('council-blaby')} HTTP/1.0\r\nHost: hub\r\nContent-Type: {http_bodies.CSV}\r\n"
        f"Content-Length: {len(file)}\r\nAuthorization: Bearer {hub.token('council-blaby')}\r\n\r\n"
    )
    above, _, report = raw(hub.intake, head.encode() + file).partition(b"\r\n\r\n")
    if b'"rows"' not in report:
        raise Unplayed(f"no report came: {above[:300]!r}")
    if b"transfer-encoding: chunked" in above.lower():
        raise Wrong("the report comes in chunks")
    if not report.startswith(b"{") or b'"outcome":"received"' not in report or not report.endswith(b"}\n"):
        raise Wrong(f"the report is not whole: {report[:100]!r} ... {report[-100:]!r}")


for script in scripted.scripts("csv"):
    case(script.name)(partial(scripted.judge_requests, script))
