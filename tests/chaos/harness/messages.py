"""Build the messages of a plan in each sender's format, with the ids of a run."""

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.builders.bars import a_bars_message
from tests.builders.hl7v2 import a_uhl_message, an_lpt_message, segment
from tests.chaos.harness.council_rows import Row, council_file
from tests.chaos.harness.forms import FormContent, fill
from tests.chaos.harness.history import Message
from tests.chaos.harness.plan import POSTCODES, Person, Referral, SendMessage
from tests.chaos.harness.said import INTERPRETER, NEED_CODES, changes_of, is_partial, time_of
from tests.chaos.harness.workload import council

NEEDS = (
    {"minor-adaptations": "grab rails by the back door", "home-safety": "rugs"},
    {"home-safety": "rugs"},
    {"affordable-warmth": "cold"},
    {"income-maximisation": "attendance allowance"},
)
"""The needs, one after the other with each change. The last, alone, makes the referral go to central triage."""

CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
ELSEWHERE = "http://127.0.0.1:9/elsewhere"
STRANGERS = 32
"""The number of the first person of a run whom only messages about another person's referral name; plans have fewer persons."""

SLOT = 512
"""NHS numbers reserved for one run: for its persons, and for the other rows of a council's file."""


@dataclass(frozen=True)
class Identity:
    """The ids and NHS numbers of a run, which make two runs of one plan different. `slot` counts the runs of an installation."""

    run: str
    slot: int
    misdirected: str = ELSEWHERE

    def id(self, *about: object) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, " ".join(map(str, (self.run, *about)))))

    def nhs_number(self, person: int) -> str:
        """Return a synthetic number (999...) of this run."""
        at = (self.slot * SLOT + person * 2) % 999_998
        return next(number for digits in (at, at + 1) if (number := _with_check_digit(f"999{digits:06d}")))


def _with_check_digit(nine: str) -> str | None:
    check = 11 - sum(int(digit) * weight for digit, weight in zip(nine, range(10, 1, -1), strict=True)) % 11
    return None if check == 10 else nine + str(check % 11)


def failing(number: str) -> str:
    """Return the number with a wrong check digit."""
    return number[:9] + str((int(number[9]) + 1) % 10)


# ---- messages ---------------------------------------------------------------------------------------------------------


def message(identity: Identity, person: Person, operation: SendMessage, place: int) -> Message:
    """Return the message for the input at `place` of a person. A repeat has the bytes of the message that it repeats."""
    referral = person.referrals[operation.referral]
    about = (person.number, operation.referral, _message_name(operation))
    is_file = referral.format == "csv"
    return Message(
        person=person.number,
        referral=operation.referral,
        place=place,
        kind=operation.kind,
        partner=referral.partner,
        path="" if operation.kind in ADT else _path(referral),
        request_id=identity.id(person.number, operation.referral, _request_name(operation), "request"),
        correlation_id=identity.id(*about, "correlation"),
        body=MAKE[referral.format](identity, person, operation),
        mark=_mark(identity, person, operation).encode(),
        row=identity.id(person.number, operation.referral) if is_file else "",
        other_rows=tuple((n, row.reference) for n, row in _other_rows(identity, person, operation)) if is_file else (),
    )


def _path(referral: Referral) -> str:
    match referral.format:
        case "bars":
            return "/fhir/$process-message"
        case "form":
            return f"/forms/{referral.form}"
        case "csv":
            return f"/councils/{council(referral.partner)}/referrals"
        case _:
            return "/hl7v2" if referral.over_http else ""


def _mark(identity: Identity, person: Person, operation: SendMessage) -> str:
    return identity.id(person.number, operation.referral, _message_name(operation), "mark").replace("-", "")[:20]


ADT = ("adt", "adt-stranger")


def _message_name(operation: SendMessage) -> str:
    """Return the name of a message: messages with the same name are the same message sent again."""
    return f"{'content' if operation.kind in ('new', 'update', 'repeat') else operation.kind} {operation.content}"


def _request_name(operation: SendMessage) -> str:
    """Return the name that X-Request-Id derives from: a conflict has the id of an accepted message, and other content."""
    return f"content {operation.content}" if operation.kind == "conflict" else _message_name(operation)


def _need(person: Person, operation: SendMessage) -> int:
    """Return the index of the message's need, which differs from that of the previous message."""
    return person.number + operation.content + {"conflict": 1, "late": 2}.get(operation.kind, 0)


def _cancels(operation: SendMessage) -> bool:
    return operation.kind in ("cancel", "unknown-cancel")


def _number(identity: Identity, person: Person) -> str | None:
    number = identity.nhs_number(person.number) if person.has_nhs_number else None
    return failing(number) if number and person.fails_check else number


def _discharged(person: Person, operation: SendMessage) -> bool:
    """Return True after two changes of a stay."""
    return person.referrals[operation.referral].stays and operation.content >= 2


def _bars(identity: Identity, person: Person, operation: SendMessage) -> bytes:
    referral = person.referrals[operation.referral]
    of_referral = (person.number, operation.referral)
    bundle = f"content {operation.content}" if operation.kind == "conflict" else _message_name(operation)
    is_stranger = operation.kind == "stranger"
    number = identity.nhs_number(person.number + STRANGERS * is_stranger)
    bundle_of_referral = a_bars_message(
        seed=identity.id(*of_referral, bundle),
        referral_id=identity.id(*of_referral),
        bundle_id=identity.id(*of_referral, bundle, "bundle"),
        sent_at=f"2026-11-05T{time_of(operation)}+00:00",
        reason="new" if operation.content == 0 and operation.kind in ("new", "repeat", "conflict", "bad") else "update",
        status="revoked" if _cancels(operation) else "active",
        nhs_number=failing(number) if operation.kind == "bad" else number if person.has_nhs_number else None,
        family="Stranger" if is_stranger else "Vance",
        ods=referral.practice,
        needs=NEEDS[_need(person, operation) % len(NEEDS)],
        consents={"referral": "permit", "feedback": "permit" if referral.consents else "deny"},
        doctor_telecom=[{"system": "phone", "value": identity.misdirected}],
        request={"authoredOn": f"2026-11-0{referral.day}"},
    )
    patient = next(e["resource"] for e in bundle_of_referral["entry"] if e["resource"]["resourceType"] == "Patient")
    patient["address"][0]["postalCode"] = person.postcode
    if is_stranger:
        patient["birthDate"] = "1961-06-01"
    if referral.restricted:
        patient["meta"] = {"security": [{"system": CONFIDENTIALITY, "code": "R", "display": "restricted"}]}
    return json.dumps(bundle_of_referral).encode()


def _form(identity: Identity, person: Person, operation: SendMessage) -> bytes:
    referral = person.referrals[operation.referral]
    reference, completed_at = (
        f"F-{identity.id(person.number, operation.referral)}",
        f"2026-11-05T{time_of(operation)}+00:00",
    )
    if _cancels(operation):
        return json.dumps({"reference": reference, "completed_at": completed_at, "cancelled": True}).encode()
    number = identity.nhs_number(person.number)
    it = FormContent(
        form=referral.form,
        partner=referral.partner,
        reference=reference,
        asker=referral.asker,
        practice=referral.practice,
        completed_at=completed_at,
        day=referral.day,
        postcode=person.postcode,
        need=_need(person, operation),
        number=failing(number) if operation.kind == "bad" else _number(identity, person),
        verified=referral.verified,
        consents=referral.consents,
        names=referral.names,
        discharged=_discharged(person, operation),
    )
    return json.dumps(fill(it)).encode()


# ---- HL7 v2 -----------------------------------------------------------------------------------------------------------

EXPECTED_DISCHARGE = "20361112"
"""So far ahead that none is overdue during a run: when a task for it is raised depends on when a router starts."""

TRIGGERS: Mapping[str, str] = {"cancel": "I14", "unknown-cancel": "I14", "late": "I13", "stranger": "I13"}


def _hl7(identity: Identity, person: Person, operation: SendMessage) -> bytes:
    """Return REF^I12, I13 or I14, or ADT^A02. Every second update says a few fields only."""
    if operation.kind in ADT:
        return _adt(identity, person, operation)
    referral = person.referrals[operation.referral]
    header = {
        "control_id": _mark(identity, person, operation),
        "referral_id": "" if operation.kind == "bad" else identity.id(person.number, operation.referral),
        "sent_at": _stamp(operation),
        "trigger": TRIGGERS.get(operation.kind, "I12" if operation.content == 0 else "I13"),
    }
    if is_partial(referral, operation):
        return _partial(identity, person, operation, header)
    common = {
        "RF1-7": f"2026110{referral.day}",
        "PID-7": "19610601" if operation.kind == "stranger" else "19440229",
        "PV1-2": "I" if referral.stays else "O",
        "PV1-19": _visit(identity, person, operation),
        "PV1-44": f"2026102{referral.day}",
        "PV1-45": "20261105" if _discharged(person, operation) else "",
    }
    common |= {"PID-13": changes_of(person, operation)["phone"]}
    build = _of_uhl if referral.partner == "uhl" else _of_lpt
    if operation.kind == "stranger":
        header["family"] = "Stranger"
    number = (
        identity.nhs_number(person.number + STRANGERS) if operation.kind == "stranger" else _number(identity, person)
    )
    return build(number, person, operation, header, common)


def _stamp(operation: SendMessage) -> str:
    """Return MSH-7, to the second, as the partners' systems write it."""
    return "20261105" + time_of(operation).replace(":", "")


def _visit(identity: Identity, person: Person, operation: SendMessage) -> str:
    stranger = "stranger" if operation.kind == "adt-stranger" else ""
    return "V" + identity.id(person.number, operation.referral, "visit", stranger).replace("-", "")[:16]


def _partial(identity: Identity, person: Person, operation: SendMessage, header: Mapping[str, str]) -> bytes:
    """Return an I13 that says which referral it is about and a few fields, and nothing of the stay."""
    referral, said = person.referrals[operation.referral], changes_of(person, operation)
    is_uhl = referral.partner == "uhl"
    rf1 = {6: header["referral_id"] if is_uhl else f"^^{header['referral_id']}"}
    if "need" in said:
        rf1[3] = NEED_CODES[referral.partner][said["need"]]
    segments = [
        _msh(referral.partner, f"REF^{header['trigger']}", header["sent_at"], header["control_id"]),
        segment("RF1", rf1),
        segment("PID", {3: _ids(identity, person, operation), 5: "Vance^Ada", 13: said["phone"]}),
    ]
    if "interpreter" in said:
        segments.append(segment("OBX", INTERPRETER[referral.partner]))
    return "".join(one + "\r" for one in segments).encode()


def _adt(identity: Identity, person: Person, operation: SendMessage) -> bytes:
    """Return a transfer to another ward of the same site."""
    referral = person.referrals[operation.referral]
    is_uhl = referral.partner == "uhl"
    ward = f"{changes_of(person, operation)['ward']}^B^4" + (f"^{_site(referral)}" if is_uhl else "")
    pv1 = {1: "1", 2: "I", 3: ward, 19: _visit(identity, person, operation), 44: f"2026102{referral.day}"}
    segments = [
        _msh(referral.partner, "ADT^A02", _stamp(operation), _mark(identity, person, operation)),
        "EVN|A02",
        segment("PID", {3: _ids(identity, person, operation), 5: "Vance^Ada"}),
        segment("PV1", pv1),
    ]
    return "".join(one + "\r" for one in segments).encode()


def _msh(partner: str, event: str, at: str, control_id: str) -> str:
    sender, version = ("UHL_EPR|RWE", "2.5") if partner == "uhl" else ("LPT_PAS|RT5^BMHU", "2.4")
    return f"MSH|^~\\&|{sender}|LIGHTBULB|BLABY|{at}||{event}|{control_id}|P|{version}"


def _ids(identity: Identity, person: Person, operation: SendMessage) -> str:
    stranger = operation.kind == "adt-stranger"
    number = identity.nhs_number(person.number + STRANGERS) if stranger else _number(identity, person)
    return f"{number}^^^NHS^NHS" if number else "RWE12345^^^UHL^MRN"


def _site(referral: Referral) -> str:
    return ("LRI", "GH")[referral.day % 2]


def _of_uhl(
    number: str | None, person: Person, operation: SendMessage, header: Mapping[str, object], common: Mapping[str, str]
) -> bytes:
    referral = person.referrals[operation.referral]
    fields = {
        "PID-3": f"{number}^^^NHS^NHS" if number else "RWE12345^^^UHL^MRN",
        "PID-11": f"1 Any Lane^^Any Town^^{person.postcode}^^H",
        "PID-32": ("NSTS01" if referral.verified else "NSTS02") if number else "",
        "PV1-3": f"W23^B^4^{_site(referral)}",
        "PV2-9": EXPECTED_DISCHARGE,
        "RF1-3": NEED_CODES["uhl"][_need(person, operation) % 4],
    }
    agrees = segment("OBX", {2: "CE", 3: "LB-CONSENT-GP", 5: "Y" if referral.consents else "N", 11: "F"})
    return a_uhl_message(**header, fields={**common, **fields}, more=[agrees])


def _of_lpt(
    number: str | None, person: Person, operation: SendMessage, header: Mapping[str, object], common: Mapping[str, str]
) -> bytes:
    referral = person.referrals[operation.referral]
    fields = {
        "PID-3": f"{number}^^^^NHS~P77^^^LPT^PAS" if number else "P77^^^LPT^PAS",
        "PID-11": f"1 Any Lane^^Any Town^^{person.postcode}^^HOME",
        "PID-32": ("01" if referral.verified else "02") if number else "",
        "RF1-3": NEED_CODES["lpt"][_need(person, operation) % 4],
        "ZHD-5": EXPECTED_DISCHARGE,
    }
    agrees = segment("OBX", {2: "CE", 3: "C2", 5: "1" if referral.consents else "2", 11: "F"})
    return an_lpt_message(**header, fields={**common, **fields}, more=[agrees])


# ---- councils ---------------------------------------------------------------------------------------------------------


def _csv(identity: Identity, person: Person, operation: SendMessage) -> bytes:
    """Return a council's file: the row that is meant, between rows of other persons. A conflict has the row twice, with other content."""
    others = [row for _, row in _other_rows(identity, person, operation)]
    own = [_row(identity, person, operation)]
    if operation.kind == "conflict":
        own.append(_row(identity, person, SendMessage(operation.referral, "new", operation.content)))
    return council_file(council(person.referrals[operation.referral].partner), [*others[:1], *own, *others[1:]])


def _row(identity: Identity, person: Person, operation: SendMessage) -> Row:
    referral = person.referrals[operation.referral]
    return Row(
        reference=identity.id(person.number, operation.referral),
        postcode=person.postcode,
        mark=_mark(identity, person, operation),
        need=_need(person, operation),
        time=time_of(operation),
        day=referral.day,
        number=_number(identity, person),
        consents=referral.consents,
        cancels=_cancels(operation),
        is_bad=operation.kind == "bad",
    )


def _other_rows(identity: Identity, person: Person, operation: SendMessage) -> list[tuple[int, Row]]:
    """Return the rows of other persons, which are the same in each file of this referral."""
    numbers = [
        64 + 4 * person.number + 2 * operation.referral + at
        for at in range(person.referrals[operation.referral].other_rows)
    ]
    return [(number, _another(identity, number)) for number in numbers]


def _another(identity: Identity, number: int) -> Row:
    return Row(
        reference=identity.id("beside", number),
        postcode=POSTCODES[number % len(POSTCODES)],
        mark="as before",
        need=number,
        number=identity.nhs_number(number) if number % 2 else None,
    )


MAKE: Mapping[str, Callable[[Identity, Person, SendMessage], bytes]] = {
    "bars": _bars,
    "form": _form,
    "hl7": _hl7,
    "csv": _csv,
}
