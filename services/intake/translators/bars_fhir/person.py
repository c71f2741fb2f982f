"""The person of a BaRS message: from a UK Core Patient as PDS and GP systems write it, as in force at the time."""

import re
from datetime import date
from typing import Any

from schemas import nhs_number
from schemas.fhir import LOCAL
from schemas.nhs_number import VerificationStatus
from services.intake.translators import plausibility
from services.intake.translators.bars_fhir import uk_core
from services.intake.translators.bars_fhir.bundle_index import (
    BundleIndex,
    code,
    display_text,
    index_of,
    is_nhs_number,
    is_system,
    line,
)
from services.intake.translators.bars_fhir.contact_details import (
    NAME_USES,
    addresses,
    contact_phone,
    is_self,
    lived_at,
    own_points,
    preferred_contact,
    ranked,
)
from services.intake.translators.bars_fhir.in_force import in_force
from services.intake.translators.bars_fhir.models import (
    CodeableConcept,
    Extension,
    FhirCoding,
    HumanName,
    NhsIdentifier,
    Patient,
    PlainExtension,
)
from services.intake.translators.plausibility import FILLER_NUMBER, NOT_A_NUMBER
from services.intake.translators.translator import (
    drop_empty,
    parse_date,
)

INTERPRETER = "http://hl7.org/fhir/StructureDefinition/patient-interpreterRequired"
COMMUNICATION_NEED = f"{LOCAL}/StructureDefinition/communication-need"
NO_FIXED_ABODE = "224226001"


def person(message: BundleIndex, patient: Patient, *, homeless: bool) -> dict[str, Any]:
    """Return the canonical person. `homeless`: the message has the code for no fixed abode."""
    name = _name(message, patient)
    _note_what_is_not_carried(message, patient, name)
    _warn_of_spoilt_words(message, patient, name)
    number, status = number_and_status(message, patient)
    return drop_empty(
        {
            "nhs_number": number,
            "nhs_number_status": status,
            "local_ids": _local_ids(message, patient),
            "family_name": line(name.family),
            "given_names": _given_names(message, patient, name),
            "title": line(" ".join(name.prefix)),
            "birth_date": _birth_date(message, patient),
            "gender": patient.gender,
            **addresses(patient.address, message.time, homeless=homeless),
            **own_points(patient, message.time),
            "preferred_contact": preferred_contact(patient),
            "language": _language(_best_language(patient)),
            "interpreter_needed": _interpreter(patient),
            "communication_needs": _communication_needs(patient),
            "restricted_access": _is_restricted(message, patient),
        }
    )


def _note_what_is_not_carried(message: BundleIndex, patient: Patient, name: HumanName) -> None:
    """Note the places of what has ended or not begun, and of each further name, address, language and number."""
    at, language = message.time, _best_language(patient)
    lists: dict[str, list[Any]] = {
        "identifier": in_force(patient.identifier, at),
        "name": [name],
        "telecom": in_force(patient.telecom, at),
        "address": lived_at(patient.address, at),
        "contact": in_force(patient.contact, at),
        "communication": [one for one in patient.communication if one.language is language],
    }
    for element, carried in lists.items():
        ids = set(map(id, carried))
        others = (index for index, item in enumerate(getattr(patient, element)) if id(item) not in ids)
        message.left_out += [message.at(patient, element, index) for index in others]
    for index, contact in enumerate(patient.contact):
        if in_force([contact], at) and not is_self(contact):
            phone = contact_phone(contact, at)
            others = (n for n, point in enumerate(contact.telecom) if line(point.value) != phone)
            message.left_out += [message.at(patient, "contact", index, "telecom", n) for n in others]


def _warn_of_spoilt_words(message: BundleIndex, patient: Patient, name: HumanName) -> None:
    """Warn of letters of the name and the addresses that were lost or changed on the way."""
    for index, one in enumerate(patient.name):
        if one is name:
            message.warn_of(patient, ("name", index), " ".join([one.family or "", *one.given]))
    for address in lived_at(patient.address, message.time):
        place = ("address", index_of(address, patient.address))
        message.warn_of(patient, place, "\n".join(filter(None, [*address.line, address.city, address.district])))


# ---- identifiers ----------------------------------------------------------------------------------------------------


def number_and_status(message: BundleIndex, patient: Patient) -> tuple[str | None, VerificationStatus]:
    """Return the NHS number in force and the verification status of the identifier that holds it.

    An invalid check digit, a filler, two numbers in force, and an unknown or second status are faults.
    """
    identifiers = enumerate(patient.identifier)
    current = {n: one for n, one in identifiers if is_nhs_number(one) and in_force([one], message.time)}
    holders = {index: one for index, one in current.items() if one.value} or current
    numbers = {index: nhs_number.normalise(code(one.value) or "") for index, one in holders.items() if one.value}
    if len(set(numbers.values())) > 1:
        message.add_issue(patient, ("identifier",), "invariant", "has two different NHS numbers")
    for index, number in numbers.items():
        is_filler = message.fillers.is_number(number)
        if is_filler or not nhs_number.is_valid(number):
            explanation = FILLER_NUMBER if is_filler else NOT_A_NUMBER
            message.add_issue(patient, ("identifier", index, "value"), "value", explanation)
    return next(iter(numbers.values()), None), _status(message, patient, holders)


def _status(message: BundleIndex, patient: Patient, holders: dict[int, NhsIdentifier]) -> VerificationStatus:
    """Return the stated status: a code of another code system states nothing, an unknown one of UK Core is a fault."""
    found = set[VerificationStatus]()
    for index, one in holders.items():
        codes = {coding.code or "" for coding in _status_codings(one)}
        found |= {uk_core.VERIFICATION_STATUSES[code] for code in codes if code in uk_core.VERIFICATION_STATUSES}
        if not uk_core.VERIFICATION_STATUSES.keys() >= codes:
            explanation = "has a code that is not one of UKCore-" + STATUS
            message.add_issue(patient, ("identifier", index, "extension"), "value", explanation)
    if len(found) > 1:
        message.add_issue(patient, ("identifier",), "invariant", "has two different verification statuses")
    return next(iter(found), VerificationStatus.NOT_STATED)


def _status_codings(identifier: NhsIdentifier) -> list[FhirCoding]:
    stated = uk_core.extensions(identifier.extension, STATUS)
    return [coding for one in stated for coding in uk_core.codings(one.valueCodeableConcept, STATUS)]


STATUS = "NHSNumberVerificationStatus"


def _local_ids(message: BundleIndex, patient: Patient) -> list[dict[str, Any]]:
    local = [one for one in in_force(patient.identifier, message.time) if not is_nhs_number(one)]
    places = [("identifier", index_of(one, patient.identifier), "value") for one in local]
    values = [message.identifier(patient, place, one.value) for place, one in zip(places, local, strict=True)]
    return [drop_empty({"system": one.system, "value": it}) for one, it in zip(local, values, strict=True) if it]


# ---- name, birth, death, restriction --------------------------------------------------------------------------------


def _name(message: BundleIndex, patient: Patient) -> HumanName:
    named = [name for name in patient.name if family_name(message, name)]
    current = ranked(named, message.time, NAME_USES)
    if current:
        return current[0]
    explanation = "is required: a name with a family name"
    if named:
        explanation += " that is in force: each one has ended, has not begun, or is an old or maiden name or a nickname"
    elif any(line(name.family) for name in patient.name):
        explanation += ": what is entered if none is known is not a name"
    message.add_issue(patient, ("name",), "required", explanation)
    return HumanName()


def family_name(message: BundleIndex, name: HumanName) -> str | None:
    """Return a family name; None without a letter, and for a name that is entered if none is known."""
    family = line(name.family)
    return family if family and plausibility.can_be_name(family, message.fillers) else None


def _given_names(message: BundleIndex, patient: Patient, name: HumanName) -> list[str]:
    """Return the given names; what is entered if none is known, is left out."""
    given = [line(one) for one in name.given]
    left = [index for index, one in enumerate(given) if one and not plausibility.can_be_name(one, message.fillers)]
    message.left_out += [message.at(patient, "name", index_of(name, patient.name), "given", index) for index in left]
    return [one for index, one in enumerate(given) if one and index not in left]


def _birth_date(message: BundleIndex, patient: Patient) -> date | None:
    """Return the birth date; a part of one, and one that cannot be right, is a fault."""
    if patient.birthDate and parse_date(patient.birthDate) is None:
        message.add_issue(patient, ("birthDate",), "value", "must be a whole date, or be left out")
    return message.day(patient, ("birthDate",), "person.birth_date", patient.birthDate)


def _is_reported_dead(patient: Patient) -> bool:
    """Return whether deceased[x] or a DeathNotificationStatus other than U (removed) states a death.

    A time of death that is not known, and a notice in another code, state one, too: a hub checks before any contact.
    """
    at_a_time = patient.deceasedDateTime is not None or patient.deceasedDateTime_ is not None
    notices = uk_core.extensions(patient.extension, "DeathNotificationStatus")
    return patient.deceasedBoolean is True or at_a_time or any(not _is_removed(notice) for notice in notices)


def _is_removed(notice: Extension) -> bool:
    """Return whether a death notice says that it has been taken back, and nothing else."""
    stated = {
        coding.code
        for part in uk_core.parts(notice, "deathNotificationStatus")
        for coding in (part.valueCodeableConcept.coding if part.valueCodeableConcept else [])
    }
    return stated == {"U"}


def death(message: BundleIndex, patient: Patient) -> dict[str, Any]:
    """Return the report of a death, if one is stated, with the date of death, if it is a whole date that has come."""
    if not _is_reported_dead(patient):
        return {}
    died_on, today = parse_date(patient.deceasedDateTime), plausibility.today(message.time)
    is_known = died_on and not plausibility.doubt("person.death_reported.died_on", died_on, today, message.fillers)
    if died_on and not is_known:
        message.left_out.append(message.at(patient, "deceasedDateTime"))
    return {"death_reported": {"died_on": died_on} if is_known else {}}


_CONFIDENTIALITY = re.compile(
    r".*(?:confidentiality|security-labels(?:\.html)?|v3-actcode)/?|urn:oid:2\.16\.840\.1\.113883\.5\.(?:25|4)",
    re.IGNORECASE,
)
"""Code systems of security labels, as PDS and others name them: Confidentiality, and ActCode's sensitivities."""

_S_FLAG = ("R", "V")
"""Codes that restrict in any code system: a misspelled one must not show an address."""

_OPEN = ("U", "L", "M", "N")
"""Codes of Confidentiality up to normal: http://terminology.hl7.org/CodeSystem/v3-Confidentiality."""


def _is_restricted(message: BundleIndex, patient: Patient) -> bool:
    """Return whether a security label is stricter than normal: R and V are the S-flag of PDS."""
    labels = patient.meta.security if patient.meta else []
    codes = {one.code for one in labels if one.code and is_confidentiality(one)}
    if "REDACTED" in codes:
        explanation = "states that PDS has invalidated this record: send the person's current record"
        message.add_issue(patient, ("meta", "security"), "business-rule", explanation)
    return not codes <= set(_OPEN)


def is_confidentiality(label: FhirCoding) -> bool:
    """Return whether a security label is read: one of a system of confidentiality, of none, or the S-flag in any."""
    return label.code in _S_FLAG or _CONFIDENTIALITY.fullmatch(label.system or "confidentiality") is not None


# ---- communication --------------------------------------------------------------------------------------------------


def _best_language(patient: Patient) -> CodeableConcept | None:
    """Return the language of the person: the preferred one, else that of NHSCommunication, which is PDS's only one."""
    spoken = [(one.preferred or False, False, one.language) for one in patient.communication]
    for extension in uk_core.extensions(patient.extension, "NHSCommunication"):
        preferred = any(part.valueBoolean for part in uk_core.parts(extension, "preferred"))
        languages = [part.valueCodeableConcept for part in uk_core.parts(extension, "language")]
        spoken += [(preferred, True, language) for language in languages if language]
    best = max(spoken, key=lambda one: one[:2], default=None)
    return best[2] if best else None


def _interpreter(patient: Patient) -> bool | None:
    """Return whether an interpreter is needed, if stated."""
    answers = [one.valueBoolean for one in patient.extension if is_system(one.url, INTERPRETER)]
    for extension in uk_core.extensions(patient.extension, "NHSCommunication"):
        answers += [part.valueBoolean for part in uk_core.parts(extension, "interpreterRequired")]
    stated = [answer for answer in answers if answer is not None]
    return any(stated) if stated else None


def _language(concept: CodeableConcept | None) -> str | None:
    """Return a BCP 47 tag, else the sender's words, else its code."""
    if concept is None:
        return None
    tags = [one.code for one in concept.coding if is_tag(one)]
    codes = [one.code for one in concept.coding if one.code]
    return next(iter(tags), None) or display_text(concept) or next(iter(codes), None)


BCP_47 = "urn:ietf:bcp:47"


def is_tag(coding: FhirCoding) -> bool:
    """Return whether the code of a language is a BCP 47 tag."""
    is_known = coding.system is None or is_system(coding.system, BCP_47)
    return coding.code is not None and (is_known or uk_core.name_of(coding.system) == "humanlanguage")


def _communication_needs(patient: Patient) -> list[str]:
    return [
        text
        for extension in patient.extension
        if is_system(extension.url, COMMUNICATION_NEED) and (text := extension_text(extension))
    ]


def extension_text(extension: Extension | PlainExtension) -> str | None:
    """Return the text of an extension."""
    return line(extension.valueString) or display_text(extension.valueCodeableConcept)
