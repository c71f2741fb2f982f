"""The page of a partner that sends HL7 v2."""

from collections.abc import Iterator, Mapping

from infra.docgen.markdown import code, place, section, table
from services.intake.translators.hl7v2.partner_profile import ObservationMeaning
from services.intake.translators.hl7v2.partner_profile import PartnerProfile as Agreed
from services.intake.translators.hl7v2.standard_fields import READS
from services.intake.translators.hl7v2.targets import TARGETS
from services.reference.directory import Directory
from services.reference.partners import Partner

DEFAULTS = {
    "date": "a date",
    "yes-no": "Y or N",
    "text": "its text",
    "prose": "its text, after this label",
    "lines": "its text",
    "flags": "its code and text",
    "needs": "a local code of needs, below",
    "reason": "a local code of reasons, below",
}


def page(mapping: Agreed, sender: Partner, directory: Directory) -> list[str]:
    """Return the page: the messages, and where each field and code goes."""
    return [
        f"# {sender.name}: HL7 v2",
        "",
        f"{mapping.title}. REF^I12, REF^I13 and REF^I14 over MLLP, or `POST /hl7v2`. Faults are listed in ERR by segment and field.",
        "",
        *section("The messages", *_messages(mapping, sender), ""),
        *section("Updates", *_UPDATES[mapping.updates], ""),
        *section("What is not understood", *_NOT_UNDERSTOOD),
        *section("Standard fields", *table(("field", "what is read", "target field"), _standard())),
        *section("Fields by agreement", *table(("meaning", "field", "target field"), _field_paths(mapping))),
        *section("Observations", *_OBX, *table(_MEANING_COLUMNS, _meaning_rows(mapping.observations, directory))),
        *section("Local fields", *table(_MEANING_COLUMNS, _meaning_rows(mapping.fields, directory))),
        *_codes(mapping, directory),
        *section("Notes", *table(("NTE-4", "target field of the text"), _notes(mapping))),
        *section(
            "Texts added to the reason",
            *table(("field", "label before the text", "coded values"), _reason_texts(mapping)),
        ),
    ]


_NOT_UNDERSTOOD = (
    "A coded element is looked up by its code and its alternative code, and by its words if it has no code. If a code decides (a",
    "priority, need, class, consent, flag, pathway, delay or authority; yes or no) and is not agreed, if two codes have different",
    "meanings, if a date is impossible, if a discharge date is known only to the month, and if a field or observation that has one",
    "value has two, the referral is accepted and a person reads that part before it goes to a hub. Of different PV1 one is read, that",
    "of an inpatient first; that person reads the others. Texts are never cut: a reason of more than 10,000 characters is",
    "attached as a document.",
    "",
)
_UPDATES = {
    "changes": (
        "REF^I12 and REF^I13 say what has changed. A field that is empty or left out leaves the earlier value as it was;",
        '`""` in the whole field deletes it. A field is replaced with all its repetitions. Repeated segments are replaced',
        "together if any is sent: OBX with the same code, NTE of the same type behind the same segment, and PRD, NK1, ROL,",
        'DG1 and ARV. `""` in OBX-5, or D or W in OBX-11, deletes an observation; a risk flag stays until it is deleted by',
        "its code or value. Each field keeps the time (MSH-7) of the message that gave it: an older message fills only what",
        "no later one has given. If a day or code has a field of the standard and a local one, the last given counts; in one",
        "message the local one.",
    ),
    "whole": (
        "REF^I12 and REF^I13 say the whole referral: what one does not repeat is gone, except risk flags and a hospital stay (PV1, PV2),",
        "which ends only when a message says so. An older message changes nothing.",
    ),
}

_MEANING_COLUMNS = ("code", "meaning", "value", "target field")
_OBX = ("By the code in OBX-3; the value is OBX-5. An observation with another code is not read.", "")


def _messages(mapping: Agreed, sender: Partner) -> Iterator[str]:
    sent = [f"{code(s.application or 'any')} at {code(s.facility or 'any facility')}" for s in mapping.senders]
    yield f"- Encoding if MSH-18 is empty: {mapping.encoding}."
    yield f"- MSH-3 and MSH-4: {', '.join(sent) or 'any that is not empty'}."
    if sender.hl7v2.adt:
        yield "- ADT: taken, for the referrals of the stay ([triggers](../connect/hl7v2.md#adt))."
    meant = [f"{code(r.application or 'any')} at {code(r.facility or 'any facility')}" for r in mapping.receivers]
    yield f"- MSH-5 and MSH-6: {', '.join(meant) or 'any'}."
    tested = (
        f", and until {mapping.test_until:%d %B %Y} `T` and `D`, which have no effect" if mapping.test_until else ""
    )
    yield f"- MSH-11: `P`{tested}."
    yield f"- Acknowledged: {sender.hl7v2.acknowledgement}; RRI^I12 {'too, if it is requested' if sender.hl7v2.rri else 'never'}."
    yield f"- Warnings in the answer (ERR-4 W): {'yes' if sender.hl7v2.warnings else 'no'}."


def _standard() -> Iterator[tuple[str, ...]]:
    yield from ((read.field, read.remark, "; ".join(map(place, read.to))) for read in READS)


def _field_paths(mapping: Agreed) -> Iterator[tuple[str, ...]]:
    yield "originating referral identifier", mapping.referral_id, place("message.referral_id")
    yield "its authority, within which it is unique", ", else ".join(mapping.authority_fields) or "the trust", ""
    yield "type of the NHS number (PID-3.5)", ", ".join(map(code, mapping.nhs_types)), place("person.nhs_number")
    authorities = ", ".join(map(code, mapping.nhs_authorities))
    yield "authority of an NHS number without a type (PID-3.4)", authorities, place("person.nhs_number")
    yield "further fields with the NHS number", ", ".join(mapping.nhs_fields), place("person.nhs_number")
    yield "its verification status", ", else ".join(mapping.nhs_status), place("person.nhs_number_status")
    yield "the practice's ODS code", ", else ".join(mapping.practice.ods), place("registered_practice.ods")
    yield "the practice's name", mapping.practice.name or "", place("registered_practice.name")
    yield "the GP's name", mapping.practice.gp, place("contacts")
    yield "patient classes of a stay (PV1-2)", ", ".join(map(code, mapping.stay_classes)), place("hospital")
    yield "patient classes that are not a stay (PV1-2)", ", ".join(map(code, mapping.not_stay_classes)), ""
    restricted = ", ".join(map(code, mapping.restricted_vips))
    yield "persons whose data are restricted (PV1-16)", restricted, place("person.restricted_access")
    yield "roles of the referrer (PRD-1)", ", ".join(map(code, mapping.referrer.roles)), place("referred_by")
    if mapping.referrer.organisation:
        yield "the referrer's organisation", mapping.referrer.organisation, place("referred_by.organisation.ods")
    if mapping.site:
        yield "the hospital site", mapping.site.read_from, place("hospital.site")
    yield "the home address (PID-11.7)", ", ".join(map(code, mapping.home_addresses)), place("person.address")
    temporary = ", ".join(map(code, mapping.temporary_addresses))
    yield "a temporary address (PID-11.7)", temporary, place("person.temporary_address")


def _meaning_rows(meanings: Mapping[str, ObservationMeaning], directory: Directory) -> Iterator[tuple[str, ...]]:
    for name, one in meanings.items():
        yield code(name), one.label, _value(one), _where(one, directory)


def _value(meaning: ObservationMeaning) -> str:
    parts = _meanings({value: _plain(means) for value, means in meaning.values.items()})
    parts += [f"any other: {_plain(meaning.otherwise)}"] if meaning.otherwise is not None else []
    return "; ".join(parts) or DEFAULTS.get(TARGETS.get(meaning.to or "", "yes-no"), "")


def _plain(value: bool | int | str) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _where(meaning: ObservationMeaning, directory: Directory) -> str:
    if meaning.need is not None:
        return f"{place('needs')}: {directory.offer(meaning.need).label}"
    return f"{place('risk_flags')}: {code(meaning.flag)}" if meaning.flag is not None else place(meaning.to or "")


def _codes(mapping: Agreed, directory: Directory) -> Iterator[str]:
    """Yield a table of local codes for each field that holds them."""
    needs = {
        c: f"{directory.offer(n.service).label}{f' ({n.label})' if n.label else ''}"
        for c, n in mapping.needs.codes.items()
    }
    tables: list[tuple[str, tuple[str, ...], Mapping[str, str]]] = [
        ("Needs", mapping.needs.read_from, needs),
        ("Reasons", mapping.reasons.read_from, mapping.reasons.codes),
        ("Reasons for cancellation", mapping.cancels.read_from, mapping.cancels.codes),
        ("Sites", (mapping.site.read_from,) if mapping.site else (), mapping.site.codes if mapping.site else {}),
        ("Priorities", ("RF1-2",), mapping.priorities),
        ("Identifiers of the person", ("PID-3.5", "PID-3.4"), mapping.local_ids),
        ("Identifiers of professionals", ("PRD-7.2",), mapping.referrer.identifiers),
        ("Names", ("PID-5.7",), mapping.names),
        ("Sex", ("PID-8",), mapping.sexes),
        ("Languages", ("PID-15",), mapping.languages),
        ("Discharge destinations", ("PV1-36", "PV1-37"), mapping.destinations),
    ]
    for title, fields, codes in tables:
        read = ", ".join(fields) or "observations"
        yield from section(f"Local codes: {title}", *table((f"code in {read}", "means"), _rows(codes)))


def _rows(codes: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    yield from ((code(name), str(means)) for name, means in codes.items())


def _meanings(codes: Mapping[str, str]) -> list[str]:
    return [f"{code(name)}: {means}" for name, means in codes.items()]


def _notes(mapping: Agreed) -> Iterator[tuple[str, str]]:
    for name, note in mapping.notes.items():
        label = f", after the label {code(note.label)}" if note.label else ""
        yield code(name), "not read" if note.to == "unread" else f"{place(note.to)}{label}"
    yield "any other", place("reason.text")


def _reason_texts(mapping: Agreed) -> Iterator[tuple[str, ...]]:
    for one in mapping.reason_fields:
        yield one.read_from, one.label, "; ".join(_meanings(one.values))
