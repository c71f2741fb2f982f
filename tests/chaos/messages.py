"""Makes a plan's messages of a run's own ids, in each sender's own format."""

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.builders.bars import a_bars_message
from tests.builders.hl7v2 import a_uhl_message, an_lpt_message, segment
from tests.chaos.forms import Filled, filled
from tests.chaos.history import Message
from tests.chaos.rows import Row, a_file_of
from tests.chaos.seed import POSTCODES, Person, Referral, Say
from tests.chaos.ways import council

NEEDS = (
    {"minor-adaptations": "grab rails by the back door"},
    {"home-safety": "rugs"},
    {"affordable-warmth": "cold"},
    {"income-maximisation": "attendance allowance"},
)
"""What is asked for, one after the other with each change. The last is merely referred onward: alone, it goes to central triage."""

ELSEWHERE = "http://127.0.0.1:9/elsewhere"
SLOT = 512
"""Numbers that one run has for itself: those of its people, and of who stands beside them in a council's file."""


@dataclass(frozen=True)
class Identity:
    """What makes two runs of one plan different: the ids and NHS numbers. `slot` counts the runs of an installation."""

    run: str
    slot: int
    elsewhere: str = ELSEWHERE

    def id(self, *about: object) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, " ".join(map(str, (self.run, *about)))))

    def nhs_number(self, person: int) -> str:
        """A synthetic number (999...) of this run's own."""
        at = (self.slot * SLOT + person * 2) % 999_998
        return next(number for digits in (at, at + 1) if (number := _with_check_digit(f"999{digits:06d}")))


def _with_check_digit(nine: str) -> str | None:
    check = 11 - sum(int(digit) * weight for digit, weight in zip(nine, range(10, 1, -1), strict=True)) % 11
    return None if check == 10 else nine + str(check % 11)


def failing(number: str) -> str:
    """The number with a wrong check digit."""
    return number[:9] + str((int(number[9]) + 1) % 10)


# ---- messages ---------------------------------------------------------------------------------------------------------


def message(identity: Identity, person: Person, say: Say, place: int) -> Message:
    """What is sent for the input at `place` of a person. A repeat has the bytes of what it repeats."""
    referral = person.referrals[say.referral]
    about = (person.number, say.referral, _named(say))
    is_file = referral.format == "csv"
    return Message(
        person=person.number,
        referral=say.referral,
        place=place,
        kind=say.kind,
        partner=referral.partner,
        path=_path(referral),
        request_id=identity.id(*about, "request"),
        correlation_id=identity.id(*about, "correlation"),
        body=MAKE[referral.format](identity, person, say),
        mark=_mark(identity, person, say).encode(),
        row=identity.id(person.number, say.referral) if is_file else "",
        beside=tuple((n, row.reference) for n, row in _beside(identity, person, say)) if is_file else (),
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


def _mark(identity: Identity, person: Person, say: Say) -> str:
    return identity.id(person.number, say.referral, _named(say), "mark").replace("-", "")[:20]


def _named(say: Say) -> str:
    """Messages of one name are one message, however often they are sent."""
    return f"{'content' if say.kind in ('new', 'update', 'repeat') else say.kind} {say.content}"


def _time(say: Say) -> str:
    """The sender's own time, by which a late message is older than the one before it."""
    return f"09:{9 + say.content:02d}:30" if say.kind == "late" else f"09:{10 + say.content:02d}:00"


def _need(person: Person, say: Say) -> int:
    """Which of its format's needs a message names: never those of the one before it."""
    return person.number + say.content + {"conflict": 1, "late": 2}.get(say.kind, 0)


def _cancels(say: Say) -> bool:
    return say.kind in ("cancel", "unknown-cancel")


def _number(identity: Identity, person: Person) -> str | None:
    number = identity.nhs_number(person.number) if person.has_nhs_number else None
    return failing(number) if number and person.fails_check else number


def _discharged(person: Person, say: Say) -> bool:
    """After two changes of it a stay is over."""
    return person.referrals[say.referral].stays and say.content >= 2


def _bars(identity: Identity, person: Person, say: Say) -> bytes:
    referral = person.referrals[say.referral]
    of_referral = (person.number, say.referral)
    bundle = f"content {say.content}" if say.kind == "conflict" else _named(say)
    number = identity.nhs_number(person.number)
    made = a_bars_message(
        seed=identity.id(*of_referral, bundle),
        referral_id=identity.id(*of_referral),
        bundle_id=identity.id(*of_referral, bundle, "bundle"),
        sent_at=f"2026-11-05T{_time(say)}+00:00",
        reason="new" if say.content == 0 and say.kind in ("new", "repeat", "conflict", "bad") else "update",
        status="revoked" if _cancels(say) else "active",
        nhs_number=failing(number) if say.kind == "bad" else number if person.has_nhs_number else None,
        ods=referral.practice,
        needs=NEEDS[_need(person, say) % len(NEEDS)],
        consents={"referral": "permit", "feedback": "permit" if referral.consents else "deny"},
        doctor_telecom=[{"system": "phone", "value": identity.elsewhere}],
        request={"authoredOn": f"2026-11-0{referral.day}"},
    )
    patient = next(e["resource"] for e in made["entry"] if e["resource"]["resourceType"] == "Patient")
    patient["address"][0]["postalCode"] = person.postcode
    return json.dumps(made).encode()


def _form(identity: Identity, person: Person, say: Say) -> bytes:
    referral = person.referrals[say.referral]
    reference, completed_at = f"F-{identity.id(person.number, say.referral)}", f"2026-11-05T{_time(say)}+00:00"
    if _cancels(say):
        return json.dumps({"reference": reference, "completed_at": completed_at, "cancelled": True}).encode()
    number = identity.nhs_number(person.number)
    it = Filled(
        form=referral.form,
        partner=referral.partner,
        reference=reference,
        asker=referral.asker,
        practice=referral.practice,
        completed_at=completed_at,
        day=referral.day,
        postcode=person.postcode,
        need=_need(person, say),
        number=failing(number) if say.kind == "bad" else _number(identity, person),
        verified=referral.verified,
        consents=referral.consents,
        names=referral.names,
        discharged=_discharged(person, say),
    )
    return json.dumps(filled(it)).encode()


# ---- HL7 v2 -----------------------------------------------------------------------------------------------------------

TRIGGERS: Mapping[str, str] = {"cancel": "I14", "unknown-cancel": "I14", "conflict": "I12", "late": "I13"}


def _hl7(identity: Identity, person: Person, say: Say) -> bytes:
    """REF^I12, I13 or I14. A conflict begins a referral that has begun already, with other content."""
    referral = person.referrals[say.referral]
    made = _of_uhl if referral.partner == "uhl" else _of_lpt
    common = {
        "RF1-2": "WHENEVER" if say.kind == "bad" else "",
        "RF1-7": f"2026110{referral.day}",
        "PID-7": "19440229",
        "PV1-2": "I" if referral.stays else "O",
        "PV1-44": f"2026102{referral.day}",
        "PV1-45": "20261105" if _discharged(person, say) else "",
    }
    return made(
        _number(identity, person),
        person,
        say,
        {
            "control_id": _mark(identity, person, say),
            "referral_id": identity.id(person.number, say.referral),
            "sent_at": "20261105" + _time(say).replace(":", ""),
            "trigger": TRIGGERS.get(say.kind, "I12" if say.content == 0 else "I13"),
        },
        common,
    )


def _of_uhl(
    number: str | None, person: Person, say: Say, said: Mapping[str, object], common: Mapping[str, str]
) -> bytes:
    referral = person.referrals[say.referral]
    fields = {
        "PID-3": f"{number}^^^NHS^NHS" if number else "RWE12345^^^UHL^MRN",
        "PID-11": f"1 Any Lane^^Any Town^^{person.postcode}^^H",
        "PID-32": ("NSTS01" if referral.verified else "NSTS02") if number else "",
        "PV1-3": f"W23^B^4^{('LRI', 'GH')[referral.day % 2]}",
        "RF1-3": ("ADAPT", "FALLS", "WARM", "BENEFITS")[_need(person, say) % 4],
    }
    agrees = segment("OBX", {2: "CE", 3: "LB-CONSENT-GP", 5: "Y" if referral.consents else "N", 11: "F"})
    return a_uhl_message(**said, fields={**common, **fields}, more=[agrees])


def _of_lpt(
    number: str | None, person: Person, say: Say, said: Mapping[str, object], common: Mapping[str, str]
) -> bytes:
    referral = person.referrals[say.referral]
    fields = {
        "PID-3": f"{number}^^^^NHS~P77^^^LPT^PAS" if number else "P77^^^LPT^PAS",
        "PID-11": f"1 Any Lane^^Any Town^^{person.postcode}^^HOME",
        "PID-32": ("01" if referral.verified else "02") if number else "",
        "RF1-3": ("H1", "H2", "H4", "H5")[_need(person, say) % 4],
    }
    agrees = segment("OBX", {2: "CE", 3: "C2", 5: "1" if referral.consents else "2", 11: "F"})
    return an_lpt_message(**said, fields={**common, **fields}, more=[agrees])


# ---- councils ---------------------------------------------------------------------------------------------------------


def _csv(identity: Identity, person: Person, say: Say) -> bytes:
    """A council's file: the row that is meant, between rows of other people. A conflict: it stands there twice, and differs."""
    others = [row for _, row in _beside(identity, person, say)]
    own = [_row(identity, person, say)]
    if say.kind == "conflict":
        own.append(_row(identity, person, Say(say.referral, "new", say.content)))
    return a_file_of(council(person.referrals[say.referral].partner), [*others[:1], *own, *others[1:]])


def _row(identity: Identity, person: Person, say: Say) -> Row:
    referral = person.referrals[say.referral]
    return Row(
        reference=identity.id(person.number, say.referral),
        postcode=person.postcode,
        mark=_mark(identity, person, say),
        need=_need(person, say),
        time=_time(say),
        day=referral.day,
        number=_number(identity, person),
        consents=referral.consents,
        cancels=_cancels(say),
        is_bad=say.kind == "bad",
    )


def _beside(identity: Identity, person: Person, say: Say) -> list[tuple[int, Row]]:
    """Other people's rows: the same in each file of this referral, as in an export of every night."""
    numbers = [64 + 4 * person.number + 2 * say.referral + at for at in range(person.referrals[say.referral].beside)]
    return [(number, _another(identity, number)) for number in numbers]


def _another(identity: Identity, number: int) -> Row:
    return Row(
        reference=identity.id("beside", number),
        postcode=POSTCODES[number % len(POSTCODES)],
        mark="as before",
        need=number,
        number=identity.nhs_number(number) if number % 2 else None,
    )


MAKE: Mapping[str, Callable[[Identity, Person, Say], bytes]] = {
    "bars": _bars,
    "form": _form,
    "hl7": _hl7,
    "csv": _csv,
}
