"""Build HL7 v2 REF messages of both trusts and of any trust, with synthetic people (999 numbers only)."""

from typing import Any
from uuid import uuid4

from schemas.referral import Referral
from tests.builders.referrals import an_nhs_number


def segment(name: str, fields: dict[int, str]) -> str:
    """A segment by its numbered fields: segment("PV1", {2: "I"}) is PV1||I."""
    return "|".join([name, *(fields.get(number, "") for number in range(1, max(fields, default=0) + 1))])


def a_ref_i12(referral: Referral | None = None, **changes: str) -> bytes:
    """Return a REF^I12 of an inpatient, the person of `referral` if given; also valid by the reviewed file of uhl.

    `changes`: see the keywords used below.
    """
    changes = (_of(referral) if referral else {}) | changes
    said = {
        "trigger": "I12",
        "id": uuid4().hex[:16],
        "referral_id": uuid4().hex[:12],
        "accept": "",
        "application": "",
        "version": "2.4",
        "number": an_nhs_number(),
        "name": "VANCE^ADA^^^MRS",
        "born": "19440229",
        "address": "1 ANY LANE^^LOUGHBOROUGH^^LE11 5AA^^HOME",
        "made_at": "20261105093000",
        "note": "no longer safe on the stairs",
        "status": "A",
    } | changes
    separator = "|"
    asked = f"{said['accept']}{separator}{said['application']}"
    msh = (
        f"MSH|^~\\&|UHL_TIE|TRUST|HUB|COUNTY|{said['made_at']}||REF^{said['trigger']}|{said['id']}|P|{said['version']}"
    )
    segments = [
        f"{msh}|||{asked}|GBR",
        f"EVN|{said['trigger']}|{said['made_at']}",
        f"RF1|{said['status']}|R|MOVE|||{said['referral_id']}|20261105",
        f"PID|1||{said['number']}^^^^NHS||{said['name']}||{said['born']}|F|||{said['address']}",
        "PV1|1|I|WARD 7^^^LRI",
        f"NTE|1||{said['note']}",
    ]
    return "".join(
        f"{segment}\r" for segment in segments if not segment.startswith(f"{changes.get('without')}|")
    ).encode()


def _of(referral: Referral) -> dict[str, str]:
    person = referral.person
    return {
        "referral_id": referral.message.referral_id,
        "number": person.nhs_number or "",
        "name": "^".join((person.family_name, *person.given_names)),
        "born": f"{person.birth_date:%Y%m%d}",
        "address": f"{person.address.lines[0]}^^^^{person.address.postcode}^^HOME",
    }


def a_uhl_message(**changes: Any) -> bytes:
    """A referral from a ward of Leicester Royal Infirmary. `changes`: see `_message`."""
    said = {"control_id": "UHL1", "referral_id": "UHL-R-1", "nhs_number": "9990000018", "family": "Vance"} | changes
    pid = {
        1: "1",
        3: f"RWE12345^^^UHL^MRN~{said['nhs_number']}^^^NHS^NHS",
        5: f"{said['family']}^Ada^Mary^^Mrs^^L",
        7: "19440229",
        8: "F",
        11: "1 Any Lane^^Loughborough^^LE11 5AA^^H",
        13: "0116 496 0001^PRN^PH",
        15: "ENG",
        32: "NSTS01",
    }
    prd = {1: "RP^Refers", 2: "Okafor^Ngozi^^^Sister", 5: "^WPN^PH^^^0116^4960002", 7: "C9999991^NMC"}
    return _message(
        said,
        {
            "MSH": _header(said, "UHL_EPR|RWE", "2.5") + "||||||UNICODE UTF-8",
            "RF1": segment(
                "RF1",
                {1: "A", 2: "R", 3: "ADAPT", 6: said["referral_id"], 7: "20261105", 10: "FALLS^Falls on the ward"},
            ),
            "PRD": segment("PRD", prd),
            "PID": segment("PID", pid),
            "PD1": segment("PD1", {3: "Alder Lane Surgery^^^^^^^^^C82991", 4: "G9999991^Marsh^Ines^^^Dr"}),
            "PV1": segment("PV1", {1: "1", 2: "I", 3: "W23^B^4^LRI", 44: "20261028"}),
            "PV2": segment("PV2", {9: "20261112"}),
            "OBX": segment("OBX", {2: "CE", 3: "LB-CONSENT", 5: "Y", 11: "F", 14: "20261104"}),
        },
    )


def an_lpt_message(**changes: Any) -> bytes:
    """A referral from the Bradgate Unit; `changes` as above."""
    said = {"control_id": "LPT1", "referral_id": "LPT-R-1", "nhs_number": "9990000018", "family": "Vance"} | changes
    pid = {
        3: f"{said['nhs_number']}^^^^NHS~P77^^^LPT^PAS",
        5: f"{said['family']}^Ada^^^MS",
        7: "19800229",
        8: "2",
        11: "2 Any Lane^^Coalville^^LE67 3AA^^HOME",
        13: "01632 960001^^^HOME",
        32: "02",
    }
    return _message(
        said,
        {
            "MSH": _header(said, "LPT_PAS|RT5^BMHU", "2.4"),
            "EVN": segment("EVN", {1: "I12"}),
            "RF1": segment(
                "RF1", {1: "A", 2: "1", 3: "H3", 6: f"^^{said['referral_id']}", 7: "20261105", 10: "03^Arrears"}
            ),
            "PID": segment("PID", pid),
            "PV1": segment("PV1", {1: "1", 2: "I", 3: "ASH^2"}),
            "ZHD": segment("ZHD", {1: "20261103", 2: "1", 3: "A", 4: "1", 5: "20261112"}),
        },
    )


def an_adt(trigger: str = "A08", **changes: Any) -> bytes:
    """Return ADT of the stay of `a_stay()`. `changes`: `visit`, `number`, `site`, `ward`, `admitted`, `patient_class`; and as above."""
    said = {"control_id": uuid4().hex[:16], "nhs_number": "9990000018", "family": "Vance", "visit": "V1^^^UHL"}
    said |= {"number": "RWE12345^^^UHL^MRN", "site": "LRI", "ward": "W23", "admitted": "20261028", "patient_class": "I"}
    said |= {"sent_at": "20261106100000"} | changes
    identifiers = [said["number"], f"{said['nhs_number']}^^^NHS^NHS" if said["nhs_number"] else ""]
    msh = _header(said, "UHL_EPR|RWE", "2.5").replace("REF^I12", f"ADT^{trigger}")
    return _message(
        said,
        {
            "MSH": msh + "||||||UNICODE UTF-8",
            "EVN": segment("EVN", {1: trigger, 2: said["sent_at"]}),
            "PID": segment(
                "PID", {3: "~".join(filter(None, identifiers)), 5: f"{said['family']}^Ada^Mary^^Mrs^^L", 7: "19440229"}
            ),
            "PV1": segment(
                "PV1",
                {
                    2: said["patient_class"],
                    3: f"{said['ward']}^^^{said['site']}",
                    19: said["visit"],
                    44: said["admitted"],
                },
            ),
        },
    )


def a_stay(**changes: Any) -> bytes:
    """Return a referral from a ward with a visit number; `changes` as of `a_uhl_message`."""
    fields = {"PV1-19": "V1^^^UHL"} | changes.pop("fields", {})
    return a_uhl_message(fields=fields, **changes)


def _header(said: dict[str, Any], sender: str, version: str) -> str:
    made, trigger = said.get("sent_at", "20261105093000"), said.get("trigger", "I12")
    return f"MSH|^~\\&|{sender}|LIGHTBULB|BLABY|{made}||REF^{trigger}|{said['control_id']}|P|{version}"


def _message(said: dict[str, Any], segments: dict[str, str]) -> bytes:
    """`said`: trigger, control_id, referral_id, sent_at, nhs_number, family; a segment by its name, None to leave it out;
    `fields`: single fields as {"PID-8": "9"}; `more`: segments behind; `end`: how segments end."""
    segments |= {name: said[name] for name in segments if name in said}
    for place, value in said.get("fields", {}).items():
        name, _, number = place.partition("-")
        fields = segments[name].split("|")
        at = int(number) - (name == "MSH")
        fields += [""] * (at + 1 - len(fields))
        segments[name] = "|".join([*fields[:at], value, *fields[at + 1 :]])
    end = said.get("end", "\r")
    lines = [line for line in [*segments.values(), *said.get("more", [])] if line is not None]
    return (end.join(lines) + end).encode(said.get("encoding", "utf-8"))
