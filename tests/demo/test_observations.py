"""Observations are compared with an expected file, and every kind of difference is named."""

from pathlib import Path

import pytest

from infra.demo.examples import Example, ExampleStep, Expected
from infra.demo.observations import (
    HubObservation,
    Observations,
    ReceivedFeedback,
    ReferralSummary,
    answer_differences,
    differences,
    reference_of,
)
from infra.partner_simulators.send import ResponseIssue, SendResult, UploadReport
from infra.partner_simulators.send.answers import ReportedRow

REFERENCE = "LB-AAAA-BBBB-CCCC"
ANSWERS = {0: SendResult(Path("a.json"), "FHIR message", "accepted", "gp-a", "HTTP 200", REFERENCE)}


def an_example(**end: object) -> Example:
    expected = {
        "who": "A",
        "shows": "anything",
        "steps": [{"send": "a.json", "by": "gp-a", "answer": "accepted"}],
        "ends": [
            {"of": "a.json", "hub": "blaby", "case": "completed", "heard": {"gp-a": ["accepted", "completed"]}} | end
        ],
    }
    return Example(name="a", folder=Path(), expected=Expected.model_validate(expected))


def what_was_seen(
    *, told: tuple[str | None, ...] = ("accepted", "completed"), status: str = "completed"
) -> Observations:
    seen = Observations()
    seen.hub(HubObservation("blaby", "assigned", "c", "t", "holder"), "e1", {REFERENCE: ReferralSummary()})
    seen.hub(HubObservation("blaby", "completed", "c", "t", "holder"), "e2", {REFERENCE: ReferralSummary()})
    seen.position(REFERENCE, "c", {"status": status, "home_hub": "blaby", "reasons": ["community-postcode"]})
    for number, what in enumerate(told):
        done = ("rails fitted",) if what == "completed" else ()
        seen.feedback(REFERENCE, ReceivedFeedback("gp-a", str(number), what, status, "t", done, "FHIR"))
    return seen


def test_observations_that_match_the_expected_file_have_no_difference() -> None:
    example = an_example(
        done={"gp-a": ["rails fitted"]}, hub_hears=["assigned", "completed"], why=["community-postcode"]
    )
    assert differences(example, ANSWERS, what_was_seen()) == []


@pytest.mark.parametrize(
    ("planted", "named"),
    [
        ({"hub": "melton"}, "held by blaby, not melton"),
        ({"hub": None}, "blaby received it"),
        ({"case": "rejected"}, "its case is completed, not rejected"),
        ({"why": ["named-authority"]}, "routed because of community-postcode"),
        ({"hub_hears": ["completed", "assigned"]}, "did not receive 'assigned'"),
        ({"provisional": True}, "not informed that the person is provisional"),
        ({"heard": {"gp-a": ["accepted"]}}, "received accepted, completed, not accepted"),
        ({"heard": {}}, "gp-a received feedback but should not"),
        ({"heard": {"gp-a": ["accepted", "completed"], "gp-b": ["completed"]}}, "gp-b received nothing"),
        ({"done": {"gp-a": ["ramp built"]}}, "rails fitted, not ramp built"),
    ],
)
def test_a_planted_difference_is_named(planted: dict[str, object], named: str) -> None:
    assert named in "\n".join(differences(an_example(**planted), ANSWERS, what_was_seen()))


def test_a_response_of_another_kind_is_named() -> None:
    refused = {
        0: SendResult(
            Path("a.json"),
            "FHIR message",
            "refused",
            "gp-a",
            "HTTP 400",
            None,
            (ResponseIssue("Bundle.id", "required", ""),),
        )
    }
    found = differences(an_example(), refused, Observations())
    assert found == [
        "a.json: the outcome was refused, not accepted (Bundle.id required)",
        "a.json did not get a reference",
    ]


def test_a_step_that_was_never_sent_is_named() -> None:
    assert "a.json was not sent" in differences(an_example(), {}, Observations())


def test_status_only_feedback_with_more_data_is_named() -> None:
    found = differences(an_example(heard={"gp-a": ["status completed"]}), ANSWERS, what_was_seen(told=(None,)))
    assert "a.json: a status-only message contains more than the status" in found


def test_feedback_that_is_repeated_after_a_restart_is_counted_once() -> None:
    seen = what_was_seen()
    seen.hub(HubObservation("blaby", "assigned", "c", "t", "holder"), "e1", {REFERENCE: ReferralSummary()})
    assert [heard.kind for heard in seen.path(REFERENCE).hub_observations] == ["assigned", "completed"]


def test_a_gap_that_a_hub_detected_is_a_difference() -> None:
    seen = Observations()
    seen.hub(HubObservation("blaby", "completed", "c", "t", "holder", error="received version 3, expected 2"), "e", {})
    assert seen.errors == ["hub blaby: received version 3, expected 2"]


# ---- stays, grants, rows ----------------------------------------------------------------------------------------------


def a_stay(*, told: bool = False) -> Observations:
    seen = Observations()
    in_stay = ReferralSummary(stay=True, grant={"category": "A"})
    seen.hub(HubObservation("hospital-housing", "assigned", "c", "t", "holder"), "e1", {REFERENCE: in_stay})
    seen.hub(HubObservation("melton", "assigned", "c", "t", "follow-on"), "e2", {REFERENCE: in_stay} if told else {})
    seen.position(REFERENCE, "c", {"status": "accepted", "home_hub": "melton", "reasons": []})
    return seen


def in_hospital(**end: object) -> Example:
    stay = {"hub": "hospital-housing", "case": "accepted", "follow_on": "melton", "stay": ["hospital-housing"]}
    return an_example(**{**stay, "heard": {}, **end})


def test_a_stay_that_only_its_team_received_has_no_difference() -> None:
    assert differences(in_hospital(hubs=["hospital-housing"], grant={"category": "A"}), ANSWERS, a_stay()) == []


@pytest.mark.parametrize(
    ("end", "told", "named"),
    [
        ({}, True, "the stay was sent to hospital-housing, melton, not to hospital-housing"),
        ({"hubs": ["hospital-housing"]}, True, "melton received it"),
        ({"hubs": ["hospital-housing", "blaby"]}, False, "blaby did not receive it"),
        ({"follow_on": "blaby"}, False, "the home hub is melton, not blaby"),
        ({"grant": {"category": "B"}}, False, "the hub reads category A of the grant, not B"),
    ],
)
def test_a_difference_of_a_stay_is_named(end: dict[str, object], told: bool, named: str) -> None:
    assert f"a.json: {named}" in differences(in_hospital(**end), ANSWERS, a_stay(told=told))


def test_the_number_of_cases_is_compared() -> None:
    example = in_hospital()
    one = example.expected.model_copy(update={"cases": 2})
    assert differences(example.model_copy(update={"expected": one}), ANSWERS, a_stay()) == [
        "the referrals make 1 cases, not 2"
    ]


FAULTY = ReportedRow(3, "B/2", "refused", (ResponseIssue("NHS No", "value", "fails its check"),))
REPORT = UploadReport({"rows": 2, "received": 1, "updated": 0, "refused": 1}, (FAULTY,), {"B/1": REFERENCE})
OF_ROWS = SendResult(Path("b.csv"), "CSV of blaby", "in part", "council-blaby", "HTTP 200", rows=REPORT)


def a_step(**more: object) -> ExampleStep:
    said = {"send": "b.csv", "by": "council-blaby", "answer": "in part", "rows": {"received": 1, "refused": 1}}
    return ExampleStep.model_validate(said | {"columns": {"B/2": "NHS No"}} | more)


def test_rows_are_compared_by_outcome_and_faulty_column() -> None:
    assert list(answer_differences(a_step(), OF_ROWS)) == []


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"rows": {"received": 2}}, "the rows were 1 received, 1 refused, not 2 received"),
        ({"columns": {"B/2": "Surname"}}, "the fault is not in column Surname, but in NHS No"),
        ({"columns": {}}, "1 rows have a fault, not 0"),
        ({"said": "202"}, "answered HTTP 200, not 202"),
    ],
)
def test_a_difference_of_rows_is_named(more: dict[str, object], named: str) -> None:
    assert named in "\n".join(answer_differences(a_step(**more), OF_ROWS))


def test_a_row_is_linked_to_its_referral_by_its_own_reference() -> None:
    expected = Expected.model_validate(
        {"who": "B", "shows": "rows", "steps": [{"send": "b.csv", "by": "council-blaby", "answer": "in part"}]}
    )
    example = Example(name="b", folder=Path(), expected=expected)
    assert reference_of(example, "b.csv#B/1", {0: OF_ROWS}) == REFERENCE
    assert reference_of(example, "b.csv#B/2", {0: OF_ROWS}) is None
