"""The person of a BaRS message: from a UK Core Patient."""

from typing import Any

from schemas import nhs_number
from schemas.nhs_number import VerificationStatus
from services.intake.translators.bars_fhir.bundle_index import (
    NHS_NUMBER,
    BundleIndex,
    codes,
    display_text,
    is_system,
    line,
)
from services.intake.translators.bars_fhir.models import (
    CodeableConcept,
    Extension,
    FhirAddress,
    FhirContactPoint,
    HumanName,
    NhsIdentifier,
    Patient,
    PatientContact,
    PlainExtension,
)
from services.intake.translators.translator import drop_empty, parse_date, postcode, unique

UK_CORE = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-"
VERIFICATION = UK_CORE + "NHSNumberVerificationStatus"
ADDRESS_KEY = UK_CORE + "AddressKey"
INTERPRETER = "http://hl7.org/fhir/StructureDefinition/patient-interpreterRequired"
COMMUNICATION_NEED = "https://lightbulb.example.org/StructureDefinition/communication-need"
NO_FIXED_ABODE = "224226001"

STATUS_ENGLAND = "https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatusEngland"
STATUS_OLDER = "https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatus"
OLDER = {
    "number-present-and-verified": VerificationStatus.VERIFIED,
    "number-present-but-not-traced": VerificationStatus.NOT_TRACED,
    "trace-required": VerificationStatus.TRACE_REQUIRED,
    "trace-attempted": VerificationStatus.NO_OR_MANY_MATCHES,
    "trace-needs-to-be-resolved": VerificationStatus.TO_BE_RESOLVED,
    "trace-in-progress": VerificationStatus.TRACE_IN_PROGRESS,
    "number-not-present-and-trace-not-required": VerificationStatus.NOT_PRESENT,
    "trace-postponed": VerificationStatus.POSTPONED,
}
"""Codes of UKCore-NHSNumberVerificationStatus, which BaRS samples still use, by their England equivalents."""


def person(message: BundleIndex, patient: Patient, *, homeless: bool) -> dict[str, Any]:
    """Return the canonical person. `homeless`: the message has the code for no fixed abode."""
    name = _name(message, patient)
    number, status = number_and_status(message, patient)
    telecom = [
        *patient.telecom,
        *(point for contact in patient.contact if _is_self(contact) for point in contact.telecom),
    ]
    return drop_empty(
        {
            "nhs_number": number,
            "nhs_number_status": status,
            "local_ids": _local_ids(patient),
            "family_name": line(name.family),
            "given_names": [forename for forename in map(line, name.given) if forename],
            "title": line(" ".join(name.prefix)),
            "birth_date": parse_date(patient.birthDate),
            "gender": patient.gender,
            "address": _address(patient.address, homeless),
            "phone": reach(telecom, "phone"),
            "email": reach(telecom, "email"),
            "language": _language(patient),
            "interpreter_needed": _interpreter(patient),
            "communication_needs": _communication_needs(patient),
        }
    )


def number_and_status(message: BundleIndex, patient: Patient) -> tuple[str | None, VerificationStatus]:
    """Return the NHS number and its verification status; an invalid check digit is a fault."""
    nhs_identifiers = [
        (index, identifier)
        for index, identifier in enumerate(patient.identifier)
        if is_system(identifier.system, NHS_NUMBER) and identifier.use != "old"
    ]
    numbers = unique([nhs_number.normalise(one.value) for _, one in nhs_identifiers if one.value])
    if len(numbers) > 1:
        message.add_issue(patient, ("identifier",), "invariant", "has two different NHS numbers")
    for index, identifier in nhs_identifiers:
        if identifier.value and not nhs_number.is_valid(nhs_number.normalise(identifier.value)):
            place = ("identifier", index, "value")
            message.add_issue(
                patient, place, "value", "is not a valid NHS number: ten digits with a modulus 11 check digit"
            )
    status = next((_status(identifier) for _, identifier in nhs_identifiers), VerificationStatus.NOT_STATED)
    return (numbers[0] if numbers else None), status


def _status(identifier: NhsIdentifier) -> VerificationStatus:
    for extension in identifier.extension:
        if is_system(extension.url, VERIFICATION):
            for code in codes(extension.valueCodeableConcept, STATUS_ENGLAND):
                return VerificationStatus(code) if code in _CURRENT else VerificationStatus.NOT_STATED
            for code in codes(extension.valueCodeableConcept, STATUS_OLDER):
                return OLDER.get(code, VerificationStatus.NOT_STATED)
    return VerificationStatus.NOT_STATED


_CURRENT = {status.value for status in VerificationStatus if len(status.value) == 2}


def _name(message: BundleIndex, patient: Patient) -> HumanName:
    current = [name for name in patient.name if name.use != "old" and line(name.family)]
    official = [name for name in current if name.use in ("official", "usual")]
    if not current:
        message.add_issue(patient, ("name",), "required", "is required: a name with a family name")
        return HumanName()
    return (official or current)[0]


def _local_ids(patient: Patient) -> list[dict[str, Any]]:
    return [
        drop_empty({"system": one.system, "value": line(one.value)})
        for one in patient.identifier
        if line(one.value) and not is_system(one.system, NHS_NUMBER)
    ]


def _address(addresses: list[FhirAddress], homeless: bool) -> dict[str, Any] | None:
    current = [address for address in addresses if address.use not in ("old", "billing", "work")]
    chosen = next((address for address in current if address.use == "home"), current[0] if current else None)
    if chosen is None:
        return {"no_fixed_abode": True} if homeless else None
    code = postcode(chosen.postalCode)
    lines = [text for text in map(line, [*chosen.line, chosen.city, chosen.district, chosen.state]) if text]
    no_fixed_abode = any(text.casefold() in ("no fixed abode", "nfa", "no fixed address") for text in lines)
    return drop_empty(
        {
            "lines": lines or ([line(chosen.text)] if line(chosen.text) else None),
            "postcode": code,
            "no_fixed_abode": no_fixed_abode or (code or "").startswith("ZZ99") or (homeless and code is None) or None,
            "uprn": _uprn(chosen),
        }
    )


def _uprn(address: FhirAddress) -> str | None:
    for extension in address.extension:
        parts = {part.url: part for part in extension.extension}
        kind = parts["type"].valueCoding if "type" in parts else None
        value = line(parts["value"].valueString) if "value" in parts else None
        if is_system(extension.url, ADDRESS_KEY) and kind and kind.code == "UPRN" and value and value.isdigit():
            return value
    return None


def reach(points: list[FhirContactPoint], system: str) -> str | None:
    """Return the preferred current contact point of this system: a telephone number or an email address."""
    usable = [point for point in points if point.system == system and point.use != "old" and line(point.value)]
    usable.sort(key=lambda point: point.rank or 99)
    return line(usable[0].value) if usable else None


def _language(patient: Patient) -> str | None:
    spoken = sorted(patient.communication, key=lambda one: not one.preferred)
    concept = spoken[0].language if spoken else None
    return (
        next((coding.code for coding in concept.coding if coding.code), None) or display_text(concept)
        if concept
        else None
    )


def _interpreter(patient: Patient) -> bool | None:
    return next((e.valueBoolean for e in patient.extension if is_system(e.url, INTERPRETER)), None)


def _communication_needs(patient: Patient) -> list[str]:
    return [
        text
        for extension in patient.extension
        if is_system(extension.url, COMMUNICATION_NEED) and (text := extension_text(extension))
    ]


def extension_text(extension: Extension | PlainExtension) -> str | None:
    """Return the text of an extension."""
    return line(extension.valueString) or display_text(extension.valueCodeableConcept)


# ---- contacts -------------------------------------------------------------------------------------------------------


def contacts(patient: Patient) -> list[dict[str, Any]]:
    """Return next of kin and carers, without the contact that BaRS uses for the person's own telephone numbers."""
    entries = [
        drop_empty(
            {
                "name": full_name([contact.name] if contact.name else []),
                "relationship": _relationship(contact.relationship),
                "phone": reach(contact.telecom, "phone"),
            }
        )
        for contact in patient.contact
        if not _is_self(contact)
    ]
    return [entry for entry in entries if entry]


def _is_self(contact: PatientContact) -> bool:
    relationship_codes = {coding.code for concept in contact.relationship for coding in concept.coding}
    return "ONESELF" in relationship_codes or (contact.name is None and not contact.relationship)


def _relationship(concepts: list[CodeableConcept]) -> str | None:
    return next((text for concept in concepts if (text := display_text(concept))), None)


def full_name(names: list[HumanName]) -> str | None:
    """Return the first name on one line."""
    if not names:
        return None
    name = names[0]
    return line(" ".join([*name.prefix, *name.given, name.family or ""])) or line(name.text)
