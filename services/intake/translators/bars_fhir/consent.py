"""The answers to the three consent questions, read from FHIR Consents as trees of provisions.

A Consent answers a question if its category is that of the question. Its answer is that of its policy (`OPTIN`,
`OPTOUT`), changed by its provisions: R4 nests exceptions. A provision is understood if it is without conditions, or has only
conditions of this table; any other consent to one of our questions is refused by the place of what is not
understood, so that neither a yes nor a withdrawal is concluded from it.

| condition | holds for us | does not concern us |
|---|---|---|
| period | includes the time of the message | has ended, or is in the future |
| actor | receives (PRCP, IRCP), and is the performer or the destination of the message | - |
| action | `access` or `disclose`, and `use` | - |
| purpose | one for care (evaluation: for quality) | only research, marketing, payment, public health |
| securityLabel, class, code, data, dataPeriod | - | - |
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal

from schemas.fhir import LOCAL
from services.intake.translators import plausibility
from services.intake.translators.bars_fhir.bundle_index import BundleIndex, code_in, codes, is_system, line
from services.intake.translators.bars_fhir.contact_details import full_name
from services.intake.translators.bars_fhir.in_force import holds, interval
from services.intake.translators.bars_fhir.models import (
    CodeableConcept,
    FhirConsent,
    MessageHeader,
    Organization,
    Practitioner,
    Provision,
    ProvisionActor,
    Reference,
    Resource,
    ServiceRequest,
)
from services.intake.translators.bars_fhir.references import Place
from services.intake.translators.translator import drop_empty, parse_date, unique

CONSENT = f"{LOCAL}/CodeSystem/consent"
DIRECT_CARE = "https://fhir.nhs.uk/CodeSystem/consent-categories-bars"
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"
QUESTIONS = ("referral", "feedback", "evaluation")

ConsentAnswer = Literal["yes", "no", "not-recorded"]

POLICIES: dict[str, ConsentAnswer] = {
    "OPTIN": "yes",
    "OPTINR": "yes",
    "OPTOUT": "no",
    "OPTOUTE": "no",
    "IMPLIED": "not-recorded",
    "IMPLIEDD": "not-recorded",
}
"""The codes of v3-ActCode (ActConsentType) that are understood, by what they answer."""

INCOMPLETE = ("OPTINR", "OPTOUTE")
"""Policies with restrictions or exceptions, which are understood only if provisions say which."""

SCOPES = ("patient-privacy", "treatment")
RECEIVES = ("PRCP", "IRCP")
CARE = ("TREAT", "CAREMGT", "COC")
QUALITY = ("HQUALIMP", "HOUTCOMS")
NEVER_OURS = ("HRESCH", "CLINTRCH", "BIORCH", "HMARKT", "HPAYMT", "PUBHLTH", "DONAT")
"""Purposes of v3-PurposeOfUse that no question is about."""

UNSUPPORTED = ("securityLabel", "class_", "code", "data", "dataPeriod")
"""Conditions that are refused with any value."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """One Consent to one question, and the resources and places that are the housing service in this message."""

    message: BundleIndex
    consent: FhirConsent
    question: str
    receivers: tuple[Resource, ...]

    def refuse(self, loc: Place, explanation: str) -> None:
        self.message.add_issue(self.consent, loc, "not-supported", explanation)


def answers(message: BundleIndex, header: MessageHeader, request: ServiceRequest) -> dict[str, Any]:
    """Return the answers to the three consent questions; none is inferred from another.

    Of two answers to one question the later counts, and 'no' unless 'yes' is certainly of a later day. BaRS' Direct Care
    consent (DRC) counts for the referral only if it is explicit: implied consent does not cover a housing authority.
    """
    references = [*request.performer, *(one.receiver for one in header.destination)]
    receivers = tuple(filter(None, map(message.peek, references)))
    by_question: dict[str, list[dict[str, Any]]] = {}
    for consent, question in _asked(message):
        if question not in QUESTIONS:
            message.add_issue(consent, ("category",), "value", "is not a code of " + CONSENT)
            continue
        by_question.setdefault(question, []).append(_said(_Reading(message, consent, question, receivers)))
    chosen = {question: _chosen(said) for question, said in by_question.items()}
    counting = {answer["at"] for answer in chosen.values()}
    message.left_out += [one["at"] for said in by_question.values() for one in said if one["at"] not in counting]
    return chosen


def refusal_place(found: dict[str, Any]) -> str | None:
    """Return the place of the Consent that refuses the referral; None if it is not refused."""
    answer = found.get("referral", {})
    return str(answer["at"]) if answer.get("answer") == "no" else None


def canonical(found: dict[str, Any]) -> dict[str, Any]:
    """Return the answers as the referral has them, without their places."""
    return {
        question: {name: said[name] for name in said if name not in ("at", "days")} for question, said in found.items()
    }


def _asked(message: BundleIndex) -> Iterator[tuple[FhirConsent, str]]:
    """Yield each Consent that counts with each of our questions that it answers."""
    for consent in message.all(FhirConsent):
        questions = [code for concept in consent.category for code in codes(concept, CONSENT)]
        if not questions and any("DRC" in codes(concept, DIRECT_CARE) for concept in consent.category):
            questions = ["referral"]
        if questions and message.counts(consent):
            yield from ((consent, question) for question in unique(questions))


def _said(reading: _Reading) -> dict[str, Any]:
    message, consent = reading.message, reading.consent
    before = len(message.issues)
    answer = _answer(reading)
    given = interval(consent.dateTime)
    is_future = answer == "yes" and given is not None and given[0] > message.time
    if is_future:
        message.left_out.append(message.at(consent))
    understood = answer if len(message.issues) == before and not is_future else "not-recorded"
    by = _by(message, consent.performer)
    return drop_empty({"answer": understood, "on": _given_on(message, consent), "by": by, "days": _days(given)}) | {
        "at": message.at(consent)
    }


def _given_on(message: BundleIndex, consent: FhirConsent) -> date | None:
    """Return the day of an answer; one that cannot be right is left out, since an answer counts without its day."""
    given_on, today = parse_date(consent.dateTime), plausibility.today(message.time)
    if given_on is None or not plausibility.doubt("consents.referral.on", given_on, today, message.fillers):
        return given_on
    message.left_out.append(message.at(consent, "dateTime"))
    return None


def _days(given: tuple[datetime, datetime] | None) -> tuple[date, date] | None:
    """Return the first and the last day on which an answer may have been given."""
    return given and (given[0].date(), (given[1] - timedelta(microseconds=1)).date())


def _chosen(said: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the answer that counts: a refusal after which no consent was certainly given, else the latest."""
    consents = [one for one in said if one["answer"] == "yes"]
    refusals = [one for one in said if one["answer"] == "no"]
    standing = [no for no in refusals if not any(_is_of_later_day(yes, no) for yes in consents)]
    return max(standing or consents or said, key=lambda one: str(one.get("on", "")))


def _is_of_later_day(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return "days" in one and "days" in other and bool(one["days"][0] > other["days"][1])


def _by(message: BundleIndex, performers: list[Reference]) -> str | None:
    for reference in performers:
        match message.peek(reference):  # who has left since then gave the consent, too
            case Practitioner() as practitioner:
                named = full_name(practitioner.name, message.time)
            case Organization() as organisation:
                named = line(organisation.name)
            case _:
                named = None
        if named or line(reference.display):
            return named or line(reference.display)
    return None


# ---- the tree -------------------------------------------------------------------------------------------------------


def _answer(reading: _Reading) -> ConsentAnswer:
    """Return what a Consent says of our use; report what is not understood."""
    consent, root = reading.consent, reading.consent.provision
    scopes = codes(consent.scope, TERMINOLOGY + "consentscope")
    if not scopes or not set(scopes) <= set(SCOPES):
        reading.refuse(("scope",), f"a consent to this question must have the scope {' or '.join(SCOPES)}")
    if consent.status == "rejected":
        return "no"
    policy = _policy(reading)
    if root is None:
        return policy
    if not _concerns_us(reading, root, ("provision",)):
        reading.message.left_out.append(reading.message.at(consent, "provision"))
        lasts = holds(root.period, reading.message.time)
        return policy if root.type == "deny" and lasts else "not-recorded"
    if policy == "no" and root.type == "permit":
        reading.refuse(("provision", "type"), "contradicts the policy: nest the exceptions in a provision")
    said: ConsentAnswer = {"permit": "yes", "deny": "no", None: policy}[root.type]
    return _with_exceptions(reading, root, ("provision",), said)


def _policy(reading: _Reading) -> ConsentAnswer:
    rule, root = reading.consent.policyRule, reading.consent.provision
    found = unique(codes(rule, TERMINOLOGY + "v3-ActCode"))
    if not found:
        if rule and rule.coding:
            reading.refuse(("policyRule",), f"must have a code of {TERMINOLOGY}v3-ActCode")
        return "not-recorded"
    is_incomplete = found[0] in INCOMPLETE and not (root and (root.provision or root.type))
    if len(found) > 1 or found[0] not in POLICIES or is_incomplete:
        reading.refuse(("policyRule",), f"must be one of {', '.join(POLICIES)}, with provisions for exceptions")
    return POLICIES.get(found[0], "not-recorded")


def _with_exceptions(reading: _Reading, rule: Provision, at: Place, said: ConsentAnswer) -> ConsentAnswer:
    """Return what a rule says with the exceptions inside it: the one that concerns us, else the rule itself."""
    found: set[ConsentAnswer] = set()
    for index, inner in enumerate(rule.provision):
        place = (*at, "provision", index)
        if inner.type is None:
            reading.refuse((*place, "type"), "is required in a nested provision: permit or deny")
        elif _concerns_us(reading, inner, place):
            found.add(_with_exceptions(reading, inner, place, "yes" if inner.type == "permit" else "no"))
    if len(found) > 1:
        reading.refuse((*at, "provision"), "has provisions that contradict each other")
    return found.pop() if len(found) == 1 else said


def _concerns_us(reading: _Reading, rule: Provision, at: Place) -> bool:
    """Return whether the conditions of a rule hold for our use; report a condition that is not understood."""
    for name in UNSUPPORTED:
        if getattr(rule, name):
            reading.refuse((*at, name.rstrip("_")), "is a condition that is not supported")
    for index, actor in enumerate(rule.actor):
        if not _is_us(reading, actor):
            explanation = "must be the performer or the destination of the request, as recipient"
            reading.refuse((*at, "actor", index), explanation)
    if rule.action and not _covers_our_actions(rule.action):
        reading.refuse((*at, "action"), "must be access or disclose, and use")
    return holds(rule.period, reading.message.time) and _has_our_purpose(reading, rule, at)


def _is_us(reading: _Reading, actor: ProvisionActor) -> bool:
    roles = {
        coding.code for coding in actor.role.coding if is_system(coding.system, TERMINOLOGY + "v3-ParticipationType")
    }
    named = reading.message.peek(actor.reference)
    return bool(roles.intersection(RECEIVES)) and any(named is one for one in reading.receivers)


def _covers_our_actions(actions: list[CodeableConcept]) -> bool:
    given = {code_in([action], TERMINOLOGY + "consentaction") for action in actions}
    return "use" in given and bool(given & {"access", "disclose"})


def _has_our_purpose(reading: _Reading, rule: Provision, at: Place) -> bool:
    ours = QUALITY if reading.question == "evaluation" else CARE
    given = [one.code if is_system(one.system, TERMINOLOGY + "v3-ActReason") else None for one in rule.purpose]
    for index, purpose in enumerate(given):
        if purpose not in (*CARE, *QUALITY, *NEVER_OURS):
            reading.refuse((*at, "purpose", index), "is a purpose that is not supported")
    return not given or any(purpose in ours for purpose in given)
