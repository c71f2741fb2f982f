"""Kinds of references between resources: every form that R4 allows, those that lead nowhere, and what is ambiguous."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

from tests.field.variants import Made, kind, refused, taken
from tests.field.variants.draw import Draw
from tests.field.variants.message import (
    CAN_BE_LEFT_OUT,
    ODS,
    OURS,
    Message,
    Resource,
    concept,
    references,
    status_extension,
)
from tests.field.variants.reading import read_as, without

TARGETS = ("role", "doctor", "practice", "plan", "task", "condition", "encounter", "patient", "request")
"""Names of resources that others refer to, and whose content the referral has."""

FORMS = ("relative", "absolute", "absolute of a relative", "versioned", "in capitals", "without fullUrl")


@kind("reference-forms")
def reference_forms(draw: Draw) -> Made:
    """A reference of any form that R4 resolves in a message, in any order of entries, leads to its resource."""
    message = Message(draw)
    chosen = [(draw.each(TARGETS), draw.each(FORMS))]
    chosen += [(draw.one_of([one for one in TARGETS if one != chosen[0][0]]), draw.one_of(FORMS))]
    for name, form in chosen:
        _refer(message, name, form)
    message.shuffle()
    return f"{chosen}", [message.sent()], [read_as(message, **_read_in_full(message))]


def _read_in_full(message: Message) -> dict[str, Any]:
    """What of the referral stands in resources that only references lead to."""
    return {
        "referral.needs[].service": {"has": ["minor-adaptations", "home-security", "hoarding"]},
        "referral.referred_by": {"has": ["C82991", "Okafor", "G9999981"]},
        "referral.registered_practice.ods": {"is": ["C82991"]},
        "referral.reason.text": {"has": ["Osteoarthritis"]},
    }


def _refer(message: Message, name: str, form: str) -> None:
    """Refer to a resource in this form wherever it is referred to."""
    own = message.id_of(name)
    resource = next(one for one in message.resources if one["id"] == own)
    relative = f"{resource['resourceType']}/{own}"
    absolute = f"https://gp.example.org/fhir/{relative}"
    written = {
        "relative": relative,
        "absolute": absolute,
        "absolute of a relative": absolute,
        "versioned": f"{absolute}/_history/3",
        "in capitals": f"urn:uuid:{own.upper()}",
        "without fullUrl": relative,
    }[form]
    if form in ("absolute", "versioned", "absolute of a relative"):
        message.urls[own] = absolute
    if form == "without fullUrl":
        message.urls[own] = ""
    for one in references(message.resources):
        if one["reference"] == f"urn:uuid:{own}":
            one["reference"] = written


CONTAINABLE: Sequence[tuple[str, str]] = [
    ("request", "role"),
    ("request", "plan"),
    ("request", "condition"),
    ("role", "doctor"),
    ("role", "practice"),
    ("plan", "task"),
    ("patient", "practice"),
]
"""(container, contained) by their names."""


@kind("reference-contained")
def reference_contained(draw: Draw) -> Made:
    """What is contained is read like an entry of its own."""
    message = Message(draw)
    container, name = draw.each(CONTAINABLE)
    _contain(message, container, name)
    message.shuffle()
    return f"{name} in {container}", [message.sent()], [read_as(message, **_read_in_full(message))]


def _contain(message: Message, container: str, name: str, inner: Resource | None = None) -> None:
    """Move a resource into another one that refers to it; it stays an entry if others refer to it too."""
    by_id = {one["id"]: one for one in message.resources}
    holder, resource = by_id[message.id_of(container)], by_id[message.id_of(name)]
    moved = copy.deepcopy(inner or resource) | {"id": "held"}
    for one in references(holder):
        if one["reference"] == f"urn:uuid:{resource['id']}":
            one["reference"] = "#held"
    holder["contained"] = [*holder.get("contained", []), moved]
    if all(one["reference"] != f"urn:uuid:{resource['id']}" for one in references(message.resources)):
        message.remove(resource)


@kind("negated-and-contained")
def negated_and_contained(draw: Draw) -> Made:
    """What a modifier element negates is not in the referral either if it is contained, or shared by two references."""
    message = Message(draw)
    name, resource_type, element, value = draw.each(NEGATED)
    holder, held = next(pair for pair in CONTAINABLE if pair[1] == name)
    _contain(message, holder, held)
    container = next(one for one in message.resources if one["id"] == message.id_of(holder))
    container["contained"][-1][element] = value
    message.shuffle()
    left_out = [without(message, CAN_BE_LEFT_OUT[resource_type])] if resource_type in CAN_BE_LEFT_OUT else []
    return f"contained {resource_type}.{element} {value}", [message.sent()], refused(*left_out)


VERIFICATION = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
NEGATED: Sequence[tuple[str, str, str, Any]] = [
    ("plan", "CarePlan", "status", "revoked"),
    ("plan", "CarePlan", "intent", "option"),
    ("plan", "CarePlan", "modifierExtension", [{"url": "https://example.org/not", "valueBoolean": True}]),
    ("task", "Task", "status", "cancelled"),
    ("task", "Task", "status", "rejected"),
    ("task", "Task", "implicitRules", "https://example.org/rules"),
    ("condition", "Condition", "verificationStatus", concept(VERIFICATION, "refuted")),
    ("condition", "Condition", "verificationStatus", concept(VERIFICATION, "entered-in-error")),
    ("role", "PractitionerRole", "active", False),
    ("doctor", "Practitioner", "active", False),
]


@kind("reference-to-nothing")
def reference_to_nothing(draw: Draw) -> Made:
    """A reference to what is not in the message, or to a contained resource that is not there, is refused."""
    message = Message(draw)
    container, name = draw.each([*CONTAINABLE, ("header", "request"), ("request", "patient"), ("request", "encounter")])
    form = draw.one_of(["not there", "another id", "contained in nothing", "of another resource's contained"])
    resource = next(one for one in message.resources if one["id"] == message.id_of(name))
    holder = next(one for one in message.resources if one["id"] == message.id_of(container))
    written = {"not there": f"urn:uuid:{resource['id']}", "another id": f"{resource['resourceType']}/elsewhere"}
    if form == "not there":
        message.remove(resource)
    if form == "of another resource's contained":
        message.get("Flag")["contained"] = [copy.deepcopy(resource) | {"id": "held"}]
    for one in references(holder):
        if one["reference"] == f"urn:uuid:{resource['id']}":
            one["reference"] = written.get(form, "#held")
    return f"{container} to {name}: {form}", [message.sent()], refused()


@kind("speaks-for-another")
def speaks_for_another(draw: Draw) -> Made:
    """A practice that names another as the referrer is refused, in whatever form the organisation is named."""
    message = Message(draw)
    practice = message.get("Organization")
    other = copy.deepcopy(practice)
    other["identifier"][0]["value"] = draw.one_of(["C82992", "C82993", "Y99998"])
    how = draw.each(["contained", "entry", "identifier", "role contained", "organisation asks", "contained, asks"])
    if how in ("contained", "role contained"):
        _contain(message, "role", "practice", other)
        if how == "role contained":
            _hold_role(message)
    elif how == "entry":
        practice["identifier"] = other["identifier"]
    elif how == "identifier":
        message.get("PractitionerRole")["organization"] = {"identifier": other["identifier"][0]}
    elif how == "organisation asks":
        message.request["requester"] = message.add("Organization", identifier=other["identifier"], name="Another")
    else:
        message.request["requester"] = {"reference": "#asks"}
        message.request["contained"] = [other | {"id": "asks"}]
    return how, [message.sent()], refused()


def _hold_role(message: Message) -> None:
    """Contain the role in the request, and next to it what the role contained: contained resources do not nest."""
    role = message.get("PractitionerRole")
    inner = role.pop("contained")
    _contain(message, "request", "role")
    message.request["contained"] += inner


# ---- 10: ambiguous or more than one -------------------------------------------------------------------------------------


@kind("ambiguous")
def ambiguous(draw: Draw) -> Made:
    """Two candidates for one thing are refused, in any order."""
    message = Message(draw)
    what = draw.each(["fullUrl", "id", "absolute", "two requests", "contained", "two patients of one number"])
    name = draw.one_of(["patient", "practice", "doctor", "plan"])
    other = _another_like(draw, next(one for one in message.resources if one["id"] == message.id_of(name)))
    if what == "fullUrl":
        message.resources.append(other)
        message.urls[other["id"]] = f"urn:uuid:{message.id_of(name)}"
    elif what == "id":
        _refer(message, name, "relative")
        own = message.id_of(name)
        message.resources.append({**other, "id": own})
        message.urls[own] = ""
    elif what == "absolute":
        _refer(message, name, "absolute")
        message.resources.append(other)
        message.urls[other["id"]] = message.urls[message.id_of(name)]
    elif what == "contained":
        _contain(message, "role", "doctor")
        role = message.get("PractitionerRole")
        role["contained"].append(_another_like(draw, role["contained"][0]) | {"id": "held"})
    elif what == "two patients of one number":
        message.request["subject"] = {"reference": f"Patient/{message.id_of('patient')}"}
        message.resources.append({**_another_like(draw, message.patient), "id": message.id_of("patient")})
    else:
        return _two_requests(draw, message)
    message.shuffle()
    return f"{what} of {name}", [message.sent()], refused()


@kind("contradictory")
def contradictory(draw: Draw) -> Made:
    """What contradicts itself is refused: two reasons, numbers, statuses, practices; a stay of the future."""
    message = Message(draw)
    what, change = draw.each(CONTRADICTIONS)
    change(draw, message)
    message.shuffle()
    return what, [message.sent()], refused()


def _two_reasons(draw: Draw, message: Message) -> None:
    codings = message.header["reason"]["coding"]
    message.header["reason"]["coding"] = draw.shuffled(
        [*codings, {**codings[0], "code": draw.one_of(["update", "delete"])}]
    )


def _two_numbers(draw: Draw, message: Message) -> None:
    other = {**message.patient["identifier"][0], "value": draw.nhs_number()}
    message.patient["identifier"] = draw.shuffled([*message.patient["identifier"], other])


def _two_statuses(draw: Draw, message: Message) -> None:
    other = {**message.patient["identifier"][0], "extension": [status_extension("02")]}
    message.patient["identifier"] = draw.shuffled([*message.patient["identifier"], other])


def _two_practices(draw: Draw, message: Message) -> None:
    other = message.add("Organization", identifier=[{"system": ODS, "value": "C82993"}])
    message.patient["generalPractitioner"] = draw.shuffled([*message.patient["generalPractitioner"], other])


def _two_roles(draw: Draw, message: Message) -> None:
    message.request["requester"] = message.to("doctor")
    other = message.add("Organization", name="Another place")
    message.add("PractitionerRole", practitioner=message.to("doctor"), organization=other)


def _two_codes(draw: Draw, message: Message) -> None:
    practice = message.get("Organization")
    practice["identifier"] = draw.shuffled([*practice["identifier"], {"system": ODS, "value": "C82993"}])


def _two_authorities(draw: Draw, message: Message) -> None:
    system = "https://statistics.data.gov.uk/id/statistical-geography"
    codes = draw.shuffled(["E07000130", "E07000133"])
    message.request["performer"] += [{"identifier": {"system": system, "value": code}} for code in codes]


def _stay(**elements: Any) -> Callable[[Draw, Message], None]:
    def change(_: Draw, message: Message) -> None:
        encounter = message.get("Encounter")
        encounter["class"]["code"] = "IMP"
        encounter.update(elements)

    return change


CONTRADICTIONS: Sequence[tuple[str, Callable[[Draw, Message], None]]] = [
    ("two reasons", _two_reasons),
    ("two NHS numbers", _two_numbers),
    ("two statuses of a number", _two_statuses),
    ("two practices", _two_practices),
    ("two roles", _two_roles),
    ("two codes of the practice", _two_codes),
    ("two housing authorities", _two_authorities),
    ("a stay that has not begun", _stay(status="in-progress", period={"start": "2099-01-01"})),
    ("a stay that goes on and has ended", _stay(status="in-progress", period={"start": "2020", "end": "2021"})),
    ("a finished stay without an end", _stay(status="finished", period={"start": "2020"})),
    ("a stay of unknown status", _stay(status="unknown", period={"start": "2020"})),
]


def _two_requests(draw: Draw, message: Message) -> Made:
    second = {**message.request, "orderDetail": [concept(OURS + "service", "fire-safety", "No smoke alarm")]}
    other = message.add(
        "ServiceRequest", **{name: second[name] for name in second if name not in ("resourceType", "id")}
    )
    message.header["focus"] = draw.shuffled([message.to("request"), other])
    message.shuffle()
    both = taken({"referral.needs[].service": {"has": ["minor-adaptations", "fire-safety"]}})
    return "two requests in focus", [message.sent()], refused(both)


def _another_like(draw: Draw, resource: Resource) -> Resource:
    """Return a resource of the same type that says something else."""
    made = copy.deepcopy(resource) | {"id": draw.uuid()}
    if made["resourceType"] in ("Patient", "Practitioner"):
        made["name"] = [{"family": draw.word()}]
    elif made["resourceType"] == "Organization":
        made["name"] = draw.word()
    else:
        made["activity"] = [{"detail": {"status": "not-started", "code": concept(OURS + "service", "fire-safety")}}]
    return made
