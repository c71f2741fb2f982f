"""A form that was filled in: to `/forms/{form}`. Its `form` names which; without that it is the first that its sender has."""

from collections.abc import Iterator, Mapping
from typing import Any

from infra.send.answers import Fault, Said
from infra.send.fhir import derived
from infra.send.letters import REFERENCE, Letter, NotSent, as_json, of_status
from services.partners import Partner


def forms_of(partner: Partner) -> list[str]:
    """The forms that a partner may send."""
    return [name.removeprefix("form:") for name in partner.formats if name.startswith("form:")]


def letter(body: bytes, partner: Partner) -> Letter:
    """The request for a form; raises NotSent for a partner who sends none."""
    forms = forms_of(partner)
    if not forms:
        raise NotSent(f"{partner.id} sends no forms, and this is not a FHIR Bundle.")
    named = as_json(body).get("form")
    form = named if isinstance(named, str) and named in forms else forms[0]
    headers = {"Content-Type": "application/json", "X-Correlation-Id": derived("form", body)}
    return Letter(f"form {form}", f"/forms/{form}", headers, body, said)


def said(status: int, body: bytes) -> Said:
    """What the answer to a form says."""
    faults = tuple(faults_in(as_json(body)))
    outcome = of_status(status, {fault.kind for fault in faults})
    reference = REFERENCE.search(body.decode(errors="replace"))
    shown = () if outcome in ("accepted", "duplicate") else faults
    return Said(outcome, reference and reference[0], shown, by=f"HTTP {status}")


def faults_in(content: Mapping[str, Any]) -> Iterator[Fault]:
    """The faults of a form's answer, or of problem details (RFC 9457)."""
    for fault in content.get("faults", []):
        place = fault.get("place") or fault.get("field") or fault.get("column") or ""
        yield Fault(str(place), str(fault.get("kind", "")), str(fault.get("explanation", "")))
    if "detail" in content and not content.get("faults"):
        yield Fault("", str(content.get("type", "")), str(content["detail"]))
