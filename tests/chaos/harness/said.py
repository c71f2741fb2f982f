"""What the messages of an HL7 v2 referral say, field by field, and what must be read in the end. Shares no code with the services.

A whole message says everything, a partial one a few fields, an ADT the ward. A field is what the latest message said of it, whatever
the order of arrival; a stay goes on until a message says that it is over.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from tests.chaos.harness.plan import Person, Referral, SendMessage

NEED_CODES = {"uhl": ("ADAPT", "FALLS", "WARM", "BENEFITS"), "lpt": ("H1", "H2", "H4", "H5")}
SERVICES = {
    "uhl": ("minor-adaptations", "home-safety", "affordable-warmth", "income-maximisation"),
    "lpt": ("homelessness", "housing-choices", "hoarding", "rent-deposit"),
}
"""Needs by their codes in RF1-3, and the services that they stand for (docs/partners)."""

INTERPRETER: Mapping[str, dict[int, str]] = {
    "uhl": {2: "CE", 3: "LB-INTERP", 5: "Y", 11: "F"},
    "lpt": {2: "CE", 3: "INT", 5: "1", 11: "F"},
}
WARDS = {"uhl": "W23", "lpt": "ASH"}
REFUSED = ("bad", "stranger", "unknown-cancel", "adt-stranger")
"""Kinds that say nothing about the referral: they are refused, not applied, or about somebody else."""


def time_of(operation: SendMessage) -> str:
    """Return the sender's time of a message; a late message is older than the previous one, an ADT a little newer."""
    match operation.kind:
        case "late":
            return f"09:{9 + operation.content:02d}:30"
        case "adt" | "adt-stranger":
            return f"09:{10 + operation.content:02d}:15"
        case _:
            return f"09:{10 + operation.content:02d}:00"


def is_partial(referral: Referral, operation: SendMessage) -> bool:
    """Return whether a message of an HL7 v2 referral says a few fields only: every second content."""
    return referral.format == "hl7" and operation.kind in ("update", "repeat", "late") and operation.content % 2 == 1


def changes_of(person: Person, operation: SendMessage) -> dict[str, Any]:
    """Return what a message says, by field: need (an index), phone, interpreter, ward, is over."""
    referral, content = person.referrals[operation.referral], operation.content
    if operation.kind in ("adt", "adt-stranger"):
        return {"ward": f"A{content}"}
    need = person.number + content + (2 if operation.kind == "late" else 0)
    phone = f"01632 9600{content + (50 if operation.kind == 'late' else 0):02d}"
    if is_partial(referral, operation):
        told: dict[str, Any] = {"phone": phone} | ({"need": need % 4} if content % 4 == 3 else {})
        return told | ({"interpreter": True} if operation.kind == "late" else {})
    whole = {"need": need % 4, "phone": phone}
    if referral.stays:
        whole |= {"ward": WARDS[referral.partner]} | ({"is over": True} if content >= 2 else {})
    return whole


def expected(person: Person, at: int) -> dict[str, Any]:
    """Return what an HL7 v2 referral must say after all messages of the plan; the fields that `reading` returns."""
    said: dict[str, tuple[str, Any]] = {}
    for one in _of_referral(person, at):
        for name, value in changes_of(person, one).items():
            if name not in said or said[name][0] <= time_of(one):
                said[name] = time_of(one), value
    referral = person.referrals[at]
    fields = {name: value for name, (_, value) in said.items()}
    fields["need"] = SERVICES[referral.partner][fields["need"]]
    return {"interpreter": None, "is over": False} | ({} if referral.stays else {"ward": None}) | fields


def _of_referral(person: Person, at: int) -> Iterable[SendMessage]:
    """Yield what was accepted of a referral; a cancel ends what is read of it."""
    for one in person.inputs:
        if isinstance(one, SendMessage) and one.referral == at and one.kind not in REFUSED:
            if one.kind == "cancel":
                return
            yield one


def reading(referral: Mapping[str, Any], need: str) -> dict[str, Any]:
    """Return the same fields of a canonical referral. `need`: the service that is looked for; others may stand next to it."""
    stay, person = referral.get("hospital") or {}, referral["person"]
    services = [one["service"] for one in referral["needs"]]
    return {
        "need": need if need in services else services,
        "phone": person.get("phone"),
        "interpreter": person.get("interpreter_needed"),
        "ward": stay.get("ward"),
        "is over": referral.get("discharged_on") is not None,
    }
