"""Write a story in each format that the hub takes: BaRS, HL7 v2 by the reviewed file of uhl, a form, a council's row.

The form and the columns are of these tests, so that each says all that its format can; nothing of a translator is used.
"""

import base64
import csv
import io
import json
from collections.abc import Iterator
from datetime import date
from typing import Any, Literal
from uuid import NAMESPACE_URL, uuid5

from tests.builders import stories
from tests.builders.bars import OURS, a_bars_message
from tests.builders.hl7v2 import segment
from tests.builders.stories import Home, Letter, Need, Stay, Story, Words
from tests.builders.workbook import a_sheet

Kind = Literal["new", "update", "cancelled-by-referrer", "referred-in-error", "consent-withdrawn"]
"""What a message does: the last three end the referral, for this reason."""

# ---- a form and a row ------------------------------------------------------------------------------------------------

GRANT = ("ot_assessment", "ss127", "application", "approval", "works", "completion")

PLACES: dict[str, tuple[str, str]] = {
    "nhs_number": ("person.nhs_number", "nhs-number"),
    "nhs_number_status": ("person.nhs_number_status", "choice"),
    "hospital_number": ("person.local_ids.0.value", "line"),
    "hospital_number_of": ("person.local_ids.0.system", "line"),
    "title": ("person.title", "line"),
    "given_names": ("person.given_names", "lines"),
    "family_name": ("person.family_name", "line"),
    "birth_date": ("person.birth_date", "date"),
    "gender": ("person.gender", "choice"),
    "address": ("person.address.lines", "lines"),
    "postcode": ("person.address.postcode", "postcode"),
    "uprn": ("person.address.uprn", "uprn"),
    "district": ("person.address.district", "ons"),
    "since": ("person.address.since", "date"),
    "until": ("person.address.until", "date"),
    "staying_at": ("person.temporary_address.lines", "lines"),
    "staying_at_postcode": ("person.temporary_address.postcode", "postcode"),
    "phone": ("person.phone", "line"),
    "email": ("person.email", "line"),
    "textphone": ("person.other_contact_points", "textphone"),
    "language": ("person.language", "line"),
    "interpreter": ("person.interpreter_needed", "yes-no"),
    "communication": ("person.communication_needs", "lines"),
    "contact_by": ("person.preferred_contact.method", "line"),
    "contact_when": ("person.preferred_contact.times", "line"),
    "written_format": ("person.preferred_contact.written_format", "line"),
    "restricted": ("person.restricted_access", "yes-no"),
    "died": ("person.death_reported", "yes-no"),
    "died_on": ("person.death_reported.died_on", "date"),
    "practice": ("registered_practice.ods", "ods"),
    "practice_name": ("registered_practice.name", "line"),
    "relative": ("contacts.0.name", "line"),
    "relative_is": ("contacts.0.relationship", "line"),
    "relative_phone": ("contacts.0.phone", "line"),
    "relative_rank": ("contacts.0.rank", "number"),
    "referrer": ("referred_by.name", "line"),
    "referrer_phone": ("referred_by.phone", "line"),
    "referrer_id": ("referred_by.identifier.value", "line"),
    "referrer_id_of": ("referred_by.identifier.system", "line"),
    "organisation": ("referred_by.organisation.name", "line"),
    "organisation_ods": ("referred_by.organisation.ods", "ods"),
    "reason": ("reason.code", "choice"),
    "text": ("reason.text", "prose"),
    "priority": ("priority", "choice"),
    "authority": ("named_authority", "ons"),
    "site": ("hospital.site", "line"),
    "ward": ("hospital.ward", "line"),
    "bed": ("hospital.bed", "line"),
    "visit": ("hospital.visit.value", "line"),
    "visit_of": ("hospital.visit.system", "line"),
    "admitted_on": ("hospital.admitted_on", "date"),
    "pathway": ("hospital.pathway", "number"),
    "delay": ("hospital.delay_attributed_to", "choice"),
    "trusted": ("hospital.trusted_assessment_suitable", "yes-no"),
    "assessment": ("hospital.needs_assessment_attached", "yes-no"),
    "ready_on": ("ready_for_transfer_on", "date"),
    "expected_on": ("expected_discharge_on", "date"),
    "discharged_on": ("discharged_on", "date"),
    "grant_category": ("grant.category", "choice"),
    **{f"grant_{stage}": (f"grant.{stage}_on", "date") for stage in GRANT},
    "risks": ("risk_flags", "flags"),
    "letter": ("attachments", "attachments"),
    "enquired_on": ("enquired_on", "date"),
    "referred_on": ("referred_on", "date"),
}
"""Place of the referral and type of each field of the form, and of each column that rows may have."""

CHOICES: dict[str, dict[str, str]] = {
    "nhs_number_status": stories.STATUSES,
    "gender": {code: code for code in ("male", "female", "other", "unknown")},
    "reason": {code: code for code in ("home-no-longer-suitable", "falls", "homelessness")},
    "priority": {code: code for code in ("routine", "urgent", "asap", "stat")},
    "delay": {code: code for code in ("nhs", "social-care", "both")},
    "grant_category": {code: code for code in "ABC"},
    "risks": stories.RISKS,
}
"""Answers of the choices, with what they mean."""

QUESTIONS = ("referral", "feedback", "evaluation")
NOT_IN_ROWS = frozenset(
    [
        "hospital_number",
        "hospital_number_of",
        "since",
        "until",
        "relative_rank",
        "referrer_id",
        "referrer_id_of",
        "organisation",
        "organisation_ods",
        "site",
        "ward",
        "bed",
        "visit",
        "visit_of",
        "admitted_on",
        "pathway",
        "delay",
        "trusted",
        "assessment",
        "ready_on",
        "expected_on",
        "discharged_on",
        "letter",
    ]
)
"""Fields that no column of a council can fill."""

FORM: dict[str, Any] = {
    "form": "story",
    "title": "A form that says all that a form can",
    "referrers": {"hospital-team": {"label": "Ward"}},
    "fields": {
        name: {"label": name, "type": kind, "to": to} | ({"choices": CHOICES[name]} if name in CHOICES else {})
        for name, (to, kind) in PLACES.items()
    },
    "needs": {
        code.lower(): {"label": label, "service": service} for code, (service, label) in stories.SERVICES.items()
    },
    "consents": {question: {"label": question} for question in QUESTIONS},
}
"""The form's definition, as its reviewed file has it."""
FORM["fields"]["family_name"]["required"] = True

BETWEEN = "¦"
"""Separates the entries of a list in one cell."""

LINES = 4


def mapping(delimiter: str = "comma") -> dict[str, Any]:
    """Return the mapping of a council's file that has every column, as its reviewed file has it."""
    return {
        "council": "story",
        "partner": "uhl",
        "title": "A file that says all that a row can",
        "file": {"encoding": "utf-8-bom", "delimiter": delimiter, "dates": ["dd/mm/yyyy"]},
        "district": "column",
        "columns": dict(_columns()),
    }


def _columns() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "Ref", {"to": "reference", "required": True}
    yield "Changed", {"to": "changed_on"}
    yield "Status", {"to": "status", "codes": {"Open": "open", "Ended": ENDED, "Error": ERROR, "Withdrawn": WITHDRAWN}}
    for name, (to, kind) in PLACES.items():
        if name in NOT_IN_ROWS:
            continue
        if kind == "lines" and to.endswith(".lines"):
            yield from ((f"{name} {at}", {"to": f"{to}.{at}"}) for at in range(LINES))
        elif kind == "lines":
            yield name, {"to": to, "separator": BETWEEN}
        elif kind == "flags":
            yield name, {"to": to, "separator": BETWEEN, "flags": CHOICES[name]}
        else:
            codes = {"codes": CHOICES[name]} if name in CHOICES else {}
            yield name, {"to": to, "required": name == "family_name"} | codes
    needs = {code: {"service": service, "text": label} for code, (service, label) in stories.SERVICES.items()}
    yield "needs", {"to": "needs", "separator": BETWEEN, "needs": needs}
    for question in QUESTIONS:
        yield question, {"to": f"consents.{question}.answer", "codes": {"Y": "yes", "N": "no", "NR": "not-recorded"}}
        yield f"{question} on", {"to": f"consents.{question}.on"}
        yield f"{question} by", {"to": f"consents.{question}.by"}


ENDED, ERROR, WITHDRAWN = "cancelled-by-referrer", "referred-in-error", "consent-withdrawn"


def filled(story: Story) -> dict[str, Any]:
    """Return what a clerk fills in: texts, dates, yes and no, and lists of texts, by the names in `PLACES`."""
    home, there, stay, kin = story.home or Home(()), story.staying_at or Home(()), story.stay, story.relative
    return {
        "nhs_number": _typed(story.number),
        "nhs_number_status": story.number_status,
        "hospital_number": story.hospital_number,
        "hospital_number_of": story.hospital_number and stories.HOSPITAL_NUMBERS,
        "title": _typed(story.title),
        "given_names": [name.written for name in story.given],
        "family_name": story.family.written,
        "birth_date": story.birth_date,
        "gender": story.gender,
        "address": [line.written for line in home.lines],
        "postcode": _typed(home.postcode),
        "uprn": home.uprn,
        "district": home.district,
        "since": home.since,
        "until": home.until,
        "staying_at": [line.written for line in there.lines],
        "staying_at_postcode": _typed(there.postcode),
        "phone": _typed(story.phone),
        "email": story.email,
        "textphone": _typed(story.textphone),
        "language": story.language,
        "interpreter": story.interpreter,
        "communication": [need.written for need in story.communication],
        "contact_by": _typed(story.contact_by),
        "contact_when": _typed(story.contact_when),
        "written_format": _typed(story.written_format),
        "restricted": story.restricted,
        "died": story.died,
        "died_on": story.died_on,
        "practice": story.practice,
        "practice_name": _typed(story.practice_name),
        "relative": kin and kin.name.written,
        "relative_is": kin and kin.relationship.written,
        "relative_phone": kin and kin.phone.written,
        "relative_rank": kin and kin.rank,
        "referrer": story.referrer and story.referrer.written,
        "referrer_phone": _typed(story.referrer_phone),
        "referrer_id": story.referrer_id,
        "referrer_id_of": story.referrer_id and stories.NURSES,
        "organisation": stories.TRUST["name"],
        "organisation_ods": stories.TRUST["ods"],
        "reason": story.reason,
        "text": _typed(story.text),
        "priority": story.priority,
        "authority": story.authority,
        "grant_category": story.grant_category,
        **{f"grant_{stage}": story.grant_stages.get(stage) for stage in GRANT},
        "risks": list(story.risks),
        "letter": [_file(story.letter)] if story.letter else [],
        "enquired_on": story.enquired_on,
        "referred_on": story.referred_on,
        **(_of_stay(stay) if stay else {}),
    }


def _of_stay(stay: Stay) -> dict[str, Any]:
    return {
        "site": stay.site,
        "ward": stay.ward.written,
        "bed": _typed(stay.bed),
        "visit": stay.visit,
        "visit_of": stay.visit and stories.VISITS,
        "admitted_on": stay.admitted_on,
        "pathway": stay.pathway,
        "delay": stay.delay,
        "trusted": stay.trusted,
        "assessment": stay.assessment,
        "ready_on": stay.ready_on,
        "expected_on": stay.expected_on,
        "discharged_on": stay.discharged_on,
    }


def _file(letter: Letter) -> dict[str, str]:
    content = base64.b64encode(letter.content).decode()
    return {"title": letter.title, "media_type": letter.media_type, "content": content}


def _typed(words: Words | None) -> str | None:
    return words.written if words else None


def as_form(story: Story, kind: Kind = "new") -> bytes:
    """Write the form, in JSON."""
    answers: dict[str, Any] = {"reference": story.reference, "completed_at": story.sent_at.isoformat()}
    if kind in (ENDED, ERROR):
        return json.dumps(answers | {"cancelled": True, "cancel_reason": kind}).encode()
    consents: dict[str, Any] = story.consents | ({"referral": "no"} if kind == WITHDRAWN else {})
    consents |= {"on": story.consented_on, "by": story.consented_by and story.consented_by.written}
    needs = {need.code.lower(): need.note.written if need.note else True for need in story.needs}
    answers |= {"referred_by": "hospital-team", "needs": needs, "consents": _given(consents)}
    return json.dumps(answers | _given(filled(story)), default=str).encode()


def _given(answers: dict[str, Any]) -> dict[str, Any]:
    return {name: answer for name, answer in answers.items() if answer is not None and answer != []}


def as_row(story: Story, kind: Kind = "new", delimiter: str = "comma") -> bytes:
    """Write a file with one row: byte order mark, header, row."""
    columns = list(mapping(delimiter)["columns"])
    cells = {name: cell for name, cell in row(story, kind).items() if name in columns}
    written = io.StringIO(newline="")
    writer = csv.writer(written, delimiter={"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}[delimiter])
    writer.writerow(columns)
    writer.writerow([cells.get(name, "") for name in columns])
    return b"\xef\xbb\xbf" + written.getvalue().encode()


def as_workbook(story: Story, kind: Kind = "new") -> bytes:
    """Write a workbook with one row, in which dates are dates."""
    columns = list(mapping()["columns"])
    cells: dict[str, Any] = {**row(story, kind), "Changed": story.sent_at.replace(tzinfo=None)}
    cells |= {name: answer for name, answer in filled(story).items() if isinstance(answer, date)}
    return a_sheet([columns, [cells.get(name) or None for name in columns]])


def row(story: Story, kind: Kind = "new") -> dict[str, str]:
    """Return the cells of a row by column, as a spreadsheet shows them."""
    status = {ENDED: "Ended", ERROR: "Error"}.get(kind, "Open")
    cells = {"Ref": story.reference, "Changed": f"{story.sent_at:%d/%m/%Y %H:%M:%S}", "Status": status}
    for name, answer in filled(story).items():
        if name in NOT_IN_ROWS:
            continue
        if isinstance(answer, list) and name in ("address", "staying_at"):
            cells |= {f"{name} {at}": line for at, line in enumerate(answer)}
        else:
            cells[name] = _cell(answer)
    cells["needs"] = BETWEEN.join(need.code for need in story.needs)
    for question, answer in (story.consents | ({"referral": "no"} if kind == WITHDRAWN else {})).items():
        cells[question] = {"yes": "Y", "no": "N", "not-recorded": "NR"}[answer]
        cells[f"{question} on"] = _cell(story.consented_on)
        cells[f"{question} by"] = story.consented_by.written if story.consented_by else ""
    return cells


def _cell(answer: Any) -> str:
    match answer:
        case None:
            return ""
        case bool():
            return "Yes" if answer else "No"
        case date():
            return f"{answer:%d/%m/%Y}"
        case list():
            return BETWEEN.join(answer)
        case _:
            return str(answer)


# ---- HL7 v2 ----------------------------------------------------------------------------------------------------------

_ESCAPED = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "~": "\\R\\", "&": "\\T\\", "\r\n": "\\.br\\"}
_ESCAPED |= dict.fromkeys("\n\r\u2028", "\\.br\\")
_AUTHORITIES = {"E07000129": "BLABY", "E07000130": "CHARNWOOD", "E06000016": "CITY"}
_REASONS = {"home-no-longer-suitable": "UNSUIT", "falls": "FALLS", "homelessness": "HOMELESS"}
_TRIGGERS = {"new": "I12", "update": "I13", "consent-withdrawn": "I13"}
_DELAYS = {"nhs": "NHS", "social-care": "SOC", "both": "BOTH"}


def escaped(text: str | None) -> str:
    """Return a text with the escape sequences of HL7 v2 for separators and line ends."""
    whole = (text or "").replace("\r\n", "\n")
    return "".join(_ESCAPED.get(one, one) for one in whole)


def _hl7(words: Words | None) -> str:
    return escaped(words.written) if words else ""


def _day(on: date | None) -> str:
    return f"{on:%Y%m%d}" if on else ""


def as_hl7v2(story: Story, kind: Kind = "new", before: Story | None = None) -> bytes:
    r"""Write REF^I12, I13 or I14. `before`: what was said and now is not is deleted, by `""`."""
    now = _segments(story, kind)
    if before:
        now = _with_deleted(now, _segments(before, "new"))
    return ("\r".join(segment(name, fields) for name, fields in now) + "\r").encode()


Segments = list[tuple[str, dict[int, str]]]


def _with_deleted(now: Segments, before: Segments) -> Segments:
    said = {(name, fields.get(3) if name == "OBX" else None): fields for name, fields in now}
    deleted: Segments = []
    for name, fields in before:
        current = said.get((name, fields.get(3) if name == "OBX" else None))
        if current is None and name == "OBX":
            deleted.append((name, {2: fields[2], 3: fields[3], 5: '""', 11: "F"}))
        elif current is None:
            deleted.append((name, dict.fromkeys((at for at, value in fields.items() if value), '""')))
        elif name != "MSH":
            current |= {at: '""' for at, value in fields.items() if value and not current.get(at)}
    return [*now, *deleted]


def _segments(story: Story, kind: Kind) -> Segments:
    made = f"{story.sent_at:%Y%m%d%H%M%S%z}"
    msh = {
        1: "^~\\&",
        2: "UHL_EPR",
        3: "RWE",
        4: "LIGHTBULB",
        5: "BLABY",
        6: made,
        8: f"REF^{_TRIGGERS.get(kind, 'I14')}",
    }
    msh |= {9: f"{story.reference}-{made}", 10: "P", 11: "2.5", 17: "UNICODE UTF-8"}
    ends = {ENDED: "DISCH", ERROR: "ERR"}
    priority = {"routine": "R", "urgent": "U", "asap": "A", "stat": "S"}[story.priority]
    request = {2: priority, 6: escaped(story.reference), 7: _day(story.referred_on), 10: ends.get(kind, _reason(story))}
    segments: Segments = [("MSH", msh), ("RF1", request), ("PRD", _provider(story)), ("PID", _pid(story))]
    segments += [("PD1", {3: _practice(story), 12: "Y" if story.restricted else "N"})]
    if kin := story.relative:
        name = f"{_hl7(kin.name.family)}^{_hl7(kin.name.given)}"
        segments.append(("NK1", {2: name, 3: f"^{_hl7(kin.relationship)}", 5: _hl7(kin.phone)}))
    segments += list(_visit(story.stay)) if story.stay else []
    segments += [("NTE", {1: "1", 3: _hl7(story.text)})] if story.text else []
    return [*segments, *_observations(story, kind)]


def _reason(story: Story) -> str:
    return f"{_REASONS[story.reason]}^^L^{story.reason_snomed}^^SCT" if story.reason and story.reason_snomed else ""


def _provider(story: Story) -> dict[int, str]:
    who = story.referrer
    name = f"{_hl7(who.family)}^{_hl7(who.given)}^^^{_hl7(who.title)}" if who else ""
    return {1: "RP", 2: name, 5: _hl7(story.referrer_phone), 7: f"{story.referrer_id}^NMC" if story.referrer_id else ""}


def _practice(story: Story) -> str:
    return f"{_hl7(story.practice_name)}^^^^^^^^^{story.practice}" if story.practice else _hl7(story.practice_name)


def _pid(story: Story) -> dict[int, str]:
    number = [f"{_hl7(story.number)}^^^NHS^NHS"] if story.number else []
    own = [f"{story.hospital_number}^^^UHL^MRN"] if story.hospital_number else []
    first, *others = [*map(_hl7, story.given), ""]
    family = f"{_hl7(story.family)}^{first}^{' '.join(filter(None, others))}^^{_hl7(story.title)}^^L"
    homes = [_xad(story.home, "H")] if story.home else []
    homes += [_xad(story.staying_at, "C")] if story.staying_at else []
    telecom = [f"{_hl7(story.phone)}^PRN^PH"] if story.phone else []
    telecom += [f"^NET^Internet^{story.email}"] if story.email else []
    telecom += [f"{_hl7(story.textphone)}^PRN^TDD"] if story.textphone else []
    return {
        3: "~".join([*own, *number]),
        5: family,
        7: _day(story.birth_date),
        8: {"male": "M", "female": "F", "other": "O", "unknown": "U"}.get(story.gender or "", ""),
        11: "~".join(homes),
        13: "~".join(telecom),
        15: {"pl": "POL", "gu": "GUJ"}.get(story.language or "", ""),
        29: _day(story.died_on),
        30: "Y" if story.died else "",
        32: f"NSTS{stories.STATUSES[story.number_status]}" if story.number_status else "",
    }


def _xad(home: Home, kind: str) -> str:
    lines = [*map(_hl7, home.lines), "", "", "", ""][:LINES]
    period = ["", "", "", "", "", _day(home.since), _day(home.until)] if home.since or home.until else []
    return "^".join([*lines, _hl7(home.postcode), "", kind, *period])


def _visit(stay: Stay) -> Iterator[tuple[str, dict[int, str]]]:
    where = f"{_hl7(stay.ward)}^^{_hl7(stay.bed)}^{'LRI' if stay.site == 'Leicester Royal Infirmary' else 'GH'}"
    visit = f"{stay.visit}^^^UHL^VN" if stay.visit else ""
    yield "PV1", {2: "I", 3: where, 19: visit, 44: _day(stay.admitted_on), 45: _day(stay.discharged_on)}
    yield "PV2", {9: _day(stay.expected_on)}


def _observations(story: Story, kind: Kind) -> Iterator[tuple[str, dict[int, str]]]:
    for need in story.needs:
        yield _obx("CWE", "LB-NEED", _coded_need(need))
    if story.reason and not story.reason_snomed:
        yield _obx("CWE", "LB-REASON", _REASONS[story.reason])
    if story.authority:
        yield _obx("CWE", "LB-AUTHORITY", _AUTHORITIES[story.authority])
    if story.home and story.home.uprn:
        yield _obx("ST", "LB-UPRN", story.home.uprn)
    if story.interpreter is not None:
        yield _obx("CWE", "LB-INTERP", "Y" if story.interpreter else "N")
    for wish in story.communication:
        yield _obx("ST", "LB-COMM", _hl7(wish))
    for code in story.risks:
        yield _obx("CWE", "LB-RISK", f"{code}^{escaped(stories.RISKS[code])}")
    yield from _observed_stay(story.stay) if story.stay else ()
    yield from _observed_consents(story, kind)
    if letter := story.letter:
        kind_of, _, subtype = letter.media_type.partition("/")
        data = base64.b64encode(letter.content).decode()
        yield _obx("ED", f"LETTER^{escaped(letter.title)}", f"^{kind_of}^{subtype}^Base64^{data}")


def _coded_need(need: Need) -> str:
    code = f"{need.code}^{_hl7(need.note)}"
    return f"{code}^^{need.snomed}^^SCT" if need.snomed else code


def _observed_stay(stay: Stay) -> Iterator[tuple[str, dict[int, str]]]:
    said = {
        "LB-RFT": _day(stay.ready_on),
        "LB-PATHWAY": "" if stay.pathway is None else f"P{stay.pathway}",
        "LB-DELAY": _DELAYS.get(stay.delay or "", ""),
        "LB-TRUSTED": {True: "Y", False: "N", None: ""}[stay.trusted],
        "LB-INAT": {True: "Y", False: "N", None: ""}[stay.assessment],
    }
    yield from (_obx("DT" if code == "LB-RFT" else "CWE", code, value) for code, value in said.items() if value)


def _observed_consents(story: Story, kind: Kind) -> Iterator[tuple[str, dict[int, str]]]:
    codes = {"referral": "LB-CONSENT", "feedback": "LB-CONSENT-GP", "evaluation": "LB-CONSENT-EVAL"}
    by = f"^{_hl7(story.consented_by.family)}^{_hl7(story.consented_by.given)}" if story.consented_by else ""
    for question, answer in (story.consents | ({"referral": "no"} if kind == WITHDRAWN else {})).items():
        name, fields = _obx("CWE", codes[question], {"yes": "Y", "no": "N", "not-recorded": "U"}[answer])
        yield name, fields | {14: _day(story.consented_on), 16: by}


def _obx(kind: str, code: str, value: str) -> tuple[str, dict[int, str]]:
    return "OBX", {2: kind, 3: code, 5: value, 11: "F"}


# ---- BaRS ------------------------------------------------------------------------------------------------------------

_UK_CORE = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-"
_ODS = "https://fhir.nhs.uk/Id/ods-organization-code"
_ONS = "https://statistics.data.gov.uk/id/statistical-geography"
_ACT, _PLACE = (
    "http://terminology.hl7.org/CodeSystem/v3-ActCode",
    "http://terminology.hl7.org/CodeSystem/location-physical-type",
)

Json = dict[str, Any]


def as_bars(story: Story, kind: Kind = "new") -> bytes:
    """Write a bundle: `new`, an update, a request that is revoked or entered in error, or one whose consent is denied."""
    message = a_bars_message(
        seed=story.reference,
        referral_id=story.reference,
        reason={"new": "new", ENDED: "delete", ERROR: "delete"}.get(kind, "update"),
        sent_at=story.sent_at.isoformat(),
        status={ENDED: "revoked", ERROR: "entered-in-error"}.get(kind, "active"),
        nhs_number=_typed(story.number),
        ods=stories.TRUST["ods"],
        patient=_patient(story),
        request=_service_request(story),
        consents={},
        more=[*_consents(story, kind), *map(_flag, story.risks), *_documents(story), *_encounter(story.stay)],
    )
    resources = {one["resource"]["resourceType"]: one["resource"] for one in message["entry"]}
    resources["Organization"]["name"] = stories.TRUST["name"]
    resources["Practitioner"] |= _practitioner(story)
    return json.dumps(_without_empty(message), default=str).encode()


def _without_empty(value: Any) -> Any:
    """Return the JSON without what is not said: FHIR has no null and no empty element."""
    if isinstance(value, dict):
        left = {name: _without_empty(one) for name, one in value.items()}
        return {name: one for name, one in left.items() if one not in (None, "", [], {})}
    return [_without_empty(one) for one in value if one is not None] if isinstance(value, list) else value


def _practitioner(story: Story) -> Json:
    who = story.referrer
    name = {"family": who.family.written, "given": [who.given.written], "prefix": [_typed(who.title)]} if who else None
    return {
        "name": [name],
        "identifier": [{"system": stories.NURSES, "value": story.referrer_id}] if story.referrer_id else [],
        "telecom": [_point("phone", story.referrer_phone, "work")],
    }


def _point(system: str, words: Words | None, use: str) -> Json | None:
    return {"system": system, "value": words.written, "use": use} if words else None


def _patient(story: Story) -> Json:
    textphone = {"url": f"{_UK_CORE}OtherContactSystem", "valueCoding": {"code": "textphone"}}
    other = _point("other", story.textphone, "home")
    name = {"use": "official", "family": story.family.written, "given": [one.written for one in story.given]}
    return {
        "meta": {"security": [_coding("http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "R")]}
        if story.restricted
        else None,
        "extension": [*_extensions(story)],
        "identifier": _identifiers(story),
        "name": [name | {"prefix": [_typed(story.title)]}],
        "telecom": [
            _point("phone", story.phone, "home"),
            {"system": "email", "value": story.email} if story.email else None,
            other | {"extension": [textphone]} if other else None,
        ],
        "gender": story.gender,
        "birthDate": story.birth_date and str(story.birth_date),
        "deceasedDateTime": story.died_on and str(story.died_on),
        "deceasedBoolean": True if story.died and not story.died_on else None,
        "address": [_address(story.home, "home"), _address(story.staying_at, "temp")],
        "communication": [{"language": {"coding": [_coding("urn:ietf:bcp:47", story.language)]}}]
        if story.language
        else [],
        "contact": [_contact(story)],
        "generalPractitioner": [
            {
                "identifier": {"system": _ODS, "value": story.practice} if story.practice else None,
                "display": _typed(story.practice_name),
            }
        ],
    }


def _coding(system: str, code: str | None) -> Json:
    return {"system": system, "code": code}


def _identifiers(story: Story) -> list[Json]:
    status = {
        "url": f"{_UK_CORE}NHSNumberVerificationStatus",
        "valueCodeableConcept": {
            "coding": [
                _coding(
                    "https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatusEngland",
                    stories.STATUSES.get(story.number_status or ""),
                )
            ]
        },
    }
    number = {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": _typed(story.number)}
    own = {"system": stories.HOSPITAL_NUMBERS, "value": story.hospital_number}
    return [
        *([number | ({"extension": [status]} if story.number_status else {})] if story.number else []),
        *([own] if story.hospital_number else []),
    ]


def _extensions(story: Story) -> Iterator[Json]:
    if story.interpreter is not None:
        url = "http://hl7.org/fhir/StructureDefinition/patient-interpreterRequired"
        yield {"url": url, "valueBoolean": story.interpreter}
    for wish in story.communication:
        yield {"url": f"{OURS}StructureDefinition/communication-need", "valueString": wish.written}
    wishes = [
        {"url": "PreferredContactMethod", "valueCodeableConcept": {"text": _typed(story.contact_by)}},
        {"url": "PreferredContactTimes", "valueString": _typed(story.contact_when)},
        {
            "url": "PreferredWrittenCommunicationFormat",
            "valueCodeableConcept": {"text": _typed(story.written_format)},
        },
    ]
    said = [
        wish
        for wish, words in zip(wishes, (story.contact_by, story.contact_when, story.written_format), strict=True)
        if words
    ]
    if said:
        yield {"url": f"{_UK_CORE}ContactPreference", "extension": said}


def _address(home: Home | None, use: str) -> Json | None:
    if home is None:
        return None
    key = [
        {"url": "type", "valueCoding": {"code": "UPRN"}},
        {"url": "value", "valueString": home.uprn},
    ]
    return {
        "extension": [{"url": f"{_UK_CORE}AddressKey", "extension": key}] if home.uprn else [],
        "use": use,
        "line": [line.written for line in home.lines],
        "postalCode": _typed(home.postcode),
        "period": {"start": home.since and str(home.since), "end": home.until and str(home.until)},
    }


def _contact(story: Story) -> Json | None:
    kin = story.relative
    return kin and {
        "extension": [{"url": f"{_UK_CORE}ContactRank", "valuePositiveInt": kin.rank}] if kin.rank else [],
        "name": {"family": kin.name.family.written, "given": [kin.name.given.written]},
        "relationship": [{"text": kin.relationship.written}],
        "telecom": [_point("phone", kin.phone, "home")],
    }


def _service_request(story: Story) -> Json:
    reason = [_coding(f"{OURS}CodeSystem/reason", story.reason)] if story.reason else []
    reason += [_coding(stories.SNOMED, story.reason_snomed)] if story.reason_snomed else []
    authority = {"identifier": {"system": _ONS, "value": story.authority}}
    return {
        "priority": story.priority,
        "authoredOn": str(story.referred_on),
        "orderDetail": [_order(need) for need in story.needs],
        "reasonCode": [{"coding": reason}] if reason else [],
        "note": [{"text": story.text.written}] if story.text else [],
        "performer": [authority] if story.authority else [],
        "encounter": {"reference": f"urn:uuid:{_id('stay')}"} if story.stay else None,
    }


def _order(need: Need) -> Json:
    service, label = stories.SERVICES[need.code]
    codes = [_coding(f"{OURS}CodeSystem/service", service)]
    codes += [_coding(stories.SNOMED, need.snomed)] if need.snomed else []
    return {"coding": codes, "text": f"{label}: {need.note.written}" if need.note else label}


def _encounter(stay: Stay | None) -> Iterator[Json]:
    if stay is None:
        return
    where = {"si": stay.site, "wa": stay.ward.written, "bd": _typed(stay.bed)}
    places = [(_id(kind), kind, name) for kind, name in where.items() if name]
    said = [
        {"url": "discharge-pathway", "valueInteger": stay.pathway},
        {"url": "delay-attributed-to", "valueCode": stay.delay},
        {"url": "trusted-assessment-suitable", "valueBoolean": stay.trusted},
        {"url": "ready-for-transfer", "valueDate": stay.ready_on and str(stay.ready_on)},
        {"url": "expected-discharge", "valueDate": stay.expected_on and str(stay.expected_on)},
    ]
    yield {
        "resourceType": "Encounter",
        "id": _id("stay"),
        "status": "finished" if stay.discharged_on else "in-progress",
        "class": _coding(_ACT, "IMP"),
        "period": {
            "start": stay.admitted_on and str(stay.admitted_on),
            "end": stay.discharged_on and str(stay.discharged_on),
        },
        "location": [{"location": {"reference": f"urn:uuid:{at}"}} for at, _, _ in places],
        "extension": [
            one | {"url": f"{OURS}StructureDefinition/{one['url']}"} for one in said if None not in one.values()
        ],
    }
    for at, kind, name in places:
        yield {
            "resourceType": "Location",
            "id": at,
            "name": name,
            "physicalType": {"coding": [_coding(_PLACE, kind)]},
        }


def _id(name: str) -> str:
    return str(uuid5(NAMESPACE_URL, name))


def _consents(story: Story, kind: Kind) -> Iterator[Json]:
    scope = "http://terminology.hl7.org/CodeSystem/consentscope"
    by = {"display": story.consented_by.written} if story.consented_by else None
    for question, answer in (story.consents | ({"referral": "no"} if kind == WITHDRAWN else {})).items():
        policy = {"yes": "OPTIN", "no": "OPTOUT", "not-recorded": "IMPLIED"}[answer]
        yield {
            "resourceType": "Consent",
            "id": _id(question),
            "status": "active",
            "scope": {"coding": [_coding(scope, "patient-privacy")]},
            "category": [{"coding": [_coding(f"{OURS}CodeSystem/consent", question)]}],
            "dateTime": story.consented_on and str(story.consented_on),
            "performer": [by],
            "policyRule": {"coding": [_coding(_ACT, policy)]},
            "provision": {"type": {"yes": "permit", "no": "deny"}.get(answer)},
        }


def _flag(code: str) -> Json:
    return {
        "resourceType": "Flag",
        "id": _id(code),
        "status": "active",
        "code": {"coding": [{"code": code}], "text": stories.RISKS[code]},
        "subject": {"display": "the person"},
    }


def _documents(story: Story) -> Iterator[Json]:
    if letter := story.letter:
        data = base64.b64encode(letter.content).decode()
        attachment = {"contentType": letter.media_type, "data": data, "title": letter.title}
        yield {
            "resourceType": "DocumentReference",
            "id": _id("letter"),
            "status": "current",
            "content": [{"attachment": attachment}],
        }
