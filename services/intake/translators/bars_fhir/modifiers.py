"""Modifier elements of FHIR R4 (http://hl7.org/fhir/R4/conformance-rules.html#isModifier): read, left out or refused.

Who does not understand a modifier element must not process what it stands in as if it were not there. `RULES` says for
each modifier element of what we read which values leave the meaning as it is, and with which the item does not count.
Any other value is refused. `modifierExtension` and `implicitRules` are refused wherever they stand.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Literal

from services.intake.translators.bars_fhir.models import READ, CodeableConcept
from services.intake.translators.bars_fhir.references import Place
from services.intake.translators.bars_fhir.tree import location, walk
from services.intake.translators.translator import PLAIN_NAME

EVERYWHERE = ("modifierExtension", "implicitRules")
"""Elements that are refused with any value, in every resource, backbone element and data type that we read."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The values of a modifier element with which an item is read as it is, and those with which it is left out."""

    read: frozenset[str | bool]
    left_out: frozenset[str | bool] = field(default=frozenset())


def _rule(read: str, left_out: str = "") -> Rule:
    return Rule(frozenset(read.split()), frozenset(left_out.split()))


_IN_USE = Rule(read=frozenset({True}))
_NEGATION = Rule(read=frozenset({False}))

ORDERS = "order original-order reflex-order filler-order instance-order"

RULES: Mapping[str, Mapping[str, Rule]] = {
    "ServiceRequest": {"intent": _rule(f"plan {ORDERS}"), "doNotPerform": _NEGATION},
    "CarePlan": {"status": _rule("active completed"), "intent": _rule("plan order")},
    "CarePlan.activity.detail": {
        "status": _rule("not-started scheduled in-progress", "cancelled stopped completed entered-in-error"),
        "doNotPerform": _NEGATION,
    },
    "Task": {
        "status": _rule("requested received accepted ready in-progress", "cancelled completed entered-in-error"),
        "intent": _rule(f"unknown plan {ORDERS}"),
    },
    "Condition": {
        "clinicalStatus": _rule("active recurrence relapse inactive remission resolved"),
        "verificationStatus": _rule("unconfirmed provisional differential confirmed", "refuted entered-in-error"),
    },
    "Consent": {"status": _rule("active rejected", "draft proposed inactive entered-in-error")},
    "DocumentReference": {
        "status": _rule("current", "superseded entered-in-error"),
        "docStatus": _rule("preliminary final amended", "entered-in-error"),
    },
    "Flag": {"status": _rule("active", "inactive entered-in-error")},
    "Location": {"status": _rule("active suspended", "inactive")},
    "Patient": {"active": _IN_USE, "link.type": _rule("replaces refer seealso")},
    "Practitioner": {"active": _IN_USE},
    "PractitionerRole": {"active": _IN_USE},
    "RelatedPerson": {"active": _IN_USE},
    "Organization": {"active": _IN_USE},
    "HealthcareService": {"active": _IN_USE},
}
"""The rules by the type or backbone element. An element that is not given changes nothing."""

DECIDED: Mapping[str, str] = {
    "ServiceRequest.status": "bars_fhir: active is a request, revoked and entered-in-error cancel it",
    "Encounter.status": "request.stay: whether the person is, was or will be in hospital",
    "Consent.scope": "consent.answers: only consents for privacy and treatment answer a question",
    "Patient.deceased[x]": "person: a reported death, with its date",
    "Patient.link": "modifiers: link.type",
    "Identifier.use": "in_force: old does not count",
    "HumanName.use": "in_force: old does not count; person: official and usual before the others",
    "Address.use": "in_force: old does not count; person: only where the person lives",
    "ContactPoint.use": "in_force: old does not count",
    "Age.comparator": "request: of Condition.abatementAge only the presence is read",
}
"""Modifier elements that other modules decide, and how."""

CODE_SYSTEMS: Mapping[str, str] = {
    "clinicalStatus": "terminology.hl7.org/CodeSystem/condition-clinical",
    "verificationStatus": "terminology.hl7.org/CodeSystem/condition-ver-status",
}
"""The code systems of modifier elements that are CodeableConcepts (required bindings of R4), after http:// or https://."""

Verdict = Literal["left out", "refused"]


def judge(kind: str, item: Any) -> Iterator[tuple[Place, Verdict, str]]:
    """Yield each modifier element with which an item is not read as it is: its place in the item, and an explanation.

    `kind`: the item's type or backbone element, such as `CarePlan.activity.detail`.
    """
    for element, rule in RULES.get(kind, {}).items():
        for loc, value in _values(item, element.split(".")):
            if value in rule.left_out:
                yield loc, "left out", ""
            elif value not in rule.read:
                yield loc, "refused", f"is a modifier element: only {_spoken(rule)} can be read"


def _spoken(rule: Rule) -> str:
    return ", ".join(sorted(str(value).lower() for value in rule.read | rule.left_out))


def _values(item: Any, path: list[str]) -> Iterator[tuple[Place, Any]]:
    value = getattr(item, path[0])
    if isinstance(value, list):
        for index, one in enumerate(value):
            for loc, inner in _values(one, path[1:]):
                yield (path[0], index, *loc), inner
    elif value is not None:
        yield (path[0],), _plain(path[0], value)


def _plain(element: str, value: Any) -> Any:
    """Return a code or boolean; for a concept its only code in the element's code system, else None."""
    if not isinstance(value, CodeableConcept):
        return value
    found = {one.code for one in value.coding if (one.system or "").partition("://")[2] == CODE_SYSTEMS[element]}
    return found.pop() if len(found) == 1 else None


def may_be_refused_everywhere(body: bytes) -> bool:
    """Return whether a message may have an element that is refused everywhere: its name, or an escaped name."""
    return b"\\u" in body or any(name.encode() in body for name in EVERYWHERE)


def refused_everywhere(tree: dict[str, Any]) -> Iterator[Place]:
    """Yield the place of each modifierExtension and implicitRules in the envelope and in what we read of a Bundle."""
    for place, element in walk(tree):
        for name in EVERYWHERE:
            if element.get(name) and _is_read(tree, found := location(place, name)):
                yield _without_unknown_names(found)


def _is_read(tree: dict[str, Any], place: Place) -> bool:
    """Return whether a place is in the envelope or in a resource of a type that we read."""
    in_resource = place[0] == "entry" and len(place) > 2 and place[2] == "resource"
    return not in_resource or tree["entry"][place[1]]["resource"].get("resourceType") in READ


def _without_unknown_names(place: Place) -> Place:
    """Return a place up to the first name that cannot be an element: the sender chose it, it may be personal data."""
    plain = takewhile(lambda part: isinstance(part, int) or PLAIN_NAME.match(part), place)
    return tuple(plain)
