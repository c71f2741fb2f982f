"""What the standard fixes: which field is read for everybody, and what becomes of it. The partners' pages are made from it."""

from typing import NamedTuple


class Read(NamedTuple):
    """A field, the places of the referral that it fills, and what else is to be said of it."""

    field: str
    to: tuple[str, ...]
    remark: str = ""


READS = (
    Read("MSH-3", (), "the sending application: must be agreed; part of the message's identity"),
    Read("MSH-4", (), "the sending facility: as MSH-3"),
    Read("MSH-7", ("message.sent_at",)),
    Read("MSH-9", (), "REF^I12 a new referral, REF^I13 an update, REF^I14 taken back"),
    Read("MSH-10", ("message.message_id",), "with MSH-3, MSH-4 and the content: a repeat is acknowledged again"),
    Read("MSH-11", (), "the processing ID: must be agreed"),
    Read("MSH-12", (), "2.2 to 2.5.1"),
    Read("MSH-14", (), "a continuation: refused, send the message whole"),
    Read("MSH-15", (), "which acknowledgements are asked for; empty, with MSH-16: the original mode"),
    Read("MSH-16", (), "as MSH-15"),
    Read("MSH-18", (), "the character set; empty: as agreed"),
    Read("RF1-1", (), "the status: read where it is agreed that its codes say why a referral is taken back"),
    Read("RF1-2", ("priority",), "S stat, A as soon as possible, U urgent, R and T routine, and local codes"),
    Read("RF1-3", ("needs",), "by local codes"),
    Read(
        "RF1-6", ("message.referral_id",), "the originating referral identifier, or where it is agreed that it stands"
    ),
    Read("RF1-7", ("referred_on",), "else RF1-9, else the day of MSH-7"),
    Read("RF1-9", ("referred_on",), "as RF1-7"),
    Read("RF1-10", ("reason.code", "reason.text", "reason.snomed"), "by local codes, words, and SNOMED CT"),
    Read("PRD-1", (), "the role: of several PRD the one who refers (RP) is read"),
    Read("PRD-2", ("referred_by.name",)),
    Read("PRD-5", ("referred_by.phone",)),
    Read("PRD-7", ("referred_by.identifier",), "GMC, NMC, GMP, SDS, and local types"),
    Read("PID-3", ("person.nhs_number", "person.local_ids"), "the repetition of type NHS is the number"),
    Read("PID-5", ("person.family_name", "person.given_names", "person.title"), "the legal name, of several"),
    Read("PID-7", ("person.birth_date",)),
    Read("PID-8", ("person.gender",), "M, F, O, U; 1, 2, 9, 0; and local codes"),
    Read("PID-11", ("person.address",), "the home, else one of no type, else the temporary one; none is allowed"),
    Read("PID-13", ("person.phone", "person.email")),
    Read("PID-14", ("person.phone", "person.email"), "where PID-13 has none"),
    Read("PID-15", ("person.language",)),
    Read("PID-32", ("person.nhs_number_status",), "NSTS01 to NSTS08"),
    Read("PD1-3", ("registered_practice",), "or where it is agreed that the practice stands"),
    Read("PD1-4", ("contacts",), "the GP, by name"),
    Read("ROL-3", (), "the role: PP, the primary care provider, is read"),
    Read("ROL-4", ("contacts",), "the GP, where PD1-4 names none"),
    Read("NK1-2", ("contacts.0.name",)),
    Read("NK1-3", ("contacts.0.relationship",)),
    Read("NK1-5", ("contacts.0.phone",)),
    Read("NK1-6", ("contacts.0.phone",), "where NK1-5 has none"),
    Read("PV1-2", (), "the class: whether the person stays in hospital"),
    Read("PV1-3", ("hospital.ward", "hospital.bed"), "ward^room^bed"),
    Read("PV1-44", ("hospital.admitted_on",)),
    Read("PV1-45", ("discharged_on",)),
    Read("PV2-9", ("expected_discharge_on",)),
    Read("DG1-3", ("reason.text", "reason.snomed"), "words, and SNOMED CT"),
    Read("OBX-2", (), "the type of the value; ED is a document"),
    Read("OBX-3", (), "what was observed, by local codes; another code is left unread"),
    Read("OBX-5", ("attachments",), "the value; documents are kept, anything else goes by its local code"),
    Read("OBX-11", (), "D, W and X: deleted, wrong, not to be had, and so not read"),
    Read("OBX-14", ("consents.referral.on",), "when it was observed; read for consents"),
    Read("OBX-16", ("consents.referral.by",), "who observed it; read for consents"),
    Read("NTE-3", ("reason.text",), "the words of a note"),
    Read("NTE-4", (), "its type: where its words go, by local codes"),
)
"""Every field that places.READ names, and what header.py reads of MSH; a test compares."""
