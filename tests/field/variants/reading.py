"""Kinds of what a message means: whom it is for, modifier elements, consents, validity, subjects, demographics."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from tests.field.variants import REFUSED, Made, Right, kind, refused, taken
from tests.field.variants.draw import LONDON, Draw
from tests.field.variants.message import (
    ACT_CODE,
    CAN_BE_LEFT_OUT,
    CONFIDENTIALITY,
    NHS,
    NHS_NUMBER,
    ODS,
    SNOMED,
    UK_CORE,
    Message,
    Resource,
    concept,
    status_extension,
)


def read_as(message: Message, **more: Any) -> Right:
    """Return the expectation that the good message is read in full."""
    event = {
        "referral.person.family_name": {"is": [message.family]},
        "referral.person.nhs_number": {"is": [message.number]},
        "referral": {"has": list(CAN_BE_LEFT_OUT.values())},
    }
    return taken(event | more)


def without(message: Message, words: str) -> Right:
    """Return the expectation that the message is taken without what these words stand for."""
    others = [one for one in CAN_BE_LEFT_OUT.values() if one != words]
    about = {"referral.person.family_name": {"is": [message.family]}, "referral": {"lacks": [words], "has": others}}
    return taken(about, nowhere=[words])


# ---- 1: a message for another service -----------------------------------------------------------------------------------

USE_CASES = [f"a{application}t{step}" for application in range(1, 9) for step in range(1, 4)]
OTHER_SERVICES = [
    "https://fhir.nhs.uk/Id/dos-service-id|2000031613",
    "https://fhir.nhs.uk/id/dos-service-id|1",
    f"{ODS}|RR8",
    "https://ambulance.example.org/fhir",
]


@kind("for-another-service")
def for_another_service(draw: Draw) -> Made:
    """Use case, category, destination or target header name another service, at any place and in any spelling."""
    message = Message(draw)
    what, change = draw.each(ANOTHER_SERVICE)
    change(draw, message)
    return what, [message.sent()], refused()


def _categories(message: Message) -> list[dict[str, Any]]:
    return list(message.request["category"])


def _use_case_instead(draw: Draw, message: Message) -> None:
    system = draw.one_of([NHS + "usecases-categories-bars", NHS.replace("https", "http") + "usecases-categories-bars"])
    message.request["category"][0]["coding"][1] = {"system": system, "code": draw.one_of(USE_CASES)}


def _use_case_beside(draw: Draw, message: Message) -> None:
    other = concept(NHS + "usecases-categories-bars", draw.one_of(USE_CASES))
    message.request["category"] = draw.shuffled([*_categories(message), other])


def _use_case_spread(draw: Draw, message: Message) -> None:
    codings = [_categories(message)[0]["coding"][0], {"system": NHS + "usecases-categories-bars", "code": "a5t1"}]
    message.request["category"] = [{"coding": [one]} for one in draw.shuffled(codings)]


def _other_category(draw: Draw, message: Message) -> None:
    message.request["category"][0]["coding"][0]["code"] = draw.one_of(["validation", "booking", "emergency-supply"])


def _other_destination(draw: Draw, message: Message) -> None:
    message.header["destination"] = [{"endpoint": draw.one_of(OTHER_SERVICES)}]


def _other_target(draw: Draw, message: Message) -> None:
    system, _, value = draw.one_of(OTHER_SERVICES[:3]).partition("|")
    named = json.dumps({"system": system, "value": value}).encode()
    message.headers["nhsd-target-identifier"] = base64.b64encode(named).decode()


def _no_code_of_ours(draw: Draw, message: Message) -> None:
    del message.request["category"][0]["coding"][1]
    for resource in (message.request, message.get("Task"), message.get("CarePlan")):
        resource.pop("orderDetail", None)
        resource.pop("activity", None)
    message.get("Task")["code"] = {"text": "Call an ambulance"}


ANOTHER_SERVICE: Sequence[tuple[str, Callable[[Draw, Message], None]]] = [
    ("another use case instead of ours", _use_case_instead),
    ("another use case next to ours", _use_case_beside),
    ("another use case in a concept of its own", _use_case_spread),
    ("another category", _other_category),
    ("another destination", _other_destination),
    ("another target identifier", _other_target),
    ("no code of ours and no destination", _no_code_of_ours),
]


@kind("for-us-in-other-words")
def for_us_in_other_words(draw: Draw) -> Made:
    """Our codes spread over concepts, in any order and with further codes, are for us."""
    message = Message(draw)
    codings = _categories(message)[0]["coding"]
    as_one, plain = draw.each([(a, b) for a in (True, False) for b in (True, False)])
    further = {"system": "https://a-gp-system.example.com/request-type", "code": "social"}
    spread = [{"coding": [one]} for one in [*codings, further]]
    whole = [{"coding": draw.shuffled([*codings, further]), "text": "Housing"}]
    message.request["category"] = whole if as_one else draw.shuffled(spread)
    if plain:
        codings[0]["system"] = codings[0]["system"].replace("https", "http")
    message.shuffle()
    return (
        f"our codes in {'one concept' if as_one else 'several'}, {'http' if plain else 'https'}",
        [message.sent()],
        [read_as(message)],
    )


# ---- 5: modifier elements -----------------------------------------------------------------------------------------------

MODIFIERS: Mapping[str, Mapping[str, Sequence[Any]]] = {
    "ServiceRequest": {
        "intent": ["proposal", "option", "directive"],
        "doNotPerform": [True],
        "status": ["draft", "on-hold", "completed", "unknown"],
    },
    "CarePlan": {
        "status": ["draft", "on-hold", "revoked", "entered-in-error", "unknown"],
        "intent": ["proposal", "option"],
        "activity.0.detail.status": ["cancelled", "stopped", "entered-in-error", "unknown"],
        "activity.0.detail.doNotPerform": [True],
    },
    "Task": {
        "status": ["draft", "rejected", "cancelled", "failed", "entered-in-error"],
        "intent": ["proposal", "option"],
    },
    "Condition": {
        "verificationStatus": [
            concept("http://terminology.hl7.org/CodeSystem/condition-ver-status", code)
            for code in ("refuted", "entered-in-error")
        ]
    },
    "Flag": {"status": ["inactive", "entered-in-error"]},
    "DocumentReference": {"status": ["superseded", "entered-in-error"], "docStatus": ["entered-in-error"]},
    "Patient": {"active": [False], "link": [[{"type": "replaced-by", "other": {"display": "Another record"}}]]},
    "PractitionerRole": {"active": [False]},
    "Practitioner": {"active": [False]},
    "Organization": {"active": [False]},
}
"""Modifier elements of R4 with values that negate, end or weaken what they stand in. A number is an index."""

_MODIFYING = [
    (resource, path, value)
    for resource, elements in MODIFIERS.items()
    for path, values in elements.items()
    for value in values
]


@kind("modifier-element")
def modifier_element(draw: Draw) -> Made:
    """What a modifier element negates or ends is refused, or is not in the referral."""
    message = Message(draw)
    what, resource = negated(draw, message)
    left_out = [without(message, CAN_BE_LEFT_OUT[resource])] if resource in CAN_BE_LEFT_OUT else []
    return what, [message.sent()], refused(*left_out)


def negated(draw: Draw, message: Message) -> tuple[str, str]:
    """Negate, end or weaken something in the message; return what, and the type of the resource that it stands in."""
    resource, path, value = draw.each(_MODIFYING)
    _set(message.get(resource), path, value)
    return f"{resource}.{path} {json.dumps(value)[:40]}", resource


@kind("refused-update")
def refused_update(draw: Draw) -> Made:
    """An update that is refused leaves the referral as it was; the next good one is applied."""
    first = Message(draw)
    bad, good = first.later(1), first.later(2)
    bad.patient["telecom"][0]["value"] = draw.phone() + "5"
    phone = good.patient["telecom"][0]["value"] = draw.phone() + "6"
    what = draw.each(["modifier", "modifierExtension", "lost reference", "another service"])
    if what == "modifier":
        bad.request["doNotPerform"] = True
    elif what == "modifierExtension":
        bad.patient["modifierExtension"] = [{"url": "https://example.org/not", "valueBoolean": True}]
    elif what == "lost reference":
        bad.remove(bad.get("CarePlan"))
    else:
        _use_case_instead(draw, bad)
    event = {"version": {"is": [2]}, "referral.person.phone": {"is": [phone]}}
    right: Right = {"answers": [200, REFUSED, 200], "event": event, "references": "same"}
    return f"update refused for its {what}", [first.sent(), bad.sent(), good.sent()], [right]


def _set(resource: Resource, path: str, value: Any) -> None:
    *above, name = path.split(".")
    for part in above:
        resource = resource[int(part)] if part.isdigit() else resource[part]  # type: ignore[index]
    resource[name] = value


HARMLESS: Sequence[tuple[str, str, Any]] = [
    ("ServiceRequest", "doNotPerform", False),
    ("ServiceRequest", "intent", "order"),
    ("CarePlan", "activity.0.detail.doNotPerform", False),
    ("CarePlan", "activity.0.detail.status", "scheduled"),
    ("Task", "status", "accepted"),
    ("Task", "intent", "order"),
    ("Patient", "active", True),
    ("Patient", "deceasedBoolean", False),
    ("PractitionerRole", "active", True),
    ("Organization", "active", True),
    ("DocumentReference", "docStatus", "final"),
    ("Condition", "extension", [{"url": "https://example.org/any", "valueString": "an ordinary extension"}]),
    ("ServiceRequest", "extension", [{"url": "https://example.org/any", "valueCode": "an-ordinary-extension"}]),
    ("Patient", "link", [{"type": "seealso", "other": {"display": "Another record"}}]),
]


@kind("harmless-modifier")
def harmless_modifier(draw: Draw) -> Made:
    """A modifier element with a value that changes nothing is read over; so is an ordinary extension."""
    message = Message(draw)
    resource, path, value = draw.each(HARMLESS)
    _set(message.get(resource), path, value)
    return f"{resource}.{path} {json.dumps(value)[:40]}", [message.sent()], [read_as(message)]


EXTENDED: Sequence[tuple[str, str]] = [
    *((one, "") for one in ("MessageHeader", "ServiceRequest", "Patient", "CarePlan", "Task", "Condition", "Consent")),
    *((one, "") for one in ("Flag", "DocumentReference", "PractitionerRole", "Practitioner", "Organization")),
    ("CarePlan", "activity.0"),
    ("CarePlan", "activity.0.detail"),
    ("DocumentReference", "content.0"),
    ("MessageHeader", "source"),
]


@kind("modifier-extension")
def modifier_extension(draw: Draw) -> Made:
    """A modifierExtension or implicitRules in anything that is read is refused."""
    message = Message(draw)
    resource, path = draw.each(EXTENDED)
    extension = [{"url": "https://example.org/negated", "valueBoolean": True}]
    rules = not path and draw.chance()
    name, value = ("implicitRules", "https://example.org/rules") if rules else ("modifierExtension", extension)
    _set(message.get(resource), f"{path}.{name}".strip("."), value)
    return f"{resource}.{path} {name}", [message.sent()], refused()


# ---- 5, 12: death -------------------------------------------------------------------------------------------------------


@kind("deceased")
def deceased(draw: Draw) -> Made:
    """A death is told to the hub, in a new referral and in an update, in either data type."""
    message = Message(draw)
    ago = draw.between(1, 300)
    day = draw.at(days=ago)
    name, value, died = draw.each(
        [
            ("deceasedBoolean", True, None),
            ("deceasedDateTime", day, f"{(draw.now - timedelta(days=ago)).astimezone(LONDON):%Y-%m-%d}"),
            ("deceasedDateTime", day[:10], day[:10]),
            ("deceasedDateTime", day[:7], None),
            ("deceasedDateTime", day[:4], None),
        ]
    )
    first = [message.sent()] if draw.chance() else []
    told = message.later() if first else message
    told.patient[name] = value
    event = {"referral.person.death_reported.died_on": {"is": [died]}, "referral.person": {"has": ["death_reported"]}}
    if died is None:
        event = {"referral.person.death_reported": {"is": [{"died_on": None}, {}]}}
    answers = [200] * (len(first) + 1)
    hub = {"case.check_before_contact": {"is": [True]}}
    right: Right = {"answers": answers, "event": event, "hub": hub, "said": {"lacks": ["died", "death", day[:10]]}}
    return f"{name} {value}", [*first, told.sent()], [right]


# ---- 6: consent as a tree -----------------------------------------------------------------------------------------------

RECIPIENT = {"role": concept("http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "PRCP")}
FOR_RESEARCH = [{"system": ACT_CODE.replace("ActCode", "ActReason"), "code": "HRESCH"}]


def _conditions(draw: Draw, message: Message) -> list[tuple[bool, dict[str, Any]]]:
    """Return conditions of a provision, each with whether it may concern our use now."""
    return [
        (False, {"period": draw.period_over()}),
        (False, {"period": draw.period_to_come()}),
        (False, {"purpose": FOR_RESEARCH}),
        (True, {"actor": [RECIPIENT | {"reference": message.to("lightbulb")}]}),
        (True, {"actor": [RECIPIENT | {"reference": message.to("practice")}]}),
        (True, {"securityLabel": [{"system": CONFIDENTIALITY, "code": "R"}]}),
        (True, {"class": [{"system": "urn:ietf:bcp:13", "code": "application/pdf"}]}),
        (True, {"code": [concept(SNOMED, "396275006")]}),
        (True, {"dataPeriod": {"start": "2001-01-01", "end": "2002-01-01"}}),
        (True, {"data": [{"meaning": "instance", "reference": message.to("condition")}]}),
        (True, {"action": [concept("http://terminology.hl7.org/CodeSystem/consentaction", "collect")]}),
        (True, {}),
    ]


def _exceptions(draw: Draw, message: Message, kind_of: str) -> tuple[bool, dict[str, Any]]:
    """Return a root provision with an exception of this type inside, and whether it may concern our use now."""
    concerns, condition = draw.each(_conditions(draw, message))
    nested = [{"type": kind_of, **condition}]
    if draw.chance():
        nested, concerns = [{"type": kind_of}, *nested], True
    if draw.chance():
        nested, concerns = [{"provision": nested}], True
    return concerns, {"provision": nested}


@kind("consent-with-exceptions")
def consent_with_exceptions(draw: Draw) -> Made:
    """A yes with an exception that may concern us is never a yes: it is refused, or recorded as no answer."""
    message = Message(draw)
    consent = message.get("Consent")
    consent["policyRule"] = concept(ACT_CODE, draw.one_of(["OPTIN", "OPTINR"]))
    concerns, consent["provision"] = _exceptions(draw, message, "deny")
    if draw.chance():
        consent["provision"]["type"] = "permit"
    answers = ["not-recorded", None] if concerns else ["yes"]
    answer: Right = {"referral.consents.referral.answer": {"is": answers}}
    return f"OPTIN except {json.dumps(consent['provision'])[:60]}", [message.sent()], refused(taken(answer))


@kind("consent-narrowed")
def consent_narrowed(draw: Draw) -> Made:
    """A permit that has ended, or is for another purpose or somebody else, is no yes."""
    message = Message(draw)
    consent = message.get("Consent")
    del consent["policyRule"]
    narrow: list[dict[str, Any]] = [
        {"period": draw.period_over()},
        {"period": draw.period_to_come()},
        {"purpose": FOR_RESEARCH},
        {"actor": [RECIPIENT | {"reference": message.to("practice")}]},
        {"data": [{"meaning": "instance", "reference": message.to("condition")}]},
    ]
    consent["provision"] = {"type": "permit", **draw.each(narrow)}
    answer = {"referral.consents.referral.answer": {"is": ["not-recorded", None]}}
    return f"permit narrowed by {json.dumps(consent['provision'])[:60]}", [message.sent()], refused(taken(answer))


@kind("consent-no-with-exceptions-in-update")
def consent_no_with_exceptions_in_update(draw: Draw) -> Made:
    """A no with an exception that may concern us, in an update, never cancels the referral."""
    message = Message(draw)
    told = message.later()
    consent = told.get("Consent")
    consent["policyRule"] = concept(ACT_CODE, draw.one_of(["OPTOUT", "OPTOUTE"]))
    concerns, consent["provision"] = _exceptions(draw, message, "permit")
    what = f"OPTOUT except {json.dumps(consent['provision'])[:60]}, in an update"
    stays = {"published": {"has": ["referral.received"], "lacks": ["referral.cancelled"]}}
    right: list[Right] = [{"answers": [200, [200, *REFUSED]], **stays}]
    if not concerns:
        right.append({"answers": [200, 200], "published": {"has": ["referral.cancelled"]}})
    return what, [message.sent(), told.sent()], right


@kind("consent-plain")
def consent_plain(draw: Draw) -> Made:
    """A plain no is refused; in an update it withdraws the consent and cancels. A plain yes stays a yes."""
    message = Message(draw)
    what = draw.each(["yes by provision", "yes by policy", "no", "no in an update"])
    told = message.later() if what == "no in an update" else message
    consent = told.get("Consent")
    if what == "yes by provision":
        del consent["policyRule"]
        consent["provision"] = {"type": "permit", **({"period": period} if (period := draw.period_now()) else {})}
    elif what.startswith("no"):
        no = draw.one_of([{"policyRule": concept(ACT_CODE, "OPTOUT")}, {"provision": {"type": "deny"}}])
        del consent["policyRule"]
        consent.update(no)
    if what.startswith("yes"):
        yes = {"referral.consents.referral.answer": {"is": ["yes"]}}
        return what, [message.sent()], [read_as(message, **yes)]
    if what == "no":
        return what, [message.sent()], refused()
    withdrawn = {"published": {"has": ["referral.received", "referral.cancelled"]}}
    return what, [message.sent(), told.sent()], [{"answers": [200, 200], **withdrawn}]


# ---- 7: what is in force ------------------------------------------------------------------------------------------------

Items = list[dict[str, Any]]


@kind("in-force")
def in_force(draw: Draw) -> Made:
    """Of several names, addresses, numbers, contacts, flags and roles the one that holds now counts."""
    message = Message(draw)
    what, place, change = draw.each(VALIDITY)
    words = change(draw, message)
    right = taken(
        {
            "referral.person.nhs_number": {"is": [message.number]},
            place: {"has": [words[0]], "lacks": words[1:]},
        },
    )
    return what, [message.sent()], [right]


def _only_one_holds(draw: Draw, make: Callable[[str], dict[str, Any]], uses: bool = True) -> tuple[Items, list[str]]:
    """Return items of which one holds now, in any order, and their words, those of the one that holds first."""
    words = [draw.word() for _ in range(3)]
    now = make(words[0])
    if period := draw.period_now():
        now["period"] = period
    others = []
    for word in words[1:]:
        reasons = [{"period": draw.period_over()}, {"period": draw.period_to_come()}, *([{"use": "old"}] * uses)]
        others.append({**make(word), **draw.one_of(reasons)})
    return draw.shuffled([now, *others]), words


def _names(draw: Draw, message: Message) -> list[str]:
    use = draw.one_of(["official", "usual"])
    items, words = _only_one_holds(draw, lambda word: {"use": use, "family": word, "given": ["Iris"]})
    message.patient["name"] = items
    return words


def _maiden_name(draw: Draw, message: Message) -> list[str]:
    words = [draw.word(), draw.word(), draw.word()]
    uses = [draw.one_of(["official", "usual"]), "maiden", draw.one_of(["nickname", "anonymous", "temp"])]
    names = [{"use": use, "family": word} for use, word in zip(uses, words, strict=True)]
    message.patient["name"] = draw.shuffled(names)
    return words


def _addresses(draw: Draw, message: Message) -> list[str]:
    home = {"use": "home", "postalCode": "LE11 3HH"}
    items, words = _only_one_holds(draw, lambda word: {**home, "line": [f"1 {word} Row"]})
    message.patient["address"] = items
    return words


def _address_types(draw: Draw, message: Message) -> list[str]:
    words = [draw.word(), draw.word(), draw.word()]
    home = {"use": "home", "line": [f"1 {words[0]} Row"], "postalCode": "LE11 3HH"}
    if draw.chance():
        home["type"] = draw.one_of(["physical", "both"])
    others = [
        {"type": "postal", "use": draw.one_of(["home", "billing"]), "line": [f"PO Box {words[1]}"]},
        {"use": draw.one_of(["work", "billing", "old"]), "line": [f"2 {words[2]} Row"], "postalCode": "LE13 1AB"},
    ]
    message.patient["address"] = draw.shuffled([home, *others])
    return words


def _telephones(draw: Draw, message: Message) -> list[str]:
    system = draw.one_of(["phone", "email"])
    ends = {"phone": "", "email": "@example.org"}[system]
    items, words = _only_one_holds(draw, lambda word: {"system": system, "value": word + ends})
    message.patient["telecom"] = items
    return words


def _numbers(draw: Draw, message: Message) -> list[str]:
    superseded = draw.nhs_number()
    former = {"system": NHS_NUMBER, "value": superseded}
    former |= draw.one_of([{"use": "old"}, {"period": draw.period_over()}])
    if draw.chance():
        former["extension"] = [status_extension()]
    message.patient["identifier"] = draw.shuffled([former, *message.patient["identifier"]])
    return [message.number, superseded]


def _contacts(draw: Draw, message: Message) -> list[str]:
    relation = [concept("http://terminology.hl7.org/CodeSystem/v2-0131", "N", "Next of kin")]
    items, words = _only_one_holds(draw, lambda word: {"relationship": relation, "name": {"family": word}}, uses=False)
    message.patient["contact"] = items
    return words


def _flags(draw: Draw, message: Message) -> list[str]:
    flag = message.get("Flag")
    message.remove(flag)
    items, words = _only_one_holds(draw, lambda word: {**flag, "code": {"text": word}}, uses=False)
    message.resources += [{**one, "id": draw.uuid()} for one in items]
    return words


def _roles(draw: Draw, message: Message) -> list[str]:
    """The doctor asks, and has several roles of which one holds."""
    role = message.get("PractitionerRole")
    message.remove(role)
    message.request["requester"] = message.to("doctor")
    names = ["A surgery", draw.word()]
    former = message.add("Organization", name=names[1])
    now = {**role, "id": draw.uuid(), **({"period": period} if (period := draw.period_now()) else {})}
    over = draw.one_of([{"active": False}, {"period": draw.period_over()}])
    message.resources += draw.shuffled([now, {**role, "id": draw.uuid(), "organization": former, **over}])
    return names


def _codes_of_practice(draw: Draw, message: Message) -> list[str]:
    over = {"system": ODS, "value": "Y99998", "period": draw.period_over()}
    practice = message.get("Organization")
    practice["identifier"] = draw.shuffled([over, *practice["identifier"]])
    return ["C82991", "Y99998"]


def _doctors_names(draw: Draw, message: Message) -> list[str]:
    items, words = _only_one_holds(draw, lambda word: {"family": word, "prefix": ["Dr"]})
    message.get("Practitioner")["name"] = items
    return words


def _doctors_numbers(draw: Draw, message: Message) -> list[str]:
    system = "https://fhir.hl7.org.uk/Id/gmp-number"
    items, words = _only_one_holds(draw, lambda word: {"system": system, "value": word})
    message.get("Practitioner")["identifier"] = items
    return words


def _doctors_telephones(draw: Draw, message: Message) -> list[str]:
    items, words = _only_one_holds(draw, lambda word: {"system": "phone", "value": word})
    message.get(draw.one_of(["Practitioner", "PractitionerRole"]))["telecom"] = items
    return words


def _contacts_telephones(draw: Draw, message: Message) -> list[str]:
    items, words = _only_one_holds(draw, lambda word: {"system": "phone", "value": word})
    relation = [concept("http://terminology.hl7.org/CodeSystem/v2-0131", "N", "Next of kin")]
    message.patient["contact"] = [{"relationship": relation, "name": {"family": "Marta"}, "telecom": items}]
    return words


def _relatives(draw: Draw, message: Message) -> list[str]:
    """A relative asks, whose own names and telephones have periods."""
    names, words = _only_one_holds(draw, lambda word: {"family": word})
    daughter = [{"text": "Daughter"}]
    message.request["requester"] = message.add(
        "RelatedPerson", patient=message.to("patient"), name=names, relationship=daughter
    )
    return words


def _local_numbers(draw: Draw, message: Message) -> list[str]:
    items, words = _only_one_holds(draw, lambda word: {"system": "https://a-gp-system.example.com/p", "value": word})
    message.patient["identifier"] += items
    return words


VALIDITY: Sequence[tuple[str, str, Callable[[Draw, Message], list[str]]]] = [
    ("names with periods", "referral.person", _names),
    ("names of other uses", "referral.person.family_name", _maiden_name),
    ("addresses with periods", "referral.person", _addresses),
    ("addresses of other types", "referral.person.address", _address_types),
    ("telephones and mail addresses with periods", "referral.person", _telephones),
    ("superseded NHS numbers", "referral.person", _numbers),
    ("contacts with periods", "referral.contacts", _contacts),
    ("flags with periods", "referral.risk_flags", _flags),
    ("roles of the doctor", "referral.referred_by", _roles),
    ("codes of the practice", "referral.referred_by", _codes_of_practice),
    ("names of the doctor", "referral.referred_by", _doctors_names),
    ("numbers of the doctor", "referral.referred_by", _doctors_numbers),
    ("telephones of the doctor", "referral.referred_by", _doctors_telephones),
    ("telephones of a contact", "referral.contacts", _contacts_telephones),
    ("names of a relative who asks", "referral.referred_by", _relatives),
    ("local numbers", "referral.person.local_ids", _local_numbers),
]


# ---- 9: about somebody else ---------------------------------------------------------------------------------------------

SUBJECTS: Mapping[str, str] = {
    "Flag": "subject",
    "Condition": "subject",
    "DocumentReference": "subject",
    "CarePlan": "subject",
    "Task": "for",
    "Consent": "patient",
    "Encounter": "subject",
}


@kind("about-somebody-else")
def about_somebody_else(draw: Draw) -> Made:
    """A flag, consent, plan or document about another person is refused or left out."""
    message = Message(draw)
    resource_type = draw.each(list(SUBJECTS))
    resource = message.get(resource_type)
    how = draw.one_of(["entry", "contained", "number"])
    resource[SUBJECTS[resource_type]] = _somebody_else(draw, message, resource, how)
    message.shuffle()
    left_out = []
    if resource_type in CAN_BE_LEFT_OUT:
        left_out = [without(message, CAN_BE_LEFT_OUT[resource_type])]
    elif resource_type == "Consent":
        left_out = [taken({"referral.consents.referral.answer": {"is": ["not-recorded", None]}})]
    return f"{resource_type} of another person, as {how}", [message.sent()], refused(*left_out)


def _somebody_else(draw: Draw, message: Message, resource: Resource, how: str) -> dict[str, Any]:
    if how == "entry":
        return message.another_patient()
    if how == "contained":
        resource["contained"] = [{"resourceType": "Patient", "id": "other", "name": [{"family": draw.word()}]}]
        return {"reference": "#other"}
    return {"identifier": {"system": NHS_NUMBER, "value": draw.nhs_number()}}


# ---- 12: demographics ---------------------------------------------------------------------------------------------------


@kind("demographics")
def demographics(draw: Draw) -> Made:
    """Demographics as PDS and UK Core write them are read."""
    message = Message(draw)
    what, change = draw.each(DEMOGRAPHICS)
    event = change(draw, message)
    hidden = ["Charnwood", "LE11", message.patient["telecom"][0]["value"], "Lantern"]
    more = {"said": {"lacks": hidden}} if what == "restricted" else {}
    return what, [message.sent()], [taken(event, **more)]


def _verification(draw: Draw, message: Message) -> dict[str, Any]:
    system = draw.one_of(["UKCore-NHSNumberVerificationStatus", "UKCore-NHSNumberVerificationStatusEngland"])
    host = draw.one_of(["https://fhir.hl7.org.uk/CodeSystem/", "https://fhir.nhs.uk/R4/CodeSystem/"])
    code, read = draw.one_of(
        [("01", "01"), ("02", "02"), ("04", "04"), ("number-present-and-verified", "01"), ("trace-required", "03")]
    )
    extension = status_extension(code)
    extension["valueCodeableConcept"]["coding"][0]["system"] = host + system
    message.patient["identifier"][0]["extension"] = [extension]
    return {"referral.person.nhs_number_status": {"is": [read]}}


def _restricted(draw: Draw, message: Message) -> dict[str, Any]:
    code = draw.one_of(["R", "V"])
    labels = [{"system": CONFIDENTIALITY, "code": code}, {"system": "https://example.org/labels", "code": "any"}]
    message.patient["meta"] = {"security": draw.shuffled(labels)}
    return {"referral.person.restricted_access": {"is": [True]}}


def _unrestricted(draw: Draw, message: Message) -> dict[str, Any]:
    message.patient["meta"] = {"security": [{"system": CONFIDENTIALITY, "code": draw.one_of(["U", "N"])}]}
    return {"referral.person.restricted_access": {"is": [False, None]}}


def _interpreter(draw: Draw, message: Message) -> dict[str, Any]:
    system = "https://fhir.hl7.org.uk/CodeSystem/UKCore-HumanLanguage"
    parts = [
        {"url": "language", "valueCodeableConcept": concept(system, "gu", "Gujarati")},
        {"url": "preferred", "valueBoolean": True},
        {"url": "interpreterRequired", "valueBoolean": True},
    ]
    message.patient["extension"] = [{"url": UK_CORE + "NHSCommunication", "extension": draw.shuffled(parts)}]
    return {
        "referral.person.interpreter_needed": {"is": [True]},
        "referral.person.language": {"is": ["gu", "Gujarati"]},
    }


def _textphone(draw: Draw, message: Message) -> dict[str, Any]:
    number = draw.phone()
    other = concept(
        "https://fhir.hl7.org.uk/CodeSystem/UKCore-OtherContactSystem", draw.one_of(["textphone", "minicom"])
    )
    extension = {"url": UK_CORE + "OtherContactSystem", "valueCoding": other["coding"][0]}
    message.patient["telecom"] = [{"system": "other", "value": number, "extension": [extension]}]
    return {"referral.person": {"has": [number, "textphone"]}}


def _sms(draw: Draw, message: Message) -> dict[str, Any]:
    number = draw.phone()
    sms = {"system": draw.one_of(["sms", "fax", "pager"]), "value": number}
    message.patient["telecom"] = draw.shuffled([sms, *(message.patient["telecom"] * draw.chance())])
    return {"referral.person": {"has": [number, sms["system"]]}}


def _rank(draw: Draw, message: Message) -> dict[str, Any]:
    names = [draw.word() for _ in range(3)]
    relation = [concept("http://terminology.hl7.org/CodeSystem/v2-0131", "C", "Emergency contact")]
    contacts = [
        {
            "extension": [{"url": UK_CORE + "ContactRank", "valuePositiveInt": rank}],
            "relationship": relation,
            "name": {"family": name},
        }
        for rank, name in enumerate(names, 1)
    ]
    message.patient["contact"] = draw.shuffled(contacts)
    return {"referral.contacts[].name": {"has": names}, "referral.contacts[].rank": {"has": ["1", "2", "3"]}}


def _temporary(draw: Draw, message: Message) -> dict[str, Any]:
    word = draw.word()
    stay = {"use": "temp", "line": [f"3 {word} Row"], "postalCode": "LE13 1AB"}
    if period := draw.period_now():
        stay["period"] = period
    message.patient["address"] = draw.shuffled([stay, *message.patient["address"]])
    return {
        "referral.person.address": {"has": ["7 Lantern Row"], "lacks": [word]},
        "referral.person.temporary_address": {"has": [word]},
    }


DEMOGRAPHICS: Sequence[tuple[str, Callable[[Draw, Message], dict[str, Any]]]] = [
    ("verification status under either URL", _verification),
    ("restricted", _restricted),
    ("not restricted", _unrestricted),
    ("interpreter", _interpreter),
    ("textphone", _textphone),
    ("sms, fax, pager", _sms),
    ("rank of contacts", _rank),
    ("temporary address", _temporary),
]


# ---- 16: birth dates ----------------------------------------------------------------------------------------------------


@kind("birth-date-in-part")
def birth_date_in_part(draw: Draw) -> Made:
    """A birth date without its day or month is refused or carried, never dropped; one in the future is refused."""
    message = Message(draw)
    year, month = draw.between(1920, 1999), draw.between(1, 12)
    in_part = draw.each([f"{year}", f"{year}-{month:02d}", "2098-02-11", "1931-02-30", draw.at(days=-2)[:10]])
    message.patient["birthDate"] = in_part
    carried = [taken({"referral.person": {"has": [in_part]}})] if in_part.startswith(str(year)) else []
    return f"birthDate {in_part}", [message.sent()], refused(*carried)
