"""Who sends a file, and as what: by what the caller says, by the reviewed file beside it, or by what the file itself says."""

from pathlib import Path

import yaml

from infra.installation import DIRECTORY
from infra.send import council_csv, fhir, form, hl7v2
from infra.send.letters import Letter, NotSent
from services.partners import Partner, Partners

COUNCILS = DIRECTORY / "councils"


def sender(file: Path, body: bytes, named: str | None, known: Partners) -> Partner:
    """The partner who sends a file; raises NotSent where nothing tells."""
    named = named or _reviewed(file)
    if named is not None:
        partner = known.by_id(named)
        if partner is None:
            raise NotSent(f"no partner {named} in infra/directory/partners.yaml.")
        return partner
    found = _in_the_file(file, body, known)
    if found is None:
        raise NotSent("the file does not say who sends it: give --sender.")
    return found


def _reviewed(file: Path) -> str | None:
    """Who sends it by the `.expected.yaml` beside it, where there is one that names the file."""
    for beside in file.parent.glob("*.expected.yaml"):
        for step in yaml.safe_load(beside.read_text()).get("steps", []):
            if step.get("send") == file.name:
                return str(step["by"])
    return None


def _in_the_file(file: Path, body: bytes, known: Partners) -> Partner | None:
    if hl7v2.is_hl7(body):
        return known.by_ods(hl7v2.sender_ods(body))
    if fhir.is_fhir(body):
        return known.by_ods(fhir.sender_ods(body))
    return known.by_id(council_csv.partner_of(body, COUNCILS) or "") if is_csv(file.name, body) else None


def is_csv(name: str, body: bytes) -> bool:
    """True for what is named so, and no other format's."""
    return name.endswith(".csv") and not (hl7v2.is_hl7(body) or fhir.is_fhir(body))


def prepare(name: str, body: bytes, partner: Partner, *, http: bool = False) -> Letter:
    """The request for a file. Bytes that nobody can read go where their sender's messages go: intake says what is wrong."""
    if fhir.is_fhir(body):
        return fhir.letter(body, partner)
    if hl7v2.is_hl7(body) or name.endswith(".hl7"):
        return hl7v2.letter(body, partner, http=http)
    council = council_csv.council_of(partner.id, COUNCILS)
    if council and not body.lstrip().startswith(b"{"):
        return council_csv.letter(body, council)
    return form.letter(body, partner)
