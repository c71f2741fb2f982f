"""A stay in hospital: who is informed of it, when it ends, and what a practice can tell from the order of its feedback."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.field.case import Unplayed, Wrong, case
from tests.field.clients import REFERENCE, RESTRICTED, HubEvent, Installation
from tests.field.referrals import MELTON, Person, bars, hl7, ward_referral_id

PRACTICE, GENERAL = "gp-castle-view", "hospital-housing"
PV1 = re.compile(r"PV1\|[^\r]*\r")
WITHOUT_A_STAY: dict[str, Callable[[str], str]] = {
    "no PV1": lambda message: PV1.sub("", message),
    "empty PV1": lambda message: PV1.sub("PV1|1\r", message),
    "outpatient": lambda message: message.replace("PV1|1|I|", "PV1|1|O|"),
}
"""Ways in which an HL7 v2 message says nothing of a stay."""

Read = list[tuple[str, str, str | None, tuple[str, ...]]]


def read_by_practice(hub: Installation, reference: str) -> Read:
    return [(one.kind, one.status, one.hub, one.reasons) for one in hub.feedback(PRACTICE, reference)]


# ---- who is informed ------------------------------------------------------------------------------------------------


@case("security/d10-two-hospitals-keep-their-own-patients")
def two_hospitals_keep_their_own_patients(addresses: dict[str, Any]) -> None:
    """Both trusts report a stay of one person. Each team keeps its ward's patient, and neither learns of the other."""
    hub = Installation(addresses)
    faults = [*_general_then_restricted(hub), *_restricted_then_general(hub)]
    if faults:
        raise Wrong("; ".join(faults))


def _general_then_restricted(hub: Installation) -> list[str]:
    person = Person()
    reference = hub.admit("uhl", hl7(person, "uhl", admitted="20261101"))
    if not hub.hub_events(GENERAL, about=reference):
        raise Unplayed("the general hospital's team was not informed of its patient")
    hub.admit("lpt", hl7(person, "lpt", admitted="20261110"))
    newest = hub.hub_events(GENERAL, about=reference)[-1]
    case_id = newest.case_id
    roles = [event.role for event in hub.hub_events(GENERAL, about=case_id)]
    return (
        [f"the general team is no longer the holder, with nobody discharged: {roles}"] if roles[-1] == "former" else []
    )


def _restricted_then_general(hub: Installation) -> list[str]:
    person = Person()
    stay = hub.admit("lpt", hl7(person, "lpt", admitted="20261110"))
    if not hub.hub_events(RESTRICTED, about=stay):
        raise Unplayed("the restricted team was not informed of its patient")
    later = hub.admit("uhl", hl7(person, "uhl", admitted="20261101"))
    faults = []
    if not hub.hub_events(GENERAL, about=later):
        faults.append("the general team was not informed of its ward's patient")
    if hub.hub_events(RESTRICTED, about=later):
        faults.append("the restricted team reads the general hospital's referral")
    return faults


@case("security/d12-mental-health-trust-is-not-named-without-a-stay")
def mental_health_trust_is_not_named_without_a_stay(addresses: dict[str, Any]) -> None:
    """What the trust of the restricted unit sends about an outpatient does not name the trust to the home hub."""
    hub, shown = Installation(addresses), {}
    for name in ("no PV1", "outpatient"):
        message = hl7(Person(), "lpt").decode()
        found = REFERENCE.search(hub.mllp("lpt", WITHOUT_A_STAY[name](message).encode()))
        if found:
            shown[name] = hub.hub_events("blaby", about=found[0])
    if not any(shown.values()):
        raise Unplayed(f"the home hub was informed of nobody: {shown}")
    if naming := [name for name, events in shown.items() if any(_names_the_trust(event) for event in events)]:
        raise Wrong(f"the home hub reads the name of the mental health trust: {naming}")


def _names_the_trust(event: HubEvent) -> bool:
    return any(mark in event.value for mark in (b"Partnership", b'"RT5"', b'"lpt"'))


# ---- when it ends ---------------------------------------------------------------------------------------------------


@case("security/d14-silence-does-not-end-a-stay")
def silence_does_not_end_a_stay(addresses: dict[str, Any]) -> None:
    """An update that says nothing of the stay leaves the person with the restricted team, unnamed to the home hub."""
    hub = Installation(addresses)
    if ended := [name for name, change in WITHOUT_A_STAY.items() if _home_hub_reads_of_the_person_after(hub, change)]:
        raise Wrong(f"the home hub reads the inpatient's NHS number after an update with {ended}")


def _home_hub_reads_of_the_person_after(hub: Installation, change: Callable[[str], str]) -> bool:
    person, referral = Person(), ward_referral_id()
    stay = hub.admit("lpt", hl7(person, "lpt", referral=referral))
    if not hub.hub_events(RESTRICTED, about=stay) or hub.hub_events("blaby", about=person.number):
        raise Unplayed("the case is not with the restricted team alone")
    update = hl7(person, "lpt", referral=referral, trigger="I13").decode()
    acknowledgement = hub.mllp("lpt", change(update).encode())
    if "MSA|" not in acknowledgement:
        raise Unplayed(f"the update was answered {acknowledgement[:200]!r}")
    return bool(hub.hub_events("blaby", about=person.number))


# ---- what a practice can tell ---------------------------------------------------------------------------------------


@case("security/d16-assessed-before-accepted-does-not-show-a-stay")
def assessed_before_accepted_does_not_show_a_stay(addresses: dict[str, Any]) -> None:
    """The hub that follows on assesses during a stay: the practice reads nothing more than without the stay."""
    hub = Installation(addresses)
    without, during = _assessed(hub, stay=False), _assessed(hub, stay=True)
    if more := [one for one in during if one not in without]:
        raise Wrong(f"only during a stay the practice reads {more}")


def _assessed(hub: Installation, *, stay: bool) -> Read:
    person = Person()
    reference = hub.refer(PRACTICE, bars(person, PRACTICE))
    hub.settle()
    if stay:
        hub.admit("lpt", hl7(person, "lpt"))
    finding = {"reference": reference, "service": "minor-adaptations", "finding": "need-confirmed"}
    hub.command("blaby", "assess", hub.case_at("blaby", reference), findings=[finding])
    return read_by_practice(hub, reference)


@case("security/d17-nothing-comes-on-the-day-of-discharge")
def nothing_comes_on_the_day_of_discharge(addresses: dict[str, Any]) -> None:
    """A discharge, or an early hand-over to another district's hub, sends the practice nothing that it would not read without."""
    hub = Installation(addresses)
    without, discharged, early = (_let_go(hub, how) for how in ("no stay", "assign", "transfer"))
    if not without:
        raise Unplayed("the practice has no feedback without a stay")
    if discharged != without or early != without:
        raise Wrong(f"without a stay {without}, at discharge {discharged}, handed over early {early}")


def _let_go(hub: Installation, how: str) -> Read:
    person, referral = Person(), ward_referral_id()
    reference = hub.refer(PRACTICE, bars(person, PRACTICE))
    hub.settle()
    if how != "no stay":
        patient = replace(person, postcode=MELTON)
        stay = hub.admit("lpt", hl7(patient, "lpt", referral=referral))
        hub.command(RESTRICTED, how, hub.case_at(RESTRICTED, stay), to_hub="melton")
        hub.settle()
        if how == "assign":
            hub.mllp("lpt", hl7(patient, "lpt", referral=referral, trigger="I13", discharged="20261120"))
    return read_by_practice(hub, reference)
