"""Choose sender and format of a file: by option, by the expected file next to it, or by its content."""

from pathlib import Path

import yaml

from infra.local.installation import DIRECTORY
from infra.partner_simulators.send import council_csv, fhir, form, hl7v2
from infra.partner_simulators.send.outgoing import NotSent, OutgoingMessage
from services.reference.partners import Partner, Partners

COUNCILS = DIRECTORY / "councils"


def sender(file: Path, body: bytes, named: str | None, all_partners: Partners) -> Partner:
    """Return the partner that sends a file. Raise NotSent if it cannot be determined."""
    named = named or _expected_sender(file)
    if named is not None:
        partner = all_partners.by_id(named)
        if partner is None:
            raise NotSent(f"infra/reference_data/partners.yaml does not contain partner {named}.")
        return partner
    inferred = _in_the_file(file, body, all_partners)
    if inferred is None:
        raise NotSent("the file does not identify its sender: use --sender.")
    return inferred


def _expected_sender(file: Path) -> str | None:
    """Return the sender in the `.expected.yaml` next to the file, if one names it."""
    for expected_file in file.parent.glob("*.expected.yaml"):
        for step in yaml.safe_load(expected_file.read_text()).get("steps", []):
            if step.get("send") == file.name:
                return str(step["by"])
    return None


def _in_the_file(file: Path, body: bytes, all_partners: Partners) -> Partner | None:
    if hl7v2.is_hl7(body):
        return all_partners.by_ods(hl7v2.sender_ods(body))
    if fhir.is_fhir(body):
        return all_partners.by_ods(fhir.sender_ods(body))
    is_file = is_council_file(file.name, body)
    return all_partners.by_id(council_csv.partner_of(body, COUNCILS) or "") if is_file else None


def is_council_file(name: str, body: bytes) -> bool:
    """Return True for a workbook, and for a .csv file whose content is not HL7 or FHIR."""
    is_csv = name.lower().endswith(".csv") and not (hl7v2.is_hl7(body) or fhir.is_fhir(body))
    return is_csv or council_csv.is_workbook(body)


def prepare(
    name: str,
    body: bytes,
    partner: Partner,
    *,
    http: bool = False,
    dry_run: bool = False,
    report: str = council_csv.JSON,
) -> OutgoingMessage:
    """Return the request for a file. `report`: the media type of a council's report.

    Bytes in an unknown format go where their sender's messages go, so that intake reports the fault. Raise NotSent for a
    dry run of another format than a council's file.
    """
    mapping = council_csv.mapping_of(partner.id, COUNCILS)
    is_other = fhir.is_fhir(body) or hl7v2.is_hl7(body) or name.endswith(".hl7")
    if mapping and not is_other and not body.lstrip().startswith(b"{"):
        return council_csv.build_request(body, mapping, dry_run=dry_run, report=report)
    if dry_run:
        raise NotSent("only a council's file can have a dry run; nothing was sent.")
    if fhir.is_fhir(body):
        return fhir.build_request(body, partner)
    if is_other:
        return hl7v2.build_request(body, partner, http=http)
    return form.build_request(body, partner)
