"""The fields that are read for every partner, and the places that they fill: source of the partner pages."""

from typing import NamedTuple


class Read(NamedTuple):
    """A field, the places of the referral that it fills, and a remark."""

    field: str
    to: tuple[str, ...]
    remark: str = ""


READS = (
    Read("MSH-3", (), "the sending application: must be agreed; part of the message's identity"),
    Read("MSH-4", (), "the sending facility: as MSH-3"),
    Read("MSH-7", ("message.sent_at",), "periods of names, addresses, numbers and roles are judged on this day"),
    Read("MSH-9", (), "REF^I12 new, REF^I13 update, REF^I14 cancel"),
    Read(
        "MSH-10",
        ("message.message_id",),
        "identifies the message, with MSH-3, MSH-4, MSH-7, MSH-9 and the content: a duplicate is acknowledged again",
    ),
    Read("MSH-11", (), "P; T and D (tests) until the agreed day"),
    Read("MSH-12", (), "2.2 to 2.8.2; those after 2.5.1 are read as 2.5.1"),
    Read("MSH-14", (), "a continuation: rejected, send the whole message"),
    Read("MSH-15", (), "requested acknowledgements; original mode if MSH-15 and MSH-16 are empty"),
    Read("MSH-16", (), "as MSH-15"),
    Read("MSH-18", (), "the character set; empty: as agreed"),
    Read("RF1-1", (), "the status: read if its codes are agreed as cancel reasons"),
    Read(
        "RF1-2", ("priority",), "S stat, A as soon as possible, U urgent, R and T routine, their words, and local codes"
    ),
    Read("RF1-3", ("needs",), "by local codes, with their words"),
    Read("RF1-6", ("message.referral_id",), "the originating referral identifier, or the agreed field"),
    Read("RF1-7", ("referred_on",), "else RF1-9, else the day of MSH-7"),
    Read("RF1-9", ("referred_on",), "as RF1-7"),
    Read("RF1-10", ("reason.code", "reason.text", "reason.snomed"), "by local codes, all texts and SNOMED CT"),
    Read("PRD-1", (), "the role: of several PRD, the referrer (RP) is read"),
    Read("PRD-2", ("referred_by.name",)),
    Read("PRD-5", ("referred_by.phone",)),
    Read("PRD-7", ("referred_by.identifier",), "GMC, NMC, GMP, SDS, and local types"),
    Read("PRD-8", (), "start of the role: a role that has not begun is not read"),
    Read("PRD-9", (), "end of the role: a role that has ended is not read"),
    Read(
        "PID-2",
        ("person.nhs_number",),
        "by its type or authority, as PID-3; by agreement, or in version 2.2, also ten digits without either",
    ),
    Read(
        "PID-3",
        ("person.nhs_number", "person.local_ids"),
        "the NHS number by its type (PID-3.5), or by its authority (PID-3.4) if it has no type; of different numbers none is used",
    ),
    Read("PID-4", ("person.nhs_number",), "by its type or authority, as PID-3"),
    Read(
        "PID-5",
        ("person.family_name", "person.given_names", "person.title"),
        "of several names in force, the legal or current one",
    ),
    Read(
        "PID-7",
        ("person.birth_date",),
        "zeros for the month or day, or fewer digits: not known to the day; not used, with a warning",
    ),
    Read("PID-8", ("person.gender",), "M, F, O, U; 1, 2, 9, 0; and local codes"),
    Read(
        "PID-11",
        ("person.address", "person.temporary_address"),
        "of those in force the home, else one without a type, else a temporary one, else a mailing address; no post box; "
        "all subcomponents are lines; optional",
    ),
    Read(
        "PID-13",
        ("person.phone", "person.email", "person.other_contact_points"),
        "the first telephone, work and emergency numbers last, and email address, then every other one; TDD and TTY are "
        "textphones",
    ),
    Read("PID-14", ("person.phone", "person.email", "person.other_contact_points"), "after PID-13"),
    Read("PID-15", ("person.language",)),
    Read("PID-29", ("person.death_reported",), "a time of death is a report of death"),
    Read("PID-30", ("person.death_reported",), "Y is a report of death"),
    Read("PID-32", ("person.nhs_number_status",), "NSTS01 to NSTS08, or the agreed field; never without a number"),
    Read("PID-40", ("person.phone", "person.email", "person.other_contact_points"), "after PID-14"),
    Read("PD1-3", ("registered_practice",), "or the agreed field"),
    Read("PD1-4", ("contacts",), "the GP, by name"),
    Read("PD1-12", ("person.restricted_access",), "Y: the person's data are restricted; N: they are not"),
    Read("PD1-13", (), "the day of PD1-12: N counts from this day on"),
    Read("ARV-2", (), "the action: D deletes a restriction, which is then not read and lifts nothing"),
    Read(
        "ARV-3",
        ("person.restricted_access",),
        "any access restriction restricts, NO alone lifts, wherever the segment stands",
    ),
    Read("ARV-6", (), "the period: a restriction that is not in force is not read and lifts nothing"),
    Read("ROL-3", (), "the role: PP, the primary care provider, is read"),
    Read("ROL-4", ("contacts",), "the GP, if PD1-4 is empty"),
    Read("ROL-5", (), "start of the role, as PRD-8"),
    Read("ROL-6", (), "end of the role, as PRD-9"),
    Read("NK1-2", ("contacts.0.name",)),
    Read("NK1-3", ("contacts.0.relationship",)),
    Read("NK1-5", ("contacts.0.phone",)),
    Read("NK1-6", ("contacts.0.phone",), "if NK1-5 is empty"),
    Read("NK1-8", (), "start of the role, as PRD-8"),
    Read("NK1-9", (), "end of the role, as PRD-9"),
    Read("PV1-2", (), "the class: whether it is an inpatient stay, by the agreed classes"),
    Read("PV1-3", ("hospital.ward", "hospital.bed"), "ward^room^bed"),
    Read("PV1-16", ("person.restricted_access",), "the agreed codes restrict"),
    Read("PV1-19", ("hospital.visit",), "the visit number, within its authority"),
    Read("PV1-36", ("person.death_reported",), "79, died"),
    Read("PV1-37", ("person.death_reported",), "as PV1-36"),
    Read("PV1-44", ("hospital.admitted_on",)),
    Read("PV1-45", ("discharged_on",)),
    Read("PV2-9", ("expected_discharge_on",)),
    Read("DG1-3", ("reason.text", "reason.snomed"), "words, else the code, and SNOMED CT"),
    Read("DG1-4", ("reason.text",), "if DG1-3 has no words"),
    Read("DG1-18", (), "anything but N: confidential, the diagnosis is not read"),
    Read("DG1-21", (), "D, deleted: the diagnosis is not read"),
    Read("OBX-2", (), "the type of the value; ED is a document"),
    Read("OBX-3", (), "the observation, by local codes, first or alternative; other codes are not read"),
    Read("OBX-5", ("attachments",), "the value; documents are stored, other values are read by their local code"),
    Read("OBX-11", (), "D, W, X and N (deleted, wrong, not obtained, not asked) are not read"),
    Read("OBX-14", ("consents.referral.on",), "date of the observation; read for consents"),
    Read("OBX-16", ("consents.referral.by",), "the observer; read for consents"),
    Read(
        "NTE-3",
        ("reason.text",),
        "the text of a note; not read after an OBR, or an OBX that is not read, unless its type is agreed",
    ),
    Read("NTE-4", (), "its type: selects the place of its text, by local codes"),
)
"""All fields in field_paths.READ, and the MSH fields that header.py reads; a test compares them."""
