"""Sends files to intake as their partner's system would, and says what the answer was.

What a file is decides where it goes: a FHIR Bundle to `/fhir/$process-message` with BaRS headers made from it, a form to
`/forms/{form}`. The X-Request-Id is derived from the Bundle's id, so a file that is sent again is the same request again.
"""

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import UUID, uuid5

import aiohttp
import yaml
from rich.markup import escape

from infra.installation import DIRECTORY
from services import partners
from services.partners import Partner

NAMESPACE = UUID("c5b1bd6c-5a2e-5a55-a7a0-bb3e2a4f9c61")
REFERENCE = re.compile(r"LB(?:-[0-9A-Z]{4}){3}")
FHIR_JSON = "application/fhir+json; version=1.0.0"
ODS = "https://fhir.nhs.uk/Id/ods-organization-code"

Outcome = Literal["accepted", "duplicate", "conflict", "refused", "not allowed", "unavailable", "not sent"]


@dataclass(frozen=True)
class Letter:
    """A file as it is sent: what it was taken for, where it goes, with which headers."""

    taken_for: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What became of one file. `faults` are (place, kind, explanation)."""

    file: Path
    taken_for: str
    outcome: Outcome
    sender: str | None = None
    status: int | None = None
    reference: str | None = None
    faults: tuple[tuple[str, str, str], ...] = field(default=())

    @property
    def accepted(self) -> bool:
        """The hub has it: now, or since before."""
        return self.outcome in ("accepted", "duplicate")

    def line(self) -> str:
        """For people, with rich's markup: one line, and one for each fault."""
        colour = "green" if self.accepted else "red"
        http = f"HTTP {self.status} " if self.status else ""
        head = f"{self.file.name}: {self.taken_for}, from {self.sender or 'nobody'}: "
        tail = f" {self.reference}" if self.reference else ""
        faults = "".join(f"\n    {' · '.join(filter(None, fault))}" for fault in self.faults)
        return f"{escape(head)}{http}[{colour}]{self.outcome}[/{colour}]{tail}{escape(faults)}"


class NotSent(Exception):
    """A file that cannot be sent; the text says why and what to do."""


async def send(files: Sequence[Path], sender: str | None, addresses: Mapping[str, Any]) -> list[Answer]:
    """Send each file in order; `sender` is a partner's id, else it is found by what the file says. Raises nothing for a refusal."""
    known = partners.load(DIRECTORY, None)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        return [await _send(session, file, body, sender, known, addresses) for file, body in _read(files)]


def _read(files: Sequence[Path]) -> list[tuple[Path, bytes]]:
    return [(file, file.read_bytes()) for file in files]


async def _send(
    session: aiohttp.ClientSession,
    file: Path,
    body: bytes,
    sender: str | None,
    known: partners.Partners,
    addresses: Mapping[str, Any],
) -> Answer:
    try:
        partner = _sender(body, sender or _reviewed_sender(file), known)
        letter = prepare(body, partner)
        token = _token(partner, addresses)
    except NotSent as problem:
        return Answer(file, "nothing that is sent from here", "not sent", sender, faults=(("", "", str(problem)),))
    try:
        headers = {**letter.headers, "Authorization": f"Bearer {token}"}
        async with session.post(addresses["intake"] + letter.path, data=letter.body, headers=headers) as response:
            return _answer(file, letter, partner, response.status, await response.text(errors="replace"))
    except (aiohttp.ClientError, TimeoutError) as error:
        fault = (str(addresses["intake"]), type(error).__name__, "no answer; is the installation running?")
        return Answer(file, letter.taken_for, "unavailable", partner.id, faults=(fault,))


# ---- what a file is, and who sends it -------------------------------------------------------------------------------


def prepare(body: bytes, partner: Partner) -> Letter:
    """The request for these bytes. Bytes that nobody can read go where their sender's messages go: intake says what is wrong."""
    content = _json(body)
    if _is_fhir(body, content):
        return Letter("FHIR message", "/fhir/$process-message", _bars_headers(content, body, partner), body)
    if body.startswith(b"MSH|"):
        raise NotSent("HL7 v2 comes over MLLP, which this version does not send.")
    forms = [name.removeprefix("form:") for name in partner.formats if name.startswith("form:")]
    if not forms:
        raise NotSent(f"{partner.id} sends no forms, and this is no FHIR Bundle.")
    form = forms[0]
    headers = {"Content-Type": "application/json", "X-Correlation-Id": _derived("form", body)}
    return Letter(f"form {form}", f"/forms/{form}", headers, body)


def _json(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _is_fhir(body: bytes, content: Mapping[str, Any]) -> bool:
    return "resourceType" in content or (not content and b'"resourceType"' in body[:500])


def _sender(body: bytes, sender: str | None, known: partners.Partners) -> Partner:
    if sender is not None:
        named = known.by_id(sender)
        if named is None:
            raise NotSent(f"no partner {sender} in infra/directory/partners.yaml.")
        return named
    found = known.by_ods(_source_ods(_json(body)))
    if found is None:
        raise NotSent("the file does not say who sends it: give --sender.")
    return found


def _reviewed_sender(file: Path) -> str | None:
    """Who sends it by the `.expected.yaml` beside it, where there is one that names the file."""
    for beside in file.parent.glob("*.expected.yaml"):
        for step in yaml.safe_load(beside.read_text()).get("steps", []):
            if step.get("send") == file.name:
                return str(step["by"])
    return None


def _token(partner: Partner, addresses: Mapping[str, Any]) -> str:
    try:
        return str(addresses["partners"][partner.id]["token"])
    except KeyError:
        raise NotSent(f"addresses.json holds no token of {partner.id}.") from None


# ---- BaRS headers (facts 3.2) ---------------------------------------------------------------------------------------


def _resources(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    entries = content.get("entry")
    found = [entry.get("resource") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return [resource for resource in found if isinstance(resource, dict)]


def _source_ods(content: Mapping[str, Any]) -> str | None:
    """The ODS code that the MessageHeader's source gives as its endpoint."""
    header: dict[str, Any] = next(iter(_resources(content)), {})
    system, _, value = str((header.get("source") or {}).get("endpoint", "")).partition("|")
    return value if system == ODS else None


def _bars_headers(content: Mapping[str, Any], body: bytes, partner: Partner) -> dict[str, str]:
    resources = _resources(content)
    header: dict[str, Any] = next(iter(resources), {})
    request = next((one for one in resources if one.get("resourceType") == "ServiceRequest"), {})
    system, _, value = str(_first(header.get("destination")).get("endpoint", "")).partition("|")
    reason = _first((header.get("reason") or {}).get("coding")).get("code", "new")
    organisation = {"resourceType": "Organization", "identifier": [{"system": ODS, "value": partner.ods}]}
    software = {"resourceType": "Device", "deviceName": [{"name": "lightbulb send", "type": "manufacturer-name"}]}
    return {
        "Content-Type": FHIR_JSON,
        "Accept": FHIR_JSON,
        "X-Request-Id": _derived("request", str(content.get("id") or body).encode()),
        "X-Correlation-Id": _derived("conversation", str(request.get("id") or body).encode()),
        "NHSD-Target-Identifier": _base64({"system": system, "value": value}),
        "NHSD-End-User-Organisation": _base64(organisation | {"name": partner.name}),
        "NHSD-Requesting-Software": _base64(software),
        "use-context": f"housing|referral|servicerequest-request|{reason}",
    }


def _first(entries: Any) -> dict[str, Any]:
    """The first of a list of objects, whatever it is that stands there."""
    found = entries[0] if isinstance(entries, list) and entries else None
    return found if isinstance(found, dict) else {}


def _derived(what: str, source: bytes) -> str:
    return str(uuid5(NAMESPACE, f"{what} {source.hex()}"))


def _base64(data: object) -> str:
    return base64.b64encode(json.dumps(data).encode()).decode()


# ---- what the answer says -------------------------------------------------------------------------------------------


def _answer(file: Path, letter: Letter, partner: Partner, status: int, text: str) -> Answer:
    content = _json(text.encode())
    faults = tuple(_faults(content))
    outcome = _outcome(status, {kind for _, kind, _ in faults})
    reference = REFERENCE.search(text)
    shown = () if outcome in ("accepted", "duplicate") else faults
    return Answer(file, letter.taken_for, outcome, partner.id, status, reference and reference[0], shown)


def _outcome(status: int, kinds: set[str]) -> Outcome:
    match status:
        case 409:
            return "duplicate" if "duplicate" in kinds else "conflict"
        case 401 | 403:
            return "not allowed"
        case _ if 200 <= status < 300:
            return "accepted"
        case _ if status >= 500:
            return "unavailable"
        case _:
            return "refused"


def _faults(content: Mapping[str, Any]) -> Iterable[tuple[str, str, str]]:
    """Issues of an OperationOutcome, or the faults of a form's answer."""
    for issue in content.get("issue", []):
        place = ", ".join(issue.get("expression", []))
        yield place, str(issue.get("code", "")), str(issue.get("diagnostics", "")).removeprefix(f"{place}: ")
    for fault in content.get("faults", []):
        place = fault.get("place") or fault.get("field") or ""
        yield str(place), str(fault.get("kind", "")), str(fault.get("explanation", ""))
