"""The other senders of a walk: wards over MLLP, councils by CSV; about the person of a practice's message, where that is asked."""

import json
import re
import uuid
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp

from bench.messages import BenchmarkMessage
from infra.partner_simulators import mllp_client
from infra.partner_simulators.send import ParsedResponse, council_csv, hl7v2
from tests.builders.csv import GOOD, a_file
from tests.end_to_end.conftest import Walk

REFERENCE = re.compile(r"LB(?:-[0-9A-Z]{4}){3}")
CITY = "LE5 5HN"
WARD = "Canaryward"


def resource(message: BenchmarkMessage, kind: str) -> dict[str, Any]:
    """The first resource of a kind in a practice's message."""
    entries = json.loads(message.body)["entry"]
    return next(entry["resource"] for entry in entries if entry["resource"]["resourceType"] == kind)


def nhs_number(message: BenchmarkMessage) -> str:
    found = re.search(rb"\b999\d{7}\b", message.body)
    assert found
    return found[0].decode()


async def referred(walk: Walk, session: aiohttp.ClientSession, message: BenchmarkMessage) -> str:
    """The reference of a practice's referral that was accepted."""
    status, body = await walk.post(session, message)
    assert status == 200, body
    found = REFERENCE.search(body)
    assert found
    return found[0]


@dataclass(frozen=True)
class Stay:
    """Messages of a trust's system about a stay of the person of `message`, in HL7 v2 as both trusts write it."""

    message: BenchmarkMessage
    trust: str = "uhl"
    postcode: str = ""
    referral: str = field(default_factory=lambda: f"LB{uuid.uuid4().hex[:10].upper()}")
    discharged_on: str = ""
    died: str = ""

    def admitted(self) -> bytes:
        """REF^I12."""
        return self._message("I12")

    def discharged(self) -> bytes:
        """REF^I13 with the day of discharge."""
        return replace(self, discharged_on="20261120")._message("I13")

    def taken_back(self) -> bytes:
        """REF^I14."""
        return self._message("I14")

    def _message(self, trigger: str) -> bytes:
        number, status = uuid.uuid4().hex[:12].upper(), "R" if trigger == "I14" else "A"
        uhl = self.trust == "uhl"
        sender, version = ("UHL_EPR|RWE", "2.5") if uhl else ("LPT_PAS|RT5^BMHU", "2.4")
        lines = [
            f"MSH|^~\\&|{sender}|LIGHTBULB|LIGHTBULB|20261116101500||REF^{trigger}|{number}|P|{version}",
            f"EVN|{trigger}|20261116101500",
            f"RF1|{status}|R|{'FALLS' if uhl else 'H3'}|||{'' if uhl else '^^'}{self.referral}|20261116",
            self._pid(),
            f"PV1|1|I|{WARD}^^^{'LRI' if uhl else 'BMHU'}" + "|" * 41 + f"20261101|{self.discharged_on}".rstrip("|"),
            f"OBX|1|CE|{'LB-CONSENT' if uhl else 'C1'}||{'Y' if uhl else '1'}||||||F|||20261101",
        ]
        return "\r".join([*lines, ""]).encode()

    def _pid(self) -> str:
        patient = resource(self.message, "Patient")
        name, address = patient["name"][0], patient["address"][0]
        family, born = name["family"].upper(), patient["birthDate"].replace("-", "")
        home = "H" if self.trust == "uhl" else "HOME"
        lives = f"{address['line'][0]}^^^^{self.postcode or address['postalCode']}^^{home}"
        given = f"{family}^{' '.join(name['given'])}||{born}|F|||{lives}"
        return f"PID|1||{nhs_number(self.message)}^^^^NHS||{given}" + "|" * 19 + f"{self.died}||NSTS01"


async def by_mllp(walk: Walk, trust: str, message: bytes) -> ParsedResponse:
    """Send a message to the trust's port; return the parsed acknowledgement."""
    host, _, port = walk.running.addresses["mllp"][trust].rpartition(":")
    answers = await mllp_client.exchange(host, int(port), message, 30)
    return hl7v2.parse_response(0, b"\r".join(answers))


async def referred_by_ward(walk: Walk, stay: Stay) -> str:
    """The reference of a stay that was accepted."""
    return await told(walk, stay, stay.admitted())


async def told(walk: Walk, stay: Stay, message: bytes) -> str:
    """The reference under which a trust's message was accepted."""
    said = await by_mllp(walk, stay.trust, message)
    assert said.outcome == "accepted", said
    assert said.reference
    return said.reference


def a_row(**changed: str) -> dict[str, str]:
    """Return a row of Blaby's export about a new person."""
    fresh = {"Case Ref": f"W/{uuid.uuid4().hex[:8]}", "NHS No": "N/A", "Last Changed": "16/11/2026 06:00"}
    return {**GOOD["blaby"], **fresh, **changed}


async def by_csv(walk: Walk, session: aiohttp.ClientSession, *rows: dict[str, str]) -> ParsedResponse:
    """Send a file with these rows from Blaby; return the parsed report."""
    headers = {"Authorization": f"Bearer {walk.token('council-blaby')}", "Content-Type": "text/csv"}
    url = walk.running.addresses["intake"] + "/councils/blaby/referrals"
    async with session.post(url, data=a_file("blaby", list(rows)), headers=headers) as answer:
        return council_csv.parse_response(answer.status, await answer.read())
