"""The restricted unit (the Bradgate mental health unit) is not recognisable in what others read."""

import uuid
from typing import Any

from tests.field.case import Unplayed, Wrong, case
from tests.field.clients import RESTRICTED, HubEvent, Installation
from tests.field.referrals import HARBOROUGH, Person, bars, hl7, ward_referral_id

GENERAL = "hospital-housing"


@case("security/d5-hand-over-from-the-restricted-unit-looks-like-any-other")
def hand_over_from_the_restricted_unit_looks_like_any_other(addresses: dict[str, Any]) -> None:
    hub = Installation(addresses)
    restricted, general = (_marks(_handed_over(hub, trust)) for trust in ("lpt", "uhl"))
    if different := {name: (restricted[name], general[name]) for name in general if restricted[name] != general[name]}:
        raise Wrong(f"a home hub can tell the restricted unit from the general hospital: {different}")


def _handed_over(hub: Installation, trust: str) -> HubEvent:
    """What the home hub reads after the discharge of a ward's patient."""
    person, referral = Person(postcode=HARBOROUGH), ward_referral_id()
    reference = hub.admit(trust, hl7(person, trust, referral=referral))
    hub.settle()
    hub.mllp(trust, hl7(person, trust, referral=referral, trigger="I13", discharged="20261120"))
    held = [event for event in hub.hub_events("harborough", about=reference) if event.role == "holder"]
    if not held:
        raise Unplayed(f"the home hub does not hold the case of {trust}'s patient")
    return held[-1]


def _marks(event: HubEvent) -> dict[str, Any]:
    """What is the same for every person, so that a difference speaks of the sender."""
    referral = event.referrals[0]["referral"]
    return {
        "withheld": [name for name in ("sent_by", "message") if "withheld" in str(referral[name])],
        "sender": referral["sent_by"],
        "format": referral["message"]["format"],
        "referrer": referral["referred_by"],
        "reasons": event.reasons,
    }


@case("security/d6-reasons-of-the-general-hospital-do-not-depend-on-the-restricted-unit")
def reasons_of_the_general_hospital_do_not_depend_on_the_restricted_unit(addresses: dict[str, Any]) -> None:
    hub = Installation(addresses)
    alone, both = _reasons_at_general(hub, also_restricted=False), _reasons_at_general(hub, also_restricted=True)
    if "inpatient" not in alone:
        raise Unplayed(f"the general team's reasons are {alone}")
    if both != alone:
        raise Wrong(f"the general team reads the reasons {alone}, but {both} if the restricted unit has the person too")


def _reasons_at_general(hub: Installation, *, also_restricted: bool) -> list[str]:
    person = Person(postcode=HARBOROUGH)
    if also_restricted:
        hub.admit("lpt", hl7(person, "lpt", admitted="20261020"))
        hub.settle()
    reference = hub.admit("uhl", hl7(person, "uhl", admitted="20261110"))
    found = hub.hub_events(GENERAL, about=reference)
    if not found:
        raise Unplayed("the general team was not informed of its patient")
    return found[-1].reasons


@case("security/d7-sequence-numbers-do-not-count-hidden-events")
def sequence_numbers_do_not_count_hidden_events(addresses: dict[str, Any]) -> None:
    """The headers of a follow-on hub's events are numbered alike whether the restricted team works or not."""
    hub = Installation(addresses)
    idle = _sequence_at_home(hub, {})
    busy = _sequence_at_home(hub, {"accept": {}, "start": {}, "hold": {"reason": "other"}})
    if len(idle) != len(busy) or len(idle) < 2:
        raise Unplayed(f"the home hub has {len(idle)} events without the team's work, {len(busy)} with it")
    if idle != busy:
        raise Wrong(f"ce_sequence of the home hub's events is {idle} while the team is idle, {busy} while it works")


def _sequence_at_home(hub: Installation, steps: dict[str, dict[str, Any]]) -> list[str | None]:
    person = Person()
    reference = hub.refer("gp-castle-view", bars(person))
    home = hub.case_at("blaby", reference)
    stay = hub.admit("lpt", hl7(person, "lpt"))
    for step, data in steps.items():
        hub.command(RESTRICTED, step, hub.case_at(RESTRICTED, stay), **data)
    newest = home._replace(version=hub.hub_events("blaby", about=home.case_id)[-1].version or 0)
    hub.command("blaby", "record", newest, no_contact_on="2026-11-20")
    return [event.headers.get("ce_sequence") for event in hub.hub_events("blaby", about=home.case_id)]


@case("security/d8-headers-do-not-name-the-restricted-units-command")
def headers_do_not_name_the_restricted_units_command(addresses: dict[str, Any]) -> None:
    """The home hub's event of an early hand-over carries neither the command's id nor the time of the ward's message."""
    hub, person, command_id = Installation(addresses), Person(), str(uuid.uuid4())
    stay = hub.admit("lpt", hl7(person, "lpt"))
    hub.command(RESTRICTED, "accept", hub.case_at(RESTRICTED, stay))
    held = hub.case_at(RESTRICTED, stay)
    hub.command(RESTRICTED, "transfer", held, command_id, to_hub="blaby")
    found = [event for event in hub.hub_events("blaby", about=person.number) if event.role == "holder"]
    if not found:
        raise Unplayed("the home hub does not hold the case")
    headers = found[-1].headers
    faults = ["ce_causationid is the command's id"] if headers.get("ce_causationid") == command_id else []
    correlation = headers.get("ce_correlationid")
    if correlation and uuid.UUID(correlation).version == 7:
        faults.append("ce_correlationid holds the time of the ward's message")
    if faults:
        raise Wrong("; ".join(faults))


@case("security/d9-restricted-unit-cannot-be-referred-to")
def restricted_unit_cannot_be_referred_to(addresses: dict[str, Any]) -> None:
    """A hub that returns a referral "to" the restricted team does not put its name into a practice's record."""
    hub = Installation(addresses)
    reference = hub.refer("gp-castle-view", bars(Person()))
    ended = [{"reference": reference, "needs": ["minor-adaptations"]}]
    home = hub.case_at("blaby", reference)
    reason = {"reason": "served-elsewhere", "refer_to": RESTRICTED}
    hub.command("blaby", "reject", home, ended=ended, **reason)
    feedback = hub.feedback("gp-castle-view", reference)
    if "radgate" in str(feedback):
        raise Wrong("a practice reads the name of the restricted unit's team")
    kinds = [event.kind for event in hub.hub_events("blaby", about=home.case_id)]
    if not {"rejected", "command-refused"} & set(kinds):
        raise Unplayed(f"the hub's command had no effect: {kinds}")
