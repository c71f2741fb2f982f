"""Whether what was seen is what a file says: every kind of difference is named."""

from pathlib import Path

import pytest

from infra.demo.examples import Example, Expected
from infra.demo.seen import Brief, HubHeard, Seen, Told, differences
from infra.send import Answer, Fault

REFERENCE = "LB-AAAA-BBBB-CCCC"
ANSWERS = {0: Answer(Path("a.json"), "FHIR message", "accepted", "gp-a", "HTTP 200", REFERENCE)}


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


def what_was_seen(*, told: tuple[str | None, ...] = ("accepted", "completed"), status: str = "completed") -> Seen:
    seen = Seen()
    seen.hub(HubHeard("blaby", "assigned", "c", "t", "holder"), "e1", {REFERENCE: Brief()})
    seen.hub(HubHeard("blaby", "completed", "c", "t", "holder"), "e2", {REFERENCE: Brief()})
    seen.position(REFERENCE, "c", {"status": status, "home_hub": "blaby", "reasons": ["community-postcode"]})
    for number, what in enumerate(told):
        done = ("rails fitted",) if what == "completed" else ()
        seen.feedback(REFERENCE, Told("gp-a", str(number), what, status, "t", done, "FHIR"))
    return seen


def test_what_is_as_the_file_says_has_no_difference() -> None:
    example = an_example(
        done={"gp-a": ["rails fitted"]}, hub_hears=["assigned", "completed"], why=["community-postcode"]
    )
    assert differences(example, ANSWERS, what_was_seen()) == []


@pytest.mark.parametrize(
    ("planted", "named"),
    [
        ({"hub": "melton"}, "held by blaby, not melton"),
        ({"hub": None}, "blaby heard of it"),
        ({"case": "rejected"}, "its case is completed, not rejected"),
        ({"why": ["named-authority"]}, "routed because of community-postcode"),
        ({"hub_hears": ["completed", "assigned"]}, "did not hear 'assigned'"),
        ({"provisional": True}, "not told that the person is uncertain"),
        ({"heard": {"gp-a": ["accepted"]}}, "heard accepted, completed, not accepted"),
        ({"heard": {}}, "gp-a heard of it and should not"),
        ({"heard": {"gp-a": ["accepted", "completed"], "gp-b": ["completed"]}}, "gp-b heard nothing"),
        ({"done": {"gp-a": ["ramp built"]}}, "rails fitted, not ramp built"),
    ],
)
def test_a_planted_difference_is_named(planted: dict[str, object], named: str) -> None:
    assert named in "\n".join(differences(an_example(**planted), ANSWERS, what_was_seen()))


def test_an_answer_of_another_kind_is_named() -> None:
    refused = {
        0: Answer(
            Path("a.json"), "FHIR message", "refused", "gp-a", "HTTP 400", None, (Fault("Bundle.id", "required", ""),)
        )
    }
    found = differences(an_example(), refused, Seen())
    assert found == ["a.json: the answer was refused, not accepted (Bundle.id required)", "a.json got no reference"]


def test_a_step_that_was_never_sent_is_named() -> None:
    assert "a.json was not sent" in differences(an_example(), {}, Seen())


def test_a_status_only_message_that_says_more_is_named() -> None:
    found = differences(an_example(heard={"gp-a": ["status completed"]}), ANSWERS, what_was_seen(told=(None,)))
    assert "a.json: a status-only message said more than the status" in found


def test_what_is_heard_again_after_a_restart_is_not_heard_twice() -> None:
    seen = what_was_seen()
    seen.hub(HubHeard("blaby", "assigned", "c", "t", "holder"), "e1", {REFERENCE: Brief()})
    assert [heard.kind for heard in seen.path(REFERENCE).hub_heard] == ["assigned", "completed"]


def test_a_gap_that_a_hub_noticed_is_a_fault() -> None:
    seen = Seen()
    seen.hub(HubHeard("blaby", "completed", "c", "t", "holder", fault="version 3 came where 2 was expected"), "e", {})
    assert seen.faults == ["hub blaby: version 3 came where 2 was expected"]
