"""A Consent is read as the tree that it is: understood to its leaves, or refused by the place that is not understood."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.intake.translators.translator import Rejection
from tests.contract.translators.fhir_message import (
    OURS,
    TERMINOLOGY,
    Json,
    accepted,
    changed,
    coded,
    faults,
    place,
    resource_in,
    to,
    translated,
)

ACT_CODE, REASON = TERMINOLOGY + "v3-ActCode", TERMINOLOGY + "v3-ActReason"
US = {"role": coded(TERMINOLOGY + "v3-ParticipationType", "PRCP"), "reference": to("housing")}
PRACTICE = {"role": US["role"], "reference": to("practice")}


def policy(code: str) -> Json:
    return coded(ACT_CODE, code)


def purpose(*codes: str) -> list[Json]:
    return [{"system": REASON, "code": code} for code in codes]


def consented(**elements: Any) -> Json:
    """Return the full message with a consent to the referral that has these elements."""
    return changed("consent", **{"policyRule": None, "provision": None, **elements})


def answer_of(message: Json) -> str:
    """Return the answer to the referral's question: no, if the message is refused or cancels for it."""
    outcome = translated(message)
    if isinstance(outcome, Rejection):
        assert [(issue.place, issue.kind) for issue in outcome.issues] == [(place("consent"), "business-rule")]
        return "no"
    assert outcome.referral is not None
    return outcome.referral.consents.referral.answer


@pytest.mark.parametrize(
    ("elements", "answer"),
    [
        ({"policyRule": policy("OPTIN")}, "yes"),
        ({"policyRule": policy("OPTOUT")}, "no"),
        ({"policyRule": policy("IMPLIED")}, "not-recorded"),
        ({"policyRule": {"text": "by word of mouth"}}, "not-recorded"),
        ({}, "not-recorded"),
        ({"provision": {"type": "permit"}}, "yes"),
        ({"provision": {"type": "deny"}}, "no"),
        ({"policyRule": policy("OPTIN"), "provision": {"type": "deny"}}, "no"),
        ({"status": "rejected", "policyRule": policy("OPTIN")}, "no"),
        ({"policyRule": policy("OPTIN"), "provision": {"provision": [{"type": "deny", "actor": [US]}]}}, "no"),
        ({"policyRule": policy("OPTINR"), "provision": {"provision": [{"type": "deny", "actor": [US]}]}}, "no"),
        ({"policyRule": policy("OPTOUT"), "provision": {"provision": [{"type": "permit", "actor": [US]}]}}, "yes"),
        ({"policyRule": policy("OPTOUTE"), "provision": {"provision": [{"type": "permit", "actor": [US]}]}}, "yes"),
        ({"policyRule": policy("OPTIN"), "provision": {"period": {"end": "2020"}}}, "not-recorded"),
        ({"policyRule": policy("OPTOUT"), "provision": {"period": {"end": "2020"}}}, "not-recorded"),
        ({"provision": {"type": "permit", "period": {"end": "2020"}}}, "not-recorded"),
        ({"provision": {"type": "permit", "period": {"start": "2099"}}}, "not-recorded"),
        ({"policyRule": policy("OPTIN"), "provision": {"type": "deny", "period": {"end": "2020"}}}, "not-recorded"),
        ({"provision": {"type": "permit", "period": {"start": "2020", "end": "2026-11"}}}, "yes"),
        ({"provision": {"type": "permit", "purpose": purpose("HRESCH")}}, "not-recorded"),
        ({"policyRule": policy("OPTIN"), "provision": {"purpose": purpose("HRESCH")}}, "not-recorded"),
        ({"provision": {"type": "permit", "purpose": purpose("HRESCH", "TREAT")}}, "yes"),
        ({"policyRule": policy("OPTIN"), "provision": {"type": "deny", "purpose": purpose("HRESCH")}}, "yes"),
        (
            {
                "policyRule": policy("OPTIN"),
                "provision": {"provision": [{"type": "deny", "purpose": purpose("HRESCH", "HMARKT")}]},
            },
            "yes",
        ),
        (
            {
                "policyRule": policy("OPTIN"),
                "provision": {
                    "action": [coded(TERMINOLOGY + "consentaction", code) for code in ("use", "disclose")],
                },
            },
            "yes",
        ),
        (
            {
                "policyRule": policy("OPTIN"),
                "provision": {
                    "provision": [
                        {"type": "deny", "actor": [US], "provision": [{"type": "permit", "purpose": purpose("COC")}]}
                    ]
                },
            },
            "yes",
        ),
    ],
)
def test_a_consent_that_is_understood_answers_for_our_use(elements, answer):
    assert answer_of(consented(**elements)) == answer


# ---- not understood -------------------------------------------------------------------------------------------------

NOT_UNDERSTOOD: list[tuple[str, Json]] = [
    ("actor", {"actor": [PRACTICE]}),
    ("actor", {"actor": [US, PRACTICE]}),
    ("actor", {"actor": [{"role": {"text": "recipient"}, "reference": to("housing")}]}),
    ("actor", {"actor": [{"role": US["role"], "reference": {"display": "the council"}}]}),
    ("action", {"action": [coded(TERMINOLOGY + "consentaction", "correct")]}),
    ("action", {"action": [{"text": "anything"}]}),
    ("purpose", {"purpose": [{"system": "https://example.org/any", "code": "TREAT"}]}),
    ("purpose", {"purpose": purpose("TREAT", "UNHEARD-OF")}),
    ("securityLabel", {"securityLabel": [{"system": TERMINOLOGY + "v3-Confidentiality", "code": "R"}]}),
    ("class", {"class": [{"system": "http://hl7.org/fhir/resource-types", "code": "Condition"}]}),
    ("code", {"code": [{"text": "HIV"}]}),
    ("dataPeriod", {"dataPeriod": {"start": "2020", "end": "2030"}}),
    ("data", {"data": [{"meaning": "related", "reference": to("condition")}]}),
]


def nested(condition: Json, kind: str, depth: int) -> tuple[Json, list[int | str]]:
    """Return a root provision with a condition in a rule at this depth, and the rule's place in the Consent."""
    rule: Json = {"type": kind, **condition}
    for _ in range(depth):
        rule = {"type": kind, "provision": [rule]}
    return rule, ["provision", *(["provision", 0] * depth)]


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(NOT_UNDERSTOOD),
    st.sampled_from(["permit", "deny"]),
    st.integers(0, 3),
    st.sampled_from(["new", "update"]),
)
def test_a_condition_that_is_not_understood_is_refused_by_its_place_and_cancels_nothing(case, kind, depth, reason):
    element, condition = case
    root, at = nested(condition, kind, depth)
    message = consented(provision=root)
    resource_in(message, "header")["reason"]["coding"][0]["code"] = reason
    outcome = translated(message)
    assert isinstance(outcome, Rejection)
    assert {issue.kind for issue in outcome.issues} == {"not-supported"}
    assert all(issue.place.startswith(place("consent", *at, element)) for issue in outcome.issues)


@pytest.mark.parametrize(
    ("elements", "at"),
    [
        ({"policyRule": policy("OPTINR")}, ["policyRule"]),
        ({"policyRule": policy("OPTOUTE")}, ["policyRule"]),
        ({"policyRule": policy("EMRGONLY")}, ["policyRule"]),
        ({"policyRule": {"coding": policy("OPTIN")["coding"] + policy("OPTOUT")["coding"]}}, ["policyRule"]),
        ({"policyRule": policy("OPTOUT"), "provision": {"type": "permit"}}, ["provision", "type"]),
        ({"policyRule": policy("OPTIN"), "provision": {"provision": [{}]}}, ["provision", "provision", 0, "type"]),
        (
            {"provision": {"type": "permit", "provision": [{"type": "deny"}, {"type": "permit"}]}},
            ["provision", "provision"],
        ),
        (
            {"policyRule": coded("http://hl7.org/fhir/v3/ActCode", "OPTOUT"), "provision": {"type": "permit"}},
            ["policyRule"],
        ),
        ({"scope": {"text": "privacy"}, "policyRule": policy("OPTIN")}, ["scope"]),
        ({"scope": coded(TERMINOLOGY + "consentscope", "research"), "policyRule": policy("OPTOUT")}, ["scope"]),
    ],
)
def test_a_consent_that_says_two_things_or_something_unknown_is_refused(elements, at):
    assert faults(consented(**elements))[place("consent", *at)] == "not-supported"


# ---- withdrawn ------------------------------------------------------------------------------------------------------


def an_update(**elements: Any) -> Json:
    message = consented(**elements)
    resource_in(message, "header")["reason"]["coding"][0]["code"] = "update"
    return message


def test_a_refusal_that_is_understood_cancels_the_referral_in_an_update():
    withdrawn = accepted(
        an_update(policyRule=policy("OPTIN"), provision={"provision": [{"type": "deny", "actor": [US]}]})
    )
    assert (withdrawn.intent, withdrawn.cancel_reason) == ("cancel", "consent-withdrawn")


def test_a_refusal_with_an_exception_for_us_does_not_cancel_the_referral():
    exception = {"provision": [{"type": "permit", "actor": [US]}]}
    assert accepted(an_update(policyRule=policy("OPTOUT"), provision=exception)).intent == "update"


def test_a_cancel_with_a_consent_that_is_not_understood_is_refused():
    message = consented(provision={"type": "deny", "code": [{"text": "any"}]})
    resource_in(message, "request")["status"] = "revoked"
    assert place("consent", "provision", "code") in faults(message)


# ---- which consents -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["draft", "proposed", "inactive", "entered-in-error"])
def test_a_consent_that_is_not_in_force_answers_nothing_whatever_it_says(status):
    message = consented(status=status, provision={"type": "deny", "code": [{"text": "any"}]})
    assert accepted(message).referral.consents.referral.answer == "not-recorded"


def test_a_consent_to_something_else_is_passed_over():
    message = consented(category=[{"text": "research"}], provision={"type": "deny", "data": []})
    assert accepted(message).referral.consents.referral.answer == "not-recorded"


@pytest.mark.parametrize(
    ("consented_on", "refused_on", "answer"),
    [
        ("2026-11-05", "2026-11-04", "yes"),
        ("2026-11-05", "2026-11-05T08:00:00Z", "no"),
        ("2026-11-05", "2026-11", "no"),
        ("2026-11-05", None, "no"),
        (None, "2020-01-01", "no"),
        ("2099-01-01", "2026-11-05", "no"),
    ],
)
def test_a_refusal_counts_unless_consent_was_certainly_given_on_a_later_day(consented_on, refused_on, answer):
    category = [coded(OURS + "consent", "evaluation")]
    message = consented(category=category, policyRule=policy("OPTIN"), dateTime=consented_on)
    refusal = {
        **resource_in(message, "consent"),
        "id": "refusal",
        "policyRule": policy("OPTOUT"),
        "dateTime": refused_on,
    }
    entry = {"fullUrl": "urn:uuid:5e9ff5a4-51a3-4c0f-9f5e-6e0c0a3f8c11", "resource": without_none(refusal)}
    message["entry"].append(entry)
    translation = accepted(message)
    assert translation.referral.consents.evaluation.answer == answer
    unused = place("consent") if answer == "no" else f"Bundle.entry[{len(message['entry']) - 1}].resource"
    assert unused in translation.passed_over


def without_none(resource: Json) -> Json:
    return {name: value for name, value in resource.items() if value is not None}


def test_a_consent_answers_each_question_of_its_categories():
    message = consented(
        category=[coded(OURS + "consent", "referral"), coded(OURS + "consent", "evaluation")],
        policyRule=policy("OPTIN"),
    )
    consents = accepted(message).referral.consents
    assert (consents.referral.answer, consents.evaluation.answer) == ("yes", "yes")


@pytest.mark.parametrize(("question", "answer"), [("evaluation", "yes"), ("referral", "not-recorded")])
def test_a_purpose_of_quality_answers_the_question_of_the_evaluation_only(question, answer):
    provision = {"type": "permit", "purpose": purpose("HQUALIMP")}
    message = consented(category=[coded(OURS + "consent", question)], provision=provision)
    assert getattr(accepted(message).referral.consents, question).answer == answer
